"""Spike counts around the go cue, from the file: against pynapple, and against merely reading the spikes.

300 units, 30 million spikes in one hour, 600 trials of -0.4 to 1.5 s in bins of 10 ms. Each measurement is a
process of its own, after its imports and a first call that compiles; the file is in the system's cache.
Ratios are of CPU seconds, so that other processes disturb them less. Stops if the counts differ.

    pip install pynapple; python benchmarks/binning.py
"""

import argparse
import importlib.util
import sys
from pathlib import Path

import h5py
import numpy as np
from large_files import (
    HOUR,
    add_units,
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

N_UNITS, N_SPIKES, N_TRIALS = 300, 30_000_000, 600
WINDOW, BIN_SIZE = (-0.4, 1.5), 0.01
SIDES = ["nwbrnn", "pynapple", "h5py", "opening"]


def count_with_nwbrnn(path: Path, n_trials: int) -> NDArray[np.generic]:
    """Return counts of shape (n_trials, n_bins, n_units)."""
    from nwbrnn.readers.session import open_session
    from nwbrnn.readers.units import count_spikes

    with open_session(path, follow_links=False) as session:
        return count_spikes(session.trains, get_edges(n_trials, WINDOW, BIN_SIZE))


def count_with_pynapple(path: Path, n_trials: int) -> NDArray[np.generic]:
    """Return counts of shape (n_trials, n_bins, n_units)."""
    import pynapple as nap

    from nwbrnn.readers.times import TICKS_PER_SECOND

    edges = get_edges(n_trials, WINDOW, BIN_SIZE) / TICKS_PER_SECOND
    epochs = nap.IntervalSet(start=edges[:, 0], end=edges[:, -1])
    counts = nap.load_file(str(path))["units"].count(BIN_SIZE, ep=epochs)
    return np.asarray(counts.values).reshape(n_trials, edges.shape[1] - 1, -1)


def read_with_h5py(path: Path, _: int) -> NDArray[np.generic]:
    """Read all spike times, and return their number."""
    with h5py.File(path) as file:
        return np.array(len(file["units/spike_times"][:]))


def open_only(path: Path, _: int) -> NDArray[np.generic]:
    """Open the file as nwbrnn does, and read nothing."""
    from nwbrnn.storage import open_nwb

    with open_nwb(path) as nwbfile:
        return np.array(len(nwbfile.units))


JOBS = {
    "nwbrnn": count_with_nwbrnn,
    "pynapple": count_with_pynapple,
    "h5py": read_with_h5py,
    "opening": open_only,
}


def make_file(path: Path) -> None:
    """Write the large file."""
    nwbfile = create_nwbfile(N_TRIALS)
    add_units(nwbfile, N_UNITS, N_SPIKES, HOUR)
    write(nwbfile, path)


def run_side(side: str, path: Path) -> None:
    """Warm up on a small file, and measure on the large one."""
    with temporary_folder() as folder:
        nwbfile = create_nwbfile(3)
        add_units(nwbfile, 3, 3000, 30.0)
        JOBS[side](write(nwbfile, folder / "small.nwb"), 3)
    measure(lambda: JOBS[side](path, N_TRIALS), name_result(path, side))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=SIDES, help="measure one side on --path")
    parser.add_argument("--path", type=Path)
    args = parser.parse_args()
    if args.side:
        run_side(args.side, args.path)
        return
    if importlib.util.find_spec("pynapple") is None:
        sys.exit("This compares with pynapple, which is not installed: pip install pynapple")
    with temporary_folder() as folder:
        path = make_alone(make_file, folder / "units.nwb")
        best = measure_in_turn(__file__, SIDES, path, args.rounds)
        ours, theirs = (load_result(path, side) for side in SIDES[:2])
        if not np.array_equal(ours, theirs):
            sys.exit(f"the counts differ in {(ours != theirs).sum()} of {ours.size} bins")
    print(f"{list_versions('nwbrnn', 'pynapple', 'h5py')}, one thread, best of {args.rounds}")
    print(f"{ours.sum()} of {N_SPIKES} spikes lie in {N_TRIALS} trials; all {ours.size} counts are equal")
    print("side     | CPU seconds | times nwbrnn | seconds | memory beyond imports")
    for side in SIDES:
        cpu, seconds, memory = (best[side][name] for name in ("cpu", "seconds", "memory"))
        ratio = cpu / best["nwbrnn"]["cpu"]
        print(f"{side:8} | {cpu:11.3f} | {ratio:12.2f} | {seconds:7.3f} | {memory:.0f} MiB")
    total, opening, floor, pynapple = (best[s]["cpu"] for s in ("nwbrnn", "opening", "h5py", "pynapple"))
    print(f"nwbrnn is {pynapple / total:.1f} times as fast as pynapple (target: at least 6)")
    print(
        f"Reading the spike times with h5py is the floor: nwbrnn takes {total / floor:.1f} times as long "
        f"(target: at most 2.5), and {(total - opening) / floor:.1f} times without opening the file"
    )


if __name__ == "__main__":
    main()
