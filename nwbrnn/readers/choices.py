"""The rules that choose what to read from a file, each with its reason.

No data are read here: names, shapes and trial columns decide. Every rule returns what it picked
and a :class:`Choice` that says why and what else there was; what a user gave always wins.
"""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nwbrnn.config import ReadConfig
from nwbrnn.errors import ConfigError, MissingDataError
from nwbrnn.readers.discovery import Signal
from nwbrnn.readers.trials import (
    ALIGN_NAMES,
    CONDITION_NAMES,
    GO_NAMES,
    SUCCESS,
    TARGET_NAMES,
    get_session_times,
    is_direction,
    label_values,
)

OUTPUT_ROLES = ("emg", "force", "kinematics")
COARSE = 0.005  # signals sampled less often than this set the bin size [s]
DEFAULT_BIN_SIZE = 0.02  # FALCON [s]
DEFAULT_WINDOW = (-0.4, 1.5)  # around a go cue or movement onset [s]
FINE_PART = 10  # sampling intervals longer than a tenth of a bin must divide it
RAW_SAMPLING_RATE = 500.0  # EMG sampled faster, and on both sides of zero, is raw [Hz]

_PROCESSED = re.compile(r"envelope|rectif|preprocess|smooth", re.IGNORECASE)
_RAW = re.compile(r"raw|notch|_hp\b|high_?pass", re.IGNORECASE)

Times = NDArray[np.float64]


@dataclass(frozen=True)
class Choice:
    """What was picked for a role, why, and what else was possible."""

    role: str
    picked: str
    reason: str
    alternatives: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, for JSON."""
        return asdict(self) | {"alternatives": list(self.alternatives)}


def choose_outputs(
    signals: Sequence[Signal], config: ReadConfig, *, path: str
) -> tuple[tuple[Signal, ...], Choice]:
    """Choose what the student has to produce: EMG, else force, else kinematics.

    Raises
    ------
    MissingDataError
        If the file holds none of them, or not what was asked for.
    """
    if config.outputs != "auto":
        wanted = (config.outputs,) if isinstance(config.outputs, str) else config.outputs
        picked = tuple(dict.fromkeys(_match(signals, name, "outputs", path=path) for name in wanted))
        return picked, Choice("outputs", ", ".join(s.path for s in picked), "given")
    for role in OUTPUT_ROLES:
        ranked = _rank(signals, role)
        if ranked:
            others = tuple(s.path for s in signals if s.role in OUTPUT_ROLES and s != ranked[0])
            reason = f"its name suggests {role}"
            if len(ranked) > 1:
                reason += "; of several, processed before raw, then by order in the file"
            return (ranked[0],), Choice("outputs", ranked[0].path, reason, others)
    raise MissingDataError(
        f"{path}: outputs: expected EMG, force or kinematics, but the names of the time series suggest none "
        f"of them ({_list(s.path for s in signals)}); name one with outputs (--outputs)"
    )


def choose_rates(
    signals: Sequence[Signal], n_units: int, config: ReadConfig, *, path: str
) -> tuple[Signal | None, Choice]:
    """Choose a recorded series of firing rates, or spikes (``None``)."""
    if config.rates not in ("auto", "spikes"):
        picked = _match(signals, config.rates, "rates", path=path)
        if len(picked.columns) != n_units:
            raise ConfigError(
                f"{path}: rates: expected a column for each of {n_units} units, "
                f"but {picked.path} has {len(picked.columns)}"
            )
        return picked, Choice("rates", picked.path, "given")
    fitting = [s for s in signals if s.role == "rates" and len(s.columns) == n_units]
    if config.rates == "auto" and fitting:
        reason = "a series of firing rates with a column for each unit; a simulation's own rates"
        return fitting[0], Choice("rates", fitting[0].path, reason, ("spikes",))
    reason = "given" if config.rates == "spikes" else "no series of firing rates with a column for each unit"
    picked_text = f"units/spike_times, Gaussian of {config.smoothing * 1000:g} ms"
    return None, Choice("rates", picked_text, reason, tuple(s.path for s in fitting))


def choose_inputs(
    signals: Sequence[Signal], config: ReadConfig, *, path: str
) -> tuple[tuple[Signal, ...], Choice]:
    """Choose recorded task inputs, or those built from the trial table (empty)."""
    if config.inputs not in ("auto", "task"):
        wanted = (config.inputs,) if isinstance(config.inputs, str) else config.inputs
        picked = tuple(dict.fromkeys(_match(signals, name, "inputs", path=path) for name in wanted))
        return picked, Choice("inputs", ", ".join(s.path for s in picked), "given")
    recorded = tuple(s for s in signals if s.role == "inputs")
    if recorded and config.inputs == "auto":
        reason = "task inputs recorded as a series"
        return recorded, Choice("inputs", ", ".join(s.path for s in recorded), reason, ("task",))
    reason = "given" if config.inputs == "task" else "no recorded task inputs, so what the trial table says"
    return (), Choice("inputs", "task", reason, tuple(s.path for s in recorded))


def choose_trials(trials: pd.DataFrame, config: ReadConfig, *, path: str) -> tuple[pd.DataFrame, Choice]:
    """Choose the trials to keep: those that succeeded, if a column tells."""
    where = config.where
    reason = "given"
    if where is None:
        where, reason = {}, "no column tells which trials succeeded"
        for name, values in SUCCESS:
            kept = set(values) & set(label_values(trials[name])) if name in trials else set()
            if kept:
                where = {name: ",".join(sorted(kept))}
                reason = f"the column {name} tells which trials succeeded"
                break
    keep = np.ones(len(trials), dtype=bool)
    for name, value in where.items():
        _check_column(trials, name, "where", path=path)
        keep &= np.isin(label_values(trials[name]), [v.strip() for v in value.split(",")])
    if not keep.any():
        present = {name: sorted(set(label_values(trials[name]).tolist()))[:10] for name in where}
        raise MissingDataError(
            f"{path}: intervals/trials: expected trials with {where}, but there are none; "
            f"values are {present}"
        )
    text = ", ".join(f"{name} = {value}" for name, value in where.items()) or "all"
    return trials[keep], Choice("trials", f"{text} ({keep.sum()} of {len(keep)})", reason)


def choose_alignment(trials: pd.DataFrame, config: ReadConfig, *, path: str) -> tuple[str, Times, Choice]:
    """Choose the trial column that becomes time 0, and return its name and times [s]."""
    found = [name for name in ALIGN_NAMES if name in trials and trials[name].dtype.kind in "iuf"]
    finite = [name for name in found if np.isfinite(trials[name]).any()]
    if config.align_to is not None:
        _check_column(trials, config.align_to, "align_to", path=path)
        name, reason = config.align_to, "given"
        if trials[name].dtype.kind not in "iuf":
            raise ConfigError(f"{path}: align_to: expected a column of times, but {name} holds text")
    elif finite:
        name, reason = finite[0], "the first found of the known names of go cues and movement onsets"
    else:
        raise MissingDataError(
            f"{path}: intervals/trials: expected a column of times, but there are {_list(trials.columns)}; "
            "name one with align_to (--align-to)"
        )
    times = get_session_times(trials, name)
    if not np.array_equal(times, trials[name], equal_nan=True):
        reason += "; its times count from the start of each trial, so start_time was added"
    n_missing = int((~np.isfinite(times)).sum())
    if n_missing == len(times):
        raise MissingDataError(f"{path}: intervals/trials/{name}: expected times, but all are NaN")
    if n_missing:
        reason += f"; {n_missing} trials without one are left out"
    return name, times, Choice("align_to", name, reason, tuple(n for n in found if n != name))


def choose_condition(
    trials: pd.DataFrame, config: ReadConfig, *, path: str
) -> tuple[tuple[str, ...], Choice]:
    """Choose the trial columns that name the condition; none if no known name is there."""
    if config.condition is not None:
        given = (config.condition,) if isinstance(config.condition, str) else config.condition
        for name in given:
            _check_column(trials, name, "condition", path=path)
        return given, Choice("condition", ", ".join(given), "given" + _note_unknown(trials, given))
    found = [name for name in CONDITION_NAMES if name in trials]
    numbers = {n: len(set(label_values(trials[n].dropna()).tolist())) for n in found}
    # columns with repeated values first; if each trial is its own condition, at least none are mixed up
    several = [n for n in found if numbers[n] > 1]
    ranked = sorted(several, key=lambda n: numbers[n] > max(2, len(trials) // 2))
    if not ranked:
        reason = f"no column with a known name and several values among {_list(trials.columns)}"
        return (), Choice("condition", "none", reason)
    name = ranked[0]
    reason = f"the first found of the known names; {numbers[name]} values in {len(trials)} trials"
    reason += _note_unknown(trials, (name,))
    return (name,), Choice("condition", name, reason, tuple(n for n in found if n != name))


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
                f"{_list(f'{c:g} s' for c in coarse)}; give one with bin_size (--bin-size)"
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
    trials: pd.DataFrame, times: Times, config: ReadConfig, *, bin_size: float, align_to: str, path: str
) -> tuple[float, int, Choice]:
    """Choose the window around the alignment; return its start [s] and its number of bins.

    Raises
    ------
    ConfigError
        If it is shorter than two bins.
    """
    relative = [trials[name].to_numpy(np.float64) - times for name in ("start_time", "stop_time")]
    alike = all(np.isfinite(r).all() and np.ptp(r) < bin_size / 2 for r in relative)
    if config.window is not None:
        (start, stop), reason = config.window, "given"
    elif alike:
        start, stop = (float(np.median(r)) for r in relative)
        reason = "all trials are equally long, so whole trials"
    elif align_to == "start_time" and np.isfinite(relative[1]).any():
        start, stop = 0.0, float(np.nanmedian(relative[1]))
        reason = "the median length of a trial"
    else:
        (start, stop), reason = DEFAULT_WINDOW, "default"
    if config.window is None:
        start = round(start / bin_size) * bin_size
    n_bins = int((stop - start) / bin_size + 1e-6)
    if n_bins < 2:
        raise ConfigError(
            f"{path}: window: expected at least two bins of {bin_size:g} s, but got {start:g} to {stop:g} s"
        )
    end = start + n_bins * bin_size
    if abs(end - stop) > 1e-6:
        reason += f"; {stop:g} s shortened to whole bins"
    return start, n_bins, Choice("window", f"{start:g} to {end:g} s", reason)


def choose_task_inputs(trials: pd.DataFrame, shown: Sequence[str]) -> tuple[str | None, str | None, Choice]:
    """Choose the columns that tell when the subject is shown the condition, and the go cue."""
    parts = [
        f"{name} as cosine and sine" if is_direction(name, trials[name]) else f"{name} one-hot"
        for name in shown
    ]
    complete = [n for n in (*TARGET_NAMES, *GO_NAMES) if n in trials and np.isfinite(trials[n]).all()]
    shown_from = next((name for name in complete if name in TARGET_NAMES), None)
    go = next((name for name in complete if name in GO_NAMES), None)
    if go is not None:
        parts.append(f"{go} as a step")
    reason = f"the condition is shown from {shown_from} on"
    if shown_from is None:
        reason = "no column tells when the condition is shown, so throughout the window"
    return shown_from, go, Choice("task inputs", ", ".join(parts) or "the alignment as a step", reason)


def note_oddities(signals: Sequence[Signal]) -> list[Choice]:
    """Return what was assumed of signals that are not as NWB has them."""
    notes = []
    for signal in signals:
        if signal.stamps != "start":
            text = f"{signal.path}: {signal.stamps} of the sample"
            notes.append(Choice("time stamps", text, "its description says so", ("start of the sample",)))
        if any(np.isnan(series.conversion) for series in signal.series):
            notes.append(Choice("conversion", f"{signal.path}: 1", "the file says NaN"))
    return notes


def note_overlap(times: Times, length: float) -> list[Choice]:
    """Return a remark on windows that overlap in session time."""
    n_overlaps = int((np.diff(np.sort(times)) < length - 1e-9).sum())
    if not n_overlaps:
        return []
    reason = "held-out trials then share data with training trials; a shorter window avoids it"
    return [Choice("overlap", f"{n_overlaps} windows overlap the next", reason)]


def check_channels(signals: Sequence[Signal], config: ReadConfig, *, path: str) -> list[str]:
    """Return the names of all output channels, or refuse names to keep that are not among them."""
    names = [column for signal in signals for column in signal.columns]
    if len(set(names)) < len(names):
        names = [f"{s.path.rsplit('/', 1)[-1]}_{column}" for s in signals for column in s.columns]
    unknown = sorted(set(config.channels or ()) - set(names))
    if unknown:
        raise ConfigError(f"{path}: channels: expected some of {_list(names)}, but got {', '.join(unknown)}")
    return names


def _match(signals: Sequence[Signal], wanted: str, setting: str, *, path: str) -> Signal:
    """Return the signal of a role, path or name that a user gave."""
    if wanted in OUTPUT_ROLES:
        ranked = _rank(signals, wanted)
        if ranked:
            return ranked[0]
    for signal in signals:
        if wanted.strip("/") in (signal.path, signal.path.rsplit("/", 1)[-1]):
            return signal
    raise MissingDataError(
        f"{path}: {setting}: expected {wanted!r}, but the file has none; "
        f"there are {_list(f'{s.path} ({s.role})' for s in signals)}"
    )


def _rank(signals: Sequence[Signal], role: str) -> list[Signal]:
    """Return the signals of a role, best first: processed before raw, velocity before position."""

    def cost(signal: Signal) -> tuple[bool, bool, bool, bool]:
        return (
            bool(_RAW.search(signal.path)),
            not _PROCESSED.search(signal.path),
            not signal.path.startswith("processing"),
            role == "kinematics" and "vel" not in signal.path.lower(),
        )

    return sorted((s for s in signals if s.role == role), key=cost)


def _check_column(trials: pd.DataFrame, name: str, setting: str, *, path: str) -> None:
    if name not in trials:
        raise ConfigError(
            f"{path}: {setting}: expected a column of intervals/trials, but got {name!r}; "
            f"there are {_list(trials.columns)}"
        )


def _note_unknown(trials: pd.DataFrame, names: Sequence[str]) -> str:
    """Return a remark on trials without a condition."""
    n_unknown = int(trials[list(names)].isna().any(axis=1).sum())
    return f"; {n_unknown} trials without one are left out" if n_unknown else ""


def _divides(interval: float, bin_size: float) -> bool:
    ratio = bin_size / interval
    return round(ratio) >= 1 and abs(ratio - round(ratio)) < 1e-3 * ratio


def _list(names: Any) -> str:
    """Return names for a message, at most twelve."""
    listed = list(map(str, names))
    more = f" and {len(listed) - 12} more" if len(listed) > 12 else ""
    return (", ".join(listed[:12]) + more) or "none"
