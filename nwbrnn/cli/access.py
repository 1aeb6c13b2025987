"""What a command does with the paths that it is given: outputs are kept apart from inputs."""

from enum import Enum
from pathlib import Path
from typing import Any


class Access(Enum):
    """Whether a command reads or writes a path; an option says so beside its type."""

    READ = "read"
    WRITE = "write"


def list_paths(*values: Any) -> list[Path]:
    """Return the paths among the values of options; ``-`` is standard output and not a path.

    An option that takes several paths has a list of them.
    """
    flat = [one for value in values for one in (value if isinstance(value, list | tuple) else [value])]
    return [Path(one) for one in flat if one is not None and str(one) != "-"]
