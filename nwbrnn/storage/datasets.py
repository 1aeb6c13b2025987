"""Open Datasets that nwbrnn saved for its own use, in NetCDF or Zarr."""

from pathlib import Path

import xarray as xr

from nwbrnn.limits import is_written
from nwbrnn.storage.damage import open_hdf5
from nwbrnn.storage.source import check_input
from nwbrnn.storage.store import find_links_outside, refuse_links
from nwbrnn.storage.zarr_store import find_zarr_links, sum_files


def open_saved(path: Path) -> xr.Dataset:
    """Open a Dataset in NetCDF or Zarr, which must not take any values from other files."""
    check_input(path)
    if path.is_dir():
        refuse_links(str(path), find_zarr_links(path))
        return xr.open_dataset(path, engine="zarr")
    with path.open("rb") as stream:
        is_classic = stream.read(3) == b"CDF"
    if is_classic:  # NetCDF 3 has no links
        return xr.open_dataset(path, engine="scipy")
    with open_hdf5(path) as file:
        refuse_links(str(path), find_links_outside(file))
    return xr.open_dataset(path, engine="h5netcdf")


def load_saved(path: Path) -> xr.Dataset:
    """Load such a Dataset into memory and close the file."""
    with open_saved(path) as ds:
        stored = sum_files(path) if path.is_dir() else path.stat().st_size
        if not is_written(ds.nbytes, stored):
            raise OSError(f"it would unpack to {ds.nbytes:.0e} bytes, but only {stored:.0e} are stored")
        return ds.load()
