"""Figures of the mechanism of a network: its fixed points and its modes there."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from nwbrnn.evaluation import compute_principal_components
from nwbrnn.evaluation.fixed_points import FixedPoint
from nwbrnn.plot.fit import describe_conditions, list_colours, sort_conditions
from nwbrnn.plot.style import COLOURS, GREY, place_legend, prepare_axes
from nwbrnn.preprocessing import average_conditions
from nwbrnn.result import FitResult

if TYPE_CHECKING:  # it imports torch, which other figures do not need
    from nwbrnn.mechanism import Motion

KINDS = {
    "attracting": {"marker": "o", "mfc": "black"},
    "unstable": {"marker": "o", "mfc": "none"},
    "slow": {"marker": "x", "mfc": "black"},
}


def fixed_points(result: FitResult, *, ax: Axes | None = None) -> Axes:
    """Draw the states of the network with its fixed and slow points at the inputs of movement.

    The axes are the first two principal components of its states in the conditions of the test trials.

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

    Examples
    --------
    >>> import nwbrnn
    >>> result = nwbrnn.fit(nwbrnn.read_nwb(example), sampled=3, min_rate=0, hidden=20, epochs=2)
    >>> ax = nwbrnn.plot.fixed_points(result)
    """
    from nwbrnn.mechanism import follow_network

    motion, labels = sort_motion(follow_network(result), result)
    points = motion.find_points("movement")
    ax = draw_portrait(motion, points, ax=prepare_axes(ax, width=4.6, height=3.4))
    place_legend(ax, [*list_colours(labels), *list_kinds(points)])
    return ax


def sort_motion(motion: "Motion", result: FitResult) -> tuple["Motion", list[str]]:
    """Return a motion with its conditions in the order of ``plot.trajectories``, and their labels.

    Parameters
    ----------
    motion
        Trajectories in the conditions of the test trials of the fit.
    result
        A fit.
    """
    tests = average_conditions(result.recorded.isel(trial=result.recorded["split"].values == "test"))
    order = sort_conditions(tests["condition"].values)
    labels = describe_conditions(tests)
    states, inputs = motion.states[order], motion.inputs[order]
    return replace(motion, states=states, inputs=inputs), [labels[i] for i in order]


def draw_portrait(motion: "Motion", points: Sequence[FixedPoint], *, ax: Axes) -> Axes:
    """Draw trajectories of states, and points at which the network rests, without a legend.

    Parameters
    ----------
    motion
        Trajectories of a fitted network or a simulated circuit.
    points
        Fixed and slow points.
    ax
        Where to draw.
    """
    flat = motion.states.reshape(-1, motion.states.shape[-1])
    plane, mean = compute_principal_components(flat, 2)
    plane = np.pad(plane, ((0, 0), (0, 2 - plane.shape[1])))
    for i, path in enumerate((motion.states - mean) @ plane):
        ax.plot(*path.T, lw=1.1, color=COLOURS[i % len(COLOURS)])
    for point in points:
        style = KINDS[_name_kind(point)]
        at = (point.state - mean) @ plane
        ax.plot(*at, ls="", ms=6, mec="black", zorder=3, **style)  # type: ignore[arg-type]
    ax.set_xlabel("hidden states, PC 1 [1]", fontsize=9)
    ax.set_ylabel("hidden states, PC 2 [1]", fontsize=9)
    return ax


def list_kinds(points: Iterable[FixedPoint]) -> list[Artist]:
    """Return what a legend shows of fixed and slow points: the kinds that occur."""
    found = {_name_kind(point) for point in points}
    return [
        Line2D([], [], ls="", ms=6, mec="black", label=f"{name} point", **style)  # type: ignore[arg-type]
        for name, style in KINDS.items()
        if name in found
    ]


def _name_kind(point: FixedPoint) -> str:
    return "attracting" if point.attracts else "unstable" if point.exact else "slow"


def draw_modes(points: Mapping[str, Sequence[FixedPoint]], *, ax: Axes) -> Axes:
    """Draw growth rates and frequencies of all modes at the most stable fixed point of each network.

    Parameters
    ----------
    points
        Fixed points of networks by their names.
    ax
        Where to draw.
    """
    ax.axvline(0, color=GREY, lw=0.8)
    for i, (name, found) in enumerate(points.items()):
        exact = [point for point in found if point.exact]
        if exact:
            rates = min(exact, key=lambda point: point.rates[0].real).rates
            shown = rates.real > -100  # a map that forgets its state within a bin has very distant modes
            ax.plot(
                rates.real[shown], rates.imag[shown] / (2 * np.pi), "ox"[i % 2], ms=3.5 - i % 2,
                color=COLOURS[i], alpha=0.8, label=name,
            )  # fmt: skip
    ax.set_xlabel("growth rate [1/s]", fontsize=9)
    ax.set_ylabel("frequency [Hz]", fontsize=9)
    if ax.get_legend_handles_labels()[0]:
        place_legend(ax)
    return ax


def find_motions(result: FitResult) -> "dict[str, Motion]":
    """Return the motion of the fitted network and, if it is known, of the simulated circuit."""
    from nwbrnn.mechanism import Teacher, follow_network, follow_teacher

    teacher = Teacher.find(result.recorded)
    motions = {"network": follow_network(result)}
    return motions if teacher is None else motions | {"circuit": follow_teacher(teacher)}
