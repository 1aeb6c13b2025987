"""Figures of sweeps and fits, without a screen and without the global state of matplotlib."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from nwbrnn.evaluation import compute_rotations
from nwbrnn.preprocessing import average_conditions
from nwbrnn.writers.atomic import replace_whole

# Okabe & Ito 2008, distinguishable with every kind of colour vision
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#888888"
STATISTICS = {
    "score", "mean", "mean_low", "mean_high", "baseline", "difference", "low", "high", "p", "effect", "fits",
    "better", "seeds", "conditions_better", "conditions", "ceiling", "chance",
}  # fmt: skip


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all; an existing one is replaced.

    Raises
    ------
    ExportError
        If it cannot be written.
    """
    with replace_whole(path, overwrite=True) as temporary:
        figure.savefig(temporary, format="png", dpi=150)


def plot_scores(statistics: pd.DataFrame, scores: Sequence[str]) -> Figure:
    """Draw scores against the number of sampled neurons, with intervals, ceiling and chance.

    What is far below the means and the ceiling, such as chance, is cut off.

    Parameters
    ----------
    statistics
        What :func:`nwbrnn.sweep.compare_with_baseline` returned.
    scores
        A panel each, for each source.

    Returns
    -------
    Figure
        A line for each combination of the other settings.
    """
    panels = _list_panels(statistics, scores, "mean")
    figure, axes = _create_grid(len(panels))
    for (title, part), ax in zip(panels, axes.ravel(), strict=False):
        _plot_score(ax, part)
        ax.set_title(title, fontsize=9)
        ax.set_xlabel("sampled neurons", fontsize=9)
    _add_legend(figure, axes)
    return figure


def _plot_score(ax: Axes, part: pd.DataFrame) -> None:
    """Draw one score against the number of sampled neurons."""
    others = _list_settings(part, without=("sampled",))
    levels = list(dict.fromkeys(part["sampled"]))
    base, treated = part[part["sampled"] == "0"], part[part["sampled"] != "0"]
    groups: list[tuple[Any, pd.DataFrame]] = [((), treated)]
    if others:
        groups = list(treated.groupby(others, sort=False))
    for i, (key, rows) in enumerate(groups):
        same = base[(base[others] == rows[others].iloc[0]).all(axis=1)] if others else base
        joined = pd.concat([same if len(same) else base, rows])
        x = np.array([levels.index(level) for level in joined["sampled"]])
        mean, low, high = (joined[name].to_numpy() for name in ("mean", "mean_low", "mean_high"))
        label = ", ".join(f"{name} {value}" for name, value in zip(others, key, strict=True))
        limits = np.nan_to_num(np.stack([mean - low, high - mean]))
        shift = 0.06 * (i - (len(groups) - 1) / 2)
        style: dict[str, Any] = {
            "fmt": "o-",
            "ms": 4,
            "lw": 1.2,
            "capsize": 2,
            "color": COLOURS[i % len(COLOURS)],
        }
        ax.errorbar(x + shift, mean, yerr=limits, label=label or "student, 95 % interval", **style)
    ax.set_xticks(range(len(levels)), [_describe_level(level) for level in levels])
    shown = np.concatenate([part["mean"], part["ceiling"]])
    bottom, top = np.nanmin(shown), np.nanmax(shown)
    half = np.nan_to_num((part["mean_high"] - part["mean"]).median())
    margin = max(0.2 * (top - bottom), 1.3 * half) or 0.1
    ax.set_ylim(bottom - margin, top + margin)
    for name, line in (("ceiling", "--"), ("chance", ":")):
        values = part.groupby("sampled", sort=False)[name].mean()
        if (values > bottom - margin).any():
            ax.plot(range(len(levels)), values[levels], line, color=GREY, lw=1, label=name)


def plot_differences(statistics: pd.DataFrame, scores: Sequence[str]) -> Figure:
    """Draw the paired difference of each setting to the student without sampled neurons, with 95 % intervals.

    Parameters
    ----------
    statistics
        What :func:`nwbrnn.sweep.compare_with_baseline` returned.
    scores
        A panel each, for each source; those without a difference are left out.

    Returns
    -------
    Figure
        Intervals without 0 in colour.
    """
    treated = statistics[statistics["sampled"] != "0"]
    panels = _list_panels(treated, scores, "difference")
    settings = _list_settings(treated)
    labels = list(dict.fromkeys(_describe_row(row, settings) for _, row in treated.iterrows()))[::-1]
    figure, axes = _create_grid(len(panels), height=0.9 + 0.25 * len(labels))
    for (title, rows), ax in zip(panels, axes.ravel(), strict=False):
        for _, row in rows.iterrows():
            at, middle = labels.index(_describe_row(row, settings)), row["difference"]
            limits = np.nan_to_num([[middle - row["low"]], [row["high"] - middle]])
            colour = COLOURS[0] if row["low"] > 0 or row["high"] < 0 else GREY
            ax.errorbar(middle, at, xerr=limits, fmt="o", ms=4, capsize=2, color=colour)
        ax.axvline(0, color="black", lw=0.8)
        first = ax in axes[:, 0]  # the others have the same rows
        ax.set_yticks(range(len(labels)), labels if first else [""] * len(labels), fontsize=8)
        ax.set_ylim(-0.6, len(labels) - 0.4)
        ax.xaxis.set_major_locator(MaxNLocator(4))
        ax.set_title(title, fontsize=9)
        ax.set_xlabel("difference to outputs only", fontsize=9)
    return figure


def plot_traces(recorded: xr.Dataset, predicted: xr.Dataset, *, n_conditions: int = 3) -> Figure:
    """Draw outputs and unsampled neurons, recorded and predicted, averaged over test trials by condition.

    Parameters
    ----------
    recorded, predicted
        Of a fit.
    n_conditions
        Conditions to show, evenly chosen from those of the test trials.
    """
    is_test = recorded["split"].values == "test"
    truth, student = (average_conditions(ds.isel(trial=is_test)) for ds in (recorded, predicted))
    picked = _spread(truth.sizes["trial"], n_conditions)
    unsampled = np.flatnonzero(~truth["sampled"].values)
    units = (
        unsampled[_spread(len(unsampled), 3)] if len(unsampled) else np.arange(min(3, truth.sizes["unit"]))
    )
    channels = [("outputs", i, str(truth["output"].values[i])) for i in _spread(truth.sizes["output"], 3)]
    channels += [("rates", int(i), f"unit {truth['unit'].values[i]} [Hz]") for i in units]
    figure, axes = _create_grid(len(channels))
    time = truth["time"].values
    for (name, channel, title), ax in zip(channels, axes.ravel(), strict=False):
        for colour, row in zip(COLOURS, picked, strict=False):
            shown = truth["mask"].values[row]
            label = f"condition {truth['condition'].values[row]}"
            ax.plot(time[shown], truth[name].values[row, shown, channel], color=colour, lw=1.6, label=label)
            ax.plot(time[shown], student[name].values[row, shown, channel], "--", color=colour, lw=1.2)
        ax.set_title(title, fontsize=9)
        ax.set_xlabel("time [s]")
    _add_legend(figure, axes, note="solid: recorded, dashed: student, never trained on")
    return figure


def plot_rotations(recorded: xr.Dataset, predicted: xr.Dataset) -> Figure:
    """Draw the fastest jPCA plane of the recorded population and of the student, a line by condition."""
    averages = [average_conditions(ds) for ds in (recorded, predicted)]
    normal = (averages[0]["rates"].values - recorded["rate_offset"].values) / recorded["rate_scale"].values
    moving = (recorded["time"].values > 0) & averages[0]["mask"].values.all(axis=0)
    figure, axes = _create_grid(2, width=3.6, height=3.6)
    pairs = (("recorded", normal), ("student", averages[1]["hidden"].values))
    for ax, (name, activity) in zip(axes.ravel(), pairs, strict=True):
        found = compute_rotations(activity[:, moving], bin_size=recorded.attrs["bin_size"])
        for i, path in enumerate(found.projections):
            if path.shape[1] == 2:
                colour = COLOURS[i % len(COLOURS)]
                ax.plot(*path.T, lw=1, color=colour)
                ax.plot(*path[0], "o", ms=4, color=colour)
        first = found.frequencies[0] if found.frequencies.size else np.nan
        ax.set_title(
            f"{name}: skew R² {found.r2:.2f} (any linear {found.unconstrained_r2:.2f}), {first:.1f} Hz",
            fontsize=8,
        )
        ax.set_xlabel("jPC 1")
        ax.set_ylabel("jPC 2")
        ax.set_aspect("equal", adjustable="datalim")
    return figure


def _create_grid(
    n_panels: int, *, n_columns: int = 3, width: float = 3.2, height: float = 2.4
) -> tuple[Figure, NDArray[Any]]:
    """Return a figure with a grid of axes, as many as there are panels."""
    n_columns = min(n_columns, max(n_panels, 1))
    n_rows = max(-(-n_panels // n_columns), 1)
    figure = Figure(figsize=(width * n_columns + 0.6, height * n_rows + 0.5), layout="constrained")
    axes = figure.subplots(n_rows, n_columns, squeeze=False)
    for ax in axes.ravel():
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=8)
    for ax in axes.ravel()[n_panels:]:
        ax.set_axis_off()
    return figure, axes


def _add_legend(figure: Figure, axes: NDArray[Any], *, note: str = "") -> None:
    """Add one legend for all panels below them."""
    handles, labels = axes.ravel()[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=min(len(labels), 4) or 1, fontsize=8,
        frameon=False, title=note or None, title_fontsize=8,
    )  # fmt: skip


def _list_panels(
    statistics: pd.DataFrame, scores: Sequence[str], column: str
) -> list[tuple[str, pd.DataFrame]]:
    """Return title and rows of each panel: sources one after the other, scores of which anything is known."""
    known = statistics[np.isfinite(statistics[column])]
    names = [name for name in scores if name in set(known["score"])]
    if "source" not in known:
        return [(name, known[known["score"] == name]) for name in names]
    return [
        (f"{source}\n{name}", known[(known["source"] == source) & (known["score"] == name)])
        for source in dict.fromkeys(known["source"])
        for name in names
    ]


def _describe_level(level: str) -> str:
    """Return a number of sampled neurons as people write it."""
    try:
        value = float(level)
    except ValueError:
        return level
    return f"{100 * value:g} %" if 0 < value < 1 else f"{value:g}"


def _describe_row(row: "pd.Series[Any]", settings: Sequence[str]) -> str:
    """Return the settings of a row in words."""
    return ", ".join(
        f"{_describe_level(row[name])} sampled" if name == "sampled" else f"{name} {row[name]}"
        for name in settings
    )


def _list_settings(statistics: pd.DataFrame, *, without: Sequence[str] = ()) -> list[str]:
    """Return the columns that are settings."""
    names = [str(name) for name in statistics.columns]
    return [name for name in names if name not in STATISTICS and name not in ("source", *without)]


def _spread(n: int, n_picked: int) -> NDArray[np.intp]:
    """Return so many numbers below n, evenly spread."""
    return np.unique(np.linspace(0, n - 1, min(n, n_picked)).round().astype(np.intp))
