"""Read a group of any kind as a Dataset; the root also gets the attributes of the session.

A table becomes columns by row. Ragged columns stay flat and keep their indexes.
"""

from collections.abc import Container
from typing import Any

import xarray as xr

from nwbrnn.readers.engine.contents import ArrayNode, Contents, GroupNode
from nwbrnn.readers.engine.series import is_series, read_series
from nwbrnn.readers.engine.variables import create_variable, create_variables, name_dims, share_chunks
from nwbrnn.text import show_count

_ROW_NAMES = {
    "/intervals/trials": "trial",
    "/units": "unit",
    "/general/extracellular_ephys/electrodes": "electrode",
}
_IN_SECONDS = {"start_time", "stop_time", "spike_times", "obs_intervals"}


def read_group(contents: Contents, group: GroupNode) -> xr.Dataset:
    """Read a group as a lazy Dataset according to its contents, not its type, which extensions may define.

    Its attributes hold scalars and the targets of links; ``omitted`` names what cannot be shown.
    """
    scalars = contents.load_scalars(group)
    if is_series(group):
        ds = read_series(contents, group)
    elif _is_table(group):
        ds = _read_table(contents, group)
    else:
        ds = _read_other(contents, group)
    ds.attrs = group.attrs | scalars | group.links | ds.attrs
    if group.path == "/":
        ds.attrs |= _read_session(contents)
    if group.omitted:
        ds.attrs["omitted"] = ", ".join(group.omitted)
    share_chunks(ds)
    return ds


def _read_session(contents: Contents) -> dict[str, Any]:
    """Return what the file says about the session and the subject."""
    found: dict[str, Any] = {}
    for path, prefix in (("/general", ""), ("/general/subject", "subject_")):
        if contents.is_group(path):
            group = contents.list_group(path)
            values = contents.load_scalars(group) | contents.load_texts(group.arrays)
            found |= {prefix + name.removeprefix(prefix): value for name, value in values.items()}
    return found


def _read_other(contents: Contents, group: GroupNode) -> xr.Dataset:
    """Read a group of arrays that share no known dimensions."""
    texts = contents.load_texts(group.arrays) if group.path in {"/", "/general"} else {}
    arrays = {name: array for name, array in group.arrays.items() if array.shape and name not in texts}
    dims = {name: name_dims(name, array, f"{name}_row") for name, array in arrays.items()}
    return xr.Dataset(create_variables(contents.file, group, dims), attrs=texts)


def _is_table(group: GroupNode) -> bool:
    """Return whether a group is a DynamicTable with ids that can be read."""
    ids = group.arrays.get("id")
    return bool(group.columns) and ids is not None and len(ids.shape) == 1 and ids.dtype is not None


def _read_table(contents: Contents, group: GroupNode) -> xr.Dataset:
    """Read a DynamicTable, columns in order; row ``i`` of a ragged one ends at ``<column>_index[i]``.

    The ids are the coordinate of the rows, without an index.
    """
    ids = group.arrays["id"]
    row = _ROW_NAMES.get(group.path, group.path.rsplit("/", 1)[-1])
    if row in group.arrays:  # a column already has this name
        row = "id"
    dims = {name: _find_dims(group, name, row) for name in _sort_columns(group) if _is_shown(group, name)}
    variables = create_variables(contents.file, group, dims)
    for name, variable in variables.items():
        if name in dims and f"{name}_index" not in group.arrays and dims[name][0] != row:
            n_values, n_rows = group.arrays[name].shape[0], ids.shape[0]
            variable.attrs["problem"] = (
                f"{show_count(n_values, 'value')} for {show_count(n_rows, 'row')} of the table"
            )
        if name in _IN_SECONDS and variable.dtype.kind == "f":
            variable.attrs.setdefault("units", "s")
        if _is_index(name, variables):
            variable.attrs["long_name"] = f"end of each row in {name.removesuffix('_index')}"
    coords = xr.Coordinates({row: create_variable(contents.file, ids, (row,))}, indexes={})
    return xr.Dataset(variables, coords=coords)


def _sort_columns(group: GroupNode) -> list[str]:
    """Return the names of arrays in column order, each column before its index."""
    order = {name: i for i, name in enumerate(group.columns)}
    return sorted(group.arrays, key=lambda name: order.get(name.removesuffix("_index"), len(order)))


def _is_shown(group: GroupNode, name: str) -> bool:
    """Return whether to show an array, that is, unless it is the index of a column that cannot be shown."""
    is_lost = name.endswith("_index") and _find_flat(group, name).dtype is None
    return bool(group.arrays[name].shape) and name != "id" and not is_lost


def _find_dims(group: GroupNode, name: str, row: str) -> tuple[str, ...]:
    """Return dimensions; arrays that are flat or differ in length from the table do not share its rows."""
    array = group.arrays[name]
    is_flat = f"{name}_index" in group.arrays or array.shape[0] != group.arrays["id"].shape[0]
    return name_dims(name, array, f"{name}_row" if is_flat else row)


def _find_flat(group: GroupNode, name: str) -> ArrayNode:
    """Return the values that an index, or an index of an index, points to."""
    while _is_index(name, group.arrays):
        name = name.removesuffix("_index")
    return group.arrays[name]


def _is_index(name: str, others: Container[str]) -> bool:
    return name.endswith("_index") and name.removesuffix("_index") in others
