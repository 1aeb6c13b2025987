"""Tables and compressed arrays of an NWB file: made, and read as plain columns."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from hdmf.backends.hdf5.h5_utils import H5DataIO
from hdmf.common import DynamicTable, DynamicTableRegion, EnumData, VectorData, VectorIndex
from numpy.typing import NDArray

from nwbrnn.errors import ReadError
from nwbrnn.limits import MAX_WIDTH, find_readable

_FORBIDDEN = re.compile("[\0\ud800-\udfff]")


def create_table(
    name: str,
    description: str,
    columns: Mapping[str, tuple[Any, str]],
    *,
    links: Sequence[VectorData] = (),
) -> DynamicTable:
    """Return a table from values and a description of each column, without columns that are NaN throughout.

    Parameters
    ----------
    name, description
        Of the table.
    columns
        Values and description by name.
    links
        Columns made before, such as those of :func:`link_rows`.
    """
    data = [
        VectorData(name=column, data=values, description=show_text(text))
        for column, (values, text) in columns.items()
        if not (isinstance(values, np.ndarray) and values.dtype.kind == "f" and np.isnan(values).all())
    ]
    return DynamicTable(name=name, description=description, columns=[*data, *links])


def link_rows(
    name: str, description: str, table: DynamicTable, rows: Sequence[int], *, n_rows: int | None = None
) -> list[VectorData]:
    """Return a column that links its rows to rows of another table.

    With ``n_rows``, there are so many, and those after the first ones are linked to none.
    """
    region = DynamicTableRegion(name=name, data=list(rows), description=description, table=table)
    if n_rows is None:
        return [region]
    ends = np.minimum(np.arange(1, n_rows + 1), len(rows)).astype(np.uint32)
    return [region, VectorIndex(name=f"{name}_index", target=region, data=ends)]


def show_text(text: str) -> str:
    """Return a text as HDF5 can hold it: characters that it cannot are written out, as in Python."""
    return _FORBIDDEN.sub(lambda found: repr(found[0])[1:-1], text)


def compress(values: NDArray[Any]) -> H5DataIO:
    """Return an array that is compressed when it is written."""
    return H5DataIO(np.asarray(values), compression="gzip", compression_opts=4, shuffle=True)


def read_plain_columns(table: DynamicTable, *, max_width: int = MAX_WIDTH) -> dict[str, NDArray[Any]]:
    """Return the columns with a number, a truth or a text in each row; text as NumPy strings.

    What an enumeration stands for is read, not its codes. A column of one value in each row keeps its name
    whatever its shape; a column ``x`` of a few numbers in each row becomes ``x_0``, ``x_1`` and so on. Ragged
    columns, those of references, wide ones, and texts of which a few are far longer than the others, are not
    loaded.
    """
    names = {str(column.name) for column in table.columns}
    columns: dict[str, NDArray[Any]] = {}
    for column in list_single(table):
        shape = np.shape(column.data)
        if len(shape) == 1 or (len(shape) == 2 and shape[1] == 1 and max_width):
            values = to_plain(look_up(column).reshape(shape[0]))
            if values is not None:
                columns[str(column.name)] = values
        elif len(shape) == 2 and shape[1] <= max_width and np.asarray(column.data[:1]).dtype.kind in "iufb":
            values = np.asarray(column.data[:])
            gap = "__" if any(f"{column.name}_{i}" in names for i in range(shape[1])) else "_"
            columns |= {f"{column.name}{gap}{i}": values[:, i] for i in range(shape[1])}
    return _pad(columns)


def list_single(table: DynamicTable) -> list[VectorData]:
    """Return the columns with a value of their own in each row: no ragged ones, no rows of other tables."""
    hidden = {column.target.name for column in table.columns if isinstance(column, VectorIndex)}
    hidden |= {column.elements.name for column in table.columns if isinstance(column, EnumData)}
    linked = VectorIndex | DynamicTableRegion
    return [c for c in table.columns if c.name not in hidden and not isinstance(c, linked)]


def _pad(columns: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return texts as NumPy strings, all as wide as the longest, but no column where that takes far more."""
    texts = [name for name, values in columns.items() if values.dtype.kind == "O"]
    readable = find_readable([len(text) for text in columns[name]] for name in texts)
    kept = dict(zip(texts, readable, strict=True))
    return {
        name: values.astype("U") if name in kept else values
        for name, values in columns.items()
        if kept.get(name, True)
    }


def look_up(column: VectorData) -> NDArray[Any]:
    """Return the values of a column; of an enumeration, what its codes stand for."""
    values = np.asarray(column.data[:])
    if not isinstance(column, EnumData):
        return values
    elements = np.asarray(column.elements.data[:])
    known = (values >= 0) & (values < len(elements))
    if not len(elements) or not known.all():
        raise ReadError(
            f"{column.container_source}: {column.name}: expected codes of its {len(elements)} elements, but "
            f"{np.unique(values[~known])[:5].tolist()}; correct the file"
        )
    return np.asarray(elements[values])


def to_plain(values: NDArray[Any]) -> NDArray[Any] | None:
    """Return numbers and truths as they are, text as Python strings; nothing else."""
    if values.dtype.kind in "OSUT":
        if len(values) and not isinstance(values[0], str | bytes):
            return None  # references to other objects
        return np.array([v.decode() if isinstance(v, bytes) else str(v) for v in values], dtype=object)
    return values if values.dtype.kind in "iufb" else None
