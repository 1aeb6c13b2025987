"""Write a Dataset to NetCDF or Zarr, and read it back."""

import io
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import xarray as xr

from nwbrnn.errors import ExportError, NwbrnnError, UnsupportedFileError
from nwbrnn.schema import validate
from nwbrnn.storage import format_error, load_saved, refuse_pointer
from nwbrnn.storage.atomic import replace_whole
from nwbrnn.storage.paths import check_output

SUFFIXES = (".nc", ".zarr")


def write_dataset(ds: xr.Dataset, path: str | Path, *, overwrite: bool = False) -> None:
    """Write a Dataset to NetCDF (``.nc``) or Zarr (``.zarr``).

    :func:`nwbrnn.read_dataset` returns an identical Dataset, and xarray alone can read the file too.

    Parameters
    ----------
    ds
        Any valid Dataset, such as one from :func:`nwbrnn.read_nwb`.
    path
        The file to write; its ending determines the format.
    overwrite
        Whether to replace an existing file.

    Raises
    ------
    SchemaError
        If the Dataset breaks the contract.
    OutputExistsError
        If the file exists and ``overwrite`` is false.
    ExportError
        If the name has another ending, the file cannot be written, or zarr 3 is missing.

    Examples
    --------
    >>> import nwbrnn
    >>> nwbrnn.write_dataset(nwbrnn.read_nwb(example), "session.nc", overwrite=True)
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
    """Write any Dataset as NetCDF, built in memory first, since HDF5 can end the process on a full disk."""
    content = io.BytesIO()  # not the view of to_netcdf(): if an error keeps it, Python 3.12 crashes
    ds.to_netcdf(content, engine="h5netcdf")
    path.write_bytes(content.getvalue())


def check_dataset_output(path: Path, *, overwrite: bool) -> None:
    """Refuse an output that cannot or must not be written; call this before any long work."""
    check_output(path, overwrite=overwrite, suffix=SUFFIXES, folder=path.suffix == ".zarr")
    if path.suffix == ".zarr":
        try:
            installed = version("zarr")
        except PackageNotFoundError:
            raise ExportError(f"{path}: writing Zarr needs the package zarr; run pip install zarr") from None
        if installed.startswith("2."):
            raise ExportError(
                f"{path}: writing Zarr needs zarr 3, but zarr {installed} is installed; write a .nc, or use "
                "an environment with zarr 3, without dandi and, before Python 3.12, without hdmf-zarr"
            )


def read_dataset(path: str | Path) -> xr.Dataset:
    """Read a Dataset from NetCDF or Zarr, as :func:`nwbrnn.write_dataset` wrote it.

    Parameters
    ----------
    path
        A ``.nc`` file or a ``.zarr`` folder that holds the contract of :mod:`nwbrnn.schema`.

    Returns
    -------
    xarray.Dataset
        A Dataset identical to the one that was written.

    Raises
    ------
    UnsupportedFileError
        If the file cannot be read.
    SchemaError
        If the Dataset in it breaks the contract.

    Examples
    --------
    >>> import nwbrnn
    >>> ds = nwbrnn.read_nwb(example)
    >>> nwbrnn.write_dataset(ds, "session.nc", overwrite=True)
    >>> nwbrnn.read_dataset("session.nc").identical(ds)
    True
    """
    path = Path(path)
    refuse_pointer(path)
    if not path.exists():
        raise UnsupportedFileError(
            f"{path}: expected a Dataset in .nc or .zarr, but there is no such file; check the path"
        )
    try:
        ds = load_saved(path)
    except NwbrnnError:
        raise
    except Exception as error:  # xarray and its backends raise errors of many types
        raise UnsupportedFileError(
            f"{path}: expected a readable Dataset in .nc or .zarr, but {format_error(error)}; write it again"
        ) from error
    # NetCDF returns numbers as NumPy types
    ds.attrs = {k: v.item() if isinstance(v, np.generic) else v for k, v in ds.attrs.items()}
    return validate(ds)
