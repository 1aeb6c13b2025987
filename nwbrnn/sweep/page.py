"""Write the report page of a sweep."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr

from nwbrnn.errors import MissingDataError, NwbrnnError, UnsupportedFileError
from nwbrnn.evaluation import BASELINES, MAIN, get_spec
from nwbrnn.evaluation.score_spec import LOWER
from nwbrnn.plot.sweep import describe_setting, describe_settings, list_settings
from nwbrnn.report.html import render_figure, write_page
from nwbrnn.storage import format_error, load_saved
from nwbrnn.storage.paths import check_apart
from nwbrnn.sweep.agreement import FILE as AGREEMENT
from nwbrnn.sweep.agreement import read_agreement
from nwbrnn.sweep.results import SESSIONS, draw_figures
from nwbrnn.sweep.run import ABOUT
from nwbrnn.sweep.statistics import LIMITS, compare_with_baseline, compare_with_fewest, list_failures

CAPTIONS = {
    "sessions": "Above: held-out scores against the number of pooled sessions, mean with 95 % interval. "
    "Below: paired differences from the smallest number. Networks of all numbers "
    "are scored on the same test trials and neurons.",
    "scores": "Held-out scores against the number of sampled neurons, mean with 95 % interval. "
    "Dashed: noise ceiling, dash-dotted: reliability, dotted: chance.",
    "differences": "Paired differences from the network trained on the outputs only, with 95 % "
    "intervals; intervals that do not contain 0 are in colour.",
    "similarity": "Similarity of the activity of the network and the recorded activity.",
    "robustness": "Outputs of disturbed networks.",
    "agreement": "Agreement of networks that differ only in their seed: mean and range over pairs and "
    "held-out conditions, and the share of the recurrent weights that the data determine.",
    "responses": "Comparison of the responses of network and circuit to kicks of the state at the go cue.",
}


def write_sweep_report(folder: str | Path, path: str | Path, *, overwrite: bool = False) -> None:
    """Write a report of a sweep as one self-contained HTML file for any browser.

    Parameters
    ----------
    folder
        Folder of a finished sweep.
    path
        The page to write, ``.html``.
    overwrite
        Whether to replace an existing file.

    Raises
    ------
    MissingDataError
        If the folder has no table yet, or no cell is done.
    UnsupportedFileError
        If the table or the description of the sweep is damaged.
    OutputExistsError
        If the file exists and ``overwrite`` is false.
    ExportError
        If the page cannot be written.
    """
    folder = Path(folder)
    file = folder / "table.nc"
    if not file.exists():
        raise MissingDataError(f"{file}: expected the table of a sweep, but there is none; finish the sweep")
    check_apart([Path(path)], [file, folder / ABOUT])
    with _blame(file):
        table = load_saved(file)
        statistics = compare_with_baseline(table)
    if statistics.empty:
        raise MissingDataError(f"{file}: expected finished fits, but there are none; see nwbrnn sweep")
    with _blame(folder / ABOUT):
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        about["files"] = list(about["files"])
    with _blame(file):
        agreement = folder / AGREEMENT
        values = describe_sweep(
            table, statistics, about, agreement=read_agreement(agreement) if agreement.exists() else None
        )
    write_page("sweep.html", values, Path(path), overwrite=overwrite)


@contextmanager
def _blame(file: Path) -> Iterator[None]:
    """Report any error in using the content of a file as a fault of the file."""
    try:
        yield
    except NwbrnnError:
        raise
    except Exception as error:  # xarray, its backends and pandas raise errors of many types
        raise UnsupportedFileError(
            f"{file}: expected what nwbrnn sweep wrote, but {format_error(error)}; "
            "run the same command again, which does not repeat finished fits"
        ) from error


def describe_sweep(
    table: xr.Dataset,
    statistics: pd.DataFrame,
    about: dict[str, Any],
    *,
    agreement: pd.DataFrame | None = None,
) -> dict[str, Any]:
    """Return everything that the template shows."""
    settings = list_settings(statistics)
    gains = compare_with_fewest(table)
    rows = [_describe_row(row, settings) for row in statistics.to_dict("records")]
    status = table["status"].values
    figures = draw_figures(statistics, gains, agreement)
    return {
        "title": f"Sweep over {len(about['files'])} file{'s' if len(about['files']) > 1 else ''}",
        "n_cells": len(status),
        "n_done": int((status == "done").sum()),
        "verdicts": _judge(statistics),
        "gains": _describe_gains(gains),
        "drawn": SESSIONS,
        "pools": _describe_pools(table),
        "figures": [
            (caption, render_figure(figures[name], name=name))
            for name, caption in CAPTIONS.items()
            if name in figures
        ],
        "main": [row for row in rows if row["score"] in MAIN],
        "baselines": [baseline.label for baseline in BASELINES],
        "others": [row for row in rows if row["score"] not in MAIN],
        "failed": [_describe_failure(one) for one in list_failures(table)],
        "about": [(name, json.dumps(values, ensure_ascii=False)) for name, values in about.items()],
    }


def _describe_failure(failed: dict[str, str]) -> tuple[str, str, str]:
    """Return the name of a cell that is not done, what varied in words, and why."""
    words = {name: value for name, value in failed.items() if name not in ("cell", "error") and value}
    return failed["cell"], describe_settings(list(words), list(words.values())), failed["error"]


def _describe_pools(table: xr.Dataset) -> list[str]:
    """Return the sessions of each pool on which networks were scored as a whole."""
    if "pooled" not in table.coords or "reference" in table.coords:
        return []
    return list(dict.fromkeys(table["pooled"].values.tolist()))


def _describe_gains(gains: pd.DataFrame) -> list[dict[str, Any]]:
    """Return what each larger number of sessions brings, for the main scores."""
    if gains.empty:
        return []
    settings = [name for name in list_settings(gains) if name != "sessions"]
    fewest, larger = gains["sessions"].iloc[0], gains[gains["sessions"] != gains["sessions"].iloc[0]]
    return [
        {
            "score": score, "label": _label(score), "fewest": fewest, "sessions": row["sessions"],
            "setting": ", ".join(describe_setting(name, row[name]) for name in settings),
            **{name: row[name] for name in ("baseline", "mean", "difference", "low", "high")},
            "better": f"{row['better']} of {row['seeds']}",
        }
        for score in MAIN
        for row in larger[(larger["score"] == score) & larger["difference"].notna()].to_dict("records")
    ]  # fmt: skip


def _judge(statistics: pd.DataFrame) -> list[dict[str, Any]]:
    """Return, for the main scores, in how many settings the interval shows a benefit, and the range."""
    verdicts = []
    treated = statistics[(statistics["sampled"] != "0") & statistics["difference"].notna()]
    for score in MAIN:
        rows = treated[treated["score"] == score]
        if len(rows):
            lower, higher = int((rows["high"] < 0).sum()), int((rows["low"] > 0).sum())
            better, worse = (lower, higher) if get_spec(score).better == "lower" else (higher, lower)
            verdicts.append(
                {
                    "score": score, "better": better, "worse": worse, "settings": len(rows),
                    "low": float(rows["difference"].min()), "high": float(rows["difference"].max()),
                }
            )  # fmt: skip
    return verdicts


def _describe_row(row: dict[Any, Any], settings: list[str]) -> dict[str, Any]:
    """Return the table entries of one setting and score."""
    others = [name for name in settings if name != "sampled"]
    named = [describe_setting(name, row[name]) for name in ("sampled", *others)]
    paired = row["sampled"] != "0" and row["seeds"] > 0
    return {
        "source": row.get("source", ""),
        "setting": ", ".join(named),
        "label": _label(str(row["score"])),
        **{name: row[name] for name in ("score", "mean", "mean_low", "mean_high", *LIMITS)},
        "rivals": [row.get(baseline.name, math.nan) for baseline in BASELINES],
        **{name: row[name] if paired else math.nan for name in ("difference", "low", "high")},
        "better": f"{row['better']} of {row['seeds']}" if paired else "–",
    }


def _label(score: str) -> str:
    """Return the name of a score, marked if lower is better."""
    return f"{score}{LOWER}" if get_spec(score).better == "lower" else score
