"""How well a student reproduces what was recorded: arrays and Datasets in, numbers out."""

from nwbrnn.evaluation.accuracy import compute_r2, compute_skill, compute_vaf, compute_weighted_r2
from nwbrnn.evaluation.assessment import assess
from nwbrnn.evaluation.rotations import Rotations, compute_rotations
from nwbrnn.evaluation.scores import Score, Scores, evaluate, score_trials
from nwbrnn.evaluation.similarity import compute_controlled_distance, compute_dynamical_distance
from nwbrnn.evaluation.specs import LEVELS, MAIN, SCORES, ScoreSpec, get_spec
from nwbrnn.evaluation.spikes import compute_bits_per_spike, compute_psth_r2
from nwbrnn.evaluation.subspaces import (
    compute_canonical_correlations,
    compute_linear_cka,
    compute_principal_angles,
    compute_principal_components,
    compute_procrustes_distance,
    compute_svcca,
)

__all__ = [
    "LEVELS",
    "MAIN",
    "SCORES",
    "Rotations",
    "Score",
    "ScoreSpec",
    "Scores",
    "assess",
    "compute_bits_per_spike",
    "compute_canonical_correlations",
    "compute_controlled_distance",
    "compute_dynamical_distance",
    "compute_linear_cka",
    "compute_principal_angles",
    "compute_principal_components",
    "compute_procrustes_distance",
    "compute_psth_r2",
    "compute_r2",
    "compute_rotations",
    "compute_skill",
    "compute_svcca",
    "compute_vaf",
    "compute_weighted_r2",
    "evaluate",
    "get_spec",
    "score_trials",
]
