"""Groups and arrays of an open container, HDF5 or Zarr, and its links to other files."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from nwbrnn.addresses import strip_all_secrets
from nwbrnn.errors import UnsupportedFileError
from nwbrnn.limits import MAX_WHOLE_RATIO, is_written
from nwbrnn.storage.damage import check_heaps, check_object, count_stored, find_facts
from nwbrnn.storage.virtual import check_sources, find_address


@dataclass(frozen=True)
class Store:
    """The root group of an open file, and the objects to close with it."""

    root: Any  # h5py.File or zarr.Group; both are mappings of names to groups and arrays, with attrs
    closing: contextlib.ExitStack  # objects to close with the store

    def close(self) -> None:
        """Close the file."""
        self.closing.close()


def find_links_outside(root: h5py.Group, *, follow: bool = False) -> list[tuple[str, str]]:
    """Return the path and target file of each external link, external storage and virtual dataset of HDF5.

    With ``follow``, the linked files are examined too. An object so damaged that it must not be read is an
    OSError.
    """
    links: list[tuple[str, str]] = []
    virtual: list[h5py.Dataset] = []
    for where, item in _walk(root, follow=follow):
        if isinstance(item, h5py.ExternalLink):
            links.append((where, item.filename))
        elif isinstance(item, h5py.Dataset):
            links += [(where, file) for file in _list_files(item)]
            virtual += [item] if item.is_virtual else []
    if follow or not links:  # otherwise the file is refused, and a path in it may lead to another file
        check_sources(virtual, follow=follow)
    return links


def _walk(root: h5py.Group, *, follow: bool) -> Iterator[tuple[str, h5py.Dataset | h5py.ExternalLink]]:
    """Yield datasets and external links with their paths, after checking them for damage."""
    seen, waiting = set(), [root]
    while waiting:
        group = waiting.pop()
        address = find_address(group)
        if address in seen:  # hard links can form cycles
            continue
        seen.add(address)
        file = find_facts(group.file)
        check_object(group, file)
        path = group.name.rstrip("/")
        for name in group:
            link = group.get(name, getlink=True)
            where = f"{path}/{name}"
            if isinstance(link, h5py.ExternalLink):
                yield where, link
                linked = _open_linked(group, name) if follow else None
                if linked is not None:
                    check_heaps(Path(linked.file.filename))
                    waiting.append(linked)
            elif isinstance(link, h5py.HardLink):
                member = group[name]
                if isinstance(member, h5py.Group):
                    waiting.append(member)
                elif isinstance(member, h5py.Dataset):
                    check_object(member, file)
                    yield where, member


def _open_linked(group: h5py.Group, name: str) -> h5py.Group | None:
    """Return the root of the file that an external link leads to."""
    with contextlib.suppress(KeyError, OSError):  # reading reports a missing file
        return group[name].file["/"]
    return None


def find_stored(array: Any) -> int:
    """Return how many bytes of an HDF5 or Zarr array are stored; its full size if that is unknown."""
    if isinstance(array, h5py.Dataset):
        return count_stored(array)
    stored = getattr(array, "nbytes_stored", None)  # a property in zarr 2, a method in zarr 3
    size = stored() if callable(stored) else stored
    return int(size) if size is not None and size >= 0 else int(getattr(array, "nbytes", 0))


def read_whole(array: Any) -> NDArray[Any]:
    """Return all data of a series; a series that declares far more than it stores is an OSError."""
    size = int(np.prod(array.shape, dtype=float)) * array.dtype.itemsize if hasattr(array, "dtype") else 0
    if not is_written(size, find_stored(array), ratio=MAX_WHOLE_RATIO):
        raise OSError(f"{array.name} would unpack to {size:.0e} bytes, of which almost nothing is stored")
    return np.asarray(array[:])


def is_missing(file: str, folder: Path) -> bool:
    """Return whether HDF5 would not find a linked file in any of the places where it looks."""
    return "%" not in file and not list_places(file, folder)  # %b: a series of files


def list_places(file: str, folder: Path) -> list[Path]:
    """Return the existing files that a link may refer to, since HDF5 looks in several places."""
    places = (folder / file, folder / Path(file).name, Path(file))
    return [place for place in places if place.exists()]


def _list_files(dataset: h5py.Dataset) -> set[str]:
    """Return the other files that hold values of a dataset."""
    files = {str(name) for name, *_ in dataset.external or ()}
    if dataset.is_virtual:
        files |= {source.file_name for source in dataset.virtual_sources()} - {"."}
    return files


def refuse_links(
    text: str, links: Sequence[tuple[str, str]], *, remedy: str = "copy what it links to into it"
) -> None:
    """Refuse a file that links to other files; each link has its path and its target."""
    if links:
        raise UnsupportedFileError(
            f"{text}: expected a file without external links, but it links to other files: "
            f"{list_links(links)}; {remedy}"
        )


def list_links(links: Sequence[tuple[str, str]]) -> str:
    """Return the first links as text for a message."""
    return ", ".join(f"{where} -> {what}" for where, what in links[:5])


ALLOW_LINKS = "if you trust them, allow it with follow_links (--follow-links)"


def find_cause(root: Any) -> str:
    """Return why pynwb cannot build a file, and the remedy, if its groups show it; otherwise empty."""
    waiting: list[tuple[str, Any, tuple[Any, ...]]] = [("", root, ())]
    while waiting:
        path, group, above = waiting.pop()
        above = (*above, find_address(group) if isinstance(group, h5py.Group) else path)
        members = {}
        for name in group:
            try:
                members[name] = group.get(name)
            except (OSError, RuntimeError) as error:  # such as a link that leads to itself
                return f"{path}/{name}: it cannot be opened ({format_error(error)}); remove it".lstrip("/")
        wrong = _find_uneven(path, group, members)
        if wrong:
            return f"{wrong}; correct the table"
        for name, member in members.items():
            where = f"{path}/{name}".lstrip("/")
            if not hasattr(member, "keys"):
                continue
            if isinstance(member, h5py.Group) and find_address(member) in above:
                link = group.get(name, getlink=True)
                target = getattr(link, "path", "a group")
                return f"{where} is a link to {target}, which holds it; remove the link"
            waiting.append((where, member, above))
    return ""


def _find_uneven(path: str, group: Any, members: Mapping[str, Any]) -> str:
    """Return a message about a column whose length differs from that of the ids; empty if there is none."""
    if "colnames" not in group.attrs or members.get("id") is None:
        return ""
    shape = getattr(members["id"], "shape", None)
    if not shape:
        return f"{path}/id is a {'group' if shape is None else 'single value'}, not one number for each row"
    n_rows = shape[0]
    for name, array in members.items():
        is_outer = hasattr(array, "shape") and f"{name}_index" not in group
        if is_outer and array.shape and array.shape[0] != n_rows:
            return f"{path}/{name} has {array.shape[0]} rows, but the table has {n_rows}"
    return ""


def format_error(error: BaseException | str) -> str:
    """Return the message of another library's error as one short line, without secrets in addresses."""
    text = strip_all_secrets(" ".join(str(error).split())) or type(error).__name__
    # hdmf puts whole objects into its messages, followed by the reason
    return text if len(text) <= 300 else f"{text[:120]} ... {text[-175:]}"
