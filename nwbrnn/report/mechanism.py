"""The part of a page on how a network works: fixed points, responses, and what the data leave open."""

from collections.abc import Mapping
from itertools import chain
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from nwbrnn.evaluation.fixed_points import FixedPoint
from nwbrnn.evaluation.specs import get_spec
from nwbrnn.mechanism import (
    Motion,
    Teacher,
    compare_responses,
    compare_runs,
    find_determined_share,
    list_effects,
)
from nwbrnn.mechanism.agreement import MEANINGS
from nwbrnn.plot.fit import list_colours
from nwbrnn.plot.mechanism import draw_modes, draw_portrait, find_motions, list_kinds, sort_motion
from nwbrnn.plot.style import prepare_axes
from nwbrnn.prediction import Push
from nwbrnn.report.html import create_figure, render_figure
from nwbrnn.result import FitResult

N_EFFECTS = 20  # outputs and units that change most, on a page
COUNTS = ("slow modes", "attracting points")  # measures that are whole numbers


def describe_mechanism(result: FitResult, push: Push | None) -> tuple[dict[str, Any], Any]:
    """Return what the template shows of the mechanism, and the figure.

    Parameters
    ----------
    result
        A fit.
    push
        Units to push, if any.
    """
    motions = find_motions(result)
    points = {name: motion.find_points("movement") for name, motion in motions.items()}
    teacher = Teacher.find(result.recorded)
    responses = {} if teacher is None else compare_responses(teacher, result.weights, result.config)
    effects = [] if push is None else list_effects(result, push)
    share, n_dimensions = find_determined_share(
        result.recorded, result.predicted, np.asarray(result.weights["recurrent_weights"])
    )
    values = {
        "has_circuit": teacher is not None,
        "measures": _list_measures(motions, points),
        "responses": list(responses.items()),
        "push": "" if push is None else _name(push),
        "effects": sorted(effects, key=lambda one: (one.kind != "output", -abs(one.change)))[:N_EFFECTS],
        "share": share,
        "n_dimensions": n_dimensions,
        "agreement": [
            (name, MEANINGS[name], float(np.mean(pairs)), min(pairs), max(pairs))
            for name, pairs in compare_runs(result).items()
        ],
    }
    return values, render_figure(_draw(result, motions, points), name="mechanism")


def _list_measures(
    motions: Mapping[str, Motion], points: Mapping[str, list[FixedPoint]]
) -> list[tuple[str, str, int, float, float | None]]:
    """Return name, meaning, number of digits, and the values of network and circuit."""
    found = {who: motion.measure(points[who]) for who, motion in motions.items()}
    return [
        (
            name,
            get_spec(name).description,
            0 if name in COUNTS else 2,
            value,
            found.get("circuit", {}).get(name),
        )
        for name, value in found["network"].items()
    ]


def _name(push: Push) -> str:
    """Return a push in words."""
    units = ", ".join(f"unit {unit} by {weight * push.size:+g} Hz" for unit, weight in push.units.items())
    lasting = f" over {push.duration:g} s" if push.duration else ""
    return f"{units} at {push.at:g} s{lasting}"


def _draw(result: FitResult, motions: Mapping[str, Motion], points: Mapping[str, list[FixedPoint]]) -> Figure:
    """Draw the states of network and circuit, and the modes of both, with one legend below them."""
    figure = create_figure(figsize=(3.9 * (len(motions) + 1), 3.5))
    axes = np.atleast_1d(figure.subplots(1, len(motions) + 1))
    titles = {name: name if len(motions) > 1 else "network" for name in motions}
    labels: list[str] = []
    for ax, (name, motion) in zip(axes, motions.items(), strict=False):
        ordered, labels = sort_motion(motion, result)
        draw_portrait(ordered, points[name], ax=prepare_axes(ax))
        ax.set_title(titles[name], fontsize=9)
    draw_modes({titles[name]: found for name, found in points.items()}, ax=prepare_axes(axes[-1]))
    axes[-1].set_title("modes at rest", fontsize=9)
    handles = [*list_colours(labels), *list_kinds(chain.from_iterable(points.values()))]
    figure.legend(handles=handles, loc="outside lower center", ncols=2 * len(axes), fontsize=8, frameon=False)
    return figure
