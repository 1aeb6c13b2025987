"""What will be read from a file: all choices, before any data are."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pynwb import NWBFile

from nwbrnn.config import ReadConfig
from nwbrnn.errors import MissingDataError
from nwbrnn.readers import choices as rules
from nwbrnn.readers.choices import Choice
from nwbrnn.readers.discovery import Signal, find_signals
from nwbrnn.readers.trials import label_values, read_trials


@dataclass(frozen=True)
class Plan:
    """Everything that decides how a file becomes a Dataset.

    Attributes
    ----------
    outputs, inputs, rates
        Signals to read; no inputs: built from the trial table; no rates: from spikes.
    output_names
        Names of all channels of the outputs.
    trials
        The trials kept, with their plain columns.
    align_to, align_times
        The column that becomes time 0 and its times, shape (n_trials,) [s].
    shown, shown_from, go
        Columns of the condition, that which tells when the subject is shown it, and that of the go cue.
    start, n_bins, bin_size
        Start of the window relative to the alignment [s], number and width of its bins [s].
    resolution
        Spikes are real only to this time [s]; 0 if they are exact.
    choices
        What was picked, and why.
    """

    outputs: tuple[Signal, ...]
    inputs: tuple[Signal, ...]
    rates: Signal | None
    output_names: tuple[str, ...]
    trials: pd.DataFrame
    align_to: str
    align_times: NDArray[np.float64]
    shown: tuple[str, ...]
    shown_from: str | None
    go: str | None
    start: float
    n_bins: int
    bin_size: float
    resolution: float
    choices: tuple[Choice, ...]

    @property
    def time(self) -> NDArray[np.float64]:
        """Bin centres relative to the alignment, shape (n_bins,) [s]."""
        return np.asarray(self.start + (np.arange(self.n_bins) + 0.5) * self.bin_size, dtype=np.float64)

    @property
    def conditions(self) -> NDArray[np.str_]:
        """Label of each trial's condition, shape (n_trials,)."""
        if len(self.shown) == 1:
            return label_values(self.trials[self.shown[0]])
        parts = [[f"{name}={v}" for v in label_values(self.trials[name])] for name in self.shown]
        return np.array([", ".join(row) for row in zip(*parts, strict=True)] or ["all"] * len(self.trials))


def plan_reading(nwbfile: NWBFile, config: ReadConfig, *, path: str) -> Plan:
    """Decide what to read from an open file.

    Raises
    ------
    MissingDataError
        If units, trials, outputs or a column are missing.
    ConfigError
        If a setting does not fit the file.
    """
    n_units = 0 if nwbfile.units is None else len(nwbfile.units)
    if not n_units:
        raise MissingDataError(f"{path}: units: expected a table of units, but the file has none")
    table = read_trials(nwbfile, path=path)
    signals = find_signals(nwbfile)
    outputs, outputs_choice = rules.choose_outputs(signals, config, path=path)
    names = rules.check_channels(outputs, config, path=path)
    inputs, inputs_choice = rules.choose_inputs(signals, config, path=path)
    rates, rates_choice = rules.choose_rates(signals, n_units, config, path=path)
    if rates is None and "spike_times" not in nwbfile.units.colnames:
        raise MissingDataError(
            f"{path}: units: expected the column spike_times or a series of firing rates, but there are only "
            f"{', '.join(nwbfile.units.colnames)}; name a series of rates with rates (--rates)"
        )
    trials, trials_choice = rules.choose_trials(table, config, path=path)
    align_to, times, align_choice = rules.choose_alignment(trials, config, path=path)
    trials, times = trials[np.isfinite(times)], times[np.isfinite(times)]
    shown, condition_choice = rules.choose_condition(trials, config, path=path)
    known = trials[list(shown)].notna().all(axis=1).to_numpy()
    if not known.any():
        raise MissingDataError(
            f"{path}: intervals/trials: expected trials with {align_to} and {', '.join(shown)}, "
            "but one is NaN in all of them; choose another align_to or condition"
        )
    trials, times = trials[known], times[known]

    resolution = float(nwbfile.units.resolution or 0.0) if rates is None else 0.0
    used = (*outputs, *inputs, *((rates,) if rates else ()))
    intervals = {signal.path: signal.interval for signal in used}
    if resolution > 0:
        intervals["units/spike_times"] = resolution
    bin_size, bin_choice = rules.choose_bin_size(intervals, config, path=path)
    if resolution <= bin_size / rules.FINE_PART:
        resolution = 0.0
    start, n_bins, window_choice = rules.choose_window(
        trials, times, config, bin_size=bin_size, align_to=align_to, path=path
    )
    choices = [outputs_choice, rates_choice, inputs_choice, trials_choice, align_choice]
    choices += [condition_choice, bin_choice, window_choice]
    choices += rules.note_oddities(used)
    choices += rules.note_overlap(times, n_bins * bin_size)
    shown_from = go = None
    if not inputs:
        shown_from, go, task_choice = rules.choose_task_inputs(trials, shown)
        choices.append(task_choice)
    if resolution:
        times = np.rint(times / resolution) * resolution
        reason = (
            "spikes are given in bins of this width, so these bins are kept and alignments rounded to them"
        )
        choices.append(Choice("time grid", f"{resolution:g} s", reason))
    return Plan(
        outputs=outputs,
        inputs=inputs,
        rates=rates,
        output_names=tuple(names),
        trials=trials,
        align_to=align_to,
        align_times=times,
        shown=shown,
        shown_from=shown_from,
        go=go,
        start=start,
        n_bins=n_bins,
        bin_size=bin_size,
        resolution=resolution,
        choices=tuple(choices),
    )
