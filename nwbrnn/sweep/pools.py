"""The data of a cell, of one or several sessions, and its fit as one of these sessions shows it."""

import functools
from dataclasses import replace
from pathlib import Path

import xarray as xr

from nwbrnn.dataset import hash_dataset
from nwbrnn.errors import ConfigError
from nwbrnn.formats import read_dataset
from nwbrnn.preprocessing import is_pooled, list_trained_outputs, pool, prepare, view_session
from nwbrnn.result import FitResult
from nwbrnn.schema import RECORDING
from nwbrnn.sweep.grid import Cell
from nwbrnn.sweep.sources import get_data_path, hash_members


def read_data(folder: Path, cell: Cell) -> xr.Dataset:
    """Read the data of a cell, pooled if it has several sessions.

    Raises
    ------
    ConfigError
        If the data are not those of the cell.
    """
    names = cell.sessions or (cell.source,)
    if len(names) > 1:  # pools are large, and take less time than their fits
        return pool(_read(folder, names, cell.data_hash))
    return _read_once(folder, names, cell.data_hash, get_data_path(folder, *names).stat().st_mtime_ns)


@functools.lru_cache(maxsize=2)  # a worker takes many cells of the same data
def _read_once(folder: Path, names: tuple[str, ...], data_hash: str, _changed: int) -> xr.Dataset:
    return _read(folder, names, data_hash)[0]


def _read(folder: Path, names: tuple[str, ...], data_hash: str) -> list[xr.Dataset]:
    """Read Datasets and verify their hash."""
    sessions = [read_dataset(get_data_path(folder, name)) for name in names]
    hashes = {name: hash_dataset(ds) for name, ds in zip(names, sessions, strict=True)}
    if hash_members(hashes) != data_hash:
        paths = ", ".join(str(get_data_path(folder, name)) for name in names)
        raise ConfigError(
            f"{paths}: expected the data of this cell, but got others with the same name; "
            "keep sweeps of different data in different folders"
        )
    return sessions


def show_session(result: FitResult, folder: Path, cell: Cell, session: str) -> FitResult:
    """Return the fit of a cell with the recorded and the predicted data of one of its sessions.

    The recorded data are those that a fit of the session alone would have, with the same test trials and
    sampled neurons. Outputs without values in its training trials are left out.

    Parameters
    ----------
    result
        The fit.
    folder
        Folder of the sweep.
    cell
        The cell.
    session
        Name of the session there.

    Raises
    ------
    ConfigError
        If the session could not be fitted alone, for example because it has no test trials.
    """
    if not is_pooled(result.recorded):
        return result
    name = str(result.recorded[RECORDING].values[cell.sessions.index(session)])
    ds = read_dataset(get_data_path(folder, session))
    trained = list_trained_outputs(result.recorded, ds, name)
    if not trained:
        raise ConfigError(
            f"session {name}: outputs: expected some with values in its training trials, but there are none"
        )
    try:
        recorded = prepare(ds.sel(output=trained), result.config)
    except ConfigError as error:
        raise ConfigError(f"session {name}: {error}") from error
    predicted = view_session(result.predicted, recorded, name)
    chosen = result.recorded.attrs.get("cross_validation")
    if chosen:
        recorded.attrs["cross_validation"] = chosen
    return replace(result, recorded=recorded, predicted=predicted)
