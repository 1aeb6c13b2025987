"""Similarity of the dynamics of two populations, by the dsa-metric package."""

import numpy as np
from numpy.typing import NDArray

from nwbrnn.errors import ConfigError
from nwbrnn.evaluation.subspaces import compute_principal_components

Array = NDArray[np.floating]


def compute_dynamical_distance(
    first: Array, second: Array, *, n_components: int = 10, n_delays: int = 5
) -> float:
    """Dynamical similarity analysis: distance between linear models of two delay-embedded populations.

    Each population is projected on its leading components, scaled to unit variance and fitted with a linear
    map between its delay-embedded states; the distance is the Wasserstein distance between the
    eigenvalues of the two maps, so coordinates do not matter.

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
        0 for the same dynamics.

    Raises
    ------
    ConfigError
        If dsa-metric is not installed.

    References
    ----------
    .. [1] Ostrow et al. 2023, Advances in Neural Information Processing Systems 36, arXiv:2306.10168.
    """
    try:
        from DSA import DSA
    except ImportError as error:
        raise ConfigError(
            "dynamical similarity needs the package dsa-metric; pip install 'nwbrnn[dsa]'"
        ) from error
    # not more components than the smaller population has, so that the maps are of the same size
    n_kept = min(n_components, *(activity.shape[2] for activity in (first, second)))
    states = [_reduce(activity, n_kept) for activity in (first, second)]
    analysis = DSA(*states, n_delays=n_delays, rank=n_kept, score_method="wasserstein")
    return float(np.squeeze(analysis.fit_score()))


def _reduce(activity: Array, n_components: int) -> Array:
    """Return the leading components of a population, with a total variance of their number."""
    flat = activity.reshape(-1, activity.shape[-1]).astype(np.float64)
    components, mean = compute_principal_components(flat, n_components)
    states = (flat - mean) @ components
    return np.asarray((states / states.std()).reshape(*activity.shape[:2], -1))
