"""The rules that choose trials, their alignment and conditions, and give a reason for each choice."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pynwb.epoch import TimeIntervals

from nwbrnn.config import ReadConfig
from nwbrnn.dataset import Choice
from nwbrnn.errors import ConfigError, MissingDataError
from nwbrnn.readers.binned import BinnedCounts
from nwbrnn.readers.times import drop_codes, drop_unwritten
from nwbrnn.readers.trials import (
    TRIALS,
    get_session_times,
    label_column,
    label_values,
    list_values,
    select_rows,
)
from nwbrnn.readers.vocabulary import (
    ALIGN_NAMES,
    CONDITION_NAMES,
    FAILURES,
    GO_NAMES,
    OUTCOME_COLUMNS,
    PLACES,
    SUCCESSES,
    TARGET_NAMES,
    find_named,
    simplify,
    squeeze,
    squeeze_condition,
    squeeze_value,
)
from nwbrnn.text import list_some, show_count

Times = NDArray[np.float64]


class Trials(NamedTuple):
    """The trials to read, with their alignment and conditions."""

    table: TimeIntervals  # as the file holds it
    frame: pd.DataFrame  # the kept trials, with their plain columns
    # the column that becomes time 0, and its times, shape (n_trials,) [s]
    align_to: str
    times: Times
    stop_times: Times  # time at which each trial stops, or else the next one starts, shape (n_trials,) [s]
    # columns of the condition, and whether it is a direction that differs in nearly every trial
    shown: tuple[str, ...]
    continuous: bool
    session: tuple[float, float]  # first start and last stop of all trials in the file [s]
    # columns of directions with their unit, and columns of times that count from the start of the trial
    angles: dict[str, str]
    relative: frozenset[str]


def choose_table(tables: Mapping[str, TimeIntervals], config: ReadConfig) -> tuple[str, Choice]:
    """Choose the trial table from the possible ones, which are sorted with the likeliest first."""
    wanted = config.map.get("trials", "").strip("/")
    found = next((p for p in tables if wanted in (p, p.rsplit("/", 1)[-1])), None)
    if wanted and found is None:
        raise MissingDataError(f"map trials: expected {wanted!r}, but there are only {list_some(tables)}")
    if not tables:
        raise MissingDataError(
            "intervals/trials: expected a table of trials, but the file has no intervals; "
            "add one (NWBFile.add_trial)"
        )
    name = found or next(iter(tables))
    reason = "mapped" if found else "the table of trials"
    if not found and name != TRIALS:
        lacking = (
            "the table of trials has a single row" if TRIALS in tables else "there is no table of trials"
        )
        reason = f"{lacking}; the likeliest by its name and columns"
    others = tuple(other for other in tables if other != name)
    return name, Choice("trial table", f"{name} ({show_count(len(tables[name]), 'row')})", reason, others)


def choose_trials(trials: pd.DataFrame, config: ReadConfig) -> tuple[pd.DataFrame, Choice]:
    """Choose the trials to keep: the successful ones, if a column marks them."""
    columns = {str(name): trials[name] for name in trials}
    if config.where is not None:
        where, reason = config.where, "given"
        for name in where:
            _check_column(trials, name.removesuffix("!"), "where")
        keep = select_rows(columns, where, len(trials))
    else:
        where, keep, unknown = find_successes(trials)
        reason = "no column marks successful trials"
        if where:
            marks = "column {} marks" if len(where) == 1 else "columns {} mark"
            reason = f"{marks.format(' and '.join(map(repr, where)))} successful trials"
        reason = "; ".join([reason, *unknown.values()])
    if not keep.any():
        raise MissingDataError(
            f"intervals/trials: expected trials with {where}, but there are none; "
            f"values are {list_values(columns, where)}"
        )
    text = ", ".join(f"{name} = {value}" for name, value in where.items()) or "all"
    return trials[keep], Choice("trials", f"{text} ({keep.sum()} of {len(keep)})", reason)


def find_successes(trials: pd.DataFrame) -> tuple[dict[str, str], NDArray[np.bool_], dict[str, str]]:
    """Return the values that mean success by column, the trials with success in all, and unknown values."""
    where: dict[str, str] = {}
    keep = np.ones(len(trials), dtype=bool)
    unknown: dict[str, str] = {}
    for name in find_named(list(map(str, trials)), tuple(OUTCOME_COLUMNS)):
        labels = label_values(trials[name])
        words = {label: squeeze_value(label) for label in dict.fromkeys(labels.tolist())}
        good, bad = (SUCCESSES, FAILURES) if OUTCOME_COLUMNS[simplify(name)] else (FAILURES, SUCCESSES)
        wanted = [label for label, word in words.items() if word in good]
        if wanted or all(word in bad for word in words.values()):
            where[name] = ",".join(sorted(label.strip() for label in wanted) or ["success"])
            keep &= np.isin(labels, wanted)
        else:
            unknown[name] = f"{name} holds {list_some(words)}, which are not known outcomes"
    return where, keep, unknown


def choose_alignment(
    trials: pd.DataFrame, config: ReadConfig, *, counts: object, relative: frozenset[str]
) -> tuple[str, Times, Choice]:
    """Choose the trial column that becomes time 0, and return its name and times [s].

    If ``counts`` are :class:`BinnedCounts` around events, the events become time 0. The times of ``relative``
    columns count from the start of the trial.
    """
    numeric = [str(name) for name in trials if trials[name].dtype.kind in "iuf"]
    starts = trials["start_time"].to_numpy(np.float64)
    known = [n for n in numeric if np.isfinite(drop_codes(trials[n].to_numpy(np.float64), starts)).any()]
    found = find_named(known, ALIGN_NAMES)
    events = counts.events if isinstance(counts, BinnedCounts) else None
    if config.align_to is not None:
        _check_column(trials, config.align_to, "align_to")
        name, reason = config.align_to, "given"
        if name not in numeric:
            raise ConfigError(f"align_to: expected a column of times, but {name} holds text")
    elif events is not None:
        name, reason = (
            _find_events_column(trials[numeric], events, relative),
            "spikes were counted around it",
        )
    elif found:
        name, reason = found[0], "the first found of the known names of go cues, movement onsets and targets"
        empty = [n for n in find_named(numeric, ALIGN_NAMES) if n not in found]
        reason += f"; {list_some(empty)} {'holds' if len(empty) == 1 else 'hold'} no times" if empty else ""
    else:
        raise MissingDataError(
            f"intervals/trials: expected a column of times, but there are "
            f"{list_some(trials.columns)}; name one with align_to (--align-to)"
        )
    times = drop_unwritten(
        get_session_times(trials, name, relative), trials["start_time"].to_numpy(np.float64)
    )
    if name in relative:
        reason += "; its times count from the start of each trial, so start_time was added"
    n_missing = int((~np.isfinite(times)).sum())
    if n_missing == len(times):
        raise MissingDataError(f"intervals/trials/{name}: expected times, but none is known")
    if n_missing:
        reason += f"; {_describe_missing(n_missing)}"
    return name, times, Choice("align_to", name, reason, tuple(n for n in found if n != name))


def choose_condition(
    trials: pd.DataFrame,
    config: ReadConfig,
    *,
    angles: Mapping[str, str],
    none: Mapping[str, str] = MappingProxyType({}),
) -> tuple[tuple[str, ...], bool, Choice]:
    """Choose the trial columns that name the condition; none if no column has a known name.

    The second result is whether the condition is a direction of any value, so that sectors serve as
    conditions. ``none`` is what means no direction, by column.

    Examples
    --------
    The direction is the same in all trials, so another column names the conditions:

    >>> trials = pd.DataFrame({"target_dir": [90.0] * 4, "condition": list("abab")})
    >>> columns, continuous, choice = choose_condition(trials, ReadConfig(), angles={})
    >>> columns, continuous, choice.reason
    (('condition',), False, 'the first found of the known names; 2 values in 4 trials')
    """
    others: tuple[str, ...] = ()
    if config.condition is not None:
        picked = (config.condition,) if isinstance(config.condition, str) else config.condition
        for name in picked:
            _check_column(trials, name, "condition")
        reason = "given"
    else:
        found = _find_conditions(trials)
        ranked = _rank_conditions(trials, found, config.sectors, angles)
        if not ranked:
            reason = f"no column with a known name and several values among {list_some(trials.columns)}"
            return (), False, Choice("condition", "none", reason)
        picked = ranked[0]
        n_values = _count_values(trials, picked, angles)
        values, rows = show_count(n_values, "value"), show_count(len(trials), "trial")
        reason = f"the first found of the known names; {values} in {rows}"
        others = tuple(" + ".join(names) for names in found if names != picked)
    continuous = _is_continuous(trials, picked, config.sectors, angles)
    if continuous:
        reason += (
            f"; nearly every trial has its own direction, so the conditions are {config.sectors} sectors"
        )
    n_unknown = int(trials[list(picked)].isna().any(axis=1).sum())
    if n_unknown:
        reason += f"; {_describe_missing(n_unknown)}"
        reason += "".join(f" ({name} is {none[name]})" for name in picked if name in none)
    return picked, continuous, Choice("condition", ", ".join(picked), reason, others)


def _find_conditions(trials: pd.DataFrame) -> list[tuple[str, ...]]:
    """Return the columns, or pairs of columns, with known names of conditions, in the order of the names."""
    columns = {squeeze_condition(str(name)): str(name) for name in reversed(list(trials))}
    columns |= {squeeze(str(name)): str(name) for name in reversed(list(trials))}
    known = (tuple(columns.get(squeeze(name), "") for name in names) for names in CONDITION_NAMES)
    return list(dict.fromkeys(names for names in known if all(names)))


def _rank_conditions(
    trials: pd.DataFrame, found: Sequence[tuple[str, ...]], sectors: int, angles: Mapping[str, str]
) -> list[tuple[str, ...]]:
    """Return the columns with several values, the best first: repeated values, or else directions."""
    numbers = {names: _count_values(trials, names, angles) for names in found}
    most = {squeeze("".join(names)): len(trials) // 2 for names in PLACES}
    several = [n for n in found if 1 < numbers[n] <= most.get(squeeze("".join(n)), len(trials))]
    # repeated values come first; if each trial is its own condition, at least no conditions are merged
    ranked = sorted(several, key=lambda names: numbers[names] > max(2, len(trials) // 2))
    directions = [names for names in several if _is_continuous(trials, names, sectors, angles)]
    repeats_little = ranked and (ranked[0] in directions or numbers[ranked[0]] > len(trials) // 2)
    return directions if directions and repeats_little else ranked


def choose_task_inputs(
    trials: pd.DataFrame, shown: Sequence[str], angles: Mapping[str, str]
) -> tuple[str | None, str | None, Choice]:
    """Choose the column with the time from which the condition is shown, and that of the go cue."""
    parts = [f"{name} as cosine and sine" if name in angles else f"{name} one-hot" for name in shown]
    starts = trials["start_time"].to_numpy(np.float64)
    complete = [
        str(n)
        for n in trials
        if trials[n].dtype.kind in "iuf"
        and np.isfinite(drop_codes(trials[n].to_numpy(np.float64), starts)).all()
    ]
    shown_from = next(iter(find_named(complete, TARGET_NAMES)), None)
    go = next(iter(find_named(complete, GO_NAMES)), None)
    if go is not None:
        parts.append(f"{go} as a step")
    reason = f"the condition is shown from {shown_from} on"
    if shown_from is None:
        reason = "no column tells when the condition is shown, so it is shown throughout the window"
    return shown_from, go, Choice("task inputs", ", ".join(parts) or "the alignment as a step", reason)


def _find_events_column(trials: pd.DataFrame, events: Times, relative: frozenset[str]) -> str:
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
        f"intervals/trials: expected a column with the times around which spikes were counted, "
        f"but there is none among {list_some(trials)}; name one with align_to (--align-to)"
    )


def _describe_missing(number: int) -> str:
    return f"{show_count(number, 'trial')} without one {'is' if number == 1 else 'are'} left out"


def _count_values(trials: pd.DataFrame, names: Sequence[str], angles: Mapping[str, str]) -> int:
    known = trials[list(names)].dropna()
    labels = (label_column(known[name], angles.get(name)).tolist() for name in names)
    return len(set(zip(*labels, strict=True)))


def _is_continuous(
    trials: pd.DataFrame, names: Sequence[str], sectors: int, angles: Mapping[str, str]
) -> bool:
    """Return whether a condition is a direction that differs in nearly every trial."""
    if len(names) != 1 or names[0] not in angles:
        return False
    n_values = _count_values(trials, names, angles)
    return n_values > 2 * sectors and n_values > len(trials) / 2


def _check_column(trials: pd.DataFrame, name: str, setting: str) -> None:
    if name not in trials:
        raise ConfigError(
            f"{setting}: expected a column of the trials, but got {name!r}; "
            f"there are {list_some(trials.columns)}"
        )
