"""Export a fit to a new file, to a copy of its source, or into the source itself."""

import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from pynwb import NWBFile
from pynwb.epoch import TimeIntervals

from nwbrnn.errors import ConfigError, ExportError, OutputExistsError, ReadError
from nwbrnn.formats.fit.carried import carry_trials, carry_units, create_derived, identify_original
from nwbrnn.formats.fit.encode import Rows, add_fit
from nwbrnn.formats.fit.layout import is_module_of_fit, list_parts, name_module, name_scratch
from nwbrnn.formats.nwb_file import SUFFIXES, export_nwbfile, is_zarr_name, write_nwbfile
from nwbrnn.preprocessing import is_pooled, list_sessions
from nwbrnn.result import FitResult
from nwbrnn.storage import Source, find_source, format_error, is_hdf5, list_members, open_nwb
from nwbrnn.storage.paths import check_apart, check_output
from nwbrnn.storage.system import lock_for_reading
from nwbrnn.text import show_count

To = Literal["new", "copy", "in-place"]


File = str | Path | Source


def write_fit(
    result: FitResult,
    source: File | Sequence[File],
    path: str | Path | None = None,
    *,
    to: To = "new",
    name: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a fit as the processing module ``nwbrnn`` of an NWB file; ``docs/nwb_export.md`` specifies it.

    Existing data are never lost: files are written under a temporary name, validated and then renamed. Even
    in-place, the source stays unchanged until its successor is complete on the disk.

    Parameters
    ----------
    result
        The fit from :func:`nwbrnn.fit`.
    source
        The NWB file that was fitted, or several in the order of the sessions of a pool.
    path
        The file to write, ``.nwb`` or, for Zarr, ``.zarr``; none for in-place.
    to
        ``new`` writes a new file with session, subject, fitted units and trials of the source. ``copy``
        writes all of the source and the fit. ``in-place`` adds the fit to the source. For a pool there is
        only ``new``; units and trials are then in the module alone.
    name
        Name of the fit, needed if one file holds several; the module is then ``nwbrnn_NAME``.
    overwrite
        Whether to replace an existing file or, in-place, only the module with this name.

    Returns
    -------
    Path
        The file that holds the fit.

    Raises
    ------
    OutputExistsError
        If the file, or the module in it, exists and ``overwrite`` is false.
    ExportError
        If the source cannot be read, has changed since the fit, is open for writing elsewhere, or would be
        overwritten; or if the file cannot be written.
    ConfigError
        If a module cannot have this name, or if ``path`` does not fit ``to``.

    Examples
    --------
    >>> import nwbrnn
    >>> result = nwbrnn.fit(nwbrnn.read_nwb(example), sampled=3, min_rate=0, hidden=20, epochs=2)
    >>> path = nwbrnn.write_fit(result, example, "fit.nwb", overwrite=True)
    """
    try:
        found = [find_source(one) for one in _list_files(source)]
        target = check_fit_output(found, path, to=to, name=name, overwrite=overwrite)
    except ReadError as error:
        raise ExportError(f"{source}: expected the source of the fit, but {error}") from error
    abouts = list_sessions(result.recorded)
    if len(found) != len(abouts):
        raise ExportError(
            f"source: expected {show_count(len(abouts), 'file')}, one for each session of the fit, but got "
            f"{len(found)}; give them in the order of the sessions"
        )
    for one, about in zip(found, abouts, strict=True):
        _check_source(one, about)
    if to == "new":
        return _write_new(result, found, target, name=name, overwrite=overwrite)
    return _write_copy(result, found[0], target, name=name, overwrite=overwrite)


def _list_files(source: File | Sequence[File]) -> list[File]:
    return [source] if isinstance(source, str | Path | Source) else list(source)


def check_fit_output(
    source: File | Sequence[File],
    path: str | Path | None,
    *,
    to: To = "new",
    name: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Refuse an export that cannot succeed, before any long work, and return the file to write."""
    module = name_module(name)
    if to not in get_args(To):
        raise ConfigError(f"to: expected one of {', '.join(get_args(To))}, but got {to!r}")
    if (path is None) != (to == "in-place"):
        wanted = "no output, the fit goes into the source" if to == "in-place" else "an output file"
        raise ConfigError(f"path: expected {wanted}, for to={to!r}, but got {path!r}")
    sources = [find_source(one) for one in _list_files(source)]
    if len(sources) > 1 and to != "new":
        raise ConfigError(
            f"to: expected 'new' with {len(sources)} sources, since a fit of several sessions has a file of "
            f"its own, but got {to!r}; give an output, or one source"
        )
    if path is not None:
        target = Path(path)
        check_apart([target], sources)
        check_output(target, overwrite=overwrite, suffix=SUFFIXES, folder=is_zarr_name(target))
        _keep_other_fits(target, module)
        return target
    found = sources[0]
    if found.is_remote:
        raise ExportError(
            f"{found.text}: expected a local file for in-place, but it is on a server; use to='copy'"
        )
    target = Path(found.url).resolve()  # for a link, its target
    check_output(target, overwrite=True, suffix="", folder=found.is_zarr)
    if not (target.stat().st_mode & 0o222 and os.access(target, os.W_OK)):
        raise ExportError(
            f"{found.text}: expected a file that may be changed, but it is read-only; use to='copy'"
        )
    if found.is_zarr != is_zarr_name(target):
        raise ExportError(
            f"{found.text}: expected a Zarr store with a name that ends in .zarr; rename it, or copy"
        )
    return target


def _keep_other_fits(path: Path, module: str) -> None:
    """Refuse to replace a file that holds fits with other names, without following its links."""
    if not (path.is_dir() or is_hdf5(path)):  # no file, or not NWB, so it holds no fits
        return
    try:
        modules = list_members(path, "processing")
    except Exception as error:  # a damaged file may raise any error
        raise ExportError(
            f"{path}: expected a readable file, to check it for other fits, but {format_error(error)}; "
            "choose another output"
        ) from error
    others = [found for found in modules if is_module_of_fit(found) and found != module]
    if others:
        raise ExportError(
            f"{path}: expected a file without other fits, but replacing it would lose {', '.join(others)}; "
            "choose another output, or add to it in-place"
        )


def _check_source(source: Source, about: Mapping[str, Any]) -> None:
    """Refuse a source that is not, or no longer, the file that was fitted.

    A file that gained or lost exported fits has another hash but the same objects, so these are compared too.
    """
    known = about.get("source_sha256")
    if not known or source.is_remote or source.compute_sha256() == known:
        return
    with _open_source(source, about) as nwbfile:
        objects = set(about.get("source_objects", {}).values())
        has_fits = any(is_module_of_fit(name) for name in nwbfile.processing)
        same = bool(objects) and objects <= set(nwbfile.objects)
    if not (has_fits and same):
        raise ExportError(
            f"{source.text}: expected the file that was fitted, but it has changed since (its SHA-256 is "
            f"no longer {known[:12]}…); fit again, or give the original file"
        )


def _write_new(
    result: FitResult, sources: Sequence[Source], path: Path, *, name: str | None, overwrite: bool
) -> Path:
    """Write a file with the fit and the parts of its source that it needs; a pool has them in its module."""
    abouts, originals = list_sessions(result.recorded), []
    for source, about in list(zip(sources, abouts, strict=True))[1:]:
        with _open_source(source, about) as nwbfile:
            originals.append(identify_original(nwbfile))
    module, as_zarr = name_module(name), is_zarr_name(path)
    with _open_source(sources[0], abouts[0]) as first:
        nwbfile = create_derived([identify_original(first), *originals], first)
        units, trials = (None, None) if is_pooled(result.recorded) else _find_rows(first, result)
        if units is not None:
            units = carry_units(nwbfile, units.table, units.rows, as_zarr=as_zarr)
        if trials is not None:
            trials = carry_trials(nwbfile, trials.table, trials.rows)
        add_fit(nwbfile, result, module_name=module, units=units, trials=trials, as_zarr=as_zarr)
        # another process may have added a fit to the file
        write_nwbfile(nwbfile, path, overwrite=overwrite, check=partial(_keep_other_fits, path, module))
    return path


def _write_copy(result: FitResult, source: Source, path: Path, *, name: str | None, overwrite: bool) -> Path:
    """Write the source with the fit to another file or over the source itself."""
    module = name_module(name)
    in_place = not source.is_remote and Path(source.url).resolve() == path
    holding = _keep_unchanged(path) if in_place else nullcontext(partial(_keep_other_fits, path, module))
    about = list_sessions(result.recorded)[0]
    with holding as check, _open_source(source, about) as nwbfile:
        if module in nwbfile.processing:
            if not overwrite:
                raise OutputExistsError(
                    f"{source.text}: processing/{module}: expected a new fit, but it already exists; "
                    "use overwrite=True (--overwrite) to replace it, or give the new one a name (--as)"
                )
            if name_scratch(module) not in (nwbfile.scratch or {}):
                raise ExportError(
                    f"{source.text}: processing/{module}: expected a fit of nwbrnn to replace, but this "
                    "module is something else; choose another name"
                )
            nwbfile.processing.pop(module)
            nwbfile.scratch.pop(name_scratch(module))
        units, trials = _find_rows(nwbfile, result)
        add_fit(nwbfile, result, module_name=module, units=units, trials=trials, as_zarr=is_zarr_name(path))
        _mark(nwbfile, is_copy=not in_place)

        def close_and_check() -> None:
            nwbfile.read_io.close()  # Windows does not replace an open file
            check()

        replace = overwrite or in_place
        added = list_parts(module)
        export_nwbfile(nwbfile, source, path, added=added, overwrite=replace, check=close_and_check)
    return path


def _mark(nwbfile: NWBFile, *, is_copy: bool) -> None:
    """Record that nwbrnn wrote the file, and give a copy its own identity."""
    before = [tuple(str(part) for part in pair) for pair in (nwbfile.was_generated_by or [])]
    mine = ("nwbrnn", version("nwbrnn"))
    nwbfile.fields["was_generated_by"] = [*(pair for pair in before if pair != mine), mine]
    if is_copy:
        nwbfile.fields["identifier"] = str(uuid.uuid4())
        nwbfile.generate_new_id(recurse=False)  # archives refuse two files with one id
    nwbfile.set_modified()


@contextmanager
def _open_source(source: Source, about: Mapping[str, Any]) -> Iterator[NWBFile]:
    """Open a source as it was read, and raise an export error if it cannot be read."""
    follow_links = bool(about.get("read_config", {}).get("follow_links", False))
    try:
        with open_nwb(source, follow_links=follow_links) as nwbfile:
            yield nwbfile
    except ReadError as error:
        raise ExportError(
            f"{source.text}: expected the source of the fit, but it cannot be read: {error}"
        ) from error


@contextmanager
def _keep_unchanged(path: Path) -> Iterator[Callable[[], None]]:
    """Keep a file from being opened for writing with HDF5, and provide a check that it is still the same.

    HDF5 holds a lock while it has a file open, and this lock is of the same kind. Without it, anything that
    another program wrote to the file in the meantime would be lost when the file is replaced.
    """
    before = _identify(path.stat())

    def check() -> None:
        if _identify(path.stat()) != before:
            raise ExportError(
                f"{path}: expected no changes during the export, but another program changed "
                "the file; nothing was written, export again"
            )

    with ExitStack() as stack:
        try:
            stack.enter_context(lock_for_reading(path))
        except BlockingIOError as error:
            raise ExportError(
                f"{path}: expected a file that no program writes to, but another program has it open; "
                "close it there"
            ) from error
        except OSError:  # the file system has no locks
            pass
        yield check


def _identify(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _find_rows(nwbfile: NWBFile, result: FitResult) -> tuple[Rows | None, Rows | None]:
    """Return the rows of the source's units and trials that were fitted.

    There are none if the Dataset was not read from this file, or by a version that did not record objects.
    """
    recorded = result.recorded
    ids = set(json.loads(recorded.attrs.get("source_objects", "{}")).values())
    units = trials = None
    if nwbfile.units is not None and nwbfile.units.object_id in ids:
        units = Rows(nwbfile.units, np.asarray(recorded["unit"].values))
    for found in ids & set(nwbfile.objects):
        if isinstance(nwbfile.objects[found], TimeIntervals):
            trials = Rows(nwbfile.objects[found], np.asarray(recorded["trial"].values))
    return units, trials
