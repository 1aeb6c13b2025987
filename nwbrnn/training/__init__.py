"""Where torch begins and ends: Datasets in, weights, history and predicted Datasets out."""

from nwbrnn.training.gradient import History, train
from nwbrnn.training.predict import fit_rate_readout, predict

__all__ = ["History", "fit_rate_readout", "predict", "train"]
