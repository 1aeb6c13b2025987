"""Units of measurement: which are comparable, and how sessions are brought to the same."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from nwbrnn.dataset import Choice, get_channel_units
from nwbrnn.errors import ConfigError
from nwbrnn.schema import CHANNELS, TRIAL, UNIT
from nwbrnn.text import list_some

_PREFIXES = {"": 1.0, "n": 1e-9, "u": 1e-6, "µ": 1e-6, "m": 1e-3, "c": 1e-2, "k": 1e3}
_PREFIX_NAMES = {"": 1.0, "nano": 1e-9, "micro": 1e-6, "milli": 1e-3, "centi": 1e-2, "kilo": 1e3}
_SYMBOLS = {
    "V": "V", "v": "V", "N": "N", "m": "m", "s": "s", "Hz": "Hz", "hz": "Hz", "g": "g", "A": "A", "Pa": "Pa",
    "rad": "rad",
}  # fmt: skip
_NAMES = {
    "volt": "V", "newton": "N", "meter": "m", "metre": "m", "second": "s", "hertz": "Hz", "gram": "g",
    "ampere": "A", "pascal": "Pa", "radian": "rad",
}  # fmt: skip
_DEGREES = ("deg", "degree", "degrees", "°")
_UNSTATED = (
    "", "1", "-", "a.u.", "au", "a.u", "arbitrary", "arbitrary unit", "arbitrary units", "unknown", "n/a",
    "n.a.", "none",
)  # fmt: skip
"""What files say if they do not know the unit."""

_TERMS = {
    f"{prefix}{symbol}": (f, base) for prefix, f in _PREFIXES.items() for symbol, base in _SYMBOLS.items()
}
_WORDS = {
    f"{prefix}{name}": (f, base) for prefix, f in _PREFIX_NAMES.items() for name, base in _NAMES.items()
}


def find_factor(unit: str, into: str) -> float | None:
    """Return by what to multiply numbers in a unit to have them in another; ``None`` if nobody can say.

    Examples
    --------
    >>> find_factor("mV", "volts"), find_factor("cm/s", "m/s"), find_factor("a.u.", "V")
    (0.001, 0.01, None)
    """
    unit, into = unit.strip(), into.strip()
    if unit == into or {unit.lower(), into.lower()} <= set(_UNSTATED):
        return 1.0
    one, other = _parse(unit), _parse(into)
    if one is None or other is None or one[1] != other[1]:
        return None
    return float(f"{one[0] / other[0]:.12g}")  # 1e-6 / 1e-3 is not quite 1e-3


def _parse(unit: str) -> tuple[float, dict[str, int]] | None:
    """Return the factor to the basic units, and the power of each of them; ``None`` for an unknown unit."""
    text = unit.replace("μ", "µ").replace("²", "2").replace("**", "^").replace(" per ", "/")
    factor, powers = 1.0, dict[str, int]()
    for number, part in enumerate(text.split("/")):
        for term in re.split(r"[*·]", part):
            found = re.fullmatch(r"([^\d^]+?)(?:\^?([23]))?", term.strip())
            known = None if found is None else _find_term(found[1])
            if found is None or known is None:
                return None
            power = int(found[2] or 1) * (-1 if number else 1)
            factor *= known[0] ** power
            powers[known[1]] = powers.get(known[1], 0) + power
    return factor, {base: power for base, power in powers.items() if power}


def _find_term(term: str) -> tuple[float, str] | None:
    """Return factor and basic unit of a symbol or of a name, in singular or plural."""
    word = term.lower()
    if word in _DEGREES:
        return np.pi / 180, "rad"
    return _TERMS.get(term) or _WORDS.get(word) or _WORDS.get(word.removesuffix("s"))


def unify_units(
    sessions: Sequence[xr.Dataset], names: Sequence[str]
) -> tuple[list[xr.Dataset], list[Choice]]:
    """Convert signals, rates and columns of sessions to the unit of the first session that has them.

    Parameters
    ----------
    sessions
        Datasets with rates.
    names
        Name of each session.

    Returns
    -------
    sessions, choices
        The Datasets, with the unit of each output and input, and what was converted. Outputs and inputs that
        cannot be converted keep their unit; columns that cannot are left out.

    Raises
    ------
    ConfigError
        If rates have units that cannot be compared.
    """
    sessions, choices = list(sessions), []
    for channel in CHANNELS:
        wanted: dict[str, str] = {}
        found: dict[str, dict[str, list[str]]] = {}
        for ds, name in zip(sessions, names, strict=True):
            for label, unit in zip(ds[channel].values.tolist(), get_channel_units(ds, channel), strict=True):
                wanted.setdefault(label, unit)
                found.setdefault(label, {}).setdefault(unit, []).append(name)
        sessions = [convert_channels(ds, channel, wanted) for ds in sessions]
        choices += _describe_units(found, wanted, channel)
    sessions = [_convert_rates(ds, name, sessions[0]) for ds, name in zip(sessions, names, strict=True)]
    columns = _find_columns(sessions)
    lost = sorted(
        {name for ds in sessions for name, unit in columns.items() if _compare(ds, name, unit) is None}
    )
    if lost:
        reason = "their units differ between sessions and cannot be converted"
        choices.append(Choice("columns left out", ", ".join(lost), reason))
    kept = {name: unit for name, unit in columns.items() if name not in lost}
    return [_convert_columns(ds.drop_vars(lost, errors="ignore"), kept) for ds in sessions], choices


def convert_channels(ds: xr.Dataset, channel: str, wanted: Mapping[str, str]) -> xr.Dataset:
    """Return a Dataset with outputs or inputs in other units, as far as they can be converted.

    Parameters
    ----------
    ds
        Any Dataset.
    channel
        ``"output"`` or ``"input"``.
    wanted
        Unit by name of the output or input; others keep theirs.
    """
    own, labels = get_channel_units(ds, channel), ds[channel].values.tolist()
    factors = [find_factor(unit, wanted.get(name, unit)) for name, unit in zip(labels, own, strict=True)]
    units = [
        unit if factor is None else wanted.get(name, unit)
        for name, unit, factor in zip(labels, own, factors, strict=True)
    ]
    if units == own:
        return ds
    by = np.array([1.0 if factor is None else factor for factor in factors])
    variable = ds[f"{channel}s"]
    values = variable.values if (by == 1).all() else (variable.values * by).astype(variable.dtype)
    attrs = variable.attrs | {"units": ", ".join(dict.fromkeys(units))}
    return ds.assign({f"{channel}s": (variable.dims, values, attrs)}).assign_coords(
        {f"{channel}_units": (channel, np.array(units))}
    )


def _describe_units(
    found: Mapping[str, Mapping[str, Sequence[str]]], wanted: Mapping[str, str], channel: str
) -> list[Choice]:
    """Return, as choices, which channels have other units in some sessions, and what became of them."""
    texts: dict[bool, list[str]] = {True: [], False: []}
    for label, units in found.items():
        if len(units) > 1:
            converted = all(find_factor(unit, wanted[label]) is not None for unit in units)
            texts[converted].append(
                f"{label} in {', '.join(f'{u} ({list_some(w)})' for u, w in units.items())}"
            )
    reasons = {
        True: "converted to the unit that is named first",
        False: f"units that cannot be converted; the {channel}_gain of align_sessions removes the difference",
    }
    return [
        Choice(
            f"{channel} units {'converted' if converted else 'different'}",
            "; ".join(texts[converted]),
            reason,
        )
        for converted, reason in reasons.items()
        if texts[converted]
    ]


def _convert_rates(ds: xr.Dataset, name: str, first: xr.Dataset) -> xr.Dataset:
    own, wanted = (str(one["rates"].attrs["units"]) for one in (ds, first))
    factor = find_factor(own, wanted)
    if factor is None:
        raise ConfigError(
            f"session {name}: rates: expected {wanted}, as in the first session, but got {own}, which cannot "
            "be converted; correct their unit, or leave out the session"
        )
    if own == wanted:
        return ds
    rates = ds["rates"].copy(data=ds["rates"].values * ds["rates"].dtype.type(factor))
    return ds.assign(rates=rates.assign_attrs(units=wanted))


def _find_columns(sessions: Sequence[xr.Dataset]) -> dict[str, str]:
    """Return the columns of trials and units that have a unit, with the first unit."""
    found: dict[str, str] = {}
    for ds in sessions:
        for name, coord in ds.coords.items():
            if coord.dims in ((TRIAL,), (UNIT,)) and coord.attrs.get("units"):
                found.setdefault(str(name), str(coord.attrs["units"]))
    return found


def _compare(ds: xr.Dataset, name: str, unit: str) -> float | None:
    """Return by what to multiply a column; 1 if the Dataset lacks it."""
    return find_factor(str(ds[name].attrs.get("units", "")), unit) if name in ds.coords else 1.0


def _convert_columns(ds: xr.Dataset, wanted: Mapping[str, str]) -> xr.Dataset:
    changed: dict[str, Any] = {}
    for name, unit in wanted.items():
        factor = _compare(ds, name, unit)
        if factor is not None and name in ds.coords and ds[name].attrs.get("units") != unit:
            attrs = dict(ds[name].attrs) | {"units": unit}
            changed[name] = ds[name].dims, ds[name].values * factor, attrs
    return ds.assign_coords(changed)
