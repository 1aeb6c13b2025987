"""Noise ceilings: what the true course of each condition would score."""

import math

import numpy as np
from numpy.typing import NDArray

from nwbrnn.evaluation.comparison import Comparison
from nwbrnn.evaluation.single_trials import Select, split_errors
from nwbrnn.evaluation.spikes import compute_median

Array = NDArray[np.floating]


def _sum_noise(pair: Comparison, name: str) -> tuple[Array, Array]:
    """Return noise and total sum of squares of the test averages by channel; their ratio is what R² lacks."""
    mask = pair.truth["mask"].values
    target = pair.truth[name].values[mask].astype(np.float64)
    return pair.noise[name][mask].sum(axis=0), np.square(target - target.mean(axis=0)).sum(axis=0)


def limit_r2(pair: Comparison, name: str) -> Array:
    """Return the noise ceiling of R² of each channel, 1 - Σ(s² / n) / SS."""
    noise, total = _sum_noise(pair, name)
    return np.asarray(1 - noise / np.where(total > 0, total, np.nan))


def limit_outputs(pair: Comparison) -> float:
    """Return the noise ceiling of R² of all outputs, each by its variance."""
    noise, total = (values.sum() for values in _sum_noise(pair, "outputs"))
    return float(1 - noise / total) if total > 0 else math.nan


def limit_skill(pair: Comparison) -> float:
    """Return the noise ceiling of skill, relative to the variance over all conditions."""
    noise = _sum_noise(pair, "outputs")[0].sum() / max(int(pair.truth["mask"].values.sum()), 1)
    variance = pair.reference.var(axis=0, dtype=np.float64).sum()
    return float(1 - noise / variance) if variance > 0 else math.nan


def limit_trials(pair: Comparison, name: str, select: Select | None = None) -> float:
    """Return the noise ceiling of R² in single trials: as if each had s² about its condition's course."""
    total = split_errors(pair, name, select)[1].sum(axis=0)
    labels = pair.trials["condition"].values
    mask = pair.trials["mask"].values
    n_tested = np.stack([mask[labels == c].sum(axis=0) for c in pair.truth["condition"].values])
    noise = np.nansum(pair.noise[name] * np.square(n_tested)[..., np.newaxis], axis=(0, 1))
    noise = noise.sum(keepdims=True) if select is None else noise[select(pair)]
    unknown = np.isnan(pair.noise[name]).all()
    return math.nan if unknown else compute_median(1 - noise / np.where(total > 0, total, np.nan))
