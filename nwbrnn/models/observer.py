"""The time loop of a rate network whose state is corrected by observed neurons, with its own gradient.

As an observer, or a Kalman filter with a constant gain, does it: the network predicts a bin, and the errors
of its prediction of the observed neurons correct the state from which it predicts the next.
"""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nwbrnn.config import Nonlinearity
from nwbrnn.models import loops
from nwbrnn.models.scan import activate, allocate, compute_slopes, is_compiled, sum_products


@dataclass(frozen=True)
class Observations:
    """What the observed neurons did: ``nwbrnn.prediction.equations.Seen`` as tensors."""

    values: Tensor
    counted: Tensor
    units: Tensor

    def drop(self, fraction: float, generator: torch.Generator) -> "Observations":
        """Return these without some neurons, drawn anew for each trial; the others count more instead."""
        n_trials, _, n_observed = self.counted.shape
        kept = torch.rand(n_trials, 1, n_observed, generator=generator) >= fraction
        return replace(self, counted=self.counted * kept.to(self.counted) / (1 - fraction))


class Tracked(NamedTuple):
    """Rates of a network after and before they are corrected; time first, or trials first."""

    rates: Tensor
    predicted: Tensor


def track(
    drive: Tensor,
    weights: tuple[Tensor, Tensor, Tensor],
    initial: Tensor,
    seen: Observations,
    *,
    nonlinearity: Nonlinearity = "tanh",
) -> Tracked:
    """Run x[t] = keep x[t-1] + W r[t-1] + u[t], r = φ(x); after each bin x ← x + G (y - r[observed]).

    Parameters
    ----------
    drive
        u, shape (n_steps, n_trials, n_hidden); a multiple of the number of bins.
    weights
        W, columns presynaptic, shape (n_hidden, n_hidden); how much of its state a unit keeps from one step
        to the next, shape (n_hidden,); and the gain G, shape (n_hidden, n_observed).
    initial
        x before the first step, shape (n_trials, n_hidden).
    seen
        y and what of it counts. It has no gradient.
    nonlinearity
        φ; see :func:`nwbrnn.models.scan.activate`.

    Returns
    -------
    Tracked
        ``rates`` r of each step, after the correction, shape (n_steps, n_trials, n_hidden); ``predicted``,
        φ(x) of each bin before it, shape (n_bins, n_trials, n_hidden). Both are differentiable once.

    Raises
    ------
    ShapeError
        If the shapes do not fit together, or on a CPU the types differ.

    References
    ----------
    .. [1] Luenberger 1971, IEEE Transactions on Automatic Control, doi:10.1109/TAC.1971.1099826.
    """
    _, n_trials, n_hidden = loops.get_sizes("drive", drive)
    n_observed = loops.get_sizes("observed", seen.values)[2]
    loops.expect_shapes(
        {
            "weights": (weights[0], (n_hidden, n_hidden)),
            "keep": (weights[1], (n_hidden,)),
            "gains": (weights[2], (n_hidden, n_observed)),
            "initial": (initial, (n_trials, n_hidden)),
        }
    )
    early = replace(seen, values=seen.values.transpose(0, 1), counted=seen.counted.transpose(0, 1))
    return Tracked(*_Track.apply(drive, *weights, initial, early, nonlinearity))  # type: ignore[no-untyped-call]


class _Track(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0913, PLR0917  # each tensor with a gradient is an argument of its own
        ctx: Any,
        drive: Tensor,
        weights: Tensor,
        keep: Tensor,
        gains: Tensor,
        initial: Tensor,
        seen: Observations,
        nonlinearity: Nonlinearity,
    ) -> tuple[Tensor, Tensor]:
        n_bins, n_trials, n_observed = seen.values.shape
        rates = allocate(drive, len(drive) + 1, *drive.shape[1:])
        # states are needed again only for the gradient of what a unit keeps of them
        n_kept = len(rates) if ctx.needs_input_grad[2] else 1
        states = allocate(drive, n_kept, *drive.shape[1:])
        states[0] = initial
        predicted = allocate(drive, n_bins, *drive.shape[1:])
        errors = drive.new_empty(n_bins, n_trials, n_observed)
        run = _run_compiled if is_compiled(drive) else _run
        run(drive, (weights, keep, gains), nonlinearity, seen, (states, rates, predicted, errors))
        kept = states if len(states) > 1 else None
        ctx.save_for_backward(rates, predicted, errors, kept, weights, keep, gains)
        ctx.seen, ctx.nonlinearity = seen, nonlinearity
        return rates[1:], predicted

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_rates: Tensor, grad_predicted: Tensor) -> tuple[Tensor | None, ...]:
        rates, predicted, errors, states, weights, keep, gains = ctx.saved_tensors
        grads, after = allocate(rates, *rates.shape), allocate(rates, *predicted.shape)
        run = _run_compiled_backward if is_compiled(rates) else _run_backward
        given = (grad_rates, grad_predicted), (weights, keep, gains)
        run(*given, ctx.nonlinearity, ctx.seen, (rates, predicted, grads, after))
        driven = grads[1:]
        grad_weights = sum_products(driven, rates[:-1])
        grad_keep = (driven * states[:-1]).sum(dim=(0, 1)) if states is not None else None
        grad_gains = after.flatten(0, 1).T @ errors.flatten(0, 1)
        return driven, grad_weights, grad_keep, grad_gains, grads[0], None, None


Tensors = tuple[Tensor, Tensor, Tensor]
Buffers = tuple[Tensor, Tensor, Tensor, Tensor]


def _run_compiled(
    drive: Tensor, weights: Tensors, nonlinearity: Nonlinearity, seen: Observations, buffers: Buffers
) -> None:
    matrix, keep, gains = weights
    loops.run_observed_forward(
        _to_array(drive),
        (_to_array(matrix.T), _to_array(keep), _to_array(gains.T)),
        loops.KINDS[nonlinearity],
        (_to_array(seen.values), _to_array(seen.counted), _to_array(seen.units)),
        (buffers[0].numpy(), buffers[1].numpy(), buffers[2].numpy(), buffers[3].numpy()),
    )


def _run_compiled_backward(
    grads: tuple[Tensor, Tensor],
    weights: Tensors,
    nonlinearity: Nonlinearity,
    seen: Observations,
    buffers: Buffers,
) -> None:
    loops.run_observed_backward(
        _to_array(grads[0]),
        _to_array(grads[1]),
        tuple(map(_to_array, weights)),
        loops.KINDS[nonlinearity],
        (_to_array(seen.values), _to_array(seen.counted), _to_array(seen.units)),
        (buffers[0].numpy(), buffers[1].numpy(), buffers[2].numpy(), buffers[3].numpy()),
    )


def _to_array(tensor: Tensor) -> Any:
    return tensor.detach().contiguous().numpy()


def _run(
    drive: Tensor, weights: Tensors, nonlinearity: Nonlinearity, seen: Observations, buffers: Buffers
) -> None:
    """Run the network as :func:`nwbrnn.models.loops.run_observed_forward` does."""
    matrix, keep, gains = weights
    states, rates, predicted, errors = buffers
    substeps = len(drive) // len(predicted)
    transposed = matrix.T.contiguous()
    state = states[0].clone()
    rates[0] = activate(state, nonlinearity)
    for t, step_drive in enumerate(drive):
        state.mul_(keep).add_(step_drive).add_(rates[t] @ transposed)
        if (t + 1) % substeps == 0:
            now = t // substeps
            predicted[now] = activate(state, nonlinearity)
            errors[now] = seen.counted[now] * (seen.values[now] - predicted[now][:, seen.units])
            state.add_(errors[now] @ gains.T)
        rates[t + 1] = activate(state, nonlinearity)
        if len(states) > 1:
            states[t + 1] = state


def _run_backward(
    grads: tuple[Tensor, Tensor],
    weights: Tensors,
    nonlinearity: Nonlinearity,
    seen: Observations,
    buffers: Buffers,
) -> None:
    """Run the adjoint as :func:`nwbrnn.models.loops.run_observed_backward` does."""
    grad_rates, grad_predicted = grads
    matrix, keep, gains = weights
    rates, predicted, before, after = buffers
    substeps = len(grad_rates) // len(predicted)
    for t in range(len(grad_rates), -1, -1):
        now = grad_rates[t - 1].clone() if t else torch.zeros_like(before[0])
        if t < len(grad_rates):
            now.add_(before[t + 1] @ matrix)
        now.mul_(compute_slopes(rates[t], nonlinearity))
        if t < len(grad_rates):
            now.add_(keep * before[t + 1])
        if t and t % substeps == 0:
            bin_ = t // substeps - 1
            after[bin_] = now
            seen_back = grad_predicted[bin_].clone()
            seen_back[:, seen.units] -= seen.counted[bin_] * (now @ gains)
            now.add_(seen_back.mul_(compute_slopes(predicted[bin_], nonlinearity)))
        before[t] = now
