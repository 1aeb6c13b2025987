"""Measure the similarity of the dynamics of two populations with the dsa-metric package."""

import math
import warnings
from typing import Any

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
        0 for the same dynamics; NaN where a population is constant, or there are too few bins.

    Raises
    ------
    ConfigError
        If dsa-metric is not installed.

    References
    ----------
    .. [1] Ostrow et al. 2023, Advances in Neural Information Processing Systems 36, arXiv:2306.10168.
    """
    package = _import_package()
    states, n_kept = _reduce_both(first, second, n_components)
    if not _has_dynamics(states[0], n_delays=n_delays, n_features=n_kept * n_delays):
        return math.nan
    analysis = package.DSA(*states, n_delays=n_delays, rank=n_kept, score_method="wasserstein")
    return float(np.squeeze(analysis.fit_score()))


def compute_controlled_distance(
    first: Array, second: Array, inputs: Array, *, n_components: int = 10
) -> float:
    """Dynamical similarity analysis of two populations with the same inputs (InputDSA).

    This is :func:`compute_dynamical_distance` with a term for the inputs in each linear model,
    x ← A x + B u. Activity that the inputs cause in both populations then does not count as similar dynamics,
    since only the eigenvalues of the two A are compared.

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

    Raises
    ------
    ConfigError
        If dsa-metric is not installed.

    References
    ----------
    .. [1] Ostrow et al. 2023, Advances in Neural Information Processing Systems 36, arXiv:2306.10168; with
       inputs as in Proctor, Brunton & Kutz 2016, doi:10.1137/15M1013857 (DMDc).
    """
    package = _import_package()
    states, n_kept = _reduce_both(first, second, n_components)
    n_features = n_kept and n_kept + inputs.shape[2]
    if not _has_dynamics(states[0], n_delays=1, n_features=n_features):
        return math.nan
    given = np.asarray(inputs, dtype=np.float64)
    with warnings.catch_warnings():
        # the operators of the inputs are fitted but, as intended here, not compared
        warnings.simplefilter("ignore", UserWarning)
        analysis = package.InputDSA(
            states[0],
            given,
            states[1],
            given,
            dmd_class=package.DMDc,
            dmd_config={"n_delays": 1},
            simdist_config={"score_method": "wasserstein"},
        )
    return float(np.squeeze(analysis.fit_score()))


def _import_package() -> Any:
    """Return dsa-metric, or raise an error that says how to install it."""
    try:
        import DSA
    except ImportError as error:
        raise ConfigError(
            "dynamical similarity needs the package dsa-metric; run pip install 'nwbrnn[dsa]'"
        ) from error
    return DSA


def _has_dynamics(states: Array, *, n_delays: int, n_features: int) -> bool:
    """Return whether there are components, and at least as many delay vectors as entries in each."""
    n_conditions, n_time = states.shape[:2]
    return bool(n_time > n_delays and 0 < n_features <= n_conditions * (n_time - n_delays + 1))


def _reduce_both(first: Array, second: Array, n_components: int) -> tuple[list[Array], int]:
    """Return the leading components of both, scaled to a mean variance of 1, and their number.

    The number is at most that of the dimensions in which both vary, and 0 if one population is constant.
    """
    flat = [activity.reshape(-1, activity.shape[-1]).astype(np.float64) for activity in (first, second)]
    found = [compute_principal_components(values, n_components) for values in flat]
    n_kept = min(components.shape[1] for components, _ in found)
    states = [(values - mean) @ axes[:, :n_kept] for values, (axes, mean) in zip(flat, found, strict=True)]
    scaled = [values / values.std() for values in states] if n_kept else states
    return [values.reshape(*first.shape[:2], -1) for values in scaled], n_kept
