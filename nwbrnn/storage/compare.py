"""Check that a copy of a file holds everything that the file held, object by object and in blocks."""

from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Any

import h5py
import numpy as np

BLOCK = 1 << 22
"""Number of values to hold in memory at once."""

# a copy has its own identity, the schema it was written with, and a later modification date
_CHANGES = ("specifications", "identifier", "file_create_date", "general/was_generated_by")
_ROOT_ATTRIBUTES = ("object_id", "nwb_version")

# pynwb updates older schemas: texts that explained a type disappear, types become narrower, single texts
# become lists, and rewritten texts and dates have another form
_DROPPED_ATTRIBUTES = ("help",)
_NARROWER_TYPES = {"VectorData": "TimeSeriesReferenceVectorData", "DynamicTable": "ElectrodesTable"}
_DATES = ("session_start_time", "timestamps_reference_time")


def list_differences(before: Any, after: Any, *, ignore: Collection[str] = ()) -> Iterator[str]:
    """Yield what is missing from a copy of a file, or differs in it.

    The roots are open, both of HDF5 or both of Zarr; in Zarr, only numbers and attributes are compared.
    Everything at and below a path to ``ignore`` is skipped.
    """
    yield from _compare_attributes("/", before, after, ignore=_ROOT_ATTRIBUTES)
    waiting = [""]
    while waiting:
        group = waiting.pop()
        for name in before[group] if group else before:
            path = f"{group}/{name}" if group else str(name)
            if path in _CHANGES or path in ignore:
                continue
            if path not in after:
                yield f"{path} is missing"
                continue
            if isinstance(before, h5py.Group):
                links = before.get(path, getlink=True), after.get(path, getlink=True)
                if not _is_same_link(*links):
                    yield f"{path}: expected a {type(links[0]).__name__}, but got another or none"
                if not isinstance(links[0], h5py.HardLink):
                    continue
            first, second = before[path], after[path]
            yield from _compare_attributes(path, first, second)
            if hasattr(first, "shape"):
                yield from _compare_arrays(path, first, second)
            else:
                waiting.append(path)


def _is_same_link(before: Any, after: Any) -> bool:
    """Return whether two HDF5 links are of the same kind and have the same target.

    A copy that only links to its source looks the same, but its data are lost with the source.
    """
    if type(before) is not type(after):
        return False
    return isinstance(before, h5py.HardLink) or before.path == after.path


def _compare_attributes(path: str, before: Any, after: Any, *, ignore: Collection[str] = ()) -> Iterator[str]:
    for name in before.attrs:
        if str(name).startswith(".") or name in (*ignore, *_DROPPED_ATTRIBUTES):
            continue
        if name not in after.attrs:
            yield f"{path}: attribute {name} is missing"
        elif name in ("neurodata_type", "namespace") and _is_narrower(before.attrs, after.attrs):
            continue
        elif not _is_same(_name_targets(before, before.attrs[name]), _name_targets(after, after.attrs[name])):
            yield f"{path}: attribute {name} differs"


def _compare_arrays(path: str, before: Any, after: Any) -> Iterator[str]:
    is_compared = isinstance(before, h5py.Dataset) or before.dtype.kind in "iufb"
    if is_compared and _is_text(before) and _is_text(after):
        if not _is_same_text(path, before, after):
            yield f"{path}: texts differ"
        return
    if before.shape != getattr(after, "shape", None) or (is_compared and before.dtype != after.dtype):
        yield f"{path}: expected {before.shape} {before.dtype}, but got {after!r}"
        return
    if before.shape is None or not is_compared:  # references in Zarr become JSON in a copy
        return
    rows = max(1, BLOCK // max(1, int(np.prod(before.shape[1:]))))
    blocks: list[Any] = [()] if before.shape == () else [
        slice(start, start + rows) for start in range(0, before.shape[0], rows)
    ]  # fmt: skip
    if not all(
        _is_same(_name_targets(before, before[block]), _name_targets(after, after[block])) for block in blocks
    ):
        yield f"{path}: values differ"


def _is_narrower(before: Any, after: Any) -> bool:
    """Return whether an object has the narrower type that later schemas require."""
    return bool(after.get("neurodata_type") == _NARROWER_TYPES.get(before.get("neurodata_type"), ""))


def _is_text(item: Any) -> bool:
    """Return whether an HDF5 object is an array of texts."""
    return isinstance(item, h5py.Dataset) and h5py.check_string_dtype(item.dtype) is not None


def _is_same_text(path: str, before: h5py.Dataset, after: h5py.Dataset) -> bool:
    """Return whether two arrays hold the same texts in any encoding; a single text may become a list."""
    if before.shape != after.shape and (before.shape, after.shape) != ((), (1,)):
        return False
    first, second = (np.ravel(item.asstr()[()]) for item in (before, after))
    if path in _DATES:
        return _is_same_date(*(datetime.fromisoformat(str(text[0])) for text in (first, second)))
    return bool(np.array_equal(first, second))


def _is_same_date(before: datetime, after: datetime) -> bool:
    """Return whether two dates are equal; a date without a time zone is read in that of this machine."""
    if before.tzinfo is None:
        return bool(before == after.replace(tzinfo=None))
    return before == after


def _name_targets(owner: Any, value: Any) -> Any:
    """Return values with each reference replaced by the name of its target."""
    if isinstance(value, h5py.Reference):
        return owner.file[value].name if value else ""
    if isinstance(value, dict) and isinstance(value.get("value"), dict):  # a reference in hdmf-zarr
        return str(value["value"].get("path"))
    if isinstance(value, np.ndarray) and value.dtype.kind == "O":
        return np.array([_name_targets(owner, v) for v in value.ravel().tolist()], dtype=object)
    if isinstance(value, np.ndarray) and value.dtype.names:
        return [_name_targets(owner, value[name]) for name in value.dtype.names]
    return value


def _is_same(before: Any, after: Any) -> bool:
    if isinstance(before, list):
        return len(before) == len(after) and all(map(_is_same, before, after))
    first, second = np.asarray(before), np.asarray(after)
    if first.dtype.kind == "f":
        return bool(np.array_equal(first, second, equal_nan=True))
    return bool(np.array_equal(first, second))
