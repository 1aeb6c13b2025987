"""Pool sessions: one Dataset of several recordings of a task, each with neurons of its own."""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwbrnn.dataset import Choice, create_dataset, get_channel_units
from nwbrnn.errors import ConfigError
from nwbrnn.preprocessing.conversion import unify_units
from nwbrnn.preprocessing.matching import (
    Outline,
    count_bins,
    find_mismatches,
    find_window,
    is_known,
    name_sessions,
    outline,
)
from nwbrnn.preprocessing.sessions import describe_session, is_pooled, name_source
from nwbrnn.preprocessing.smoothing import smooth_spikes
from nwbrnn.schema import (
    CHANNELS,
    COORDINATES,
    INPUT,
    OUTPUT,
    RECORDING,
    SESSION,
    SESSION_OF_UNIT,
    TIME,
    TRIAL,
    UNIT,
    validate,
)
from nwbrnn.text import find_label, list_some, show_count

Values = NDArray[Any]

_SPECIFIED = {spec.name for spec in COORDINATES}
_START = f"{RECORDING}_start"
# ids are those of a session; the units of the pool have others
_RENAMED = {"unit_id": "session_unit_id"} | {name: f"trial_{name}" for name in (RECORDING, _START)}


def pool(sessions: Sequence[xr.Dataset], *, names: Sequence[str] | None = None) -> xr.Dataset:
    """Pool sessions of one task, each with neurons of its own, in one Dataset.

    One network is then fitted to all of them. Neurons are NaN in the trials of other sessions, and so are
    outputs in sessions that lack them.

    Parameters
    ----------
    sessions
        At least two Datasets, as :func:`nwbrnn.read_nwb` returns them, with bins of one width. The window
        that all have in common is kept.
    names
        Name of each session; by default the names of the files.

    Returns
    -------
    xarray.Dataset
        Trials and units of all sessions, one session after the other. The coordinates ``session`` (trial) and
        ``session_of_unit`` (unit) name the session, and ``session_trial`` and ``session_unit`` are the rows
        there. Outputs and inputs are matched by name, and conditions by value. An output or input is in the
        unit of the first session that has it; ``recording_output_units`` and ``recording_input_units`` are
        the units in each session, which differ only if they cannot be converted. ``align_time`` runs on from
        session to session; ``recording_start`` (recording) is what was added [s]. Columns of trials and units
        are kept if all sessions have them. ``attrs["sessions"]`` (JSON) holds file, identifier, hash and
        settings of reading of each session.

    Raises
    ------
    SchemaError
        If a Dataset breaks the contract.
    ConfigError
        If sessions cannot be matched: bins of other widths, no output or condition in common, other inputs,
        or the same trials twice. It lists all faults, with session, object and remedy.

    Examples
    --------
    >>> import nwbrnn
    >>> teacher = nwbrnn.TeacherConfig(n_neurons=60, n_directions=3, n_trials=4, n_muscles=2)
    >>> ds = nwbrnn.simulate_teacher(teacher)
    >>> monday, tuesday = ds.isel(trial=slice(0, None, 2)), ds.isel(trial=slice(1, None, 2))
    >>> pooled = nwbrnn.pool(
    ...     [monday.isel(unit=slice(0, 8)), tuesday.isel(unit=slice(8, 20))], names=["monday", "tuesday"]
    ... )
    >>> pooled.sizes["trial"], pooled.sizes["unit"], pooled["session_of_unit"].values[[0, -1]].tolist()
    (12, 20, ['monday', 'tuesday'])
    >>> tuesday = pooled.sel(trial=pooled["session"] == "tuesday")
    >>> bool(tuesday["rates"].sel(unit=0).isnull().all())  # a neuron of monday
    True
    """
    sessions = [_check_session(ds, number) for number, ds in enumerate(sessions)]
    names = name_sessions([ds.attrs for ds in sessions]) if names is None else list(map(str, names))
    named = {name.strip() for name in names} - {""}
    if len(sessions) < 2 or len(names) != len(sessions) or len(named) < len(names):
        raise ConfigError(
            "sessions: expected at least two, each with a name of its own, but got "
            f"{show_count(len(sessions), 'session')} named {list_some(names)}; give others"
        )
    outlines = [outline(ds, name) for ds, name in zip(sessions, names, strict=True)]
    problems = find_mismatches(outlines)
    if problems:
        raise ConfigError(*problems)
    sessions, converted = unify_units(sessions, names)
    sessions, cut = _cut_windows(sessions, outlines)
    choices = [*_describe_pool(outlines), *converted, *_describe_counts(sessions, names), *cut]
    return _join(sessions, names, choices)


def _check_session(ds: xr.Dataset, number: int) -> xr.Dataset:
    """Return a valid Dataset with rates, and refuse one that was prepared or pooled already."""
    validate(ds)
    if "split" in ds.coords or is_pooled(ds):
        was = "prepared for a fit" if "split" in ds.coords else "pooled already"
        name = ds.attrs.get("source_file", f"number {number + 1}")
        raise ConfigError(
            f"session {name}: expected a Dataset as read_nwb returns it, but it was {was}; give that one"
        )
    return ds if "rates" in ds else smooth_spikes(ds)


def _cut_windows(
    sessions: Sequence[xr.Dataset], outlines: Sequence[Outline]
) -> tuple[list[xr.Dataset], list[Choice]]:
    """Return the bins that all sessions have, and a note if some had others."""
    cut = [cut_window(ds, one, outlines) for ds, one in zip(sessions, outlines, strict=True)]
    n_empty = sum(ds.sizes[TRIAL] - here.sizes[TRIAL] for ds, here in zip(sessions, cut, strict=True))
    choice = describe_window(outlines, n_empty=n_empty)
    return cut, [] if choice is None else [choice]


def cut_window(ds: xr.Dataset, one: Outline, outlines: Sequence[Outline]) -> xr.Dataset:
    """Return the bins of a session that all sessions have, without trials of which none was recorded.

    Parameters
    ----------
    ds
        The session.
    one
        Its outline.
    outlines
        Those of all sessions.

    Raises
    ------
    ConfigError
        If no trial has a recorded bin.
    """
    start, stop = find_window(outlines)
    first = start - round(count_bins(outlines[0], one))
    here = ds.isel(time=slice(first, first + stop - start))
    recorded = here["mask"].values.any(axis=1)
    if not recorded.any():
        raise ConfigError(
            f"session {one.name}: time: expected recorded bins in the window that all sessions have, "
            f"{_show_window(outlines)}, but no trial has any; read all with the same window (--window), or "
            "leave out the session"
        )
    time = outlines[0].time[start:stop]
    return here.isel(trial=recorded).assign_coords(time=(TIME, time, ds[TIME].attrs))


def describe_window(outlines: Sequence[Outline], *, n_empty: int = 0) -> Choice | None:
    """Return, as a choice, the window that all sessions have; ``None`` if no session had another."""
    start, stop = find_window(outlines)
    n_cut = sum(len(one.time) > stop - start for one in outlines)
    if not n_cut:
        return None
    reason = f"the window that all sessions have; {show_count(n_cut, 'session')} had a longer one"
    if n_empty:
        reason += f"; {show_count(n_empty, 'trial')} without a recorded bin in it left out"
    return Choice("common window", _show_window(outlines), reason)


def _show_window(outlines: Sequence[Outline]) -> str:
    start, stop = find_window(outlines)
    time, half = outlines[0].time[start:stop], outlines[0].bin_size / 2
    return f"{time[0] - half:g} to {time[-1] + half:g} s"


def _describe_pool(outlines: Sequence[Outline]) -> list[Choice]:
    """Return, as choices, what was pooled and what some sessions lack."""
    names = ", ".join(one.name for one in outlines)
    matched = "their outputs are matched by name and their conditions by value; each has units of its own"
    choices = [Choice("sessions", names, matched)]
    for what, reason in (
        ("outputs", "NaN where a session lacks them"),
        ("conditions", "from the sessions that have them"),
    ):
        everything = list(dict.fromkeys(name for one in outlines for name in getattr(one, what)))
        lacking = {
            one.name: [n for n in everything if not is_known(n, getattr(one, what), what)] for one in outlines
        }
        texts = [f"{name} lacks {', '.join(missing)}" for name, missing in lacking.items() if missing]
        if texts:
            choices.append(Choice(f"{what} missing", "; ".join(texts), reason))
    return choices


def _describe_counts(sessions: Sequence[xr.Dataset], names: Sequence[str]) -> list[Choice]:
    """Return, as a choice, that spike counts are lost, since some sessions have none."""
    lacking = [name for ds, name in zip(sessions, names, strict=True) if "spike_counts" not in ds]
    if not 0 < len(lacking) < len(names):
        return []
    reason = f"there are none in {list_some(lacking)}, so the pool holds only the rates of all sessions"
    return [Choice("spike counts", "left out", reason)]


def _join(sessions: Sequence[xr.Dataset], names: Sequence[str], choices: Sequence[Choice]) -> xr.Dataset:
    """Build the pooled Dataset of sessions that match."""
    inputs = list(dict.fromkeys(name for ds in sessions for name in ds[INPUT].values.tolist()))
    outputs = list(dict.fromkeys(name for ds in sessions for name in ds[OUTPUT].values.tolist()))
    variables = {
        "outputs": _stack(sessions, "outputs", outputs, fill=np.nan),
        "inputs": _stack(sessions, "inputs", inputs, fill=0.0),
        "mask": np.concatenate([ds["mask"].values for ds in sessions]),
        "rates": _stack_units(sessions, "rates"),
    }
    if all("spike_counts" in ds for ds in sessions):
        variables["spike_counts"] = _stack_units(sessions, "spike_counts")
    starts = _follow_on(sessions)
    units = _list_units(sessions, OUTPUT, outputs) | _list_units(sessions, INPUT, inputs)
    bin_size = float(sessions[0].attrs["bin_size"])
    coords = {
        TIME: sessions[0][TIME].values,
        INPUT: np.array(inputs),
        OUTPUT: np.array(outputs),
        "condition": _match_conditions(sessions),
        "align_time": np.concatenate(
            [ds["align_time"].values + start for ds, start in zip(sessions, starts, strict=True)]
        ),
        RECORDING: np.array(names),
        _START: (RECORDING, np.array(starts), {"units": "s"}),
        **units,
        **_join_columns(sessions, names, TRIAL, SESSION),
        **_join_columns(sessions, names, UNIT, SESSION_OF_UNIT),
    }
    coords[RECORDING] = (RECORDING, coords[RECORDING])
    attrs = _describe_sessions(sessions, names, starts, choices)
    stated = {f"{name}s": ", ".join(dict.fromkeys(units[f"{name}_units"].tolist())) for name in CHANNELS}
    stated["rates"] = str(sessions[0]["rates"].attrs["units"])
    return create_dataset(variables, coords, bin_size=bin_size, units=stated, attrs=attrs)


def _stack(sessions: Sequence[xr.Dataset], name: str, channels: Sequence[str], *, fill: float) -> Values:
    """Return a variable of all trials, with channels in one order, and a value for those that are missing."""
    parts = []
    for ds in sessions:
        own = ds[name]
        values = np.full((*own.shape[:2], len(channels)), fill, dtype=own.dtype)
        values[..., [channels.index(channel) for channel in own[own.dims[2]].values.tolist()]] = own.values
        parts.append(values)
    return np.concatenate(parts)


def _stack_units(sessions: Sequence[xr.Dataset], name: str) -> Values:
    """Return a variable of all trials and units, NaN in the trials of other sessions, in float32."""
    sizes = [(ds.sizes[TRIAL], ds.sizes[UNIT]) for ds in sessions]
    n_trials, n_units = map(sum, zip(*sizes, strict=True))
    values = np.full((n_trials, sessions[0].sizes[TIME], n_units), np.nan, dtype=np.float32)
    trial = unit = 0
    for ds in sessions:
        here = slice(trial, trial + ds.sizes[TRIAL]), slice(None), slice(unit, unit + ds.sizes[UNIT])
        values[here] = ds[name].values
        trial, unit = here[0].stop, here[2].stop
    return values


def _follow_on(sessions: Sequence[xr.Dataset]) -> list[float]:
    """Return what to add to the times of each session, in whole seconds, so that they follow one another."""
    starts, end = [], None
    for ds in sessions:
        around = ds["align_time"].values
        first, last = around.min() + ds[TIME].values[0], around.max() + ds[TIME].values[-1]
        start = 0.0 if end is None else float(math.ceil(end - first) + 1)
        starts.append(start)
        end = last + start + ds.attrs["bin_size"]
    return starts


def _list_units(sessions: Sequence[xr.Dataset], channel: str, labels: Sequence[str]) -> dict[str, Any]:
    """Return the unit of each output or input in the pool, and in each session; empty where one lacks it.

    A channel whose units could not be converted has all of them in the pool.
    """
    units = np.full((len(sessions), len(labels)), "", dtype=object)
    for row, ds in enumerate(sessions):
        for label, unit in zip(ds[channel].values.tolist(), get_channel_units(ds, channel), strict=True):
            units[row, labels.index(label)] = unit
    pooled = [" or ".join(dict.fromkeys(filter(None, column))) for column in units.T.tolist()]
    return {
        f"{channel}_units": np.array(pooled),
        f"recording_{channel}_units": ((RECORDING, channel), units.astype("U")),
    }


def _match_conditions(sessions: Sequence[xr.Dataset]) -> Values:
    """Return the condition of each trial; labels of the same number are one condition."""
    known: list[str] = []
    labels = []
    for ds in sessions:
        own = list(dict.fromkeys(map(str, ds["condition"].values.tolist())))
        found = {label: find_label(known, label) or label for label in own}
        known += [label for label in found.values() if label not in known]
        labels += [found[str(label)] for label in ds["condition"].values.tolist()]
    return np.array(labels)


def _join_columns(
    sessions: Sequence[xr.Dataset], names: Sequence[str], dim: str, session: str
) -> dict[str, Any]:
    """Return the columns of trials or units that all sessions have, their session, and their row there."""
    sizes = [ds.sizes[dim] for ds in sessions]
    found: dict[str, Any] = {
        dim: np.arange(sum(sizes)),
        session: np.repeat(np.array(names), sizes),
        f"session_{dim}": np.concatenate([ds[dim].values for ds in sessions]).astype(np.int64),
    }
    shared = [
        str(name)
        for name, coord in sessions[0].coords.items()
        if coord.dims == (dim,) and str(name) not in _SPECIFIED and all(name in ds.coords for ds in sessions)
    ]
    for name in shared:
        parts = [ds[name].values for ds in sessions]
        is_text = any(part.dtype.kind in "UTO" for part in parts)
        values = np.concatenate([part.astype("U") if is_text else part for part in parts])
        attrs = sessions[0][name].attrs
        same = all(ds[name].attrs == attrs for ds in sessions)
        found[_RENAMED.get(name, name)] = (dim, values, dict(attrs) if same else {})
    return found


def _describe_sessions(
    sessions: Sequence[xr.Dataset], names: Sequence[str], starts: Sequence[float], choices: Sequence[Choice]
) -> dict[str, Any]:
    """Return the provenance of a pooled Dataset."""
    abouts = []
    for ds, name, start in zip(sessions, names, starts, strict=True):
        about = {"name": name, "start": start} | describe_session(ds.attrs)
        abouts.append(about | {"n_trials": ds.sizes[TRIAL], "n_units": ds.sizes[UNIT]})
    files = [str(about.get("source_file") or about["name"]) for about in abouts]
    identifiers = [name_source(about) or str(about["name"]) for about in abouts]
    attrs: dict[str, Any] = {
        "source_file": ", ".join(files),
        "source_identifier": " + ".join(identifiers),
        "session_description": f"{show_count(len(names), 'session')}, pooled: {', '.join(names)}",
        "sessions": json.dumps(abouts),
        "choices": json.dumps([*_gather_choices(sessions, names), *(one.to_dict() for one in choices)]),
    }
    lag = float(sessions[0].attrs.get("neural_lag", 0.0))
    return attrs | ({"neural_lag": lag} if lag else {})


def _gather_choices(sessions: Sequence[xr.Dataset], names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the choices of all sessions: once those that are the same in all, and the others by session."""
    listed = [json.loads(ds.attrs.get("choices") or "[]") for ds in sessions]
    for choices in listed:  # what else was possible often differs and says little
        for choice in choices:
            choice["alternatives"] = []
    gathered = [choice for choice in listed[0] if all(choice in choices for choices in listed)]
    for name, choices in zip(names, listed, strict=True):
        own = [choice for choice in choices if choice not in gathered]
        gathered += [choice | {"role": f"{choice['role']} ({name})"} for choice in own]
    return gathered
