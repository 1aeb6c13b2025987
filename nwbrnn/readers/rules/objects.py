"""The rules that choose which objects of a file to read, and give a reason for each choice.

The rules read no data: names and shapes decide. Each rule returns its choice and a :class:`Choice` with the
reason and the alternatives. Settings that the user gave always take precedence.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pynwb import TimeSeries
from pynwb.misc import Units

from nwbrnn.config import ReadConfig, Role
from nwbrnn.dataset import Choice
from nwbrnn.errors import ConfigError, MissingDataError, ReadError
from nwbrnn.readers.binned import BinnedCounts
from nwbrnn.readers.discovery import Signal, find_fault
from nwbrnn.readers.trials import list_values, select_rows
from nwbrnn.readers.vocabulary import OUTPUT_ROLES
from nwbrnn.text import list_some, show_count

Counts = Signal | BinnedCounts

_PROCESSED = re.compile(
    r"envelope|(?<!un)(rectif|preprocess|smooth)|emg_?env|emg.*(?<!un)(processed|normali[sz])"
    # not the rectus femoris
    r"|emg.*(?<![a-z])(rect(?![\s_-]?(fem|ab))|env|norm|rms)(?![a-z])",
    re.IGNORECASE,
)
_LIMB = re.compile(r"hand|finger|arm", re.IGNORECASE)
_RAW = re.compile(r"raw|notch|_hp\b|high_?pass", re.IGNORECASE)


@dataclass(frozen=True)
class Objects:
    """The objects to read besides trials."""

    # signals of the outputs, and the names of all their channels
    outputs: tuple[Signal, ...]
    output_names: tuple[str, ...]
    inputs: tuple[Signal, ...]  # recorded inputs; if empty, inputs are built from the trial table
    # series of recorded rates, or spikes counted in bins; if both are empty, spike times are read
    rates: tuple[Signal, ...]
    counts: Counts | None
    units: NDArray[np.int64]  # the units to keep, as rows of the units table or columns of the rates
    # whether these units are in the units table; rates that the user named may belong to others
    in_table: bool

    @property
    def signals(self) -> list[Signal]:
        """All series to read."""
        counts = [self.counts] if isinstance(self.counts, Signal) else []
        return [*self.outputs, *self.inputs, *self.rates, *counts]


def apply_map(signals: Sequence[Signal], config: ReadConfig) -> list[Signal]:
    """Give signals the roles that the user mapped to them, and remove these roles from all others."""
    given = None if config.stamps == "auto" else config.stamps
    signals = _split_named(signals, config)
    mapped = [replace(s, stamps_given=given) for s in signals]
    taken: set[str] = set()
    for role, where in config.map.items():
        if role != "trials":
            meant = {s.path for part in where.split(",") for s in _match(signals, part, f"map {role}")}
            if meant & taken:
                raise ConfigError(
                    f"map: expected one role for {list_some(sorted(meant & taken))}, but got "
                    "several; remove it from all but one of them"
                )
            taken |= meant
            mapped = [
                replace(s, role=role if s.path in meant else "other")
                if s.path in meant or s.role == role
                else s
                for s in mapped
            ]
    return mapped


def _split_named(signals: Sequence[Signal], config: ReadConfig) -> list[Signal]:
    """Return signals, by electrode group if the settings name a group of their series."""
    settings = [config.outputs, config.inputs, config.rates]
    texts = [part for s in settings for part in ((s,) if isinstance(s, str) else s)]
    named = " ".join([*texts, *config.map.values()])
    groups = [s.split_groups() if f"{s.path.rsplit('/', 1)[-1]}[" in named else (s,) for s in signals]
    return [part for parts in groups for part in parts]


def choose_outputs(
    signals: Sequence[Signal], config: ReadConfig, *, unusable: Mapping[str, TimeSeries]
) -> tuple[tuple[Signal, ...], Choice]:
    """Choose the outputs: EMG, else force, else kinematics; mapped signals come first."""
    if config.outputs != "auto":
        picked = _match_all(signals, config.outputs, "outputs", config.map)
        return _check_timing(picked), Choice("outputs", _name(picked), "given")
    for role in sorted(OUTPUT_ROLES, key=lambda role: role not in config.map):
        ranked = _rank(signals, role)
        if ranked:
            picked = tuple(ranked if role in config.map else _take_best(ranked))
            others = tuple(s.path for s in signals if s.role in OUTPUT_ROLES and s not in picked)
            reason = f"its name suggests {role}" if role not in config.map else f"mapped to {role}"
            if len(ranked) > 1 and role not in config.map:
                reason += "; of several, processed ones before raw ones, then by their order in the file"
            return _check_timing(picked), Choice("outputs", _name(picked), reason, others)
    found = {name: find_fault(series) for name, series in unusable.items()}
    faults = "; ".join(f"{name}: {fault.problem}" for name, fault in found.items() if fault is not None)
    if faults:
        raise MissingDataError(f"outputs: expected EMG, force or kinematics that can be read; {faults}")
    if not signals:
        raise MissingDataError(
            "outputs: expected EMG, force or kinematics, but the file has no time series that can be read; "
            "choose another file"
        )
    raise MissingDataError(
        f"outputs: expected EMG, force or kinematics, but the names of the time series suggest none "
        f"of them ({list_some(s.path for s in signals)}); name one with map or outputs "
        "(--map emg=PATH, --outputs PATH)"
    )


def choose_neurons(
    signals: Sequence[Signal],
    binned: Sequence[BinnedCounts],
    config: ReadConfig,
    *,
    units: tuple[str, Units | None],
) -> tuple[tuple[Signal, ...], Counts | None, Choice]:
    """Choose recorded firing rates, counts in bins, or spike times (if both are empty).

    ``units`` is the path of the units table, and the table if there is one. At most one of rates and counts
    is not empty.

    Examples
    --------
    >>> table = Units(name="units")
    >>> table.add_unit(spike_times=[0.1, 0.5])
    >>> rates, counts, choice = choose_neurons([], [], ReadConfig(), units=("units", table))
    >>> rates, counts, choice.picked
    ((), None, 'units/spike_times, Gaussian of 50 ms')
    """
    where, table = units
    n_units = 0 if table is None else len(table)
    counts: list[Counts] = [*(s for s in signals if s.role == "spike_counts"), *binned]
    named = _choose_named(signals, counts, config, n_units=n_units, where=where)
    if named is not None:
        return named
    fitting = [s for s in signals if s.role == "rates" and len(s.columns) == n_units]
    others = tuple(c.path for c in counts)
    if config.rates == "auto" and fitting:
        reason = "a series of firing rates with a column for each unit"
        return tuple(fitting[:1]), None, Choice("rates", fitting[0].path, reason, ("spikes", *others))
    smoothed = f"Gaussian of {config.smoothing * 1000:g} ms"
    if table is not None and n_units and "spike_times" in table.colnames:
        absent = "no series of firing rates with a column for each unit"
        others = (*(s.path for s in fitting), *others)
        reason = absent if config.rates == "auto" else "given"
        return (), None, Choice("rates", f"{where}/spike_times, {smoothed}", reason, others)
    if counts:
        reason = "there are no spike times, but counts in bins"
        return (
            (),
            _check_counts(counts[0]),
            Choice("rates", f"{counts[0].path}, {smoothed}", reason, others[1:]),
        )
    lacking = "the file has none"
    if table is not None:
        columns = f"the columns {list_some(table.colnames)}" if n_units else "0 units"
        lacking = f"the table {where} has {columns}, and the file has no series of them"
    raise MissingDataError(
        f"{where}: expected spike_times, a series of firing rates or counts of spikes in bins, but "
        f"{lacking}; name a series with rates or map (--rates PATH, --map spike_counts=PATH)"
    )


def _choose_named(
    signals: Sequence[Signal],
    counts: Sequence[Counts],
    config: ReadConfig,
    *,
    n_units: int,
    where: str,
) -> tuple[tuple[Signal, ...], Counts | None, Choice] | None:
    """Return the rates or counts that the user named; ``None`` if the user named none."""
    given = config.map.get("rates") or (config.rates if config.rates not in ("auto", "spikes") else None)
    if given is not None:
        named = [s for part in given.split(",") for s in _match(signals, part, "rates")]
        picked = tuple(dict.fromkeys(named))
        n_columns = sum(len(signal.columns) for signal in picked)
        reason = "given"
        if n_units and n_columns != n_units:
            columns = show_count(n_columns, "column")
            reason += f"; it has {columns}, so the {show_count(n_units, 'row')} of {where} are other units"
        return _check_timing(picked), None, Choice("rates", _name(picked), reason)
    wanted = config.map.get("spike_counts", "").strip("/")
    if not wanted:
        return None
    found = next((c for c in counts if wanted in (c.path, c.path.rsplit("/", 1)[-1])), None)
    source = found or _match(signals, wanted, "map spike_counts")[0]
    return (), _check_counts(source), Choice("rates", source.path, "given")


def count_units(rates: tuple[Signal, ...], counts: Counts | None) -> int:
    """Return the number of units in a file without a units table."""
    if isinstance(counts, BinnedCounts):
        return int(counts.rows.max()) + 1
    return sum(signal.shape[1] for signal in (*rates, *([] if counts is None else [counts])))


def choose_units(
    columns: Mapping[str, NDArray[Any]], n_units: int, config: ReadConfig
) -> tuple[NDArray[np.int64], Choice]:
    """Choose the units to keep, as rows of the units table: all, unless the user selects by a column."""
    columns = {"row": np.arange(n_units), "id": np.arange(n_units)} | dict(columns)
    short = {name.removeprefix("unit_"): name for name in columns} | {name: name for name in columns}
    short |= {f"unit_{name}": name for name in columns if f"unit_{name}" not in columns}
    wanted = {}
    for name, value in config.units.items():
        plain = name.removesuffix("!")
        if plain not in short:
            raise ConfigError(
                f"units: expected a column of the units table, but got {plain!r}; "
                f"there are {list_some(sorted(columns))}"
            )
        wanted[short[plain] + name[len(plain) :]] = value
    keep = select_rows(columns, wanted, n_units)
    if not keep.any():
        raise MissingDataError(
            f"units: expected units with {dict(config.units)}, but there are none; "
            f"values are {list_values(columns, wanted)}"
        )
    areas = columns.get("location", np.zeros(0))
    numbers = {area: int((areas == area).sum()) for area in dict.fromkeys(areas.tolist())}
    others = tuple(f"location={area} ({n})" for area, n in numbers.items()) if len(numbers) > 1 else ()
    text = ", ".join(f"{name} = {value}" for name, value in config.units.items()) or "all"
    reason = "given" if config.units else "no selection given"
    return np.flatnonzero(keep), Choice("units", f"{text} ({keep.sum()} of {n_units})", reason, others)


def choose_inputs(signals: Sequence[Signal], config: ReadConfig) -> tuple[tuple[Signal, ...], Choice]:
    """Choose recorded task inputs; if empty, they are built from the trial table."""
    if config.inputs not in ("auto", "task"):
        picked = _match_all(signals, config.inputs, "inputs", config.map)
        return _check_timing(picked), Choice("inputs", _name(picked), "given")
    recorded = tuple(s for s in signals if s.role == "inputs")
    if recorded and config.inputs == "auto":
        reason = "task inputs recorded as a series"
        return _check_timing(recorded), Choice("inputs", _name(recorded), reason, ("task",))
    reason = "given" if config.inputs == "task" else "no recorded task inputs, so built from the trial table"
    return (), Choice("inputs", "task", reason, tuple(s.path for s in recorded))


def note_oddities(signals: Sequence[Signal]) -> list[Choice]:
    """Return what was assumed about signals that deviate from NWB."""
    notes = []
    for signal in signals:
        if signal.stamps != "start":
            text = f"{signal.path}: {signal.stamps} of the sample"
            reason = "given" if signal.stamps_given else "its description says so, or its name (FALCON M1)"
            notes.append(Choice("time stamps", text, reason, ("start of the sample",)))
        if any(np.isnan(series.conversion) for series in signal.series):
            notes.append(Choice("conversion", f"{signal.path}: 1", "the file says NaN"))
        offsets = {float(series.offset or 0.0) for series in signal.series} - {0.0}
        if offsets and signal.role == "kinematics":
            reason = "NWB adds it to the data; FALCON's H1 files keep the time of their first sample there"
            notes.append(Choice("offset", f"{signal.path}: {list_some(offsets)}", reason))
    return notes


def choose_channels(signals: Sequence[Signal], config: ReadConfig) -> tuple[tuple[Signal, ...], list[str]]:
    """Return the outputs with the channels to keep, and the names of these channels."""
    columns = [column for signal in signals for column in signal.columns]
    prefixed = len(set(columns)) < len(columns)
    short = [signal.path.rsplit("/", 1)[-1] for signal in signals]
    names = []
    for signal in signals:
        name = signal.path.rsplit("/", 1)[-1]
        prefix = f"{name if short.count(name) == 1 else signal.path}_" if prefixed else ""
        names += [prefix + column for column in signal.columns]
    wanted = _pick_names(names, config.channels)
    kept, done = [], 0
    for signal in signals:
        here = names[done : done + len(signal.columns)]
        some = [c for c, name in zip(signal.columns, here, strict=True) if name in wanted]
        done += len(signal.columns)
        if some:
            kept.append(signal if len(some) == len(signal.columns) else signal.select(some))
    return tuple(kept), [name for name in names if name in wanted]


def _pick_names(names: Sequence[str], given: Sequence[str] | None) -> set[str]:
    """Return the names to keep: those given by name or number, or all except those prefixed with ``!``."""
    if given is None:
        return set(names)
    numbered = {str(i): name for i, name in enumerate(names)} | {name: name for name in names}
    plain = [one if one in numbered else one.removeprefix("!") for one in given]
    unknown = sorted(one for one in plain if one not in numbered)
    if unknown:
        raise ConfigError(f"channels: expected some of {list_some(names)}, but got {', '.join(unknown)}")
    dropped = {numbered[p] for p, one in zip(plain, given, strict=True) if p != one}
    chosen = {numbered[p] for p, one in zip(plain, given, strict=True) if p == one} or set(names)
    if not chosen - dropped:
        raise ConfigError(f"channels: expected to keep some of {list_some(names)}, but got none")
    return chosen - dropped


def _match_all(
    signals: Sequence[Signal],
    wanted: str | tuple[str, ...],
    setting: str,
    mapped: Mapping[Role, str],
) -> tuple[Signal, ...]:
    """Return the signals of several roles, paths or names; of a role, all mapped signals or the best one."""
    found: list[Signal] = []
    for name in (wanted,) if isinstance(wanted, str) else wanted:
        ranked = _rank(signals, name) if name in OUTPUT_ROLES else []
        found += (ranked if name in mapped else _take_best(ranked)) or _match(signals, name, setting)
    return tuple(dict.fromkeys(found))


def _match(signals: Sequence[Signal], wanted: str, setting: str) -> list[Signal]:
    """Return the signal with a path or name that the user gave, or the signals in a container there."""
    wanted = wanted.strip().strip("/")
    named = [s for s in signals if wanted == s.path] or [
        s for s in signals if wanted == s.path.rsplit("/", 1)[-1]
    ]
    if len(named) > 1:
        raise ConfigError(
            f"{setting}: expected one series, but several have the name {wanted!r}: "
            f"{_name(named)}; give the path of one"
        )
    if named:
        return named
    inside = [s for s in signals if s.path.startswith((f"{wanted}/", f"{wanted}["))]
    if inside:
        return inside
    raise MissingDataError(
        f"{setting}: expected {wanted!r}, but the file has none; "
        f"there are {list_some(f'{s.path} ({s.role})' for s in signals)}"
    )


def _rank(signals: Sequence[Signal], role: str) -> list[Signal]:
    """Return the signals of a role, best first: processed signals, velocities and limbs before others.

    Series that may hold events come last.
    """

    def cost(signal: Signal) -> tuple[bool, ...]:
        return (
            signal.may_be_events,
            bool(_RAW.search(signal.path)),
            not _PROCESSED.search(signal.path),
            not signal.path.startswith("processing"),
            role == "kinematics" and "vel" not in signal.path.lower(),
            role == "kinematics" and not _LIMB.search(signal.path),
        )

    return sorted((s for s in signals if s.role == role), key=cost)


def _take_best(ranked: Sequence[Signal]) -> list[Signal]:
    """Return the best signal, with those of other electrode groups of the same series."""
    return [s for s in ranked if s.series[0] is ranked[0].series[0]]


def _check_timing(signals: tuple[Signal, ...]) -> tuple[Signal, ...]:
    """Refuse signals whose sampling times are unknown."""
    for part in (part for signal in signals for part in signal.split()):
        fault = find_fault(part.series[0])
        if fault is not None:
            raise ReadError(f"{part.path}: {fault.problem}; {fault.remedy}, or choose another")
        series = part.series[0]
        starts = series.timestamps is not None or np.isfinite(series.starting_time or 0.0)
        if not (part.interval > 0 and starts):
            raise ReadError(
                f"{part.path}: expected a rate above 0 or ascending timestamps, but got rate "
                f"{series.rate}, starting_time {series.starting_time} and {part.shape[0]} samples; repair "
                "the file or choose another"
            )
    return signals


def _check_counts(counts: Counts) -> Counts:
    """Refuse series of counts whose sampling times are unknown."""
    if isinstance(counts, Signal):
        _check_timing((counts,))
    return counts


def _name(signals: Sequence[Signal]) -> str:
    return ", ".join(signal.path for signal in signals)
