"""Coefficients of determination."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def compute_r2(predicted: Array, target: Array) -> Array:
    """Coefficient of determination of each column.

    Parameters
    ----------
    predicted, target
        Shape (n_samples, n_channels); every sample counts.

    Returns
    -------
    ndarray
        1 - Σ(y - ŷ)² / Σ(y - ȳ)², shape (n_channels,); NaN where the target does not vary.
    """
    residual, total = _compute_sums(predicted, target)
    return np.asarray(1 - residual / np.where(total > 0, total, np.nan))


def compute_weighted_r2(predicted: Array, target: Array) -> float:
    """Variance-weighted R² over all columns: 1 - ΣΣ(y - ŷ)² / ΣΣ(y - ȳ)².

    Parameters
    ----------
    predicted, target
        Shape (n_samples, n_channels); every sample counts.

    Returns
    -------
    float
        NaN if the target does not vary.
    """
    residual, total = _compute_sums(predicted, target)
    return float(1 - residual.sum() / total.sum()) if total.sum() > 0 else float("nan")


def _compute_sums(predicted: Array, target: Array) -> tuple[Array, Array]:
    """Return residual and total sums of squares by column."""
    if predicted.shape != target.shape or target.ndim != 2:
        raise ValueError(
            f"expected two arrays of shape (n_samples, n_channels), "
            f"but got {predicted.shape} and {target.shape}"
        )
    if not len(target):
        empty = np.zeros(target.shape[1])
        return empty, empty
    target = target.astype(np.float64)
    residual = np.square(target - predicted).sum(axis=0)
    return residual, np.square(target - target.mean(axis=0)).sum(axis=0)
