"""The stages of an analysis: examine and read each asset, fit all of them, and write the results."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import xarray as xr

from nwbrnn.config import ReadConfig
from nwbrnn.dandiset.naming import PAGE, find_target, is_derivative
from nwbrnn.dandiset.pools import (
    Rows,
    Subject,
    Where,
    check_pool,
    choose_members,
    list_subjects,
    name_member,
    read_members,
)
from nwbrnn.dandiset.rows import (
    Begin,
    Report,
    add_seconds,
    check,
    create_row,
    examine,
    fail,
    find_earlier,
    find_kept,
    is_finished,
    name_data,
    note_data,
)
from nwbrnn.dandiset.settings import Settings
from nwbrnn.dandiset.summary import Journal, Row, Selection
from nwbrnn.errors import ConfigError, ExportError
from nwbrnn.evaluation import Score, assess, compare_baselines
from nwbrnn.formats.fit.export import write_fit
from nwbrnn.readers import PoolPlan, read_nwb
from nwbrnn.report import write_fit_report
from nwbrnn.result import FitResult
from nwbrnn.storage import Asset, find_dandiset, find_source, keep_open, list_assets
from nwbrnn.storage.paths import check_apart
from nwbrnn.sweep import (
    Cell,
    add_data,
    create_folder,
    divide_time,
    get_path,
    read_cell,
    read_error,
    read_scores,
    rebuild_fit,
    run_cells,
    show_session,
)

SWEEP = "sweep"
"""Folder of the sweep in the output folder: data and cells."""


@dataclass(frozen=True)
class _Job:
    """A fit to make and to write: of one asset, or of several that are pooled."""

    subject: Subject
    cells: tuple[Cell, ...]
    path: str
    """The asset, or the pool, after which it is named."""

    @property
    def assets(self) -> tuple[Asset, ...]:
        """The assets that are fitted."""
        return self.subject.assets


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
    selection: Selection,
    journal: Journal,
    read: ReadConfig | None = None,
    *,
    pool: Literal["subject"] | None = None,
    begin: Begin | None = None,
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
    pool
        ``"subject"`` also reports which assets cannot be pooled with the others of their subject.
    begin
        Called with the name of the stage; it returns a function that takes the numbers of finished,
        failed and all assets.

    Returns
    -------
    tuple of Row
        One for each asset.
    """
    read, assets = read or ReadConfig(), selection.assets
    report = Report(begin, "Check", len(assets))
    for asset in assets:
        row = find_earlier(asset, journal) or create_row(asset)
        if row.status in ("failed", "listed"):
            row = check(replace(row, status="listed", reason=""), asset, read)
        report.add(journal.put(row))
    for subject in list_subjects(assets, journal, read) if pool else ():
        there = {
            asset.path: replace(journal.rows[asset.path], subject=subject.name) for asset in subject.assets
        }
        for path, row in check_pool(subject, there, read)[0].items():
            held = journal.rows[path]
            # a check takes no results away
            kept = replace(held, subject=row.subject, reason=row.reason)
            journal.put(kept if held.status == "fitted" else row)
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
    with the same settings are not fetched or fitted again unless they have changed. Fits of earlier runs that
    others have replaced are removed.

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
    create_folder(sweep, addresses, settings.grid, (settings.read, settings.fit), pool=settings.pool)
    jobs = _begin_assets(selection.assets, journal, (sweep, settings), begin)
    flat = [cell for job in jobs for cell in job.cells]
    progress = begin("Fit") if begin and flat else None
    run_cells(sweep, flat, scheduler=scheduler, n_workers=settings.fit.processes, progress=progress)
    report = Report(begin, "Write", sum(len(job.assets) for job in jobs))
    for job in jobs:
        rows = {one.path: replace(journal.rows[one.path], settings=settings.text) for one in job.assets}
        for row in _finish_job(job, rows, sweep).values():
            report.add(journal.put(row))
    journal.remove_superseded()
    return tuple(journal.rows[asset.path] for asset in selection.assets)


def _begin_assets(assets: Sequence[Asset], journal: Journal, where: Where, begin: Begin | None) -> list[_Job]:
    """Examine and read all assets that are not finished; return the fits of those that can be read."""
    sweep, settings = where
    subjects = (
        [Subject("", (asset,)) for asset in assets]
        if settings.pool is None
        else list_subjects(assets, journal, settings.read)
    )
    pools = [one.path for one in subjects if len(one.assets) > 1]
    targets = _find_targets(assets, pools, sweep.parent)
    report = Report(begin, "Check and read", len(assets))
    jobs = []
    for subject in subjects:
        rows, job = _begin_subject(subject, journal, targets, where)
        jobs += [job] if job else []
        for row in rows.values():
            report.add(journal.put(row))
    return jobs


def _begin_subject(
    subject: Subject,
    journal: Journal,
    targets: Mapping[str, Path | str],
    where: Where,
    *,
    known: Rows | None = None,
) -> tuple[Rows, _Job | None]:
    """Examine and read the assets of a subject; return their rows, and the fit unless it is finished."""
    if len(subject.assets) == 1 and known is None:
        return _begin_asset(subject, journal, targets, where)
    rows, members, plan = choose_members(subject, journal, where, known=known or {})
    chosen = replace(subject, assets=tuple(members))
    if not members:
        return rows, None
    if plan is None:
        row, cells = _read_asset(members[0], rows[members[0].path], targets[members[0].path], where)
        job = _Job(chosen, tuple(cells), members[0].path) if cells else None
        return rows | {row.path: row}, job
    rows, cells = _begin_pool(chosen, plan, rows, (targets[subject.path], where))
    left = [asset for asset in members if rows[asset.path].status != "failed"]
    if left and not cells:  # one of them could not be read, so the others are another pool
        rest = replace(subject, assets=tuple(left))
        again, job = _begin_subject(rest, journal, targets, where, known=rows)
        return rows | again, job
    return rows, _Job(chosen, tuple(cells), subject.path) if cells else None


def _begin_pool(
    subject: Subject, plan: PoolPlan, rows: Rows, goal: tuple[Path | str, Where]
) -> tuple[Rows, list[Cell]]:
    """Read assets that can be pooled; return all rows, and the cells of their fit unless one failed."""
    target, where = goal
    paths = [asset.path for asset in subject.assets]
    if isinstance(target, str):
        return _fail_all(subject, rows, target), []
    try:
        rows, cells = read_members(subject.assets, plan, rows, where, name=name_data(subject.path))
    except Exception as error:  # whatever it is, the other subjects go on
        return _fail_all(subject, rows, error), []
    if not cells:
        return rows, []
    derivative = target.relative_to(where[0].parent).as_posix()
    return rows | {path: replace(rows[path], derivative=derivative, pool=paths) for path in paths}, cells


def _fail_all(subject: Subject, rows: Rows, error: Exception | str) -> Rows:
    return rows | {one.path: fail(rows[one.path].restart(), error, one) for one in subject.assets}


def _find_targets(assets: Sequence[Asset], pools: Sequence[str], folder: Path) -> dict[str, Path | str]:
    """Return the path of each derivative by asset or pool, or a text that says why there can be none."""
    targets: dict[str, Path | str] = {}
    taken: dict[Path, str] = {}
    for path in [*(asset.path for asset in assets), *pools]:
        try:
            target = find_target(folder, path)
        except ExportError as error:
            targets[path] = str(error)
            continue
        first = taken.setdefault(target, path)
        same = (
            f"expected a unique name for its derivative, but that of {first!r} has the same name; "
            "choose one of them with the pattern"
        )
        targets[path] = target if first == path else same
    outputs = [path for path in targets.values() if isinstance(path, Path)]
    present = [path for path in (*outputs, *(one.with_suffix(PAGE) for one in outputs)) if path.exists()]
    check_apart(present, [asset.address for asset in assets])
    return targets


def _begin_asset(
    subject: Subject, journal: Journal, targets: Mapping[str, Path | str], where: Where
) -> tuple[Rows, _Job | None]:
    """Examine and read an asset that is fitted alone; return its row, and its fit unless it is finished."""
    sweep, settings = where
    (asset,) = subject.assets
    earlier = find_earlier(asset, journal)
    row = replace(earlier or create_row(asset), subject=subject.name)
    if is_finished(earlier, sweep.parent, settings) and not row.pool:
        return {asset.path: row}, None
    row, cells = _read_asset(asset, row, targets[asset.path], where)
    return {asset.path: row}, _Job(subject, tuple(cells), asset.path) if cells else None


def _read_asset(asset: Asset, row: Row, target: Path | str, where: Where) -> tuple[Row, list[Cell]]:
    """Examine and read an asset; return its row, and its cells unless that failed."""
    started = time.perf_counter()
    sweep, settings = where
    row, name = row.restart(), name_data(asset.path)
    if isinstance(target, str):
        return fail(row, target, asset), []
    try:
        ds = find_kept(row, name, sweep, settings.read)
        if ds is None:
            source = find_source(asset.address)
            with keep_open(source, follow_links=settings.read.follow_links):
                row = examine(row, source, settings.read)
                ds = read_nwb(source, settings.read)
        cells = add_data(sweep, name, ds, settings.grid, settings.fit)
    except Exception as error:  # whatever it is, the other assets go on
        return add_seconds(fail(row, error, asset), started), []
    row = replace(note_data(row, name, ds), derivative=target.relative_to(sweep.parent).as_posix())
    return add_seconds(row, started), cells


def _finish_job(job: _Job, rows: Rows, sweep: Path) -> Rows:
    """Write the best network of a fit; return the rows of its assets."""
    started = time.perf_counter()
    done = [cell for cell in job.cells if get_path(sweep, cell).exists()]
    failures = "; ".join(
        f"seed {cell.config.seed}: {read_error(sweep, cell)}" for cell in job.cells if cell not in done
    )
    if not done:
        return {asset.path: fail(rows[asset.path], failures, asset) for asset in job.assets}
    try:
        saved = [read_cell(get_path(sweep, cell))[0] for cell in done]
        best = min(range(len(done)), key=lambda i: float(saved[i].attrs["loss"]))
        result = rebuild_fit(sweep, done[best])
        described = _describe_assets(job, result, (done[best], read_scores(saved[best])), sweep)
        _write(job, result, find_target(sweep.parent, job.path))  # checked again: it may be a link by now
    except Exception as error:  # whatever it is, the other assets go on
        return {
            asset.path: add_seconds(fail(rows[asset.path], error, asset), started) for asset in job.assets
        }
    spent = sum(float(one.attrs["seconds"]) for one in saved) + time.perf_counter() - started
    seconds = spent / len(job.assets)  # so that the sum is that of all fits
    found: dict[str, Any] = {
        "status": "fitted",
        "reason": failures,
        "seed": done[best].config.seed,
        "seeds": len(done),
    }
    return {
        path: replace(rows[path], **found, **own, seconds=round(rows[path].seconds + seconds, 1))
        for path, own in described.items()
    }


def _write(job: _Job, result: FitResult, target: Path) -> None:
    """Write the page of a fit and then the NWB file, whose existence marks it as finished."""
    target.parent.mkdir(parents=True, exist_ok=True)
    paths = [asset.path for asset in job.assets]
    about = {"subject": job.subject.name} if job.subject.name else {}
    about |= {"asset" if len(paths) == 1 else "assets": ", ".join(paths)}
    write_fit_report(result, target.with_suffix(PAGE), about=about, overwrite=True)
    write_fit(result, [asset.address for asset in job.assets], target, overwrite=True)


def _describe_assets(
    job: _Job, result: FitResult, best: tuple[Cell, Sequence[Score]], sweep: Path
) -> dict[str, dict[str, Any]]:
    """Return the summary's fields for each asset of a fit; the assets of a pool have scores of their own."""
    cell, scores = best
    if not cell.sessions:
        return {job.assets[0].path: _describe(result.recorded, scores)}
    described = {}
    for asset in job.assets:
        try:
            shown = show_session(result, sweep, cell, name_member(asset))
        except ConfigError as error:  # the others have their scores
            described[asset.path] = {"verdict": f"This session has no scores of its own: {error}"}
            continue
        own = assess(*divide_time(shown)[0], n_resamples=cell.resamples)  # as of an asset fitted alone
        described[asset.path] = _describe(shown.recorded, own)
    return described


def _describe(recorded: xr.Dataset, scores: Sequence[Score]) -> dict[str, Any]:
    """Return the summary's fields for the scores of a fit."""
    named = {score.name: score for score in scores}
    outputs, sampled, unsampled = (
        named[name] for name in ("output R2", "sampled neurons R2", "unsampled neurons R2")
    )
    values = {
        "output_r2": outputs.value,
        "output_known_average": outputs.known_average,
        "sampled_r2": sampled.value,
        "unsampled_r2": unsampled.value,
    }
    known = {name: float(value) if math.isfinite(value) else None for name, value in values.items()}
    chosen = recorded["sampled"].values
    sizes = {"sampled": int(chosen.sum()), "units_fitted": chosen.size}
    return known | sizes | _describe_baselines(scores)


def _describe_baselines(scores: Sequence[Score]) -> dict[str, Any]:
    """Return the summary's fields for the baselines."""
    named = {"output_r2": "output R2", "unsampled_r2": "unsampled neurons R2"}
    found: dict[str, dict[str, float]] = {}
    for key, name in named.items():
        for rival in next(score for score in scores if score.name == name).rivals:
            found.setdefault(rival.name, {})[key] = rival.value
    return {"baselines": found, "verdict": " ".join(compare_baselines(scores))}
