"""Split trials into those for training, for early stopping, and for testing."""

import math
from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwbrnn.errors import ConfigError
from nwbrnn.preprocessing.sessions import list_trials
from nwbrnn.schema import SPLIT_TYPE, TRIAL
from nwbrnn.text import find_label, show_count, sort_labels


def split_trials(ds: xr.Dataset, *, test: float = 0.25, validation: float = 0.1, seed: int = 0) -> xr.Dataset:
    """Hold out trials of every condition, at random; in each session if several are pooled.

    Parameters
    ----------
    ds
        Any valid Dataset.
    test, validation
        Fractions of each condition's trials; test is rounded, and validation is rounded up. At least one
        trial of each condition is trained on, or two if any is used for validation.
    seed
        Seed of the split; the same seed gives the same split, for a session alone and in a pool.

    Returns
    -------
    xarray.Dataset
        A Dataset with the coordinate ``split`` (trial): ``train``, ``validation`` or ``test``.

    Raises
    ------
    ConfigError
        If a test fraction was requested and no condition has enough trials to hold one out.
    """
    labels = ds["condition"].values
    split = np.full(len(labels), "train", dtype=SPLIT_TYPE)
    for rows in list_trials(ds):
        rng = np.random.default_rng(seed)
        for condition in dict.fromkeys(labels[rows].tolist()):
            trials = rng.permutation(rows[labels[rows] == condition])
            n_test = min(round(test * len(trials)), len(trials) - 1)
            n_validation = min(math.ceil(validation * len(trials)), len(trials) - 2 - n_test)
            n_validation = max(n_validation, 0)
            split[trials[:n_test]] = "test"
            split[trials[n_test : n_test + n_validation]] = "validation"
    if test > 0 and not (split == "test").any():
        sizes = [show_count(len(labels), "trial"), show_count(len(set(labels.tolist())), "condition")]
        raise ConfigError(
            f"test: {test:g} of the trials of each condition is less than one trial everywhere "
            f"({', '.join(sizes)}); use more trials of each "
            "condition, a coarser one (--condition), or hold out conditions instead (--held-out-condition)"
        )
    return ds.assign_coords(split=(TRIAL, split))


def split_conditions(
    ds: xr.Dataset,
    *,
    held_out: Sequence[str],
    validation: float = 0.1,
    test: float | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """Hold out some conditions: either all their trials or only their outputs.

    Parameters
    ----------
    ds
        Any valid Dataset.
    held_out
        Labels of the conditions of the test split.
    validation
        Fraction of the trials of each other condition, rounded up.
    test
        If given, only the outputs of these conditions are held out: this fraction of their trials is tested,
        and the neurons of their other trials are trained on.
    seed
        Seed of the split; the same seed gives the same split.

    Raises
    ------
    ConfigError
        If a condition does not exist, if none is left to train on, or if one has too few trials to test.
    """
    labels = ds["condition"].values
    known = list(dict.fromkeys(labels.tolist()))
    found = {find_label(known, label) for label in held_out}
    if None in found or found == set(known):
        raise ConfigError(
            f"held_out_conditions: expected some, but not all, of {', '.join(sort_labels(known))}, "
            f"but got {', '.join(held_out)}; name those to test (--held-out-condition)"
        )
    left_out = np.isin(labels, [str(label) for label in found])
    split = split_trials(ds, test=0.0, validation=validation, seed=seed)["split"].values
    if test is None:
        split[left_out] = "test"
    else:
        seen = split_trials(ds.isel(trial=left_out), test=test, validation=0.0, seed=seed)["split"].values
        split[left_out] = np.where(seen == "test", "test", "dynamics_only")
    return ds.assign_coords(split=(TRIAL, split))


def limit_training(ds: xr.Dataset, *, n_trials: int, seed: int = 0) -> xr.Dataset:
    """Leave out training trials, at random, until each condition has at most ``n_trials`` in each session.

    Parameters
    ----------
    ds
        A Dataset with ``split``.
    n_trials
        Maximum number of training trials of each condition.
    seed
        Seed of the choice. A larger number with the same seed keeps the same trials and further ones.
    """
    labels, trained = ds["condition"].values, find_trained(ds)
    keep = ~trained
    for rows in list_trials(ds):
        rng = np.random.default_rng([seed, 3])
        known = rows[trained[rows]]
        for condition in dict.fromkeys(labels[known].tolist()):
            keep[rng.permutation(known[labels[known] == condition])[:n_trials]] = True
    return ds.isel(trial=keep)


def find_trained(ds: xr.Dataset) -> NDArray[np.bool_]:
    """Return which trials are trained on, even if only on their neurons, shape (n_trials,)."""
    return np.isin(ds["split"].values, ("train", "dynamics_only"))


def find_conditions(ds: xr.Dataset) -> list[str]:
    """Return the conditions of the trials that are trained on, in order of first appearance."""
    return list(dict.fromkeys(ds["condition"].values[find_trained(ds)].tolist()))
