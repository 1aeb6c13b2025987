"""What the fits of a sweep are fitted to: the Dataset of a file, or a pool of several."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from nwbrnn.config import SweepConfig
from nwbrnn.dataset import hash_dataset
from nwbrnn.errors import ConfigError
from nwbrnn.text import find_label

DATA = "data"

POOL = "pool"
"""Name of a pool as a source of fits."""


@dataclass(frozen=True)
class Stored:
    """A Dataset in the folder of a sweep.

    Attributes
    ----------
    name
        Its name there.
    data_hash
        Hash of its values.
    conditions
        Its conditions.
    """

    name: str
    data_hash: str
    conditions: tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """What a network is fitted to.

    Attributes
    ----------
    name
        Name of the file or the pool.
    members
        The Datasets: one, or several that are pooled.
    reference
        The one on which the network is scored; if not given, all of them.
    """

    name: str
    members: tuple[Stored, ...]
    reference: Stored | None = None

    @property
    def data_hash(self) -> str:
        """Hash of the data."""
        return hash_members({one.name: one.data_hash for one in self.members})

    @property
    def conditions(self) -> tuple[str, ...]:
        """The conditions that can be held out."""
        known: list[str] = []
        for one in self.members if self.reference is None else (self.reference,):
            known += [label for label in one.conditions if find_label(known, label) is None]
        return tuple(known)


def describe_data(name: str, ds: xr.Dataset) -> Stored:
    """Return what the grid of a sweep depends on."""
    return Stored(name, hash_dataset(ds), tuple(dict.fromkeys(ds["condition"].values.tolist())))


def get_data_path(folder: Path, name: str) -> Path:
    """Return the path of a Dataset in the folder of a sweep."""
    return folder / DATA / f"{name}.nc"


def list_sources(data: Sequence[Stored], grid: SweepConfig, *, name: str = POOL) -> list[list[Source]]:
    """Return what networks are fitted to: each file, all of them pooled, or pools of several sizes.

    Parameters
    ----------
    data
        The Datasets of the files, in their order.
    grid
        The axes of the sweep.
    name
        Name of a pool.

    Returns
    -------
    list of list of Source
        A list for each file or size of a pool, with the source of each seed.

    Raises
    ------
    ConfigError
        As :func:`check_pools`.
    """
    check_pools(len(data), grid)
    seeds = range(grid.seeds)
    if grid.sessions:
        sizes = [len(data) if size == "all" else size for size in grid.sessions]
        return [
            [Source(name, choose_sessions(data, size, seed), data[seed % len(data)]) for seed in seeds]
            for size in sorted(set(sizes))
        ]
    if grid.pool:
        return [[Source(name, tuple(data)) for _ in seeds]]
    return [[Source(one.name, (one,)) for _ in seeds] for one in data]


def check_pools(n_files: int, grid: SweepConfig) -> None:
    """Refuse pools that the files are too few for.

    Raises
    ------
    ConfigError
        If there are fewer files than a pool needs.
    """
    if (grid.pool or grid.sessions) and n_files < 2:
        what = "sessions" if grid.sessions else "pool"
        raise ConfigError(f"{what}: expected at least two files to pool, but got {n_files}; name more")
    missing = [str(size) for size in grid.sessions if size != "all" and size > n_files]
    if missing:
        raise ConfigError(
            f"sessions: expected at most {n_files}, the number of files, but got {', '.join(missing)}; name "
            "more files, or give smaller numbers"
        )


def choose_sessions(data: Sequence[Stored], size: int, seed: int) -> tuple[Stored, ...]:
    """Choose sessions to pool: the reference, whose turn comes with the seed, and others at random.

    Each file is the reference equally often if the number of seeds is a multiple of the number of files. A
    larger pool of the same seed holds the sessions of a smaller one and further ones.

    Returns
    -------
    tuple of Stored
        In the order of the files.

    Examples
    --------
    >>> data = [Stored(name, "", ()) for name in "abc"]
    >>> [one.name for one in choose_sessions(data, 1, 4)], len(choose_sessions(data, 2, 4))
    (['b'], 2)
    """
    reference = seed % len(data)
    # a separate random stream, so that the choice does not depend on those of trials and neurons
    order = np.random.default_rng([seed, 5]).permutation(len(data))
    chosen = [reference, *(int(row) for row in order if row != reference)][:size]
    return tuple(data[row] for row in sorted(chosen))


def hash_members(hashes: Mapping[str, str]) -> str:
    """Return the hash of a pool from those of its Datasets by name; that of a single one is its own."""
    if len(hashes) == 1:
        return next(iter(hashes.values()))
    return hashlib.sha256(json.dumps(list(hashes.items())).encode()).hexdigest()
