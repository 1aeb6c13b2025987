"""``nwbrnn export``: a stored fit goes into another file, a copy of its source, or the source itself."""

from pathlib import Path
from typing import Annotated

import typer

from nwbrnn.cli import options
from nwbrnn.cli.access import Access
from nwbrnn.cli.output import say

To = Annotated[
    str,
    typer.Option(
        "--to", help="new: a file of its own; copy: all of the source and the fit; in-place.", metavar="WHERE"
    ),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="The file to make, .nwb or .zarr; none in-place."),
    Access.WRITE,
]
As = Annotated[str | None, typer.Option("--as", help="Name of the fit there.", metavar="NAME")]


def export(
    file: options.File,
    to: To = "new",
    output: Output = None,
    source: options.SourceFile = None,
    name: options.Name = None,
    as_name: As = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing file, or the fit of this name in it.")
    ] = False,
) -> None:
    """Write a stored fit into a new NWB file, a copy of the file that was fitted, or that file itself.

    nwbrnn export fit.nwb --to copy -o session_with_fit.nwb
    nwbrnn export fit.nwb --to in-place --as lambda1
    """
    from nwbrnn.formats import check_fit_output, find_fit_source, read_fit, write_fit

    stored = read_fit(file, name)
    found = source or find_fit_source(file, stored.recorded)
    wanted = {"to": to, "name": as_name or name, "overwrite": overwrite}
    check_fit_output(found, output, **wanted)  # type: ignore[arg-type]
    path = write_fit(stored, found, output, **wanted)  # type: ignore[arg-type]
    say(f"Wrote the fit into {path}.")
