"""Open NWB files, and refuse those that cannot be read, with the reason."""

import contextlib
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from pynwb import NWBHDF5IO, NWBFile

from nwbrnn.errors import NwbrnnError, ReadError, SchemaError, UnsupportedFileError, name_file
from nwbrnn.storage.damage import open_hdf5
from nwbrnn.storage.remote import find_reason
from nwbrnn.storage.source import Source, find_source
from nwbrnn.storage.store import (
    ALLOW_LINKS,
    Store,
    find_cause,
    find_links_outside,
    format_error,
    is_missing,
    list_links,
    list_places,
    refuse_links,
)
from nwbrnn.storage.zarr_store import create_zarr_io, find_zarr_links, open_zarr


@contextlib.contextmanager
def open_nwb(path: str | Path | Source, *, follow_links: bool = False) -> Iterator[NWBFile]:
    """Open an NWB file for reading and close it afterwards.

    Parameters
    ----------
    path
        A local HDF5 file or Zarr folder, or an address, as for :func:`nwbrnn.storage.find_source`.
    follow_links
        Whether links may lead to other files.

    Raises
    ------
    UnsupportedFileError
        If there is no such file; if it is not NWB, is NWB 1.x, or is truncated or otherwise damaged; if it
        has links to other files that may not be followed; or if a package to read it is missing.
    ReadError
        If its data cannot be read later.
    """
    with open_file(path, follow_links=follow_links) as opened:
        yield opened.nwbfile


class Opened(NamedTuple):
    """A file as pynwb built it, and the root group from which it was built."""

    nwbfile: NWBFile
    root: Any


@contextlib.contextmanager
def open_file(path: str | Path | Source, *, follow_links: bool = False) -> Iterator[Opened]:
    """Open a file as :func:`open_nwb` does, with its root group for parts that pynwb does not show."""
    source = find_source(path)
    with contextlib.ExitStack() as stack:
        kept = source.opened or [stack.enter_context(_build(source, follow_links=follow_links))]
        try:
            with name_file(source.text):
                yield kept[0]
        except SchemaError as error:  # mostly NaN or infinity in places where they are not allowed
            raise ReadError(
                f"{source.text}: expected data that make a Dataset, but got {'; '.join(error.problems)}; "
                "choose other outputs, inputs or trials, or repair the file"
            ) from error
        except NwbrnnError:
            raise
        except Exception as error:  # damaged files may raise any error at any access
            raise ReadError(
                f"{source.text}: a part of the file cannot be read and may be damaged: "
                f"{type(error).__name__}: {format_error(error)}; get a fresh copy, or report this"
            ) from error


@contextlib.contextmanager
def keep_open(source: Source, *, follow_links: bool = False) -> Iterator[None]:
    """Keep a file open, so that :func:`open_nwb` returns the open file instead of opening it again."""
    with _build(source, follow_links=follow_links) as opened:
        source.opened.append(opened)
        try:
            yield
        finally:
            source.opened.clear()


@contextlib.contextmanager
def _build(source: Source, *, follow_links: bool) -> Iterator[Opened]:
    """Open a file, build it with pynwb, and close it afterwards."""
    with contextlib.closing(open_store(source, follow_links=follow_links)) as store:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # pynwb's remarks on old namespaces
                reader = _create_io(source, store, follow_links=follow_links)
                nwbfile = _read(store.closing.enter_context(reader), store.root)
        except NwbrnnError:
            raise
        except Exception as error:  # hdmf raises errors of many types, including plain Exception
            reason = (
                find_cause(store.root)
                or _find_extension(store.root, error)
                or (
                    f"pynwb cannot build it: {_find_reason(error)}; run 'python -m pynwb.validation_cli' or "
                    "'pynwb-validate' on it to see what is wrong"
                )
            )
            raise UnsupportedFileError(
                f"{source.text}: expected a readable NWB file, but {reason}"
            ) from error
        yield Opened(nwbfile, store.root)


def open_store(source: Source, *, follow_links: bool = False) -> Store:
    """Open the groups and arrays of an NWB file, HDF5 or Zarr."""
    with contextlib.ExitStack() as stack, _name_damage(source):
        if source.is_zarr:
            root = open_zarr(source, follow_links=follow_links)
        else:
            root = _open_hdf5(source, stack)
            links = find_links_outside(root, follow=follow_links)
            _check_links(source, links, follow_links=follow_links)
        _check_version(source, root)
        return Store(root, stack.pop_all())


@contextlib.contextmanager
def _name_damage(source: Source) -> Iterator[None]:
    """Convert any error that a damaged file raises into one that names the file."""
    try:
        yield
    except NwbrnnError:
        raise
    except BlockingIOError as error:
        raise UnsupportedFileError(
            f"{source.text}: expected a file that no program writes to, but another program has it open for "
            "writing; close it there"
        ) from error
    except Exception as error:
        remedy = "if it was downloaded or copied, get a fresh copy"
        if source.is_remote:
            remedy = "check that the server has the whole file, or download it"
        raise UnsupportedFileError(
            f"{source.text}: expected a whole NWB file, but it cannot be opened: {format_error(error)}; "
            f"{remedy}"
        ) from error


def list_members(path: Path, group: str) -> list[str]:
    """Return the names in a group of a local HDF5 file or Zarr folder; none if it is a link or missing."""
    if path.is_dir():
        folder = path / group
        return sorted(member.name for member in folder.iterdir()) if _is_inside(folder, path) else []
    with open_hdf5(path) as file:
        link = file.get(group, getlink=True)
        found = file[group] if isinstance(link, h5py.HardLink) else None
        return list(found) if isinstance(found, h5py.Group) else []


def _is_inside(folder: Path, store: Path) -> bool:
    return folder.is_dir() and folder.resolve().is_relative_to(store.resolve())


def list_linked_files(path: str | Path) -> list[Path]:
    """Return the local files and stores that a file links to, and that are therefore read with it."""
    source = find_source(path)
    if source.is_remote:
        return []
    folder = Path(source.url)
    if source.is_zarr:
        links = find_zarr_links(folder)
    else:
        with contextlib.ExitStack() as stack, _name_damage(source):
            links = find_links_outside(_open_hdf5(source, stack), follow=True)
        folder = folder.parent
    return [place for _, file in links for place in list_places(file, folder)]


def _check_links(source: Source, links: list[tuple[str, str]], *, follow_links: bool) -> None:
    """Refuse links to other files without permission, and links to missing files.

    If a file is missing, HDF5 returns zeros for a virtual dataset, and pynwb omits what it cannot find.
    """
    if not follow_links:
        refuse_links(source.text, links, remedy=ALLOW_LINKS)
    folder = Path(source.url).parent
    missing = [] if source.is_remote else [link for link in links if is_missing(link[1], folder)]
    if missing:
        raise UnsupportedFileError(
            f"{source.text}: expected the files that it links to, but these are missing: "
            f"{list_links(missing)}; put them where the links lead"
        )


def _open_hdf5(source: Source, stack: contextlib.ExitStack) -> h5py.File:
    """Open an HDF5 file, local or on a server."""
    if not source.is_remote:
        if not is_hdf5(Path(source.url)):
            raise UnsupportedFileError(
                f"{source.text}: expected an NWB file in HDF5, but it is not HDF5; give a .nwb file"
            )
        return stack.enter_context(open_hdf5(Path(source.url)))
    try:
        stream = stack.enter_context(source.open_bytes())
        signature = stream.read(8)
    except NwbrnnError:
        raise
    except Exception as error:  # from aiohttp or botocore
        raise UnsupportedFileError(
            f"{source.text}: expected a file on a server that gives parts of it (range requests), "
            f"but got {find_reason(error)}; check the address, or download the file"
        ) from error
    if signature != _SIGNATURE:
        raise UnsupportedFileError(
            f"{source.text}: expected an NWB file in HDF5, but it is not HDF5; give another address"
        )
    return stack.enter_context(h5py.File(stream, "r"))


def _create_io(source: Source, store: Store, *, follow_links: bool) -> Any:
    """Return the pynwb or hdmf-zarr reader of an open file."""
    if source.is_zarr:
        return create_zarr_io(source, store.root, follow_links=follow_links)
    # without the path, an export would link to the source instead of copying from it
    options = {} if source.is_remote else {"path": source.url}
    return NWBHDF5IO(file=store.root, mode="r", **options)


def _find_extension(root: Any, error: Exception) -> str:
    """Return which object needs an extension whose specification is not in the file; empty if none does."""
    lacking = _NO_NAMESPACE.search(str(error))
    if lacking is None:
        return ""
    extension = lacking[1]
    found = []

    def look(path: str, item: Any) -> bool | None:
        found.extend([path] if item.attrs.get("namespace") == extension else [])
        return True if found else None  # which ends the search

    if isinstance(root, h5py.File):
        with contextlib.suppress(Exception):  # the file may be damaged besides
            root.visititems(look)
    return (
        f"{found[0] if found else 'an object'} is of a type of the extension {extension}, whose "
        "specification is not in the file; write the file again with pynwb and this extension, which stores "
        "the specification in the file (cache_spec), or remove the object"
    )


def _find_reason(error: Exception) -> str:
    """Return from hdmf's message the object that it could not build and the reason, without its contents."""
    builder, *reasons = error.args or ("",)
    if not (reasons and hasattr(builder, "path")):
        return format_error(error)
    return f"{builder.path.removeprefix('root').lstrip('/') or '/'}: {format_error(reasons[-1])}"


def _read(reader: Any, root: Any) -> NWBFile:
    """Return the file that pynwb builds, also if the version is an array of one text, which pynwb rejects."""
    if not isinstance(root.attrs.get("nwb_version"), np.ndarray):
        return reader.read()
    reader.read_builder().set_attribute("nwb_version", _read_version(root))
    return reader.read(skip_version_check=True)


def _read_version(root: Any) -> str | None:
    """Return the NWB version of a file."""
    version = root.attrs.get("nwb_version")
    if version is None and isinstance(root, h5py.File):  # NWB 1 stores it in a dataset
        version = root["nwb_version"][()] if "nwb_version" in root else None
    if version is None:
        return None
    first = next(iter(np.ravel(version).tolist()), "")
    return first.decode(errors="replace") if isinstance(first, bytes) else str(first)


def _check_version(source: Source, root: Any) -> None:
    """Refuse a file that is not NWB 2."""
    version = _read_version(root)
    if version is None:
        raise UnsupportedFileError(
            f"{source.text}: expected an NWB file, but it has no 'nwb_version'; give a .nwb file"
        )
    if not version.removeprefix("NWB-").startswith("2"):
        raise UnsupportedFileError(
            f"{source.text}: expected NWB 2, but got version {version!r}; "
            "convert it to NWB 2 with NeuroConv or with the tool that made it"
        )


_NO_NAMESPACE = re.compile(r"'([^']+)' not a namespace")  # what hdmf says
_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def is_hdf5(path: Path) -> bool:
    """Return whether a file begins with the HDF5 signature; false if it cannot be read."""
    try:
        with path.open("rb") as stream:
            return stream.read(8) == _SIGNATURE
    except OSError:
        return False
