"""Create xarray variables from the arrays of a file."""

import math
from typing import Any

import numpy as np
import xarray as xr
from xarray.core import indexing

from nwbrnn.readers.engine.arrays import LazyFile, Scaling, StoredArray
from nwbrnn.readers.engine.contents import ArrayNode, GroupNode

_CONTIGUOUS_CHUNK = 1 << 26  # bytes in a chunk of an array that the file does not chunk


def create_variable(
    file: LazyFile,
    array: ArrayNode,
    dims: tuple[str, ...],
    *,
    member: str = "",
    scaling: Scaling | None = None,
) -> xr.Variable:
    """Create a lazy variable with the units that the file gives.

    ``member`` is the field to take of compound values. Scaled values become float64.
    """
    assert array.dtype is not None
    dtype = array.dtype[member] if member else array.dtype
    dtype = np.dtype(np.float64) if scaling is not None else dtype
    attrs = {name: value for name, value in array.attrs.items() if name not in {"unit", "units"}}
    unit = array.attrs.get("unit", array.attrs.get("units"))
    if unit is not None:
        attrs["units"] = "s" if unit == "seconds" else unit
    stored = StoredArray(file, array.path, array.shape, dtype, member=member, scaling=scaling)
    chunks = array.chunks or _split_contiguous(array.shape, dtype)
    encoding = {"preferred_chunks": dict(zip(dims, chunks, strict=True))}
    return xr.Variable(dims, indexing.LazilyIndexedArray(stored), attrs, encoding)


def create_variables(
    file: LazyFile, group: GroupNode, dims: dict[str, tuple[str, ...]]
) -> dict[str, xr.Variable]:
    """Create variables from the arrays of a group that have dimensions.

    Compound values become one variable per field. Arrays that cannot be shown are added to
    ``group.omitted``.
    """
    variables = {}
    for name, its_dims in dims.items():
        array = group.arrays[name]
        if array.dtype is None:
            group.omitted.append(f"{name} ({array.problem})")
        elif array.dtype.names:
            for part in array.dtype.names:
                variables[f"{name}_{part}"] = create_variable(file, array, its_dims, member=part)
        else:
            variables[name] = create_variable(file, array, its_dims)
    return variables


def name_dims(name: str, array: ArrayNode, first: str) -> tuple[str, ...]:
    """Return names of dimensions; all but the first belong to this array only."""
    return (first, *(f"{name}_dim{i}" for i in range(1, len(array.shape))))


def share_chunks(ds: xr.Dataset) -> None:
    """Use the chunks of the largest variable along each dimension, since dask needs them to agree."""
    preferred: dict[Any, int] = {}
    for variable in sorted(ds.variables.values(), key=lambda v: -v.nbytes):
        for dim, size in variable.encoding.get("preferred_chunks", {}).items():
            preferred.setdefault(dim, max(min(size, ds.sizes[dim]), 1))
    for variable in ds.variables.values():
        variable.encoding["preferred_chunks"] = {d: preferred[d] for d in variable.dims if d in preferred}


def _split_contiguous(shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int, ...]:
    """Return the chunks of an array that the file stores in one piece."""
    row_bytes = max(math.prod(shape[1:]) * dtype.itemsize, 1)
    return (max(_CONTIGUOUS_CHUNK // row_bytes, 1), *shape[1:])
