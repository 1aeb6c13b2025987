"""The contents of an open file: read_nwb, inspect_nwb and doctor share them, and each is found only once."""

import contextlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pynwb import NWBFile, TimeSeries
from pynwb.epoch import TimeIntervals
from pynwb.misc import Units

from nwbrnn.errors import ReadError
from nwbrnn.readers.binned import BinnedCounts, find_binned
from nwbrnn.readers.discovery import Signal, find_signals, find_unusable
from nwbrnn.readers.trials import find_events, find_trial_tables, read_trials
from nwbrnn.readers.units import SpikeTrains, find_spike_trains, find_units, read_unit_columns
from nwbrnn.storage import Source, find_source, open_file


class Session:
    """An open file and its contents; its root group has the parts that pynwb does not show."""

    def __init__(self, nwbfile: NWBFile, root: Any, source: Source) -> None:
        self.nwbfile, self.root, self.source = nwbfile, root, source
        self._trials: dict[str, pd.DataFrame] = {}

    @property
    def path(self) -> str:
        """Path or address of the file, for messages."""
        return self.source.text

    @cached_property
    def signals(self) -> list[Signal]:
        """Time series grouped into signals, each with the role that its name suggests."""
        return find_signals(self.nwbfile)

    @cached_property
    def unusable(self) -> dict[str, TimeSeries]:
        """Series, by path, that are named like outputs but do not hold numbers by time and channel."""
        return find_unusable(self.nwbfile)

    @cached_property
    def binned(self) -> list[BinnedCounts]:
        """Spikes stored as counts in bins."""
        return find_binned(self.nwbfile)

    @property
    def units(self) -> Units | None:
        """The units table, if there is one."""
        return self._units[1]

    @property
    def units_path(self) -> str:
        """Path of the units table, or the path that it would have."""
        return self._units[0]

    @cached_property
    def unit_columns(self) -> dict[str, NDArray[Any]]:
        """The columns of the units table, with a value for each unit."""
        return {} if self.units is None else read_unit_columns(self.units)

    @property
    def has_spikes(self) -> bool:
        """Whether there are units with spike times."""
        return self.units is not None and len(self.units) > 0 and "spike_times" in self.units.colnames

    @property
    def resolution(self) -> float:
        """Resolution of the spike times as the units table states it [s]; 0 if it does not."""
        stated = 0.0 if self.units is None else float(self.units.resolution or 0.0)
        return stated if 0 < stated < np.inf else 0.0

    @cached_property
    def trains(self) -> SpikeTrains:
        """The spike times of all units, as far as their index is valid."""
        return find_spike_trains(self.units, self.units_path)

    def read_spikes(self) -> SpikeTrains:
        """Return the spike times of all units without reading them yet."""
        if self.trains.fault:
            raise ReadError(self.trains.fault)
        return self.trains

    @cached_property
    def trial_tables(self) -> dict[str, TimeIntervals]:
        """Tables that may hold trials, by path, with the likeliest first."""
        return find_trial_tables(self.nwbfile)

    @cached_property
    def events(self) -> dict[str, NDArray[np.float64]]:
        """Times of each kind of event [s], by name."""
        return dict(find_events(self.nwbfile))

    def read_trials(self, name: str) -> pd.DataFrame:
        """Return the plain columns and events of a trial table."""
        if name not in self._trials:
            table = self.trial_tables[name]
            self._trials[name] = read_trials(table, self.events, name=name)
        return self._trials[name]

    @cached_property
    def invalid(self) -> NDArray[np.float64]:
        """Start and stop of each invalid stretch of the file, shape (n, 2) [s]; infinite where not given."""
        table = self.nwbfile.invalid_times
        if table is None or len(table) == 0:
            return np.zeros((0, 2))
        spans = [
            np.asarray(table[f"{end}_time"].data[:], dtype=np.float64).ravel() for end in ("start", "stop")
        ]
        return np.stack(
            [np.where(np.isnan(t), end, t) for t, end in zip(spans, (-np.inf, np.inf), strict=True)], 1
        )

    def find_path(self, item: Any) -> str:
        """Return the path of a pynwb object in the file."""
        return str(self.nwbfile.read_io.manager.get_builder(item).path).removeprefix("root/")

    @cached_property
    def _units(self) -> tuple[str, Units | None]:
        return find_units(self.nwbfile)


@contextlib.contextmanager
def open_session(path: str | Path | Source, *, follow_links: bool) -> Iterator[Session]:
    """Open a file for reading and close it afterwards; :func:`nwbrnn.storage.open_nwb` lists the errors."""
    source = find_source(path)
    with open_file(source, follow_links=follow_links) as opened:
        yield Session(*opened, source)
