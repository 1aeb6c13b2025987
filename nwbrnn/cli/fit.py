"""``nwbrnn fit``: the main job."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from nwbrnn.cli import options
from nwbrnn.cli.access import Access, list_paths
from nwbrnn.cli.output import (
    check_json,
    print_choices,
    print_scores,
    print_table,
    say,
    say_interrupted,
    shows_progress,
    stderr,
    step,
    write_json,
)
from nwbrnn.config import FitConfig
from nwbrnn.config.check import change_settings
from nwbrnn.errors import OutputExistsError
from nwbrnn.progress import describe_losses
from nwbrnn.text import show_count

if TYPE_CHECKING:
    import xarray as xr

    from nwbrnn.config import ReadConfig
    from nwbrnn.result import FitResult
    from nwbrnn.storage import Source

Sampled = Annotated[
    str | None,
    typer.Option(help="Neurons to sample: 20, 0.25, 25% or all. Default: 0.25.", metavar="NUMBER|%|all"),
]
DynamicsWeight = Annotated[
    str | None,
    typer.Option(
        help="Weight of the dynamics loss; 0 trains on the outputs only, cv tries several weights. "
        "Default: 1.",
        metavar="NUMBER|cv",
    ),
]
Method = Annotated[
    str | None,
    typer.Option(
        help="least_squares, gradient, or auto (one after the other). Default: auto.", metavar="METHOD"
    ),
]
Observe = Annotated[
    str | None,
    typer.Option(
        help="Neurons whose spikes correct the network in each single trial: none, sampled, all or unit ids. "
        "Default: none.",
        metavar="WHICH",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any setting of a fit, such as tau=0.05; repeatable.", metavar="NAME=VALUE"),
]
StartFrom = Annotated[
    str | None,
    typer.Option(
        "--start-from", help="File with an earlier fit, at whose weights training begins.", metavar="FILE"
    ),
    Access.READ,
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue a fit that was interrupted or killed.")]


@options.takes_reading
def fit(
    files: options.Files,
    output: options.Output,
    sampled: Sampled = None,
    dynamics_weight: DynamicsWeight = None,
    hidden: Annotated[int | None, typer.Option(help="Number of hidden units. Default: 200.")] = None,
    method: Method = None,
    observe: Observe = None,
    epochs: Annotated[
        int | None, typer.Option(help="Maximum number of training steps. Default: 600.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Number of networks to train in parallel and to rank. Default: 1.")
    ] = None,
    settings: Set = None,
    start_from: StartFrom = None,
    resume: Resume = False,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the split, the sampled neurons and the weights. Default: 0.")
    ] = None,
    held_out: Annotated[
        list[str] | None,
        typer.Option(
            "--held-out-condition",
            help="Condition to hold out instead of trials; repeatable.",
            metavar="NAME",
        ),
    ] = None,
    read: options.Read = options.BY_RULE,
    config: options.ConfigPath = None,
    json_path: options.JsonPath = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Fit a recurrent network to an NWB file; write it, its predictions and its scores to a new NWB file.

    Several files are sessions of one task, each with neurons of its own, and get one network together.

    nwbrnn fit session.nwb -o fit.nwb --sampled 20
    nwbrnn fit monday.nwb tuesday.nwb -o pooled.nwb --sampled 20
    """
    from nwbrnn.formats.fit.export import check_fit_output, write_fit
    from nwbrnn.job import fit as fit_dataset
    from nwbrnn.job import list_checkpoints
    from nwbrnn.storage import find_source, keep_open
    from nwbrnn.storage.paths import check_apart, name_beside
    from nwbrnn.training import remove_checkpoint

    job = options.load_config(config)
    training = {
        "sampled": sampled, "dynamics_weight": dynamics_weight, "hidden": hidden, "method": method,
        "observe": observe, "epochs": epochs, "seeds": seeds, "seed": seed, "start_from": start_from,
        "held_out_conditions": held_out and tuple(held_out),
    }  # fmt: skip
    fit_config = _merge_fit(job.fit, settings, training)
    checkpoint = name_beside(output, f"{output.name}.checkpoint")
    checkpoints = list_checkpoints(checkpoint, fit_config)
    check_apart(
        [*checkpoints, output, *list_paths(json_path)], [*files, *list_paths(config, fit_config.start_from)]
    )
    overwrite = _check_checkpoints(checkpoints, resume=resume, overwrite=overwrite)
    sources = [find_source(file) for file in files]
    check_fit_output(sources, output, overwrite=overwrite)
    check_json(json_path, overwrite=overwrite)
    read_config = options.choose_reading(files, job.read, read, output, checkpoints, json_path)
    quiet = str(json_path) == "-"
    with ExitStack() as kept:
        with step(f"Reading {', '.join(files)}"):
            if len(sources) == 1:
                kept.enter_context(keep_open(sources[0], follow_links=read_config.follow_links))
            ds = _read(sources, read_config)
        ds.attrs["command"] = options.describe_command()
        choices = json.loads(ds.attrs["choices"])
        if not quiet:
            _print_read(ds, choices)
        with step("Fitting", spin=False), _show_progress(fit_config) as report:
            result = fit_dataset(ds, fit_config, progress=report, checkpoint=checkpoint, resume=resume)
        del ds  # of a pool, it is large
        with step(f"Writing {output}"):
            write_fit(result, sources, output, overwrite=overwrite)
    described = _describe(result)
    write_json(described, json_path, overwrite=overwrite, after=output)
    interrupted = _was_interrupted(result, fit_config)
    if not interrupted:
        for path in checkpoints:
            remove_checkpoint(path)
    if not quiet:
        _print_result(result, described["choices"][len(choices) :], described["scores"], output)
    if interrupted:
        say_interrupted(f"{output} holds the best network so far; continue with --resume.")
        raise typer.Exit(130)


def _read(sources: Sequence["Source"], config: "ReadConfig") -> "xr.Dataset":
    """Read a file, or several to pool."""
    from nwbrnn.readers import read_nwb, read_sessions

    return read_nwb(sources[0], config) if len(sources) == 1 else read_sessions(sources, config)


def _merge_fit(config: FitConfig, settings: Sequence[str] | None, training: dict[str, Any]) -> FitConfig:
    """Return settings of a fit with those that were given on the command line."""
    given = options.parse_values(list(settings or []), "--set")
    given |= {name: value for name, value in training.items() if value is not None}
    return change_settings(config, given, source="command line")


def _describe(result: "FitResult") -> dict[str, Any]:
    """Return what ``--json`` writes: scores, settings, and the choices of reading and of preparation."""
    recorded = result.recorded
    choices = json.loads(recorded.attrs["choices"])
    return {
        "scores": result.scores.to_dict(recorded), "choices": choices, "config": result.config.model_dump()
    }  # fmt: skip


def _was_interrupted(result: "FitResult", config: FitConfig) -> bool:
    """Return whether networks are missing or were not trained to their end."""
    return len(result.runs) < config.seeds or any(run.ended == "interrupted" for run in result.runs)


def _print_read(ds: "xr.Dataset", choices: Sequence[dict[str, Any]]) -> None:
    """Print what was picked, and how much was read."""
    print_choices(choices)
    sizes = ", ".join(show_count(ds.sizes[d], d) for d in ("trial", "unit", "output", "input"))
    bins = f"{show_count(ds.sizes['time'], 'bin')} of {ds.attrs['bin_size']:g} s"
    say(f"Read {ds.attrs['source_file']}: {sizes}, {bins}.")


def _check_checkpoints(paths: Sequence[Path], *, resume: bool, overwrite: bool) -> bool:
    """Refuse to lose an unfinished fit; return whether the output may be replaced."""
    present = [path for path in paths if path.exists()]
    if present and not (resume or overwrite):
        raise OutputExistsError(
            f"{present[0]}: expected no unfinished fit, but there is one; "
            "continue it with --resume, or start again with --overwrite"
        )
    return overwrite or (resume and bool(present))  # what an interrupt wrote may be replaced


def _print_result(
    result: "FitResult", left_out: Sequence[dict[str, str]], scores: dict[str, Any], output: Path
) -> None:
    """Print what preparation left out, the scores of the best network, and how the networks differ."""
    for note in left_out:
        say(f"{note['role'].capitalize()}: {note['picked']}, {note['reason']}.")
    fitted = result.recorded
    trials, units = (show_count(fitted.sizes[d], d) for d in ("trial", "unit"))
    say(f"The fit used {trials} and {units}.")
    print_scores(scores)
    _print_runs(result)
    _print_end(result, output)


def _print_runs(result: "FitResult") -> None:
    """Print how the networks differ, if there are several."""
    if len(result.runs) == 1:
        return
    names = ("output R2", "sampled neurons R2", "unsampled neurons R2")
    values = [[run.scores.get(name).value for name in names] for run in result.runs]
    rows = [
        (str(run.seed), f"{run.loss:.4f}", *(f"{value:.3f}" for value in row))
        for run, row in zip(result.runs, values, strict=True)
    ]
    spread = [f"{mean(column):.3f} ± {stdev(column):.3f}" for column in zip(*values, strict=True)]
    losses = [run.loss for run in result.runs]
    rows.append(("mean ± SD", f"{mean(losses):.4f} ± {stdev(losses):.4f}", *spread))
    print_table("Networks, best first", ("seed", "loss", *names), rows)


def _print_end(result: "FitResult", output: Path) -> None:
    """Print where the result is, and what is to be known of it."""
    best = result.best
    if "cross_validation" in result.recorded.attrs:
        config = result.config
        say(
            f"Cross-validation selected the dynamics weight {config.dynamics_weight:g}, the weight penalty "
            f"{config.weight_penalty:g} and {show_count(config.stop_after or 0, 'epoch')}."
        )
    if best.warning:
        say(best.warning)
    n_epochs = len(best.history["train_output"])
    score = best.scores.get("output R2").value
    steps = show_count(n_epochs, "pass or epoch", "passes and epochs")
    text = f"Wrote {output} after {steps}. The output R2 on held-out trials is {score:.3f}."
    if score < 0:
        text += (
            " This is worse than predicting the mean of the outputs. Look at what was picked above, at what "
            "nwbrnn doctor says about the file, and at the page that nwbrnn report writes."
        )
    say(text)


@contextmanager
def _show_progress(config: FitConfig) -> Iterator[Callable[[int, dict[str, float]], None] | None]:
    """Show a bar with losses on training and validation trials on a terminal, nothing elsewhere."""
    if not shows_progress():
        yield None
        return
    counted, total = config.counted
    several = counted == "network"
    columns = BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn()
    with Progress("Networks" if several else "Fitting", *columns, console=stderr) as progress:
        task = progress.add_task("", total=total)

        def report(number: int, losses: dict[str, float]) -> None:
            shown = describe_losses(losses)
            progress.update(task, completed=number if several else number + 1, description=shown)

        yield report
