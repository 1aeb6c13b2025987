"""Store the coordinates of a Dataset as columns of tables, where people look for them, or else as JSON."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwbrnn.errors import ExportError
from nwbrnn.formats.tables import is_unknown, show_text
from nwbrnn.limits import MAX_FIT_TEXT
from nwbrnn.schema import COORDINATES, TRIAL, UNIT, VARIABLES

_FORBIDDEN = re.compile(r"[^A-Za-z0-9_-]")
_KINDS = "iufbUOmM"


@dataclass(frozen=True)
class Described:
    """A Dataset without its arrays."""

    # content of the JSON: attributes, and the type, dimensions and attributes of each variable and
    # coordinate; for a coordinate also the name of its column, or its values
    about: dict[str, Any]
    # values and description by name of the column, for the dimensions trial and unit
    columns: Mapping[str, dict[str, tuple[NDArray[Any], str]]]


def describe_dataset(ds: xr.Dataset, reserved: Mapping[str, set[str]]) -> Described:
    """Describe a valid Dataset so that it can be rebuilt.

    ``reserved`` are the names of columns that the tables of trials and units already have, by dimension.
    """
    unknown = sorted({str(name) for name in ds.data_vars} - {spec.name for spec in VARIABLES})
    if unknown:
        raise ExportError(
            f"Dataset: expected only variables of the contract, but got {', '.join(unknown)}; drop them"
        )
    texts = {spec.name: spec.text for spec in COORDINATES}
    columns: dict[str, dict[str, tuple[NDArray[Any], str]]] = {TRIAL: {}, UNIT: {}}
    coords = {}
    for name, coord in ds.coords.items():
        if not isinstance(name, str):
            raise ExportError(f"coordinate {name!r}: expected a text as its name; rename it")
        coords[name] = _describe_variable(name, coord)
        dim = str(coord.dims[0]) if len(coord.dims) == 1 else ""
        if dim in columns and _fits_column(coord.values):
            taken = reserved[dim] | set(columns[dim])
            column = _name_column(name, taken)
            columns[dim][column] = _to_column(coord.values), texts.get(name, f"{name} in the Dataset")
            coords[name]["column"] = column
        else:
            coords[name]["values"] = _to_json(name, coord.values)
    about = {
        "attrs": _check_json("attribute", dict(ds.attrs)),
        "variables": {str(name): _describe_variable(str(name), ds[name]) for name in ds.data_vars},
        "coords": coords,
    }
    return Described(about, columns)


def _describe_variable(name: str, variable: xr.DataArray) -> dict[str, Any]:
    kind = variable.dtype.kind
    if kind not in "iufbUTOmM" or variable.dtype == np.longdouble != np.dtype(np.float64):
        raise ExportError(
            f"{name}: expected numbers, booleans, times or text, but got {variable.dtype}; drop it"
        )
    return {
        "dtype": "text" if kind == "T" else variable.dtype.str,
        "dims": [str(dim) for dim in variable.dims],
        "attrs": _check_json(f"{name}: attribute", dict(variable.attrs)),
    }


def _fits_column(values: NDArray[Any]) -> bool:
    """Return whether a table can hold values: numbers, booleans or text that are not all NaN."""
    if values.dtype.kind in "UTO":
        return all(isinstance(v, str) and show_text(v) == v for v in values.tolist())
    return values.dtype.kind in "iufb" and not is_unknown(values)


def _to_column(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.kind in "UTO":
        return np.array(values.tolist(), dtype=object)
    return values.astype(np.float32) if values.dtype == np.float16 else values


def _name_column(name: str, taken: set[str]) -> str:
    """Return a name that NWB and file systems allow and that no other column has."""
    column = _FORBIDDEN.sub("_", name) or "column"
    while column in taken:
        column = f"source_{column}"
    return column


def _to_json(name: str, values: NDArray[Any]) -> Any:
    """Return values in a form that JSON can hold, with times as whole numbers of their unit."""
    plain = values.astype(np.int64) if values.dtype.kind in "mM" else values
    listed = plain.tolist()
    flat = plain.ravel().tolist()
    if any(v is not None and not isinstance(v, str | int | float) for v in flat):
        raise ExportError(
            f"coordinate {name}: expected numbers, booleans or text, but got {values.dtype} with other "
            "values; drop it"
        )
    return listed


def _check_json(what: str, values: dict[Any, Any]) -> dict[str, Any]:
    """Return attributes in a form that JSON can hold, with NumPy arrays and numbers as plain ones."""
    checked = {}
    for name, value in values.items():
        try:
            checked[str(name)] = json.loads(json.dumps(value, default=_to_plain))
        except (TypeError, ValueError) as error:
            raise ExportError(
                f"{what} {name!r}: expected text, numbers or lists of them, but got {value!r:.80}; drop it"
            ) from error
    return checked


def _to_plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError


def restore_values(name: str, values: Any, dtype: str) -> NDArray[Any]:
    """Return values of a coordinate, from its column or from JSON, as an array of their original type.

    There is a ValueError for unknown types, and for values that would need much more memory than in the file.
    """
    if dtype == "text":
        return np.array(values, dtype=np.dtypes.StringDType())
    kind = _find_dtype(name, dtype, np.size(values))
    if kind.kind in "mM":
        return np.array(values, dtype=np.int64).astype(kind)
    if kind.kind == "O":
        array = np.empty(np.shape(values), dtype=object)
        array[...] = values
        return array
    return np.asarray(values).astype(kind)


def _find_dtype(name: str, dtype: str, n_values: int) -> np.dtype[Any]:
    """Return the type of a stored coordinate, if it is plausible."""
    found = np.dtype(dtype)
    if found.kind not in _KINDS or (found.kind in "iuf" and found.itemsize > 8):
        raise ValueError(f"{name}: expected a type of number, boolean, time or text, but got {dtype!r:.40}")
    if found.itemsize * n_values > MAX_FIT_TEXT:
        raise ValueError(f"{name}: expected at most {MAX_FIT_TEXT:.0e} bytes of text, but got {dtype!r:.40}")
    return found
