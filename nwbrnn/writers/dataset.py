"""The Dataset as a file of its own, for those who go on with other tools: NetCDF or Zarr."""

import io
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import xarray as xr

from nwbrnn.errors import ExportError
from nwbrnn.schema import validate
from nwbrnn.storage.atomic import replace_whole
from nwbrnn.storage.paths import check_output

SUFFIXES = (".nc", ".zarr")


def write_dataset(ds: xr.Dataset, path: str | Path, *, overwrite: bool = False) -> None:
    """Write a Dataset to NetCDF (``.nc``) or Zarr (``.zarr``).

    :func:`nwbrnn.read_dataset` gives it back identical, and any xarray reads it.

    Parameters
    ----------
    ds
        A valid Dataset, from :func:`nwbrnn.read_nwb` or another.
    path
        The file to make; its ending decides on the format.
    overwrite
        Whether to replace an existing file.

    Raises
    ------
    SchemaError
        If the Dataset breaks the contract.
    OutputExistsError
        If the file exists and ``overwrite`` is false.
    ExportError
        If the name ends otherwise, the file cannot be written, or zarr 3 is missing.
    """
    path = Path(path)
    check_dataset_output(path, overwrite=overwrite)
    validate(ds)
    with replace_whole(path, overwrite=overwrite, folder=path.suffix == ".zarr") as temporary:
        if path.suffix == ".nc":
            write_netcdf(ds, temporary)
        else:
            ds.to_zarr(temporary, mode="w", zarr_format=2, consolidated=True)


def write_netcdf(ds: xr.Dataset, path: Path) -> None:
    """Write any Dataset as NetCDF, made in memory first: on a full disk, HDF5 can end the process."""
    content = io.BytesIO()  # not to_netcdf()'s view of one: Python 3.12 crashes where an error keeps that
    ds.to_netcdf(content, engine="h5netcdf")
    path.write_bytes(content.getvalue())


def check_dataset_output(path: Path, *, overwrite: bool) -> None:
    """Refuse an output that cannot or must not be written; call it before any long work.

    Raises
    ------
    OutputExistsError, ExportError
        As :func:`write_dataset`.
    """
    if path.suffix not in SUFFIXES:
        raise ExportError(f"{path}: expected a name that ends in .nc or .zarr; rename the output")
    check_output(path, overwrite=overwrite, suffix="", folder=path.suffix == ".zarr")
    if path.suffix == ".zarr":
        try:
            installed = version("zarr")
        except PackageNotFoundError:
            raise ExportError(f"{path}: writing Zarr needs the package zarr; pip install zarr") from None
        if installed.startswith("2."):
            raise ExportError(
                f"{path}: writing Zarr needs zarr 3, but zarr {installed} is installed; write a .nc, or use "
                "an environment with zarr 3, without dandi and, before Python 3.12, without hdmf-zarr"
            )
