"""Read time series in blocks and average them in time bins."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nwbrnn.errors import ConfigError, MissingDataError, ReadError
from nwbrnn.preprocessing import EnvelopeFilter, compute_envelope
from nwbrnn.preprocessing.resampling import SETTLED, suppress_aliases
from nwbrnn.readers.discovery import Signal, get_gains
from nwbrnn.readers.times import TICKS_PER_SECOND, RegularTimes, StampedTimes, Ticks, merge_spans, read_times
from nwbrnn.text import show_count

Array = NDArray[np.float64]
Filter = Callable[[Array], Array]

BLOCK = 1 << 21  # number of values to read at once
NEAR = 1 << 12  # number of values that take less time to read than another call
ENVELOPE_SHORTEST = 0.1  # no envelope is computed for shorter stretches between gaps [s]
RAW_SAMPLING_RATE = 200.0  # EMG sampled more slowly is an envelope [Hz]
RAW_CROSSINGS = 60.0  # of the middle; raw EMG has its power above 50 Hz, envelopes below 20 Hz [1/s]
SKEWED = 0.5  # ratio of the smaller tail to the larger; rectified Gaussian noise has 0.3
SLACK = 1e-3  # of a sample: bins are whole ticks wide, but the time between samples need not be
MIN_COVERED = 0.5  # bins with a smaller fraction of their samples count as not recorded


class Binned(NamedTuple):
    """A signal averaged in time bins."""

    # averages (sums for spike counts), NaN where not recorded, shape (n_trials, n_bins, n_channels)
    values: Array
    covered: NDArray[np.bool_]  # whether each bin was recorded, shape (n_trials, n_bins)
    note: str  # which part of the signal was left out; empty if none


def read_binned(
    signal: Signal, edges: Ticks, *, nan: str = "raise", envelope: EnvelopeFilter | None = None
) -> Binned:
    """Read a signal and average it in the bins of each trial.

    The function reads only the samples in the trials and those around them that filters need, one block at a
    time. It low-pass filters outputs that are sampled faster than the bins, to avoid aliasing.

    A bin holds the samples whose middle is in [edge, next edge); ``edges`` have the shape (n_trials, n_bins +
    1) [ticks]. NaN inside the bins are refused with ``nan="raise"``; with ``"mask"``, such bins count as not
    recorded. ``envelope`` has the filters that extract the envelope, if the signal is raw EMG.

    Examples
    --------
    Four samples in a second, and a trial of two bins of half a second:

    >>> from pynwb import TimeSeries
    >>> from nwbrnn.readers.times import to_ticks
    >>> series = TimeSeries(name="light", data=np.arange(8.0), unit="1", rate=4.0)
    >>> signal = Signal("acquisition/light", "inputs", (series,), ("light",))
    >>> read_binned(signal, to_ticks(np.array([[0.5, 1.0, 1.5]]))).values.tolist()
    [[[2.5], [4.5]]]
    """
    parts, marks = zip(*(_read_part(part, edges, envelope=envelope) for part in signal.split()), strict=True)
    covered = np.all([part.covered for part in parts], axis=0)
    _refuse_nan(signal, np.concatenate(marks, axis=2), covered, nan=nan)
    values = np.concatenate([part.values for part in parts], axis=2)
    covered &= np.isfinite(values).all(axis=2)
    values[~covered] = np.nan
    return Binned(values, covered, "; ".join(dict.fromkeys(part.note for part in parts if part.note)))


def _read_part(
    signal: Signal, edges: Ticks, *, envelope: EnvelopeFilter | None
) -> tuple[Binned, NDArray[np.bool_]]:
    """Read a signal of one series; return it, and which of its values had NaN among their samples."""
    times = read_times(signal)
    index = times.find(edges)
    bin_size = float(edges[0, 1] - edges[0, 0]) / TICKS_PER_SECOND
    counts = np.diff(index, axis=1)
    summed = signal.role == "spike_counts"
    needed = 1.0 if summed else MIN_COVERED
    covered = counts >= max(1.0, needed * bin_size / times.interval - SLACK)
    if not covered.any():
        raise MissingDataError(
            f"{signal.path}: expected samples inside the trials, but it ranges from "
            f"{signal.extent[0]:g} to {signal.extent[1]:g} s and no bin of "
            "a trial is in this range; choose another align_to or window"
        )
    filtering, settled = _choose_filter(signal, times.interval, bin_size, envelope=envelope)
    breaks = times.find_breaks() if filtering else np.zeros(0, dtype=np.int64)
    sums = np.zeros((*counts.shape, len(signal.columns)))
    spoiled = np.zeros(sums.shape, dtype=bool)
    size = max(1, BLOCK // signal.n_stored)
    blocks = _plan_blocks(index, breaks, settled=settled, size=size)
    for outer, inner in blocks if filtering else _join_close(blocks, gap=NEAR // signal.n_stored, size=size):
        values = read_values(signal, times, outer)
        bad = ~np.isfinite(values)
        if filtering:
            values = _filter_runs(values, bad, filtering) if bad.any() else filtering(values)
        core = slice(inner.start - outer.start, inner.stop - outer.start)
        _add_block(sums, values[core], index, start=inner.start, combine=np.add)
        if bad.any():
            _add_block(spoiled, bad[core], index, start=inner.start, combine=np.logical_or)
    if not summed:
        sums /= np.maximum(counts, 1)[..., np.newaxis]
    return Binned(sums, covered, times.note), spoiled


def _refuse_nan(signal: Signal, spoiled: NDArray[np.bool_], covered: NDArray[np.bool_], *, nan: str) -> None:
    """Refuse NaN in bins, unless they are to be masked and no channel has NaN in all bins."""
    columns = np.array(signal.columns)
    empty = columns[spoiled[covered].all(axis=0)].tolist() if covered.any() else []
    if empty:
        raise ReadError(
            f"{signal.path}: {', '.join(empty)}: NaN in every bin of the trials; leave them out with "
            f"channels (--channels '{','.join('!' + name for name in empty)}')"
        )
    if spoiled.any() and nan == "raise":
        channels = columns[spoiled.any(axis=(0, 1))]
        raise ReadError(
            f"{signal.path}: NaN in {', '.join(channels)} ({show_count(int(spoiled.sum()), 'bin')} in all); "
            "use nan='mask' (--nan mask) to leave out these bins, or choose other outputs"
        )


def read_values(signal: Signal, times: RegularTimes | StampedTimes, samples: slice) -> Array:
    """Return samples of a single-series signal in their unit, shape (n_samples, n_channels)."""
    (series,) = signal.series
    rows = times.get_rows(samples.start, samples.stop)
    # HDF5 is slow at lists of rows, so the rows between are read and dropped
    first, last = (rows.start, rows.stop) if isinstance(rows, slice) else (rows[0], rows[-1] + 1)
    data = np.asarray(series.data[first:last])
    data = data if isinstance(rows, slice) else data[rows - first]
    data = data[:, np.newaxis] if data.ndim == 1 else data
    conversion = float(series.conversion)
    # some converters write NaN to mean "none" (DANDI 000070)
    factor = np.asarray(1.0 if np.isnan(conversion) else conversion)
    gains = get_gains(series)
    if gains is not None:
        factor = factor * (gains if len(gains) > 1 else gains[0])
    if signal.picks is not None:
        data = data[:, list(signal.picks)]
        factor = factor[list(signal.picks)] if factor.ndim else factor
    return np.asarray(data * factor + float(series.offset or 0.0), dtype=np.float64)


def needs_low_pass(signal: Signal, bin_size: float) -> bool:
    """Return whether a signal is low-pass filtered before it is averaged.

    Inputs, which are steps, are not filtered, and neither are rates and counts.
    """
    return bin_size >= 1.99 * signal.interval and signal.role not in ("inputs", "rates", "spike_counts")


def looks_raw(signal: Signal) -> bool:
    """Return whether an EMG is raw, judging by stretches of its beginning, middle and end.

    Raw EMG is sampled fast, deviates equally to both sides of its middle, and crosses it often. A rectified
    signal is skewed, and an envelope is slow.
    """
    if len(signal.series) > 1:
        return any(looks_raw(part) for part in signal.split())
    if signal.interval * RAW_SAMPLING_RATE > 1:
        return False
    n_samples = signal.shape[0]
    times = RegularTimes(n_samples, 0.0, 0.0, 1.0)  # only the order matters
    length = min(n_samples, 4096)
    for start in (0, (n_samples - length) // 2, n_samples - length):
        values = read_values(signal, times, slice(start, start + length))
        if any(_is_bipolar(channel[np.isfinite(channel)], signal.interval) for channel in values.T):
            return True
    return False


def _is_bipolar(values: Array, interval: float) -> bool:
    """Return whether values are distributed alike on both sides of their middle and cross it often."""
    if len(values) < 100:
        return False
    low, middle, high = np.quantile(values, [0.005, 0.5, 0.995])
    below, above = middle - low, high - middle
    crossings = np.diff(values > middle).mean() / interval
    return bool(min(below, above) > SKEWED * max(below, above) and crossings > RAW_CROSSINGS)


def _choose_filter(
    signal: Signal, interval: float, bin_size: float, *, envelope: EnvelopeFilter | None
) -> tuple[Filter | None, int]:
    """Return the filter to apply before averaging, and how many samples it needs on both sides."""
    if envelope is not None:
        compute = partial(compute_envelope, sampling_rate=1 / interval, filters=envelope)
        try:
            compute(np.zeros((round(1 / interval), 1)))
        except ConfigError as error:
            raise ConfigError(f"{signal.path}: {error} (--emg envelope)") from error
        return partial(_extract_envelope, compute, 1 / interval), round(envelope.settled / interval)
    if not needs_low_pass(signal, bin_size):
        return None, 0
    magnitude = signal.role == "emg"
    filtering = partial(suppress_aliases, sampling_rate=1 / interval, bin_size=bin_size, magnitude=magnitude)
    return filtering, round(SETTLED * bin_size / interval)  # type: ignore[return-value]


def _extract_envelope(
    compute: Callable[[Array], NDArray[np.floating]], sampling_rate: float, values: Array
) -> Array:
    """Return the envelope of a stretch without gaps; NaN if the stretch is too short."""
    if len(values) < ENVELOPE_SHORTEST * sampling_rate:
        return np.full_like(values, np.nan)
    return np.asarray(compute(values))


def _filter_runs(values: Array, bad: NDArray[np.bool_], filtering: Filter) -> Array:
    """Filter each stretch between NaN separately."""
    filtered = np.full_like(values, np.nan)
    borders = np.flatnonzero(np.diff(np.concatenate([[True], bad.any(axis=1), [True]])))
    for start, stop in borders.reshape(-1, 2):
        filtered[start:stop] = filtering(values[start:stop])
    return filtered


def _plan_blocks(
    index: NDArray[np.int64], breaks: NDArray[np.int64], *, settled: int, size: int
) -> Iterator[tuple[slice, slice]]:
    """Yield the samples to read and, within them, those to use, so that each is used once.

    ``index`` is the number of samples before each bin edge, shape (n_trials, n_bins + 1). ``breaks`` are the
    first samples after gaps, which no block crosses. A block uses at most ``size`` samples, and has
    ``settled`` more on both sides.

    Examples
    --------
    Trials of the samples 10 to 19 and 30 to 39, a gap before sample 36, and a filter that needs two more:

    >>> index, breaks = np.array([[10, 15, 20], [30, 35, 40]]), np.array([36])
    >>> for outer, inner in _plan_blocks(index, breaks, settled=2, size=6):
    ...     print(f"read {outer.start} to {outer.stop}, use {inner.start} to {inner.stop}")
    read 8 to 18, use 10 to 16
    read 14 to 22, use 16 to 20
    read 28 to 36, use 30 to 36
    read 36 to 42, use 36 to 40
    """
    windows = index[:, [0, -1]][index[:, 0] < index[:, -1]]
    borders = np.concatenate([[0], breaks, [np.iinfo(np.int64).max]])
    # join windows that are so close that the samples between them would be read anyway
    for start, stop in merge_spans(windows, gap=2 * settled).tolist():
        first, last = np.searchsorted(borders, [start, stop - 1], side="right")
        for floor, ceiling in pairwise(borders[first - 1 : last + 1].tolist()):
            high = min(stop, ceiling)
            for core in range(max(start, floor), high, size):
                end = min(core + size, high)
                yield slice(max(core - settled, floor), min(end + settled, ceiling)), slice(core, end)


def _join_close(
    blocks: Iterator[tuple[slice, slice]], *, gap: int, size: int
) -> Iterator[tuple[slice, slice]]:
    """Yield blocks without a filter, joining those at most ``gap`` samples apart up to ``size`` samples.

    Examples
    --------
    >>> blocks = [slice(0, 3), slice(5, 8), slice(30, 33)]
    >>> [inner for _, inner in _join_close(zip(blocks, blocks), gap=2, size=20)]
    [slice(0, 8, None), slice(30, 33, None)]
    """
    joined: slice | None = None
    for block, _ in blocks:
        if joined is None:
            joined = block
        elif block.start <= joined.stop + gap and block.stop <= joined.start + size:
            joined = slice(joined.start, block.stop)
        else:
            yield joined, joined
            joined = block
    if joined is not None:
        yield joined, joined


def _add_block(
    into: NDArray[Any], values: NDArray[Any], index: NDArray[np.int64], *, start: int, combine: np.ufunc
) -> None:
    """Add the samples of a block to the bins that hold them; ``combine`` says how."""
    stop = start + len(values)
    trials = np.flatnonzero((index[:, 0] < stop) & (index[:, -1] > start))
    edges = np.clip(index[trials], start, stop) - start
    filled = np.diff(edges, axis=1) > 0
    for trial, ends, full in zip(trials.tolist(), edges, filled, strict=True):
        found = combine.reduceat(values[: ends[-1]], ends[:-1][full], axis=0)
        into[trial, full] = combine(into[trial, full], found)
