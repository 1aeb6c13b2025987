"""Comparison of population activity by its leading dimensions."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def compute_principal_components(activity: Array, n_components: int) -> tuple[Array, Array]:
    """Return the leading principal axes and the mean.

    Parameters
    ----------
    activity
        Shape (n_samples, n_channels).
    n_components
        How many; fewer are returned if the activity has fewer dimensions.

    Returns
    -------
    components, mean
        Orthonormal columns, shape (n_channels, n_components), and shape (n_channels,).
    """
    mean = activity.mean(axis=0)
    _, singular, axes = np.linalg.svd(activity - mean, full_matrices=False)
    tolerance = singular[0] * max(activity.shape) * np.finfo(activity.dtype).eps
    rank = int((singular > tolerance).sum())
    return axes[: min(n_components, rank)].T, mean


def compute_canonical_correlations(first: Array, second: Array, *, n_components: int = 10) -> Array:
    """Canonical correlations between the leading principal components of two populations.

    Parameters
    ----------
    first, second
        Shapes (n_samples, n_channels); the numbers of channels may differ.
    n_components
        Principal components kept of each.

    Returns
    -------
    ndarray
        Correlations in descending order, at most ``n_components`` of them, in [0, 1].

    References
    ----------
    .. [1] Björck & Golub 1973, Mathematics of Computation, doi:10.2307/2005662 (by QR and SVD).
    """
    bases = []
    for activity in (first, second):
        components, mean = compute_principal_components(activity, n_components)
        bases.append(np.linalg.qr((activity - mean) @ components)[0])
    correlations = np.linalg.svd(bases[0].T @ bases[1], compute_uv=False)
    return np.asarray(np.clip(correlations, 0.0, 1.0))
