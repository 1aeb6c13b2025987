"""What a cell of a sweep needs beside its fit, and how much faster a sweep is on two processes than on one.

The cells are fits of a simulated circuit of 16 directions and 200 neurons, with 100 epochs. First they run in
this process, once as a cell and once as a fit only, in CPU seconds. Then a sweep runs them on one process and
on two. Cells per second need two idle cores. CPU seconds for each cell need none, and tell whether processes
hinder each other. (Not with the other benchmarks' ``timing``, which binds the process and the workers that it
starts to one core.)

    OMP_NUM_THREADS=1 python benchmarks/processes.py
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from nwbrnn.config import FitConfig, ReadConfig, SweepConfig
from nwbrnn.formats import write_teacher
from nwbrnn.job import fit
from nwbrnn.readers import read_nwb
from nwbrnn.sweep import add_data, create_folder, run_sweep
from nwbrnn.sweep.cell import run_cell
from nwbrnn.teacher import TeacherConfig, simulate_teacher

SAMPLED = (0, "25%")


def measure_parts(file: Path, folder: Path, grid: SweepConfig, config: FitConfig) -> None:
    """Print the CPU seconds of each cell, and those of the fit alone, with the cells of a seed in turn."""
    create_folder(folder, [file], grid, (ReadConfig(), config))
    ds = read_nwb(file, ReadConfig())
    cells = sorted(add_data(folder, "teacher", ds, grid, config), key=lambda cell: cell.config.seed)
    print("cell of seed and sampled | CPU seconds | of these beside the fit")
    for cell in cells:
        alone = measure_cpu(lambda c=cell.config: fit(ds, c, progress=False))  # type: ignore[misc]
        whole = measure_cpu(lambda c=cell: run_cell(folder, c))  # type: ignore[misc]
        name = f"{cell.config.seed}, {cell.config.sampled}"
        print(f"{name:24} | {whole:11.2f} | {whole - alone:.2f} ({1 - alone / whole:.0%})")
    print("(target: at most 30%)")


def measure_cpu(job: Callable[[], object]) -> float:
    """Return the CPU seconds of this process for a job."""
    begin = time.process_time()
    job()
    return time.process_time() - begin


def measure_processes(file: Path, folder: Path, grid: SweepConfig, config: FitConfig) -> tuple[float, ...]:
    """Return seconds to the first finished cell; cells per second and CPU seconds per cell after a first one.

    CPU seconds are those of all processes from when each has finished a cell until the first one ends.
    """
    times: list[float] = []
    spent: list[float] = []

    def note(*_: int) -> None:
        times.append(time.perf_counter())
        workers = psutil.Process().children(recursive=True)
        spent.append(sum(sum(worker.cpu_times()[:2]) for worker in workers))

    begin = time.perf_counter()
    run_sweep([file], folder, grid, configs=(ReadConfig(), config), progress=note)
    first, last = config.processes or 1, len(times) - 1 - (config.processes or 1)
    n = last - first
    return times[1] - begin, n / (times[last] - times[first]), (spent[last] - spent[first]) / n


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=12)
    args = parser.parse_args()
    if args.seeds < 3:
        parser.error("expected 3 seeds or more, so that some cells remain when each process has run one")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "teacher.nwb"
        write_teacher(simulate_teacher(TeacherConfig(n_directions=16)), file)
        few = SweepConfig(sampled=SAMPLED, seeds=2, resamples=0)
        measure_parts(file, folder / "parts", few, FitConfig(epochs=100))
        grid = few.model_copy(update={"seeds": args.seeds})
        found = {}
        for processes in (1, 2):
            config = FitConfig(epochs=100, processes=processes)
            found[processes] = measure_processes(file, folder / str(processes), grid, config)
            first, rate, cpu = found[processes]
            print(
                f"{processes} processes | first cell after {first:.1f} s | {rate:.3f} cells per second",
                end="",
            )
            print(f" | {cpu:.2f} CPU seconds per cell", flush=True)
    print(f"two processes: {found[2][1] / found[1][1]:.2f} times as fast (target: at least 1.8)")
    print(f"a cell on two processes: {found[2][2] / found[1][2]:.2f} times the CPU seconds of one")


if __name__ == "__main__":
    main()
