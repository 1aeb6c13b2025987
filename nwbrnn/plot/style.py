"""Colours, axes, legends and files, which all figures share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nwbrnn.errors import ConfigError

# Okabe & Ito 2008, distinguishable with every kind of colour vision; grey for their pale yellow
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
GREY = "#888888"
# text stays text in SVG, and TrueType in PDF, so that journals can edit it; the same file every time
VECTOR: Any = {"svg.fonttype": "none", "pdf.fonttype": 42, "svg.hashsalt": "nwbrnn"}


def save(figure: Figure | Axes, path: str | Path) -> None:
    """Write a figure as PNG, PDF or SVG, whole or not at all, replacing an existing file.

    Text stays text in SVG, and becomes TrueType in PDF.

    Parameters
    ----------
    figure
        A figure, or axes of one.
    path
        With the extension ``.png``, ``.pdf`` or ``.svg``.

    Raises
    ------
    ExportError
        If it cannot be written.
    ConfigError
        If the axes were removed from their figure.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> figure, ax = plt.subplots()
    >>> save(figure, "figure.svg")
    >>> plt.close(figure)
    """
    from nwbrnn.storage.atomic import replace_whole  # it imports pynwb, which drawing does not need

    path = Path(path)
    whole = figure.get_figure(root=True) if isinstance(figure, Axes) else figure
    if whole is None:
        raise ConfigError("figure: expected axes on a figure, but got axes that were removed; draw again")
    kind = path.suffix.removeprefix(".").lower() or "png"
    dated = {"Date" if kind == "svg" else "CreationDate": None} if kind in ("svg", "pdf") else None
    with replace_whole(path, overwrite=True) as temporary, rc_context(VECTOR):
        whole.savefig(temporary, format=kind, dpi=150, metadata=dated)


def prepare_axes(ax: Axes | None, *, width: float = 4.6, height: float = 2.6) -> Axes:
    """Return the given axes, or axes of a new figure that notebooks show."""
    if ax is None:
        import matplotlib.pyplot as plt

        ax = plt.figure(figsize=(width, height), layout="constrained").add_subplot()
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=8)
    return ax


def place_legend(ax: Axes, handles: Sequence[Artist] | None = None) -> None:
    """Put the legend next to the axes, where it hides nothing."""
    given = {} if handles is None else {"handles": list(handles)}
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, frameon=False, **given)


def plain(text: object) -> str:
    """Return text that matplotlib shows unchanged, not as mathematics."""
    return str(text).replace("$", r"\$")
