"""What the checks of units look at, gathered while spike times are read unit by unit."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwbrnn.readers.session import Session
from nwbrnn.readers.times import find_unwritten, merge_spans
from nwbrnn.readers.units import SpikeTrains
from nwbrnn.text import show_count

Array = NDArray[np.float64]
Counts = NDArray[np.int64]

N_PARTS = 30
COARSE = 5e-3
_MAX_BINS = 1 << 22
_BIN = 0.01
_EDGE = 1e-6
_COUNTS = ("counts", "not_finite", "unwritten", "negative", "unsorted", "outside")
_TIMES = ("first", "last", "longest", "step")


@dataclass
class SpikeView:
    """The spikes of all units in numbers; arrays by unit unless said otherwise."""

    path: str  # of the table of units
    trains: SpikeTrains  # where they come from
    rows: Counts  # row of each unit in the table
    resolution: float  # as the file says [s]; 0 if it does not
    # disjoint observation intervals of each unit, shape (n_intervals, 2) [s]; None without any
    observed: tuple[Array, ...] | None
    trials: Array | None  # start and stop of each trial, shape (n_trials, 2) [s]; None without trials
    # how many spikes are finite, are not, are 0 because they were never written, lie before time 0, are
    # earlier than the one before, or lie outside the observation intervals
    counts: Counts
    not_finite: Counts
    unwritten: Counts
    negative: Counts
    unsorted: Counts
    outside: Counts
    # first and last spike, and the longest time between spikes [s]
    first: Array
    last: Array
    longest: Array
    step: Array  # shortest time between different spike times [s]
    parts: Counts  # spikes in each of 30 equal parts of the session, shape (n_units, 30)
    # of the bins of busy, which span spikes and trials: start and width [s]
    edges: tuple[float, float] = (0.0, _BIN)
    # whether any unit fires in each bin
    busy: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))
    # width of which all times are multiples, from the first spike on [s]; 0 if none of 5 ms or more is
    grid: float = 0.0

    @property
    def spikes(self) -> str:
        """Where the spike times are in the file."""
        return f"{self.path}/spike_times"

    def iterate(self) -> Iterator[tuple[int, Array]]:
        """Yield the position and the stored spike times of each unit [s]."""
        position = {row: i for i, row in enumerate(self.rows.tolist())}
        for row, train in enumerate(self.trains.iterate_stored()):
            if row in position:
                yield position[row], train

    @property
    def n_spikes(self) -> int:
        """Number of spikes of all units."""
        sizes = np.diff(self.trains.ends, prepend=0)
        return len(self.trains.times) if len(self.rows) == len(sizes) else int(sizes[self.rows].sum())

    def count(self, spikes: Counts) -> str:
        """Return how many of the spikes are bad, given their number in each unit, and the first such unit."""
        n_units, first = int((spikes > 0).sum()), self.rows[np.argmax(spikes > 0)]
        return (
            f"{int(spikes.sum())} of {self.n_spikes}, in {show_count(n_units, 'unit')}, first in unit {first}"
        )

    @property
    def extent(self) -> tuple[float, float]:
        """First and last spike of any unit [s]; NaN without spikes."""
        some = self.counts > 0
        return (
            (float(self.first[some].min()), float(self.last[some].max())) if some.any() else (np.nan, np.nan)
        )

    @property
    def all_observed(self) -> Array:
        """Times at which any unit was observed, disjoint, shape (n, 2) [s]."""
        return merge_spans(np.concatenate([np.empty((0, 2)), *(self.observed or ())]))


def view_spikes(session: Session, *, trials: Array | None, rows: Counts | None = None) -> SpikeView | None:
    """Read the spikes of a file in numbers; ``None`` if it has none.

    ``trials`` are the start and stop of each trial, shape (n_trials, 2) [s]; ``rows`` the units to look at,
    as rows of the table, by default all.
    """
    if not session.has_spikes:
        return None
    trains = session.trains
    rows = np.arange(len(trains)) if rows is None else rows
    n = len(rows)
    arrays: dict[str, Any] = {name: np.zeros(n, dtype=np.int64) for name in _COUNTS}
    arrays |= {name: np.full(n, np.nan) for name in _TIMES}
    arrays |= {"resolution": session.resolution, "observed": _merge_observed(trains, rows)}
    view = SpikeView(
        session.units_path,
        trains,
        rows,
        trials=trials,
        parts=np.zeros((n, N_PARTS), dtype=np.int64),
        **arrays,
    )
    if not trains.fault:
        for unit, train in view.iterate():
            _add_train(view, unit, train)
        _place(view, trials)
    return view


def _merge_observed(trains: SpikeTrains, rows: Counts) -> tuple[Array, ...] | None:
    """Return the observation intervals of each unit, disjoint; equal ones are kept once."""
    if trains.observed is None:
        return None
    known: dict[bytes, Array] = {}
    return tuple(
        known.setdefault(spans.tobytes(), merge_spans(spans[~np.isnan(spans).any(axis=1)]))
        for spans in (trains.observed[row] for row in rows)
    )


def _add_train(view: SpikeView, unit: int, train: Array) -> None:
    """Add the spikes of one unit."""
    finite = train[np.isfinite(train)]
    view.counts[unit] = len(finite)
    view.not_finite[unit] = len(train) - len(finite)
    unwritten = find_unwritten(finite)
    view.unwritten[unit] = np.count_nonzero(unwritten)
    finite = finite[~unwritten]
    if not len(finite):
        return
    view.negative[unit] = np.count_nonzero(finite < 0)
    view.unsorted[unit] = np.count_nonzero(np.diff(finite) < 0)
    if view.unsorted[unit]:
        finite = np.sort(finite)
    view.first[unit], view.last[unit] = finite[0], finite[-1]
    steps = np.diff(finite)
    view.longest[unit] = steps.max(initial=0.0)
    view.step[unit] = steps[steps > 0].min(initial=np.inf)
    if view.observed is not None:
        spans = view.observed[unit]
        k = np.searchsorted(spans[:, 0] - _EDGE, finite, side="right") - 1
        stops = np.append(spans[:, 1], -np.inf)  # k is -1 before the first
        view.outside[unit] = np.count_nonzero(finite > stops[k] + _EDGE)


def _place(view: SpikeView, trials: Array | None) -> None:
    """Find when units fire, once the extent of the session is known."""
    low, high = view.extent
    if not high > low:
        return
    known = np.append(np.empty(0) if trials is None else trials[np.isfinite(trials)], [low, high])
    start, stop = float(known.min()), float(known.max())
    width = max(_BIN, (stop - start) / _MAX_BINS)
    view.edges = (start, width)
    view.busy = np.zeros(int((stop - start) / width) + 1, dtype=bool)
    step = float(np.nanmin(view.step))
    on_grid = np.isfinite(step) and step >= COARSE * (1 - 1e-6) and int(view.counts.sum()) >= 100
    origin = float(view.first[view.counts > 0][0])
    for unit, train in view.iterate():
        finite = train[np.isfinite(train) & (train >= start)]
        view.busy[((finite - start) / width).astype(np.int64)] = True
        view.parts[unit] = np.histogram(finite, N_PARTS, (low, high))[0]
        if on_grid:
            place = (finite - origin) / step
            on_grid = bool((np.abs(place - np.rint(place)) < 0.01).all())
    view.grid = step if on_grid else 0.0
