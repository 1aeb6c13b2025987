"""The engine ``nwb`` of xarray: every group of an NWB file as a Dataset, lazily.

The groups and arrays of the file are looked at as they are, not through pynwb: opening is cheap, and types of
any extension are read.
"""

import contextlib
import dataclasses
import difflib
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np
import xarray as xr
from xarray.backends import BackendEntrypoint
from xarray.core import indexing

from nwbrnn.errors import MissingDataError, NwbrnnError, ReadError, UnsupportedFileError
from nwbrnn.readers.lazy import (
    TEXT,
    LazyFile,
    RegularTimes,
    Scaling,
    StoredArray,
    TimeIndex,
    describe_values,
)
from nwbrnn.storage import find_source, one_line

_COLUMNS = re.compile(r"columns\s*=\s*\[([^\]]*)\]")
_ROWS = {
    "/intervals/trials": "trial",
    "/units": "unit",
    "/general/extracellular_ephys/electrodes": "electrode",
}
_SECONDS = {"start_time", "stop_time", "spike_times", "obs_intervals"}
_TEXTS = {"external_file", "control_description"}
_NOT_ATTRS = {"object_id", "namespace", ".specloc", "colnames"}
_NOT_ATTRS |= {"zarr_link", "zarr_dtype", "_LINKS", "_DTYPE", "_REFERENCE_FIELDS", "_ARRAY_DIMENSIONS"}
_CONTIGUOUS_CHUNK = 1 << 26
"""Bytes in a chunk of what the file does not chunk."""


class NwbBackend(BackendEntrypoint):
    """Opens NWB files, with ``xr.open_dataset(path, engine="nwb", group=...)`` and ``xr.open_datatree``.

    Files in HDF5 or Zarr; a local path, ``http://``, ``https://``, ``s3://`` or ``dandi://DANDISET/path``.
    """

    description: ClassVar[str] = "NWB files in HDF5 or Zarr, local, from servers or from DANDI"
    url: ClassVar[str] = "https://www.nwb.org"
    supports_groups: ClassVar[bool] = True

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Return whether a name is one of an NWB file."""
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
            Whether links may lead out of the file.

        Returns
        -------
        Dataset
            Lazy, with units and coordinates; closing it closes the file.

        Raises
        ------
        MissingDataError
            If there is no such group.
        NwbrnnError
            If the file cannot be read.
        """
        with _open(filename_or_obj, follow_links) as file:
            reader = _Reader(file, file.acquire(), _list_names(drop_variables))
            ds = _read_group(reader, reader.list(_find_group(reader, group)))
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
        """Open every group of a file, or those below one; for the parameters see :meth:`open_dataset`.

        Returns
        -------
        dict
            Datasets by path, ``/`` being ``group``. They share one opened file.
        """
        with _open(filename_or_obj, follow_links) as file:
            reader = _Reader(file, file.acquire(), _list_names(drop_variables))
            top = _find_group(reader, group)
            found = {
                g.path.removeprefix(top.rstrip("/")) or "/": _read_group(reader, g) for g in reader.walk(top)
            }
            for ds in found.values():
                ds.set_close(file.close)
        return found

    def open_datatree(  # type: ignore[override]
        self,
        filename_or_obj: str | os.PathLike[str],
        *,
        drop_variables: str | Iterable[str] | None = None,
        group: str | None = None,
        follow_links: bool = False,
    ) -> xr.DataTree:
        """Open a whole file, or what is below a group; for the parameters see :meth:`open_dataset`."""
        found = self.open_groups_as_dict(
            filename_or_obj, drop_variables=drop_variables, group=group, follow_links=follow_links
        )
        try:
            tree = xr.DataTree.from_dict(found)
        except Exception as error:  # sizes that differ between a group and one in it
            found["/"].close()
            raise ReadError(
                f"{filename_or_obj}: expected groups that fit into one tree, but {one_line(error)}; "
                "open them one by one, with xr.open_groups or xr.open_dataset(..., group=...)"
            ) from error
        for path, ds in found.items():
            tree[path].set_close(ds._close)
        return tree


@contextlib.contextmanager
def _open(path: Any, follow_links: bool) -> Iterator[LazyFile]:
    """Yield a file; close it, and raise one of our errors, if something is wrong with it."""
    if not isinstance(path, str | os.PathLike):
        raise UnsupportedFileError(f"{path!r}: expected a path or an address, but got {type(path).__name__}")
    source = find_source(os.fspath(path))
    if not source.is_remote:  # for pickles that are read in another folder
        source = dataclasses.replace(source, url=str(Path(source.url).absolute()))
    file = LazyFile(source, follow_links=follow_links)
    try:
        yield file
    except NwbrnnError:
        file.close()
        raise
    except Exception as error:  # a damaged file raises any kind
        file.close()
        raise UnsupportedFileError(
            f"{source.text}: expected groups and arrays of NWB, but they cannot be read: "
            f"{type(error).__name__}: {one_line(error)}; get a fresh copy, or open one group"
        ) from error


def _list_names(names: str | Iterable[str] | None) -> list[str]:
    return [names] if isinstance(names, str) else list(names or ())


def _find_group(reader: "_Reader", group: str | None) -> str:
    """Return the path of a group that exists."""
    path = "/" + (group or "").strip("/")
    if reader.is_group(path):
        return path
    known = [found.path.strip("/") for found in reader.walk("/")]
    wanted = path.strip("/")
    same_name = [k for k in known if k.rsplit("/", 1)[-1].lower() == wanted.rsplit("/", 1)[-1].lower()]
    near = list(dict.fromkeys(same_name + difflib.get_close_matches(wanted, known, n=5)))
    listed = ", ".join(near[:5] or sorted(k for k in known if "/" not in k and k))
    raise MissingDataError(
        f"{reader.file.source.text}: {wanted}: expected a group of the file, but there is none; "
        f"{'did you mean' if near else 'choose below'}: {listed}"
    )


@dataclasses.dataclass(frozen=True)
class _Array:
    """An array of the file: where it is, and what it tells of itself.

    ``dtype`` is that of the values handed out, ``None`` with a ``problem`` if they cannot be. ``shape`` is
    empty for scalars, in Zarr too.
    """

    node: Any
    path: str
    shape: tuple[int, ...]
    attrs: dict[str, Any]
    dtype: np.dtype[Any] | None
    problem: str


@dataclasses.dataclass
class _Group:
    """A group of the file. ``links`` are paths of other groups; ``omitted`` names what cannot be shown."""

    path: str
    attrs: dict[str, Any]
    columns: list[str]
    arrays: dict[str, _Array] = dataclasses.field(default_factory=dict)
    groups: list[str] = dataclasses.field(default_factory=list)
    links: dict[str, str] = dataclasses.field(default_factory=dict)
    omitted: list[str] = dataclasses.field(default_factory=list)

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]

    @property
    def kind(self) -> Callable[["_Reader", "_Group"], xr.Dataset]:
        """What reads it, by what is in it and not by its type, which extensions may define."""
        data, ids = self.arrays.get("data"), self.arrays.get("id")
        if data is not None and data.shape and {"timestamps", "starting_time"} & set(self.arrays):
            return _read_series
        if self.columns and ids is not None and len(ids.shape) == 1 and ids.dtype is not None:
            return _read_table
        return _read_other


class _Reader:
    """Lists the groups and arrays of an opened file, HDF5 or Zarr, and makes variables of them."""

    def __init__(self, file: LazyFile, root: Any, drop: list[str]) -> None:
        self.file = file
        self.root = root
        self.drop = drop

    def is_group(self, path: str) -> bool:
        """Return whether a path leads to a group."""
        try:
            return _is_group(self._get(path))
        except (KeyError, ValueError, TypeError):
            return False

    def walk(self, path: str) -> Iterator[_Group]:
        """Yield a group and all below, the upper ones first; none twice."""
        seen, waiting = set(), [path]
        while waiting:
            path = waiting.pop()
            node = self._get(path)
            key = h5py.h5o.get_info(node.id).addr if isinstance(node, h5py.Group) else path
            if key in seen:  # hard links can form circles
                continue
            seen.add(key)
            group = self.list(path)
            yield group
            waiting += [_join(path, name) for name in reversed(group.groups)]

    def list(self, path: str) -> _Group:
        """Return a group with its members."""
        node = self._get(path)
        columns = [str(_simplify(self.root, name)) for name in node.attrs.get("colnames", ())]
        group = _Group(path, self._list_attrs(node), columns)
        is_hdf5 = isinstance(node, h5py.Group)
        for name, member, target in _iterate_hdf5(node) if is_hdf5 else _iterate_zarr(self.root, node):
            if path == "/" and name in {"specifications", ".specloc"}:
                continue
            if isinstance(member, Exception):
                if not target:
                    where = f"{self.file.source.text}: {_join(path, name)}"
                    raise ReadError(
                        f"{where}: expected a part of the file, but {one_line(member)}; get a fresh copy"
                    )
                group.omitted.append(f"{name} (cannot be opened)")
            elif hasattr(member, "shape"):
                group.arrays[name] = self._describe(
                    member, target if target and not is_hdf5 else _join(path, name)
                )
            elif target:
                group.links[name] = target
            elif _is_group(member):
                group.groups.append(name)
        return group

    def load(self, array: _Array) -> Any:
        """Return the values of a small array, now."""
        if array.node.shape == ():
            return self.file.read(array.path, ())[()]
        lazy = StoredArray(self.file, array.path, tuple(array.node.shape), array.dtype or np.dtype(float))
        return lazy.get_duck_array()

    def load_member(self, path: str, name: str) -> Any:
        """Return the values of a small array of some group."""
        return self.load(self.list(path).arrays[name])

    def make(self, dims: tuple[str, ...], array: _Array, **options: Any) -> xr.Variable:
        """Return a lazy variable with units; the options are those of :class:`StoredArray`."""
        attrs = {name: value for name, value in array.attrs.items() if name not in {"unit", "units"}}
        unit = array.attrs.get("unit", array.attrs.get("units"))
        if unit is not None:
            attrs["units"] = "s" if unit == "seconds" else unit
        options = {"dtype": array.dtype} | options
        data = indexing.LazilyIndexedArray(StoredArray(self.file, array.path, array.shape, **options))
        chunks = array.node.chunks or _split_contiguous(array)
        return xr.Variable(dims, data, attrs, {"preferred_chunks": dict(zip(dims, chunks, strict=True))})

    def make_all(self, group: _Group, dims: dict[str, tuple[str, ...]]) -> dict[str, xr.Variable]:
        """Return variables of the arrays that have dimensions; compound values become several variables."""
        found = {}
        for name, its_dims in dims.items():
            array = group.arrays[name]
            if array.dtype is None:
                group.omitted.append(f"{name} ({array.problem})")
            elif array.dtype.names:
                for part in array.dtype.names:
                    found[f"{name}_{part}"] = self.make(its_dims, array, dtype=array.dtype[part], member=part)
            else:
                found[name] = self.make(its_dims, array)
        return found

    def list_scalars(self, group: _Group) -> dict[str, Any]:
        """Return the scalars of a group, for attributes."""
        found = {}
        for name, array in group.arrays.items():
            if array.shape == ():
                value = None if array.dtype is None else _simplify(self.root, self.load(array))
                if value is None:
                    group.omitted.append(f"{name} ({array.problem or 'no plain value'})")
                else:
                    found[name] = value
        return found

    def _get(self, path: str) -> Any:
        return self.root if path == "/" else self.root[path.lstrip("/")]

    def _describe(self, node: Any, path: str) -> _Array:
        dtype, problem = describe_values(node)
        is_scalar = node.shape == (1,) and node.attrs.get("zarr_dtype") == "scalar"
        shape = () if is_scalar or node.shape is None else tuple(int(n) for n in node.shape)
        return _Array(node, path, shape, self._list_attrs(node), dtype, problem)

    def _list_attrs(self, node: Any) -> dict[str, Any]:
        """Return attributes as text and numbers; references as the path they lead to."""
        found = {
            name: _simplify(self.root, node.attrs[name]) for name in node.attrs if name not in _NOT_ATTRS
        }
        return {name: value for name, value in found.items() if value is not None}


def _join(path: str, name: str) -> str:
    return f"{path.rstrip('/')}/{name}"


def _is_group(node: Any) -> bool:
    return hasattr(node, "keys")


def _iterate_hdf5(group: h5py.Group) -> Iterator[tuple[str, Any, str]]:
    """Yield name, member (or the error) and, for links, where they lead."""
    for name in group:
        link = group.get(name, getlink=True)
        target = "" if isinstance(link, h5py.HardLink) else str(link.path)
        try:
            yield name, group[name], target
        except Exception as error:  # a damaged or missing object raises any kind
            yield name, error, target


def _iterate_zarr(root: Any, group: Any) -> Iterator[tuple[str, Any, str]]:
    """Yield the same for Zarr, where hdmf-zarr keeps links in an attribute."""
    for name in group:
        try:
            yield name, group[name], ""
        except Exception as error:  # zarr, numcodecs
            yield name, error, ""
    for link in group.attrs.get("zarr_link", group.attrs.get("_LINKS", ())):  # before and since 0.14
        name, path = link["name"], link["path"]
        is_found = link["source"] in {".", ""} and path.lstrip("/") in root  # other stores are not opened
        yield name, root[path.lstrip("/")] if is_found else KeyError(path), path


def _simplify(root: Any, value: Any) -> str | int | float | None:
    """Return an attribute or a scalar as text or a number; ``None`` for what is neither."""
    if isinstance(value, h5py.Reference):
        return str(root[value].name) if value else None
    if isinstance(value, dict):  # a reference in Zarr
        path = (value.get("value") or value.get("_REFERENCE") or {}).get("path")
        return None if path is None else str(path)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, list | tuple | np.ndarray):
        parts = [_simplify(root, part) for part in np.asarray(value, object).ravel()]
        return parts[0] if len(parts) == 1 else "; ".join(map(str, parts))
    if isinstance(value, bool):
        return int(value)
    return value if isinstance(value, str | int | float) else None


def _read_group(reader: _Reader, group: _Group) -> xr.Dataset:
    """Return the Dataset of a group."""
    scalars = reader.list_scalars(group)
    ds = group.kind(reader, group)
    ds.attrs = group.attrs | scalars | group.links | ds.attrs
    if group.path == "/":
        ds.attrs |= _read_session(reader)
    if group.omitted:
        ds.attrs["omitted"] = ", ".join(group.omitted)
    _share_chunks(ds)
    return ds.drop_vars([name for name in reader.drop if name in ds.variables])


def _read_session(reader: _Reader) -> dict[str, Any]:
    """Return what the file says on the session and the subject."""
    found: dict[str, Any] = {}
    for path, prefix in (("/general", ""), ("/general/subject", "subject_")):
        if reader.is_group(path):
            group = reader.list(path)
            values = reader.list_scalars(group) | _join_texts(reader, group.arrays)
            found |= {prefix + name.removeprefix(prefix): value for name, value in values.items()}
    return found


def _join_texts(reader: _Reader, arrays: dict[str, _Array]) -> dict[str, Any]:
    """Return lists of texts, such as experimenters, as one text each."""
    texts = {name: a for name, a in arrays.items() if len(a.shape) == 1 and a.dtype is TEXT}
    return {name: "; ".join(map(str, reader.load(array))) for name, array in texts.items()}


def _read_other(reader: _Reader, group: _Group) -> xr.Dataset:
    """Return a group of arrays that are not known to have anything in common."""
    texts = _join_texts(reader, group.arrays) if group.path in {"/", "/general"} else {}
    arrays = {name: a for name, a in group.arrays.items() if a.shape and name not in texts}
    dims = {name: _name_dims(name, array, f"{name}_row") for name, array in arrays.items()}
    return xr.Dataset(reader.make_all(group, dims), attrs=texts)


def _name_dims(name: str, array: _Array, first: str) -> tuple[str, ...]:
    """Return dimensions, of which all but the first belong to this array only."""
    return (first, *(f"{name}_dim{i}" for i in range(1, len(array.shape))))


def _read_table(reader: _Reader, group: _Group) -> xr.Dataset:
    """Return a DynamicTable. Ragged columns stay flat: row ``i`` ends at ``<column>_index[i]``."""
    ids = group.arrays["id"]
    row = _ROWS.get(group.path, group.name)
    if row in group.arrays:
        row = "id"
    order = {name: i for i, name in enumerate(group.columns)}
    names = sorted(group.arrays, key=lambda name: order.get(name.removesuffix("_index"), len(order)))
    dims = {}
    for name in names:
        array = group.arrays[name]
        if array.shape and name != "id":
            if name.endswith("_index") and _find_flat(group, name).dtype is None:
                continue
            is_flat = f"{name}_index" in group.arrays or array.shape[0] != ids.shape[0]
            dims[name] = _name_dims(name, array, f"{name}_row" if is_flat else row)
    variables = reader.make_all(group, dims)
    for name, variable in variables.items():
        if name in _SECONDS and variable.dtype.kind == "f":
            variable.attrs.setdefault("units", "s")
        if name.endswith("_index") and name.removesuffix("_index") in variables:
            variable.attrs["long_name"] = f"end of each row in {name.removesuffix('_index')}"
    coords = xr.Coordinates({row: reader.make((row,), ids)}, indexes={})
    return xr.Dataset(variables, coords=coords)


def _find_flat(group: _Group, name: str) -> _Array:
    """Return the values that an index, or an index of an index, points to."""
    while name.endswith("_index") and name.removesuffix("_index") in group.arrays:
        name = name.removesuffix("_index")
    return group.arrays[name]


def _read_series(reader: _Reader, group: _Group) -> xr.Dataset:
    """Return a TimeSeries: ``data`` in its unit, by ``time`` and ``channel``."""
    data, stamps = group.arrays["data"], group.arrays.get("timestamps")
    n_samples = data.shape[0]
    variables = {}
    if "external_file" in group.arrays and not math.prod(data.shape):  # a video beside the file
        n_samples = stamps.shape[0] if stamps is not None and stamps.shape else 0
    elif data.dtype is None or data.dtype.names:
        group.omitted.append(f"data ({data.problem or 'compound values'})")
    else:
        variables["data"] = _make_data(reader, group)
    # few texts that would have a dimension of their own: a table of the samples should not get it
    texts = _join_texts(reader, {name: a for name, a in group.arrays.items() if name in _TEXTS})
    dims = {}
    for name, array in group.arrays.items():
        if array.shape and name not in {"data", "timestamps", "starting_time", *texts}:
            dims[name] = _name_dims(name, array, _find_dim(group, name, n_samples))
    coords, indexes = {}, {}
    if len(data.shape) == 2 and "data" in variables:
        coords["channel"] = xr.Variable(("channel",), _name_channels(reader, group))
    if n_samples or "data" in variables:
        coords["time"], indexes["time"] = _make_time(reader, group, n_samples)
        if stamps is not None and stamps.shape != (n_samples,):
            dims["timestamps"] = _name_dims("timestamps", stamps, "timestamps_row")
    variables |= reader.make_all(group, dims)
    return xr.Dataset(
        variables, coords=xr.Coordinates(coords, indexes=indexes), attrs=texts | _list_timing(group)
    )


def _find_dim(group: _Group, name: str, n_samples: int) -> str:
    """Return the first dimension of an array that comes with the data of a series."""
    size, shape = group.arrays[name].shape[0], group.arrays["data"].shape
    if name in {"electrodes", "channel_conversion"}:
        return "channel" if shape[1:2] == (size,) else f"{name}_row"
    is_timed = size == n_samples and name != "dimension" and (name == "control" or size not in shape[1:])
    return "time" if is_timed else f"{name}_row"


def _list_timing(group: _Group) -> dict[str, Any]:
    """Return the rate of a series, if it has one, as an attribute."""
    rate = group.arrays["starting_time"].attrs.get("rate") if "starting_time" in group.arrays else None
    return {} if rate is None else {"rate": rate}


def _make_data(reader: _Reader, group: _Group) -> xr.Variable:
    """Return the data of a series, scaled as the file says."""
    data = group.arrays["data"]
    dims = ("time", "channel", *(f"channel_{i}" for i in range(2, len(data.shape))))[: len(data.shape)]
    scaling, note = _find_scaling(reader, group)
    options = {} if scaling is None else {"scaling": scaling, "dtype": np.dtype(np.float64)}
    variable = reader.make(dims, data, **options)
    for name in ("conversion", "offset"):  # they are applied: nobody is to apply them again
        variable.attrs.pop(name, None)
    if note:
        variable.attrs["scaling"] = note
    kept = ("description", "comments", "neurodata_type")
    variable.attrs |= {name: group.attrs[name] for name in kept if name in group.attrs}
    return variable


def _find_scaling(reader: _Reader, group: _Group) -> tuple[Scaling | None, str]:
    """Return what makes the stored numbers values in their unit, and a note that says so."""
    data, by_channel = group.arrays["data"], group.arrays.get("channel_conversion")
    if data.dtype is None or data.dtype.kind not in "iuf":
        return None, ""
    conversion, offset = _find_number(data, "conversion", 1.0), _find_number(data, "offset", 0.0)
    gain, note = np.asarray(conversion), f"applied: stored * {conversion!r} + {offset!r}"
    axis = 1
    if by_channel is not None and by_channel.shape:
        axis = int(_find_number(by_channel, "axis", 1))
        if by_channel.shape != data.shape[axis : axis + 1] and by_channel.shape != (1,):
            raise ReadError(
                f"{reader.file.source.text}: {group.path}: expected a channel_conversion for each channel, "
                f"but got {by_channel.shape} for data {data.shape}; correct the file"
            )
        gain = conversion * np.asarray(reader.load(by_channel), np.float64)
        gain = gain if by_channel.shape == data.shape[axis : axis + 1] else gain[0]
        note = f"applied: stored * {conversion!r} * channel_conversion + {offset!r}"
    elif conversion == 1 and offset == 0:
        return None, ""
    return Scaling(gain, offset, axis), note


def _find_number(array: _Array, name: str, default: float) -> float:
    """Return an attribute that is a number; NaN, as some converters write, counts as the default."""
    value = array.attrs.get(name, default)
    return default if not isinstance(value, int | float) or math.isnan(value) else float(value)


def _name_channels(reader: _Reader, group: _Group) -> np.ndarray[Any, Any]:
    """Return the names of channels, else the ids of their electrodes, else their positions."""
    n_channels = group.arrays["data"].shape[1]
    listed = _COLUMNS.search(f"{group.attrs.get('comments', '')} {group.attrs.get('description', '')}")
    names = [name.strip() for name in listed.group(1).split(",")] if listed else []
    if len(names) == n_channels == len(set(names)):
        return np.array(names, dtype=object)
    electrodes = group.arrays.get("electrodes")
    if electrodes is not None and electrodes.shape == (n_channels,) and electrodes.attrs.get("table"):
        rows = np.asarray(reader.load(electrodes), np.intp)
        ids = np.asarray(reader.load_member(electrodes.attrs["table"], "id"))
        if not rows.size or (rows.min() >= 0 and rows.max() < len(ids)):
            return ids[rows]
        group.omitted.append("ids of electrodes (they point to rows that do not exist)")
    return np.arange(n_channels)


def _make_time(reader: _Reader, group: _Group, n_samples: int) -> tuple[xr.Variable, TimeIndex]:
    """Return the times of samples; they are NaN, and cannot be selected, if the file is wrong."""
    stamps, start = group.arrays.get("timestamps"), group.arrays.get("starting_time")
    times: Any = RegularTimes(math.nan, math.nan, (n_samples,))
    is_increasing = False
    if stamps is not None and stamps.dtype is not None and stamps.dtype.kind in "iuf":
        if stamps.shape == (n_samples,):
            times = StoredArray(reader.file, stamps.path, stamps.shape, stamps.dtype)
        else:
            group.omitted.append(f"time ({stamps.shape} timestamps for {n_samples} samples)")
    elif start is not None:
        rate = _find_number(start, "rate", math.nan)
        is_increasing = 0 < rate < math.inf
        first = float(np.ravel(reader.load(start))[0])
        times = RegularTimes(first, rate if is_increasing else math.nan, (n_samples,))
    label = f"{reader.file.source.text}: {group.path}"
    index = TimeIndex(times, "time", "time", label=label, is_increasing=is_increasing)
    variable = index.create_variables()["time"]
    variable.attrs = {"units": "s", "long_name": "session time"}
    return variable, index


def _split_contiguous(array: _Array) -> tuple[int, ...]:
    """Return chunks for an array that the file stores in one piece."""
    assert array.dtype is not None
    row_bytes = max(math.prod(array.shape[1:]) * array.dtype.itemsize, 1)
    return (max(_CONTIGUOUS_CHUNK // row_bytes, 1), *array.shape[1:])


def _share_chunks(ds: xr.Dataset) -> None:
    """Prefer for each dimension the chunks of the largest variable: dask wants them to agree."""
    preferred: dict[Any, int] = {}
    for variable in sorted(ds.variables.values(), key=lambda v: -v.nbytes):
        for dim, size in variable.encoding.get("preferred_chunks", {}).items():
            preferred.setdefault(dim, max(min(size, ds.sizes[dim]), 1))
    for variable in ds.variables.values():
        variable.encoding["preferred_chunks"] = {d: preferred[d] for d in variable.dims if d in preferred}
