"""Rows with the results of each asset, and the summary that stores them between runs."""

import contextlib
import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from nwbrnn.dandiset.naming import PAGE, is_derivative
from nwbrnn.errors import ExportError
from nwbrnn.evaluation import BASELINES
from nwbrnn.storage import Asset, matches
from nwbrnn.storage.atomic import replace_whole, write_json
from nwbrnn.storage.paths import check_apart

SUMMARY, TABLE = "summary.json", "summary.csv"

Status = Literal["listed", "checked", "read", "fitted", "failed"]


@dataclass(frozen=True)
class Row:
    """An asset, the findings in it, and the scores of its fit.

    Attributes
    ----------
    path
        Path in the dandiset.
    size
        Size [bytes].
    state
        A text that changes when the asset changes.
    status
        The stage that the asset reached; ``checked`` means that it can be read.
    reason
        Why it failed, or which of several seeds failed.
    findings
        Findings of doctor as plain values; ``None`` if it was not run.
    units, trials, outputs
        Numbers of units, trials and outputs that were read.
    units_fitted
        Number of units without those that are too slow.
    sampled
        Number of sampled neurons of the fit.
    seed, seeds
        Seed of the fit that was written, and number of fits.
    output_r2, output_known_average, sampled_r2, unsampled_r2
        Scores of the written fit on held-out trials; the second is that of the average of the known trials.
    baselines
        ``output_r2`` and ``unsampled_r2`` of each baseline, by its name.
    verdict
        A sentence that says which baselines the fit beats.
    seconds
        Total time [s].
    derivative
        Path of the fit below the output folder.
    settings
        Settings of the fit, as JSON.
    subject
        The subject, if its assets are pooled.
    pool
        Paths of the assets that share the fit, if they are several. Scores are those of this asset.
    kept
        Names of the Datasets in the sweep that were read from this state of the asset: alone, or for a pool.
    """

    path: str
    size: int
    state: str
    status: Status = "listed"
    reason: str = ""
    findings: Sequence[dict[str, Any]] | None = None
    units: int | None = None
    units_fitted: int | None = None
    trials: int | None = None
    outputs: int | None = None
    sampled: int | None = None
    seed: int | None = None
    seeds: int | None = None
    output_r2: float | None = None
    output_known_average: float | None = None
    sampled_r2: float | None = None
    unsampled_r2: float | None = None
    baselines: Mapping[str, Mapping[str, float]] | None = None
    verdict: str = ""
    seconds: float = 0.0
    derivative: str = ""
    settings: str = ""
    subject: str = ""
    pool: Sequence[str] = ()
    kept: Sequence[str] = ()

    def restart(self) -> "Row":
        """Return the row without the results of an earlier fit, which do not hold for the next one."""
        known = {name: getattr(self, name) for name in ("findings", "seconds", "subject", "kept")}
        return Row(self.path, self.size, self.state, **known)

    @property
    def sessions(self) -> int | None:
        """Number of assets that share the fit."""
        return max(len(self.pool), 1) if self.derivative else None

    @property
    def biases(self) -> int | None:
        """Number of findings that would bias a fit."""
        return None if self.findings is None else sum(bool(one["biases"]) for one in self.findings)

    @property
    def notes(self) -> int | None:
        """Number of findings that are only notes."""
        return None if self.findings is None else len(self.findings) - (self.biases or 0)


COLUMNS = (
    "path", "size", "status", "reason", "biases", "notes", "units", "units_fitted", "trials", "outputs",
    "sampled", "seed", "seeds", "output_r2", "output_known_average", "sampled_r2", "unsampled_r2", "seconds",
    "derivative", "verdict", "subject", "sessions", "settings",
)  # fmt: skip
"""Columns of ``summary.csv``, before those of :data:`BESIDE`."""
BESIDE = tuple((score, baseline.name) for score in ("output_r2", "unsampled_r2") for baseline in BASELINES)
"""Scores of baselines, each a column."""


@dataclass(frozen=True)
class Selection:
    """The assets of a dandiset that match a pattern.

    Attributes
    ----------
    dandiset
        Its number or its folder.
    pattern
        Pattern of the paths.
    assets
        The assets in the order of their paths.
    """

    dandiset: str
    pattern: str
    assets: tuple[Asset, ...]


class Journal:
    """The rows of a run, written after each change, so that an interrupt loses no more than one asset.

    Parameters
    ----------
    selection
        The assets of the run.
    folder
        Folder of the summary; if not given, nothing is written.

    Attributes
    ----------
    earlier
        Rows of an earlier run into the same folder, by path, without assets that no longer exist.
    rows
        Rows of this run, by path.
    removed
        Paths of fits that were removed; see :meth:`remove_superseded`.

    Raises
    ------
    ExportError
        If the folder holds something else or another dandiset, or if it cannot be written.
    """

    def __init__(self, selection: Selection, folder: Path | None) -> None:
        self.dandiset, self.folder = selection.dandiset, folder
        self.rows: dict[str, Row] = {}
        self.earlier: dict[str, Row] = {}
        self.removed: list[str] = []
        self._owners: dict[str, set[str]] = {}
        if folder is not None:
            check_apart([folder], [asset.address for asset in selection.assets])
            there = {asset.path for asset in selection.assets}
            rows, superseded = _read(folder, selection.dandiset)
            earlier = {row.path: row for row in rows}
            self._owners = {fit: set(paths) for fit, paths in superseded.items()}
            self._note_owners(rows)
            gone = {path for path in earlier if path not in there and matches(path, selection.pattern)}
            self.earlier = {path: row for path, row in earlier.items() if path not in gone}
            self._write()

    def put(self, row: Row) -> Row:
        """Store a row, replacing an earlier one of the same asset, and return it.

        Rows of other assets that shared its fit when that had other assets lose their results.

        Raises
        ------
        ExportError
            If the summary cannot be written.
        """
        self.rows[row.path] = row
        if row.status == "fitted":
            for other in [one for one in self.earlier.values() if one.path not in self.rows]:
                if other.derivative == row.derivative and other.path not in row.pool:
                    self.earlier[other.path] = other.restart()
        self._write()
        return row

    def remove_superseded(self) -> None:
        """Remove fits of earlier runs, with their pages, if each of their assets has another fit now.

        The cell of such a fit stays in ``sweep``, so that it can be written again without being fitted again.
        Fits whose assets have no other fit, for example because these failed or were not listed, are kept.

        Raises
        ------
        ExportError
            If the summary cannot be written.
        """
        if self.folder is None:
            return
        rows = self.earlier | self.rows
        for fit, paths in self.list_superseded().items():
            if not (self.folder / fit).exists():  # it was removed by hand
                del self._owners[fit]
            elif paths and all(path in rows and self._has_fit(rows[path]) for path in paths):
                self._remove(fit)
        self._write()

    def list_superseded(self) -> dict[str, list[str]]:
        """Return the fits that no row names any more, with the assets that had them."""
        named = {row.derivative for row in (self.earlier | self.rows).values()}
        return {fit: sorted(paths) for fit, paths in sorted(self._owners.items()) if fit not in named}

    def _has_fit(self, row: Row) -> bool:
        """Return whether an asset has a fit that exists."""
        return row.status == "fitted" and self.folder is not None and (self.folder / row.derivative).is_file()

    def _remove(self, fit: str) -> None:
        """Remove a fit in the folder that bears our name, and its page."""
        assert self.folder is not None
        path = self.folder / fit
        ours = is_derivative(fit) and path.suffix == ".nwb" and not path.is_symlink()
        if not ours or not path.parent.resolve().is_relative_to(self.folder.resolve()):
            return
        named = [
            self.folder / row.derivative for row in (self.earlier | self.rows).values() if row.derivative
        ]
        if any(other.exists() and path.samefile(other) for other in named):  # if capitals do not matter
            return
        with contextlib.suppress(OSError):  # what cannot be removed stays in the list
            path.unlink()
            self.removed.append(fit)
            del self._owners[fit]
            path.with_suffix(PAGE).unlink(missing_ok=True)

    def _note_owners(self, rows: Sequence[Row]) -> None:
        for row in rows:
            if row.derivative:
                self._owners.setdefault(row.derivative, set()).add(row.path)

    def _write(self) -> None:
        if self.folder is not None:
            rows = sorted((self.earlier | self.rows).values(), key=lambda row: row.path)
            self._note_owners(rows)
            about = {"dandiset": self.dandiset, "superseded": self.list_superseded()}
            _write(self.folder, about, rows)


def _write(folder: Path, about: dict[str, Any], rows: Sequence[Row]) -> None:
    """Write ``summary.json`` and ``summary.csv`` as a whole, replacing earlier ones."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExportError(
            f"{folder}: could not create this folder: {error.strerror}; choose another output"
        ) from error
    write_json(about | {"assets": [asdict(row) for row in rows]}, folder / SUMMARY, overwrite=True)
    with (
        replace_whole(folder / TABLE, overwrite=True) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream,
    ):
        writer = csv.writer(stream)
        writer.writerow([*COLUMNS, *(", ".join(names) for names in BESIDE)])
        for row in rows:
            beside = [(row.baselines or {}).get(name, {}).get(score) for score, name in BESIDE]
            writer.writerow([*(getattr(row, name) for name in COLUMNS), *beside])


def _read(folder: Path, dandiset: str) -> tuple[Sequence[Row], dict[str, list[str]]]:
    """Return the rows of an earlier run into the same folder, and its superseded fits; none without one."""
    path = folder / SUMMARY
    if not path.exists():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ExportError(
                f"{folder}: expected an empty folder or that of an earlier run, but it holds something else; "
                "choose another output"
            )
        return (), {}
    known = {field.name for field in fields(Row)}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        name = values["dandiset"]
        rows = [Row(**{k: v for k, v in row.items() if k in known}) for row in values["assets"]]
        superseded = {
            str(fit): [str(one) for one in paths] for fit, paths in values.get("superseded", {}).items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ExportError(
            f"{path}: expected the summary of an earlier run, but it cannot be read: {error!r}; "
            "choose another output, or remove it"
        ) from error
    if name != dandiset:
        raise ExportError(f"{folder}: expected results of {dandiset}, but got {name}; choose another output")
    return rows, superseded
