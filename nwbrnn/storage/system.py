"""Differences between operating systems in writing files: locks, synchronization and names.

A lock ends with the process that holds it, however the process ends. POSIX systems can lock files and folders
themselves, so no file is added to a folder, and HDF5 can read a file under a shared lock. Windows cannot open
folders, and no other handle can read a locked file. There, an empty file next to the target is locked, and
removed with the lock.
"""

import contextlib
import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from filelock import FileLock

fcntl: Any
try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None

_FOLDER_LOCK = ".nwbrnn.lock"
_CANNOT_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # on Linux, from linux/fcntl.h and linux/fs.h


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Keep other exports from renaming files in a folder meanwhile, if its file system has locks."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # some network file systems have no locks
            if fcntl is None:
                stack.enter_context(FileLock(folder / _FOLDER_LOCK))
            else:
                stack.enter_context(_flock(folder, fcntl.LOCK_EX))
        yield


@contextlib.contextmanager
def mark_in_use(temporary: Path) -> Iterator[None]:
    """Hold a lock on a temporary file or folder, which HDF5 can still read with its own locks."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            if fcntl is None:
                stack.enter_context(FileLock(_name_lock(temporary), blocking=False))
            else:
                stack.enter_context(_flock(temporary, fcntl.LOCK_SH | fcntl.LOCK_NB))
        yield


def lock_leftover(temporary: Path) -> AbstractContextManager[Any]:
    """Return a lock that can only be entered if no process has marked the temporary file as in use.

    Entering it raises an OSError otherwise.
    """
    if fcntl is None:
        return FileLock(_name_lock(temporary), blocking=False)
    return _flock(temporary, fcntl.LOCK_EX | fcntl.LOCK_NB)


def lock_for_reading(path: Path) -> AbstractContextManager[None]:
    """Return a lock of the kind that HDF5 takes, which keeps HDF5 from opening a file for writing.

    Entering it raises a BlockingIOError if HDF5 has opened the file for writing, and another OSError if the
    file system has no locks. On Windows nothing is locked, since Windows refuses to replace an open file.
    """
    if fcntl is None:
        return contextlib.nullcontext()
    return _flock(path, fcntl.LOCK_SH | fcntl.LOCK_NB)


def synchronize(path: Path) -> None:
    """Make the system write the content of a file, or the names in a folder, to the disk.

    Windows cannot do this for folders.
    """
    if fcntl is None and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY if fcntl else os.O_RDWR)  # Windows needs write access
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def exchange_names(first: Path, second: Path) -> bool:
    """Exchange two names in one step, if the system can, and return whether it did."""
    if fcntl is None:
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    arguments = _AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE
    if rename is None:
        return False
    if rename(*arguments) == 0:
        return True
    code = ctypes.get_errno()
    if code not in _CANNOT_EXCHANGE:
        raise OSError(code, os.strerror(code))
    return False


@contextlib.contextmanager
def _flock(path: Path, operation: int) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, operation)
        yield
    finally:
        os.close(descriptor)


def _name_lock(temporary: Path) -> Path:
    """Return the lock file of a temporary file with or without suffixes; for a lock file, itself."""
    return temporary.with_name(f".{temporary.name.split('.')[1]}.lock")
