"""``nwbrnn fit``: the main job."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from nwbrnn.cli import options
from nwbrnn.cli.output import check_json, console, print_choices, print_scores, write_json
from nwbrnn.config import FitConfig, parse_settings

Sampled = Annotated[float | None, typer.Option(help="Sampled neurons: 20, or a fraction such as 0.25.")]
DynamicsWeight = Annotated[
    float | None, typer.Option(help="Weight of the dynamics loss; 0 trains on the outputs only.")
]


def fit(
    file: options.File,
    output: options.Output,
    sampled: Sampled = None,
    dynamics_weight: DynamicsWeight = None,
    hidden: Annotated[int | None, typer.Option(help="Hidden units.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Training steps at most.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of split, sampled neurons and weights.")] = None,
    held_out: Annotated[
        list[str] | None, typer.Option(help="Condition to hold out instead of trials; repeatable.")
    ] = None,
    mapping: options.Map = None,
    outputs: options.Outputs = None,
    channels: options.Channels = None,
    inputs: options.Inputs = None,
    rates: options.Rates = None,
    units: options.Units = None,
    align_to: options.AlignTo = None,
    window: options.Window = None,
    whole_trials: options.WholeTrials = False,
    bin_size: options.BinSize = None,
    condition: options.Condition = None,
    where: options.Where = None,
    smoothing: options.Smoothing = None,
    emg: options.Emg = None,
    stamps: options.Stamps = None,
    nan: options.Nan = None,
    follow_links: options.FollowLinks = False,
    config: options.ConfigPath = None,
    json_path: options.JsonPath = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Fit a recurrent network to an NWB file, and write it with its predictions and scores to a new one.

    [dim]nwbrnn fit session.nwb -o fit.nwb --sampled 20[/dim]
    """
    from nwbrnn.job import fit as fit_dataset
    from nwbrnn.readers import read_nwb
    from nwbrnn.writers import write_fit
    from nwbrnn.writers.atomic import check_output

    check_output(output, overwrite=overwrite, others=[Path(file)])
    check_json(json_path, overwrite=overwrite, others=[Path(file), output])
    job = options.load_config(config)
    read = {
        "map": mapping, "outputs": outputs, "channels": channels, "inputs": inputs, "rates": rates,
        "units": units, "align_to": align_to, "window": window, "whole_trials": whole_trials,
        "bin_size": bin_size, "condition": condition, "where": where, "smoothing": smoothing, "emg": emg,
        "stamps": stamps, "nan": nan, "follow_links": follow_links,
    }  # fmt: skip
    training = {
        "sampled": sampled, "dynamics_weight": dynamics_weight, "hidden": hidden, "epochs": epochs,
        "seed": seed, "held_out_conditions": held_out and tuple(held_out),
    }  # fmt: skip
    given = {name: value for name, value in training.items() if value is not None}
    fit_config = parse_settings(FitConfig, job.fit.model_dump() | given, source="command line")
    ds = read_nwb(file, options.merge_read(job.read, read))
    choices = json.loads(ds.attrs["choices"])
    quiet = str(json_path) == "-"
    if not quiet:
        print_choices(choices)
        sizes = ", ".join(f"{ds.sizes[d]} {d}s" for d in ("trial", "unit", "output", "input"))
        console.print(
            f"{ds.attrs['source_file']}: {sizes}, {ds.sizes['time']} bins of {ds.attrs['bin_size']:g} s",
            markup=False,
        )
    with _show_progress(fit_config.epochs) as report:
        result = fit_dataset(ds, fit_config, progress=report)
    write_fit(result, file, output, overwrite=overwrite)
    scores = result.scores.to_dict(result.recorded)
    n_epochs = len(result.history["train_output"])
    write_json(
        {"scores": scores, "choices": choices, "config": fit_config.model_dump()},
        json_path,
        overwrite=overwrite,
    )
    if not quiet:
        print_scores(scores)
        best = result.scores.get("output R2")
        text = f"Wrote {output} after {n_epochs} epochs: output R2 {best.value:.3f} on held-out trials."
        console.print(text, markup=False)


@contextmanager
def _show_progress(n_epochs: int) -> Iterator[Callable[[int, dict[str, float]], None] | None]:
    """Show a bar with both losses on a terminal, nothing elsewhere."""
    if not console.is_terminal:
        yield None
        return
    text = TextColumn("output {task.fields[output]:.4f}  dynamics {task.fields[dynamics]:.4f}")
    with Progress("Fitting", BarColumn(), text, TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task("fit", total=n_epochs, output=float("nan"), dynamics=float("nan"))

        def report(epoch: int, losses: dict[str, float]) -> None:
            progress.update(
                task,
                completed=epoch + 1,
                output=losses["train_output"],
                dynamics=losses.get("train_dynamics", float("nan")),
            )

        yield report
