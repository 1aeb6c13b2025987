"""The terms of the training loss, by name."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nwbrnn.config import FitConfig
from nwbrnn.losses.errors import compute_null_deviance, compute_variation, poisson_error, squared_error

LossTerms = dict[str, Tensor]
"""Scalar terms by name, unweighted."""


@dataclass(frozen=True)
class Targets:
    """The targets with which predictions of the network are compared.

    Attributes
    ----------
    outputs
        Target outputs, shape (n_trials, n_time, n_outputs).
    output_weight
        Weight of each output value, shape (n_trials, n_time, n_outputs) or (n_trials, n_time, 1).
    dynamics
        Targets of the sampled neurons, shape (n_trials, n_time, n_sampled): normalized rates, their change
        from bin to bin (n_time - 1 of them), or spikes per bin.
    dynamics_weight
        Weight of each value of ``dynamics``, as for the outputs.
    read_dynamics
        Function from the hidden rates of the sampled neurons, shape (n_trials, n_time, n_sampled), to the
        values to compare with ``dynamics``: :func:`identity`, :func:`compute_change` or one with
        :func:`expect_counts`.
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


def identity(rates: Tensor) -> Tensor:
    """Return the rates, which are compared unchanged."""
    return rates


def compute_change(rates: Tensor) -> Tensor:
    """Return the change from bin to bin, shape (n_trials, n_time - 1, n_channels)."""
    return rates[:, 1:] - rates[:, :-1]


class _Leading(torch.autograd.Function):
    """``rates[..., :n]`` with a gradient of the same memory layout as the rates, which is fast to add."""

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


class Outcome(NamedTuple):
    """A run of the network and its targets, from which every term is computed.

    Attributes
    ----------
    outputs
        Predicted outputs, shape (n_trials, n_time, n_outputs).
    rates
        Hidden rates, the sampled neurons first, shape (n_trials, n_time, n_hidden).
    targets
        The targets of the run.
    """

    outputs: Tensor
    rates: Tensor
    targets: Targets


@dataclass(frozen=True)
class LossTerm:
    """One term of the loss.

    Attributes
    ----------
    name
        Name in the history of a fit, after ``train_`` and ``validation_``.
    setting
        The field of :class:`nwbrnn.FitConfig` by which the term is multiplied; without one, the factor is 1.
    compute
        Function from an :class:`Outcome` to a scalar, or to ``None`` if there is nothing to compare.
    always
        Whether to compute and log the term even if its factor is 0.
    """

    name: str
    setting: str | None
    compute: Callable[[Outcome], Tensor | None]
    always: bool = True

    def get_factor(self, config: FitConfig) -> float:
        """Return the factor of the term."""
        return 1.0 if self.setting is None else config.get_number(self.setting)


def _compare_outputs(found: Outcome) -> Tensor:
    targets = found.targets
    return squared_error(
        found.outputs, targets.outputs, weight=targets.output_weight, total=targets.output_total
    )


def _compare_dynamics(found: Outcome) -> Tensor | None:
    targets = found.targets
    n_sampled = targets.dynamics.shape[-1]
    if not n_sampled:
        return None
    leading: Tensor = _Leading.apply(found.rates, n_sampled)  # type: ignore[no-untyped-call]
    error = poisson_error if targets.counts else squared_error
    return error(
        targets.read_dynamics(leading),
        targets.dynamics,
        weight=targets.dynamics_weight,
        total=targets.dynamics_total,
    )


def _square_rates(found: Outcome) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(found.rates)
    return norm.square() / found.rates.numel()


def _square_change(found: Outcome) -> Tensor:
    return compute_change(found.rates).square().mean()


TERMS = (
    LossTerm("output", None, _compare_outputs),
    LossTerm("dynamics", "dynamics_weight", _compare_dynamics),
    LossTerm("rate", "rate_penalty", _square_rates),
    LossTerm("smoothness", "smoothness_penalty", _square_change, always=False),
)
"""All terms of the loss except the weight penalty: errors of outputs and of the sampled neurons, the mean
squared hidden rate, and its mean squared change from bin to bin.
"""


def compute_loss_terms(found: Outcome, config: FitConfig) -> tuple[LossTerms, Tensor]:
    """Compare one run of the network with its targets.

    Parameters
    ----------
    found
        The run.
    config
        Settings with the factor of each term.

    Returns
    -------
    terms, total
        The :data:`TERMS` by name, unweighted, and the weighted sum of those whose factor is not 0.
    """
    terms: LossTerms = {}
    total = found.outputs.new_zeros(())
    for term in TERMS:
        factor = term.get_factor(config)
        value = term.compute(found) if factor or term.always else None
        if value is not None:
            terms[term.name] = value
            # a term that is only logged needs no gradient
            total = total + factor * value if factor else total
    return terms, total
