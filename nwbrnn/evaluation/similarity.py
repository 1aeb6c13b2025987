"""Measure the similarity of the dynamics of two populations by the modes of linear models of them."""

import math

import numpy as np
from numpy.typing import NDArray

from nwbrnn.evaluation.subspaces import decompose

Array = NDArray[np.floating]


def compute_dynamical_distance(
    first: Array, second: Array, *, n_components: int = 10, n_delays: int = 5
) -> float:
    """Dynamical similarity analysis: distance between linear models of two delay-embedded populations.

    Each population is projected on its leading components, scaled to unit variance and fitted with a linear
    map between its delay-embedded states. Coordinates do not matter, since the distance only compares the
    eigenvalues of the two maps: it is the mean squared distance between pairs of them, in the pairing with
    the smallest. dsa-metric computes the same, in float32.

    Parameters
    ----------
    first, second
        Shapes (n_conditions, n_time, n_channels); the numbers of channels may differ.
    n_components
        Principal components kept of each, and rank of the maps.
    n_delays
        Bins in a delay embedding.

    Returns
    -------
    float
        0 for the same dynamics; NaN where a population is constant, or there are too few bins.

    References
    ----------
    .. [1] Ostrow et al. 2023, Advances in Neural Information Processing Systems 36, arXiv:2306.10168.
    """
    states, n_kept = _reduce_both(first, second, n_components)
    if not _has_dynamics(states[0], n_delays=n_delays, n_features=n_kept * n_delays):
        return math.nan
    return _compare_modes([_fit_delayed(one, n_delays=n_delays, rank=n_kept) for one in states])


def compute_controlled_distance(
    first: Array, second: Array, inputs: Array, *, n_components: int = 10
) -> float:
    """Dynamical similarity analysis of two populations with the same inputs (InputDSA).

    This is :func:`compute_dynamical_distance` with a term for the inputs in each linear model,
    x ← A x + B u. Activity that the inputs cause in both populations then does not count as similar dynamics,
    since only the eigenvalues of the two A are compared. As in dsa-metric, the conditions follow one another
    in a single series.

    Parameters
    ----------
    first, second
        Shapes (n_conditions, n_time, n_channels); the numbers of channels may differ.
    inputs
        Shape (n_conditions, n_time, n_inputs).
    n_components
        Principal components kept of each.

    Returns
    -------
    float
        0 for the same dynamics; NaN where a population is constant, or there are too few bins.

    References
    ----------
    .. [1] Ostrow et al. 2023, Advances in Neural Information Processing Systems 36, arXiv:2306.10168; with
       inputs as in Proctor, Brunton & Kutz 2016, doi:10.1137/15M1013857 (DMDc).
    """
    states, n_kept = _reduce_both(first, second, n_components)
    n_features = n_kept and n_kept + inputs.shape[2]
    if not _has_dynamics(states[0], n_delays=1, n_features=n_features):
        return math.nan
    given = np.asarray(inputs, dtype=np.float64)
    return _compare_modes([_fit_driven(one, given) for one in states])


def _fit_delayed(states: Array, *, n_delays: int, rank: int) -> Array:
    """Return the map from one delay-embedded state to the next, in the leading ``rank`` components.

    It is the transpose of that of HAVOK, Brunton et al. 2017, doi:10.1038/s41467-017-00030-8.
    """
    n_vectors = states.shape[1] - n_delays + 1
    delayed = np.concatenate([states[:, d : d + n_vectors] for d in range(n_delays)], axis=2)
    left = np.linalg.svd(delayed.reshape(-1, delayed.shape[2]), full_matrices=False)[0][:, :rank]
    vectors = left.reshape(len(states), n_vectors, -1)
    before, after = (part.reshape(-1, left.shape[1]) for part in (vectors[:, :-1], vectors[:, 1:]))
    return np.asarray(np.linalg.lstsq(before, after, rcond=None)[0])


def _fit_driven(states: Array, inputs: Array) -> Array:
    """Return A of x ← A x + B u, transposed."""
    x, u = (values.reshape(-1, values.shape[2]) for values in (states, inputs))
    found = np.linalg.lstsq(np.hstack([x[:-1], u[:-1]]), x[1:], rcond=None)[0]
    return np.asarray(found[: x.shape[1]])


def _compare_modes(maps: list[Array]) -> float:
    """Return the mean squared distance between the eigenvalues of two maps, in the best pairing."""
    from scipy.optimize import linear_sum_assignment

    first, second = (np.linalg.eigvals(one) for one in maps)
    distances = np.abs(first[:, np.newaxis] - second) ** 2
    return float(distances[linear_sum_assignment(distances)].mean())


def _has_dynamics(states: Array, *, n_delays: int, n_features: int) -> bool:
    """Return whether there are components, and at least as many delay vectors as entries in each."""
    n_conditions, n_time = states.shape[:2]
    return bool(n_time > n_delays and 0 < n_features <= n_conditions * (n_time - n_delays + 1))


def _reduce_both(first: Array, second: Array, n_components: int) -> tuple[list[Array], int]:
    """Return the leading components of both, scaled to a mean variance of 1, and their number.

    The number is at most that of the dimensions in which both vary, and 0 if one population is constant.
    """
    flat = [activity.reshape(-1, activity.shape[-1]).astype(np.float64) for activity in (first, second)]
    found = [decompose(values).states for values in flat]
    n_kept = min(n_components, *(states.shape[1] for states in found))
    states = [values[:, :n_kept] for values in found]
    scaled = [values / values.std() for values in states] if n_kept else states
    return [values.reshape(*first.shape[:2], -1) for values in scaled], n_kept
