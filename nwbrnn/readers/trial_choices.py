"""The rules that choose trials, their alignment, conditions, window and bins, each with its reason."""

from collections.abc import Collection, Mapping, Sequence
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
from nwbrnn.readers.times import drop_unwritten, subtract
from nwbrnn.readers.trials import (
    find_trial_tables,
    get_session_times,
    label_column,
    label_values,
    select_rows,
)
from nwbrnn.readers.vocabulary import (
    ALIGN_NAMES,
    CONDITION_NAMES,
    FAILURES,
    GO_NAMES,
    OUTCOME_COLUMNS,
    SUCCESSES,
    TARGET_NAMES,
    find_named,
    simplify,
    squeeze,
)

COARSE = 0.005  # signals sampled less often than this set the bin size [s]
FINEST = 5e-4  # spikes that are known to this time or better are exact for any bins that are used [s]
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
    angles: dict[str, str]
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
    if config.where is not None:
        where, reason = config.where, "given"
        for name in where:
            _check_column(trials, name.removesuffix("!"), "where", path=path)
        keep = select_rows({str(name): trials[name] for name in trials}, where, len(trials))
    else:
        where, keep, unknown = find_successes(trials)
        reason = "no column tells which trials succeeded"
        if where:
            reason = f"what {' and '.join(where)} say of which trials succeeded"
        reason = "; ".join([reason, *unknown.values()])
    if not keep.any():
        present = {
            name: sorted(set(label_values(trials[name.removesuffix("!")]).tolist()))[:10] for name in where
        }
        raise MissingDataError(
            f"{path}: intervals/trials: expected trials with {where}, but there are none; "
            f"values are {present}"
        )
    text = ", ".join(f"{name} = {value}" for name, value in where.items()) or "all"
    return trials[keep], Choice("trials", f"{text} ({keep.sum()} of {len(keep)})", reason)


def find_successes(trials: pd.DataFrame) -> tuple[dict[str, str], NDArray[np.bool_], dict[str, str]]:
    """Return what columns of outcomes hold of success, which trials have it in all, and what is unknown."""
    where: dict[str, str] = {}
    keep = np.ones(len(trials), dtype=bool)
    unknown: dict[str, str] = {}
    for name in find_named(list(map(str, trials)), tuple(OUTCOME_COLUMNS)):
        labels = label_values(trials[name])
        words = {label: squeeze(label) for label in dict.fromkeys(labels.tolist())}
        good, bad = (SUCCESSES, FAILURES) if OUTCOME_COLUMNS[simplify(name)] else (FAILURES, SUCCESSES)
        wanted = [label for label, word in words.items() if word in good]
        if wanted or all(word in bad for word in words.values()):
            where[name] = ",".join(sorted(label.strip() for label in wanted) or ["success"])
            keep &= np.isin(labels, wanted)
        else:
            unknown[name] = f"{name} holds {list_names(words)}, which are no outcomes that are known"
    return where, keep, unknown


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
        name, reason = found[0], "the first found of the known names of go cues, movement onsets and targets"
        empty = [n for n in find_named(numeric, ALIGN_NAMES) if n not in found]
        reason += f"; {list_names(empty)} hold only NaN" if empty else ""
    else:
        raise MissingDataError(
            f"{path}: intervals/trials: expected a column of times, but there are "
            f"{list_names(trials.columns)}; name one with align_to (--align-to)"
        )
    times = drop_unwritten(
        get_session_times(trials, name, relative), trials["start_time"].to_numpy(np.float64)
    )
    if name in relative:
        reason += "; its times count from the start of each trial, so start_time was added"
    n_missing = int((~np.isfinite(times)).sum())
    if n_missing == len(times):
        raise MissingDataError(f"{path}: intervals/trials/{name}: expected times, but all are NaN")
    if n_missing:
        reason += f"; {n_missing} trials without one are left out"
    return name, times, Choice("align_to", name, reason, tuple(n for n in found if n != name))


def choose_condition(
    trials: pd.DataFrame, config: ReadConfig, *, angles: Mapping[str, str], path: str
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
        columns = {squeeze(str(name)): str(name) for name in reversed(list(trials))}
        known = [tuple(columns.get(squeeze(name), "") for name in names) for names in CONDITION_NAMES]
        found = list(dict.fromkeys(names for names in known if all(names)))
        numbers = {names: _count_values(trials, names, angles) for names in found}
        # repeated values first; if each trial is its own condition, at least none are mixed up
        several = [names for names in found if numbers[names] > 1]
        ranked = sorted(several, key=lambda names: numbers[names] > max(2, len(trials) // 2))
        directions = [names for names in several if _is_continuous(trials, names, config.sectors, angles)]
        if directions and ranked[0] in directions + [n for n in several if numbers[n] > len(trials) // 2]:
            ranked = directions
        if not ranked:
            reason = f"no column with a known name and several values among {list_names(trials.columns)}"
            return (), False, Choice("condition", "none", reason)
        picked = ranked[0]
        reason = f"the first found of the known names; {numbers[picked]} values in {len(trials)} trials"
        others = tuple(" + ".join(names) for names in found if names != picked)
    continuous = _is_continuous(trials, picked, config.sectors, angles)
    if continuous:
        reason += f"; nearly each trial has its own direction, so conditions are {config.sectors} sectors"
    n_unknown = int(trials[list(picked)].isna().any(axis=1).sum())
    if n_unknown:
        reason += f"; {n_unknown} trials without one are left out"
    return picked, continuous, Choice("condition", ", ".join(picked), reason, others)


def choose_bin_size(
    intervals: Mapping[str, float], config: ReadConfig, *, varying: Collection[str], path: str
) -> tuple[float, Choice]:
    """Choose the width of time bins from the time between samples of everything that is read.

    Parameters
    ----------
    intervals
        Time between samples by the path of the signal [s].
    config
        With ``bin_size`` if it was given.
    varying
        Those of them whose steps vary, so that bins have to be two steps wide to hold a sample each.
    path
        Of the file, for messages.

    Raises
    ------
    ConfigError
        If the bins given are finer than the data, or no whole multiple of coarse data.
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
                f"{path}: bin_size: no width suits signals sampled every "
                f"{list_names(f'{c:g} s' for c in coarse.values())}; give one with bin_size (--bin-size)"
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
            problem = "finer than" if finer else "no whole multiple of the sampling of"
            raise ConfigError(
                f"{path}: bin_size: {config.bin_size:g} s is {problem} {name}, which has a value every "
                f"{interval:g} s; use {interval:g} s or a whole multiple of it"
            )
    return config.bin_size, Choice("bin_size", f"{config.bin_size:g} s", "given")


def choose_window(
    which: Trials, config: ReadConfig, *, counts: object, bins: Choice, bin_size: float, path: str
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
    relative = [subtract(trials["start_time"].to_numpy(np.float64), times), subtract(which.stop_times, times)]
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
            f"{path}: window: expected at least two bins of {bin_size:g} s ({bins.reason}), but got "
            f"{start:g} to {stop:g} s; use a longer window or narrower bins (--window, --bin-size), or check "
            "that these times are in seconds"
        )
    end = start + n_bins * bin_size
    if abs(end - stop) > 1e-6:
        reason += f"; {stop:g} s shortened to whole bins"
    return start, n_bins, whole, Choice("window", f"{start:g} to {end:g} s", reason)


def find_limits(
    which: Trials, window: tuple[float, float], *, whole: bool, apart: bool
) -> NDArray[np.float64]:
    """Return between which times the bins of each trial count, shape (n_trials, 2) [s]; else infinite.

    Parameters
    ----------
    which
        The trials.
    window
        Its start and stop around each alignment [s].
    whole
        Whether only bins inside of each trial count.
    apart
        Whether a window ends where that of the next trial begins.
    """
    limits = np.tile([-np.inf, np.inf], (len(which.times), 1))
    if whole:
        limits = np.stack([which.trials["start_time"].to_numpy(np.float64), which.stop_times], axis=1)
    if apart:
        begins = np.fmax(which.times + window[0], limits[:, 0])
        ordered = np.append(np.unique(begins), np.inf)
        limits[:, 1] = np.fmin(limits[:, 1], ordered[np.searchsorted(ordered[:-1], begins, side="right")])
    return limits


def choose_task_inputs(
    trials: pd.DataFrame, shown: Sequence[str], angles: Mapping[str, str]
) -> tuple[str | None, str | None, Choice]:
    """Choose the columns that tell when the subject is shown the condition, and the go cue."""
    parts = [f"{name} as cosine and sine" if name in angles else f"{name} one-hot" for name in shown]
    complete = [str(n) for n in trials if trials[n].dtype.kind in "iuf" and np.isfinite(trials[n]).all()]
    shown_from = next(iter(find_named(complete, TARGET_NAMES)), None)
    go = next(iter(find_named(complete, GO_NAMES)), None)
    if go is not None:
        parts.append(f"{go} as a step")
    reason = f"the condition is shown from {shown_from} on"
    if shown_from is None:
        reason = "no column tells when the condition is shown, so throughout the window"
    return shown_from, go, Choice("task inputs", ", ".join(parts) or "the alignment as a step", reason)


def note_varying(intervals: Mapping[str, float], bin_size: float) -> list[Choice]:
    """Return a remark on series whose steps vary, for bins that are too narrow to hold a sample each."""
    narrow = [
        f"{name}: {interval:g} s on average"
        for name, interval in intervals.items()
        if bin_size < 1.99 * interval
    ]
    reason = "steps between samples vary; bins of this width without a sample are masked, wider ones are not"
    return [Choice("irregular clock", list_names(narrow), reason)] if narrow else []


def note_overlap(times: Times, window: tuple[float, float], limits: NDArray[np.float64]) -> list[Choice]:
    """Return a remark on windows that share bins with the next, or end where the next begins."""
    order = np.argsort(times, kind="stable")
    begins = np.fmax(times + window[0], limits[:, 0])[order]
    ends = np.fmin(times + window[1], limits[:, 1])[order]
    n_overlaps = int((subtract(begins[1:], ends[:-1]) < -1e-6).sum())
    n_cut = int((subtract(begins[1:], (times + window[1])[order][:-1]) < -1e-6).sum())
    if n_overlaps:
        reason = "held-out trials then share data with training trials; a shorter window avoids it"
        return [Choice("overlap", f"{n_overlaps} windows overlap the next", reason)]
    if n_cut:
        reason = "no bin is in two trials; those that are also in the next are masked"
        return [Choice("overlap", f"none; {n_cut} windows end where the next begins", reason)]
    return []


def note_outside(which: Trials, start: float, stop: float, *, path: str) -> list[Choice]:
    """Return a remark on windows that reach out of their trials.

    Raises
    ------
    ConfigError
        If no window touches its trial.
    """
    begins = subtract(which.trials["start_time"].to_numpy(np.float64), which.times)
    ends = subtract(which.stop_times, which.times)
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


def _count_values(trials: pd.DataFrame, names: Sequence[str], angles: Mapping[str, str]) -> int:
    known = trials[list(names)].dropna()
    labels = (label_column(known[name], angles.get(name)).tolist() for name in names)
    return len(set(zip(*labels, strict=True)))


def _is_continuous(
    trials: pd.DataFrame, names: Sequence[str], sectors: int, angles: Mapping[str, str]
) -> bool:
    """Return whether a condition is a direction of which nearly each trial has its own."""
    if len(names) != 1 or names[0] not in angles:
        return False
    n_values = _count_values(trials, names, angles)
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
