"""``nwbrnn export``: a stored fit goes into another file, a copy of its source, or the source itself."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, get_args

import typer

from nwbrnn.cli import options
from nwbrnn.cli.access import Access
from nwbrnn.cli.output import say
from nwbrnn.errors import ConfigError

To = Annotated[
    str,
    typer.Option(
        "--to",
        help="new (a separate file), copy (a copy of the source, with the fit), in-place (the source), or "
        "lfads (the data of the fit as HDF5 for lfads-torch).",
        metavar="WHERE",
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", help="The file to write: .nwb, .zarr, or .h5 for lfads; not used in-place."
    ),
    Access.WRITE,
]
As = Annotated[str | None, typer.Option("--as", help="Name of the fit in the written file.", metavar="NAME")]


def export(
    file: options.Fit,
    to: To = "new",
    output: Output = None,
    source: options.SourceFiles = None,
    name: options.Name = None,
    as_name: As = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing file, or the fit of this name in it.")
    ] = False,
) -> None:
    """Write a stored fit to a new NWB file, to a copy of its source, or to the source; or its data for LFADS.

    nwbrnn export fit.nwb --to copy -o session_with_fit.nwb
    nwbrnn export fit.nwb --to in-place --as lambda1
    nwbrnn export fit.nwb --to lfads -o lfads.h5
    """
    if to == "lfads":
        unused = {"--source": ", ".join(source or ()) or None, "--as": as_name}
        _export_lfads(file, output, name, unused=unused, overwrite=overwrite)
        return
    from nwbrnn.formats.fit.decode import find_fit_sources, read_fit
    from nwbrnn.formats.fit.export import check_fit_output, write_fit

    _check_where(to, output)
    stored = read_fit(file, name)
    found = source or find_fit_sources(file, stored.recorded)
    wanted = {"to": to, "name": name if as_name is None else as_name, "overwrite": overwrite}
    check_fit_output(found, output, **wanted)  # type: ignore[arg-type]
    path = write_fit(stored, found, output, **wanted)  # type: ignore[arg-type]
    say(f"Wrote the fit into {path}.")


def _check_where(to: str, output: Path | None) -> None:
    """Refuse another destination than there are, and an output where none is used or none where one is."""
    from nwbrnn.formats.fit.export import To as Known

    known = (*get_args(Known), "lfads")
    if to not in known:
        raise ConfigError(f"--to: expected one of {', '.join(known)}, but got {to!r}")
    if to == "in-place" and output is not None:
        raise ConfigError(
            f"--output: expected no file with --to in-place, which writes into the source, but got {output}; "
            "leave it out"
        )
    if to != "in-place" and output is None:
        raise ConfigError(f"--output: expected a file with --to {to}, but got none; name one with -o")


def _export_lfads(
    file: str,
    output: Path | None,
    name: str | None,
    *,
    unused: Mapping[str, str | None],
    overwrite: bool,
) -> None:
    """Write the data of a stored fit for lfads-torch."""
    from nwbrnn.formats import write_lfads
    from nwbrnn.formats.fit.decode import read_fit
    from nwbrnn.formats.lfads import SUFFIXES
    from nwbrnn.storage.paths import check_apart, check_output

    given = [option for option, value in unused.items() if value is not None]
    if given:
        raise ConfigError(
            f"{given[0]}: expected no value with --to lfads, which does not use it; leave it out"
        )
    if output is None:
        raise ConfigError("--output: expected a file that ends in .h5 with --to lfads, but got none")
    check_apart([output], [file])
    check_output(output, overwrite=overwrite, suffix=SUFFIXES)
    write_lfads(read_fit(file, name).recorded, output, overwrite=overwrite)
    say(f"Wrote the data of the fit into {output}.")
