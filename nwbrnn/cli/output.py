"""What several commands print and write."""

import json
import os
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nwbrnn.errors import ExportError, OutputExistsError

console = Console(width=None if os.isatty(1) else 120, highlight=False)


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows of plain values; whatever stands in a file is shown as it is, not as markup."""
    console.print(Text(title, style="bold"))
    table = Table(box=box.SIMPLE_HEAD)
    for i, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=False, style="bold" if i == 0 else None)
    for row in rows:
        table.add_row(*(Text(str(value)) for value in row))
    console.print(table)


def print_choices(choices: Iterable[dict[str, Any]]) -> None:
    """Print what was picked, why, and what else was possible."""
    rows = [(c["role"], c["picked"], c["reason"], ", ".join(c["alternatives"]) or "–") for c in choices]
    print_table("What was picked, and why", ("role", "picked", "why", "also possible"), rows)


def print_scores(scores: dict[str, Any]) -> None:
    """Print the scores on held-out trials beside their ceilings."""
    rows = [(s["name"], s["level"], _show(s["value"]), _show(s["ceiling"])) for s in scores["summary"]]
    print_table("Held-out trials", ("score", "of", "student", "ceiling"), rows)
    outputs = [(o["name"], _show(o["r2"]), _show(o["ceiling"])) for o in scores["outputs"]]
    print_table("Outputs, R2 on condition averages", ("output", "student", "ceiling"), outputs)


def check_json(path: Path | None, *, overwrite: bool, others: Sequence[Path]) -> None:
    """Refuse a JSON output that exists already, whose folder does not, or that is one of the other files."""
    if path is None or str(path) == "-":
        return
    check_distinct(path, others)
    if path.is_dir():
        raise ExportError(f"{path}: expected the name of a file, but it is a folder; add a file name")
    if not path.parent.is_dir():
        raise ExportError(f"{path}: expected an existing folder, but there is no {path.parent}; create it")
    if path.exists() and not overwrite:
        raise OutputExistsError(
            f"{path}: expected no such file yet, but it exists; use --overwrite to replace it"
        )


def check_distinct(path: Path, others: Sequence[Path]) -> None:
    """Refuse an output that is one of the other files of a command."""
    for other in others:
        same = path.exists() and other.exists() and path.samefile(other)
        if same or path.resolve() == other.resolve():
            raise ExportError(f"{path}: expected another file than {other}; choose another output")


def write_json(values: dict[str, Any], path: Path | None) -> None:
    """Write values as JSON, whole or not at all; ``-`` is standard output."""
    if path is None:
        return
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    if str(path) == "-":
        print(text, end="")
        return
    temporary = path.with_name(f".{secrets.token_hex(4)}.{path.name}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise ExportError(f"{path}: cannot be written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _show(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
