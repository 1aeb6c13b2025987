"""Read spikes that a file stores as counts in bins (ndx-binned-spikes)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pynwb import NWBFile

from nwbrnn.readers.tables import list_modules
from nwbrnn.readers.times import RegularTimes, Ticks, to_ticks

_OFFSETS = ("event_to_bin_offset_in_ms", "milliseconds_from_event_to_first_bin", "start_time_in_ms")


@dataclass(frozen=True)
class BinnedCounts:
    """A ``BinnedSpikes`` or ``BinnedAlignedSpikes``.

    Attributes
    ----------
    path
        Path in the file.
    data
        Counts, shape (n_units, n_bins), or (n_units, n_events, n_bins) if aligned to events.
    width
        Width of its bins [s].
    offset
        Start of the first bin, in session time or after each event [s].
    events
        Session times of the events, shape (n_events,) [s], if aligned.
    rows
        Row of each unit in the units table, shape (n_units,).
    """

    path: str
    data: Any
    width: float
    offset: float
    events: NDArray[np.float64] | None
    rows: NDArray[np.int64]

    @property
    def window(self) -> tuple[float, float] | None:
        """First and last edge after an event [s]; ``None`` if not aligned to events."""
        return None if self.events is None else (self.offset, self.offset + self.data.shape[-1] * self.width)

    def count(
        self, edges: Ticks, align_times: NDArray[np.float64]
    ) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """Sum the stored counts in the bins of each trial.

        Parameters
        ----------
        edges
            Bin edges of each trial, shape (n_trials, n_bins + 1) [ticks].
        align_times
            Time 0 of each trial, shape (n_trials,) [s]; it must be within half a bin of an event.

        Returns
        -------
        counts, covered
            Counts, shape (n_trials, n_bins, n_units), and whether the stored bins cover all of a bin, shape
            (n_trials, n_bins).
        """
        shape = (edges.shape[0], edges.shape[1] - 1)
        counts = np.zeros((*shape, len(self.rows)), dtype=np.int32)
        covered = np.zeros(shape, dtype=bool)
        whole = np.rint(np.diff(edges[0, :2]) / to_ticks(self.width))
        for trial in range(len(edges)):
            start, stored = self.offset, self.data
            if self.events is not None:
                event = int(np.argmin(np.abs(self.events - align_times[trial])))
                if abs(self.events[event] - align_times[trial]) > self.width / 2:
                    continue
                start += float(self.events[event])
                stored = np.asarray(self.data[:, event, :])
            times = RegularTimes(stored.shape[1], start, self.width / 2, 1 / self.width)
            index = times.find(edges[trial])
            block = np.asarray(stored[:, index[0] : index[-1]], dtype=np.int64)
            running = np.concatenate([np.zeros((len(block), 1), np.int64), np.cumsum(block, axis=1)], axis=1)
            counts[trial] = np.diff(running[:, index - index[0]], axis=1).T
            covered[trial] = np.diff(index) == whole
        return counts, covered


def find_binned(nwbfile: NWBFile) -> list[BinnedCounts]:
    """Return every ``BinnedAlignedSpikes`` and ``BinnedSpikes`` in a file."""
    places = [("acquisition", nwbfile.acquisition.values())]
    places += [(f"processing/{n}", m.data_interfaces.values()) for n, m in list_modules(nwbfile).items()]
    found = []
    for folder, members in places:
        for member in members:
            if getattr(member, "neurodata_type", "") in ("BinnedAlignedSpikes", "BinnedSpikes"):
                region = getattr(member, "units_region", None)
                rows = np.arange(len(member.data)) if region is None else np.asarray(region.data[:])
                offsets = [getattr(member, name, None) for name in _OFFSETS]
                events = getattr(member, "event_timestamps", None)
                found.append(
                    BinnedCounts(
                        path=f"{folder}/{member.name}",
                        data=member.data,
                        width=float(member.bin_width_in_ms) / 1000,
                        offset=float(next((o for o in offsets if o is not None), 0.0)) / 1000,
                        events=None if events is None else np.asarray(events[:], dtype=np.float64),
                        rows=rows.astype(np.int64),
                    )
                )
    return found
