"""Read a group of any kind as a Dataset; the root also gets the attributes of the session."""

from typing import Any

import xarray as xr

from nwbrnn.readers.engine.contents import Contents, GroupNode
from nwbrnn.readers.engine.series import is_series, read_series
from nwbrnn.readers.engine.tables import is_table, read_table
from nwbrnn.readers.engine.variables import create_variables, name_dims, share_chunks


def read_group(contents: Contents, group: GroupNode) -> xr.Dataset:
    """Read a group according to its contents, not its type, since extensions may define types.

    Returns
    -------
    Dataset
        A lazy Dataset. Its attributes hold scalars and the targets of links; ``omitted`` names what cannot
        be shown.
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
