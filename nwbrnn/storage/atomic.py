"""Write files atomically: a file appears under its name whole, valid and on the disk, or not at all.

Every file is written under a temporary name in the same folder, and is locked while its writer runs. The next
writer in the folder can therefore recognize and remove what a killed writer left behind.
"""

import contextlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nwbrnn.errors import ExportError, OutputExistsError
from nwbrnn.storage.paths import check_name, check_output, create_temporary_name, is_temporary
from nwbrnn.storage.system import exchange_names, lock_folder, lock_leftover, mark_in_use, synchronize

UNCHANGED = "; nothing was changed"
"""The end of a message about a file that could not be written."""
_HDF5_REASON = re.compile("error message = '([^']+)'")


def write_json(values: Any, path: Path, *, overwrite: bool) -> None:
    """Write values as JSON, whole or not at all; bytes in names that are not Unicode are escaped."""
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    with replace_whole(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(text.encode("utf-8", "backslashreplace"))


@contextlib.contextmanager
def replace_whole(
    path: Path,
    *,
    overwrite: bool,
    folder: bool = False,
    check: Callable[[], None] = lambda: None,
) -> Iterator[Path]:
    """Provide a temporary name next to ``path``; the file written under it becomes ``path`` at the end.

    If anything fails, ``path`` is unchanged and nothing is left under the temporary name. The content reaches
    the disk before the name changes, and the new name before this function returns, so that a power failure
    leaves either the old file or the new one.

    Parameters
    ----------
    path
        The file or Zarr folder to write.
    overwrite
        Whether it may replace an existing one.
    folder
        Whether it is a folder.
    check
        Called immediately before the name changes, while no other export can change names in the folder; an
        error that it raises prevents the change.

    Raises
    ------
    OutputExistsError
        If the file exists by then and ``overwrite`` is false.
    ExportError
        If the file cannot be written.
    """
    check_name(path)
    claimed = create_temporary_name(path, suffix="" if folder else path.suffix)
    # Zarr creates its own folder and replaces an existing one, so it gets a name inside the locked folder
    temporary = claimed / path.name if folder else claimed
    with contextlib.ExitStack() as stack:
        try:
            with lock_folder(path.parent):
                _remove_leftovers(path.parent)
                stack.callback(_remove, claimed)
                if folder:
                    claimed.mkdir()
                else:
                    claimed.touch(exist_ok=False)
                stack.enter_context(mark_in_use(claimed))
            yield temporary
            if path.exists():
                shutil.copymode(path, temporary)
            _synchronize(temporary)
            with lock_folder(path.parent):
                # another process may have been faster
                check_output(path, overwrite=overwrite, suffix="", folder=folder)
                check()
                _rename(temporary, path, folder=folder)
        except OutputExistsError:  # also an OSError, through its second base class
            raise
        except OSError as error:
            raise ExportError(f"{path}: cannot be written: {_find_reason(error)}{UNCHANGED}") from error
        synchronize(path.parent)


def _find_reason(error: OSError) -> str:
    """Return the system's message, which HDF5 puts somewhere in a long one."""
    text = " ".join(str(error).split())
    said = _HDF5_REASON.search(text)
    return error.strerror or (said[1] if said else text)


def _remove_leftovers(folder: Path) -> None:
    """Remove temporary files on which no process holds a lock, since their writers were killed."""
    for leftover in folder.iterdir():
        if not is_temporary(leftover):
            continue
        with contextlib.suppress(OSError), lock_leftover(leftover):
            _remove(leftover)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _rename(temporary: Path, path: Path, *, folder: bool) -> None:
    """Give the temporary file or folder its final name; an old folder then has the temporary one."""
    if not (folder and path.exists()):
        temporary.replace(path)
        return
    if exchange_names(temporary, path):
        return
    # a moment without any folder of the name cannot be avoided here; nothing removes the old one by itself
    old = create_temporary_name(path, suffix=".old")
    path.replace(old)
    try:
        temporary.replace(path)
    except BaseException:
        old.replace(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _synchronize(path: Path) -> None:
    """Make the system write a file, or a folder with all its content, to the disk."""
    if path.is_dir():
        for inner in path.rglob("*"):
            synchronize(inner)
    synchronize(path)
