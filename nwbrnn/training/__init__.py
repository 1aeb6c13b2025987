"""Where torch begins and ends: Datasets in, weights, history and predicted Datasets out."""

from nwbrnn.training.checkpoint import remove_checkpoint
from nwbrnn.training.cross_validation import choose_settings
from nwbrnn.training.gradient import Progress
from nwbrnn.training.parallel import Task, count_cores, train_all
from nwbrnn.training.predict import compare_predictions, fit_rate_readout, measure_free_run, predict
from nwbrnn.training.probes import probe
from nwbrnn.training.student import Trained, train

__all__ = [
    "Progress",
    "Task",
    "Trained",
    "choose_settings",
    "compare_predictions",
    "count_cores",
    "fit_rate_readout",
    "measure_free_run",
    "predict",
    "probe",
    "remove_checkpoint",
    "train",
    "train_all",
]
