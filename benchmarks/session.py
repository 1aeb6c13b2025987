"""A whole large session: seconds and peak memory of read_nwb.

One hour, 300 units with 30 million spikes, 16 channels of raw EMG at 2 kHz, 600 trials: spikes are counted
and smoothed, envelopes extracted, all aligned. Each width of bins is read in a process of its own.

    python benchmarks/session.py
"""

import argparse
from pathlib import Path

import numpy as np
from large_files import (
    HOUR,
    add_emg,
    add_units,
    create_nwbfile,
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

WINDOW = (-0.4, 1.5)  # around the go cue [s]
SIDES = {"20 ms": 0.02, "10 ms": 0.01}


def make_file(path: Path) -> None:
    """Write the large file."""
    nwbfile = create_nwbfile(600)
    add_units(nwbfile, 300, 30_000_000, HOUR)
    add_emg(nwbfile, 16, 2000.0, HOUR)
    write(nwbfile, path)


def read(path: Path, bin_size: float) -> NDArray[np.generic]:
    """Read everything, and return the size of the Dataset [bytes]."""
    import nwbrnn

    return np.array(nwbrnn.read_nwb(path, bin_size=bin_size, window=WINDOW).nbytes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--side", choices=SIDES, help="measure one width of bins on --path")
    parser.add_argument("--path", type=Path)
    args = parser.parse_args()
    if args.side:
        import nwbrnn.readers  # noqa: F401  the imports are not measured

        measure(lambda: read(args.path, SIDES[args.side]), name_result(args.path, args.side))
        return
    with temporary_folder() as folder:
        path = make_alone(make_file, folder / "session.nwb")
        best = measure_in_turn(__file__, list(SIDES), path, args.rounds)
        sizes = {side: load_result(path, side) / 1e6 for side in SIDES}
    print(f"{list_versions('nwbrnn')}, one thread")
    print("bins  | seconds | Dataset | memory beyond imports (target: at most 1000 MB)")
    for side, numbers in best.items():
        memory = numbers["memory"] * 1.048576
        print(f"{side:5} | {numbers['seconds']:7.1f} | {sizes[side]:4.0f} MB | {memory:.0f} MB")


if __name__ == "__main__":
    main()
