"""Does something as if on Windows, as far as Linux can pretend: ``python run.py STEP PATH``.

Modules that only POSIX systems have cannot be imported, folders cannot be opened, only what can be written
can be synchronized, and what is open can be neither removed nor renamed nor replaced.
"""

import builtins
import ctypes
import errno
import fcntl
import importlib
import json
import os
import pkgutil
import shutil
import sys
import threading
from pathlib import Path

import filelock

POSIX_ONLY = {
    "curses",
    "fcntl",
    "grp",
    "posix",
    "pty",
    "pwd",
    "readline",
    "resource",
    "syslog",
    "termios",
    "tty",
}


unlink = os.unlink


class LockOfWindows(filelock.UnixFileLock):
    """A lock whose file is removed when it is released, but stays when its process is killed."""

    def _release(self):
        unlink(self.lock_file)
        super()._release()


def pretend():
    import_, open_, fsync, cdll = builtins.__import__, os.open, os.fsync, ctypes.CDLL

    def import_on_windows(name, globals=None, *rest, **options):
        importer = (globals or {}).get("__name__", "").partition(".")[0]
        if importer == "nwbrnn" and name in POSIX_ONLY:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return import_(name, globals, *rest, **options)

    def open_on_windows(path, flags, *arguments, **options):
        is_temporary_file = flags & os.O_TMPFILE == os.O_TMPFILE  # of the module tempfile, on Linux
        if not is_temporary_file and Path(os.fsdecode(path)).is_dir():
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return open_(path, flags, *arguments, **options)

    def fsync_on_windows(descriptor):
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        fsync(descriptor)

    def load_on_windows(name, *arguments, **options):
        if name is None and sys._getframe(1).f_globals["__name__"].startswith("nwbrnn"):
            raise TypeError("LoadLibrary() argument 1 must be str, not None")
        return cdll(name, *arguments, **options)

    filelock.FileLock = LockOfWindows
    shutil._use_fd_functions = False
    del os.sched_getaffinity
    os.process_cpu_count = os.cpu_count  # of Python 3.13, which asks for the affinity
    builtins.__import__, os.open, os.fsync = import_on_windows, open_on_windows, fsync_on_windows
    ctypes.CDLL = load_on_windows
    for name in ("remove", "rename", "replace", "unlink"):
        setattr(os, name, refuse_what_is_open(getattr(os, name)))


def refuse_what_is_open(function):
    def refusing(*paths, **options):
        places = {os.path.realpath(os.fsdecode(path)) for path in paths}
        for descriptor in Path("/proc/self/fd").iterdir():
            try:
                place = str(descriptor.readlink())
            except OSError:  # it was that of the listing
                continue
            if place in places or any(place.startswith(f"{folder}/") for folder in places):
                raise PermissionError(errno.EACCES, "Used by another process", place)
        return function(*paths, **options)

    return refusing


def import_everything(_):
    import nwbrnn

    found = [module.name for module in pkgutil.walk_packages(nwbrnn.__path__, "nwbrnn.")]
    for name in found:
        importlib.import_module(name)
    return found


def write(path):
    from nwbrnn.storage.atomic import replace_whole

    with replace_whole(path, overwrite=True) as temporary:
        temporary.write_text("written")
    return path.read_text()


def write_folder(path):
    from nwbrnn.storage.atomic import replace_whole

    for text in ("old", "new"):
        with replace_whole(path, overwrite=True, folder=True) as temporary:
            temporary.mkdir()
            (temporary / ".zgroup").write_text(text)
    return (path / ".zgroup").read_text()


def hold(path):
    """Begin to write, say so, and finish when told to."""
    from nwbrnn.storage.atomic import replace_whole

    with replace_whole(path, overwrite=True) as temporary:
        temporary.write_text("held")
        print("begun", flush=True)
        sys.stdin.readline()
    return path.read_text()


def race(path):
    """Finish eight files of one name at the same moment; return the outcomes."""
    from nwbrnn.errors import OutputExistsError
    from nwbrnn.storage.atomic import replace_whole

    outcomes, together = [], threading.Barrier(8)

    def take_part(number):
        try:
            with replace_whole(path, overwrite=False) as temporary:
                temporary.write_text(str(number))
                together.wait()
            outcomes.append(str(number))
        except OutputExistsError:
            outcomes.append("refused")

    threads = [threading.Thread(target=take_part, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"outcomes": sorted(outcomes), "text": path.read_text()}


def export(session):
    """Fit a recording, and write the fit in all three ways; return where it could be read again."""
    import nwbrnn

    result = nwbrnn.fit(nwbrnn.read_nwb(session, bin_size=0.1), epochs=2, hidden=6, sampled=3, min_rate=0)
    folder, found = session.parent, []
    ways = (
        ("new.nwb", "new", None),
        ("copy.nwb", "copy", None),
        (None, "in-place", None),
        (None, "in-place", "b"),
    )
    for output, to, name in ways:
        path = nwbrnn.write_fit(result, session, output and folder / output, to=to, name=name)
        found.append([path.name, nwbrnn.read_fit(path, name=name).config == result.config])
    return found


STEPS = {f.__name__: f for f in (import_everything, write, write_folder, hold, race, export)}

if __name__ == "__main__":
    pretend()
    steps = zip(sys.argv[1::2], sys.argv[2::2], strict=True)
    print(json.dumps([STEPS[name](Path(path)) for name, path in steps]))
