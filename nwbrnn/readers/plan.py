"""Plan what to read and how: one record of every choice, made before any data are read."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nwbrnn.config import ReadConfig
from nwbrnn.dataset import Choice
from nwbrnn.errors import ConfigError, MissingDataError
from nwbrnn.limits import MAX_CONDITIONS
from nwbrnn.readers.binned import BinnedCounts
from nwbrnn.readers.rules import objects, windows
from nwbrnn.readers.rules import trials as rules
from nwbrnn.readers.rules.objects import Objects
from nwbrnn.readers.rules.trials import Trials
from nwbrnn.readers.rules.windows import Window
from nwbrnn.readers.session import Session
from nwbrnn.readers.times import SHIFTS, Ticks, to_ticks
from nwbrnn.readers.trials import (
    fill_stop_times,
    find_angles,
    find_numbers,
    find_relative,
    label_column,
    label_sectors,
)
from nwbrnn.readers.units import lies_on_grid
from nwbrnn.text import show_count


@dataclass(frozen=True)
class Plan:
    """Everything that decides how a file becomes a Dataset."""

    objects: Objects  # series and units to read
    trials: Trials  # the trials with their alignment and conditions; times may be rounded to resolution
    window: Window  # bins around each alignment
    # times between which the bins of each trial count, shape (n_trials, 2) [s]; infinite if not limited
    limits: NDArray[np.float64]
    # number of sectors that serve as conditions if the conditions are continuous directions
    sectors: int | None
    second_harmonic: float  # size of the inputs of twice a direction; 0 without them
    # trial columns with the time from which the subject sees the condition, and of the go cue
    shown_from: str | None
    go: str | None
    # start and stop of each stretch that the file declares invalid, shape (n, 2) [s]
    invalid: NDArray[np.float64]
    choices: tuple[Choice, ...]  # what was chosen, and why

    @property
    def time(self) -> NDArray[np.float64]:
        """Bin centres relative to the alignment, shape (n_bins,) [s]."""
        middles = (np.arange(self.window.n_bins, dtype=np.float64) + 0.5) * self.window.bin_size
        return np.asarray(self.window.start + middles, dtype=np.float64)

    @property
    def conditions(self) -> NDArray[np.str_]:
        """Label of each trial's condition, shape (n_trials,)."""
        table, shown, angles = self.trials.frame, self.trials.shown, self.trials.angles
        if self.sectors is not None:
            return label_sectors(table[shown[0]], self.sectors, angles[shown[0]])
        labels = [label_column(table[name], angles.get(name)) for name in shown]
        if len(labels) == 1:
            return labels[0]
        parts = [[f"{name}={v}" for v in values] for name, values in zip(shown, labels, strict=True)]
        return np.array([", ".join(row) for row in zip(*parts, strict=True)] or ["all"] * len(table))

    def find_valid(self, edges: Ticks) -> NDArray[np.bool_]:
        """Return the bins outside the file's invalid times, shape (n_trials, n_bins)."""
        valid = np.ones((edges.shape[0], edges.shape[1] - 1), dtype=bool)
        for start, stop in to_ticks(self.invalid):
            valid &= (edges[:, 1:] <= start) | (edges[:, :-1] >= stop)
        return valid

    def compute_edges(self, *, n_pad: int = 0) -> Ticks:
        """Return the bin edges of each trial, shape (n_trials, n_bins + 2 n_pad + 1) [ticks]."""
        bins = np.arange(-n_pad, self.window.n_bins + n_pad + 1)
        around = to_ticks(self.window.start + bins * self.window.bin_size)
        return to_ticks(self.trials.times)[:, np.newaxis] + around


def plan_reading(session: Session, config: ReadConfig) -> Plan:
    """Decide what to read from an open file, or refuse what does not fit together.

    Examples
    --------
    >>> from nwbrnn.readers.session import open_session
    >>> with open_session(example, follow_links=False) as session:
    ...     plan = plan_reading(session, ReadConfig(window=(-0.2, 0.6)))
    >>> plan.trials.align_to, plan.window.start, plan.window.n_bins, plan.window.bin_size
    ('go_cue_time', -0.2, 40, 0.02)
    >>> [choice.picked for choice in plan.choices if choice.role in ("outputs", "condition")]
    ['acquisition/EMG', 'target_dir']
    """
    chosen, notes = _choose_objects(session, config)
    trials, about_trials = _choose_trials(session, config, counts=chosen.counts)
    window, about_window = _choose_window(session, config, chosen, trials)
    notes += about_trials + about_window
    shown_from = go = None
    if not chosen.inputs:
        _check_conditions(trials)
        shown_from, go, choice = rules.choose_task_inputs(trials.frame, trials.shown, trials.angles)
        notes.append(choice)
    if len(session.invalid):
        reason = "the file declares them; bins they touch are masked"
        text = show_count(len(session.invalid), "stretch", "stretches")
        notes.append(Choice("invalid times", text, reason))
    trials, window, rounded = _round_to_spikes(trials, window, chosen)
    limits = windows.find_limits(trials, window, apart=config.window is None)
    notes += rounded + windows.note_overlap(trials.times, window, limits)
    return Plan(
        objects=chosen,
        trials=trials,
        window=window,
        limits=limits,
        sectors=config.sectors if trials.continuous else None,
        second_harmonic=config.second_harmonic,
        shown_from=shown_from,
        go=go,
        invalid=session.invalid,
        choices=tuple(notes),
    )


def _choose_objects(session: Session, config: ReadConfig) -> tuple[Objects, list[Choice]]:
    """Choose the outputs, inputs, neurons and units to read."""
    signals = objects.apply_map(session.signals, config)
    outputs, about_outputs = objects.choose_outputs(signals, config, unusable=session.unusable)
    outputs, names = objects.choose_channels(outputs, config)
    inputs, about_inputs = objects.choose_inputs(signals, config)
    table = session.units_path, session.units
    rates, counts, about_rates = objects.choose_neurons(signals, session.binned, config, units=table)
    n_columns = sum(len(signal.columns) for signal in rates)
    n_rows = 0 if session.units is None else len(session.units)
    in_table = n_rows > 0 and n_columns in (0, n_rows)
    n_units = n_rows if in_table else objects.count_units(rates, counts)
    columns = session.unit_columns if in_table else {}
    units, about_units = objects.choose_units(columns, n_units, config)
    chosen = Objects(outputs, tuple(names), inputs, rates, counts, units, in_table)
    oddities = objects.note_oddities(chosen.signals)
    return chosen, [about_outputs, about_rates, about_units, about_inputs, *oddities]


def _choose_trials(
    session: Session, config: ReadConfig, *, counts: objects.Counts | None
) -> tuple[Trials, list[Choice]]:
    """Choose the trials with an alignment and a condition."""
    name, table_choice = rules.choose_table(session.trial_tables, config)
    stored = session.read_trials(name)
    trials, trials_choice = rules.choose_trials(stored, config)
    everything, none = find_numbers(stored)
    trials = everything.loc[trials.index]
    relative, angles = find_relative(everything), find_angles(everything)
    align_to, times, align_choice = rules.choose_alignment(trials, config, counts=counts, relative=relative)
    trials, times = trials[np.isfinite(times)], times[np.isfinite(times)]
    shown, continuous, condition_choice = rules.choose_condition(trials, config, angles=angles, none=none)
    known = trials[list(shown)].notna().all(axis=1).to_numpy()
    if not known.any():
        raise MissingDataError(
            f"{name}: expected trials with {align_to} and {', '.join(shown)}, "
            "but one is NaN in all of them; choose another align_to or condition"
        )
    stops = pd.Series(fill_stop_times(everything), index=everything.index)
    bounds = everything[["start_time", "stop_time"]].to_numpy(np.float64)
    finite = bounds[np.isfinite(bounds)]
    chosen = Trials(
        table=session.trial_tables[name],
        frame=trials[known].assign(**{n: stored[n] for n in none if n not in shown}),
        align_to=align_to,
        times=times[known],
        stop_times=np.asarray(stops[trials.index[known]], dtype=np.float64),
        shown=shown,
        continuous=continuous,
        session=(finite.min(initial=np.inf), finite.max(initial=-np.inf)),
        angles=angles,
        relative=relative,
    )
    return chosen, [table_choice, trials_choice, align_choice, condition_choice]


def _choose_window(
    session: Session, config: ReadConfig, chosen: Objects, trials: Trials
) -> tuple[Window, list[Choice]]:
    """Choose the bin width and the window."""
    intervals = {signal.path: signal.spacing for signal in chosen.signals}
    resolution, notes = _find_resolution(session, chosen)
    if isinstance(chosen.counts, BinnedCounts):
        intervals[chosen.counts.path] = chosen.counts.width
    elif resolution:
        intervals[f"{session.units_path}/spike_times"] = resolution
    varying = {signal.path for signal in chosen.signals if signal.varies}
    bin_size, about_bins = windows.choose_bin_size(intervals, config, varying=varying)
    window, choice = windows.choose_window(
        trials, config, counts=chosen.counts, bins=about_bins, bin_size=bin_size
    )
    notes = [about_bins, choice, *notes]
    notes += windows.note_varying({name: intervals[name] for name in varying}, bin_size)
    if not window.whole:
        notes += windows.note_outside(trials, window)
    if resolution <= bin_size / windows.FINE_PART:
        resolution = 0.0
    return replace(window, resolution=resolution), notes


def _find_resolution(session: Session, chosen: Objects) -> tuple[float, list[Choice]]:
    """Return the resolution of the spike times [s], 0 if they are exact, and a remark."""
    if isinstance(chosen.counts, BinnedCounts):
        return chosen.counts.width if chosen.counts.events is None else 0.0, []
    if chosen.rates or chosen.counts is not None:
        return 0.0, []
    resolution = session.resolution
    if resolution >= windows.FINEST and not lies_on_grid(session.read_spikes().times, resolution):
        text = f"{session.units_path}.resolution = {resolution:g} s is not used"
        reason = "spikes do not lie in bins of this width, so nothing is rounded to it"
        return 0.0, [Choice("resolution", text, reason)]
    return resolution, []


def _round_to_spikes(trials: Trials, window: Window, chosen: Objects) -> tuple[Trials, Window, list[Choice]]:
    """Round alignments and window to the resolution of the spike times, if it is coarse."""
    width = window.resolution
    if not width:
        return trials, window, []
    phase = _find_phase(chosen, width)
    times = np.rint((trials.times - phase) / width) * width + phase
    reason = "spikes are given in bins of this width, so alignments and window are rounded to these bins"
    text = f"{width:g} s" + (f" from {phase:g} s" if phase else "")
    start = round(window.start / width) * width
    return trials._replace(times=times), replace(window, start=start), [Choice("time grid", text, reason)]


def _find_phase(chosen: Objects, resolution: float) -> float:
    """Return the start of the spikes' bins modulo their width [s], from outputs in the same bins."""
    if isinstance(chosen.counts, BinnedCounts):
        return chosen.counts.offset % resolution
    for signal in chosen.outputs:
        if abs(signal.spacing - resolution) < 1e-6 * resolution:
            start = signal.extent[0] + (SHIFTS[signal.stamps] - 0.5) * resolution
            phase = start % resolution
            tolerance = 1e-6 + 4 * np.spacing(abs(start))
            return 0.0 if min(phase, resolution - phase) < tolerance else phase
    return 0.0


def _check_conditions(trials: Trials) -> None:
    """Refuse too many conditions for one input each; any number of directions needs only two inputs."""
    for name in trials.shown:
        n_values = 0 if name in trials.angles else trials.frame[name].nunique()
        if n_values > MAX_CONDITIONS:
            raise ConfigError(
                f"condition: expected at most {MAX_CONDITIONS} values of {name}, which become an "
                f"input each, but got {n_values}; give recorded inputs (--inputs), another condition "
                "(--condition), or fewer of the trials (--where)"
            )
