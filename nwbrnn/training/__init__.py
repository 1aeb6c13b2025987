"""Train networks with torch: take Datasets, and return weights and history."""

from nwbrnn.training.checkpoint import remove_checkpoint
from nwbrnn.training.cross_validation import choose_settings
from nwbrnn.training.gradient import Progress
from nwbrnn.training.module import create_module
from nwbrnn.training.parallel import Task, count_cores, train_all
from nwbrnn.training.probes import probe
from nwbrnn.training.single import Trained, Weights, train
from nwbrnn.training.warm_start import (
    Match,
    adopt_weights,
    check_start,
    describe_match,
    hash_weights,
    match_units,
)

__all__ = [
    "Match",
    "Progress",
    "Task",
    "Trained",
    "Weights",
    "adopt_weights",
    "check_start",
    "choose_settings",
    "count_cores",
    "create_module",
    "describe_match",
    "hash_weights",
    "match_units",
    "probe",
    "remove_checkpoint",
    "train",
    "train_all",
]
