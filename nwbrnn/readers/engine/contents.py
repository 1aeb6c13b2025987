"""List the groups and arrays of an open file, HDF5 or Zarr, and describe them."""

import difflib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from nwbrnn.errors import MissingDataError, ReadError
from nwbrnn.readers.engine.arrays import TEXT, LazyFile, decode
from nwbrnn.storage import find_target_outside, format_error

_NOT_ATTRS = {"object_id", "namespace", ".specloc", "colnames"}
_NOT_ATTRS |= {"zarr_link", "zarr_dtype", "_LINKS", "_DTYPE", "_REFERENCE_FIELDS", "_ARRAY_DIMENSIONS"}
_SCHEMA = "/specifications"

Attribute = str | int | float


@dataclass(frozen=True)
class ArrayNode:
    """The description of an array in the file."""

    path: str
    shape: tuple[int, ...]  # its shape; empty for scalars, also in Zarr, and for arrays without a value
    dtype: np.dtype[Any] | None  # type of the returned values; None if they cannot be read
    problem: str  # why the values cannot be read; empty if they can
    attrs: dict[str, Attribute]
    # shape of the stored chunks; None if the file stores the array in one piece
    chunks: tuple[int, ...] | None

    @property
    def is_text(self) -> bool:
        """Whether values are texts."""
        return self.dtype is TEXT

    @property
    def is_number(self) -> bool:
        """Whether values are real numbers."""
        return self.dtype is not None and self.dtype.kind in "iuf"

    def get_number(self, name: str, default: float) -> float:
        """Return a numeric attribute; the default replaces NaN, which some converters write."""
        value = self.attrs.get(name, default)
        return float(value) if isinstance(value, int | float) and not math.isnan(value) else default


@dataclass(frozen=True)
class GroupNode:
    """The description of a group in the file."""

    path: str
    attrs: dict[str, Attribute]
    columns: list[str]  # names of the columns of a table, in order
    # its arrays by name, and the names of its groups
    arrays: dict[str, ArrayNode] = field(default_factory=dict)
    groups: list[str] = field(default_factory=list)
    # paths of other groups, by the names of the links to them
    links: dict[str, str] = field(default_factory=dict)
    # what cannot be shown, and why. The functions that read the group add to it
    omitted: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Member:
    """A name in a group: the path of the object and, for a link, its target."""

    name: str
    path: str
    target: str = ""
    is_outside: bool = False  # in another store, which is not opened


class Contents:
    """The groups and arrays of a file, which is opened."""

    def __init__(self, file: LazyFile) -> None:
        self.file = file
        self._root = file.acquire()

    def find_group(self, group: str | None) -> str:
        """Return the path of an existing group; the root if no name is given."""
        path = "/" + (group or "").strip("/")
        if self.is_group(path):
            return path
        wanted, name = path.strip("/"), path.rsplit("/", 1)[-1].lower()
        known = [found.path.strip("/") for found in self.walk("/")]
        same_name = [k for k in known if k.rsplit("/", 1)[-1].lower() == name]
        near = list(dict.fromkeys(same_name + difflib.get_close_matches(wanted, known, n=5)))
        listed = ", ".join(near[:5] or sorted(k for k in known if "/" not in k and k))
        raise MissingDataError(
            f"{self.file.source.text}: {wanted}: expected a group of the file, but there is no such group; "
            f"{'did you mean' if near else 'choose below'}: {listed}"
        )

    def is_group(self, path: str) -> bool:
        """Return whether a path leads to a group."""
        try:
            return hasattr(self._get(path), "keys")
        except (KeyError, ValueError, TypeError):
            return False

    def walk(self, path: str) -> Iterator[GroupNode]:
        """Yield a group and all groups below it, parents first and each group once."""
        seen, waiting = set(), [path]
        while waiting:
            path = waiting.pop()
            node = self._get(path)
            key = h5py.h5o.get_info(node.id).addr if isinstance(node, h5py.Group) else path
            if key in seen:  # hard links can form cycles
                continue
            seen.add(key)
            group = self.list_group(path)
            yield group
            waiting += [join(path, name) for name in reversed(group.groups)]

    def list_group(self, path: str) -> GroupNode:
        """Return a group with its members."""
        node = self._get(path)
        columns = [str(self._simplify(name)) for name in node.attrs.get("colnames", ())]
        group = GroupNode(path, self._list_attrs(node), columns)
        is_hdf5 = isinstance(node, h5py.Group)
        for member in _list_hdf5(path, node) if is_hdf5 else _list_zarr(path, node):
            if member.path == _SCHEMA:  # it is large and holds no data
                continue
            found = self._get_member(member)
            if found is None:
                group.omitted.append(f"{member.name} (cannot be opened)")
            elif hasattr(found, "shape"):
                group.arrays[member.name] = self._describe(member.path, found)
            elif member.target:
                group.links[member.name] = member.target
            elif hasattr(found, "keys"):  # named types of HDF5 have no keys
                group.groups.append(member.name)
        return group

    def load(self, array: ArrayNode) -> npt.NDArray[Any]:
        """Read the values of a small array at once."""
        values = self.file.read(array.path, (...,))
        return decode(values) if array.is_text else values

    def load_scalars(self, group: GroupNode) -> dict[str, Attribute]:
        """Return the scalars of a group, for use as attributes."""
        found = {}
        for name, array in group.arrays.items():
            if array.shape == ():
                value = None if array.dtype is None else self._simplify(self.load(array))
                if value is None:
                    group.omitted.append(f"{name} ({array.problem or 'no plain value'})")
                else:
                    found[name] = value
        return found

    def load_texts(self, arrays: Mapping[str, ArrayNode]) -> dict[str, str]:
        """Return each list of texts, such as experimenters, as one text for use as an attribute."""
        texts = {name: a for name, a in arrays.items() if len(a.shape) == 1 and a.is_text}
        return {name: "; ".join(self.load(array)) for name, array in texts.items()}

    def _get(self, path: str) -> Any:
        return self._root if path == "/" else self._root[path.lstrip("/")]

    def _get_member(self, member: _Member) -> Any:
        """Return the group or array; ``None`` if a link leads nowhere, which is not damage."""
        if member.is_outside:
            return None
        try:
            return self._get(member.path)
        except Exception as error:  # a damaged object may raise any error
            if member.target:
                return None
            raise ReadError(
                f"{self.file.source.text}: {member.path}: expected a part of the file, but "
                f"{format_error(error)}; get a fresh copy"
            ) from error

    def _describe(self, path: str, node: Any) -> ArrayNode:
        dtype, problem = _find_dtype(node)
        is_scalar = node.shape == (1,) and node.attrs.get("zarr_dtype") == "scalar"
        shape = () if is_scalar or node.shape is None else tuple(int(n) for n in node.shape)
        return ArrayNode(path, shape, dtype, problem, self._list_attrs(node), node.chunks)

    def _list_attrs(self, node: Any) -> dict[str, Attribute]:
        """Return attributes as text and numbers, and references as the path of their target."""
        values = {name: self._simplify(node.attrs[name]) for name in node.attrs if name not in _NOT_ATTRS}
        return {name: value for name, value in values.items() if value is not None}

    def _simplify(self, value: Any) -> Attribute | None:
        """Return an attribute or a scalar as text or a number; ``None`` if it is neither."""
        if isinstance(value, h5py.Reference):
            return str(self._root[value].name) if value else None
        if isinstance(value, dict):  # a reference in Zarr, before and since hdmf-zarr 0.14
            path = (value.get("value") or value.get("_REFERENCE") or {}).get("path")
            return None if path is None else str(path)
        if isinstance(value, bytes):
            return value.decode(errors="replace")
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, list | tuple | np.ndarray):
            parts = [self._simplify(part) for part in np.asarray(value, object).ravel()]
            return parts[0] if len(parts) == 1 else "; ".join(map(str, parts))
        if isinstance(value, bool):  # netCDF has no booleans
            return int(value)
        return value if isinstance(value, str | int | float) else None


def join(path: str, name: str) -> str:
    """Return the path of a member of a group."""
    return f"{path.rstrip('/')}/{name}"


def _list_hdf5(path: str, group: h5py.Group) -> Iterator[_Member]:
    """Yield the members of an HDF5 group."""
    for name in group:
        link = group.get(name, getlink=True)
        target = "" if isinstance(link, h5py.HardLink) else str(link.path)
        yield _Member(name, join(path, name), target)


def _list_zarr(path: str, group: Any) -> Iterator[_Member]:
    """Yield the members of a Zarr group; hdmf-zarr keeps links in an attribute, before and since 0.14."""
    for name in group:
        yield _Member(name, join(path, name))
    for link in group.attrs.get("zarr_link", group.attrs.get("_LINKS", ())):
        path = link.get("path") or "/"  # a link without a path leads to a whole store
        yield _Member(link["name"], path, path, bool(find_target_outside(link)))


def _find_dtype(node: Any) -> tuple[np.dtype[Any] | None, str]:
    """Return the type of an array's values, or ``None`` and the reason why they cannot be read."""
    if node.shape is None:
        return None, "empty"
    is_hdf5 = isinstance(node, h5py.Dataset)
    if _has_hdf5_references(node.dtype) if is_hdf5 else _has_zarr_references(node):
        return None, "object references"
    if h5py.check_string_dtype(node.dtype) is not None if is_hdf5 else _is_zarr_text(node):
        return TEXT, ""
    return (None, "objects") if node.dtype.hasobject else (node.dtype, "")


def _has_hdf5_references(dtype: np.dtype[Any]) -> bool:
    """Return whether values are references or contain them."""
    types = [dtype[name] for name in dtype.names or ()] or [dtype]
    return any(h5py.check_ref_dtype(part) is not None for part in types)


def _has_zarr_references(node: Any) -> bool:
    """Return whether values of a Zarr array contain references, which hdmf-zarr notes in attributes."""
    noted = node.attrs.get("zarr_dtype", node.attrs.get("_DTYPE"))
    is_noted = noted in ("object", "object_reference") or isinstance(noted, list)
    return is_noted or "_REFERENCE_FIELDS" in node.attrs


def _is_zarr_text(node: Any) -> bool:
    codecs = {getattr(codec, "codec_id", "") for codec in getattr(node, "filters", None) or ()}
    return node.dtype.kind in "SUT" or bool(codecs & {"vlen-utf8", "vlen-bytes"})
