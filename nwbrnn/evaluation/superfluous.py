"""Measure superfluous dynamics of a network, which the recording does not require.

A network can predict every recorded neuron, sampled or not, and have arbitrary other dynamics (Dabholkar &
Barak 2025, PLOS Computational Biology, doi:10.1371/journal.pcbi.1013789). These measures fall if it does.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nwbrnn.evaluation.accuracy import compute_r2, compute_weighted_r2
from nwbrnn.evaluation.ridge import fit_ridge
from nwbrnn.preprocessing import average_rows

Array = NDArray[np.floating]
Samples = tuple[Array, Array]
"""Source and target of a map, shapes (n_samples, n_channels)."""

N_DRAWS = 10  # number of random sets of few trials
N_FOLDS = 8  # of conditions, for maps and penalties


def compute_few_shot_r2(
    trials: Sequence[Samples], conditions: Sequence[str], test: Samples, *, seed: int = 0
) -> Array:
    """R² of neurons with a readout from hidden units that is fitted to one trial of each condition.

    The readout is a ridge regression from all hidden units on one random trial of each condition; R² is the
    mean over ten such draws. The more of the hidden activity is unrelated to the neurons, the worse is a
    readout from few trials, whereas a readout from all trials hides this. This is the idea of few-shot
    co-smoothing [1]_, which uses bits per spike and any number of trials.

    Parameters
    ----------
    trials
        Hidden units and rates of each known trial; NaN where a neuron was not observed.
    conditions
        Condition of each known trial.
    test
        Hidden units and rates of the averages of test trials.
    seed
        Seed of the draws.

    Returns
    -------
    ndarray
        Shape (n_neurons,).

    References
    ----------
    .. [1] Dabholkar & Barak 2025, PLOS Computational Biology, doi:10.1371/journal.pcbi.1013789.

    Examples
    --------
    If neurons are hidden units, few trials suffice:

    >>> hidden = np.random.default_rng(0).standard_normal((4, 20, 3))
    >>> trials = [(x, x[:, :2]) for x in hidden]
    >>> compute_few_shot_r2(trials, list("aabb"), trials[0]).round(2).tolist()
    [1.0, 1.0]
    """
    rng = np.random.default_rng(seed)
    groups = [np.flatnonzero(np.array(conditions) == name) for name in dict.fromkeys(conditions)]
    drawn = [[trials[rng.choice(group)] for group in groups] for _ in range(N_DRAWS)]
    scores: list[Array] = []
    # draws with the same hidden units, those of any network that sees no neurons, are fitted together
    for same in [drawn] if _share_source(drawn) else [[draw] for draw in drawn]:
        together = [(some[0][0], np.hstack([y for _, y in some])) for some in zip(*same, strict=True)]
        predicted = fit_ridge(_group(together), n_sets=len(same)).predict(test[0])
        scores += [compute_r2(one, test[1]) for one in np.split(predicted, len(same), axis=1)]
    return average_rows(np.array(scores))


def _share_source(draws: Sequence[Sequence[Samples]]) -> bool:
    """Return whether the sources of all draws are the same."""
    return all(np.array_equal(x, y) for draw in draws for (x, _), (y, _) in zip(draw, draws[0], strict=True))


def compute_mapped_r2(known: dict[str, Samples], test: dict[str, Samples]) -> float:
    """R² of one population predicted linearly from another, in conditions that the map was not fitted to.

    From the recording to a network, it is the part of the network that the recording explains, like the state
    R² of Versteeg et al. [1]_, which is the part of inferred states that the true ones explain. From the
    rates that a network predicts back to its hidden units, it is the part of the network that its predictions
    need, which is called cycle consistency (linear here). Conditions are left out because a map has as many
    weights as there are neurons, and fits anything in a condition that it has seen.

    Parameters
    ----------
    known
        Source and target in each condition, for ridge regression.
    test
        Source and target of test trials.

    Returns
    -------
    float
        Variance-weighted over the target's channels; NaN if it does not vary, or with one condition.

    References
    ----------
    .. [1] Versteeg et al. 2025, bioRxiv, doi:10.1101/2025.02.07.637062, "Computation-through-Dynamics
       Benchmark".

    Examples
    --------
    Half of the variance of the target does not come from the source:

    >>> x = np.random.default_rng(0).standard_normal((8, 400, 4))
    >>> both = {str(i): (one[:, :2], one) for i, one in enumerate(x)}
    >>> round(compute_mapped_r2(both, both), 1)
    0.5
    """
    names = list(test)
    predicted, target = [], []
    for fold in (names[i::N_FOLDS] for i in range(min(N_FOLDS, len(names)))):
        others = [samples for name, samples in known.items() if name not in fold]
        if others:
            ridge = fit_ridge(_group(others))
            predicted += [ridge.predict(test[name][0]) for name in fold]
            target += [test[name][1] for name in fold]
    return compute_weighted_r2(np.concatenate(predicted), np.concatenate(target)) if target else float("nan")


def _group(samples: Sequence[Samples]) -> list[Samples]:
    """Return folds of whole trials or conditions, or of parts if there is only one."""
    if len(samples) == 1:
        parts = [np.array_split(values, N_FOLDS) for values in samples[0]]
        return [(x, y) for x, y in zip(*parts, strict=True) if len(x)]
    folds = [samples[i::N_FOLDS] for i in range(min(N_FOLDS, len(samples)))]
    return [(np.concatenate([x for x, _ in fold]), np.concatenate([y for _, y in fold])) for fold in folds]
