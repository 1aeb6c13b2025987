"""Which paths may be written: the one place that compares what a job writes with everything that it reads."""

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
from nwbrnn.storage.names import find_fault, is_special
from nwbrnn.storage.source import Source, is_address

# with the system: where locks are not shared between systems, each removes its own leftovers only
_SYSTEM = hashlib.sha256(f"{sys.platform} {socket.gethostname()}".encode()).hexdigest()[:6]
_TEMPORARY = f".nwbrnn-{_SYSTEM}-"
_LEFTOVER = re.compile(re.escape(_TEMPORARY) + r"[0-9a-f]{12}\.(tmp(\.\w+)?|lock)")
_STORE_FILES = (".zgroup", ".zattrs", ".zmetadata", ".zarray", "zarr.json")


def check_apart(writes: Iterable[Path], reads: Iterable[str | Path | Source] = ()) -> None:
    """Refuse an output that is, contains or lies in something that is read, or is another output.

    Files are compared as the file system knows them, so that symbolic links, hard links, and names that
    differ only in case where the file system ignores it make no difference. A folder that is read may hold
    an output unless it is a Zarr store.

    Parameters
    ----------
    writes
        Every path that the job makes, replaces or removes; those derived from another name, too.
    reads
        Everything that the job reads; addresses on servers are skipped.

    Raises
    ------
    ExportError
        If two of them overlap, an output has a name that cannot be used, or an input that of a temporary
        file, which is removed when it is found.

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
            _refuse(path, "is one of these files", known[name])
        if name in above:
            _refuse(path, "contains one of them", above[name])
        for folder in map(_identify, _list_parents(path)):
            if folder in known and is_store(known[folder]):
                _refuse(path, "lies in one of them", known[folder])
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
    """Refuse an output that cannot or must not be written; call it before any long work.

    Parameters
    ----------
    path
        The file to make.
    overwrite
        Whether it may replace an existing file.
    suffix
        How its name has to end; one of these.
    folder
        Whether the output is a folder, as Zarr is; an existing one has to be Zarr to be replaced.

    Raises
    ------
    OutputExistsError
        If there is a file and ``overwrite`` is false.
    ExportError
        If the name ends otherwise, is that of a folder, a device or a pipe, or its folder does not exist or
        cannot be written to.
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
            f"{path}: expected a folder that can be written to, but {path.parent} cannot; choose another"
        )
    if os.path.lexists(path) and not overwrite:
        raise OutputExistsError(
            f"{path}: expected no such file yet, but it exists; "
            "use overwrite=True (--overwrite) to replace it"
        )


def check_names(reads: Iterable[str | Path | Source]) -> None:
    """Refuse inputs with names that no system takes, or that cannot be told about.

    Raises
    ------
    UnsupportedFileError
        If one is too long, or not UTF-8.
    """
    for fault in map(find_fault, _list_local(reads)):
        if fault:
            raise UnsupportedFileError(fault)


def check_name(path: Path) -> None:
    """Refuse an output with a name that no system takes, or that cannot be told about.

    Raises
    ------
    ExportError
        If it is too long, or not UTF-8.
    """
    fault = find_fault(path)
    if fault:
        raise ExportError(fault)


def create_temporary_name(path: Path, *, suffix: str) -> Path:
    """Return a new name beside a path; what a killed writer leaves under one is removed by the next writer.

    A name that ends in ``.old`` is never removed: it is what a file was called before.
    """
    ending = suffix if suffix == ".old" else f".tmp{suffix}"
    return path.with_name(f"{_TEMPORARY}{secrets.token_hex(6)}{ending}")


def is_temporary(path: Path) -> bool:
    """Return whether a path has the name of a temporary file that a writer on this machine made."""
    return _LEFTOVER.fullmatch(path.name) is not None


def is_ours(path: Path) -> bool:
    """Return whether a path has a name of the kind that nwbrnn gives to temporary files and locks."""
    return path.name.startswith(".nwbrnn")


def is_store(path: Path) -> bool:
    """Return whether a folder is a Zarr store."""
    return any((path / name).exists() for name in _STORE_FILES)


def _refuse(path: Path, relation: str, read: Path) -> None:
    raise ExportError(
        f"{path}: expected an output apart from everything that is read, but it {relation}, {read}; "
        "choose another output"
    )


def _list_local(reads: Iterable[str | Path | Source]) -> Iterator[Path]:
    """Yield what is read from this machine; links that lead nowhere are refused where they are opened."""
    for read in reads:
        text = read.url if isinstance(read, Source) else str(read)
        if not is_address(text) and (os.path.exists(text) or not os.path.islink(text)):  # noqa: PTH110, PTH114
            yield Path(text)


def _list_parents(path: Path) -> set[Path]:
    """Return the folders a path lies in, as it is written and with its links resolved."""
    return {*_resolve(path).parents, *Path(os.path.abspath(path)).parents}  # noqa: PTH100


def _identify(path: Path) -> Hashable:
    """Return what tells a file from all others, or a name if there is no such file yet.

    Names that differ only in case or in the form of accented letters count as one, as they do on some
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
    except (OSError, RuntimeError, ValueError) as error:  # a circle of links, a zero byte
        raise ExportError(f"{str(path)!r}: expected a path, but {error}; choose another output") from error
