"""The sessions of a pooled Dataset: which trials and units belong to each, and the scale of its signals."""

import json
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwbrnn.dataset import Choice, get_unit_ids
from nwbrnn.errors import ConfigError
from nwbrnn.preprocessing.averaging import ROUNDING, average_conditions
from nwbrnn.schema import CHANNELS, OUTPUT, RECORDING, SESSION, SESSION_OF_UNIT, UNIT

Signal = NDArray[np.floating]

ALIGNED = "recording_output_scale"
"""Coordinate of a Dataset whose outputs have been brought to the scale of their session."""

ALIKE = 0.8
"""Correlation with the average of all sessions below which an output is named; our choice."""

_TEXTS = (
    "source_file", "source_identifier", "source_object_id", "source_sha256", "session_start_time", "teacher",
)  # fmt: skip
_JSON = ("source_objects", "read_config")


def is_pooled(ds: xr.Dataset) -> bool:
    """Return whether a Dataset holds several sessions, from :func:`nwbrnn.pool`."""
    return SESSION in ds.coords and SESSION_OF_UNIT in ds.coords


def is_aligned(ds: xr.Dataset) -> bool:
    """Return whether 1 in the outputs is the scale of an output in its session, not its recorded unit."""
    return ALIGNED in ds.coords and str(ds["outputs"].attrs["units"]) == "1"


def list_trials(ds: xr.Dataset) -> list[NDArray[np.int_]]:
    """Return the rows of the trials of each session; of all trials if the Dataset holds only one."""
    return _list_rows(ds, SESSION, "trial")


def list_units(ds: xr.Dataset) -> list[NDArray[np.int_]]:
    """Return the rows of the units of each session; of all units if the Dataset holds only one."""
    return _list_rows(ds, SESSION_OF_UNIT, "unit")


def list_parts(ds: xr.Dataset) -> list[tuple[NDArray[np.int_], NDArray[np.int_]]]:
    """Return the rows of the trials and of the units of each session; of all if there is only one."""
    if not is_pooled(ds):
        return [(np.arange(ds.sizes["trial"]), np.arange(ds.sizes["unit"]))]
    trials, units = ds[SESSION].values, ds[SESSION_OF_UNIT].values
    names = dict.fromkeys(units.tolist())
    return [(np.flatnonzero(trials == name), np.flatnonzero(units == name)) for name in names]


def _list_rows(ds: xr.Dataset, name: str, dim: str) -> list[NDArray[np.int_]]:
    if not is_pooled(ds):
        return [np.arange(ds.sizes[dim])]
    labels = ds[name].values
    return [np.flatnonzero(labels == session) for session in dict.fromkeys(labels.tolist())]


def select_session(recorded: xr.Dataset, session: str, *others: xr.Dataset) -> list[xr.Dataset]:
    """Return the trials, units and outputs of one session, of a pool and of predictions for it."""
    trial, unit = recorded[SESSION].values == session, recorded[SESSION_OF_UNIT].values == session
    output = np.isfinite(recorded["outputs"].values[trial]).any(axis=(0, 1))
    return [ds.isel(trial=trial, unit=unit, output=output) for ds in (recorded, *others)]


def list_sessions(ds: xr.Dataset) -> list[dict[str, Any]]:
    """Return file, identifier, hash, objects and settings of reading of each session of any Dataset."""
    if not is_pooled(ds):
        return [describe_session(ds.attrs)]
    return list(json.loads(ds.attrs.get("sessions") or "[]"))


def describe_session(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    """Return what the attributes of a Dataset of one session say of its source."""
    about: dict[str, Any] = {name: str(attrs[name]) for name in _TEXTS if attrs.get(name)}
    return about | {name: json.loads(attrs[name]) for name in _JSON if attrs.get(name)}


def identify(ds: xr.Dataset, dim: str) -> list[tuple[str, int]]:
    """Return what identifies each trial or unit in any Dataset: its source, and its row there.

    Examples
    --------
    >>> identify(xr.Dataset(coords={"unit": [3, 5]}, attrs={"source_identifier": "S1"}), "unit")
    [('S1', 3), ('S1', 5)]
    """
    if not is_pooled(ds):
        source = name_source(ds.attrs)
        return [(source, row) for row in ds[dim].values.tolist()]
    # units of unknown sources are different ones, but their trials may be the same
    sources = {
        one["name"]: name_source(one) or (one["name"] if dim == "unit" else "") for one in list_sessions(ds)
    }
    names = ds[SESSION if dim == "trial" else SESSION_OF_UNIT].values.tolist()
    rows = ds[f"session_{dim}"].values.tolist()
    return [(sources.get(name, name), row) for name, row in zip(names, rows, strict=True)]


def name_rows(ds: xr.Dataset, dim: str) -> list[str]:
    """Return a label of each trial or unit: its number, and in a pool also its number in its session.

    Examples
    --------
    >>> name_rows(xr.Dataset(coords={"trial": [3, 5]}), "trial")
    ['3', '5']
    """
    own = (get_unit_ids(ds) if dim == UNIT else ds[dim].values).tolist()
    if not is_pooled(ds):
        return list(map(str, own))
    there = f"session_{dim}_id" if f"session_{dim}_id" in ds.coords else f"session_{dim}"
    sessions = ds[SESSION_OF_UNIT if dim == UNIT else SESSION].values.tolist()
    rows = zip(own, ds[there].values.tolist(), sessions, strict=True)
    return [f"{number}, {row} of {session}" for number, row, session in rows]


def list_sources(ds: xr.Dataset) -> set[str]:
    """Return what identifies the sources of a Dataset."""
    return {name_source(one) for one in list_sessions(ds)}


def name_source(about: Mapping[Any, Any]) -> str:
    """Return the identifier of a file or circuit; those that do not say count as one."""
    return str(about.get("source_identifier") or "") + str(about.get("teacher") or "")


def separate_outputs(ds: xr.Dataset) -> xr.Dataset:
    """Give each session outputs of its own, such as ``FCR (monday)``, which are NaN in other sessions.

    Examples
    --------
    >>> outputs = np.array([[[1.0, 2.0]], [[3.0, np.nan]]])
    >>> ds = xr.Dataset(
    ...     {"outputs": (("trial", "time", "output"), outputs)},
    ...     {"output": ["FCR", "FCU"], "session": ("trial", ["mon", "tue"]), "recording": ["mon", "tue"]},
    ... ).assign_coords(session_of_unit=("unit", ["mon", "tue"]))
    >>> ds = separate_outputs(ds)
    >>> ds["output"].values.tolist(), ds["outputs"].values[1, 0].tolist()
    (['FCR (mon)', 'FCU (mon)', 'FCR (tue)'], [nan, nan, 3.0])
    """
    if not is_pooled(ds):
        return ds
    parts, names, rows, owners = [], [], [], []
    for number, session in enumerate(ds[RECORDING].values.tolist()):
        mine = ds[SESSION].values == session
        own = np.flatnonzero(np.isfinite(ds["outputs"].values[mine]).any(axis=(0, 1)))
        parts.append(np.where(mine[:, np.newaxis, np.newaxis], ds["outputs"].values[..., own], np.nan))
        names += [name_own(name, session) for name in ds["output"].values[own].tolist()]
        rows += own.tolist()
        owners += [number] * len(own)
    variable = ds["outputs"].dims, np.concatenate(parts, axis=2), dict(ds["outputs"].attrs)
    coords: dict[str, Any] = {"output": names}
    if "recording_output_units" in ds.coords:
        units = ds["recording_output_units"].values[owners, rows]
        coords["output_units"] = "output", units
        variable[2]["units"] = ", ".join(dict.fromkeys(units.tolist()))
    return ds.drop_dims("output").assign(outputs=variable).assign_coords(coords)


def name_own(output: str, session: str) -> str:
    """Return the name of an output that belongs to one session."""
    return f"{output} ({session})"


def describe_different_outputs(ds: xr.Dataset) -> Choice | None:
    """Return, as a choice, which shared outputs differ in shape between sessions; ``None`` if none do.

    The averages over the training trials of a session, by condition, are correlated with those of the pool.
    """
    shared = average_conditions(ds[["outputs", "mask"]].isel(trial=ds["split"].values == "train"))
    labels = shared["condition"].values.tolist()
    found: dict[str, list[str]] = {}
    for session in ds[RECORDING].values.tolist():
        mine = (ds[SESSION].values == session) & (ds["split"].values == "train")
        own = average_conditions(ds[["outputs", "mask"]].isel(trial=mine))
        every = shared["outputs"].values[[labels.index(c) for c in own["condition"].values.tolist()]]
        for output, first, second in zip(
            ds["output"].values.tolist(), np.moveaxis(own["outputs"].values, 2, 0), np.moveaxis(every, 2, 0),
            strict=True,
        ):  # fmt: skip
            known = np.isfinite(first) & np.isfinite(second)
            varies = known.any() and np.ptp(first[known]) > 0 and np.ptp(second[known]) > 0
            r = np.corrcoef(first[known], second[known])[0, 1] if varies else 1.0
            if r < ALIKE:
                found.setdefault(output, []).append(f"{session} {r:.2f}")
    if not found:
        return None
    picked = "; ".join(f"{output} ({', '.join(where)})" for output, where in found.items())
    reason = (
        f"correlation with the average of all sessions below {ALIKE:g}: one readout cannot fit all of them; "
        "session_outputs=own gives each session its own"
    )
    return Choice("different outputs", picked, reason, ("own",))


def align_sessions(ds: xr.Dataset, *, align: Collection[str], percentile: float) -> xr.Dataset:
    """Bring the outputs and inputs of each session to a common scale, with statistics of training trials.

    Parameters
    ----------
    ds
        A Dataset with ``split``; one that holds a single session is returned unchanged.
    align
        What to remove: ``"output_gain"`` divides each output by its scale in the session,
        ``"output_offset"`` subtracts its mean there first; ``"input_gain"`` and ``"input_offset"`` divide an
        input by its standard deviation in the session and subtract its mean.
    percentile
        Percentile of the absolute values of an output, which is its scale.

    Returns
    -------
    xarray.Dataset
        With the coordinates ``recording_output_scale`` and ``recording_output_offset`` (recording, output),
        and those of inputs: recorded value = value * scale + offset.

    Raises
    ------
    ConfigError
        If an output is 0 throughout the training trials of a session; or if units of sessions cannot be
        converted, and the gain that removes the difference is not in ``align``.
    """
    if not is_pooled(ds):
        return ds
    outputs = {"output_gain", "output_offset"} & set(align)
    inputs = {"input_gain", "input_offset"} & set(align)
    mixed = [fault for one in CHANNELS if f"{one}_gain" not in align for fault in _list_mixed(ds, one)]
    if mixed:
        raise ConfigError(*mixed)
    if outputs:
        ds = _rescale(ds, "outputs", *_measure_outputs(ds, outputs, percentile=percentile))
    if inputs:
        ds = _rescale(ds, "inputs", *_measure_inputs(ds, inputs))
    for channel in CHANNELS:
        if f"{channel}_gain" in align:
            ds[f"{channel}s"].attrs["units"] = "1"
            ds = ds.assign_coords({f"{channel}_units": (channel, np.full(ds.sizes[channel], "1"))})
    return ds


def _list_mixed(ds: xr.Dataset, channel: str) -> list[str]:
    """Return, as faults, which outputs or inputs have a unit in a session that is not that of the others."""
    faults = []
    units = ds.coords.get(f"recording_{channel}_units")
    for label, column in [] if units is None else zip(ds[channel].values, units.values.T, strict=True):
        known = [(name, unit) for name, unit in zip(ds[RECORDING].values, column, strict=True) if unit]
        for name, unit in known:
            if unit != known[0][1]:
                own = ", give each session outputs of its own (session_outputs=own)" * (channel == OUTPUT)
                faults.append(
                    f"session {name}: {channel}s: expected {label} in {known[0][1]}, as in session "
                    f"{known[0][0]}, but got {unit}, which cannot be converted; add {channel}_gain to "
                    f"align_sessions{own}, or correct the unit in the file"
                )
    return faults


def align_like(ds: xr.Dataset, recorded: xr.Dataset) -> xr.Dataset:
    """Bring other trials of the same sessions to the scale that :func:`align_sessions` found for a fit."""
    for name, channel in (("outputs", "output"), ("inputs", "input")):
        if f"recording_{channel}_scale" in recorded.coords:
            scale, offset = (recorded[f"recording_{channel}_{part}"].values for part in ("scale", "offset"))
            ds = _rescale(ds, name, scale, offset)
            ds[name].attrs["units"] = recorded[name].attrs["units"]
            if f"{channel}_units" in recorded.coords:
                ds = ds.assign_coords({f"{channel}_units": recorded[f"{channel}_units"].variable})
    return ds


def _list_training(ds: xr.Dataset, name: str) -> list[tuple[str, Signal]]:
    """Return the name of each session and its recorded bins in training, shape (n_bins, n_channels).

    A session whose trials are all left out has none.
    """
    counts = (ds["split"].values == "train")[:, np.newaxis] & ds["mask"].values
    rows = {str(session): ds[SESSION].values == session for session in ds[RECORDING].values.tolist()}
    return [(session, ds[name].values[mine][counts[mine]]) for session, mine in rows.items()]


def _measure_outputs(ds: xr.Dataset, align: Collection[str], *, percentile: float) -> tuple[Signal, Signal]:
    """Return scale and offset of the outputs, shape (n_sessions, n_outputs); 1 and 0 for those without."""
    scales, offsets = [], []
    for session, values in _list_training(ds, "outputs"):
        known = np.isfinite(values).any(axis=0)
        scale, offset = np.ones(values.shape[1]), np.zeros(values.shape[1])
        if "output_offset" in align:
            offset[known] = np.nanmean(values[:, known], axis=0, dtype=np.float64)
        if "output_gain" in align:
            scale[known] = np.nanpercentile(np.abs(values[:, known] - offset[known]), percentile, axis=0)
        # the mean of a constant is not exact, so that what remains of one is not 0
        rounding = ROUNDING * np.finfo(values.dtype).eps * np.abs(offset)
        dead = ds["output"].values[~(scale > rounding)]
        if dead.size:
            raise ConfigError(
                f"session {session}: outputs: expected values other than 0 to scale by, but nearly all "
                f"training bins of {', '.join(dead)} are {'constant' if rounding.any() else '0'}; leave "
                "these out with the channels setting, or pool without this session"
            )
        scales.append(scale)
        offsets.append(offset)
    return np.stack(scales), np.stack(offsets)


def _measure_inputs(ds: xr.Dataset, align: Collection[str]) -> tuple[Signal, Signal]:
    """Return scale and offset of the inputs, shape (n_sessions, n_inputs); 1 for constant inputs."""
    parts = [values.astype(np.float64) for _, values in _list_training(ds, "inputs")]
    shape = len(parts), ds.sizes["input"]
    offset, scale = np.zeros(shape), np.ones(shape)
    for row, values in enumerate(parts):
        if len(values):  # otherwise all trials of the session are held out
            offset[row] = values.mean(axis=0) if "input_offset" in align else 0.0
            scale[row] = values.std(axis=0) if "input_gain" in align else 1.0
    return np.where(scale > 0, scale, 1.0), offset


def _rescale(ds: xr.Dataset, name: str, scale: Signal, offset: Signal) -> xr.Dataset:
    """Return a Dataset with a rescaled signal, and with coordinates that say how."""
    variable = ds[name]
    values = variable.values.copy()
    for row, session in enumerate(ds[RECORDING].values.tolist()):
        trials = ds[SESSION].values == session
        values[trials] = (values[trials] - offset[row]) / scale[row]
    channel = str(variable.dims[2])
    return ds.assign({name: (variable.dims, values, dict(variable.attrs))}).assign_coords(
        {
            f"recording_{channel}_scale": ((RECORDING, channel), scale),
            f"recording_{channel}_offset": ((RECORDING, channel), offset),
        }
    )
