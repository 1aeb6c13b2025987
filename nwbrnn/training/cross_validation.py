"""The weight of the dynamics loss, chosen by cross-validation."""

from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwbrnn.config import FitConfig
from nwbrnn.errors import ConfigError
from nwbrnn.training.gradient import Progress
from nwbrnn.training.parallel import Task, train_all

CANDIDATES = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0)
N_FOLDS = 3


class Choice(NamedTuple):
    """The weight that was chosen, and the output error of every candidate on each left-out part."""

    weight: float
    errors: dict[float, list[float]]


def choose_dynamics_weight(ds: xr.Dataset, config: FitConfig, *, progress: Progress | None = None) -> Choice:
    """Choose the weight of the dynamics loss with which left-out outputs are predicted best.

    What is not in the test split is divided into three parts, by whole conditions if the test split has whole
    conditions, otherwise trial by trial. With each candidate a student is trained on two parts and its output
    error taken on the third. Neurons have no say: their weight cannot be judged by its own term.

    Parameters
    ----------
    ds
        A prepared Dataset.
    config
        Settings of the fit; its ``dynamics_weight`` is not looked at.
    progress
        Called after each of the 18 students with their number and its last losses by name.

    Raises
    ------
    ConfigError
        If no neurons are sampled, or there are fewer than three trials or conditions to divide.
    KeyboardInterrupt
        If it is interrupted: a choice from some of the students would not be fair.
    """
    if not ds["sampled"].any():
        raise ConfigError("dynamics_weight: 'cv' needs sampled neurons, but there are none; raise sampled")
    folds = _divide(ds, config)
    tasks = []
    for weight in CANDIDATES:
        for left_out in folds:
            split = np.where(left_out, "validation", np.where(ds["split"] == "test", "test", "train"))
            changed = config.model_copy(update={"dynamics_weight": weight})
            tasks.append(Task(ds.assign_coords(split=("trial", split)), changed))
    ready = train_all(tasks, progress=progress)
    if len(ready) < len(tasks):
        raise KeyboardInterrupt
    found = [ready[number].losses["validation_output"] for number in range(len(tasks))]
    errors = {w: found[i * N_FOLDS : (i + 1) * N_FOLDS] for i, w in enumerate(CANDIDATES)}
    return Choice(min(errors, key=lambda weight: float(np.mean(errors[weight]))), errors)


def _divide(ds: xr.Dataset, config: FitConfig) -> list[NDArray[np.bool_]]:
    """Return which trials each part has."""
    known = ds["split"].values != "test"
    labels = ds["condition"].values
    groups = labels if config.held_out_conditions else np.arange(len(labels))
    names = list(dict.fromkeys(groups[known].tolist()))
    if len(names) < N_FOLDS:
        what = "conditions" if config.held_out_conditions else "trials"
        raise ConfigError(
            f"dynamics_weight: 'cv' needs at least {N_FOLDS} {what} to train on, but there are {len(names)}; "
            "give a number instead"
        )
    if config.held_out_conditions:
        order = np.random.default_rng([config.seed, 2]).permutation(names)
    else:  # each part with trials of every condition
        shuffled = np.random.default_rng([config.seed, 2]).permutation(names).astype(int)
        order = shuffled[np.argsort(labels[shuffled], kind="stable")]
    return [known & np.isin(groups, order[part::N_FOLDS]) for part in range(N_FOLDS)]
