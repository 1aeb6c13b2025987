"""Envelopes of raw EMG around the go cue, from the file: against SciPy over the whole recording in memory.

16 muscles at 2 kHz for one hour, as int16; 600 trials of -0.4 to 1.5 s in bins of 20 ms. Each measurement is
a process of its own, after its imports and a first small call; the file is in the system's cache. Stops if
the envelopes differ by more than 1e-9 of the largest.

    python benchmarks/envelope.py
"""

import argparse
import sys
from pathlib import Path

import h5py
import numpy as np
import scipy.signal
from large_files import (
    HOUR,
    add_emg,
    create_nwbfile,
    get_edges,
    list_versions,
    load_result,
    make_alone,
    measure,
    measure_in_turn,
    name_result,
    temporary_folder,
    write,
)
from numpy.typing import NDArray

from nwbrnn.readers.times import TICKS_PER_SECOND

N_CHANNELS, RATE, N_TRIALS = 16, 2000.0, 600
WINDOW, BIN_SIZE = (-0.4, 1.5), 0.02
SIDES = ["nwbrnn", "scipy"]
TOLERANCE = 1e-9


def extract_with_nwbrnn(path: Path, n_trials: int) -> NDArray[np.generic]:
    """Return envelopes of shape (n_trials, n_bins, n_channels)."""
    from nwbrnn.preprocessing import ENVELOPES
    from nwbrnn.readers.discovery import find_signals
    from nwbrnn.readers.series import read_binned
    from nwbrnn.storage import open_nwb

    with open_nwb(path) as nwbfile:
        (signal,) = find_signals(nwbfile)
        edges = get_edges(n_trials, WINDOW, BIN_SIZE)
        return read_binned(signal, edges, envelope=ENVELOPES["miller"]).values


def extract_with_scipy(path: Path, n_trials: int) -> NDArray[np.generic]:
    """Return envelopes of shape (n_trials, n_bins, n_channels), as a script of a laboratory would."""
    with h5py.File(path) as file:
        series = file["acquisition/EMG"]
        emg = series["data"][:] * float(series["data"].attrs["conversion"])
        rate = float(series["starting_time"].attrs["rate"])
    high = scipy.signal.butter(4, 50.0, "highpass", fs=rate, output="sos")
    low = scipy.signal.butter(2, 10.0, "lowpass", fs=rate, output="sos")
    rectified = np.abs(scipy.signal.sosfiltfilt(high, emg, axis=0))
    envelope = np.maximum(scipy.signal.sosfiltfilt(low, rectified, axis=0), 0.0)
    # the middle of sample k is (k + 1/2) / rate
    edges = get_edges(n_trials, WINDOW, BIN_SIZE) / TICKS_PER_SECOND
    first = np.ceil(edges * rate - 0.5 - 1e-6).astype(int)
    n_samples = first[0, 1] - first[0, 0]
    trials = [envelope[row[0] : row[-1]] for row in first]
    return np.stack([t.reshape(-1, n_samples, t.shape[1]).mean(axis=1) for t in trials])


JOBS = {"nwbrnn": extract_with_nwbrnn, "scipy": extract_with_scipy}


def make_file(path: Path) -> None:
    """Write the large file."""
    nwbfile = create_nwbfile(N_TRIALS)
    add_emg(nwbfile, N_CHANNELS, RATE, HOUR)
    write(nwbfile, path)


def run_side(side: str, path: Path) -> None:
    """Warm up on a small file, and measure on the large one."""
    with temporary_folder() as folder:
        nwbfile = create_nwbfile(3)
        add_emg(nwbfile, N_CHANNELS, RATE, 30.0)
        JOBS[side](write(nwbfile, folder / "small.nwb"), 3)
    measure(lambda: JOBS[side](path, N_TRIALS), name_result(path, side))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--side", choices=SIDES, help="measure one side on --path")
    parser.add_argument("--path", type=Path)
    args = parser.parse_args()
    if args.side:
        run_side(args.side, args.path)
        return
    with temporary_folder() as folder:
        path = make_alone(make_file, folder / "emg.nwb")
        best = measure_in_turn(__file__, SIDES, path, args.rounds)
        ours, theirs = (load_result(path, side) for side in SIDES)
    difference = np.abs(ours - theirs).max() / np.abs(theirs).max()
    if not difference < TOLERANCE:
        sys.exit(f"the envelopes differ by {difference:.1e} of the largest")
    print(f"{list_versions('nwbrnn', 'scipy', 'h5py')}, one thread, best of {args.rounds}")
    print(f"envelopes of {N_TRIALS} trials differ by at most {difference:.1e} of the largest")
    print("side     | seconds | memory beyond imports")
    for side in SIDES:
        print(f"{side:8} | {best[side]['seconds']:7.2f} | {best[side]['memory']:.0f} MiB")
    seconds, memory = (best["scipy"][n] / best["nwbrnn"][n] for n in ("seconds", "memory"))
    print(f"scipy needs {seconds:.2f} times the seconds (target: at least 1)")
    print(f"scipy needs {memory:.1f} times the memory (target: at least 4)")


if __name__ == "__main__":
    main()
