"""Collect the results of a sweep in one table."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from nwbrnn.config import FitConfig
from nwbrnn.evaluation import BASELINES
from nwbrnn.sweep.cell import RIVALS, VALUES, find_result, read_error
from nwbrnn.sweep.grid import Cell


def create_table(folder: Path, cells: Sequence[Cell]) -> xr.Dataset:
    """Collect the results of finished cells.

    Parameters
    ----------
    folder
        Folder of the sweep.
    cells
        All cells of the sweep.

    Returns
    -------
    xarray.Dataset
        Dimensions ``cell``, ``score``, ``baseline`` and ``unit`` (by position in its file). ``value``,
        ``known_average``, ``noise_ceiling``, ``reliability``, ``chance``, ``low`` and ``high`` (cell, score),
        ``baseline_value`` with ``baseline_low`` and ``baseline_high`` (cell, score, baseline), ``unit_r2``
        and ``unit_sampled`` (cell, unit); as
        coordinates of the cells ``source``, ``held_out``, ``seed``, ``n_sampled``, every setting that
        differs between cells as text, ``chosen`` (what cross-validation chose, JSON), ``status`` (``done``,
        ``failed`` or ``missing``), ``error`` and ``seconds``. Of pools, also ``pooled`` (the names of the
        sessions), and if their sizes are compared, ``sessions`` (their number as text) and ``reference`` (the
        session on which the network was scored, and to which units belong).
    """
    found = [find_result(folder, cell) for cell in cells]
    names = list(dict.fromkeys(name for one in found if one for name in one["score"].values.tolist()))
    n_units = max((one.sizes["unit"] for one in found if one), default=0)
    scores = {name: np.full((len(cells), len(names)), np.nan) for name in VALUES}
    known = np.array([baseline.name for baseline in BASELINES])
    rivals = {f"baseline_{name}": np.full((len(cells), len(names), len(known)), np.nan) for name in RIVALS}
    unit_r2 = np.full((len(cells), n_units), np.nan)
    sampled = np.zeros((len(cells), n_units), dtype=bool)
    for i, one in enumerate(found):
        if one is not None:
            columns = [names.index(name) for name in one["score"].values.tolist()]
            for name, values in (scores | rivals).items():
                if name in one:  # an earlier version may lack it
                    values[i, columns] = one[name].values
            unit_r2[i, : one.sizes["unit"]] = one["unit_r2"].values
            sampled[i, : one.sizes["unit"]] = one["sampled"].values.astype(bool)
    return xr.Dataset(
        {name: (("cell", "score"), values) for name, values in scores.items()}
        | {name: (("cell", "score", "baseline"), values) for name, values in rivals.items()}
        | {"unit_r2": (("cell", "unit"), unit_r2), "unit_sampled": (("cell", "unit"), sampled)},
        coords={"cell": [cell.key for cell in cells], "score": np.array(names, dtype="U"), "baseline": known}
        | {name: ("cell", values) for name, values in _describe(folder, cells, found).items()},
    )


def _describe(folder: Path, cells: Sequence[Cell], found: Sequence[xr.Dataset | None]) -> dict[str, Any]:
    """Return the coordinates of the cells."""
    columns: dict[str, list[Any]] = {
        "source": [cell.source for cell in cells],
        "held_out": [",".join(cell.config.held_out_conditions) for cell in cells],
        "seed": [cell.config.seed for cell in cells],
        "n_sampled": [-1 if one is None else int(one["sampled"].sum()) for one in found],
        "seconds": [np.nan if one is None else one.attrs["seconds"] for one in found],
        "chosen": ["" if one is None else _describe_choice(one) for one in found],
    }
    if any(cell.sessions for cell in cells):
        columns["pooled"] = [", ".join(cell.sessions) for cell in cells]
    if any(cell.reference for cell in cells):
        columns["reference"] = [cell.reference for cell in cells]
        columns["sessions"] = [str(len(cell.sessions)) for cell in cells]
    for name in list_settings([cell.config for cell in cells]):
        columns[name] = [str(getattr(cell.config, name)) for cell in cells]
    errors = [read_error(folder, cell) if one is None else "" for cell, one in zip(cells, found, strict=True)]
    columns["error"] = errors
    columns["status"] = [
        "done" if one is not None else "failed" if error else "missing"
        for one, error in zip(found, errors, strict=True)
    ]
    return columns


def list_settings(configs: Sequence[FitConfig]) -> list[str]:
    """Return ``sampled`` and the other settings in which fits differ, except seed and held-out conditions.

    The dynamics weight of fits without sampled neurons is ignored.
    """
    names = [name for name in FitConfig.model_fields if name not in ("seed", "held_out_conditions")]
    values = {name: {str(getattr(c, name)) for c in configs} for name in names}
    values["dynamics_weight"] = {str(c.dynamics_weight) for c in configs if c.sampled != 0}
    return [name for name in names if name == "sampled" or len(values[name]) > 1]


def _describe_choice(saved: xr.Dataset) -> str:
    """Return what cross-validation chose."""
    if not saved.attrs["cross_validation"]:
        return ""
    config = json.loads(saved.attrs["config"])
    return json.dumps({name: config[name] for name in ("dynamics_weight", "weight_penalty", "stop_after")})


def flatten(table: xr.Dataset) -> pd.DataFrame:
    """Return one row for each cell and one column for each score, and each of a baseline, for a CSV file."""
    coords = [str(name) for name in table.coords if table[name].dims == ("cell",) and name != "cell"]
    frame = pd.DataFrame({name: table[name].values for name in coords}, index=table["cell"].values)
    values = pd.DataFrame(table["value"].values, columns=table["score"].values, index=table["cell"].values)
    beside = {
        f"{score}, {name}": table["baseline_value"].values[:, i, j]
        for i, score in enumerate(table["score"].values.tolist())
        for j, name in enumerate(table["baseline"].values.tolist())
    }
    rivals = pd.DataFrame(beside, index=table["cell"].values).dropna(axis=1, how="all")
    frame.index.name = "cell"
    return pd.concat([frame, values, rivals], axis=1)
