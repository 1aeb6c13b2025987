"""Locate a file: a local path, a URL, or an asset of the DANDI archive."""

import contextlib
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from nwbrnn.addresses import strip_secrets
from nwbrnn.errors import UnsupportedFileError
from nwbrnn.storage.dandi import resolve_asset
from nwbrnn.storage.names import ZARR_FILES, ZARR_GROUP, find_fault, is_special, is_store
from nwbrnn.storage.remote import get_http_options, open_blocks

_REMOTE = re.compile(r"(https?|s3|dandi):/+", re.IGNORECASE)
_HASHED = 1 << 20
_POINTERS = {
    b"version https://git-lfs.github.com/spec/": ("git-lfs", "git lfs pull"),
    b"annex/objects/": ("git-annex", "git annex get (or datalad get)"),
}
_POINTER_SIZE = 200  # number of bytes in which a pointer identifies itself


@dataclass(frozen=True)
class Source:
    """A file to read."""

    # the path or address that the user gave, without possible secrets; for messages and for storage
    text: str
    # a local path, or an http(s):// or s3:// address, with password and signature
    url: str = field(repr=False)
    is_remote: bool  # whether the file is on a server
    is_zarr: bool  # whether it is a Zarr store and not an HDF5 file
    # what the server has said about the file so far; it must not change between openings
    state: dict[str, str] = field(default_factory=dict, repr=False, compare=False)
    # the file as pynwb built it, while it is kept open; see keep_open
    opened: list[Any] = field(default_factory=list, repr=False, compare=False)
    _hashes: dict[Any, str] = field(default_factory=dict, repr=False, compare=False)

    @property
    def name(self) -> str:
        """Name of the file without its folder."""
        return PurePosixPath(urlsplit(self.url).path).name if self.is_remote else Path(self.url).name

    def open_bytes(self) -> Any:
        """Return a remote file as a seekable stream that fetches only the blocks it needs."""
        filesystem, path = self.find_filesystem()
        is_constant = self.text.startswith("dandi:")  # a changed asset gets another address
        return open_blocks(filesystem, path, text=self.text, state=self.state, is_constant=is_constant)

    def find_filesystem(self) -> tuple[Any, str]:
        """Return fsspec's file system of a remote file, and the path in it."""
        try:
            from fsspec.core import url_to_fs

            return url_to_fs(self.url, **self.storage_options)  # type: ignore[no-any-return]
        except ImportError as error:
            extra = "s3" if self.url.startswith("s3:") else "remote"
            raise UnsupportedFileError(
                f"{self.text}: reading from a server needs packages that are not installed ({error}); "
                f"pip install 'nwbrnn[{extra}]'"
            ) from error

    @property
    def storage_options(self) -> dict[str, Any]:
        """Options of fsspec; buckets are read without credentials if there are none."""
        if not self.url.startswith("s3:"):
            return get_http_options()
        from botocore.session import get_session

        return {"anon": get_session().get_credentials() is None}

    def compute_sha256(self) -> str | None:
        """Return the SHA-256 of a local file as hexadecimal text; ``None`` for a file on a server.

        The hash of a Zarr store covers the names and contents of its files, in the order of their names. It
        is computed again if a file was replaced or changed since the last time.
        """
        if self.is_remote:
            return None
        path = Path(self.url)
        files = sorted(p for p in path.rglob("*") if p.is_file()) if self.is_zarr else [path]
        state = tuple((str(file), *_identify(file)) for file in files)
        if state not in self._hashes:
            self._hashes[state] = _compute_hash(files, folder=path if self.is_zarr else None)
        return self._hashes[state]


def _compute_hash(files: Sequence[Path], *, folder: Path | None) -> str:
    """Return the SHA-256 of files; for files in a folder, it covers their names and sizes too."""
    digest = hashlib.sha256()
    for file in files:
        if folder is not None:
            digest.update(f"{file.relative_to(folder).as_posix()}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as stream:
            while chunk := stream.read(_HASHED):
                digest.update(chunk)
    return digest.hexdigest()


def _identify(path: Path) -> tuple[int, ...]:
    """Return numbers that differ if a file was replaced or changed, even if a program tries to hide it."""
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def find_source(path: str | Path | Source) -> Source:
    """Locate a file.

    Parameters
    ----------
    path
        A local path, ``http://``, ``https://``, ``s3://`` or ``dandi://DANDISET/path[@version]``;
        a :class:`Source` is returned unchanged.

    Raises
    ------
    UnsupportedFileError
        If there is no such file, its name cannot be used, or the archive has no such asset.
    """
    if isinstance(path, Source):
        return path
    text = str(path)
    if is_address(text):
        # pathlib merges the two slashes of a scheme into one
        text = re.sub(r"^(\w+):/+", lambda scheme: f"{scheme[1].lower()}://", text)
        url = resolve_asset(text) if text.startswith("dandi:") else text
        is_zarr = _looks_like_zarr(text) or _looks_like_zarr(url)
        return Source(strip_secrets(text), url, is_remote=True, is_zarr=is_zarr)
    local = Path(text)
    check_input(local)
    for name in ZARR_FILES if local.is_dir() else ():
        refuse_pointer(local / name)
    if not local.exists():
        raise UnsupportedFileError(f"{text}: expected an NWB file, but it does not exist; check the path")
    if local.is_dir() and not is_store(local, files=ZARR_GROUP):
        raise UnsupportedFileError(
            f"{text}: expected an NWB file, but it is a folder that holds no Zarr group; give a .nwb file"
        )
    return Source(text, text, is_remote=False, is_zarr=local.is_dir())


def check_input(path: Path) -> None:
    """Refuse a path that must not be opened, whether or not the file exists."""
    fault = find_fault(path)
    if fault:
        raise UnsupportedFileError(fault)
    if is_special(path):
        raise UnsupportedFileError(
            f"{path}: expected a file, but it is a device, a pipe or a socket; give a file"
        )
    refuse_pointer(path)


def refuse_pointer(path: Path) -> None:
    """Refuse a pointer that git-lfs or git-annex left in place of a file that was not downloaded.

    Such a pointer is a short text or, for git-annex, a symbolic link to where the content would be.
    """
    start = b""
    if path.is_symlink() and not path.exists():
        start = path.readlink().as_posix().encode()
    elif path.is_file():
        with contextlib.suppress(OSError), path.open("rb") as stream:  # opening it later reports why
            start = stream.read(_POINTER_SIZE)
    for mark, (program, command) in _POINTERS.items():
        if mark in start:
            raise UnsupportedFileError(
                f"{path}: content not downloaded: this is only a pointer of {program}; run {command!r} on it"
            )


def is_address(text: str) -> bool:
    """Return whether a text is an address on a server and not a local path."""
    return _REMOTE.match(text) is not None


def _looks_like_zarr(url: str) -> bool:
    return re.sub(r"@[\w.]+$", "", urlsplit(url).path).rstrip("/").endswith(".zarr")
