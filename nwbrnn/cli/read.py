"""``nwbrnn read``: an NWB file becomes aligned arrays, for those who go on with other tools."""

from pathlib import Path
from typing import Annotated

import typer

from nwbrnn.cli import options
from nwbrnn.cli.access import Access
from nwbrnn.cli.output import check_json, print_choices, say, step, write_json
from nwbrnn.text import show_count


@options.takes_reading
def read(
    file: options.File,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="The .nc file or .zarr folder to write.", show_default=False),
        Access.WRITE,
    ],
    read: options.Read = options.BY_RULE,
    config: options.ConfigPath = None,
    json_path: options.JsonPath = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Read an NWB file, align it by trial, and write the Dataset as NetCDF or Zarr.

    nwbrnn read session.nwb -o session.nc
    """
    import json

    from nwbrnn.formats import write_dataset
    from nwbrnn.formats.dataset import check_dataset_output
    from nwbrnn.readers import read_nwb

    check_dataset_output(output, overwrite=overwrite)
    check_json(json_path, overwrite=overwrite)
    settings = options.choose_reading(file, options.load_config(config).read, read, output, json_path)
    with step(f"Reading {file}"):
        ds = read_nwb(file, settings)
    with step(f"Writing {output}"):
        write_dataset(ds, output, overwrite=overwrite)
    choices = json.loads(ds.attrs["choices"])
    values = {"output": str(output), "sizes": dict(ds.sizes), "choices": choices}
    write_json(values, json_path, overwrite=overwrite, after=output)
    print_choices(choices)
    sizes = ", ".join(show_count(ds.sizes[d], d) for d in ("trial", "unit", "output", "input"))
    say(f"Wrote {output}: {sizes}, {show_count(ds.sizes['time'], 'bin')}.")
