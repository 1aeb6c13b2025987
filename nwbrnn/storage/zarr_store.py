"""Zarr stores of format 2 and 3, with the zarr and hdmf-zarr of Python 3.11 (2, 0.13) and later (3, 0.14).

The JSON files of a store decide whether it may be read, since zarr 3 cannot list every store of format 2. In
format 2, hdmf-zarr pickles references to objects. Since pickles can run any program, they are read by an
unpickler that accepts references only. This module writes references as JSON.
"""

import contextlib
import io
import json
import os
import pickle
import posixpath
import sys
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from nwbrnn.errors import ExportError, UnsupportedFileError
from nwbrnn.limits import check_declared, check_unpacked, limit_unpacked
from nwbrnn.storage.names import ZARR_FILES
from nwbrnn.storage.source import Source
from nwbrnn.storage.store import ALLOW_LINKS, refuse_links

_Document = tuple[str, dict[str, Any]]  # the path of a JSON file, and its content


def open_zarr(source: Source, *, follow_links: bool = False) -> Any:
    """Return the root group of a Zarr store, local or from a server."""
    zarr = _import_zarr(source)
    documents = _read_documents(source)
    is_format_2 = any(name.rsplit("/", 1)[-1] != "zarr.json" for name, _ in documents)
    if not is_format_2 and zarr.__version__.startswith("2."):
        raise UnsupportedFileError(
            f"{source.text}: this is Zarr 3, which needs hdmf-zarr 0.14 or newer, but zarr "
            f"{zarr.__version__} is installed; use Python 3.12 or newer without dandi: "
            "pip install 'nwbrnn[zarr]'"
        )
    if not follow_links:
        links = [] if source.is_remote else list(_find_symbolic_links(Path(source.url)))
        refuse_links(source.text, [*links, *_find_links(documents)], remedy=ALLOW_LINKS)
    _check_sizes(documents, None if source.is_remote else Path(source.url))
    options: dict[str, Any] = {"storage_options": source.storage_options} if source.is_remote else {}
    try:
        return zarr.open_consolidated(source.url, mode="r", **options)
    except (KeyError, ValueError, TypeError):  # not consolidated, or as zarr 3 cannot parse it
        if not zarr.__version__.startswith("2."):
            options |= {"use_consolidated": False, "zarr_format": 2 if is_format_2 else 3}
        return zarr.open_group(source.url, mode="r", **options)


def _check_sizes(documents: list[_Document], folder: Path | None) -> None:
    """Refuse arrays that claim more than their local store can hold; servers are not asked."""
    total = None if folder is None else sum_files(folder)
    for path, document in documents:
        if not path.endswith((".zarray", "zarr.json")) or "shape" not in document:
            continue
        name, shape = path.rpartition("/")[0], document["shape"]
        grid = document.get("chunk_grid", {}).get("configuration", {})
        itemsize = _find_itemsize(document.get("dtype", document.get("data_type")))
        check_declared(
            f"/{name}",
            shape,
            itemsize,
            chunk=document.get("chunks", grid.get("chunk_shape")),
            file_size=total or 0,
            find_stored=partial(sum_files, folder / name) if folder else partial(int, sys.maxsize),
        )


def _find_itemsize(dtype: Any) -> int:
    """Return the bytes per value of a type in a JSON file; 8, for a pointer, if NumPy does not know it."""
    try:
        return int(np.dtype(dtype if isinstance(dtype, str) else "O").itemsize)
    except TypeError:
        return 8


def sum_files(folder: Path) -> int:
    """Return the size of all files in a folder [bytes]."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def find_zarr_links(folder: Path) -> list[tuple[str, str]]:
    """Return the path and target of everything that leads out of a local store, and make pickles safe."""
    with contextlib.suppress(ImportError):  # without numcodecs, there is no Zarr either
        register_codecs()
    return [*_find_symbolic_links(folder), *_find_links(_list_documents(folder))]


def find_target_outside(reference: Mapping[str, Any]) -> str:
    """Return the target of an hdmf-zarr link or reference if it is outside its store; otherwise empty.

    A reference names a store by ``source``, relative to its own, and the object in it by ``path``. Without
    ``source``, hdmf-zarr takes ``path`` for the store.
    """
    source, path = reference.get("source"), reference.get("path")
    store = str((path if source is None else source) or ".")
    if posixpath.normpath(store) != ".":
        return store
    return str(path) if ".." in str(path or "").split("/") else ""


def create_zarr_io(source: Source, root: Any, *, follow_links: bool) -> Any:
    """Return the hdmf-zarr reader of an open store.

    The reader resolves references to other stores only if this is allowed. Such references may also be among
    the values of an array, which are not searched beforehand.
    """
    import hdmf_zarr

    options: dict[str, Any] = {"storage_options": source.storage_options} if source.is_remote else {}
    reader = hdmf_zarr.NWBZarrIO
    is_format_2 = getattr(getattr(root, "metadata", None), "zarr_format", 2) == 2
    if is_format_2 and hasattr(hdmf_zarr, "NWBZarrV2IO"):
        reader = hdmf_zarr.NWBZarrV2IO
        options["allow_pickle"] = True  # only references can be unpickled, see above
    reading = reader(source.url, mode="r", **options)
    if not follow_links:
        reading.resolve_ref = partial(_resolve_inside, reading.resolve_ref, source.text)
    return reading


def _resolve_inside(resolve: Callable[[Any], Any], text: str, reference: Any) -> Any:
    """Return the target of a reference, unless it is outside the store."""
    # JSON in an array of texts, since hdmf-zarr 0.14
    plain = reference if isinstance(reference, Mapping) else json.loads(str(reference))
    outside = find_target_outside(plain)
    refuse_links(text, [("a reference", outside)] if outside else [], remedy=ALLOW_LINKS)
    return resolve(reference)


def create_zarr_output(path: Path) -> Any:
    """Return hdmf-zarr's writer of a new store, in the format of the installed zarr."""
    try:
        from hdmf_zarr import NWBZarrIO
    except ImportError as error:
        raise ExportError(
            f"{path}: writing Zarr needs the package hdmf-zarr ({error}); pip install 'nwbrnn[zarr]'"
        ) from error
    register_codecs()
    return NWBZarrIO(str(path), mode="w")


def validate_zarr(path: str | Path) -> list[str]:
    """Return the errors that pynwb's validator finds in a local store."""
    import pynwb
    from hdmf_zarr import NWBZarrIO

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # from hdmf-zarr about its use of zarr
        _give_types()
        with contextlib.closing(NWBZarrIO(str(path), mode="r")) as reader:
            return [str(fault) for fault in pynwb.validate(io=reader) or ()]


@cache
def _give_types() -> None:
    """Make the validator take the types of named fields, stored as rows of JSON, from the attributes."""
    with contextlib.suppress(ImportError):  # hdmf-zarr 0.14 has its own way
        from hdmf_zarr.zarr_utils import AbstractZarrTableDataset as Table

        known = Table.dtype.fget
        Table.dtype = property(lambda table: known(table) or [_name_type(kind) for kind in table.types])


def _name_type(kind: str) -> str:
    """Return the validator's name for a type that hdmf-zarr records: ``object`` or a NumPy type."""
    try:
        return "object" if kind == "object" else str(np.dtype(kind).name)
    except TypeError:
        return "utf"


def replace_pickles(folder: Path) -> None:
    """Convert pickles in a new store of format 2 to JSON, since numcodecs refuses to read pickles.

    A row of an array with named fields becomes a list of their values, in which hdmf-zarr can read references
    too.
    """
    import numcodecs
    import zarr

    documents = _list_documents(folder)
    pickled = [
        name.rpartition("/")[0]
        for name, document in documents
        if name.endswith("/.zarray") and any(one["id"] == "pickle" for one in document.get("filters") or ())
    ]
    if not pickled:
        return
    root = zarr.open_group(str(folder), mode="r+")
    for name in pickled:
        old = root[name]
        values = np.empty(old.shape, dtype=object)
        values[...] = old[...].tolist()
        attributes, chunks = dict(old.attrs), old.chunks
        new = root.create_dataset(
            name,
            shape=values.shape,
            chunks=chunks,
            dtype=object,
            object_codec=numcodecs.JSON(),
            overwrite=True,
        )
        new[...] = values
        new.attrs.update(attributes)
    zarr.consolidate_metadata(str(folder))


def _import_zarr(source: Source) -> Any:
    try:
        import hdmf_zarr  # noqa: F401
        import zarr
    except ImportError as error:
        raise UnsupportedFileError(
            f"{source.text}: reading Zarr needs the package hdmf-zarr ({error}); pip install 'nwbrnn[zarr]'"
        ) from error
    register_codecs()
    return zarr


@cache
def register_codecs() -> None:
    """Make Zarr read pickled references and bounded chunks; numcodecs handles other pickles."""
    import numcodecs
    from numcodecs.compat import ensure_bytes, ndarray_copy

    class ReferencePickle(numcodecs.Pickle):  # type: ignore[misc]
        def decode(self, buf: Any, out: Any = None) -> Any:
            try:
                values = _ReferenceUnpickler(io.BytesIO(bytes(buf))).load()
            except pickle.UnpicklingError:
                if not hasattr(numcodecs.pickles, "ALLOW_UNSAFE_PICKLE_DECODE"):
                    raise  # this version of numcodecs would not refuse it
                return super().decode(buf, out)
            if out is None:
                return values
            out[:] = values
            return out

    class BoundedBlosc(numcodecs.Blosc):  # type: ignore[misc]
        def decode(self, buf: Any, out: Any = None) -> Any:
            header = ensure_bytes(buf)[:8]
            check_unpacked(int.from_bytes(header[4:], "little"), packed=len(buf))
            return super().decode(buf, out)

    def bound(codec: Any, window: int) -> Any:
        def decode(_: Any, buf: Any, out: Any = None) -> Any:
            packed, unpacker = ensure_bytes(buf), zlib.decompressobj(window)
            content = unpacker.decompress(packed, limit_unpacked(len(packed)) + 1)
            check_unpacked(len(content), packed=len(packed))
            if not unpacker.eof:
                raise ValueError("a compressed chunk ends early")
            return ndarray_copy(content, out)

        return type(codec.__name__, (codec,), {"decode": decode})

    numcodecs.register_codec(ReferencePickle, codec_id="pickle")
    numcodecs.register_codec(BoundedBlosc, codec_id="blosc")
    numcodecs.register_codec(bound(numcodecs.Zlib, zlib.MAX_WBITS), codec_id="zlib")
    numcodecs.register_codec(bound(numcodecs.GZip, zlib.MAX_WBITS | 16), codec_id="gzip")


class _ReferenceUnpickler(pickle.Unpickler):
    """An unpickler of arrays of references."""

    def find_class(self, module: str, name: str) -> Any:
        """Return a class that may be built, or refuse it."""
        known = name == "ZarrReference" and module in ("hdmf_zarr.utils", "hdmf_zarr.zarr_utils")
        known |= name == "_reconstruct" and module in ("numpy._core.multiarray", "numpy.core.multiarray")
        if known or (module == "numpy" and name in ("ndarray", "dtype")):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"expected references to objects, but got {module}.{name}")


def _read_documents(source: Source) -> list[_Document]:
    """Return the JSON files of a store and the ones consolidated in them; from a server, only the latter."""
    documents: list[_Document] = []
    if source.is_remote:
        filesystem, path = source.find_filesystem()
        for name in (".zmetadata", "zarr.json"):
            with contextlib.suppress(FileNotFoundError):
                documents.append((name, json.loads(filesystem.cat_file(f"{path.rstrip('/')}/{name}"))))
                break
    else:
        documents = _list_documents(Path(source.url))
    consolidated = _list_consolidated(documents)
    if not documents or (source.is_remote and not consolidated):
        raise UnsupportedFileError(
            f"{source.text}: expected a Zarr store with consolidated metadata, but there is none at this "
            "address; check the address, or run zarr.consolidate_metadata on the store"
        )
    return documents + consolidated


def _list_documents(folder: Path) -> list[_Document]:
    """Return the JSON files of a local store."""
    paths = sorted(path for path in folder.rglob("*") if path.name in ZARR_FILES and path.is_file())
    return [(path.relative_to(folder).as_posix(), json.loads(path.read_bytes())) for path in paths]


def _list_consolidated(documents: list[_Document]) -> list[_Document]:
    """Return the files that are consolidated in the JSON files of a store."""
    consolidated = []
    for name, document in documents:
        if name == ".zmetadata":
            consolidated += list(document["metadata"].items())
        elif name == "zarr.json" and document.get("consolidated_metadata"):
            members = document["consolidated_metadata"]["metadata"]
            consolidated += [(f"{member}/zarr.json", members[member]) for member in members]
    return consolidated


def _find_symbolic_links(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the path and target of each symbolic link out of a local store."""
    root = Path(os.path.realpath(folder))
    for where, folders, files in os.walk(folder):
        for path in (Path(where, name) for name in sorted(folders) + sorted(files)):
            if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(root):
                yield f"/{path.relative_to(folder).as_posix()}", str(path.readlink())


def _find_links(documents: list[_Document]) -> Iterator[tuple[str, str]]:
    """Yield the path and target of hdmf-zarr's links and references to other stores, each once."""
    seen = set()
    for name, document in documents:
        where = f"/{name}".rsplit("/", 1)[0]
        for link in _list_references(document):
            target = find_target_outside(link)
            found = f"{where}/{link.get('name', '')}".rstrip("/"), target
            if target and found not in seen:
                seen.add(found)
                yield found


def _list_references(document: Any) -> Iterator[dict[str, Any]]:
    """Yield every mapping in a JSON document that hdmf-zarr would treat as a link or a reference."""
    if isinstance(document, dict):
        if {"source", "path"} <= document.keys():
            yield document
        links = [document.get("zarr_link"), document.get("_LINKS")]
        marked = [document.get("value")] if "zarr_dtype" in document else []
        for found in (*marked, *(link for some in links if isinstance(some, list) for link in some)):
            if isinstance(found, dict):
                yield found
        document = document.values()
    elif not isinstance(document, list):
        return
    for part in document:
        yield from _list_references(part)
