"""``nwbrnn dandi``: a whole dandiset."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nwbrnn.cli import options
from nwbrnn.cli.fit import Sampled, Set
from nwbrnn.cli.output import console, print_table
from nwbrnn.cli.sweep import Scheduler, show_cells
from nwbrnn.config import FitConfig, parse_settings
from nwbrnn.errors import ConfigError

if TYPE_CHECKING:
    from nwbrnn.dandiset import Row
    from nwbrnn.storage import Asset

Where = Annotated[
    str,
    typer.Argument(
        help="A downloaded folder, 000941, dandi://000941@draft, or the address of its page.",
        show_default=False,
        metavar="DANDISET",
    ),
]
Folder = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Folder for fits and summary; an earlier one goes on."),
]
Pattern = Annotated[str, typer.Option("--path", help="Which assets: * stays within a folder, ** does not.")]


def dandi(
    dandiset: Where,
    output: Folder = None,
    path: Pattern = "**/*.nwb",
    only_list: Annotated[bool, typer.Option("--list", help="Only list the assets.")] = False,
    only_check: Annotated[
        bool, typer.Option("--check", help="Only examine them: can they be read, would a fit be biased?")
    ] = False,
    sampled: Sampled = None,
    seeds: Annotated[int, typer.Option(help="Students of each asset; the best is written.", min=1)] = 1,
    settings: Set = None,
    scheduler: Scheduler = None,
    config: options.ConfigPath = None,
) -> None:
    """List, examine and fit every asset of a dandiset, and write the fits in DANDI's naming, with a summary.

    The exit code is 0 if all went well, 1 if an asset failed, 2 if nothing could be done.

    [dim]nwbrnn dandi 000941 --path 'sub-MonkeyL*/*.nwb' -o fits --sampled 20[/dim]
    """
    from nwbrnn.dandiset import Journal, Settings, check_assets, fit_assets, select_assets

    if output is None and not (only_list or only_check):
        raise ConfigError("--output: expected a folder for the fits; give one, or --list or --check")
    job = options.load_config(config)
    given = options.parse_values(settings or [], "--set") | ({} if sampled is None else {"sampled": sampled})
    fit_config = parse_settings(FitConfig, job.fit.model_dump() | given, source="command line")
    name, assets = select_assets(dandiset, path, without=output)
    if only_list or not assets:
        _print_assets(name, assets)
        return
    journal = Journal(name, output)
    with show_cells() as begin:
        try:
            if only_check:
                rows = check_assets(assets, journal, job.read, begin=begin)
            else:
                chosen = Settings(job.read, fit_config, seeds)
                rows = fit_assets(assets, journal, chosen, scheduler=scheduler, begin=begin)
        except KeyboardInterrupt:
            sys.stderr.write("Interrupted: what is finished is kept; the same command goes on.\n")
            raise typer.Exit(130) from None
    _print_rows(rows, output)
    if any(row.status == "failed" for row in rows):
        raise typer.Exit(1)


def _print_assets(name: str, assets: "Sequence[Asset]") -> None:
    """Print what there is."""
    total = _show_size(sum(asset.size for asset in assets))
    print_table(
        f"{name}: {len(assets)} assets, {total}",
        ("asset", "size"),
        [(asset.path, _show_size(asset.size)) for asset in assets],
    )


def _print_rows(rows: "Sequence[Row]", output: Path | None) -> None:
    """Print the summary, and why assets failed."""
    columns = ("asset", "status", "would bias", "to know", "units × trials × outputs")
    scores = ("output R2 (ceiling)", "sampled, other neurons R2", "s")
    shown = [
        (
            row.path,
            row.status,
            _show_number(row.biases),
            _show_number(row.notes),
            "–" if row.units is None else f"{row.units} × {row.trials} × {row.outputs}",
            f"{_show_score(row.output_r2)} ({_show_score(row.output_ceiling)})",
            f"{_show_score(row.sampled_r2)}, {_show_score(row.unsampled_r2)}",
            f"{row.seconds:.0f}",
        )
        for row in rows
    ]
    print_table("Assets", (*columns, *scores), shown)
    reasons = [(row.path, row.reason) for row in rows if row.reason]
    if reasons:
        print_table("What failed; the same command tries it again", ("asset", "why"), reasons)
    counts = {status: sum(row.status == status for row in rows) for status in ("fitted", "checked", "failed")}
    text = ", ".join(f"{number} {status}" for status, number in counts.items() if number)
    where = "" if output is None else f" Wrote {output}: summary.csv, summary.json."
    console.print(f"{len(rows)} assets: {text}.{where}", markup=False)


def _show_size(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _show_number(value: int | None) -> str:
    return "–" if value is None else str(value)


def _show_score(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
