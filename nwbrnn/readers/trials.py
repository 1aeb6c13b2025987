"""The trials: the table that holds them, and the rules that find the columns that matter."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pynwb import NWBFile, TimeSeries
from pynwb.core import NWBContainer
from pynwb.epoch import TimeIntervals

from nwbrnn.readers.tables import list_modules, read_plain_columns

# names without underscores and without a final "time", as found in DANDI 000070, 000127, 000140, 000688,
# 000941 and kin
GO_NAMES = ("gocue", "gocuetimearray0", "go", "gosignal", "gotone", "cuestart", "imperative")
MOVE_NAMES = (
    "moveonset",
    "movementonset",
    "movebegins",
    "movementbegins",
    "movestart",
    "movementstart",
    "reachonset",
)
ALIGN_NAMES = (*GO_NAMES, *MOVE_NAMES, "start")
TARGET_NAMES = ("targeton", "targetpresentation", "targetonset", "tgton", "targetshown", "targetcue")
CONDITION_NAMES: tuple[tuple[str, ...], ...] = (
    ("target_dir",),
    ("target_direction",),
    ("tgt_dir",),
    ("direction",),
    ("movement_direction",),
    ("target_angle",),
    ("cond_dir", "ctr_hold_bump"),  # NLB area 2
    ("condition",),
    ("condition_id",),
    ("maze_condition",),
    ("trial_type", "trial_version"),  # NLB maze
    ("tgt_loc", "tgt_obj"),  # FALCON M1
    ("trial_type",),
    ("type",),
    ("target_id",),
)
_FAILED = (
    "F",
    "A",
    "I",
    "fail",
    "failed",
    "failure",
    "incorrect",
    "error",
    "abort",
    "aborted",
    "miss",
    "ignore",
)
_TRUE, _FALSE = ("1", "True", "1.0"), ("0", "False", "0.0")
SUCCESS = (
    # column, values that mean a trial to keep, values that mean another
    ("result", ("R", "reward", "rewarded", "success"), _FAILED),
    ("task_success", _TRUE, _FALSE),
    ("success", _TRUE, _FALSE),
    ("outcome", ("success", "correct", "hit", "R"), _FAILED),
    ("is_good", _TRUE, _FALSE),
    ("discard_trial", _FALSE, _TRUE),
)
_DIRECTION = re.compile(r"(^|_)(dir|direction|angle)($|_)", re.IGNORECASE)
_TRIALS = re.compile(r"trial|reach|movement", re.IGNORECASE)
MAX_LABELS = 20  # labels of events that become trial columns


def simplify(name: str) -> str:
    """Return a column's name for comparison: ``Go_Cue_Time`` and ``gocue`` are the same."""
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    return re.sub(r"(times?|timestamps?)$", "", plain) or plain


def find_named(columns: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the columns with one of the names, in the order of the names."""
    return [column for name in names for column in columns if simplify(column) == name]


def find_trial_tables(nwbfile: NWBFile) -> dict[str, TimeIntervals]:
    """Return the tables that could hold trials by their paths, the likeliest first.

    ``intervals/trials`` is; then tables with a go cue, tables named after trials, and others.
    """
    tables = {f"intervals/{name}": table for name, table in (nwbfile.intervals or {}).items()}
    if nwbfile.trials is not None:
        tables = {"intervals/trials": nwbfile.trials} | tables
    if nwbfile.epochs is not None:
        tables["intervals/epochs"] = nwbfile.epochs
    for module in list_modules(nwbfile).values():
        for name, member in module.data_interfaces.items():
            if isinstance(member, TimeIntervals):
                tables[f"processing/{module.name}/{name}"] = member
    tables = {path: t for path, t in tables.items() if len(t) and not path.endswith("invalid_times")}

    def cost(item: tuple[str, TimeIntervals]) -> tuple[bool, bool, bool]:
        path, table = item
        has_go = bool(find_named(table.colnames, GO_NAMES))
        return path != "intervals/trials", not has_go, not _TRIALS.search(path)

    return dict(sorted(tables.items(), key=cost))


def read_trials(nwbfile: NWBFile, table: TimeIntervals) -> pd.DataFrame:
    """Return the plain columns of a table of trials, one row for each trial, indexed by row number.

    Events of the file become columns: the time of the first one in each trial [s], NaN where there is none.
    """
    trials = pd.DataFrame(read_plain_columns(table))
    events = dict(find_events(nwbfile))
    if events:
        starts = trials["start_time"].to_numpy(np.float64)
        stops = fill_stop_times(trials)
        for name, times in events.items():
            if name not in trials:
                ordered = np.append(np.sort(times[np.isfinite(times)]), np.inf)
                first = ordered[np.searchsorted(ordered, np.nan_to_num(starts, nan=np.inf))]
                inside = first < stops
                if inside.any():
                    trials[name] = np.where(inside, first, np.nan)
    return trials


def fill_stop_times(trials: pd.DataFrame) -> NDArray[np.float64]:
    """Return when each trial stops [s]: if that is NaN, when the next one starts; infinite for the last."""
    starts = trials["start_time"].to_numpy(np.float64)
    stops = trials["stop_time"].to_numpy(np.float64)
    ordered = np.append(np.unique(starts[np.isfinite(starts)]), np.inf)
    following = ordered[np.minimum(np.searchsorted(ordered, starts, side="right"), len(ordered) - 1)]
    return np.where(np.isfinite(stops), stops, following)


def find_events(nwbfile: NWBFile) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Yield every kind of event: its name and its times [s].

    Tables of ``/events`` (NWB 2.10), ``EventsTable``, ``Events`` and ``LabeledEvents`` of ndx-events,
    ``AnnotationSeries``, the series of a ``BehavioralEvents``, and events around which spikes were
    counted. Events with labels are a kind for each label.
    """
    for name, table in (getattr(nwbfile, "events", None) or {}).items():
        yield from _split_events(name, table["timestamp"].data[:], _find_labels(table))
    places = [nwbfile.acquisition, *(module.data_interfaces for module in list_modules(nwbfile).values())]
    for member in (m for place in places for m in place.values()):
        kind = getattr(member, "neurodata_type", "")
        if kind == "BehavioralEvents":
            for series in member.time_series.values():
                yield series.name, _get_stamps(series)
        elif kind == "AnnotationSeries":
            yield from _split_events(member.name, member.timestamps[:], [str(v) for v in member.data[:]])
        elif kind == "EventsTable":
            yield from _split_events(member.name, member["timestamp"].data[:], _find_labels(member))
        elif kind == "BinnedAlignedSpikes":
            yield f"{member.name}_time", np.asarray(member.event_timestamps[:], dtype=np.float64)
        elif kind in ("Events", "LabeledEvents"):
            yield from _split_events(member.name, member.timestamps[:], _decode_labels(member))


def _find_labels(table: NWBContainer) -> list[str] | None:
    """Return what a table of events says of each, if it does in a column of text."""
    text = [values for values in read_plain_columns(table).values() if values.dtype.kind == "U"]
    return text[0].tolist() if text else None


def _decode_labels(events: NWBContainer) -> list[str] | None:
    """Return the label of each event of ndx-events' ``LabeledEvents``."""
    labels = getattr(events, "labels", None)
    return None if labels is None else [str(labels[int(code)]) for code in events.data[:]]


def _split_events(
    name: str, times: NDArray[np.floating], labels: list[str] | None
) -> Iterator[tuple[str, NDArray[np.float64]]]:
    stamps = np.asarray(times, dtype=np.float64)
    kinds = sorted(set(labels or ()))
    if not 1 < len(kinds) <= MAX_LABELS or labels is None:
        yield name, stamps
        return
    for kind in kinds:
        yield kind, stamps[np.array(labels) == kind]


def _get_stamps(series: TimeSeries) -> NDArray[np.float64]:
    if series.timestamps is None:
        return float(series.starting_time or 0.0) + np.arange(len(series.data)) / float(series.rate)
    return np.asarray(series.timestamps[:], dtype=np.float64)


def is_direction(name: str, values: pd.Series) -> bool:
    """Return whether a column holds directions: by its name, and numeric."""
    return bool(_DIRECTION.search(name)) and values.dtype.kind in "iuf"


def find_degrees(trials: pd.DataFrame) -> frozenset[str]:
    """Return the columns of directions in degrees: those beyond ± 2π."""
    directions = [str(name) for name in trials if is_direction(str(name), trials[name])]
    return frozenset(name for name in directions if trials[name].abs().max() > 2 * np.pi + 1e-6)


def to_radians(directions: pd.Series, *, degrees: bool) -> NDArray[np.float64]:
    """Return directions in radians."""
    values = directions.to_numpy(dtype=np.float64)
    return np.deg2rad(values) if degrees else values


def label_values(values: pd.Series | NDArray[Any]) -> NDArray[np.str_]:
    """Return the values of a column as labels: 90.0 and 90 both as ``"90"``, others to six digits."""
    if values.dtype.kind == "f":
        return np.array([f"{v:.0f}" if v == np.rint(v) else f"{v:g}" for v in values + 0.0], dtype="U")
    return np.array([str(v) for v in values], dtype="U")


def match_values(values: pd.Series | NDArray[Any], wanted: str) -> NDArray[np.bool_]:
    """Return where a column has one of some values with commas between; numbers by what they mean."""
    names = [wanted, *(part.strip() for part in wanted.split(","))]
    matches = np.isin(label_values(values), names)
    if values.dtype.kind in "iufb":
        truths = {"true": 1.0, "false": 0.0}
        for name in names:
            try:
                number = truths.get(name.lower()) if name.lower() in truths else float(name)
            except ValueError:
                continue
            matches |= np.asarray(values, dtype=np.float64) == number
    return matches


def label_sectors(directions: pd.Series, n_sectors: int, *, degrees: bool) -> NDArray[np.str_]:
    """Return the middle of the sector that holds each direction, in degrees, as labels."""
    width = 2 * np.pi / n_sectors
    sector = np.rint(to_radians(directions, degrees=degrees) / width) % n_sectors
    return np.array([f"{np.rad2deg(s * width):g}" for s in sector], dtype="U")


def find_relative(trials: pd.DataFrame) -> frozenset[str]:
    """Return the columns of times that count from the start of each trial; of all trials of a file."""
    starts = trials["start_time"].to_numpy(np.float64)
    numeric = [
        str(n) for n in trials if trials[n].dtype.kind in "iuf" and n not in ("start_time", "stop_time")
    ]
    return frozenset(n for n in numeric if is_relative(trials[n].to_numpy(np.float64), starts))


def get_session_times(
    trials: pd.DataFrame, column: str, relative: frozenset[str] | None = None
) -> NDArray[np.float64]:
    """Return the times of a column in session time [s], also where they count from the start of the trial.

    Parameters
    ----------
    trials
        Some trials.
    column
        Of times.
    relative
        What :func:`find_relative` found; by default, it is asked about these trials.
    """
    times = trials[column].to_numpy(dtype=np.float64)
    known = find_relative(trials[["start_time", column]]) if relative is None else relative
    return times + trials["start_time"].to_numpy(np.float64) if column in known else times


def is_relative(times: NDArray[np.floating], starts: NDArray[np.floating]) -> bool:
    """Return whether times count from the start of each trial and not from that of the session.

    True if nearly all lie before their own trial begins and, counted from there, would lie before the next
    one begins, or if they are spread over much less of the session than the trials are.
    """
    finite = np.isfinite(times) & np.isfinite(starts)
    if finite.sum() < 2:
        return False
    next_starts = np.append(starts[1:], np.inf)
    before = times[finite] < starts[finite] - 1e-6
    fits = (times[finite] >= 0) & (times[finite] <= (next_starts - starts)[finite])
    fits |= (times[finite] >= 0) & bool(np.ptp(times[finite]) < 0.1 * np.ptp(starts[finite]))
    # in a trial at the start of the session, both are the same
    n_unlike = int((~(before & fits)).sum())
    n_finite = int(finite.sum())
    return n_unlike <= max(1, 0.1 * n_finite) and n_unlike < n_finite / 2
