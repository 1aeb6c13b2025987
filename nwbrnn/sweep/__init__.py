"""Many fits: which, where they run, and what they say together."""

from nwbrnn.sweep.cell import list_finished, rebuild
from nwbrnn.sweep.grid import Cell, list_cells
from nwbrnn.sweep.results import write_results
from nwbrnn.sweep.run import run_sweep
from nwbrnn.sweep.statistics import compare_with_baseline, compute_interval
from nwbrnn.sweep.table import create_table, flatten

__all__ = [
    "Cell",
    "compare_with_baseline",
    "compute_interval",
    "create_table",
    "flatten",
    "list_cells",
    "list_finished",
    "rebuild",
    "run_sweep",
    "write_results",
]
