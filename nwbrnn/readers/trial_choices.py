"""The rules that choose trials, their alignment, conditions, window and bins, each with its reason."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pynwb import NWBFile
from pynwb.epoch import TimeIntervals

from nwbrnn.config import ReadConfig
from nwbrnn.errors import ConfigError, MissingDataError
from nwbrnn.readers.binned import BinnedCounts
from nwbrnn.readers.choices import Choice, list_names
from nwbrnn.readers.trials import (
    ALIGN_NAMES,
    CONDITION_NAMES,
    GO_NAMES,
    SUCCESS,
    TARGET_NAMES,
    find_named,
    find_trial_tables,
    get_session_times,
    is_direction,
    label_values,
    match_values,
)

COARSE = 0.005  # signals sampled less often than this set the bin size [s]
DEFAULT_BIN_SIZE = 0.02  # FALCON [s]
DEFAULT_WINDOW = (-0.4, 1.5)  # around a go cue or movement onset [s]
MAX_TRIAL = 5  # whole trials are cut at so many times the median: one may have been forgotten
FINE_PART = 10  # sampling intervals longer than a tenth of a bin must divide it

Times = NDArray[np.float64]


class Trials(NamedTuple):
    """Which trials, aligned to what, of which conditions."""

    table: TimeIntervals
    trials: pd.DataFrame
    align_to: str
    times: NDArray[np.float64]
    stop_times: NDArray[np.float64]
    shown: tuple[str, ...]
    continuous: bool
    session: tuple[float, float]
    degrees: frozenset[str]
    relative: frozenset[str]
    choices: list[Choice]


def choose_table(nwbfile: NWBFile, config: ReadConfig, *, path: str) -> tuple[TimeIntervals, str, Choice]:
    """Choose the table that holds the trials; return it, its path and the choice.

    Raises
    ------
    MissingDataError
        If there is none, or not the one that was mapped.
    """
    tables = find_trial_tables(nwbfile)
    wanted = config.map.get("trials", "").strip("/")
    found = next((p for p in tables if wanted in (p, p.rsplit("/", 1)[-1])), None)
    if wanted and found is None:
        raise MissingDataError(
            f"{path}: map trials: expected {wanted!r}, but there are only {list_names(tables)}"
        )
    if not tables:
        raise MissingDataError(
            f"{path}: intervals/trials: expected a table of trials, but the file has no intervals; "
            "add one (NWBFile.add_trial)"
        )
    name = found or next(iter(tables))
    reason = "mapped" if found else "the table of trials"
    if not found and name != "intervals/trials":
        reason = "there is no table of trials; the likeliest by its name and columns"
    others = tuple(other for other in tables if other != name)
    return tables[name], name, Choice("trial table", f"{name} ({len(tables[name])} rows)", reason, others)


def choose_trials(trials: pd.DataFrame, config: ReadConfig, *, path: str) -> tuple[pd.DataFrame, Choice]:
    """Choose the trials to keep: those that succeeded, if a column tells."""
    where = config.where
    reason = "given"
    if where is None:
        where, reason = {}, "no column tells which trials succeeded"
        for name, succeeded, failed in SUCCESS:
            values = set(label_values(trials[name]).tolist()) if name in trials else set()
            if values & set(succeeded) or (values and values <= set(failed)):
                where[name] = ",".join(sorted(values & set(succeeded)) or succeeded)
                reason = f"what {' and '.join(where)} say of which trials succeeded"
    keep = np.ones(len(trials), dtype=bool)
    for name, value in where.items():
        _check_column(trials, name, "where", path=path)
        keep &= match_values(trials[name], value)
    if not keep.any():
        present = {name: sorted(set(label_values(trials[name]).tolist()))[:10] for name in where}
        raise MissingDataError(
            f"{path}: intervals/trials: expected trials with {where}, but there are none; "
            f"values are {present}"
        )
    text = ", ".join(f"{name} = {value}" for name, value in where.items()) or "all"
    return trials[keep], Choice("trials", f"{text} ({keep.sum()} of {len(keep)})", reason)


def choose_alignment(
    trials: pd.DataFrame, config: ReadConfig, *, counts: object, relative: frozenset[str], path: str
) -> tuple[str, Times, Choice]:
    """Choose the trial column that becomes time 0, and return its name and times [s].

    Parameters
    ----------
    trials
        The trials to keep.
    config
        With ``align_to`` if it was given.
    counts
        If these are :class:`BinnedCounts` around events, time 0 is these events.
    relative
        Columns of times that count from the start of the trial.
    path
        Of the file, for messages.

    Raises
    ------
    ConfigError
        If the column given is not there, or not of times.
    MissingDataError
        If there is no column of times, or all are NaN.
    """
    numeric = [str(name) for name in trials if trials[name].dtype.kind in "iuf"]
    found = find_named([name for name in numeric if np.isfinite(trials[name]).any()], ALIGN_NAMES)
    events = counts.events if isinstance(counts, BinnedCounts) else None
    if config.align_to is not None:
        _check_column(trials, config.align_to, "align_to", path=path)
        name, reason = config.align_to, "given"
        if name not in numeric:
            raise ConfigError(f"{path}: align_to: expected a column of times, but {name} holds text")
    elif events is not None:
        name, reason = (
            _find_events_column(trials[numeric], events, relative, path=path),
            "spikes were counted around it",
        )
    elif found:
        name, reason = found[0], "the first found of the known names of go cues and movement onsets"
    else:
        raise MissingDataError(
            f"{path}: intervals/trials: expected a column of times, but there are "
            f"{list_names(trials.columns)}; name one with align_to (--align-to)"
        )
    times = get_session_times(trials, name, relative)
    if name in relative:
        reason += "; its times count from the start of each trial, so start_time was added"
    n_missing = int((~np.isfinite(times)).sum())
    if n_missing == len(times):
        raise MissingDataError(f"{path}: intervals/trials/{name}: expected times, but all are NaN")
    if n_missing:
        reason += f"; {n_missing} trials without one are left out"
    return name, times, Choice("align_to", name, reason, tuple(n for n in found if n != name))


def choose_condition(
    trials: pd.DataFrame, config: ReadConfig, *, path: str
) -> tuple[tuple[str, ...], bool, Choice]:
    """Choose the trial columns that name the condition; none if no known name is there.

    Returns
    -------
    columns, continuous, choice
        ``continuous``: whether it is a direction that takes any value, so that conditions are sectors.
    """
    if config.condition is not None:
        given = (config.condition,) if isinstance(config.condition, str) else config.condition
        for name in given:
            _check_column(trials, name, "condition", path=path)
        picked, reason = given, "given"
        others: tuple[str, ...] = ()
    else:
        found = [names for names in CONDITION_NAMES if set(names) <= set(trials)]
        numbers = {names: _count_values(trials, names) for names in found}
        # repeated values first; if each trial is its own condition, at least none are mixed up
        several = [names for names in found if numbers[names] > 1]
        ranked = sorted(several, key=lambda names: numbers[names] > max(2, len(trials) // 2))
        directions = [names for names in several if _is_continuous(trials, names, config.sectors)]
        if directions and ranked[0] in directions + [n for n in several if numbers[n] > len(trials) // 2]:
            ranked = directions
        if not ranked:
            reason = f"no column with a known name and several values among {list_names(trials.columns)}"
            return (), False, Choice("condition", "none", reason)
        picked = ranked[0]
        reason = f"the first found of the known names; {numbers[picked]} values in {len(trials)} trials"
        others = tuple(" + ".join(names) for names in found if names != picked)
    continuous = _is_continuous(trials, picked, config.sectors)
    if continuous:
        reason += f"; nearly each trial has its own direction, so conditions are {config.sectors} sectors"
    n_unknown = int(trials[list(picked)].isna().any(axis=1).sum())
    if n_unknown:
        reason += f"; {n_unknown} trials without one are left out"
    return picked, continuous, Choice("condition", ", ".join(picked), reason, others)


def choose_bin_size(intervals: dict[str, float], config: ReadConfig, *, path: str) -> tuple[float, Choice]:
    """Choose the width of time bins from the time between samples of everything that is read.

    Parameters
    ----------
    intervals
        Time between samples by the path of the signal [s].
    config
        With ``bin_size`` if it was given.
    path
        Of the file, for messages.

    Raises
    ------
    ConfigError
        If the bins given are finer than the data, or no whole multiple of coarse data.
    """
    slowest = max(intervals, key=lambda name: intervals[name])
    if config.bin_size is None:
        coarse = [interval for interval in intervals.values() if interval >= COARSE]
        if not coarse:
            return DEFAULT_BIN_SIZE, Choice("bin_size", f"{DEFAULT_BIN_SIZE:g} s", "default")
        multiples = [m * max(coarse) for m in range(1, 21)]
        fitting = [b for b in multiples if all(_divides(interval, b) for interval in coarse)]
        if not fitting:
            raise ConfigError(
                f"{path}: bin_size: no width suits signals sampled every "
                f"{list_names(f'{c:g} s' for c in coarse)}; give one with bin_size (--bin-size)"
            )
        reason = f"the time between samples of {slowest}"
        return round(fitting[0], 9), Choice("bin_size", f"{fitting[0]:g} s", reason)
    for name, interval in intervals.items():
        finer = config.bin_size < interval * (1 - 1e-6)
        if finer or (interval > config.bin_size / FINE_PART and not _divides(interval, config.bin_size)):
            problem = "finer than" if finer else "no whole multiple of the sampling of"
            raise ConfigError(
                f"{path}: bin_size: {config.bin_size:g} s is {problem} {name}, which has a value every "
                f"{interval:g} s; use {interval:g} s or a whole multiple of it"
            )
    return config.bin_size, Choice("bin_size", f"{config.bin_size:g} s", "given")


def choose_window(
    which: Trials, config: ReadConfig, *, counts: object, bin_size: float, path: str
) -> tuple[float, int, bool, Choice]:
    """Choose the window around the alignment.

    Returns
    -------
    start, n_bins, whole_trials, choice
        Its start [s] and number of bins, and whether bins outside of each trial are not to be used.

    Raises
    ------
    ConfigError
        If it is shorter than two bins.
    """
    trials, times, align_to = which.trials, which.times, which.align_to
    relative = [trials["start_time"].to_numpy(np.float64) - times, which.stop_times - times]
    known = np.isfinite(relative).all(axis=0)
    alike = known.all() and all(np.ptp(r) < bin_size / 2 for r in relative)
    whole = config.window == "trial"
    if config.window is not None and config.window != "trial":
        (start, stop), reason = config.window, "given"
    elif isinstance(counts, BinnedCounts) and counts.window is not None:
        (start, stop), reason = counts.window, "spikes were counted in it"
    elif alike:
        start, stop = (float(np.median(r)) for r in relative)
        reason = "all trials are equally long, so whole trials"
    elif known.any() and (whole or align_to == "start_time"):
        whole = True
        start, stop = float(relative[0][known].min()), float(relative[1][known].max())
        reason = "whole trials, as long as the longest; bins outside of the others are masked"
        most = MAX_TRIAL * float(np.median(relative[1][known]))
        if stop > most > 0:
            stop = most
            reason = f"whole trials, cut at {MAX_TRIAL} times the median; bins outside of trials are masked"
    else:
        (start, stop), reason = DEFAULT_WINDOW, "default"
    if config.window is None or whole:
        start = round(start / bin_size) * bin_size
    n_bins = int((stop - start) / bin_size + 1e-6)
    if n_bins < 2:
        raise ConfigError(
            f"{path}: window: expected at least two bins of {bin_size:g} s, but got {start:g} to {stop:g} s; "
            "use a longer window or narrower bins (--window, --bin-size)"
        )
    end = start + n_bins * bin_size
    if abs(end - stop) > 1e-6:
        reason += f"; {stop:g} s shortened to whole bins"
    return start, n_bins, whole, Choice("window", f"{start:g} to {end:g} s", reason)


def choose_task_inputs(trials: pd.DataFrame, shown: Sequence[str]) -> tuple[str | None, str | None, Choice]:
    """Choose the columns that tell when the subject is shown the condition, and the go cue."""
    parts = [
        f"{name} as cosine and sine" if is_direction(name, trials[name]) else f"{name} one-hot"
        for name in shown
    ]
    complete = [str(n) for n in trials if trials[n].dtype.kind in "iuf" and np.isfinite(trials[n]).all()]
    shown_from = next(iter(find_named(complete, TARGET_NAMES)), None)
    go = next(iter(find_named(complete, GO_NAMES)), None)
    if go is not None:
        parts.append(f"{go} as a step")
    reason = f"the condition is shown from {shown_from} on"
    if shown_from is None:
        reason = "no column tells when the condition is shown, so throughout the window"
    return shown_from, go, Choice("task inputs", ", ".join(parts) or "the alignment as a step", reason)


def note_overlap(times: Times, length: float) -> list[Choice]:
    """Return a remark on windows that overlap in session time."""
    n_overlaps = int((np.diff(np.sort(times)) < length - 1e-9).sum())
    if not n_overlaps:
        return []
    reason = "held-out trials then share data with training trials; a shorter window avoids it"
    return [Choice("overlap", f"{n_overlaps} windows overlap the next", reason)]


def note_outside(which: Trials, start: float, stop: float, *, path: str) -> list[Choice]:
    """Return a remark on windows that reach out of their trials.

    Raises
    ------
    ConfigError
        If no window touches its trial.
    """
    begins = which.trials["start_time"].to_numpy(np.float64) - which.times
    ends = which.stop_times - which.times
    known = np.isfinite(begins) & np.isfinite(ends) & (begins < ends)
    if not known.any():
        return []
    begins, ends = begins[known], ends[known]
    if ((start >= ends) | (stop <= begins)).all():
        raise ConfigError(
            f"{path}: window: expected a part of the trials, which last from {np.median(begins):.3g} to "
            f"{np.median(ends):.3g} s around {which.align_to} (median), but got {start:g} to {stop:g} s; "
            "choose another window or event (--window, --align-to)"
        )
    late, early = int((stop > ends + 1e-6).sum()), int((start < begins - 1e-6).sum())
    reason = "what lies there may belong to other trials; a narrower window, or whole trials, avoids it"
    parts = [f"after stop_time in {late}"] * (late > 0) + [f"before start_time in {early}"] * (early > 0)
    text = f"{', '.join(parts)} of {known.sum()} trials"
    return [Choice("window reaches", text, reason)] if parts else []


def _find_events_column(trials: pd.DataFrame, events: Times, relative: frozenset[str], *, path: str) -> str:
    """Return the trial column whose times are the events around which spikes were counted."""
    ordered = np.append(np.sort(events), np.inf)
    for name in sorted(map(str, trials), key=lambda name: name == "start_time"):
        times = get_session_times(trials, name, relative)
        times = times[np.isfinite(times)]
        if times.size:
            following = np.searchsorted(ordered, times - 1e-6)
            if (np.abs(ordered[following] - times) < 1e-6).mean() > 0.5:
                return name
    raise MissingDataError(
        f"{path}: intervals/trials: expected a column with the times around which spikes were counted, "
        f"but there is none among {list_names(trials)}; name one with align_to (--align-to)"
    )


def _count_values(trials: pd.DataFrame, names: Sequence[str]) -> int:
    known = trials[list(names)].dropna()
    return len(set(zip(*(label_values(known[name]).tolist() for name in names), strict=True)))


def _is_continuous(trials: pd.DataFrame, names: Sequence[str], sectors: int) -> bool:
    """Return whether a condition is a direction of which nearly each trial has its own."""
    if len(names) != 1 or not is_direction(names[0], trials[names[0]]):
        return False
    n_values = _count_values(trials, names)
    return n_values > 2 * sectors and n_values > len(trials) / 2


def _check_column(trials: pd.DataFrame, name: str, setting: str, *, path: str) -> None:
    if name not in trials:
        raise ConfigError(
            f"{path}: {setting}: expected a column of the trials, but got {name!r}; "
            f"there are {list_names(trials.columns)}"
        )


def _divides(interval: float, bin_size: float) -> bool:
    ratio = bin_size / interval
    return round(ratio) >= 1 and abs(ratio - round(ratio)) < 1e-3 * ratio
