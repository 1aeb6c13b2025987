"""Run many fits, on this machine or a cluster, and summarize their results."""

from nwbrnn.sweep.cell import (
    get_data_path,
    get_path,
    list_finished,
    read_cell,
    read_error,
    read_kept,
    read_scores,
    rebuild,
    rebuild_fit,
)
from nwbrnn.sweep.grid import Cell, list_cells
from nwbrnn.sweep.results import write_results
from nwbrnn.sweep.run import add_data, create_folder, run_cells, run_sweep
from nwbrnn.sweep.statistics import compare_with_baseline, compute_interval
from nwbrnn.sweep.table import create_table, flatten

__all__ = [
    "Cell",
    "add_data",
    "compare_with_baseline",
    "compute_interval",
    "create_folder",
    "create_table",
    "flatten",
    "get_data_path",
    "get_path",
    "list_cells",
    "list_finished",
    "read_cell",
    "read_error",
    "read_kept",
    "read_scores",
    "rebuild",
    "rebuild_fit",
    "run_cells",
    "run_sweep",
    "write_results",
]
