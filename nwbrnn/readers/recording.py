"""read_nwb: read a recorded or simulated NWB file into a Dataset."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwbrnn.config import ReadConfig
from nwbrnn.config.check import change_settings
from nwbrnn.dataset import Choice, create_dataset
from nwbrnn.errors import ConfigError, MissingDataError
from nwbrnn.formats.teacher import attach_circuit
from nwbrnn.limits import describe_shortage
from nwbrnn.preprocessing import EnvelopeFilter, choose_envelope
from nwbrnn.preprocessing.resampling import CUTOFF
from nwbrnn.readers.discovery import Signal
from nwbrnn.readers.neurons import Part, read_neurons
from nwbrnn.readers.plan import Plan, plan_reading
from nwbrnn.readers.series import looks_raw, needs_low_pass, read_binned
from nwbrnn.readers.session import Session, open_session
from nwbrnn.readers.strange_clocks import find_strange_clocks
from nwbrnn.readers.tables import name_coordinates
from nwbrnn.readers.task import create_task_inputs
from nwbrnn.readers.times import to_ticks
from nwbrnn.readers.trials import find_angles
from nwbrnn.schema import CHANNELS, COORDINATES, VARIABLES
from nwbrnn.storage import Source


def read_nwb(path: str | Path | Source, config: ReadConfig | None = None, **settings: Any) -> xr.Dataset:
    """Read an NWB file of a recording or a simulated circuit.

    A rule chooses everything that is not given. ``ds.attrs["choices"]`` (JSON) records what was chosen and
    why, and :func:`nwbrnn.inspect_nwb` shows it beforehand.

    Parameters
    ----------
    path
        An NWB 2 file, HDF5 or Zarr: a local path, ``http(s)://``, ``s3://`` or
        ``dandi://DANDISET/path[@version]``.
    config
        The settings of reading; the defaults if not given.
    **settings
        Fields of :class:`nwbrnn.ReadConfig`, such as ``map``, ``outputs``, ``channels``, ``inputs``,
        ``rates``, ``units``, ``align_to``, ``window`` [s], ``bin_size`` [s], ``condition``, ``sectors``,
        ``where``, ``smoothing`` [s], ``emg``, ``nan`` and ``follow_links``; they override those of
        ``config``.

    Returns
    -------
    xarray.Dataset
        A Dataset as :mod:`nwbrnn.schema` declares it: ``outputs``, ``inputs``, ``rates`` [Hz],
        ``spike_counts`` and ``mask``, aligned by trial. Trial columns become coordinates, and so do unit
        columns, with the prefix ``unit_``.

    Raises
    ------
    UnsupportedFileError
        If the file is not a readable NWB 2 file.
    MissingDataError
        If units, trials, outputs or a requested object are missing.
    ReadError
        If data are damaged or hold NaN.
    ConfigError
        If a setting is unknown or does not fit the file.

    Examples
    --------
    >>> import nwbrnn
    >>> ds = nwbrnn.read_nwb(example, window=(-0.1, 0.3), bin_size=0.02)
    >>> ds["outputs"].dims, ds.sizes["time"]
    (('trial', 'time', 'output'), 20)
    """
    config = change_settings(config or ReadConfig(), settings, source="read_nwb")
    with open_session(path, follow_links=config.follow_links) as session:
        ds = read_planned(session, plan_reading(session, config), config)
    ds.attrs["source_sha256"] = session.source.compute_sha256() or ""
    return ds


def read_planned(session: Session, plan: Plan, config: ReadConfig) -> xr.Dataset:
    """Read an open file as planned; the Dataset does not have the hash of the file yet."""
    _check_memory(plan)
    outputs = _read_outputs(plan, config)
    inputs = _read_inputs(plan, config)
    used = outputs.covered & inputs.covered & _find_inside(plan) & plan.find_valid(plan.compute_edges())
    neurons = read_neurons(session, plan, config, used=used)
    mask = used & neurons.covered
    recorded = np.asarray(mask.any(axis=1))
    if not recorded.any():
        raise MissingDataError(
            "expected trials in which outputs and units were recorded together, but there are none; "
            "choose another align_to or window, or other outputs"
        )
    extents = {s.path: s.extent for s in plan.objects.outputs} | {
        "intervals/trials": plan.trials.session,
        "spikes": neurons.extent,
    }
    strange = find_strange_clocks(extents, trials="intervals/trials")
    choices = [*plan.choices, *outputs.choices, *neurons.choices]
    choices += [Choice("clocks", name, reason) for name, reason in strange.items()]
    if not recorded.all():
        lacking = "was recorded that is not declared invalid" if len(plan.invalid) else "was recorded"
        reason = f"nothing {lacking} in their window"
        choices.append(Choice("trials left out", str((~recorded).sum()), reason))
    variables: dict[str, Any] = {"mask": mask[recorded]}
    for name, values in (outputs.values | neurons.values | inputs.values).items():
        kept = values if recorded.all() else values[recorded]
        if values.dtype.kind == "f":
            kept = kept.astype(np.float32, copy=False)
            kept[~variables["mask"]] = np.nan
        variables[name] = kept
    coords: dict[str, Any] = {"time": plan.time} | outputs.coords | neurons.coords | inputs.coords
    coords |= _create_trial_coords(plan, recorded, taken=set(coords))
    ds = create_dataset(
        variables,
        coords,
        bin_size=plan.window.bin_size,
        units={f"{name}s": ", ".join(dict.fromkeys(coords.get(f"{name}_units", ["1"]))) for name in CHANNELS},
        attrs=_describe(session, plan, config, choices),
    )
    return attach_circuit(ds, session.nwbfile)


def _read_outputs(plan: Plan, config: ReadConfig) -> Part:
    """Read muscles, force or kinematics; raw EMG is converted to its envelope."""
    _check_window(plan)
    edges = plan.compute_edges()
    values, covered, choices = [], np.ones((len(edges), plan.window.n_bins), dtype=bool), []
    for signal in plan.objects.outputs:
        raw = _is_raw(signal, plan, config)
        envelope = choose_envelope(config) if raw else None
        binned = read_binned(signal, edges, nan=config.nan, envelope=envelope)
        values.append(binned.values)
        covered &= binned.covered
        if envelope is not None:
            rate = f"sampled at {1 / signal.interval:g} Hz, on both sides of its middle"
            reason = "given" if config.emg == "raw" else rate
            text = f"raw EMG: {reason}; {_describe_filters(envelope)}"
            choices.append(Choice("envelope", signal.path, text, ("emg: envelope",)))
        elif any(needs_low_pass(part, plan.window.bin_size) for part in signal.split()):
            cutoff = CUTOFF / (2 * plan.window.bin_size)
            reason = "a bin holds several samples; faster changes would be folded into slower ones"
            choices.append(Choice("low-pass", f"{signal.path}: {cutoff:g} Hz", reason))
        if binned.note:
            choices.append(Choice("samples left out", signal.path, binned.note))
    units = [unit for signal in plan.objects.outputs for unit in signal.units]
    coords = {"output": np.array(plan.objects.output_names), "output_units": np.array(units)}
    return Part({"outputs": np.concatenate(values, axis=2)}, coords, covered, tuple(choices))


def _describe_filters(envelope: EnvelopeFilter) -> str:
    notches = f"notch {', '.join(f'{f:g}' for f in envelope.notch)} Hz, " if envelope.notch else ""
    return f"{notches}high-pass {envelope.high_pass:g} Hz, low-pass {envelope.low_pass:g} Hz"


def _read_inputs(plan: Plan, config: ReadConfig) -> Part:
    """Read recorded task inputs, or build them from the trial table."""
    edges = plan.compute_edges()
    covered = np.ones((len(edges), plan.window.n_bins), dtype=bool)
    if not plan.objects.inputs:
        inputs, names = create_task_inputs(plan)
        return Part({"inputs": inputs}, {"input": np.array(names)}, covered)
    values = []
    for signal in plan.objects.inputs:
        binned = read_binned(signal, edges, nan=config.nan)
        values.append(binned.values)
        covered &= binned.covered
    names = [column for signal in plan.objects.inputs for column in signal.columns]
    units = [unit for signal in plan.objects.inputs for unit in signal.units]
    coords = {"input": np.array(names), "input_units": np.array(units)}
    return Part({"inputs": np.concatenate(values, axis=2)}, coords, covered)


def _find_inside(plan: Plan) -> NDArray[np.bool_]:
    """Return the bins within the limits of their trial, shape (n_trials, n_bins)."""
    edges = plan.compute_edges()
    first, last = to_ticks(plan.limits).T[..., np.newaxis]
    tolerance = to_ticks(plan.window.bin_size / 100)
    return np.asarray((edges[:, :-1] >= first - tolerance) & (edges[:, 1:] <= last + tolerance))


def _is_raw(signal: Signal, plan: Plan, config: ReadConfig) -> bool:
    """Return whether the envelope of an output must still be extracted."""
    if config.emg == "raw":  # the given outputs are EMG, even if their name does not say so
        return signal.role == "emg" or all(other.role != "emg" for other in plan.objects.outputs)
    return config.emg == "auto" and signal.role == "emg" and looks_raw(signal)


def _check_window(plan: Plan) -> None:
    """Refuse a window longer than the recording of the outputs."""
    recorded = max(signal.extent[1] - signal.extent[0] for signal in plan.objects.outputs)
    length = plan.window.n_bins * plan.window.bin_size
    if length > recorded + plan.window.bin_size:
        raise ConfigError(
            f"window: expected at most the {recorded:g} s of {plan.objects.outputs[0].path}, "
            f"but got {length:g} s; use a shorter window (--window)"
        )


def _check_memory(plan: Plan) -> None:
    """Refuse a Dataset that does not fit into memory, which holds each value twice while reading."""
    objects, trials, n_bins = plan.objects, plan.trials, plan.window.n_bins
    n_inputs = sum(len(signal.columns) for signal in objects.inputs) or 1 + sum(
        (4 if plan.second_harmonic else 2) if name in trials.angles else trials.frame[name].nunique()
        for name in trials.shown
    )
    in_bin = 8 * len(objects.output_names) + 4 * n_inputs + 8 * len(objects.units) + 4
    shortage = describe_shortage(2 * len(trials.frame) * n_bins * in_bin)
    if shortage:
        raise ConfigError(
            f"{len(trials.frame)} trials of {n_bins} bins with {len(objects.units)} units need "
            f"{shortage}; use wider bins (--bin-size), a shorter window (--window), or fewer units or "
            "trials (--units, --where)"
        )


def _create_trial_coords(plan: Plan, recorded: NDArray[np.bool_], *, taken: set[str]) -> dict[str, Any]:
    """Return the columns of the trial table; names already taken get the prefix ``trial_``."""
    taken = taken | {spec.name for spec in (*VARIABLES, *COORDINATES)}
    coords: dict[str, Any] = {
        "trial": plan.trials.frame.index.to_numpy(dtype=np.int64)[recorded],
        "condition": plan.conditions[recorded],
        "align_time": plan.trials.times[recorded],
    }
    labels = name_coordinates(map(str, plan.trials.frame.columns), prefix="trial_", taken={"id", *taken})
    angles = find_angles(plan.trials.frame)
    for name, label in labels.items():
        values = np.array(plan.trials.frame[name].to_numpy().tolist())[recorded]
        coords[label] = ("trial", values, {"units": angles[name]} if name in angles else {})
    return coords


def _describe(session: Session, plan: Plan, config: ReadConfig, choices: list[Choice]) -> dict[str, str]:
    """Return the provenance of a Dataset."""
    source, nwbfile = session.source, session.nwbfile
    return {
        "source_file": source.text if source.is_remote else source.name,
        "source_identifier": str(nwbfile.identifier),
        "source_object_id": str(nwbfile.object_id),
        "source_objects": json.dumps(_list_objects(session, plan)),
        "session_description": str(nwbfile.session_description),
        "session_start_time": nwbfile.session_start_time.isoformat(),
        "read_config": config.model_dump_json(),
        "choices": json.dumps([choice.to_dict() for choice in choices]),
    }


def _list_objects(session: Session, plan: Plan) -> dict[str, str]:
    """Return the object ids of the series, units and trials that are read, by path in the file."""
    found: list[Any] = [series for signal in plan.objects.signals for series in signal.series]
    found += [plan.trials.table] + ([session.units] if plan.objects.in_table else [])
    return {session.find_path(item): str(item.object_id) for item in found}
