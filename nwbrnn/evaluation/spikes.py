"""Scores of the Neural Latents Benchmark.

Pei et al. 2021, NeurIPS Datasets and Benchmarks, arXiv:2109.04463.
"""

import numpy as np
import scipy  # loads its parts on first use
from numpy.typing import NDArray

from nwbrnn.evaluation.accuracy import compute_mean, compute_r2

Array = NDArray[np.floating]

FLOOR = 0.05  # of a neuron's mean, the minimum of a linear prediction; our choice, the benchmark uses 1e-9


def compute_bits_per_spike(
    expected: Array, counts: NDArray[np.number], *, floor: NDArray[np.floating] | None = None
) -> float:
    """Gain in log-likelihood over constant rates: (LL(expected) - LL(floor)) / (n_spikes ln 2).

    LL is the Poisson log-likelihood over all neurons. In the benchmark, a model sees spikes of other neurons
    in the same trial, and the score is called co-smoothing. Here, a network sees them only if it observes
    neurons.

    Parameters
    ----------
    expected
        Expected spikes per bin, not negative, shape (n_samples, n_neurons).
    counts
        Recorded spikes per bin, same shape.
    floor
        Spikes expected per bin without a model, shape (n_neurons,): means of training trials; if not given,
        means of ``counts``, as in the benchmark.

    Returns
    -------
    float
        0 for the floor, NaN without spikes, and minus infinity if a spike occurred where 0 were expected.

    Raises
    ------
    ValueError
        If shapes differ or an expected count is negative.

    Examples
    --------
    Half of the bins have exactly two spikes, and the floor expects one in every bin:

    >>> counts = np.array([[2], [0], [2], [0]])
    >>> compute_bits_per_spike(counts.astype(float), counts)
    1.0
    """
    if expected.shape != counts.shape or (expected < 0).any():
        raise ValueError(
            f"expected counts of 0 or more of shape {counts.shape}, but got shape {expected.shape}, "
            f"smallest {expected.min() if expected.size else 'none'}"
        )
    n_spikes = counts.sum()
    if not n_spikes:
        return float("nan")
    mean = counts.mean(axis=0) if floor is None else floor
    return float(compare_likelihoods(expected, counts, mean).sum() / n_spikes / np.log(2))


def compare_likelihoods(expected: Array, counts: NDArray[np.number], floor: Array) -> Array:
    """Return the gain in Poisson log-likelihood of each count over constant rates.

    Parameters
    ----------
    expected, counts
        Shape (..., n_neurons) [spikes per bin].
    floor
        Shape (n_neurons,) [spikes per bin].
    """
    spikes = counts.astype(np.float64)
    first, second = (scipy.special.xlogy(spikes, mean) - mean for mean in (expected, floor))
    return np.asarray(first - second)


def expect_spikes(rates: Array, mean: Array, *, bin_size: float) -> Array:
    """Return the spikes per bin that predicted rates imply, at least 5 % of each neuron's mean.

    Parameters
    ----------
    rates
        Shape (n_samples, n_neurons) [Hz].
    mean
        Of each neuron, shape (n_neurons,) [Hz].
    bin_size
        Width of a time bin [s].
    """
    return np.asarray(np.maximum(rates, FLOOR * mean) * bin_size)


def compute_psth_r2(predicted: Array, target: Array) -> float:
    """Mean over neurons of the R² of condition-averaged rates, over all conditions and bins.

    Parameters
    ----------
    predicted, target
        Condition averages, shape (n_samples, n_neurons) [Hz].

    Returns
    -------
    float
        Mean over the neurons that vary; NaN if none does.
    """
    return compute_mean(compute_r2(predicted, target))
