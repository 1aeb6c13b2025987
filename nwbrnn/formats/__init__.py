"""All formats in which nwbrnn stores data on disk, each with its writer and its reader."""

from nwbrnn.formats.dataset import read_dataset, write_dataset
from nwbrnn.formats.fit.decode import find_fit_sources, find_start, read_fit, read_versions
from nwbrnn.formats.fit.export import check_fit_output, write_fit
from nwbrnn.formats.lfads import write_lfads
from nwbrnn.formats.teacher import read_circuit, write_teacher

__all__ = [
    "check_fit_output",
    "find_fit_sources",
    "find_start",
    "read_circuit",
    "read_dataset",
    "read_fit",
    "read_versions",
    "write_dataset",
    "write_fit",
    "write_lfads",
    "write_teacher",
]
