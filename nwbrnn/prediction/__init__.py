"""Run fitted networks in NumPy: take Datasets and weights, and return predicted Datasets, without torch."""

from nwbrnn.prediction.equations import EQUATIONS, Equation
from nwbrnn.prediction.forecast import forecast
from nwbrnn.prediction.observations import forget_observer
from nwbrnn.prediction.perturb import (
    Push,
    find_components,
    map_population,
    map_units,
    perturb,
    shift_states,
)
from nwbrnn.prediction.predict import compare_predictions, fit_rate_readout, measure_free_run, predict
from nwbrnn.prediction.silence import silence
from nwbrnn.prediction.systems import create_system, find_states
from nwbrnn.prediction.trials import predict_trials

__all__ = [
    "EQUATIONS",
    "Equation",
    "Push",
    "compare_predictions",
    "create_system",
    "find_components",
    "find_states",
    "fit_rate_readout",
    "forecast",
    "forget_observer",
    "map_population",
    "map_units",
    "measure_free_run",
    "perturb",
    "predict",
    "predict_trials",
    "shift_states",
    "silence",
]
