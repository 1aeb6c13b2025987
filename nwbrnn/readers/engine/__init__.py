"""The engine ``nwb`` of xarray: every group of an NWB file as a Dataset, lazily.

The groups and arrays of the file are looked at as they are, not through pynwb: opening is cheap, and types of
any extension are read. ``contents`` lists them, ``groups``, ``tables`` and ``series`` make Datasets
of them, and ``arrays`` and ``time_index`` read values when they are asked for.
"""

from nwbrnn.readers.engine.backend import NwbBackend

__all__ = ["NwbBackend"]
