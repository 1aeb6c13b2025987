"""Build the inputs of the network from the trial table: what the task shows the subject."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nwbrnn.readers.plan import Plan
from nwbrnn.readers.times import drop_unwritten, subtract
from nwbrnn.readers.trials import get_session_times, label_column, to_radians
from nwbrnn.schema import COSINE, SINE

Array = NDArray[np.float32]


def create_task_inputs(plan: Plan) -> tuple[Array, list[str]]:
    """Return the inputs of each trial, shape (n_trials, n_time, n_inputs), and their names.

    From the time at which a condition is shown, directions are encoded as cosine and sine (with
    ``second_harmonic`` also those of twice the direction), and other conditions as one-hot columns. The go
    cue becomes a step.
    """
    trials, time = plan.trials.frame, plan.time
    columns, names = [], []
    for name in plan.trials.shown:
        encoded, labels = _encode(name, trials[name], plan.trials.angles.get(name), plan.second_harmonic)
        columns.append(encoded)
        names += labels
    shown = np.ones((len(trials), len(time), 1), dtype=np.float32)
    if plan.shown_from is not None:
        shown = _step(plan, plan.shown_from)
    parts = [shown * np.concatenate(columns, axis=1)[:, np.newaxis]] if columns else []
    if plan.go is not None or not parts:
        parts.append(_step(plan, plan.go or plan.trials.align_to))
        names.append("go_cue" if plan.go else plan.trials.align_to)
    return np.concatenate(parts, axis=2), names


def _encode(
    name: str, values: pd.Series, unit: str | None, second_harmonic: float
) -> tuple[Array, list[str]]:
    """Return a condition column as numbers, shape (n_trials, n_columns), and their names."""
    if unit is not None:
        angle = to_radians(values, unit)
        parts = [np.cos(angle), np.sin(angle)]
        names = [name + COSINE, name + SINE]
        if second_harmonic:
            parts += [second_harmonic * np.cos(2 * angle), second_harmonic * np.sin(2 * angle)]
            names += [f"{name}{COSINE}2", f"{name}{SINE}2"]
        return np.stack(parts, axis=1).astype(np.float32), names
    labels = label_column(values, None)
    known, code = np.unique(labels, return_inverse=True)
    return np.eye(len(known), dtype=np.float32)[code], [f"{name}={k}" for k in known.tolist()]


def _step(plan: Plan, column: str) -> Array:
    """Return 0 before and 1 after the event of each trial, shape (n_trials, n_time, 1)."""
    # relative to the recorded alignment, since plan.trials.times may be rounded to a grid
    chosen = plan.trials
    event, zero = (
        get_session_times(chosen.frame, name, chosen.relative) for name in (column, chosen.align_to)
    )
    delay = subtract(drop_unwritten(event, chosen.frame["start_time"].to_numpy(np.float64)), zero)
    return (plan.time >= delay[:, np.newaxis] - 1e-9).astype(np.float32)[..., np.newaxis]
