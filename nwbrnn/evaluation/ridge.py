"""Ridge regression of many targets at once, with a penalty chosen by cross-validation within the samples."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import scipy  # loads its parts on first use
from numpy.typing import NDArray

from nwbrnn.dataset import group_channels
from nwbrnn.preprocessing import average_rows

Array = NDArray[np.floating]

PENALTIES = tuple(10.0**power for power in range(-6, 3))
"""Penalties, relative to the sum of squares of a feature of unit variance."""
CONSTANT = 1e-12  # variance of a feature that does not vary, relative to its mean square
TINY = 1e-6  # variance of an axis that no weight uses, relative to the smallest penalty
FEW = 4  # features for each target, above which solutions take less time than axes


class Moments(NamedTuple):
    """Sums of products of samples for ridge regression, with a column of ones as the last feature."""

    features: Array
    cross: Array
    targets: Array

    def select(self, targets: NDArray[np.intp]) -> "Moments":
        """Return the moments of some targets."""
        return Moments(self.features, self.cross[:, targets], self.targets[targets])


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
    n_sets: int = 1,
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
    n_sets
        Number of sets of targets, of the same size and one after the other. A penalty is chosen for each.

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
    middle, measured = None, []
    for x, y in folds:
        if middle is None:  # products of values far from 0 lose the digits in which these differ
            middle = average_rows(x.astype(np.float64)), np.nan_to_num(average_rows(y.astype(np.float64)))
        measured.append(_measure(x - middle[0], y - middle[1]))
    assert middle is not None
    n_features, n_targets = len(measured[0][0][1].features) - 1, sum(len(t) for t, _ in measured[0])
    weights, offset = np.zeros((n_features, n_targets)), np.full(n_targets, np.nan)
    chosen = []
    for targets, moments in _group_moments(measured):
        known = [one for one in moments if one.features[-1, -1] > 0]
        if known:
            belongs = targets * n_sets // n_targets
            sets = [np.flatnonzero(belongs == number) for number in np.unique(belongs)]
            ridge = _fit_together(known, sets, max_rank=max_rank, penalties=penalties)
            weights[:, targets], offset[targets] = ridge.weights, ridge.offset
            chosen.append(ridge.penalty)
    offset += middle[1] - middle[0] @ weights
    return Ridge(weights, offset, max(chosen, default=penalties[-1]))


def _fit_together(
    moments: list[Moments],
    sets: Sequence[NDArray[np.intp]],
    *,
    max_rank: int | None,
    penalties: Sequence[float],
) -> Ridge:
    """Fit targets that were observed in the same samples; see :func:`fit_ridge`."""
    whole = _add(moments)
    n, sums = whole.features[-1, -1], whole.features[-1]
    scales = (
        _find_scale(np.diag(whole.features) / n, sums / n),
        _find_scale(whole.targets / n, whole.cross[-1] / n),
    )
    moments, whole = [_scale(one, *scales) for one in moments], _scale(whole, *scales)
    solution, chosen = np.empty_like(whole.cross), _choose_penalties(moments, whole, penalties, sets)
    for targets, penalty in zip(sets, chosen, strict=True):
        (solution[:, targets],) = _solve(whole.select(targets), [penalty])
    if max_rank is not None:
        solution = _reduce(solution, whole, _choose_rank(moments, whole, max(chosen), max_rank))
    weights = solution * scales[1] / scales[0][:, np.newaxis]
    return Ridge(weights[:-1], weights[-1], max(chosen))


def _choose_penalties(
    moments: list[Moments], whole: Moments, penalties: Sequence[float], sets: Sequence[NDArray[np.intp]]
) -> list[float]:
    """Return the penalty of each set of targets with the smallest error on folds left out in turn."""
    if len(moments) == 1:
        return [penalties[-1]] * len(sets)
    n_features, n_targets = whole.cross.shape
    compare = _compare_solutions
    if FEW * n_targets > n_features:
        compare = _compare_on_axes
        axes = _find_axes(whole.features, least=TINY * min(penalties))[1]
        moments, whole = [_project(one, axes) for one in moments], _project(whole, axes)
    errors = sum(compare(_subtract(whole, one), one, penalties, sets) for one in moments)
    return [penalties[number] for number in np.argmin(errors, axis=0)]


def _compare_solutions(
    known: Moments, left_out: Moments, penalties: Sequence[float], sets: Sequence[NDArray[np.intp]]
) -> Array:
    """Return the error on samples left out for each penalty and set, shape (n_penalties, n_sets)."""
    solutions = _solve(known, penalties)
    return np.array(
        [[_find_error(one[:, chosen], left_out.select(chosen)) for chosen in sets] for one in solutions]
    )


def _compare_on_axes(
    known: Moments, left_out: Moments, penalties: Sequence[float], sets: Sequence[NDArray[np.intp]]
) -> Array:
    """Return the same from one eigendecomposition, which costs less than solutions for many targets.

    On the principal axes of the features, with variances s and products c with the targets, the weights are
    D c, where D is diagonal with 1 / (s + λ). Their squared predictions of samples with products A are
    tr(cᵀ D A D c), the sum of all elements of (A ∘ c cᵀ) times the outer product of this diagonal.
    """
    n = known.features[-1, -1]
    variances, axes = _find_axes(known.features)
    factors = 1 / (variances + n * np.array(penalties)[:, np.newaxis])
    squares = axes.T @ left_out.features @ axes
    mean = known.cross[-1] / n
    on_axes = axes.T @ known.cross
    aside = axes.T @ (left_out.cross - np.outer(left_out.features[-1], mean))
    total = left_out.targets - 2 * mean * left_out.cross[-1] + left_out.features[-1, -1] * mean**2
    errors = np.empty((len(penalties), len(sets)))
    for number, chosen in enumerate(sets):
        c = on_axes[:, chosen]
        explained = 2 * factors @ (c * aside[:, chosen]).sum(axis=1)
        errors[:, number] = (
            total[chosen].sum() - explained + ((factors @ (squares * (c @ c.T))) * factors).sum(axis=1)
        )
    return errors


def _find_axes(features: Array, *, least: float = 0.0) -> tuple[Array, Array]:
    """Return the variation along the principal axes of features, and what projects features on the axes.

    The projection has a last row for the ones, which subtracts the mean.

    Parameters
    ----------
    features
        Sums of products, with a last feature of ones.
    least
        Smallest variance of an axis.
    """
    n = features[-1, -1]
    mean = features[-1, :-1] / n
    centred = features[:-1, :-1] - n * np.outer(mean, mean)
    varies = np.diag(centred) > CONSTANT * np.diag(features)[:-1]
    variances, axes = scipy.linalg.eigh(centred * np.outer(varies, varies), driver="evd", check_finite=False)
    kept = variances > n * least
    axes = axes[:, kept]
    return variances[kept], np.vstack([axes, -mean @ axes])


def _project(moments: Moments, axes: Array) -> Moments:
    """Return the moments of features on axes, with the ones as the last feature."""
    basis = np.column_stack([axes, np.eye(len(axes))[:, -1]])
    return Moments(basis.T @ moments.features @ basis, basis.T @ moments.cross, moments.targets)


def _choose_rank(moments: list[Moments], whole: Moments, penalty: float, max_rank: int) -> int:
    """Return the rank with the smallest error on folds left out in turn."""
    n_features, n_targets = whole.cross.shape
    largest = min(max_rank, n_features - 1, n_targets)
    errors = np.zeros(largest)
    for left_out in moments if len(moments) > 1 else []:
        known = _subtract(whole, left_out)
        (solution,) = _solve(known, [penalty])
        weights, axes, mean = _rotate(solution, known)
        weights, axes = weights[:, :largest], axes[:, :largest]
        aside = (left_out.cross - np.outer(left_out.features[-1], mean)) @ axes
        explained = (weights * (2 * aside - left_out.features @ weights)).sum(axis=0)
        errors -= np.cumsum(explained)  # of all ranks, up to the same constant
    return int(np.argmin(errors)) + 1


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
            moments.append(parts[part][1].select(columns))
        yield targets, moments


def _find_scale(squares: Array, mean: Array) -> Array:
    """Return standard deviations from mean squares and means; 1 for constant columns."""
    variance = squares - np.square(mean)
    return np.sqrt(np.where(variance > CONSTANT * np.maximum(squares, 1e-30), variance, 1.0))


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
    weights, axes, mean = _rotate(solution, moments)
    reduced = weights[:, :rank] @ axes[:, :rank].T
    reduced[-1] += mean
    return np.asarray(reduced)


def _rotate(solution: Array, moments: Moments) -> tuple[Array, Array, Array]:
    """Return weights of predictions without their mean on their principal axes, these axes, and the mean."""
    n, sums = moments.features[-1, -1], moments.features[-1]
    centred = moments.features - np.outer(sums, sums) / n
    axes = np.linalg.eigh(solution.T @ centred @ solution)[1][:, ::-1]
    mean = sums @ solution / n
    weights = solution @ axes
    weights[-1] -= mean @ axes
    return weights, axes, mean
