"""Decide which paths may be written, by comparing the outputs of a job with everything that it reads."""

import hashlib
import os
import re
import secrets
import socket
import sys
import unicodedata
from collections.abc import Hashable, Iterable, Iterator
from pathlib import Path

from nwbrnn.errors import ExportError, OutputExistsError, UnsupportedFileError
from nwbrnn.storage.names import find_fault, is_special, is_store
from nwbrnn.storage.source import Source, is_address

# the system is part of the name: if systems do not share locks, each removes only its own leftovers
_SYSTEM = hashlib.sha256(f"{sys.platform} {socket.gethostname()}".encode()).hexdigest()[:6]
_TEMPORARY = f".nwbrnn-{_SYSTEM}-"
_LEFTOVER = re.compile(re.escape(_TEMPORARY) + r"[0-9a-f]{12}\.(tmp(\.\w+)?|lock)")


def check_apart(writes: Iterable[Path], reads: Iterable[str | Path | Source] = ()) -> None:
    """Refuse an output that is, contains or is inside an input, or that is the same as another output.

    Files are compared by their identity in the file system. Symbolic links, hard links and, if the file
    system ignores case, names that differ only in case are therefore recognized. An input folder may contain
    an output unless it is a Zarr store.

    Parameters
    ----------
    writes
        Every path that the job creates, replaces or removes, including those derived from another name.
    reads
        Everything that the job reads; addresses on servers are skipped.

    Raises
    ------
    ExportError
        If two of them overlap, if the name of an output cannot be used, or if an input has the name of a
        temporary file, which nwbrnn removes when it finds one.

    Examples
    --------
    >>> check_apart([Path("fit.nwb")], ["session.nwb"])
    """
    known: dict[Hashable, Path] = {}
    above: dict[Hashable, Path] = {}
    for read in _list_local(reads):
        if is_temporary(read):
            raise ExportError(f"{read}: this is the name of a temporary file of nwbrnn; rename it to read it")
        known.setdefault(_identify(read), read)
        for parent in _list_parents(read):
            above.setdefault(_identify(parent), read)
    written: dict[Hashable, Path] = {}
    for path in writes:
        check_name(path)
        name = _identify(path)
        if name in known:
            _refuse(path, "is one of them", known[name])
        if name in above:
            _refuse(path, "contains one of them", above[name])
        for folder in map(_identify, _list_parents(path)):
            if folder in known and is_store(known[folder]):
                _refuse(path, "is inside one of them", known[folder])
        if name in written:
            raise ExportError(
                f"{path}: expected outputs of different names, but {written[name]} is the same file; "
                "choose another output"
            )
        written[name] = path


def check_output(
    path: Path,
    *,
    overwrite: bool,
    suffix: str | tuple[str, ...] = ".nwb",
    folder: bool = False,
) -> None:
    """Refuse an output that cannot or must not be written; call this before any long work.

    Parameters
    ----------
    path
        The file to write.
    overwrite
        Whether it may replace an existing file.
    suffix
        Allowed endings of its name.
    folder
        Whether the output is a folder, as Zarr is; an existing folder is replaced only if it is Zarr.

    Raises
    ------
    OutputExistsError
        If the file exists and ``overwrite`` is false.
    ExportError
        If the name has another ending, or is that of a folder, a device or a pipe, or if its folder does not
        exist or cannot be written to.
    """
    check_name(path)
    if not path.name.endswith(suffix):
        endings = suffix if isinstance(suffix, str) else " or ".join(suffix)
        raise ExportError(f"{path}: expected a name that ends in {endings}; rename the output")
    _resolve(path)
    if path.is_dir() and not (folder and is_store(path)):
        raise ExportError(f"{path}: expected the name of a file, but it is a folder; add a file name")
    if is_special(path):
        raise ExportError(
            f"{path}: expected the name of a file, but it is a device, a pipe or a socket; "
            "choose another output"
        )
    if not path.parent.is_dir():
        raise ExportError(f"{path}: expected an existing folder, but there is no {path.parent}; create it")
    if not os.access(path.parent, os.W_OK):
        raise ExportError(
            f"{path}: expected a writable folder, but {path.parent} is not writable; choose another"
        )
    if os.path.lexists(path) and not overwrite:
        raise OutputExistsError(
            f"{path}: expected a new file, but it already exists; "
            "use overwrite=True (--overwrite) to replace it"
        )


def check_names(reads: Iterable[str | Path | Source]) -> None:
    """Refuse inputs with names that no system accepts, or that cannot be stored as text."""
    for fault in map(find_fault, _list_local(reads)):
        if fault:
            raise UnsupportedFileError(fault)


def check_name(path: Path) -> None:
    """Refuse an output with a name that no system accepts, or that cannot be stored as text."""
    fault = find_fault(path)
    if fault:
        raise ExportError(fault)


def name_beside(path: Path, name: str) -> Path:
    """Return a path with another name in the same folder; refuse ``.`` and ``/``, which have no name."""
    if not path.name:
        raise ExportError(f"{path}: expected the name of a file, but it is a folder; add a file name")
    return path.with_name(name)


def create_temporary_name(path: Path, *, suffix: str) -> Path:
    """Return a new name next to a path; the next writer removes what a killed one leaves under it.

    A file whose name ends in ``.old`` is never removed, since it is an earlier version of a file.
    """
    ending = suffix if suffix == ".old" else f".tmp{suffix}"
    return name_beside(path, f"{_TEMPORARY}{secrets.token_hex(6)}{ending}")


def is_temporary(path: Path) -> bool:
    """Return whether a path has the name of a temporary file from a writer on this machine."""
    return _LEFTOVER.fullmatch(path.name) is not None


def is_ours(path: Path) -> bool:
    """Return whether a path has a name such as nwbrnn gives to temporary files and locks."""
    return path.name.startswith(".nwbrnn")


def _refuse(path: Path, relation: str, read: Path) -> None:
    raise ExportError(
        f"{path}: expected an output separate from all inputs, but it {relation}, {read}; "
        "choose another output"
    )


def _list_local(reads: Iterable[str | Path | Source]) -> Iterator[Path]:
    """Yield the local inputs; opening them later refuses links that lead nowhere."""
    for read in reads:
        text = read.url if isinstance(read, Source) else str(read)
        if not is_address(text) and (os.path.exists(text) or not os.path.islink(text)):  # noqa: PTH110, PTH114
            yield Path(text)


def _list_parents(path: Path) -> set[Path]:
    """Return the folders that contain a path, both as written and with links resolved."""
    return {*_resolve(path).parents, *Path(os.path.abspath(path)).parents}  # noqa: PTH100


def _identify(path: Path) -> Hashable:
    """Return a key that identifies a file, or its name if the file does not exist yet.

    Names that differ only in case or in the form of accented letters count as equal, as they do on some
    file systems.
    """
    try:
        status = path.stat()
    except (OSError, ValueError):
        return unicodedata.normalize("NFC", str(_resolve(path))).casefold()
    return status.st_dev, status.st_ino


def _resolve(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a cycle of links, or a zero byte
        raise ExportError(f"{str(path)!r}: expected a path, but {error}; choose another output") from error
