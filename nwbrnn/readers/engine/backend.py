"""The entry points that xarray calls. Other modules of the engine list and read the file."""

import contextlib
import dataclasses
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import xarray as xr
from xarray.backends import BackendEntrypoint

from nwbrnn.errors import NwbrnnError, ReadError, UnsupportedFileError
from nwbrnn.readers.engine.arrays import LazyFile
from nwbrnn.readers.engine.contents import Contents
from nwbrnn.readers.engine.groups import read_group
from nwbrnn.storage import find_source, format_error


class NwbBackend(BackendEntrypoint):
    """Open NWB files with ``xr.open_dataset(path, engine="nwb", group=...)`` and ``xr.open_datatree``.

    A file may be HDF5 or Zarr, at a local path, ``http://``, ``https://``, ``s3://`` or
    ``dandi://DANDISET/path``.
    """

    description: ClassVar[str] = "NWB files in HDF5 or Zarr, local, from servers or from DANDI"
    url: ClassVar[str] = "https://www.nwb.org"
    supports_groups: ClassVar[bool] = True

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Return whether a name looks like that of an NWB file."""
        if not isinstance(filename_or_obj, str | os.PathLike):
            return False
        name = os.fspath(filename_or_obj).lower().rstrip("/")
        return name.endswith((".nwb", ".nwb.zarr")) or name.startswith("dandi:/")

    def open_dataset(  # type: ignore[override]  # fewer types of file than xarray's
        self,
        filename_or_obj: str | os.PathLike[str],
        *,
        drop_variables: str | Iterable[str] | None = None,
        group: str | None = None,
        follow_links: bool = False,
    ) -> xr.Dataset:
        """Open one group of a file.

        Parameters
        ----------
        filename_or_obj
            Path or address of the file.
        drop_variables
            Variables to leave out.
        group
            Path of the group, e.g. ``acquisition/EMG``; the root if not given.
        follow_links
            Whether links may lead to other files.

        Returns
        -------
        Dataset
            A lazy Dataset with units and coordinates; closing it closes the file.

        Raises
        ------
        MissingDataError
            If there is no such group.
        NwbrnnError
            If the file cannot be read.
        """
        with _open(filename_or_obj, follow_links) as file:
            contents = Contents(file)
            ds = read_group(contents, contents.list_group(contents.find_group(group)))
        ds = ds.drop_vars(_list_names(drop_variables), errors="ignore")
        ds.set_close(file.close)
        return ds

    def open_groups_as_dict(  # type: ignore[override]
        self,
        filename_or_obj: str | os.PathLike[str],
        *,
        drop_variables: str | Iterable[str] | None = None,
        group: str | None = None,
        follow_links: bool = False,
    ) -> dict[str, xr.Dataset]:
        """Open every group of a file, or those below one; parameters and errors as of :meth:`open_dataset`.

        Returns
        -------
        dict
            Datasets by path, where ``/`` is ``group``. They share one opened file.
        """
        dropped = _list_names(drop_variables)
        groups = {}
        with _open(filename_or_obj, follow_links) as file:
            contents = Contents(file)
            top = contents.find_group(group)
            for member in contents.walk(top):
                ds = read_group(contents, member).drop_vars(dropped, errors="ignore")
                ds.set_close(file.close)
                groups[member.path.removeprefix(top.rstrip("/")) or "/"] = ds
        return groups

    def open_datatree(  # type: ignore[override]
        self,
        filename_or_obj: str | os.PathLike[str],
        *,
        drop_variables: str | Iterable[str] | None = None,
        group: str | None = None,
        follow_links: bool = False,
    ) -> xr.DataTree:
        """Open a whole file, or the groups below one; parameters and errors as of :meth:`open_dataset`.

        Returns
        -------
        DataTree
            The Datasets of :meth:`open_groups_as_dict`; closing it closes the file.

        Raises
        ------
        ReadError
            If a dimension has different sizes in a group and in one below it.
        """
        groups = self.open_groups_as_dict(
            filename_or_obj, drop_variables=drop_variables, group=group, follow_links=follow_links
        )
        try:
            tree = xr.DataTree.from_dict(groups)
        except Exception as error:
            groups["/"].close()
            raise ReadError(
                f"{filename_or_obj}: expected groups that fit into one tree, but {format_error(error)}; "
                "open them one by one, with xr.open_groups or xr.open_dataset(..., group=...)"
            ) from error
        for path, ds in groups.items():
            tree[path].set_close(ds._close)
        return tree


@contextlib.contextmanager
def _open(path: Any, follow_links: bool) -> Iterator[LazyFile]:
    """Yield a file; if something is wrong with it, close it and raise one of our errors."""
    if not isinstance(path, str | os.PathLike):
        raise UnsupportedFileError(f"{path!r}: expected a path or an address, but got {type(path).__name__}")
    source = find_source(os.fspath(path))
    if not source.is_remote:  # so that a pickle works in another folder
        source = dataclasses.replace(source, url=str(Path(source.url).absolute()))
    file = LazyFile(source, follow_links=follow_links)
    try:
        yield file
    except NwbrnnError:
        file.close()
        raise
    except Exception as error:  # a damaged file may raise any error
        file.close()
        raise UnsupportedFileError(
            f"{source.text}: expected groups and arrays of NWB, but they cannot be read: "
            f"{type(error).__name__}: {format_error(error)}; get a fresh copy, or open one group"
        ) from error


def _list_names(names: str | Iterable[str] | None) -> list[str]:
    return [names] if isinstance(names, str) else list(names or ())
