"""Figures of sweeps and fits, without a screen and without the global state of matplotlib."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from nwbrnn.evaluation import compute_rotations
from nwbrnn.preprocessing import average_conditions
from nwbrnn.writers.atomic import replace_whole

# Okabe & Ito 2008, distinguishable with every kind of colour vision
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#888888"
STATISTICS = {
    "score", "mean", "mean_low", "mean_high", "baseline", "difference", "low", "high", "p", "effect",
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

    Parameters
    ----------
    statistics
        What :func:`nwbrnn.sweep.compare_with_baseline` returned.
    scores
        A panel each; a row of panels for each source.

    Returns
    -------
    Figure
        A line for each combination of the other settings.
    """
    sources = _list_sources(statistics)
    scores = [name for name in scores if name in set(statistics["score"])]
    figure, axes = _create_grid(len(sources), len(scores))
    for (source, part), row in zip(sources, axes, strict=True):
        for name, ax in zip(scores, row, strict=True):
            _plot_score(ax, part[part["score"] == name])
            ax.set_title(f"{source}\n{name}" if source else name, fontsize=9)
            ax.set_xlabel("sampled neurons")
    _add_legend(figure, axes)
    return figure


def _plot_score(ax: Axes, part: pd.DataFrame) -> None:
    """Draw one score against the number of sampled neurons."""
    others = _list_settings(part, without=("sampled",))
    levels = list(dict.fromkeys(part["sampled"]))
    base = part[part["sampled"] == "0"]
    treated = part[part["sampled"] != "0"] if others and len(base) else part
    groups: list[tuple[Any, pd.DataFrame]] = [((), treated)]
    if others:
        groups = list(treated.groupby(others, sort=False))
    for i, (key, rows) in enumerate(groups):
        joined = pd.concat([base, rows]) if treated is not part else rows
        x = [levels.index(level) for level in joined["sampled"]]
        mean, low, high = (joined[name].to_numpy() for name in ("mean", "mean_low", "mean_high"))
        label = ", ".join(f"{name} {value}" for name, value in zip(others, key, strict=True))
        limits = np.stack([mean - low, high - mean])
        shift = 0.06 * (i - (len(groups) - 1) / 2)
        ax.errorbar(
            np.array(x) + shift, mean, yerr=np.nan_to_num(limits), fmt="o-", ms=4, lw=1.2, capsize=2,
            color=COLOURS[i % len(COLOURS)], label=label or "student",
        )  # fmt: skip
    for name, style in (("ceiling", "--"), ("chance", ":")):
        values = part.groupby("sampled", sort=False)[name].mean()
        if np.isfinite(values).any():
            ax.plot(range(len(levels)), values[levels], style, color=GREY, lw=1, label=name)
    ax.set_xticks(range(len(levels)), levels)
    shown = np.concatenate([part["mean"], part["ceiling"]])
    if np.isfinite(shown).any():  # what is far below, such as chance or a wide interval, is cut off
        bottom, top = np.nanmin(shown), np.nanmax(shown)
        margin = 0.3 * (top - bottom) or 0.1
        ax.set_ylim(bottom - margin, top + margin)


def plot_differences(statistics: pd.DataFrame, scores: Sequence[str]) -> Figure:
    """Draw the paired difference of each setting to the student without sampled neurons, with 95 % intervals.

    Parameters
    ----------
    statistics
        What :func:`nwbrnn.sweep.compare_with_baseline` returned.
    scores
        A panel each; a row of panels for each source.
    """
    treated = statistics[statistics["sampled"] != "0"]
    sources = _list_sources(treated)
    scores = [name for name in scores if name in set(treated["score"])]
    settings = _list_settings(treated)
    n_rows = max(len(part[part["score"] == scores[0]]) for _, part in sources)
    figure, axes = _create_grid(len(sources), len(scores), height=0.8 + 0.28 * n_rows, sharey=True)
    for (source, part), row in zip(sources, axes, strict=True):
        for name, ax in zip(scores, row, strict=True):
            rows = part[part["score"] == name]
            y = np.arange(len(rows))[::-1]
            middle, low, high = (rows[n].to_numpy() for n in ("difference", "low", "high"))
            clear = (low > 0) | (high < 0)
            limits = np.nan_to_num(np.stack([middle - low, high - middle]))
            for i, at in enumerate(y):
                colour = COLOURS[0] if clear[i] else GREY
                ax.errorbar(middle[i], at, xerr=limits[:, [i]], fmt="o", ms=4, capsize=2, color=colour)
            ax.axvline(0, color="black", lw=0.8)
            labels = [", ".join(f"{n} {rows[n].iloc[i]}" for n in settings) for i in range(len(rows))]
            ax.set_yticks(y, labels, fontsize=8)
            ax.set_title(f"{source}\n{name}" if source else name, fontsize=9)
            ax.set_xlabel("difference to outputs only")
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
    figure, axes = _create_grid(2, (len(channels) + 1) // 2)
    time = truth["time"].values
    for (name, channel, title), ax in zip(channels, axes.ravel(), strict=False):
        for colour, row in zip(COLOURS, picked, strict=False):
            shown = truth["mask"].values[row]
            label = f"condition {truth['condition'].values[row]}"
            ax.plot(time[shown], truth[name].values[row, shown, channel], color=colour, lw=1.6, label=label)
            ax.plot(time[shown], student[name].values[row, shown, channel], "--", color=colour, lw=1.2)
        ax.set_title(title, fontsize=9)
        ax.set_xlabel("time [s]")
    for ax in axes.ravel()[len(channels) :]:
        ax.set_axis_off()
    _add_legend(figure, axes, note="solid: recorded, dashed: student, never trained on")
    return figure


def plot_rotations(recorded: xr.Dataset, predicted: xr.Dataset) -> Figure:
    """Draw the fastest jPCA plane of the recorded population and of the student, a line by condition."""
    averages = [average_conditions(ds) for ds in (recorded, predicted)]
    normal = (averages[0]["rates"].values - recorded["rate_offset"].values) / recorded["rate_scale"].values
    moving = (recorded["time"].values > 0) & averages[0]["mask"].values.all(axis=0)
    figure, axes = _create_grid(1, 2, width=3.6, height=3.6)
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
    n_rows: int, n_columns: int, *, width: float = 2.7, height: float = 2.5, sharey: bool = False
) -> tuple[Figure, NDArray[Any]]:
    """Return a figure with a grid of axes, always two-dimensional."""
    figure = Figure(figsize=(width * max(n_columns, 1) + 0.8, height * n_rows + 0.5), layout="constrained")
    axes = figure.subplots(n_rows, max(n_columns, 1), squeeze=False, sharey="row" if sharey else False)
    for ax in axes.ravel():
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=8)
    return figure, axes


def _add_legend(figure: Figure, axes: NDArray[Any], *, note: str = "") -> None:
    """Add one legend for all panels below them."""
    handles, labels = axes.ravel()[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=min(len(labels), 4) or 1, fontsize=8,
        frameon=False, title=note or None, title_fontsize=8,
    )  # fmt: skip


def _list_sources(statistics: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return the rows of each source; all of them where sources are pooled."""
    if "source" not in statistics:
        return [("", statistics)]
    return [(str(name), part) for name, part in statistics.groupby("source", sort=False)]


def _list_settings(statistics: pd.DataFrame, *, without: Sequence[str] = ()) -> list[str]:
    """Return the columns that are settings."""
    names = [str(name) for name in statistics.columns]
    return [name for name in names if name not in STATISTICS and name not in ("source", *without)]


def _spread(n: int, n_picked: int) -> NDArray[np.intp]:
    """Return so many numbers below n, evenly spread."""
    return np.unique(np.linspace(0, n - 1, min(n, n_picked)).round().astype(np.intp))
