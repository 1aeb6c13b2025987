"""read_fit: the file that ``write_fit`` made becomes the result it was made from."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pynwb import NWBFile, ProcessingModule, TimeSeries

from nwbrnn.config import FitConfig, parse_settings
from nwbrnn.dataset import create_dataset
from nwbrnn.errors import MissingDataError, ReadError, UnsupportedFileError
from nwbrnn.evaluation import Score, Scores
from nwbrnn.readers.tables import read_plain_columns
from nwbrnn.result import FitResult, Run
from nwbrnn.storage import one_line, open_nwb

LAYOUT_VERSIONS = (1, 2)

_OWN_TRIAL_COLUMNS = ("start_time", "stop_time", "source_row", "source_start_time", "source_stop_time")
_VARIABLES = {
    # series in the file: Dataset, variable
    "recorded_outputs": ("recorded", "outputs"),
    "recorded_rates": ("recorded", "rates"),
    "recorded_spike_counts": ("recorded", "spike_counts"),
    "predicted_outputs": ("predicted", "outputs"),
    "predicted_rates": ("predicted", "rates"),
    "hidden_rates": ("predicted", "hidden"),
}


def read_fit(path: str | Path) -> FitResult:
    """Read a fit back from the NWB file that :func:`nwbrnn.write_fit` made.

    Parameters
    ----------
    path
        An NWB file with the processing module ``nwbrnn``.

    Returns
    -------
    FitResult
        As it was written; outputs pass through their recorded unit and agree to float32 precision.

    Raises
    ------
    UnsupportedFileError
        If the file is not NWB, or of a newer layout than this version knows.
    MissingDataError
        If the file holds no fit, or a part of it is missing.
    """
    path = Path(path)
    with open_nwb(path) as nwbfile:
        if "nwbrnn" not in nwbfile.processing or "nwbrnn_fit" not in (nwbfile.scratch or {}):
            raise MissingDataError(
                f"{path}: processing/nwbrnn: expected a fit, but the file has none; "
                "make one with 'nwbrnn fit'"
            )
        try:
            return _read(nwbfile, path=path)
        except (KeyError, IndexError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise ReadError(
                f"{path}: processing/nwbrnn: expected the layout of docs/nwb_export.md, but a part is "
                f"missing or changed ({one_line(error)}); fit again"
            ) from error


def _read(nwbfile: NWBFile, *, path: Path) -> FitResult:
    module = nwbfile.processing["nwbrnn"]
    about = json.loads(nwbfile.scratch["nwbrnn_fit"].data)
    if about["layout_version"] not in LAYOUT_VERSIONS:
        raise UnsupportedFileError(
            f"{path}: expected a fit of layout {LAYOUT_VERSIONS}, but got {about['layout_version']}; "
            "use a newer version of nwbrnn"
        )
    config = parse_settings(FitConfig, about["config"], source=f"{path}: scratch/nwbrnn_fit")
    time = np.array(about["time"])
    coords = _read_coords(nwbfile, module, time)
    arrays, mask = _read_arrays(nwbfile, module, time, about["dataset_attrs"])
    scale = coords["output_scale"]
    datasets: dict[str, dict[str, Any]] = {"recorded": {}, "predicted": {}}
    for name, (dataset, variable) in _VARIABLES.items():
        if name in arrays:
            values = arrays[name] / scale if variable == "outputs" else arrays[name]
            values = values if variable == "spike_counts" else values.astype(np.float32)
            datasets[dataset][variable] = values
    units = {"outputs": "1", "inputs": module["inputs"].unit}
    bin_size = about["dataset_attrs"]["bin_size"]
    built = {}
    for name, variables in datasets.items():
        variables |= {"inputs": arrays["inputs"].astype(np.float32), "mask": mask}
        attrs = about["dataset_attrs"] if name == "recorded" else {}
        built[name] = create_dataset(variables, coords, bin_size=bin_size, units=units, attrs=attrs)
    return FitResult(
        recorded=built["recorded"],
        predicted=built["predicted"],
        runs=_read_runs(module, built["recorded"], config),
        config=config,
    )


def _read_coords(nwbfile: NWBFile, module: ProcessingModule, time: NDArray[np.float64]) -> dict[str, Any]:
    """Return all coordinates."""
    units = read_plain_columns(nwbfile.units)
    trials = read_plain_columns(nwbfile.trials)
    outputs = read_plain_columns(module["outputs"])
    recorded_units = read_plain_columns(module["recorded_units"])
    coords: dict[str, Any] = {
        "time": time,
        "trial": trials["source_row"],
        "unit": units["source_row"],
        "output": outputs["output_name"],
        "input": read_plain_columns(module["input_names"])["input_name"],
        "output_scale": outputs["scale"],
        "output_units": outputs["unit"],
        **{name: recorded_units[name] for name in ("sampled", "rate_scale", "rate_offset")},
        **{name: trials[name] for name in ("condition", "align_time", "split")},
    }
    for name, values in units.items():
        if name != "source_row":
            coords[name] = ("unit", values)
    for name in ("start_time", "stop_time"):
        if f"source_{name}" in trials:
            coords[name] = ("trial", trials[f"source_{name}"])
    for name, values in trials.items():
        if name not in coords and name not in _OWN_TRIAL_COLUMNS:
            coords[name] = ("trial", values)
    return coords


def _read_arrays(
    nwbfile: NWBFile, module: ProcessingModule, time: NDArray[np.float64], attrs: Mapping[str, Any]
) -> tuple[dict[str, NDArray[Any]], NDArray[np.bool_]]:
    """Return every series as (n_trials, n_time, n_channels) with NaN outside the mask, and the mask."""
    windows = module["windows"]
    shape = (len(nwbfile.trials), len(time))
    align = np.asarray(nwbfile.trials["align_time"].data[:])
    mask = np.zeros(shape, dtype=bool)
    arrays: dict[str, NDArray[Any]] = {}
    loaded: dict[str, tuple[NDArray[Any], NDArray[np.float64]]] = {}
    for row, trial in enumerate(np.asarray(windows["trial"].data[:]).tolist()):
        for reference in windows["timeseries"][row]:
            series = reference.timeseries
            if series.name not in loaded:
                loaded[series.name] = np.asarray(series.data[:]), _read_times(series)
            data, stamps = loaded[series.name]
            samples = slice(reference.idx_start, reference.idx_start + reference.count)
            name = series.name.rstrip("0123456789").removesuffix("_")
            lag = float(attrs.get("neural_lag", 0.0)) if name.endswith("outputs") else 0.0
            bins = np.rint((stamps[samples] - lag - align[trial] - time[0]) / attrs["bin_size"]).astype(int)
            if name not in arrays:
                fill = np.nan if data.dtype.kind == "f" else 0
                arrays[name] = np.full((*shape, data.shape[1]), fill, dtype=data.dtype)
            arrays[name][trial, bins] = data[samples]
            mask[trial, bins] = True
    return arrays, mask


def _read_times(series: TimeSeries) -> NDArray[np.float64]:
    if series.rate:
        return float(series.starting_time) + np.arange(len(series.data)) / float(series.rate)
    return np.asarray(series.timestamps[:], dtype=np.float64)


def _read_weights(module: ProcessingModule) -> dict[str, NDArray[np.floating]]:
    hidden, outputs, units = (module[name] for name in ("hidden_units", "outputs", "recorded_units"))
    names = ("recurrent_weights", "input_weights", "bias", "initial_state")
    weights = {name: np.asarray(hidden[name].data[:]) for name in names}
    if weights["initial_state"].ndim == 2:  # a column for each condition
        weights["initial_state"] = np.ascontiguousarray(weights["initial_state"].T)
    if "tau" in hidden.colnames:
        weights["tau"] = np.asarray(hidden["tau"].data[:])
    weights["output_weights"] = np.ascontiguousarray(np.asarray(hidden["output_weights"].data[:]).T)
    weights["output_bias"] = np.asarray(outputs["bias"].data[:])
    weights["rate_readout"] = np.asarray(units["readout"].data[:])
    weights["rate_readout_offset"] = np.asarray(units["readout_offset"].data[:])
    return weights


def _read_runs(module: ProcessingModule, recorded: xr.Dataset, config: FitConfig) -> tuple[Run, ...]:
    """Return the students, the best first; a fit of layout 1 has one, and does not say how it ended."""
    best = _read_weights(module)
    table = {"seed": np.array([config.seed])}
    if "runs" in module.data_interfaces:
        table = read_plain_columns(module["runs"])
    runs = []
    for row, seed in enumerate(table["seed"].tolist()):
        weights = {name: np.asarray(module["runs"][name].data[row]) for name in best} if row else best
        runs.append(
            Run(
                seed=seed,
                weights=weights,
                history=_read_history(module, seed),
                loss=float(table["loss"][row]) if "loss" in table else float("nan"),
                ended=str(table["ended"][row]) if "ended" in table else "finished",  # type: ignore[arg-type]
                free_run=float(table["free_run"][row]) if "free_run" in table else float("nan"),
                scores=_read_scores(module, recorded, seed=seed, row=row),
            )
        )
    return tuple(runs)


def _read_history(module: ProcessingModule, seed: int) -> dict[str, list[float]]:
    """Return the losses of one student."""
    columns = {str(name): np.asarray(module["history"][name].data[:]) for name in module["history"].colnames}
    mine = columns.pop("seed") == seed if "seed" in columns else slice(None)
    history = {name: values[mine].tolist() for name, values in columns.items()}
    return {name: _strip(values) for name, values in history.items()}


def _strip(values: list[float]) -> list[float]:
    """Return values without the NaN that fill up shorter columns."""
    while values and np.isnan(values[-1]):
        values.pop()
    return values


def _read_scores(module: ProcessingModule, recorded: xr.Dataset, *, seed: int, row: int) -> Scores:
    """Return the stored scores of one student; columns left out because all were NaN come back as NaN."""

    def column(table: str, name: str, n_rows: int) -> NDArray[np.float64]:
        columns = read_plain_columns(module[table])
        return np.asarray(columns.get(name, np.full(n_rows, np.nan)))

    def of_run(table: str, name: str, n_rows: int) -> NDArray[np.float64]:
        if row == 0:
            return column(table, "r2", n_rows)
        runs = module["runs"]
        return np.asarray(runs[name].data[row]) if name in runs.colnames else np.full(n_rows, np.nan)

    names = read_plain_columns(module["scores"])
    n_scores = len(names["score"])
    seeds = names["seed"] if "seed" in names else np.full(n_scores, seed)
    values, ceilings = (column("scores", name, n_scores) for name in ("value", "ceiling"))
    summary = [
        Score(str(names["score"][i]), str(names["level"][i]), float(values[i]), float(ceilings[i]))
        for i in np.flatnonzero(seeds == seed)
    ]
    n_outputs, n_units = recorded.sizes["output"], recorded.sizes["unit"]
    return Scores(
        summary=tuple(summary),
        output_r2=of_run("outputs", "output_r2", n_outputs),
        output_ceiling=column("outputs", "r2_ceiling", n_outputs),
        unit_r2=of_run("recorded_units", "unit_r2", n_units),
        unit_ceiling=column("recorded_units", "r2_ceiling", n_units),
    )
