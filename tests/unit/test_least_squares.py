from dataclasses import replace

import numpy as np
import pytest

from nwbrnn.training.least_squares import (
    INPUTS,
    LinearProblem,
    Regression,
    create_targets,
    fit_least_squares,
    run_closed_loop,
    solve_forced,
    update_recursively,
)

ALPHA = 0.25


def create_start(n_hidden, n_inputs=2, n_outputs=3, *, gain=0.9, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "recurrent_weights": gain * rng.standard_normal((n_hidden, n_hidden)) / np.sqrt(n_hidden),
        "input_weights": rng.standard_normal((n_hidden, n_inputs)),
        "bias": 0.1 * rng.standard_normal(n_hidden),
        "output_weights": rng.standard_normal((n_outputs, n_hidden)) / np.sqrt(n_hidden),
        "output_bias": rng.standard_normal(n_outputs),
        "initial_state": 0.3 * rng.standard_normal(n_hidden),
    }


def run_network(weights, inputs):
    w, state, rates = weights, np.tile(weights["initial_state"], (inputs.shape[1], 1)), []
    for u in inputs:
        current = np.tanh(state) @ w["recurrent_weights"].T + u @ w["input_weights"].T + w["bias"]
        state = (1 - ALPHA) * state + ALPHA * current
        rates.append(np.tanh(state))
    return np.stack(rates), np.stack(rates) @ w["output_weights"].T + w["output_bias"]


def create_problem(teacher, *, n_sampled, n_time=40, n_trials=6, mask=None, seed=1):
    inputs = np.random.default_rng(seed).standard_normal((n_time, n_trials, 2))
    rates, outputs = run_network(teacher, inputs)
    mask = np.ones((n_time, n_trials), dtype=bool) if mask is None else mask
    return LinearProblem(
        inputs=inputs,
        sampled=rates[..., :n_sampled],
        outputs=outputs,
        mask=mask,
        sampled_mask=mask[..., np.newaxis],
        output_mask=mask[..., np.newaxis],
        alpha=np.full(len(teacher["bias"]), ALPHA),
        activate=np.tanh,
        invert=np.arctanh,
    )


def create_mask(n_time=40, n_trials=6):
    mask = np.ones((n_time, n_trials), dtype=bool)
    mask[30:, 0] = mask[10:15, 1] = mask[:5, 2] = False
    return mask


def solve_ridge(features, targets, ridge):
    return np.linalg.solve(features.T @ features + ridge * np.eye(features.shape[1]), features.T @ targets)


def collect_samples(problem, rates, currents):
    """Return regressors and targets of the steps whose both ends were recorded, one by one."""
    features, targets = [], []
    for t in range(len(currents)):
        for b in range(currents.shape[1]):
            if problem.mask[t, b] and (t == 0 or problem.mask[t - 1, b]):
                features.append([*rates[t, b], *problem.inputs[t, b], 1.0])
                targets.append(currents[t, b])
    return np.array(features), np.array(targets)


@pytest.mark.parametrize("mask", [None, create_mask()], ids=["whole", "gaps"])
def test_forced_solution_is_that_of_ridge_regression(mask):
    problem = create_problem(create_start(12), n_sampled=8, mask=mask)
    rates, currents, _ = create_targets(problem, create_start(12, seed=5))
    regression = solve_forced(problem, rates, currents, ridge=0.7)
    features, targets = collect_samples(problem, rates, currents)
    np.testing.assert_allclose(
        regression.coefficients, solve_ridge(features, targets, 0.7), rtol=1e-7, atol=1e-9
    )
    inverse = np.linalg.inv(features.T @ features + 0.7 * np.eye(features.shape[1]))
    np.testing.assert_allclose(regression.inverses[0], inverse, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("block", [1, 7, 60])
def test_recursive_least_squares_equals_ridge_regression_whatever_the_blocks(block):
    rng = np.random.default_rng(0)
    features, targets = rng.standard_normal((120, 9)), rng.standard_normal((120, 4))
    coefficients, inverse = np.zeros((9, 4)), np.eye(9) / 0.5
    for begin in range(0, 120, block):
        rows = slice(begin, begin + block)
        errors = targets[rows] - features[rows] @ coefficients
        update_recursively(coefficients, inverse, features[rows], errors)
    np.testing.assert_allclose(coefficients, solve_ridge(features, targets, 0.5), rtol=1e-9, atol=1e-11)
    expected = np.linalg.inv(features.T @ features + 0.5 * np.eye(9))
    np.testing.assert_allclose(np.tril(inverse), np.tril(expected), atol=1e-11)


def test_currents_of_sampled_units_are_those_of_the_teacher():
    teacher = create_start(10)
    problem = create_problem(teacher, n_sampled=10)
    rates, currents, _ = create_targets(problem, create_start(10, seed=5))
    before = np.concatenate([rates[:1], problem.sampled[:-1]])
    expected = (
        before @ teacher["recurrent_weights"].T
        + problem.inputs @ teacher["input_weights"].T
        + teacher["bias"]
    )
    np.testing.assert_allclose(currents[1:], expected[1:], rtol=1e-8, atol=1e-10)


def test_a_teacher_with_all_neurons_sampled_is_recovered():
    teacher = create_start(10)
    problem = create_problem(teacher, n_sampled=10, n_trials=30)
    start = create_start(10, seed=5)
    held = np.random.default_rng(9).standard_normal((40, 5, 2))
    expected_rates, expected_outputs = run_network(teacher, held)

    def score(weights):
        rates, outputs = run_network(weights, held)
        return np.mean((rates - expected_rates) ** 2) + np.mean((outputs - expected_outputs) ** 2)

    weights, found = fit_least_squares(problem, start, score=score)
    assert found == score(weights)
    rates, outputs = run_network(weights, held)
    assert 1 - np.var(rates - expected_rates) / np.var(expected_rates) > 0.999
    assert 1 - np.var(outputs - expected_outputs) / np.var(expected_outputs) > 0.999


def test_weights_of_a_teacher_are_found_exactly_where_its_initial_state_does_not_matter():
    teacher, mask = create_start(10), np.ones((40, 30), dtype=bool)
    mask[0] = False
    problem = create_problem(teacher, n_sampled=10, n_trials=30, mask=mask)
    rates, currents, _ = create_targets(problem, create_start(10, seed=5))
    found = solve_forced(problem, rates, currents, ridge=1e-9).coefficients
    parts = teacher["recurrent_weights"].T, teacher["input_weights"].T, teacher["bias"][np.newaxis]
    np.testing.assert_allclose(found, np.concatenate(parts), atol=1e-6)


def test_what_the_mask_hides_changes_nothing():
    teacher, start, mask = create_start(12), create_start(12, seed=5), create_mask()
    problem = create_problem(teacher, n_sampled=6, mask=mask)
    spoiled = create_problem(teacher, n_sampled=6, mask=mask)
    spoiled.sampled[~mask] = 0.99
    spoiled.outputs[~mask] = 1e6
    seen = []
    for given in (problem, spoiled):
        rates, currents, initial = create_targets(given, start)
        regression = solve_forced(given, rates, currents, ridge=0.1)
        seen.append(run_closed_loop(given, regression, currents, initial))
    np.testing.assert_array_equal(seen[0].coefficients, seen[1].coefficients)
    weights = [fit_least_squares(g, start, score=lambda w: 0.0)[0] for g in (problem, spoiled)]
    for name, values in weights[0].items():
        np.testing.assert_array_equal(values, weights[1][name], err_msg=name)


def test_padding_changes_nothing():
    teacher, start = create_start(12), create_start(12, seed=5)
    short = create_problem(teacher, n_sampled=6, n_time=30)
    mask = np.ones((45, 6), dtype=bool)
    mask[30:] = False

    def pad(values):
        return np.concatenate([values, np.zeros((15, *values.shape[1:]))])

    padded = LinearProblem(
        pad(short.inputs),
        pad(short.sampled),
        pad(short.outputs),
        mask,
        mask[..., np.newaxis],
        mask[..., np.newaxis],
        short.alpha,
        np.tanh,
        np.arctanh,
    )
    # the target network of free units is driven by standardized signals, so only the sampled units are equal
    found = []
    for problem in (short, padded):
        rates, currents, initial = create_targets(problem, start)
        found.append((rates[:31], currents[:30], initial))
    np.testing.assert_allclose(found[0][1][..., :6], found[1][1][..., :6], rtol=1e-12)
    rates, currents, initial = found[0]
    longer = create_targets(padded, start)[1].copy()
    longer[:30] = currents
    first = solve_forced(short, rates, currents, ridge=0.1)
    second = solve_forced(padded, np.concatenate([rates, np.ones((15, 6, 12))]), longer, ridge=0.1)
    np.testing.assert_allclose(second.coefficients, first.coefficients, rtol=1e-10)
    first, second = (run_closed_loop(p, first, c, initial) for p, c in ((short, currents), (padded, longer)))
    np.testing.assert_allclose(second.coefficients, first.coefficients, rtol=1e-9, atol=1e-12)


def test_a_pass_in_closed_loop_lowers_the_error_of_a_free_run():
    teacher = create_start(20, gain=1.1)
    problem = create_problem(teacher, n_sampled=8, n_trials=10)
    rates, currents, initial = create_targets(problem, create_start(20, seed=5))
    forced = solve_forced(problem, rates, currents, ridge=20.0)  # so strong that errors are left

    def compute_error(regression):
        weights = {"recurrent_weights": regression.coefficients[:20].T, "initial_state": initial}
        weights |= {"input_weights": regression.coefficients[20:22].T, "bias": regression.coefficients[-1]}
        weights |= {"output_weights": np.zeros((1, 20)), "output_bias": np.zeros(1)}
        return np.mean((run_network(weights, problem.inputs)[0][..., :8] - problem.sampled) ** 2)

    first = run_closed_loop(problem, forced, currents, initial)
    second = run_closed_loop(problem, first, currents, initial)
    errors = [compute_error(r) for r in (forced, first, second)]
    assert errors[1] < 0.8 * errors[0]
    assert errors[2] < errors[0]


def test_closed_loop_stays_stable_for_many_passes_at_400_units_in_float32():
    start = {name: values.astype(np.float32) for name, values in create_start(400, gain=0.5).items()}
    problem = create_problem(create_start(400), n_sampled=100, n_time=120, n_trials=10)
    rates, currents, initial = create_targets(problem, start)
    regression = solve_forced(problem, rates, currents, ridge=0.1)
    for _ in range(5):
        regression = run_closed_loop(problem, regression, currents, initial)
    (inverse,) = regression.inverses
    assert np.isfinite(regression.coefficients).all()
    np.testing.assert_allclose(inverse, inverse.T, atol=1e-9 * np.abs(inverse).max())
    assert np.linalg.eigvalsh(inverse).min() > 0
    weights, _ = fit_least_squares(problem, start, score=lambda w: float(np.abs(w["bias"]).sum()))
    assert {values.dtype for values in weights.values()} == {np.dtype(np.float32)}


def test_passes_stop_when_the_score_gets_worse_and_the_best_is_kept():
    problem = create_problem(create_start(12), n_sampled=6)
    scores = iter([3.0, 1.0, 2.0, 4.0, 0.5, 0.7])  # four ridges, then two passes
    seen = []

    def score(weights):
        seen.append(weights)
        return next(scores)

    best, found = fit_least_squares(problem, create_start(12, seed=5), score=score)
    assert len(seen) == 6
    assert found == 0.5
    assert best is seen[4]


def test_passes_stop_when_the_score_stays_as_it_is():
    scores = iter([3.0, 1.0, 2.0, 4.0, 1.0])
    _, found = fit_least_squares(
        create_problem(create_start(12), n_sampled=6), create_start(12, seed=5), score=lambda w: next(scores)
    )
    assert found == 1.0
    assert next(scores, None) is None


@pytest.mark.parametrize(("n_sampled", "scale"), [(0, 1.0), (4, INPUTS)])
def test_free_units_get_their_inputs_in_full_unless_neurons_are_sampled(n_sampled, scale):
    """Without outputs and bias, the first step from rest tells it: the sampled neurons rest then, too."""
    start = create_start(12) | {"initial_state": np.zeros(12), "bias": np.zeros(12)}
    problem = create_problem(start, n_sampled=n_sampled)
    problem = replace(problem, outputs=np.zeros_like(problem.outputs), sampled=np.zeros_like(problem.sampled))
    currents = create_targets(problem, start)[1][0]
    expected = scale * problem.inputs[0] @ start["input_weights"].T
    np.testing.assert_allclose(currents[:, n_sampled:], expected[:, n_sampled:], atol=1e-12)


def test_nothing_finite_leaves_the_start():
    start = create_start(12, seed=5)
    best, found = fit_least_squares(
        create_problem(create_start(12), n_sampled=6), start, score=lambda w: float("nan")
    )
    assert found == np.inf
    np.testing.assert_array_equal(best["bias"], start["bias"])


def test_an_empty_block_changes_nothing():
    coefficients, inverse = np.ones((3, 2)), np.eye(3)
    update_recursively(coefficients, inverse, np.empty((0, 3)), np.empty((0, 2)))
    np.testing.assert_array_equal(coefficients, 1)
    np.testing.assert_array_equal(Regression(coefficients, (inverse,)).inverses[0], np.eye(3))
