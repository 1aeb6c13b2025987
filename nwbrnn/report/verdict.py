"""The verdict on a fit, in words and numbers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from nwbrnn.evaluation import Score
from nwbrnn.result import FitResult
from nwbrnn.text import join_words

# Shares of the noise ceiling and what they are called; ours
GRADES = ((0.95, "as well as the noise of the trials allows"), (0.8, "well"), (0.5, "in part"))
PERFECT, WEAK, CHANCE = "almost perfectly", "weakly", "no better than chance"


@dataclass(frozen=True)
class Judgement:
    """One of the three things a network is to reproduce, and how well it does.

    Attributes
    ----------
    what
        Such as "outputs".
    grade
        In words; ``None`` if there is nothing to judge.
    score
        The number behind it.
    """

    what: str
    grade: str | None
    score: Score


def judge(result: FitResult, assessment: Sequence[Score]) -> tuple[Judgement, ...]:
    """Return how well outputs, sampled and unsampled neurons are reproduced.

    Parameters
    ----------
    result
        A fit.
    assessment
        What :func:`nwbrnn.assess` says of it.
    """
    scores = {score.name: score for score in assessment}
    sampled = result.recorded["sampled"].values
    named = (
        ("outputs", scores["output R2"]),
        (f"sampled neurons ({sampled.sum()})", scores["sampled neurons R2"]),
        (f"unsampled neurons ({(~sampled).sum()})", scores["unsampled neurons R2"]),
    )
    return tuple(Judgement(what, grade(score), score) for what, score in named)


def summarize(judgements: Sequence[Judgement]) -> str:
    """Return the verdict on a fit in one sentence.

    Parameters
    ----------
    judgements
        From :func:`judge`.

    Examples
    --------
    >>> score = Score("output R2", "condition averages", 0.9)
    >>> summarize([Judgement("outputs", "well", score), Judgement("neurons", None, score)])
    'On held-out trials, the network reproduces the outputs well.'
    >>> summarize([Judgement(what, "well", score) for what in ("outputs", "neurons")])
    'On held-out trials, the network reproduces the outputs and the neurons well.'
    """
    graded = [one for one in judgements if one.grade]
    groups = [(grade, list(same)) for grade, same in groupby(graded, key=lambda one: one.grade)]
    if not groups:
        return "The held-out trials do not allow a verdict on the network."
    parts = [f"{join_words([f'the {one.what}' for one in same])} {grade}" for grade, same in groups]
    return f"On held-out trials, the network reproduces {join_words(parts, ', and ')}."


def grade(score: Score) -> str | None:
    """Return how good a score is in words: its share of the noise ceiling, or of 1 where none is known.

    Parameters
    ----------
    score
        An R²; 0 is predicting the mean.
    """
    if not math.isfinite(score.value):
        return None
    floor = max(0.0, score.chance) if math.isfinite(score.chance) else 0.0
    lowest = score.low if math.isfinite(score.low) else score.value
    if lowest <= floor:
        return CHANCE
    known = math.isfinite(score.noise_ceiling) and score.noise_ceiling > 0
    ceiling = score.noise_ceiling if known else 1.0
    word = next((word for share, word in GRADES if score.value >= share * ceiling), WEAK)
    return word if known or word != GRADES[0][1] else PERFECT


def list_cautions(result: FitResult, judgements: Sequence[Judgement]) -> list[str]:
    """Return what is to be known before the numbers are believed, one sentence each."""
    cautions = []
    config, best = result.config, result.best
    if config.held_out_conditions:
        held = ", ".join(config.held_out_conditions)
        cautions.append(f"The test is on conditions that were held out completely: {held}.")
        if config.held_out == "outputs":
            cautions[-1] = (
                f"The test is on the outputs of conditions of which the network saw only neurons: {held}."
            )
    judged = [one.score for one in judgements if one.grade is not None]
    if any(math.isnan(score.noise_ceiling) for score in judged):
        cautions.append(
            "With one trial of each condition, there is no noise ceiling and no interval. The words compare "
            "the scores with 1, which noise may keep any network from reaching."
        )
    elif judged and all(math.isnan(score.low) for score in judged):
        cautions.append("With one test trial of each condition, there are no intervals.")
    if best.ended == "interrupted":
        cautions.append("The fit was interrupted. This is the best network up to that point.")
    return [*cautions, best.warning] if best.warning else cautions
