"""Figures of sweeps and fits, without a screen and without the global state of matplotlib."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from nwbrnn.dataset import get_output_units
from nwbrnn.evaluation import compute_rotations
from nwbrnn.plot.fit import describe_conditions, draw_courses, list_colours, pick_evenly, sort_conditions
from nwbrnn.plot.style import COLOURS, GREY
from nwbrnn.plot.sweep import (
    describe_level,
    describe_setting,
    draw_means,
    list_settings,
    sampling_curve,
)
from nwbrnn.preprocessing import (
    average_conditions,
    average_tests,
    find_complete_units,
    name_rows,
    normalize_rates,
)
from nwbrnn.text import show_count


def plot_scores(statistics: pd.DataFrame, scores: Sequence[str]) -> Figure:
    """Draw scores against the number of sampled neurons, with intervals, limits and chance.

    What is far below the means and the limits, such as chance, is cut off.

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
        sampling_curve(part, part["score"].iloc[0], ax=ax)
        ax.get_legend().remove()  # there is one for all panels
        ax.set_title(title, fontsize=9)
        ax.set_ylabel("")  # the title says it
    _add_legend(figure, axes)
    return figure


def plot_differences(statistics: pd.DataFrame, scores: Sequence[str]) -> Figure:
    """Draw the paired difference of each setting to the network without sampled neurons, with 95 % intervals.

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
    settings = list_settings(treated)
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
        ax.set_xlabel("difference from outputs only", fontsize=9)
    return figure


def plot_sessions(statistics: pd.DataFrame, gains: pd.DataFrame, scores: Sequence[str]) -> Figure:
    """Draw scores against the number of pooled sessions, and their paired differences from the smallest one.

    Parameters
    ----------
    statistics
        What :func:`nwbrnn.sweep.compare_with_baseline` returned.
    gains
        What :func:`nwbrnn.sweep.compare_with_fewest` returned.
    scores
        A column each; those of which nothing is known are left out.

    Returns
    -------
    Figure
        A line for each combination of the other settings.
    """
    known = set(statistics["score"][np.isfinite(statistics["mean"])])
    shown = [score for score in scores if score in known]
    figure, axes = _create_grid(2 * len(shown), n_columns=max(len(shown), 1))
    fewest = gains["sessions"].iloc[0]
    for score, above, below in zip(shown, *axes, strict=False):
        sampling_curve(statistics, score, against="sessions", ax=above)
        above.get_legend().remove()  # there is one for all panels
        above.set_title(score.replace("R2", "R²"), fontsize=9)
        above.set_ylabel("")  # the title says it
        draw_means(below, gains[gains["score"] == score], "sessions", ("difference", "low", "high"))
        below.axhline(0, color="black", lw=0.8)
        below.set_xlabel("sessions", fontsize=9)
        below.set_title(f"difference from {show_count(int(fewest), 'session')}", fontsize=9)
    _add_legend(figure, axes)
    return figure


def plot_circuits(cells: pd.DataFrame, statistics: pd.DataFrame, scores: Sequence[str]) -> Figure:
    """Draw scores of every circuit, with the means over circuits and their 95 % intervals.

    Parameters
    ----------
    cells
        A row for each fit with its ``source``, ``sampled`` and scores, as in ``table.csv`` of a sweep.
    statistics
        The statistics from :func:`nwbrnn.sweep.compare_with_baseline` of the levels to draw, pooled.
    scores
        Scores to draw, one panel each.

    Returns
    -------
    Figure
        A grey line for each circuit, and a tick at the mean noise ceiling where there is one.
    """
    figure, axes = _create_grid(len(scores))
    for score, ax in zip(scores, axes.ravel(), strict=False):
        rows = statistics[(statistics["score"] == score) & np.isfinite(statistics["mean"])]
        levels = sorted(rows["sampled"], key=lambda level: level != "0")
        known = cells[cells["sampled"].astype(str).isin(levels)]
        for _, circuit in known.groupby("source"):
            places = [levels.index(str(level)) for level in circuit["sampled"]]
            values = circuit[score].to_numpy()[np.argsort(places)]
            ax.plot(np.sort(places), values, ".-", color=GREY, lw=0.7, ms=4, alpha=0.7, label="one circuit")
        for _, row in rows.iterrows():
            at, mean = levels.index(row["sampled"]), row["mean"]
            limits = np.nan_to_num([[mean - row["mean_low"]], [row["mean_high"] - mean]])
            label = "mean and 95 % interval"
            ax.errorbar(at + 0.12, mean, yerr=limits, fmt="o", ms=5, capsize=3, color=COLOURS[0], label=label)
            if np.isfinite(row["noise_ceiling"]):
                ax.plot(at + 0.12, row["noise_ceiling"], "_", ms=14, color="black", label="noise ceiling")
        names = ["outputs only" if n == "0" else f"{describe_level(n)} sampled" for n in levels]
        ax.set_xticks(range(len(levels)), names, fontsize=8)
        ax.set_xlim(-0.5, len(levels) - 0.5)
        ax.set_title(score.replace(", ", ",\n").replace("R2", "R²"), fontsize=9)
    _add_legend(figure, axes)
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
    truth, network = average_tests(recorded, predicted)
    picked = pick_evenly(truth.sizes["trial"], n_conditions)
    unsampled = np.flatnonzero(~truth["sampled"].values)
    units = (
        unsampled[pick_evenly(len(unsampled), 3)]
        if len(unsampled)
        else np.arange(min(3, truth.sizes["unit"]))
    )
    of_outputs, names = get_output_units(truth), name_rows(truth, "unit")
    channels = [
        ("outputs", int(i), f"{truth['output'].values[i]} [{of_outputs[i]}]")
        for i in pick_evenly(truth.sizes["output"], 3)
    ]
    channels += [("rates", int(i), f"unit {names[i]} [Hz]") for i in units]
    figure, axes = _create_grid(len(channels))
    for (name, channel, title), ax in zip(channels, axes.ravel(), strict=False):
        draw_courses(ax, (truth, network), name, channel, rows=picked)
        ax.set_title(title, fontsize=9, parse_math=False)
    _add_legend(figure, axes, note="solid: recorded, dashed: predicted; never trained on")
    return figure


def plot_rotations(recorded: xr.Dataset, predicted: xr.Dataset) -> Figure:
    """Draw the fastest jPCA plane of the recorded population and of the network, a line by condition."""
    averages = [average_conditions(ds) for ds in (recorded, predicted)]
    normal = normalize_rates(averages[0]["rates"].values, recorded)[..., find_complete_units(averages[0])]
    moving = (recorded["time"].values > 0) & averages[0]["mask"].values.all(axis=0)
    figure, axes = _create_grid(2, width=3.6, height=3.6)
    order = sort_conditions(averages[0]["condition"].values)  # the colours of plot.trajectories
    pairs = (("recorded", normal), ("network", averages[1]["hidden"].values))
    for ax, (name, activity) in zip(axes.ravel(), pairs, strict=True):
        found = compute_rotations(activity[:, moving], bin_size=recorded.attrs["bin_size"])
        for i, path in enumerate(found.projections[order]):
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
    labels = describe_conditions(averages[0])
    handles = list_colours([labels[i] for i in order])
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
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
    first = dict(zip(labels[::-1], handles[::-1], strict=True))  # each label once
    handles, labels = list(first.values())[::-1], list(first)[::-1]
    n_columns = 4 if axes.shape[1] > 1 else 2  # as many as fit below the panels
    figure.legend(
        handles, labels, loc="outside lower center", ncols=min(len(labels), n_columns) or 1, fontsize=8,
        frameon=False, title=note or None, title_fontsize=8,
    )  # fmt: skip


def _list_panels(
    statistics: pd.DataFrame, scores: Sequence[str], column: str
) -> list[tuple[str, pd.DataFrame]]:
    """Return title and rows of each panel: sources one after the other, scores of which anything is known."""
    known = statistics[np.isfinite(statistics[column])]
    names = [name for name in scores if name in set(known["score"])]
    if "source" not in known:
        return [(name.replace("R2", "R²"), known[known["score"] == name]) for name in names]
    return [
        (
            f"{source}\n{name.replace('R2', 'R²')}",
            known[(known["source"] == source) & (known["score"] == name)],
        )
        for source in dict.fromkeys(known["source"])
        for name in names
    ]


def _describe_row(row: "pd.Series[Any]", settings: Sequence[str]) -> str:
    """Return the settings of a row in words."""
    return ", ".join(describe_setting(name, row[name]) for name in settings)
