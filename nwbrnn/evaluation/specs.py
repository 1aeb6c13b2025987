"""The scores: for each, its name, unit, meaning, which direction is better, and how it is computed.

To add a score, add a :class:`ScoreSpec` to ``SCORES``. :func:`nwbrnn.assess`, the tables of the command line,
reports, sweeps and the documentation use this list.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nwbrnn.evaluation.accuracy import (
    compute_mean,
    compute_median,
    compute_skill,
    compute_vaf,
    compute_weighted_r2,
)
from nwbrnn.evaluation.comparison import Comparison, list_samples
from nwbrnn.evaluation.noise_ceilings import limit_neurons, limit_outputs, limit_skill, limit_trials
from nwbrnn.evaluation.rotations import Rotations
from nwbrnn.evaluation.score_spec import Compute, Parts, ScoreSpec
from nwbrnn.evaluation.similarity import compute_controlled_distance, compute_dynamical_distance
from nwbrnn.evaluation.single_trials import (
    pool_parts,
    split_cosmoothing,
    split_errors,
    split_spikes,
)
from nwbrnn.evaluation.spikes import compute_psth_r2
from nwbrnn.evaluation.subspaces import (
    Components,
    compute_canonical_correlations,
    compute_linear_cka,
    compute_principal_angles,
    compute_procrustes_distance,
    compute_svcca,
)
from nwbrnn.evaluation.superfluous import compute_few_shot_r2, compute_mapped_r2
from nwbrnn.preprocessing import average_conditions, find_complete_units, list_parts

# ------------------------------------------------------------------ how they are computed


def _score_trials(name: str, parts: Parts, meaning: str, **about: Any) -> ScoreSpec:
    """Return a score of single trials."""
    return ScoreSpec(name, lambda pair: pool_parts(*parts(pair)), meaning, parts=parts, **about)


def _compute_angle(pair: Comparison) -> float:
    recorded = pair.recorded_components
    if recorded is None or len(recorded.axes) < 2:
        return math.nan
    return compute_mean(compute_principal_angles(pair.rate_components, recorded))


def _correlate(first: Components, second: Components) -> float:
    return compute_mean(compute_canonical_correlations(first, second))


def _compare_populations(
    name: str, compare: Callable[[Components, Components], float], meaning: str, **about: Any
) -> ScoreSpec:
    """Return a score of how similar the hidden units and the recorded rates are, whatever their axes."""

    def compute(pair: Comparison) -> float:
        recorded = pair.recorded_components
        return math.nan if recorded is None else compare(pair.hidden_components, recorded)

    return ScoreSpec(name, compute, meaning, needs="rates", has_reliability=True, **about)


def _score_neurons(
    which: Literal["sampled", "unsampled"], select: Callable[[Comparison], NDArray[np.bool_]], meaning: str
) -> ScoreSpec:
    """Return the median R² of some neurons."""
    return ScoreSpec(
        f"{which} neurons R2",
        lambda pair: compute_median(pair.unit_r2[select(pair)]),
        meaning,
        needs=which,
        noise_ceiling=lambda pair: compute_median(limit_neurons(pair)[select(pair)]),
        is_quick=True,
        is_main=True,
        is_judged=True,
    )


def _read_few(pair: Comparison) -> float:
    """Return the median R² of unsampled neurons with a readout from one trial of each condition.

    In a pool, it is one trial of each condition of their session.
    """
    found = []
    for rows, units in list_parts(pair.known):
        chosen = units[~pair.sampled[units]]
        known, predicted = pair.known.isel(trial=rows, unit=chosen), pair.known_predicted.isel(trial=rows)
        if len(chosen) and len(rows):
            trials = list_samples(predicted, known, ("hidden", "rates"))
            test = list_samples(pair.guess, pair.truth.isel(unit=chosen), ("hidden", "rates"))
            stacked = np.concatenate([x for x, _ in test]), np.concatenate([y for _, y in test])
            found.append(compute_few_shot_r2(trials, known["condition"].values.tolist(), stacked))
    return compute_median(np.concatenate(found)) if found else math.nan


def _map(source: Literal["recorded", "predicted"]) -> Compute:
    """Return a score of how well recorded or predicted rates predict hidden units linearly."""

    def compute(pair: Comparison) -> float:
        known, predicted = (average_conditions(ds) for ds in (pair.known, pair.known_predicted))
        sources = (known, pair.truth) if source == "recorded" else (predicted, pair.guess)
        complete = find_complete_units(sources[0]) & find_complete_units(sources[1])
        if not complete.any():
            return math.nan
        if not complete.all():
            sources = sources[0].isel(unit=complete), sources[1].isel(unit=complete)
        sides = [
            dict(
                zip(
                    ds["condition"].values.tolist(),
                    list_samples(ds, target, ("rates", "hidden")),
                    strict=True,
                )
            )
            for ds, target in zip(sources, (predicted, pair.guess), strict=True)
        ]
        return compute_mapped_r2(*sides)

    return compute


def _compare_surrogates(pair: Comparison) -> float:
    """Return the p-value of the recorded rotations, (1 + surrogates not below) / (1 + surrogates)."""
    found, recorded = pair.surrogate_r2, pair.recorded_rotations.r2
    return float((1 + (found >= recorded).sum()) / (1 + len(found))) if found.size else math.nan


def _measure_distance(pair: Comparison, *, controlled: bool = False) -> float:
    complete = pair.truth["mask"].values.all(axis=0)
    recorded, hidden, inputs = (
        ds[name].values[:, complete]
        for ds, name in ((pair.truth, "rates"), (pair.guess, "hidden"), (pair.truth, "inputs"))
    )
    if not pair.complete_units.any():
        return math.nan
    recorded = recorded if pair.complete_units.all() else recorded[..., pair.complete_units]
    if controlled:
        return compute_controlled_distance(recorded, hidden, np.nan_to_num(inputs))
    return compute_dynamical_distance(recorded, hidden)


# ------------------------------------------------------------------ the list


def _describe_rotations() -> list[ScoreSpec]:
    """Return the scores of jPCA for the recorded population and for the hidden units."""

    def get(name: str, whose: str) -> Compute:
        def find(pair: Comparison) -> float:
            found: Rotations = pair.recorded_rotations if whose == "recorded" else pair.hidden_rotations
            if name == "frequency":
                return float(found.frequencies[0]) if found.frequencies.size else math.nan
            return found.r2 if name == "R2" else found.unconstrained_r2

        return find

    kinds = {
        "R2": ("part of the change that pure rotation explains (jPCA)", ""),
        "R2 of any linear dynamics": ("part of the change that any linear dynamics explain", ""),
        "frequency": ("frequency of the fastest plane of rotation", "Hz"),
    }
    return [
        ScoreSpec(
            f"rotation {name}, {whose}",
            get(name, whose),
            meaning,
            unit,
            "neither",
            "network" if whose == "recorded" else "hidden",
            has_chance=False,
        )
        for whose in ("recorded", "network")
        for name, (meaning, unit) in kinds.items()
    ]


COSMOOTHING = "co-smoothing bits per spike"
SPIKES = "unsampled neurons bits per spike"
SCORES: tuple[ScoreSpec, ...] = (
    ScoreSpec(
        "output R2",
        lambda pair: compute_weighted_r2(*pair.outputs),
        "R² of all outputs, each weighted by its variance",
        noise_ceiling=limit_outputs,
        is_quick=True,
        is_main=True,
        is_judged=True,
    ),
    ScoreSpec(
        "output VAF",
        lambda pair: compute_vaf(*pair.outputs),
        "like R², but an offset does not lower it",
        noise_ceiling=limit_outputs,
    ),
    ScoreSpec(
        "output skill",
        lambda pair: compute_skill(*pair.outputs, pair.reference),
        "like R², but relative to the variance over all conditions",
        noise_ceiling=limit_skill,
        is_main=True,
    ),
    _score_trials(
        "single-trial output R2",
        lambda pair: split_errors(pair, "outputs"),
        "R² of all outputs in single trials, each weighted by its variance",
        noise_ceiling=lambda pair: limit_trials(pair, "outputs"),
        is_judged=True,
    ),
    _score_neurons(
        "sampled", lambda pair: pair.sampled, "median R² of the neurons that the network was trained on"
    ),
    _score_neurons(
        "unsampled",
        lambda pair: ~pair.sampled,
        "median R² of the neurons that the network was not trained on",
    ),
    _score_trials(
        "single-trial unsampled neurons R2",
        lambda pair: split_errors(pair, "rates", lambda pair: ~pair.sampled),
        "median R² of the smoothed rates of unsampled neurons in single trials",
        needs="unsampled",
        noise_ceiling=lambda pair: limit_trials(pair, "rates", lambda pair: ~pair.sampled),
        is_judged=True,
    ),
    ScoreSpec(
        "PSTH R2",
        lambda pair: compute_psth_r2(*pair.rates),
        "mean R² of all neurons, as in the Neural Latents Benchmark",
        needs="rates",
        noise_ceiling=lambda pair: compute_mean(limit_neurons(pair)),
    ),
    _score_trials(
        SPIKES,
        split_spikes,
        "gain in predicting single spikes of unsampled neurons over their mean rates in the known trials",
        needs="unsampled",
        is_main=True,
        is_judged=True,
    ),
    _score_trials(
        COSMOOTHING,
        split_cosmoothing,
        "gain in predicting single spikes of unsampled neurons from observed neurons of the same trial over "
        "their mean rates in the test trials, as co-smoothing in the Neural Latents Benchmark",
        needs="unsampled",
        is_judged=True,
    ),
    ScoreSpec(
        "principal angle",
        _compute_angle,
        "mean angle between the ten leading dimensions of recorded and predicted rates",
        unit="degrees",
        better="lower",
        needs="rates",
        has_reliability=True,
        has_chance=False,  # a subspace has no order of conditions
    ),
    _compare_populations(
        "canonical correlation",
        _correlate,
        "mean canonical correlation over ten dimensions of the hidden units and of the recorded rates; "
        "1: the same",
        is_quick=True,
        is_main=True,
    ),
    _compare_populations(
        "SVCCA", compute_svcca, "mean canonical correlation of the dimensions that hold 99 % of the variance"
    ),
    _compare_populations(
        "Procrustes angle",
        compute_procrustes_distance,
        "difference that remains after the best rotation and scaling; 0: the same shape",
        unit="degrees",
        better="lower",
    ),
    _compare_populations(
        "linear CKA",
        compute_linear_cka,
        "similarity of the geometry; 1: the same except for rotation and scale",
    ),
    ScoreSpec(
        "few-shot neurons R2",
        _read_few,
        "median R² of unsampled neurons, with a readout from all hidden units that is fitted to one trial "
        "of each condition",
        needs="network",
        has_chance=False,
        is_resampled=False,
    ),
    ScoreSpec(
        "recording to network R2",
        _map("recorded"),
        "part of the hidden units' activity that can be linearly predicted from the recorded rates, in "
        "conditions to which this linear map was not fitted",
        needs="network",
        has_chance=False,
        is_resampled=False,
    ),
    ScoreSpec(
        "cycle consistency",
        _map("predicted"),
        "part of the hidden units' activity that can be linearly predicted from the rates that the "
        "network predicts, in conditions to which this linear map was not fitted",
        needs="network",
        has_chance=False,
        is_resampled=False,
    ),
    *_describe_rotations(),
    ScoreSpec(
        "rotation R2, surrogates",
        lambda pair: compute_mean(pair.surrogate_r2),
        "mean rotation R2 of tensor-maximum-entropy surrogates of the recording",
        better="neither",
        needs="network",
        has_chance=False,
        is_resampled=False,
    ),
    ScoreSpec(
        "rotation p, surrogates",
        _compare_surrogates,
        "fraction of the surrogates that rotate at least as much as the recording",
        better="neither",
        needs="network",
        has_chance=False,
        is_resampled=False,
    ),
    ScoreSpec(
        "dynamical distance",
        _measure_distance,
        "distance between linear models of the two dynamics; 0: the same",
        better="lower",
        needs="hidden",
        has_chance=False,
        is_resampled=False,
    ),
    ScoreSpec(
        "dynamical distance given the inputs",
        partial(_measure_distance, controlled=True),
        "distance between linear models that have a term for the inputs; 0: the same",
        better="lower",
        needs="hidden",
        is_resampled=False,
        has_chance=False,
    ),
)
MAIN = tuple(spec.name for spec in SCORES if spec.is_main)


def _measure_elsewhere(_: Comparison) -> float:
    return math.nan


_BETTER: Any = "higher", "neither"
MEASURED: tuple[ScoreSpec, ...] = tuple(
    ScoreSpec(name, _measure_elsewhere, meaning, unit, _BETTER[bool(neither)], has_chance=False)
    for name, meaning, unit, neither in (
        (
            "response correlation",
            "correlation of the network's responses to perturbations with those of the simulated circuit",
            "",
            0,
        ),
        ("response R2", "R² of the responses to perturbations; 0: predicting no response", "", 0),
        (
            "leading growth rate",
            "growth rate of the slowest mode at the most stable fixed point of movement",
            "1/s",
            1,
        ),
        (
            "Lyapunov exponent",
            "largest exponent in movement; below 0, differences between states die away",
            "1/s",
            1,
        ),
        ("departure from normality", "part of ‖W‖² that the eigenvalues do not explain; 0: normal", "", 1),
        ("attracting points", "number of stable fixed points found in movement", "", 1),
        (
            "slow modes",
            "number of modes at the most stable fixed point that grow, or decay more slowly than 2.5 / s",
            "",
            1,
        ),
    )
)
"""Scores of the network itself rather than its predictions; :mod:`nwbrnn.mechanism` computes them."""


def get_spec(name: str) -> ScoreSpec:
    """Return the description of a score, also of one under other conditions.

    Raises
    ------
    LookupError
        If there is no score with this name.
    """
    by_name = {spec.name: spec for spec in (*SCORES, *MEASURED)}
    for known in (name, name.partition(",")[0]):
        if known in by_name:
            return by_name[known]
    raise LookupError(f"no score {name!r}; there are {', '.join(by_name)}")
