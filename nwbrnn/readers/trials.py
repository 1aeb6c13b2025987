"""The trials table: its plain columns, and the rules that find the columns that matter."""

import re
from typing import Any

import numpy as np
import pandas as pd
from hdmf.common import DynamicTable, DynamicTableRegion, VectorIndex
from numpy.typing import NDArray
from pynwb import NWBFile

from nwbrnn.errors import MissingDataError

# as found in DANDI 000070, 000127, 000140, 000688, 000941 and kin
GO_NAMES = ("go_cue_time", "gocue_time", "go_cue", "go_time", "cue_start_time")
ALIGN_NAMES = (
    *GO_NAMES,
    "move_onset_time",
    "movement_onset_time",
    "move_begins_time",
    "start_time",
)
TARGET_NAMES = ("target_on_time", "target_presentation_time", "target_onset_time", "tgt_on_time")
CONDITION_NAMES = (
    "target_dir",
    "target_direction",
    "direction",
    "movement_direction",
    "condition",
    "condition_id",
    "maze_condition",
    "trial_type",
    "type",
    "target_id",
)
SUCCESS = (
    # column, values that mean a trial to keep
    ("result", ("R", "reward", "rewarded", "success")),
    ("task_success", ("1", "True", "1.0")),
    ("outcome", ("success", "correct", "hit", "R")),
    ("is_good", ("1", "True")),
    ("discard_trial", ("0", "False", "0.0")),
)
_DIRECTION = re.compile(r"(^|_)(dir|direction|angle)($|_)", re.IGNORECASE)


def read_trials(nwbfile: NWBFile, *, path: str) -> pd.DataFrame:
    """Return the plain columns of the trials table, one row for each trial, indexed by row number.

    Ragged and multi-dimensional columns are not loaded.

    Raises
    ------
    MissingDataError
        If there is no trials table, or it is empty.
    """
    if nwbfile.trials is None or len(nwbfile.trials) == 0:
        tables = ", ".join(nwbfile.intervals) if nwbfile.intervals else "no interval tables"
        raise MissingDataError(
            f"{path}: intervals/trials: expected a table of trials, but the file has none (it has {tables})"
        )
    return pd.DataFrame(read_plain_columns(nwbfile.trials))


def read_plain_columns(table: DynamicTable) -> dict[str, NDArray[Any]]:
    """Return the columns with one number or text in each row; text as NumPy strings."""
    ragged = {c.target.name for c in table.columns if isinstance(c, VectorIndex)}
    columns = {}
    for column in table.columns:
        if column.name in ragged or isinstance(column, VectorIndex | DynamicTableRegion):
            continue
        if len(np.shape(column.data)) != 1:
            continue
        values = np.asarray(column.data[:])
        if values.dtype.kind in "OSU":
            if len(values) and not isinstance(values[0], str | bytes):
                continue  # references to other objects
            values = np.array([v.decode() if isinstance(v, bytes) else str(v) for v in values], dtype="U")
        if values.dtype.kind in "iufbU":
            columns[str(column.name)] = values
    return columns


def is_direction(name: str, values: pd.Series) -> bool:
    """Return whether a column holds directions: by its name, and numeric."""
    return bool(_DIRECTION.search(name)) and values.dtype.kind in "iuf"


def to_radians(directions: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return directions in radians; those beyond ± 2π must have been degrees."""
    return np.deg2rad(directions) if np.nanmax(np.abs(directions)) > 2 * np.pi + 1e-6 else directions


def label_values(values: pd.Series) -> NDArray[np.str_]:
    """Return the values of a column as labels: 90.0 and 90 both as ``"90"``."""
    if values.dtype.kind == "f":
        return np.array([f"{v:g}" for v in values], dtype="U")
    return np.array([str(v) for v in values], dtype="U")


def get_session_times(trials: pd.DataFrame, column: str) -> NDArray[np.float64]:
    """Return the times of a column in session time [s], also where they count from the start of the trial."""
    times = trials[column].to_numpy(dtype=np.float64)
    starts = trials["start_time"].to_numpy(dtype=np.float64)
    return times + starts if is_relative(times, starts) else times


def is_relative(times: NDArray[np.floating], starts: NDArray[np.floating]) -> bool:
    """Return whether times count from the start of each trial and not from that of the session.

    True if nearly all lie before their own trial begins and would lie before the next one begins if they were
    counted from the start of the trial.
    """
    finite = np.isfinite(times) & np.isfinite(starts)
    if not finite.any():
        return False
    next_starts = np.append(starts[1:], np.inf)
    before = times[finite] < starts[finite] - 1e-6
    fits = (times[finite] >= 0) & (times[finite] <= (next_starts - starts)[finite])
    return bool((before & fits).mean() > 0.9)
