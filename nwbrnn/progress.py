"""How far a fit or a sweep is, in words, and on a line of a notebook that changes."""

import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from nwbrnn.text import show_count

MIN_INTERVAL = 0.2
"""Shortest time between two changes of a line [s]: more often, they would slow down the browser."""
Report = Callable[[int, Mapping[str, float]], None]
"""Called with a number and the losses by name."""
_TERMS = {"output": "outputs", "dynamics": "neurons"}


def describe_losses(losses: Mapping[str, float]) -> str:
    """Return the errors of outputs and neurons on training trials, and in brackets on validation trials.

    Examples
    --------
    >>> describe_losses({"train_output": 0.02, "validation_output": 0.03, "train_dynamics": 0.1})
    'outputs 0.0200 (0.0300), neurons 0.1000'
    """
    parts = []
    for name, what in _TERMS.items():
        held = losses.get(f"validation_{name}")
        if f"train_{name}" in losses:
            parts.append(f"{what} {losses[f'train_{name}']:.4f}" + ("" if held is None else f" ({held:.4f})"))
    return ", ".join(parts)


@contextmanager
def show_training(counted: str, total: int | None) -> Iterator[Report | None]:
    """Show the losses of a fit on a line of a notebook; give ``None`` where there is no notebook.

    Numbers count epochs, from 0 and with passes of least squares, or networks, from 1 to the total if it is
    known.
    """
    with _keep_line() as line:
        if line is None:
            yield None
            return
        begin = time.monotonic()

        def report(number: int, losses: Mapping[str, float]) -> None:
            if counted == "epoch":
                done = show_count(number + 1, "pass or epoch", "passes and epochs")
            else:
                done = show_count(number, "network") if total is None else f"{number} of {total} networks"
            line(f"Fitting: {done}, {time.monotonic() - begin:.0f} s. Errors: {describe_losses(losses)}")

        yield report


@contextmanager
def show_cells() -> Iterator[Callable[[int, int, int], None] | None]:
    """Show the counts of a sweep on a line of a notebook; give ``None`` where there is no notebook."""
    with _keep_line() as line:
        if line is None:
            yield None
            return
        begin = time.monotonic()

        def report(n_done: int, n_failed: int, n_cells: int) -> None:
            failed = f", {n_failed} failed" if n_failed else ""
            line(f"Fitting: {n_done} of {n_cells} cells{failed}, {time.monotonic() - begin:.0f} s")

        yield report


class _Line:
    """A line below the cell of a notebook; it shows its latest text at the end, if not before."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._text, self._shown, self._at = "", "", 0.0

    def __call__(self, text: str) -> None:
        self._text = text
        if self._handle is None or time.monotonic() - self._at >= MIN_INTERVAL:
            self.show()

    def show(self) -> None:
        from IPython.display import display

        if self._text == self._shown:
            return
        data = {"text/plain": self._text}
        if self._handle is None:
            self._handle = display(data, raw=True, display_id=True)
        else:
            self._handle.update(data, raw=True)
        self._shown, self._at = self._text, time.monotonic()


@contextmanager
def _keep_line() -> Iterator[_Line | None]:
    """Give a line that is complete at the end, or ``None`` outside of a notebook."""
    if not _is_notebook():
        yield None
        return
    line = _Line()
    try:
        yield line
    finally:
        line.show()


def _is_notebook() -> bool:
    """Return whether this process is the kernel of a notebook, and not a process that it started."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return hasattr(shell, "kernel") and multiprocessing.parent_process() is None
