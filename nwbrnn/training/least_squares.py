"""The least-squares fit: recurrent and output weights from linear regression on target currents.

If the time course of a unit's rate is known, its equation gives the input current that it needs, so a linear
regression gives its weights (FORCE, Sussillo & Abbott 2009, Neuron, doi:10.1016/j.neuron.2009.07.018; here
for all recurrent weights). Free hidden units get their targets from a random network driven by known signals
(full-FORCE, DePasquale et al. 2018, PLoS ONE, doi:10.1371/journal.pone.0191527). All units share the same
regressors, and hence one inverse correlation matrix P.

The regressors are first the targets themselves (teacher forcing), which gives one linear system. Then they
are the network's own rates (closed loop), and weights and P are updated recursively, so that the network
learns to correct its own errors. All computations use float64: in float32, P becomes singular after a few
hundred updates.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.linalg import blas

from nwbrnn.dataset import group_channels

Array = NDArray[np.float64]
Weights = dict[str, NDArray[np.floating]]
Function = Callable[[Array], Array]

# standard deviations of the noise on the regressors to which a ridge of n σ² corresponds; rates are about 1
NOISE_LEVELS = (0.3, 0.1, 0.03, 0.01)
MAX_PASSES = 4  # in closed loop; more did not improve held-out conditions
UPDATE_EVERY = 5  # steps between updates of weights and P in closed loop
# scale of the inputs of the target network if neurons are sampled; with 1, the free units respond more to the
# task than to the neurons, and they determine the leading dimensions of the network (docs/results.md)
INPUTS = 0.3
DRIVE = 0.2  # standard deviation of the contribution of known channels to the currents of free units


@dataclass(frozen=True)
class LinearProblem:
    """The inputs of the network and the known rates of its units.

    Attributes
    ----------
    inputs
        Inputs, shape (n_time, n_trials, n_inputs).
    sampled
        Target rates of the first hidden units, shape (n_time, n_trials, n_sampled).
    outputs
        Target outputs, shape (n_time, n_trials, n_outputs).
    mask
        True where a bin was recorded, shape (n_time, n_trials).
    sampled_mask, output_mask
        True where sampled neurons were observed, and where outputs may be used, shape
        (n_time, n_trials, n_channels), or (n_time, n_trials, 1) if it is the same for all. A target without
        weight in a bin takes no part in the regression; as a regressor, the last value replaces it, or in
        trials without any, the mean of the others.
    alpha
        Step divided by the time constant of each hidden unit, shape (n_hidden,).
    activate, invert
        Functions from states to rates and from rates to states, element by element.
    """

    inputs: Array
    sampled: Array
    outputs: Array
    mask: NDArray[np.bool_]
    sampled_mask: NDArray[np.bool_]
    output_mask: NDArray[np.bool_]
    alpha: Array
    activate: Function
    invert: Function


@dataclass(frozen=True)
class Regression:
    """The recurrent regression: coefficients of [rates, inputs, 1] and their inverse correlation matrices.

    Attributes
    ----------
    coefficients
        Coefficients, shape (n_hidden + n_inputs + 1, n_hidden).
    inverses
        P of each group of units that were observed in the same bins, shape
        (n_hidden + n_inputs + 1, n_hidden + n_inputs + 1); a single one if no sampled neuron lacks any.
    """

    coefficients: Array
    inverses: tuple[Array, ...]


def fit_least_squares(
    problem: LinearProblem, start: Mapping[str, NDArray[np.floating]], *, score: Callable[[Weights], float]
) -> tuple[Weights, float]:
    """Fit a network by least squares and return the weights with the lowest score.

    The function tries ridges of several strengths. From the best of them, the network passes through the data
    in closed loop until its score, rather than its training error, gets worse, since more passes overfit.

    Parameters
    ----------
    problem
        Inputs and targets.
    start
        Random weights, by the names of :class:`nwbrnn.models.RateRNN`: the recurrence of the target network,
        and the initial states of free units.
    score
        A function of weights that returns their loss in a free run, if possible on held-out data.

    Returns
    -------
    weights, score
        The best weights, and their score; those of ``start`` and infinity if nothing finite was found.
    """
    rates, currents, initial = create_targets(problem, start)
    best, best_score = {name: np.asarray(values) for name, values in start.items()}, float("inf")
    chosen: tuple[Regression, float] | None = None
    for noise in NOISE_LEVELS:
        ridge = max(problem.mask.sum(), 1) * noise**2
        regression = solve_forced(problem, rates, currents, ridge=ridge)
        weights = _assemble(problem, regression, start, initial, ridge)
        found = score(weights)
        if found < best_score:
            best, best_score, chosen = weights, found, (regression, ridge)
    if chosen is None:
        return best, best_score
    regression, ridge = chosen
    for _ in range(MAX_PASSES):
        regression = run_closed_loop(problem, regression, currents, initial)
        weights = _assemble(problem, regression, start, initial, ridge)
        found = score(weights)
        if not found < best_score:
            break
        best, best_score = weights, found
    return best, best_score


def create_targets(
    problem: LinearProblem, start: Mapping[str, NDArray[np.floating]]
) -> tuple[Array, Array, Array]:
    """Return the target rates and input currents of every hidden unit.

    The current of a sampled unit follows from its equation. The targets of free units come from a random
    network whose sampled units are clamped to their targets, and which the sampled rates and outputs drive.

    Returns
    -------
    rates, currents, initial
        Rates, shape (n_time + 1, n_trials, n_hidden), beginning with those of the initial state; currents,
        shape (n_time, n_trials, n_hidden); and the initial state, shape (n_hidden,).
    """
    n_time, n_trials, n_sampled = problem.sampled.shape
    recurrent = np.asarray(start["recurrent_weights"], dtype=np.float64)
    n_hidden = len(recurrent)
    targets = _forward_fill(problem.sampled, problem.sampled_mask)
    sampled = problem.invert(targets)
    initial = np.array(start["initial_state"], dtype=np.float64)
    if n_sampled:
        initial[:n_sampled] = sampled[0].mean(axis=0)
    known = np.concatenate([_standardize(targets), _standardize_outputs(problem)], axis=2)
    rng = np.random.default_rng(n_hidden)
    drive = DRIVE * rng.standard_normal((known.shape[2], n_hidden)) / np.sqrt(known.shape[2])
    scale = INPUTS if n_sampled else 1.0
    fixed = scale * problem.inputs @ np.asarray(start["input_weights"], dtype=np.float64).T
    fixed = fixed + known @ drive + np.asarray(start["bias"], dtype=np.float64)
    states = np.empty((n_time + 1, n_trials, n_hidden))
    currents = np.empty((n_time, n_trials, n_hidden))
    rates = np.empty_like(states)
    states[0] = initial
    rates[0] = problem.activate(states[0])
    alpha = problem.alpha
    for t in range(n_time):
        currents[t] = rates[t] @ recurrent.T + fixed[t]
        states[t + 1] = (1 - alpha) * states[t] + alpha * currents[t]
        states[t + 1, :, :n_sampled] = sampled[t]
        rates[t + 1] = problem.activate(states[t + 1])
    before, after = states[:-1, :, :n_sampled], states[1:, :, :n_sampled]
    kept = 1 - alpha[:n_sampled]
    currents[..., :n_sampled] = (after - kept * before) / alpha[:n_sampled]
    return rates, currents, initial


def solve_forced(problem: LinearProblem, rates: Array, currents: Array, *, ridge: float) -> Regression:
    """Solve for all weights at once, with the target rates as regressors.

    One pass of recursive least squares from P = I / ridge gives the same result. The ridge of neurons that
    were observed in part of the bins is smaller in proportion.
    """
    whole = _stack_features(rates[:-1], problem.inputs)
    coefficients = np.empty((whole.shape[2], rates.shape[2]), order="F")
    inverses = []
    for units, seen in _group_units(problem):
        counted = _find_transitions(seen)
        features = whole[counted]
        gram = features.T @ features
        gram[np.diag_indices_from(gram)] += ridge * (max(seen.sum(), 1) / max(problem.mask.sum(), 1))
        factor = scipy.linalg.cho_factor(gram, lower=True)
        coefficients[:, units] = scipy.linalg.cho_solve(factor, features.T @ currents[counted][:, units])
        inverses.append(scipy.linalg.cho_solve(factor, np.eye(len(gram))))
    return Regression(coefficients, tuple(inverses))


def run_closed_loop(
    problem: LinearProblem, regression: Regression, currents: Array, initial: Array
) -> Regression:
    """Run the network once through the data on its own rates, updating it by recursive least squares.

    All trials run in parallel. The samples of a few steps form a block, with which P is updated at once
    (Woodbury).

    Parameters
    ----------
    problem, initial
        Inputs and mask; the state before the first step, shape (n_hidden,).
    regression
        The initial regression.
    currents
        Target currents, shape (n_time, n_trials, n_hidden).

    Returns
    -------
    Regression
        The regression at the end of the pass.
    """
    n_time, n_trials, n_hidden = currents.shape
    groups = [(units, _find_transitions(seen)) for units, seen in _group_units(problem)]
    coefficients = regression.coefficients.copy()
    inverses = [inverse.copy() for inverse in regression.inverses]
    state = np.broadcast_to(initial, (n_trials, n_hidden)).copy()
    change = np.empty_like(state)
    features = np.ones((UPDATE_EVERY, n_trials, len(coefficients)))
    given = np.empty((UPDATE_EVERY, n_trials, n_hidden))
    for begin in range(0, n_time, UPDATE_EVERY):
        steps = slice(begin, min(begin + UPDATE_EVERY, n_time))
        n_steps = steps.stop - begin
        features[:n_steps, :, n_hidden:-1] = problem.inputs[steps]
        for row, current in zip(features[:n_steps], given, strict=False):
            row[:, :n_hidden] = problem.activate(state)
            np.matmul(row, coefficients, out=current)
            np.subtract(current, state, out=change)
            change *= problem.alpha
            state += change
        for (units, counted), inverse in zip(groups, inverses, strict=True):
            block = counted[steps]
            errors = (currents[steps] - given[:n_steps])[block][:, units]
            # the coefficients themselves if there is one group, and else a copy
            part = np.ascontiguousarray(coefficients[:, units])
            update_recursively(part, inverse, features[:n_steps][block], errors)
            if len(groups) > 1:
                coefficients[:, units] = part
    return Regression(coefficients, tuple(np.tril(one) + np.tril(one, -1).T for one in inverses))


def update_recursively(coefficients: Array, inverse: Array, features: Array, errors: Array) -> None:
    """Update a regression in place with a block of samples, by recursive least squares.

    Parameters
    ----------
    coefficients
        Coefficients, shape (n_features, n_targets).
    inverse
        P, shape (n_features, n_features); since it is symmetric, only the lower triangle is read and written.
    features
        Regressors, shape (n_samples, n_features).
    errors
        Targets minus predictions by the current coefficients, shape (n_samples, n_targets).
    """
    if not len(features):
        return
    # BLAS is column-major: it sees the transpose of every array, and the lower triangle as the upper one
    projected = blas.dsymm(1.0, inverse.T, features.T, lower=0)
    innovation = blas.dgemm(1.0, projected, features.T, trans_a=1)
    innovation[np.diag_indices_from(innovation)] += 1.0
    factor = np.asfortranarray(np.linalg.cholesky(innovation))
    gain = blas.dtrsm(1.0, factor, projected, side=1, lower=1, trans_a=1, overwrite_b=1)
    whitened = blas.dtrsm(1.0, factor, errors.T, side=1, lower=1, trans_a=1)
    blas.dgemm(1.0, whitened, gain, 1.0, coefficients.T, trans_b=1, overwrite_c=1)
    blas.dsyrk(-1.0, gain, 1.0, inverse.T, lower=0, overwrite_c=1)


def _assemble(
    problem: LinearProblem,
    regression: Regression,
    start: Mapping[str, NDArray[np.floating]],
    initial: Array,
    ridge: float,
) -> Weights:
    """Return all weights, with the readout that fits the network's own rates best."""
    n_hidden, n_inputs = len(initial), problem.inputs.shape[2]
    coefficients = regression.coefficients
    rates = _run(problem, coefficients, initial)
    whole = _stack_features(rates, problem.inputs[..., :0])
    readout = np.empty((n_hidden + 1, problem.outputs.shape[2]), order="F")
    for channels, counted in group_channels(problem.output_mask):
        features = whole[counted]
        gram = features.T @ features
        gram[np.diag_indices_from(gram)] += ridge
        target = features.T @ problem.outputs[counted][:, channels]
        readout[:, channels] = scipy.linalg.solve(gram, target, assume_a="pos")
    weights = {
        "recurrent_weights": coefficients[:n_hidden].T,
        "input_weights": coefficients[n_hidden : n_hidden + n_inputs].T,
        "bias": coefficients[-1],
        "initial_state": initial,
        "output_weights": readout[:-1].T,
        "output_bias": readout[-1],
    }
    return {name: values.astype(start[name].dtype) for name, values in weights.items()}


def _run(problem: LinearProblem, coefficients: Array, initial: Array) -> Array:
    """Return the rates of a network that runs freely, shape (n_time, n_trials, n_hidden)."""
    n_time, n_trials = problem.mask.shape
    n_hidden = len(initial)
    fixed = problem.inputs @ coefficients[n_hidden:-1] + coefficients[-1]
    state = np.broadcast_to(initial, (n_trials, n_hidden)).copy()
    rate = problem.activate(state)
    rates = np.empty((n_time, n_trials, n_hidden))
    for t in range(n_time):
        state += problem.alpha * (rate @ coefficients[:n_hidden] + fixed[t] - state)
        rate = rates[t] = problem.activate(state)
    return rates


def _stack_features(rates: Array, inputs: Array) -> Array:
    """Return [rates, inputs, 1], shape (n_time, n_trials, n_hidden + n_inputs + 1)."""
    return np.concatenate([rates, inputs, np.ones((*rates.shape[:2], 1))], axis=2)


def _find_transitions(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the steps with both ends recorded; the first step starts from the initial state."""
    return np.asarray(mask & np.concatenate([np.ones_like(mask[:1]), mask[:-1]]))


def _group_units(problem: LinearProblem) -> list[tuple[slice | NDArray[np.intp], NDArray[np.bool_]]]:
    """Return the hidden units that have targets in the same bins, and these bins; free units have all."""
    mask, seen = problem.mask[..., np.newaxis], problem.sampled_mask
    if (seen == mask).all():
        return group_channels(mask)
    n_sampled = problem.sampled.shape[2]
    shapes = [(*problem.mask.shape, n) for n in (n_sampled, len(problem.alpha) - n_sampled)]
    parts = [np.broadcast_to(one, shape) for one, shape in zip((seen, mask), shapes, strict=True)]
    return group_channels(np.concatenate(parts, axis=2))


def _forward_fill(values: Array, mask: NDArray[np.bool_]) -> Array:
    """Return values in which the last observed value, or the first one, replaces missing ones.

    In trials without any, it is the mean of the other trials.
    """
    steps = np.arange(len(mask))[:, np.newaxis, np.newaxis]
    last = np.maximum.accumulate(np.where(mask, steps, -1), axis=0)
    last = np.where(last < 0, mask.argmax(axis=0), last)
    filled = np.take_along_axis(values, last, axis=0)
    seen = mask.any(axis=0)
    if seen.all():
        return filled
    mean = np.where(seen, filled, 0).sum(axis=1, keepdims=True) / np.maximum(seen.sum(axis=0), 1)
    return np.where(seen, filled, mean)


def _standardize_outputs(problem: LinearProblem) -> Array:
    """Return standardized outputs; those of trials whose outputs may not be used are 0, the mean."""
    filled = _forward_fill(problem.outputs, problem.output_mask)
    standardized = np.zeros_like(filled)
    for channels, counted in group_channels(problem.output_mask):
        seen = counted.any(axis=0)
        if seen.any():
            part = standardized[..., channels]
            part[:, seen] = _standardize(filled[..., channels][:, seen])
            standardized[..., channels] = part
    return standardized


def _standardize(values: Array) -> Array:
    """Return values with mean 0 and standard deviation 1 in each column; constant ones become 0."""
    deviation = values.std(axis=(0, 1))
    return np.asarray((values - values.mean(axis=(0, 1))) / np.where(deviation > 0, deviation, 1.0))
