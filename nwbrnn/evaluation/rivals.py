"""State in words which baselines a network beats."""

import math
from collections.abc import Sequence

from nwbrnn.evaluation.baselines import BASELINES, SEED_MEAN, get_baseline
from nwbrnn.evaluation.scores import Rival, Score
from nwbrnn.evaluation.specs import get_spec
from nwbrnn.text import join_words


def compare_baselines(assessment: Sequence[Score]) -> list[str]:
    """Return a sentence for each score that says which baselines a network beats and which it does not.

    Parameters
    ----------
    assessment
        The result of :func:`nwbrnn.assess` with resamples; scores without intervals are left out. A baseline
        is beaten, or beats the network, if the 95 % interval of the difference does not contain 0.
    """
    sentences = []
    for score in assessment:
        known = [rival for rival in score.rivals if math.isfinite(rival.low)]
        kinds: dict[str, list[str]] = {"beats": [], "cannot be distinguished from": [], "is beaten by": []}
        for rival in known:
            kinds[_name_outcome(rival, get_spec(score.name).better)].append(_describe_rival(rival))
        parts = [f"{verb} {join_words(rivals)}" for verb, rivals in kinds.items() if rivals]
        if parts:
            sentences.append(f"{score.name}: the network {'; it '.join(parts)}.")
    return sentences


def list_rivals(assessment: Sequence[Score]) -> dict[str, tuple[str, str]]:
    """Return the label and the meaning of each model that a network is compared with, by name."""
    listed = {one.name: (one.label, one.meaning) for one in BASELINES}
    meanings = {SEED_MEAN: "mean of the predictions of the networks of all seeds"}
    for name in (rival.name for score in assessment for rival in score.rivals):
        listed.setdefault(name, (name, meanings.get(name, "fitted to the same trials")))
    return listed


def _name_outcome(rival: Rival, better: str) -> str:
    """Return the outcome that the interval of the difference, network minus rival, implies."""
    low, high = (rival.low, rival.high) if better == "higher" else (-rival.high, -rival.low)
    return "beats" if low > 0 else "is beaten by" if high < 0 else "cannot be distinguished from"


def _describe_rival(rival: Rival) -> str:
    """Return the name of a baseline with the interval of the difference."""
    baseline = get_baseline(rival.name)
    kind = "decoding, " if baseline is not None and baseline.decodes else ""
    article = "" if rival.name.startswith(("ridge", "reduced-rank")) else "the "
    return f"{article}{rival.name} ({kind}{rival.low:+.3f} to {rival.high:+.3f})"
