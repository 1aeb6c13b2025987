"""read_nwb: an NWB file, recorded or simulated, becomes the Dataset."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pynwb import NWBFile

from nwbrnn.config import ReadConfig, parse_settings
from nwbrnn.dataset import create_dataset
from nwbrnn.errors import ConfigError, MissingDataError
from nwbrnn.preprocessing import smooth_counts
from nwbrnn.preprocessing.smoothing import TRUNCATE
from nwbrnn.readers.choices import RAW_SAMPLING_RATE, Choice
from nwbrnn.readers.discovery import Signal
from nwbrnn.readers.plan import Plan, plan_reading
from nwbrnn.readers.series import TICKS_PER_SECOND, Ticks, read_binned, read_centres, to_ticks
from nwbrnn.readers.task import create_task_inputs
from nwbrnn.readers.units import (
    SpikeTrains,
    count_spikes,
    find_observed,
    read_spike_trains,
    read_unit_columns,
)
from nwbrnn.schema import COORDINATES, VARIABLES
from nwbrnn.storage import Source, find_source, open_nwb

MIN_OBSERVED = 0.5  # units observed in a smaller part of the bins are left out


def read_nwb(path: str | Path, config: ReadConfig | None = None, **settings: Any) -> xr.Dataset:
    """Read an NWB file of a recording or a simulated teacher.

    What is not given is found by rule; ``ds.attrs["choices"]`` (JSON) says what was picked and why, and
    :func:`nwbrnn.inspect_nwb` shows it beforehand.

    Parameters
    ----------
    path
        An NWB 2 file in HDF5.
    config
        Settings made before.
    **settings
        The fields of :class:`nwbrnn.ReadConfig`, over those of ``config``: ``outputs``, ``channels``,
        ``inputs``, ``rates``, ``align_to``, ``window`` [s], ``bin_size`` [s], ``condition``, ``where``,
        ``smoothing`` [s], ``emg`` and ``nan``.

    Returns
    -------
    xarray.Dataset
        The contract of :mod:`nwbrnn.schema`: ``outputs``, ``inputs``, ``rates`` [Hz], ``spike_counts`` and
        ``mask``, aligned by trial. Trial columns are coordinates, unit columns too with the prefix ``unit_``.

    Raises
    ------
    UnsupportedFileError
        If the file is not a readable NWB 2 file.
    MissingDataError
        If units, trials, outputs or something asked for are missing.
    ReadError
        If data are damaged or hold NaN.
    ConfigError
        If a setting is unknown or does not fit the file.
    """
    source = find_source(path)
    given = (config or ReadConfig()).model_dump() | settings
    config = parse_settings(ReadConfig, given, source="read_nwb")
    with open_nwb(path, follow_links=config.follow_links) as nwbfile:
        plan = plan_reading(nwbfile, config, path=source.text)
        return _execute(nwbfile, plan, config, source=source)


def _execute(nwbfile: NWBFile, plan: Plan, config: ReadConfig, *, source: Source) -> xr.Dataset:
    """Read what was planned."""
    path = source.text
    outputs = _read_outputs(plan, config, path=path)
    neurons = _read_neurons(nwbfile, plan, config, path=path)
    inputs = _read_inputs(plan, config, path=path)
    mask = outputs.covered & neurons.covered & inputs.covered
    recorded = np.asarray(mask.any(axis=1))
    if not recorded.any():
        raise MissingDataError(
            f"{path}: expected trials in which outputs and units were recorded together, but there are none; "
            "choose another align_to or window, or other outputs"
        )
    choices = [*plan.choices, *outputs.choices, *neurons.choices]
    if not recorded.all():
        reason = "nothing was recorded in their window"
        choices.append(Choice("trials left out", str((~recorded).sum()), reason))
    variables: dict[str, Any] = {"mask": mask[recorded]}
    for name, values in (outputs.values | neurons.values | inputs.values).items():
        masked = np.where(mask[..., np.newaxis], values, np.nan).astype(np.float32)
        variables[name] = (masked if values.dtype.kind == "f" else values)[recorded]
    coords: dict[str, Any] = {"time": plan.time} | outputs.coords | neurons.coords | inputs.coords
    coords |= _create_trial_coords(plan, recorded)
    unit_names = dict.fromkeys(outputs.coords["output_units"].tolist())
    return create_dataset(
        variables,
        coords,
        bin_size=plan.bin_size,
        units={"outputs": ", ".join(unit_names), "inputs": "1"},
        attrs=_describe(nwbfile, config, choices, source=source),
    )


@dataclass(frozen=True)
class _Part:
    """Some variables and coordinates of the Dataset, and where they were recorded."""

    values: dict[str, NDArray[Any]]
    coords: dict[str, Any]
    covered: NDArray[np.bool_]
    choices: tuple[Choice, ...] = ()


def _read_outputs(plan: Plan, config: ReadConfig, *, path: str) -> _Part:
    """Read muscles, force or kinematics; raw EMG as its envelope."""
    _check_window(plan, path=path)
    edges = _compute_edges(plan)
    values, covered, choices = [], np.ones((len(edges), plan.n_bins), dtype=bool), []
    for signal in plan.outputs:
        raw = signal.role == "emg" and _is_raw(signal, config)
        binned, here = read_binned(signal, edges, path=path, nan=config.nan, envelope=raw)
        values.append(binned)
        covered &= here
        if raw:
            reason = "given" if config.emg == "raw" else "sampled fast, on both sides of zero"
            choices.append(Choice("envelope", signal.path, f"raw EMG: {reason}", ("emg: envelope",)))
    units = [signal.unit for signal in plan.outputs for _ in signal.columns]
    keep = np.isin(plan.output_names, config.channels or plan.output_names)
    coords = {"output": np.array(plan.output_names)[keep], "output_units": np.array(units)[keep]}
    return _Part({"outputs": np.concatenate(values, axis=2)[..., keep]}, coords, covered, tuple(choices))


def _read_neurons(nwbfile: NWBFile, plan: Plan, config: ReadConfig, *, path: str) -> _Part:
    """Read rates as recorded, or spikes and the rates smoothed from them."""
    if plan.rates is None:
        part = _read_spikes(nwbfile, plan, config, path=path)
    else:
        part = _read_rates(nwbfile, plan, plan.rates, nan=config.nan, path=path)
    kept = part.coords["unit"]
    columns = {name: ("unit", values[kept]) for name, values in read_unit_columns(nwbfile).items()}
    return replace(part, coords=columns | part.coords)


def _read_rates(nwbfile: NWBFile, plan: Plan, signal: Signal, *, nan: str, path: str) -> _Part:
    """Read a series of rates, and spike counts if there are spikes."""
    edges = _compute_edges(plan)
    rates, covered = read_binned(signal, edges, path=path, nan=nan)
    values: dict[str, NDArray[Any]] = {"rates": rates}
    if "spike_times" in nwbfile.units.colnames:
        values["spike_counts"] = count_spikes(read_spike_trains(nwbfile, path=path), edges)
    return _Part(values, {"unit": np.arange(rates.shape[2])}, covered)


def _read_spikes(nwbfile: NWBFile, plan: Plan, config: ReadConfig, *, path: str) -> _Part:
    """Read spike counts, and smooth them to rates."""
    trains = read_spike_trains(nwbfile, path=path)
    # bins on both sides of the window, so that smoothing knows what was before and after
    n_pad = int(np.ceil(TRUNCATE * config.smoothing / plan.bin_size))
    edges = _compute_edges(plan, n_pad=n_pad)
    inside = slice(n_pad, n_pad + plan.n_bins)
    tolerance = round(plan.bin_size * TICKS_PER_SECOND / 100)  # intervals may end a float's error early
    observed = find_observed(trains, edges, tolerance=tolerance) & _find_extent(nwbfile, trains, edges)
    kept, choices = _choose_observed(observed[:, inside], path=path)
    covered = np.asarray(observed[..., kept].all(axis=2))
    counts = count_spikes(trains, edges)[..., kept]
    rates = smooth_counts(counts, bin_size=plan.bin_size, sigma=config.smoothing, valid=covered)
    values = {"spike_counts": counts[:, inside], "rates": rates[:, inside]}
    return _Part(values, {"unit": kept}, covered[:, inside], choices)


def _read_inputs(plan: Plan, config: ReadConfig, *, path: str) -> _Part:
    """Read recorded task inputs, or build them from the trial table."""
    edges = _compute_edges(plan)
    covered = np.ones((len(edges), plan.n_bins), dtype=bool)
    if not plan.inputs:
        inputs, names = create_task_inputs(plan)
        return _Part({"inputs": inputs}, {"input": np.array(names)}, covered)
    values = []
    for signal in plan.inputs:
        binned, here = read_binned(signal, edges, path=path, nan=config.nan)
        values.append(binned)
        covered &= here
    names = [column for signal in plan.inputs for column in signal.columns]
    return _Part({"inputs": np.concatenate(values, axis=2)}, {"input": np.array(names)}, covered)


def _compute_edges(plan: Plan, *, n_pad: int = 0) -> Ticks:
    """Return the bin edges of each trial, shape (n_trials, n_bins + 2 n_pad + 1) [ticks]."""
    bins = np.arange(-n_pad, plan.n_bins + n_pad + 1)
    return to_ticks(plan.align_times)[:, np.newaxis] + to_ticks(plan.start + bins * plan.bin_size)


def _is_raw(signal: Signal, config: ReadConfig) -> bool:
    """Return whether the envelope of an EMG must still be extracted."""
    if config.emg != "auto":
        return config.emg == "raw"
    if signal.interval * RAW_SAMPLING_RATE > 1:
        return False
    start = np.asarray(signal.series[0].data[:10_000])
    return bool((start < 0).mean() > 0.2)


def _check_window(plan: Plan, *, path: str) -> None:
    """Refuse a window that is longer than the recording of the outputs."""
    samples = [read_centres(signal, path=path) for signal in plan.outputs]
    recorded = max((s[-1] - s[0]) / TICKS_PER_SECOND for s in samples)
    length = plan.n_bins * plan.bin_size
    if length > recorded + plan.bin_size:
        raise ConfigError(
            f"{path}: window: expected at most the {recorded:g} s of {plan.outputs[0].path}, "
            f"but got {length:g} s; use a shorter window (--window)"
        )


def _find_extent(nwbfile: NWBFile, trains: SpikeTrains, edges: Ticks) -> NDArray[np.bool_]:
    """Return the bins between first and last sign of a recording, shape (n_trials, n_bins, 1).

    Only where the file does not say when units were observed.
    """
    if trains.observed is not None:
        return np.ones((1, 1, 1), dtype=bool)
    times = [float(nwbfile.trials["start_time"].data[0]), *trains.extent]
    times += [t for t in nwbfile.trials["stop_time"].data[:] if np.isfinite(t)]
    first, last = to_ticks(min(times)), to_ticks(max(times))
    return ((edges[:, :-1] >= first) & (edges[:, 1:] <= last))[..., np.newaxis]


def _choose_observed(
    observed: NDArray[np.bool_], *, path: str
) -> tuple[NDArray[np.int64], tuple[Choice, ...]]:
    """Return the units observed in enough of the bins, as rows of the units table."""
    part = observed.mean(axis=(0, 1))
    kept = np.flatnonzero(part >= MIN_OBSERVED)
    if not kept.size:
        raise MissingDataError(
            f"{path}: units/obs_intervals: expected units observed during the trials, but none was in "
            "half of their bins; choose another align_to or window"
        )
    if kept.size == part.size:
        return kept, ()
    text = f"{part.size - kept.size} of {part.size}"
    reason = f"observed in less than {MIN_OBSERVED:.0%} of the bins"
    return kept, (Choice("units left out", text, reason),)


def _create_trial_coords(plan: Plan, recorded: NDArray[np.bool_]) -> dict[str, Any]:
    """Return what the trial table says of each trial; names of the contract get the prefix ``trial_``."""
    taken = {spec.name for spec in (*VARIABLES, *COORDINATES)}
    coords: dict[str, Any] = {
        "trial": plan.trials.index.to_numpy(dtype=np.int64)[recorded],
        "condition": plan.conditions[recorded],
        "align_time": plan.align_times[recorded],
    }
    for name in plan.trials.columns:
        label = f"trial_{name}" if name in taken else str(name)
        values = plan.trials[name].to_numpy()
        coords[label] = ("trial", np.array(values.tolist())[recorded])
    return coords


def _describe(
    nwbfile: NWBFile, config: ReadConfig, choices: list[Choice], *, source: Source
) -> dict[str, str]:
    """Return the provenance of a Dataset."""
    return {
        "source_file": source.text if source.is_remote else source.name,
        "source_sha256": source.compute_sha256() or "",
        "source_identifier": str(nwbfile.identifier),
        "source_object_id": str(nwbfile.object_id),
        "session_description": str(nwbfile.session_description),
        "session_start_time": nwbfile.session_start_time.isoformat(),
        "read_config": config.model_dump_json(),
        "choices": json.dumps([choice.to_dict() for choice in choices]),
    }
