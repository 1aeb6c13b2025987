"""Sessions of unusual shape: seconds and peak memory to inspect, examine and read each.

python benchmarks/shapes.py
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from large_files import (
    HOUR,
    TRIAL,
    add_emg,
    add_units,
    create_nwbfile,
    list_versions,
    make_alone,
    measure,
    measure_in_turn,
    name_result,
    temporary_folder,
    write,
)
from numpy.typing import NDArray
from pynwb import TimeSeries

WINDOW = (-0.4, 1.5)  # around the go cue [s]
SHAPES = {  # trials, units, spikes, conditions, duration [s]
    "5,000 trials": (5000, 50, 1_500_000, 8, 5000 * TRIAL),
    "2,000 units": (200, 2000, 10_000_000, 8, 200 * TRIAL),
    "10,000 conditions": (10_000, 20, 500_000, 10_000, 10_000 * TRIAL),
    "10 h of spikes, 1,000 units": (600, 1000, 100_000_000, 8, 10 * HOUR),
    "1 trial": (1, 50, 5000, 1, 400.0),
    "1 unit": (100, 1, 5000, 8, 100 * TRIAL),
    "2 bins, the fewest": (100, 50, 50_000, 8, 100 * TRIAL),
}


def make_file(path: Path) -> None:
    """Write the file of a shape, whose number is the name of the file."""
    n_trials, n_units, n_spikes, n_conditions, duration = list(SHAPES.values())[int(path.stem)]
    nwbfile = create_nwbfile(n_trials)
    labels = [f"c{i % n_conditions}" for i in range(n_trials)]
    nwbfile.add_trial_column("trial_type", "condition", data=labels)
    add_units(nwbfile, n_units, n_spikes, duration + 60)
    add_emg(nwbfile, 2, 50.0, duration + 60)
    shown = np.zeros((round(50 * (duration + 60)), 2), dtype=np.float32)
    nwbfile.add_acquisition(TimeSeries(name="task_inputs", data=shown, unit="1", rate=50.0))
    write(nwbfile, path)


def inspect(path: Path) -> object:
    """Show what would be read."""
    import nwbrnn

    return nwbrnn.inspect_nwb(path)


def diagnose(path: Path) -> object:
    """Examine the whole file."""
    import nwbrnn

    return nwbrnn.diagnose(path)


def read(path: Path) -> object:
    """Read everything around the go cues."""
    import nwbrnn

    is_short = "2 bins" in list(SHAPES)[int(path.stem)]
    return nwbrnn.read_nwb(path, window=(0.0, 0.04) if is_short else WINDOW, condition="trial_type")


SIDES: dict[str, Callable[[Path], object]] = {"inspect": inspect, "doctor": diagnose, "read": read}


def run(side: str, path: Path) -> NDArray[np.generic]:
    """Do one of the three; nothing of it is compared."""
    SIDES[side](path)
    return np.zeros(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--side", choices=SIDES, help="measure one of the three on --path")
    parser.add_argument("--path", type=Path)
    args = parser.parse_args()
    if args.side:
        import nwbrnn.readers
        import nwbrnn.readers.doctor  # noqa: F401  the imports are not measured

        measure(lambda: run(args.side, args.path), name_result(args.path, args.side))
        return
    print(list_versions("nwbrnn", "numpy", "h5py", "pynwb", "xarray"))
    print("| session | file | inspect | doctor | read |\n|---|---|---|---|---|")
    with temporary_folder() as folder:
        for number, name in enumerate(SHAPES):
            path = make_alone(make_file, folder / f"{number}.nwb")
            best = measure_in_turn(__file__, list(SIDES), path, args.rounds)
            cells = [f"{b['seconds']:.1f} s, {b['memory']:.0f} MiB" for b in best.values()]
            print(f"| {name} | {path.stat().st_size / 1e6:.0f} MB | {' | '.join(cells)} |", flush=True)
            path.unlink()


if __name__ == "__main__":
    main()
