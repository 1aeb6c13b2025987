"""Arrays whose values are read or computed on request."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from xarray.backends import BackendArray, CachingFileManager
from xarray.backends.locks import HDF5_LOCK
from xarray.core import indexing

from nwbrnn.errors import NwbrnnError, ReadError
from nwbrnn.storage import Source, Store, format_error, open_store

TEXT = np.dtype("O", metadata={"element_type": str})
"""Dtype of texts of any length, as xarray marks them for netCDF."""
_SPARSE = 16  # positions at least this far apart on average are read one by one

Values = npt.NDArray[Any]


class LazyFile:
    """A file that opens when it is read, and reopens after it was closed or pickled."""

    def __init__(self, source: Source, *, follow_links: bool = False) -> None:
        self.source = source
        # only one thread may use HDF5; zarr needs no lock
        lock = None if source.is_zarr else HDF5_LOCK
        # give a mode: when xarray pickles, it forgets that none was given
        self._manager: CachingFileManager[Store] = CachingFileManager(
            _open, source, mode="r", kwargs={"follow_links": follow_links}, lock=lock
        )

    def acquire(self) -> Any:
        """Return the root group, opened: ``h5py.File`` or ``zarr.Group``."""
        return self._manager.acquire().root

    def read(self, path: str, key: tuple[Any, ...]) -> Values:
        """Return some values of an array.

        The key holds a slice for each dimension, or increasing positions for one of them; ``(...,)`` for all
        values.
        """
        try:
            if self.source.is_zarr:
                with self._manager.acquire_context() as store:
                    return np.asarray(store.root[path.lstrip("/")].oindex[key])
            with HDF5_LOCK, self._manager.acquire_context(needs_lock=False) as store:
                return np.asarray(store.root[path][key])
        except NwbrnnError:
            raise
        except Exception as error:  # h5py, zarr, their filters and servers raise errors of many types
            raise ReadError(
                f"{self.source.text}: {path}: expected values, but they cannot be read: "
                f"{type(error).__name__}: {format_error(error)}; if the file has not changed, it is damaged: "
                "get a fresh copy"
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._manager.close()


def _open(source: Source, *, mode: str, follow_links: bool) -> Store:
    """Open a file for reading; ``mode`` has no other value."""
    return open_store(source, follow_links=follow_links)


@dataclass(frozen=True)
class Scaling:
    """The conversion of stored numbers to values with a unit: ``stored * gain + offset``."""

    gain: Values  # one number, shape (), or one for each position on axis
    offset: float  # offset in the unit of the values
    axis: int = 1  # dimension of the gains


@dataclass(frozen=True, eq=False)
class StoredArray(BackendArray):
    """An array in a file."""

    file: LazyFile
    path: str  # in the file
    shape: tuple[int, ...]
    dtype: np.dtype[Any]  # type of the returned values: TEXT decodes, and with a scaling it is float64
    member: str = ""  # the field to take of compound values; empty for plain ones
    scaling: Scaling | None = None

    @property
    def identity(self) -> tuple[Any, ...]:
        """What two arrays of equal values have in common."""
        return (self.file.source.url, self.path)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        """Return what xarray asks for."""
        support = indexing.IndexingSupport.OUTER_1VECTOR
        return indexing.explicit_indexing_adapter(key, self.shape, support, self._read)

    def _read(self, key: tuple[Any, ...]) -> Values:
        """Return the values at slices, integers, and increasing positions on at most one dimension."""
        stored, inner = zip(*(_split(k, size) for k, size in zip(key, self.shape, strict=True)), strict=True)
        values = self.file.read(self.path, stored)
        if self.member:
            values = values[self.member]
        values = values[inner]
        if self.dtype == object:  # not "is TEXT", since pickling copies TEXT
            values = decode(values)
        if self.scaling is not None:
            gain, axis = self.scaling.gain, self.scaling.axis
            if gain.ndim:
                gain = gain[stored[axis]][inner[axis]].reshape(-1, *(1,) * (values.ndim - axis - 1))
            values = values.astype(np.float64) * gain + self.scaling.offset
        return values[tuple(0 if isinstance(k, int | np.integer) else slice(None) for k in key)]


def _split(key: Any, size: int) -> tuple[Any, Any]:
    """Return what to read along one dimension, and what to keep of it.

    h5py reads scattered positions one by one, so dense ones are faster to read as a slice.
    """
    if isinstance(key, int | np.integer):
        return slice(int(key) % size, int(key) % size + 1), slice(None)
    if isinstance(key, slice):
        return key, slice(None)
    if not len(key):
        return slice(0, 0), slice(None)
    first, last = int(key[0]), int(key[-1])
    if last - first < _SPARSE * len(key):
        return slice(first, last + 1), key - first
    return key, slice(None)


def decode(values: Values) -> Values:
    """Return bytes and other objects of any shape as text."""
    texts = np.empty(values.shape, dtype=TEXT)
    for i, value in np.ndenumerate(values):
        texts[i] = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return texts


@dataclass(frozen=True, eq=False)
class ComputedTimes(BackendArray):
    """Times of regular samples, computed on request."""

    start: float  # time of the first sample [s]
    rate: float  # sampling rate [Hz]; NaN if the file gives no valid times
    shape: tuple[int]
    dtype: np.dtype[np.float64] = field(default=np.dtype(np.float64), init=False)

    @property
    def identity(self) -> tuple[Any, ...]:
        """What two arrays of equal values have in common."""
        return (self.start, self.rate)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        """Return what xarray asks for."""
        support = indexing.IndexingSupport.OUTER_1VECTOR
        return indexing.explicit_indexing_adapter(key, self.shape, support, self._compute)

    def _compute(self, key: tuple[Any]) -> Values:
        (k,) = key
        positions = np.arange(*k.indices(self.shape[0])) if isinstance(k, slice) else np.asarray(k)
        return np.asarray(self.start + positions / self.rate)
