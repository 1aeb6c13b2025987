"""The contract of a stored fit: checks to make before trusting a file from another person."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, get_args

import numpy as np
import xarray as xr
from pydantic import BaseModel, Field, Json, StrictInt

from nwbrnn.config import Ended, FitConfig, ReadConfig
from nwbrnn.config.check import parse_settings
from nwbrnn.dataset import Choice
from nwbrnn.errors import ShapeError, UnsupportedFileError
from nwbrnn.evaluation import LEVELS
from nwbrnn.formats.fit.layout import LAYOUT_VERSION
from nwbrnn.preprocessing import find_conditions, is_pooled, list_sessions
from nwbrnn.result import FitResult, Run
from nwbrnn.schema import LARGEST, SESSION, SESSION_OF_UNIT
from nwbrnn.weights import check_weights, list_shapes

_SCORES = ("output R2", "sampled neurons R2", "unsampled neurons R2")
_TEXTS = ("condition", "split", "output", "input")
_SCALES = ("output_scale", "rate_scale")


class _Variable(BaseModel):
    dtype: str
    attrs: dict[str, Any]


class _Coordinate(_Variable):
    dims: list[str]
    column: str | None = None


class _Dataset(BaseModel):
    attrs: dict[str, Any]
    variables: dict[str, _Variable]
    coords: dict[str, _Coordinate]


class _About(BaseModel):
    """The settings and provenance of a fit, stored as JSON in ``scratch``."""

    layout_version: StrictInt
    config: dict[str, Any]
    versions: dict[str, str]
    dataset: _Dataset
    predicted: dict[str, _Variable]


class _Session(BaseModel):
    name: str
    start: float = Field(allow_inf_nan=False)
    source_file: str = ""
    source_identifier: str = ""
    source_sha256: str = ""
    source_objects: dict[str, str] = {}
    read_config: ReadConfig | None = None


class _Attributes(BaseModel):
    """Attributes of a Dataset that nwbrnn uses."""

    source_file: str = ""
    source_sha256: str | None = None
    neural_lag: float = 0.0
    choices: Json[list[Choice]] = []
    read_config: Json[ReadConfig] = ReadConfig()
    source_objects: Json[dict[str, str]] = {}
    sessions: Json[list[_Session]] = []
    cross_validation: Json[list[dict[str, Any]]] = []
    start_weights: str = ""


def parse_about(text: Any, *, source: str) -> dict[str, Any]:
    """Parse the settings and provenance of a fit from JSON; ``source`` names its file and object."""
    about = json.loads(text)
    version = about.get("layout_version") if isinstance(about, dict) else None
    if isinstance(version, int) and version != LAYOUT_VERSION:
        raise UnsupportedFileError(
            f"{source}: expected a fit of layout {LAYOUT_VERSION}, but got {version}; "
            "use the version of nwbrnn that wrote it, or fit again"
        )
    parse_settings(_About, about, source=source)
    return dict(about)


def check_attributes(attrs: Mapping[str, Any], *, source: str) -> None:
    """Refuse attributes of a Dataset that nwbrnn cannot use."""
    used = {name: value for name, value in attrs.items() if name in _Attributes.model_fields and value != ""}
    parse_settings(_Attributes, used, source=source)


def list_faults(result: FitResult) -> Iterator[str]:
    """Yield the faults of a stored fit whose Datasets are valid."""
    recorded, predicted, config = result.recorded, result.predicted, result.config
    more = ["observed"] if config.observes else []
    named = {"recorded": (recorded, ["rates", "split", "sampled", "rate_offset", *_SCALES, *more])}
    named["predicted"] = predicted, ["outputs", "rates", "hidden"]
    missing = [
        f"{k} {name}" for k, (ds, names) in named.items() for name in names if name not in ds.variables
    ]
    if missing:
        names = ", ".join(sorted(map(str, missing)))
        yield f"expected a prepared Dataset and its prediction, but {names} is missing"
        return
    yield from _find_faults_of_data(recorded, config)
    for name in ("dynamics_weight", "weight_penalty"):
        if getattr(config, name) == "cv":
            yield f"config.{name}: expected a number, but got 'cv'"
    if predicted.sizes["hidden_unit"] != config.hidden:
        yield f"config.hidden: expected {predicted.sizes['hidden_unit']}, but got {config.hidden}"
    seeds = [run.seed for run in result.runs]
    if not seeds or len(set(seeds)) < len(seeds):
        yield f"runs/seed: expected at least one, each once, but got {seeds}"
    for run in result.runs:
        yield from (
            f"network with seed {run.seed}: {fault}" for fault in _find_faults_of_run(run, recorded, config)
        )


def _find_faults_of_data(recorded: xr.Dataset, config: FitConfig) -> Iterator[str]:
    for name in _TEXTS:
        if not all(isinstance(value, str) for value in recorded[name].values.tolist()):
            yield f"{name}: expected texts, but got other values"
    for name in (*_SCALES, "rate_offset"):
        values = recorded[name].values
        if not (np.abs(values) <= LARGEST).all() or (name in _SCALES and not (values > 0).all()):
            wanted = "finite numbers above 0" if name in _SCALES else "finite numbers"
            yield f"{name}: expected {wanted}, but got {values.min():g} to {values.max():g}"
    splits = set(recorded["split"].values.tolist())
    if not {"train", "test"} <= splits:
        yield f"split: expected trials of train and test, but got {', '.join(sorted(splits))} only"
    if config.observes and not recorded["observed"].values.any():
        yield "observed: expected some units, since the network observes neurons, but got none"
    if config.observes and (recorded["observed"].values & ~recorded["sampled"].values).any():
        yield "observed: expected sampled units only, but got others"
    yield from _find_faults_of_sessions(recorded)
    n_sampled = int(recorded["sampled"].values.sum())
    if n_sampled > config.hidden:
        yield f"sampled: expected at most {config.hidden}, the hidden units, but got {n_sampled}"


def _find_faults_of_sessions(recorded: xr.Dataset) -> Iterator[str]:
    """Yield that trials or units are of sessions of which the file tells nothing."""
    if not is_pooled(recorded):
        return
    named = {one["name"] for one in list_sessions(recorded)}
    used = {str(name) for kind in (SESSION, SESSION_OF_UNIT) for name in recorded[kind].values.tolist()}
    if not used <= named:
        yield f"sessions: expected {', '.join(sorted(used))}, but got {', '.join(sorted(named)) or 'none'}"


def _find_faults_of_run(run: Run, recorded: xr.Dataset, config: FitConfig) -> Iterator[str]:
    if not config.seed <= run.seed < config.seed + config.seeds:
        yield f"seed: expected one from {config.seed} to {config.seed + config.seeds - 1}"
    if run.ended not in get_args(Ended):
        yield f"ended: expected one of {', '.join(get_args(Ended))}, but got {run.ended!r:.40}"
    sizes = recorded.sizes["input"], config.hidden, recorded.sizes["output"]
    n_conditions, n_units = len(find_conditions(recorded)), recorded.sizes["unit"]
    n_observed = int(recorded["observed"].values.sum()) if config.observes else 0
    shapes = list_shapes(sizes, config, n_conditions=n_conditions, n_units=n_units, n_observed=n_observed)
    try:
        check_weights(run.weights, shapes)
    except ShapeError as error:
        yield str(error)
    for name in sorted(set(run.weights) - set(shapes)):
        yield f"{name}: expected no such weights with these settings"
    yield from _find_faults_of_history(run, config)
    known = {score.name for score in run.scores.summary if score.level == LEVELS[0]}
    absent = [name for name in _SCORES if name not in known]
    if absent:
        yield f"scores: expected {', '.join(absent)}, but there is none"
    for name, values, size in (
        ("outputs/r2", run.scores.output_r2, sizes[2]),
        ("outputs/r2_known_average", run.scores.output_known_average, sizes[2]),
        ("recorded_units/r2", run.scores.unit_r2, n_units),
        ("recorded_units/r2_known_average", run.scores.unit_known_average, n_units),
    ):
        if values.dtype.kind != "f" or values.shape != (size,):
            yield f"{name}: expected {size} numbers, but got {values.dtype} of shape {values.shape}"


def _find_faults_of_history(run: Run, config: FitConfig) -> Iterator[str]:
    if "train_output" not in run.history:
        yield f"history: expected train_output, but got {', '.join(run.history) or 'nothing'}"
        return
    if not all(isinstance(value, float) for values in run.history.values() for value in values):
        yield "history: expected numbers, but got others"
    n_epochs = config.epochs if config.stop_after is None else min(config.stop_after, config.epochs)
    n_losses = len(run.history["train_output"])
    if run.ended == "finished" and config.method != "least_squares" and n_losses < n_epochs:
        yield f"config.epochs: expected at most {n_losses}, the losses that are stored, but got {n_epochs}"
