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
        "--to",
        help="new (a separate file), copy (a copy of the source, with the fit), or in-place (the source).",
        metavar="WHERE",
    ),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="The file to write, .nwb or .zarr; not used in-place."),
    Access.WRITE,
]
As = Annotated[str | None, typer.Option("--as", help="Name of the fit in the written file.", metavar="NAME")]


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
    """Write a stored fit to a new NWB file, to a copy of the file that was fitted, or to that file itself.

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
