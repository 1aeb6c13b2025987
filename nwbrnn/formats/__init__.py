"""All formats in which nwbrnn stores data on disk, each with its writer and its reader.

The form of a fit is in :mod:`nwbrnn.formats.fit`, whose modules are imported by those who store or read fits:
who reads a recording needs none of them.
"""

from nwbrnn.formats.dataset import read_dataset, write_dataset
from nwbrnn.formats.lfads import write_lfads
from nwbrnn.formats.teacher import read_circuit, write_teacher

__all__ = [
    "read_circuit",
    "read_dataset",
    "write_dataset",
    "write_lfads",
    "write_teacher",
]
