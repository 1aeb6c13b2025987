"""A Kalman filter and its fit by expectation maximization, the rival of the observer in ``single_trials.py``.

    x[t] = A x[t-1] + B u[t] + w,  w ~ N(0, Q)        y[t] = C x[t] + d + v,  v ~ N(0, diag R)

All trials have the same length, so they share gains and covariances. Tests compare it with the exact
posterior of a Gaussian (``tests/unit/test_kalman.py``).
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

Array = NDArray[np.float64]
FLOOR = 1e-6  # of the variance of a channel that stays unexplained


@dataclass(frozen=True)
class Kalman:
    """Parameters. Shapes: A and Q (n, n), B (n, inputs), C (channels, n), d and R (channels,).

    The first state is N(mean, spread) before the first bin is seen: shapes (n,) and (n, n).
    """

    A: Array
    B: Array
    Q: Array
    C: Array
    d: Array
    R: Array
    mean: Array
    spread: Array


def run_filter(model: Kalman, inputs: Array, seen: Array) -> tuple[Array, Array, Array, Array, float]:
    """Return filtered means, those before each bin, both covariances, and the log likelihood.

    Parameters
    ----------
    model
        Parameters.
    inputs, seen
        u and y, shapes (n_trials, n_time, n_inputs) and (n_trials, n_time, n_channels).

    Returns
    -------
    means, predicted, covariances, predicted_covariances, log_likelihood
        Means of shape (n_trials, n_time, n), covariances of shape (n_time, n, n).
    """
    n_trials, n_time, n_channels = seen.shape
    n = len(model.A)
    means, predicted = np.empty((2, n_trials, n_time, n))
    after, before = np.empty((2, n_time, n, n))
    weighted = model.C / model.R[:, np.newaxis]  # R⁻¹ C
    information = model.C.T @ weighted
    log_likelihood = 0.0
    for t in range(n_time):
        if t == 0:
            before[t], predicted[:, t] = model.spread, model.mean
        else:
            before[t] = model.A @ after[t - 1] @ model.A.T + model.Q
            predicted[:, t] = means[:, t - 1] @ model.A.T + inputs[:, t] @ model.B.T
        error = seen[:, t] - predicted[:, t] @ model.C.T - model.d
        # the Woodbury identity: (C P Cᵀ + R)⁻¹ without a matrix of all channels
        after[t] = _invert(_invert(before[t]) + information)
        projected = error @ weighted
        means[:, t] = predicted[:, t] + projected @ after[t]
        squares = (error**2 / model.R).sum() - ((projected @ after[t]) * projected).sum()
        determinant = np.linalg.slogdet(before[t])[1] - np.linalg.slogdet(after[t])[1] + np.log(model.R).sum()
        log_likelihood -= 0.5 * (squares + n_trials * (determinant + n_channels * np.log(2 * np.pi)))
    return means, predicted, after, before, float(log_likelihood)


def smooth(model: Kalman, inputs: Array, seen: Array) -> tuple[Array, Array, Array, float]:
    """Return smoothed means, covariances, those with the bin before (n_time - 1), and log likelihood."""
    means, predicted, after, before, log_likelihood = run_filter(model, inputs, seen)
    smoothed, spreads = means.copy(), after.copy()
    between = np.empty((len(after) - 1, *after.shape[1:]))
    for t in range(len(after) - 2, -1, -1):
        back = np.linalg.solve(before[t + 1], model.A @ after[t]).T
        smoothed[:, t] += (smoothed[:, t + 1] - predicted[:, t + 1]) @ back.T
        between[t] = spreads[t + 1] @ back.T
        spreads[t] = after[t] + back @ (spreads[t + 1] - before[t + 1]) @ back.T
    return smoothed, spreads, between, log_likelihood


def begin(inputs: Array, seen: Array, n: int, *, width: float = 2.0) -> Kalman:
    """Return first parameters: components of smoothed channels, regressed on the bin before."""
    variance = seen.reshape(-1, seen.shape[-1]).var(axis=0)
    smoothed = gaussian_filter1d(seen, width, axis=1, mode="nearest")
    flat = smoothed.reshape(-1, seen.shape[-1])
    center = flat.mean(axis=0)
    axes = np.linalg.svd((flat - center) / np.sqrt(variance), full_matrices=False)[2][:n]
    C = np.sqrt(variance)[:, np.newaxis] * axes.T
    if len(axes) < n:  # more states than channels: the others begin as noise, and EM finds their use
        more = np.random.default_rng(0).standard_normal((len(C), n - len(axes)))
        C = np.concatenate([C, 0.1 * np.sqrt(variance)[:, np.newaxis] * more], axis=1)
    states = (smoothed - center) @ np.linalg.pinv(C).T
    earlier, now, u = (
        part.reshape(-1, part.shape[-1]) for part in (states[:, :-1], states[:, 1:], inputs[:, 1:])
    )
    known = np.concatenate([earlier, u], axis=1)
    gram = known.T @ known + 1e-6 * len(known) * np.eye(known.shape[1])
    dynamics = np.linalg.solve(gram, known.T @ now).T
    small = 1e-6 * np.eye(n)
    return Kalman(
        A=dynamics[:, :n], B=dynamics[:, n:], Q=np.cov((now - known @ dynamics.T).T).reshape(n, n) + small,
        C=C, d=center, R=variance, mean=states[:, 0].mean(axis=0),
        spread=np.cov(states[:, 0].T).reshape(n, n) + small,
    )  # fmt: skip


def improve(model: Kalman, inputs: Array, seen: Array) -> tuple[Kalman, float]:
    """Return the parameters after one step of expectation maximization, and the log likelihood before it.

    References
    ----------
    .. [1] Ghahramani & Hinton 1996, University of Toronto CRG-TR-96-2.
    """
    n_trials, n_time, n_channels = seen.shape
    n = len(model.A)
    means, spreads, between, log_likelihood = smooth(model, inputs, seen)
    earlier, now, u = (
        part.reshape(-1, part.shape[-1]) for part in (means[:, :-1], means[:, 1:], inputs[:, 1:])
    )
    known = np.concatenate([earlier, u], axis=1)
    gram = known.T @ known
    gram[:n, :n] += n_trials * spreads[:-1].sum(axis=0)
    gram[n:, n:] += 1e-9 * np.eye(len(gram) - n)  # an input may be 0 everywhere
    cross = now.T @ known
    cross[:, :n] += n_trials * between.sum(axis=0)
    dynamics = np.linalg.solve(gram, cross.T).T
    squares = now.T @ now + n_trials * spreads[1:].sum(axis=0)
    Q = _symmetrize(squares - dynamics @ cross.T) / (n_trials * (n_time - 1))
    x, y = means.reshape(-1, n), seen.reshape(-1, n_channels)
    ones = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    gram = ones.T @ ones
    gram[:n, :n] += n_trials * spreads.sum(axis=0)
    cross = y.T @ ones
    readout = np.linalg.solve(gram, cross.T).T
    R = ((y**2).sum(axis=0) - (readout * cross).sum(axis=1)) / len(y)
    first = means[:, 0] - means[:, 0].mean(axis=0)
    return (
        replace(
            model,
            A=dynamics[:, :n],
            B=dynamics[:, n:],
            Q=Q + 1e-9 * np.eye(n),
            C=readout[:, :n],
            d=readout[:, n],
            R=np.maximum(R, FLOOR * y.var(axis=0)),
            mean=means[:, 0].mean(axis=0),
            spread=_symmetrize(spreads[0] + first.T @ first / n_trials),
        ),
        log_likelihood,
    )


def fit(
    inputs: Array, seen: Array, n: int, *, held: tuple[Array, Array], steps: int = 100, patience: int = 10
) -> Kalman:
    """Return the parameters with the best likelihood of held trials in at most so many steps."""
    model = begin(inputs, seen, n)
    best, best_value, since = model, -np.inf, 0
    for _ in range(steps):
        model, _value = improve(model, inputs, seen)
        value = run_filter(model, *held)[-1]
        if value > best_value:
            best, best_value, since = model, value, 0
        else:
            since += 1
            if since >= patience:
                break
    return best


def keep_channels(model: Kalman, chosen: NDArray[np.bool_]) -> Kalman:
    """Return the model that sees some of its channels only."""
    return replace(model, C=model.C[chosen], d=model.d[chosen], R=model.R[chosen])


def _invert(matrix: NDArray[np.floating]) -> Array:
    return _symmetrize(np.linalg.inv(matrix))


def _symmetrize(matrix: NDArray[np.floating]) -> Array:
    return np.asarray((matrix + matrix.T) / 2, dtype=np.float64)
