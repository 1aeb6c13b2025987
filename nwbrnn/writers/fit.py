"""A fit as an NWB file of its own: predictions over session time, the model, the scores, the provenance.

``docs/nwb_export.md`` lists every object; :mod:`nwbrnn.readers.fit` reads them back.
"""

import json
import uuid
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pynwb import NWBFile, ProcessingModule, TimeSeries
from pynwb.base import TimeSeriesReference
from pynwb.epoch import TimeIntervals
from pynwb.file import Subject
from pynwb.misc import Units

from nwbrnn.errors import ExportError, ReadError
from nwbrnn.preprocessing import find_conditions
from nwbrnn.result import FitResult, Run
from nwbrnn.schema import COORDINATES, TRIAL, UNIT
from nwbrnn.session_time import Layer, lay_out
from nwbrnn.storage import Source, find_source, open_nwb
from nwbrnn.writers.atomic import check_output, write_nwbfile
from nwbrnn.writers.session_time import create_series
from nwbrnn.writers.tables import compress, create_table, link_rows

MODULE = "nwbrnn"
LAYOUT_VERSION = 2  # 2: initial states by condition, time constants, more settings

_RATES = {
    "tanh": "r = tanh(x)",
    "softplus": "r = log(1 + exp(x))",
    "soc": "r = tanh(x) for x < 0, 4 tanh(x / 4) for x >= 0",
}
_CARRIED = (
    "session_start_time",
    "timestamps_reference_time",
    "session_id",
    "experimenter",
    "experiment_description",
    "institution",
    "lab",
    "keywords",
    "related_publications",
    "protocol",
    "notes",
)
_SUBJECT = (
    "subject_id",
    "species",
    "sex",
    "age",
    "date_of_birth",
    "description",
    "genotype",
    "strain",
    "weight",
)


def write_fit(result: FitResult, source: str | Path, path: str | Path, *, overwrite: bool = False) -> None:
    """Write a fit into a new NWB file; session and subject are carried over from the source.

    Parameters
    ----------
    result
        From :func:`nwbrnn.fit`.
    source
        The NWB file that was fitted; it is only read.
    path
        The file to make.
    overwrite
        Whether to replace an existing file.

    Raises
    ------
    OutputExistsError
        If the file exists and ``overwrite`` is false.
    ExportError
        If the source cannot be read, would be overwritten, or the file cannot be written.
    """
    path = Path(path)
    check_output(path, overwrite=overwrite, others=[Path(source)])
    nwbfile = _create_nwbfile(source, result)
    _add_trials(nwbfile, result.recorded)
    text = "a recurrent network fitted to this session, what it predicts, and how well"
    module = nwbfile.create_processing_module(MODULE, text)
    _add_predictions(nwbfile, module, result)
    _add_model(nwbfile, module, result)
    _add_scores(module, result)
    nwbfile.add_scratch(
        json.dumps(_describe(result, find_source(source))),
        name="nwbrnn_fit",
        description="settings and provenance, JSON",
    )
    write_nwbfile(nwbfile, path, overwrite=overwrite)


def _create_nwbfile(source: str | Path, result: FitResult) -> NWBFile:
    """Return a new file with the session, the subject and the fitted units of the source."""
    try:
        with open_nwb(source, follow_links=_may_follow_links(result)) as original:
            carried = {name: _detach(getattr(original, name)) for name in _CARRIED}
            subject = None
            if original.subject is not None:
                fields = {name: getattr(original.subject, name) for name in _SUBJECT}
                subject = Subject(**{name: value for name, value in fields.items() if value})
            nwbfile = NWBFile(
                session_description=f"Fit of a recurrent network to: {original.session_description}",
                identifier=str(uuid.uuid4()),
                was_generated_by=[("nwbrnn", version("nwbrnn"))],
                subject=subject,
                **{name: value for name, value in carried.items() if value is not None},
            )
            _add_units(nwbfile, original.units, result.recorded)
    except ReadError as error:
        raise ExportError(f"{source}: expected the source of the fit, but it cannot be read") from error
    return nwbfile


def _may_follow_links(result: FitResult) -> bool:
    """Return whether the source was read with permission to follow links out of it."""
    return bool(json.loads(result.recorded.attrs.get("read_config", "{}")).get("follow_links", False))


def _detach(value: Any) -> Any:
    """Return a value that does not depend on the open file."""
    return [str(v) for v in value[:]] if hasattr(value, "dtype") or isinstance(value, tuple) else value


def _add_units(nwbfile: NWBFile, original: Units, recorded: xr.Dataset) -> None:
    """Add the units of the fit with their spikes, and what the source says of them."""
    labels = _plain_coords(recorded, UNIT, but={spec.name for spec in COORDINATES})
    for name in labels:
        nwbfile.add_unit_column(name, f"{name} in the source")
    nwbfile.add_unit_column("source_row", "row of the unit in the units table of the source")
    for i, unit in enumerate(recorded["unit"].values.tolist()):
        row = {name: values[i] for name, values in labels.items()}
        if "spike_times" in original.colnames:
            row["spike_times"] = np.asarray(original["spike_times"][unit])
        if "obs_intervals" in original.colnames:
            row["obs_intervals"] = np.asarray(original["obs_intervals"][unit])
        nwbfile.add_unit(source_row=unit, **row)
    nwbfile.units.resolution = original.resolution


def _add_trials(nwbfile: NWBFile, recorded: xr.Dataset) -> None:
    """Add the trials of the fit: the window that was fitted, its split, and the columns of the source."""
    time, half = recorded["time"].values, recorded.attrs["bin_size"] / 2
    mask, align = recorded["mask"].values, recorded["align_time"].values
    columns = _plain_coords(recorded, TRIAL, but={"trial", "start_time", "stop_time"})
    for name, source in (("source_start_time", "start_time"), ("source_stop_time", "stop_time")):
        if source in recorded.coords and np.isfinite(recorded[source].values).any():
            columns[name] = recorded[source].values
    columns["source_row"] = recorded["trial"].values
    for name in columns:
        nwbfile.add_trial_column(name, f"{name}; see docs/nwb_export.md of nwbrnn")
    for i, kept in enumerate(mask):
        start, stop = align[i] + time[kept][[0, -1]] + [-half, half]
        row = {name: values[i] for name, values in columns.items()}
        nwbfile.add_trial(start_time=float(start), stop_time=float(stop), **row)


def _plain_coords(ds: xr.Dataset, dim: str, *, but: set[str]) -> dict[str, NDArray[Any]]:
    """Return the coordinates on one dimension that a table column can hold, all-NaN ones left out."""
    columns = {}
    for name, coord in ds.coords.items():
        values = coord.values.astype("U") if coord.dtype.kind in "OT" else coord.values
        if coord.dims != (dim,) or str(name) in but or values.dtype.kind not in "iufbU":
            continue
        if values.dtype.kind == "f" and not np.isfinite(values).any():
            continue
        columns[str(name).replace("/", "_").replace(":", "_")] = values
    return columns


def _add_predictions(nwbfile: NWBFile, module: ProcessingModule, result: FitResult) -> None:
    """Add what was recorded and what is predicted, over session time, and where each trial is in it."""
    recorded, predicted = result.recorded, result.predicted
    lag = float(recorded.attrs.get("neural_lag", 0.0))
    scale = recorded["output_scale"].values
    output_unit = ", ".join(dict.fromkeys(_get_output_units(recorded)))
    outputs, inputs = recorded["output"].values.tolist(), recorded["input"].values.tolist()
    series = [
        ("recorded_outputs", recorded["outputs"].values * scale, output_unit, outputs, "outputs, clipped"),
        (
            "predicted_outputs",
            predicted["outputs"].values * scale,
            output_unit,
            outputs,
            "outputs of the student",
        ),
        (
            "inputs",
            recorded["inputs"].values,
            recorded["inputs"].attrs["units"],
            inputs,
            "inputs of the student",
        ),
        ("recorded_rates", recorded["rates"].values, "Hz", (), "rates, a column for each unit"),
        ("predicted_rates", predicted["rates"].values, "Hz", (), "predicted rates, a column for each unit"),
        ("hidden_rates", predicted["hidden"].values, "1", (), "student rates, a column for each hidden unit"),
    ]
    if "spike_counts" in recorded:
        counts = recorded["spike_counts"].values
        series.append(
            ("recorded_spike_counts", counts, "1", (), "spikes in each bin, a column for each unit")
        )
    windows = TimeIntervals(
        name="windows", description="the trials of the fit, and where their samples are in the series here"
    )
    windows.add_column("trial", "row of the trials table")
    for number, layer in enumerate(lay_out(recorded)):
        suffix = f"_{number + 1}" if number else ""  # further layers only where windows overlap
        first: TimeSeries | None = None
        added = []
        for name, values, unit, columns, text in series:
            shifted = lag and name.endswith("outputs")
            one = create_series(
                name + suffix,
                layer.flatten(values.astype(np.float32) if values.dtype.kind == "f" else values),
                layer.time + lag if shifted else first or layer.time,
                unit=unit,
                description=text,
                columns=columns,
            )
            first = first or (None if shifted else one)
            module.add(one)
            added.append(one)
        _add_windows(nwbfile, windows, layer, added)
    module.add(windows)


def _add_windows(nwbfile: NWBFile, windows: TimeIntervals, layer: Layer, series: list[TimeSeries]) -> None:
    """Add a row for each trial of a layer."""
    starts, stops = nwbfile.trials["start_time"].data, nwbfile.trials["stop_time"].data
    for row, start, count in zip(layer.rows.tolist(), layer.starts, layer.counts, strict=True):
        where = [TimeSeriesReference(int(start), int(count), one) for one in series]
        # not add_interval: it would find the samples again, by times that float errors can shift
        windows.add_row(start_time=starts[row], stop_time=stops[row], trial=row, timeseries=where)


def _add_model(nwbfile: NWBFile, module: ProcessingModule, result: FitResult) -> None:
    """Add the weights: a row for each hidden unit, output, input and recorded unit."""
    weights, recorded, scores = result.weights, result.recorded, result.scores
    matrix = "float32 matrix, one column for each"
    hidden: dict[str, tuple[Any, str]] = {
        "recurrent_weights": (compress(weights["recurrent_weights"]), f"{matrix} presynaptic hidden unit"),
        "input_weights": (weights["input_weights"], f"{matrix} input"),
        "bias": (weights["bias"], "b"),
        "initial_state": (_put_hidden_first(weights["initial_state"]), _explain_start(result)),
        "output_weights": (weights["output_weights"].T.copy(), f"{matrix} output, before its scale"),
    }
    if "tau" in weights:
        hidden["tau"] = (weights["tau"], "time constant that was learned [s]")
    outputs: dict[str, tuple[Any, str]] = {
        "output_name": (recorded["output"].values.tolist(), "name of the output"),
        "bias": (weights["output_bias"], "c in z = output_weights r + c"),
        "scale": (recorded["output_scale"].values, "recorded unit of 1 in z"),
        "unit": (_get_output_units(recorded), "unit of the output"),
        "r2": (scores.output_r2, "R2 on condition averages of the test trials"),
        "r2_ceiling": (scores.output_ceiling, "R2 of the average of all other trials"),
    }
    inputs = {"input_name": (recorded["input"].values.tolist(), "name of the input")}
    units: dict[str, tuple[Any, str]] = {
        "sampled": (recorded["sampled"].values, "whether the dynamics loss saw the unit"),
        "rate_scale": (
            recorded["rate_scale"].values,
            "rate [Hz] = rate_scale r + rate_offset, sampled units",
        ),
        "rate_offset": (recorded["rate_offset"].values, "see rate_scale"),
        "readout": (compress(weights["rate_readout"]), "rate [Hz] = readout r + readout_offset, other units"),
        "readout_offset": (weights["rate_readout_offset"], "see readout"),
        "r2": (scores.unit_r2, "R2 on condition averages of the test trials"),
        "r2_ceiling": (scores.unit_ceiling, "R2 of the average of all other trials"),
    }
    sampled = _find_sampled(result)
    links = []
    if sampled:
        text = "the unit that a hidden unit was trained to reproduce; none for free units"
        links = link_rows("recorded_unit", text, nwbfile.units, sampled, n_rows=result.config.hidden)
    equation = "tau dx/dt = -x + recurrent_weights r + input_weights u + bias, "
    rate = _RATES[result.config.nonlinearity]
    module.add(create_table("hidden_units", equation + rate, hidden, links=links))
    module.add(create_table("outputs", "a row for each output", outputs))
    module.add(create_table("input_names", "a row for each input", inputs))
    module.add(create_table("recorded_units", "a row for each row of the units table", units))


def _put_hidden_first(state: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the initial states with a row for each hidden unit."""
    return state if state.ndim == 1 else state.T.copy()


def _explain_start(result: FitResult) -> str:
    """Return what the columns of the initial state are."""
    if result.config.initial_state == "data":
        return "x before the first bin; of sampled units it follows from the first recorded rate instead"
    if result.config.initial_state == "learned":
        return "x before the first bin"
    labels = ", ".join(find_conditions(result.recorded))
    return f"x before the first bin, one column for each condition: {labels}; others: their mean"


def _find_sampled(result: FitResult) -> list[int]:
    """Return the rows of the units that hidden units stand for, in the order of the hidden units."""
    if result.config.dynamics_factor == 0:
        return []
    return list(np.flatnonzero(result.recorded["sampled"].values).tolist())


def _add_scores(module: ProcessingModule, result: FitResult) -> None:
    """Add the students, their overall scores and the course of their training."""
    runs = result.runs
    pairs = [(run.seed, score) for run in runs for score in run.scores.summary]
    columns: dict[str, tuple[Any, str]] = {
        "seed": (np.array([seed for seed, _ in pairs]), "of the initial weights of the student"),
        "score": ([s.name for _, s in pairs], "R2: coefficient of determination; neurons: median over units"),
        "level": ([s.level for _, s in pairs], "what was compared, of the test trials"),
        "value": (np.array([s.value for _, s in pairs]), "of the student"),
        "ceiling": (np.array([s.ceiling for _, s in pairs]), "of the average of all other trials"),
    }
    module.add(create_table("scores", "how well each student does on the test trials", columns))
    module.add(create_table("runs", "a row for each student, the best first", _describe_runs(runs)))
    names = list(dict.fromkeys(name for run in runs for name in run.history))
    lengths = [max(map(len, run.history.values())) for run in runs]
    history: dict[str, tuple[Any, str]] = {
        "seed": (np.repeat([run.seed for run in runs], lengths), "of the initial weights of the student")
    }
    for name in names:
        parts = [_pad(run.history.get(name, ()), n) for run, n in zip(runs, lengths, strict=True)]
        history[name] = np.concatenate(parts), f"unweighted loss term {name}"
    module.add(create_table("history", "a row for each pass of least squares and each epoch", history))


def _describe_runs(runs: Sequence[Run]) -> dict[str, tuple[Any, str]]:
    """Return the columns of the students; their weights too if there are several."""
    columns: dict[str, tuple[Any, str]] = {
        "seed": (np.array([run.seed for run in runs]), "of the initial weights"),
        "loss": (np.array([run.loss for run in runs]), "total loss on validation, or else training trials"),
        "ended": ([run.ended for run in runs], "why training ended"),
        "free_run": (
            np.array([run.free_run for run in runs]),
            "largest output after the trial, inputs held, over the largest output in it",
        ),
    }
    if len(runs) > 1:  # of a single student they are in the other tables
        for name in ("output_r2", "unit_r2"):
            columns[name] = np.stack([getattr(run.scores, name) for run in runs]), "R2 on condition averages"
        for name in runs[0].weights:
            stacked = np.stack([run.weights[name] for run in runs])
            columns[name] = compress(stacked), f"{name}, a student in each row"
    return columns


def _pad(values: Sequence[float], length: int) -> NDArray[np.float64]:
    """Return values with NaN where an interrupt left some terms out."""
    return np.array([*values, *[np.nan] * (length - len(values))], dtype=np.float64)


def _get_output_units(recorded: xr.Dataset) -> list[str]:
    """Return the unit of each output before scaling."""
    if "output_units" not in recorded.coords:
        return ["a.u."] * recorded.sizes["output"]
    return list(recorded["output_units"].values.tolist())


def _describe(result: FitResult, source: Source) -> dict[str, Any]:
    """Return settings and provenance."""
    attrs = {k: v for k, v in result.recorded.attrs.items() if isinstance(v, str | int | float)}
    return {
        "layout_version": LAYOUT_VERSION,
        "config": result.config.model_dump(mode="json"),
        "dataset_attrs": attrs,
        "time": result.recorded["time"].values.tolist(),
        "source_file": source.name,
        "versions": {name: version(name) for name in ("nwbrnn", "torch", "numpy", "pynwb")},
    }
