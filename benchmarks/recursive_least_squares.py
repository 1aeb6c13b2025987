"""One pass of recursive least squares in closed loop against peers, all in one run, in turn.

The job: 10 conditions of 600 steps, all hidden units have a target current; 200 and 400 units. Ours updates
weights and P every few steps with the samples of all conditions at once, in float64. Peers: the textbook loop
in NumPy, float64, a rank-1 update for each condition and step; and blocks of the 10 conditions on every step
with jax.lax.scan, float32, compiled (skipped where jax is not installed).

    OMP_NUM_THREADS=1 python benchmarks/recursive_least_squares.py
"""

import argparse
from typing import Any

from timing import Run, measure, print_versions  # first: it sets the number of threads

# isort: split
import numpy as np

from nwbrnn.training.least_squares import LinearProblem, Regression, run_closed_loop

N_TIME, N_CONDITIONS, N_INPUTS, ALPHA, RIDGE = 600, 10, 3, 0.1, 1.0


def create_problem(n_hidden: int) -> tuple[LinearProblem, np.ndarray, np.ndarray]:
    """Return inputs, target currents of a random network, and its initial state."""
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((N_TIME, N_CONDITIONS, N_INPUTS))
    weights = rng.standard_normal((n_hidden, n_hidden)) / n_hidden**0.5
    drive = inputs @ rng.standard_normal((N_INPUTS, n_hidden))
    state, currents = np.zeros((N_CONDITIONS, n_hidden)), []
    for u in drive:
        currents.append(np.tanh(state) @ weights.T + u)
        state = (1 - ALPHA) * state + ALPHA * currents[-1]
    problem = LinearProblem(
        inputs=inputs,
        sampled=np.empty((N_TIME, N_CONDITIONS, 0)),
        outputs=np.empty((N_TIME, N_CONDITIONS, 0)),
        mask=np.ones((N_TIME, N_CONDITIONS), dtype=bool),
        sampled_mask=np.ones((N_TIME, N_CONDITIONS, 1), dtype=bool),
        output_mask=np.ones((N_TIME, N_CONDITIONS, 1), dtype=bool),
        alpha=np.full(n_hidden, ALPHA),
        activate=np.tanh,
        invert=np.arctanh,
    )
    return problem, np.stack(currents), np.zeros(n_hidden)


def run_textbook(problem: LinearProblem, currents: np.ndarray, initial: np.ndarray) -> np.ndarray:
    """Run the loop that papers describe, a rank-1 update for each condition and step."""
    n_features = len(initial) + N_INPUTS + 1
    inverse, coefficients = np.eye(n_features) / RIDGE, np.zeros((n_features, len(initial)))
    states = np.tile(initial, (N_CONDITIONS, 1))
    for t in range(N_TIME):
        for trial in range(N_CONDITIONS):
            r = np.concatenate([np.tanh(states[trial]), problem.inputs[t, trial], [1.0]])
            current = r @ coefficients
            k = inverse @ r
            c = 1.0 / (1.0 + r @ k)
            inverse = inverse - c * np.outer(k, k)
            coefficients = coefficients - c * np.outer(k, current - currents[t, trial])
            states[trial] = (1 - ALPHA) * states[trial] + ALPHA * current
    return coefficients


def create_jax(problem: LinearProblem, currents: np.ndarray, initial: np.ndarray) -> Run | None:
    """Return the pass with jax, or ``None`` without it."""
    try:
        import jax
        import jax.numpy as jnp
    except ImportError:
        return None
    n_hidden = len(initial)
    n_features = n_hidden + N_INPUTS + 1
    constant = np.concatenate([problem.inputs, np.ones((N_TIME, N_CONDITIONS, 1))], axis=2)
    data = jnp.asarray(constant, jnp.float32), jnp.asarray(currents, jnp.float32)

    def step(carry: Any, now: Any) -> Any:
        state, inverse, coefficients = carry
        constant, target = now
        r = jnp.concatenate([jnp.tanh(state), constant], axis=1)
        current = r @ coefficients
        k = inverse @ r.T
        s = jnp.eye(N_CONDITIONS) + r @ k
        gain = jnp.linalg.solve(s, k.T)
        inverse = inverse - k @ gain
        coefficients = coefficients + gain.T @ (target - current)
        return ((1 - ALPHA) * state + ALPHA * current, inverse, coefficients), None

    @jax.jit  # type: ignore[untyped-decorator]
    def run(constant: "jax.Array", target: "jax.Array") -> Any:
        start = jnp.zeros((N_CONDITIONS, n_hidden)), jnp.eye(n_features) / RIDGE
        return jax.lax.scan(step, (*start, jnp.zeros((n_features, n_hidden))), (constant, target))[0]

    return lambda: jax.block_until_ready(run(*data))


def create_runs(n_hidden: int) -> dict[str, Run | None]:
    """Return the pass by each method."""
    job = create_problem(n_hidden)
    n_features = n_hidden + N_INPUTS + 1
    start = Regression(np.zeros((n_features, n_hidden)), (np.eye(n_features) / RIDGE,))
    return {
        "nwbrnn": lambda: run_closed_loop(job[0], start, job[1], job[2]),
        "textbook NumPy": lambda: run_textbook(*job),
        "jax": create_jax(*job),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    print_versions("numpy", "scipy")
    for n_hidden in (200, 400):
        measure(f"one pass, {n_hidden} hidden units", create_runs(n_hidden), args.rounds)


if __name__ == "__main__":
    main()
