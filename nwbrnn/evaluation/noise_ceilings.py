"""Noise ceilings: the scores that the true time course of each condition would have."""

import math

import numpy as np
from numpy.typing import NDArray

from nwbrnn.evaluation.accuracy import compute_median
from nwbrnn.evaluation.comparison import Comparison, estimate_noise, find_groups
from nwbrnn.evaluation.single_trials import Select, split_errors

Array = NDArray[np.floating]


def _sum_noise(pair: Comparison, name: str) -> tuple[Array, Array]:
    """Return noise and total sum of squares of the test averages by channel; their ratio limits R²."""
    mask = pair.truth["mask"].values
    target = pair.truth[name].values[mask].astype(np.float64)
    return pair.noise[name][mask].sum(axis=0), np.square(target - target.mean(axis=0)).sum(axis=0)


def limit_r2(pair: Comparison, name: str) -> Array:
    """Return the noise ceiling of R² of each channel, 1 - Σ(s² / n) / SS."""
    noise, total = _sum_noise(pair, name)
    return np.asarray(1 - noise / np.where(total > 0, total, np.nan))


def limit_outputs(pair: Comparison) -> float:
    """Return the noise ceiling of R² of all outputs, each weighted by its variance."""
    noise, total = (values.sum() for values in _sum_noise(pair, "outputs"))
    return float(1 - noise / total) if total > 0 else math.nan


def limit_skill(pair: Comparison) -> float:
    """Return the noise ceiling of skill, relative to the variance over all conditions."""
    noise = _sum_noise(pair, "outputs")[0].sum() / max(int(pair.truth["mask"].values.sum()), 1)
    variance = pair.reference.var(axis=0, dtype=np.float64).sum()
    return float(1 - noise / variance) if variance > 0 else math.nan


def limit_trials(pair: Comparison, name: str, select: Select | None = None) -> float:
    """Return the noise ceiling of R² in single trials: the score of the true course of each condition.

    s² is the variance over the test trials, which their total sum of squares also contains, so that an
    artefact in another trial does not matter. If no condition has two test trials, it is the variance over
    all trials.
    """
    total = split_errors(pair, name, select)[1].sum(axis=0)
    noise = estimate_noise(pair.trials, pair.trials, name)
    noise = pair.noise[name] if np.isnan(noise).all() else noise
    mask = pair.trials["mask"].values
    n_tested = np.stack([mask[rows].sum(axis=0) for rows in find_groups(pair.trials)])
    sums = np.nansum(noise * np.square(n_tested)[..., np.newaxis], axis=(0, 1))
    sums = sums.sum(keepdims=True) if select is None else sums[select(pair)]
    if np.isnan(noise).all():
        return math.nan
    return compute_median(1 - sums / np.where(total > 0, total, np.nan))
