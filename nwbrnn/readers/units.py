"""Read the units table: spike counts in time bins, and the columns of each unit."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hdmf.backends.hdf5.h5_utils import DatasetOfReferences
from hdmf.common import VectorData, VectorIndex
from numpy.typing import NDArray
from pynwb import NWBFile
from pynwb.misc import Units

from nwbrnn.errors import ReadError
from nwbrnn.formats.tables import read_plain_columns
from nwbrnn.limits import fits_padded
from nwbrnn.readers.tables import list_modules
from nwbrnn.readers.times import NO_TIME, TICKS_PER_SECOND, Ticks, find_unwritten, merge_spans, to_ticks
from nwbrnn.storage.virtual import find_address

PLACES = 1000  # number of positions within a bin that are distinguished
FEW_PLACES = 12  # positions that hold half of the spikes given in bins: one in a bin, two evenly, three, ...
SHORT = 10  # narrower bins are counted one by one, since floats of seconds are too coarse [ticks]
BLOCK = 1 << 18  # spikes to read at once; more if a single unit has more


@dataclass(frozen=True)
class SpikeTrains:
    """Spike times of all units, read unit by unit on request.

    Attributes
    ----------
    times
        Spike times of one unit after another, as stored [s].
    ends
        End of each unit in ``times``, shape (n_units,).
    observed
        Observation intervals of each unit, shape (n_intervals, 2) [s]; ``None`` if the file has none.
    name
        Path of the times in the file, for messages.
    fault
        Why the index of times or intervals is invalid; empty if it is valid.
    unwritten
        Units iterated over so far that have spikes that were never written; these spikes are left out.
    """

    times: Any
    ends: NDArray[np.int64]
    observed: tuple[NDArray[np.float64], ...] | None
    name: str
    fault: str = ""
    unwritten: set[int] = field(default_factory=set)

    def __len__(self) -> int:
        """Return the number of units."""
        return len(self.ends)

    def iterate(self) -> Iterator[NDArray[np.float64]]:
        """Yield the ascending spike times of each unit [s]."""
        for unit, train in enumerate(self.iterate_stored()):
            yield self._sort(train, unit)

    def iterate_stored(self) -> Iterator[NDArray[np.float64]]:
        """Yield the stored spike times of each unit, read in blocks [s]."""
        starts = np.append(0, self.ends)
        unit = 0
        while unit < len(self.ends):
            last = max(unit + 1, int(np.searchsorted(self.ends, starts[unit] + BLOCK, side="right")))
            block = np.asarray(self.times[starts[unit] : starts[last]], dtype=np.float64)
            for start, end in zip(starts[unit:last], starts[unit + 1 : last + 1], strict=True):
                yield block[start - starts[unit] : end - starts[unit]]
            unit = last

    def read(self, unit: int) -> NDArray[np.float64]:
        """Return the stored spike times of one unit [s]."""
        return np.asarray(self.times[self.ends[unit - 1] if unit else 0 : self.ends[unit]], dtype=np.float64)

    def _sort(self, train: NDArray[np.float64], unit: int) -> NDArray[np.float64]:
        """Return the times of a unit in ascending order."""
        if _ascends(train) and (train[:1] >= NO_TIME).all():  # none is 0, without a look at each
            return train
        zeros = find_unwritten(train)
        if zeros.any():
            self.unwritten.add(unit)
            train = train[~zeros]
        if _ascends(train):
            return train
        if not np.isfinite(train).all():
            raise ReadError(f"{self.name}: expected finite times, but some are NaN; repair the file")
        return np.sort(train)

    @property
    def extent(self) -> tuple[float, float]:
        """First and last spike of all units [s]; infinite and reversed if there are no spikes."""
        ends = [(float(train[0]), float(train[-1])) for train in self.iterate() if len(train)]
        return min((e[0] for e in ends), default=np.inf), max((e[1] for e in ends), default=-np.inf)


def _ascends(train: NDArray[np.float64]) -> bool:
    """Return whether times ascend, the last one is finite, and none is NaN."""
    return bool((train[1:] >= train[:-1]).all() and np.isfinite(train[-1:]).all())


def find_spike_trains(units: Units, name: str) -> SpikeTrains:
    """Return the spike times of units without reading them; ``name`` is the path of the table."""
    ends, fault = _read_ends(units, "spike_times", name=name)
    observed = None
    if "obs_intervals" in units.colnames:
        bounds, other = _read_ends(units, "obs_intervals", name=name)
        fault = fault or other
        if not fault and bounds.size and bounds[-1]:
            flat = np.asarray(units["obs_intervals"].target.data[:], dtype=np.float64).reshape(-1, 2)
            observed = tuple(np.split(flat, bounds)[: len(bounds)])
    times = units["spike_times"]
    return SpikeTrains(getattr(times, "target", times).data, ends, observed, f"{name}/spike_times", fault)


def count_spikes(trains: SpikeTrains, edges: Ticks) -> NDArray[np.int32]:
    """Count spikes in bins [edge, next edge); a spike on an edge belongs to the later bin.

    Parameters
    ----------
    trains
        Spike times.
    edges
        Bin edges of each trial, shape (n_trials, n_bins + 1) [ticks].

    Returns
    -------
    ndarray
        Counts, shape (n_trials, n_bins, n_units). If trials overlap, a spike counts in each of them.
    """
    counts = np.empty((len(trains), edges.shape[0], edges.shape[1] - 1), dtype=np.int32)
    for unit, counted in enumerate(iterate_counts(trains, edges)):
        counts[unit] = counted
    return counts.transpose(1, 2, 0)


def iterate_counts(trains: SpikeTrains, edges: Ticks) -> Iterator[NDArray[np.int64]]:
    """Yield the counts of each unit in turn, shape (n_trials, n_bins), as in :func:`count_spikes`."""
    width = int(edges[0, 1] - edges[0, 0])
    if width <= SHORT or (np.diff(edges, axis=1) != width).any():
        for times in trains.iterate():
            yield np.diff(np.searchsorted(to_ticks(times), edges), axis=1)
        return
    # one division for each spike in a trial. Only the first and last spike of a trial are searched for, with
    # some margin; a slot before its bins and one after them catch spikes outside, and are dropped
    n_trials, n_slots = edges.shape[0], edges.shape[1] + 1
    bounds = edges[:, [0, -1]] / TICKS_PER_SECOND
    margin = 2 / TICKS_PER_SECOND + 4 * np.spacing(np.abs(bounds).max())
    bounds = (bounds + np.array([-margin, margin])).ravel()
    shift = (np.arange(n_trials) * n_slots + 1) * width - edges[:, 0]
    for times in trains.iterate():
        slots = _find_slots(times, bounds, shift, width)
        counts = np.bincount(slots, minlength=n_trials * n_slots)
        yield counts.reshape(n_trials, n_slots)[:, 1:-1]


def _find_slots(
    times: NDArray[np.float64], bounds: NDArray[np.float64], shift: Ticks, width: int
) -> NDArray[np.int64]:
    """Return the slot, (ticks + shift of the trial) // width, of each spike between a trial's bounds.

    Examples
    --------
    Two trials with two bins of 10 ticks, at 100 and 200 ticks, have the slots 0 to 3 and 4 to 7. The slots
    before and after the bins, such as 0 and 3, catch spikes outside.

    >>> times = np.array([105e-6, 119e-6, 150e-6, 200e-6])
    >>> bounds = np.array([98e-6, 122e-6, 198e-6, 222e-6])
    >>> _find_slots(times, bounds, np.array([10 - 100, 50 - 200]), 10).tolist()
    [1, 2, 5]
    """
    first, last = times.searchsorted(bounds).reshape(-1, 2).T
    lengths = last - first
    index = np.repeat(last - np.cumsum(lengths), lengths)
    index += np.arange(index.size)
    seconds = times.take(index)  # the rest does what to_ticks does, but in place, in half the time
    seconds *= TICKS_PER_SECOND
    slots = np.rint(seconds, out=seconds).astype(np.int64)
    slots += np.repeat(shift, lengths)
    slots //= width
    return slots


def find_observed(trains: SpikeTrains, edges: Ticks, *, tolerance: int) -> NDArray[np.bool_]:
    """Return whether each unit was observed throughout each bin, shape (n_trials, n_bins, n_units).

    Parameters
    ----------
    trains
        Spike trains; if their ``observed`` is ``None``, every bin counts as observed.
    edges
        Bin edges of each trial, shape (n_trials, n_bins + 1) [ticks].
    tolerance
        How far a bin may extend beyond an interval [ticks].
    """
    shape = (edges.shape[0], edges.shape[1] - 1, len(trains))
    if trains.observed is None:
        return np.ones(shape, dtype=bool)
    observed = np.zeros(shape, dtype=bool)
    cache: dict[bytes, NDArray[np.bool_]] = {}
    for unit, intervals in enumerate(trains.observed):
        key = intervals.tobytes()
        if key not in cache:
            cache[key] = find_inside(to_ticks(intervals), edges, tolerance=tolerance)
        observed[..., unit] = cache[key]
    return observed


def find_inside(intervals: Ticks, edges: Ticks, *, tolerance: int) -> NDArray[np.bool_]:
    """Return whether each bin is in an interval, joining adjacent ones, shape (n_trials, n_bins)."""
    if not len(intervals):
        return np.zeros((edges.shape[0], edges.shape[1] - 1), dtype=bool)
    starts, stops = merge_spans(intervals, gap=tolerance).T
    holder = np.searchsorted(starts, edges[:, :-1] + tolerance, side="right") - 1
    return np.asarray((holder >= 0) & (edges[:, 1:] <= stops[np.maximum(holder, 0)] + tolerance))


def find_units(nwbfile: NWBFile) -> tuple[str, Units | None]:
    """Return the units table and its path: ``units``, or else the first one in a processing module."""
    if nwbfile.units is not None:
        return "units", nwbfile.units
    for name, module in list_modules(nwbfile).items():
        for member in module.data_interfaces.values():
            if isinstance(member, Units) and len(member):
                return f"processing/{name}/{member.name}", member
    return "units", None


def read_unit_columns(units: Units) -> dict[str, NDArray[Any]]:
    """Return the columns of the units table: ids, plain columns, and the location of the electrode.

    ``electrode_group`` and ``location`` are those of the unit's first electrode, and empty if it has none. If
    the table has its own column ``location``, the location of the group is ``group_location``.
    """
    columns = {"id": np.asarray(units.id[:])} | read_plain_columns(units)
    groups = _find_groups(units)
    if groups is not None:
        place = "group_location" if "location" in columns else "location"
        for name, attribute in (("electrode_group", "name"), (place, "location")):
            texts = ["" if group is None else str(getattr(group, attribute)) for group in groups]
            if fits_padded(texts):
                columns[name] = np.array(texts)
    return columns


def _find_groups(units: Units) -> list[Any] | None:
    """Return the electrode group of each unit, ``None`` for one without any, if the table links to them."""
    if "electrode_group" in units.colnames:
        return _look_up(units["electrode_group"], list(range(len(units))))
    if "electrodes" not in units.colnames:
        return None
    column = units["electrodes"]
    if isinstance(column, VectorIndex):
        ends, region = np.asarray(column.data[:], dtype=int), column.target
    else:  # without the optional index, each unit has one electrode
        ends, region = np.arange(1, len(column.data) + 1), column
    if "group" not in region.table.colnames:
        return None
    rows = np.asarray(region.data[:], dtype=int).ravel()
    starts = np.append(0, ends[:-1])
    linked = ends > starts
    groups = iter(_look_up(region.table["group"], rows[starts[linked]].tolist()))
    return [next(groups) if link else None for link in linked.tolist()]


def _look_up(column: VectorData, rows: list[int]) -> list[Any]:
    """Return the object in each of some rows of a column of references.

    hdmf takes long to find an object, so each object of an HDF5 file is found only once.
    """
    if not isinstance(column.data, DatasetOfReferences):
        return [column[row] for row in rows]
    stored = column.data.dataset
    references, file = stored[:], stored.file
    addresses = [find_address(file[references[row]]) for row in rows]
    found = {address: column[row] for address, row in dict(zip(addresses, rows, strict=True)).items()}
    return [found[address] for address in addresses]


def lies_on_grid(times: Any, width: float) -> bool:
    """Return whether spikes are given in bins of a width [s], judging by some of them.

    Such spikes are at few positions in a bin: at its start, in its middle, or evenly spaced if several.
    """
    some = np.asarray(times[:BLOCK], dtype=np.float64)
    some = some[np.isfinite(some)]
    if not some.size or np.ptp(some) < 10 * width:  # the spikes would be in few bins
        return False
    place = np.rint(PLACES * (some / width % 1.0)).astype(np.int64) % PLACES
    numbers = np.sort(np.bincount(place, minlength=PLACES))[::-1]
    return bool(numbers[:FEW_PLACES].sum() >= 0.5 * some.size)


def _read_ends(units: Units, column: str, *, name: str) -> tuple[NDArray[np.int64], str]:
    """Return the end of each row of a ragged column, and a fault of these ends, if any."""
    index = units[column]
    if not isinstance(index, VectorIndex):
        fault = f"{name}: {column}: expected an index with the end of each unit, but there is none"
        return np.zeros(0, dtype=np.int64), fault
    ends = np.asarray(index.data[:], dtype=np.int64)
    n_values = len(index.target.data)
    fault = f"{name}/{column}_index: expected ascending ends within {n_values} values; repair the file"
    falls = (np.diff(ends, prepend=0) < 0).any() or (len(ends) and ends[-1] > n_values)
    return ends, fault if falls else ""
