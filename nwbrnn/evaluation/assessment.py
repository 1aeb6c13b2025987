"""Everything that can be said of a fit on its test trials, each number with ceiling, chance and interval."""

import math
from functools import partial

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwbrnn.evaluation.comparison import Comparison, expect_average, stack_samples
from nwbrnn.evaluation.scores import Score
from nwbrnn.evaluation.specs import list_available
from nwbrnn.evaluation.spikes import compute_mean
from nwbrnn.preprocessing import average_conditions

Array = NDArray[np.floating]

N_SPLITS = 5  # random halves of the test trials for a ceiling
N_PERMUTATIONS = 5  # of conditions, for chance

TINY = 1e-9  # an interval narrower than this is rounding


def assess(
    recorded: xr.Dataset, predicted: xr.Dataset, *, n_resamples: int = 0, seed: int = 0
) -> tuple[Score, ...]:
    """Score a fit on the condition averages of its test trials in every way there is.

    Value: recorded against predicted. Chance: each condition against the prediction for another one, mean
    over five random permutations of the conditions. Ceiling: from random halves of the test trials, mean over
    five; for R² and VAF the reliability 2 r / (1 + r) of the average of all test trials, with r the
    correlation of two halves (Spearman 1910, Brown 1910), which is what the true course of each condition
    would score; for other scores simply what one half says of the other. Interval: 95 %, from the standard
    deviation of the scores of resampled trials (bootstrap within conditions). The dynamical distance, slow to
    compute, has a value only, and is there if dsa-metric is installed.

    Parameters
    ----------
    recorded
        A prepared Dataset.
    predicted
        What :func:`nwbrnn.predict` returned for it.
    n_resamples
        For the interval; without it the interval is NaN.
    seed
        Of halves and resamples.

    Returns
    -------
    tuple of Score
        NaN where something cannot be had: no spikes, one test trial in each condition, one condition; no
        interval where the score is the same whichever trials are drawn, no chance for principal angles, which
        do not depend on the order of the conditions.

    Raises
    ------
    ValueError
        If there are no test trials.
    """
    is_test = recorded["split"].values == "test"
    if not is_test.any():
        raise ValueError(
            "split: expected trials of 'test', but there are none; assign some with split_trials"
        )
    rng = np.random.default_rng(seed)
    tests, student = recorded.isel(trial=is_test), predicted.isel(trial=is_test)
    reference = stack_samples(average_conditions(recorded), "outputs")
    compare = partial(Comparison, reference=reference)
    pair = compare(tests, student)
    others = [compare(tests, other) for other in _permute(tests, predicted, rng)]
    halves = [compare(half, rest) for half, rest in _split(tests, rng)]
    drawn = [_resample(tests, rng) for _ in range(n_resamples)]
    resampled = [compare(tests.isel(trial=rows), student.isel(trial=rows)) for rows in drawn]
    widen = _find_width(tests)
    scores = []
    for spec in list_available():
        value = spec.compute(pair)
        ceiling = [spec.split_half(half) for half in halves] if spec.split_half else []
        chance = [spec.compute(other) for other in others] if spec.has_chance else []
        again = [spec.compute(one) for one in resampled] if not spec.package else []
        error = widen * float(np.std(again, ddof=1)) if len(again) > 1 else math.nan
        error = error if error > TINY else math.nan  # which trials are drawn does not matter to it
        limit, luck = (compute_mean(np.array(values)) for values in (ceiling, chance))
        scores.append(Score(spec.name, spec.level, value, limit, luck, value - error, value + error))
    return tuple(scores)


def _find_width(tests: xr.Dataset) -> float:
    """Return how wide a 95 % interval is on each side, in standard deviations over resampled trials.

    Resamples of n trials vary by (n - 1) / n of the variance. One trial says nothing.
    """
    n_each = tests.sizes["trial"] / len(set(tests["condition"].values.tolist()))
    return 1.96 * math.sqrt(n_each / (n_each - 1)) if n_each > 1 else math.nan


def _permute(tests: xr.Dataset, predicted: xr.Dataset, rng: np.random.Generator) -> list[xr.Dataset]:
    """Return for the test trials what was predicted for other conditions, a few times."""
    by_condition = average_conditions(predicted)
    conditions = by_condition["condition"].values
    permuted: list[xr.Dataset] = []
    while len(conditions) > 1 and len(permuted) < N_PERMUTATIONS:
        order = rng.permutation(len(conditions))
        if (order != np.arange(len(order))).all():  # about every third permutation
            other = by_condition.assign_coords(condition=("trial", conditions[order]))
            permuted.append(expect_average(other, tests))
    return permuted


def _split(tests: xr.Dataset, rng: np.random.Generator) -> list[tuple[xr.Dataset, xr.Dataset]]:
    """Return a random half of the test trials beside the averages of the other, a few times.

    There is none if no condition has two trials.
    """
    labels = tests["condition"].values
    pairs = []
    for _ in range(N_SPLITS):
        order = rng.permutation(len(labels))
        first = np.zeros(len(order), dtype=bool)
        for condition in dict.fromkeys(labels[order].tolist()):
            trials = order[labels[order] == condition]
            first[trials[: len(trials) // 2]] = True
        if first.any():
            half, rest = tests.isel(trial=first), tests.isel(trial=~first)
            pairs.append((half, expect_average(average_conditions(rest), half)))
    return pairs


def _resample(tests: xr.Dataset, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return as many trials of each condition, drawn with replacement."""
    labels = tests["condition"].values
    groups = [np.flatnonzero(labels == condition) for condition in dict.fromkeys(labels.tolist())]
    return np.concatenate([rng.choice(group, len(group)) for group in groups])
