"""read_dataset: what write_dataset wrote."""

from pathlib import Path

import numpy as np
import xarray as xr

from nwbrnn.errors import NwbrnnError, UnsupportedFileError
from nwbrnn.schema import validate
from nwbrnn.storage import load_saved, one_line, refuse_pointer


def read_dataset(path: str | Path) -> xr.Dataset:
    """Read a Dataset from NetCDF or Zarr, as :func:`nwbrnn.write_dataset` wrote it.

    Parameters
    ----------
    path
        A ``.nc`` file or a ``.zarr`` folder that holds the contract of :mod:`nwbrnn.schema`.

    Returns
    -------
    xarray.Dataset
        Identical to what was written.

    Raises
    ------
    UnsupportedFileError
        If it cannot be read.
    SchemaError
        If what is in it breaks the contract.
    """
    path = Path(path)
    refuse_pointer(path)
    if not path.exists():
        raise UnsupportedFileError(
            f"{path}: expected a Dataset in .nc or .zarr, but there is none; check the path"
        )
    try:
        ds = load_saved(path)
    except NwbrnnError:
        raise
    except Exception as error:  # xarray and its backends raise many kinds
        raise UnsupportedFileError(
            f"{path}: expected a readable Dataset in .nc or .zarr, but {one_line(error)}; write it again"
        ) from error
    # NetCDF gives numbers back as NumPy's
    ds.attrs = {k: v.item() if isinstance(v, np.generic) else v for k, v in ds.attrs.items()}
    return validate(ds)
