"""The Kalman filter of the benchmarks against the posterior of a Gaussian, computed without recursion."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

PATH = Path(__file__).parents[2] / "benchmarks" / "kalman.py"
N_TIME, N_STATES, N_CHANNELS = 6, 3, 4


@pytest.fixture(scope="module")
def kalman():
    spec = importlib.util.spec_from_file_location("kalman", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def create_model(kalman, *, seed=0):
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((2, N_STATES, N_STATES))
    turn = np.linalg.qr(rng.standard_normal((N_STATES, N_STATES)))[0]
    return kalman.Kalman(
        A=0.9 * turn, B=rng.standard_normal((N_STATES, 2)), Q=root[0] @ root[0].T,
        C=rng.standard_normal((N_CHANNELS, N_STATES)), d=rng.standard_normal(N_CHANNELS),
        R=rng.uniform(0.5, 2, N_CHANNELS), mean=rng.standard_normal(N_STATES), spread=root[1] @ root[1].T,
    )  # fmt: skip


def describe_jointly(model, inputs):
    """Return mean and covariance of all states, and the map from them to all channels."""
    n = N_TIME * N_STATES
    mean, maps = np.zeros(n), np.zeros((n, n))  # x = mean + maps @ (first deviation, w_1, w_2, ...)
    noise = np.zeros((n, n))
    for t in range(N_TIME):
        now, before = (slice(s * N_STATES, (s + 1) * N_STATES) for s in (t, t - 1))
        noise[now, now] = model.Q if t else model.spread
        maps[now, now] = np.eye(N_STATES)
        mean[now] = model.A @ mean[before] + model.B @ inputs[t] if t else model.mean
        if t:
            maps[now] += model.A @ maps[before]
    return mean, maps @ noise @ maps.T, np.kron(np.eye(N_TIME), model.C)


def condition(model, inputs, seen, n_seen):
    """Return the posterior mean and covariance of all states given the first bins."""
    mean, covariance, read = describe_jointly(model, inputs)
    read = read[: n_seen * N_CHANNELS]
    total = read @ covariance @ read.T + np.diag(np.tile(model.R, n_seen))
    gain = covariance @ read.T @ np.linalg.inv(total)
    error = seen[:n_seen].ravel() - read @ mean - np.tile(model.d, n_seen)
    return mean + gain @ error, covariance - gain @ read @ covariance


@pytest.fixture(scope="module")
def problem(kalman):
    model, rng = create_model(kalman), np.random.default_rng(1)
    return model, rng.standard_normal((2, N_TIME, 2)), rng.standard_normal((2, N_TIME, N_CHANNELS))


def test_filtered_states_are_the_posterior_given_the_bins_so_far(kalman, problem):
    model, inputs, seen = problem
    means, _, covariances, _, _ = kalman.run_filter(model, inputs, seen)
    for trial in range(2):
        for t in range(N_TIME):
            mean, covariance = condition(model, inputs[trial], seen[trial], t + 1)
            now = slice(t * N_STATES, (t + 1) * N_STATES)
            np.testing.assert_allclose(means[trial, t], mean[now], rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(covariances[t], covariance[now, now], rtol=1e-9, atol=1e-9)


def test_smoothed_states_are_the_posterior_given_all_bins(kalman, problem):
    model, inputs, seen = problem
    means, covariances, between, _ = kalman.smooth(model, inputs, seen)
    mean, covariance = condition(model, inputs[0], seen[0], N_TIME)
    np.testing.assert_allclose(means[0].ravel(), mean, rtol=1e-9, atol=1e-9)
    blocks = covariance.reshape(N_TIME, N_STATES, N_TIME, N_STATES)
    for t in range(N_TIME):
        np.testing.assert_allclose(covariances[t], blocks[t, :, t], rtol=1e-9, atol=1e-9)
        if t:
            np.testing.assert_allclose(between[t - 1], blocks[t, :, t - 1], rtol=1e-9, atol=1e-9)


def test_the_likelihood_is_that_of_one_gaussian(kalman, problem):
    model, inputs, seen = problem
    expected = 0.0
    for u, y in zip(inputs, seen, strict=True):
        mean, covariance, read = describe_jointly(model, u)
        total = read @ covariance @ read.T + np.diag(np.tile(model.R, N_TIME))
        center = read @ mean + np.tile(model.d, N_TIME)
        expected += scipy.stats.multivariate_normal.logpdf(y.ravel(), center, total)
    assert kalman.run_filter(model, inputs, seen)[-1] == pytest.approx(expected, rel=1e-10)


def test_a_scalar_filter_reaches_the_steady_state_of_the_riccati_equation(kalman):
    a, q, r = 0.9, 0.5, 2.0
    one = np.eye(1)
    model = kalman.Kalman(
        A=a * one, B=0 * one, Q=q * one, C=one, d=np.zeros(1), R=np.array([r]), mean=np.zeros(1), spread=one
    )
    after = kalman.run_filter(model, np.zeros((1, 200, 1)), np.zeros((1, 200, 1)))[2][-1, 0, 0]
    # p = a² P + q before a bin, with P = p r / (p + r) after it
    b = q - r * (1 - a**2)
    before = (b + np.sqrt(b**2 + 4 * q * r)) / 2
    assert after == pytest.approx(before * r / (before + r), rel=1e-9)


def simulate(model, n_trials, *, seed=2):
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((n_trials, 40, 2))
    states = np.empty((n_trials, 40, N_STATES))
    state = model.mean + rng.multivariate_normal(np.zeros(N_STATES), model.spread, n_trials)
    for t in range(40):
        if t:
            noise = rng.multivariate_normal(np.zeros(N_STATES), model.Q, n_trials)
            state = state @ model.A.T + inputs[:, t] @ model.B.T + noise
        states[:, t] = state
    noise = rng.standard_normal((n_trials, 40, N_CHANNELS)) * np.sqrt(model.R)
    return inputs, states @ model.C.T + model.d + noise


def test_each_step_of_the_fit_raises_the_likelihood(kalman):
    inputs, seen = simulate(create_model(kalman), 10)
    model, values = kalman.begin(inputs, seen, N_STATES), []
    for _ in range(15):
        model, value = kalman.improve(model, inputs, seen)
        values.append(value)
    assert (np.diff(values) > 0).all()


@pytest.mark.slow
def test_a_fit_predicts_new_trials_almost_as_well_as_the_truth(kalman):
    true = create_model(kalman)
    trials = simulate(true, 150)
    inputs, seen, held = *(part[:100] for part in trials), tuple(part[100:125] for part in trials)
    tests = tuple(part[125:] for part in trials)
    found = kalman.fit(inputs, seen, N_STATES, held=held, steps=200)

    def predict(model):
        before = kalman.run_filter(model, *tests)[1]
        return np.square(tests[1] - before @ model.C.T - model.d).mean()

    assert predict(found) == pytest.approx(predict(true), rel=0.02)
