"""Train networks with torch: take Datasets, and return weights, history and predicted Datasets."""

from nwbrnn.training.checkpoint import remove_checkpoint
from nwbrnn.training.cross_validation import choose_settings
from nwbrnn.training.forecast import forecast
from nwbrnn.training.gradient import Progress
from nwbrnn.training.module import create_module
from nwbrnn.training.observations import forget_observer
from nwbrnn.training.parallel import Task, count_cores, train_all
from nwbrnn.training.perturb import Push, find_components, map_population, map_units, perturb, shift_states
from nwbrnn.training.predict import compare_predictions, fit_rate_readout, measure_free_run, predict
from nwbrnn.training.probes import INPUT_LEVELS, probe
from nwbrnn.training.silence import silence
from nwbrnn.training.student import Trained, Weights, train
from nwbrnn.training.systems import create_system, find_states
from nwbrnn.training.trials import predict_trials
from nwbrnn.training.warm_start import (
    Match,
    adopt_weights,
    check_start,
    describe_match,
    hash_weights,
    match_units,
)

__all__ = [
    "INPUT_LEVELS",
    "Match",
    "Progress",
    "Push",
    "Task",
    "Trained",
    "Weights",
    "adopt_weights",
    "check_start",
    "choose_settings",
    "compare_predictions",
    "count_cores",
    "create_module",
    "create_system",
    "describe_match",
    "find_components",
    "find_states",
    "fit_rate_readout",
    "forecast",
    "forget_observer",
    "hash_weights",
    "map_population",
    "map_units",
    "match_units",
    "measure_free_run",
    "perturb",
    "predict",
    "predict_trials",
    "probe",
    "remove_checkpoint",
    "shift_states",
    "silence",
    "train",
    "train_all",
]
