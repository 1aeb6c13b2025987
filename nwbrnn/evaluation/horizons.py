"""How far ahead a network that observes neurons predicts."""

from collections.abc import Iterable

import xarray as xr

from nwbrnn.evaluation.comparison import Comparison, select_tests
from nwbrnn.evaluation.specs import SPIKES, get_spec
from nwbrnn.preprocessing import normalize_outputs

FORECAST_SCORES = ("single-trial output R2", "single-trial unsampled neurons R2", SPIKES)
"""Scores of single trials, since only there can neurons tell more than the task."""


def score_horizons(recorded: xr.Dataset, forecasts: Iterable[xr.Dataset]) -> dict[str, list[float]]:
    """Return the scores of test trials that are predicted 0, 1, 2, ... bins ahead.

    Parameters
    ----------
    recorded
        A prepared Dataset.
    forecasts
        Predictions of its trials, for 0, 1, 2, ... bins ahead; see :meth:`nwbrnn.FitResult.forecast`. All
        bins count with each of them.

    Returns
    -------
    dict
        A value for each horizon by the names of ``FORECAST_SCORES``, as :func:`nwbrnn.assess` computes
        them; NaN where something cannot be had.

    Raises
    ------
    ValueError
        If there are no test trials.

    Examples
    --------
    >>> import nwbrnn
    >>> ds = nwbrnn.read_nwb(example)
    >>> result = nwbrnn.fit(ds, observe="sampled", sampled=3, min_rate=0, hidden=20, epochs=2)
    >>> scores = score_horizons(result.recorded, result.forecast(2))
    >>> len(scores["single-trial output R2"])
    3
    """
    specs = [get_spec(name) for name in FORECAST_SCORES]
    found: dict[str, list[float]] = {spec.name: [] for spec in specs}
    recorded = normalize_outputs(recorded)
    for predicted in map(normalize_outputs, forecasts):
        pair = Comparison(*select_tests(recorded, predicted), whole=(recorded, predicted))
        for spec in specs:
            found[spec.name].append(spec.compute(pair))
    return found
