"""Lock the name of an output or checkpoint during long work."""

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from nwbrnn.errors import ExportError
from nwbrnn.storage.paths import check_name


@contextlib.contextmanager
def hold(path: Path) -> Iterator[None]:
    """Keep other processes from using the same output or checkpoint; the lock ends with the process.

    The lock is on a small file next to ``path``, which is removed at the end. If there cannot be a lock,
    because the folder is missing or read-only or its file system has no locks, nothing is kept out.
    """
    check_name(path)
    whole = path.resolve()
    digest = hashlib.sha256(whole.name.encode("utf-8", "surrogateescape")).hexdigest()[:12]
    lock = FileLock(whole.with_name(f".nwbrnn-{digest}.lock"))
    if not whole.parent.is_dir():  # filelock would create it
        yield
        return
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ExportError(
            f"{path}: expected no other process that writes to it, but one is running; wait for it, or "
            "choose another output"
        ) from error
    except (OSError, NotImplementedError):
        yield
        return
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            Path(lock.lock_file).unlink()  # while it is held, so that a process waiting for it is refused
        lock.release()
