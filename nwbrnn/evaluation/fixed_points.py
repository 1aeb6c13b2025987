"""Compute fixed and slow points, modes and Lyapunov exponents of a network with constant inputs."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy  # loads its parts on first use
from numpy.typing import NDArray

Array = NDArray[np.float64]

MAX_STEPS = 100  # of Newton's method, from each start
TOLERANCE = 1e-9  # speed at which the search ends, relative to that of the starts
EXACT = 1e-6  # speed of a fixed point, as Newton reaches it where a mode is neutral, relative to the starts
SLOW = 0.05  # speed of a slow point, relative to the starts
DAMPING = 1e-3  # of Levenberg and Marquardt at first, relative to the mean diagonal
NEUTRAL = 1e-3  # growth rate below which a mode counts as not growing [1/s]
NEAR = 1e-4  # of the extent of the starts: points that are closer are the same


@dataclass(frozen=True)
class System:
    """A dynamical system with constant inputs: dx/dt = g(x), or a map x ← x + step g(x).

    Attributes
    ----------
    change
        g of states, shape (..., n_states) -> (..., n_states) [per s].
    jacobian
        dg/dx of a state, shape (n_states,) -> (n_states, n_states) [1/s].
    step
        Step of the map [s]; 0 for a differential equation.
    push
        The product of the Jacobian of a state with a vector, if there is a quicker way to it.
    """

    change: Callable[[Array], Array]
    jacobian: Callable[[Array], Array]
    step: float = 0.0
    push: Callable[[Array, Array], Array] | None = None

    def linearize(self, state: Array, vector: Array) -> Array:
        """Return the product of the Jacobian of a state with a vector, shape (n_states,)."""
        return self.jacobian(state) @ vector if self.push is None else self.push(state, vector)

    def compute_rates(self, state: Array) -> NDArray[np.complex128]:
        """Return how fast modes grow and rotate at a state, the fastest growing first [1/s].

        They are the eigenvalues λ of the Jacobian, or log(1 + step λ) / step for a map, so that stable modes
        are always below 0.
        """
        values: NDArray[np.complex128] = np.linalg.eigvals(self.jacobian(state)).astype(np.complex128)
        if self.step:
            factors = 1 + self.step * values
            values = np.asarray(np.log(np.where(np.abs(factors) > 1e-12, factors, 1e-12)) / self.step)
        return values[np.argsort(-values.real)]


@dataclass(frozen=True)
class FixedPoint:
    """A state at which a system rests, or nearly.

    Attributes
    ----------
    state
        The state, shape (n_states,).
    speed
        ‖g‖ / √n at the state [per s].
    rates
        Growth rates and frequencies of its modes, the fastest growing first, shape (n_states,) [1/s].
    exact
        Whether it is a fixed point; otherwise it is a slow point, a minimum of the speed.
    """

    state: Array
    speed: float
    rates: NDArray[np.complex128]
    exact: bool

    @property
    def attracts(self) -> bool:
        """Whether it is a fixed point that is stable, or neutral as on a line attractor."""
        return self.exact and bool(self.rates[0].real < NEUTRAL)


@dataclass(frozen=True)
class Gain:
    """The nonlinearity of a rate network: rates of states, and their slopes, element by element."""

    rate: Callable[[Array], Array]
    slope: Callable[[Array], Array]


def create_rate_system(
    weights: Array, current: Array, tau: Array | float, gain: Gain, *, step: float = 0.0
) -> System:
    """Return τ dx/dt = -x + W φ(x) + h with its analytic Jacobian (-1 + W φ'(x)) / τ.

    Parameters
    ----------
    weights
        W, shape (n_units, n_units); columns are presynaptic.
    current
        h, the current of each unit from inputs and bias, shape (n_units,).
    tau
        Time constants [s], one for all or shape (n_units,).
    gain
        φ and φ'.
    step
        Step of Euler's method, if the network is integrated by it [s].
    """
    rates = np.broadcast_to(1 / np.asarray(tau, dtype=np.float64), current.shape)[:, np.newaxis]

    def change(state: Array) -> Array:
        return np.asarray(rates[:, 0] * (gain.rate(state) @ weights.T - state + current))

    def jacobian(state: Array) -> Array:
        return np.asarray(rates * (weights * gain.slope(state) - np.eye(len(state))))

    def push(state: Array, vector: Array) -> Array:
        return np.asarray(rates[:, 0] * (weights @ (gain.slope(state) * vector) - vector))

    return System(change, jacobian, step, push)


def find_fixed_points(system: System, starts: Array) -> list[FixedPoint]:
    """Find fixed and slow points with a damped Newton method, starting from states of a trajectory.

    The Levenberg-Marquardt method minimizes ½‖g‖², which is 0 at fixed points and has other minima at slow
    points. A point that is found from several starts is returned once.

    Parameters
    ----------
    system
        The system.
    starts
        Initial states, shape (n_starts, n_states).

    Returns
    -------
    list of FixedPoint
        The points, slowest first. Slow points are included only if their speed is below a twentieth of the
        mean speed of the starts.

    References
    ----------
    .. [1] Sussillo & Barak 2013, Neural Computation, doi:10.1162/NECO_a_00409.

    Examples
    --------
    One unit with itself, dx/dt = -x + 2 tanh(x), rests at 0 and at ±1.915:

    >>> gain = Gain(np.tanh, lambda x: 1 - np.tanh(x) ** 2)
    >>> system = create_rate_system(np.array([[2.0]]), np.zeros(1), 1.0, gain)
    >>> points = find_fixed_points(system, np.array([[-1.0], [0.1], [1.0]]))
    >>> sorted(round(float(point.state[0]), 3) + 0.0 for point in points)
    [-1.915, 0.0, 1.915]
    """
    typical = float(np.mean([_measure_speed(system, start) for start in starts])) or 1.0
    extent = float(np.linalg.norm(starts - starts.mean(axis=0), axis=1).max()) or 1.0
    points: list[FixedPoint] = []
    found = [_descend(system, start, typical * TOLERANCE) for start in starts]
    for state in sorted(found, key=lambda one: _measure_speed(system, one)):
        speed = _measure_speed(system, state)
        exact = speed <= EXACT * typical
        known = any(np.linalg.norm(state - point.state) < NEAR * extent for point in points)
        if not known and (exact or speed < SLOW * typical):
            points.append(FixedPoint(state, speed, system.compute_rates(state), exact))
    return points


def _measure_speed(system: System, state: Array) -> float:
    return float(np.linalg.norm(system.change(state)) / np.sqrt(len(state)))


def _descend(system: System, state: Array, enough: float) -> Array:
    """Return the minimum of the speed that the method reaches from a state."""
    change = system.change(state)
    damping = DAMPING
    for _ in range(MAX_STEPS):
        if np.linalg.norm(change) <= enough * np.sqrt(len(state)):
            break
        jacobian = system.jacobian(state)
        normal, slope = jacobian.T @ jacobian, jacobian.T @ change
        scale = np.trace(normal) / len(state)
        while damping < 1e6:
            damped = normal + damping * scale * np.eye(len(state))
            _, step, info = scipy.linalg.lapack.dposv(damped, slope, overwrite_a=True)
            moved = system.change(state - step)
            if not info and np.linalg.norm(moved) < np.linalg.norm(change):
                break
            damping *= 10
        else:
            break  # no step lowers the speed
        still = np.linalg.norm(change) - np.linalg.norm(moved) < 1e-12 * np.linalg.norm(change)
        state, change, damping = state - step, moved, max(damping / 10, 1e-12)
        if still:
            break
    return state


def compute_lyapunov_exponent(system: System, state: Array, *, step: float, n_steps: int) -> float:
    """Largest Lyapunov exponent: how fast neighbouring trajectories diverge [1/s].

    A tangent vector follows the trajectory and is rescaled in each step. The exponent is the mean logarithm
    of its growth, excluding the first fifth of the steps.

    Parameters
    ----------
    system
        A map runs with its own step, a differential equation by the classical Runge-Kutta scheme.
    state
        Initial state of the trajectory, shape (n_states,).
    step
        Step of the integration [s]; not used for a map.
    n_steps
        Number of steps.

    Returns
    -------
    float
        Negative if differences decay, positive in chaos.

    References
    ----------
    .. [1] Benettin, Galgani, Giorgilli & Strelcyn 1980, Meccanica 15:9, doi:10.1007/BF02128236.

    Examples
    --------
    The most chaotic logistic map has an exponent of ln 2:

    >>> logistic = System(lambda x: 4 * x * (1 - x) - x, lambda x: np.diag(3 - 8 * x), step=1.0)
    >>> exponent = compute_lyapunov_exponent(logistic, np.array([0.3]), step=1.0, n_steps=20000)
    >>> bool(abs(exponent - np.log(2)) < 0.01)
    True
    """
    tangent = np.random.default_rng(0).standard_normal(len(state))
    tangent /= np.linalg.norm(tangent)
    step = system.step or step
    logarithms = []
    for _ in range(n_steps):
        state, tangent = _advance(system, state, tangent, step)
        size = float(np.linalg.norm(tangent))
        if size == 0 or not np.isfinite(size):
            return float("-inf") if size == 0 else float("nan")
        logarithms.append(np.log(size))
        tangent = tangent / size
    return float(np.mean(logarithms[n_steps // 5 :]) / step)


def _advance(system: System, state: Array, tangent: Array, step: float) -> tuple[Array, Array]:
    """Return state and tangent vector one step later."""
    if system.step:
        return state + step * system.change(state), tangent + step * system.linearize(state, tangent)
    totals = [np.zeros_like(state), np.zeros_like(state)]
    slopes = [np.zeros_like(state), np.zeros_like(state)]
    for part, weight in ((0.0, 1), (0.5, 2), (0.5, 2), (1.0, 1)):
        at, along = state + part * step * slopes[0], tangent + part * step * slopes[1]
        slopes = [system.change(at), system.linearize(at, along)]
        totals = [total + weight / 6 * slope for total, slope in zip(totals, slopes, strict=True)]
    return state + step * totals[0], tangent + step * totals[1]


def compute_departure_from_normality(matrix: Array) -> float:
    """Fraction of the squared norm that eigenvalues do not explain: 1 - Σ|λ|² / ‖W‖²_F.

    Parameters
    ----------
    matrix
        Square matrix.

    Returns
    -------
    float
        0 for a normal matrix, 1 for a nilpotent one; NaN for a zero matrix.

    References
    ----------
    .. [1] Henrici 1962, Numerische Mathematik 4:24, doi:10.1007/BF01386294.

    Examples
    --------
    >>> compute_departure_from_normality(np.array([[0.0, 1.0], [0.0, 0.0]]))
    1.0
    """
    total = float(np.square(matrix).sum())
    explained = float(np.square(np.abs(np.linalg.eigvals(matrix))).sum())
    return 1 - min(explained / total, 1.0) if total > 0 else float("nan")
