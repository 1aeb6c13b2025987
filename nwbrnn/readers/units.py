"""The units table: spike counts on time bins, and what is known of each unit."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pynwb import NWBFile

from nwbrnn.errors import ReadError
from nwbrnn.readers.series import TICKS_PER_SECOND, Ticks, to_ticks
from nwbrnn.readers.trials import read_plain_columns


@dataclass(frozen=True)
class SpikeTrains:
    """Spike times of all units.

    Attributes
    ----------
    trains
        Ascending spike times of each unit [ticks].
    observed
        Observation intervals of each unit, shape (n_intervals, 2) [ticks]; ``None`` if the file has none.
    """

    trains: tuple[Ticks, ...]
    observed: tuple[Ticks, ...] | None

    @property
    def extent(self) -> tuple[float, float]:
        """First and last spike of any unit [s]; infinite and reversed without spikes."""
        ends = [(t[0], t[-1]) for t in self.trains if len(t)]
        first = min((e[0] for e in ends), default=np.inf)
        last = max((e[1] for e in ends), default=-np.inf)
        return first / TICKS_PER_SECOND, last / TICKS_PER_SECOND


def read_spike_trains(nwbfile: NWBFile, *, path: str) -> SpikeTrains:
    """Read the spike times of all units.

    Raises
    ------
    ReadError
        If spike times are not finite or the index into them is damaged.
    """
    units = nwbfile.units
    times = _split_ragged(units, "spike_times", path=path)
    if not all(np.isfinite(t).all() for t in times):
        raise ReadError(
            f"{path}: units/spike_times: expected finite times, but some are NaN; repair the file"
        )
    observed = None
    if "obs_intervals" in units.colnames:
        intervals = _split_ragged(units, "obs_intervals", path=path)
        if any(len(i) for i in intervals):
            observed = tuple(to_ticks(i.reshape(-1, 2)) for i in intervals)
    return SpikeTrains(tuple(np.sort(to_ticks(t), kind="stable") for t in times), observed)


def count_spikes(trains: SpikeTrains, edges: Ticks) -> NDArray[np.int32]:
    """Count spikes in bins [edge, next edge): one on an edge belongs to the later bin.

    Parameters
    ----------
    trains
        Spike times.
    edges
        Bin edges of each trial, shape (n_trials, n_bins + 1) [ticks].

    Returns
    -------
    ndarray
        Shape (n_trials, n_bins, n_units). Where trials overlap a spike counts in each of them.
    """
    counts = np.empty((edges.shape[0], edges.shape[1] - 1, len(trains.trains)), dtype=np.int32)
    for unit, train in enumerate(trains.trains):
        counts[..., unit] = np.diff(np.searchsorted(train, edges), axis=1)
    return counts


def find_observed(trains: SpikeTrains, edges: Ticks, *, tolerance: int) -> NDArray[np.bool_]:
    """Return whether each unit was observed throughout each bin, shape (n_trials, n_bins, n_units).

    Parameters
    ----------
    trains
        With ``observed``; without, every bin counts as observed.
    edges
        Bin edges of each trial, shape (n_trials, n_bins + 1) [ticks].
    tolerance
        How far a bin may stick out of an interval [ticks].
    """
    shape = (edges.shape[0], edges.shape[1] - 1, len(trains.trains))
    if trains.observed is None:
        return np.ones(shape, dtype=bool)
    observed = np.zeros(shape, dtype=bool)
    cache: dict[bytes, NDArray[np.bool_]] = {}
    for unit, intervals in enumerate(trains.observed):
        key = intervals.tobytes()
        if key not in cache:
            cache[key] = _cover(intervals, edges, tolerance)
        observed[..., unit] = cache[key]
    return observed


def read_unit_columns(nwbfile: NWBFile) -> dict[str, NDArray[Any]]:
    """Return what the units table says of each unit, as coordinates: plain columns and electrode location.

    Names get the prefix ``unit_`` unless they have it, so that they cannot clash with trial columns.
    """
    units = nwbfile.units
    columns = {
        name if name.startswith("unit_") else f"unit_{name}": values
        for name, values in read_plain_columns(units).items()
    }
    groups = _find_groups(units)
    if groups is not None:
        columns["unit_electrode_group"] = np.array([str(g.name) for g in groups])
        columns["unit_location"] = np.array([str(g.location) for g in groups])
    return columns


def _find_groups(units: Any) -> list[Any] | None:
    """Return the electrode group of each unit, if the table links to one."""
    if "electrode_group" in units.colnames:
        return [units["electrode_group"][i] for i in range(len(units))]
    if "electrodes" in units.colnames:
        region = units["electrodes"]
        table = region.target.table if hasattr(region, "target") else region.table
        ends = np.asarray(region.data[:], dtype=int)
        starts = np.concatenate([[0], ends[:-1]])
        rows = np.asarray(region.target.data[:], dtype=int)
        if (ends > starts).all() and "group" in table.colnames:
            return [table["group"][int(rows[s])] for s in starts]
    return None


def _split_ragged(units: Any, name: str, *, path: str) -> list[NDArray[np.float64]]:
    """Return the rows of a ragged column, read in one go."""
    index = units[name]
    ends = np.asarray(index.data[:], dtype=np.int64)
    flat = np.asarray(index.target.data[:], dtype=np.float64)
    if (np.diff(ends, prepend=0) < 0).any() or (len(ends) and ends[-1] > len(flat)):
        raise ReadError(f"{path}: units/{name}_index: expected ascending ends within {len(flat)} values")
    return np.split(flat, ends)[: len(ends)]


def _cover(intervals: Ticks, edges: Ticks, tolerance: int) -> NDArray[np.bool_]:
    """Return whether one of the intervals holds each bin, shape (n_trials, n_bins)."""
    covered = np.zeros((edges.shape[0], edges.shape[1] - 1), dtype=bool)
    for start, stop in intervals:
        covered |= (edges[:, :-1] >= start - tolerance) & (edges[:, 1:] <= stop + tolerance)
    return covered
