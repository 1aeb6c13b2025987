"""One training step, and its time loop alone, against peers and the floor; all in one run, in turn.

A third part compares a step of a network that 50 of its neurons correct with a step of one without.

The job: 200 target neurons (as many hidden units stand for them) and 8 outputs, full batch, float32, one
thread; 600 steps of 10 conditions, and 200 steps of as many rows as single trials make. A step is forward,
loss, backward, clipping and Adam. Peers: the loop as one would write it for torch's autograd, and
jax.lax.scan with value_and_grad, compiled (skipped where jax is not installed). The floor is the matrix
products of the same step and nothing else, by the faster of NumPy and torch.

    OMP_NUM_THREADS=1 python benchmarks/epoch.py
"""

import argparse
from collections.abc import Callable
from typing import Any

from timing import Run, measure, print_versions  # first: it sets the number of threads

# isort: split
import numpy as np
import torch
from torch import Tensor

from nwbrnn.buffers import reuse_memory
from nwbrnn.config import FitConfig
from nwbrnn.losses import Outcome, Targets, compute_loss_terms, identity
from nwbrnn.models import Observations, rate_rnn
from nwbrnn.models.scan import scan, scan_and_read

N_TARGETS, N_OUTPUTS, N_INPUTS, N_OBSERVED, ALPHA = 200, 8, 3, 50, 0.1
SIZES = ((200, 10, 600), (400, 10, 600), (200, 64, 200), (200, 150, 200), (400, 64, 200), (400, 150, 200))
"""Hidden units, conditions or trials, and time steps."""
LEARNING_RATE = 1e-3

Size = tuple[int, int, int]


def autograd_scan(
    drive: Tensor, weights: Tensor, initial: Tensor, keep: Tensor, *, nonlinearity: str = "tanh"
) -> Tensor:
    """Run the loop for autograd: one addmm, one addcmul and one tanh in each step."""
    transposed = weights.T
    state, rate, rates = initial, torch.tanh(initial), []
    for step_drive in drive.unbind(0):
        state = torch.addmm(torch.addcmul(step_drive, keep, state), rate, transposed)
        rate = torch.tanh(state)
        rates.append(rate)
    return torch.stack(rates)


def create_step(size: Size, loop: Callable[..., Tensor], *, n_observed: int = 0) -> Run:
    """Return a training step of our model with a given time loop, or with neurons that correct the state."""
    n_hidden, n_conditions, n_time = size
    generator = torch.Generator().manual_seed(0)
    config = FitConfig(hidden=n_hidden, tau=0.1)
    sizes = N_INPUTS, n_hidden, N_OUTPUTS
    model = rate_rnn.RateRNN(sizes, config, bin_size=0.01, n_observed=n_observed)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=True)

    def random(n_channels: int) -> Tensor:  # time first in memory, as nwbrnn.training makes its batches
        return torch.randn(n_time, n_conditions, n_channels, generator=generator).transpose(0, 1)

    inputs = random(N_INPUTS)
    weight = torch.ones(n_time, n_conditions, 1).transpose(0, 1)
    targets = Targets(random(N_OUTPUTS), weight, random(N_TARGETS), weight, identity)
    counted = torch.ones(n_time, n_conditions, n_observed).transpose(0, 1)
    seen = Observations(random(n_observed), counted, torch.arange(n_observed))

    def read(*given: Tensor, nonlinearity: str) -> tuple[Tensor, Tensor]:
        rates = loop(*given[:-1], nonlinearity=nonlinearity)
        return rates @ given[-1].T, rates

    run = scan_and_read if loop is scan else read

    def step() -> None:
        rate_rnn.scan_and_read = run  # type: ignore[assignment, attr-defined]  # the only difference
        optimizer.zero_grad()
        if n_observed:
            outputs, tracked = model.track(inputs, seen)
            rates = tracked.predicted
        else:
            outputs, rates = model(inputs)
        compute_loss_terms(Outcome(outputs, rates, targets), config)[1].backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def create_loop(size: Size, loop: Callable[..., Tensor]) -> Run:
    """Return forward and backward of the time loop alone."""
    n_hidden, n_conditions, n_time = size
    drive, seen = (torch.randn(n_time, n_conditions, n_hidden) for _ in range(2))
    weights = ALPHA * torch.randn(n_hidden, n_hidden) / n_hidden**0.5
    initial, keep = torch.zeros(n_conditions, n_hidden), torch.full((n_hidden,), 1 - ALPHA)
    given = [drive.mul_(ALPHA).requires_grad_(), weights.requires_grad_()]
    return lambda: torch.autograd.grad(loop(*given, initial, keep), given, seen)


def create_floor(size: Size, library: str, *, whole: bool) -> Run:
    """Return the matrix products of the time loop, or of the whole step, into buffers made before."""
    n_hidden, n_conditions, n_time = size
    rng = np.random.default_rng(0)

    def random(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    weights, rates = random(n_hidden, n_hidden), random(n_time, n_conditions, n_hidden)
    flat = rates.reshape(-1, n_hidden)
    products = [(rate, weights) for rate in rates] * 2 + [(flat.T, flat)]
    if whole:
        readout, inputs = random(N_OUTPUTS, n_hidden), random(len(flat), N_INPUTS)
        errors = random(len(flat), N_OUTPUTS)
        products += [(flat, readout.T), (errors, readout), (errors.T, flat)]
        products += [(inputs, random(N_INPUTS, n_hidden)), (flat.T, inputs)]
    outs = {(len(a), b.shape[1]): np.empty((len(a), b.shape[1]), np.float32) for a, b in products}
    jobs = [(a, b, outs[len(a), b.shape[1]]) for a, b in products]
    if library == "numpy":
        return lambda: [np.dot(a, b, out=out) for a, b, out in jobs]
    tensors = [tuple(torch.from_numpy(part) for part in job) for job in jobs]
    return lambda: [torch.mm(a, b, out=out) for a, b, out in tensors]


def create_jax(size: Size, *, whole: bool) -> Run | None:
    """Return a compiled training step, or the time loop alone, or ``None`` without jax."""
    try:
        import jax
        import jax.numpy as jnp
    except ImportError:
        return None
    n_hidden, n_conditions, n_time = size
    rng = np.random.default_rng(0)

    def random(*shape: int) -> "jax.Array":
        return jnp.asarray(rng.standard_normal(shape), dtype=jnp.float32)

    def run_loop(drive: "jax.Array", weights: "jax.Array") -> "jax.Array":
        def step(state: "jax.Array", u: "jax.Array") -> Any:
            state = (1 - ALPHA) * state + jnp.tanh(state) @ weights.T + u
            return state, jnp.tanh(state)

        return jax.lax.scan(step, jnp.zeros((n_conditions, n_hidden)), drive)[1]

    if not whole:
        drive, weights = ALPHA * random(n_time, n_conditions, n_hidden), random(n_hidden, n_hidden)
        weights, seen = ALPHA * weights / n_hidden**0.5, random(n_time, n_conditions, n_hidden)
        grad = jax.jit(jax.value_and_grad(lambda d, w: (run_loop(d, w) * seen).sum(), argnums=(0, 1)))
        return lambda: jax.block_until_ready(grad(drive, weights))
    inputs = random(n_time, n_conditions, N_INPUTS)
    outputs, dynamics = random(n_time, n_conditions, N_OUTPUTS), random(n_time, n_conditions, N_TARGETS)
    shapes = {"w": (n_hidden, n_hidden), "i": (n_hidden, N_INPUTS), "b": (n_hidden,)}
    shapes |= {"o": (N_OUTPUTS, n_hidden), "c": (N_OUTPUTS,)}
    parameters = {name: random(*shape) / n_hidden**0.5 for name, shape in shapes.items()}
    zeros = jax.tree.map(jnp.zeros_like, parameters)
    state = [parameters, zeros, zeros, 0]

    def compute_loss(p: dict[str, Any]) -> "jax.Array":
        rates = run_loop(ALPHA * (inputs @ p["i"].T + p["b"]), ALPHA * p["w"])
        errors = rates @ p["o"].T + p["c"] - outputs, rates[..., :N_TARGETS] - dynamics
        return sum((e**2).sum() / (t**2).sum() for e, t in zip(errors, (outputs, dynamics), strict=True))

    def update(p: Any, m: Any, v: Any, t: Any) -> Any:
        grads = jax.grad(compute_loss)(p)
        norm = jnp.sqrt(sum((g**2).sum() for g in jax.tree.leaves(grads)))
        grads = jax.tree.map(lambda g: g * jnp.minimum(1.0, 1 / norm), grads)
        m = jax.tree.map(lambda a, g: 0.9 * a + 0.1 * g, m, grads)
        v = jax.tree.map(lambda a, g: 0.999 * a + 0.001 * g**2, v, grads)
        t = t + 1
        p = jax.tree.map(
            lambda x, a, b: x
            - LEARNING_RATE * a / (1 - 0.9**t) / (jnp.sqrt(b / (1 - 0.999**t)) + 1e-8),
            p, m, v,
        )  # fmt: skip
        return [p, m, v, t]

    compiled = jax.jit(update, donate_argnums=(0, 1, 2))
    state = compiled(*[jax.tree.map(jnp.array, part) for part in state[:3]], 0)

    def run() -> None:
        nonlocal state
        state = jax.block_until_ready(compiled(*state))

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print_versions("torch", "numpy", "numba")
    for size in SIZES:
        n_hidden, n_conditions, n_time = size
        for whole, title in ((False, "time loop, forward and backward"), (True, "training step")):
            create = create_step if whole else create_loop
            runs = {
                "nwbrnn": create(size, scan),
                "autograd": create(size, autograd_scan),
                "jax": create_jax(size, whole=whole),
                "floor, NumPy": create_floor(size, "numpy", whole=whole),
                "floor, torch": create_floor(size, "torch", whole=whole),
            }
            with reuse_memory():  # as fits do
                measure(
                    f"{title}, {n_hidden} hidden units, {n_conditions} conditions, {n_time} steps",
                    runs,
                    args.rounds,
                )
        observed: dict[str, Run | None] = {
            "nwbrnn": create_step(size, scan),
            "with observer": create_step(size, scan, n_observed=N_OBSERVED),
        }
        with reuse_memory():
            measure(f"training step with an observer, {size}", observed, args.rounds)
    rate_rnn.scan_and_read = scan_and_read  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
