"""The one opener of NWB files: what cannot be read is refused here, with the reason."""

import contextlib
import hashlib
import warnings
from collections.abc import Iterator
from pathlib import Path

import h5py
from pynwb import NWBHDF5IO, NWBFile

from nwbrnn.errors import NwbrnnError, ReadError, UnsupportedFileError

_CHUNK = 1 << 20


@contextlib.contextmanager
def open_nwb(path: Path) -> Iterator[NWBFile]:
    """Open an NWB file for reading and close it afterwards.

    Parameters
    ----------
    path
        A local HDF5 file.

    Raises
    ------
    UnsupportedFileError
        If there is no such file, or it is not HDF5, not NWB, NWB 1.x, truncated or otherwise damaged.
    ReadError
        If data in it cannot be read later.
    """
    _check_header(path)
    with contextlib.ExitStack() as stack:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # remarks of pynwb on old namespaces
                io = stack.enter_context(NWBHDF5IO(str(path), "r"))
                nwbfile = io.read()
        except Exception as error:  # hdmf raises many kinds, bare Exception among them
            raise UnsupportedFileError(
                f"{path}: expected a readable NWB file, but pynwb cannot build it: {one_line(error)}; "
                "run 'python -m pynwb.validation_cli' or 'pynwb-validate' on it to see what is wrong"
            ) from error
        try:
            yield nwbfile
        except NwbrnnError:
            raise
        except OSError as error:
            raise ReadError(
                f"{path}: a part of the file cannot be read, it may be damaged: {one_line(error)}; "
                "get a fresh copy"
            ) from error


def compute_sha256(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal text."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _check_header(path: Path) -> None:
    """Refuse what is not an NWB 2 file in HDF5."""
    if not path.exists():
        raise UnsupportedFileError(f"{path}: expected an NWB file, but there is no such file")
    if path.is_dir():
        raise UnsupportedFileError(
            f"{path}: expected an NWB file in HDF5, but it is a folder (Zarr is not supported yet); "
            "convert it to HDF5"
        )
    try:
        with h5py.File(path, "r") as file:
            version = file.attrs.get("nwb_version", file.get("nwb_version"))
            if isinstance(version, h5py.Dataset):
                version = version[()]
    except OSError as error:
        if not _is_hdf5(path):
            raise UnsupportedFileError(
                f"{path}: expected an NWB file in HDF5, but it is not HDF5; give a .nwb file"
            ) from error
        raise UnsupportedFileError(
            f"{path}: expected a whole NWB file, but HDF5 cannot open it: {one_line(error)}; "
            "if it was downloaded or copied, get a fresh copy"
        ) from error
    if version is None:
        raise UnsupportedFileError(
            f"{path}: expected an NWB file, but this HDF5 file has no 'nwb_version'; give a .nwb file"
        )
    text = version.decode() if isinstance(version, bytes) else str(version)
    if not text.removeprefix("NWB-").startswith("2"):
        raise UnsupportedFileError(
            f"{path}: expected NWB 2, but got version {text!r}; "
            "convert it to NWB 2 with NeuroConv or with the tool that made it"
        )


def _is_hdf5(path: Path) -> bool:
    """Return whether the file begins with the HDF5 signature; unreadable files do not."""
    try:
        with path.open("rb") as stream:
            return stream.read(8) == b"\x89HDF\r\n\x1a\n"
    except OSError:
        return False


def one_line(error: Exception) -> str:
    """Return what an error of another library says, as one short line."""
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else text[:297] + "..."
