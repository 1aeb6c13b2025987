"""Measure the agreement of networks of a sweep that differ only in their seed."""

from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from nwbrnn.mechanism import compare_networks, find_determined_share
from nwbrnn.mechanism.agreement import MEANINGS
from nwbrnn.plot.style import COLOURS
from nwbrnn.plot.sweep import describe_level, describe_settings
from nwbrnn.sweep.cell import list_finished, read_cell, rebuild
from nwbrnn.sweep.grid import Cell
from nwbrnn.sweep.statistics import find_settings

MIN_SEEDS, MAX_SEEDS = 3, 5  # of a setting: the minimum needed and the maximum compared
FILE = "agreement.csv"
MEASURED = ("measure", "mean", "low", "high", "seeds")
"""Columns after those that say which networks are compared."""
SHARE = "determined share of W"


def compare_seeds(folder: Path, table: xr.Dataset) -> pd.DataFrame:
    """Compare the networks of each setting pair by pair, if it has three seeds or more.

    Parameters
    ----------
    folder
        Folder of the sweep.
    table
        The table from :func:`nwbrnn.sweep.create_table`.

    Returns
    -------
    pandas.DataFrame
        A row for each source, setting, held-out condition and measure: ``mean``, ``low`` and ``high`` over
        the pairs of seeds, or over the seeds for the share of the weights that the data determine, and
        ``seeds``. Every setting that differs between cells has a column, as in the table. Empty with fewer
        seeds. If pools of several sizes are compared, ``source`` names the sessions.
    """
    settings = ["held_out", *find_settings(table)]
    columns = zip(*(map(str, table[name].values.tolist()) for name in settings), strict=True)
    named = {
        key: dict(zip(settings, values, strict=True))
        for key, values in zip(table["cell"].values.tolist(), columns, strict=True)
    }
    several = len(set(table["seed"].values.tolist())) >= MIN_SEEDS
    groups: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in list_finished(folder) if several else []:
        if cell.key in named:
            config = cell.config.model_copy(update={"seed": 0})
            groups.setdefault((cell.source, cell.data_hash, config.model_dump_json()), []).append(cell)
    enough = [cells[:MAX_SEEDS] for cells in groups.values() if len(cells) >= MIN_SEEDS]
    rows = [
        {"source": _name_source(cells[0])} | named[cells[0].key] | row
        for cells in enough
        for row in _compare(folder, cells)
    ]
    return pd.DataFrame(rows, columns=["source", *settings, *MEASURED])


def read_agreement(file: Path) -> pd.DataFrame:
    """Return the table of a sweep as :func:`compare_seeds` made it; the setting None is a text in it."""
    return pd.read_csv(file, keep_default_na=False, na_values={name: [""] for name in MEASURED[1:]})


def _name_source(cell: Cell) -> str:
    """Return the name of the data; pools of several sizes have one name."""
    return ", ".join(cell.sessions) if cell.reference else cell.source


def _compare(folder: Path, cells: list[Cell]) -> list[dict[str, object]]:
    """Return the measures of one setting."""
    predictions, shares = [], []
    for cell in cells:
        recorded, predicted = rebuild(folder, cell)
        saved, _ = read_cell(folder / "cells" / f"{cell.key}.nc")
        weights = saved["weights_recurrent_weights"].values
        shares.append(find_determined_share(recorded, predicted, weights)[0])
        predictions.append(predicted)
    found = compare_networks(predictions) | {SHARE: shares}
    return [
        {
            "measure": name,
            "mean": float(np.mean(values)),
            "low": min(values),
            "high": max(values),
            "seeds": len(cells),
        }
        for name, values in found.items()
    ]


def plot_agreement(agreement: pd.DataFrame) -> Figure:
    """Draw the agreement of seeds against the number of sampled neurons, with a panel per measure.

    Each source and combination of the other settings has a colour. Of several held-out conditions, the mean
    and the whole range are drawn.
    """
    agreement = agreement.assign(sampled=agreement["sampled"].astype(str))
    others = [name for name in agreement.columns if name not in ("held_out", "sampled", *MEASURED)]
    varied = [name for name in others if name == "source" or agreement[name].nunique() > 1]
    names = [name for name in (*MEANINGS, SHARE) if name in set(agreement["measure"])]
    figure = Figure(figsize=(3.2 * min(len(names), 3) + 0.6, 2.6 * -(-len(names) // 3)), layout="constrained")
    axes = figure.subplots(-(-len(names) // 3), min(len(names), 3), squeeze=False).ravel()
    levels = list(dict.fromkeys(agreement["sampled"]))
    for ax, name in zip(axes, names, strict=False):
        rows = agreement[agreement["measure"] == name]
        for i, (key, same) in enumerate(rows.groupby(varied, sort=False)):
            part = same.groupby("sampled", sort=False).agg({"mean": "mean", "low": "min", "high": "max"})
            at = [levels.index(level) + 0.08 * i for level in part.index]
            reach = [part["mean"] - part["low"], part["high"] - part["mean"]]
            ax.errorbar(
                at, part["mean"], yerr=reach, fmt="o", ms=4, capsize=2, color=COLOURS[i % len(COLOURS)],
                label=describe_settings(varied, key),
            )  # fmt: skip
        ax.set_xticks(range(len(levels)), [describe_level(level) for level in levels], fontsize=8)
        ax.tick_params(labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
        ax.set_title(name.replace("R2", "R²"), fontsize=9)
        ax.set_xlabel("sampled neurons", fontsize=9)
    for ax in axes[len(names) :]:
        ax.set_axis_off()
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    return figure
