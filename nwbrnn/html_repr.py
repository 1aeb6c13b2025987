"""Show results in a notebook as small HTML tables, in which every text is escaped."""

import math
from collections.abc import Iterable, Sequence
from html import escape

CELL = "text-align: left; padding: 0 1em 0 0"


def format_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return an HTML table whose first column names the rows."""

    def line(tag: str, cells: Sequence[object]) -> str:
        inner = "".join(f'<{tag} style="{CELL}">{escape(str(cell))}</{tag}>' for cell in cells)
        return f"<tr>{inner}</tr>"

    body = "".join(line("td", row) for row in rows)
    return f"<table><thead>{line('th', columns)}</thead><tbody>{body}</tbody></table>"


def format_text(text: str) -> str:
    """Return lines of text as HTML that keeps their layout."""
    return "<div>" + "<br>".join(escape(line.strip()) for line in text.splitlines()) + "</div>"


def format_number(value: float) -> str:
    """Return a number with three decimals, or a dash for NaN."""
    return f"{value:.3f}" if math.isfinite(value) else "–"
