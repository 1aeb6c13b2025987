"""Open and create NWB files, wherever they are; only this package deals with URLs, HDF5 and Zarr."""

from nwbrnn.storage.compare import list_differences
from nwbrnn.storage.dandi import Asset, Dandiset, find_dandiset, list_assets, matches
from nwbrnn.storage.datasets import load_saved, open_saved
from nwbrnn.storage.file import (
    is_hdf5,
    keep_open,
    list_linked_files,
    list_members,
    open_file,
    open_nwb,
    open_store,
)
from nwbrnn.storage.output import create_nwb, list_validation_errors, list_validation_errors_elsewhere
from nwbrnn.storage.source import Source, find_source, refuse_pointer
from nwbrnn.storage.store import Store, find_stored, format_error, read_whole
from nwbrnn.storage.zarr_store import find_target_outside

__all__ = [
    "Asset",
    "Dandiset",
    "Source",
    "Store",
    "create_nwb",
    "find_dandiset",
    "find_source",
    "find_stored",
    "find_target_outside",
    "format_error",
    "is_hdf5",
    "keep_open",
    "list_assets",
    "list_differences",
    "list_linked_files",
    "list_members",
    "list_validation_errors",
    "list_validation_errors_elsewhere",
    "load_saved",
    "matches",
    "open_file",
    "open_nwb",
    "open_saved",
    "open_store",
    "read_whole",
    "refuse_pointer",
]
