"""The stages of an analysis: examine and read each asset, fit all of them, and write the results."""

import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import xarray as xr

from nwbrnn.config import FitConfig, ReadConfig, SweepConfig
from nwbrnn.dandiset.naming import PAGE, find_target, is_derivative, remove_ending
from nwbrnn.dandiset.summary import Journal, Row, Selection
from nwbrnn.errors import ExportError, NwbrnnError
from nwbrnn.evaluation import compare_baselines
from nwbrnn.formats import write_fit
from nwbrnn.readers import inspect_nwb, read_nwb
from nwbrnn.readers.doctor import diagnose
from nwbrnn.report import write_fit_report
from nwbrnn.result import FitResult
from nwbrnn.storage import Asset, Source, find_dandiset, find_source, format_error, keep_open, list_assets
from nwbrnn.storage.paths import check_apart
from nwbrnn.sweep import (
    Cell,
    add_data,
    create_folder,
    get_path,
    read_cell,
    read_error,
    read_kept,
    read_scores,
    rebuild_fit,
    run_cells,
)
from nwbrnn.sweep.run import Progress

SWEEP = "sweep"
"""Folder of the sweep in the output folder: data and cells."""

Begin = Callable[[str], Progress | None]
"""Called with the name of a stage; returns a function of the numbers of finished, failed and all assets."""


@dataclass(frozen=True)
class Settings:
    """How the assets are read and fitted.

    Attributes
    ----------
    read
        Settings of reading.
    fit
        Settings of the fit.
    seeds
        Number of networks for each asset, from seed 0 on; the one with the lowest loss is written.
    """

    read: ReadConfig = field(default_factory=ReadConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    seeds: int = 1

    @property
    def grid(self) -> SweepConfig:
        """The settings as a sweep, with one cell for each asset and seed."""
        return SweepConfig(sampled=(self.fit.sampled,), seeds=self.seeds)

    @property
    def text(self) -> str:
        """The settings as text; assets that were fitted with another text are fitted again."""
        parts = {"read": self.read.model_dump(mode="json"), "fit": self.fit.model_dump(mode="json")}
        del parts["fit"]["processes"]
        return json.dumps(parts | {"seeds": self.seeds}, sort_keys=True)


def select_assets(dandiset: str, pattern: str = "**/*.nwb", *, without: Path | None = None) -> Selection:
    """Return the assets of a dandiset that match a pattern, except derivatives by nwbrnn.

    Parameters
    ----------
    dandiset
        A folder, ``000941``, ``dandi://000941[@version]`` or the address of its page.
    pattern
        Pattern of the paths of assets: ``*`` matches within a folder, and ``**`` matches any folders.
    without
        A folder to leave out, since the output folder may be inside a downloaded dandiset.

    Returns
    -------
    nwbrnn.dandiset.Selection
        The assets, in the order of their paths.

    Raises
    ------
    UnsupportedFileError
        If there is no such dandiset, it is embargoed, or the archive does not answer.
    """
    found = find_dandiset(dandiset)
    assets = [asset for asset in list_assets(found, pattern) if not is_derivative(asset.path)]
    if found.folder is not None and without is not None:
        left_out = without.resolve()
        assets = [one for one in assets if not (found.folder / one.path).is_relative_to(left_out)]
    return Selection(found.name, pattern, tuple(assets))


def check_assets(
    selection: Selection, journal: Journal, read: ReadConfig | None = None, *, begin: Begin | None = None
) -> tuple[Row, ...]:
    """Examine assets, and report which of them can be read and why others cannot.

    Parameters
    ----------
    selection
        The assets from :func:`select_assets`.
    journal
        Where the rows are stored. Assets that have not changed since an earlier run are not examined again.
    read
        Settings of reading.
    begin
        Called with the name of the stage; it returns a function that takes the numbers of finished,
        failed and all assets.

    Returns
    -------
    tuple of Row
        One for each asset.
    """
    read, assets = read or ReadConfig(), selection.assets
    report = _Report(begin, "Check", len(assets))
    for asset in assets:
        started = time.perf_counter()
        row = _find_earlier(asset, journal) or _create_row(asset)
        if row.status == "failed":
            row = replace(row, status="listed", reason="")
        if row.status == "listed":
            try:
                source = find_source(asset.address)
                with keep_open(source, follow_links=read.follow_links):
                    row = _examine(row, source, read)
                    problem = inspect_nwb(source, read).problem
                row = replace(row, status="checked") if problem is None else _fail(row, problem, asset)
            except Exception as error:  # whatever it is, the other assets go on
                row = _fail(row, error, asset)
        report.add(journal.put(_add_seconds(row, started)))
    return tuple(journal.rows[asset.path] for asset in assets)


def fit_assets(
    selection: Selection,
    journal: Journal,
    settings: Settings | None = None,
    *,
    scheduler: str | None = None,
    begin: Begin | None = None,
) -> tuple[Row, ...]:
    """Fit every asset that can be read, and write each fit in DANDI's naming.

    If an asset fails, its row holds the reason and the others continue. Assets that an earlier run finished
    with the same settings are not fetched or fitted again unless they have changed.

    Local workers are processes that import the main script: a script that calls this needs
    ``if __name__ == "__main__":`` around it.

    Parameters
    ----------
    selection
        The assets from :func:`select_assets`.
    journal
        Where the rows are stored. Its folder also holds the fits, and the sweep in ``sweep``.
    settings
        How assets are read and fitted.
    scheduler
        Address of a Dask scheduler; by default processes of this machine.
    begin
        Called with the name of each stage; it returns a function that takes the numbers of finished,
        failed and all assets.

    Returns
    -------
    tuple of Row
        One for each asset.

    Raises
    ------
    ConfigError
        If the scheduler cannot be used.
    ExportError
        If the output folder cannot be written.
    ValueError
        If the journal has no folder.
    """
    if journal.folder is None:
        raise ValueError("expected a journal with a folder")
    settings, sweep = settings or Settings(), journal.folder.resolve() / SWEEP
    addresses = [asset.address for asset in selection.assets]
    create_folder(sweep, addresses, settings.grid, (settings.read, settings.fit))
    waiting = _begin_assets(selection.assets, journal, (sweep, settings), begin)
    flat = [cell for cells in waiting.values() for cell in cells]
    progress = begin("Fit") if begin and flat else None
    run_cells(sweep, flat, scheduler=scheduler, n_workers=settings.fit.processes, progress=progress)
    report = _Report(begin, "Write", len(waiting))
    for asset in selection.assets:
        if asset.path in waiting:
            row = replace(journal.rows[asset.path], settings=settings.text)
            report.add(journal.put(_finish_asset(asset, row, waiting[asset.path], sweep)))
    return tuple(journal.rows[asset.path] for asset in selection.assets)


def _begin_assets(
    assets: Sequence[Asset], journal: Journal, where: tuple[Path, Settings], begin: Begin | None
) -> dict[str, list[Cell]]:
    """Examine and read all assets that are not finished; return the cells of those that can be read."""
    sweep, settings = where
    targets = _find_targets(assets, sweep.parent)
    report = _Report(begin, "Check and read", len(assets))
    waiting: dict[str, list[Cell]] = {}
    for asset in assets:
        row = _find_earlier(asset, journal)
        if row is None or not _is_finished(row, sweep.parent, settings):
            row, cells = _begin_asset(asset, row or _create_row(asset), targets, where)
            waiting |= {asset.path: cells} if cells else {}
        report.add(journal.put(row))
    return waiting


def _find_targets(assets: Sequence[Asset], folder: Path) -> dict[str, Path | str]:
    """Return the path of each asset's derivative, or a text that says why there can be none."""
    targets: dict[str, Path | str] = {}
    taken: dict[Path, str] = {}
    for asset in assets:
        try:
            target = find_target(folder, asset.path)
        except ExportError as error:
            targets[asset.path] = str(error)
            continue
        first = taken.setdefault(target, asset.path)
        same = (
            f"expected a unique name for its derivative, but that of {first!r} has the same name; "
            "choose one of them with the pattern"
        )
        targets[asset.path] = target if first == asset.path else same
    outputs = [path for path in targets.values() if isinstance(path, Path)]
    present = [path for path in (*outputs, *(one.with_suffix(PAGE) for one in outputs)) if path.exists()]
    check_apart(present, [asset.address for asset in assets])
    return targets


def _begin_asset(
    asset: Asset, row: Row, targets: dict[str, Path | str], where: tuple[Path, Settings]
) -> tuple[Row, list[Cell]]:
    """Examine and read an asset; return its row, and its cells unless that failed."""
    started = time.perf_counter()
    sweep, settings = where
    target = targets[asset.path]
    if isinstance(target, str):
        return _fail(row, target, asset), []
    try:
        ds = _read_kept(asset, row, sweep, settings.read)
        if ds is None:
            source = find_source(asset.address)
            with keep_open(source, follow_links=settings.read.follow_links):
                row = _examine(row, source, settings.read)
                ds = read_nwb(source, settings.read)
        cells = add_data(sweep, _name(asset), ds, settings.grid, settings.fit)
    except Exception as error:  # whatever it is, the other assets go on
        return _add_seconds(_fail(row, error, asset), started), []
    sizes: dict[str, Any] = {f"{name}s": ds.sizes[name] for name in ("unit", "trial", "output")}
    derivative = target.relative_to(sweep.parent).as_posix()
    row = replace(row, status="read", reason="", derivative=derivative, **sizes)
    return _add_seconds(row, started), cells


def _read_kept(asset: Asset, row: Row, sweep: Path, read: ReadConfig) -> xr.Dataset | None:
    """Return the Dataset that an earlier run read from an unchanged asset with the same settings."""
    ds = None if row.units is None else read_kept(sweep, _name(asset))
    return ds if ds is not None and ds.attrs.get("read_config") == read.model_dump_json() else None


def _finish_asset(asset: Asset, row: Row, cells: Sequence[Cell], sweep: Path) -> Row:
    """Write the best fit of an asset; return its row."""
    started = time.perf_counter()
    done = [cell for cell in cells if get_path(sweep, cell).exists()]
    failures = [f"seed {cell.config.seed}: {read_error(sweep, cell)}" for cell in cells if cell not in done]
    if not done:
        return _fail(row, "; ".join(failures), asset)
    try:
        saved = [read_cell(get_path(sweep, cell))[0] for cell in done]
        about = [one.attrs for one in saved]
        best = min(range(len(done)), key=lambda i: float(about[i]["loss"]))
        result = rebuild_fit(sweep, done[best])
        _write(result, asset, find_target(sweep.parent, asset.path))  # checked again: it may be a link by now
    except Exception as error:  # whatever it is, the other assets go on
        return _add_seconds(_fail(row, error, asset), started)
    row = replace(
        row,
        status="fitted",
        reason="; ".join(failures),
        seed=done[best].config.seed,
        seeds=len(done),
        seconds=row.seconds + sum(float(one["seconds"]) for one in about),
        **_describe(result),
        **_describe_baselines(saved[best]),
    )
    return _add_seconds(row, started)


def _write(result: FitResult, asset: Asset, target: Path) -> None:
    """Write the page of a fit and then the NWB file, whose existence marks it as finished."""
    target.parent.mkdir(parents=True, exist_ok=True)
    about = {"asset": asset.path}
    write_fit_report(result, target.with_suffix(PAGE), about=about, overwrite=True)
    write_fit(result, asset.address, target, overwrite=True)


def _describe(result: FitResult) -> dict[str, Any]:
    """Return the summary's fields for a fit."""
    outputs, sampled, unsampled = (
        result.scores.get(name) for name in ("output R2", "sampled neurons R2", "unsampled neurons R2")
    )
    values = {
        "output_r2": outputs.value,
        "output_known_average": outputs.known_average,
        "sampled_r2": sampled.value,
        "unsampled_r2": unsampled.value,
    }
    known = {name: float(value) if math.isfinite(value) else None for name, value in values.items()}
    chosen = result.recorded["sampled"].values
    return known | {"sampled": int(chosen.sum()), "units_fitted": chosen.size}


def _describe_baselines(saved: xr.Dataset) -> dict[str, Any]:
    """Return the summary's fields for the baselines."""
    scores = read_scores(saved)
    named = {"output_r2": "output R2", "unsampled_r2": "unsampled neurons R2"}
    found: dict[str, dict[str, float]] = {}
    for key, name in named.items():
        for rival in next(score for score in scores if score.name == name).rivals:
            found.setdefault(rival.name, {})[key] = rival.value
    return {"baselines": found, "verdict": " ".join(compare_baselines(scores))}


def _create_row(asset: Asset) -> Row:
    return Row(asset.path, asset.size, asset.state)


def _find_earlier(asset: Asset, journal: Journal) -> Row | None:
    """Return the row of an earlier run, if the asset has not changed since."""
    row = journal.earlier.get(asset.path)
    return row if row is not None and row.state == asset.state else None


def _is_finished(row: Row, folder: Path, settings: Settings) -> bool:
    """Return whether an earlier run left all requested results."""
    whole = row.status == "fitted" and not row.reason and row.settings == settings.text
    return whole and (folder / row.derivative).is_file()


def _examine(row: Row, source: Source, read: ReadConfig) -> Row:
    """Add the findings of doctor, unless they are already known."""
    if row.findings is not None:
        return row
    findings = diagnose(source, follow_links=read.follow_links)
    return replace(row, findings=[asdict(finding) for finding in findings])


def _fail(row: Row, error: Exception | str, asset: Asset) -> Row:
    """Return a row with the reason why an asset failed."""
    text = (
        str(error)
        if isinstance(error, NwbrnnError | str)
        else f"{type(error).__name__}: {format_error(error)}"
    )
    cause = error.__cause__ if isinstance(error, ExportError) else None
    if isinstance(cause, NwbrnnError):
        text = f"{text}: {cause}"
    text = text.replace(f"{asset.address}: ", "").removeprefix(f"{asset.path!r}: ")
    return replace(row, status="failed", reason=text)


def _add_seconds(row: Row, started: float) -> Row:
    return replace(row, seconds=round(row.seconds + time.perf_counter() - started, 1))


def _name(asset: Asset) -> str:
    """Return the name of an asset in the sweep: readable, and different for every path."""
    digest = hashlib.sha256(asset.path.encode()).hexdigest()[:8]
    name = remove_ending(asset.path.rsplit("/", 1)[-1]).encode()[:100].decode(errors="ignore")
    return f"{name}-{digest}"


class _Report:
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
