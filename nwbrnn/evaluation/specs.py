"""The scores, each in one place: its name, unit, meaning, which way is better, and how it is computed.

To add a score, add a :class:`ScoreSpec` to ``SCORES``. :func:`nwbrnn.assess`, the tables of the command line,
reports, sweeps and the documentation are made from it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nwbrnn.evaluation.accuracy import compute_skill, compute_vaf, compute_weighted_r2
from nwbrnn.evaluation.comparison import Comparison
from nwbrnn.evaluation.rotations import Rotations
from nwbrnn.evaluation.similarity import compute_controlled_distance, compute_dynamical_distance
from nwbrnn.evaluation.spikes import compute_bits_per_spike, compute_mean, compute_psth_r2, expect_spikes
from nwbrnn.evaluation.subspaces import (
    Components,
    compute_canonical_correlations,
    compute_linear_cka,
    compute_principal_angles,
    compute_procrustes_distance,
    compute_svcca,
)

Array = NDArray[np.floating]

AVERAGES, TRIALS = LEVELS = ("condition averages", "single trials")
Compute = Callable[[Comparison], float]


@dataclass(frozen=True)
class ScoreSpec:
    """A score of the predictions for test trials.

    Attributes
    ----------
    name
        As tables have it. A score under other circumstances has the same name and more of it after a comma:
        ``output skill, later than trained``.
    unit
        Empty for a number without one.
    better
        Which values are better; ``neither`` describes rather than judges.
    meaning
        One line for tables and documentation.
    compute
        The value, from test trials beside the predictions for them.
    split_half
        What is known of the limit, from one half of the test trials beside the average of the other.
    has_chance
        Whether it says something of each condition beside the prediction for another one.
    is_quick
        Whether every fit has it, from :func:`nwbrnn.evaluate`.
    is_main
        Whether it is among the few that a sweep shows first.
    level
        Whether it is computed from condition averages or from single trials.
    package
        Without which it cannot be had; such a score is slow, and has a value only.
    """

    name: str
    compute: Compute
    meaning: str
    unit: str = ""
    better: Literal["higher", "lower", "neither"] = "higher"
    split_half: Compute | None = None
    has_chance: bool = True
    is_quick: bool = False
    is_main: bool = False
    level: str = AVERAGES
    package: str = ""

    @property
    def description(self) -> str:
        """The meaning, with the unit, and whether lower values are better."""
        unit = f" [{self.unit}]" if self.unit else ""
        return f"{self.meaning}{unit}" + ("; lower is better" if self.better == "lower" else "")


# ------------------------------------------------------------------ how they are computed


def _compute_spikes(pair: Comparison) -> float:
    if "spike_counts" not in pair.trials or pair.sampled.all():
        return math.nan
    rates, counts, mean = pair.stack_counts()
    bin_size = pair.trials.attrs["bin_size"]
    return compute_bits_per_spike(expect_spikes(rates, mean, bin_size=bin_size), counts)


def _compute_angle(pair: Comparison) -> float:
    rates = pair.normalized_rates
    return float(np.mean(compute_principal_angles(*rates))) if len(rates[0]) > 1 else math.nan


def _correlate(first: Components, second: Components) -> float:
    return compute_mean(compute_canonical_correlations(first, second))


def _compare_populations(
    name: str, compare: Callable[[Components, Components], float], meaning: str, **about: Any
) -> ScoreSpec:
    """Return a score of how similar the hidden units and the recorded rates are, whatever their axes."""

    def compute(pair: Comparison) -> float:
        return math.nan if pair.populations is None else compare(*pair.populations)

    return ScoreSpec(name, compute, meaning, split_half=compute, **about)


def _score_neurons(which: str, select: Callable[[Comparison], NDArray[np.bool_]], meaning: str) -> ScoreSpec:
    """Return the median R² of some neurons."""
    return ScoreSpec(
        f"{which} neurons R2",
        lambda pair: compute_median(pair.unit_r2[select(pair)]),
        meaning,
        split_half=lambda halves: compute_median(_limit_units(halves)[select(halves)]),
        is_quick=True,
        is_main=True,
    )


def _measure_distance(pair: Comparison, *, controlled: bool = False) -> float:
    complete = pair.truth["mask"].values.all(axis=0)
    recorded, student, inputs = (
        ds[name].values[:, complete]
        for ds, name in ((pair.truth, "rates"), (pair.guess, "hidden"), (pair.truth, "inputs"))
    )
    if controlled:
        return compute_controlled_distance(recorded, student, np.nan_to_num(inputs))
    return compute_dynamical_distance(recorded, student)


# ------------------------------------------------------------------ what halves of the trials say


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

    References
    ----------
    .. [1] Spearman 1910 and Brown 1910, British Journal of Psychology 3.
    """
    x, y = (values - values.mean(axis=0) for values in (first.astype(float), second.astype(float)))
    size = np.sqrt(np.square(x).sum(axis=0) * np.square(y).sum(axis=0))
    r = np.clip((x * y).sum(axis=0) / np.where(size > 0, size, np.nan), 0, 1)
    return np.asarray(2 * r / (1 + r))


def _limit_outputs(halves: Comparison) -> float:
    """Return the reliability of the outputs, each by its variance."""
    variance = halves.outputs[0].var(axis=0)
    return float(np.nansum(correct_reliability(*halves.outputs) * variance) / variance.sum())


def _limit_skill(halves: Comparison) -> float:
    """Return the same unexplained variance, but relative to that of all conditions."""
    share = halves.outputs[0].var(axis=0).sum() / halves.reference.var(axis=0).sum()
    return float(1 - (1 - _limit_outputs(halves)) * share)


def _limit_units(halves: Comparison) -> Array:
    return correct_reliability(*halves.rates)


# ------------------------------------------------------------------ the list


def compute_median(values: Array) -> float:
    """Return the median of the finite values, NaN if there are none."""
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else math.nan


def _describe_rotations() -> list[ScoreSpec]:
    """Return what jPCA finds in the recorded population, and in the hidden units."""

    def get(name: str, whose: str) -> Compute:
        def find(pair: Comparison) -> float:
            found: Rotations = pair.recorded_rotations if whose == "recorded" else pair.student_rotations
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
        ScoreSpec(f"rotation {name}, {whose}", get(name, whose), meaning, unit, "neither", has_chance=False)
        for whose in ("recorded", "student")
        for name, (meaning, unit) in kinds.items()
    ]


SPIKES = "co-smoothing bits per spike"
SCORES: tuple[ScoreSpec, ...] = (
    ScoreSpec(
        "output R2",
        lambda pair: compute_weighted_r2(*pair.outputs),
        "R² of all outputs, each weighted by its variance",
        split_half=_limit_outputs,
        is_quick=True,
        is_main=True,
    ),
    ScoreSpec(
        "output VAF",
        lambda pair: compute_vaf(*pair.outputs),
        "like R², but an offset is forgiven",
        split_half=_limit_outputs,
    ),
    ScoreSpec(
        "output skill",
        lambda pair: compute_skill(*pair.outputs, pair.reference),
        "like R², relative to the variance over all conditions",
        split_half=_limit_skill,
        is_main=True,
    ),
    _score_neurons(
        "sampled", lambda pair: pair.sampled, "median R² of the neurons that the network was trained on"
    ),
    _score_neurons(
        "unsampled",
        lambda pair: ~pair.sampled,
        "median R² of the neurons that the network was not trained on",
    ),
    ScoreSpec(
        "PSTH R2",
        lambda pair: compute_psth_r2(*pair.rates),
        "mean R² of all neurons, as in the Neural Latents Benchmark",
        split_half=lambda halves: compute_mean(_limit_units(halves)),
    ),
    ScoreSpec(
        SPIKES,
        _compute_spikes,
        "what single spikes of unsampled neurons gain over their mean rate",
        split_half=_compute_spikes,
        is_main=True,
        level=TRIALS,
    ),
    ScoreSpec(
        "principal angle",
        _compute_angle,
        "mean angle between the ten leading dimensions of recorded and predicted rates",
        unit="degrees",
        better="lower",
        split_half=_compute_angle,
        has_chance=False,  # a subspace has no order of conditions
    ),
    _compare_populations(
        "canonical correlation",
        _correlate,
        "mean over ten dimensions of the hidden units and of the rates; 1: the same",
        is_quick=True,
        is_main=True,
    ),
    _compare_populations(
        "SVCCA", compute_svcca, "mean canonical correlation of the dimensions that hold 99 % of the variance"
    ),
    _compare_populations(
        "Procrustes angle",
        compute_procrustes_distance,
        "what is left after the best rotation and scaling; 0: the same shape",
        unit="degrees",
        better="lower",
    ),
    _compare_populations(
        "linear CKA", compute_linear_cka, "similarity of the geometry; 1: the same but for rotation and scale"
    ),
    *_describe_rotations(),
    ScoreSpec(
        "dynamical distance",
        _measure_distance,
        "between linear models of the two dynamics; 0: the same",
        better="lower",
        package="DSA",
        has_chance=False,
    ),
    ScoreSpec(
        "dynamical distance given the inputs",
        partial(_measure_distance, controlled=True),
        "the same between linear models that have a term for the inputs; 0: the same",
        better="lower",
        package="DSA",
        has_chance=False,
    ),
)
MAIN = tuple(spec.name for spec in SCORES if spec.is_main)


def _measure_elsewhere(_: Comparison) -> float:
    return math.nan


MEASURED: tuple[ScoreSpec, ...] = tuple(
    ScoreSpec(name, _measure_elsewhere, meaning, unit, better, has_chance=False)  # type: ignore[arg-type]
    for name, meaning, unit, better in (
        (
            "response correlation",
            "of the student's responses to perturbations with those of its teacher",
            "",
            "higher",
        ),
        (
            "response R2",
            "of the student's responses to perturbations, relative to no response",
            "",
            "higher",
        ),
        (
            "leading growth rate",
            "of the slowest mode at the most stable point of movement",
            "1/s",
            "neither",
        ),
        ("Lyapunov exponent", "largest one in movement: below 0, differences die away", "1/s", "neither"),
        (
            "departure from normality",
            "part of the weights' squared norm that eigenvalues do not explain; 0: normal",
            "",
            "neither",
        ),
        ("attracting points", "stable fixed points in movement that were found", "", "neither"),
        ("slow modes", "modes there that grow, or decay slower than 2.5 / s", "", "neither"),
    )
)
"""Of the network itself rather than of its predictions: :mod:`nwbrnn.mechanism` computes them."""


def list_available() -> tuple[ScoreSpec, ...]:
    """Return the scores whose packages are installed."""
    return tuple(spec for spec in SCORES if not spec.package or find_spec(spec.package) is not None)


def get_spec(name: str) -> ScoreSpec:
    """Return what is known of a score, also of one under other circumstances.

    Raises
    ------
    LookupError
        If there is none of this name.
    """
    by_name = {spec.name: spec for spec in (*SCORES, *MEASURED)}
    for known in (name, name.partition(",")[0]):
        if known in by_name:
            return by_name[known]
    raise LookupError(f"no score {name!r}; there are {', '.join(by_name)}")
