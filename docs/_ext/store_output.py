"""Store the output of the commands of the tutorial on public data, run on a recording that is at hand.

    python docs/_ext/store_output.py /path/to/recording.nwb

The documentation shows it where it is built without a network; its first line names the recording.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parent / "tutorial_dandi.md"
ADDRESS = re.compile(r"dandi://\S+")
NOTE = "[The archive was not used.\nThis is the output for {name}.]\n"


def list_cells() -> list[str]:
    """Return the commands of the page."""
    return re.findall(
        r"```\{code-cell\} ipython3\n%%bash\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL
    )


def run(cell: str, recording: Path, folder: Path) -> tuple[str, str]:
    """Return the name of a command, and what it prints for a recording."""
    local = ADDRESS.sub(recording.name, cell)
    done = subprocess.run(
        ["bash", "-c", f"exec 2>&1; {local}"], cwd=folder, stdout=subprocess.PIPE, text=True, check=True,
        env=os.environ | {"COLUMNS": "200"},
    )  # fmt: skip
    name = re.search(r"\bnwbrnn ([a-z]+)", cell)[1]
    lines = [
        *NOTE.format(name=recording.name).split("\n"),
        *(line.rstrip() for line in done.stdout.splitlines()),
    ]
    return name, "\n".join(lines).rstrip() + "\n"


def main() -> None:
    """Run all cells in a folder of their own."""
    recording = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / recording.name).symlink_to(recording)
        for cell in list_cells():
            name, text = run(cell, recording, Path(folder))
            target = HERE / "stored_output" / f"{name}.txt"
            target.parent.mkdir(exist_ok=True)
            target.write_text(text, encoding="utf-8")
            print(f"{name}: {len(text.splitlines())} lines")


if __name__ == "__main__":
    main()
