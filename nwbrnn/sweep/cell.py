"""Run, store and read a single fit of a sweep."""

import hashlib
import json
import math
import time
import traceback
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwbrnn.config import FitConfig
from nwbrnn.dataset import hash_dataset
from nwbrnn.errors import ReadError, SchemaError, UnsupportedFileError
from nwbrnn.evaluation import (
    BASELINES,
    LEVELS,
    Rival,
    Score,
    assess,
    compute_skill,
    compute_weighted_r2,
    evaluate,
)
from nwbrnn.evaluation.comparison import stack_samples
from nwbrnn.formats import read_dataset
from nwbrnn.formats.dataset import write_netcdf
from nwbrnn.job import fit, make_room
from nwbrnn.mechanism import measure_mechanism
from nwbrnn.prediction import predict
from nwbrnn.preprocessing import average_conditions, average_tests, normalize_outputs, prepare
from nwbrnn.result import FitResult, Run
from nwbrnn.storage import format_error, load_saved
from nwbrnn.storage.atomic import replace_whole, write_json
from nwbrnn.sweep.grid import Cell
from nwbrnn.sweep.pools import read_data, show_session
from nwbrnn.sweep.sources import get_data_path
from nwbrnn.training import probe

CELLS = "cells"
HASH = "hash"
"""Attribute of a result: see :func:`hash_result`."""
VALUES = ("value", "known_average", "noise_ceiling", "reliability", "chance", "low", "high")
"""Fields that are stored of each score."""
RIVALS = ("value", "low", "high")
"""Fields that are stored of each score and baseline; see :class:`nwbrnn.evaluation.Rival`."""

Pair = tuple[xr.Dataset, xr.Dataset]
"""A recorded and a predicted Dataset."""


def run_cell(folder: Path, cell: Cell) -> None:
    """Fit, evaluate and save one cell in its own file; a failure is saved too.

    Parameters
    ----------
    folder
        Folder of the sweep. The function reads ``data/SOURCE.nc`` and writes ``cells/KEY.nc`` or
        ``cells/KEY.error.json``.
    cell
        The cell to fit; if it is already finished, nothing is done.
    """
    if find_result(folder, cell) is not None:  # a worker finished it and was then lost
        return
    path = get_path(folder, cell)
    started = time.perf_counter()
    try:
        ds = read_data(folder, cell)
        result = fit(ds, cell.config, progress=False)
        if cell.reference:
            result = show_session(result, folder, cell, cell.reference)
        saved = summarize(result, cell, seconds=time.perf_counter() - started)
        saved.attrs[HASH] = hash_result(saved, cell)
        with replace_whole(path, overwrite=True) as temporary:
            write_netcdf(saved, temporary)
    except Exception as error:  # whatever the error, the other cells continue
        write_error(folder, cell, f"{type(error).__name__}: {error}", traceback.format_exc())


def write_error(folder: Path, cell: Cell, message: str, trace: str = "") -> None:
    """Record the failure of a cell and its reason."""
    about = {"message": message, "source": cell.source, "config": cell.config.model_dump(mode="json")}
    write_json(about | {"traceback": trace}, get_error_path(folder, cell), overwrite=True)


def read_error(folder: Path, cell: Cell) -> str:
    """Return why a cell failed; empty if it did not."""
    path = get_error_path(folder, cell)
    if not path.exists():
        return ""
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["message"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        return f"{path}: expected the reason of the failure, but it cannot be read: {format_error(error)}"


def get_path(folder: Path, cell: Cell) -> Path:
    """Return the path of the result of a finished cell."""
    return folder / CELLS / f"{cell.key}.nc"


def get_error_path(folder: Path, cell: Cell) -> Path:
    """Return the path of the record of a cell's failure."""
    return folder / CELLS / f"{cell.key}.error.json"


def summarize(result: FitResult, cell: Cell, *, seconds: float) -> xr.Dataset:
    """Return the scores and the weights of a fit as a Dataset for a file.

    Parameters
    ----------
    result
        The fit.
    cell
        The cell of the fit.
    seconds
        Duration of the fit [s].

    Returns
    -------
    xarray.Dataset
        Scores by name (dimension ``score``), those of the baselines (and ``baseline``), R² of
        each unit and output, weights (their names begin with
        ``weights_``), losses in the course of training (``history_``), and in the attributes settings,
        versions and how training ended.
    """
    trained, later = divide_time(result)
    scores = [*assess(*trained, n_resamples=cell.resamples)]
    if not cell.reference:  # the others concern the whole pool, whose conditions differ from cell to cell
        measured = probe(trained[0], result.weights, result.config) | measure_mechanism(result)
        scores += [Score(name, LEVELS[0], value) for name, value in measured.items()]
    if later is not None:
        scores += _score_later(later, result.recorded)
    whole = later is None and not cell.reference
    basic = result.best.scores if whole else evaluate(*trained)
    table = {name: [getattr(s, name) for s in scores] for name in ("name", "level", *VALUES)}
    variables = {name: ("score", np.array(table[name], dtype=np.float64)) for name in VALUES}
    return xr.Dataset(
        variables
        | {f"baseline_{name}": (("score", "baseline"), _list_rivals(scores, name)) for name in RIVALS}
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
            "baseline": np.array([baseline.name for baseline in BASELINES]),
            "unit": result.recorded["unit"].values,
            "output": result.recorded["output"].values,
        },
        attrs={
            "source": cell.source,
            "sessions": json.dumps(cell.sessions),
            "reference": cell.reference,
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


def _list_rivals(scores: Sequence[Score], name: str) -> NDArray[np.float64]:
    """Return a value of each score and baseline, shape (n_scores, n_baselines); NaN if there is none."""
    found = [{rival.name: getattr(rival, name) for rival in score.rivals} for score in scores]
    rows = [[one.get(baseline.name, np.nan) for baseline in BASELINES] for one in found]
    return np.array(rows, dtype=np.float64)


def divide_time(result: FitResult) -> tuple[Pair, Pair | None]:
    """Return recorded and predicted bins up to the end of the trained time, and those after it."""
    pair = result.recorded, result.predicted
    end = result.config.train_until
    if end is None:
        return pair, None
    earlier = result.recorded["time"].values <= end
    trained, later = ((pair[0].isel(time=part), pair[1].isel(time=part)) for part in (earlier, ~earlier))
    return trained, later


def _score_later(later: Pair, whole: xr.Dataset) -> list[Score]:
    """Score the outputs of the bins after the trained time; skill is relative to all bins."""
    truth, guess = map(normalize_outputs, average_tests(*later))
    known = average_conditions(normalize_outputs(whole))
    predicted, target = (stack_samples(ds, "outputs", like=truth) for ds in (guess, truth))
    skill = compute_skill(predicted, target, stack_samples(known, "outputs"))
    values = {"R2": compute_weighted_r2(predicted, target), "skill": skill}
    return [Score(f"output {name}, later than trained", LEVELS[0], v) for name, v in values.items()]


def read_kept(folder: Path, source: str) -> xr.Dataset | None:
    """Return the Dataset of a source that a sweep keeps; ``None`` if there is none or it is damaged."""
    path = get_data_path(folder, source)
    if not path.exists():
        return None
    try:
        return read_dataset(path)
    except (ReadError, SchemaError) as error:
        warnings.warn(f"{error}; it will be read again from its source", stacklevel=2)
        return None


def read_cell(path: Path) -> tuple[xr.Dataset, FitConfig]:
    """Read the result of a finished cell and its requested settings.

    Raises
    ------
    UnsupportedFileError
        If the file is damaged or changed, or is not the result of the cell in its name.
    """
    try:
        saved = load_saved(path)
        cell = _describe_cell(saved)
        whole = saved.attrs[HASH] == hash_result(saved, cell)
    except Exception as error:  # xarray and its backends raise errors of many types
        raise UnsupportedFileError(
            f"{path}: expected the result of a cell, but it cannot be read: {format_error(error)}; "
            "fit it again"
        ) from error
    if not whole or path.name != get_path(Path(), cell).name:
        what = f"that of {cell.key}" if whole else "one that was changed since"
        raise UnsupportedFileError(f"{path}: expected the result of this cell, but got {what}; fit it again")
    return saved, cell.config


def find_result(folder: Path, cell: Cell) -> xr.Dataset | None:
    """Return the result of a cell, or ``None`` if it is not finished.

    A file that is damaged or belongs to another cell is renamed to ``KEY.nc.damaged``, with a warning that
    names it, and the cell counts as not finished.
    """
    path = get_path(folder, cell)
    try:
        return read_cell(path)[0] if path.exists() else None
    except UnsupportedFileError as error:
        aside = path.with_name(f"{path.name}.damaged")
        path.replace(aside)
        warnings.warn(f"{error}; it is kept as {aside.name}", stacklevel=2)
        return None


def hash_result(saved: xr.Dataset, cell: Cell) -> str:
    """Return a hash of a result: its cell, all its values and all its other attributes."""
    attrs = {str(name): np.asarray(value).tolist() for name, value in saved.attrs.items() if name != HASH}
    text = json.dumps([cell.key, hash_dataset(saved), attrs], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _describe_cell(saved: xr.Dataset) -> Cell:
    """Return the cell to which a result claims to belong."""
    about = saved.attrs
    config = FitConfig.model_validate_json(about["asked"])
    pooled = tuple(json.loads(about.get("sessions", "[]"))), str(about.get("reference", ""))
    return Cell(about["source"], config, int(about["resamples"]), about["data_hash"], *pooled)


def list_finished(folder: Path) -> list[Cell]:
    """Return the finished cells of a sweep, from the files in its folder.

    Parameters
    ----------
    folder
        Folder of the sweep.

    Returns
    -------
    list[nwbrnn.sweep.Cell]
        The cells in the order of their files.

    Raises
    ------
    UnsupportedFileError
        If a file is not the result of a cell, or is damaged.
    """
    return [_describe_cell(read_cell(path)[0]) for path in sorted((folder / CELLS).glob("*.nc"))]


def rebuild(folder: Path, cell: Cell) -> tuple[xr.Dataset, xr.Dataset]:
    """Return the recorded and the predicted Dataset of a finished cell, without fitting again.

    Parameters
    ----------
    folder
        Folder of the sweep.
    cell
        A finished cell.

    Returns
    -------
    xarray.Dataset
        ``recorded`` of :class:`nwbrnn.FitResult`.
    xarray.Dataset
        ``predicted``.

    Raises
    ------
    FileNotFoundError
        If it is not finished.
    """
    saved, _ = read_cell(get_path(folder, cell))
    config = FitConfig.model_validate_json(saved.attrs["config"])
    recorded, _ = make_room(prepare(read_data(folder, cell), config), cell.config)
    return recorded, predict(recorded, _get_group(saved, "weights_"), config)


def rebuild_fit(folder: Path, cell: Cell) -> FitResult:
    """Return the result of :func:`nwbrnn.fit` in a finished cell, without fitting again.

    Parameters
    ----------
    folder
        Folder of the sweep.
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


def read_scores(saved: xr.Dataset) -> tuple[Score, ...]:
    """Return the scores of a finished cell, as :func:`nwbrnn.assess` returned them."""
    names, levels = (saved[name].values.tolist() for name in ("score", "level"))
    scores = []
    for i, (name, level) in enumerate(zip(names, levels, strict=True)):
        rivals = [
            Rival(str(baseline), *(float(saved[f"baseline_{key}"].values[i, j]) for key in RIVALS))
            for j, baseline in enumerate(saved["baseline"].values if "baseline" in saved else [])
        ]
        values = {key: float(saved[key].values[i]) for key in VALUES if key in saved}
        known = tuple(rival for rival in rivals if math.isfinite(rival.value))
        scores.append(Score(name, level, **values, rivals=known))
    return tuple(scores)


def _create_group(prefix: str, arrays: Mapping[str, NDArray[np.floating]]) -> dict[str, Any]:
    """Return arrays as variables of a Dataset, each with its own dimensions."""
    return {
        f"{prefix}{name}": (tuple(f"{prefix}{name}_{i}" for i in range(values.ndim)), values)
        for name, values in arrays.items()
    }


def _get_group(saved: xr.Dataset, prefix: str) -> dict[str, NDArray[np.floating]]:
    """Return the variables whose names begin with a prefix, with the prefix removed."""
    names = [str(name) for name in saved.data_vars if str(name).startswith(prefix)]
    return {name.removeprefix(prefix): saved[name].values for name in names}
