"""Large NWB files for benchmarks, made in a temporary folder, and measurements in a process of their own."""

import contextlib
import importlib.metadata
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from hdmf.common import VectorData, VectorIndex
from numpy.typing import NDArray
from pynwb import NWBHDF5IO, H5DataIO, NWBFile, TimeSeries
from pynwb.misc import Units

from nwbrnn.readers.times import to_ticks

HOUR = 3600.0
TRIAL = 5.9  # from one trial to the next [s]
GO = 1.0  # from its start to the go cue [s]
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS", "NUMBA")}


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Provide a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="nwbrnn-benchmark-") as name:
        yield Path(name)


def create_nwbfile(n_trials: int) -> NWBFile:
    """Return a file with trials that have a go cue, on whole milliseconds."""
    nwbfile = NWBFile("benchmark", "benchmark", datetime(2020, 1, 1, tzinfo=UTC))
    nwbfile.add_trial_column("go_cue_time", "go cue")
    for start in get_starts(n_trials):
        nwbfile.add_trial(start, start + TRIAL - 0.4, go_cue_time=start + GO)
    return nwbfile


def get_starts(n_trials: int) -> NDArray[np.float64]:
    """Return when each trial starts, shape (n_trials,) [s]."""
    return np.round(5.0 + TRIAL * np.arange(n_trials), 3)


def get_edges(n_trials: int, window: tuple[float, float], bin_size: float) -> NDArray[np.int64]:
    """Return bin edges around the go cues, shape (n_trials, n_bins + 1) [ticks of nwbrnn]."""
    n_bins = round((window[1] - window[0]) / bin_size)
    first, width = to_ticks(window[0]), to_ticks(bin_size)
    return to_ticks(get_starts(n_trials) + GO)[:, np.newaxis] + first + np.arange(n_bins + 1) * width


def add_units(nwbfile: NWBFile, n_units: int, n_spikes: int, duration: float) -> None:
    """Add spikes a quarter of a microsecond after whole ones, so that rounding leaves them in their bin."""
    rng = np.random.default_rng(0)
    n_each = n_spikes // n_units
    times = np.sort(rng.integers(0, round(duration * 1e6), (n_units, n_each)), axis=1) * 1e-6 + 2.5e-7
    flat = VectorData(name="spike_times", description="spike times", data=times.reshape(-1))
    ends = np.arange(1, n_units + 1, dtype=np.uint32) * n_each
    index = VectorIndex(name="spike_times_index", data=ends, target=flat)
    nwbfile.units = Units(name="units", description="units", columns=[flat, index], colnames=["spike_times"])


def add_emg(nwbfile: NWBFile, n_channels: int, rate: float, duration: float) -> None:
    """Add raw EMG of 16 bits, noise that swells with each trial, in chunks of 64 KiB."""
    rng = np.random.default_rng(1)
    n_samples = round(rate * duration)
    data = np.empty((n_samples, n_channels), dtype=np.int16)
    for first in range(0, n_samples, 1 << 20):
        rows = np.arange(first, min(first + (1 << 20), n_samples))
        swell = 1 + np.sin(2 * np.pi * rows / rate / TRIAL)[:, np.newaxis]
        noise = rng.standard_normal((len(rows), n_channels), dtype=np.float32)
        data[rows] = 400 * swell * noise
    stored = H5DataIO(data, chunks=(32768 // n_channels, n_channels))
    comments = "columns=[" + ",".join(f"muscle{i}" for i in range(n_channels)) + "]"
    nwbfile.add_acquisition(
        TimeSeries(name="EMG", data=stored, unit="V", conversion=1e-6, rate=rate, comments=comments)
    )


def write(nwbfile: NWBFile, path: Path) -> Path:
    """Write the file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with NWBHDF5IO(str(path), "w") as io:
            io.write(nwbfile)
    return path


def make_alone(make: Callable[[Path], object], path: Path) -> Path:
    """Make a file in a process of its own: what this one has needed counts as the peak of its children."""
    process = multiprocessing.get_context("spawn").Process(target=make, args=(path,))
    process.start()
    process.join()
    if process.exitcode:
        sys.exit(f"{path} could not be made")
    return path


def measure(job: Callable[[], NDArray[np.generic]], result: Path) -> None:
    """Run a job once in this process, keep its result, and print seconds, CPU seconds and peak memory [MiB].

    The memory is what it needed beyond the imports, so nothing large may happen before.
    """
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, cpu = time.perf_counter(), time.process_time()
    values = job()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    np.save(result, values)
    print(json.dumps({"seconds": seconds, "cpu": cpu, "memory": memory}))


def measure_in_turn(script: str, sides: list[str], path: Path, n_rounds: int) -> dict[str, dict[str, float]]:
    """Run ``script --side SIDE --path PATH`` for each side in turn, and return the best of its numbers."""
    best: dict[str, dict[str, float]] = {}
    for _ in range(n_rounds):
        for side in sides:
            command = [sys.executable, script, "--side", side, "--path", str(path)]
            done = subprocess.run(
                command, env=os.environ | ONE_THREAD, capture_output=True, text=True, check=False
            )
            if done.returncode:
                sys.exit(f"{side} failed:\n{done.stderr}")
            numbers = json.loads(done.stdout.splitlines()[-1])
            old = best.get(side, numbers)
            best[side] = {name: min(old[name], value) for name, value in numbers.items()}
    return best


def load_result(path: Path, side: str) -> NDArray[np.number]:
    """Return what a side found."""
    found: NDArray[np.number] = np.load(name_result(path, side))
    return found


def name_result(path: Path, side: str) -> Path:
    """Return where a side keeps what it found."""
    return path.with_name(f"{side.replace(' ', '_')}.npy")


def list_versions(*names: str) -> str:
    """Return the versions of packages, for the head of a table."""
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
