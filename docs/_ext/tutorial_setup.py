"""What executed pages do before their first cell: example data at hand, plain output of commands."""

import os
import re
import subprocess
from pathlib import Path

import xarray as xr
from IPython.core.magic import register_cell_magic

STORED = Path(__file__).with_name("stored_output")
ONLINE = "NWBRNN_DOCS_ONLINE"
"""Set this variable to run the commands of pages that read from the DANDI archive."""

Path("example_data").symlink_to(os.environ["NWBRNN_EXAMPLE_DATA"])
xr.set_options(display_expand_attrs=False)


@register_cell_magic
def bash(_line: str, cell: str) -> None:
    """Run commands as IPython's own magic does, but print what they say in one piece."""
    command = ["bash", "-eo", "pipefail", "-c", f"exec 2>&1; {cell}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    print("\n".join(line.rstrip() for line in done.stdout.splitlines()))
    done.check_returncode()


def use_archive() -> None:
    """Show stored output of the commands of this page, unless the build may use the network."""
    if os.environ.get(ONLINE):
        return

    def show_stored(_line: str, cell: str) -> None:
        name = re.search(r"\bnwbrnn ([a-z]+)", cell)[1]
        print((STORED / f"{name}.txt").read_text(encoding="utf-8").rstrip())

    register_cell_magic("bash")(show_stored)
