"""Rotational dynamics: jPCA."""

from typing import NamedTuple

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

Array = NDArray[np.floating]


class Rotations(NamedTuple):
    """What jPCA finds in a population.

    Attributes
    ----------
    r2
        Part of the velocity in the leading components that pure rotation explains [1].
    unconstrained_r2
        The same for any linear dynamics: the upper limit of ``r2`` [1].
    frequencies
        Of the planes, the fastest first, shape (n_components // 2,) [Hz].
    projections
        Onto the fastest plane, shape (n_conditions, n_time, 2).
    """

    r2: float
    unconstrained_r2: float
    frequencies: Array
    projections: Array


def compute_rotations(activity: Array, *, bin_size: float, n_components: int = 6) -> Rotations:
    """Fit rotational dynamics to the responses of a population in several conditions (jPCA).

    The mean over conditions is taken out of each channel and bin; the leading principal components x follow
    dx/dt ≈ M x with M skew-symmetric, by least squares. R² is 1 - Σ‖ẋ - M x‖² / Σ‖ẋ‖².

    Parameters
    ----------
    activity
        Soft-normalised rates by condition, shape (n_conditions, n_time, n_channels).
    bin_size
        Width of a time bin [s].
    n_components
        Even; reduced to what the activity has.

    Returns
    -------
    Rotations
        NaN and empty if there is no variation between conditions, or only one dimension of it.

    References
    ----------
    .. [1] Churchland, Cunningham et al. 2012, Nature, doi:10.1038/nature11129.
    """
    n_conditions, n_time, n_channels = activity.shape
    centered = (activity - activity.mean(axis=0)).reshape(-1, n_channels).astype(np.float64)
    components = np.linalg.svd(centered, full_matrices=False)
    tolerance = max(centered.shape) * np.finfo(np.float64).eps * np.linalg.norm(activity)
    rank = int((tolerance < components.S).sum())
    n_kept = min(n_components, rank) // 2 * 2
    if n_kept == 0 or n_time < 3:
        return Rotations(float("nan"), float("nan"), np.array([]), np.zeros((n_conditions, n_time, 0)))
    states = (centered @ components.Vh[:n_kept].T).reshape(n_conditions, n_time, n_kept)
    velocity = (np.diff(states, axis=1) / bin_size).reshape(-1, n_kept)
    middle = ((states[:, 1:] + states[:, :-1]) / 2).reshape(-1, n_kept)
    skew = _fit_skew(middle, velocity)
    free = np.linalg.lstsq(middle, velocity)[0]
    total = np.square(velocity).sum()
    r2, unconstrained = (float(1 - np.square(velocity - middle @ m).sum() / total) for m in (skew, free))
    values, vectors = np.linalg.eig(skew)
    order = np.argsort(-values.imag)
    plane = np.linalg.qr(np.stack([vectors[:, order[0]].real, vectors[:, order[0]].imag], axis=1))[0]
    frequencies = values.imag[order[: n_kept // 2]] / (2 * np.pi)
    return Rotations(r2, unconstrained, frequencies, states @ plane)


def _fit_skew(states: Array, velocity: Array) -> Array:
    """Return the skew-symmetric S that minimises ‖velocity - states S‖.

    With G = XᵀX and A = XᵀV the stationary point is G S + S G = A - Aᵀ.
    """
    product = states.T @ velocity
    gram = states.T @ states
    return np.asarray(scipy.linalg.solve_sylvester(gram, gram, product - product.T))
