"""Find virtual datasets that are their own source; reading one would end the process (libhdf5 2.0.0)."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py

from nwbrnn.limits import MAX_DEPTH
from nwbrnn.storage.damage import open_hdf5

Address = tuple[int, int]
"""Number of an open file and position of an object in it; the same under all names of the object."""


def check_sources(datasets: Sequence[h5py.Dataset], *, follow: bool) -> None:
    """Refuse, with an OSError, virtual datasets that are their own source, directly or through others.

    So are chains of sources that are too long, and sources that are named by a pattern. Objects are compared
    by address, since soft links, hard links and paths with dots give one object many names. Sources in other
    files are opened only to ``follow`` them.
    """
    checked: set[Address] = set()
    with contextlib.ExitStack() as opened:
        for dataset in datasets:
            path: list[tuple[h5py.Dataset, Iterator[h5py.Dataset]]] = []
            _push(dataset, path, follow=follow, opened=opened)
            while path:
                last, sources = path[-1]
                source = next(sources, None)
                if source is None:
                    checked.add(find_address(last))
                    path.pop()
                elif source.is_virtual and find_address(source) not in checked:
                    _push(source, path, follow=follow, opened=opened)


def find_address(item: h5py.Group | h5py.Dataset) -> Address:
    """Return the address of an object, which is the same whatever name it was opened by."""
    info = h5py.h5o.get_info(item.id)
    return info.fileno, info.addr


def _push(
    dataset: h5py.Dataset,
    path: list[tuple[h5py.Dataset, Iterator[h5py.Dataset]]],
    *,
    follow: bool,
    opened: contextlib.ExitStack,
) -> None:
    """Continue from a dataset to its sources, unless that would never end."""
    if find_address(dataset) in {find_address(one) for one, _ in path}:
        raise OSError(f"the virtual dataset {dataset.name} is a source of itself")
    if len(path) >= MAX_DEPTH:
        raise OSError(f"{path[0][0].name} has a chain of more than {MAX_DEPTH} virtual datasets")
    path.append((dataset, _list_sources(dataset, follow=follow, opened=opened)))


def _list_sources(
    dataset: h5py.Dataset, *, follow: bool, opened: contextlib.ExitStack
) -> Iterator[h5py.Dataset]:
    """Return the datasets that hold, or may hold, the values of a virtual one."""
    for source in dict.fromkeys((one.file_name, one.dset_name) for one in dataset.virtual_sources()):
        file_name, name = (part if isinstance(part, str) else os.fsdecode(part) for part in source)
        if file_name != "." and not follow:
            continue
        if "%" in file_name + name:
            raise OSError(f"the virtual dataset {dataset.name} names its sources by a pattern, {name}")
        files = [dataset.file] if file_name == "." else _open_files(dataset, file_name, opened)
        for file in files:
            with contextlib.suppress(KeyError, OSError):  # a missing source reads as fill values
                found = file[name]
                if isinstance(found, h5py.Dataset):
                    yield found


def _open_files(dataset: h5py.Dataset, file_name: str, opened: contextlib.ExitStack) -> list[h5py.File]:
    """Open every file that a name may refer to; libhdf5 takes the first in the folders where it looks."""
    own = Path(os.fsdecode(dataset.file.filename))
    name = Path(file_name)
    folders = dict.fromkeys((own.parent, own.resolve().parent, Path()))
    candidates = [name, *(folder / part for folder in folders for part in (name, name.name))]
    there = [path for path in dict.fromkeys(candidates) if path.is_file() and h5py.is_hdf5(path)]
    return [opened.enter_context(open_hdf5(path)) for path in there]
