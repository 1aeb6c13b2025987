"""How well a student reproduces what was recorded: arrays and Datasets in, numbers out."""

from nwbrnn.evaluation.accuracy import compute_r2, compute_weighted_r2
from nwbrnn.evaluation.scores import Score, Scores, evaluate
from nwbrnn.evaluation.subspaces import (
    compute_canonical_correlations,
    compute_principal_components,
)

__all__ = [
    "Score",
    "Scores",
    "compute_canonical_correlations",
    "compute_principal_components",
    "compute_r2",
    "compute_weighted_r2",
    "evaluate",
]
