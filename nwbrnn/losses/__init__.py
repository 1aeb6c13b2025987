"""Errors and penalties as pure functions of tensors."""

from nwbrnn.losses.errors import poisson_error, squared_error
from nwbrnn.losses.terms import Targets, apply_exponential_link, compute_loss_terms

__all__ = ["Targets", "apply_exponential_link", "compute_loss_terms", "poisson_error", "squared_error"]
