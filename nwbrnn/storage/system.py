"""What operating systems do differently when a file comes to be: locks, disks and names.

Locks end with the process that holds them, however it ends. POSIX systems lock files and folders themselves,
so nothing is added to a folder, and HDF5 can read a file under a shared lock. Windows opens no folders, and
no other handle can read what is locked; there an empty file beside is locked, and removed with the lock.
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
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of Linux, linux/fcntl.h and linux/fs.h


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Keep other exports from changing names in a folder meanwhile, where its file system has locks."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # some network file systems have none
            if fcntl is None:
                stack.enter_context(FileLock(folder / _FOLDER_LOCK))
            else:
                stack.enter_context(_flock(folder, fcntl.LOCK_EX))
        yield


@contextlib.contextmanager
def mark_in_use(temporary: Path) -> Iterator[None]:
    """Hold a lock on a temporary file or folder; HDF5, which takes its own locks, can read it meanwhile."""
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
    """Return a lock, of the kind that HDF5 takes, with which HDF5 cannot open a file for writing.

    Entering it raises a BlockingIOError if HDF5 has, another OSError where the file system has no locks.
    On Windows nothing is locked: it refuses to replace a file that any program has open.
    """
    if fcntl is None:
        return contextlib.nullcontext()
    return _flock(path, fcntl.LOCK_SH | fcntl.LOCK_NB)


def synchronise(path: Path) -> None:
    """Have the system bring the content of a file, or the names in a folder, to the disk.

    Windows has no such request for folders.
    """
    if fcntl is None and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY if fcntl else os.O_RDWR)  # Windows has to be able to write
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def exchange_names(first: Path, second: Path) -> bool:
    """Let two names change places in one step, if the system can; return whether it did."""
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
    """Return the file that is locked beside a temporary file, with or without suffixes; of a lock, itself."""
    return temporary.with_name(f".{temporary.name.split('.')[1]}.lock")
