"""When the samples of a series were taken, in whole nanoseconds."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nwbrnn.errors import ReadError
from nwbrnn.readers.discovery import Signal

Ticks = NDArray[np.int64]

TICKS_PER_SECOND = 1_000_000_000
"""Times are compared as whole nanoseconds, so that 3 * 0.05 and 0.15 are the same edge."""

_FOREVER = 9e9  # what int64 holds [s]
GAP = 1.5  # steps longer than so many sampling intervals are gaps
SHIFTS = {"start": 0.5, "centre": 0.0, "end": -0.5}  # from a stamp to the middle of its sample [intervals]


def to_ticks(seconds: NDArray[np.floating] | float) -> Ticks:
    """Return times in whole nanoseconds, any shape; infinite ones as 285 years away."""
    finite = np.clip(np.asarray(seconds, dtype=np.float64), -_FOREVER, _FOREVER)
    return np.asarray(np.rint(finite * TICKS_PER_SECOND), dtype=np.int64)


@dataclass(frozen=True)
class RegularTimes:
    """Samples at a fixed rate; none of their times is stored.

    Attributes
    ----------
    n_samples
        Their number.
    start, shift
        Time stamp of the first sample, and from a stamp to the middle of its sample [s].
    rate
        Samples per second [Hz].
    """

    n_samples: int
    start: float
    shift: float
    rate: float

    @property
    def interval(self) -> float:
        """Time between samples [s]."""
        return 1.0 / self.rate

    def get_centres(self, index: NDArray[np.int64]) -> Ticks:
        """Return the middle of samples, any shape [ticks]."""
        return to_ticks(self.start + index / self.rate + self.shift)

    def find(self, edges: Ticks) -> NDArray[np.int64]:
        """Return how many samples have their middle before each edge, same shape."""
        index = np.ceil((edges / TICKS_PER_SECOND - self.start - self.shift) * self.rate).astype(np.int64)
        index -= self.get_centres(index - 1) >= edges  # floats can be off by one sample
        index += self.get_centres(index) < edges
        return np.clip(index, 0, self.n_samples)

    def find_breaks(self) -> NDArray[np.int64]:
        """Return the first sample after each gap: none."""
        return np.zeros(0, dtype=np.int64)

    def get_rows(self, start: int, stop: int) -> slice | NDArray[np.int64]:
        """Return where samples are stored."""
        return slice(start, stop)

    @property
    def note(self) -> str:
        """What was left out, if anything."""
        return ""


@dataclass(frozen=True)
class StampedTimes:
    """Samples with a time stamp each.

    Attributes
    ----------
    centres
        Middle of each sample, never decreasing, shape (n_samples,) [ticks].
    interval
        Median time between samples [s].
    rows
        Where each sample is stored, if some were left out.
    note
        What was left out, if anything.
    """

    centres: Ticks
    interval: float
    rows: NDArray[np.int64] | None = None
    note: str = ""

    def find(self, edges: Ticks) -> NDArray[np.int64]:
        """Return how many samples have their middle before each edge, same shape."""
        return np.searchsorted(self.centres, edges).astype(np.int64)

    def find_breaks(self) -> NDArray[np.int64]:
        """Return the first sample after each gap."""
        far = np.diff(self.centres) > GAP * self.interval * TICKS_PER_SECOND
        if self.rows is not None:
            far |= np.diff(self.rows) > 1
        return np.flatnonzero(far) + 1

    def get_rows(self, start: int, stop: int) -> slice | NDArray[np.int64]:
        """Return where samples are stored."""
        return slice(start, stop) if self.rows is None else self.rows[start:stop]


def read_times(signal: Signal, *, path: str) -> RegularTimes | StampedTimes:
    """Read when the samples of a signal were taken.

    Where the clock runs backwards, the same time is claimed by two stretches of samples. All of them
    are left out, and so are samples without a finite stamp; equal stamps are fine.

    Raises
    ------
    ReadError
        If the number of time stamps differs from that of the samples, or no two of them ascend.
    """
    series = signal.series[0]
    n_samples = signal.shape[0]
    shift = SHIFTS[signal.stamps] * signal.interval
    if series.timestamps is None:
        return RegularTimes(n_samples, float(series.starting_time or 0.0), shift, float(series.rate))
    stamps = np.asarray(series.timestamps[:], dtype=np.float64)
    if len(stamps) != n_samples:
        raise ReadError(
            f"{path}: {signal.path}: expected a timestamp for each of {n_samples} samples, "
            f"but got {len(stamps)}; repair the file or choose another signal"
        )
    good = _find_uncontested(stamps)
    n_bad = n_samples - int(good.sum())
    if n_samples - n_bad < min(2, n_samples):
        raise ReadError(
            f"{path}: {signal.path}: expected increasing timestamps, but no two of its {n_samples} "
            "timestamps are; repair the file or choose another signal"
        )
    centres = to_ticks(stamps[good] + shift)
    if not n_bad:
        return StampedTimes(centres, signal.interval)
    note = f"{n_bad} of {n_samples} samples, whose time stamps are not finite or run backwards"
    return StampedTimes(centres, signal.interval, np.flatnonzero(good), note)


def _find_uncontested(stamps: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return the samples not later than all that follow and not earlier than all before."""
    finite = np.isfinite(stamps)
    if finite.all() and (np.diff(stamps) >= 0).all():
        return finite
    finite[finite] &= ~_find_glitches(stamps[finite])
    before = np.maximum.accumulate(np.where(finite, stamps, -np.inf))
    after = np.minimum.accumulate(np.where(finite, stamps, np.inf)[::-1])[::-1]
    return finite & (stamps >= before) & (stamps <= after)


def _find_glitches(stamps: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return single stamps that are too late or too early while their neighbours are in order."""
    glitch = np.zeros(len(stamps), dtype=bool)
    padded = np.concatenate([[-np.inf], stamps, [np.inf]])
    back = np.flatnonzero(stamps[1:] < stamps[:-1])  # from here to the next, the clock runs backwards
    late = padded[back] <= stamps[back + 1]  # the one before fits the next
    glitch[back[late]] = True
    early = ~late & (padded[back + 3] >= stamps[back])  # the one after the next fits this one
    glitch[back[early] + 1] = True
    return glitch
