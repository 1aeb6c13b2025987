"""Find the assets of a dandiset, in the archive or in a folder; only this module uses DANDI's client."""

import contextlib
import functools
import logging
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from nwbrnn.errors import UnsupportedFileError
from nwbrnn.storage.store import format_error

TIMEOUT = (20.0, 60.0)
"""Longest times for the archive to accept a connection and to send nothing [s]."""

_VERSION = r"draft|\d[\d.]*"
_ASSET = re.compile(rf"dandi://(?P<dandiset>[^/@]+)/(?P<path>.+?)(@(?P<version>{_VERSION}))?")
_DANDISET = re.compile(rf"(dandi://)?(?P<dandiset>\d{{6}})(@(?P<version>{_VERSION}))?/?")
_PAGE = re.compile(
    rf"(?P<archive>https?://[^/?#]+)/(#/)?dandiset/(?P<dandiset>\d{{6}})(/(?P<version>{_VERSION}))?"
    r"(/(files)?)?([?#].*)?",
    re.IGNORECASE,
)
_SILENT = logging.NullHandler()


@dataclass(frozen=True)
class Asset:
    """A file of a dandiset."""

    path: str  # path in the dandiset, with forward slashes
    address: str  # for find_source
    size: int  # [bytes]
    state: str  # a text that changes when the asset changes


@dataclass(frozen=True)
class Dandiset:
    """The location of a dandiset: a folder or the archive."""

    name: str  # its number or its folder
    folder: Path | None = None  # its folder, if it was downloaded
    version: str = "draft"  # draft or the version of a published dandiset
    archive: str | None = None  # address of the archive, if given


def find_dandiset(text: str) -> Dandiset:
    """Return the location of a dandiset; an existing folder takes precedence.

    The text is a folder, ``000941``, ``dandi://000941[@version]`` or the address of its page in the archive.
    """
    if Path(text).is_dir():
        return Dandiset(str(Path(text).resolve()), folder=Path(text).resolve())
    match = _DANDISET.fullmatch(text) or _PAGE.fullmatch(text)
    if match is None:
        raise UnsupportedFileError(
            f"{text}: expected a folder, a dandiset such as 000941 or dandi://000941@draft, or the address "
            "of its page, but it is none of these; check the name"
        )
    groups = match.groupdict()
    return Dandiset(groups["dandiset"], version=groups["version"] or "draft", archive=groups.get("archive"))


def list_assets(dandiset: Dandiset, pattern: str = "**/*.nwb") -> tuple[Asset, ...]:
    """Return the assets of a dandiset whose path matches a pattern, in the order of their paths.

    The pattern is as in a shell: ``*`` matches within a folder, and ``**`` matches any folders.
    """
    found = _walk(dandiset.folder) if dandiset.folder is not None else _ask(dandiset, pattern)
    return tuple(sorted((a for a in found if matches(a.path, pattern)), key=lambda asset: asset.path))


def matches(path: str, pattern: str) -> bool:
    """Return whether the path of an asset matches a pattern; see :func:`list_assets`.

    A store ``x.nwb.zarr`` also matches ``x.nwb``.
    """
    names = (path, path.removesuffix(".zarr")) if path.endswith(".nwb.zarr") else (path,)
    return any(_match(name.split("/"), pattern.split("/")) for name in names)


def _match(parts: Sequence[str], patterns: Sequence[str]) -> bool:
    if not patterns:
        return not parts
    if patterns[0] == "**":
        return _match(parts, patterns[1:]) or (bool(parts) and _match(parts[1:], patterns))
    return bool(parts) and fnmatchcase(parts[0], patterns[0]) and _match(parts[1:], patterns[1:])


def _walk(folder: Path) -> Iterator[Asset]:
    """Yield the files and Zarr stores below a folder, except hidden ones."""
    for where, folders, files in os.walk(folder):
        stores = [name for name in folders if name.endswith(".zarr")]
        folders[:] = [name for name in folders if not name.startswith(".") and name not in stores]
        for name in [*files, *stores]:
            if not name.startswith("."):
                path = Path(where, name)
                size, changed = _measure(path)
                text = path.relative_to(folder).as_posix().encode("utf-8", "backslashreplace").decode()
                yield Asset(text, str(path), size, f"{size} {changed}")


def _measure(path: Path) -> tuple[int, int]:
    """Return the size of a file or store and its modification time [ns]; zeros for a broken link."""
    files = [part for part in path.rglob("*") if part.is_file()] if path.is_dir() else [path]
    known = [file.stat() for file in files if file.exists()]
    return sum(one.st_size for one in known), max((one.st_mtime_ns for one in known), default=0)


def _ask(dandiset: Dandiset, pattern: str) -> Iterator[Asset]:
    """Yield the assets that the archive lists for the beginning of the pattern."""
    text = f"dandi://{dandiset.name}@{dandiset.version}"
    with _connect(text, archive=dandiset.archive) as client:
        remote = client.get_dandiset(dandiset.name, dandiset.version)
        for asset in remote.get_assets_with_path_prefix(re.split(r"[*?\[]", pattern, maxsplit=1)[0]):
            content = getattr(asset, "blob", None) or getattr(asset, "zarr", "")
            yield Asset(
                asset.path,
                f"dandi://{dandiset.name}/{asset.path}@{dandiset.version}",
                asset.size,
                f"{content} {asset.size} {asset.modified.isoformat()}",
            )


def resolve_asset(text: str) -> str:
    """Return the address of the content of ``dandi://DANDISET/path[@version]``."""
    match = _ASSET.fullmatch(text)
    if match is None:
        raise UnsupportedFileError(f"{text}: expected dandi://DANDISET/path or dandi://DANDISET/path@version")
    with _connect(text) as client:
        dandiset = client.get_dandiset(match["dandiset"], match["version"] or "draft")
        asset = dandiset.get_asset_by_path(match["path"])
        if getattr(asset, "blob", None) is None:
            url = asset.get_content_url(follow_redirects=1, strip_query=True)
            return _check_location(url, asset.base_download_url, text=text)
        answer = client.request("HEAD", asset.base_download_url, json_resp=False, allow_redirects=False)
        location = answer.headers.get("Location", "")
        url = _check_location(location, asset.base_download_url, text=text)
        # a signature expires, and only embargoed assets need one
        return url if "Authorization" in client.session.headers else url.partition("?")[0]


def _check_location(location: str, asked: str, *, text: str) -> str:
    """Return the address to which the archive redirects, which may be relative to the requested one.

    Only the address of a web server may be followed. Other addresses, or a chain of them (``::``), would read
    files of this machine or anything else that fsspec supports.
    """
    url = urljoin(asked, location)
    if not url.startswith(("http://", "https://")) or "::" in url:
        raise UnsupportedFileError(
            f"{text}: expected the archive to redirect to http:// or https://, but it redirects to {url!r}; "
            "report this to the operators of the archive"
        )
    return url


@contextlib.contextmanager
def _connect(text: str, *, archive: str | None = None) -> Iterator[Any]:
    """Provide DANDI's client; any failure becomes an error about ``text``."""
    try:
        from dandi.dandiapi import DandiAPIClient
    except ImportError as error:
        raise UnsupportedFileError(
            f"{text}: reading from the DANDI archive needs the package dandi; run pip install 'nwbrnn[dandi]'"
        ) from error
    logging.getLogger("dandi").addHandler(_SILENT)  # the exceptions say what it would print
    key = "DANDI_API_KEY"
    try:
        with DandiAPIClient() as client:
            key = client.api_key_env_var
            client.session.request = functools.partial(client.session.request, timeout=TIMEOUT)
            _check_archive(archive, client.dandi_instance)
            if os.environ.get(key):
                client.dandi_authenticate()
            yield client
    except UnsupportedFileError:
        raise
    except Exception as error:  # from requests or dandi
        raise UnsupportedFileError(_explain(error, text=text, key=key)) from error


def _check_archive(archive: str | None, instance: Any) -> None:
    """Refuse the address of an archive other than the client's."""
    from dandi.utils import get_instance

    if archive is not None and get_instance(archive).api != instance.api:
        raise UnsupportedFileError(
            f"{archive}: expected the archive {instance.name!r}, but this is another one; "
            f"set the environment variable DANDI_INSTANCE to {archive}"
        )


def _explain(error: Exception, *, text: str, key: str) -> str:
    """Return a message that explains a failure of the archive."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return (
            f"{text}: expected a public asset, but it is embargoed or private ({status}); "
            f"set the environment variable {key} to your key for the archive"
        )
    if "Timeout" in type(error).__name__ or "timed out" in str(error):
        return f"{text}: expected an answer from the archive, but got none in {TIMEOUT[1]:g} s; try later"
    return (
        f"{text}: expected an asset of the DANDI archive, but {type(error).__name__}: {format_error(error)}; "
        "check the dandiset, the version and the path"
    )
