"""Single trials for the page on a fit: recorded, and predicted with and without neurons."""

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwbrnn.dataset import get_output_units, get_unit_ids
from nwbrnn.evaluation import compute_skill
from nwbrnn.plot.fit import pick_evenly, sort_conditions
from nwbrnn.prediction import forget_observer, predict
from nwbrnn.preprocessing import list_trials, name_rows, normalize_outputs
from nwbrnn.report.html import round_values
from nwbrnn.result import FitResult

# on a page, about 1.5 MB; more test trials are thinned out evenly, in the order of conditions
MAX_NUMBERS = 250_000
MAX_CHANNELS = {
    "outputs": 16,
    "rates": 8,
}  # drawn for each trial, of its session, from the best predicted to the worst


def collect_trials(result: FitResult) -> dict[str, Any]:
    """Return single test trials: recorded, predicted without neurons (K = 0), and with them.

    Parameters
    ----------
    result
        A fit that observes neurons.

    Returns
    -------
    dict
        ``trials``, each with a name and the skill of its outputs with (``network``) and without (``blind``)
        neurons; ``trialOutputs`` and ``trialRates``, the courses of each channel, trials first, with ``None``
        for a trial in which the channel was not recorded.
    """
    recorded = result.recorded
    blind = predict(recorded, *forget_observer(result.weights, result.config))
    rows = _pick_trials(recorded)
    sources = {"recorded": recorded, "network": result.predicted, "blind": blind}
    skills = {name: _score_outputs(recorded, sources[name], rows) for name in ("network", "blind")}
    names = _name_trials(recorded, rows)
    return {
        "trials": [
            {"name": name, "network": network, "blind": before}
            for name, network, before in zip(names, skills["network"], skills["blind"], strict=True)
        ],
        "trialOutputs": _collect(sources, "outputs", rows, result.scores.output_r2),
        "trialRates": _collect(sources, "rates", rows, result.scores.unit_r2),
    }


def _pick_trials(recorded: xr.Dataset) -> NDArray[np.intp]:
    """Return the rows of the test trials that a page has room for, condition by condition."""
    tests = np.flatnonzero(recorded["split"].values == "test")
    labels = recorded["condition"].values[tests]
    conditions = np.array(list(dict.fromkeys(labels.tolist())))
    order = conditions[sort_conditions(conditions)].tolist()
    tests = np.concatenate([tests[labels == label] for label in order])
    n_channels = sum(min(recorded[name].shape[2], most) for name, most in MAX_CHANNELS.items())
    room = MAX_NUMBERS // (3 * recorded.sizes["time"] * n_channels)
    return np.asarray(tests[pick_evenly(len(tests), max(room, len(order)))])


def _name_trials(recorded: xr.Dataset, rows: NDArray[np.intp]) -> list[str]:
    """Return the label of each trial: its number in the recording, from 0, and its condition."""
    names, conditions = name_rows(recorded, "trial"), recorded["condition"].values.tolist()
    return [f"{names[row]}, condition {conditions[row]}" for row in rows.tolist()]


def _score_outputs(recorded: xr.Dataset, predicted: xr.Dataset, rows: NDArray[np.intp]) -> list[float]:
    """Return the skill of each trial, relative to the variance over all test trials."""
    truth, network = normalize_outputs(recorded), normalize_outputs(predicted)
    mask = recorded["mask"].values
    tests = recorded["split"].values == "test"
    reference = truth["outputs"].values[tests][mask[tests]]
    values, target = network["outputs"].values, truth["outputs"].values
    return [compute_skill(values[row, mask[row]], target[row, mask[row]], reference) for row in rows]


def _collect(
    sources: dict[str, xr.Dataset], name: str, rows: NDArray[np.intp], r2: NDArray[np.floating]
) -> list[dict[str, Any]]:
    """Return the courses of the channels that a page has room for, those that are predicted best first."""
    recorded = sources["recorded"]
    mask = recorded["mask"].values[rows]
    courses = []
    for channel in _pick_channels(recorded, name, r2):
        values = [np.where(mask, ds[name].values[rows, :, channel], np.nan) for ds in sources.values()]
        seen = [bool(np.isfinite(course).any()) for course in values[0]]
        rounded = [
            [course if known else None for course, known in zip(part, seen, strict=True)]
            for part in round_values(np.stack(values))
        ]
        courses.append(_describe(recorded, name, channel) | dict(zip(sources, rounded, strict=True)))
    return courses


def _pick_channels(recorded: xr.Dataset, name: str, r2: NDArray[np.floating]) -> list[int]:
    """Return the channels to draw, chosen evenly among those of each session, the best first."""
    order = np.argsort(-np.nan_to_num(r2, nan=-np.inf), kind="stable")
    picked: set[int] = set()
    for trials in list_trials(recorded):
        own = order[np.isfinite(recorded[name].values[trials]).any(axis=(0, 1))[order]]
        picked |= set(own[pick_evenly(len(own), MAX_CHANNELS[name])].tolist())
    return [channel for channel in order.tolist() if channel in picked]


def _describe(recorded: xr.Dataset, name: str, channel: int) -> dict[str, str]:
    """Return the name and the unit of a channel, and how a neuron was used."""
    if name == "outputs":
        return {"name": str(recorded["output"].values[channel]), "unit": get_output_units(recorded)[channel]}
    used = "observed" if recorded["observed"].values[channel] else "not observed"
    label = f"unit {get_unit_ids(recorded)[channel]}, {used}"
    return {"name": label, "unit": str(recorded["rates"].attrs["units"])}
