"""Measure how much of the outputs and rates a prediction explains."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwbrnn.preprocessing import ROUNDING, average_rows

Array = NDArray[np.floating]

BLOCK = 1 << 22
"""Number of values that are compared at a time, which limits the memory for copies in float64."""


def compute_r2(predicted: Array, target: Array) -> Array:
    """Coefficient of determination of each column.

    Parameters
    ----------
    predicted, target
        Shape (n_samples, n_channels); every sample counts, except where one of them is NaN.

    Returns
    -------
    ndarray
        1 - Σ(y - ŷ)² / Σ(y - ȳ)², shape (n_channels,); NaN where the target does not vary beyond rounding.

    Examples
    --------
    The mean of a thousand times 0.1 is not exactly 0.1:

    >>> compute_r2(np.zeros((1000, 1)), np.full((1000, 1), 0.1)).tolist()
    [nan]
    """
    residual, total = _compute_sums(predicted, target)
    return np.asarray(1 - residual / np.where(total > 0, total, np.nan))


def compute_weighted_r2(predicted: Array, target: Array) -> float:
    """Variance-weighted R² over all columns: 1 - ΣΣ(y - ŷ)² / ΣΣ(y - ȳ)².

    Parameters
    ----------
    predicted, target
        Shape (n_samples, n_channels); every sample counts, except where one of them is NaN.

    Returns
    -------
    float
        NaN if the target does not vary.
    """
    residual, total = _compute_sums(predicted, target)
    return float(1 - residual.sum() / total.sum()) if total.sum() > 0 else float("nan")


def compute_skill(predicted: Array, target: Array, reference: Array) -> float:
    """Skill, 1 minus the error relative to the variance of a reference: 1 - mean (y - ŷ)² / mean (z - z̄)².

    The denominator does not depend on which part of the data is the target. If conditions are left out in
    turn and the averages of all conditions are the reference, the mean skill is the pooled R² of all of them
    (1 - PRESS / SS of Allen 1974, Technometrics, doi:10.2307/1267500). R² within one condition, by contrast,
    has no lower bound if the target hardly varies.

    Parameters
    ----------
    predicted, target
        Shape (n_samples, n_channels); every sample counts, except where one of them is NaN. Each channel has
        the mean error of its own samples.
    reference
        Shape (n_reference_samples, n_channels); NaN does not count.

    Returns
    -------
    float
        NaN if the reference does not vary or there is no sample.
    """
    residual, _ = _compute_sums(predicted, target)
    n = (~(np.isnan(predicted) | np.isnan(target))).sum(axis=0)
    reference = reference if n.all() else reference[:, n > 0]
    total = compute_variance(reference)
    return 1 - pool_means(residual, n) / total if total > 0 else float("nan")


def compute_variance(values: Array) -> float:
    """Return the sum over channels of their variances; 0 if they do not vary but by rounding.

    Parameters
    ----------
    values
        Shape (n_samples, n_channels); NaN does not count.

    Examples
    --------
    >>> compute_variance(np.array([[1.0, 0.1], [3.0, 0.1]]))
    1.0
    """
    return pool_means(_compute_sums(values, values)[1], (~np.isnan(values)).sum(axis=0))


def compute_vaf(predicted: Array, target: Array) -> float:
    """Variance accounted for, over all columns: 1 - ΣVar(y - ŷ) / ΣVar(y).

    Unlike R², it ignores a constant offset of a column.

    Parameters
    ----------
    predicted, target
        Shape (n_samples, n_channels); every sample counts, except where one of them is NaN.

    Returns
    -------
    float
        NaN if the target does not vary.

    References
    ----------
    .. [1] Kearney & Hunter 1990, Critical Reviews in Biomedical Engineering 18:55.
    """
    difference = target - predicted
    _, residual = _compute_sums(target, difference)
    _, total = _compute_sums(difference, target)
    return float(1 - residual.sum() / total.sum()) if total.sum() > 0 else float("nan")


def _compute_sums(predicted: Array, target: Array) -> tuple[Array, Array]:
    """Return residual and total sums of squares by column, over the rows in which neither is NaN."""
    if predicted.shape != target.shape or target.ndim != 2:
        raise ValueError(
            f"expected two arrays of shape (n_samples, n_channels), "
            f"but got {predicted.shape} and {target.shape}"
        )
    if not len(target):
        empty = np.zeros(target.shape[1])
        return empty, empty
    step = max(BLOCK // len(target), 2)
    if target.shape[1] > step:
        blocks = [slice(start, start + step) for start in range(0, target.shape[1], step)]
        residuals, totals = zip(*(_compute_sums(predicted[:, b], target[:, b]) for b in blocks), strict=True)
        return np.concatenate(residuals), np.concatenate(totals)
    stored, target = target.dtype, target.astype(np.float64)
    missing = np.isnan(target) | np.isnan(predicted)
    if missing.any():
        target = np.where(missing, np.nan, target)
        mean = average_rows(target)
        residual, total = (np.nansum(np.square(target - other), axis=0) for other in (predicted, mean))
        return residual, drop_rounding(total, mean, (~missing).sum(axis=0), dtype=stored)
    mean = target.mean(axis=0)
    residual, total = (np.square(target - other).sum(axis=0) for other in (predicted, mean))
    return residual, drop_rounding(total, mean, len(target), dtype=stored)


def drop_rounding(total: Array, mean: Array, n: int | NDArray[np.integer], *, dtype: np.dtype[Any]) -> Array:
    """Return sums of squares about the mean, with 0 for those that are nothing but rounding errors.

    Parameters
    ----------
    total, mean
        Sum of squares and mean of each channel, shape (n_channels,).
    n
        Number of samples.
    dtype
        The type in which the samples were stored; integers are exact.
    """
    exact = np.finfo(np.float64).eps
    stored = np.finfo(dtype).eps if dtype.kind == "f" else exact
    error = (ROUNDING * stored + n * exact) * mean  # of the values, and of their mean, a sum of n
    return np.where(total > n * np.square(error), total, 0.0)


def pool_means(sums: Array, counts: NDArray[np.integer]) -> float:
    """Return the sum over channels of the means that sums and numbers of samples give; NaN without samples.

    Examples
    --------
    >>> pool_means(np.array([6.0, 4.0, 0.0]), np.array([3, 4, 0]))
    3.0
    """
    if not counts.any():
        return float("nan")
    sums, counts = sums[counts > 0], counts[counts > 0]
    most = counts.max()
    return float((sums * (most / counts)).sum() / most)  # exactly sums.sum() / n where all counts are n


def compute_median(values: Array) -> float:
    """Return the median of the finite values, NaN if there are none."""
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else float("nan")


def compute_mean(values: Array) -> float:
    """Return the mean of the finite values, NaN if there are none."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")
