"""Which cell a process of a sweep gets next."""

from itertools import pairwise
from types import SimpleNamespace

import pytest

from nwbrnn.config import FitConfig
from nwbrnn.sweep import Cell
from nwbrnn.sweep.local import _take


def make_cells(n_seeds=2, levels=(0, 5, 20), source="a"):
    return [
        Cell(source, FitConfig(sampled=sampled, seed=seed), 0, "hash")
        for sampled in levels
        for seed in range(n_seeds)
    ]


def describe(cell):
    return cell.source, cell.config.sampled, cell.config.seed


@pytest.mark.parametrize("n_workers", [1, 2, 3])
def test_each_cell_is_run_once_and_processes_keep_their_trials(n_workers):
    waiting = [*make_cells(3), *make_cells(3, source="b")]
    expected = sorted(map(describe, waiting))
    workers, begun = {}, []
    for number in range(n_workers):
        workers[number] = SimpleNamespace(cell=_take(waiting, None, workers))
        begun.append([workers[number].cell])
    while waiting:  # in turn, as if all cells took equally long
        for number in range(n_workers):
            if waiting:
                workers[number].cell = _take(waiting, workers[number].cell, workers)
                begun[number].append(workers[number].cell)
    assert sorted(describe(cell) for cells in begun for cell in cells) == expected
    changes = 0
    for cells in begun:
        trials = [(cell.source, cell.config.seed) for cell in cells]
        changes += sum(one != other for one, other in pairwise(trials))
    assert changes == 6 - n_workers  # six sets of trials, each on one process only


def test_a_process_that_has_nothing_left_helps_another():
    waiting = make_cells(1)
    workers = {0: SimpleNamespace(cell=waiting.pop(0))}
    assert describe(_take(waiting, None, workers)) == ("a", 5, 0)
