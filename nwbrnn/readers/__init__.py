"""Read an NWB file into a Dataset."""

from nwbrnn.readers.inspect import Inspection, inspect_nwb
from nwbrnn.readers.recording import read_nwb
from nwbrnn.readers.run import read_run

__all__ = ["Inspection", "inspect_nwb", "read_nwb", "read_run"]
