"""Choose the dynamics weight, the weight penalty and the number of epochs by cross-validation."""

from itertools import product
from statistics import mean, median
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwbrnn.config import FitConfig
from nwbrnn.errors import ConfigError
from nwbrnn.schema import SPLIT_TYPE
from nwbrnn.training.gradient import Progress
from nwbrnn.training.parallel import Task, train_all

DYNAMICS_WEIGHTS = (0.0, 0.1, 0.3, 1.0, 3.0)
WEIGHT_PENALTIES = (1e-3, 1e-2)
N_FOLDS = 3


class Choice(NamedTuple):
    """The chosen settings, and the errors of each candidate.

    Attributes
    ----------
    settings
        ``dynamics_weight`` and ``weight_penalty``, chosen if they are ``"cv"``, and ``stop_after``.
    candidates
        A record for each candidate: ``dynamics_weight``, ``weight_penalty``, ``errors`` of the outputs on
        each left-out part, and ``epochs`` after which each of its networks was best.
    """

    settings: dict[str, float | int]
    candidates: list[dict[str, Any]]


def choose_settings(ds: xr.Dataset, config: FitConfig, *, progress: Progress | None = None) -> Choice:
    """Choose the settings that predict left-out outputs best, without using the test trials.

    The trials outside the test split are divided into three parts, by whole conditions if conditions are held
    out, and otherwise trial by trial. For each candidate, a network is trained on two parts until its loss on
    the third is lowest, and its output error is taken there. If only the outputs of conditions are held out,
    the networks also see the neurons of the conditions left out. The error of the neurons is not used, since
    their weight cannot be judged by its own term. The number of epochs is the median over the networks of the
    best candidate.

    Parameters
    ----------
    ds
        A prepared Dataset.
    config
        Settings of the fit; ``dynamics_weight`` and ``weight_penalty`` are chosen if they are ``"cv"``.
    progress
        Called after each network, three for each candidate, with their number and its last losses by name.

    Raises
    ------
    ConfigError
        If there are fewer than three trials or conditions to divide.
    KeyboardInterrupt
        If the user interrupts, since a choice from only some of the networks would not be fair.
    """
    weights: tuple[float, ...] = (0.0,)  # it has no effect without sampled neurons
    if ds["sampled"].any():
        weights = DYNAMICS_WEIGHTS if config.dynamics_weight == "cv" else (config.dynamics_weight,)
    penalties = WEIGHT_PENALTIES if config.weight_penalty == "cv" else (config.weight_penalty,)
    folds = _divide(ds, config)
    candidates = [{"dynamics_weight": w, "weight_penalty": p} for w, p in product(weights, penalties)]
    tasks = []
    for candidate in candidates:
        changed = config.model_copy(update=candidate | {"stop_after": None})
        tasks += [Task(ds.assign_coords(split=("trial", split)), changed) for split in folds]
    ready = train_all(tasks, progress=progress)
    if len(ready) < len(tasks):
        raise KeyboardInterrupt
    records: list[dict[str, Any]] = []
    for i, candidate in enumerate(candidates):
        trained = [ready[number] for number in range(i * N_FOLDS, (i + 1) * N_FOLDS)]
        errors = [one.losses["validation_output"] for one in trained]
        epochs = [one.best_epoch for one in trained]
        records.append(candidate | {"errors": errors, "epochs": epochs})
    best = min(range(len(records)), key=lambda i: mean(records[i]["errors"]))
    least = 0 if config.begins_by_least_squares else 1
    return Choice(
        candidates[best] | {"stop_after": max(least, int(median(records[best]["epochs"])))}, records
    )


def _divide(ds: xr.Dataset, config: FitConfig) -> list[NDArray[np.str_]]:
    """Return the splits of the networks, each with another part for validation."""
    split, labels = ds["split"].values.astype(SPLIT_TYPE), ds["condition"].values
    whole = bool(config.held_out_conditions)
    known = np.isin(split, ("train", "validation"))
    groups = labels if whole else np.arange(len(labels))
    names = list(dict.fromkeys(groups[known].tolist()))
    if len(names) < N_FOLDS:
        what = "conditions" if whole else "trials"
        raise ConfigError(
            f"'cv' needs at least {N_FOLDS} {what} to train on, but got {len(names)}; give a number instead"
        )
    rng = np.random.default_rng([config.seed, 2])
    order = rng.permutation(names)
    if not whole:  # each part with trials of every condition
        order = order.astype(int)[np.argsort(labels[order.astype(int)], kind="stable")]
    splits = []
    for part in range(N_FOLDS):
        left_out = known & np.isin(groups, order[part::N_FOLDS])
        divided = np.where(left_out, "validation", np.where(known, "train", split))
        if whole and config.held_out == "outputs":
            trials = rng.permutation(np.flatnonzero(left_out))
            trials = trials[np.argsort(labels[trials], kind="stable")]
            divided[trials[1::2]] = "dynamics_only"  # every other trial of each condition
        splits.append(divided)
    return splits
