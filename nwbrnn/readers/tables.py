"""Tables of an NWB file as plain columns, and the modules that are not fits of ours."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from hdmf.common import DynamicTable, DynamicTableRegion, EnumData, VectorData, VectorIndex
from numpy.typing import NDArray
from pynwb import NWBFile, ProcessingModule

from nwbrnn.errors import ReadError
from nwbrnn.layout import is_module_of_fit
from nwbrnn.limits import MAX_WIDTH, find_readable


def read_plain_columns(table: DynamicTable, *, max_width: int = MAX_WIDTH) -> dict[str, NDArray[Any]]:
    """Return the columns with a number, a truth or a text in each row; text as NumPy strings.

    What an enumeration stands for is read, not its codes. A column of one value in each row keeps its name
    whatever its shape; a column ``x`` of a few numbers in each row becomes ``x_0``, ``x_1`` and so on. Ragged
    columns, those of references, wide ones, and texts of which a few are far longer than the others, are not
    loaded.
    """
    hidden = {column.target.name for column in table.columns if isinstance(column, VectorIndex)}
    hidden |= {column.elements.name for column in table.columns if isinstance(column, EnumData)}
    names = {str(column.name) for column in table.columns}
    columns: dict[str, NDArray[Any]] = {}
    for column in table.columns:
        if column.name in hidden or isinstance(column, VectorIndex | DynamicTableRegion):
            continue
        shape = np.shape(column.data)
        if len(shape) == 1 or (len(shape) == 2 and shape[1] == 1 and max_width):
            values = _to_plain(_look_up(column).reshape(shape[0]))
            if values is not None:
                columns[str(column.name)] = values
        elif len(shape) == 2 and shape[1] <= max_width and np.asarray(column.data[:1]).dtype.kind in "iufb":
            values = np.asarray(column.data[:])
            gap = "__" if any(f"{column.name}_{i}" in names for i in range(shape[1])) else "_"
            columns |= {f"{column.name}{gap}{i}": values[:, i] for i in range(shape[1])}
    return _pad(columns)


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


def name_coordinates(
    names: Iterable[str], *, prefix: str, taken: Iterable[str] = (), always: bool = False
) -> dict[str, str]:
    """Return a name in a Dataset for each column, none twice, so that no column hides another.

    Parameters
    ----------
    names
        Of the columns of a table.
    prefix
        Put before a name that is taken, or that another column has; then a number follows.
    taken
        Names that are not to be used.
    always
        Whether all names get the prefix that do not begin with it.
    """
    names = list(names)
    # NetCDF keeps lists of names apart by spaces
    plain = {name: "_".join(name.split()) for name in names}
    used = set(taken)
    found: dict[str, str] = {}
    for name in sorted(names, key=lambda name: (plain[name] != name, not name.startswith(prefix))):
        label = plain[name] if plain[name].startswith(prefix) or not always else prefix + plain[name]
        numbered = (f"{prefix}{plain[name]}_{i}" for i in range(2, len(names) + len(used) + 3))
        found[name] = next(c for c in (label, prefix + plain[name], *numbered) if c not in used)
        used.add(found[name])
    return {name: found[name] for name in names}


def _look_up(column: VectorData) -> NDArray[Any]:
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


def _to_plain(values: NDArray[Any]) -> NDArray[Any] | None:
    """Return numbers and truths as they are, text as Python strings; nothing else."""
    if values.dtype.kind in "OSUT":
        if len(values) and not isinstance(values[0], str | bytes):
            return None  # references to other objects
        return np.array([v.decode() if isinstance(v, bytes) else str(v) for v in values], dtype=object)
    return values if values.dtype.kind in "iufb" else None


def list_modules(nwbfile: NWBFile) -> dict[str, ProcessingModule]:
    """Return the processing modules by name, without exported fits: these are results and no data."""
    return {name: m for name, m in nwbfile.processing.items() if not is_module_of_fit(name)}
