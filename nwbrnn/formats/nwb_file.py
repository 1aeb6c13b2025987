"""Write an NWB file from memory, new or read: under a temporary name, then validated and renamed."""

import contextlib
import itertools
import warnings
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from pynwb import NWBFile

from nwbrnn.errors import ExportError
from nwbrnn.storage import (
    Source,
    create_nwb,
    find_source,
    format_error,
    list_differences,
    list_validation_errors,
    list_validation_errors_elsewhere,
    open_store,
)
from nwbrnn.storage.atomic import replace_whole
from nwbrnn.storage.paths import check_output

SUFFIXES = (".nwb", ".zarr")
"""Endings of files that can be written: HDF5, or a Zarr folder."""


def write_nwbfile(
    nwbfile: NWBFile, path: Path, *, overwrite: bool, check: Callable[[], None] = lambda: None
) -> None:
    """Write a new NWB file; see :func:`replace_whole` for ``check``."""
    _write(path, lambda io: io.write(nwbfile), overwrite=overwrite, check=check)


def export_nwbfile(
    nwbfile: NWBFile,
    source: Source,
    path: Path,
    *,
    added: Collection[str],
    overwrite: bool,
    check: Callable[[], None],
) -> None:
    """Write an NWB file that was read and added to, copying everything else unchanged, array by array.

    ``added`` are the paths of objects that were added or replaced; everything else must be as it is in the
    source, which may be the file to write itself. ``check`` is called before the file gets its name; see
    :func:`replace_whole`.
    """
    # from HDF5 to HDF5, links stay links and the rest is copied; otherwise hdmf would link to the source
    same = not (source.is_remote or source.is_zarr or is_zarr_name(path))
    options: dict[str, Any] = {} if same else {"link_data": False}

    def export(io: Any) -> None:
        io.export(src_io=nwbfile.read_io, nwbfile=nwbfile, write_args=options)

    _write(path, export, overwrite=overwrite, check=check, source=source, added=added)


def _verify_copy(source: Source, copy: Path, *, path: Path, ignored: Collection[str]) -> None:
    """Compare a copy with its source, value by value, and refuse it if anything is missing."""
    with contextlib.ExitStack() as stack:
        roots = []
        for file in (source, find_source(copy)):
            store = open_store(file, follow_links=True)
            stack.callback(store.close)
            roots.append(store.root)
        lost = list(itertools.islice(list_differences(*roots, ignore=ignored), 5))
    if lost:
        raise ExportError(
            f"{path}: the copy would not hold all of {source.text}: {'; '.join(lost)}; nothing was changed; "
            "please report this"
        )


def is_zarr_name(path: Path) -> bool:
    """Return whether a name has the ending of a Zarr store."""
    return path.name.endswith(".zarr")


def _write(
    path: Path,
    write: Callable[[Any], None],
    *,
    overwrite: bool,
    check: Callable[[], None],
    source: Source | None = None,
    added: Collection[str] = (),
) -> None:
    """Write with pynwb, and refuse a result with faults that its source, if any, does not have."""
    as_zarr = is_zarr_name(path)
    check_output(path, overwrite=overwrite, suffix=SUFFIXES, folder=as_zarr)
    with replace_whole(path, overwrite=overwrite, folder=as_zarr, check=check) as temporary:
        try:
            with warnings.catch_warnings(), create_nwb(temporary, as_zarr=as_zarr) as io:
                warnings.simplefilter("ignore")  # from hdmf-zarr about its use of zarr
                write(io)
        except OSError:
            raise
        except Exception as error:  # hdmf hides what the system or HDF5 said
            cause = _find_system_error(error)
            if cause is not None:
                raise cause from error
            raise ExportError(
                f"{path}: cannot be written: {format_error(error)}; nothing was changed"
            ) from error
        found = (
            list_validation_errors_elsewhere(temporary)
            if as_zarr
            else list_validation_errors(temporary, as_zarr=False)
        )
        local = source if source is not None and not source.is_remote else None
        if local is not None and found:
            known = list_validation_errors(Path(local.url), as_zarr=local.is_zarr)
            found = [fault for fault in found if fault not in known]
        if found:
            raise ExportError(f"{path}: the file would not be valid NWB: {found[0]}; please report this")
        if local is not None and local.is_zarr == as_zarr:
            _verify_copy(local, temporary, path=path, ignored=added)


def _find_system_error(error: BaseException) -> OSError | None:
    """Return the system error that caused another error."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None
