"""Which trials are trained on, which decide when to stop, and which are only scored."""

import math
from collections.abc import Sequence

import numpy as np
import xarray as xr

from nwbrnn.errors import ConfigError
from nwbrnn.schema import TRIAL


def split_trials(ds: xr.Dataset, *, test: float = 0.25, validation: float = 0.1, seed: int = 0) -> xr.Dataset:
    """Hold out trials of every condition, at random.

    Parameters
    ----------
    ds
        Any valid Dataset.
    test, validation
        Fractions of each condition's trials, rounded, validation upwards. At least one trial of each
        condition is trained on, two if any validates.
    seed
        The same seed gives the same split.

    Returns
    -------
    xarray.Dataset
        With the coordinate ``split`` (trial): ``train``, ``validation`` or ``test``.

    Raises
    ------
    ConfigError
        If a test fraction was asked for and no condition has trials enough to give one.
    """
    rng = np.random.default_rng(seed)
    labels = ds["condition"].values
    split = np.full(len(labels), "train", dtype="<U10")
    for condition in dict.fromkeys(labels.tolist()):
        trials = rng.permutation(np.flatnonzero(labels == condition))
        n_test = min(round(test * len(trials)), len(trials) - 1)
        n_validation = min(math.ceil(validation * len(trials)), len(trials) - 2 - n_test)
        n_validation = max(n_validation, 0)
        split[trials[:n_test]] = "test"
        split[trials[n_test : n_test + n_validation]] = "validation"
    if test > 0 and not (split == "test").any():
        raise ConfigError(
            f"test: {test:g} of the trials of each condition is less than one trial everywhere "
            f"({len(labels)} trials, {len(set(labels.tolist()))} conditions); use more trials of each "
            "condition, a coarser one (--condition), or hold out conditions instead (--held-out)"
        )
    return ds.assign_coords(split=(TRIAL, split))


def split_conditions(
    ds: xr.Dataset, *, held_out: Sequence[str], validation: float = 0.1, seed: int = 0
) -> xr.Dataset:
    """Hold out all trials of some conditions.

    Parameters
    ----------
    ds
        Any valid Dataset.
    held_out
        Labels of the conditions of the test split.
    validation
        Fraction of the trials of each other condition, rounded up.
    seed
        The same seed gives the same split.

    Raises
    ------
    ConfigError
        If a condition does not exist, or none is left to train on.
    """
    labels = ds["condition"].values
    known = list(dict.fromkeys(labels.tolist()))
    unknown = sorted(set(held_out) - set(known))
    if unknown or set(held_out) == set(known):
        raise ConfigError(
            f"held_out_conditions: expected some, but not all, of {', '.join(sorted(known))}, "
            f"but got {', '.join(held_out)}"
        )
    ds = split_trials(ds, test=0.0, validation=validation, seed=seed)
    split = ds["split"].values.astype("<U10")
    split[np.isin(labels, list(held_out))] = "test"
    return ds.assign_coords(split=(TRIAL, split))


def find_conditions(ds: xr.Dataset) -> list[str]:
    """Return the conditions of the training trials in the order of their first appearance."""
    labels = ds["condition"].values[ds["split"].values == "train"]
    return list(dict.fromkeys(labels.tolist()))
