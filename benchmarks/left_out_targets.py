"""Outputs of single trials in targets that were held out altogether: decode them from all neurons.

Each target of each file is held out in turn. The same skill (1 minus the squared error, relative to the
variance over all trials) is computed for networks with the given settings and for decoders that see the same
neurons. The last decoder is the condition average + Wiener filter with what can be known of an unknown
condition in place of its average: ridge regression on the task, for known targets from the other ones.

    OMP_NUM_THREADS=1 python benchmarks/left_out_targets.py session.nwb other.nwb -o left_out.csv \
        --network none: --network all:observe=all
    python benchmarks/left_out_targets.py -o left_out.csv

Cells that are in the table already are not fitted again. Without files, the table is summarized.
"""

import argparse
import csv
import functools
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import nwbrnn
from nwbrnn.config import FitConfig
from nwbrnn.evaluation import compute_skill
from nwbrnn.evaluation.baselines import BASELINES, Trials
from nwbrnn.evaluation.comparison import select_known, stack_samples
from nwbrnn.preprocessing import normalize_outputs, prepare

Scores = Iterator[tuple[str, float]]

COLUMNS = ("file", "target", "seed", "model", "skill")
TASK, WIENER = (
    next(one for one in BASELINES if one.name == name) for name in ("ridge on the task", "Wiener filter")
)
BOTH = "ridge on the task + Wiener filter"


def score(outputs: np.ndarray, recorded: xr.Dataset) -> float:
    """Return the skill of the predicted outputs of the test trials."""
    whole = normalize_outputs(recorded)
    tests = whole.isel(trial=recorded["split"].values == "test")
    predicted = normalize_outputs(
        recorded.isel(trial=recorded["split"].values == "test").assign(
            outputs=(recorded["outputs"].dims, outputs)
        )
    )
    return compute_skill(*(stack_samples(ds, "outputs") for ds in (predicted, tests, whole)))


def decode(recorded: xr.Dataset) -> dict[str, np.ndarray]:
    """Return the outputs that each decoder predicts for the test trials."""
    known, tests = select_known(recorded), recorded.isel(trial=recorded["split"].values == "test")
    shown = tests[["inputs", "mask", "rates"]]
    expected = TASK.predict(Trials(known, shown, 0))
    found = {
        TASK.name: np.asarray(expected["outputs"]),
        WIENER.name: np.asarray(WIENER.predict(Trials(known, shown, 0))["outputs"]),
    }
    names = ("outputs", "rates")
    left = {name: known[name].values.astype(float) for name in names}
    labels = known["condition"].values
    for label in set(labels.tolist()):
        others, own = known.isel(trial=labels != label), known.isel(trial=labels == label)
        ours = TASK.predict(Trials(others, own, 0))
        for name in names:
            left[name][labels == label] -= ours[name]
    residuals = known.assign({name: (known[name].dims, left[name]) for name in names})
    seen = shown.assign(rates=(shown["rates"].dims, shown["rates"].values - expected["rates"]))
    found[BOTH] = found[TASK.name] + np.asarray(WIENER.predict(Trials(residuals, seen, 0))["outputs"])
    return found


def run(
    path: Path, label: str, seed: int, networks: dict[str, dict[str, Any]], done: set[tuple[str, ...]]
) -> Scores:
    """Yield the scores of one left-out target of a file that are not done yet, by model."""
    cell = path.stem, label, str(seed)
    if (*cell, TASK.name) not in done and seed == 0:
        recorded = prepare(load(path), FitConfig(held_out_conditions=(label,)))
        yield from ((name, score(outputs, recorded)) for name, outputs in decode(recorded).items())
    for name, settings in networks.items():
        if (*cell, name) not in done:
            reading = {k: v for k, v in settings.items() if k not in FitConfig.model_fields}
            fitting = {k: v for k, v in settings.items() if k in FitConfig.model_fields}
            ds = load(path, tuple(reading.items()))
            result = nwbrnn.fit(ds, held_out_conditions=(label,), seed=seed, **fitting)
            tests = result.recorded["split"].values == "test"
            yield name, score(result.predicted["outputs"].values[tests], result.recorded)


@functools.cache
def load(path: Path, reading: tuple[tuple[str, Any], ...] = ()) -> xr.Dataset:
    """Return a file as it is read with some settings, once."""
    return nwbrnn.read_nwb(path, **dict(reading))


def list_targets(path: Path) -> list[str]:
    return sorted(set(load(path)["condition"].values.tolist()), key=float)


def parse_network(text: str) -> tuple[str, dict[str, Any]]:
    """Return name and settings of ``name:setting=value,setting=value``."""
    name, _, rest = text.partition(":")
    pairs = [part.split("=", 1) for part in rest.split(",") if part]
    return name, {key: _to_number(value) for key, value in pairs}


def _to_number(text: str) -> float | str:
    try:
        return int(text) if text.lstrip("-").isdigit() else float(text)
    except ValueError:
        return text


def summarize(table: Path) -> None:
    """Print the mean skill of each model in each file."""
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    files, models = (list(dict.fromkeys(row[name] for row in rows)) for name in ("file", "model"))
    width = max(map(len, models))
    for model in models:
        means = []
        for file_name in files:
            values = [float(r["skill"]) for r in rows if (r["file"], r["model"]) == (file_name, model)]
            means.append(float(np.mean(values)) if values else np.nan)
        print(model.ljust(width), *(f"{value:7.3f}" for value in means), f"  mean {np.mean(means):.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("-o", "--table", type=Path, required=True)
    parser.add_argument("--network", action="append", type=parse_network, default=[])
    parser.add_argument("--seeds", type=int, default=1)
    given = parser.parse_args()
    if not given.table.exists():
        given.table.write_text(",".join(COLUMNS) + "\r\n")
    with given.table.open(newline="") as file:
        done = {tuple(row[name] for name in COLUMNS[:-1]) for row in csv.DictReader(file)}
    labels = {path: list_targets(path) for path in given.files}
    # every other target first, then the others, so that a run that is ended early has some of every file
    order = [at for start in (0, 1) for at in range(start, max(map(len, labels.values()), default=0), 2)]
    for seed, at, path in product(range(given.seeds), order, given.files):
        if at >= len(labels[path]):
            continue
        for name, value in run(path, labels[path][at], seed, dict(given.network), done):
            with given.table.open("a", newline="") as file:
                csv.writer(file).writerow((path.stem, labels[path][at], seed, name, f"{value:.6f}"))
    summarize(given.table)


if __name__ == "__main__":
    main()
