"""Zarr stores, format 2 and 3, with the zarr and hdmf-zarr of Python 3.11 (2, 0.13) and later (3, 0.14).

What decides whether a store may be read is taken from its JSON files: zarr 3 cannot list every store of
format 2, and reading an array can already run what was pickled in it.
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nwbrnn.errors import UnsupportedFileError
from nwbrnn.storage.source import Source

_FILES = (".zmetadata", ".zgroup", ".zattrs", ".zarray", "zarr.json")

_Document = tuple[str, dict[str, Any]]  # the path of a JSON file, and what is in it


def open_zarr(source: Source, *, follow_links: bool = False) -> Any:
    """Return the root group of a Zarr store, local or from a server.

    Raises
    ------
    UnsupportedFileError
        If hdmf-zarr is missing or too old, or the store has no metadata, pickled objects, or links to other
        stores that may not be followed.
    """
    zarr = _import_zarr(source)
    documents = _read_documents(source)
    is_format_2 = any(name.rsplit("/", 1)[-1] != "zarr.json" for name, _ in documents)
    if not is_format_2 and zarr.__version__.startswith("2."):
        raise UnsupportedFileError(
            f"{source.text}: this is Zarr 3, which needs hdmf-zarr 0.14 or newer (Python 3.12 or newer), but "
            f"zarr {zarr.__version__} is installed; use Python 3.12: pip install 'nwbrnn[zarr]'"
        )
    _refuse_pickles(source, documents)
    outside = [] if follow_links else sorted(set(_find_links(documents)))
    if outside:
        raise UnsupportedFileError(
            f"{source.text}: expected a store that stands alone, but it links to others: "
            f"{', '.join(outside[:5])}; if you trust them, allow it with follow_links (--follow-links)"
        )
    options: dict[str, Any] = {"storage_options": source.storage_options} if source.is_remote else {}
    try:
        return zarr.open_consolidated(source.url, mode="r", **options)
    except (
        KeyError,
        ValueError,
        TypeError,
    ):  # not consolidated; or by zarr 2, as zarr 3 cannot parse
        if not zarr.__version__.startswith("2."):
            options |= {"use_consolidated": False, "zarr_format": 2 if is_format_2 else 3}
        return zarr.open_group(source.url, mode="r", **options)


def create_zarr_io(source: Source, root: Any) -> Any:
    """Return the hdmf-zarr reader of an opened store."""
    import hdmf_zarr

    zarr_format = getattr(getattr(root, "metadata", None), "zarr_format", 2)
    io = getattr(hdmf_zarr, "NWBZarrV2IO", hdmf_zarr.NWBZarrIO) if zarr_format == 2 else hdmf_zarr.NWBZarrIO
    options = {"storage_options": source.storage_options} if source.is_remote else {}
    return io(source.url, mode="r", **options)


def _import_zarr(source: Source) -> Any:
    try:
        import hdmf_zarr  # noqa: F401
        import zarr
    except ImportError as error:
        raise UnsupportedFileError(
            f"{source.text}: reading Zarr needs the package hdmf-zarr ({error}); pip install 'nwbrnn[zarr]'"
        ) from error
    return zarr


def _read_documents(source: Source) -> list[_Document]:
    """Return the JSON files of a store, and what is consolidated in them; from a server only the latter."""
    documents: list[_Document] = []
    if source.is_remote:
        filesystem, path = source.find_filesystem()
        for name in (".zmetadata", "zarr.json"):
            with contextlib.suppress(FileNotFoundError):
                documents.append((name, json.loads(filesystem.cat_file(f"{path.rstrip('/')}/{name}"))))
                break
    else:
        folder = Path(source.url)
        paths = sorted(path for path in folder.rglob("*") if path.name in _FILES)
        documents += [(path.relative_to(folder).as_posix(), json.loads(path.read_bytes())) for path in paths]
    consolidated = []
    for name, document in documents:
        if name == ".zmetadata":
            consolidated += list(document["metadata"].items())
        elif name == "zarr.json" and document.get("consolidated_metadata"):
            members = document["consolidated_metadata"]["metadata"]
            consolidated += [(f"{member}/zarr.json", members[member]) for member in members]
    if not documents or (source.is_remote and not consolidated):
        raise UnsupportedFileError(
            f"{source.text}: expected a Zarr store with consolidated metadata, but there is none at this "
            "address; check the address, or run zarr.consolidate_metadata on the store"
        )
    return documents + consolidated


def _refuse_pickles(source: Source, documents: list[_Document]) -> None:
    """Refuse arrays of pickled objects: whoever made the store could run any program with them."""
    for name, document in documents:
        codecs = [*(document.get("filters") or ()), *(document.get("codecs") or ())]
        codecs.append(document.get("compressor") or {})
        names = {codec.get("id", codec.get("name", "")) for codec in codecs}
        if any("pickle" in text for text in names):
            raise UnsupportedFileError(
                f"{source.text}: {name.rpartition('/')[0]}: expected numbers or text, but got pickles, "
                "which can run any program when read; if you trust the store, convert it to Zarr 3 "
                "with hdmf-zarr 0.14 (NWBZarrV2IO.convert_to_v3 with allow_pickle=True)"
            )


def _find_links(documents: list[_Document]) -> Iterator[str]:
    """Yield hdmf-zarr's links and references to other stores, as ``where -> what``."""
    for name, document in documents:
        where = f"/{name}".rsplit("/", 1)[0]
        for link in _walk(document):
            if "path" in link and str(link.get("source", ".")) not in (".", "", "./", "None"):
                yield f"{where}/{link.get('name', '')}".rstrip("/") + f" -> {link['source']}"


def _walk(document: Any) -> Iterator[dict[str, Any]]:
    """Yield every mapping inside a JSON document."""
    if isinstance(document, dict):
        yield document
        document = document.values()
    elif not isinstance(document, list):
        return
    for part in document:
        yield from _walk(part)
