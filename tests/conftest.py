"""Small NWB files made with pynwb, ways to run the command line, and the sizes of the long campaigns."""

import os

# read when NumPy and torch are loaded: tests run in several processes
os.environ["OMP_NUM_THREADS"] = "1"

import contextlib
import gc
import random
import shutil
import signal
import subprocess
import sys
import warnings
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in a background job; processes would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

# ------------------------------------------------------------------ lanes and campaigns: docs/reliability.md


def pytest_addoption(parser):
    group = parser.getgroup("campaigns")
    group.addoption(
        "--long", action="store_true", help="run every campaign at its full size, and the tests marked long"
    )
    group.addoption(
        "--campaign-seed", type=int, default=0, help="another seed makes another random selection"
    )


def pytest_configure(config):
    """Let libraries make their caches before several processes of tests need them at once.

    In a new home folder, pynwb (4.2) reads a cache that another process has not finished writing, and
    matplotlib (3.11) prints a line if it takes more than 5 s to list the fonts.
    """
    if getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput"):
        code = "import pynwb, matplotlib.font_manager"
        subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, check=True)


def pytest_collection_modifyitems(config, items):
    """Say where coverage is measured, what runs first, and what runs with ``--long`` only: see CONTRIBUTING.

    Without it, the tests marked ``long`` are skipped, and all but the first part of each campaign.
    """
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("cover"):
            item.add_marker("no_cover")
    items.sort(key=lambda item: item.get_closest_marker("first") is None)
    if config.getoption("long"):
        return
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker(pytest.mark.skip(reason="runs with --long only (make test-long)"))
    further = [item for item in items if "campaign" in item.fixturenames and _get_part(item) > 0]
    items[:] = [item for item in items if item not in further]
    config.hook.pytest_deselected(items=further)


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Look for no garbage while modules are imported: it takes a fifth of the time, and there is none."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session):
    """Let ``no_cover`` pause coverage in the processes of xdist.

    pytest-cov (7.1) starts coverage twice there. When it pauses the second one, coverage resumes the first.
    """
    controller = getattr(session.config.pluginmanager.get_plugin("_cov"), "cov_controller", None)
    if controller is not None and hasattr(session.config, "workerinput"):
        controller.cov.stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    """Pause coverage for the fixtures of a test as pytest-cov does for the test itself."""
    controller = getattr(item.config.pluginmanager.get_plugin("_cov"), "cov_controller", None)
    if controller is None or not item.get_closest_marker("no_cover"):
        return (yield)
    controller.pause()
    try:
        return (yield)
    finally:
        controller.resume()


def _get_part(item):
    callspec = getattr(item, "callspec", None)
    return 0 if callspec is None else callspec.params.get("part", 0)


@dataclass
class Campaign:
    """One fault or claim that is tried many times: how often, in which order, and what happened."""

    size: int
    rng: random.Random
    counts: dict[str, int] = field(default_factory=dict)

    def pick(self, cases):
        """Return as many of the cases as the campaign has, in their order."""
        cases = list(cases)
        return [cases[i] for i in sorted(self.rng.sample(range(len(cases)), min(self.size, len(cases))))]

    def count(self, what, n=1):
        self.counts[what] = self.counts.get(what, 0) + n


@pytest.fixture
def campaign(request):
    """Return a function that begins a campaign of ``few`` cases, or of ``many`` with ``--long``."""

    def begin(name, *, few, many):
        seed = request.config.getoption("campaign_seed")
        size = many if request.config.getoption("long") else few
        begun = Campaign(size, random.Random(f"{seed} {request.node.nodeid}"))
        request.node.user_properties.append(("campaign", [name, begun.counts]))
        return begun

    return begin


def pytest_terminal_summary(terminalreporter, config):
    """Print what the campaigns of all tests, and of all processes, came to."""
    totals: dict[str, dict[str, int]] = {}
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            for name, counts in (value for key, value in report.user_properties if key == "campaign"):
                total = totals.setdefault(name, {})
                for what, n in counts.items():
                    total[what] = total.get(what, 0) + n
    totals = {name: total for name, total in totals.items() if total}
    if totals:
        size = "full size" if config.getoption("long") else "a selection"
        terminalreporter.section(f"campaigns ({size}, seed {config.getoption('campaign_seed')})")
    for name, total in sorted(totals.items()):
        terminalreporter.line(f"{name}: " + ", ".join(f"{n} {what}" for what, n in total.items()))


# ------------------------------------------------------------------ files


@pytest.fixture(scope="session", autouse=True)
def specifications_read_once():
    """Let pynwb build the specification that it validates a file with once for all files that hold the same.

    Each file holds its own copy of the schema. To build it takes three quarters of the time of a validation,
    and most tests write files. What is validated, and how, stays that of pynwb.
    """
    module = sys.modules.get("pynwb.validation")
    if module is None:  # no test reads or writes NWB
        yield
        return
    from hdmf.build import BuildManager

    build, built = module.get_cached_namespaces_to_validate, {}

    def build_once(path=None, **options):
        key = path and _read_specification(path)
        if not key:
            return build(path=path, **options)
        if key not in built:
            built[key] = build(path=path, **options)
        names, manager, dependencies = built[key]
        return names, manager and BuildManager(manager.type_map), dependencies

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "get_cached_namespaces_to_validate", build_once)
        yield


def _read_specification(path):
    """Return all that an HDF5 file says of its schema; nothing if it is damaged, or no such file."""
    import h5py

    texts = []
    with contextlib.suppress(Exception), h5py.File(path, "r") as file:
        file[file.attrs[".specloc"]].visititems(
            lambda name, node: texts.append((name, node[()])) if isinstance(node, h5py.Dataset) else None
        )
        return frozenset(texts)
    return None


DURATION = 100.0
N_TRIALS = 40
N_UNITS = 12
MUSCLES = ("FCR", "FCU", "ECR")


@dataclass(frozen=True)
class Recording:
    """What was put into a file: times in session time [s], EMG before conversion and offset."""

    path: Path
    emg: np.ndarray
    emg_start: np.ndarray
    emg_rate: float
    spikes: list[np.ndarray]
    start: np.ndarray
    stop: np.ndarray
    target_on: np.ndarray
    go: np.ndarray
    direction: np.ndarray
    result: np.ndarray

    @property
    def rewarded(self) -> np.ndarray:
        return np.flatnonzero(self.result == "R")


def _make_data(rng, *, emg_rate, raw):
    start = 1.0 + 2.4 * np.arange(N_TRIALS)
    stop = start + rng.uniform(2.2, 2.35, N_TRIALS)
    target_on = start + rng.uniform(0.4, 0.5, N_TRIALS)
    go = start + rng.uniform(0.75, 0.85, N_TRIALS)
    direction = np.array([0.0, 90.0, 180.0, 270.0])[np.arange(N_TRIALS) % 4]
    result = np.where(np.arange(N_TRIALS) % 8 == 7, "F", "R")

    def bumps(time, preferred, width):
        """Return activity around each movement, shape (n_preferred, n_samples)."""
        tuning = 1 + np.cos(np.deg2rad(direction - preferred[:, np.newaxis]))
        return tuning @ np.exp(-0.5 * ((time - go[:, np.newaxis] - 0.5) / width) ** 2)

    n_samples = round(DURATION * emg_rate)
    emg_start = np.arange(n_samples) / emg_rate
    emg = 0.2 + bumps(emg_start, np.array([0.0, 120.0, 240.0]), 0.2).T
    noise = rng.standard_normal(emg.shape)
    emg = emg * noise if raw else emg + 0.05 * np.abs(noise)
    fine = (np.arange(round(DURATION * 1000)) + 0.5) / 1000
    spikes = []
    for rate in 8.0 + 15.0 * bumps(fine, 30.0 * np.arange(N_UNITS), 0.25):
        k = np.flatnonzero(rng.random(fine.size) < rate / 1000)
        spikes.append(k / 1000 + rng.uniform(1e-5, 9e-4, k.size))
    return emg, emg_start, spikes, start, stop, target_on, go, direction, result


def _add_emg(nwbfile, emg, stamps, *, layout, emg_rate, conversion, offset, use_timestamps):
    from pynwb import TimeSeries
    from pynwb.behavior import BehavioralTimeSeries

    scaling = {"unit": "mV", "conversion": conversion, "offset": offset}
    timing = {"rate": emg_rate, "starting_time": 0.0}
    if use_timestamps:
        timing = {"timestamps": stamps}
    if layout == "columns":
        comments = f"columns=[{','.join(MUSCLES)}]"
        nwbfile.add_acquisition(
            TimeSeries(name="EMG", data=emg, comments=comments, description="muscles", **scaling, **timing)
        )
    elif layout == "separate":
        for i, name in enumerate(MUSCLES):
            one = TimeSeries(name=f"EMG_{name}", data=emg[:, i], description="muscle", **scaling, **timing)
            nwbfile.add_acquisition(one)
    elif layout == "behavioral":
        container = BehavioralTimeSeries(name="preprocessed_emg")
        ends = stamps + 1 / emg_rate
        for i, name in enumerate(MUSCLES):
            text = "EMG envelope; timestamps are bin ends"
            container.add_timeseries(
                TimeSeries(name=name, data=emg[:, i], timestamps=ends, description=text, **scaling)
            )
        nwbfile.add_acquisition(container)


def _add_units(nwbfile, spikes, obs_intervals):
    nwbfile.add_unit_column("quality", "sorting quality")
    for unit, times in enumerate(spikes):
        row = {} if obs_intervals is None else {"obs_intervals": obs_intervals(unit)}
        nwbfile.add_unit(spike_times=times, quality="good" if unit % 2 else "multi", **row)


def _add_trials(nwbfile, data, *, relative_times, text_condition):
    start, stop, target_on, go, direction, result = data
    shift = start if relative_times else 0.0
    condition = direction
    condition_name = "target_dir"
    if text_condition:
        condition_name = "trial_type"
        condition = np.array(["east", "north", "west", "south"])[(direction / 90).astype(int)]
    columns = {
        "target_on_time": target_on - shift,
        "go_cue_time": go - shift,
        "move_onset_time": go + 0.3 - shift,
        condition_name: condition,
        "result": result,
    }
    for name in columns:
        nwbfile.add_trial_column(name, f"{name} of the trial")
    for i in range(len(start)):
        row = {name: values[i] for name, values in columns.items()}
        nwbfile.add_trial(start_time=start[i], stop_time=stop[i], **row)


def _write_recording(
    path,
    *,
    layout="columns",
    emg_rate=50.0,
    raw=False,
    conversion=1.0,
    offset=0.0,
    use_timestamps=False,
    units=True,
    trials=True,
    nan_emg=None,
    drop_emg=None,
    obs_intervals=None,
    relative_times=False,
    text_condition=False,
    seed=0,
):
    """Write a recording.

    ``layout``: columns, behavioral, separate or none. ``nan_emg``: samples by muscle (a NumPy index).
    ``drop_emg``: start and stop of a stretch without samples [s]. ``obs_intervals``: unit -> intervals.
    """
    from pynwb import NWBHDF5IO, NWBFile
    from pynwb.file import Subject

    rng = np.random.default_rng(seed)
    emg, stamps, spikes, *trial_data = _make_data(rng, emg_rate=emg_rate, raw=raw)
    if nan_emg is not None:
        emg[nan_emg] = np.nan
    if drop_emg is not None:
        keep = (stamps < drop_emg[0]) | (stamps >= drop_emg[1])
        emg, stamps = emg[keep], stamps[keep]
    nwbfile = NWBFile(
        session_description="synthetic wrist task",
        identifier=f"synthetic-{seed}",
        session_start_time=datetime(2020, 5, 17, 9, 30, tzinfo=UTC),
        session_id="s01",
        experimenter=["Doe, Jane"],
        institution="University of Nowhere",
        lab="Lab of Tests",
        experiment_description="a file for tests",
        keywords=["wrist", "EMG"],
        subject=Subject(subject_id="T", species="Macaca mulatta", sex="F", age="P6Y", description="not real"),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pynwb's remarks on odd files
        _add_emg(
            nwbfile,
            emg,
            stamps,
            layout=layout,
            emg_rate=emg_rate,
            conversion=conversion,
            offset=offset,
            use_timestamps=use_timestamps or drop_emg is not None,
        )
        if units:
            _add_units(nwbfile, spikes, obs_intervals)
        if trials:
            _add_trials(nwbfile, trial_data, relative_times=relative_times, text_condition=text_condition)
        with NWBHDF5IO(str(path), "w") as io:
            io.write(nwbfile)
    return Recording(path, emg, stamps, emg_rate, spikes, *trial_data)


@pytest.fixture(scope="session")
def make_recording(tmp_path_factory):
    """Return a function that writes a recording with some options and says what is in it."""

    def make(**options):
        return _write_recording(tmp_path_factory.mktemp("recording") / "session.nwb", **options)

    return make


@pytest.fixture(scope="session")
def recording(make_recording):
    """Return a recording with EMG as the columns of one series; only to be read."""
    return make_recording()


@dataclass(frozen=True)
class Teacher:
    """The file of a simulated circuit and the Dataset it was made from."""

    path: Path
    ds: object
    config: object


@pytest.fixture(scope="session")
def teacher(tmp_path_factory):
    """Return a small simulated circuit and its file; only to be read."""
    import nwbrnn

    config = nwbrnn.TeacherConfig(
        n_neurons=60, n_directions=4, n_trials=4, n_muscles=3, preparation=0.2, movement=0.4, seed=3
    )
    ds = nwbrnn.simulate_teacher(config)
    path = tmp_path_factory.mktemp("teacher") / "teacher.nwb"
    nwbrnn.write_teacher(ds, path)
    return Teacher(path, ds, config)


@pytest.fixture(scope="session")
def shared_data():
    """Return a function that finds a real file, or skips."""
    root = Path(__file__).resolve().parents[1]
    folder = (root / os.environ.get("NWBRNN_TEST_DATA", "../shared")) / "data"

    def find(name):
        path = folder / name
        if not path.exists():
            pytest.skip(f"{path} is not there; set NWBRNN_TEST_DATA to the folder that holds data/")
        return path

    return find


@pytest.fixture
def in_process(monkeypatch):
    """Fit the cells of sweeps in this process: starting others takes longer than small fits."""
    from nwbrnn.sweep.cell import run_cell

    def run_here(folder, cells, *, n_workers):
        for cell in cells:
            run_cell(folder, cell)
            yield cell, ""

    monkeypatch.setattr("nwbrnn.sweep.run.run_locally", run_here)


@pytest.fixture
def mount():
    """Return a function that mounts something for the test, or skips where that is not allowed."""
    mounted = []

    def run(*arguments):
        done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"mount is not allowed here: {done.stderr.strip()}")
        mounted.append(arguments[-1])

    if shutil.which("mount") is None:
        pytest.skip("there is no mount")
    yield run
    for place in reversed(mounted):
        subprocess.run(["umount", str(place)], check=True)


@dataclass(frozen=True)
class Finished:
    code: int
    out: str
    err: str


@pytest.fixture
def run_cli(monkeypatch, capsys):
    """Return a function that runs ``nwbrnn`` with arguments in this process."""
    from nwbrnn.cli.main import main

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["nwbrnn", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        captured = capsys.readouterr()
        return Finished(stopped.value.code or 0, captured.out, captured.err)

    return run
