"""Tables of an NWB file as plain columns, and the modules that are not fits of ours."""

from typing import Any

import numpy as np
from hdmf.common import DynamicTable, DynamicTableRegion, VectorIndex
from numpy.typing import NDArray
from pynwb import NWBFile, ProcessingModule

from nwbrnn.layout import is_module_of_fit

MAX_WIDTH = 8  # columns with up to so many numbers in each row become as many columns


def read_plain_columns(table: DynamicTable, *, max_width: int = MAX_WIDTH) -> dict[str, NDArray[Any]]:
    """Return the columns with a number or text in each row; text as NumPy strings.

    A column ``x`` of a few numbers in each row becomes ``x_0``, ``x_1`` and so on. Ragged columns, those of
    references and wide ones are not loaded.
    """
    ragged = {c.target.name for c in table.columns if isinstance(c, VectorIndex)}
    columns: dict[str, NDArray[Any]] = {}
    for column in table.columns:
        if column.name in ragged or isinstance(column, VectorIndex | DynamicTableRegion):
            continue
        shape = np.shape(column.data)
        if len(shape) == 1:
            values = _to_plain(np.asarray(column.data[:]))
            if values is not None:
                columns[str(column.name)] = values
        elif len(shape) == 2 and shape[1] <= max_width and np.asarray(column.data[:1]).dtype.kind in "iuf":
            values = np.asarray(column.data[:])
            columns |= {f"{column.name}_{i}": values[:, i] for i in range(shape[1])}
    return columns


def _to_plain(values: NDArray[Any]) -> NDArray[Any] | None:
    """Return numbers, truths or text as they are, text as NumPy strings; nothing else."""
    if values.dtype.kind in "OSUT":
        if len(values) and not isinstance(values[0], str | bytes):
            return None  # references to other objects
        return np.array([v.decode() if isinstance(v, bytes) else str(v) for v in values], dtype="U")
    return values if values.dtype.kind in "iufb" else None


def list_modules(nwbfile: NWBFile) -> dict[str, ProcessingModule]:
    """Return the processing modules by name, without exported fits: these are results and no data."""
    return {name: m for name, m in nwbfile.processing.items() if not is_module_of_fit(name)}
