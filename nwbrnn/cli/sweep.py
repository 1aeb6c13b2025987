"""``nwbrnn sweep``: many fits, compared."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from nwbrnn.cli import options
from nwbrnn.cli.access import Access
from nwbrnn.cli.output import (
    check_json,
    print_table,
    say,
    say_interrupted,
    show_number,
    shows_progress,
    stderr,
    write_json,
)
from nwbrnn.config import FitConfig, SweepConfig
from nwbrnn.config.check import parse_settings
from nwbrnn.text import show_count

if TYPE_CHECKING:
    import pandas as pd

Files = Annotated[
    list[str],
    typer.Argument(help="NWB files: paths or addresses.", show_default=False, metavar="FILE"),
    Access.READ,
]
Folder = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        help="Folder of the sweep; nwbrnn continues an existing one.",
        show_default=False,
        metavar="FOLDER",
    ),
    Access.WRITE,
]
SampledList = Annotated[
    str | None,
    typer.Option(
        help="Numbers of sampled neurons; 0 is the baseline. Default: 0,5,10,20,50,100%.", metavar="NUMBERS"
    ),
]
Pool = Annotated[
    bool,
    typer.Option(
        "--pool",
        help="Pool all files: each network is fitted to all of them as sessions of one task. Otherwise, each "
        "file is fitted alone.",
    ),
]
Sessions = Annotated[
    str | None,
    typer.Option(
        help="Numbers of files to pool, such as 1,2,4,all, to find out what more sessions bring. Networks "
        "of all numbers are scored on the same sessions.",
        metavar="NUMBERS",
    ),
]
HeldOut = Annotated[
    str | None,
    typer.Option(
        help="What to hold out: trials; condition (each condition in turn); outputs (of each condition in "
        "turn, while its neurons are trained on); between (every other condition). Default: trials.",
        metavar="KIND",
    ),
]
Vary = Annotated[
    list[str] | None,
    typer.Option(
        "--vary",
        help="A setting of a fit and its values, such as dynamics_weight=0.1,1; repeatable.",
        metavar="NAME=VALUES",
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        help="Dask scheduler, tcp://HOST:8786. Default: processes on this machine.", metavar="ADDRESS"
    ),
]


def sweep(
    files: Files,
    output: Folder,
    sampled: SampledList = None,
    pool: Pool = False,
    sessions: Sessions = None,
    seeds: Annotated[
        int | None, typer.Option(help="Number of networks for each combination. Default: 10.")
    ] = None,
    held_out: HeldOut = None,
    vary: Vary = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="A setting of all fits, such as hidden=100; repeatable.", metavar="NAME=VALUE"
        ),
    ] = None,
    resamples: Annotated[
        int | None, typer.Option(help="Number of resampled test sets for the intervals. Default: 25.")
    ] = None,
    scheduler: Scheduler = None,
    config: options.ConfigPath = None,
    json_path: options.JsonPath = None,
    overwrite: options.OverwriteJson = False,
) -> None:
    """Fit and evaluate every combination of files, sampled neurons, held-out conditions, settings and seeds.

    The command does not repeat finished cells, and writes the tables and figures at the end.

    nwbrnn sweep a.nwb b.nwb -o sweep --sampled 0,5,20,100% --seeds 5
    nwbrnn sweep a.nwb b.nwb c.nwb -o curve --sessions 1,2,3 --sampled 20
    """
    from nwbrnn.sweep import compare_with_fewest, list_failures, run_sweep, write_results

    job = options.load_config(config)
    given = {
        "sampled": _split(sampled), "pool": pool or None, "sessions": _split(sessions),
        "seeds": seeds, "held_out": held_out, "resamples": resamples,
        "vary": _split_values(options.parse_values(vary or [], "--vary")) or None,
    }  # fmt: skip
    grid = parse_settings(
        SweepConfig, {k: v for k, v in given.items() if v is not None}, source="command line"
    )
    fixed = options.parse_values(settings or [], "--set")
    fit_config = parse_settings(FitConfig, job.fit.model_dump() | fixed, source="command line")
    check_json(json_path, overwrite=overwrite)
    if job.read.follow_links:
        options.check_linked(files, output, json_path)
    with show_cells() as begin:
        try:
            table = run_sweep(
                files,
                output,
                grid,
                configs=(job.read, fit_config),
                scheduler=scheduler,
                progress=begin("Cells"),
            )
        except KeyboardInterrupt:
            say_interrupted(f"finished cells are in {output}; run the same command again to continue.")
            raise typer.Exit(130) from None
    statistics = write_results(table, output)
    failed = list_failures(table)
    rows = statistics.astype(object).where(statistics.notna(), None).to_dict(orient="records")
    write_json({"statistics": rows, "failed": failed}, json_path, overwrite=overwrite, after=output)
    print_statistics(statistics)
    print_gains(compare_with_fewest(table))
    print_failures(failed)
    say(f"Wrote {output}: table.nc, table.csv, statistics.csv and figures.")
    if failed:
        raise typer.Exit(1)


def print_statistics(statistics: "pd.DataFrame") -> None:
    """Print the main scores of each setting and their difference to the baseline."""
    from nwbrnn.evaluation import MAIN

    if statistics.empty:
        return  # no cell is done
    names = [n for n in ("source", "sampled") if n in statistics]
    own = [str(n) for n in statistics.columns[: list(statistics.columns).index("score")] if n not in names]
    rows = []
    for score in (*MAIN, "output skill, later than trained"):
        for _, row in statistics[statistics["score"] == score].iterrows():
            paired = row["sampled"] != "0" and row["seeds"] > 0
            rows.append(
                (
                    score,
                    ", ".join(str(row[n]) for n in (*names, *own)),
                    show_number(row["mean"]),
                    _describe_difference(row) if paired else "–",
                    f"{row['better']} of {row['seeds']}" if paired else "–",
                )
            )
    what = ", ".join((*names, *own))
    columns = ("score", what, "mean", "difference from outputs only (95 %)", "better seeds")
    print_table("Held-out data", columns, rows)
    if any(row[-1] != "–" for row in rows):
        say(
            "The difference from training on the outputs only is the mean over pairs of fits with the same "
            "seed, condition and settings. For unsampled neurons, each pair compares the same neurons, so it "
            "need not be the difference of the means. An interval needs two seeds or two conditions."
        )


def print_gains(gains: "pd.DataFrame") -> None:
    """Print what more sessions bring, if pools of several sizes are compared."""
    from nwbrnn.evaluation import MAIN

    if gains.empty:
        return
    fewest = gains["sessions"].iloc[0]
    others = [str(name) for name in gains.columns[: list(gains.columns).index("score")] if name != "source"]
    rows = [
        (
            score,
            ", ".join(str(row[name]) for name in others),
            show_number(row["baseline"]),
            show_number(row["mean"]),
            _describe_difference(row),
            f"{row['better']} of {row['seeds']}",
        )
        for score in MAIN
        for _, row in gains[(gains["score"] == score) & (gains["sessions"] != fewest)].iterrows()
        if math.isfinite(row["difference"])
    ]
    smallest = show_count(int(fewest), "session")
    columns = ("score", ", ".join(others), smallest, "more", "difference (95 %)", "better seeds")
    print_table(f"More sessions than {fewest}, on the same held-out trials", columns, rows)


def _describe_difference(row: "pd.Series[Any]") -> str:
    """Return a difference with its interval, if there are seeds or conditions enough for one."""
    difference, low, high = (float(row[name]) for name in ("difference", "low", "high"))
    if not math.isfinite(difference):
        return "–"
    return f"{difference:+.3f}" + (f" ({low:+.3f} to {high:+.3f})" if low <= high else "")


def print_failures(failed: list[dict[str, str]]) -> None:
    """Print the cells that failed."""
    if failed:
        title = "Cells that failed (run the same command to try them again)"
        columns = [name for name in failed[0] if name != "error"]
        print_table(title, (*columns, "why"), [tuple(one.values()) for one in failed])


@contextmanager
def show_cells() -> Iterator[Callable[[str], Callable[[int, int, int], None] | None]]:
    """Provide what begins a bar with finished and failed cells: on a terminal, nothing elsewhere."""
    if not shows_progress():
        yield lambda _: None
        return
    columns = BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(TextColumn("{task.description}"), *columns, console=stderr) as progress:

        def begin(name: str) -> Callable[[int, int, int], None]:
            task = progress.add_task(name, total=None)

            def report(done: int, failed: int, total: int) -> None:
                text = f"{name}, {failed} failed" if failed else name
                progress.update(task, completed=done + failed, total=total, description=text)

            return report

        yield begin


def _split(given: str | None) -> tuple[str, ...] | None:
    """Return the parts of a list with commas."""
    return None if given is None else tuple(part.strip() for part in given.split(","))


def _split_values(given: dict[str, Any]) -> dict[str, tuple[Any, ...]]:
    """Return the values of each setting; text with commas is a list."""
    return {
        name: tuple(options.parse_value(part, "--vary") for part in value.split(","))
        if isinstance(value, str)
        else (value,)
        for name, value in given.items()
    }
