"""Smooth spike counts to firing rates."""

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

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
        True where a bin was recorded, shape (n_trials, n_time). The kernel is renormalized at gaps and
        edges, so that a constant rate stays constant.

    Returns
    -------
    ndarray
        Rates [Hz], NaN where not recorded, same shape as the counts.
    """
    weight = valid.astype(np.float32)[..., np.newaxis]
    rates = np.where(valid[..., np.newaxis], counts, 0).astype(np.float32) / np.float32(bin_size)
    if TRUNCATE * sigma >= bin_size / 2:  # otherwise the kernel is a single bin
        rates, weight = (
            gaussian_filter1d(values, sigma / bin_size, axis=1, mode="constant", truncate=TRUNCATE)
            for values in (rates, weight)
        )
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(valid[..., np.newaxis], rates / weight, np.float32(np.nan))


def smooth_spikes(ds: xr.Dataset, *, sigma: float = 0.05) -> xr.Dataset:
    """Set ``rates`` to the smoothed ``spike_counts``, trial by trial.

    Parameters
    ----------
    ds
        A Dataset with ``spike_counts``.
    sigma
        Standard deviation of the Gaussian [s]. PyalData uses 0.05, the Neural Latents Benchmark 0.04 to 0.07.
    """
    rates = smooth_counts(
        ds["spike_counts"].values, bin_size=ds.attrs["bin_size"], sigma=sigma, valid=ds["mask"].values
    )
    return ds.assign(rates=(ds["spike_counts"].dims, rates, {"units": "Hz"}))
