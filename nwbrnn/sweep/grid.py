"""List the fits of a sweep."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from nwbrnn.config import FitConfig, SweepConfig
from nwbrnn.config.check import parse_settings
from nwbrnn.errors import ConfigError
from nwbrnn.sweep.sources import POOL, Source, Stored, list_sources


@dataclass(frozen=True)
class Cell:
    """One fit of a sweep.

    Attributes
    ----------
    source
        Name of its data.
    config
        Every setting of the fit.
    resamples
        Number of resampled sets of test trials for its intervals.
    data_hash
        Hash of the data, so that other data make another cell.
    sessions
        Names of the Datasets that are pooled; empty if the source is a single one.
    reference
        The one of them on which the network is scored; empty if it is scored on all its data.
    """

    source: str
    config: FitConfig
    resamples: int
    data_hash: str
    sessions: tuple[str, ...] = ()
    reference: str = ""

    @property
    def key(self) -> str:
        """Name of its file: readable, and unique for its data and settings."""
        parts = [self.config.model_dump(mode="json"), self.resamples, self.data_hash]
        text = json.dumps([*parts, self.reference] if self.reference else parts, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        return f"{self.source}-{self.config.sampled}-{self.config.seed}-{digest}".replace("/", "_")


def list_cells(data: Sequence[Stored], grid: SweepConfig, base: FitConfig, *, name: str = POOL) -> list[Cell]:
    """Return every combination of data, settings, held-out conditions and seeds, each once.

    Without sampled neurons, the dynamics weight has no effect and is 0.

    Parameters
    ----------
    data
        The Datasets of the files.
    grid
        The axes of the sweep.
    base
        Settings that all cells share.
    name
        Name of a pool, if the grid pools the files.

    Raises
    ------
    ConfigError
        If a value does not fit a setting, or if there are too few conditions to hold some out, or too few
        files to pool.
    """
    if base.start_from is not None:
        raise ConfigError(
            "start_from: expected none in a sweep, whose seeds hold out other trials than the earlier fit; "
            "leave it out"
        )
    if base.held_out_conditions:
        raise ConfigError(
            "held_out_conditions: expected none in a sweep, which holds out conditions as held_out says, but "
            f"got {', '.join(base.held_out_conditions)}; leave it out, and choose held_out"
        )
    cells: dict[str, Cell] = {}
    axes = [grid.sampled, *grid.vary.values()]
    for sources in list_sources(data, grid, name=name):
        held_out = [list_held_out(one.conditions, grid.held_out, one.name) for one in sources]
        for values in product(*axes):
            changes = dict(zip(("sampled", *grid.vary), values, strict=True))
            for seed, source in enumerate(sources):
                for conditions in held_out[seed]:
                    cell = _create_cell(source, grid, base, changes, (seed, conditions))
                    cells[cell.key] = cell
    return list(cells.values())


def _create_cell(
    source: Source,
    grid: SweepConfig,
    base: FitConfig,
    changes: dict[str, Any],
    split: tuple[int, tuple[str, ...]],
) -> Cell:
    """Return the cell of a source with some settings, a seed and held-out conditions."""
    seed, held_out = split
    given = base.model_dump() | changes
    given |= {"seed": seed, "seeds": 1, "processes": 1, "held_out_conditions": held_out}
    given["held_out"] = "outputs" if grid.held_out == "outputs" else "condition"
    config = parse_settings(FitConfig, given, source="sweep")
    if config.sampled == 0:
        config = config.model_copy(update={"dynamics_weight": 0.0})
    if grid.sessions and isinstance(config.observe, tuple):
        raise ConfigError(
            "observe: expected none, sampled or all in a sweep over numbers of sessions, whose pools number "
            "their units differently, but got units; choose one of these"
        )
    pooled = tuple(one.name for one in source.members) if grid.pool or grid.sessions else ()
    reference = "" if source.reference is None else source.reference.name
    return Cell(source.name, config, grid.resamples, source.data_hash, pooled, reference)


def list_held_out(conditions: Sequence[str], mode: str, source: str) -> list[tuple[str, ...]]:
    """Return the sets of conditions to hold out in turn, or one empty set for a split by trials.

    ``between`` holds out every other condition, in the order of their numbers or names.
    """
    if mode == "trials":
        return [()]
    if len(conditions) < 3:
        raise ConfigError(
            f"held_out: expected at least 3 conditions in {source} to hold some out, but got "
            f"{len(conditions)}; use 'trials'"
        )
    if mode == "between":
        return [tuple(sorted(conditions, key=_order)[1::2])]
    return [(name,) for name in sorted(conditions, key=_order)]


def _order(name: str) -> tuple[bool, float, str]:
    """Return a sort key that places numbers first, by size, and then other names."""
    try:
        return False, float(name), name
    except ValueError:
        return True, 0.0, name
