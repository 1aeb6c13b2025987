"""What will be read from a file: all choices, before any data are."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pynwb import NWBFile
from pynwb.epoch import TimeIntervals

from nwbrnn.config import ReadConfig
from nwbrnn.errors import ConfigError, MissingDataError
from nwbrnn.limits import MAX_CONDITIONS
from nwbrnn.readers import choices as objects
from nwbrnn.readers import trial_choices as rules
from nwbrnn.readers.binned import BinnedCounts, find_binned
from nwbrnn.readers.choices import Choice
from nwbrnn.readers.discovery import Signal, find_signals, find_unusable
from nwbrnn.readers.times import SHIFTS, Ticks, to_ticks
from nwbrnn.readers.trials import (
    fill_stop_times,
    find_angles,
    find_relative,
    label_column,
    label_sectors,
    read_trials,
)
from nwbrnn.readers.units import find_units, lies_on_grid, read_spike_trains, read_unit_columns


@dataclass(frozen=True)
class Plan:
    """Everything that decides how a file becomes a Dataset.

    Attributes
    ----------
    outputs, inputs
        Signals to read; no inputs: built from the trial table.
    rates, counts
        Series of recorded rates, or spikes counted in bins; neither: from spike times.
    units
        The units to keep, as rows of the units table, or columns of rates.
    in_table
        Whether they are those of the units table; rates that were given may be of others.
    output_names
        Names of all channels of the outputs.
    trial_table
        Where the trials are in the file.
    trials
        The trials kept, with their plain columns.
    align_to, align_times
        The column that becomes time 0 and its times, shape (n_trials,) [s].
    shown, shown_from, go
        Columns of the condition, that which tells when the subject is shown it, and that of the go cue.
    sectors
        Number of sectors that make the conditions, if these are continuous directions.
    start, n_bins, bin_size
        Start of the window relative to the alignment [s], number and width of its bins [s].
    limits
        Between which times the bins of each trial count, shape (n_trials, 2) [s]; infinite if not limited.
    invalid
        Start and stop of what the file declares invalid, shape (n, 2) [s].
    angles, relative
        Trial columns of directions with their unit, and those of times since the start of the trial.
    session
        First start and last stop of all trials of the file [s].
    resolution
        Spikes are real only to this time [s]; 0 if they are exact.
    choices
        What was picked, and why.
    """

    outputs: tuple[Signal, ...]
    inputs: tuple[Signal, ...]
    rates: tuple[Signal, ...]
    counts: Signal | BinnedCounts | None
    units: NDArray[np.int64]
    in_table: bool
    output_names: tuple[str, ...]
    trial_table: TimeIntervals
    trials: pd.DataFrame
    align_to: str
    align_times: NDArray[np.float64]
    shown: tuple[str, ...]
    shown_from: str | None
    go: str | None
    sectors: int | None
    start: float
    n_bins: int
    bin_size: float
    limits: NDArray[np.float64]
    invalid: NDArray[np.float64]
    angles: dict[str, str]
    relative: frozenset[str]
    session: tuple[float, float]
    resolution: float
    choices: tuple[Choice, ...]

    @property
    def time(self) -> NDArray[np.float64]:
        """Bin centres relative to the alignment, shape (n_bins,) [s]."""
        return np.asarray(self.start + (np.arange(self.n_bins) + 0.5) * self.bin_size, dtype=np.float64)

    @property
    def conditions(self) -> NDArray[np.str_]:
        """Label of each trial's condition, shape (n_trials,)."""
        if self.sectors is not None:
            return label_sectors(self.trials[self.shown[0]], self.sectors, self.angles[self.shown[0]])
        labels = [label_column(self.trials[name], self.angles.get(name)) for name in self.shown]
        if len(labels) == 1:
            return labels[0]
        parts = [[f"{name}={v}" for v in values] for name, values in zip(self.shown, labels, strict=True)]
        return np.array([", ".join(row) for row in zip(*parts, strict=True)] or ["all"] * len(self.trials))

    def find_valid(self, edges: Ticks) -> NDArray[np.bool_]:
        """Return the bins that touch none of the file's invalid times, shape (n_trials, n_bins)."""
        valid = np.ones((edges.shape[0], edges.shape[1] - 1), dtype=bool)
        for start, stop in to_ticks(self.invalid):
            valid &= (edges[:, 1:] <= start) | (edges[:, :-1] >= stop)
        return valid

    def compute_edges(self, *, n_pad: int = 0) -> Ticks:
        """Return the bin edges of each trial, shape (n_trials, n_bins + 2 n_pad + 1) [ticks]."""
        bins = np.arange(-n_pad, self.n_bins + n_pad + 1)
        return to_ticks(self.align_times)[:, np.newaxis] + to_ticks(self.start + bins * self.bin_size)


class _Objects(NamedTuple):
    """What is read, besides trials."""

    outputs: tuple[Signal, ...]
    output_names: tuple[str, ...]
    inputs: tuple[Signal, ...]
    rates: tuple[Signal, ...]
    counts: Signal | BinnedCounts | None
    units: NDArray[np.int64]
    in_table: bool
    choices: list[Choice]

    @property
    def signals(self) -> list[Signal]:
        """All series that are read."""
        counts = [self.counts] if isinstance(self.counts, Signal) else []
        return [*self.outputs, *self.inputs, *self.rates, *counts]


def plan_reading(nwbfile: NWBFile, config: ReadConfig, *, path: str) -> Plan:
    """Decide what to read from an open file.

    Raises
    ------
    MissingDataError
        If units, trials, outputs or a column are missing.
    ConfigError
        If a setting does not fit the file, or there are more conditions than can be inputs.
    ReadError
        If a series to read has no times.
    """
    what = _choose_objects(nwbfile, config, path=path)
    which = _choose_trials(nwbfile, what.counts, config, path=path)
    times = which.times
    intervals, resolution, notes = _find_intervals(nwbfile, what, path=path)
    varying = {signal.path for signal in what.signals if signal.varies}
    bin_size, bin_choice = rules.choose_bin_size(intervals, config, varying=varying, path=path)
    start, n_bins, whole_trials, window_choice = rules.choose_window(
        which, config, counts=what.counts, bins=bin_choice, bin_size=bin_size, path=path
    )
    choices = [*what.choices, *which.choices, bin_choice, window_choice, *notes]
    choices += rules.note_varying({name: intervals[name] for name in varying}, bin_size)
    if not whole_trials:
        choices += rules.note_outside(which, start, start + n_bins * bin_size, path=path)
    shown_from = go = None
    if not what.inputs:
        _check_conditions(which, path=path)
        shown_from, go, task_choice = rules.choose_task_inputs(which.trials, which.shown, which.angles)
        choices.append(task_choice)
    invalid = _read_invalid(nwbfile)
    if len(invalid):
        reason = "the file declares them; bins they touch are masked"
        choices.append(Choice("invalid times", f"{len(invalid)} stretches", reason))
    if resolution <= bin_size / rules.FINE_PART:
        resolution = 0.0
    if resolution:
        phase = _find_phase(what, resolution)
        times = np.rint((times - phase) / resolution) * resolution + phase
        start = round(start / resolution) * resolution
        reason = "spikes are given in bins of this width, so alignments and window are rounded to these bins"
        choices.append(
            Choice("time grid", f"{resolution:g} s" + (f" from {phase:g} s" if phase else ""), reason)
        )
    window = (start, start + n_bins * bin_size)
    apart = config.window is None
    limits = rules.find_limits(which._replace(times=times), window, whole=whole_trials, apart=apart)
    choices += rules.note_overlap(times, window, limits)
    return Plan(
        outputs=what.outputs,
        output_names=what.output_names,
        inputs=what.inputs,
        rates=what.rates,
        counts=what.counts,
        units=what.units,
        in_table=what.in_table,
        trial_table=which.table,
        trials=which.trials,
        align_to=which.align_to,
        align_times=times,
        shown=which.shown,
        shown_from=shown_from,
        go=go,
        sectors=config.sectors if which.continuous else None,
        start=start,
        n_bins=n_bins,
        bin_size=bin_size,
        limits=limits,
        invalid=invalid,
        angles=which.angles,
        relative=which.relative,
        session=which.session,
        resolution=resolution,
        choices=tuple(choices),
    )


def _check_conditions(which: rules.Trials, *, path: str) -> None:
    """Refuse more conditions than can have an input each; directions are two inputs, however many."""
    for name in which.shown:
        n_values = 0 if name in which.angles else which.trials[name].nunique()
        if n_values > MAX_CONDITIONS:
            raise ConfigError(
                f"{path}: condition: expected at most {MAX_CONDITIONS} values of {name}, which become an "
                f"input each, but got {n_values}; give recorded inputs (--inputs), another condition "
                "(--condition), or fewer of the trials (--where)"
            )


def _choose_objects(nwbfile: NWBFile, config: ReadConfig, *, path: str) -> _Objects:
    """Choose outputs, inputs, neurons and units."""
    signals = objects.apply_map(find_signals(nwbfile), config, path=path)
    unusable = find_unusable(nwbfile)
    outputs, outputs_choice = objects.choose_outputs(signals, config, unusable=unusable, path=path)
    outputs, names = objects.choose_channels(outputs, config, path=path)
    inputs, inputs_choice = objects.choose_inputs(signals, config, path=path)
    table = find_units(nwbfile)
    rates, counts, rates_choice = objects.choose_neurons(
        signals, find_binned(nwbfile), config, units=table, path=path
    )
    n_columns = sum(len(signal.columns) for signal in rates)
    n_rows = len(table[1] or ())
    in_table = n_rows > 0 and n_columns in (0, n_rows)
    n_units = n_rows if in_table else _count_units(rates, counts)
    unit_columns = read_unit_columns(nwbfile) if in_table else {}
    units, units_choice = objects.choose_units(unit_columns, n_units, config, path=path)
    what = _Objects(outputs, tuple(names), inputs, rates, counts, units, in_table, [])
    choices = [
        outputs_choice,
        rates_choice,
        units_choice,
        inputs_choice,
        *objects.note_oddities(what.signals),
    ]
    return what._replace(choices=choices)


def _count_units(rates: tuple[Signal, ...], counts: Signal | BinnedCounts | None) -> int:
    """Return the number of units of a file without a table of them."""
    if isinstance(counts, BinnedCounts):
        return int(counts.rows.max()) + 1
    return sum(signal.shape[1] for signal in (*rates, *([] if counts is None else [counts])))


def _choose_trials(
    nwbfile: NWBFile, counts: Signal | BinnedCounts | None, config: ReadConfig, *, path: str
) -> rules.Trials:
    """Choose the trials with an alignment and a condition."""
    table, table_name, table_choice = rules.choose_table(nwbfile, config, path=path)
    everything = read_trials(nwbfile, table, name=table_name, path=path)
    trials, trials_choice = rules.choose_trials(everything, config, path=path)
    relative, angles = find_relative(everything), find_angles(everything)
    align_to, times, align_choice = rules.choose_alignment(
        trials, config, counts=counts, relative=relative, path=path
    )
    trials, times = trials[np.isfinite(times)], times[np.isfinite(times)]
    shown, continuous, condition_choice = rules.choose_condition(trials, config, angles=angles, path=path)
    known = trials[list(shown)].notna().all(axis=1).to_numpy()
    if not known.any():
        raise MissingDataError(
            f"{path}: {table_name}: expected trials with {align_to} and {', '.join(shown)}, "
            "but one is NaN in all of them; choose another align_to or condition"
        )
    stops = pd.Series(fill_stop_times(everything), index=everything.index)
    bounds = everything[["start_time", "stop_time"]].to_numpy(np.float64)
    finite = bounds[np.isfinite(bounds)]
    session = (finite.min(initial=np.inf), finite.max(initial=-np.inf))
    choices = [table_choice, trials_choice, align_choice, condition_choice]
    return rules.Trials(
        table=table,
        trials=trials[known],
        align_to=align_to,
        times=times[known],
        stop_times=np.asarray(stops[trials.index[known]], dtype=np.float64),
        shown=shown,
        continuous=continuous,
        session=session,
        angles=angles,
        relative=relative,
        choices=choices,
    )


def _find_intervals(
    nwbfile: NWBFile, what: _Objects, *, path: str
) -> tuple[dict[str, float], float, list[Choice]]:
    """Return the time between samples of all that is read, the resolution of the spikes [s], and remarks."""
    intervals = {signal.path: signal.interval for signal in what.signals}
    resolution = 0.0
    if isinstance(what.counts, BinnedCounts):
        intervals[what.counts.path] = what.counts.width
        if what.counts.events is None:
            resolution = what.counts.width
    elif not what.rates and what.counts is None:
        where, units = find_units(nwbfile)
        resolution = 0.0 if units is None else float(np.nan_to_num(units.resolution or 0.0))
        trains = read_spike_trains(nwbfile, path=path) if resolution >= rules.FINEST else None
        if trains is not None and not lies_on_grid(trains.times, resolution):
            reason = "spikes do not lie in bins of this width, so nothing is rounded to it"
            note = [Choice("resolution", f"{where}.resolution = {resolution:g} s is not used", reason)]
            return intervals, 0.0, note
        if resolution > 0:
            intervals[f"{where}/spike_times"] = resolution
    return intervals, resolution, []


def _find_phase(what: _Objects, resolution: float) -> float:
    """Return where the bins of the spikes begin, modulo their width [s]: with outputs in the same bins."""
    if isinstance(what.counts, BinnedCounts):
        return what.counts.offset % resolution
    for signal in what.outputs:
        if abs(signal.interval - resolution) < 1e-6 * resolution:
            start = signal.extent[0] + (SHIFTS[signal.stamps] - 0.5) * resolution
            phase = start % resolution
            tolerance = 1e-6 + 4 * np.spacing(abs(start))
            return 0.0 if min(phase, resolution - phase) < tolerance else phase
    return 0.0


def _read_invalid(nwbfile: NWBFile) -> NDArray[np.float64]:
    """Return start and stop of the file's invalid times, shape (n, 2) [s]; what is open has no end."""
    table = nwbfile.invalid_times
    if table is None or len(table) == 0:
        return np.zeros((0, 2))
    starts, stops = (
        np.asarray(table[name].data[:], dtype=np.float64).ravel() for name in ("start_time", "stop_time")
    )
    return np.stack(
        [np.nan_to_num(starts, nan=-np.inf, neginf=-np.inf), np.nan_to_num(stops, nan=np.inf, posinf=np.inf)],
        axis=1,
    )
