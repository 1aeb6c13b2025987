"""The rules that choose the bins and the window around time 0, and give a reason for each choice."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nwbrnn.config import ReadConfig
from nwbrnn.dataset import Choice
from nwbrnn.errors import ConfigError
from nwbrnn.readers.binned import BinnedCounts
from nwbrnn.readers.rules.trials import Trials
from nwbrnn.readers.times import subtract
from nwbrnn.text import list_some, show_count

COARSE = 0.005  # signals sampled less often than this set the bin size [s]
FINEST = 5e-4  # spike times with this resolution or better are exact enough for all bins in use [s]
DEFAULT_BIN_SIZE = 0.02  # FALCON [s]
DEFAULT_WINDOW = (-0.4, 1.5)  # around a go cue or movement onset [s]
MAX_TRIAL = 5  # whole trials are cut at this many times the median, since the end of one may have been missed
FINE_PART = 10  # sampling intervals longer than a tenth of a bin must divide it

Times = NDArray[np.float64]


def choose_bin_size(
    intervals: Mapping[str, float], config: ReadConfig, *, varying: Collection[str]
) -> tuple[float, Choice]:
    """Choose the bin width from the time between samples [s] of everything that is read, by path.

    The steps of ``varying`` signals vary, so bins must be two of them wide for each to hold a sample.
    """
    slowest = max(intervals, key=lambda name: intervals[name])
    if config.bin_size is None:
        coarse = {name: interval for name, interval in intervals.items() if interval >= COARSE}
        if not coarse:
            return DEFAULT_BIN_SIZE, Choice("bin_size", f"{DEFAULT_BIN_SIZE:g} s", "default")
        multiples = [m * max(coarse.values()) for m in range(1, 21)]
        least = {name: interval * (1.99 if name in varying else 0.99) for name, interval in coarse.items()}
        fitting = [b for b in multiples if all(_divides(coarse[n], b) and b > least[n] for n in coarse)]
        if not fitting:
            raise ConfigError(
                f"bin_size: no width suits signals sampled every "
                f"{list_some(f'{c:g} s' for c in coarse.values())}; give one with bin_size (--bin-size)"
            )
        reason = f"the time between samples of {slowest}"
        if fitting[0] > 1.5 * max(coarse.values()):
            reason = (
                f"a multiple of {reason}"
                + "; steps vary, so that narrower bins would lack samples" * bool(varying)
            )
        return round(fitting[0], 9), Choice("bin_size", f"{fitting[0]:g} s", reason)
    for name, interval in intervals.items():
        finer = config.bin_size < interval * (1 - 1e-6)
        if finer or (interval > config.bin_size / FINE_PART and not _divides(interval, config.bin_size)):
            problem = "finer than" if finer else "not a whole multiple of the sampling of"
            raise ConfigError(
                f"bin_size: {config.bin_size:g} s is {problem} {name}, which has a value every "
                f"{interval:g} s; use {interval:g} s or a whole multiple of it"
            )
    return config.bin_size, Choice("bin_size", f"{config.bin_size:g} s", "given")


@dataclass(frozen=True)
class Window:
    """Bins around each alignment."""

    start: float  # start of the first bin, relative to the alignment [s]
    # number of bins, and their width [s]
    n_bins: int
    bin_size: float
    whole: bool = False  # whether to mask bins outside each trial
    resolution: float = 0.0  # resolution of the spike times [s]; 0 if they are exact

    @property
    def stop(self) -> float:
        """End of the last bin, relative to the alignment [s]."""
        return self.start + self.n_bins * self.bin_size


def choose_window(
    which: Trials, config: ReadConfig, *, counts: object, bins: Choice, bin_size: float
) -> tuple[Window, Choice]:
    """Choose the window around the alignment, in whole bins.

    Examples
    --------
    Three trials of one second each, aligned half a second after they begin:

    >>> from types import SimpleNamespace
    >>> import pandas as pd
    >>> starts = np.array([0.0, 10.0, 20.0])
    >>> table = pd.DataFrame({"start_time": starts})
    >>> which = SimpleNamespace(frame=table, times=starts + 0.5, stop_times=starts + 1, align_to="go")
    >>> given = {"bins": Choice("bin_size", "0.02 s", "default"), "bin_size": 0.02}
    >>> window, choice = choose_window(which, ReadConfig(), counts=None, **given)
    >>> window.start, window.n_bins, choice.picked, choice.reason
    (-0.5, 50, '-0.5 to 0.5 s', 'all trials are equally long, so whole trials are read')
    """
    (start, stop), reason, whole = _propose_window(which, config, counts=counts, bin_size=bin_size)
    if config.window is None or whole:
        start = round(start / bin_size) * bin_size
    window = Window(start, int((stop - start) / bin_size + 1e-6), bin_size, whole)
    if window.n_bins < 2:
        raise ConfigError(
            f"window: expected at least two bins of {bin_size:g} s ({bins.reason}), but got "
            f"{start:g} to {stop:g} s; use a longer window or narrower bins (--window, --bin-size), or check "
            "that these times are in seconds"
        )
    if abs(window.stop - stop) > 1e-6:
        reason += f"; {stop:g} s shortened to whole bins"
    return window, Choice("window", f"{start:g} to {window.stop:g} s", reason)


def _propose_window(
    which: Trials, config: ReadConfig, *, counts: object, bin_size: float
) -> tuple[tuple[float, float], str, bool]:
    """Return start and stop around the alignment [s], the reason, and whether to mask bins outside trials."""
    trial = config.window == "trial"
    if config.window is not None and config.window != "trial":
        return config.window, "given", False
    if isinstance(counts, BinnedCounts) and counts.window is not None:
        return counts.window, "spikes were counted in it", trial
    begins = subtract(which.frame["start_time"].to_numpy(np.float64), which.times)
    ends = subtract(which.stop_times, which.times)
    known = np.isfinite(begins) & np.isfinite(ends)
    if known.all() and max(np.ptp(begins), np.ptp(ends)) < bin_size / 2:
        both = float(np.median(begins)), float(np.median(ends))
        return both, "all trials are equally long, so whole trials are read", trial
    if not known.any() or not (trial or which.align_to == "start_time"):
        unequal = "equally long" if known.all() else "known to be equally long"
        return DEFAULT_WINDOW, f"default, because trials are not {unequal} around time 0", trial
    start, stop = float(begins[known].min()), float(ends[known].max())
    most = MAX_TRIAL * float(np.median(ends[known]))
    if stop > most > 0:
        reason = f"whole trials, cut at {MAX_TRIAL} times the median; bins outside of trials are masked"
        return (start, most), reason, True
    return (start, stop), "whole trials, as long as the longest; bins outside of the others are masked", True


def find_limits(which: Trials, window: Window, *, apart: bool) -> NDArray[np.float64]:
    """Return the times between which the bins of each trial count, shape (n_trials, 2) [s]; may be infinite.

    If windows are ``apart``, each ends where that of the next trial begins.
    """
    limits = np.tile([-np.inf, np.inf], (len(which.times), 1))
    if window.whole:
        limits = np.stack([which.frame["start_time"].to_numpy(np.float64), which.stop_times], axis=1)
    if apart:
        begins = np.fmax(which.times + window.start, limits[:, 0])
        ordered = np.append(np.unique(begins), np.inf)
        limits[:, 1] = np.fmin(limits[:, 1], ordered[np.searchsorted(ordered[:-1], begins, side="right")])
    return limits


def note_varying(intervals: Mapping[str, float], bin_size: float) -> list[Choice]:
    """Return a remark on series with varying steps if the bins are too narrow to hold a sample each."""
    narrow = [
        f"{name}: {interval:g} s on average"
        for name, interval in intervals.items()
        if bin_size < 1.99 * interval
    ]
    reason = (
        "the steps between samples vary; bins that hold no sample are masked, and wider bins would hold one"
    )
    return [Choice("irregular clock", list_some(narrow), reason)] if narrow else []


def note_overlap(times: Times, window: Window, limits: NDArray[np.float64]) -> list[Choice]:
    """Return a remark on windows that overlap the next one, or that end where it begins."""
    order = np.argsort(times, kind="stable")
    begins = np.fmax(times + window.start, limits[:, 0])[order]
    ends = np.fmin(times + window.stop, limits[:, 1])[order]
    n_overlaps = int((subtract(begins[1:], ends[:-1]) < -1e-6).sum())
    n_cut = int((subtract(begins[1:], (times + window.stop)[order][:-1]) < -1e-6).sum())
    if n_overlaps:
        reason = "held-out trials then share data with training trials; a shorter window avoids it"
        verb = "overlaps" if n_overlaps == 1 else "overlap"
        return [Choice("overlap", f"{show_count(n_overlaps, 'window')} {verb} the next", reason)]
    if n_cut:
        reason = "so that no bin belongs to two trials; each window is masked from there on"
        verb = "ends" if n_cut == 1 else "end"
        return [
            Choice("overlap", f"none; {show_count(n_cut, 'window')} {verb} where the next begins", reason)
        ]
    return []


def note_outside(which: Trials, window: Window) -> list[Choice]:
    """Return a remark on windows that extend beyond their trials."""
    start, stop = window.start, window.stop
    begins = subtract(which.frame["start_time"].to_numpy(np.float64), which.times)
    ends = subtract(which.stop_times, which.times)
    known = np.isfinite(begins) & np.isfinite(ends) & (begins < ends)
    if not known.any():
        return []
    begins, ends = begins[known], ends[known]
    if ((start >= ends) | (stop <= begins)).all():
        raise ConfigError(
            f"window: expected a part of the trials, which last from {np.median(begins):.3g} to "
            f"{np.median(ends):.3g} s around {which.align_to} (median), but got {start:g} to {stop:g} s; "
            "choose another window or event (--window, --align-to)"
        )
    late, early = int((stop > ends + 1e-6).sum()), int((start < begins - 1e-6).sum())
    reason = "bins there may belong to other trials; a narrower window or whole trials would avoid this"
    parts = [f"after stop_time in {late}"] * (late > 0) + [f"before start_time in {early}"] * (early > 0)
    text = f"{', '.join(parts)} of {known.sum()} trials"
    return [Choice("window reaches", text, reason)] if parts else []


def _divides(interval: float, bin_size: float) -> bool:
    ratio = bin_size / interval
    return round(ratio) >= 1 and abs(ratio - round(ratio)) < 1e-3 * ratio
