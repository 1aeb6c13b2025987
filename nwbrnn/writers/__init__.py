"""Datasets and results in, files out; nothing else writes a file."""

from nwbrnn.writers.dataset import write_dataset
from nwbrnn.writers.fit import check_fit_output, write_fit
from nwbrnn.writers.teacher import write_teacher

__all__ = ["check_fit_output", "write_dataset", "write_fit", "write_teacher"]
