"""Opening NWB files, wherever they are: the only code that knows of paths, URLs, HDF5 and Zarr."""

from nwbrnn.storage.file import open_nwb, open_store
from nwbrnn.storage.source import Source, find_source
from nwbrnn.storage.store import Store, one_line

__all__ = ["Source", "Store", "find_source", "one_line", "open_nwb", "open_store"]
