"""The time loop of the rate network, with its own gradient.

Autograd would record several nodes and allocate several tensors for every time step. Here the
loop runs in place on buffers made once, and the gradient of the recurrent weights, a sum over all
time steps, is one matrix product at the end.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def scan(drive: Tensor, weights: Tensor, initial: Tensor, *, alpha: float) -> Tensor:
    """Run x[t] = (1 - α) x[t-1] + α (W r[t-1] + u[t]), r = tanh(x), and return the rates.

    Parameters
    ----------
    drive
        u, everything that enters a unit besides recurrence, shape (n_time, n_trials, n_hidden).
    weights
        W, shape (n_hidden, n_hidden); columns are presynaptic.
    initial
        x before the first step, shape (n_trials, n_hidden).
    alpha
        dt / τ, in (0, 1].

    Returns
    -------
    Tensor
        r[0], r[1], ..., shape (n_time, n_trials, n_hidden), differentiable once.
    """
    return _Scan.apply(drive, weights, initial, alpha)  # type: ignore[no-untyped-call,no-any-return]


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, drive: Tensor, weights: Tensor, initial: Tensor, alpha: float) -> Tensor:
        scaled_weights = (alpha * weights).T.contiguous()
        scaled_drive = alpha * drive
        state = initial.clone()
        rates = torch.empty_like(scaled_drive)
        rate = torch.tanh(initial)
        for step_drive, step_rate in zip(scaled_drive, rates, strict=True):
            state.mul_(1 - alpha).add_(step_drive).addmm_(rate, scaled_weights)
            rate = torch.tanh(state, out=step_rate)
        ctx.save_for_backward(rates, weights, initial)
        ctx.alpha = alpha
        return rates

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_rates: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        rates, weights, initial = ctx.saved_tensors
        alpha = ctx.alpha
        scaled_weights = alpha * weights
        slopes = 1 - rates.square()  # dr/dx, from the rates alone
        grads = torch.empty_like(rates)  # dL/dx[t]
        following = torch.zeros_like(initial)  # dL/dx[t+1]
        for t in range(len(rates) - 1, -1, -1):
            grad = torch.addmm(grad_rates[t], following, scaled_weights, out=grads[t])
            grad.mul_(slopes[t]).add_(following, alpha=1 - alpha)
            following = grad
        first = torch.tanh(initial)
        grad_initial = (following @ scaled_weights) * (1 - first.square()) + (1 - alpha) * following
        previous = torch.cat([first[None], rates[:-1]])
        grad_weights = alpha * grads.flatten(0, 1).T @ previous.flatten(0, 1)
        return grads.mul_(alpha), grad_weights, grad_initial, None
