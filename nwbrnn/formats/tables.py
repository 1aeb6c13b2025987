"""Create tables and compressed arrays of an NWB file, and read tables as plain columns."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from hdmf.backends.hdf5.h5_utils import H5DataIO
from hdmf.common import DynamicTable, DynamicTableRegion, EnumData, VectorData, VectorIndex
from hdmf.query import ReferenceResolver
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
    """Create a table from values and a description of each column, leaving out columns of only NaN.

    ``links`` are finished columns, such as those of :func:`link_rows`.
    """
    data = [
        VectorData(name=column, data=values, description=show_text(text))
        for column, (values, text) in columns.items()
        if not (isinstance(values, np.ndarray) and is_unknown(values))
    ]
    return DynamicTable(name=name, description=description, columns=[*data, *links])


def is_unknown(values: NDArray[Any]) -> bool:
    """Return whether all values are NaN; a table has no column of them."""
    return values.dtype.kind == "f" and bool(np.isnan(values).all())


def link_rows(
    name: str, description: str, table: DynamicTable, rows: Sequence[int], *, n_rows: int | None = None
) -> list[VectorData]:
    """Return a column that links its rows to rows of another table.

    With ``n_rows``, the column has this many rows, and the rows beyond those given link to nothing.
    """
    region = DynamicTableRegion(name=name, data=list(rows), description=description, table=table)
    if n_rows is None:
        return [region]
    ends = np.minimum(np.arange(1, n_rows + 1), len(rows)).astype(np.uint32)
    return [region, VectorIndex(name=f"{name}_index", target=region, data=ends)]


def show_text(text: str) -> str:
    """Return a text in which characters that HDF5 cannot hold are escaped as in Python."""
    return _FORBIDDEN.sub(lambda found: repr(found[0])[1:-1], text)


def compress(values: NDArray[Any]) -> H5DataIO:
    """Return an array that will be compressed when it is written."""
    return H5DataIO(np.asarray(values), compression="gzip", compression_opts=4, shuffle=True)


def read_plain_columns(table: DynamicTable, *, max_width: int = MAX_WIDTH) -> dict[str, NDArray[Any]]:
    """Return the columns with a number, boolean or text in each row, with texts as NumPy strings.

    Enumerations are decoded. A column with one value in each row keeps its name, whatever its shape; a column
    ``x`` with a few numbers in each row becomes ``x_0``, ``x_1`` and so on. The function does not load ragged
    columns, references, wide columns, or texts of which a few are far longer than the others.
    """
    names = {str(column.name) for column in table.columns}
    columns: dict[str, NDArray[Any]] = {}
    for column in list_single(table):
        shape = np.shape(column.data)
        if isinstance(column.data, ReferenceResolver):  # reading them would look up each object
            continue
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
    """Return the columns with a single value in each row, not ragged columns or rows of other tables."""
    hidden = {column.target.name for column in table.columns if isinstance(column, VectorIndex)}
    hidden |= {column.elements.name for column in table.columns if isinstance(column, EnumData)}
    linked = VectorIndex | DynamicTableRegion
    return [c for c in table.columns if c.name not in hidden and not isinstance(c, linked)]


def _pad(columns: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return texts as NumPy strings as wide as the longest, dropping columns that would become far larger."""
    texts = [name for name, values in columns.items() if values.dtype.kind == "O"]
    readable = find_readable([len(text) for text in columns[name]] for name in texts)
    kept = dict(zip(texts, readable, strict=True))
    return {
        name: values.astype("U") if name in kept else values
        for name, values in columns.items()
        if kept.get(name, True)
    }


def look_up(column: VectorData) -> NDArray[Any]:
    """Return the values of a column, with enumerations decoded."""
    values = np.asarray(column.data[:])
    if not isinstance(column, EnumData):
        return values
    elements = np.asarray(column.elements.data[:])
    known = (values >= 0) & (values < len(elements))
    if not len(elements) or not known.all():
        raise ReadError(
            f"{column.name}: expected codes of its {len(elements)} elements, but "
            f"{np.unique(values[~known])[:5].tolist()}; correct the file"
        )
    return np.asarray(elements[values])


def to_plain(values: NDArray[Any]) -> NDArray[Any] | None:
    """Return numbers and booleans unchanged and text as Python strings; ``None`` for other values."""
    if values.dtype.kind in "OSUT":
        if len(values) and not isinstance(values[0], str | bytes):
            return None  # references to other objects
        return np.array([v.decode() if isinstance(v, bytes) else str(v) for v in values], dtype=object)
    return values if values.dtype.kind in "iufb" else None
