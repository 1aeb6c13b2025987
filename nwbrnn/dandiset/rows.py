"""Rows of assets in the course of an analysis: how they begin, fail and are counted."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import xarray as xr

from nwbrnn.config import ReadConfig
from nwbrnn.dandiset.naming import remove_ending
from nwbrnn.dandiset.settings import Settings
from nwbrnn.dandiset.summary import Journal, Row
from nwbrnn.errors import ExportError, NwbrnnError
from nwbrnn.readers import inspect_nwb
from nwbrnn.readers.doctor import diagnose
from nwbrnn.storage import Asset, Source, find_source, format_error, keep_open
from nwbrnn.sweep import read_kept
from nwbrnn.sweep.run import Progress

Begin = Callable[[str], Progress | None]
"""Called with the name of a stage; returns a function of the numbers of finished, failed and all assets."""


def create_row(asset: Asset) -> Row:
    """Return the row of an asset of which nothing is known."""
    return Row(asset.path, asset.size, asset.state)


def find_earlier(asset: Asset, journal: Journal) -> Row | None:
    """Return the row of an earlier run, if the asset has not changed since."""
    row = journal.earlier.get(asset.path)
    return row if row is not None and row.state == asset.state else None


def is_finished(row: Row | None, folder: Path, settings: Settings) -> bool:
    """Return whether an earlier run left all requested results."""
    if row is None:
        return False
    whole = row.status == "fitted" and not row.reason and row.settings == settings.text
    return whole and (folder / row.derivative).is_file()


def find_kept(row: Row, name: str, sweep: Path, read: ReadConfig) -> xr.Dataset | None:
    """Return the Dataset that an earlier run read from an unchanged asset with the same settings."""
    ds = read_kept(sweep, name) if name in row.kept else None
    return ds if ds is not None and ds.attrs.get("read_config") == read.model_dump_json() else None


def note_data(row: Row, name: str, ds: xr.Dataset) -> Row:
    """Return the row of an asset that was read and is kept in the sweep under a name."""
    sizes: dict[str, Any] = {f"{what}s": ds.sizes[what] for what in ("unit", "trial", "output")}
    return replace(row, status="read", reason="", kept=sorted({*row.kept, name}), **sizes)


def examine(row: Row, source: Source, read: ReadConfig) -> Row:
    """Add the findings of doctor, unless they are already known."""
    if row.findings is not None:
        return row
    findings = diagnose(source, follow_links=read.follow_links)
    return replace(row, findings=[asdict(finding) for finding in findings])


def check(row: Row, asset: Asset, read: ReadConfig) -> Row:
    """Examine an asset, and find out whether it can be read."""
    started = time.perf_counter()
    try:
        source = find_source(asset.address)
        with keep_open(source, follow_links=read.follow_links):
            row = examine(row, source, read)
            problem = inspect_nwb(source, read).problem
        row = replace(row, status="checked", reason="") if problem is None else fail(row, problem, asset)
    except Exception as error:  # whatever it is, the other assets go on
        row = fail(row, error, asset)
    return add_seconds(row, started)


def fail(row: Row, error: Exception | str, asset: Asset) -> Row:
    """Return a row with the reason why an asset failed; it has no fit then."""
    text = (
        str(error)
        if isinstance(error, NwbrnnError | str)
        else f"{type(error).__name__}: {format_error(error)}"
    )
    cause = error.__cause__ if isinstance(error, ExportError) else None
    if isinstance(cause, NwbrnnError):
        text = f"{text}: {cause}"
    text = text.replace(f"{asset.address}: ", "").removeprefix(f"{asset.path!r}: ")
    return replace(row, status="failed", reason=text, derivative="")


def add_seconds(row: Row, started: float) -> Row:
    """Return a row with the time since a stage was started."""
    return replace(row, seconds=round(row.seconds + time.perf_counter() - started, 1))


def name_data(path: str) -> str:
    """Return the name of an asset or pool in the sweep: readable, and different for every path."""
    digest = hashlib.sha256(path.encode()).hexdigest()[:8]
    name = remove_ending(path.rsplit("/", 1)[-1]).encode()[:100].decode(errors="ignore")
    return f"{name}-{digest}"


class Report:
    """Count the finished and failed assets of a stage for a progress bar."""

    def __init__(self, begin: Begin | None, name: str, total: int) -> None:
        self.tell = begin(name) if begin and total else None
        self.done, self.failed, self.total = 0, 0, total

    def add(self, row: Row) -> None:
        """Count an asset."""
        if row.status == "failed":
            self.failed += 1
        else:
            self.done += 1
        if self.tell is not None:
            self.tell(self.done, self.failed, self.total)
