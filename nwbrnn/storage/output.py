"""Create NWB files, HDF5 or Zarr, and validate them with pynwb."""

import contextlib
import io
import json
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import pynwb
from pynwb import NWBHDF5IO

from nwbrnn.errors import ExportError
from nwbrnn.storage.zarr_store import create_zarr_output, register_codecs, replace_pickles, validate_zarr

MAX_METADATA = 1 << 20
"""Larger pieces that HDF5 writes are values, which it does not read again [bytes]."""


@contextlib.contextmanager
def create_nwb(path: Path, *, as_zarr: bool) -> Iterator[Any]:
    """Provide pynwb's writer of a new file, or hdmf-zarr's of a new folder, and close it afterwards."""
    if as_zarr:
        with contextlib.closing(create_zarr_output(path)) as output:
            yield output
        replace_pickles(path)
        return
    with path.open("w+b", buffering=0) as raw:
        stream = _Stream(path, raw)
        with h5py.File(stream, "w") as file, NWBHDF5IO(path=str(path), file=file, mode="w") as output:
            yield output
        if stream.error is not None:
            raise stream.error


def pack_hdf5(arrays: Mapping[str, Any]) -> bytes:
    """Return an HDF5 file with some arrays, made in memory: on a full disk, HDF5 can end the process."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for name, values in arrays.items():
            file.create_dataset(name, data=values)
    return content.getvalue()


class _Stream:
    """A file for HDF5 that never fails, but keeps the error of a failed write until it is closed.

    If libhdf5 (2.0.0) cannot write, for example on a full disk, it ends the process when it closes the file.
    This class therefore hides the error from libhdf5. It keeps later writes in memory, as far as libhdf5 may
    read them again, and discards them. HDF5 does not lock such a file, but its temporary name has a lock.
    """

    def __init__(self, path: Path, stream: io.FileIO) -> None:
        self.error: OSError | None = None
        self._path, self._stream = path, stream
        self._place = 0
        self._unwritten: list[tuple[int, bytes]] = []

    def __repr__(self) -> str:
        """Return the path, which h5py uses as the name of the file and hdmf to recognize its links."""
        return str(self._path)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = offset if whence == io.SEEK_SET else self._stream.seek(offset, whence)
        return self._place

    def tell(self) -> int:
        return self._place

    def read(self, size: int) -> bytes:
        buffer = bytearray(size)
        self.readinto(buffer)
        return bytes(buffer)

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        self._stream.seek(self._place)
        count = self._stream.readinto(view) or 0
        view[count:] = bytes(len(view) - count)
        for start, data in self._unwritten:
            low, high = max(start, self._place), min(start + len(data), self._place + len(view))
            if low < high:
                view[low - self._place : high - self._place] = data[low - start : high - start]
        return len(view)

    def write(self, buffer: Any) -> int:
        data = memoryview(buffer).cast("B")
        written = 0
        try:
            while self.error is None and written < len(data):
                self._stream.seek(self._place + written)
                written += self._stream.write(data[written:])
        except OSError as error:
            self.error = error
        if self.error is not None and len(data) <= MAX_METADATA:
            self._unwritten.append((self._place, bytes(data)))
        return len(data)

    def truncate(self, size: int) -> int:
        if self.error is None:
            try:
                self._stream.truncate(size)
            except OSError as error:
                self.error = error
        return size

    def flush(self) -> None:
        """Do nothing, since nothing is buffered."""


def list_validation_errors(path: Path, *, as_zarr: bool) -> list[str]:
    """Return the errors that pynwb's validator finds in a file."""
    if as_zarr:
        register_codecs()
        return validate_zarr(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # remarks on namespaces with several cached versions
        return [str(fault) for fault in pynwb.validate(path=str(path))]


def list_validation_errors_elsewhere(path: Path) -> list[str]:
    """Return the errors of a Zarr store, validated in a separate process that cannot read pickles."""
    command = [sys.executable, "-P", "-c", _VALIDATE, json.dumps(sys.path), str(path)]
    asked = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    if asked.returncode:
        reason = asked.stderr.strip().rpartition("\n")[2]
        raise ExportError(f"{path}: expected a store that hdmf-zarr can read, but it says {reason}")
    return [str(fault) for fault in json.loads(asked.stdout.rpartition("\n")[2])]


_VALIDATE = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from nwbrnn.storage.zarr_store import validate_zarr
sys.stdout.write("\\n" + json.dumps(validate_zarr(sys.argv[2])))
"""
