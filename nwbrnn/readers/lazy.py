"""Values of a file that are read when they are asked for: arrays, and the times of samples as an index."""

import copy
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import h5py
import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from xarray.backends import BackendArray, CachingFileManager
from xarray.backends.locks import HDF5_LOCK
from xarray.core import indexing
from xarray.core.indexing import IndexSelResult
from xarray.indexes import Index, PandasIndex

from nwbrnn.errors import NwbrnnError, ReadError
from nwbrnn.storage import Source, Store, one_line, open_store

TEXT = np.dtype("O", metadata={"element_type": str})
"""Texts of any length, as xarray marks them for netCDF."""
_BLOCK = 4096
_CHECKED = 1 << 20

Values = npt.NDArray[Any]


class LazyFile:
    """A file that opens when something is read, and again after it was closed or pickled.

    Parameters
    ----------
    source
        Where it is.
    follow_links
        Whether links may lead out of it.
    """

    def __init__(self, source: Source, *, follow_links: bool = False) -> None:
        self.source = source
        # of HDF5 only one thread may read; zarr needs no lock
        lock = None if source.is_zarr else HDF5_LOCK
        self._manager: CachingFileManager[Store] = CachingFileManager(
            _open, source, mode="r", kwargs={"follow_links": follow_links}, lock=lock
        )

    def acquire(self) -> Any:
        """Return the root group, opened.

        Raises
        ------
        NwbrnnError
            If it cannot be opened.
        """
        return self._manager.acquire().root

    def read(self, path: str, key: tuple[Any, ...]) -> Values:
        """Return some values of an array.

        Parameters
        ----------
        path
            Of the array in the file.
        key
            For each dimension a slice, or, for one of them, increasing positions.

        Raises
        ------
        ReadError
            If they cannot be read.
        """
        try:
            if self.source.is_zarr:
                with self._manager.acquire_context() as store:
                    return np.asarray(store.root[path.lstrip("/")].oindex[key])
            with HDF5_LOCK, self._manager.acquire_context(needs_lock=False) as store:
                return np.asarray(store.root[path][key])
        except NwbrnnError:
            raise
        except Exception as error:  # h5py, zarr, their filters and servers raise many kinds
            raise ReadError(
                f"{self.source.text}: {path}: expected values, but they cannot be read: "
                f"{type(error).__name__}: {one_line(error)}; if the file has not changed, it is damaged: "
                "get a fresh copy"
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._manager.close()


def _open(source: Source, *, mode: str, follow_links: bool) -> Store:
    """Open for reading; xarray loses after pickling that no mode was given, so it is given one."""
    assert mode == "r"
    return open_store(source, follow_links=follow_links)


@dataclass(frozen=True)
class Scaling:
    """What makes stored numbers values with a unit: ``stored * gain + offset``.

    Attributes
    ----------
    gain
        One number, or one for each position on ``axis``.
    offset
        In the unit of the values.
    axis
        Dimension of the gains.
    """

    gain: Values
    offset: float
    axis: int = 1


@dataclass(frozen=True, eq=False)
class StoredArray(BackendArray):
    """An array in a file.

    Attributes
    ----------
    file
        The file.
    path
        Of the array in it.
    shape
        Of the array.
    dtype
        Of the values handed out: ``TEXT`` decodes, and with a scaling it is float64.
    member
        The part to take of compound values; empty for plain ones.
    scaling
        Applied to what is read.
    """

    file: LazyFile
    path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    member: str = ""
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
        if self.dtype == object:
            values = _decode(values)
        if self.scaling is not None:
            gain = self.scaling.gain
            if gain.ndim:
                axis = self.scaling.axis
                gain = np.expand_dims(gain[stored[axis]][inner[axis]], tuple(range(1, values.ndim - axis)))
            values = values.astype(np.float64) * gain + self.scaling.offset
        return values[tuple(0 if isinstance(k, int | np.integer) else slice(None) for k in key)]


def _split(key: Any, size: int) -> tuple[Any, Any]:
    """Return what to read of one dimension, and what to take of that.

    h5py reads scattered positions one by one: dense ones are faster read as a slice.
    """
    if isinstance(key, int | np.integer):
        return slice(int(key) % size, int(key) % size + 1), slice(None)
    if isinstance(key, slice):
        return key, slice(None)
    if not len(key):
        return slice(0, 0), slice(None)
    first, last = int(key[0]), int(key[-1])
    if last - first < 16 * len(key):
        return slice(first, last + 1), key - first
    return key, slice(None)


def _decode(values: Values) -> Values:
    """Return bytes and other objects as text."""
    texts = np.empty(values.shape, dtype=TEXT)
    for i, value in np.ndenumerate(values):
        texts[i] = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return texts


@dataclass(frozen=True, eq=False)
class RegularTimes(BackendArray):
    """Times of regular samples, computed when asked for.

    Attributes
    ----------
    start
        Time of the first [s].
    rate
        [Hz]; NaN where the file tells no valid times.
    shape
        Number of samples.
    """

    start: float
    rate: float
    shape: tuple[int, ...]
    dtype: np.dtype[Any] = field(default=np.dtype(np.float64))

    @property
    def identity(self) -> tuple[Any, ...]:
        """What two arrays of equal values have in common."""
        return (self.start, self.rate)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        """Return what xarray asks for."""
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER_1VECTOR, self._compute
        )

    def _compute(self, key: tuple[Any, ...]) -> Values:
        (k,) = key
        positions = np.arange(*k.indices(self.shape[0])) if isinstance(k, slice) else np.asarray(k)
        return np.asarray(self.start + positions / self.rate)


class TimeIndex(Index):
    """Selects samples by their time, without holding the times in memory.

    Slices include both ends, as with pandas. Before the first selection by time, stamps of a file are read
    once, to check that they increase.

    Parameters
    ----------
    times
        Times [s] by sample: an array, or a lazy one of xarray.
    name
        Of the coordinate.
    dim
        Dimension of the samples.
    label
        File and object, for messages.
    is_increasing
        Whether it is known that they increase.
    """

    def __init__(
        self, times: Any, name: Hashable, dim: Hashable, *, label: str, is_increasing: bool = False
    ) -> None:
        self.times = indexing.LazilyIndexedArray(times)
        self.name = name
        self.dim = dim
        self.label = label
        self.is_increasing = is_increasing

    @property
    def size(self) -> int:
        """Number of samples."""
        return int(self.times.shape[0])

    @classmethod
    def from_variables(cls, variables: Mapping[Any, xr.Variable], *, options: Mapping[str, Any]) -> Self:
        """Return the index of a coordinate, for ``set_xindex``."""
        ((name, variable),) = variables.items()
        (dim,) = variable.dims
        return cls(np.asarray(variable.values, np.float64), name, dim, label=str(name), **options)

    def create_variables(
        self, variables: Mapping[Any, xr.Variable] | None = None
    ) -> dict[Hashable, xr.Variable]:
        """Return the coordinate, lazy."""
        old = (variables or {}).get(self.name)
        attrs, encoding = (old.attrs, old.encoding) if old is not None else ({}, {})
        data = indexing.MemoryCachedArray(self.times)  # type: ignore[no-untyped-call]
        return {self.name: xr.Variable((self.dim,), data, attrs=attrs, encoding=encoding)}

    def to_pandas_index(self) -> pd.Index:
        """Return all times as an index of pandas."""
        return pd.Index(self._read(0, self.size), name=self.name)

    def isel(self, indexers: Mapping[Any, Any]) -> Self | None:
        """Return the index of some samples; none for a single one."""
        key = indexers[self.dim]
        dim = self.dim
        if isinstance(key, xr.Variable):
            if key.ndim == 1:
                (dim,) = key.dims
            key = key.values
        if isinstance(key, slice):
            is_increasing = self.is_increasing and (key.step is None or key.step > 0)
            return self._replace(self.times[indexing.BasicIndexer((key,))], dim, is_increasing=is_increasing)
        key = np.asarray(key)
        if key.ndim != 1:
            return None
        key = np.flatnonzero(key) if key.dtype == bool else key.astype(np.intp)
        return self._replace(self.times.oindex[indexing.OuterIndexer((key,))], dim)

    def sel(self, labels: dict[Any, Any], method: str | None = None, tolerance: Any = None) -> IndexSelResult:
        """Return where times are, as xarray and pandas select.

        Raises
        ------
        KeyError
            If there is no sample at a time, and no ``method`` is given.
        ReadError
            If the times do not increase.
        """
        (label,) = labels.values()
        if isinstance(label, slice):
            if method is not None or tolerance is not None:
                raise NotImplementedError("cannot use 'method' or 'tolerance' with a slice of times")
            self._check()
            start = 0 if label.start is None else self._search(float(_find_times(label.start)), "left")
            stop = self.size if label.stop is None else self._search(float(_find_times(label.stop)), "right")
            return IndexSelResult({self.dim: slice(start, max(start, stop), label.step)})
        wanted = _find_times(label)
        if wanted.dtype == bool or not wanted.size:
            return PandasIndex(self.to_pandas_index(), self.dim).sel(labels, method, tolerance)
        self._check()
        # the rest is left to pandas, on the stretch of times that matters
        start = max(self._search(float(wanted.min()), "left") - 1, 0)
        stop = min(self._search(float(wanted.max()), "right") + 1, self.size)
        times = pd.Index(self._read(start, stop), name=self.name)
        if method is not None and not times.is_unique:  # pandas refuses; take one of equal times
            times, positions = times.drop_duplicates(), np.flatnonzero(~times.duplicated()) + start
        else:
            positions = np.arange(start, stop)
        found = PandasIndex(times, self.dim).sel(labels, method, tolerance).dim_indexers[self.dim]
        return IndexSelResult({self.dim: _move(found, positions)})

    def equals(self, other: Index, *, exclude: frozenset[Hashable] | None = None) -> bool:
        """Return whether another index has the same times."""
        if not isinstance(other, TimeIndex) or self.size != other.size:
            return False
        known = _identify(self.times)
        if self is other or (known is not None and known == _identify(other.times)):
            return True
        blocks = ((i, min(i + _CHECKED, self.size)) for i in range(0, self.size, _CHECKED))
        return all(np.array_equal(self._read(*b), other._read(*b), equal_nan=True) for b in blocks)

    def join(self, other: Self, how: str = "inner") -> Self:
        """Return the index of the times in both, or in either."""
        mine, theirs = self.to_pandas_index(), other.to_pandas_index()
        joined = mine.union(theirs) if how == "outer" else mine.intersection(theirs)
        return self._replace(joined.to_numpy(), self.dim)

    def reindex_like(self, other: Self, method: Any = None, tolerance: Any = None) -> dict[Hashable, Any]:
        """Return where the times of another index are here, -1 if nowhere."""
        mine = PandasIndex(self.to_pandas_index(), self.dim)
        return mine.reindex_like(PandasIndex(other.to_pandas_index(), self.dim), method, tolerance)

    @classmethod
    def concat(cls, indexes: Sequence[Self], dim: Hashable, positions: Any = None) -> Self:
        """Return the index of the samples of all, one after the other."""
        times = [PandasIndex(index.to_pandas_index(), index.dim) for index in indexes]
        joined = PandasIndex.concat(times, dim, positions).to_pandas_index()
        return indexes[0]._replace(joined.to_numpy(), dim)

    def roll(self, shifts: Mapping[Any, int]) -> Self:
        """Return the index of samples moved round by some positions."""
        return self._replace(np.roll(self._read(0, self.size), shifts[self.dim]), self.dim)

    def rename(self, name_dict: Mapping[Any, Hashable], dims_dict: Mapping[Any, Hashable]) -> Self:
        """Return the index with other names of the coordinate and dimension."""
        renamed = self.copy()
        renamed.name = name_dict.get(self.name, self.name)
        renamed.dim = dims_dict.get(self.dim, self.dim)
        return renamed

    def copy(self, deep: bool = True) -> Self:
        """Return a copy that reads the same times."""
        copied = type(self).__new__(type(self))
        copied.__dict__.update(self.__dict__)
        return copied

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Return a copy that reads the same times; nothing that changes is shared."""
        return self.copy()

    def __repr__(self) -> str:
        """Return the number of samples."""
        return f"TimeIndex(size={self.size})"

    def _repr_inline_(self, max_width: int) -> str:
        return repr(self)

    def _replace(self, times: Any, dim: Hashable, *, is_increasing: bool = False) -> Self:
        """Return an index of other times."""
        return type(self)(times, self.name, dim, label=self.label, is_increasing=is_increasing)

    def _read(self, start: int, stop: int) -> Values:
        """Return a stretch of the times."""
        times = self.times[indexing.BasicIndexer((slice(start, stop),))]
        return np.asarray(times.get_duck_array(), np.float64)

    def _check(self) -> None:
        """Refuse times that go back: a search would find wrong samples."""
        if self.is_increasing:
            return
        last = -math.inf
        for start in range(0, self.size, _CHECKED):
            times = self._read(start, min(start + _CHECKED, self.size))
            before = np.concatenate([[last], times[:-1]])
            wrong = np.flatnonzero(~(times >= before))  # true for NaN too
            if wrong.size:
                i = int(wrong[0])
                raise ReadError(
                    f"{self.label}: expected times that increase, but sample {start + i} is at "
                    f"{times[i]:.6g} s, after one at {before[i]:.6g} s; select by position with isel"
                )
            last = times[-1]
        self.is_increasing = True

    def _search(self, time: float, side: str) -> int:
        """Return the first sample at or after (``left``) or after (``right``) a time.

        Guesses from the times around, since most are nearly regular, in turn with halving; each look reads
        a block.
        """
        low, high, is_guess = 0, self.size, True
        first, last = (self._read(0, 1)[0], self._read(high - 1, high)[0]) if high > _BLOCK else (0.0, 0.0)
        while high - low > _BLOCK:
            share = (time - first) / (last - first) if is_guess and last > first else 0.5
            is_guess = not is_guess
            middle = low + int(min(max(share, 0.0), 1.0) * (high - low)) if not math.isnan(share) else low
            start = min(max(middle - _BLOCK // 2, low), high - _BLOCK)
            times = self._read(start, start + _BLOCK)
            k = int(np.searchsorted(times, time, side))  # type: ignore[call-overload]
            if 0 < k < _BLOCK:
                return start + k
            if k:
                low, first = start + _BLOCK, times[-1]
            else:
                high, last = start, times[0]
        return low + int(np.searchsorted(self._read(low, high), time, side))  # type: ignore[call-overload]


def _find_times(label: Any) -> Values:
    """Return times to select, as an array of numbers."""
    times = np.asarray(getattr(label, "values", label))
    if times.dtype.kind not in "iufb":
        raise TypeError(f"expected times in seconds, but got {label!r}; give numbers")
    return times


def _move(found: Any, positions: Values) -> Any:
    """Return positions in a stretch of times as positions in all of them, as the same kind of object."""
    if isinstance(found, slice):  # equal times
        return slice(int(positions[found][0]), int(positions[found][-1]) + 1, found.step)
    if isinstance(found, xr.DataArray | xr.Variable):
        moved = copy.copy(found)
        moved.values = positions[found.values]
        return moved
    moved = positions[found]
    return moved if np.ndim(moved) else int(moved)


def _identify(times: indexing.LazilyIndexedArray) -> Any:
    """Return what says, without reading, that times are the same; ``None`` if nothing does."""
    identity = getattr(times.array, "identity", None)
    (key,) = times.key.tuple
    if identity is None or not isinstance(key, slice):
        return None
    return (identity, key.indices(times.array.shape[0]))


def describe_values(node: Any) -> tuple[np.dtype[Any] | None, str]:
    """Return the type that values of an array will have, and, if there is none, why.

    Parameters
    ----------
    node
        ``h5py.Dataset`` or ``zarr.Array``.
    """
    if node.shape is None:
        return None, "empty"
    is_text, is_reference = (_classify_hdf5 if isinstance(node, h5py.Dataset) else _classify_zarr)(node)
    if is_reference:
        return None, "object references"
    if is_text:
        return TEXT, ""
    return (None, "objects") if node.dtype.hasobject else (node.dtype, "")


def _classify_hdf5(node: h5py.Dataset) -> tuple[bool, bool]:
    """Return whether values are text, and whether they are, or contain, references."""
    names = node.dtype.names or ()
    types = [node.dtype.fields[name][0] for name in names] or [node.dtype]
    is_text = h5py.check_string_dtype(node.dtype) is not None
    return is_text, any(h5py.check_ref_dtype(dtype) is not None for dtype in types)


def _classify_zarr(node: Any) -> tuple[bool, bool]:
    """Return the same for Zarr, where hdmf-zarr notes references in attributes."""
    noted = node.attrs.get("zarr_dtype", node.attrs.get("_DTYPE"))
    is_reference = noted in ("object", "object_reference") or isinstance(noted, list)
    codecs = {getattr(codec, "codec_id", "") for codec in getattr(node, "filters", None) or ()}
    is_text = node.dtype.kind in "SUT" or bool(codecs & {"vlen-utf8", "vlen-bytes"})
    return is_text, is_reference or "_REFERENCE_FIELDS" in node.attrs
