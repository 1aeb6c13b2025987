"""NWB file in, Dataset out; nothing else opens a file for reading."""

from nwbrnn.readers.fit import find_fit_source, read_fit
from nwbrnn.readers.inspect import Inspection, inspect_nwb
from nwbrnn.readers.recording import read_nwb
from nwbrnn.readers.run import read_circuit, read_run
from nwbrnn.readers.saved import read_dataset

__all__ = [
    "Inspection",
    "find_fit_source",
    "inspect_nwb",
    "read_circuit",
    "read_dataset",
    "read_fit",
    "read_nwb",
    "read_run",
]
