"""Find out whether sessions can be pooled: which outputs, inputs, conditions and bins they have in common."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwbrnn.preprocessing.sessions import name_source
from nwbrnn.schema import COSINE, INPUT, OUTPUT, TIME, TRIAL
from nwbrnn.text import find_label, list_some, show_count, sort_labels

MIN_BINS = 2  # fewer are no time course
ON_GRID = 0.01  # of a bin: how far bins of two sessions may be apart


@dataclass(frozen=True)
class Outline:
    """What decides whether a session can be pooled with others.

    Attributes
    ----------
    name
        Name of the session.
    outputs, inputs, conditions
        Names of the outputs, of the inputs, and of the conditions.
    time
        Bin centres relative to the alignment, shape (n_time,) [s].
    bin_size
        Width of a bin [s].
    lag
        Delay that was applied between neurons and outputs [s].
    source
        What identifies the file or circuit; empty if nothing does.
    trials
        Rows of the trials in the source.
    angles
        Unit of each trial column with directions that are conditions.
    """

    name: str
    outputs: tuple[str, ...]
    inputs: tuple[str, ...]
    conditions: tuple[str, ...]
    time: NDArray[np.float64]
    bin_size: float
    lag: float = 0.0
    source: str = ""
    trials: frozenset[int] = frozenset()
    angles: Mapping[str, str] = field(default_factory=dict)


def name_sessions(abouts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a name for each session: that of its file, with a number if several have the same."""
    names: list[str] = []
    for number, about in enumerate(abouts, start=1):
        file = PurePosixPath(str(about.get("source_file") or f"session_{number}").replace("\\", "/"))
        name = file.name.removesuffix(file.suffix) if file.suffix in (".nwb", ".zarr") else file.name
        numbered = (f"{name}_{i}" for i in range(number, number + len(abouts)))
        names.append(next(one for one in (name, *numbered) if one not in names))
    return names


def outline(ds: xr.Dataset, name: str) -> Outline:
    """Return what decides whether a Dataset can be pooled with others."""
    attrs = ds.attrs
    return Outline(
        name=name,
        outputs=tuple(map(str, ds[OUTPUT].values.tolist())),
        inputs=tuple(map(str, ds[INPUT].values.tolist())),
        conditions=tuple(dict.fromkeys(map(str, ds["condition"].values.tolist()))),
        time=ds[TIME].values,
        bin_size=float(attrs["bin_size"]),
        lag=float(attrs.get("neural_lag", 0.0)),
        source=name_source(attrs),
        trials=frozenset(ds[TRIAL].values.tolist()),
        angles={
            str(name): str(coord.attrs["units"])
            for name, coord in ds.coords.items()
            if coord.dims == (TRIAL,) and f"{name}{COSINE}" in ds[INPUT].values and "units" in coord.attrs
        },
    )


def find_mismatches(outlines: Sequence[Outline]) -> list[str]:
    """Return why sessions cannot be pooled, a sentence for each reason; an empty list if they can."""
    problems = _check_times(outlines)
    for number, one in enumerate(outlines):
        others = [other for other in outlines if other is not one]
        if number or len(others) > 1:  # of two sessions, one is enough
            problems += _check_spelling(one, outlines[:number]) or _check_shared(one, others, "outputs")
            problems += _check_shared(one, others, "conditions")
        problems += [*_check_inputs(one, outlines[0]), *_check_angles(one, outlines[0])]
        for other in outlines[:number]:
            shared = one.trials & other.trials if one.source and one.source == other.source else ()
            if shared:
                problems.append(
                    f"session {one.name}: trials: expected other trials than those of session {other.name}, "
                    f"but {show_count(len(shared), 'trial')} of the source {one.source[:60]} are in both; "
                    "give each session once; if they are different ones, give each file its own identifier"
                )
    return problems


def find_unsuitable(outlines: Sequence[Outline]) -> dict[int, str]:
    """Return the sessions that cannot be pooled with the others, by their place, and why.

    The others are the largest group in which each session can be pooled with those before it; of groups of
    the same size, the one that begins first. Sessions that can be pooled with the whole group join it.
    """
    groups: list[list[int]] = []
    for place, one in enumerate(outlines):
        fitting = (g for g in groups if not find_mismatches([*(outlines[i] for i in g), one]))
        group = next(fitting, None)
        if group is None:
            groups.append([place])
        else:
            group.append(place)
    pool = max(groups, key=len)
    while True:
        left = {
            place: find_mismatches([*(outlines[i] for i in pool), one])
            for place, one in enumerate(outlines)
            if place not in pool
        }
        joining = [place for place, problems in left.items() if not problems]
        if not joining:
            return {place: "; ".join(problems) for place, problems in left.items()}
        pool.append(joining[0])


def is_known(name: str, known: Sequence[str], what: str) -> bool:
    """Return whether names hold one: conditions by their number if they have one, outputs as they are."""
    return (find_label(known, name) is not None) if what == "conditions" else name in known


def _check_shared(one: Outline, others: Sequence[Outline], what: str) -> list[str]:
    """Check that a session has an output or a condition that another one has."""
    own = getattr(one, what)
    theirs = list(dict.fromkeys(name for other in others for name in getattr(other, what)))
    if not others or any(is_known(name, theirs, what) for name in own):
        return []
    remedy = {
        "outputs": "read the same kind of output (outputs)",
        "conditions": "read the same trial column (condition)",
    }
    return [
        f"session {one.name}: {what}: expected some of {list_some(sort_labels(theirs))}, as in the other "
        f"sessions, but got {list_some(sort_labels(own))}; {remedy[what]}, or leave out the session"
    ]


def _check_spelling(one: Outline, earlier: Sequence[Outline]) -> list[str]:
    """Check that no name of an output differs from one in an earlier session only in capitals or spaces."""
    known = {_simplify(name): (name, other) for other in reversed(earlier) for name in other.outputs}
    spelled = [(name, *known.get(_simplify(name), (name, one))) for name in one.outputs]
    return [
        f"session {one.name}: outputs: expected {theirs!r}, as in session {other.name}, but got {name!r}, "
        "which differs only in capitals or spaces; write both names in the same way, or leave out one of "
        "these outputs (channels)"
        for name, theirs, other in spelled
        if name != theirs and theirs not in one.outputs and name not in other.outputs
    ]


def _simplify(name: str) -> str:
    return "".join(name.split()).casefold()


def _check_inputs(one: Outline, first: Outline) -> list[str]:
    """Check that a session has the inputs of the first; only conditions with an input each may differ."""
    missing, more = (
        sorted(name for name in set(a.inputs) - set(b.inputs) if "=" not in name)
        for a, b in ((first, one), (one, first))
    )
    if not missing and not more:
        return []
    return [
        f"session {one.name}: inputs: expected those of session {first.name}, {', '.join(first.inputs)}, but "
        f"got {', '.join(one.inputs)}; read the same inputs and condition (inputs, condition)"
    ]


def _check_angles(one: Outline, first: Outline) -> list[str]:
    """Check that the labels of conditions are directions in one unit; that of a single one is a guess."""
    if min(len(one.conditions), len(first.conditions)) < 2:
        return []
    return [
        f"session {one.name}: conditions: expected {column} in {first.angles[column]}, as in session "
        f"{first.name}, but got {unit}; write the column in {first.angles[column]}, or leave out the session"
        for column, unit in one.angles.items()
        if first.angles.get(column, unit) != unit
    ]


def _check_times(outlines: Sequence[Outline]) -> list[str]:
    """Check that all sessions have bins on one grid, some of them in common, and the same lag."""
    first, problems = outlines[0], []
    for one in outlines[1:]:
        if not math.isclose(one.bin_size, first.bin_size, rel_tol=1e-6):
            widest = max(one.bin_size, first.bin_size)
            problems.append(
                f"session {one.name}: bin_size: expected {first.bin_size:g} s, as in session {first.name}, "
                f"but got {one.bin_size:g} s; read both with bin_size={widest:g} (--bin-size {widest:g})"
            )
        elif abs(count_bins(first, one) - round(count_bins(first, one))) > ON_GRID:
            problems.append(
                f"session {one.name}: time: expected bins of {first.bin_size:g} s on those of session "
                f"{first.name}, from {first.time[0]:g} s, but they begin at {one.time[0]:g} s; read both "
                "with the same window (--window)"
            )
        if not math.isclose(one.lag, first.lag, abs_tol=1e-9):
            problems.append(
                f"session {one.name}: neural_lag: expected {first.lag:g} s, as in session {first.name}, but "
                f"got {one.lag:g} s; apply the same to both"
            )
    if not problems:
        start, stop = find_window(outlines)
        if stop - start < MIN_BINS:
            ends = "; ".join(f"{one.name}: {one.time[0]:g} to {one.time[-1]:g} s" for one in outlines)
            problems.append(
                f"time: expected at least {MIN_BINS} bins that all sessions have, but got {ends}; read all "
                "with the same window (--window)"
            )
    return problems


def count_bins(first: Outline, one: Outline) -> float:
    """Return by how many bins one session begins after another."""
    return float((one.time[0] - first.time[0]) / first.bin_size)


def find_window(outlines: Sequence[Outline]) -> tuple[int, int]:
    """Return the first bin that all sessions have and the one after the last, as bins of the first one."""
    starts = [round(count_bins(outlines[0], one)) for one in outlines]
    return max(starts), min(start + len(one.time) for start, one in zip(starts, outlines, strict=True))
