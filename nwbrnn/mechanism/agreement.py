"""Measure how far networks with different seeds agree, and what share of their weights the data determine."""

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwbrnn.dataset import get_unit_ids
from nwbrnn.evaluation import (
    compute_dynamical_distance,
    compute_principal_components,
    compute_procrustes_distance,
    compute_r2,
    compute_weighted_r2,
)
from nwbrnn.evaluation.accuracy import compute_median
from nwbrnn.evaluation.baselines import SEED_MEAN
from nwbrnn.prediction import predict
from nwbrnn.preprocessing import average_conditions
from nwbrnn.result import FitResult

Array = NDArray[np.floating]

N_COMPONENTS = 20  # of one network, from which the other's hidden units are decoded
VARIANCE = 0.999  # of the hidden activity, in the dimensions that the data visit

MEANINGS = {
    "predicted outputs, R2": "of one network, taken as a prediction of those of another",
    "predicted unsampled neurons, R2": "the same for neurons on which neither was trained, median",
    "hidden activity, Procrustes angle": "left after the best rotation and scaling [degrees]; 0 if equal",
    "hidden activity, dynamical distance": "between linear models of the two dynamics; 0 if equal",
    "hidden units, cross-decoded R2": "from 20 components of another network, on other conditions",
}
"""Measures of a pair of networks."""


def compare_networks(predictions: Sequence[xr.Dataset]) -> dict[str, list[float]]:
    """Compare networks fitted to the same data pair by pair, on their condition averages.

    Parameters
    ----------
    predictions
        The prediction of each network from :func:`nwbrnn.predict`, for the same conditions.

    Returns
    -------
    dict
        A value for each pair, by the names of :data:`MEANINGS`. Measures that are not symmetric are averaged
        over both directions.

    References
    ----------
    .. [1] Cross-decoding: Dabholkar & Barak 2025, arXiv:2405.14425.
    """
    averages = [average_conditions(ds) for ds in predictions]
    found: dict[str, list[float]] = {}
    for pair in combinations(averages, 2):
        for name, value in _compare(*pair).items():
            found.setdefault(name, []).append(value)
    return found


def _compare(first: xr.Dataset, second: xr.Dataset) -> dict[str, float]:
    """Return the measures of a pair."""
    order = [first["condition"].values.tolist().index(c) for c in second["condition"].values.tolist()]
    first = first.isel(trial=order)
    mask = first["mask"].values & second["mask"].values
    outputs = [ds["outputs"].values[mask] for ds in (first, second)]
    rates = _find_common(first, second)
    hidden = [ds["hidden"].values for ds in (first, second)]
    flat = [values[mask].astype(np.float64) for values in hidden]
    complete = mask.all(axis=0)
    return {
        "predicted outputs, R2": _average_ways(compute_weighted_r2, *outputs),
        "predicted unsampled neurons, R2": _average_ways(_compute_median_r2, *(r[mask] for r in rates)),
        "hidden activity, Procrustes angle": compute_procrustes_distance(*flat),
        "hidden units, cross-decoded R2": _average_ways(
            lambda a, b: decode(a, b, trained=np.arange(len(mask)) % 2 == 0, mask=mask), *hidden
        ),
        "hidden activity, dynamical distance": compute_dynamical_distance(
            *(values[:, complete] for values in hidden)
        ),
    }


def _find_common(first: xr.Dataset, second: xr.Dataset) -> tuple[Array, Array]:
    """Return the predicted rates of the neurons that both know and neither was trained on."""
    ids = [get_unit_ids(ds).tolist() for ds in (first, second)]
    trained = {i for ds, known in zip((first, second), ids, strict=True)
               for i, is_sampled in zip(known, ds["sampled"].values, strict=True) if is_sampled}  # fmt: skip
    common = [i for i in ids[0] if i in set(ids[1]) - trained]
    chosen = [[known.index(i) for i in common] for known in ids]
    return first["rates"].values[..., chosen[0]], second["rates"].values[..., chosen[1]]


def decode(first: Array, second: Array, *, trained: NDArray[np.bool_], mask: NDArray[np.bool_]) -> float:
    """R² of the hidden units of one network from the leading components of another, weighted by variance.

    Parameters
    ----------
    first, second
        Hidden rates to decode and to decode from, shapes (n_conditions, n_time, n_hidden).
    trained
        Conditions to which the linear map is fitted by least squares, shape (n_conditions,); the others are
        scored.
    mask
        True where a bin was recorded, shape (n_conditions, n_time).
    """
    if trained.all() or not trained.any():
        return float("nan")
    known, new = (mask & chosen[:, np.newaxis] for chosen in (trained, ~trained))
    components, mean = compute_principal_components(second[known].astype(np.float64), N_COMPONENTS)
    offset = first[known].mean(axis=0)
    coefficients = np.linalg.lstsq((second[known] - mean) @ components, first[known] - offset)[0]
    return compute_weighted_r2((second[new] - mean) @ components @ coefficients + offset, first[new])


def compute_determined_share(weights: Array, hidden: Array) -> tuple[float, int]:
    """Return the share of W that the activity in training determines.

    The action of W on directions that the activity never visits does not affect any prediction. With P the
    projector on the dimensions that explain 99.9 % of the hidden activity, the share is ‖W P‖²_F / ‖W‖²_F.

    Parameters
    ----------
    weights
        W, columns presynaptic, shape (..., n_hidden).
    hidden
        Hidden rates in training, shape (n_samples, n_hidden).

    Returns
    -------
    share, n_dimensions
        The share, in [0, 1] or NaN if all weights are 0, and the number of dimensions.

    References
    ----------
    .. [1] Beiran & Litwin-Kumar 2025, Nature Neuroscience, doi:10.1038/s41593-025-02080-4, on what recordings
       do not determine in connectomes.

    Examples
    --------
    >>> activity = np.outer([-1.0, 0.0, 1.0], [1.0, 0.0])
    >>> compute_determined_share(np.array([[1.0, 2.0], [2.0, 4.0]]), activity)
    (0.2, 1)
    """
    flat = np.asarray(weights, dtype=np.float64).reshape(-1, weights.shape[-1])
    centred = np.asarray(hidden, dtype=np.float64) - hidden.mean(axis=0)
    _, singular, axes = np.linalg.svd(centred, full_matrices=False)
    powers = np.cumsum(singular**2)
    if not powers.size or powers[-1] == 0:
        return 0.0, 0
    n_kept = int(np.searchsorted(powers, VARIANCE * powers[-1] * (1 - 1e-12))) + 1
    total = float(np.square(flat).sum())
    share = float(np.square(flat @ axes[:n_kept].T).sum()) / total if total > 0 else float("nan")
    return share, n_kept


def compare_runs(result: FitResult) -> dict[str, list[float]]:
    """Return :func:`compare_networks` of all seeds of a fit; empty for a single seed."""
    return compare_networks(_predict_all(result))


def predict_mean(result: FitResult) -> dict[str, xr.Dataset]:
    """Return the mean prediction of the networks of all seeds, by its name among the rivals.

    Random errors differ between networks, so their mean is usually closer to the recording than the best of
    them. It is not a network, so it has no hidden units.

    Parameters
    ----------
    result
        A fit.

    Returns
    -------
    dict
        ``outputs`` in their recorded unit and ``rates`` [Hz] of all trials; empty for a fit with one seed.
    """
    if len(result.runs) < 2:
        return {}
    predictions = _predict_all(result)
    mean = predictions[0].drop_vars("hidden")
    for name in ("outputs", "rates"):
        mean[name] = mean[name].copy(data=np.mean([ds[name].values for ds in predictions], axis=0))
    return {SEED_MEAN: mean}


def _predict_all(result: FitResult) -> list[xr.Dataset]:
    return [predict(result.recorded, run.weights, result.config) for run in result.runs]


def find_determined_share(recorded: xr.Dataset, predicted: xr.Dataset, weights: Array) -> tuple[float, int]:
    """Return :func:`compute_determined_share` of a network, on the trials that it was trained on."""
    trained = predicted.isel(trial=np.isin(recorded["split"].values, ("train", "dynamics_only")))
    return compute_determined_share(weights, trained["hidden"].values[trained["mask"].values])


def _average_ways(measure: Callable[[Array, Array], float], first: Array, second: Array) -> float:
    return float((measure(first, second) + measure(second, first)) / 2)


def _compute_median_r2(predicted: Array, target: Array) -> float:
    return compute_median(compute_r2(predicted, target))
