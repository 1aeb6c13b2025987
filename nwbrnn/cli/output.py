"""What several commands print and write."""

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from nwbrnn.evaluation import Score

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


def print_assessment(scores: "Sequence[Score]") -> None:
    """Print scores with interval, ceiling and chance; those of which nothing is known are left out."""
    rows = []
    for one in (score.to_dict() for score in scores):
        if one["value"] is not None:
            limits = "–" if one["low"] is None else f"{one['low']:.3f} to {one['high']:.3f}"
            rows.append(
                (one["name"], _show(one["value"]), limits, _show(one["ceiling"]), _show(one["chance"]))
            )
    columns = ("score", "student", "95 % over trials", "split-half ceiling", "chance")
    print_table("Held-out trials, everything", columns, rows)


def check_json(path: Path | None, *, overwrite: bool, others: Sequence[Path]) -> None:
    """Refuse a JSON output that cannot be written, exists already, or is one of the other files."""
    from nwbrnn.writers.atomic import check_output

    if path is not None and str(path) != "-":
        check_output(path, overwrite=overwrite, suffix="", others=others)


def write_json(values: dict[str, Any], path: Path | None, *, overwrite: bool) -> None:
    """Write values as JSON, whole or not at all; ``-`` is standard output."""
    from nwbrnn.writers.atomic import replace_whole

    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    if str(path) == "-":
        print(text, end="")
    elif path is not None:
        with replace_whole(path, overwrite=overwrite) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _show(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
