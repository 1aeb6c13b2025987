"""How similar two populations are: by their leading dimensions, or as shapes."""

import numpy as np
import scipy.linalg
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
    bases = [np.linalg.qr(_project(activity, n_components))[0] for activity in (first, second)]
    correlations = np.linalg.svd(bases[0].T @ bases[1], compute_uv=False)
    return np.asarray(np.clip(correlations, 0.0, 1.0))


def compute_svcca(first: Array, second: Array, *, variance: float = 0.99) -> float:
    """Mean canonical correlation of the components that hold a share of each population's variance.

    Parameters
    ----------
    first, second
        Shapes (n_samples, n_channels); the numbers of channels may differ.
    variance
        Share of the variance that the components kept of each hold.

    Returns
    -------
    float
        In [0, 1]; the mean over the smaller number of components.

    References
    ----------
    .. [1] Raghu et al. 2017, Advances in Neural Information Processing Systems 30.
    """
    kept = [reduce_population(activity, variance=variance) for activity in (first, second)]
    n_components = max(activity.shape[1] for activity in kept)
    return float(compute_canonical_correlations(*kept, n_components=n_components).mean())


def reduce_population(activity: Array, *, variance: float) -> Array:
    """Return the coordinates on the leading principal components that hold a share of the variance.

    Parameters
    ----------
    activity
        Shape (n_samples, n_channels).
    variance
        Share, in (0, 1].

    Returns
    -------
    ndarray
        Centred, shape (n_samples, n_components), at least one component.
    """
    left, singular, _ = np.linalg.svd(activity - activity.mean(axis=0), full_matrices=False)
    powers = np.cumsum(singular**2)
    n_kept = int(np.searchsorted(powers, variance * powers[-1] * (1 - 1e-12))) + 1
    return np.asarray(left[:, :n_kept] * singular[:n_kept])


def compute_principal_angles(first: Array, second: Array, *, n_components: int = 10) -> Array:
    """Angles between the leading subspaces of two activities of the same channels, in ascending order.

    Parameters
    ----------
    first, second
        Shapes (n_samples, n_channels), of the same channels; the numbers of samples may differ.
    n_components
        Dimension of the subspaces, less if an activity has fewer.

    Returns
    -------
    ndarray
        Shape (n_angles,) [degrees], in [0, 90].

    References
    ----------
    .. [1] Björck & Golub 1973, Mathematics of Computation, doi:10.2307/2005662; for populations
       Gallego et al. 2018, Nature Communications, doi:10.1038/s41467-018-06560-z.
    """
    bases = [compute_principal_components(activity, n_components)[0] for activity in (first, second)]
    return np.rad2deg(scipy.linalg.subspace_angles(*bases)[::-1])


def compute_procrustes_distance(first: Array, second: Array) -> float:
    """Angle that remains between two populations after the best shift, scaling and rotation.

    θ = arccos ‖XᵀY‖_* / (‖X‖_F ‖Y‖_F) for centred X and Y, with ‖·‖_* the sum of the singular values.

    Parameters
    ----------
    first, second
        Shapes (n_samples, n_channels); the numbers of channels may differ.

    Returns
    -------
    float
        In [0, 90] [degrees], 0 for the same shape; NaN if a population is constant.

    References
    ----------
    .. [1] Williams et al. 2021, Advances in Neural Information Processing Systems 34.
    """
    x, y = (activity - activity.mean(axis=0) for activity in (first, second))
    size = np.linalg.norm(x) * np.linalg.norm(y)
    if size == 0:
        return float("nan")
    return float(np.rad2deg(np.arccos(np.clip(np.linalg.norm(x.T @ y, "nuc") / size, -1, 1))))


def compute_linear_cka(first: Array, second: Array) -> float:
    """Linear centred kernel alignment, ‖XᵀY‖²_F / (‖XᵀX‖_F ‖YᵀY‖_F) for centred X and Y.

    Parameters
    ----------
    first, second
        Shapes (n_samples, n_channels); the numbers of channels may differ.

    Returns
    -------
    float
        In [0, 1], 1 for populations that differ by a rotation and a scale; NaN if one is constant.

    References
    ----------
    .. [1] Kornblith et al. 2019, International Conference on Machine Learning 97:3519.
    """
    x, y = (activity - activity.mean(axis=0) for activity in (first, second))
    size = np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
    return float(np.linalg.norm(x.T @ y) ** 2 / size) if size > 0 else float("nan")


def _project(activity: Array, n_components: int) -> Array:
    """Return the coordinates on the leading components, shape (n_samples, n_components)."""
    components, mean = compute_principal_components(activity, n_components)
    return np.asarray((activity - mean) @ components)
