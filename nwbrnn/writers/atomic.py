"""How a file comes to be: whole, valid and under its name, or not at all."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pynwb
from pynwb import NWBHDF5IO, NWBFile

from nwbrnn.errors import ExportError, OutputExistsError


def check_output(path: Path, *, overwrite: bool) -> None:
    """Refuse an output that exists already, or whose folder does not; call it before any long work.

    Raises
    ------
    OutputExistsError
        If there is a file and ``overwrite`` is false.
    ExportError
        If the name does not end in .nwb, is that of a folder, or its folder does not exist or cannot be
        written to.
    """
    if path.suffix != ".nwb":
        raise ExportError(f"{path}: expected a name that ends in .nwb; rename the output")
    if path.is_dir():
        raise ExportError(f"{path}: expected the name of a file, but it is a folder; add a file name")
    if not path.parent.is_dir():
        raise ExportError(f"{path}: expected an existing folder, but there is no {path.parent}; create it")
    if not os.access(path.parent, os.W_OK):
        raise ExportError(f"{path}: expected a folder that can be written to, but {path.parent} cannot")
    if path.exists() and not overwrite:
        raise OutputExistsError(
            f"{path}: expected no such file yet, but it exists; "
            "use overwrite=True (--overwrite) to replace it"
        )


def write_nwbfile(nwbfile: NWBFile, path: Path, *, overwrite: bool) -> None:
    """Write an NWB file under a temporary name, validate it, and only then give it its name.

    Raises
    ------
    OutputExistsError
        If there is a file and ``overwrite`` is false.
    ExportError
        If it cannot be written, or is not valid.
    """
    check_output(path, overwrite=overwrite)
    with _temporary_name(path) as temporary:
        try:
            with NWBHDF5IO(str(temporary), "w") as io:
                io.write(nwbfile)
            problems = pynwb.validate(path=str(temporary))
            if problems:
                raise ExportError(
                    f"{path}: the file would not be valid NWB: {problems[0]}; please report this"
                )
            _synchronise(temporary)
            check_output(path, overwrite=overwrite)  # somebody may have been faster
            temporary.replace(path)
            _synchronise(path.parent)
        except OSError as error:
            reason = error.strerror or str(error)
            raise ExportError(f"{path}: cannot be written: {reason}; nothing was changed") from error


@contextlib.contextmanager
def _temporary_name(path: Path) -> Iterator[Path]:
    """Provide an unused name beside ``path``; whatever has it afterwards is removed."""
    temporary = path.with_name(f".{secrets.token_hex(4)}.{path.name}")
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _synchronise(path: Path) -> None:
    """Have the system bring a file or a folder's entries to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
