"""``nwbrnn dandi``: a whole dandiset."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from nwbrnn.cli import options
from nwbrnn.cli.access import Access
from nwbrnn.cli.doctor import print_findings
from nwbrnn.cli.fit import Sampled, Set
from nwbrnn.cli.output import print_table, say, say_interrupted
from nwbrnn.cli.sweep import Scheduler, show_cells
from nwbrnn.config.check import change_settings
from nwbrnn.errors import ConfigError
from nwbrnn.text import show_count

if TYPE_CHECKING:
    from nwbrnn.dandiset import Row, Selection

Where = Annotated[
    str,
    typer.Argument(
        help="A dandiset: a downloaded folder, 000941, dandi://000941@draft, or the address of its page.",
        show_default=False,
        metavar="DANDISET",
    ),
    Access.READ,
]
Folder = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Folder for the fits and the summary; nwbrnn continues an existing one.",
        metavar="FOLDER",
    ),
    Access.WRITE,
]
Pattern = Annotated[
    str,
    typer.Option(
        "--path",
        help="Pattern for paths of assets: * stands for names in one folder, ** for any folders.",
        metavar="PATTERN",
    ),
]


Pool = Annotated[
    str | None,
    typer.Option(
        "--pool",
        help="subject: one network for all assets of a subject, pooled as sessions of one task. Default: one "
        "for each asset.",
        metavar="WHAT",
    ),
]


def dandi(
    dandiset: Where,
    output: Folder = None,
    path: Pattern = "**/*.nwb",
    only_list: Annotated[bool, typer.Option("--list", help="Only list the assets.")] = False,
    only_check: Annotated[
        bool,
        typer.Option(
            "--check", help="Only check whether assets can be read, and whether a fit would be biased."
        ),
    ] = False,
    pool: Pool = None,
    sampled: Sampled = None,
    seeds: Annotated[int, typer.Option(help="Networks for each fit; the best one is written.", min=1)] = 1,
    settings: Set = None,
    scheduler: Scheduler = None,
    config: options.ConfigPath = None,
) -> None:
    """List, examine and fit every asset of a dandiset; write the fits under DANDI names, with a summary.

    The exit code is 0 if all went well, 1 if an asset failed, and 2 if nwbrnn could not do anything.

    nwbrnn dandi 000941 --path 'sub-MonkeyL*/*.nwb' -o fits --sampled 20
    nwbrnn dandi 000941 -o pools --pool subject --sampled 20
    """
    from nwbrnn.dandiset import Journal, Settings, check_assets, fit_assets, select_assets

    if output is None and not (only_list or only_check):
        raise ConfigError(
            "--output: expected a folder for the fits, but got none; give one, or use --list or --check"
        )
    pooled = _parse_pool(pool)
    job = options.load_config(config)
    given = options.parse_values(settings or [], "--set") | ({} if sampled is None else {"sampled": sampled})
    fit_config = change_settings(job.fit, given, source="command line")
    selection = select_assets(dandiset, path, without=output)
    if only_list or not selection.assets:
        _print_assets(selection)
        return
    if job.read.follow_links:
        options.check_linked([asset.address for asset in selection.assets], output)
    journal = Journal(selection, output)
    with show_cells() as begin:
        try:
            if only_check:
                rows = check_assets(selection, journal, job.read, pool=pooled, begin=begin)
            else:
                chosen = Settings(job.read, fit_config, seeds, pooled)
                rows = fit_assets(selection, journal, chosen, scheduler=scheduler, begin=begin)
        except KeyboardInterrupt:
            say_interrupted("nwbrnn kept the finished assets; run the same command again to continue.")
            raise typer.Exit(130) from None
    _print_rows(rows, output)
    if journal.removed:
        say(f"Removed {', '.join(journal.removed)}: other fits of the same assets have taken their place.")
    if journal.list_superseded():
        kept = ", ".join(journal.list_superseded())
        say(f"Kept {kept} of an earlier run, without scores in the summary. Remove what you do not need.")
    if any(row.status == "failed" for row in rows):
        raise typer.Exit(1)


def _parse_pool(pool: str | None) -> Literal["subject"] | None:
    """Return what to pool."""
    if pool is None:
        return None
    if pool != "subject":
        raise ConfigError(f"--pool: expected subject, but got {pool!r}; leave it out to fit each asset alone")
    return "subject"


def _print_assets(selection: "Selection") -> None:
    """Print what there is."""
    assets = selection.assets
    total = _show_size(sum(asset.size for asset in assets))
    print_table(
        f"{selection.dandiset}: {show_count(len(assets), 'asset')}, {total}",
        ("asset", "size"),
        [(asset.path, _show_size(asset.size)) for asset in assets],
    )


def _print_rows(rows: "Sequence[Row]", output: Path | None) -> None:
    """Print the summary, and why assets failed."""
    columns = ["asset", "status", "would bias", "other findings"]
    fitted = any(row.status == "fitted" for row in rows)
    if fitted:
        columns += [
            "units × trials × outputs",
            "output R2",
            "known average",
            "sampled R2",
            "unsampled R2",
            "time [s]",
        ]
    cells = [_show_row(row)[: len(columns)] for row in rows]
    if any(row.subject for row in rows):
        columns = [columns[0], "subject", "pooled", *columns[1:]]
        cells = [
            (first, row.subject, _show_pool(row), *more)
            for row, (first, *more) in zip(rows, cells, strict=True)
        ]
    print_table("Assets", columns, cells)
    found = [(f"{_shorten(row.path)}: {one['object']}", one) for row in rows for one in row.findings or ()]
    print_findings(found, "asset: object")
    reasons = [(row.path, row.reason) for row in rows if row.reason]
    if reasons:
        print_table("Assets that failed (run the same command to try them again)", ("asset", "why"), reasons)
    counts = {status: sum(row.status == status for row in rows) for status in ("fitted", "checked", "failed")}
    text = ", ".join(f"{number} {status}" for status, number in counts.items() if number)
    where = "" if output is None else f" Wrote {output}: summary.csv, summary.json{', fits' * fitted}."
    say(f"{show_count(len(rows), 'asset')}: {text}.{where}")


def _shorten(path: str) -> str:
    """Return the name of an asset; DANDI repeats the folder in it."""
    from nwbrnn.dandiset.naming import remove_ending

    return remove_ending(path.rsplit("/", 1)[-1])


def _show_pool(row: "Row") -> str:
    """Return how many assets share the fit."""
    return show_count(len(row.pool), "asset") if row.pool else "–"


def _show_row(row: "Row") -> tuple[str, ...]:
    """Return the cells of a row."""
    scores = (row.output_r2, row.output_known_average, row.sampled_r2, row.unsampled_r2)
    return (
        _shorten(row.path),
        row.status,
        *("–" if number is None else str(number) for number in (row.biases, row.notes)),
        "–" if row.units is None else f"{_count_units(row)} × {row.trials} × {row.outputs}",
        *("–" if score is None else f"{score:.3f}" for score in scores),
        f"{row.seconds:.0f}",
    )


def _count_units(row: "Row") -> str:
    """Return how many units were fitted, and of how many if some were too slow."""
    if row.units_fitted in (None, row.units):
        return str(row.units)
    return f"{row.units_fitted} of {row.units}"


def _show_size(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
