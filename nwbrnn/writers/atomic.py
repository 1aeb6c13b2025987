"""How a file comes to be: whole, valid and under its name, or not at all."""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pynwb
from pynwb import NWBHDF5IO, NWBFile

from nwbrnn.errors import ExportError, OutputExistsError


def check_output(
    path: Path,
    *,
    overwrite: bool,
    suffix: str = ".nwb",
    others: Sequence[Path] = (),
    folder: bool = False,
) -> None:
    """Refuse an output that cannot or must not be written; call it before any long work.

    Parameters
    ----------
    path
        The file to make.
    overwrite
        Whether it may replace an existing file.
    suffix
        How its name has to end.
    others
        Files of the same job that it must not be, even to overwrite.
    folder
        Whether the output is a folder, as Zarr is; an existing one has to be Zarr to be replaced.

    Raises
    ------
    OutputExistsError
        If there is a file and ``overwrite`` is false.
    ExportError
        If the name ends otherwise, is that of a folder or of one of the other files, or its folder does not
        exist or cannot be written to.
    """
    if not path.name.endswith(suffix):
        raise ExportError(f"{path}: expected a name that ends in {suffix}; rename the output")
    for other in others:
        same = path.exists() and other.exists() and path.samefile(other)
        if same or path.resolve() == other.resolve():
            raise ExportError(f"{path}: expected another file than {other}; choose another output")
    if path.is_dir() and not (folder and is_zarr(path)):
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


@contextlib.contextmanager
def replace_whole(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Provide a temporary name beside ``path``; what was written under it becomes ``path`` at the end.

    If anything fails, ``path`` is as it was and nothing is left under the temporary name.

    Raises
    ------
    OutputExistsError
        If there is a file by then and ``overwrite`` is false.
    ExportError
        If it cannot be written.
    """
    token = secrets.token_hex(4)
    temporary, old = path.with_name(f".{token}.{path.name}"), path.with_name(f".{token}.old.{path.name}")
    try:
        yield temporary
        _synchronise(temporary)
        # somebody may have been faster
        check_output(path, overwrite=overwrite, suffix="", folder=temporary.is_dir())
        if path.is_dir():  # a folder cannot be replaced in one step
            path.replace(old)
        temporary.replace(path)
        _synchronise(path.parent)
    except OutputExistsError:  # an OSError too, by its second base
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise ExportError(f"{path}: cannot be written: {reason}; nothing was changed") from error
    finally:
        if old.is_dir() and not path.exists():
            old.replace(path)
        shutil.rmtree(old, ignore_errors=True)
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


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
    with replace_whole(path, overwrite=overwrite) as temporary:
        with NWBHDF5IO(str(temporary), "w") as io:
            io.write(nwbfile)
        problems = pynwb.validate(path=str(temporary))
        if problems:
            raise ExportError(f"{path}: the file would not be valid NWB: {problems[0]}; please report this")


def is_zarr(path: Path) -> bool:
    """Return whether a folder is a Zarr store."""
    return any((path / name).exists() for name in (".zgroup", ".zmetadata", "zarr.json"))


def _synchronise(path: Path) -> None:
    """Have the system bring a file or a folder's entries to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
