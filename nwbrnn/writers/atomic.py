"""How a file comes to be: whole, on the disk, valid and under its name, or not at all.

Everything is written under a temporary name in the same folder. While its writer lives it is locked, so that
the next writer in the folder can tell what a killed one left behind, and removes it.
"""

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from nwbrnn.errors import ExportError, OutputExistsError

_HDF5_REASON = re.compile("error message = '([^']+)'")

_HOST = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:6]
# with the machine: where locks are not shared between machines, each removes its own leftovers only
_PREFIX, _SUFFIX = f".nwbrnn-{_HOST}-", ".tmp"
_LEFTOVER = re.compile(re.escape(_PREFIX) + r"[0-9a-f]{12}\.tmp(\.\w+)?")
_CANNOT_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of Linux, linux/fcntl.h and linux/fs.h


def check_output(
    path: Path,
    *,
    overwrite: bool,
    suffix: str | tuple[str, ...] = ".nwb",
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
        How its name has to end; one of these.
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
        endings = suffix if isinstance(suffix, str) else " or ".join(suffix)
        raise ExportError(f"{path}: expected a name that ends in {endings}; rename the output")
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
    if os.path.lexists(path) and not overwrite:
        raise OutputExistsError(
            f"{path}: expected no such file yet, but it exists; "
            "use overwrite=True (--overwrite) to replace it"
        )


@contextlib.contextmanager
def replace_whole(
    path: Path,
    *,
    overwrite: bool,
    folder: bool = False,
    check: Callable[[], None] = lambda: None,
) -> Iterator[Path]:
    """Provide a temporary name beside ``path``; what was written under it becomes ``path`` at the end.

    If anything fails, ``path`` is as it was and nothing is left under the temporary name. The content is on
    the disk before the name changes, and the name before this returns, so that a power failure leaves the old
    file or the new one.

    Parameters
    ----------
    path
        The file, or folder of Zarr, to make.
    overwrite
        Whether it may replace an existing one.
    folder
        Whether it is a folder.
    check
        Called immediately before the name changes, while no other export can change names in the folder; what
        it raises prevents the change.

    Raises
    ------
    OutputExistsError
        If there is a file by then and ``overwrite`` is false.
    ExportError
        If it cannot be written.
    """
    claimed = path.with_name(f"{_PREFIX}{secrets.token_hex(6)}{_SUFFIX}{'' if folder else path.suffix}")
    # Zarr makes its folder itself, anew if there is one: it gets a name inside of the folder with the lock
    temporary = claimed / path.name if folder else claimed
    with contextlib.ExitStack() as stack:
        try:
            with lock_folder(path.parent):
                _remove_leftovers(path.parent)
                stack.callback(_remove, claimed)
                stack.callback(os.close, _claim(claimed, folder=folder))
            yield temporary
            if path.exists():
                shutil.copymode(path, temporary)
            _synchronise(temporary)
            with lock_folder(path.parent):
                # somebody may have been faster
                check_output(path, overwrite=overwrite, suffix="", folder=folder)
                check()
                _rename(temporary, path, folder=folder)
        except OutputExistsError:  # an OSError too, by its second base
            raise
        except OSError as error:
            raise ExportError(
                f"{path}: cannot be written: {_find_reason(error)}; nothing was changed"
            ) from error
        _synchronise_one(path.parent)


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Keep other exports from changing names in a folder meanwhile, where its file system has locks."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems have none
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def is_temporary(path: Path) -> bool:
    """Return whether a name is one under which files are written here; a killed writer leaves it."""
    return path.name.startswith(".nwbrnn-")


def _find_reason(error: OSError) -> str:
    """Return what the system said; HDF5 has it somewhere in a long message."""
    text = " ".join(str(error).split())
    said = _HDF5_REASON.search(text)
    return error.strerror or (said[1] if said else text)


def is_zarr(path: Path) -> bool:
    """Return whether a folder is a Zarr store."""
    return any((path / name).exists() for name in (".zgroup", ".zmetadata", "zarr.json"))


def _claim(temporary: Path, *, folder: bool) -> int:
    """Make an empty file or folder and hold a lock on it; return its descriptor.

    The lock is a shared one, so that HDF5, which takes locks of its own, can read the file.
    """
    if folder:
        temporary.mkdir()
        descriptor = os.open(temporary, os.O_RDONLY)
    else:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return descriptor


def _remove_leftovers(folder: Path) -> None:
    """Remove what killed writers left: temporary files that nobody holds a lock on."""
    for leftover in folder.iterdir():
        if not _LEFTOVER.fullmatch(leftover.name):
            continue
        with contextlib.suppress(OSError):
            descriptor = os.open(leftover, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(leftover)
            finally:
                os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _rename(temporary: Path, path: Path, *, folder: bool) -> None:
    """Give the temporary file or folder its name; an old folder is then under the temporary one."""
    if not (folder and path.exists()):
        temporary.replace(path)
        return
    if _exchange(temporary, path):
        return
    # a moment without any folder of the name cannot be avoided here; nothing removes the old one by itself
    old = path.with_name(f"{_PREFIX}{secrets.token_hex(6)}.old")
    path.replace(old)
    try:
        temporary.replace(path)
    except BaseException:
        old.replace(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
    """Let two names change places in one step, if the system can; return whether it did."""
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


def _synchronise(path: Path) -> None:
    """Have the system bring a file, or a folder with everything in it, to the disk."""
    if path.is_dir():
        for inner in path.rglob("*"):
            _synchronise_one(inner)
    _synchronise_one(path)


def _synchronise_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
