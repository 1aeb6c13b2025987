"""Find clocks that do not fit together, such as spikes in samples, or trials in milliseconds."""

from collections.abc import Mapping

import numpy as np

Extent = tuple[float, float]

APART = 20.0  # a clock this many times as long as all others does not count seconds
FAR_APART = 200.0  # nor does one this many times as long as the trials, whatever the others are
UNITS = {
    "milliseconds": (500.0, 2000.0),
    "microseconds": (3e5, 3e6),
    "nanoseconds": (3e8, 3e9),
    "numbers of samples": (4e3, 6e4),
    "numbers of frames": (20.0, 500.0),
}
"""The range of the factor by which a clock in these units is too long."""


def find_strange_clocks(extents: Mapping[str, Extent], *, trials: str) -> dict[str, str]:
    """Return clocks that last far longer than all others, or miss the trials, with a likely reason.

    ``extents`` are the first and last time of trials, spikes and series [s], by path; ``trials`` is one of
    them.
    """
    known = {name: e for name, e in extents.items() if np.isfinite(e).all() and e[1] > e[0]}
    found: dict[str, str] = {}
    for name, (start, stop) in known.items():
        others = {other: e[1] - e[0] for other, e in known.items() if other != name}
        if not others:
            continue
        ratio = (stop - start) / max(others.values())
        far = trials in others and stop - start > FAR_APART * others[trials]
        longest = max(others, key=lambda other: others[other])
        if ratio > APART or far:
            longest = longest if ratio > APART else trials
            ratio = (stop - start) / others[longest]
            units = [unit for unit, (low, high) in UNITS.items() if low <= ratio < high]
            guess = f"; are they {units[0]}, and not seconds?" if units else ""
            found[name] = (
                f"it lasts {stop - start:,.6g} s, {ratio:,.3g} times as long as {longest} "
                f"({others[longest]:,.6g} s){guess}"
            )
    if trials in known and trials not in found:
        first, last = known[trials]
        for name, (start, stop) in known.items():
            if name not in found and (stop < first or start > last):
                found[name] = (
                    f"it ranges from {start:,.10g} to {stop:,.10g} s and {trials} from {first:,.10g} to "
                    f"{last:,.10g} s, so that they share no time; do they count from different moments?"
                )
    return found
