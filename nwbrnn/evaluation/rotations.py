"""Rotational dynamics: jPCA."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import scipy  # loads its parts on first use
from numpy.typing import NDArray

Array = NDArray[np.floating]

N_SURROGATES = 50
MAX_CHANNELS = 30


class Rotations(NamedTuple):
    """What jPCA finds in a population.

    Attributes
    ----------
    r2
        Fraction of the velocity in the leading components that pure rotation explains [1].
    unconstrained_r2
        The same for any linear dynamics, which is the upper limit of ``r2`` [1].
    frequencies
        Frequencies of the planes, the fastest first, shape (n_components // 2,) [Hz].
    projections
        Projections onto the fastest plane, shape (n_conditions, n_time, 2).
    """

    r2: float
    unconstrained_r2: float
    frequencies: Array
    projections: Array


def compute_rotations(activity: Array, *, bin_size: float, n_components: int = 6) -> Rotations:
    """Fit rotational dynamics to the responses of a population in several conditions (jPCA).

    The mean over conditions is subtracted from each channel and bin. The dynamics dx/dt ≈ M x with a
    skew-symmetric M are fitted to the leading principal components x by least squares. R² is
    1 - Σ‖ẋ - M x‖² / Σ‖ẋ‖².

    Parameters
    ----------
    activity
        Soft-normalized rates by condition, shape (n_conditions, n_time, n_channels).
    bin_size
        Width of a time bin [s].
    n_components
        Even number of components; reduced to the dimensions of the activity.

    Returns
    -------
    Rotations
        NaN and empty if conditions do not differ, or differ in only one dimension.

    References
    ----------
    .. [1] Churchland, Cunningham et al. 2012, Nature, doi:10.1038/nature11129.
    """
    n_conditions, n_time, n_channels = activity.shape
    centered = (activity - activity.mean(axis=0)).reshape(n_conditions * n_time, n_channels)
    centered = centered.astype(np.float64)
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
    """Return the skew-symmetric S that minimizes ‖velocity - states S‖.

    With G = XᵀX and A = XᵀV the stationary point is G S + S G = A - Aᵀ.
    """
    product = states.T @ velocity
    gram = states.T @ states
    return np.asarray(scipy.linalg.solve_sylvester(gram, gram, product - product.T))


def compute_surrogate_r2(
    activity: Array, *, bin_size: float, n_surrogates: int = N_SURROGATES, seed: int = 0
) -> Array:
    """R² of pure rotation of random populations with the covariances of a recorded one.

    Parameters
    ----------
    activity
        As for :func:`compute_rotations`.
    bin_size
        Width of a time bin [s].
    n_surrogates
        How many.
    seed
        Of the surrogates.

    Returns
    -------
    ndarray
        Shape (n_surrogates,); empty if there is no variation between conditions.
    """
    return np.array(
        _measure_surrogates(
            activity.shape, activity.astype(np.float64).tobytes(), bin_size, n_surrogates, seed
        )
    )


@lru_cache(maxsize=2)
def _measure_surrogates(
    shape: tuple[int, ...], values: bytes, bin_size: float, n_surrogates: int, seed: int
) -> tuple[float, ...]:
    """Return what :func:`compute_surrogate_r2` does, once for all fits of the same data."""
    activity = np.frombuffer(values).reshape(shape)
    surrogates = draw_surrogates(activity, n_surrogates, np.random.default_rng(seed))
    return tuple(compute_rotations(one, bin_size=bin_size).r2 for one in surrogates)


def draw_surrogates(activity: Array, n_surrogates: int, rng: np.random.Generator) -> list[Array]:
    """Draw from the tensor-maximum-entropy distribution of a population [1]_.

    Of all random tensors that share the mean and the covariances over conditions, times and channels with a
    recorded one, these are the least structured. Let λ be the eigenvalues of the three covariances and Q
    their eigenvectors. The surrogates are normal with variances 1 / (a_i + b_j + c_k) on the products of
    eigenvectors, where a, b and c are such that the sums over two of the indices are the λ of the third. The
    average over conditions, which jPCA subtracts, is kept.

    Parameters
    ----------
    activity
        Activity, shape (n_conditions, n_time, n_channels). Channels are first reduced to at most 30 principal
        components, which makes no difference to jPCA.
    n_surrogates
        How many.
    rng
        Source of randomness.

    Returns
    -------
    list of ndarray
        Each of shape (n_conditions, n_time, n_components); none if conditions do not differ.

    References
    ----------
    .. [1] Elsayed & Cunningham 2017, Nature Neuroscience, doi:10.1038/nn.4617.
    """
    centred = (activity - activity.mean(axis=0)).astype(np.float64)
    flat = centred.reshape(activity.shape[0] * activity.shape[1], activity.shape[2])
    left, singular, _ = np.linalg.svd(flat, full_matrices=False)
    rank = int((singular > 1e-9 * float(np.linalg.norm(activity))).sum())
    if not rank or activity.shape[1] < 2:
        return []
    reduced = (left * singular)[:, : min(rank, MAX_CHANNELS)].reshape(*activity.shape[:2], -1)
    shift = reduced.mean(axis=(1, 2), keepdims=True)
    values, vectors = zip(*(_decompose_mode(reduced - shift, axis) for axis in range(3)), strict=True)
    deviations = 1 / np.sqrt(_add_modes(_fit_modes(values)))
    surrogates = []
    for _ in range(n_surrogates):
        drawn = deviations * rng.standard_normal(deviations.shape)
        surrogates.append(np.einsum("ijk,ci,tj,nk->ctn", drawn, *vectors, optimize=True) + shift)
    return surrogates


def _decompose_mode(tensor: Array, axis: int) -> tuple[Array, Array]:
    """Return eigenvalues and eigenvectors of the covariance over an axis, without those of zero variance."""
    flat = np.moveaxis(tensor, axis, 0).reshape(tensor.shape[axis], -1)
    values, vectors = np.linalg.eigh(flat @ flat.T)
    kept = values > 1e-10 * values[-1]
    return values[kept], vectors[:, kept]


def _add_modes(modes: Sequence[Array]) -> Array:
    """Return a_i + b_j + c_k."""
    a, b, c = modes
    return np.asarray(a[:, np.newaxis, np.newaxis] + b[:, np.newaxis] + c)


def _fit_modes(targets: Sequence[Array]) -> list[Array]:
    """Return a, b and c such that the sums of 1 / (a_i + b_j + c_k) over two indices are the targets.

    They minimize Σ a λ_a + Σ b λ_b + Σ c λ_c - Σ log(a_i + b_j + c_k), which is convex.
    """
    sizes = [len(one) for one in targets]
    ends = np.cumsum(sizes)[:-1]
    n, total = int(np.prod(sizes)), float(targets[0].sum())
    goals = np.concatenate([one * n / one.sum() for one in targets])  # a mean variance of 1

    def measure(logarithms: Array) -> tuple[float, Array]:
        modes = np.split(np.exp(logarithms), ends)
        added = _add_modes(modes)
        inverse = 1 / added
        sums = [inverse.sum(axis=axes) for axes in ((1, 2), (0, 2), (0, 1))]
        slope = np.concatenate(modes) * (goals - np.concatenate(sums))
        return float(goals @ np.concatenate(modes) - np.log(added).sum()), slope

    start = -np.log(3 * goals * np.repeat(sizes, sizes) / n)  # exact where all eigenvalues are the same
    found = scipy.optimize.minimize(
        measure,
        start,
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 2000, "ftol": 1e-13, "gtol": 1e-6 * n},
    )
    return [one * n / total for one in np.split(np.exp(found.x), ends)]
