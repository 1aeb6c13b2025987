"""The clock of one series: when its samples were taken. Other modules use this one to find out."""

from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pynwb import TimeSeries

from nwbrnn.formats.series import read_stamps

_STRETCH = 1001  # time stamps examined at the beginning, in the middle and at the end of a series
REGULAR = 0.9  # a clock is regular if this fraction of its steps is within a tenth of their median
_PAUSE = 5.0  # steps longer than this many medians are pauses, even if the clock is not regular
GAP = 1.5  # steps longer than this many medians are gaps of a regular clock
_COARSE = 0.3  # rounding by a smaller fraction of the interval leaves all steps within GAP of it
_UNEQUAL = 10  # steps that must differ from the usual one; fewer can be lost samples
_COARSEST = 0.004  # rounding if samples share no stamp: that of single precision after nine hours [s]
_TICK = 1e-6  # steps that differ by less are equal [s]


class _Fit(NamedTuple):
    """What the stamps of a stretch say of the clock, if it is regular and they are rounded coarsely."""

    # time between samples, and what the stamps are rounded to [s]; 0 if they are not
    interval: float = 0.0
    rounding: float = 0.0
    in_packets: bool = False  # whether each stamp is that of as many samples, such as those sent together


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
        if self.rounding:
            return _shorten(float(np.median([fit.interval for fit in self._fits if fit.rounding])))
        median = np.median(steps)
        away = np.abs(steps / median - np.maximum(np.rint(steps / median), 1))
        is_regular = (away < 0.1).mean() >= REGULAR
        near = (steps > 0.5 * median) & (steps < GAP * median) if is_regular else steps < _PAUSE * median
        return _shorten(float(steps[near].mean()))  # jitter averages out

    @cached_property
    def rounding(self) -> float:
        """What the time stamps of a regular clock are rounded to, if that is coarse [s]; 0 otherwise.

        Single precision rounds to 2 ms after five hours, and some laboratories write whole milliseconds.
        Samples then share a stamp, or some steps are twice as long as others although no sample is lost.
        """
        return max((fit.rounding for fit in self._fits), default=0.0) if self.has_stamps else 0.0

    @property
    def span(self) -> float:
        """Time that a stamp stands for [s]: that of a sample, or of the packet of samples that share it."""
        rounded = [fit for fit in self._fits if fit.rounding] if self.rounding else []
        return self.rounding if rounded and all(fit.in_packets for fit in rounded) else self.interval

    @property
    def gap(self) -> float:
        """Steps between time stamps that are longer than this are gaps of a regular clock [s]."""
        return GAP * self.interval + self.rounding

    @cached_property
    def varies(self) -> bool:
        """Whether more than 1 % of the steps between samples differ by more than 2 % from their mean."""
        if not self.has_stamps:
            return False
        near = self._steps[self._steps < self.gap]
        return bool(len(near) and (np.abs(near - self.span) > 0.02 * self.span).mean() > 0.01)

    @cached_property
    def _steps(self) -> NDArray[np.float64]:
        """Positive steps between time stamps, in a few stretches [s]."""
        steps = np.concatenate([np.diff(part) for part in self._stretches])
        return np.asarray(steps[np.isfinite(steps) & (steps > 0)])

    @cached_property
    def _fits(self) -> list["_Fit"]:
        """What is known of the rounding of each stretch."""
        fits = [_fit_rounded(part) for part in self._stretches]
        if any(fit.rounding for fit in fits) and self._has_duplicates():
            return [_Fit()]
        return fits

    def _has_duplicates(self) -> bool:
        """Return whether samples that share a stamp have the same values: they were written twice."""
        alike = []
        for start, stamps in zip(self._starts, self._stretches, strict=True):
            same = np.diff(stamps) == 0
            if same.any():
                values = np.asarray(self._series.data[start : start + len(stamps)]).reshape(len(stamps), -1)
                alike.append(bool((values[1:] == values[:-1])[same].all()))
        return bool(alike) and all(alike)

    @cached_property
    def _stretches(self) -> list[NDArray[np.float64]]:
        """Time stamps from the beginning, the middle and the end of the series [s]."""
        n = len(self._series.timestamps)
        length = n if n <= 3 * _STRETCH else _STRETCH
        return [read_stamps(self._series, start, start + length) for start in self._starts]

    @property
    def _starts(self) -> list[int]:
        """Number of the first sample of each stretch."""
        n = len(self._series.timestamps)
        return [0] if n <= 3 * _STRETCH else [0, (n - _STRETCH) // 2, n - _STRETCH]


def _shorten(interval: float) -> float:
    """Return an interval with three digits if it is that of a rate as people choose it [s]."""
    plain = float(f"{interval:.3g}")
    return plain if abs(plain - interval) < 5e-4 * interval else round(interval, 9)


def _fit_rounded(stamps: NDArray[np.float64]) -> _Fit:
    """Return the interval of a regular clock and what its time stamps are rounded to.

    Rounded stamps are never further from a straight line than the rounding. Where samples are lost, the
    stamps leave the line more and more.

    Examples
    --------
    >>> fit = _fit_rounded(np.round(np.arange(200) / 2000, 3))
    >>> f"{fit.interval:.3g}", f"{fit.rounding:.3g}"
    ('0.0005', '0.001')
    """
    stamps = _take_longest_run(stamps)
    if len(stamps) < 2:
        return _Fit()
    sizes, numbers = np.unique(np.rint(np.diff(stamps) / _TICK), return_counts=True)
    rounding = float(np.diff(np.union1d(sizes, [0.0])).min(initial=np.inf)) * _TICK
    if sizes[0] < 0 or not np.isfinite(rounding) or numbers.sum() - numbers.max() < _UNEQUAL:
        return _Fit()
    if sizes[0] > 0 and rounding > _COARSEST:  # samples that are lost regularly look the same
        return _Fit()
    place = np.arange(len(stamps)) - (len(stamps) - 1) / 2
    middle = float(stamps.mean())
    interval = float(place @ (stamps - middle) / (place @ place))
    is_rounded = np.ptp(stamps - middle - interval * place) <= 1.1 * rounding
    groups = np.diff(np.flatnonzero(np.diff(stamps) > _TICK))  # without the first and the last
    if not is_rounded or rounding < _COARSE * interval or not len(groups):
        return _Fit()
    if groups[0] > 1 and (groups == groups[0]).all():
        return _Fit(rounding / float(groups[0]), rounding, in_packets=True)
    return _Fit(interval, rounding)


def _take_longest_run(stamps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the longest run of stamps without a pause."""
    steps = np.diff(stamps)
    forward = steps[steps > 0]
    if not len(forward) or not np.isfinite(stamps).all():
        return stamps[:0]
    borders = np.flatnonzero(np.append(steps > _PAUSE * np.median(forward), True)) + 1
    borders = np.append(0, borders)
    longest = int(np.argmax(np.diff(borders)))
    return stamps[borders[longest] : borders[longest + 1]]
