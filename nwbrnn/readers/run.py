"""read_run: read a simulation by other software, from arrays or from a Dataset."""

import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from nwbrnn.dataset import create_dataset
from nwbrnn.errors import MissingDataError, ReadError, SchemaError, UnsupportedFileError
from nwbrnn.formats.dataset import read_dataset
from nwbrnn.limits import is_written
from nwbrnn.readers.trials import label_values
from nwbrnn.schema import COORDINATES, PARTIAL, VARIABLES
from nwbrnn.storage import format_error, refuse_pointer
from nwbrnn.text import show_count

_VARIABLE_NAMES = tuple(spec.name for spec in VARIABLES)
_COORDINATE_NAMES = tuple(spec.name for spec in COORDINATES)


def read_run(path: str | Path) -> xr.Dataset:
    """Read a simulated run from arrays (``.npz``) or from a Dataset in NetCDF (``.nc``).

    Parameters
    ----------
    path
        An ``.npz`` with ``outputs`` (n_trials, n_time, n_outputs), ``inputs``, ``rates`` [Hz] and/or
        ``spike_counts``, and ``bin_size`` [s] or ``time`` [s]. It may also hold any coordinate of
        :mod:`nwbrnn.schema`, and any other array of length n_trials becomes a trial column. A ``.nc`` must
        hold a Dataset that satisfies the contract.

    Returns
    -------
    xarray.Dataset
        A Dataset for :func:`nwbrnn.write_teacher` or for a fit.

    Raises
    ------
    UnsupportedFileError
        If the file cannot be read, or is of another kind.
    MissingDataError
        If an array is missing.
    ReadError
        If an array has an unknown name or shape, or the arrays break the contract.
    SchemaError
        If the Dataset in a ``.nc`` breaks the contract.

    Examples
    --------
    >>> import nwbrnn
    >>> rng = np.random.default_rng(0)
    >>> inputs, rates, outputs = (rng.random((4, 20, n)) for n in (2, 5, 3))
    >>> condition = ["left", "left", "right", "right"]
    >>> np.savez("run.npz", inputs=inputs, rates=rates, outputs=outputs, condition=condition, bin_size=0.01)
    >>> nwbrnn.read_run("run.npz").sizes["unit"]
    5
    """
    path = Path(path)
    refuse_pointer(path)
    if not path.is_file():
        raise UnsupportedFileError(
            f"{path}: expected a run in .npz or .nc, but there is no such file; check the path"
        )
    if path.suffix == ".nc":
        return read_dataset(path)
    if path.suffix != ".npz":
        raise UnsupportedFileError(
            f"{path}: expected a run in .npz or .nc, but got {path.suffix!r}; convert it"
        )
    try:
        with zipfile.ZipFile(path) as archive, np.load(path, allow_pickle=False) as file:
            _check_sizes(archive.infolist())
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, MemoryError, zlib.error, zipfile.BadZipFile) as error:
        raise UnsupportedFileError(
            f"{path}: expected a readable .npz of plain arrays, but {format_error(error)}; "
            "save it with numpy.savez"
        ) from error
    return _create_run(arrays, path=path)


def _check_sizes(members: Iterable[zipfile.ZipInfo]) -> None:
    """Refuse arrays that unpack to far more bytes than are stored."""
    for member in members:
        if not is_written(member.file_size, member.compress_size):
            raise ValueError(f"{member.filename} would unpack to {member.file_size:.0e} bytes")


def _create_run(arrays: dict[str, NDArray[Any]], *, path: Path) -> xr.Dataset:
    """Build the Dataset from named arrays."""
    _check_names(arrays, path=path)
    n_trials = arrays["outputs"].shape[0]
    variables = {
        # rates and outputs may be whole numbers; the contract holds them as floats
        name: values if values.dtype.kind != "i" or name == "spike_counts" else values.astype(np.float64)
        for name, values in arrays.items()
        if name in _VARIABLE_NAMES
    }
    coords: dict[str, Any] = {}
    for name in arrays.keys() - variables.keys() - {"bin_size"}:
        values = arrays[name]
        if name not in _COORDINATE_NAMES and values.shape != (n_trials,):
            raise ReadError(
                f"{path}: {name}: expected an array of {n_trials} trials or one of "
                f"{', '.join(_VARIABLE_NAMES)}, but got shape {values.shape}; leave it out or rename it"
            )
        coords[name] = values if name in _COORDINATE_NAMES else ("trial", values)
    if "condition" in arrays:
        coords["condition"] = arrays["condition"].astype("U")
    elif "direction" in arrays:
        coords["condition"] = label_values(pd.Series(arrays["direction"]))
    step = arrays["bin_size"] if "bin_size" in arrays else np.diff(arrays["time"])[:1]
    if step.size != 1 or step.dtype.kind not in "iuf":
        raise ReadError(f"{path}: bin_size: expected one number [s], or time with at least two; give it")
    try:
        ds = create_dataset(variables, coords, bin_size=float(step.item()))
    except SchemaError as error:
        raise ReadError(
            f"{path}: {'; '.join(error.problems)}; repair the arrays, or mark gaps with mask"
        ) from error
    except ValueError as error:  # from xarray, if sizes disagree
        raise ReadError(f"{path}: expected arrays of matching shapes, but {format_error(error)}") from error
    _refuse_gaps(ds, path=path)
    return ds


def _refuse_gaps(ds: xr.Dataset, *, path: Path) -> None:
    """Refuse a simulation of which some values are missing, which is a mistake more often than not."""
    missing = {
        name: int(np.isnan(ds[name].values[ds["mask"].values]).sum()) for name in PARTIAL if name in ds
    }
    found = [f"{name!r} has {show_count(count, 'NaN value')}" for name, count in missing.items() if count]
    if found:
        raise ReadError(
            f"{path}: {'; '.join(found)}, but a simulation has every value; "
            "repair the arrays, or mark gaps with mask"
        )


def _check_names(arrays: dict[str, NDArray[Any]], *, path: Path) -> None:
    """Refuse a run that lacks required arrays."""
    alternatives = (("outputs",), ("inputs",), ("rates", "spike_counts"), ("bin_size", "time"))
    missing = [" or ".join(names) for names in alternatives if not set(names) & set(arrays)]
    if missing:
        raise MissingDataError(
            f"{path}: expected the arrays {', '.join(missing)}, "
            f"but there are {', '.join(sorted(arrays)) or 'none'}"
        )
    for spec in VARIABLES:
        if spec.name in arrays and arrays[spec.name].ndim != len(spec.dims):
            raise ReadError(
                f"{path}: {spec.name}: expected the dimensions {' x '.join(spec.dims)}, "
                f"but got shape {arrays[spec.name].shape}"
            )
