"""Errors and penalties as pure functions of tensors."""

from nwbrnn.losses.errors import compute_null_deviance, compute_variation, poisson_error, squared_error
from nwbrnn.losses.terms import (
    LOG_RANGE,
    TERMS,
    LossTerm,
    Outcome,
    Targets,
    compute_change,
    compute_loss_terms,
    expect_counts,
    identity,
)

__all__ = [
    "LOG_RANGE",
    "TERMS",
    "LossTerm",
    "Outcome",
    "Targets",
    "compute_change",
    "compute_loss_terms",
    "compute_null_deviance",
    "compute_variation",
    "expect_counts",
    "identity",
    "poisson_error",
    "squared_error",
]
