"""What several commands print and write: the one place that knows of terminals, pipes, quiet and verbose.

Results go to standard output: tables in rich on a terminal; plain columns elsewhere, whole and colourless.
Progress, steps and errors go to standard error.
"""

import json
import math
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nwbrnn.text import escape, shorten, show

if TYPE_CHECKING:
    from nwbrnn.evaluation import Score

SIGPIPE_EXIT = 141  # as the shell says of a program that SIGPIPE ended
LONGEST = 1000  # characters of a line of a cell: each row is padded to the longest
UNLIMITED = 1_000_000  # columns: what is not a terminal gets a row of a table in one line


class _Results(Console):
    """A console that ends the program when nobody reads on, as ``head`` does."""

    def on_broken_pipe(self) -> NoReturn:
        stop_writing()


def _is_terminal(stream: int) -> bool | None:
    """Return False for a pipe, a file and the cell of a notebook, and None for what may be a terminal.

    Jupyter asks for colours and bars by FORCE_COLOR. Its ``!`` gives commands a terminal, but does not
    move the cursor; JPY_PARENT_PID is set in the kernels of notebooks.
    """
    return None if os.isatty(stream) and "JPY_PARENT_PID" not in os.environ else False


console = _Results(
    width=UNLIMITED if _is_terminal(1) is False else None, highlight=False, force_terminal=_is_terminal(1)
)
stderr = Console(stderr=True, highlight=False, force_terminal=_is_terminal(2))
steps = Console(stderr=True, highlight=False, soft_wrap=True, quiet=True)


def set_verbosity(*, verbose: bool, quiet: bool) -> None:
    """Say how much the next command tells: everything it does, or nothing but errors."""
    console.quiet = stderr.quiet = quiet
    steps.quiet = not verbose


def shows_progress() -> bool:
    """Return whether somebody would see a bar on standard error."""
    return stderr.is_terminal and not stderr.quiet


@contextmanager
def step(text: str, *, spin: bool = True) -> Iterator[None]:
    """Tell on standard error what is being done: while it lasts on a terminal; how long it took if asked for.

    What shows a bar of its own must not ``spin``.
    """
    text = show(text)
    steps.print(f"{text} ...", markup=False)
    begin = time.perf_counter()
    shown = spin and steps.quiet and shows_progress()
    with stderr.status(Text(f"{text} ...")) if shown else nullcontext():
        yield
    steps.print(f"{text}: {time.perf_counter() - begin:.1f} s", markup=False)


def stop_writing() -> NoReturn:
    """End the program without a word, because nobody reads its standard output any more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes
    raise SystemExit(SIGPIPE_EXIT)


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows of plain values; what stands in a file is shown as it is, no markup or control codes.

    A cell that is a list has a line for each of its values.
    """
    cells = [[_show_text(value) for value in row] for row in rows]
    console.print(Text(title, style="bold"))
    if not console.is_terminal:
        console.print("\n".join(_align([list(columns), *cells])) + "\n", markup=False)
        return
    table = Table(box=box.SIMPLE_HEAD)
    for i, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=False, style="bold" if i == 0 else None)
    for row in cells:
        table.add_row(*map(Text, row))
    console.print(table)


def say(text: str) -> None:
    """Print a sentence on a line of its own, as it is: no markup, and control characters written out."""
    console.print(show(text), markup=False)


def say_interrupted(text: str) -> None:
    """Tell on standard error what an interrupt left, and how to go on."""
    sys.stderr.write(f"Interrupted: {show(text)}\n")


def _show_text(value: object) -> str:
    """Return a cell as text, not endless; a list has a line for each of its values."""
    lines = value if isinstance(value, list | tuple) else [value]
    return "\n".join(shorten(escape(line), LONGEST) for line in lines)


def _align(rows: list[list[str]]) -> Iterator[str]:
    """Return lines with columns as wide as necessary; a cell may have several lines."""
    cells = [[cell.split("\n") for cell in row] for row in rows]
    widths = [max(cell_len(line) for cell in column for line in cell) for column in zip(*cells, strict=True)]
    for row in cells:
        for parts in zip_longest(*row, fillvalue=""):
            padded = (part + " " * (w - cell_len(part)) for part, w in zip(parts, widths, strict=True))
            yield ("  " + "  ".join(padded)).rstrip()


def print_choices(choices: Iterable[dict[str, Any]], *, of: str = "") -> None:
    """Print what was picked (of a session), why, and what else was possible."""
    rows = [(c["role"], c["picked"], c["reason"], ", ".join(c["alternatives"]) or "–") for c in choices]
    title = f"What was picked{f' of {of}' if of else ''}, and why"
    print_table(title, ("role", "picked", "why", "also possible"), rows)


def print_scores(scores: dict[str, Any]) -> None:
    """Print the scores on held-out trials beside those of the average of the trials known to the fit."""
    rows = [
        (s["name"], s["level"], show_number(s["value"]), show_number(s["known_average"]))
        for s in scores["summary"]
    ]
    print_table("Held-out trials", ("score", "computed from", "network", "known average"), rows)
    outputs = [(o["name"], show_number(o["r2"]), show_number(o["known_average"])) for o in scores["outputs"]]
    print_table("Outputs, R2 on condition averages", ("output", "network", "known average"), outputs)


def print_assessment(scores: "Sequence[Score]") -> None:
    """Print scores with interval, limits and chance, and the baselines; nothing of what is not known."""
    from nwbrnn.evaluation import get_spec, list_rivals

    known = [score for score in scores if math.isfinite(score.value)]
    rows = [
        (
            get_spec(one.name).label,
            show_number(one.value),
            "–" if math.isnan(one.low) else f"{one.low:.3f} to {one.high:.3f}",
            *map(show_number, (one.noise_ceiling, one.reliability, one.chance)),
        )
        for one in known
    ]
    columns = ("score", "network", "95 % interval over trials", "noise ceiling", "reliability", "chance")
    print_table("Held-out trials, all scores", columns, rows)
    labels = {name: label for name, (label, _) in list_rivals(known).items()}
    beside = []
    for one in (score for score in known if score.rivals):
        found = {rival.name: rival.value for rival in one.rivals}
        values = [show_number(found.get(name)) for name in labels]
        beside.append((get_spec(one.name).label, show_number(one.value), *values))
    print_table("Held-out trials, baselines", ("score", "network", *labels.values()), beside)


def check_json(path: Path | None, *, overwrite: bool) -> None:
    """Refuse a JSON output that cannot be written or exists already.

    If it is ``-``, standard output is for JSON only from here on.
    """
    from nwbrnn.storage.paths import check_output

    if str(path) == "-":
        console.quiet = True
    elif path is not None:
        check_output(path, overwrite=overwrite, suffix="")


def write_json(
    values: dict[str, Any], path: Path | None, *, overwrite: bool, after: Path | None = None
) -> None:
    """Write values as JSON, whole or not at all: to standard output for ``-``, nowhere without a path.

    ``after`` is the output that the command has already written. If the JSON cannot be written, the error
    names it.
    """
    from nwbrnn.errors import ExportError
    from nwbrnn.storage import atomic

    if str(path) == "-":
        print_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n")
    elif path is not None:
        try:
            atomic.write_json(values, path, overwrite=overwrite)
        except ExportError as error:
            if after is None:
                raise
            reason = str(error).removesuffix(atomic.UNCHANGED)
            raise ExportError(f"{reason}; the output {after} is complete") from error


def print_text(text: str) -> None:
    """Write what was asked for to standard output, whatever else may be printed."""
    try:
        sys.stdout.write(text.encode("utf-8", "backslashreplace").decode())
        sys.stdout.flush()
    except BrokenPipeError:
        stop_writing()


def show_number(value: float | None) -> str:
    """Return a score with three digits, a dash for what is not known."""
    return "–" if value is None or math.isnan(value) else f"{value:.3f}"
