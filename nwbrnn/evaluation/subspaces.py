"""Measure how similar two populations are, by their leading dimensions or as shapes."""

from typing import NamedTuple

import numpy as np
import scipy  # loads its parts on first use
from numpy.typing import NDArray

from nwbrnn.preprocessing import ROUNDING

Array = NDArray[np.floating]


def compute_principal_components(activity: Array, n_components: int) -> tuple[Array, Array]:
    """Return the leading principal axes and the mean.

    Parameters
    ----------
    activity
        Shape (n_samples, n_channels).
    n_components
        Number of axes; fewer are returned if the activity has fewer dimensions.

    Returns
    -------
    components, mean
        Orthonormal columns, shape (n_channels, n_components), and shape (n_channels,).
    """
    mean = activity.mean(axis=0)
    _, singular, axes = np.linalg.svd(activity - mean, full_matrices=False)
    rank = _count(singular, activity, max(activity.shape) * np.finfo(activity.dtype).eps)
    return axes[: min(rank, n_components)].T, mean


class Components(NamedTuple):
    """All principal components of an activity.

    Attributes
    ----------
    scores
        Orthonormal columns, shape (n_samples, rank); weak ones of many samples up to an error of about 1e-6.
    singular
        Singular values in descending order, shape (rank,).
    axes
        Orthonormal columns, shape (n_channels, rank).
    """

    scores: Array
    singular: Array
    axes: Array

    @property
    def states(self) -> Array:
        """The activity on its own axes: centred, shape (n_samples, rank)."""
        return self.scores * self.singular


def decompose(activity: Array) -> Components:
    """Return the principal components of an activity.

    Functions that compare two populations accept them in place of the activities, to avoid repeating the
    decomposition.

    Parameters
    ----------
    activity
        Shape (n_samples, n_channels).
    """
    centred = activity - activity.mean(axis=0, dtype=np.float64)
    if len(centred) <= centred.shape[1]:
        left, singular, axes = np.linalg.svd(centred, full_matrices=False)
        rank = _count(singular, activity, max(centred.shape) * np.finfo(float).eps)
        return Components(left[:, :rank], singular[:rank], axes[:rank].T)
    # of many samples, the sums of products have the same axes, and take a third of the time
    powers, vectors = scipy.linalg.eigh(centred.T @ centred, driver="evd")
    singular, axes = np.sqrt(np.maximum(powers[::-1], 0)), vectors[:, ::-1]
    least = max(len(centred) * np.finfo(activity.dtype).eps, np.sqrt(len(centred) * np.finfo(float).eps))
    rank = _count(singular, activity, least)
    singular, axes = singular[:rank], axes[:, :rank]
    return Components(centred @ axes / singular, singular, axes)


def compute_canonical_correlations(
    first: Array | Components, second: Array | Components, *, n_components: int = 10
) -> Array:
    """Canonical correlations between the leading principal components of two populations.

    Parameters
    ----------
    first, second
        Shapes (n_samples, n_channels); the numbers of channels may differ. Or what :func:`decompose`
        returned.
    n_components
        Principal components kept of each.

    Returns
    -------
    ndarray
        Correlations in descending order, at most ``n_components`` of them, in [0, 1].

    References
    ----------
    .. [1] Björck & Golub 1973, Mathematics of Computation, doi:10.2307/2005662.
    """
    return _correlate(*(_get_components(one).scores[:, :n_components] for one in (first, second)))


def compute_svcca(first: Array | Components, second: Array | Components, *, variance: float = 0.99) -> float:
    """Mean canonical correlation of the components that explain a share of each population's variance.

    Parameters
    ----------
    first, second
        Shapes (n_samples, n_channels); the numbers of channels may differ. Or what :func:`decompose`
        returned.
    variance
        Share of the variance that the retained components of each explain.

    Returns
    -------
    float
        In [0, 1]; the mean over the smaller number of components; NaN if a population is constant.

    References
    ----------
    .. [1] Raghu et al. 2017, Advances in Neural Information Processing Systems 30.
    """
    kept = []
    for scores, singular, _ in (_get_components(first), _get_components(second)):
        if not singular.size:
            return float("nan")
        powers = np.cumsum(singular**2)
        n_kept = int(np.searchsorted(powers, variance * powers[-1] * (1 - 1e-12))) + 1
        kept.append(scores[:, :n_kept])
    return float(_correlate(*kept).mean())


def compute_principal_angles(
    first: Array | Components, second: Array | Components, *, n_components: int = 10
) -> Array:
    """Angles between the leading subspaces of two activities of the same channels, in ascending order.

    Parameters
    ----------
    first, second
        Shapes (n_samples, n_channels), of the same channels; the numbers of samples may differ. Or what
        :func:`decompose` returned.
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
    bases = [_get_components(one).axes[:, :n_components] for one in (first, second)]
    return np.rad2deg(scipy.linalg.subspace_angles(*bases)[::-1])


def compute_procrustes_distance(first: Array | Components, second: Array | Components) -> float:
    """Angle that remains between two populations after the best shift, scaling and rotation.

    θ = arccos ‖XᵀY‖_* / (‖X‖_F ‖Y‖_F) for centred X and Y, with ‖·‖_* the sum of the singular values.

    Parameters
    ----------
    first, second
        Shapes (n_samples, n_channels); the numbers of channels may differ. Or what :func:`decompose`
        returned.

    Returns
    -------
    float
        In [0, 90] [degrees], 0 for the same shape; NaN if a population is constant.

    References
    ----------
    .. [1] Williams et al. 2021, Advances in Neural Information Processing Systems 34.
    """
    x, y = (_get_components(one).states for one in (first, second))
    size = np.linalg.norm(x) * np.linalg.norm(y)
    if size == 0:
        return float("nan")
    return float(np.rad2deg(np.arccos(np.clip(np.linalg.norm(x.T @ y, "nuc") / size, -1, 1))))


def compute_linear_cka(first: Array | Components, second: Array | Components) -> float:
    """Linear centred kernel alignment, ‖XᵀY‖²_F / (‖XᵀX‖_F ‖YᵀY‖_F) for centred X and Y.

    Parameters
    ----------
    first, second
        Shapes (n_samples, n_channels); the numbers of channels may differ. Or what :func:`decompose`
        returned.

    Returns
    -------
    float
        In [0, 1], 1 for populations that differ by a rotation and a scale; NaN if one is constant.

    References
    ----------
    .. [1] Kornblith et al. 2019, International Conference on Machine Learning 97:3519.
    """
    x, y = (_get_components(one).states for one in (first, second))
    size = np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
    return float(np.linalg.norm(x.T @ y) ** 2 / size) if size > 0 else float("nan")


def _count(singular: Array, activity: Array, least: float) -> int:
    """Return how many singular values exceed rounding, ``least`` of the largest; none of a constant."""
    n, mean = len(activity), activity.mean(axis=0, dtype=np.float64)
    # of the values, and of their mean, a sum of n
    error = ROUNDING * np.finfo(activity.dtype).eps + n * np.finfo(np.float64).eps
    constant = error * np.sqrt(n) * np.linalg.norm(mean)
    return int((singular > singular[:1] * least).sum() * (singular[:1] > constant).any())


def _get_components(activity: Array | Components) -> Components:
    """Return the principal components of an activity; components are returned unchanged."""
    return activity if isinstance(activity, Components) else decompose(activity)


def _correlate(first: Array, second: Array) -> Array:
    """Return the cosines of the angles between the spans of orthonormal columns."""
    return np.asarray(np.clip(np.linalg.svd(first.T @ second, compute_uv=False), 0.0, 1.0))
