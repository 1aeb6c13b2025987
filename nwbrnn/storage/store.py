"""An opened container, HDF5 or Zarr, as groups and arrays."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import h5py


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


def find_links_outside(root: Any) -> list[str]:
    """Return every link that leads out of the file, as ``where -> what``."""
    return list(_walk_hdf5(root) if isinstance(root, h5py.Group) else _walk_zarr(root))


def _walk_hdf5(root: h5py.Group) -> Iterator[str]:
    """Yield external links, external storage and virtual datasets of other files."""
    seen, waiting = set(), [root]
    while waiting:
        group = waiting.pop()
        address = h5py.h5o.get_info(group.id).addr
        if address in seen:  # hard links can form circles
            continue
        seen.add(address)
        for name in group:
            link = group.get(name, getlink=True)
            where = f"{group.name.rstrip('/')}/{name}"
            if isinstance(link, h5py.ExternalLink):
                yield f"{where} -> {link.filename}"
            elif isinstance(link, h5py.HardLink):
                member = group[name]
                if isinstance(member, h5py.Group):
                    waiting.append(member)
                elif isinstance(member, h5py.Dataset):
                    yield from (f"{where} -> {name}" for name in _list_files(member))


def _list_files(dataset: h5py.Dataset) -> set[str]:
    """Return the other files that hold the values of a dataset."""
    files = {str(name) for name, *_ in dataset.external or ()}
    if dataset.is_virtual:
        files |= {source.file_name for source in dataset.virtual_sources()} - {"."}
    return files


def _walk_zarr(group: Any) -> Iterator[str]:
    """Yield hdmf-zarr's links to other stores."""
    for link in group.attrs.get("zarr_link", ()):
        if link["source"] not in (".", ""):
            yield f"/{group.path}/{link['name']} -> {link['source']}"
    for _, child in group.groups():
        yield from _walk_zarr(child)


def one_line(error: BaseException) -> str:
    """Return what an error of another library says, as one short line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."
