"""An opened container, HDF5 or Zarr, as groups and arrays."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import h5py

from nwbrnn.addresses import strip_all_secrets
from nwbrnn.errors import UnsupportedFileError
from nwbrnn.storage.damage import check_object


@dataclass(frozen=True)
class Store:
    """The root group of an opened file, and what to close with it.

    Attributes
    ----------
    root
        ``h5py.File`` or ``zarr.Group``; both are mappings of names to groups and arrays, with ``attrs``.
    closing
        Closed with the store.
    """

    root: Any
    closing: contextlib.ExitStack

    def close(self) -> None:
        """Close the file."""
        self.closing.close()


def find_links_outside(root: h5py.Group) -> list[str]:
    """Return every external link, external storage and virtual dataset of HDF5, as ``where -> what``.

    Raises
    ------
    OSError
        If something in the file is damaged, so that it must not be read.
    """
    links, seen, waiting = [], set(), [root]
    file_size = root.file.id.get_filesize()
    while waiting:
        group = waiting.pop()
        address = h5py.h5o.get_info(group.id).addr
        if address in seen:  # hard links can form circles
            continue
        seen.add(address)
        check_object(group, file_size=file_size)
        for name in group:
            link = group.get(name, getlink=True)
            where = f"{group.name.rstrip('/')}/{name}"
            if isinstance(link, h5py.ExternalLink):
                links.append(f"{where} -> {link.filename}")
            elif isinstance(link, h5py.HardLink):
                member = group[name]
                if isinstance(member, h5py.Group):
                    waiting.append(member)
                elif isinstance(member, h5py.Dataset):
                    check_object(member, file_size=file_size)
                    links += [f"{where} -> {file}" for file in _list_files(member)]
    return links


def _list_files(dataset: h5py.Dataset) -> set[str]:
    """Return the other files that hold the values of a dataset."""
    files = {str(name) for name, *_ in dataset.external or ()}
    if dataset.is_virtual:
        files |= {source.file_name for source in dataset.virtual_sources()} - {"."}
    return files


def refuse_links(text: str, links: Sequence[str], *, remedy: str = "copy what it links to into it") -> None:
    """Refuse a file that links to others.

    Parameters
    ----------
    text
        The file, for the message.
    links
        As ``where -> what``; if there are none, the file is fine.
    remedy
        What to do.

    Raises
    ------
    UnsupportedFileError
        If there are any.
    """
    if links:
        raise UnsupportedFileError(
            f"{text}: expected a file that stands alone, but it links to others: "
            f"{', '.join(links[:5])}; {remedy}"
        )


ALLOW_LINKS = "if you trust them, allow it with follow_links (--follow-links)"


def one_line(error: BaseException) -> str:
    """Return what an error of another library says, as one short line, without secrets of addresses."""
    text = strip_all_secrets(" ".join(str(error).split())) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."
