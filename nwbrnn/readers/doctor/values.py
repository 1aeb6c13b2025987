"""Checks of the values of one series that a fit could reproduce: EMG, force, kinematics."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nwbrnn.preprocessing import find_factor
from nwbrnn.readers.discovery import get_gains
from nwbrnn.readers.doctor.finding import BLOCK, Finding, bias, note
from nwbrnn.readers.doctor.series import SeriesView
from nwbrnn.readers.series import RAW_SAMPLING_RATE, looks_raw
from nwbrnn.readers.vocabulary import OUTPUT_ROLES
from nwbrnn.text import list_some, show_count

Array = NDArray[np.float64]

_MIN_CLIPPED_SHARE = 1e-3
_MIN_CLIPPED = 20
_EDGE = 0.01
_SOME = 100_000  # samples that tell what is usual
_ARTEFACT = 50.0
_BELOW = 0.05  # filters make envelopes a little negative, but not by this part of what is usual


@dataclass(frozen=True)
class ValueView:
    """The values of a series, by channel, as they are stored, before conversion."""

    series: SeriesView
    n: int
    missing: NDArray[np.int64]  # how many are not finite, by channel
    first_missing: int  # number of the first sample that is not finite in any channel; -1 if there is none
    # extremes of what is finite, by channel; infinite and reversed without any
    low: Array
    high: Array
    # how many samples are exactly there, by channel
    at_low: NDArray[np.int64]
    at_high: NDArray[np.int64]
    # median of some samples, and the 95th percentile of how far from it they are, by channel
    middle: Array
    usual: Array
    bottom: Array  # fifth percentile of some samples, by channel

    @property
    def path(self) -> str:
        """Where the series is."""
        return self.series.path

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the channels."""
        signal = self.series.signal
        if signal is None:
            return tuple(f"column {i}" for i in range(len(self.low)))
        if len(signal.series) == 1:
            return signal.columns
        return tuple(n for n, s in zip(signal.columns, signal.series, strict=True) if s is self.series.series)

    @staticmethod
    def count(which: NDArray[np.bool_]) -> str:
        """Return how many channels of how many they are."""
        return f"{int(which.sum())} of {show_count(len(which), 'EMG channel')}"

    def pick(self, which: NDArray[np.bool_]) -> list[str]:
        """Return the names of some channels."""
        return [name for name, chosen in zip(self.names, which, strict=True) if chosen]


def has_outputs(view: SeriesView) -> bool:
    """Return whether the values of a series should be read."""
    meant = view.role in OUTPUT_ROLES or (view.is_picked and view.role == "other")
    return meant and view.is_wanted and view.signal is not None and not view.fault


def view_values(view: SeriesView) -> ValueView:
    """Read the values of a series block by block."""
    n_channels = len(_find_columns(view))
    low, high = np.full(n_channels, np.inf), np.full(n_channels, -np.inf)
    at_low, at_high, missing = (np.zeros(n_channels, dtype=np.int64) for _ in range(3))
    first_missing = -1
    n = int(view.series.data.shape[0])
    some, step = [], max(1, n // _SOME)
    for start, block in _iterate_blocks(view):
        bad = ~np.isfinite(block)
        if bad.any() and first_missing < 0:
            first_missing = start + int(np.argmax(bad.any(axis=1)))
        missing += bad.sum(axis=0)
        lower = np.where(bad, np.inf, block).min(axis=0)
        higher = np.where(bad, -np.inf, block).max(axis=0)
        at_low = np.where(lower < low, 0, at_low)
        at_high = np.where(higher > high, 0, at_high)
        low, high = np.minimum(low, lower), np.maximum(high, higher)
        at_low = at_low + (block == low).sum(axis=0)
        at_high = at_high + (block == high).sum(axis=0)
        some.append(np.where(bad, np.nan, block)[-start % step :: step])
    known = np.concatenate(some)
    seen = np.isfinite(known).any(axis=0)
    middle, usual, bottom = (np.full(n_channels, np.nan) for _ in range(3))
    middle[seen] = np.nanmedian(known[:, seen], axis=0)
    usual[seen] = np.nanquantile(np.abs(known - middle)[:, seen], 0.95, axis=0)
    bottom[seen] = np.nanquantile(known[:, seen], 0.05, axis=0)
    return ValueView(view, n, missing, first_missing, low, high, at_low, at_high, middle, usual, bottom)


def check_values_missing(view: ValueView) -> Iterator[Finding]:
    """Find NaN; such bins are refused or masked, as the user wishes."""
    some = (view.missing > 0) & (view.missing < view.n)
    if some.any():
        worst = int(np.argmax(np.where(some, view.missing, 0)))
        yield note(
            view.path,
            f"there is NaN or infinity in {int(some.sum())} of {show_count(len(some), 'channel')}, most in "
            f"{view.names[worst]} ({view.missing[worst]} of {view.n} samples); the first is sample "
            f"{view.first_missing}",
            "read with nan='mask' (--nan mask), which leaves out these bins, or choose other channels",
        )


def check_channels_dead(view: ValueView) -> Iterator[Finding]:
    """Find muscles that never change: they were not recorded."""
    empty = view.missing == view.n
    constant = (view.low == view.high) & (view.n > 1)
    for dead, what in ((empty, "NaN"), (constant, "the same")):
        if view.series.role == "emg" and dead.any():
            yield bias(
                view.path,
                f"all {view.n} samples are {what} in {view.count(dead)}: "
                f"{list_some(view.pick(dead), limit=16)}",
                "leave out these muscles with channels=... (--channels)",
            )


def check_channels_saturated(view: ValueView) -> Iterator[Finding]:
    """Find channels that rest at their limits: an amplifier then gives the very same value again and again.

    Of noise without limits, next to no samples equal the extreme exactly. Clipped data have at least one in a
    thousand there, and more than in the next hundredth of the range, because all that would lie beyond is
    there. Zero at the bottom is no limit: rectified and clipped envelopes rest there.
    """
    if view.series.role != "emg":
        return
    enough = max(_MIN_CLIPPED, _MIN_CLIPPED_SHARE * view.n)
    suspect_low = (view.at_low >= enough) & (view.low < 0) & (view.high > view.low)
    suspect_high = (view.at_high >= enough) & (view.high > view.low)
    if not (suspect_low.any() or suspect_high.any()):
        return
    near_low, near_high = _count_near(view)
    clipped = (suspect_low & (view.at_low > near_low)) | (suspect_high & (view.at_high > near_high))
    shares = np.maximum(view.at_low * suspect_low, view.at_high * suspect_high) / view.n
    if clipped.any():
        listed = [f"{n} ({s:.2%})" for n, s in zip(view.pick(clipped), shares[clipped], strict=True)]
        yield bias(
            view.path,
            f"the values are clipped in {view.count(clipped)}; in brackets, the share of the {view.n} "
            f"samples that are exactly at the minimum or maximum: {list_some(listed, limit=16)}",
            "leave out these muscles with channels=... (--channels), or the trials with such samples",
        )


def check_emg_volts(view: ValueView) -> Iterator[Finding]:
    """Find EMG above one volt; it is some millivolts at most, and even amplified seldom more."""
    series = view.series.series
    volts = find_factor(str(series.unit).lower(), "V")  # some write UV and MV
    if view.series.role != "emg" or volts is None:
        return
    scale, offset = _get_scaling(view)
    extremes = np.stack([view.low, view.high]) * scale + offset
    largest = np.where(np.isfinite(extremes), np.abs(extremes), 0.0).max(axis=0) * volts
    if (largest > 1).any():
        worst = int(np.argmax(largest))
        yield note(
            view.path,
            f"the unit is {series.unit}, but values exceed 1 V in {view.count(largest > 1)}, most in "
            f"{view.names[worst]} with {largest[worst]:.4g} V",
            "correct conversion or unit (a.u. if it is not known); a fit does not depend on it, because "
            "nwbrnn scales the outputs",
        )


def check_envelope_negative(view: ValueView) -> Iterator[Finding]:
    """Find EMG that is read as an envelope, but is often negative: raw EMG whose baseline drifts."""
    signal = view.series.signal
    if view.series.role != "emg" or view.series.emg != "auto" or signal is None:
        return
    if signal.interval * RAW_SAMPLING_RATE > 1:
        return
    scale, offset = _get_scaling(view)
    with np.errstate(invalid="ignore"):
        negative = view.bottom * scale + offset < -_BELOW * view.usual * np.abs(scale)
    if negative.any() and not looks_raw(signal):
        yield note(
            view.path,
            f"nwbrnn reads it as an envelope, but a twentieth of the samples or more are negative in "
            f"{view.count(negative)}: {list_some(view.pick(negative), limit=16)}",
            "if this is raw EMG with a drifting baseline, say so with emg='raw' (--emg raw)",
        )


def check_artefacts(view: ValueView) -> Iterator[Finding]:
    """Find muscles with samples far beyond all that they do otherwise: artefacts, not activity."""
    if view.series.role != "emg":
        return
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.maximum(view.high - view.middle, view.middle - view.low) / view.usual
    far = np.isfinite(ratio) & (ratio > _ARTEFACT)
    if far.any():
        listed = [f"{n} ({r:.3g} times)" for n, r in zip(view.pick(far), ratio[far], strict=True)]
        yield note(
            view.path,
            f"samples are more than {_ARTEFACT:g} times as far from the median as 95 % of all samples in "
            f"{view.count(far)}: {list_some(listed, limit=16)}",
            "look at these muscles; leave them out with channels=... (--channels '!NAME'), or leave "
            "out the trials",
        )


def _get_scaling(view: ValueView) -> tuple[Array, float]:
    """Return the conversion of each channel, and the offset of a series."""
    series = view.series.series
    conversion = float(series.conversion)
    gains, columns = get_gains(series), _find_columns(view.series)
    scale = np.full(len(columns), 1.0 if np.isnan(conversion) else conversion)
    if gains is not None:
        scale *= gains[columns] if len(gains) > 1 else gains
    return scale, float(series.offset or 0.0)


def _find_columns(view: SeriesView) -> list[int]:
    """Return the columns of a series that belong to the signal."""
    if view.signal is not None and view.signal.picks is not None:
        return list(view.signal.picks)
    shape = view.series.data.shape
    return list(range(shape[1] if len(shape) > 1 else 1))


def _iterate_blocks(view: SeriesView) -> Iterator[tuple[int, Array]]:
    """Yield the number of the first sample and the values of each block, shape (n, n_channels)."""
    data, columns = view.series.data, _find_columns(view)
    rows = max(1, BLOCK // (data.shape[1] if len(data.shape) > 1 else 1))
    for start in range(0, data.shape[0], rows):
        block = np.asarray(data[start : start + rows])
        block = block[:, np.newaxis] if block.ndim == 1 else block
        yield start, np.asarray(block[:, columns], dtype=np.float64)


def _count_near(view: ValueView) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return how many samples are within a hundredth of the range from the extremes, but not there."""
    edge = _EDGE * (view.high - view.low)
    near_low, near_high = np.zeros_like(view.at_low), np.zeros_like(view.at_high)
    for _, block in _iterate_blocks(view.series):
        near_low += ((block > view.low) & (block <= view.low + edge)).sum(axis=0)
        near_high += ((block < view.high) & (block >= view.high - edge)).sum(axis=0)
    return near_low, near_high
