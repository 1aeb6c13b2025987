"""``nwbrnn convert``: somebody's own simulated run becomes NWB."""

from pathlib import Path
from typing import Annotated

import typer

from nwbrnn.cli import options
from nwbrnn.cli.access import Access
from nwbrnn.cli.output import say, step
from nwbrnn.text import show_count


def convert(
    run: Annotated[
        Path,
        typer.Argument(help="Arrays in an .npz file, or a Dataset in a .nc file.", metavar="RUN"),
        Access.READ,
    ],
    output: options.Output,
    overwrite: options.Overwrite = False,
) -> None:
    """Convert a simulated run (outputs, inputs, rates, bin_size, condition ...) to an ordinary NWB file.

    nwbrnn convert run.npz -o teacher.nwb
    """
    from nwbrnn.formats import write_teacher
    from nwbrnn.readers import read_run
    from nwbrnn.storage.paths import check_output

    check_output(output, overwrite=overwrite)
    with step(f"Reading {run}"):
        ds = read_run(run)
    with step(f"Writing {output}"):
        write_teacher(ds, output, overwrite=overwrite)
    sizes = ", ".join(show_count(ds.sizes[d], d) for d in ("trial", "unit", "output"))
    say(f"Wrote {output}: {sizes}.")
    if len(set(ds["condition"].values.tolist())) == 1:
        say(
            f"Warning: all trials count as one condition. If they differ, add an array 'condition' or "
            f"'direction' to {run}, with a value for each trial, and convert it again."
        )
