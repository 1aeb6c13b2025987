"""Time series as values on time bins."""

import numpy as np
from numpy.typing import NDArray
from pynwb import TimeSeries

from nwbrnn.errors import ConfigError, MissingDataError, ReadError
from nwbrnn.preprocessing import compute_envelope
from nwbrnn.readers.discovery import Signal

Ticks = NDArray[np.int64]
Array = NDArray[np.float64]

TICKS_PER_SECOND = 1_000_000_000
"""Times are compared as whole nanoseconds, so that 3 * 0.05 and 0.15 are the same edge."""

_STAMP_SHIFT = {"start": 0.5, "centre": 0.0, "end": -0.5}


def to_ticks(seconds: NDArray[np.floating] | float) -> Ticks:
    """Return times in whole nanoseconds, any shape."""
    return np.asarray(np.rint(np.asarray(seconds, dtype=np.float64) * TICKS_PER_SECOND), dtype=np.int64)


def read_values(signal: Signal) -> Array:
    """Return all samples in their unit: data * conversion + offset, shape (n_samples, n_channels)."""
    columns = []
    for series in signal.series:
        data = np.asarray(series.data[:], dtype=np.float64)
        data = data[:, np.newaxis] if data.ndim == 1 else data
        conversion = float(series.conversion)
        # some converters write NaN where they mean "none" (DANDI 000070)
        data = data * (1.0 if np.isnan(conversion) else conversion) + float(series.offset or 0.0)
        columns.append(data)
    lengths = {len(column) for column in columns}
    if len(lengths) > 1:
        raise ReadError(f"{signal.path}: expected series of one length, but got {sorted(lengths)} samples")
    return np.concatenate(columns, axis=1)


def read_centres(signal: Signal, *, path: str) -> Ticks:
    """Return the middle of each sample in ticks of session time, shape (n_samples,).

    Raises
    ------
    ReadError
        If timestamps do not increase, are not finite, or their number differs from that of the samples.
    """
    series: TimeSeries = signal.series[0]
    n_samples = signal.shape[0]
    if series.timestamps is None:
        stamps = float(series.starting_time or 0.0) + np.arange(n_samples) / float(series.rate)
    else:
        stamps = np.asarray(series.timestamps[:], dtype=np.float64)
        name = f"{path}: {signal.path}"
        if len(stamps) != n_samples:
            raise ReadError(
                f"{name}: expected a timestamp for each of {n_samples} samples, but got {len(stamps)}"
            )
        steps = np.diff(stamps)
        if not (np.isfinite(stamps).all() and (steps > 0).all()):
            bad = int(np.argmin(np.where(np.isfinite(steps), steps, -np.inf)))
            raise ReadError(
                f"{name}: expected increasing timestamps, but number {bad + 1} is {stamps[bad + 1]:g} s "
                f"after {stamps[bad]:g} s; repair the file or choose another signal"
            )
    return to_ticks(stamps + _STAMP_SHIFT[signal.stamps] * signal.interval)


def bin_values(values: Array, centres: Ticks, edges: Ticks) -> tuple[Array, NDArray[np.bool_]]:
    """Average the samples whose centre falls into each bin.

    Parameters
    ----------
    values
        Shape (n_samples, n_channels).
    centres
        Increasing, shape (n_samples,) [ticks].
    edges
        Bin edges of each trial, shape (n_trials, n_bins + 1) [ticks]; a bin holds [edge, next edge).

    Returns
    -------
    binned, covered
        Averages of shape (n_trials, n_bins, n_channels), NaN for bins without samples, and whether a bin
        has any, shape (n_trials, n_bins).
    """
    index = np.searchsorted(centres, edges)
    first, counts = index[:, :-1], np.diff(index, axis=1)
    if counts.max(initial=0) <= 1:
        binned = values[np.minimum(first, len(values) - 1)]
    else:
        mean = np.nanmean(values, axis=0)  # keeps the running sum small
        running = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values - mean, axis=0)])
        sums = running[index[:, 1:]] - running[first]
        binned = sums / np.maximum(counts, 1)[..., np.newaxis] + mean
    covered = counts > 0
    return np.where(covered[..., np.newaxis], binned, np.nan), covered


def read_binned(
    signal: Signal, edges: Ticks, *, path: str, nan: str = "raise", envelope: bool = False
) -> tuple[Array, NDArray[np.bool_]]:
    """Read a signal and average it on the bins of each trial.

    Parameters
    ----------
    signal
        What to read.
    edges
        Bin edges of each trial, shape (n_trials, n_bins + 1) [ticks].
    path
        Of the file, for messages.
    nan
        ``"raise"`` refuses NaN inside the bins, ``"mask"`` counts such bins as not recorded.
    envelope
        Whether to extract the envelope of raw EMG first.

    Returns
    -------
    binned, covered
        As from :func:`bin_values`.

    Raises
    ------
    MissingDataError
        If no bin holds a sample.
    ReadError
        If the data or timestamps are damaged, or NaN inside the bins and not allowed.
    """
    values, centres = read_values(signal), read_centres(signal, path=path)
    if envelope:
        if not np.isfinite(values).all():
            raise ReadError(f"{path}: {signal.path}: raw EMG with NaN has no envelope; repair the file")
        try:
            values = np.asarray(compute_envelope(values, sampling_rate=1 / signal.interval))
        except ConfigError as error:
            raise ConfigError(f"{path}: {signal.path}: {error} (--emg envelope)") from error
    bad = ~np.isfinite(values)
    binned, covered = bin_values(np.where(bad, 0.0, values), centres, edges)
    if not covered.any():
        raise MissingDataError(
            f"{path}: {signal.path}: expected samples inside the trials, but it ranges from "
            f"{centres[0] / TICKS_PER_SECOND:g} to {centres[-1] / TICKS_PER_SECOND:g} s and no bin of "
            "a trial lies there; choose another align_to or window"
        )
    if bad.any():
        index = np.searchsorted(centres, edges)
        running = np.concatenate([np.zeros((1, bad.shape[1]), dtype=int), np.cumsum(bad, axis=0)])
        spoiled = running[index[:, 1:]] > running[index[:, :-1]]
        if spoiled.any() and nan == "raise":
            channels = np.array(signal.columns)[spoiled.any(axis=(0, 1))]
            raise ReadError(
                f"{path}: {signal.path}: {int(spoiled.sum())} bins of {', '.join(channels)} hold NaN; "
                "use nan='mask' (--nan mask) to leave out these bins, or choose other outputs"
            )
        covered &= ~spoiled.any(axis=2)
        binned = np.where(covered[..., np.newaxis], binned, np.nan)
    return binned, covered
