"""Figures of a fit."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from nwbrnn.dataset import get_output_units, get_unit_ids
from nwbrnn.errors import ConfigError
from nwbrnn.evaluation import compute_principal_components
from nwbrnn.plot.style import COLOURS, GREY, place_legend, plain, prepare_axes
from nwbrnn.preprocessing import (
    average_tests,
    compute_standard_errors,
    find_complete_units,
    name_rows,
    normalize_rates,
)
from nwbrnn.result import FitResult
from nwbrnn.text import find_label, sort_labels
from nwbrnn.weights import KINDS

Array = NDArray[np.floating]

UNITS = {"degrees": "°", "radians": " rad"}
"""Of directions, as a label shows them."""
TERMS = {"output": "outputs", "dynamics": "sampled neurons"}


def outputs(
    result: FitResult,
    output: str | None = None,
    *,
    conditions: Sequence[str | float] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw an output, recorded and predicted, by condition, in its recorded unit.

    The band is the standard error of the recorded trials, where a condition has more than one test trial.

    Parameters
    ----------
    result
        A fit.
    output
        Its name; by default that of the highest R².
    conditions
        At most four, evenly spread, if not given.
    ax
        Where to draw; by default on a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        What was drawn on.

    Raises
    ------
    ConfigError
        If there is no such output, or no test trial of a condition.

    Examples
    --------
    >>> import nwbrnn
    >>> result = nwbrnn.fit(nwbrnn.read_nwb(example), sampled=3, min_rate=0, hidden=20, epochs=2)
    >>> ax = nwbrnn.plot.outputs(result)
    """
    labels = result.recorded["output"].values
    channel = (
        _find(labels, output, what="output") if output is not None else _find_best(result.scores.output_r2)
    )
    ax = _draw_fit(result, "outputs", channel, conditions=conditions, ax=ax)
    ax.set_ylabel(
        f"{plain(labels[channel])} [{plain(get_output_units(result.recorded)[channel])}]", fontsize=9
    )
    return ax


def rates(
    result: FitResult,
    unit: int | None = None,
    *,
    conditions: Sequence[str | float] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the firing rate of a unit, recorded and predicted, by condition.

    Parameters
    ----------
    result
        A fit.
    unit
        Its id in the units table; by default that of the highest R² among the neurons that were
        not sampled, or among all if all were.
    conditions
        At most four, evenly spread, if not given.
    ax
        Where to draw; by default on a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        What was drawn on.

    Raises
    ------
    ConfigError
        If there is no such unit, or no test trial of a condition.

    Examples
    --------
    >>> import nwbrnn
    >>> result = nwbrnn.fit(nwbrnn.read_nwb(example), sampled=3, min_rate=0, hidden=20, epochs=2)
    >>> ax = nwbrnn.plot.rates(result)
    """
    recorded = result.recorded
    labels, sampled = get_unit_ids(recorded), recorded["sampled"].values
    r2 = result.scores.unit_r2
    best = _find_best(r2 if sampled.all() else np.where(sampled, np.nan, r2))
    channel = best if unit is None else _find(labels, unit, what="unit")
    ax = _draw_fit(result, "rates", channel, conditions=conditions, ax=ax)
    kind = "sampled" if sampled[channel] else "not sampled"
    ax.set_ylabel(
        f"unit {plain(name_rows(recorded, 'unit')[channel])} ({kind}) [{recorded['rates'].attrs['units']}]",
        fontsize=9,
    )
    return ax


def trajectories(
    result: FitResult, *, conditions: Sequence[str | float] | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the recorded and the predicted population in the plane with most of the recorded variance.

    The plane is spanned by the first two principal components of the soft-normalized recorded rates, averaged
    by condition. The predicted rates are projected onto the same plane.

    Parameters
    ----------
    result
        A fit.
    conditions
        At most eight, evenly spread, if not given.
    ax
        Where to draw; by default on a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        What was drawn on. Units that were not observed in all bins of the averages are left out.

    Raises
    ------
    ConfigError
        If there is no test trial of a condition.

    Examples
    --------
    >>> import nwbrnn
    >>> result = nwbrnn.fit(nwbrnn.read_nwb(example), sampled=3, min_rate=0, hidden=20, epochs=2)
    >>> ax = nwbrnn.plot.trajectories(result)
    """
    truth, network = average_tests(result.recorded, result.predicted)
    ax = prepare_axes(ax, width=4.6, height=3.4)
    mask, complete = truth["mask"].values, find_complete_units(truth)
    if not complete.any():
        ax.text(0.5, 0.5, "no unit was observed in every condition", ha="center", transform=ax.transAxes)
        return ax
    normal = [normalize_rates(ds["rates"].values, truth)[..., complete] for ds in (truth, network)]
    axes, mean = compute_principal_components(normal[0][mask], 2)
    axes = np.pad(axes, ((0, 0), (0, 2 - axes.shape[1])))  # one neuron has one dimension
    total = normal[0][mask].var(axis=0).sum()
    paths = [(values - mean) @ axes for values in normal]
    rows = _find_rows(truth, conditions, at_most=len(COLOURS))
    for i, row in enumerate(rows):
        colour = COLOURS[i % len(COLOURS)]
        for path, line in zip(paths, ("-", "--"), strict=True):
            points = path[row][mask[row]].T
            ax.plot(*points, line, color=colour, lw=1.4 if line == "-" else 1.1)
            ax.plot(*points[:, :1], "o", ms=3.5, color=colour, mfc=colour if line == "-" else "none")
    starts = Line2D([], [], color=GREY, marker="o", ms=3.5, ls="", label="first bin")
    share = paths[0][mask].var(axis=0) / total
    names = [f"normalized rates, PC {k + 1} ({100 * part:.0f} %) [1]" for k, part in enumerate(share)]
    ax.set_xlabel(names[0], fontsize=9)
    ax.set_ylabel(names[1], fontsize=9)
    ax.set_aspect("equal", adjustable="datalim")
    labels = describe_conditions(truth)
    _add_legend(ax, [labels[row] for row in rows], [starts])
    return ax


def spectrum(result: FitResult, *, ax: Axes | None = None) -> Axes:
    """Draw the eigenvalues of the recurrent network: how fast its modes grow or decay, and rotate.

    They are the eigenvalues of diag(1/τ) (W - 1), which describes the states if each unit works at slope 1 of
    its nonlinearity (near 0 for tanh). To the right of the line, modes grow until the nonlinearity limits
    them.

    Parameters
    ----------
    result
        A fit.
    ax
        Where to draw; by default on a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        What was drawn on.

    Raises
    ------
    ConfigError
        If it is not a rate network.

    Examples
    --------
    >>> import nwbrnn
    >>> result = nwbrnn.fit(nwbrnn.read_nwb(example), sampled=3, min_rate=0, hidden=20, epochs=2)
    >>> ax = nwbrnn.plot.spectrum(result)
    """
    if KINDS[result.config.network].gates:
        raise ConfigError(
            f"network: expected 'rate', whose equation has these modes, but got {result.config.network!r}"
        )
    ax = prepare_axes(ax, width=3.6, height=3.0)
    values = compute_spectrum(result)
    ax.axvline(0, color=GREY, lw=0.8)
    ax.plot(values.real, values.imag / (2 * np.pi), "o", ms=2.5, color=COLOURS[0], alpha=0.8, mew=0)
    ax.set_xlabel("growth rate of the mode, Re λ [1/s]", fontsize=9)
    ax.set_ylabel("frequency, Im λ / 2π [Hz]", fontsize=9)
    ax.annotate(
        "grows", (0, 1), (4, -2), xycoords=("data", "axes fraction"), textcoords="offset points", va="top",
        fontsize=8, color=GREY,
    )  # fmt: skip
    ax.annotate(
        "decays", (0, 1), (-4, -2), xycoords=("data", "axes fraction"), textcoords="offset points", va="top",
        ha="right", fontsize=8, color=GREY,
    )  # fmt: skip
    low, high = values.real.min(), max(values.real.max(), 0.0)
    ax.set_xlim(low - 0.05 * (high - low), high + 0.2 * (high - low))  # leave room for the words
    return ax


def learning_curve(result: FitResult, *, terms: Sequence[str] | None = None, ax: Axes | None = None) -> Axes:
    """Draw the loss terms of the best network over its passes of least squares and its epochs.

    Parameters
    ----------
    result
        A fit.
    terms
        Names as in ``result.history`` without ``train_`` and ``validation_``; by default those of outputs
        and sampled neurons.
    ax
        Where to draw; by default on a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        What was drawn on.

    Raises
    ------
    ConfigError
        If there is no such term.

    Examples
    --------
    >>> import nwbrnn
    >>> result = nwbrnn.fit(nwbrnn.read_nwb(example), sampled=3, min_rate=0, hidden=20, epochs=2)
    >>> ax = nwbrnn.plot.learning_curve(result)
    """
    history = result.history
    known = [name.removeprefix("train_") for name in history if name.startswith("train_")]
    chosen = [name for name in TERMS if name in known] if terms is None else list(terms)
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise ConfigError(f"terms: expected some of {known}, but got {unknown}; choose from these")
    ax = prepare_axes(ax)
    lowest = np.inf
    for i, term in enumerate(chosen):
        for kind, line in (("train", "-"), ("validation", "--")):
            values = np.asarray(history.get(f"{kind}_{term}", []), dtype=np.float64)
            if np.isfinite(values).any():
                label = f"{TERMS.get(term, term)}, {'training' if kind == 'train' else kind}"
                ax.plot(1 + np.arange(len(values)), values, line, color=COLOURS[i], lw=1.2, label=label)
                lowest = min(lowest, np.nanmin(values))
    n_passes = sum(rate == 0 for rate in history.get("learning_rate", []))
    if n_passes:
        ax.axvline(n_passes + 0.5, color=GREY, lw=0.8, ls=":", label="gradient descent begins")
    if lowest > 0:  # the error of spikes can be negative
        ax.set_yscale("log")
    ax.set_xlabel("pass of least squares or epoch", fontsize=9)
    ax.set_ylabel("error relative to the mean [1]", fontsize=9)
    place_legend(ax)
    return ax


def compute_spectrum(result: FitResult) -> NDArray[np.complexfloating]:
    """Return the eigenvalues of diag(1/τ) (W - 1), shape (n_hidden,) [1/s]."""
    weights = np.asarray(result.weights["recurrent_weights"], dtype=np.float64)
    tau = np.broadcast_to(result.weights.get("tau", result.config.tau), len(weights))
    return np.linalg.eigvals((weights - np.eye(len(weights))) / tau[:, np.newaxis])


def describe_time(recorded: xr.Dataset) -> str:
    """Return the label of the time axis, which names the event at time 0."""
    choices = json.loads(recorded.attrs.get("choices", "[]"))
    events = [choice["picked"] for choice in choices if choice["role"] == "align_to"]
    return f"time from {events[0].removesuffix('_time').replace('_', ' ')} [s]" if events else "time [s]"


def draw_courses(
    ax: Axes,
    averages: tuple[xr.Dataset, xr.Dataset],
    name: str,
    channel: int,
    *,
    rows: Sequence[int] | NDArray[np.intp],
    errors: Array | None = None,
) -> None:
    """Draw one channel of ``outputs`` or ``rates`` over time, with one colour per condition.

    Parameters
    ----------
    ax
        Where to draw.
    averages
        Recorded and predicted averages, with one trial per condition.
    name, channel
        The variable and the position of its channel.
    rows
        Positions of the conditions.
    errors
        Standard errors of the recorded averages, shape (n_conditions, n_time, n_channels), to draw as a band.
    """
    truth, network = averages
    time, labels = truth["time"].values, describe_conditions(truth)
    for i, row in enumerate(rows):
        colour, shown = COLOURS[i % len(COLOURS)], truth["mask"].values[row]
        solid, dashed = (ds[name].values[row, shown, channel] for ds in (truth, network))
        ax.plot(time[shown], solid, color=colour, lw=1.5, label=labels[row])
        ax.plot(time[shown], dashed, "--", color=colour, lw=1.2)
        if errors is not None:
            half = errors[row, shown, channel]
            ax.fill_between(time[shown], solid - half, solid + half, color=colour, alpha=0.15, lw=0)
    ax.set_xlabel(plain(describe_time(truth)), fontsize=9)


def _draw_fit(
    result: FitResult, name: str, channel: int, *, conditions: Sequence[str | float] | None, ax: Axes | None
) -> Axes:
    """Draw one channel of a fit by condition, with band, event and legend."""
    recorded = result.recorded
    averages = average_tests(recorded, result.predicted)
    rows = _find_rows(averages[0], conditions, at_most=4)
    errors = compute_standard_errors(recorded.isel(trial=recorded["split"].values == "test"), name)
    ax = prepare_axes(ax)
    draw_courses(ax, averages, name, channel, rows=rows, errors=errors)
    if recorded["time"].values[0] < 0 < recorded["time"].values[-1]:
        ax.axvline(0, color=GREY, lw=0.6, zorder=0)
    labels = describe_conditions(averages[0])
    more = [Patch(color=GREY, alpha=0.3, lw=0, label="standard error")] if np.isfinite(errors).any() else []
    _add_legend(ax, [labels[row] for row in rows], more)
    return ax


def _add_legend(ax: Axes, conditions: Sequence[str], more: Sequence[Artist] = ()) -> None:
    """Add a legend of colours and lines."""
    handles = [
        Line2D([], [], color=GREY, ls=line, label=text)
        for line, text in (("-", "recorded"), ("--", "network"))
    ]
    place_legend(ax, [*list_colours(conditions), *handles, *more])


def list_colours(conditions: Sequence[str]) -> list[Artist]:
    """Return what a legend shows of conditions, which have the colours in their order."""
    return [
        Line2D([], [], color=COLOURS[i % len(COLOURS)], label=condition)
        for i, condition in enumerate(conditions)
    ]


def describe_conditions(ds: xr.Dataset) -> list[str]:
    """Return the condition of each trial with its unit, where it is a direction, as a label."""
    return [f"condition {plain(label)}" for label in label_conditions(ds)]


def label_conditions(ds: xr.Dataset) -> list[str]:
    """Return the condition of each trial, with its unit if it is a direction."""
    choices = json.loads(ds.attrs.get("choices", "[]"))
    picked = [choice["picked"] for choice in choices if choice["role"] == "condition"] or ["direction"]
    column = ds.coords.get(picked[0])
    unit = "" if column is None else UNITS.get(str(column.attrs.get("units")), "")
    labels = [str(label) for label in ds["condition"].values]
    numbers = [label.lstrip("-").replace(".", "", 1).isdigit() for label in labels]
    return [f"{label}{unit}" if known else label for label, known in zip(labels, numbers, strict=True)]


def sort_conditions(labels: NDArray[Any]) -> NDArray[np.intp]:
    """Return the order of conditions: numerical if all are numbers, and otherwise unchanged."""
    try:
        return np.argsort([float(label) for label in labels], kind="stable")
    except ValueError:
        return np.arange(len(labels))


def pick_evenly(n: int, n_picked: int) -> NDArray[np.intp]:
    """Return ``n_picked`` evenly spread numbers below n."""
    return np.unique(np.linspace(0, n - 1, min(n, n_picked)).round().astype(np.intp))


def _find_rows(
    truth: xr.Dataset, conditions: Sequence[str | float] | None, *, at_most: int
) -> NDArray[np.intp]:
    """Return the positions of conditions, by default some."""
    labels = truth["condition"].values
    if conditions is None:
        return sort_conditions(labels)[pick_evenly(len(labels), at_most)]
    return np.array([_find(labels, condition, what="condition") for condition in conditions], dtype=np.intp)


def _find(labels: NDArray[Any], label: object, *, what: str) -> int:
    """Return the position of a label."""
    known = [str(one) for one in labels.tolist()]
    found = find_label(known, label)
    if found is None:
        raise ConfigError(
            f"{what}: expected one of {', '.join(sort_labels(known))}, but got {label!r}; choose one of these"
        )
    return known.index(found)


def _find_best(r2: Array) -> int:
    """Return the position of the highest R², the first if none is known."""
    return int(np.nanargmax(r2)) if np.isfinite(r2).any() else 0
