"""The xarray engine ``nwb``: open every group of an NWB file as a lazy Dataset.

The engine reads the groups and arrays of the file directly, not through pynwb. Opening is therefore cheap,
and types of any extension can be read. ``contents`` lists groups and arrays; ``groups`` and
``series`` convert them to Datasets; ``arrays`` and ``time_index`` read values on request.
"""

from nwbrnn.readers.engine.backend import NwbBackend

__all__ = ["NwbBackend"]
