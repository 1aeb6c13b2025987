"""Opening NWB files, wherever they are: the only code that knows of paths, URLs, HDF5 and Zarr."""

from nwbrnn.storage.dandi import Asset, Dandiset, find_dandiset, list_assets, matches
from nwbrnn.storage.file import open_nwb, open_store
from nwbrnn.storage.source import Source, find_source
from nwbrnn.storage.store import Store, one_line

__all__ = [
    "Asset",
    "Dandiset",
    "Source",
    "Store",
    "find_dandiset",
    "find_source",
    "list_assets",
    "matches",
    "one_line",
    "open_nwb",
    "open_store",
]
