"""Encode a fit as a processing module: predictions over session time, model, scores and settings.

``docs/nwb_export.md`` specifies every object, and :mod:`nwbrnn.formats.fit.decode` reads them back. The
module is the same in a new file and in a copy of the source, so the same reader works for both.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from platform import python_version
from typing import Any

import numpy as np
from hdmf.common import DynamicTable, VectorData
from numpy.typing import NDArray
from pynwb import NWBFile, ProcessingModule, TimeSeries
from pynwb.base import TimeSeriesReference
from pynwb.epoch import TimeIntervals

from nwbrnn.dataset import get_output_units
from nwbrnn.evaluation import score_trials
from nwbrnn.formats.fit.coordinates import Described, describe_dataset
from nwbrnn.formats.fit.layout import (
    LAYOUT_VERSION,
    MATRICES,
    SERIES,
    TRANSPOSED,
    WEIGHTS,
    name_scratch,
    name_series,
)
from nwbrnn.formats.fit.sessions import create_sessions, find_session_rows
from nwbrnn.formats.series import create_series
from nwbrnn.formats.tables import compress, create_table, is_unknown, link_rows, show_text
from nwbrnn.preprocessing import find_conditions, is_pooled
from nwbrnn.result import FitResult, Run
from nwbrnn.schema import TRIAL, UNIT
from nwbrnn.timeline import lay_out
from nwbrnn.weights import KINDS

Column = tuple[Any, str]

_RATES = {
    "tanh": "r = tanh(x)",
    "softplus": "r = log(1 + exp(x))",
    "soc": "r = tanh(x) for x < 0, 4 tanh(x / 4) for x >= 0",
}
_SEEN = "with r of the hidden units of observed units before this, y their recorded rates as far as this bin"
_OBSERVERS = {
    "rate": f"; after each bin x <- x + a observer_weights (y - r), {_SEEN}, and a the part of its way that "
    "x goes in a bin",
    "gru": f"; after each bin r <- r + observer_weights (y - r), {_SEEN}",
}
_LARGE = ("recurrent_weights", "rate_readout")
_VERSIONS = ("nwbrnn", "torch", "numpy", "numba", "xarray", "pynwb", "hdmf", "h5py")


@dataclass(frozen=True)
class Rows:
    """The rows of a table in the file that hold the units, or the trials, of a fit."""

    table: DynamicTable
    rows: NDArray[np.integer]


def add_fit(
    nwbfile: NWBFile,
    result: FitResult,
    *,
    module_name: str,
    units: Rows | None,
    trials: Rows | None,
    as_zarr: bool,
) -> None:
    """Add the processing module of a fit, and its settings and provenance in ``scratch``.

    ``units`` and ``trials`` are the rows of the fit in tables of this file, ``None`` if it does not hold
    them. In Zarr, a reference to a part of a series would be a pickle, so numbers stand for it.
    """
    reserved = {TRIAL: set(dir(TimeIntervals)) | _TRIAL_COLUMNS, UNIT: set(dir(DynamicTable)) | _UNIT_COLUMNS}
    described = describe_dataset(result.recorded, reserved)
    sessions = "several sessions" if is_pooled(result.recorded) else "this session"
    text = f"a recurrent network fitted to {sessions}, its predictions and their scores"
    module = nwbfile.create_processing_module(module_name, text)
    windows = _add_series(module, result)
    links = {TRIAL: {} if trials is None else {"source_trial": trials}}
    links[UNIT] = {} if units is None else {"source_unit": units}
    table = create_sessions(result.recorded)
    if table is not None:
        module.add(table)
        for dim, found in links.items():
            found["source_session"] = Rows(table, find_session_rows(result.recorded, dim))
    module.add(_create_trials(result, described, windows, links[TRIAL], as_zarr=as_zarr))
    _add_model(module, result, described, links[UNIT])
    _add_scores(module, result)
    nwbfile.add_scratch(
        json.dumps(_describe_fit(result, described)),
        name=name_scratch(module_name),
        description="settings and provenance of the fit, JSON",
    )


_WINDOW_COLUMNS = {
    "first_sample": "the first sample of the trial, in each series of its layer",
    "n_samples": "how many samples the trial has there",
    "layer": "1: series without a number; 2: those whose name ends in _2; and so on",
}
_TRIAL_COLUMNS = {
    "start_time", "stop_time", "timeseries", "timeseries_index", "tags", "tags_index", "row", "source_trial",
    "source_session", "output_r2", "rate_r2", *_WINDOW_COLUMNS,
}  # fmt: skip
_UNIT_COLUMNS = {
    "source_unit", "source_session", "readout", "readout_offset", "r2", "r2_known_average",
    *(f"teacher_{name}" for name in MATRICES)
}  # fmt: skip


_Window = tuple[int, list[TimeSeriesReference]]
"""The layer of a trial, and its samples in the series there."""


def _add_series(module: ProcessingModule, result: FitResult) -> dict[int, _Window]:
    """Add recorded and predicted series over session time, and return the samples of each trial in them."""
    recorded = result.recorded
    lag = float(recorded.attrs.get("neural_lag", 0.0))
    windows: dict[int, _Window] = {}
    for number, layer in enumerate(lay_out(recorded), start=1):
        added: list[TimeSeries] = []
        clock: TimeSeries | None = None
        for name, values, unit, columns in _list_series(result):
            shifted = bool(lag) and name.endswith("outputs")
            one = create_series(
                name_series(name, number),
                layer.flatten(values),
                layer.time + lag if shifted else clock or layer.time,
                unit=unit,
                description=SERIES[name][2],
                columns=columns,
            )
            clock = clock or (None if shifted else one)
            module.add(one)
            added.append(one)
        for row, start, count in zip(layer.rows.tolist(), layer.starts, layer.counts, strict=True):
            windows[row] = number, [TimeSeriesReference(int(start), int(count), one) for one in added]
    return windows


def _list_series(result: FitResult) -> list[tuple[str, NDArray[Any], str, Sequence[str]]]:
    """Return name, values (n_trials, n_time, n_columns), unit and column names of each series."""
    datasets = {"recorded": result.recorded, "predicted": result.predicted}
    series = []
    for name, (dataset, variable, _) in SERIES.items():
        if variable not in datasets[dataset]:
            continue
        data = datasets[dataset][variable]
        values, unit = data.values, str(data.attrs["units"])
        if variable == "outputs":
            unit = ", ".join(dict.fromkeys(get_output_units(result.recorded)))
        elif values.dtype == np.float16:
            values = values.astype(np.float32)
        columns = result.recorded[data.dims[2]].values.tolist() if variable in ("outputs", "inputs") else ()
        series.append((name, values, unit, columns))
    return series


def _create_trials(
    result: FitResult,
    described: Described,
    windows: Mapping[int, _Window],
    links: Mapping[str, Rows],
    *,
    as_zarr: bool,
) -> TimeIntervals:
    """Return the table of trials, in the order of their start."""
    recorded = result.recorded
    time, half = recorded["time"].values, recorded.attrs["bin_size"] / 2
    times = [time[kept] for kept in recorded["mask"].values]
    starts, stops = (recorded["align_time"].values + [one[end] for one in times] for end in (0, -1))
    order = np.argsort(starts, kind="stable")
    table = TimeIntervals(
        name="trials", description="the trials of the fit, and where their samples are in the series here"
    )
    for row in order.tolist():
        # not add_interval, which would search for the samples by times that rounding errors can shift
        table.add_row(
            start_time=float(starts[row] - half),
            stop_time=float(stops[row] + half),
            **({} if as_zarr else {"timeseries": windows[row][1]}),
        )
    scores = score_trials(recorded, result.predicted)
    columns: dict[str, Column] = {
        "row": (np.arange(len(order)), "position of the trial in the Dataset"),
        "output_r2": (scores["output_r2"], "R2 of all outputs in this one trial"),
        "rate_r2": (scores["rate_r2"], "R2 of the rates in this one trial, median over units"),
    } | described.columns[TRIAL]
    if as_zarr:
        places = [(one.idx_start, one.count, layer) for _, (layer, (one, *_)) in sorted(windows.items())]
        columns |= {
            name: (np.array(values), text)
            for (name, text), values in zip(_WINDOW_COLUMNS.items(), zip(*places, strict=True), strict=True)
        }
    for name, (values, text) in columns.items():
        if not is_unknown(values):
            kept = values[order]
            data = kept if kept.dtype.kind in "iufb" else kept.tolist()
            table.add_column(name=name, description=show_text(text), data=data)
    for name, linked in links.items():
        data = linked.rows[order].tolist()
        table.add_column(name=name, description=_LINKS[name], data=data, table=linked.table)
    return table


_LINKS = {
    "source_trial": "the trial in the table of trials of the recording",
    "source_unit": "the unit in the units table of the recording",
    "source_session": "the session in the table of sessions",
}


def _add_model(
    module: ProcessingModule, result: FitResult, described: Described, linked: Mapping[str, Rows]
) -> None:
    """Add the tables of weights, with a row for each hidden unit, output, input and recorded unit."""
    recorded = result.recorded
    equation = KINDS[result.config.network].equation.format(rate=_RATES[result.config.nonlinearity])
    if result.config.observes:
        equation += _OBSERVERS[result.config.network]
    inputs = {"input_name": (_show_all(recorded["input"].values.tolist()), "name of the input")}
    links: list[VectorData] = []
    for name, one in linked.items():
        links += link_rows(name, _LINKS[name], one.table, one.rows.tolist())
    recorded_units = create_table(
        "recorded_units", "the units of the fit", _describe_units(result, described), links=links
    )
    sampled = _find_sampled(result)
    links = []
    if sampled:
        text = "the unit that a hidden unit was trained to reproduce; none for free units"
        target = linked.get("source_unit") or Rows(recorded_units, np.arange(len(recorded_units)))
        links = link_rows(
            "recorded_unit", text, target.table, target.rows[sampled].tolist(), n_rows=result.config.hidden
        )
    module.add(create_table("outputs", "a row for each output", _describe_outputs(result)))
    module.add(create_table("input_names", "a row for each input", inputs))
    module.add(recorded_units)
    module.add(create_table("hidden_units", equation, _describe_weights(result, "hidden_units"), links=links))


def _describe_weights(result: FitResult, table: str) -> dict[str, Column]:
    """Return the weight columns of a table, with large matrices compressed."""
    columns: dict[str, Column] = {}
    for name, (place, column, text) in WEIGHTS.items():
        if place == table and name in result.weights:
            values = result.weights[name]
            values = values.T.copy() if name in TRANSPOSED else values
            about = _explain_start(result) if name == "initial_state" else text
            columns[column] = compress(values) if name in _LARGE else values, about
    return columns


def _describe_outputs(result: FitResult) -> dict[str, Column]:
    """Return the columns of the outputs."""
    recorded, scores = result.recorded, result.scores
    columns: dict[str, Column] = {
        "output_name": (_show_all(recorded["output"].values.tolist()), "name of the output"),
        **_describe_weights(result, "outputs"),
        "scale": (recorded["output_scale"].values, "recorded unit of 1 in z"),
        "unit": (_show_all(get_output_units(recorded)), "unit of the output"),
        "r2": (scores.output_r2, "R2 on condition averages of the test trials"),
        "r2_known_average": (scores.output_known_average, "R2 of the average of all other trials"),
    }
    if "readout" in recorded:
        text = "the simulated circuit's own readout, one column for each row of recorded_units"
        columns["teacher_readout"] = recorded["readout"].values, text
    return columns


def _describe_units(result: FitResult, described: Described) -> dict[str, Column]:
    """Return the columns of the recorded units."""
    scores = result.scores
    columns: dict[str, Column] = dict(described.columns[UNIT])
    columns |= _describe_weights(result, "recorded_units") | {
        "r2": (scores.unit_r2, "R2 on condition averages of the test trials"),
        "r2_known_average": (scores.unit_known_average, "R2 of the average of all other trials"),
    }
    if "connectivity" in result.recorded:
        text = "the simulated circuit's recurrent weights, one column for each presynaptic neuron"
        columns["teacher_connectivity"] = compress(result.recorded["connectivity"].values), text
    return columns


def _explain_start(result: FitResult) -> str:
    """Return a description of the columns of the initial state."""
    if result.config.initial_state == "data":
        return "x before the first bin; of sampled units it follows from the first recorded rate instead"
    if result.config.initial_state == "learned":
        return "x before the first bin"
    labels = ", ".join(find_conditions(result.recorded))
    return f"x before the first bin, one column for each condition: {labels}; others: their mean"


def _find_sampled(result: FitResult) -> list[int]:
    """Return the positions of the units that hidden units represent, in the order of the hidden units."""
    if result.config.dynamics_factor == 0:
        return []
    return list(np.flatnonzero(result.recorded["sampled"].values).tolist())


def _add_scores(module: ProcessingModule, result: FitResult) -> None:
    """Add the networks, their overall scores and their losses during training."""
    runs = result.runs
    pairs = [(run.seed, score) for run in runs for score in run.scores.summary]
    columns: dict[str, Column] = {
        "seed": (np.array([seed for seed, _ in pairs]), "seed of the initial weights of the network"),
        "score": ([s.name for _, s in pairs], "R2: coefficient of determination; neurons: median over units"),
        "level": ([s.level for _, s in pairs], "what was compared, of the test trials"),
        "value": (np.array([s.value for _, s in pairs]), "score of the network"),
        "known_average": (
            np.array([s.known_average for _, s in pairs]),
            "score of the average of all other trials",
        ),
    }
    module.add(create_table("scores", "scores of each network on the test trials", columns))
    module.add(create_table("runs", "a row for each network, best first", _describe_runs(runs)))
    names = list(dict.fromkeys(name for run in runs for name in run.history))
    lengths = [max(map(len, run.history.values()), default=0) for run in runs]
    history: dict[str, Column] = {
        "seed": (np.repeat([run.seed for run in runs], lengths), "seed of the initial weights of the network")
    }
    for name in names:
        parts = [_pad(run.history.get(name, ()), n) for run, n in zip(runs, lengths, strict=True)]
        text = "0 for a pass of least squares" if name == "learning_rate" else f"unweighted loss term {name}"
        history[name] = np.concatenate(parts), text
    module.add(create_table("history", "a row for each pass of least squares and each epoch", history))


def _describe_runs(runs: Sequence[Run]) -> dict[str, Column]:
    """Return the columns of the networks, including their weights if there are several."""
    columns: dict[str, Column] = {
        "seed": (np.array([run.seed for run in runs]), "seed of the initial weights"),
        "loss": (np.array([run.loss for run in runs]), "total loss on validation, or else training trials"),
        "ended": ([run.ended for run in runs], "why training ended"),
        "free_run": (
            np.array([run.free_run for run in runs]),
            "largest output after the trial, inputs held, over the largest output in it",
        ),
    }
    if len(runs) > 1:  # the weights of a single network are in the other tables
        for name in ("output_r2", "unit_r2"):
            columns[name] = np.stack([getattr(run.scores, name) for run in runs]), "R2 on condition averages"
        for name in runs[0].weights:
            stacked = np.stack([run.weights[name] for run in runs])
            columns[name] = compress(stacked), f"{name}, one network per row"
    return columns


def _pad(values: Sequence[float], length: int) -> NDArray[np.float64]:
    """Return values padded with NaN if an interrupt left some out."""
    return np.array([*values, *[np.nan] * (length - len(values))], dtype=np.float64)


def _show_all(texts: Sequence[str]) -> list[str]:
    return [show_text(text) for text in texts]


def _describe_fit(result: FitResult, described: Described) -> dict[str, Any]:
    """Return the settings and provenance of a fit."""
    predicted = result.predicted
    return {
        "layout_version": LAYOUT_VERSION,
        "config": result.config.model_dump(mode="json"),
        "dataset": described.about,
        "predicted": {
            str(name): {"dtype": predicted[name].dtype.str, "attrs": dict(predicted[name].attrs)}
            for name in predicted.data_vars
        },
        "versions": {name: version(name) for name in _VERSIONS} | {"python": python_version()},
        "exported": datetime.now(UTC).isoformat(timespec="seconds"),
    }
