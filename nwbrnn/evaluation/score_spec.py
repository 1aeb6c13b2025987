"""What nwbrnn must know about a score."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nwbrnn.evaluation.comparison import Comparison

Array = NDArray[np.floating]

AVERAGES, TRIALS = LEVELS = ("condition averages", "single trials")
Compute = Callable[[Comparison], float]
Parts = Callable[[Comparison], tuple[Array, Array]]
LOWER = " (lower is better)"
Needs = Literal["outputs", "rates", "sampled", "unsampled", "hidden", "network"]


@dataclass(frozen=True)
class ScoreSpec:
    """A score of the predictions for test trials.

    Attributes
    ----------
    name
        Name in tables. A score under other conditions has the same name and a suffix after a comma:
        ``output skill, later than trained``.
    unit
        Unit; empty for a number without one.
    better
        Which values are better; ``neither`` for a score that describes rather than judges.
    meaning
        One line for tables and documentation.
    compute
        Function from a comparison of test trials with their predictions to the value.
    needs
        What must be predicted: outputs, the rates of all, sampled or unsampled neurons, hidden units, or a
        network with hidden units in all trials.
    parts
        For a score of single trials, a function that returns the numerator and denominator of each trial,
        shape (n_trials, n_channels). The score is the median over channels of the ratio of their sums.
    noise_ceiling
        Function for the score of the true course of each condition, from the variance over trials.
    has_reliability
        Whether tables also show the score of one half of the test trials against the other, which is not an
        upper limit.
    has_chance
        Whether the score of each condition against the prediction for another one is meaningful.
    is_quick
        Whether every fit has the score, from :func:`nwbrnn.evaluate`.
    is_main
        Whether it is one of the few that a sweep shows first.
    is_judged
        Whether it is one of the few by which sentences compare the network with the baselines.
    is_resampled
        Whether it has an interval; otherwise it is slow or has only a value.
    """

    name: str
    compute: Compute
    meaning: str
    unit: str = ""
    better: Literal["higher", "lower", "neither"] = "higher"
    needs: Needs = "outputs"
    parts: Parts | None = None
    noise_ceiling: Compute | None = None
    has_reliability: bool = False
    has_chance: bool = True
    is_quick: bool = False
    is_main: bool = False
    is_judged: bool = False
    is_resampled: bool = True

    @property
    def level(self) -> str:
        """Whether it is computed from condition averages or from single trials."""
        return AVERAGES if self.parts is None else TRIALS

    @property
    def label(self) -> str:
        """The name, marked if lower values are better."""
        return f"{self.name}{LOWER}" if self.better == "lower" else self.name

    @property
    def description(self) -> str:
        """The meaning, with the unit."""
        return f"{self.meaning} [{self.unit}]" if self.unit else self.meaning
