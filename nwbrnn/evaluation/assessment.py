"""Everything that can be said of a fit on its test trials, each number with ceiling, chance and interval."""

import math
from importlib.util import find_spec

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwbrnn.evaluation.accuracy import compute_r2, compute_skill, compute_vaf, compute_weighted_r2
from nwbrnn.evaluation.rotations import compute_rotations
from nwbrnn.evaluation.scores import (
    LEVELS,
    Score,
    compute_mean_correlation,
    compute_median,
    expect_average,
    stack_samples,
)
from nwbrnn.evaluation.similarity import compute_dynamical_distance
from nwbrnn.evaluation.spikes import compute_bits_per_spike, compute_mean, compute_psth_r2, expect_spikes
from nwbrnn.evaluation.subspaces import (
    compute_linear_cka,
    compute_principal_angles,
    compute_procrustes_distance,
    compute_svcca,
    reduce_population,
)
from nwbrnn.preprocessing import average_conditions

Array = NDArray[np.floating]

N_SPLITS = 5  # random halves of the test trials for a ceiling
N_PERMUTATIONS = 5  # of conditions, for chance
VARIANCE = 0.999  # of a population whose shape is compared; the rest costs most of the time

TINY = 1e-9  # an interval narrower than this is rounding

SPIKES = "co-smoothing bits per spike"
ANGLE = "principal angle"
DISTANCE = "dynamical distance"


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
    everything = average_conditions(recorded)
    reference = stack_samples(everything, "outputs")
    values = _compare(tests, student, reference) | _find_rotations(tests, student)
    chance = _average([_compare(tests, other, reference) for other in _permute(tests, predicted, rng)])
    chance.pop(ANGLE, None)  # a subspace has no order of conditions
    ceiling = _average([_split(tests, reference, rng) for _ in range(N_SPLITS)])
    resampled = []
    for _ in range(n_resamples):
        drawn = _resample(tests, rng)
        pair = tests.isel(trial=drawn), student.isel(trial=drawn)
        resampled.append(_compare(*pair, reference) | _find_rotations(*pair))
    if find_spec("DSA") is not None:
        values[DISTANCE] = _measure_distance(tests, student)
    nan = float("nan")
    # resamples of n trials vary by (n - 1) / n of the variance; one trial says nothing
    n_each = tests.sizes["trial"] / len(set(tests["condition"].values.tolist()))
    widen = 1.96 * math.sqrt(n_each / (n_each - 1)) if n_each > 1 else nan
    scores = []
    for name, value in values.items():
        error = widen * np.std([one[name] for one in resampled], ddof=1) if len(resampled) > 1 else nan
        error = error if error > TINY else nan  # which trials are drawn does not matter to it
        level = LEVELS[1] if name == SPIKES else LEVELS[0]
        limits = float(value - error), float(value + error)
        scores.append(Score(name, level, value, ceiling.get(name, nan), chance.get(name, nan), *limits))
    return tuple(scores)


def _compare(tests: xr.Dataset, student: xr.Dataset, reference: Array) -> dict[str, float]:
    """Return the scores of predictions for single trials, in the bins inside the mask of ``student``."""
    bits = _compare_spikes(tests, student)
    truth, guess = average_conditions(tests), average_conditions(student)
    outputs = stack_samples(guess, "outputs"), stack_samples(truth, "outputs", like=guess)
    rates = stack_samples(guess, "rates"), stack_samples(truth, "rates", like=guess)
    r2, sampled = compute_r2(*rates), tests["sampled"].values
    scale, offset = (tests[name].values for name in ("rate_scale", "rate_offset"))
    normal = [(values - offset) / scale for values in rates]
    # rates stand in for the hidden units where two halves of the recording are compared
    population = stack_samples(guess, "hidden") if "hidden" in guess else normal[0]
    angle = np.mean(compute_principal_angles(*normal)) if len(population) > 1 else math.nan
    return {
        "output R2": compute_weighted_r2(*outputs),
        "output VAF": compute_vaf(*outputs),
        "output skill": compute_skill(*outputs, reference),
        "sampled neurons R2": compute_median(r2[sampled]),
        "unsampled neurons R2": compute_median(r2[~sampled]),
        "PSTH R2": compute_psth_r2(*rates),
        SPIKES: bits,
        ANGLE: float(angle),
    } | _compare_shapes(population, normal[1])


def _compare_shapes(population: Array, rates: Array) -> dict[str, float]:
    """Return how similar the student's population and the normalised rates are, whatever their axes."""
    names = ("canonical correlation", "SVCCA", "Procrustes angle", "linear CKA")
    if len(population) < 2:
        return dict.fromkeys(names, math.nan)
    pair = [reduce_population(activity, variance=VARIANCE) for activity in (population, rates)]
    values = (
        compute_mean_correlation(*pair),
        compute_svcca(*pair),
        compute_procrustes_distance(*pair),
        compute_linear_cka(*pair),
    )
    return dict(zip(names, values, strict=True))


def _measure_distance(tests: xr.Dataset, student: xr.Dataset) -> float:
    """Return the dynamical distance of the recorded population and the student."""
    truth, guess = average_conditions(tests), average_conditions(student)
    complete = truth["mask"].values.all(axis=0)
    return compute_dynamical_distance(truth["rates"].values[:, complete], guess["hidden"].values[:, complete])


def _compare_spikes(tests: xr.Dataset, student: xr.Dataset) -> float:
    """Return bits per spike of the unsampled neurons, trial by trial."""
    unsampled = ~tests["sampled"].values
    if "spike_counts" not in tests or not unsampled.any():
        return float("nan")
    counts, rates = (
        stack_samples(ds, name, like=student)[:, unsampled]
        for ds, name in ((tests, "spike_counts"), (student, "rates"))
    )
    bin_size = tests.attrs["bin_size"]
    mean = stack_samples(tests, "rates")[:, unsampled].mean(axis=0)
    return compute_bits_per_spike(expect_spikes(rates, mean, bin_size=bin_size), counts)


def _find_rotations(tests: xr.Dataset, student: xr.Dataset) -> dict[str, float]:
    """Return the rotations of the recorded population and of the student."""
    scores: dict[str, float] = {}
    truth, guess = average_conditions(tests), average_conditions(student)
    complete = truth["mask"].values.all(axis=0)
    normal = (truth["rates"].values - truth["rate_offset"].values) / truth["rate_scale"].values
    for name, activity in (("recorded", normal), ("student", guess["hidden"].values)):
        found = compute_rotations(activity[:, complete], bin_size=truth.attrs["bin_size"])
        fastest = float(found.frequencies[0]) if found.frequencies.size else float("nan")
        scores |= {
            f"rotation R2, {name}": found.r2,
            f"rotation R2 of any linear dynamics, {name}": found.unconstrained_r2,
            f"rotation frequency, {name}": fastest,
        }
    return scores


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


def _split(tests: xr.Dataset, reference: Array, rng: np.random.Generator) -> dict[str, float]:
    """Return what one random half of the test trials says of the other."""
    order = rng.permutation(tests.sizes["trial"])
    labels = tests["condition"].values[order]
    first = np.zeros(len(order), dtype=bool)
    for condition in dict.fromkeys(labels.tolist()):
        trials = np.flatnonzero(labels == condition)
        first[order[trials[: len(trials) // 2]]] = True
    if not first.any():
        return {}
    halves = tests.isel(trial=first), tests.isel(trial=~first)
    expected = expect_average(average_conditions(halves[1]), halves[0])
    scores = _compare(halves[0], expected, reference)
    return scores | _measure_reliability(
        average_conditions(halves[0]), average_conditions(expected), reference
    )


def _measure_reliability(first: xr.Dataset, second: xr.Dataset, reference: Array) -> dict[str, float]:
    """Return the ceilings of R² and VAF from two halves of the trials."""
    outputs, rates = (
        [stack_samples(half, name, like=second) for half in (first, second)] for name in ("outputs", "rates")
    )
    sampled = first["sampled"].values
    neurons = correct_reliability(*rates)
    variance = outputs[1].var(axis=0)
    explained = float(np.nansum(correct_reliability(*outputs) * variance) / variance.sum())
    # the same unexplained variance, but relative to that of all conditions
    skill = 1 - (1 - explained) * variance.sum() / reference.var(axis=0).sum()
    return {
        "output R2": explained,
        "output VAF": explained,
        "output skill": float(skill),
        "sampled neurons R2": compute_median(neurons[sampled]),
        "unsampled neurons R2": compute_median(neurons[~sampled]),
        "PSTH R2": compute_mean(neurons),
    }


def correct_reliability(first: Array, second: Array) -> Array:
    """Reliability of the average of all trials from the averages of two halves: 2 r / (1 + r).

    Parameters
    ----------
    first, second
        Averages of two halves, shape (n_samples, n_channels).

    Returns
    -------
    ndarray
        Shape (n_channels,), the part of the variance of the whole average that is not noise; 0 for a negative
        correlation, NaN for a constant channel.
    """
    x, y = (values - values.mean(axis=0) for values in (first.astype(float), second.astype(float)))
    size = np.sqrt(np.square(x).sum(axis=0) * np.square(y).sum(axis=0))
    r = np.clip((x * y).sum(axis=0) / np.where(size > 0, size, np.nan), 0, 1)
    return np.asarray(2 * r / (1 + r))


def _resample(tests: xr.Dataset, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return as many trials of each condition, drawn with replacement."""
    labels = tests["condition"].values
    groups = [np.flatnonzero(labels == condition) for condition in dict.fromkeys(labels.tolist())]
    return np.concatenate([rng.choice(group, len(group)) for group in groups])


def _average(scores: list[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each score, NaN if it is nowhere known."""
    if not scores:
        return {}
    table = {name: np.array([one.get(name, np.nan) for one in scores]) for name in scores[0]}
    return {name: compute_mean(values) for name, values in table.items()}
