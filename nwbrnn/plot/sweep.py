"""Figures of a sweep."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from nwbrnn.errors import ConfigError
from nwbrnn.evaluation import BASELINES, get_spec
from nwbrnn.evaluation.score_spec import LOWER
from nwbrnn.plot.style import COLOURS, GREY, place_legend, plain, prepare_axes

STATISTICS = {
    "score", "mean", "mean_low", "mean_high", "baseline", "difference", "low", "high", "p", "effect", "fits",
    "better", "seeds", "conditions_better", "conditions", "known_average", "noise_ceiling",
    "reliability", "chance", *(baseline.name for baseline in BASELINES),
}  # fmt: skip
AXES = {"sampled": "sampled neurons", "sessions": "sessions"}
"""What a curve of a sweep can be drawn against, in words."""


def sampling_curve(
    statistics: pd.DataFrame,
    score: str = "unsampled neurons R2",
    *,
    against: Literal["sampled", "sessions"] = "sampled",
    ax: Axes | None = None,
) -> Axes:
    """Draw a score of a sweep against the number of sampled neurons, with intervals, limits and chance.

    Values far below the means and the limits, such as chance, are cut off.

    Parameters
    ----------
    statistics
        The result of :func:`nwbrnn.sweep.compare_with_baseline`, or the ``statistics.csv`` of a sweep.
    score
        Name of the score.
    against
        The axis: the number of sampled neurons, or of pooled sessions.
    ax
        Where to draw; by default on a new figure. Each combination of the other settings has a line.
        If chance is below the axes, its value stands at their lower edge.

    Returns
    -------
    matplotlib.axes.Axes
        What was drawn on.

    Raises
    ------
    ConfigError
        If there is no such score.

    Examples
    --------
    >>> import nwbrnn, pandas as pd
    >>> statistics = pd.read_csv("sweep/statistics.csv")  # doctest: +SKIP
    >>> ax = nwbrnn.plot.sampling_curve(statistics, "unsampled neurons R2")  # doctest: +SKIP
    """
    part = statistics[statistics["score"] == score]
    part = part.assign(**{name: part[name].map(_name_level) for name in AXES if name in part})
    if not np.isfinite(part["mean"]).any():
        known = list(dict.fromkeys(statistics["score"]))
        raise ConfigError(f"score: expected one of {known}, but got {score!r}; choose one of these")
    if against not in part:
        raise ConfigError(f"against: expected a sweep over {against}, but got one without; use 'sampled'")
    ax = prepare_axes(ax)
    levels = draw_means(ax, part, against)
    _add_references(ax, part, against, levels)
    ax.set_xlabel(AXES[against], fontsize=9)
    ax.set_ylabel(_name_axis(score), fontsize=9)
    place_legend(ax)
    return ax


def draw_means(
    ax: Axes,
    part: pd.DataFrame,
    against: str,
    columns: tuple[str, str, str] = ("mean", "mean_low", "mean_high"),
) -> list[str]:
    """Draw a line for each combination of the other settings, with intervals; return the levels of the axis.

    Parameters
    ----------
    ax
        Where to draw.
    part
        The statistics of one score.
    against
        The setting of the axis.
    columns
        What to draw, and the limits of its interval.
    """
    sources = [name for name in ("source",) if name in part and part[name].nunique() > 1]
    others = [*sources, *list_settings(part, without=(against,))]
    levels = list(dict.fromkeys(part[against]))
    groups = _group_settings(part, others) if against == "sampled" else _group_lines(part, others)
    for i, (label, rows) in enumerate(groups):
        x = np.array([levels.index(level) for level in rows[against]])
        mean, low, high = (rows[name].to_numpy() for name in columns)
        limits = np.nan_to_num(np.stack([mean - low, high - mean]))
        style: dict[str, Any] = {"ms": 4, "lw": 1.2, "capsize": 2, "color": COLOURS[i % len(COLOURS)]}
        ax.errorbar(x + 0.06 * (i - (len(groups) - 1) / 2), mean, yerr=limits, fmt="o-", label=label, **style)
    ax.set_xticks(range(len(levels)), [describe_level(level) for level in levels])
    if len(levels) == 1:  # otherwise lines next to one another would be at opposite ends
        ax.set_xlim(-0.5, 0.5)
    return levels


def _name_axis(score: str) -> str:
    """Return the name of a score with its unit, marked if lower is better."""
    try:
        spec = get_spec(score)
    except LookupError:
        return score
    return f"{score} [{spec.unit or '1'}]" + (LOWER if spec.better == "lower" else "")


def _group_settings(part: pd.DataFrame, others: Sequence[str]) -> list[tuple[str, pd.DataFrame]]:
    """Return a label and the rows of each combination of settings, each with its baseline first."""
    base, treated = part[part["sampled"] == "0"], part[part["sampled"] != "0"]
    if treated.empty:
        treated, base = base, base.iloc[:0]
    if not others:
        return [("network, 95 % interval", pd.concat([base, treated]))]
    groups = []
    for key, rows in treated.groupby(list(others), sort=False):
        # without sampled neurons, the weight of their dynamics has no effect
        shared = [name for name in others if name != "dynamics_weight"]
        same = base[(base[shared] == rows[shared].iloc[0]).all(axis=1)] if shared else base
        groups.append((describe_settings(others, key), pd.concat([same.head(1), rows])))
    return groups


def _group_lines(part: pd.DataFrame, others: Sequence[str]) -> list[tuple[str, pd.DataFrame]]:
    """Return a label and the rows of each combination of settings."""
    if all(part[name].nunique() == 1 for name in others):
        return [("network, 95 % interval", part)]
    return [(describe_settings(others, key), rows) for key, rows in part.groupby(list(others), sort=False)]


def describe_settings(names: Sequence[str], values: Sequence[object]) -> str:
    """Return settings and their values in words."""
    pairs = zip(names, values, strict=True)
    return plain(", ".join(str(v) if name == "source" else describe_setting(name, v) for name, v in pairs))


def _add_references(ax: Axes, part: pd.DataFrame, against: str, levels: Sequence[str]) -> None:
    """Add noise ceiling or reliability, and chance; cut off values below the intervals and the limits."""
    names = ("mean", "mean_low", "mean_high", "noise_ceiling", "reliability")
    shown = np.concatenate([part[name] for name in names])  # with whole intervals
    bottom, top = np.nanmin(shown), np.nanmax(shown)
    margin = 0.1 * (top - bottom) or 0.1
    ax.set_ylim(bottom - margin, top + margin)
    for name, line in (("noise_ceiling", "--"), ("reliability", "-."), ("chance", ":")):
        values = part.groupby(against, sort=False)[name].mean()
        if not np.isfinite(values).any():
            continue
        label = name.replace("_", " ")
        ax.plot(range(len(levels)), values[list(levels)], line, color=GREY, lw=1, label=label)
        if not (values > bottom - margin).any():
            below = f"{label} {values.mean():.2g} ↓".replace("-", "\N{MINUS SIGN}")
            ax.text(0.97, 0.03, below, transform=ax.transAxes, ha="right", fontsize=7, color=GREY)


def list_settings(statistics: pd.DataFrame, *, without: Sequence[str] = ()) -> list[str]:
    """Return the columns that are settings."""
    names = [str(name) for name in statistics.columns]
    return [name for name in names if name not in STATISTICS and name not in ("source", *without)]


def describe_level(level: str) -> str:
    """Return a number of sampled neurons as people write it."""
    try:
        value = float(level)
    except ValueError:
        return level
    return f"{100 * value:g} %" if 0 < value < 1 else f"{value:g}"


def describe_setting(name: str, value: object) -> str:
    """Return a setting and its value in words.

    Examples
    --------
    >>> describe_setting("dynamics_weight", "1.0"), describe_setting("dynamics_weight", "cv")
    ('dynamics weight 1', 'dynamics weight cv')
    """
    text = str(value)
    if name == "sampled":
        return f"{describe_level(text)} sampled"
    with suppress(ValueError):
        text = f"{float(text):g}"
    return f"{name.replace('_', ' ')} {text}"


def _name_level(level: object) -> str:
    """Return a number of sampled neurons as text, since a CSV file turns 10 into 10.0."""
    return f"{level:g}" if isinstance(level, int | float) else str(level)
