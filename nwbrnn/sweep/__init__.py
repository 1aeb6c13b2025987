"""Run many fits, on this machine or a cluster, and summarize their results."""

from nwbrnn.sweep.cell import (
    divide_time,
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
from nwbrnn.sweep.pools import show_session
from nwbrnn.sweep.results import write_results
from nwbrnn.sweep.run import add_data, create_folder, keep_data, run_cells, run_sweep
from nwbrnn.sweep.sources import Stored, describe_data, get_data_path
from nwbrnn.sweep.statistics import (
    compare_with_baseline,
    compare_with_fewest,
    compute_interval,
    list_failures,
)
from nwbrnn.sweep.table import create_table, flatten

__all__ = [
    "Cell",
    "Stored",
    "add_data",
    "compare_with_baseline",
    "compare_with_fewest",
    "compute_interval",
    "create_folder",
    "create_table",
    "describe_data",
    "divide_time",
    "flatten",
    "get_data_path",
    "get_path",
    "keep_data",
    "list_cells",
    "list_failures",
    "list_finished",
    "read_cell",
    "read_error",
    "read_kept",
    "read_scores",
    "rebuild",
    "rebuild_fit",
    "run_cells",
    "run_sweep",
    "show_session",
    "write_results",
]
