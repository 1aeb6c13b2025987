"""Score how well a network reproduces a recording. Functions take arrays or Datasets and return numbers."""

from nwbrnn.evaluation.accuracy import compute_r2, compute_skill, compute_vaf, compute_weighted_r2
from nwbrnn.evaluation.assessment import assess
from nwbrnn.evaluation.baselines import BASELINES, Baseline, get_baseline, predict_baselines
from nwbrnn.evaluation.horizons import FORECAST_SCORES, score_horizons
from nwbrnn.evaluation.ridge import fit_ridge
from nwbrnn.evaluation.rivals import compare_baselines, list_rivals
from nwbrnn.evaluation.rotations import Rotations, compute_rotations
from nwbrnn.evaluation.score_spec import LEVELS, ScoreSpec
from nwbrnn.evaluation.scores import Rival, Score, Scores, evaluate, evaluate_sessions, score_trials
from nwbrnn.evaluation.similarity import compute_controlled_distance, compute_dynamical_distance
from nwbrnn.evaluation.specs import MAIN, SCORES, get_spec
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
    "BASELINES",
    "FORECAST_SCORES",
    "LEVELS",
    "MAIN",
    "SCORES",
    "Baseline",
    "Rival",
    "Rotations",
    "Score",
    "ScoreSpec",
    "Scores",
    "assess",
    "compare_baselines",
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
    "evaluate_sessions",
    "fit_ridge",
    "get_baseline",
    "get_spec",
    "list_rivals",
    "predict_baselines",
    "score_horizons",
    "score_trials",
]
