"""Paired timings on one thread of one core, in CPU seconds.

Import it first: NumPy, torch and jax read what it sets.
"""

import os
import platform
import time
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from statistics import median

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # jax cannot be told otherwise

Run = Callable[[], object]


def print_versions(*names: str) -> None:
    """Print the date, the machine and the versions of packages."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("nwbrnn", *names))
    print(f"{date.today()}, {platform.machine()}, one thread; {versions}", flush=True)


def measure(title: str, runs: dict[str, Run | None], n_rounds: int) -> None:
    """Print the median CPU time of each run, and the median of its ratio to ours round by round.

    Runs that are ``None`` are left out, and of those whose name begins with "floor" all but the fastest.
    """
    present = {name: run for name, run in runs.items() if run is not None}
    seconds: dict[str, list[float]] = {name: [] for name in present}
    for _ in range(n_rounds + 2):  # the first two rounds warm up
        for name, run in present.items():
            start = time.process_time()
            run()
            seconds[name].append(time.process_time() - start)
    warm = {name: values[2:] for name, values in seconds.items()}
    floors = sorted((n for n in warm if n.startswith("floor")), key=lambda name: median(warm[name]))
    print(title)
    for name, values in warm.items():
        if name in floors[1:]:
            continue
        ratios = sorted(other / own for other, own in zip(values, warm["nwbrnn"], strict=True))
        print(
            f"  {name:16} {1e3 * median(values):8.1f} ms   {median(ratios):5.2f} times ours "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f})",
            flush=True,
        )
