"""When the samples of a series were taken, in whole microseconds."""

from dataclasses import dataclass
from typing import ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from nwbrnn.errors import ReadError
from nwbrnn.formats.series import read_stamps
from nwbrnn.readers.discovery import Signal

Ticks = NDArray[np.int64]
Number = TypeVar("Number", np.int64, np.float64)

TICKS_PER_SECOND = 1_000_000
"""Times are compared in whole microseconds, so that 3 * 0.05 and 0.15 are the same edge. This also holds for
a clock that counts from 1970, whose floats are 0.24 microseconds apart."""

NO_TIME = 1e-30  # a time of which only the last bytes were written is smaller than this [s]
MANY_ZEROS = 32  # times at 0 that are too many for spikes in a first bin; a page of 4 KiB has 512
_FOREVER = 9e12  # the longest time that int64 ticks can hold [s]
STRAY = 0.5  # a run with a smaller fraction of the samples that its duration needs is not part of a recording
_MOST_RUNS = 100  # if there are more stray runs, the rule for clocks that run backwards applies
SHIFTS = {"start": 0.5, "centre": 0.0, "end": -0.5}  # from a stamp to the middle of its sample [intervals]


def to_ticks(seconds: NDArray[np.floating] | float) -> Ticks:
    """Return times of any shape in whole microseconds; infinite times become 285,000 years."""
    finite = np.clip(np.asarray(seconds, dtype=np.float64), -_FOREVER, _FOREVER)
    return np.asarray(np.rint(finite * TICKS_PER_SECOND), dtype=np.int64)


def subtract(times: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return differences of times [s], to the tick; clocks that start at 0 or in 1970 give the same."""
    known = np.isfinite(times) & np.isfinite(others)
    exact = (
        to_ticks(np.where(known, times, 0.0)) - to_ticks(np.where(known, others, 0.0))
    ) / TICKS_PER_SECOND
    with np.errstate(invalid="ignore"):
        return np.where(known, exact, np.asarray(times) - np.asarray(others))


def merge_spans(spans: NDArray[Number], *, gap: int = 0) -> NDArray[Number]:
    """Return disjoint, ascending spans, shape (n, 2), that cover the same times, joining those a gap apart.

    Examples
    --------
    >>> merge_spans(np.array([[20, 30], [0, 10], [11, 15]]), gap=1).tolist()
    [[0, 15], [20, 30]]
    """
    spans = spans[np.argsort(spans[:, 0], kind="stable")]
    reach = np.maximum.accumulate(spans[:, 1])
    first = np.flatnonzero(np.append(True, spans[1:, 0] > reach[:-1] + gap)[: len(spans)])
    last = np.append(first[1:], len(spans))[: len(first)] - 1
    return np.stack([spans[first, 0], reach[last]], axis=1)


def find_unwritten(stamps: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which times are 0 because they were never written, such as a page of zeros in a file.

    This is so if all other times ascend and a 0 follows a later time, or if 0 occurs many times and more than
    twice as often as any other time; spikes that are given in bins share times.
    """
    zero = np.abs(stamps) < NO_TIME
    n_zeros = int(zero.sum())
    if not n_zeros:
        return zero
    others = stamps[~zero & np.isfinite(stamps)]
    later = np.flatnonzero(stamps > 0)
    if len(later) and zero[later[0] :].any() and (others[1:] >= others[:-1]).all():
        return zero
    most = int(np.unique(others, return_counts=True)[1].max(initial=1))
    return zero if n_zeros >= max(MANY_ZEROS, 2 * most + 1) else np.zeros_like(zero)


def drop_unwritten(times: NDArray[np.float64], starts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return times in session time [s], with NaN for times of 0 whose trial starts later."""
    return np.where((times == 0) & (starts > 0), np.nan, times)


def drop_codes(times: NDArray[np.floating], starts: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return times [s], with NaN for negative whole numbers whose trial starts after 0; -1 means none."""
    return np.where((times < 0) & (times == np.rint(times)) & (starts > 0), np.nan, times)


@dataclass(frozen=True)
class RegularTimes:
    """Samples at a fixed rate, without stored times."""

    n_samples: int
    # time stamp of the first sample, and time from a stamp to the middle of its sample [s]
    start: float
    shift: float
    rate: float  # [Hz]
    note: ClassVar[str] = ""  # nothing is left out

    @property
    def interval(self) -> float:
        """Time between samples [s]."""
        return 1.0 / self.rate

    def get_centres(self, index: NDArray[np.int64]) -> Ticks:
        """Return the middle of samples, any shape [ticks]."""
        # convert the start separately: a sum would be rounded once more if the clock is far from 0
        return to_ticks(self.start) + to_ticks(index / self.rate + self.shift)

    def find(self, edges: Ticks) -> NDArray[np.int64]:
        """Return how many samples have their middle before each edge, same shape."""
        ahead = (edges - to_ticks(self.start)) / TICKS_PER_SECOND
        index = np.ceil((ahead - self.shift) * self.rate).astype(np.int64)
        index -= self.get_centres(index - 1) >= edges  # floats may be off by one sample
        index += self.get_centres(index) < edges
        return np.clip(index, 0, self.n_samples)

    def find_breaks(self) -> NDArray[np.int64]:
        """Return the first sample after each gap; regular samples have no gaps."""
        return np.zeros(0, dtype=np.int64)

    def get_rows(self, start: int, stop: int) -> slice | NDArray[np.int64]:
        """Return where samples are stored."""
        return slice(start, stop)


@dataclass(frozen=True)
class StampedTimes:
    """Samples that each have a time stamp."""

    centres: Ticks  # middle of each sample, in ascending order, shape (n_samples,) [ticks]
    interval: float  # median time between samples [s]
    gap: float  # longer steps between stamps are gaps [s]
    rows: NDArray[np.int64] | None = None  # stored position of each sample, if some were left out
    note: str = ""  # what was left out; empty if nothing

    def find(self, edges: Ticks) -> NDArray[np.int64]:
        """Return how many samples have their middle before each edge, same shape."""
        return np.searchsorted(self.centres, edges).astype(np.int64)

    def find_breaks(self) -> NDArray[np.int64]:
        """Return the first sample after each gap."""
        far = np.diff(self.centres) > self.gap * TICKS_PER_SECOND
        if self.rows is not None:
            far |= np.diff(self.rows) > 1
        return np.flatnonzero(far) + 1

    def get_rows(self, start: int, stop: int) -> slice | NDArray[np.int64]:
        """Return where samples are stored."""
        return slice(start, stop) if self.rows is None else self.rows[start:stop]


def read_times(signal: Signal) -> RegularTimes | StampedTimes:
    """Read the times at which the samples of a single-series signal were taken.

    If the clock runs backwards, two stretches of samples claim the same time, and all of these samples are
    left out. So are samples whose stamp is not finite or was never written, and a few samples whose stamps
    are far from those around them. Equal stamps are allowed.
    """
    (series,) = signal.series
    n_samples = signal.shape[0]
    shift = SHIFTS[signal.stamps] * signal.clocks[0].span
    if series.timestamps is None:
        return RegularTimes(n_samples, float(series.starting_time or 0.0), shift, float(series.rate))
    stamps = read_stamps(series)
    if stamps.shape != (n_samples,):
        raise ReadError(
            f"{signal.path}: expected a timestamp for each of {n_samples} samples, "
            f"but got {' x '.join(map(str, stamps.shape))}; repair the file or choose another signal"
        )
    good = find_uncontested(stamps, interval=signal.interval)
    n_bad = n_samples - int(good.sum())
    if n_samples - n_bad < min(2, n_samples):
        raise ReadError(
            f"{signal.path}: expected increasing timestamps, but no two of its {n_samples} "
            "timestamps increase; repair the file or choose another signal"
        )
    centres = to_ticks(stamps[good]) + to_ticks(shift)
    gap = signal.clocks[0].gap
    if not n_bad:
        return StampedTimes(centres, signal.interval, gap)
    note = f"{n_bad} of {n_samples} samples, whose time stamps are not finite, never written or run backwards"
    return StampedTimes(centres, signal.interval, gap, np.flatnonzero(good), note)


def find_uncontested(stamps: NDArray[np.float64], *, interval: float) -> NDArray[np.bool_]:
    """Return the samples that are neither later than any that follow nor earlier than any before.

    Runs of stamps that cannot be a second stretch of the recording are left out first: they claim much more
    time than they have samples for. A few zeros are an example.
    """
    finite = np.isfinite(stamps) & ~find_unwritten(stamps)
    if finite.all() and (np.diff(stamps) >= 0).all():
        return finite
    finite[finite] &= ~_find_glitches(stamps[finite])
    for _ in range(_MOST_RUNS):
        kept = np.flatnonzero(finite)
        run = _find_stray_run(stamps[kept], interval)
        if run is None:
            break
        finite[kept[run]] = False
    before = np.maximum.accumulate(np.where(finite, stamps, -np.inf))
    after = np.minimum.accumulate(np.where(finite, stamps, np.inf)[::-1])[::-1]
    return finite & (stamps >= before) & (stamps <= after)


def _find_stray_run(stamps: NDArray[np.float64], interval: float) -> slice | None:
    """Return a run of stamps that are late or early by more time than they have samples for."""
    for back in np.flatnonzero(np.diff(stamps) < 0).tolist():
        late = stamps[: back + 1] <= stamps[back + 1]
        early = stamps[back + 1 :] >= stamps[back]
        first = back - int(np.argmax(late[::-1])) + 1 if late.any() else 0
        last = back + 1 + int(np.argmax(early)) if early.any() else len(stamps)
        n_claimed = (stamps[back] - stamps[back + 1]) / interval
        n_late, n_early = back + 1 - first, last - back - 1
        if min(n_late, n_early) < STRAY * n_claimed:
            return slice(first, back + 1) if n_late <= n_early else slice(back + 1, last)
    return None


def _find_glitches(stamps: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return single stamps that are too late or too early although their neighbours are in order.

    Examples
    --------
    >>> _find_glitches(np.array([0.0, 1.0, 9.0, 2.0, 3.0])).tolist()  # 9 is too late
    [False, False, True, False, False]
    >>> _find_glitches(np.array([0.0, 1.0, 2.0, 0.5, 3.0])).tolist()  # 0.5 is too early
    [False, False, False, True, False]
    >>> _find_glitches(np.array([5.0, 6.0, 1.0, 2.0])).any()  # two stretches: no single stamp is wrong
    np.False_
    """
    glitch = np.zeros(len(stamps), dtype=bool)
    padded = np.concatenate([[-np.inf], stamps, [np.inf]])
    back = np.flatnonzero(stamps[1:] < stamps[:-1])  # from here to the next, the clock runs backwards
    late = padded[back] <= stamps[back + 1]  # the stamp before fits the next one
    glitch[back[late]] = True
    early = ~late & (padded[back + 3] >= stamps[back])  # the stamp after the next fits this one
    glitch[back[early] + 1] = True
    return glitch
