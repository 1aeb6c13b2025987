"""Names of files: which can be read, written and stored in texts, and which make a folder a Zarr store."""

import os
from pathlib import Path

from nwbrnn.text import describe, shorten

ZARR_GROUP = (".zgroup", ".zattrs", "zarr.json")
"""Files with the metadata of a Zarr group; an NWB file is one."""
ZARR_FILES = (*ZARR_GROUP, ".zmetadata", ".zarray")
"""Files with the metadata of a Zarr store; a folder that holds one of them is a store."""
MAX_NAME = 255
"""Bytes in the name of a file or folder: about ``NAME_MAX`` of ext4, XFS, APFS and NTFS."""
MAX_PATH = 4095
"""Bytes in a path: ``PATH_MAX`` of Linux, without the zero at its end."""


def find_fault(path: str | Path) -> str:
    """Return why a path cannot be used, with the remedy, whether or not the file exists; empty if it can.

    Examples
    --------
    >>> find_fault("session.nwb")
    ''
    """
    text = os.fspath(path)
    try:
        sizes = [len(part.encode()) for part in Path(text).parts]
    except UnicodeEncodeError:
        return (
            f"{describe(text)}: expected a path in UTF-8, but it has other bytes; rename the file or folder"
        )
    if "\0" in text:
        return f"{describe(text)}: expected a path, but it has a zero byte; choose another name"
    longest, whole = max(sizes, default=0), len(text.encode())
    if longest > MAX_NAME or whole > MAX_PATH:
        return (
            f"{shorten(text)}: expected names of at most {MAX_NAME} bytes and a path of {MAX_PATH}, but got "
            f"{longest} and {whole}; choose a shorter name"
        )
    return ""


def is_store(path: Path, *, files: tuple[str, ...] = ZARR_FILES) -> bool:
    """Return whether a folder is a Zarr store, that is, whether it holds one of some files."""
    return any((path / name).exists() for name in files)


def is_special(path: Path) -> bool:
    """Return whether a path is that of a device, a pipe or a socket, which might never end when read."""
    return path.exists() and not (path.is_file() or path.is_dir())
