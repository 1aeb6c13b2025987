"""One fit of a sweep: what a worker does, wherever it is."""

import functools
import json
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import dask
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwbrnn.config import FitConfig
from nwbrnn.errors import ConfigError
from nwbrnn.evaluation import Score, assess, compute_skill, compute_weighted_r2, evaluate
from nwbrnn.evaluation.scores import LEVELS, stack_samples
from nwbrnn.job import fit
from nwbrnn.preprocessing import average_conditions, prepare
from nwbrnn.readers import read_dataset
from nwbrnn.result import FitResult, Run
from nwbrnn.sweep.grid import Cell, hash_dataset
from nwbrnn.training import predict, probe
from nwbrnn.writers.atomic import replace_whole
from nwbrnn.writers.dataset import write_netcdf

CELLS, DATA = "cells", "data"
VALUES = ("value", "ceiling", "chance", "low", "high")
"""What there is of each score."""

Pair = tuple[xr.Dataset, xr.Dataset]
"""Recorded and predicted."""


def run_cell(folder: Path, cell: Cell) -> None:
    """Fit, evaluate and save one cell, in a file of its own; a failure is saved, too.

    Parameters
    ----------
    folder
        Of the sweep: ``data/SOURCE.nc`` is read, ``cells/KEY.nc`` written, or ``cells/KEY.error.json``.
    cell
        What to fit. Nothing is done if it is finished.
    """
    path = get_path(folder, cell)
    if path.exists():  # by a worker that was lost after it
        return
    started = time.perf_counter()
    try:
        # xarray would take a lock of the cluster to write a file that is nobody else's
        with dask.config.set(scheduler="synchronous"):
            ds = _read_data(folder, cell)
            result = fit(ds, cell.config)
            saved = summarize(result, cell, seconds=time.perf_counter() - started)
            with replace_whole(path, overwrite=True) as temporary:
                write_netcdf(saved, temporary)
    except Exception as error:  # whatever it is, the other cells go on
        write_error(folder, cell, f"{type(error).__name__}: {error}", traceback.format_exc())


def write_error(folder: Path, cell: Cell, message: str, trace: str = "") -> None:
    """Record that a cell failed, and how."""
    about = {"message": message, "source": cell.source, "config": cell.config.model_dump(mode="json")}
    with replace_whole(get_error_path(folder, cell), overwrite=True) as temporary:
        temporary.write_text(json.dumps(about | {"traceback": trace}, indent=2), encoding="utf-8")


def get_data_path(folder: Path, source: str) -> Path:
    """Return where the Dataset of a source is."""
    return folder / DATA / f"{source}.nc"


def read_error(folder: Path, cell: Cell) -> str:
    """Return why a cell failed; nothing if it did not."""
    path = get_error_path(folder, cell)
    return str(json.loads(path.read_text(encoding="utf-8"))["message"]) if path.exists() else ""


def get_path(folder: Path, cell: Cell) -> Path:
    """Return where the result of a cell is, if it is finished."""
    return folder / CELLS / f"{cell.key}.nc"


def get_error_path(folder: Path, cell: Cell) -> Path:
    """Return where the failure of a cell is recorded."""
    return folder / CELLS / f"{cell.key}.error.json"


def summarize(result: FitResult, cell: Cell, *, seconds: float) -> xr.Dataset:
    """Return the scores and the weights of a fit as a Dataset for a file.

    Parameters
    ----------
    result
        The fit.
    cell
        What it was to be.
    seconds
        What it took [s].

    Returns
    -------
    xarray.Dataset
        Scores by name (dimension ``score``), R² of each unit and output, weights (their names begin with
        ``weights_``), losses in the course of training (``history_``), and in the attributes settings,
        versions and how training ended.
    """
    trained, later = _divide(result)
    probed = probe(trained[0], result.weights, result.config)
    scores = [*assess(*trained, n_resamples=cell.resamples)]
    scores += [Score(name, LEVELS[0], value, np.nan) for name, value in probed.items()]
    if later is not None:
        scores += _score_later(later, result.recorded)
    basic = evaluate(*trained)
    table = {name: [asdict(s)[name] for s in scores] for name in asdict(scores[0])}
    variables = {name: ("score", np.array(table[name], dtype=np.float64)) for name in VALUES}
    return xr.Dataset(
        variables
        | _create_group("weights_", result.weights)
        | _create_group("history_", {k: np.array(v, dtype=np.float64) for k, v in result.history.items()})
        | {
            "unit_r2": ("unit", basic.unit_r2),
            "sampled": ("unit", result.recorded["sampled"].values),
            "output_r2": ("output", basic.output_r2),
        },
        coords={
            "score": np.array(table["name"]),
            "level": ("score", np.array(table["level"])),
            "unit": result.recorded["unit"].values,
            "output": result.recorded["output"].values,
        },
        attrs={
            "source": cell.source,
            "data_hash": cell.data_hash,
            "resamples": cell.resamples,
            "config": result.config.model_dump_json(),
            "asked": cell.config.model_dump_json(),
            "ended": result.best.ended,
            "epochs": len(result.best.history["train_total"]),
            "loss": result.best.loss,
            "free_run": result.best.free_run,
            "seconds": seconds,
            "versions": json.dumps({name: version(name) for name in ("nwbrnn", "torch", "numpy")}),
            "cross_validation": result.recorded.attrs.get("cross_validation", ""),
        },
    )


def _divide(result: FitResult) -> tuple[Pair, Pair | None]:
    """Return recorded and predicted bins up to the end of training, and those that come later."""
    pair = result.recorded, result.predicted
    end = result.config.train_until
    if end is None:
        return pair, None
    earlier = result.recorded["time"].values <= end
    trained, later = ((pair[0].isel(time=part), pair[1].isel(time=part)) for part in (earlier, ~earlier))
    return trained, later


def _score_later(later: Pair, whole: xr.Dataset) -> list[Score]:
    """Score the outputs of the bins that come later than training; skill is relative to all bins."""
    (truth, guess), known = (_average_tests(*later), average_conditions(whole))
    predicted, target = (stack_samples(ds, "outputs", like=truth) for ds in (guess, truth))
    skill = compute_skill(predicted, target, stack_samples(known, "outputs"))
    values = {"R2": compute_weighted_r2(predicted, target), "skill": skill}
    return [Score(f"output {name}, later than trained", LEVELS[0], v, np.nan) for name, v in values.items()]


def _average_tests(recorded: xr.Dataset, predicted: xr.Dataset) -> Pair:
    """Return the condition averages of the test trials."""
    is_test = recorded["split"].values == "test"
    return average_conditions(recorded.isel(trial=is_test)), average_conditions(predicted.isel(trial=is_test))


def _read_data(folder: Path, cell: Cell) -> xr.Dataset:
    """Read the data of a cell, and make sure that they are."""
    path = get_data_path(folder, cell.source)
    return _read(path, cell.data_hash, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=2)  # a worker takes many cells of the same data
def _read(path: Path, data_hash: str, _changed: int) -> xr.Dataset:
    ds = read_dataset(path)
    if hash_dataset(ds) != data_hash:
        raise ConfigError(
            f"{path}: expected the data that this cell is of, but got others of the same name; "
            "keep sweeps of different data in different folders"
        )
    return ds


def read_cell(path: Path) -> tuple[xr.Dataset, FitConfig]:
    """Read the result of a finished cell and the settings that were asked for."""
    saved = xr.load_dataset(path, engine="h5netcdf")
    return saved, FitConfig.model_validate_json(saved.attrs["asked"])


def list_finished(folder: Path) -> list[Cell]:
    """Return the cells of a sweep that are done, from what is in its folder."""
    cells = []
    for path in sorted((folder / CELLS).glob("*.nc")):
        with xr.open_dataset(path, engine="h5netcdf") as saved:
            about = saved.attrs
        config = FitConfig.model_validate_json(about["asked"])
        cells.append(Cell(about["source"], config, int(about["resamples"]), about["data_hash"]))
    return cells


def rebuild(folder: Path, cell: Cell) -> tuple[xr.Dataset, xr.Dataset]:
    """Return the recorded and the predicted Dataset of a finished cell, without fitting again.

    Parameters
    ----------
    folder
        Of the sweep.
    cell
        A finished cell.

    Raises
    ------
    FileNotFoundError
        If it is not finished.
    """
    saved, _ = read_cell(get_path(folder, cell))
    config = FitConfig.model_validate_json(saved.attrs["config"])
    recorded = prepare(_read_data(folder, cell), config)
    return recorded, predict(recorded, _get_group(saved, "weights_"), config)


def rebuild_fit(folder: Path, cell: Cell) -> FitResult:
    """Return what :func:`nwbrnn.fit` returned in a finished cell, without fitting again.

    Parameters
    ----------
    folder
        Of the sweep.
    cell
        A finished cell.

    Raises
    ------
    FileNotFoundError
        If it is not finished.
    """
    recorded, predicted = rebuild(folder, cell)
    saved, _ = read_cell(get_path(folder, cell))
    config = FitConfig.model_validate_json(saved.attrs["config"])
    if saved.attrs["cross_validation"]:
        recorded.attrs["cross_validation"] = saved.attrs["cross_validation"]
    run = Run(
        seed=config.seed,
        weights=_get_group(saved, "weights_"),
        history={name: values.tolist() for name, values in _get_group(saved, "history_").items()},
        loss=float(saved.attrs["loss"]),
        ended=saved.attrs["ended"],
        free_run=float(saved.attrs["free_run"]),
        scores=evaluate(recorded, predicted),
    )
    return FitResult(recorded=recorded, predicted=predicted, runs=(run,), config=config)


def _create_group(prefix: str, arrays: Mapping[str, NDArray[np.floating]]) -> dict[str, Any]:
    """Return arrays as variables of a Dataset, each with dimensions of its own."""
    return {
        f"{prefix}{name}": (tuple(f"{prefix}{name}_{i}" for i in range(values.ndim)), values)
        for name, values in arrays.items()
    }


def _get_group(saved: xr.Dataset, prefix: str) -> dict[str, NDArray[np.floating]]:
    """Return the variables whose names begin with a prefix, without it."""
    names = [str(name) for name in saved.data_vars if str(name).startswith(prefix)]
    return {name.removeprefix(prefix): saved[name].values for name in names}
