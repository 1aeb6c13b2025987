"""Small NWB files in the layouts met in the wild, and what a reader has to make of each.

Everything that is expected is put together here with NumPy and SciPy from what was put into the file.
"""

import contextlib
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import scipy.signal
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.behavior import BehavioralTimeSeries, Position, SpatialSeries

N_TRIALS = 12
N_UNITS = 5
DURATION = 34.0  # of a session [s]; the last window ends before
SPACING = 2.4  # from the start of one trial to the next [s]
MUSCLES = ("FCR", "ECU", "BIC")


@dataclass
class Task:
    """Times of trials in session time [s], what was shown, and spikes."""

    rng: np.random.Generator
    start: np.ndarray
    stop: np.ndarray
    target_on: np.ndarray
    go: np.ndarray
    move: np.ndarray
    direction: np.ndarray
    result: np.ndarray
    spikes: list[np.ndarray]

    @property
    def rewarded(self):
        return np.flatnonzero(self.result == "R")


def create_task(seed=0, *, grid=None):
    """Return random trials of unequal length and spikes; times of trials are multiples of ``grid`` [s]."""
    rng = np.random.default_rng(seed)

    def spread(low, high):
        times = rng.uniform(low, high, N_TRIALS)
        return times if grid is None else np.round(times / grid) * grid

    start = 1.0 + SPACING * np.arange(N_TRIALS)
    go = start + spread(0.75, 0.85)
    spikes = [np.sort(rng.uniform(0, DURATION, 500 + 100 * unit)) for unit in range(N_UNITS)]
    return Task(
        rng=rng,
        start=start,
        stop=start + spread(2.2, 2.35),
        target_on=start + spread(0.1, 0.3),
        go=go,
        move=go + spread(0.2, 0.3),
        direction=np.array([0.0, 90.0, 180.0, 270.0])[np.arange(N_TRIALS) % 4],
        result=np.where(np.arange(N_TRIALS) % 8 == 7, "F", "R"),
        spikes=spikes,
    )


def create_values(rng, times, n_channels):
    """Return sums of slow sines, positive, shape (n_samples, n_channels)."""
    frequency = rng.uniform(0.3, 3.0, (4, n_channels))
    phase = rng.uniform(0, 2 * np.pi, (4, n_channels))
    sines = np.sin(2 * np.pi * frequency * times[:, np.newaxis, np.newaxis] + phase)
    return 5.0 + sines.sum(axis=1)


@dataclass(frozen=True)
class Layout:
    """What ``read_nwb(path, **settings)`` has to give.

    ``values`` are in their unit and filtered, shape (n_samples, n_outputs), their middles at ``centres`` [s].
    ``kept`` are the units, ``rows`` the trials, with time 0 at ``align`` [s]. ``usable`` tells which bins
    count, given their edges [s].
    """

    names: list[str]
    unit: str
    values: np.ndarray
    centres: np.ndarray
    rows: np.ndarray
    align: np.ndarray
    condition: list[str]
    picked: str
    spikes: list[np.ndarray]
    settings: dict = field(default_factory=dict)
    kept: np.ndarray | None = None
    window: tuple[float, float] = (-0.4, 1.5)
    bin_size: float = 0.02
    align_to: str = "go_cue_time"
    usable: Callable[[np.ndarray], np.ndarray] | None = None

    @property
    def edges(self):
        """Return bin edges of each trial, shape (n_trials, n_bins + 1) [s]."""
        n_bins = int((self.window[1] - self.window[0]) / self.bin_size + 1e-6)
        return self.align[:, np.newaxis] + self.window[0] + np.arange(n_bins + 1) * self.bin_size

    @property
    def outputs(self):
        """Return averages of the samples in bins; NaN in bins with less than half of their samples."""
        return average(self.values, self.centres, self.edges, bin_size=self.bin_size)

    @property
    def mask(self):
        mask = np.isfinite(self.outputs).all(axis=2)
        return mask if self.usable is None else mask & self.usable(self.edges)

    @property
    def spike_counts(self):
        return count(self.spikes, self.edges)


def average(values, centres, edges, *, bin_size):
    """Average the samples whose middle is in [edge, next edge), shape (n_trials, n_bins, n_channels)."""
    means = np.full((edges.shape[0], edges.shape[1] - 1, values.shape[1]), np.nan)
    nominal = bin_size / np.median(np.diff(centres))
    for trial, bounds in enumerate(edges):
        for b, (low, high) in enumerate(pairwise(bounds)):
            inside = (centres >= low) & (centres < high)
            if inside.any() and inside.sum() >= 0.5 * nominal - 1e-3:
                means[trial, b] = values[inside].mean(axis=0)
    return means


def count(spikes, edges):
    """Return histograms of spikes, shape (n_trials, n_bins, n_units)."""
    return np.stack([[np.histogram(s, bounds)[0] for s in spikes] for bounds in edges]).transpose(0, 2, 1)


def suppress_aliases(values, rate, bin_size, *, breaks=()):
    """Low-pass at 0.8 of the Nyquist frequency of the bins, each stretch between gaps by itself."""
    low = scipy.signal.butter(4, 0.4 / bin_size, "lowpass", fs=rate, output="sos")
    parts = [scipy.signal.sosfiltfilt(low, part, axis=0, padlen=96) for part in np.split(values, breaks)]
    filtered = np.concatenate(parts)
    return np.maximum(filtered, 0) if values.min() >= 0 else filtered


def compute_envelope(values, rate):
    """High-pass at 50 Hz, rectify, low-pass at 10 Hz."""
    high = scipy.signal.butter(4, 50.0, "highpass", fs=rate, output="sos")
    low = scipy.signal.butter(2, 10.0, "lowpass", fs=rate, output="sos")
    rectified = np.abs(scipy.signal.sosfiltfilt(high, values, axis=0))
    return np.maximum(scipy.signal.sosfiltfilt(low, rectified, axis=0), 0)


def create_file():
    return NWBFile("a session", "layout", datetime(2020, 5, 17, 9, 30, tzinfo=UTC))


def write(nwbfile, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pynwb's remarks on odd files
        with NWBHDF5IO(str(path), "w") as io:
            io.write(nwbfile)


def add_units(nwbfile, spikes, **columns):
    for name in columns:
        if name not in ("obs_intervals", "electrodes", "electrode_group", "waveforms"):
            nwbfile.add_unit_column(name, name)
    for unit, times in enumerate(spikes):
        nwbfile.add_unit(spike_times=times, **{name: values[unit] for name, values in columns.items()})


def add_trials(nwbfile, task, columns, *, add=None):
    """Add trials with columns; ``add`` takes the place of ``nwbfile.add_trial``."""
    if add is None:
        for name in columns:
            nwbfile.add_trial_column(name, name)
        add = nwbfile.add_trial
    for i in range(len(task.start)):
        row = {name: values[i] for name, values in columns.items()}
        add(start_time=task.start[i], stop_time=task.stop[i], **row)


def create_wrist_columns(task):
    return {
        "target_on_time": task.target_on,
        "go_cue_time": task.go,
        "target_dir": task.direction,
        "result": task.result,
    }


def create_series(name, data, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return TimeSeries(name=name, data=data, **options)


def create_spatial(name, data, stamps, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return SpatialSeries(name=name, data=data, timestamps=stamps, reference_frame="screen", **options)


def add_to(nwbfile, module, *members):
    if module not in nwbfile.processing:
        nwbfile.create_processing_module(module, module)
    for member in members:
        nwbfile.processing[module].add(member)


def create_envelopes(rng, *, rate=50.0, n_channels=3):
    stamps = np.arange(round(DURATION * rate)) / rate
    return create_values(rng, stamps, n_channels), stamps


def expect_wrist(task, values, centres, **others):
    """Return what to expect of trials with the columns of :func:`create_wrist_columns`."""
    rows = task.rewarded
    expected = {
        "names": list(MUSCLES),
        "unit": "mV",
        "condition": [f"{d:g}" for d in task.direction[rows]],
        "picked": "acquisition/EMG",
        "spikes": task.spikes,
        "rows": rows,
        "align": task.go[rows],
    }
    return Layout(values=values, centres=centres, **(expected | others))


def write_wrist(path, task, nwbfile, **columns):
    """Add units and trials to a file that has its outputs, and write it."""
    add_units(nwbfile, task.spikes)
    add_trials(nwbfile, task, create_wrist_columns(task) | columns)
    write(nwbfile, path)


def add_plain_emg(nwbfile, task):
    """Add EMG as the columns of one series; return values and the middles of samples."""
    values, stamps = create_envelopes(task.rng)
    comments = f"columns=[{','.join(MUSCLES)}]"
    nwbfile.add_acquisition(create_series("EMG", values, unit="mV", rate=50.0, comments=comments))
    return values, stamps + 0.01


LAYOUTS: dict[str, Callable[[Path], Layout]] = {}


def layout(build):
    LAYOUTS[build.__name__.removeprefix("build_")] = build
    return build


# FALCON


def build_falcon_m1_with(path, *, description):
    task = create_task(1)
    nwbfile = create_file()
    values, stamps = create_envelopes(task.rng)
    container = BehavioralTimeSeries(name="preprocessed_emg")
    for i, muscle in enumerate(MUSCLES):
        options = {"timestamps": stamps + 0.02, "unit": "mV", "comments": f"columns=[{muscle}]"}
        if description:
            options["description"] = description
        container.add_timeseries(create_series(muscle, values[:, i], **options))
    nwbfile.add_acquisition(container)
    mask = create_series("eval_mask", np.arange(len(stamps)) % 3 > 0, unit="bool", timestamps=stamps + 0.02)
    nwbfile.add_acquisition(mask)
    location = np.arange(N_TRIALS) % 2
    columns = {
        "gocue_time": task.go,
        "move_onset_time": task.move,
        "contact_time": task.move + 0.2,
        "reward_time": task.move + 0.5,
        "result": task.result,
        "tgt_loc": location,
        "tgt_obj": np.array(["sphere", "button"])[np.arange(N_TRIALS) // 2 % 2],
        "condition_id": task.direction.astype(int) // 90 + 1,
    }
    add_units(nwbfile, task.spikes)
    add_trials(nwbfile, task, columns)
    write(nwbfile, path)
    order = np.argsort(MUSCLES)
    return expect_wrist(
        task,
        values[:, order],
        stamps + 0.01,
        names=sorted(MUSCLES),
        condition=[f"{int(d) // 90 + 1}" for d in task.direction[task.rewarded]],
        picked="acquisition/preprocessed_emg",
        align_to="gocue_time",
    )


@layout
def build_falcon_m1(path):
    return build_falcon_m1_with(path, description="EMG envelope; timestamps are bin ends")


@layout
def build_falcon_m1_without_description(path):
    return build_falcon_m1_with(path, description=None)


def add_binned_spikes(nwbfile, task):
    edges = np.arange(round(DURATION / 0.02) + 1) * 0.02
    counts = np.stack([np.histogram(s, edges)[0] for s in task.spikes], axis=1)
    counts = counts.astype(np.uint8)
    nwbfile.add_acquisition(create_series("binned_spikes", counts, unit="count", rate=50.0))


def build_falcon_h1_with(path, *, spikes):
    """Open-loop kinematics and counts in bins; ``spikes``: where units come from."""
    # trials on the grid of the bins, so that counts of whole bins are expected
    task = create_task(2, grid=0.02)
    nwbfile = create_file()
    values, stamps = create_envelopes(task.rng, n_channels=7)
    kinematics = create_series("OpenLoopKinematicsVelocity", values, unit="a.u.", rate=50.0)
    nwbfile.add_acquisition(kinematics)
    add_binned_spikes(nwbfile, task)
    mask = create_series("eval_mask", np.ones(len(stamps), dtype=bool), unit="bool", rate=50.0)
    nwbfile.add_acquisition(mask)
    if spikes == "times":
        add_units(nwbfile, task.spikes)
    elif spikes == "labels":
        nwbfile.add_unit_column("quality", "quality")
        for _ in range(N_UNITS):
            nwbfile.add_unit(quality="good")
    add_trials(nwbfile, task, {"go_cue_time": task.go, "condition": task.direction.astype(int)})
    write(nwbfile, path)
    return expect_wrist(
        task,
        values,
        stamps + 0.01,
        names=[f"OpenLoopKinematicsVelocity_{i}" for i in range(7)],
        unit="a.u.",
        picked="acquisition/OpenLoopKinematicsVelocity",
        rows=np.arange(N_TRIALS),
        align=task.go,
        condition=[f"{d:g}" for d in task.direction],
    )


@layout
def build_falcon_h1(path):
    return build_falcon_h1_with(path, spikes="none")


@layout
def build_falcon_h1_units_without_spikes(path):
    return build_falcon_h1_with(path, spikes="labels")


@layout
def build_falcon_h1_units_with_spikes(path):
    return build_falcon_h1_with(path, spikes="times")


@layout
def build_falcon_m2(path):
    """Finger velocities as series of a container; stamps are the starts of bins."""
    task = create_task(3)
    nwbfile = create_file()
    values, stamps = create_envelopes(task.rng, n_channels=2)
    container = BehavioralTimeSeries(name="finger_vel")
    for i, finger in enumerate(("index", "mrs")):
        container.add_timeseries(
            create_series(
                finger, values[:, i], unit="AU/s", timestamps=stamps, comments=f"columns=[{finger}]"
            )
        )
    nwbfile.add_acquisition(container)
    write_wrist(path, task, nwbfile)
    names = ["index", "mrs"]
    return expect_wrist(
        task, values, stamps + 0.01, names=names, unit="AU/s", picked="acquisition/finger_vel"
    )


# EMG


@layout
def build_turner(path):
    """One series for each muscle at 1 kHz, rectified already, integers near 2048."""
    task = create_task(4)
    nwbfile = create_file()
    stamps = np.arange(round(DURATION * 1000)) / 1000
    noise = np.abs(task.rng.standard_normal((len(stamps), 3)))
    counts = np.round(2048 + 30 * create_values(task.rng, stamps, 3) * noise).astype(np.int16)
    for i, muscle in enumerate(MUSCLES):
        nwbfile.add_acquisition(create_series(f"EMG{muscle}", counts[:, i], unit="a.u.", rate=1000.0))
    write_wrist(path, task, nwbfile)
    values = suppress_aliases(counts[:, np.argsort(MUSCLES)].astype(float), 1000.0, 0.02)
    return expect_wrist(
        task, values, stamps + 0.0005, names=sorted(MUSCLES), unit="a.u.", picked="acquisition/EMG*"
    )


@layout
def build_rat(path):
    """Raw EMG and its filtered versions side by side; trials without a go cue, unequally long."""
    task = create_task(5)
    nwbfile = create_file()
    stamps = np.arange(round(DURATION * 500)) / 500
    emg = create_values(task.rng, stamps, 3)
    raw = emg * task.rng.standard_normal(emg.shape)
    timing = {"unit": "V", "rate": 500.0, "comments": f"columns=[{','.join(MUSCLES)}]"}
    nwbfile.add_acquisition(create_series("emg_raw", raw, **timing))
    for name, values in (("emg_notch", 0.9 * raw), ("emg_hp", 0.8 * raw), ("emg", emg)):
        add_to(nwbfile, "emg_filtering_module", create_series(name, values, **timing))
    add_units(nwbfile, task.spikes)
    add_trials(nwbfile, task, {"is_good": np.arange(N_TRIALS) != 3})
    write(nwbfile, path)
    rows = np.array([i for i in range(N_TRIALS) if i != 3])
    longest = (task.stop - task.start)[rows].max()
    stops = task.stop[rows, np.newaxis]
    return expect_wrist(
        task,
        suppress_aliases(emg, 500.0, 0.02),
        stamps + 0.001,
        unit="V",
        picked="processing/emg_filtering_module/emg",
        rows=rows,
        align=task.start[rows],
        condition=["all"] * len(rows),
        align_to="start_time",
        window=(0.0, longest),
        usable=lambda edges: edges[:, 1:] <= stops + 2e-4,
    )


@layout
def build_eeg_and_emg(path):
    """Raw EEG and EMG as columns of one ElectricalSeries (DANDI 001888), with a gain for each channel."""
    from pynwb.ecephys import ElectricalSeries

    task = create_task(6)
    nwbfile = create_file()
    device = nwbfile.create_device("amplifier")
    for name in ("EEGArray", "EMGArray"):
        nwbfile.create_electrode_group(name, name, location="here", device=device)
    nwbfile.add_electrode_column("label", "label of the channel")
    labels = ["C3", "FCR", "Cz", "ECU", "BIC"]
    for label in labels:
        group = nwbfile.electrode_groups["EMGArray" if label in MUSCLES else "EEGArray"]
        nwbfile.add_electrode(location="here", group=group, label=label)
    stamps = np.arange(round(DURATION * 1000)) / 1000
    shape = (len(stamps), 5)
    raw = np.round(300 * create_values(task.rng, stamps, 5) * task.rng.standard_normal(shape)).astype(
        np.int16
    )
    gain = np.array([1.0, 2.0, 3.0, 4.0, 0.5])
    nwbfile.add_acquisition(
        ElectricalSeries(
            name="raw",
            data=raw,
            electrodes=nwbfile.create_electrode_table_region(list(range(5)), "all"),
            rate=1000.0,
            conversion=1e-3,
            channel_conversion=gain,
        )
    )
    write_wrist(path, task, nwbfile)
    emg = (raw * 1e-3 * gain)[:, [1, 3, 4]]
    return expect_wrist(
        task,
        compute_envelope(emg, 1000.0),
        stamps + 0.0005,
        unit="volts",
        picked="acquisition/raw[EMGArray]",
    )


@layout
def build_emg_module(path):
    """A module of its own with a series for each muscle."""
    task = create_task(7)
    nwbfile = create_file()
    values, stamps = create_envelopes(task.rng)
    for i, muscle in enumerate(MUSCLES):
        series = create_series(muscle, values[:, i], unit="mV", rate=50.0)
        add_to(nwbfile, "emg", series)
    write_wrist(path, task, nwbfile)
    order = np.argsort(MUSCLES)
    return expect_wrist(task, values[:, order], stamps + 0.01, names=sorted(MUSCLES), picked="processing/emg")


@layout
def build_mapped(path):
    """A map beats the rules, which would take the EMG."""
    task = create_task(8)
    nwbfile = create_file()
    add_plain_emg(nwbfile, task)
    values, stamps = create_envelopes(task.rng, n_channels=2)
    add_to(nwbfile, "behavior", create_series("strange_name", values, unit="uV", rate=50.0))
    write_wrist(path, task, nwbfile)
    where = "processing/behavior/strange_name"
    return expect_wrist(
        task,
        values,
        stamps + 0.01,
        names=["strange_name_0", "strange_name_1"],
        unit="uV",
        picked=where,
        settings={"map": {"emg": where}},
    )


@layout
def build_container_path(path):
    """Outputs by the path of a container whose series differ in width."""
    task = create_task(9)
    nwbfile = create_file()
    add_plain_emg(nwbfile, task)
    values, stamps = create_envelopes(task.rng)
    container = BehavioralTimeSeries(name="kinetics")
    container.add_timeseries(create_series("moment", values[:, :2], unit="N", rate=50.0))
    container.add_timeseries(create_series("pull", values[:, 2], unit="N", rate=50.0))
    add_to(nwbfile, "behavior", container)
    write_wrist(path, task, nwbfile)
    return expect_wrist(
        task,
        values,
        stamps + 0.01,
        names=["moment_0", "moment_1", "pull"],
        unit="N",
        picked="processing/behavior/kinetics/moment, processing/behavior/kinetics/pull",
        settings={"outputs": "processing/behavior/kinetics"},
    )


# Perich and Miller


def add_areas(nwbfile, *, n_electrodes=1):
    """Add electrode groups of M1 and PMd with electrodes each; return the groups."""
    device = nwbfile.create_device("array")
    groups = []
    for area in ("M1", "PMd"):
        groups.append(nwbfile.create_electrode_group(area, f"array in {area}", location=area, device=device))
        for _ in range(n_electrodes):
            nwbfile.add_electrode(location=area, group=groups[-1])
    return groups


def build_perich_with(path, *, by, area=None, go="go_cue_time"):
    """Cursor kinematics; units know their area by group or by electrodes; doubly ragged waveforms."""
    task = create_task(10)
    nwbfile = create_file()
    stamps = np.arange(round(DURATION * 100)) / 100
    position, velocity, acceleration = (create_values(task.rng, stamps, 2) - 5.0 for _ in range(3))
    add_to(
        nwbfile,
        "behavior",
        Position(name="Position", spatial_series=create_spatial("cursor_pos", position, stamps, unit="cm")),
    )
    for name, values in (("Velocity", velocity), ("Acceleration", acceleration)):
        series = create_series(f"cursor_{name[:3].lower()}", values, timestamps=stamps, unit="cm/s")
        add_to(nwbfile, "behavior", BehavioralTimeSeries(name=name, time_series=series))
    groups = add_areas(nwbfile, n_electrodes=2)
    areas = np.arange(N_UNITS) % 2
    waveforms = [[[[0.5, 0.25, 1.0]]] * len(s) for s in task.spikes]
    place = {"electrode_group": [groups[a] for a in areas]}
    if by == "electrodes":
        place = {"electrodes": [[2 * a] for a in areas]}
    add_units(nwbfile, task.spikes, waveforms=waveforms, **place)
    corners = task.rng.normal(size=(N_TRIALS, 8))
    columns = create_wrist_columns(task) | {"target_id": np.arange(N_TRIALS) % 4, "target_corners": corners}
    if go != "go_cue_time":
        cues = columns.pop("go_cue_time")[:, np.newaxis] + 0.5 * np.arange(4)
        columns[go] = cues
    add_trials(nwbfile, task, columns)
    write(nwbfile, path)
    return expect_wrist(
        task,
        velocity,
        stamps + 0.005,
        names=["cursor_vel_0", "cursor_vel_1"],
        unit="cm/s",
        picked="processing/behavior/Velocity/cursor_vel",
        bin_size=0.01,
        settings={} if area is None else {"units": {"location": area}},
        kept=None if area is None else np.flatnonzero(areas == ("M1", "PMd").index(area)),
        align_to=go if go == "go_cue_time" else f"{go}_0",
    )


@layout
def build_perich(path):
    return build_perich_with(path, by="electrode_group")


@layout
def build_perich_m1_by_group(path):
    return build_perich_with(path, by="electrode_group", area="M1")


@layout
def build_perich_pmd_by_electrodes(path):
    return build_perich_with(path, by="electrodes", area="PMd")


@layout
def build_perich_several_cues(path):
    return build_perich_with(path, by="electrode_group", go="go_cue_time_array")


# Neural Latents Benchmark


def add_nlb_units(nwbfile, task, intervals):
    heldout = np.arange(N_UNITS) % 2 == 1
    add_units(nwbfile, task.spikes, heldout=heldout, obs_intervals=[intervals] * N_UNITS)


def find_inside(edges, intervals):
    """Return which bins lie in one of the intervals, up to a hundredth of 20 ms."""
    low, high = edges[:, :-1, np.newaxis], edges[:, 1:, np.newaxis]
    return ((low >= intervals[:, 0] - 2e-4) & (high <= intervals[:, 1] + 2e-4)).any(axis=2)


def create_nlb_stamps(task):
    """Return 1 kHz stamps while trials run, with gaps between, and the samples that begin after gaps."""
    bounds = np.round(1000 * get_recorded(task)).astype(int)
    stamps = np.concatenate([np.arange(start, stop) for start, stop in bounds]) / 1000
    return stamps, np.flatnonzero(np.diff(stamps) > 0.0015) + 1


def get_recorded(task):
    """Return the stretches around trials that were recorded, shape (n_trials, 2) [s]."""
    return np.stack([task.start - 0.02, task.stop + 0.02], axis=1)


@layout
def build_nlb_maze(path):
    """Hand kinematics directly in the module; recorded only while trials run."""
    task = create_task(11, grid=0.001)
    nwbfile = create_file()
    stamps, breaks = create_nlb_stamps(task)
    for name, unit in (("hand_pos", "m"), ("hand_vel", "m/s"), ("eye_pos", "m")):
        values = create_values(task.rng, stamps, 2) - 5.0
        series = create_series(name, values, unit=unit, timestamps=stamps, comments="columns=[x,y]")
        add_to(nwbfile, "behavior", series)
        if name == "hand_vel":
            velocity = values
    intervals = get_recorded(task)
    add_nlb_units(nwbfile, task, intervals)
    move = np.where(np.arange(N_TRIALS) % 5 == 2, np.nan, task.move)
    kind = np.arange(N_TRIALS) % 2
    version = np.arange(N_TRIALS) // 6
    columns = {
        "target_on_time": task.target_on,
        "go_cue_time": task.go,
        "move_onset_time": move,
        "split": np.where(np.arange(N_TRIALS) % 4 == 3, "val", "train"),
        "trial_type": kind,
        "trial_version": version,
    }
    add_trials(nwbfile, task, columns)
    write(nwbfile, path)
    return expect_wrist(
        task,
        suppress_aliases(velocity, 1000.0, 0.02, breaks=breaks),
        stamps + 0.0005,
        names=["x", "y"],
        unit="m/s",
        picked="processing/behavior/hand_vel",
        rows=np.arange(N_TRIALS),
        align=task.go,
        condition=[f"trial_type={t}, trial_version={v}" for t, v in zip(kind, version, strict=True)],
        usable=lambda edges: find_inside(edges, intervals),
    )


@layout
def build_nlb_maze_move_onset(path):
    """Trials without a movement onset are left out."""
    expected = build_nlb_maze(path)
    task = create_task(11, grid=0.001)
    rows = np.array([i for i in range(N_TRIALS) if i % 5 != 2])
    condition = [expected.condition[i] for i in rows]
    return replace(
        expected,
        settings={"align_to": "move_onset_time", "window": (-0.2, 0.6)},
        rows=rows,
        align=task.move[rows],
        condition=condition,
        window=(-0.2, 0.6),
        align_to="move_onset_time",
    )


@layout
def build_nlb_area2(path):
    """Force beside kinematics; direction and bump make the condition."""
    task = create_task(12, grid=0.001)
    nwbfile = create_file()
    stamps = np.arange(round(DURATION * 1000)) / 1000
    shapes = {
        "force": ("N", ["fx", "fy", "fz"]),
        "hand_pos": ("m", ["x", "y"]),
        "hand_vel": ("m/s", ["x", "y"]),
        "joint_ang": ("rad", ["shoulder", "elbow"]),
        "muscle_len": ("m", ["biceps", "triceps"]),
    }
    for name, (unit, columns) in shapes.items():
        values = create_values(task.rng, stamps, len(columns)) - 5.0
        comments = f"columns=[{','.join(columns)}]"
        add_to(nwbfile, "behavior", create_series(name, values, unit=unit, rate=1000.0, comments=comments))
        if name == "force":
            force = values
    add_nlb_units(nwbfile, task, np.array([[0.0, DURATION]]))
    bump = np.arange(N_TRIALS) // 4 % 2 == 1
    columns = {
        "go_cue_time": task.go,
        "result": task.result,
        "cond_dir": task.direction,
        "ctr_hold_bump": bump,
        "split": np.array(["train"] * N_TRIALS),
    }
    add_trials(nwbfile, task, columns)
    write(nwbfile, path)
    rows = task.rewarded
    return expect_wrist(
        task,
        suppress_aliases(force, 1000.0, 0.02),
        stamps + 0.0005,
        names=["fx", "fy", "fz"],
        unit="N",
        picked="processing/behavior/force",
        condition=[f"cond_dir={task.direction[i]:g}, ctr_hold_bump={bump[i]}" for i in rows],
    )


@layout
def build_nlb_rtt(path):
    """Trials of equal length that touch, without cues or conditions."""
    task = create_task(13)
    task.start = 1.0 + 0.6 * np.arange(N_TRIALS)
    task.stop = task.start + 0.6
    nwbfile = create_file()
    stamps = np.arange(10_000) / 1000
    for name, unit in (
        ("cursor_pos", "mm"),
        ("finger_pos", "mm"),
        ("finger_vel", "mm/s"),
        ("target_pos", "mm"),
    ):
        values = create_values(task.rng, stamps, 2) - 5.0
        series = create_series(name, values, unit=unit, rate=1000.0, comments="columns=[x,y]")
        add_to(nwbfile, "behavior", series)
        if name == "finger_vel":
            velocity = values
    add_nlb_units(nwbfile, task, np.array([[0.0, DURATION]]))
    add_trials(nwbfile, task, {"split": np.where(np.arange(N_TRIALS) < 9, "train", "val")})
    write(nwbfile, path)
    return expect_wrist(
        task,
        suppress_aliases(velocity, 1000.0, 0.02),
        stamps + 0.0005,
        names=["x", "y"],
        unit="mm/s",
        picked="processing/behavior/finger_vel",
        rows=np.arange(N_TRIALS),
        align=task.start,
        align_to="start_time",
        condition=["all"] * N_TRIALS,
        window=(0.0, 0.6),
    )


# Churchland


@layout
def build_churchland(path):
    """Conversion NaN, a clock that runs backwards once, trials that overlap, trials to discard."""
    task = create_task(14)
    task.stop[4] = task.start[5] + 0.3
    nwbfile = create_file()
    stamps = np.arange(round(DURATION * 100)) / 100
    stamps[1700:] -= 0.5
    contested = np.zeros(len(stamps), dtype=bool)
    contested[:1700] = stamps[:1700] > stamps[1700]
    contested[1700:] = stamps[1700:] < stamps[1699]
    position = Position(name="Position")
    for name in ("Hand", "Cursor", "Eye"):
        values = create_values(task.rng, stamps, 2) - 5.0
        series = create_spatial(name, values, stamps, unit="m", conversion=np.nan)
        position.add_spatial_series(series)
        if name == "Hand":
            hand = values
    add_to(nwbfile, "behavior", position)
    add_units(nwbfile, task.spikes)
    success = np.arange(N_TRIALS) != 2
    columns = {
        "target_presentation_time": task.target_on,
        "go_cue_time": task.go,
        "move_begins_time": task.move,
        "move_ends_time": task.move + 0.5,
        "discard_trial": ~success,
        "task_success": success,
        "maze_condition": np.arange(N_TRIALS) % 3 + 7,
    }
    add_trials(nwbfile, task, columns)
    write(nwbfile, path)
    rows = np.flatnonzero(success)
    return expect_wrist(
        task,
        hand[~contested],
        stamps[~contested] + 0.005,
        names=["Hand_0", "Hand_1"],
        unit="m",
        picked="processing/behavior/Position/Hand",
        rows=rows,
        align=task.go[rows],
        condition=[str(i % 3 + 7) for i in rows],
        bin_size=0.01,
    )


@layout
def build_churchland_discarded(path):
    """A trial that succeeded, but is to be discarded, is left out."""
    task = create_task(15)
    nwbfile = create_file()
    values, centres = add_plain_emg(nwbfile, task)
    add_units(nwbfile, task.spikes)
    success, discard = np.arange(N_TRIALS) != 2, np.arange(N_TRIALS) == 5
    columns = {"go_cue_time": task.go, "task_success": success, "discard_trial": discard}
    add_trials(nwbfile, task, columns | {"maze_condition": np.arange(N_TRIALS) % 3})
    write(nwbfile, path)
    rows = np.flatnonzero(success & ~discard)
    condition = [str(i % 3) for i in rows]
    return expect_wrist(task, values, centres, rows=rows, align=task.go[rows], condition=condition)


# mouse premotor cortex


def write_mouse(path, *, emg):
    """Write units and trials, and EMG if asked for: no stop times, missing cues, units that start late."""
    task = create_task(16)
    task.stop = np.full(N_TRIALS, np.nan)
    task.go[[3, 8]] = np.nan
    task.spikes[2] = task.spikes[2][task.spikes[2] > 10.0]
    nwbfile = create_file()
    values, centres = add_plain_emg(nwbfile, task) if emg else (None, None)
    add_units(nwbfile, task.spikes)
    kind = np.where(np.arange(N_TRIALS) % 2, "lick left", "lick right")
    add_trials(nwbfile, task, {"cue_start_time": task.go, "type": kind})
    write(nwbfile, path)
    return task, values, centres, kind


@layout
def build_mouse_with_emg(path):
    task, values, centres, kind = write_mouse(path, emg=True)
    rows = np.flatnonzero(np.isfinite(task.go))
    return expect_wrist(
        task,
        values,
        centres,
        rows=rows,
        align=task.go[rows],
        condition=kind[rows].tolist(),
        align_to="cue_start_time",
    )


# trials and cues elsewhere


def build_intervals_with(path, *, where, **settings):
    """Trials in another table of intervals, in /intervals or in a module."""
    from pynwb.epoch import TimeIntervals

    task = create_task(17)
    nwbfile = create_file()
    values, centres = add_plain_emg(nwbfile, task)
    add_units(nwbfile, task.spikes)
    columns = create_wrist_columns(task)
    table = TimeIntervals(name="reaches", description="reaches")
    for name in columns:
        table.add_column(name, name)
    add_trials(nwbfile, task, columns, add=table.add_row)
    if where == "intervals":
        nwbfile.add_time_intervals(table)
    else:
        add_to(nwbfile, "behavior", table)
    if settings:  # a table of trials that the rules would take
        nwbfile.add_trial(start_time=1.0, stop_time=5.0)
        nwbfile.add_trial(start_time=5.0, stop_time=9.0)
    write(nwbfile, path)
    return expect_wrist(task, values, centres, settings=settings)


@layout
def build_reaches(path):
    return build_intervals_with(path, where="intervals")


@layout
def build_reaches_in_module(path):
    return build_intervals_with(path, where="module")


@layout
def build_reaches_mapped(path):
    return build_intervals_with(path, where="module", map={"trials": "processing/behavior/reaches"})


def build_events_with(path, add):
    """The go cue comes from events; ``add`` puts them in the file and returns their name as a column."""
    task = create_task(18)
    nwbfile = create_file()
    values, centres = add_plain_emg(nwbfile, task)
    # events outside of trials, or in none, are not cues
    name = add(nwbfile, np.sort(np.append(task.go, [0.5, 33.9])))
    add_units(nwbfile, task.spikes)
    add_trials(nwbfile, task, {"target_dir": task.direction, "result": task.result})
    write(nwbfile, path)
    return expect_wrist(task, values, centres, align_to=name)


@layout
def build_events_table(path):
    from pynwb.event import EventsTable

    def add(nwbfile, times):
        table = EventsTable(name="go_cue", description="go cues")
        for time in times:
            table.add_row(timestamp=time)
        nwbfile.add_events_table(table)
        return "go_cue"

    return build_events_with(path, add)


@layout
def build_labelled_events_table(path):
    from pynwb.event import EventsTable

    def add(nwbfile, times):
        table = EventsTable(name="task_events", description="events of the task")
        table.add_column("event_type", "kind of event")
        for time in times:
            table.add_row(timestamp=time - 0.3, event_type="target_on")
            table.add_row(timestamp=time, event_type="go_cue")
        nwbfile.add_events_table(table)
        return "go_cue"

    return build_events_with(path, add)


@layout
def build_annotations(path):
    from pynwb.misc import AnnotationSeries

    def add(nwbfile, times):
        stamps = np.stack([times - 0.2, times], axis=1).ravel()
        text = ["hold", "go cue"] * len(times)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pynwb: make tables of events instead
            nwbfile.add_acquisition(AnnotationSeries(name="log", data=text, timestamps=stamps))
        return "go cue"

    return build_events_with(path, add)


@layout
def build_behavioral_events(path):
    from pynwb.behavior import BehavioralEvents

    def add(nwbfile, times):
        series = create_series("go_cue", np.ones(len(times)), unit="n/a", timestamps=times)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pynwb: make tables of events instead
            events = BehavioralEvents(name="BehavioralEvents", time_series=series)
        add_to(nwbfile, "behavior", events)
        return "go_cue"

    return build_events_with(path, add)


@layout
def build_relative_times(path):
    """Cue times count from the start of the trial."""
    task = create_task(19)
    nwbfile = create_file()
    values, centres = add_plain_emg(nwbfile, task)
    shifted = {"go_cue_time": task.go - task.start, "target_on_time": task.target_on - task.start}
    write_wrist(path, task, nwbfile, **shifted)
    return expect_wrist(task, values, centres)


# conditions


@layout
def build_location_and_object(path):
    task = create_task(20)
    nwbfile = create_file()
    values, centres = add_plain_emg(nwbfile, task)
    add_units(nwbfile, task.spikes)
    where, what = np.arange(N_TRIALS) % 2, np.array(["sphere", "button"])[np.arange(N_TRIALS) // 2 % 2]
    columns = {"gocue_time": task.go, "result": task.result, "tgt_loc": where, "tgt_obj": what}
    add_trials(nwbfile, task, columns)
    write(nwbfile, path)
    condition = [f"tgt_loc={where[i]}, tgt_obj={what[i]}" for i in task.rewarded]
    return expect_wrist(task, values, centres, condition=condition, align_to="gocue_time")


def build_sectors_with(path, *, degrees, **settings):
    """Each trial has its own direction; sectors around multiples of 360° / n make the conditions."""
    task = create_task(21)
    n_sectors = settings.get("sectors", 8)
    n_trials = 40
    task.start = 1.0 + 0.7 * np.arange(n_trials)
    task.stop = task.start + 0.65
    go = task.start + 0.1
    angle = task.rng.uniform(-180.0, 180.0, n_trials)
    nwbfile = create_file()
    values, centres = add_plain_emg(nwbfile, task)
    add_units(nwbfile, task.spikes)
    column = angle if degrees else np.deg2rad(angle)
    add_trials(nwbfile, task, {"go_cue_time": go, "target_dir": column})
    write(nwbfile, path)
    middles = np.arange(n_sectors) * 360.0 / n_sectors
    away = np.abs((angle[:, np.newaxis] - middles + 180) % 360 - 180)
    return expect_wrist(
        task,
        values,
        centres,
        rows=np.arange(n_trials),
        align=go,
        condition=[f"{middles[i]:g}" for i in away.argmin(axis=1)],
        settings={"window": (-0.1, 0.5)} | settings,
        window=(-0.1, 0.5),
    )


@layout
def build_eight_sectors(path):
    return build_sectors_with(path, degrees=True)


@layout
def build_four_sectors(path):
    return build_sectors_with(path, degrees=False, sectors=4)


# ndx-binned-spikes; written by another process, so that the reader knows of it by the file only


def create_binned_task():
    """Return trials on the grid of bins of 20 ms."""
    return create_task(22, grid=0.02)


def define_binned_spikes(folder):
    """Return the classes of the extension, made from a specification like its own."""
    from pynwb import get_class, load_namespaces
    from pynwb.spec import NWBAttributeSpec, NWBDatasetSpec, NWBGroupSpec, NWBNamespaceBuilder

    def specify(name, n_dims, attribute, **others):
        names = ("bin_width_in_ms", attribute)
        sizes = {"data": n_dims} | others
        datasets = [
            NWBDatasetSpec(
                name=n, doc=n, dtype="numeric", dims=[f"{n}_{i}" for i in range(d)], shape=[None] * d
            )
            for n, d in sizes.items()
        ]
        return NWBGroupSpec(
            neurodata_type_def=name,
            neurodata_type_inc="NWBDataInterface",
            doc="counts of spikes in bins",
            attributes=[NWBAttributeSpec(name=n, doc=n, dtype="float64") for n in names],
            datasets=datasets,
        )

    builder = NWBNamespaceBuilder("counts", "ndx-binned-spikes", version="0.3.1", author="a", contact="b")
    builder.include_type("NWBDataInterface", namespace="core")
    aligned = specify("BinnedAlignedSpikes", 3, "event_to_bin_offset_in_ms", event_timestamps=1)
    plain = specify("BinnedSpikes", 2, "start_time_in_ms")
    for spec in (aligned, plain):
        builder.add_spec("ndx-binned-spikes.extensions.yaml", spec)
    with contextlib.chdir(folder):
        builder.export("ndx-binned-spikes.namespace.yaml")
    load_namespaces(str(folder / "ndx-binned-spikes.namespace.yaml"))
    return {name: get_class(name, "ndx-binned-spikes") for name in ("BinnedAlignedSpikes", "BinnedSpikes")}


def write_binned_spikes(folder):
    """Write files with counts: in session time, around go cues, around events that only the counts know."""
    classes = define_binned_spikes(folder)
    for name in ("session", "aligned", "aligned_without_cues"):
        task = create_binned_task()
        nwbfile = create_file()
        add_plain_emg(nwbfile, task)
        if name == "session":
            edges = np.arange(50, round(DURATION / 0.02) + 1) * 0.02
            counts = count(task.spikes, edges[np.newaxis])[0].T
            member = classes["BinnedSpikes"](
                name="BinnedSpikes", bin_width_in_ms=20.0, start_time_in_ms=1000.0, data=counts
            )
        else:
            counts = count(task.spikes, task.go[:, np.newaxis] - 0.2 + np.arange(41) * 0.02)
            member = classes["BinnedAlignedSpikes"](
                name="BinnedAlignedSpikes",
                bin_width_in_ms=20.0,
                event_to_bin_offset_in_ms=-200.0,
                data=counts.transpose(2, 0, 1),
                event_timestamps=task.go,
            )
        add_to(nwbfile, "ecephys", member)
        columns = create_wrist_columns(task)
        if name == "aligned_without_cues":
            del columns["go_cue_time"], columns["target_on_time"]
        add_trials(nwbfile, task, columns)
        write(nwbfile, folder / f"{name}.nwb")


def expect_binned_spikes(name):
    """Return what to expect of a file of :func:`write_binned_spikes`."""
    task = create_binned_task()
    values, stamps = create_envelopes(task.rng)
    window = (-0.4, 1.5) if name == "session" else (-0.2, 0.6)
    align_to = "BinnedAlignedSpikes_time" if name == "aligned_without_cues" else "go_cue_time"
    return expect_wrist(task, values, stamps + 0.01, window=window, align_to=align_to)


if __name__ == "__main__":
    write_binned_spikes(Path(sys.argv[1]))
