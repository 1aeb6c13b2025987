"""Fixed points, modes and exponents of systems for which they are known."""

import doctest

import numpy as np
import pytest
import scipy.optimize

from nwbrnn.evaluation import fixed_points as module
from nwbrnn.evaluation.fixed_points import (
    Gain,
    System,
    compute_departure_from_normality,
    compute_lyapunov_exponent,
    create_rate_system,
    find_fixed_points,
)

TANH = Gain(np.tanh, lambda x: 1 - np.tanh(x) ** 2)


def create_random(n_units=8, gain=1.2, seed=0):
    rng = np.random.default_rng(seed)
    weights = gain * rng.standard_normal((n_units, n_units)) / np.sqrt(n_units)
    return create_rate_system(weights, rng.standard_normal(n_units), rng.uniform(0.05, 0.2, n_units), TANH)


def test_examples():
    assert doctest.testmod(module, extraglobs={"np": np}).failed == 0


def test_the_jacobian_is_that_of_finite_differences():
    system, rng = create_random(), np.random.default_rng(1)
    state, h = rng.standard_normal(8), 1e-6
    columns = [(system.change(state + h * e) - system.change(state - h * e)) / (2 * h) for e in np.eye(8)]
    np.testing.assert_allclose(system.jacobian(state), np.stack(columns, axis=1), atol=1e-7)
    vector = rng.standard_normal(8)
    np.testing.assert_allclose(system.linearize(state, vector), np.stack(columns, axis=1) @ vector, atol=1e-6)


def test_states_change_together_as_they_do_alone():
    system, states = create_random(), np.random.default_rng(1).standard_normal((3, 8))
    alone = np.stack([system.change(state) for state in states])
    np.testing.assert_allclose(system.change(states), alone, rtol=1e-12)


def test_a_memory_of_patterns_rests_at_its_patterns():
    """Two orthogonal patterns of a Hopfield network: x = ± s p with s = 2 tanh(s), and 0."""
    patterns = np.array([[1, 1, 1, 1], [1, -1, 1, -1]]) / 1.0
    weights = 2 * patterns.T @ patterns / 4
    system = create_rate_system(weights, np.zeros(4), 0.1, TANH)
    size = scipy.optimize.brentq(lambda s: 2 * np.tanh(s) - s, 1, 3)
    starts = np.concatenate([1.3 * patterns, -1.3 * patterns, [[0.01, 0, 0, 0]]])
    points = find_fixed_points(system, starts)
    assert all(point.exact for point in points)
    attracting = [point.state for point in points if point.attracts]
    assert len(attracting) == 4
    for state in attracting:
        np.testing.assert_allclose(np.abs(state), size, atol=1e-7)
    origin = next(point for point in points if np.linalg.norm(point.state) < 1e-6)
    np.testing.assert_allclose(np.sort(origin.rates.real), [-10, -10, 10, 10], atol=1e-6)


def test_a_ghost_of_a_saddle_node_is_a_slow_point():
    """dx/dt = x² + ε has no fixed point, and is slowest at 0."""
    system = System(lambda x: x**2 + 1e-3, lambda x: np.diag(2 * x), 0.0)
    (point,) = find_fixed_points(system, np.array([[-1.0], [0.8]]))
    assert not point.exact
    assert not point.attracts
    assert point.state[0] == pytest.approx(0, abs=1e-3)
    assert point.speed == pytest.approx(1e-3, rel=1e-3)


def test_the_speed_of_a_point_is_the_root_mean_square_over_units():
    """The same ghost in two units, which move by (3, 4) times as much."""
    both = np.array([3.0, 4.0])
    system = System(
        lambda x: both * (x[0] ** 2 + 1e-3), lambda x: np.stack([2 * x[0] * both, np.zeros(2)], axis=1), 0.0
    )
    point = find_fixed_points(system, np.array([[-1.0, 0.0], [0.8, 0.0]]))[0]
    assert point.speed == pytest.approx(5e-3 / np.sqrt(2), rel=1e-3)


def test_points_are_found_by_another_solver_too():
    system = create_random()
    rng = np.random.default_rng(2)
    (point,) = {
        round(p.speed, 12): p for p in find_fixed_points(system, rng.standard_normal((6, 8)))
    }.values()
    solved = scipy.optimize.root(system.change, point.state + 0.01, tol=1e-12)
    np.testing.assert_allclose(point.state, solved.x, atol=1e-8)


@pytest.mark.parametrize(("rate", "step"), [(-3.0, 0.0), (-3.0, 0.01), (2.0, 0.1)])
def test_rates_and_exponent_of_a_linear_system(rate, step):
    """A spiral, and a map that follows it exactly."""
    matrix = np.array([[rate, -5.0], [5.0, rate]])
    from scipy.linalg import expm

    slope = (expm(step * matrix) - np.eye(2)) / step if step else matrix
    system = System(lambda x: slope @ x, lambda x: slope, step)
    np.testing.assert_allclose(system.compute_rates(np.zeros(2)).real, rate, atol=1e-9)
    np.testing.assert_allclose(np.abs(system.compute_rates(np.zeros(2)).imag), 5, atol=1e-9)
    exponent = compute_lyapunov_exponent(system, np.array([1e-9, 0]), step=0.01, n_steps=200)
    assert exponent == pytest.approx(rate, abs=1e-4)


def test_the_exponent_of_the_lorenz_system():
    """0.9056 is in the literature (Viswanath 1998)."""
    s, r, b = 10.0, 28.0, 8 / 3
    system = System(
        lambda x: np.array([s * (x[1] - x[0]), x[0] * (r - x[2]) - x[1], x[0] * x[1] - b * x[2]]),
        lambda x: np.array([[-s, s, 0], [r - x[2], -1, -x[0]], [x[1], x[0], -b]]),
    )
    exponent = compute_lyapunov_exponent(system, np.array([1.0, 1.0, 20.0]), step=0.01, n_steps=15000)
    assert exponent == pytest.approx(0.9056, abs=0.05)


def test_departure_from_normality():
    rng = np.random.default_rng(0)
    orthogonal = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    assert compute_departure_from_normality(orthogonal) == pytest.approx(0, abs=1e-12)
    upper = np.triu(rng.standard_normal((6, 6)), 1)
    assert compute_departure_from_normality(orthogonal @ upper @ orthogonal.T) == pytest.approx(1, abs=1e-3)
    mixed = np.array([[1.0, 1.0], [0.0, 1.0]])
    assert compute_departure_from_normality(mixed) == pytest.approx(1 / 3, abs=1e-6)
    assert np.isnan(compute_departure_from_normality(np.zeros((2, 2))))
