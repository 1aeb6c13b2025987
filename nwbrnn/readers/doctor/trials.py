"""Checks of the trials table."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nwbrnn.config import ReadConfig
from nwbrnn.errors import MissingDataError, NwbrnnError
from nwbrnn.readers.doctor.finding import Finding, bias, note
from nwbrnn.readers.rules.trials import choose_table, choose_trials, find_successes
from nwbrnn.readers.session import Session
from nwbrnn.readers.trials import find_codes, find_numbers, get_session_times
from nwbrnn.readers.vocabulary import GO_NAMES, MOVE_NAMES, TARGET_NAMES, find_named
from nwbrnn.text import list_some, show_count

_TOLERANCE = 1e-3


@dataclass(frozen=True)
class TrialView:
    """The table of trials: its path, its plain columns, start and stop [s]."""

    path: str
    table: pd.DataFrame
    start: NDArray[np.float64]
    stop: NDArray[np.float64]
    none: Mapping[str, str]  # what means no direction, by column

    @property
    def rows(self) -> NDArray[np.int64]:
        """Row of each trial in the table of the file."""
        return self.table.index.to_numpy(dtype=np.int64)

    @property
    def spans(self) -> NDArray[np.float64]:
        """Start and stop of each trial, shape (n_trials, 2) [s]."""
        return np.stack([self.start, self.stop], axis=1)

    @property
    def extent(self) -> tuple[float, float]:
        """First and last time of any trial [s]; infinite and reversed without any."""
        finite = self.spans[np.isfinite(self.spans)]
        return float(finite.min(initial=np.inf)), float(finite.max(initial=-np.inf))

    def count(self, bad: NDArray[np.bool_]) -> str:
        """Return how many trials are bad, and the row of the first."""
        n_bad, of, first = int(bad.sum()), show_count(len(bad), "trial"), self.rows[np.argmax(bad)]
        return f"in {n_bad} of {of}, first in row {first}"


def view_trials(session: Session, config: ReadConfig) -> TrialView | None:
    """Return the trials of a file, or those of them that were chosen; ``None`` if there are none."""
    try:
        path, _ = choose_table(session.trial_tables, config)
    except MissingDataError:
        return None
    stored = session.read_trials(path)
    table, none = find_numbers(stored)
    if config.where is not None:
        with contextlib.suppress(NwbrnnError):  # then the file is refused
            table = table.loc[choose_trials(stored, config)[0].index]
    start, stop = (table[name].to_numpy(dtype=np.float64) for name in ("start_time", "stop_time"))
    return TrialView(path, table.drop(columns="id"), start, stop, none)


def check_trials_overlap(view: TrialView) -> Iterator[Finding]:
    """Find trials that overlap: held out, they share data with training trials."""
    order = np.argsort(view.start, kind="stable")
    start, stop = view.start[order], view.stop[order]
    ended = np.fmax.accumulate(np.where(np.isfinite(stop), stop, -np.inf))[:-1]
    ends = np.fmin(ended, np.where(np.isfinite(stop), stop, np.inf)[1:])
    overlap = np.zeros(len(start))
    overlap[order[1:]] = np.where(start[1:] < ended - _TOLERANCE, ends - start[1:], 0.0)
    overlap = np.where(np.isfinite(overlap), overlap, 0.0)
    bad = overlap > _TOLERANCE
    if bad.any():
        yield bias(
            view.path,
            f"the start is before the stop of an earlier trial {view.count(bad)}; the longest overlap is "
            f"{overlap.max():.4g} s",
            "leave out one trial of each pair with where=... (--where), or correct the stop times; otherwise "
            "held-out trials share data with training trials",
        )


def check_trials_unordered(view: TrialView) -> Iterator[Finding]:
    """Find trials that are not in the order in which they happened."""
    bad = np.append(False, np.diff(view.start) < 0)[: len(view.start)]
    if bad.any():
        problem = f"the start is before that of the row above {view.count(bad)}"
        yield note(view.path, problem, "sort the table by start_time")


def check_trials_reversed(view: TrialView) -> Iterator[Finding]:
    """Find trials that end before they begin."""
    bad = view.start > view.stop
    if bad.any():
        yield bias(
            view.path,
            f"the start is after the stop {view.count(bad)}",
            "correct start_time and stop_time, or leave out these trials with where=... (--where)",
        )


def check_trial_times_missing(view: TrialView) -> Iterator[Finding]:
    """Find trials without start or stop, also 0 among later ones; they cannot be read whole."""
    for name, times in (("start_time", view.start), ("stop_time", view.stop)):
        bad = ~np.isfinite(times)
        if bad.any():
            yield note(
                f"{view.path}/{name}",
                f"the value is NaN or was never written {view.count(bad)}",
                "give a window around an event (--window, --align-to), or fill in the times",
            )


def check_events_outside(view: TrialView) -> Iterator[Finding]:
    """Find cues outside their trial, in session time as well as counted from the start of the trial."""
    stop = np.where(np.isfinite(view.stop), view.stop, np.inf)
    for name in find_named(list(map(str, view.table.columns)), (*GO_NAMES, *MOVE_NAMES, *TARGET_NAMES)):
        if view.table[name].dtype.kind not in "iuf":
            continue
        times = get_session_times(view.table, name)
        bad = (times < view.start - _TOLERANCE) | (times > stop + _TOLERANCE)
        if bad.any():
            row = int(np.argmax(bad))
            yield bias(
                f"{view.path}/{name}",
                f"the time is outside its trial {view.count(bad)}: {view.table[name].iloc[row]:.6g} s in a "
                f"trial from {view.start[row]:.6g} to {view.stop[row]:.6g} s",
                "write the times in session time, correct start_time and stop_time, or align to another "
                "column (--align-to)",
            )


def check_columns_empty(view: TrialView) -> Iterator[Finding]:
    """Find columns with nothing in them."""
    numeric = [name for name in view.table if view.table[name].dtype.kind == "f" and name != "stop_time"]
    empty = [name for name in numeric if view.table[name].isna().all()]
    if empty:
        yield note(
            view.path,
            f"there is only NaN in {show_count(len(empty), 'column')}: {list_some(empty, limit=5)}",
            "do not use these columns, or fill them in",
        )


def check_directions_coded(view: TrialView) -> Iterator[Finding]:
    """Find columns named as directions that hold codes; no angle is known from them."""
    for name in find_codes(view.table):
        different = np.unique(view.table[name].dropna())
        yield note(
            f"{view.path}/{name}",
            f"its name is that of a direction, but it holds {show_count(len(different), 'value')} from "
            f"{different.min():g} to {different.max():g}, which are codes and not angles; nwbrnn makes one "
            "input for each code",
            "write the angles [degrees] if they are known, or rename the column",
        )


def check_directions_none(view: TrialView) -> Iterator[Finding]:
    """Find columns of directions in which a number or text means none."""
    for name, code in view.none.items():
        bad = view.table[name].isna().to_numpy()
        if bad.any():
            yield note(
                f"{view.path}/{name}",
                f"its value is {code}, which means no direction, {view.count(bad)}; if the column is the "
                "condition, these trials are left out",
                "no action needed if this is true; otherwise correct the directions, or write NaN for none",
            )


def check_outcomes_unknown(view: TrialView) -> Iterator[Finding]:
    """Find columns of outcomes whose values are no outcomes that are known."""
    for name, problem in find_successes(view.table)[2].items():
        yield note(
            f"{view.path}/{name}", problem, f"give the trials to keep with where=... (--where {name}=VALUE)"
        )
