"""Tables and compressed arrays of an NWB file."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from hdmf.backends.hdf5.h5_utils import H5DataIO
from hdmf.common import DynamicTable, DynamicTableRegion, VectorData, VectorIndex
from numpy.typing import NDArray

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
