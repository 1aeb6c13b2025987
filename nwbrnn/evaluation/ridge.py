"""Ridge regression of many targets at once, with a penalty chosen by cross-validation within the samples."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import scipy  # loads its parts on first use
from numpy.typing import NDArray

from nwbrnn.dataset import group_channels

Array = NDArray[np.floating]

PENALTIES = tuple(10.0**power for power in range(-6, 3))
"""Penalties, relative to the sum of squares of a feature of unit variance."""


class Moments(NamedTuple):
    """Sums of products of samples for ridge regression, with a column of ones as the last feature."""

    features: Array
    cross: Array
    targets: Array


class Ridge(NamedTuple):
    """A fitted linear map.

    Attributes
    ----------
    weights
        Shape (n_features, n_targets).
    offset
        Shape (n_targets,).
    penalty
        The chosen one of :data:`PENALTIES`; of targets that were observed in different samples, the largest.
    """

    weights: Array
    offset: Array
    penalty: float

    def predict(self, features: Array) -> Array:
        """Return the targets, shape (..., n_targets), of features of shape (..., n_features)."""
        return np.asarray(features @ self.weights + self.offset)


def fit_ridge(
    folds: Iterable[tuple[Array, Array]],
    *,
    max_rank: int | None = None,
    penalties: Sequence[float] = PENALTIES,
) -> Ridge:
    """Fit targets by features, minimizing ‖Y - X B - b‖² + λ ‖B‖² with features of unit variance.

    λ is the number of samples times the one of ``penalties`` that has the smallest error on folds left out in
    turn, with targets scaled to unit variance. With a rank, B is projected onto the leading principal axes of
    its predictions (reduced-rank ridge regression [1]_), and their number is chosen in the same way.

    Parameters
    ----------
    folds
        Features, shape (n_samples, n_features), and targets, shape (n_samples, n_targets), of samples that
        belong together, such as trials. With a single fold, the largest penalty is used. Targets may be NaN:
        those that were observed in the same samples are fitted together to these, and the offset of targets
        without any sample is NaN.
    max_rank
        Maximum rank of the weights; full if not given.
    penalties
        Penalties to choose from.

    References
    ----------
    .. [1] Mukherjee & Zhu 2011, Statistical Analysis and Data Mining, doi:10.1002/sam.10138; between
       populations of neurons Semedo et al. 2019, Neuron, doi:10.1016/j.neuron.2019.01.026.

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((200, 3))
    >>> folds = [(part, part @ [[1.0], [0.5], [-2.0]] + 4) for part in np.split(x, 4)]
    >>> ridge = fit_ridge(folds)
    >>> ridge.weights.ravel().round(3).tolist(), ridge.offset.round(3).tolist()
    ([1.0, 0.5, -2.0], [4.0])
    """
    measured = [_measure(x, y) for x, y in folds]
    if all(len(parts) == 1 for parts in measured):
        return _fit_together([parts[0][1] for parts in measured], max_rank=max_rank, penalties=penalties)
    found = []
    for targets, moments in _group_moments(measured):
        known = [one for one in moments if one.features[-1, -1] > 0]
        if known:
            found.append((targets, _fit_together(known, max_rank=max_rank, penalties=penalties)))
    n_features, n_targets = len(measured[0][0][1].features) - 1, sum(len(t) for t, _ in measured[0])
    weights, offset = np.zeros((n_features, n_targets)), np.full(n_targets, np.nan)
    for targets, ridge in found:
        weights[:, targets], offset[targets] = ridge.weights, ridge.offset
    return Ridge(weights, offset, max((ridge.penalty for _, ridge in found), default=penalties[-1]))


def _fit_together(moments: list[Moments], *, max_rank: int | None, penalties: Sequence[float]) -> Ridge:
    """Fit targets that were observed in the same samples; see :func:`fit_ridge`."""
    whole = _add(moments)
    n, sums = whole.features[-1, -1], whole.features[-1]
    scales = (
        _find_scale(np.diag(whole.features) / n, sums / n),
        _find_scale(whole.targets / n, whole.cross[-1] / n),
    )
    moments, whole = [_scale(one, *scales) for one in moments], _scale(whole, *scales)
    errors = np.zeros(len(penalties))
    for left_out in moments:
        solutions = _solve(_subtract(whole, left_out), penalties) if len(moments) > 1 else []
        errors[: len(solutions)] += [_find_error(solution, left_out) for solution in solutions]
    penalty = penalties[int(np.argmin(errors))] if len(moments) > 1 else penalties[-1]
    (solution,) = _solve(whole, [penalty])
    if max_rank is not None:
        solution = _reduce(solution, whole, _choose_rank(moments, whole, penalty, max_rank))
    weights = solution * scales[1] / scales[0][:, np.newaxis]
    return Ridge(weights[:-1], weights[-1], penalty)


def _choose_rank(moments: list[Moments], whole: Moments, penalty: float, max_rank: int) -> int:
    """Return the rank with the smallest error on folds left out in turn."""
    n_features, n_targets = whole.cross.shape
    ranks = range(1, min(max_rank, n_features - 1, n_targets) + 1)
    errors = np.zeros(len(ranks))
    for left_out in moments if len(moments) > 1 else []:
        known = _subtract(whole, left_out)
        (solution,) = _solve(known, [penalty])
        errors += [_find_error(_reduce(solution, known, rank), left_out) for rank in ranks]
    return int(ranks[int(np.argmin(errors))])


def _add(moments: list[Moments]) -> Moments:
    return Moments(*(sum(parts[1:], start=parts[0]) for parts in zip(*moments, strict=True)))


def _subtract(whole: Moments, part: Moments) -> Moments:
    return Moments(*(a - b for a, b in zip(whole, part, strict=True)))


def _measure(features: Array, targets: Array) -> list[tuple[NDArray[np.intp], Moments]]:
    """Return the moments of each group of targets that were observed in the same samples."""
    x = np.concatenate([features, np.ones((len(features), 1))], axis=1, dtype=np.float64)
    y = targets.astype(np.float64)
    every = np.arange(y.shape[1])
    seen = ~np.isnan(y)
    if seen.all():
        return [(every, Moments(x.T @ x, x.T @ y, np.square(y).sum(axis=0)))]
    parts = []
    for columns, rows in group_channels(seen):
        some, few = x[rows], y[rows][:, columns]
        parts.append((every[columns], Moments(some.T @ some, some.T @ few, np.square(few).sum(axis=0))))
    return parts


def _group_moments(
    measured: Sequence[Sequence[tuple[NDArray[np.intp], Moments]]],
) -> Iterator[tuple[NDArray[np.intp], list[Moments]]]:
    """Yield the targets that are in one group in every fold, with their moments in each fold."""
    n_targets = sum(len(targets) for targets, _ in measured[0])
    labels = np.empty((len(measured), n_targets), dtype=np.intp)
    place = np.empty_like(labels)  # of a target within its group
    for fold, parts in enumerate(measured):
        for number, (targets, _) in enumerate(parts):
            labels[fold, targets], place[fold, targets] = number, np.arange(len(targets))
    groups, belongs = np.unique(labels, axis=1, return_inverse=True)
    for number, group in enumerate(groups.T):
        targets = np.flatnonzero(belongs.ravel() == number)
        moments = []
        for parts, part, columns in zip(measured, group, place[:, targets], strict=True):
            of_part = parts[part][1]
            moments.append(Moments(of_part.features, of_part.cross[:, columns], of_part.targets[columns]))
        yield targets, moments


def _find_scale(squares: Array, mean: Array) -> Array:
    """Return standard deviations from mean squares and means; 1 for constant columns."""
    variance = squares - np.square(mean)
    return np.sqrt(np.where(variance > 1e-12 * np.maximum(squares, 1e-30), variance, 1.0))


def _scale(moments: Moments, features: Array, targets: Array) -> Moments:
    """Return the moments of scaled features and targets."""
    return Moments(
        moments.features / np.outer(features, features),
        moments.cross / np.outer(features, targets),
        moments.targets / np.square(targets),
    )


def _solve(moments: Moments, penalties: Iterable[float]) -> list[Array]:
    """Return the weights for each penalty, shape (n_features + 1, n_targets), not penalizing the offset."""
    n = moments.features[-1, -1]
    solutions: list[Array] = []
    for penalty in penalties:
        gram = moments.features.copy()
        np.fill_diagonal(gram[:-1, :-1], np.diag(gram)[:-1] + penalty * n)
        gram[-1, -1] += 1e-9 * n  # keeps a large constant feature apart from the ones
        _, solution, info = scipy.linalg.lapack.dposv(gram.T, moments.cross, lower=True, overwrite_a=True)
        if info:
            raise np.linalg.LinAlgError(f"the sums of products are not finite or not positive ({info})")
        solutions.append(solution)
    return solutions


def _find_error(solution: Array, moments: Moments) -> float:
    explained = 2 * (solution * moments.cross).sum() - (solution * (moments.features @ solution)).sum()
    return float(moments.targets.sum() - explained)


def _reduce(solution: Array, moments: Moments, rank: int) -> Array:
    """Return weights of lower rank, on the principal axes of the predictions, keeping their mean."""
    n, sums = moments.features[-1, -1], moments.features[-1]
    centred = moments.features - np.outer(sums, sums) / n
    axes = np.linalg.eigh(solution.T @ centred @ solution)[1][:, -rank:]
    reduced = solution @ axes @ axes.T
    reduced[-1] = (sums @ solution - sums[:-1] @ reduced[:-1]) / n
    return np.asarray(reduced)
