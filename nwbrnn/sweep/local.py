"""Run cells on processes of this machine, each of which receives one cell at a time through its own pipe.

The server that forks them listens on no port, only on a Unix socket in a folder that only the user can open.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from nwbrnn.errors import ConfigError
from nwbrnn.sweep.cell import run_cell
from nwbrnn.sweep.grid import Cell

TRIES = 3
"""Number of processes that may be killed at a cell before it counts as failed."""

# One thread for each process. By default the C library returns large freed blocks to the system; a fit, which
# needs the same ones in every epoch, then takes longer (docs/sweeps.md).
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
}

# This process may run threads, which do not survive a fork. The fork server has only imported the libraries,
# so it starts each process in milliseconds. Windows has no fork.
if sys.platform == "win32":
    _CONTEXT = multiprocessing.get_context("spawn")
else:
    _CONTEXT = multiprocessing.get_context("forkserver")
    _CONTEXT.set_forkserver_preload([__name__])


def run_locally(
    folder: Path, cells: Sequence[Cell], *, n_workers: int
) -> Generator[tuple[Cell, str], None, None]:
    """Run cells on processes of this machine, which end after the last cell or when this is closed.

    Parameters
    ----------
    folder
        Folder of the sweep.
    cells
        The cells to fit, in any order.
    n_workers
        Number of processes.

    Yields
    ------
    tuple of Cell and str
        Each cell when no process works on it any more, and why it failed if it could not record that itself.

    Raises
    ------
    ConfigError
        If the processes cannot start.
    """
    waiting, killed = list(cells), Counter[str]()
    workers: dict[Any, _Worker] = {}  # by connection, whose type is another one on Windows
    try:
        while waiting or workers:
            while waiting and len(workers) < n_workers:
                worker = _Worker(folder, _take(waiting, None, workers))
                workers[worker.connection] = worker
            for connection in wait(list(workers)):
                worker = workers[connection]
                cell, answer = worker.cell, worker.hear()
                if worker.has_ended:
                    del workers[worker.connection]
                    killed[cell.key] += 1
                    if killed[cell.key] < TRIES:
                        waiting.append(cell)
                        continue
                elif answer is None:  # it has only started
                    continue
                elif waiting:
                    worker.begin(_take(waiting, cell, workers))
                else:
                    workers.pop(worker.connection).end()
                yield cell, answer or ""
    finally:
        for worker in workers.values():
            worker.end()


def _take(waiting: list[Cell], last: Cell | None, workers: Mapping[Any, "_Worker"]) -> Cell:
    """Remove and return the cell that a process should run after ``last``.

    A process keeps what it has computed from the trials alone. Its next cell therefore has the same ones, or
    else those of no other process, if there is such a cell.
    """
    own = None if last is None else _find_trials(last)
    taken = {_find_trials(worker.cell) for worker in workers.values()}

    def rank(cell: Cell) -> tuple[bool, bool]:
        trials = _find_trials(cell)
        return trials != own, trials in taken

    chosen = min(waiting, key=rank)
    waiting.remove(chosen)
    return chosen


def _find_trials(cell: Cell) -> tuple[str, tuple[str, ...], int]:
    """Return what decides which trials a cell trains and tests on, for the same settings of the split."""
    return cell.source, cell.config.held_out_conditions, cell.config.seed


class _Worker:
    """A process and its current cell.

    Parameters
    ----------
    folder
        Folder of the sweep.
    cell
        The first one.
    """

    def __init__(self, folder: Path, cell: Cell) -> None:
        self.connection, theirs = _CONTEXT.Pipe()
        self.process = _CONTEXT.Process(target=_work, args=(folder, theirs), daemon=True)
        with _set_environment(), _hold_interrupts():
            self.process.start()
        theirs.close()  # so that the pipe ends with the process
        self.has_started = self.has_ended = False
        self.begin(cell)

    def begin(self, cell: Cell) -> None:
        """Make the process run a cell."""
        self.cell = cell
        with suppress(OSError):  # it was killed, which ``hear`` detects
            self.connection.send(cell)

    def hear(self) -> str | None:
        """Return the outcome of the cell; ``None`` if the process has only started."""
        try:
            answer: str | None = self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            code = self.process.exitcode or 0
            if code > 0 and not self.has_started:
                raise ConfigError(
                    "processes: expected processes that start, but they end at once (see above); a script "
                    'that runs a sweep needs `if __name__ == "__main__":` around it'
                ) from None
            self.has_ended = True
            how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            return f"KilledWorker: the process that fitted it ended with {how}, {TRIES} times"
        self.has_started = True
        return answer

    def end(self) -> None:
        """End the process, whatever it is doing."""
        self.process.terminate()
        self.process.join()
        self.connection.close()


@contextmanager
def _set_environment() -> Iterator[None]:
    """Set the environment of a process that is started meanwhile."""
    before = dict(os.environ)
    os.environ.update(ENVIRONMENT)
    try:
        yield
    finally:
        for name in ENVIRONMENT:
            if name in before:
                os.environ[name] = before[name]
            else:
                del os.environ[name]


@contextmanager
def _hold_interrupts() -> Iterator[None]:
    """Keep Ctrl-C, which reaches all processes of a terminal, from one that is started meanwhile."""
    if sys.platform == "win32":  # processes on Windows inherit no such mask
        yield
        return
    resource_tracker.ensure_running()  # when the first process starts it, it would let Ctrl-C through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(folder: Path, connection: Connection) -> None:
    """Run the cells that come through a pipe, and answer each with what it could not record itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, BrokenPipeError):  # the sweep has ended
        connection.send(None)
        while True:
            cell = connection.recv()
            problem = ""
            try:
                run_cell(folder, cell)
            except Exception as error:  # it cannot even be recorded, for example on a full disk
                problem = f"{type(error).__name__}: {error}"
            connection.send(problem)


def _end_with_parent() -> None:
    """End this process when its parent has ended, in the middle of a fit."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
