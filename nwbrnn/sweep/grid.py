"""List the fits of a sweep."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import xarray as xr

from nwbrnn.config import FitConfig, SweepConfig
from nwbrnn.config.check import parse_settings
from nwbrnn.errors import ConfigError


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
    """

    source: str
    config: FitConfig
    resamples: int
    data_hash: str

    @property
    def key(self) -> str:
        """Name of its file: readable, and unique for its data and settings."""
        text = json.dumps(
            [self.config.model_dump(mode="json"), self.resamples, self.data_hash], sort_keys=True
        )
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        return f"{self.source}-{self.config.sampled}-{self.config.seed}-{digest}".replace("/", "_")


def list_cells(
    sources: Mapping[str, tuple[xr.Dataset, str]], grid: SweepConfig, base: FitConfig
) -> list[Cell]:
    """Return every combination of data, settings, held-out conditions and seeds, each once.

    Without sampled neurons, the dynamics weight has no effect and is 0.

    Parameters
    ----------
    sources
        A Dataset and its hash by name.
    grid
        The axes of the sweep.
    base
        Settings that all cells share.

    Raises
    ------
    ConfigError
        If a value does not fit a setting, or if there are too few conditions to hold some out.
    """
    if base.start_from is not None:
        raise ConfigError(
            "start_from: expected none in a sweep, whose seeds hold out other trials than the earlier fit; "
            "leave it out"
        )
    cells: dict[str, Cell] = {}
    axes = [grid.sampled, *grid.vary.values()]
    for source, (ds, data_hash) in sources.items():
        groups = list_held_out(ds, grid.held_out, source)
        for held_out, values, seed in product(groups, product(*axes), range(grid.seeds)):
            changes: dict[str, Any] = dict(zip(("sampled", *grid.vary), values, strict=True))
            changes |= {"seed": seed, "seeds": 1, "processes": 1, "held_out_conditions": held_out}
            changes["held_out"] = "outputs" if grid.held_out == "outputs" else "condition"
            config = parse_settings(FitConfig, base.model_dump() | changes, source="sweep")
            if config.sampled == 0:
                config = config.model_copy(update={"dynamics_weight": 0.0})
            cell = Cell(source, config, grid.resamples, data_hash)
            cells[cell.key] = cell
    return list(cells.values())


def hash_dataset(ds: xr.Dataset) -> str:
    """Return a hash of all values, names and dimensions as hexadecimal text, which a file preserves."""
    digest = hashlib.sha256()
    for name in sorted(map(str, ds.variables)):
        values = ds[name].values
        if values.dtype.kind in ("O", "T", "U"):  # text in the width that it needs
            values = values.astype(object).astype("U")
        digest.update(repr((name, ds[name].dims, values.shape)).encode())
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def list_held_out(ds: xr.Dataset, mode: str, source: str) -> list[tuple[str, ...]]:
    """Return the sets of conditions to hold out in turn, or one empty set for a split by trials.

    ``between`` holds out every other condition, in the order of their numbers or names.
    """
    if mode == "trials":
        return [()]
    names = list(dict.fromkeys(ds["condition"].values.tolist()))
    if len(names) < 3:
        raise ConfigError(
            f"held_out: expected at least 3 conditions in {source} to hold some out, but got "
            f"{len(names)}; use 'trials'"
        )
    if mode == "between":
        return [tuple(sorted(names, key=_order)[1::2])]
    return [(name,) for name in sorted(names, key=_order)]


def _order(name: str) -> tuple[bool, float, str]:
    """Return a sort key that places numbers first, by size, and then other names."""
    try:
        return False, float(name), name
    except ValueError:
        return True, 0.0, name
