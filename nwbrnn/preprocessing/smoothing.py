"""Smooth spike counts to firing rates."""

import numpy as np
import scipy  # loads its parts on first use
import xarray as xr
from numpy.typing import NDArray

from nwbrnn.dataset import find_observed

TRUNCATE = 4.0  # the Gaussian is cut off at this many standard deviations


def smooth_counts(
    counts: NDArray[np.number], *, bin_size: float, sigma: float, valid: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Smooth spike counts with a Gaussian, over recorded bins only.

    Parameters
    ----------
    counts
        Spike counts, shape (n_trials, n_time, n_units).
    bin_size
        Width of a bin [s].
    sigma
        Standard deviation of the Gaussian [s]; 0 only divides by the bin size.
    valid
        True where a bin was recorded, shape (n_trials, n_time), or where each unit was observed, shape
        (n_trials, n_time, n_units). The kernel is renormalized at gaps and edges, so that a constant rate
        stays constant.

    Returns
    -------
    ndarray
        Rates [Hz], NaN where not recorded, same shape as the counts.
    """
    valid = valid.reshape(*valid.shape[:2], -1)
    weight = valid.astype(np.float32)
    rates = np.where(valid, counts, 0).astype(np.float32) / np.float32(bin_size)
    if TRUNCATE * sigma >= bin_size / 2:  # otherwise the kernel is a single bin
        rates, weight = (
            scipy.ndimage.gaussian_filter1d(
                values, sigma / bin_size, axis=1, mode="constant", truncate=TRUNCATE
            )
            for values in (rates, weight)
        )
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(valid, rates / weight, np.float32(np.nan))


def smooth_causally(
    counts: NDArray[np.number], *, bin_size: float, tau: float, valid: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Smooth spike counts with an exponential filter that looks back only.

    Parameters
    ----------
    counts
        Shape (n_trials, n_time, n_units).
    bin_size
        Width of a bin [s].
    tau
        Time constant [s]; 0 only divides by the bin size.
    valid
        True where a bin was recorded, shape (n_trials, n_time), or where each unit was observed, shape
        (n_trials, n_time, n_units). The kernel is renormalized at gaps and at the first bin, so that a
        constant rate stays what it is.

    Returns
    -------
    ndarray
        Rates [Hz] from each bin and those before it, NaN where not recorded, same shape as the counts.

    Examples
    --------
    >>> counts, valid = np.array([[[1], [0], [0]]]), np.ones((1, 3), dtype=bool)
    >>> rates = smooth_causally(counts, bin_size=0.1, tau=0.1, valid=valid)
    >>> rates.ravel().astype(float).round(2).tolist()
    [10.0, 2.69, 0.9]
    """
    keep = np.float32(np.exp(-bin_size / tau) if tau else 0.0)
    valid = valid.reshape(*valid.shape[:2], -1)
    weight = valid.astype(np.float32)
    rates = np.where(valid, counts, 0).astype(np.float32) / np.float32(bin_size)
    smoothed = np.empty_like(rates)
    total, seen = np.zeros_like(rates[:, 0]), np.zeros_like(weight[:, 0])
    for t in range(rates.shape[1]):
        total, seen = keep * total + rates[:, t], keep * seen + weight[:, t]
        smoothed[:, t] = total / np.maximum(seen, np.finfo(np.float32).tiny)
    return np.where(valid, smoothed, np.float32(np.nan))


def smooth_spikes(ds: xr.Dataset, *, sigma: float = 0.05) -> xr.Dataset:
    """Set ``rates`` to the smoothed ``spike_counts``, trial by trial.

    Parameters
    ----------
    ds
        A Dataset with ``spike_counts``.
    sigma
        Standard deviation of the Gaussian [s]. PyalData uses 0.05, the Neural Latents Benchmark 0.04 to 0.07.
    """
    seen = find_observed(ds, "spike_counts")
    rates = smooth_counts(ds["spike_counts"].values, bin_size=ds.attrs["bin_size"], sigma=sigma, valid=seen)
    return ds.assign(rates=(ds["spike_counts"].dims, rates, {"units": "Hz"}))
