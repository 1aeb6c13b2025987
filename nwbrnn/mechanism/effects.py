"""Measure the effects of pushing or silencing units, and compare them with recorded perturbed trials."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import xarray as xr

from nwbrnn.dataset import get_output_units
from nwbrnn.evaluation import compute_r2, compute_weighted_r2
from nwbrnn.evaluation.accuracy import compute_median
from nwbrnn.prediction import Push, forget_observer, perturb, predict, silence
from nwbrnn.preprocessing import (
    average_conditions,
    match_observed,
    name_rows,
    normalize_outputs,
    prepare_perturbed,
)
from nwbrnn.result import FitResult


@dataclass(frozen=True)
class Effect:
    """The effect of a perturbation on one output or unit, over the conditions of the test trials.

    Attributes
    ----------
    name, unit, kind
        Name, physical unit and kind: ``output``, ``sampled`` or ``not sampled``.
    change
        The largest change, with its sign, in ``unit``.
    time
        Time of the largest change [s].
    size
        Root mean square of the change after the perturbation began, in ``unit``.
    deviation
        Standard deviation of the prediction without the perturbation, in ``unit``, for comparison.
    """

    name: str
    unit: str
    kind: str
    change: float
    time: float
    size: float
    deviation: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def list_effects(result: FitResult, cause: Push | Sequence[int]) -> list[Effect]:
    """Return the effect of a perturbation on each output, then on each unit.

    Parameters
    ----------
    result
        A fit.
    cause
        A push of some units, or the ids of sampled neurons that are silent in all bins.

    Raises
    ------
    ConfigError
        If the fit has no such unit or time.
    """
    recorded, first = result.recorded, 0
    undisturbed = result.predicted
    if result.config.observes:  # neurons would correct what is disturbed
        undisturbed = predict(recorded, *forget_observer(result.weights, result.config))
    if isinstance(cause, Push):
        first = cause.find_bins(recorded)[0]
        perturbed = perturb(recorded, result.weights, result.config, cause)
    else:
        perturbed = silence(recorded, result.weights, result.config, cause)
    is_test = recorded["split"].values == "test"
    before, after = (average_conditions(ds.isel(trial=is_test)) for ds in (undisturbed, perturbed))
    counted = before["mask"].values & (np.arange(recorded.sizes["time"]) >= first)
    kinds = ["sampled" if sampled else "not sampled" for sampled in recorded["sampled"].values]
    names = [str(name) for name in recorded["output"].values]
    channels = [
        *zip(names, get_output_units(recorded), ["output"] * len(names), strict=True),
        *zip(name_rows(recorded, "unit"), ["Hz"] * len(kinds), kinds, strict=True),
    ]
    values = [np.concatenate([ds["outputs"].values, ds["rates"].values], axis=2) for ds in (before, after)]
    change = np.where(counted[..., np.newaxis], values[1] - values[0], 0.0)
    largest = np.abs(change).reshape(-1, len(channels)).argmax(axis=0)
    rows, bins = np.unravel_index(largest, change.shape[:2])
    deviations = values[0][before["mask"].values].std(axis=0)
    sizes = np.sqrt(np.square(change).sum(axis=(0, 1)) / max(counted.sum(), 1))
    return [
        Effect(
            *about,
            change=float(change[rows[i], bins[i], i]),
            time=float(recorded["time"].values[bins[i]]),
            size=float(sizes[i]),
            deviation=float(deviations[i]),
        )
        for i, about in enumerate(channels)
    ]


def score_perturbed(result: FitResult, ds: xr.Dataset, push: Push) -> dict[str, tuple[float, float]]:
    """Compare the perturbed trials of a recording with predictions of the perturbed network.

    Parameters
    ----------
    result
        A fit that left perturbed trials out (``perturbed``).
    ds
        The Dataset that was fitted, with all trials.
    push
        The known perturbation.

    Returns
    -------
    dict
        R² on condition averages of the perturbed trials, for the perturbed and the unperturbed network,
        by ``"outputs"`` (weighted by variance), ``"sampled neurons"`` and ``"unsampled neurons"`` (median).

    Raises
    ------
    ConfigError
        If the fit left no trials out, or if the Dataset is another one.
    """
    trials = prepare_perturbed(ds, result.recorded, result.config)
    networks = (
        perturb(result.recorded, result.weights, result.config, push, trials=trials),
        predict(trials, *forget_observer(result.weights, result.config), fitted=result.recorded),
    )
    trials = normalize_outputs(trials)
    truth = average_conditions(trials)
    mask, sampled = truth["mask"].values, result.recorded["sampled"].values
    found: dict[str, list[float]] = {"outputs": [], "sampled neurons": [], "unsampled neurons": []}
    for predicted in map(normalize_outputs, networks):
        network = average_conditions(match_observed(predicted, trials))
        found["outputs"].append(
            compute_weighted_r2(network["outputs"].values[mask], truth["outputs"].values[mask])
        )
        by_unit = compute_r2(network["rates"].values[mask], truth["rates"].values[mask])
        for name, chosen in (("sampled neurons", sampled), ("unsampled neurons", ~sampled)):
            found[name].append(compute_median(by_unit[chosen]))
    return {name: (values[0], values[1]) for name, values in found.items()}
