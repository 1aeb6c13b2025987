"""Assess a fit on its test trials: all scores with noise ceilings, baselines and intervals."""

import math
from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwbrnn.dataset import find_observed
from nwbrnn.evaluation.accuracy import compute_mean
from nwbrnn.evaluation.baselines import AVERAGE, predict_baselines
from nwbrnn.evaluation.comparison import Comparison, expect_average, find_groups, select_tests
from nwbrnn.evaluation.resampling import Draws, Resampler, draw, resample_parts
from nwbrnn.evaluation.score_spec import ScoreSpec
from nwbrnn.evaluation.scores import Assessment, Rival, Score
from nwbrnn.evaluation.single_trials import pool_parts
from nwbrnn.evaluation.specs import SCORES
from nwbrnn.preprocessing import average_conditions, normalize_outputs
from nwbrnn.threads import limit_threads

Array = NDArray[np.floating]
Errors = dict[str, float]
"""Half the width of the interval of each score."""

N_RESAMPLES = 25  # of the test trials for intervals, in commands and reports
N_SPLITS = 20  # random halves of the test trials for a reliability
N_PERMUTATIONS = 5  # of conditions, for chance

TINY = 1e-9  # a narrower interval is due to rounding


@limit_threads()
def assess(
    recorded: xr.Dataset,
    predicted: xr.Dataset,
    *,
    n_resamples: int = 0,
    seed: int = 0,
    others: Mapping[str, xr.Dataset] | None = None,
) -> Assessment:
    """Compute all scores of a fit and of the baselines on the condition averages of its test trials.

    - Value: the score of the predicted against the recorded data.
    - Noise ceiling, of R², VAF and skill: the score of the true time course of each condition,
      1 - Σ(s² / n) / SS, with s² the variance over all trials of a condition, n the number of test trials,
      and SS the total sum of squares of their averages [1]_.
    - Reliability, of similarities: the score of one half of the test trials against the other, averaged over
      20 random halves. It is not a ceiling: a network without noise can surpass it.
    - Chance: the score of each condition against the prediction for another one, averaged over five random
      permutations of the conditions.
    - Interval: 95 %, from the standard deviation of the scores of resampled trials; see
      ``Resampler``.
    - Rivals: the same score of each of ``nwbrnn.evaluation.BASELINES``, and for some scores the difference
      to the network, with its interval.

    The dynamical distance has only a value.

    Parameters
    ----------
    recorded
        A prepared Dataset.
    predicted
        The prediction for it from :func:`nwbrnn.predict`.
    n_resamples
        Number of resamples for the interval; if not given, the interval is NaN.
    seed
        Seed of halves and resamples.
    others
        Predictions of other models for all trials, by name, to be compared like the baselines.

    Returns
    -------
    Assessment
        A tuple of :class:`~nwbrnn.evaluation.scores.Score`. Numbers that cannot be computed are NaN: if there
        are no spikes, one trial in each condition, or one condition. There is no interval if the score is the
        same whichever trials are drawn, and no chance level for principal angles, which do not depend on the
        order of the conditions.

    Raises
    ------
    ValueError
        If there are no test trials.

    References
    ----------
    .. [1] Sahani & Linden 2003, Advances in Neural Information Processing Systems 15, "How linear are
       auditory cortical responses?": signal power from the variance over trials.

    Examples
    --------
    >>> import nwbrnn
    >>> result = nwbrnn.fit(nwbrnn.read_nwb(example), sampled=3, min_rate=0, hidden=20, epochs=2)
    >>> scores = nwbrnn.assess(result.recorded, result.predicted)
    >>> scores.get("output R2").known_average == result.scores.get("output R2").known_average
    True
    """
    whole = normalize_outputs(recorded), normalize_outputs(predicted)
    recorded, predicted = whole
    tests, network = select_tests(recorded, predicted)
    rng = np.random.default_rng(seed)
    pair = Comparison(tests, network, whole=whole)
    values = {spec.name: spec.compute(pair) for spec in SCORES}  # before the pair is copied
    shuffled = [pair.with_prediction(other) for other in _permute(tests, predicted, rng)]
    halves = [pair.replace(*half) for half in _split(tests, pair.truth, rng)]
    beside = _predict_rivals(whole, pair, others or {})
    draws = draw(tests, n_resamples, rng)
    errors, apart = _resample(SCORES, pair, beside, draws)
    more, farther = _resample_trials(SCORES, pair, beside, draws)
    apart = {name: apart.get(name, {}) | farther.get(name, {}) for name in beside}
    scores = []
    for spec in SCORES:
        value = values[spec.name]
        error = _check_error((errors | more).get(spec.name))
        found = _compare_rivals(spec, value, beside, apart)
        known = next((one.value for one in found if one.name == AVERAGE), math.nan)
        score = Score(
            spec.name,
            spec.level,
            value,
            known_average=known,
            noise_ceiling=spec.noise_ceiling(pair) if spec.noise_ceiling else math.nan,
            reliability=_average([spec.compute(half) for half in halves if spec.has_reliability]),
            chance=_average([spec.compute(other) for other in shuffled if spec.has_chance]),
            low=value - error,
            high=value + error,
            rivals=found,
        )
        scores.append(score)
    return Assessment(scores)


def _predict_rivals(
    whole: tuple[xr.Dataset, xr.Dataset], pair: Comparison, others: Mapping[str, xr.Dataset]
) -> dict[str, Comparison]:
    """Return the test trials paired with the predictions of each baseline and each other model."""
    recorded, predicted = whole
    baselines = predict_baselines(recorded, n_hidden=predicted.sizes.get("hidden_unit", 0))
    found = {name: pair.with_prediction(one) for name, one in baselines.items()}
    for name, one in others.items():
        other = normalize_outputs(one)
        found[name] = pair.with_prediction(select_tests(recorded, other)[1], other)
    return found


def _resample(
    specs: Sequence[ScoreSpec],
    pair: Comparison,
    beside: Mapping[str, Comparison],
    draws: Draws,
) -> tuple[Errors, dict[str, Errors]]:
    """Return half the widths of the intervals of scores and of their differences to each rival."""
    network = Resampler(pair, draws)
    n_resamples = len(draws.counts)
    if n_resamples < 2 or not network.freedom:
        return {}, {}
    used = [spec for spec in specs if spec.is_resampled and spec.parts is None]
    rivals = {name: Resampler(other, draws) for name, other in beside.items()}
    compared = {
        name: [spec for spec in used if spec.is_judged and one.tells(spec.needs)]
        for name, one in beside.items()
    }
    own = {spec.name: np.empty((n_resamples, 2)) for spec in used}
    apart = {
        name: {spec.name: np.empty((n_resamples, 2)) for spec in some} for name, some in compared.items()
    }
    for number, (column, sign) in product(range(n_resamples), enumerate((1, -1))):
        one = network.redraw(number, sign)
        for spec in used:
            own[spec.name][number, column] = spec.compute(one)
        for name, some in compared.items():
            other = rivals[name].follow(one, number, sign)
            for spec in some:
                difference = own[spec.name][number, column] - spec.compute(other)
                apart[name][spec.name][number, column] = difference
    kinds = {spec.name: "outputs" if spec.needs == "outputs" else "rates" for spec in used}

    def find(values: Mapping[str, Array]) -> Errors:
        return {key: 1.96 * network.measure_spread(found, kinds[key]) for key, found in values.items()}

    return find(own), {name: find(values) for name, values in apart.items()}


def _resample_trials(
    specs: Sequence[ScoreSpec], pair: Comparison, beside: Mapping[str, Comparison], draws: Draws
) -> tuple[Errors, dict[str, Errors]]:
    """Return the same for scores of single trials, from trials drawn with replacement."""
    freedom = pair.trials.sizes["trial"] - len(find_groups(pair.trials))
    if len(draws.counts) < 2 or not freedom:
        return {}, {}
    half = 1.96 * math.sqrt(pair.trials.sizes["trial"] / freedom)  # n drawn of n vary by (n - 1) / n
    own: Errors = {}
    apart: dict[str, Errors] = {name: {} for name in beside}
    for spec in (spec for spec in specs if spec.parts is not None):
        again = _draw_trials(spec, pair, draws)
        own[spec.name] = half * float(np.std(again, ddof=1))
        for name, other in beside.items():
            if spec.is_judged and other.tells(spec.needs):
                apart[name][spec.name] = half * float(
                    np.std(again - _draw_trials(spec, other, draws), ddof=1)
                )
    return own, apart


def _draw_trials(spec: ScoreSpec, pair: Comparison, draws: Draws) -> Array:
    """Return a score of single trials for each set of drawn trials."""
    if spec.parts is None:
        raise ValueError(f"{spec.name}: expected a score of single trials")
    sums = zip(*resample_parts(spec.parts(pair), draws.counts), strict=True)
    return np.array([pool_parts(above[np.newaxis], below[np.newaxis]) for above, below in sums])


def _check_error(error: float | None) -> float:
    """Return half the width of an interval; NaN if the drawn trials make no difference."""
    return error if error is not None and error > TINY else math.nan


def _compare_rivals(
    spec: ScoreSpec, value: float, beside: Mapping[str, Comparison], apart: Mapping[str, Errors]
) -> tuple[Rival, ...]:
    """Return the score of each rival that has one, and its difference to the network's."""
    found = []
    for name, other in beside.items():
        theirs = spec.compute(other) if other.tells(spec.needs) else math.nan
        if math.isfinite(theirs):
            error = _check_error(apart.get(name, {}).get(spec.name))
            found.append(Rival(name, theirs, value - theirs - error, value - theirs + error))
    return tuple(found)


def _average(values: Sequence[float]) -> float:
    return compute_mean(np.array(values))


def _permute(tests: xr.Dataset, predicted: xr.Dataset, rng: np.random.Generator) -> list[xr.Dataset]:
    """Return several predictions for the test trials in which conditions are permuted."""
    by_condition = average_conditions(predicted)
    conditions = by_condition["condition"].values
    permuted: list[xr.Dataset] = []
    while len(conditions) > 1 and len(permuted) < N_PERMUTATIONS:
        order = rng.permutation(len(conditions))
        if (order != np.arange(len(order))).all():  # about every third permutation
            other = by_condition.assign_coords(condition=("trial", conditions[order]))
            permuted.append(expect_average(other, tests))
    return permuted


def _split(
    tests: xr.Dataset, averages: xr.Dataset, rng: np.random.Generator
) -> list[tuple[xr.Dataset, xr.Dataset]]:
    """Return several random splits of the test trials into halves, with the average rates of each.

    Conditions with one trial are masked; the result is empty if all have one.
    """
    groups = find_groups(tests)
    mask = tests["mask"].values.astype(np.float64)
    observed = find_observed(tests, "rates")
    rates = np.where(observed, tests["rates"].values, 0).astype(np.float64)
    like = averages[["rates", "mask"]]
    pairs = []
    for _ in range(N_SPLITS if any(len(rows) > 1 for rows in groups) else 0):
        chosen = np.zeros((2, len(groups), len(mask)))
        for row, members in enumerate(groups):
            order = rng.permutation(members)
            chosen[0, row, order[: len(order) // 2]] = 1
            chosen[1, row, order[len(order) // 2 :]] = 1
        n = chosen @ mask
        n_units = np.tensordot(chosen, observed.astype(np.float64), axes=1)
        means = np.tensordot(chosen, rates, axes=1) / np.maximum(n_units, 1)
        means = np.where((n_units > 0) | (n == 0)[..., np.newaxis], means, np.nan)
        seen = (n > 0).all(axis=0)
        first, second = (like.copy(data={"rates": values, "mask": seen}) for values in means)
        pairs.append((first, second))
    return pairs
