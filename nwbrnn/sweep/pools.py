"""The data of a cell with several sessions, and its fit as one of these sessions shows it."""

from dataclasses import replace
from pathlib import Path

import xarray as xr

from nwbrnn.errors import ConfigError
from nwbrnn.formats import read_dataset
from nwbrnn.preprocessing import is_pooled, pool, prepare, view_session
from nwbrnn.result import FitResult
from nwbrnn.schema import RECORDING
from nwbrnn.sweep.grid import Cell
from nwbrnn.sweep.sources import DATA, get_data_path, hash_dataset, hash_members


def read_pool(folder: Path, cell: Cell) -> xr.Dataset:
    """Read and pool the sessions of a cell.

    Raises
    ------
    ConfigError
        If their data are not those of the cell.
    """
    sessions = [read_dataset(get_data_path(folder, name)) for name in cell.sessions]
    hashes = {name: hash_dataset(ds) for name, ds in zip(cell.sessions, sessions, strict=True)}
    if hash_members(hashes) != cell.data_hash:
        raise ConfigError(
            f"{folder / DATA}: expected the data of this cell, {', '.join(cell.sessions)}, but got others "
            "with the same names; keep sweeps of different data in different folders"
        )
    return pool(sessions)


def show_session(result: FitResult, folder: Path, cell: Cell, session: str) -> FitResult:
    """Return the fit of a cell with the recorded and the predicted data of one of its sessions.

    The recorded data are those that a fit of the session alone would have, with the same test trials and
    sampled neurons.

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
    """
    if not is_pooled(result.recorded):
        return result
    recorded = prepare(read_dataset(get_data_path(folder, session)), result.config)
    name = str(result.recorded[RECORDING].values[cell.sessions.index(session)])
    predicted = view_session(result.predicted, recorded, name)
    chosen = result.recorded.attrs.get("cross_validation")
    if chosen:
        recorded.attrs["cross_validation"] = chosen
    return replace(result, recorded=recorded, predicted=predicted)
