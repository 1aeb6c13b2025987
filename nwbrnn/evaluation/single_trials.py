"""Scores of single trials, each a ratio of two sums over trials, so that the sums can be resampled."""

from collections.abc import Callable

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwbrnn.evaluation.accuracy import compute_median, drop_rounding
from nwbrnn.evaluation.comparison import Comparison, stack_samples
from nwbrnn.evaluation.spikes import compare_likelihoods, expect_spikes
from nwbrnn.preprocessing import average_rows

Array = NDArray[np.floating]
Select = Callable[[Comparison], NDArray[np.bool_]]


def pool_parts(numerator: Array, denominator: Array) -> float:
    """Return the median over channels of the ratio of sums, ignoring channels that do not vary.

    Parameters
    ----------
    numerator, denominator
        Values of each trial, shape (n_trials, n_channels).
    """
    above, below = numerator.sum(axis=0), denominator.sum(axis=0)
    return compute_median(above / np.where(below > 0, below, np.nan))


def split_spikes(pair: Comparison) -> tuple[Array, Array]:
    """Return the gain in likelihood of each trial over the mean counts of known trials, and its spikes."""
    return _gain_bits(pair, pair.known)


def split_cosmoothing(pair: Comparison) -> tuple[Array, Array]:
    """Return the gain in likelihood of each trial over the mean counts of test trials, and its spikes.

    This is co-smoothing as in the Neural Latents Benchmark: the network sees spikes of other neurons. There
    is nothing if it observes none. See :func:`nwbrnn.evaluation.spikes.compute_bits_per_spike`.
    """
    if "observed" not in pair.trials.coords:
        nothing = np.zeros((pair.trials.sizes["trial"], 1))
        return nothing, nothing
    return _gain_bits(pair, pair.trials)


def _gain_bits(pair: Comparison, others: xr.Dataset) -> tuple[Array, Array]:
    """Return the gain in likelihood of unsampled neurons over their mean in some trials, and their spikes."""
    unsampled = ~pair.sampled
    if "spike_counts" not in pair.trials or not unsampled.any() or not others.sizes["trial"]:
        nothing = np.zeros((pair.trials.sizes["trial"], 1))
        return nothing, nothing
    bin_size = pair.trials.attrs["bin_size"]
    floor = average_rows(stack_samples(others, "spike_counts")[:, unsampled])
    counts = pair.trials["spike_counts"].values[..., unsampled]
    mask = pair.predicted["mask"].values[..., np.newaxis] & ~np.isnan(counts) & ~np.isnan(floor)
    rates, counts = (
        np.where(mask, values, 0) for values in (pair.predicted["rates"].values[..., unsampled], counts)
    )
    expected = expect_spikes(rates, floor / bin_size, bin_size=bin_size)
    gain = np.where(mask, compare_likelihoods(expected, counts, floor), 0).sum(axis=(1, 2))
    return gain[:, np.newaxis], np.log(2) * counts.sum(axis=(1, 2), dtype=float)[:, np.newaxis]


def split_errors(pair: Comparison, name: str, select: Select | None = None) -> tuple[Array, Array]:
    """Return what each trial adds to the explained and to the total sum of squares of each channel."""
    chosen = slice(None) if select is None else select(pair)
    target = pair.trials[name].values[..., chosen].astype(np.float64)
    predicted = pair.predicted[name].values[..., chosen]
    mask = pair.predicted["mask"].values[..., np.newaxis] & ~np.isnan(target) & ~np.isnan(predicted)
    n = np.maximum(mask.sum(axis=(0, 1)), 1)
    mean = np.where(mask, target, 0).sum(axis=(0, 1)) / n
    total, residual = (
        np.where(mask, np.square(target - other), 0).sum(axis=1) for other in (mean, predicted)
    )
    whole = total.sum(axis=0)
    varies = drop_rounding(whole, mean, n, dtype=pair.trials[name].dtype) > 0
    total = total if varies.all() else np.where(varies, total, 0)
    if select is None:  # weight each channel by its variance
        total, residual = (values.sum(axis=1, keepdims=True) for values in (total, residual))
    return total - residual, total
