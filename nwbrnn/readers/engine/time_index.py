"""Select samples by time without holding their times in memory."""

import copy
import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
import xarray as xr
from xarray.core import indexing
from xarray.core.indexing import IndexSelResult
from xarray.indexes import Index, PandasIndex

from nwbrnn.errors import ReadError
from nwbrnn.readers.engine.arrays import Values

_BLOCK = 4096  # samples; the index keeps the first time of each block and reads one block per search
_STRETCH = 256 * _BLOCK  # samples to read at once, in whole blocks


class TimeIndex(Index):
    """Select samples by time, without holding the times in memory.

    Slices include both ends, as in pandas. The first selection by time reads all stamps of a file once,
    checks that they increase, and keeps one of each block.

    Parameters
    ----------
    times
        Time of each sample, shape (n_samples,) [s]: an array, or a lazy array of xarray.
    name
        Name of the coordinate.
    dim
        Dimension of the samples.
    label
        Names of file and object, for messages.
    is_increasing
        Whether the times are known to increase.
    """

    def __init__(
        self, times: Any, name: Hashable, dim: Hashable, *, label: str, is_increasing: bool = False
    ) -> None:
        self.times = indexing.LazilyIndexedArray(times)
        self.name = name
        self.dim = dim
        self.label = label
        self.is_increasing = is_increasing
        self._block_starts: Values | None = None

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
        """Return the coordinate as a lazy variable."""
        old = (variables or {}).get(self.name)
        attrs, encoding = (old.attrs, old.encoding) if old is not None else ({}, {})
        data = indexing.MemoryCachedArray(self.times)  # type: ignore[no-untyped-call]
        return {self.name: xr.Variable((self.dim,), data, attrs=attrs, encoding=encoding)}

    def to_pandas_index(self) -> pd.Index:
        """Return all times as a pandas index."""
        return pd.Index(self._read(0, self.size), name=self.name)

    def isel(self, indexers: Mapping[Any, Any]) -> Self | None:
        """Return the index of some samples; ``None`` for a single one."""
        key, dim = indexers[self.dim], self.dim
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
        """Return the positions of times [s], selected as in xarray and pandas.

        Raises
        ------
        KeyError
            If there is no sample at a time and no ``method`` is given.
        ReadError
            If the times do not increase.
        """
        (label,) = labels.values()
        if isinstance(label, slice):
            if method is not None or tolerance is not None:
                raise NotImplementedError("cannot use 'method' or 'tolerance' with a slice of times")
            start = 0 if label.start is None else self._search(_find_times(label.start), "left")
            stop = self.size if label.stop is None else self._search(_find_times(label.stop), "right")
            return IndexSelResult({self.dim: slice(start, max(start, stop), label.step)})
        wanted = _find_times(label)
        if wanted.dtype == bool or not wanted.size:  # neither a mask nor an empty label needs a search
            return self._to_xarray().sel(labels, method, tolerance)
        # pandas does the rest, on the relevant stretch of times
        start = max(self._search(wanted.min(), "left") - 1, 0)
        stop = min(self._search(wanted.max(), "right") + 1, self.size)
        times = pd.Index(self._read(start, stop), name=self.name)
        positions = np.arange(start, stop)
        if method is not None and not times.is_unique:  # pandas refuses duplicates; keep one of equal times
            positions = positions[~times.duplicated()]
            times = times.drop_duplicates()
        found = PandasIndex(times, self.dim).sel(labels, method, tolerance).dim_indexers[self.dim]
        return IndexSelResult({self.dim: _move(found, positions)})

    def equals(self, other: Index, *, exclude: frozenset[Hashable] | None = None) -> bool:
        """Return whether another index has the same times."""
        if not isinstance(other, TimeIndex) or self.size != other.size:
            return False
        known = _identify(self.times)
        if known is not None and known == _identify(other.times):
            return True
        return all(
            np.array_equal(self._read(i, i + _STRETCH), other._read(i, i + _STRETCH), equal_nan=True)
            for i in range(0, self.size, _STRETCH)
        )

    def join(self, other: Self, how: str = "inner") -> Self:
        """Return the index of the times in both indexes, or in either."""
        mine, theirs = self.to_pandas_index(), other.to_pandas_index()
        joined = mine.union(theirs) if how == "outer" else mine.intersection(theirs)
        return self._replace(joined.to_numpy(), self.dim)

    def reindex_like(self, other: Self, method: Any = None, tolerance: Any = None) -> dict[Hashable, Any]:
        """Return the positions here of another index's times, -1 for those not found."""
        return self._to_xarray().reindex_like(other._to_xarray(), method, tolerance)

    @classmethod
    def concat(cls, indexes: Sequence[Self], dim: Hashable, positions: Any = None) -> Self:
        """Return the index of the samples of all indexes, in order."""
        joined = PandasIndex.concat([index._to_xarray() for index in indexes], dim, positions)
        return indexes[0]._replace(joined.to_pandas_index().to_numpy(), dim)

    def roll(self, shifts: Mapping[Any, int]) -> Self:
        """Return the index of samples rotated by some positions."""
        return self._replace(np.roll(self._read(0, self.size), shifts[self.dim]), self.dim)

    def rename(self, name_dict: Mapping[Any, Hashable], dims_dict: Mapping[Any, Hashable]) -> Self:
        """Return the index with other names of the coordinate and dimension."""
        renamed = copy.copy(self)
        renamed.name = name_dict.get(self.name, self.name)
        renamed.dim = dims_dict.get(self.dim, self.dim)
        return renamed

    def __repr__(self) -> str:
        """Return the number of samples."""
        return f"TimeIndex(size={self.size})"

    def _repr_inline_(self, max_width: int) -> str:
        return repr(self)

    def _replace(self, times: Any, dim: Hashable, *, is_increasing: bool = False) -> Self:
        """Return an index of other times."""
        return type(self)(times, self.name, dim, label=self.label, is_increasing=is_increasing)

    def _to_xarray(self) -> PandasIndex:
        """Return xarray's index of all times, for operations that need them in memory."""
        return PandasIndex(self.to_pandas_index(), self.dim)

    def _read(self, start: int, stop: int) -> Values:
        """Read a stretch of the times, which may end past the last one."""
        times = self.times[indexing.BasicIndexer((slice(start, min(stop, self.size)),))]
        return np.asarray(times.get_duck_array(), np.float64)

    def _search(self, time: Any, side: str) -> int:
        """Return the first sample at or after (``left``) or after (``right``) a time."""
        if self._block_starts is None:
            self._block_starts = self._read_block_starts()
        block = max(_count_before(self._block_starts, time, side) - 1, 0)
        start = block * _BLOCK
        return start + _count_before(self._read(start, start + _BLOCK), time, side)

    def _read_block_starts(self) -> Values:
        """Return the first time of each block; refuse times that decrease, since a search would fail."""
        if self.is_increasing:
            every = self.times[indexing.BasicIndexer((slice(None, None, _BLOCK),))]
            return np.asarray(every.get_duck_array(), np.float64)
        block_starts = []
        last = -math.inf
        for start in range(0, self.size, _STRETCH):
            times = self._read(start, start + _STRETCH)
            before = np.concatenate([[last], times[:-1]])
            wrong = np.flatnonzero(~(times >= before))  # true for NaN too
            if wrong.size:
                i = int(wrong[0])
                raise ReadError(
                    f"{self.label}: expected times that increase, but sample {start + i} is at "
                    f"{times[i]:.6g} s, after one at {before[i]:.6g} s; select by position with isel"
                )
            block_starts.append(times[::_BLOCK])
            last = times[-1]
        self.is_increasing = True
        return np.concatenate(block_starts) if block_starts else np.zeros(0)


def _count_before(times: Values, time: Any, side: str) -> int:
    return int(np.searchsorted(times, float(time), side))  # type: ignore[call-overload]


def _find_times(label: Any) -> Values:
    """Return the times to select as an array of numbers."""
    times = np.asarray(getattr(label, "values", label))
    if times.dtype.kind not in "iufb":
        raise TypeError(f"expected times in seconds, but got {label!r}; give numbers")
    return times


def _move(found: Any, positions: Values) -> Any:
    """Convert positions in a stretch to positions among all times, keeping the type of the object."""
    if isinstance(found, slice):  # equal times
        return slice(int(positions[found][0]), int(positions[found][-1]) + 1, found.step)
    if isinstance(found, xr.DataArray | xr.Variable):
        moved = copy.copy(found)
        moved.values = positions[found.values]
        return moved
    moved = positions[found]
    return moved if np.ndim(moved) else int(moved)


def _identify(times: indexing.LazilyIndexedArray) -> Any:
    """Return a key that is equal for equal times and needs no reading; ``None`` if there is none."""
    identity = getattr(times.array, "identity", None)
    (key,) = times.key.tuple
    if identity is None or not isinstance(key, slice):
        return None
    return (identity, key.indices(times.array.shape[0]))
