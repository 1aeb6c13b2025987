"""The Dataset of a group: what kind of group it is, and what the file says on the whole session."""

from typing import Any

import xarray as xr

from nwbrnn.readers.engine.contents import Contents, GroupNode
from nwbrnn.readers.engine.series import is_series, read_series
from nwbrnn.readers.engine.tables import is_table, read_table
from nwbrnn.readers.engine.variables import create_variables, name_dims, share_chunks


def read_group(contents: Contents, group: GroupNode) -> xr.Dataset:
    """Read a group by what is in it, and not by its type, which extensions may define.

    Returns
    -------
    Dataset
        Lazy. Attributes hold scalars and where links lead; ``omitted`` names what cannot be shown.
    """
    scalars = contents.load_scalars(group)
    if is_series(group):
        ds = read_series(contents, group)
    elif is_table(group):
        ds = read_table(contents, group)
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
    """Return what the file says on the session and the subject."""
    found: dict[str, Any] = {}
    for path, prefix in (("/general", ""), ("/general/subject", "subject_")):
        if contents.is_group(path):
            group = contents.list_group(path)
            values = contents.load_scalars(group) | contents.load_texts(group.arrays)
            found |= {prefix + name.removeprefix(prefix): value for name, value in values.items()}
    return found


def _read_other(contents: Contents, group: GroupNode) -> xr.Dataset:
    """Return a group of arrays that are not known to have anything in common."""
    texts = contents.load_texts(group.arrays) if group.path in {"/", "/general"} else {}
    arrays = {name: array for name, array in group.arrays.items() if array.shape and name not in texts}
    dims = {name: name_dims(name, array, f"{name}_row") for name, array in arrays.items()}
    return xr.Dataset(create_variables(contents.file, group, dims), attrs=texts)
