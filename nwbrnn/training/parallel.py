"""Train several networks at once, with one process per core and one thread per network."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import joblib
import xarray as xr

from nwbrnn.config import FitConfig
from nwbrnn.training.gradient import Progress
from nwbrnn.training.single import Trained, Weights, train


class Task(NamedTuple):
    """A network to train: its data, its settings, the path of its checkpoint and its first weights."""

    ds: xr.Dataset
    config: FitConfig
    checkpoint: Path | None = None
    resume: bool = False
    start: Weights | None = None


def train_all(tasks: Sequence[Task], *, progress: Progress | None = None) -> dict[int, Trained]:
    """Train networks in parallel.

    Parameters
    ----------
    tasks
        Networks to train.
    progress
        Called after each finished network with the number of finished ones and its last losses by name.

    Returns
    -------
    dict
        Trained networks by number of the task. After an interrupt, only those that were finished; if there
        are none, the interrupt is raised.
    """
    n_jobs = min(len(tasks), tasks[0].config.processes or count_cores())
    # these processes do not import the user's script again, so it needs no guard around its main part
    parallel = joblib.Parallel(n_jobs=n_jobs, backend="loky", return_as="generator_unordered")
    ready: dict[int, Trained] = {}
    results = parallel(joblib.delayed(_train)(i, task) for i, task in enumerate(tasks))
    try:
        for number, trained in results:
            ready[number] = trained
            if progress is not None:
                progress(len(ready), {name: values[-1] for name, values in trained.history.items()})
    except KeyboardInterrupt:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the user asked to cancel the others
            results.close()
        if not ready:
            raise
    return ready


def count_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _train(number: int, task: Task) -> tuple[int, Trained]:
    ds, config, checkpoint, resume, start = task
    return number, train(ds, config, checkpoint=checkpoint, resume=resume, start=start)
