"""The assets of a subject as one pool: which of them suit one another, and what is stored of each."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xarray as xr

from nwbrnn.config import ReadConfig
from nwbrnn.dandiset.naming import find_subject, name_pool
from nwbrnn.dandiset.rows import (
    add_seconds,
    check,
    create_row,
    fail,
    find_earlier,
    find_kept,
    is_finished,
    name_data,
    note_data,
)
from nwbrnn.dandiset.settings import Settings
from nwbrnn.dandiset.summary import Journal, Row
from nwbrnn.errors import NwbrnnError
from nwbrnn.readers import PoolPlan, plan_pool, read_session, read_subject
from nwbrnn.storage import Asset, find_source
from nwbrnn.sweep import Cell, Stored, keep_data, list_cells

Rows = dict[str, Row]
Where = tuple[Path, Settings]
"""The folder of the sweep, and the settings."""


@dataclass(frozen=True)
class Subject:
    """A subject and its assets; an asset of an unknown subject is alone."""

    name: str
    assets: tuple[Asset, ...]

    @property
    def path(self) -> str:
        """Path of an asset that the pool could be, after which its fit is named."""
        return name_pool(self.name, self.assets[0].path)


def list_subjects(assets: Sequence[Asset], journal: Journal, read: ReadConfig) -> list[Subject]:
    """Return the subjects with their assets, in the order of their first assets.

    The path of an asset names its subject (``sub-X``); if it does not, the file does.
    """
    found: dict[tuple[str, str], list[Asset]] = {}
    for asset in assets:
        row = find_earlier(asset, journal)
        name = find_subject(asset.path) or (row.subject if row else "") or _read_subject(asset, read)
        found.setdefault((name, "" if name else asset.path), []).append(asset)
    return [Subject(name, tuple(group)) for (name, _), group in found.items()]


def _read_subject(asset: Asset, read: ReadConfig) -> str:
    try:
        return read_subject(find_source(asset.address), follow_links=read.follow_links)
    except NwbrnnError:  # the stage that reads the asset says why
        return ""


def choose_members(
    subject: Subject, journal: Journal, where: Where, *, known: Rows
) -> tuple[Rows, list[Asset], PoolPlan | None]:
    """Find out which assets of a subject can be pooled.

    Parameters
    ----------
    subject
        The subject.
    journal
        What is known from earlier runs.
    where
        The folder of the sweep, and the settings.
    known
        Rows of assets that this run has already examined.

    Returns
    -------
    dict
        The row of each asset, which says why one cannot be read, or pooled with the others.
    list of Asset
        Those to fit; none if an earlier run has fitted them.
    PoolPlan or None
        How to read them; ``None`` if there are fewer than two.
    """
    sweep, settings = where
    rows = dict(known)
    for asset in subject.assets:
        if asset.path not in known:
            earlier = find_earlier(asset, journal)
            row = replace(earlier or create_row(asset), subject=subject.name)
            whole = is_finished(earlier, sweep.parent, settings)
            rows[asset.path] = row if whole else check(row.restart(), asset, settings.read)
    if _are_fitted(_list_readable(subject, rows), rows, where):
        return rows, [], None
    rows, plan = check_pool(subject, rows, settings.read)
    members = _list_readable(subject, rows)
    return rows, [] if _are_fitted(members, rows, where) else members, plan


def check_pool(subject: Subject, rows: Rows, read: ReadConfig) -> tuple[Rows, PoolPlan | None]:
    """Return the rows of a subject, with reasons why assets cannot be pooled, and a plan for the others."""
    readable = _list_readable(subject, rows)
    plan, unsuitable = plan_pool([asset.address for asset in readable], read)
    rows = dict(rows)
    for place, why in unsuitable.items():
        asset = readable[place]
        rows[asset.path] = fail(rows[asset.path].restart(), why, asset)
    return rows, plan


def _list_readable(subject: Subject, rows: Rows) -> list[Asset]:
    return [asset for asset in subject.assets if rows[asset.path].status != "failed"]


def _are_fitted(assets: Sequence[Asset], rows: Mapping[str, Row], where: Where) -> bool:
    """Return whether an earlier run has fitted these assets together, or a single one alone."""
    sweep, settings = where
    paths = [asset.path for asset in assets]
    pool = paths if len(paths) > 1 else []
    return all(
        is_finished(rows[path], sweep.parent, settings) and list(rows[path].pool) == pool for path in paths
    )


def read_members(
    members: Sequence[Asset], plan: PoolPlan, rows: Rows, where: Where, *, name: str
) -> tuple[Rows, list[Cell]]:
    """Read the assets of a pool one after the other; return their rows, and the cells unless one failed.

    Parameters
    ----------
    members
        The assets.
    plan
        How to read them.
    rows
        Their rows.
    where
        The folder of the sweep, and the settings.
    name
        Name of the pool in the sweep.
    """
    sweep, settings = where
    rows, stored = dict(rows), []
    for number, asset in enumerate(members):
        started = time.perf_counter()
        row = rows[asset.path].restart()
        try:
            ds = _read_member(asset, row, sweep, (plan, number))
            stored.append(keep_data(sweep, name_member(asset), ds))
            row = note_data(row, name_member(asset), ds)
        except Exception as error:  # whatever it is, the other assets go on
            row = fail(row, error, asset)
        rows[asset.path] = add_seconds(row, started)
    return rows, _list_cells(stored, settings, name) if len(stored) == len(members) else []


def _list_cells(stored: Sequence[Stored], settings: Settings, name: str) -> list[Cell]:
    return list_cells(stored, settings.grid.model_copy(update={"pool": True}), settings.fit, name=name)


def _read_member(asset: Asset, row: Row, sweep: Path, place: tuple[PoolPlan, int]) -> xr.Dataset:
    """Read an asset for a pool, unless an earlier run has read it so."""
    plan, number = place
    ds = find_kept(row, name_member(asset), sweep, plan.config)
    if ds is None or not np.array_equal(ds["time"].values, plan.time):
        return read_session(find_source(asset.address), plan, number)
    return ds


def name_member(asset: Asset) -> str:
    """Return the name in the sweep of an asset that is pooled, whose window may be another one."""
    return f"{name_data(asset.path)}-pooled"
