"""One training epoch against the plain autograd loop, both in one run, in turn.

The job: 10 conditions of 600 steps, 200 target neurons and 8 outputs, full batch, float32, one
thread; an epoch is forward, loss, backward, clipping and an Adam step. Only the time loop differs.
Also prints how far apart the weights are afterwards.

    python benchmarks/epoch.py
"""

import argparse
import platform
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from nwbrnn.losses import Targets, compute_loss_terms
from nwbrnn.models import rate_rnn
from nwbrnn.models.scan import scan

N_CONDITIONS, N_TIME, N_TARGETS, N_OUTPUTS, N_INPUTS = 10, 600, 200, 8, 3


def autograd_scan(drive: Tensor, weights: Tensor, initial: Tensor, *, alpha: float) -> Tensor:
    """Run the loop as anybody would write it, and let autograd find the gradient."""
    state, rate, rates = initial, torch.tanh(initial), []
    for step_drive in drive:
        state = (1 - alpha) * state + alpha * (rate @ weights.T + step_drive)
        rate = torch.tanh(state)
        rates.append(rate)
    return torch.stack(rates)


def create_job(n_hidden: int) -> tuple[rate_rnn.RateRNN, Tensor, Targets]:
    """Return a network, inputs and targets."""
    generator = torch.Generator().manual_seed(0)
    model = rate_rnn.RateRNN((N_INPUTS, n_hidden, N_OUTPUTS), alpha=0.1)

    def random(n_channels: int) -> Tensor:  # time first in memory, as nwbrnn.training makes its batches
        return torch.randn(N_TIME, N_CONDITIONS, n_channels, generator=generator).transpose(0, 1)

    inputs = random(N_INPUTS)
    targets = Targets(
        outputs=random(N_OUTPUTS),
        mask=torch.ones(N_CONDITIONS, N_TIME, dtype=torch.bool),
        dynamics=random(N_TARGETS),
        mean_counts=torch.ones(N_TARGETS),
    )
    return model, inputs, targets


def run_epoch(job: tuple[rate_rnn.RateRNN, Tensor, Targets], optimizer: torch.optim.Optimizer) -> None:
    """Take one training step."""
    model, inputs, targets = job
    optimizer.zero_grad()
    outputs, rates = model(inputs)
    terms = compute_loss_terms(outputs, rates, targets)
    (terms["output"] + terms["dynamics"]).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


def measure(n_hidden: int, n_rounds: int) -> None:
    """Print the seconds of an epoch with either loop, and their ratio round by round."""
    loops: dict[str, Callable[..., Tensor]] = {"own gradient": scan, "autograd": autograd_scan}
    jobs = {name: create_job(n_hidden) for name in loops}
    optimizers = {name: torch.optim.Adam(job[0].parameters()) for name, job in jobs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(n_rounds + 1):
        for name, loop in loops.items():
            rate_rnn.scan = loop  # the only difference
            start = time.perf_counter()
            run_epoch(jobs[name], optimizers[name])
            seconds[name].append(time.perf_counter() - start)
    rate_rnn.scan = scan
    own, plain = (values[1:] for values in seconds.values())  # the first round warms up
    ratios = sorted(b / a for a, b in zip(own, plain, strict=True))
    weights = [dict(job[0].named_parameters())["recurrent_weights"] for job in jobs.values()]
    difference = (weights[0] - weights[1]).abs().max().item()
    print(
        f"N={n_hidden}: own gradient {median(own) * 1e3:.0f} ms, autograd {median(plain) * 1e3:.0f} ms, "
        f"ratio {median(ratios):.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f}); "
        f"weights differ by {difference:.0e} after {n_rounds + 1} epochs"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, {platform.machine()}, one thread")
    for n_hidden in (200, 400):
        measure(n_hidden, args.rounds)


if __name__ == "__main__":
    main()
