"""Write the tables and figures of a sweep."""

from pathlib import Path

import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from nwbrnn.evaluation import MAIN
from nwbrnn.formats.dataset import write_netcdf
from nwbrnn.plot import save
from nwbrnn.prediction.disturbances import KINDS as DISTURBANCES
from nwbrnn.report import plot_differences, plot_scores, plot_sessions
from nwbrnn.storage.atomic import replace_whole
from nwbrnn.sweep.agreement import FILE as AGREEMENT
from nwbrnn.sweep.agreement import compare_seeds, plot_agreement
from nwbrnn.sweep.statistics import UNSAMPLED, compare_with_baseline, compare_with_fewest
from nwbrnn.sweep.table import flatten

SIMILARITY = (
    "canonical correlation", "SVCCA", "linear CKA", "principal angle", "Procrustes angle",
    "rotation R2, network",
)  # fmt: skip
ROBUSTNESS = tuple(
    f"output skill, disturbed {kind} {level:g}"
    for kind, levels in DISTURBANCES.items()
    for level in (levels[0], levels[-1])
)
RESPONSES = tuple(
    f"response {what}, {whose}"
    for what in ("correlation", "R2")
    for whose in ("outputs", "unsampled neurons")
)
SESSIONS = (UNSAMPLED, "output R2")
"""Scores that are drawn against the number of pooled sessions."""
FIGURES = {"scores": MAIN, "similarity": SIMILARITY, "robustness": ROBUSTNESS, "responses": RESPONSES}
SOME = (
    "sessions.csv",
    AGREEMENT,
    *(f"figures/{name}.png" for name in ("sessions", "agreement", "differences", *FIGURES)),
)
"""What only some sweeps have; that of an earlier sweep in the same folder would be taken for this one's."""


def write_results(table: xr.Dataset, folder: Path, *, pooled: bool = False) -> pd.DataFrame:
    """Write ``table.nc``, ``table.csv``, ``statistics.csv`` and the figures of a sweep, replacing old ones.

    With three seeds or more, it also writes ``agreement.csv`` with the agreement of seeds. If pools of
    several sizes are compared, it writes ``sessions.csv`` with the differences from the smallest.

    Parameters
    ----------
    table
        The table from :func:`nwbrnn.sweep.run_sweep`.
    folder
        Folder of the sweep.
    pooled
        Whether all sources form one group; see :func:`nwbrnn.sweep.compare_with_baseline`.

    Returns
    -------
    pandas.DataFrame
        The statistics; empty if no cell is done.

    Raises
    ------
    ExportError
        If something cannot be written.
    """
    with replace_whole(folder / "table.nc", overwrite=True) as temporary:
        write_netcdf(table, temporary)
    statistics = compare_with_baseline(table, pooled=pooled)
    gains = compare_with_fewest(table)
    for name in SOME:
        (folder / name).unlink(missing_ok=True)
    frames = {"table": flatten(table), "statistics": statistics} | (
        {} if gains.empty else {"sessions": gains}
    )
    for name, frame in frames.items():
        with replace_whole(folder / f"{name}.csv", overwrite=True) as temporary:
            frame.to_csv(temporary, index=name == "table")
    if statistics.empty:
        return statistics
    (folder / "figures").mkdir(exist_ok=True)
    agreement = compare_seeds(folder, table)
    if not agreement.empty:
        with replace_whole(folder / AGREEMENT, overwrite=True) as temporary:
            agreement.to_csv(temporary, index=False)
    for name, figure in draw_figures(statistics, gains, agreement).items():
        save(figure, folder / "figures" / f"{name}.png")
    return statistics


def draw_figures(
    statistics: pd.DataFrame, gains: pd.DataFrame, agreement: pd.DataFrame | None
) -> dict[str, Figure]:
    """Draw the figures of a sweep that have data.

    Parameters
    ----------
    statistics
        The statistics from :func:`nwbrnn.sweep.compare_with_baseline`.
    gains
        Those from :func:`nwbrnn.sweep.compare_with_fewest`.
    agreement
        The agreement of seeds, if there are enough.
    """
    figures = {name: plot_scores(statistics, scores) for name, scores in FIGURES.items()}
    if (statistics["sampled"] != "0").any() and (statistics["sampled"] == "0").any():
        figures["differences"] = plot_differences(statistics, MAIN)
    if not gains.empty:
        figures["sessions"] = plot_sessions(statistics, gains, SESSIONS)
    if agreement is not None and not agreement.empty:
        figures["agreement"] = plot_agreement(agreement)
    return {name: figure for name, figure in figures.items() if figure.axes[0].axison}
