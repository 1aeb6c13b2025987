"""The time loop of the rate network, with its own gradient.

Autograd would record several nodes and allocate several tensors for every time step. Here, the loop uses
buffers that are allocated once, and the gradient of the recurrent weights, a sum over all time steps, is one
matrix product at the end. On a CPU, the loops are compiled (:mod:`nwbrnn.models.loops`); on a GPU, and in
bfloat16, they are torch operations.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nwbrnn import buffers
from nwbrnn.config import Nonlinearity
from nwbrnn.models import loops
from nwbrnn.prediction.activations import EDGE, SOC_RANGE


def activate(states: Tensor, nonlinearity: Nonlinearity) -> Tensor:
    """Return the rates of states, any shape.

    ``tanh``; ``softplus``, log(1 + e^x); or ``soc``, tanh(x) for x < 0 and 4 tanh(x/4) for x >= 0: the gain
    function of Stroud et al. 2018 in units of the baseline rate.
    """
    if nonlinearity == "softplus":
        return torch.nn.functional.softplus(states)
    if nonlinearity == "soc":
        positive = SOC_RANGE * torch.tanh(states / SOC_RANGE)
        return torch.where(states < 0, torch.tanh(states), positive)
    return torch.tanh(states)


def invert(rates: Tensor, nonlinearity: Nonlinearity) -> Tensor:
    """Return the states of rates of any shape; rates at or beyond the ends of the range move inwards."""
    if nonlinearity == "softplus":
        rates = rates.clamp(min=1 - EDGE)
        return rates + torch.log(-torch.expm1(-rates))
    negative = torch.atanh(rates.clamp(-EDGE, EDGE))
    if nonlinearity == "soc":
        positive = SOC_RANGE * torch.atanh((rates / SOC_RANGE).clamp(max=EDGE))
        return torch.where(rates < 0, negative, positive)
    return negative


def scan(
    drive: Tensor, weights: Tensor, initial: Tensor, keep: Tensor, *, nonlinearity: Nonlinearity = "tanh"
) -> Tensor:
    """Run x[t] = keep x[t-1] + W r[t-1] + u[t], r = φ(x), and return the rates.

    Parameters
    ----------
    drive
        u, the input of each unit except recurrence, shape (n_time, n_trials, n_hidden). If it is bfloat16,
        products are computed in bfloat16 and states in float32.
    weights
        W, shape (n_hidden, n_hidden); columns are presynaptic.
    initial
        x before the first step, shape (n_trials, n_hidden).
    keep
        Fraction of its state that each unit keeps from one step to the next, shape (n_hidden,).
    nonlinearity
        φ; see :func:`activate`.

    Returns
    -------
    Tensor
        r[0], r[1], ..., shape (n_time, n_trials, n_hidden), differentiable once.

    Raises
    ------
    ShapeError
        If the shapes do not fit together, or if the types differ on a CPU.
    """
    nothing = weights.new_empty(0, drive.shape[-1] if drive.ndim else 0)
    return scan_and_read(drive, weights, initial, keep, nothing, nonlinearity=nonlinearity)[1]


def scan_and_read(  # noqa: PLR0913  # each tensor has a gradient of its own
    drive: Tensor,
    weights: Tensor,
    initial: Tensor,
    keep: Tensor,
    readout: Tensor,
    *,
    nonlinearity: Nonlinearity = "tanh",
) -> tuple[Tensor, Tensor]:
    """Return what a linear readout makes of the rates of :func:`scan`, and these rates.

    The loop adds up the gradients that reach a rate directly and through the readout, so that neither is
    written to memory a second time.

    Parameters
    ----------
    drive, weights, initial, keep, nonlinearity
        As for :func:`scan`.
    readout
        Shape (n_outputs, n_hidden).

    Returns
    -------
    outputs, rates
        Shapes (n_time, n_trials, n_outputs) and (n_time, n_trials, n_hidden), differentiable once.

    Raises
    ------
    ShapeError
        As :func:`scan`.
    """
    _, n_trials, n_hidden = loops.get_sizes("drive", drive)
    loops.expect_shapes(
        {
            "weights": (weights, (n_hidden, n_hidden)),
            "initial": (initial, (n_trials, n_hidden)),
            "keep": (keep, (n_hidden,)),
            "readout": (readout, (len(readout), n_hidden)),
        }
    )
    return _Scan.apply(drive, weights, initial, keep, readout, nonlinearity)  # type: ignore[no-untyped-call,no-any-return]


def scan_plainly(
    drive: Tensor, weights: Tensor, initial: Tensor, keep: Tensor, *, nonlinearity: Nonlinearity = "tanh"
) -> Tensor:
    """Return what :func:`scan` returns, by operations that autograd follows to any order."""
    state, rate, rates = initial, activate(initial, nonlinearity), []
    for step in drive:
        state = keep * state + rate.to(weights.dtype) @ weights.T + step
        rate = activate(state, nonlinearity)
        rates.append(rate)
    return torch.stack(rates)


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0913, PLR0917  # each tensor with a gradient is an argument of its own
        ctx: Any,
        drive: Tensor,
        weights: Tensor,
        initial: Tensor,
        keep: Tensor,
        readout: Tensor,
        nonlinearity: Nonlinearity,
    ) -> tuple[Tensor, Tensor]:
        n_time, n_trials, n_hidden = drive.shape
        rates = allocate(drive, n_time + 1, n_trials, n_hidden)
        # states are needed later only for the gradient of ``keep``
        n_kept = n_time + 1 if ctx.needs_input_grad[3] else 1
        states = initial.new_empty(n_kept, n_trials, n_hidden)
        states[0] = initial
        run = _run_compiled if is_compiled(drive) else _run
        run(drive, weights, keep, nonlinearity, states, rates)
        ctx.save_for_backward(rates, states if n_kept > 1 else None, weights, keep, readout)
        ctx.nonlinearity = nonlinearity
        return _read(rates[1:], readout), rates[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_outputs: Tensor, grad_rates: Tensor) -> tuple[Tensor | None, ...]:
        rates, states, weights, keep, readout = ctx.saved_tensors
        grads = allocate(keep, *rates.shape)
        run = _run_compiled_backward if is_compiled(rates) else _run_backward
        run((grad_rates, grad_outputs), rates, (weights, keep, readout), ctx.nonlinearity, grads)
        driven = grads[1:]
        grad_weights = sum_products(driven.to(weights.dtype), rates[:-1])
        grad_readout = grad_outputs.flatten(0, 1).T @ rates[1:].flatten(0, 1)
        grad_keep = (driven * states[:-1]).sum(dim=(0, 1)) if states is not None else None
        return driven.to(rates.dtype), grad_weights, grads[0], grad_keep, grad_readout, None


def _read(rates: Tensor, readout: Tensor) -> Tensor:
    """Return what a linear readout makes of rates; see :func:`nwbrnn.models.loops.read`."""
    if not is_compiled(rates):
        return rates @ readout.T
    return torch.from_numpy(loops.read(rates.numpy(), readout.detach().contiguous().numpy()))


def multiply(rows: Tensor, matrix: Tensor) -> Tensor:
    """Return rows @ matrix, shapes (n_rows, m) and (m, n), differentiable once; see :func:`allocate`."""
    return _Product.apply(rows, matrix)  # type: ignore[no-untyped-call,no-any-return]


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, matrix: Tensor) -> Tensor:
        ctx.save_for_backward(rows, matrix)
        return torch.mm(rows, matrix, out=allocate(rows, len(rows), matrix.shape[1]))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor]:
        rows, matrix = ctx.saved_tensors
        return gradient @ matrix.T if ctx.needs_input_grad[0] else None, rows.T @ gradient


def sum_products(left: Tensor, right: Tensor) -> Tensor:
    """Return the sum over steps and trials; see :func:`nwbrnn.models.loops.sum_products`."""
    if not is_compiled(left):
        return left.flatten(0, 1).T @ right.flatten(0, 1)
    return torch.from_numpy(loops.sum_products(left.numpy(), right.numpy()))


def allocate(like: Tensor, *shape: int) -> Tensor:
    """Return a tensor of any values, with the type and device of another; see :mod:`nwbrnn.buffers`."""
    if not is_compiled(like):
        return like.new_empty(shape)
    dtype = np.float32 if like.dtype == torch.float32 else np.float64
    return torch.from_numpy(buffers.allocate(shape, dtype))


def is_compiled(values: Tensor) -> bool:
    """Return whether the compiled loops take such values."""
    return values.device.type == "cpu" and values.dtype in (torch.float32, torch.float64)


def _run_compiled(
    drive: Tensor,
    weights: Tensor,
    keep: Tensor,
    nonlinearity: Nonlinearity,
    states: Tensor,
    rates: Tensor,
) -> None:
    given, transposed, kept = (t.detach().contiguous().numpy() for t in (drive, weights.T, keep))
    loops.run_forward(given, transposed, kept, loops.KINDS[nonlinearity], states.numpy(), rates.numpy())


def _run_compiled_backward(
    given: tuple[Tensor, Tensor],
    rates: Tensor,
    weights: tuple[Tensor, Tensor, Tensor],
    nonlinearity: Nonlinearity,
    grads: Tensor,
) -> None:
    kind = loops.KINDS[nonlinearity]
    first, second, matrix, keep, readout = (t.detach().contiguous().numpy() for t in (*given, *weights))
    loops.run_backward((first, second), rates.numpy(), (matrix, keep, readout), kind, grads.numpy())


def _run(
    drive: Tensor,
    weights: Tensor,
    keep: Tensor,
    nonlinearity: Nonlinearity,
    states: Tensor,
    rates: Tensor,
) -> None:
    """Run the network as :func:`nwbrnn.models.loops.run_forward` does."""
    transposed = weights.T.contiguous()
    state = states[0].clone()
    rates[0] = activate(state, nonlinearity)
    for t, step_drive in enumerate(drive):
        state.mul_(keep).add_(step_drive).add_(rates[t] @ transposed)
        rates[t + 1] = activate(state, nonlinearity)
        if len(states) > 1:
            states[t + 1] = state


def _run_backward(
    given: tuple[Tensor, Tensor],
    rates: Tensor,
    weights: tuple[Tensor, Tensor, Tensor],
    nonlinearity: Nonlinearity,
    grads: Tensor,
) -> None:
    """Run the adjoint as :func:`nwbrnn.models.loops.run_backward` does."""
    matrix, keep, readout = weights
    grad_rates = given[0] + given[1] @ readout
    slopes = compute_slopes(rates.to(keep.dtype), nonlinearity)
    torch.mul(grad_rates[-1], slopes[-1], out=grads[-1])
    for t in range(len(rates) - 2, -1, -1):
        following = grads[t + 1]
        recurrent = (following.to(matrix.dtype) @ matrix).to(keep.dtype)
        if t > 0:
            recurrent.add_(grad_rates[t - 1])
        torch.addcmul(keep * following, recurrent, slopes[t], out=grads[t])


def compute_slopes(rates: Tensor, nonlinearity: Nonlinearity) -> Tensor:
    """Return dr/dx, which follows from the rates alone."""
    if nonlinearity == "softplus":
        return -torch.expm1(-rates)
    if nonlinearity == "soc":
        rates = torch.where(rates < 0, rates, rates / SOC_RANGE)
    return 1 - rates.square()
