"""Exports in processes of their own, to be killed, stopped, or raced against each other."""

import contextlib
import hashlib
import multiprocessing
import os
import warnings
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["nwbrnn.formats", "nwbrnn.readers"])


def export(fit, source, path, options, report):
    """Write a stored fit; what went wrong goes to the file ``report``."""
    import nwbrnn

    warnings.simplefilter("ignore")
    try:
        nwbrnn.write_fit(nwbrnn.read_fit(fit), source, path, **options)
    except Exception as error:
        report.write_text(f"{type(error).__name__}: {error}")
        raise SystemExit(2) from None


def begin_export(fit, source, path, options, report):
    """Begin an export in another process, and return it; nothing of it is printed."""
    process = _CONTEXT.Process(target=_silently, args=(fit, source, path, options, report))
    process.start()
    return process


def _silently(*arguments):
    with Path(os.devnull).open("w") as nothing, contextlib.redirect_stderr(nothing):
        export(*arguments)


def hash_file(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()
