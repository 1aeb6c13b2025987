"""Find damage before libhdf5 reads it, which would take for ever or end the process (libhdf5 2.0.0)."""

import math
import os
import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from nwbrnn.limits import MAX_PACKED, PACKED_EXTRA, check_declared

SEARCHED = 2 << 20
"""Bytes to search at each end of a file, where most texts are; more would take long."""

_VLEN_KINDS = (0, 1)  # of values, of characters

_SIGNATURE = b"GCOL\x01\0\0\0"
_REFERENCE = np.dtype([("length", "<u4"), ("heap", "<u8"), ("index", "<u4")])  # to a value of variable length
_OBJECT = struct.Struct("<HH4xQ")  # index, references, size; the same in all versions of HDF5


def open_hdf5(path: Path) -> h5py.File:
    """Open a local HDF5 file for reading; an OSError says what is wrong with it."""
    check_heaps(path)
    return h5py.File(path, "r")


def check_heaps(path: Path) -> None:
    """Refuse a local HDF5 file with a heap of texts and references that ends in zeros.

    This happens if a page of the file was never written or copied. libhdf5 takes the zeros for free space of
    size 0 and never reaches its end. The function searches only the two ends of a file (:data:`SEARCHED`).
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        for start in sorted({0, max(0, size - SEARCHED)}):
            stream.seek(start)
            content = stream.read(SEARCHED)
            for heap in _find_heaps(content):
                if _is_endless(content, heap):
                    raise OSError(f"the texts of {path.name} at byte {start + heap} end in zeros")


class Facts(NamedTuple):
    """What the checks of an object need to know of its file; h5py takes long to find it."""

    size: int  # [bytes]
    path: Path | None  # none if the file is on a server


def find_facts(file: h5py.File) -> Facts:
    """Return what the checks of its objects need to know of an open file."""
    path = None if file.driver == "fileobj" else Path(os.fsdecode(file.filename))
    return Facts(file.id.get_filesize(), path)


def check_object(item: h5py.Group | h5py.Dataset, file: Facts) -> None:
    """Refuse, with an OSError, an object that is too damaged to read.

    It refuses an object or attribute with a variable-length type that is neither of values nor of text, since
    reading one ends the process, and an array that its file cannot hold.
    """
    attributes = (h5py.h5a.open(item.id, index=i) for i in range(h5py.h5a.get_num_attrs(item.id)))
    owners = [*attributes, item.id] if isinstance(item, h5py.Dataset) else attributes
    for owner in owners:
        kind = owner.get_type()
        # bytes of an encoded type: what it is, version, class and, for this class, its kind in the low bits
        if kind.get_class() == h5py.h5t.VLEN and kind.encode()[3] & 15 not in _VLEN_KINDS:
            raise OSError(f"{item.name} holds a type that does not exist")
    if isinstance(item, h5py.Dataset) and item.shape is not None:
        check_declared(
            str(item.name),
            item.shape,
            item.dtype.itemsize,
            chunk=item.chunks,
            file_size=file.size,
            find_stored=partial(count_stored, item),
        )
        if file.path is not None:  # otherwise it would take many requests to a server
            _check_lengths(item, file.size, file.path)
            if item.compression is not None:
                _check_chunks(item)


def _check_lengths(dataset: h5py.Dataset, file_size: int, path: Path) -> None:
    """Refuse a text or list longer than its file, since libhdf5 allocates the memory before it reads.

    The function checks only values that are stored uncompressed, as nearly all are.
    """
    kind = dataset.id.get_type()
    is_text = kind.get_class() == h5py.h5t.STRING and kind.is_variable_str()
    if not is_text and kind.get_class() != h5py.h5t.VLEN:
        return
    itemsize = 1 if is_text else kind.get_super().get_size()
    with path.open("rb") as stream:
        for place, size in _list_stored(dataset):
            stream.seek(place)
            raw = stream.read(size)
            lengths = np.frombuffer(raw[: len(raw) // _REFERENCE.itemsize * _REFERENCE.itemsize], _REFERENCE)
            if (lengths["length"].astype(np.int64) * itemsize > file_size).any():
                raise OSError(f"{dataset.name} claims a text or a list that is longer than the file")


def _list_stored(dataset: h5py.Dataset) -> list[tuple[int, int]]:
    """Return the position and size in bytes of a dataset's values in its file, unless they are filtered."""
    if dataset.is_virtual or dataset.external or dataset.id.get_create_plist().get_nfilters():
        return []
    if dataset.chunks is None:
        place = dataset.id.get_offset()
        return [] if place is None else [(place, dataset.size * _REFERENCE.itemsize)]
    found: list[tuple[int, int]] = []
    dataset.id.chunk_iter(lambda chunk: found.append((chunk.byte_offset, chunk.size)))
    return found


def _check_chunks(dataset: h5py.Dataset) -> None:
    """Refuse chunks that are larger packed than unpacked, since libhdf5 unpacks them without a limit."""
    most = MAX_PACKED * math.prod(dataset.chunks) * dataset.dtype.itemsize + PACKED_EXTRA

    def is_too_large(chunk: h5py.h5d.StoreInfo) -> bool | None:
        return True if chunk.size > most else None  # None continues the iteration

    if dataset.id.chunk_iter(is_too_large):
        raise OSError(f"{dataset.name} has a chunk that would unpack to far more than it declares")


def count_stored(dataset: h5py.Dataset) -> int:
    """Return how many bytes of a dataset are stored; all that it claims if other files hold them."""
    if dataset.external or (dataset.is_virtual and {s.file_name for s in dataset.virtual_sources()} != {"."}):
        return int(dataset.nbytes)
    return int(dataset.file.id.get_filesize() if dataset.is_virtual else dataset.id.get_storage_size())


def _find_heaps(content: bytes) -> Iterator[int]:
    heap = content.find(_SIGNATURE)
    while heap >= 0:
        yield heap
        heap = content.find(_SIGNATURE, heap + len(_SIGNATURE))


def _is_endless(content: bytes, heap: int) -> bool:
    """Return whether libhdf5 would walk over the objects of a heap for ever."""
    (size,) = struct.unpack_from("<Q", content.ljust(heap + 16, b"\1"), heap + 8)
    end = min(heap + size, len(content))
    place = heap + 16
    while place + _OBJECT.size <= end:
        index, _, length = _OBJECT.unpack_from(content, place)
        step = length if index == 0 else (_OBJECT.size + (length + 7) // 8 * 8) % 2**64
        if step == 0:
            return True
        place += step
    return False
