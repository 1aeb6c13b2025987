"""Checks of the clocks of trials, spikes and series against each other."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from nwbrnn.readers.clocks import Extent, find_strange_clocks
from nwbrnn.readers.doctor.finding import Finding, bias


@dataclass(frozen=True)
class Clocks:
    """First and last time of trials, spikes and series [s], by path, and which of them are the trials."""

    extents: Mapping[str, Extent]
    trials: str


def check_clocks(clocks: Clocks) -> Iterator[Finding]:
    """Find clocks that cannot belong together, such as spikes in samples beside trials in seconds."""
    for name, problem in find_strange_clocks(clocks.extents, trials=clocks.trials).items():
        yield bias(name, problem, "write all times in seconds from one moment on")


CLOCK_CHECKS = (check_clocks,)
