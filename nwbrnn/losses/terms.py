"""The terms of the training loss, by name."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from nwbrnn.config import Nonlinearity
from nwbrnn.losses.errors import compute_null_deviance, compute_variation, poisson_error, squared_error

LossTerms = dict[str, Tensor]
"""Scalar terms by name, unweighted; see :func:`compute_loss_terms`."""


@dataclass(frozen=True)
class Targets:
    """What the student is compared with.

    Attributes
    ----------
    outputs
        Shape (n_trials, n_time, n_outputs).
    output_weight
        How much each value counts, shape (n_trials, n_time, n_outputs) or (n_trials, n_time, 1).
    dynamics
        Of the sampled neurons, shape (n_trials, n_time, n_sampled): normalised rates, their change from
        bin to bin (n_time - 1 of them), or spikes per bin.
    dynamics_weight
        How much each value of it counts, as for the outputs.
    read_dynamics
        What of the hidden rates of the sampled neurons, shape (n_trials, n_time, n_sampled), is compared with
        ``dynamics``: one of :func:`keep_rates`, :func:`compute_change` and what :func:`expect_counts` gives.
    counts
        Whether ``dynamics`` are spike counts, so that the error is a Poisson deviance.
    """

    outputs: Tensor
    output_weight: Tensor
    dynamics: Tensor
    dynamics_weight: Tensor
    read_dynamics: Callable[[Tensor], Tensor]
    counts: bool = False

    @cached_property
    def output_total(self) -> Tensor:
        """The variation of the outputs, which scales their error."""
        return compute_variation(self.outputs, weight=self.output_weight)

    @cached_property
    def dynamics_total(self) -> Tensor:
        """The variation or null deviance of the dynamics, which scales their error."""
        compute = compute_null_deviance if self.counts else compute_variation
        return compute(self.dynamics, weight=self.dynamics_weight)


LOG_RANGE = 3.0  # rates of tanh in (-1, 1) span expected counts from 1/20 to 20 times the mean
_LEAST = 1e-6  # of the scale: an expected count of 0 would make any spike impossible


def keep_rates(rates: Tensor) -> Tensor:
    """Return the rates: they are compared as they are."""
    return rates


def compute_change(rates: Tensor) -> Tensor:
    """Return the change from bin to bin, shape (n_trials, n_time - 1, n_channels)."""
    return rates[:, 1:] - rates[:, :-1]


def expect_counts(rates: Tensor, scale: Tensor, *, nonlinearity: Nonlinearity) -> Tensor:
    """Return the spikes that hidden rates stand for, in the unit of ``scale``.

    Parameters
    ----------
    rates
        Hidden rates, any shape with the neurons last.
    scale
        For ``tanh`` and ``soc`` the mean, for ``softplus`` what a hidden rate of 1 means, shape (n_neurons,).
    nonlinearity
        Of the hidden units. Rates of ``tanh`` are logarithmic, mean · exp(3 r); those of ``soc`` begin at the
        baseline, mean · (1 + r); those of ``softplus`` at 0, scale · r.
    """
    if nonlinearity == "tanh":
        return scale * torch.exp(LOG_RANGE * rates)
    above = rates + 1 if nonlinearity == "soc" else rates
    return scale * (above + _LEAST)


class _Leading(torch.autograd.Function):
    """``rates[..., :n]`` with a gradient that lies in memory as the rates do: adding it is then fast."""

    @staticmethod
    def forward(ctx: Any, rates: Tensor, n_leading: int) -> Tensor:
        ctx.n_hidden = rates.shape[-1]
        return rates[..., :n_leading]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        n_trials, n_time, n_leading = gradient.shape
        if n_leading == ctx.n_hidden:
            return gradient, None
        whole = gradient.new_zeros(n_time, n_trials, ctx.n_hidden).transpose(0, 1)
        whole[..., :n_leading] = gradient
        return whole, None


def compute_loss_terms(
    outputs: Tensor, rates: Tensor, targets: Targets, *, smoothness: bool = False
) -> LossTerms:
    """Compare one run of the student with its targets.

    Parameters
    ----------
    outputs
        Shape (n_trials, n_time, n_outputs).
    rates
        Hidden rates, the sampled neurons first, shape (n_trials, n_time, n_hidden).
    targets
        What was recorded.
    smoothness
        Whether to compute the smoothness too.

    Returns
    -------
    dict
        ``output``, ``dynamics`` (if neurons are sampled), ``rate`` (mean squared hidden rate) and
        ``smoothness`` (mean squared change of hidden rates from bin to bin), unweighted.
    """
    terms = {
        "output": squared_error(
            outputs, targets.outputs, weight=targets.output_weight, total=targets.output_total
        )
    }
    n_sampled = targets.dynamics.shape[-1]
    if n_sampled:
        read = targets.read_dynamics(_Leading.apply(rates, n_sampled))  # type: ignore[no-untyped-call]
        error = poisson_error if targets.counts else squared_error
        terms["dynamics"] = error(
            read, targets.dynamics, weight=targets.dynamics_weight, total=targets.dynamics_total
        )
    terms["rate"] = torch.linalg.vector_norm(rates).square() / rates.numel()
    if smoothness:
        terms["smoothness"] = compute_change(rates).square().mean()
    return terms
