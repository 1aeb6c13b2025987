"""Errors and penalties as pure functions of tensors."""

from nwbrnn.losses.errors import compute_null_deviance, compute_variation, poisson_error, squared_error
from nwbrnn.losses.terms import (
    TERMS,
    LossTerm,
    Outcome,
    Targets,
    compute_change,
    compute_loss_terms,
    identity,
)

__all__ = [
    "TERMS",
    "LossTerm",
    "Outcome",
    "Targets",
    "compute_change",
    "compute_loss_terms",
    "compute_null_deviance",
    "compute_variation",
    "identity",
    "poisson_error",
    "squared_error",
]
