"""What executed pages do before their first cell: example data at hand, plain output of commands."""

import os
import subprocess
from pathlib import Path

import xarray as xr
from IPython.core.magic import register_cell_magic

Path("example_data").symlink_to(os.environ["NWBRNN_EXAMPLE_DATA"])
os.environ.update(FORCE_COLOR="", CLICOLOR_FORCE="")  # commands print as into a file
xr.set_options(display_expand_attrs=False)


@register_cell_magic
def bash(_line: str, cell: str) -> None:
    """Run commands as IPython's own magic does, but print what they say in one piece."""
    command = ["bash", "-eo", "pipefail", "-c", f"exec 2>&1; {cell}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    print("\n".join(line.rstrip() for line in done.stdout.splitlines()))
    done.check_returncode()
