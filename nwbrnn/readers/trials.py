"""Find the trial table and recognize its columns: events, directions, conditions and relative times."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from hdmf.common import VectorIndex
from numpy.typing import NDArray
from pynwb import NWBFile
from pynwb.core import NWBContainer
from pynwb.epoch import TimeIntervals

from nwbrnn.errors import ReadError
from nwbrnn.formats.series import read_stamps
from nwbrnn.formats.tables import read_plain_columns
from nwbrnn.readers.tables import list_modules
from nwbrnn.readers.times import drop_codes, find_unwritten
from nwbrnn.readers.vocabulary import (
    ALIGN_NAMES,
    FALLS,
    GO_NAMES,
    RISES,
    STATE_NAMES,
    find_named,
    names_direction,
    simplify,
)
from nwbrnn.storage import read_whole

_TRIALS = re.compile(r"trial|reach|movement", re.IGNORECASE)
TRIALS = "intervals/trials"  # where NWB has the table of trials
_NO_NUMBER = ("", "nan", "none", "na", "n/a")  # texts for a number that is not known
_NOTHING = 1e-12  # numbers this much smaller than the largest of a condition are rounding errors of 0
MAX_LABELS = 20  # largest number of event labels that become trial columns


def find_trial_tables(nwbfile: NWBFile) -> dict[str, TimeIntervals]:
    """Return the tables that may hold trials, by path, with the likeliest first.

    ``intervals/trials`` comes first, then tables with a go cue, tables named after trials, and others. If it
    has a single row, which then is the session, tables with several rows and a go cue come first.
    """
    tables = {f"intervals/{name}": table for name, table in (nwbfile.intervals or {}).items()}
    if nwbfile.trials is not None:
        tables = {TRIALS: nwbfile.trials} | tables
    if nwbfile.epochs is not None:
        tables["intervals/epochs"] = nwbfile.epochs
    for module in list_modules(nwbfile).values():
        for name, member in module.data_interfaces.items():
            if isinstance(member, TimeIntervals):
                tables[f"processing/{module.name}/{name}"] = member
    tables = {path: t for path, t in tables.items() if len(t) and not path.endswith("invalid_times")}

    with_go = {path for path, t in tables.items() if find_named(t.colnames, GO_NAMES)}
    is_session = any(len(tables[path]) > 1 for path in with_go) and len(tables.get(TRIALS, ())) == 1

    def cost(item: tuple[str, TimeIntervals]) -> tuple[bool, bool, bool]:
        path, _ = item
        return is_session or path != TRIALS, path not in with_go, not _TRIALS.search(path)

    return dict(sorted(tables.items(), key=cost))


def read_trials(
    table: TimeIntervals, events: Mapping[str, NDArray[np.float64]], *, name: str
) -> pd.DataFrame:
    """Return the ids and plain columns of a trial table: a row per trial, indexed by row number.

    Starts and stops that were never written become NaN. Each kind of event becomes a column with the time of
    the first such event in each trial [s], or NaN if there is none. So does a column with a known name of a
    time of which a trial can hold several.
    """
    columns = read_plain_columns(table)
    for needed in ("start_time", "stop_time"):
        if needed not in columns or columns[needed].dtype.kind not in "iuf":
            shape = np.shape(table[needed].data) if needed in table.colnames else "no such column"
            raise ReadError(
                f"{name}/{needed}: expected one time in each row, but got {shape}; repair the file"
            )
        unwritten = find_unwritten(columns[needed].astype(np.float64))
        if unwritten.any():
            columns[needed] = np.where(unwritten, np.nan, columns[needed])
    columns |= {label: values for label, values in _read_first_times(table) if label not in columns}
    trials = pd.DataFrame({"id": np.asarray(table.id[:])} | columns)
    if events:
        starts = trials["start_time"].to_numpy(np.float64)
        stops = fill_stop_times(trials)
        for label, times in events.items():
            if label not in trials:
                ordered = np.append(np.sort(times[np.isfinite(times)]), np.inf)
                first = ordered[np.searchsorted(ordered, np.nan_to_num(starts, nan=np.inf))]
                inside = first < stops
                if inside.any():
                    trials[label] = np.where(inside, first, np.nan)
    return trials


def find_numbers(trials: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return trials with the numbers behind texts and codes, and what means none in columns of directions.

    Times and directions that are written as texts become numbers. A text or number that means no direction
    becomes NaN, if two directions or more remain.
    """
    numbers, none = trials.copy(), {}
    for name in map(str, trials):
        if not (simplify(name) in ALIGN_NAMES or names_direction(name)):
            continue
        stored = trials[name].to_numpy()
        values = stored if stored.dtype.kind in "iufb" else _read_numbers(stored)
        if names_direction(name) and values.dtype.kind in "iuf":
            values = _drop_direction_code(values)
            lost = np.isnan(values) & ~pd.isna(stored)
            if lost.any() and len(np.unique(values[np.isfinite(values)])) < 2:
                continue  # trials without a direction would be joined with the others, as one condition
            if lost.any():
                show = str if stored.dtype.kind in "iuf" else repr
                none[name] = " or ".join(map(show, dict.fromkeys(label_values(stored[lost]).tolist())))
        if values is not stored:
            numbers[name] = values
    return numbers, none


def _read_numbers(stored: NDArray[Any]) -> NDArray[Any]:
    """Return texts as numbers, with NaN for those that mean none; the texts if they are not all numbers."""
    words = [str(text).strip().lower() for text in stored]
    known = np.array([word not in _NO_NUMBER for word in words])
    numbers = np.full(len(words), np.nan)
    try:
        numbers[known] = [float(word) for word in words if word not in _NO_NUMBER]
    except ValueError:
        return stored
    return numbers if known.any() and np.isfinite(numbers[known]).all() else stored


def _drop_direction_code(values: NDArray[Any]) -> NDArray[Any]:
    """Return directions with NaN for numbers that mean none: -999 and the like, or -1.

    -1 can be an angle. It is none if it is the only negative number and all others are targets, in steps of
    4.5 or 5 degrees.
    """
    different = np.unique(values[np.isfinite(values)]).astype(np.float64)
    code, others = different[:1], different[1:]
    if not len(others) or code[0] >= 0 or code[0] != np.rint(code[0]) or np.abs(others).max() > 720:
        return values
    degrees = np.rad2deg(others) if _find_angle_unit(others) == "radians" else others
    is_target = others.max() > 0 and _find_angle_unit(others) is not None
    steps = [np.abs(degrees / step - np.rint(degrees / step)).max() < 1e-3 for step in (4.5, 5.0)]
    if code[0] < -720 or (code[0] == -1 and is_target and any(steps)):
        return _drop_direction_code(np.where(values == code[0], np.nan, values))
    return values


def _read_first_times(table: TimeIntervals) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Yield the first time of each trial, or NaN, of columns of several times that have a known name."""
    for column in table.columns:
        if not isinstance(column, VectorIndex) or simplify(column.target.name) not in ALIGN_NAMES:
            continue
        ends, times = np.asarray(column.data[:], dtype=np.int64), read_whole(column.target.data)
        starts = np.append(0, ends[:-1])[: len(ends)]
        is_valid = len(ends) == len(table) and (starts <= ends).all() and (ends <= len(times)).all()
        if times.ndim == 1 and times.dtype.kind in "iuf" and is_valid:
            padded = np.append(times.astype(np.float64), np.nan)
            yield str(column.target.name), np.where(ends > starts, padded[starts], np.nan)


def fill_stop_times(trials: pd.DataFrame) -> NDArray[np.float64]:
    """Return the stop of each trial [s]; the start of the next trial, or infinity, replaces NaN."""
    starts = trials["start_time"].to_numpy(np.float64)
    stops = trials["stop_time"].to_numpy(np.float64)
    ordered = np.append(np.unique(starts[np.isfinite(starts)]), np.inf)
    following = ordered[np.minimum(np.searchsorted(ordered, starts, side="right"), len(ordered) - 1)]
    return np.where(np.isfinite(stops), stops, following)


def find_events(nwbfile: NWBFile) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Yield a unique name and the times [s] of every kind of event.

    Events come from tables in ``/events`` (NWB 2.10), ``EventsTable``, ``Events`` and ``LabeledEvents`` of
    ndx-events, ``AnnotationSeries``, the series of a ``BehavioralEvents``, and events around which spikes
    were counted. Each label makes a kind of event; if another table has the same label, the name of the table
    precedes it. For a line that rises and falls, only the rises are events with its name.
    """
    found = list(_list_events(nwbfile))
    numbers = Counter(label for _, label, _ in found)
    taken: set[str] = set()
    for name, label, times in found:
        full = label if numbers[label] == 1 or label == name else f"{name}_{label}"
        if full not in taken:
            taken.add(full)
            yield full, times


def _list_events(nwbfile: NWBFile) -> Iterator[tuple[str, str, NDArray[np.float64]]]:
    """Yield the name of a table or series, the name of a kind of event in it, and its times [s]."""
    for name, table in (getattr(nwbfile, "events", None) or {}).items():
        yield from _split_table(name, table)
    places = [nwbfile.acquisition, *(module.data_interfaces for module in list_modules(nwbfile).values())]
    for member in (m for place in places for m in place.values()):
        kind = getattr(member, "neurodata_type", "")
        if kind == "BehavioralEvents":
            for series in member.time_series.values():
                yield from _split_line(series.name, read_stamps(series), read_whole(series.data))
        elif kind == "AnnotationSeries":
            yield from _split_labels(
                member.name, read_stamps(member), [str(v) for v in read_whole(member.data)]
            )
        elif kind == "EventsTable":
            yield from _split_table(member.name, member)
        elif kind == "BinnedAlignedSpikes":
            name = f"{member.name}_time"
            yield name, name, np.asarray(member.event_timestamps[:], dtype=np.float64)
        elif kind in ("Events", "LabeledEvents", "TTLs"):
            yield from _split_labels(member.name, member.timestamps[:], _decode_labels(member))


def _split_table(name: str, table: NWBContainer) -> Iterator[tuple[str, str, NDArray[np.float64]]]:
    """Yield the kinds of events in a table, split by the labels in one of its columns if there are any."""
    times = np.asarray(table["timestamp"].data[:], dtype=np.float64).ravel()
    columns = {n: values for n, values in read_plain_columns(table).items() if n != "timestamp"}
    text = [values for values in columns.values() if values.dtype.kind == "U"]
    states = [v for n, v in columns.items() if simplify(n) in STATE_NAMES and v.dtype.kind in "iufb"]
    if text:
        yield from _split_labels(name, times, text[0].tolist())
    elif states:
        yield from _split_line(name, times, states[0])
    else:
        yield name, name, times


def _split_line(
    name: str, times: NDArray[np.float64], values: NDArray[Any]
) -> Iterator[tuple[str, str, NDArray[np.float64]]]:
    """Yield the times at which a line rises above zero and falls back; all times if it never does."""
    if values.ndim > 1 and values.shape[1:] == (1,):
        values = values[:, 0]
    if values.ndim > 1 or len(values) != len(times) or values.dtype.kind not in "iufb":
        yield name, name, times
        return
    high = values > 0
    if high.all() or not high.any():
        yield name, name, times
        return
    before = np.append(False, high[:-1])
    yield name, name, times[high & ~before]
    yield name, f"{name}_falling", times[~high & before]


def _decode_labels(events: NWBContainer) -> list[str] | None:
    """Return the label of each event of ndx-events' ``LabeledEvents``."""
    labels = getattr(events, "labels", None)
    return None if labels is None else [str(labels[int(code)]) for code in read_whole(events.data)]


def _split_labels(
    name: str, times: NDArray[np.floating], labels: list[str] | None
) -> Iterator[tuple[str, str, NDArray[np.float64]]]:
    """Yield a kind of event for each label; labels of a line's state are split into rises and falls."""
    stamps = np.asarray(times, dtype=np.float64).ravel()
    kinds = sorted(set(labels or ()))
    if labels is None or not 0 < len(kinds) <= MAX_LABELS:
        yield name, name, stamps
        return
    which = np.array(labels, dtype=object)  # not padded to the longest
    words = {kind: kind.strip().lower() for kind in kinds}
    if all(word in (*RISES, *FALLS) for word in words.values()):
        rises = np.isin(which, [kind for kind, word in words.items() if word in RISES])
        yield name, name, stamps[rises] if rises.any() else stamps
        if rises.any() and not rises.all():
            yield name, f"{name}_falling", stamps[~rises]
        return
    if simplify(name) in ALIGN_NAMES or len(kinds) == 1:  # the name of the table says what happened
        yield name, name, stamps
        kinds = kinds if len(kinds) > 1 else []
    for kind in kinds:
        own = f"{name}_{kind}" if simplify(name) in ALIGN_NAMES else kind
        yield name, own, stamps[which == kind]


def find_angles(trials: pd.DataFrame) -> dict[str, str]:
    """Return the names of columns of directions, with their unit: ``"degrees"`` or ``"radians"``.

    Numbers that only count targets, such as 0 to 7 or -3 to 3, are not angles: see :func:`find_codes`.
    """
    units = {name: _find_angle_unit(trials[name].to_numpy(np.float64)) for name in _list_directions(trials)}
    return {name: unit for name, unit in units.items() if unit is not None}


def find_codes(trials: pd.DataFrame) -> list[str]:
    """Return the columns that are named like directions but hold codes instead of angles."""
    codes = set(_list_directions(trials)) - find_angles(trials).keys()
    return [str(name) for name in trials if name in codes and trials[name].nunique() > 1]


def _list_directions(trials: pd.DataFrame) -> list[str]:
    """Return the columns of numbers that are named like directions."""
    return [str(n) for n in trials if names_direction(str(n)) and trials[n].dtype.kind in "iuf"]


def _find_angle_unit(values: NDArray[np.float64]) -> str | None:
    """Return the unit of angles; ``None`` for numbers that are unlikely to be directions on a circle.

    Numbers beyond ± 2π are degrees. They are not targets of a task if they are consecutive degrees, or all
    within 30 degrees; nor, as radians, if they are whole numbers or all within 45 degrees.
    """
    different = np.unique(values[np.isfinite(values)])
    if not len(different):
        return None
    span, largest = float(np.ptp(different)), float(np.abs(different).max())
    whole = bool((different == np.rint(different)).all())
    if len(different) == 1:
        return "degrees" if largest > 2 * np.pi + 1e-6 else "radians"
    if largest > 2 * np.pi + 1e-6:
        counted = whole and span < 2 * len(different) and span < 180
        return None if counted or span < 30 else "degrees"
    return None if whole or span < np.pi / 4 - 1e-6 else "radians"


def to_radians(directions: pd.Series, unit: str) -> NDArray[np.float64]:
    """Return directions in radians."""
    values = directions.to_numpy(dtype=np.float64)
    return np.deg2rad(values) if unit == "degrees" else values


def label_angles(directions: pd.Series, unit: str) -> NDArray[np.str_]:
    """Return directions as labels in their unit, from 0 to below one turn, to a thousandth of a degree."""
    degrees = np.round(np.rad2deg(to_radians(directions, unit)), 3) % 360
    values = degrees if unit == "degrees" else np.deg2rad(degrees)
    return np.array([f"{v:.6g}" for v in values], dtype="U")


def label_column(values: pd.Series, unit: str | None) -> NDArray[np.str_]:
    """Return the values of a condition column as labels that are equal if the values mean the same.

    Directions with a unit are equal modulo one turn, and texts if they differ only in capitals and spaces.
    """
    if unit is not None:
        return label_angles(values, unit)
    if values.dtype.kind == "f":  # 8 cos(90 degrees) is 5e-16
        sizes = np.abs(values.to_numpy(np.float64))
        values = values.where(~(sizes < _NOTHING * sizes[np.isfinite(sizes)].max(initial=0.0)), 0.0)
    labels = label_values(values)
    first: dict[str, str] = {}
    return np.array(
        [first.setdefault(" ".join(v.lower().split()), v.strip()) for v in labels.tolist()], dtype="U"
    )


def select_rows(columns: Mapping[str, Any], selection: Mapping[str, str], n_rows: int) -> NDArray[np.bool_]:
    """Return the rows with the wanted values in each column, or without them for a name such as ``id!``."""
    keep = np.ones(n_rows, dtype=bool)
    for name, wanted in selection.items():
        matches = match_values(columns[name.removesuffix("!")], wanted)
        keep &= ~matches if name.endswith("!") else matches
    return keep


def list_values(columns: Mapping[str, Any], names: Iterable[str]) -> dict[str, list[str]]:
    """Return the first distinct values of columns, or those that ``id!`` leaves out, for a message."""
    return {name: sorted(set(label_values(columns[name.removesuffix("!")]).tolist()))[:10] for name in names}


def label_values(values: pd.Series | NDArray[Any]) -> NDArray[np.str_]:
    """Return the values of a column as labels: 90.0 and 90 become ``"90"``, other numbers keep six digits."""
    if values.dtype.kind == "f":
        return np.array([f"{v:.0f}" if v == np.rint(v) else f"{v:g}" for v in values + 0.0], dtype="U")
    return np.array([str(v) for v in values], dtype="U")


def match_values(values: pd.Series | NDArray[Any], wanted: str) -> NDArray[np.bool_]:
    """Return where a column has one of the comma-separated values; numbers match by value."""
    names = [wanted, *(part.strip() for part in wanted.split(","))]
    matches = np.isin(np.char.strip(label_values(values)), [name.strip() for name in names])
    if values.dtype.kind in "iufb":
        truths = {"true": 1.0, "false": 0.0}
        for name in names:
            try:
                number = truths.get(name.lower()) if name.lower() in truths else float(name)
            except ValueError:
                continue
            matches |= np.asarray(values, dtype=np.float64) == number
    return matches


def label_sectors(directions: pd.Series, n_sectors: int, unit: str) -> NDArray[np.str_]:
    """Return, as labels, the middle of the sector that contains each direction, in degrees."""
    width = 2 * np.pi / n_sectors
    sector = np.rint(to_radians(directions, unit) / width) % n_sectors
    return np.array([f"{np.rad2deg(s * width):g}" for s in sector], dtype="U")


def find_relative(trials: pd.DataFrame) -> frozenset[str]:
    """Return the columns of times that count from the start of each trial, given all trials of a file."""
    starts = trials["start_time"].to_numpy(np.float64)
    numeric = [
        str(n) for n in trials if trials[n].dtype.kind in "iuf" and n not in ("id", "start_time", "stop_time")
    ]
    return frozenset(n for n in numeric if is_relative(trials[n].to_numpy(np.float64), starts))


def get_session_times(
    trials: pd.DataFrame, column: str, relative: frozenset[str] | None = None
) -> NDArray[np.float64]:
    """Return the times of a column in session time [s], even if they count from the start of the trial.

    ``relative`` is what :func:`find_relative` found; by default, it is called with these trials.
    """
    starts = trials["start_time"].to_numpy(np.float64)
    times = drop_codes(trials[column].to_numpy(dtype=np.float64), starts)
    known = find_relative(trials[["start_time", column]]) if relative is None else relative
    return times + starts if column in known else times


def is_relative(times: NDArray[np.floating], starts: NDArray[np.floating]) -> bool:
    """Return whether times count from the start of each trial instead of the start of the session.

    They do if nearly all are earlier than the start of their own trial and, counted from there, would be
    earlier than the start of the next, or if they span much less of the session than the trials do.
    """
    finite = np.isfinite(drop_codes(times, starts)) & np.isfinite(starts)
    if finite.sum() < 2:
        return False
    next_starts = np.append(starts[1:], np.inf)
    before = times[finite] < starts[finite] - 1e-6
    fits = (times[finite] >= 0) & (times[finite] <= (next_starts - starts)[finite])
    fits |= (times[finite] >= 0) & bool(np.ptp(times[finite]) < 0.1 * np.ptp(starts[finite]))
    # for a trial at the start of the session, the two cannot be distinguished
    n_unlike = int((~(before & fits)).sum())
    n_finite = int(finite.sum())
    return n_unlike <= max(1, 0.1 * n_finite) and n_unlike < n_finite / 2
