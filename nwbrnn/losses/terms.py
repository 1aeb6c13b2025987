"""The terms of the training loss, by name."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from nwbrnn.losses.errors import poisson_error, squared_error

LossTerms = dict[str, Tensor]
"""Scalar terms by name, unweighted; see :func:`compute_loss_terms`."""


@dataclass(frozen=True)
class Targets:
    """What the student is compared with.

    Attributes
    ----------
    outputs
        Shape (n_trials, n_time, n_outputs).
    mask
        True where a bin was recorded, shape (n_trials, n_time).
    dynamics
        Of the sampled neurons, shape (n_trials, n_time, n_sampled): normalised rates, or spikes per bin.
    mean_counts
        Mean spikes per bin of each sampled neuron, shape (n_sampled,); for counts only.
    dynamics_error
        ``"squared"`` for rates, ``"poisson"`` for counts.
    """

    outputs: Tensor
    mask: Tensor
    dynamics: Tensor
    mean_counts: Tensor
    dynamics_error: Literal["squared", "poisson"] = "squared"


LOG_RANGE = 3.0  # hidden rates in (-1, 1) span expected counts from 1/20 to 20 times the mean


def apply_exponential_link(rates: Tensor, mean: Tensor) -> Tensor:
    """Return what hidden rates in (-1, 1) mean in spikes: ``mean * exp(3 r)``, in the unit of ``mean``."""
    return mean * torch.exp(LOG_RANGE * rates)


def compute_loss_terms(outputs: Tensor, rates: Tensor, targets: Targets) -> LossTerms:
    """Compare one run of the student with its targets.

    Parameters
    ----------
    outputs
        Shape (n_trials, n_time, n_outputs).
    rates
        Hidden rates, the sampled neurons first, shape (n_trials, n_time, n_hidden).
    targets
        What was recorded.

    Returns
    -------
    dict
        ``output``, ``dynamics`` (if neurons are sampled) and ``rate`` (mean squared hidden rate), unweighted.
    """
    terms = {"output": squared_error(outputs, targets.outputs, mask=targets.mask)}
    n_sampled = targets.dynamics.shape[-1]
    if n_sampled:
        sampled = rates[..., :n_sampled]
        if targets.dynamics_error == "poisson":
            expected = apply_exponential_link(sampled, targets.mean_counts)
            terms["dynamics"] = poisson_error(expected, targets.dynamics, mask=targets.mask)
        else:
            terms["dynamics"] = squared_error(sampled, targets.dynamics, mask=targets.mask)
    terms["rate"] = rates.square().mean()
    return terms
