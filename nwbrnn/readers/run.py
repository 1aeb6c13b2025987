"""Teacher runs: what somebody simulated elsewhere, and the circuit in a teacher file."""

import json
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from pynwb import NWBFile

from nwbrnn.dataset import create_dataset
from nwbrnn.errors import MissingDataError, ReadError, SchemaError, UnsupportedFileError
from nwbrnn.limits import is_written
from nwbrnn.readers.saved import read_dataset
from nwbrnn.readers.trials import label_values
from nwbrnn.schema import COORDINATES, VARIABLES
from nwbrnn.storage import one_line, open_nwb, refuse_pointer

_VARIABLE_NAMES = tuple(spec.name for spec in VARIABLES)
_COORDINATE_NAMES = tuple(spec.name for spec in COORDINATES)


def read_run(path: str | Path) -> xr.Dataset:
    """Read a simulated run from arrays (``.npz``) or from a Dataset in NetCDF (``.nc``).

    Parameters
    ----------
    path
        An ``.npz`` with ``outputs`` (n_trials, n_time, n_outputs), ``inputs``, ``rates`` [Hz] and/or
        ``spike_counts``, and ``bin_size`` [s] or ``time`` [s]; any coordinate of :mod:`nwbrnn.schema`; any
        other array of length n_trials becomes a trial column. Or a ``.nc`` that holds the contract as it is.

    Returns
    -------
    xarray.Dataset
        For :func:`nwbrnn.write_teacher`, or to fit directly.

    Raises
    ------
    UnsupportedFileError
        If the file cannot be read, or is of another kind.
    MissingDataError
        If an array is missing.
    ReadError
        If an array is of no known name or shape, or the arrays break the contract.
    SchemaError
        If the Dataset in a ``.nc`` breaks the contract.
    """
    path = Path(path)
    refuse_pointer(path)
    if not path.is_file():
        raise UnsupportedFileError(
            f"{path}: expected a run in .npz or .nc, but there is none; check the path"
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
            f"{path}: expected a readable .npz of plain arrays, but {one_line(error)}; "
            "save it with numpy.savez"
        ) from error
    return _create_run(arrays, path=path)


def _check_sizes(members: Iterable[zipfile.ZipInfo]) -> None:
    """Refuse arrays that unpack to far more than is stored of them."""
    for member in members:
        if not is_written(member.file_size, member.compress_size):
            raise ValueError(f"{member.filename} would unpack to {member.file_size:.0e} bytes")


def _create_run(arrays: dict[str, NDArray[Any]], *, path: Path) -> xr.Dataset:
    """Return the Dataset of named arrays."""
    _check_names(arrays, path=path)
    n_trials = arrays["outputs"].shape[0]
    variables = {
        # whole numbers are fine as rates or outputs, the contract holds them as floats
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
        return create_dataset(variables, coords, bin_size=float(step.item()))
    except SchemaError as error:
        raise ReadError(
            f"{path}: {'; '.join(error.problems)}; repair the arrays, or mark gaps with mask"
        ) from error
    except ValueError as error:  # of xarray: sizes that disagree
        raise ReadError(f"{path}: expected arrays of matching shapes, but {one_line(error)}") from error


def _check_names(arrays: dict[str, NDArray[Any]], *, path: Path) -> None:
    """Refuse a run without the arrays that it needs."""
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


def read_circuit(path: str | Path) -> tuple[NDArray[np.float64], dict[str, Any]]:
    """Read what repeats a simulation from a teacher file.

    Parameters
    ----------
    path
        An NWB file that ``nwbrnn simulate`` made.

    Returns
    -------
    weights, settings
        Recurrent weights, shape (n_neurons, n_neurons), for :class:`nwbrnn.teacher.Circuit`, and the
        fields of :class:`nwbrnn.TeacherConfig`.

    Raises
    ------
    MissingDataError
        If the file holds no circuit or no configuration.
    """
    path = Path(path)
    with open_nwb(path) as nwbfile:
        module = nwbfile.processing.get("misc")
        if module is None or "connectivity" not in module.data_interfaces:
            raise MissingDataError(
                f"{path}: processing/misc/connectivity: expected the circuit of a teacher, but there "
                "is none; give a file that 'nwbrnn simulate' made"
            )
        if "teacher_config" not in (nwbfile.scratch or {}):
            raise MissingDataError(
                f"{path}: scratch/teacher_config: expected the configuration of a teacher, but there is none"
            )
        weights = np.asarray(module["connectivity"]["weights"].data[:])
        return weights, dict(json.loads(nwbfile.scratch["teacher_config"].data))


def attach_circuit(ds: xr.Dataset, nwbfile: NWBFile) -> xr.Dataset:
    """Return a Dataset with the circuit and the readout of a teacher, if its file holds them.

    Only where all neurons and nothing but muscles of the teacher were read, so that they belong together.

    Parameters
    ----------
    ds
        What was read of the file.
    nwbfile
        The file, open.
    """
    module, scratch = nwbfile.processing.get("misc"), nwbfile.scratch or {}
    if module is None or not {"connectivity", "readout"} <= set(module.data_interfaces):
        return ds
    n_units, outputs = ds.sizes["unit"], ds["output"].values.tolist()
    try:
        weights, readout = (
            np.asarray(module[name]["weights"].data[:], dtype=np.float64)
            for name in ("connectivity", "readout")
        )
        rows = {str(name): row for row, name in enumerate(module["readout"]["muscle"].data[:])}
        config = str(scratch["teacher_config"].data)
    except (KeyError, TypeError, ValueError, AttributeError):  # of somebody else's
        return ds
    whole = weights.shape == (n_units, n_units) and readout.shape == (len(rows), n_units)
    if not whole or not set(outputs) <= set(rows) or not np.isfinite(weights).all():
        return ds
    own = readout[[rows[name] for name in outputs]]
    parts = {"connectivity": (("unit", "presynaptic"), weights), "readout": (("output", "unit"), own)}
    named = {name: xr.Variable(dims, values, {"units": "a.u."}) for name, (dims, values) in parts.items()}
    return ds.assign(named).assign_attrs(teacher=config)
