"""What a network gains from several sessions, each with other neurons of one simulated circuit.

For each seed, a circuit of 200 neurons reaches in 16 directions, of which every other one is held out. Eight
sessions have five trials of each direction and ten neurons each. Three kinds of fits: one of all sessions
pooled (``nwbrnn.pool``), one of each session alone, and one of a single session with all 80 neurons. A ninth
block of trials, which no fit has seen, tests them all in the same way: the 120 neurons that no session
recorded are predicted from the leading components of each network, in the directions held out.

    OMP_NUM_THREADS=1 python benchmarks/pooling.py --teachers 10 --output pooling.csv

Circuits that are in the table already are not fitted again.
"""

import argparse
import time
from pathlib import Path

from timing import print_versions  # first: it sets the number of threads

# isort: split
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

import nwbrnn
from nwbrnn.config import FitConfig
from nwbrnn.evaluation import evaluate
from nwbrnn.mechanism import Teacher, compare_responses
from nwbrnn.prediction import fit_rate_readout, predict
from nwbrnn.preprocessing import prepare
from nwbrnn.result import FitResult
from nwbrnn.sweep.statistics import compute_interval

N_NEURONS, N_DIRECTIONS, N_TRIALS = 200, 16, 5
SCORES = (  # none depends on the scale of outputs, to which a pool brings those of its sessions
    "unsampled neurons R2", "canonical correlation", "response correlation, outputs",
    "response correlation, unsampled neurons",
)  # fmt: skip


def split_sessions(ds: xr.Dataset, neurons: list[np.ndarray]) -> list[xr.Dataset]:
    """Return one session for each set of neurons, with its own trials."""
    n_each = N_DIRECTIONS * N_TRIALS
    blocks = [slice(i * n_each, (i + 1) * n_each) for i in range(len(neurons))]
    return [
        ds.isel(trial=block, unit=np.sort(units)).drop_vars(["connectivity", "readout"])
        for block, units in zip(blocks, neurons, strict=True)
    ]


def examine(result: FitResult, exam: xr.Dataset) -> dict[str, float]:
    """Return the scores of a network on trials and neurons that no fit has seen."""
    config = result.config.model_copy(update={"dynamics_weight": 0.0})  # all neurons from its components
    weights = {name: value for name, value in result.weights.items() if not name.startswith("rate_readout")}
    weights |= fit_rate_readout(exam, weights, config)
    predicted = predict(exam, weights, config)
    scores = {s.name: s.value for s in evaluate(exam, predicted).summary if s.level == "condition averages"}
    teacher = Teacher.find(exam)
    if teacher is None:
        raise ValueError("expected a simulated circuit")
    return scores | compare_responses(teacher, weights, config)


def compare(seed: int, n_sessions: int, n_units: int) -> list[dict[str, Any]]:
    """Return the scores of all fits of one circuit."""
    n_blocks = n_sessions + 1
    teacher = nwbrnn.TeacherConfig(
        n_neurons=N_NEURONS, n_directions=N_DIRECTIONS, n_trials=N_TRIALS * n_blocks, seed=seed
    )
    full = nwbrnn.simulate_teacher(teacher)
    order = np.random.default_rng([seed, 7]).permutation(N_NEURONS)[: n_sessions * n_units]
    parts = np.split(order, n_sessions)
    held_out = tuple(list(dict.fromkeys(full["condition"].values.tolist()))[1::2])
    settings: dict[str, Any] = {
        "sampled": "all",
        "held_out_conditions": held_out,
        "min_rate": 0,
        "seed": seed,
    }
    sessions = split_sessions(full, parts)
    exam = prepare(
        full.isel(trial=slice(-N_DIRECTIONS * N_TRIALS, None)), FitConfig(**settings | {"sampled": 0})
    )
    exam = exam.assign_coords(sampled=("unit", np.isin(np.arange(N_NEURONS), order)))
    names = [f"session {i + 1}" for i in range(n_sessions)]
    fits = {"pooled": nwbrnn.pool(sessions, names=names)} | dict(zip(names, sessions, strict=True))
    fits[f"all {len(order)} in one session"] = split_sessions(full, [order])[0]
    rows = []
    for name, ds in fits.items():
        begin = time.perf_counter()
        result = nwbrnn.fit(ds, **settings)
        seconds = time.perf_counter() - begin
        scores = examine(result, exam)
        rows.append({"seed": seed, "fit": name, "seconds": seconds} | {n: scores[n] for n in SCORES})
        print(*(f"{v:.3f}" if isinstance(v, float) else v for v in rows[-1].values()), sep="  ", flush=True)
    return rows


def summarize(table: pd.DataFrame) -> None:
    """Print the mean of each kind of fit over circuits, and the gain of the pool."""
    alone = table[table["fit"].str.startswith("session ")]
    best = alone.groupby("seed")[list(SCORES)].max()
    kinds = {str(name): part.set_index("seed")[list(SCORES)] for name, part in table.groupby("fit")}
    kinds = {name: part for name, part in kinds.items() if not name.startswith("session ")}
    kinds["best single session"] = best
    kinds["mean single session"] = alone.groupby("seed")[list(SCORES)].mean()
    for name, part in kinds.items():
        print(name, *(f"{column}: {part[column].mean():.3f}" for column in SCORES), sep="  ")
    for name, part in kinds.items():
        if name != "pooled":
            for column in SCORES:
                gain = (kinds["pooled"] - part)[column]
                found = compute_interval(gain.to_numpy()[:, np.newaxis])
                better = f"better in {(gain > 0).sum()} of {len(gain)}"
                interval = f"{found.mean:+.3f} ({found.low:+.3f} to {found.high:+.3f})"
                print(f"pooled - {name}, {column}: {interval}, {better}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--teachers", type=int, default=10)
    parser.add_argument("--sessions", type=int, default=8)
    parser.add_argument("--units", type=int, default=10)
    parser.add_argument(
        "--output", type=Path, help="also write the scores of all fits to this CSV, and go on there"
    )
    given = parser.parse_args()
    print_versions()
    rows: list[Any] = []
    if given.output and given.output.exists():
        rows = pd.read_csv(given.output).to_dict("records")
    done = {row["seed"] for row in rows}
    for number in range(given.teachers):
        if number not in done:
            rows += compare(number, given.sessions, given.units)
            if given.output:
                pd.DataFrame(rows).to_csv(given.output, index=False)
    summarize(pd.DataFrame(rows))
