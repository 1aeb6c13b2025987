"""The clock of one series: when its samples were taken. Other modules use this one to find out."""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pynwb import TimeSeries

from nwbrnn.formats.series import read_stamps

_STRETCH = 1001  # time stamps examined at the beginning, in the middle and at the end of a series
REGULAR = 0.9  # a clock is regular if this fraction of its steps is within a tenth of their median
_PAUSE = 5.0  # steps longer than this many medians are pauses, even if the clock is not regular
GAP = 1.5  # steps longer than this many medians are gaps of a regular clock


class Clock:
    """Time stamps of a series with a rate or time stamps; only a few stretches of stored ones are read."""

    def __init__(self, series: TimeSeries) -> None:
        self._series = series

    @property
    def has_stamps(self) -> bool:
        """Whether each sample has a time stamp, instead of a rate for all."""
        return self._series.timestamps is not None

    @cached_property
    def extent(self) -> tuple[float, float]:
        """First and last time stamp [s], ignoring stamps that are out of order at the ends."""
        if not self.has_stamps:
            start = float(self._series.starting_time or 0.0)
            return start, start + (int(self._series.data.shape[0]) - 1) * self.interval
        first, last = (part[np.isfinite(part)] for part in (self._stretches[0], self._stretches[-1]))
        return float(first.min(initial=np.inf)), float(last.max(initial=-np.inf))

    @cached_property
    def interval(self) -> float:
        """Time between samples [s], not counting pauses; NaN for a single sample or rate 0."""
        if not self.has_stamps:
            return 1.0 / float(self._series.rate) if self._series.rate > 0 else float("nan")
        steps = self._steps
        if not len(steps):
            return float("nan")
        median = np.median(steps)
        away = np.abs(steps / median - np.maximum(np.rint(steps / median), 1))
        is_regular = (away < 0.1).mean() >= REGULAR
        near = (steps > 0.5 * median) & (steps < GAP * median) if is_regular else steps < _PAUSE * median
        mean = float(steps[near].mean())  # jitter averages out
        plain = float(f"{mean:.3g}")
        return plain if abs(plain - mean) < 5e-4 * mean else round(mean, 9)

    @cached_property
    def varies(self) -> bool:
        """Whether more than 1 % of the steps between samples differ by more than 2 % from their mean."""
        if not self.has_stamps:
            return False
        near = self._steps[self._steps < GAP * self.interval]
        return bool(len(near) and (np.abs(near - self.interval) > 0.02 * self.interval).mean() > 0.01)

    @cached_property
    def _steps(self) -> NDArray[np.float64]:
        """Positive steps between time stamps, in a few stretches [s]."""
        steps = np.concatenate([np.diff(part) for part in self._stretches])
        return np.asarray(steps[np.isfinite(steps) & (steps > 0)])

    @cached_property
    def _stretches(self) -> list[NDArray[np.float64]]:
        """Time stamps from the beginning, the middle and the end of the series [s]."""
        n = len(self._series.timestamps)
        starts, length = ([0], n) if n <= 3 * _STRETCH else ([0, (n - _STRETCH) // 2, n - _STRETCH], _STRETCH)
        return [read_stamps(self._series, start, start + length) for start in starts]
