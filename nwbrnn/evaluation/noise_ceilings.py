"""Noise ceilings: the scores that the true time course of each condition would have."""

import math

import numpy as np
from numpy.typing import NDArray

from nwbrnn.evaluation.accuracy import compute_median, compute_variance, drop_rounding, pool_means
from nwbrnn.evaluation.comparison import Comparison, count_observed, estimate_noise
from nwbrnn.evaluation.single_trials import Select, split_errors
from nwbrnn.preprocessing import average_rows

Array = NDArray[np.floating]


def _sum_noise(pair: Comparison, name: str) -> tuple[Array, Array]:
    """Return noise and total sum of squares of the test averages by channel; their ratio limits R²."""
    mask = pair.truth["mask"].values
    target = pair.truth[name].values[mask].astype(np.float64)
    noise = np.where(np.isnan(target), 0, pair.noise[name][mask])
    mean, n = average_rows(target), (~np.isnan(target)).sum(axis=0)
    total = np.nansum(np.square(target - mean), axis=0)
    return noise.sum(axis=0), drop_rounding(total, mean, n, dtype=pair.truth[name].dtype)


def limit_neurons(pair: Comparison) -> Array:
    """Return the noise ceiling of R² of each neuron, 1 - Σ(s² / n) / SS."""
    noise, total = _sum_noise(pair, "rates")
    return np.asarray(1 - noise / np.where(total > 0, total, np.nan))


def limit_outputs(pair: Comparison) -> float:
    """Return the noise ceiling of R² of all outputs, each weighted by its variance."""
    noise, total = (values.sum() for values in _sum_noise(pair, "outputs"))
    return float(1 - noise / total) if total > 0 else math.nan


def limit_skill(pair: Comparison) -> float:
    """Return the noise ceiling of skill, relative to the variance over all conditions."""
    n = (~np.isnan(pair.outputs[1])).sum(axis=0)
    noise = pool_means(_sum_noise(pair, "outputs")[0], n)
    reference = pair.reference if n.all() else pair.reference[:, n > 0]
    variance = compute_variance(reference)
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
    sums = np.nansum(noise * np.square(count_observed(pair.trials, name)), axis=(0, 1))
    sums = sums.sum(keepdims=True) if select is None else sums[select(pair)]
    if np.isnan(noise).all():
        return math.nan
    return compute_median(1 - sums / np.where(total > 0, total, np.nan))
