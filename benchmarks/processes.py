"""How much faster a sweep is on two processes than on one.

The same cells, of a simulated teacher, once on each; times without the start of the processes, which is
printed, too. Needs two idle cores. (Not with the other benchmarks' ``timing``, which binds the process, and
with it the workers it starts, to one core.)

    OMP_NUM_THREADS=1 python benchmarks/processes.py
"""

import argparse
import tempfile
import time
from pathlib import Path

from nwbrnn.config import FitConfig, ReadConfig, SweepConfig
from nwbrnn.formats import write_teacher
from nwbrnn.sweep import run_sweep
from nwbrnn.teacher import TeacherConfig, simulate_teacher


def measure(file: Path, folder: Path, processes: int, seeds: int) -> tuple[float, float]:
    """Return seconds to the first finished cell, and from there to the last."""
    times: list[float] = []
    begin = time.perf_counter()
    run_sweep(
        [file],
        folder,
        SweepConfig(sampled=(0, "25%"), seeds=seeds, resamples=0),
        configs=(ReadConfig(), FitConfig(epochs=100, processes=processes)),
        progress=lambda *_: times.append(time.perf_counter()),
    )
    return times[2 * processes] - begin, times[-1] - times[2 * processes]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=12)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "teacher.nwb"
        write_teacher(simulate_teacher(TeacherConfig(n_directions=16)), file)
        rates = {}
        for processes in (1, 2):
            start, rest = measure(file, folder / str(processes), processes, args.seeds)
            rates[processes] = (2 * args.seeds - 2 * processes) / rest
            print(f"{processes} | start {start:.1f} s | {rates[processes]:.3f} cells per second")
    print(f"two processes: {rates[2] / rates[1]:.2f} times as fast")


if __name__ == "__main__":
    main()
