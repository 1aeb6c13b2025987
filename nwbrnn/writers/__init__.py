"""Datasets and results in, NWB files out; nothing else writes a file."""

from nwbrnn.writers.fit import write_fit
from nwbrnn.writers.teacher import write_teacher

__all__ = ["write_fit", "write_teacher"]
