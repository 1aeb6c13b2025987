"""What several sessions gain from one network, and what a pool knows of a day that it has not seen.

For each seed, nwbrnn fits all files pooled and each of them alone, with the same held-out trials and the same
sampled neurons, and scores them on each session. The pool is fitted with a readout of outputs that all
sessions share, and with one of each session. Everything is repeated with every other condition held out.

Then each session in turn is a new day: the other sessions are pooled, and on the new day only the readout of
the frozen network is fitted, to a few trials of each condition. Beside it are a fit of the new day alone, to
the same trials, and a random network with a readout. All units of the new day count, except those that the
fit of the new day alone samples.

    OMP_NUM_THREADS=1 python benchmarks/new_day.py monday.nwb tuesday.nwb ... --seeds 3 --output new_day.csv
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from timing import print_versions  # first: it sets the number of threads

# isort: split
from typing import Any

import pandas as pd
import xarray as xr

import nwbrnn
from nwbrnn.evaluation import evaluate
from nwbrnn.preprocessing import select_session
from nwbrnn.result import FitResult

FROZEN = ("recurrent_weights", "input_weights", "bias", "initial_state")
TRIALS = (1, 4)  # of each condition, on the new day
SCORES = ("output R2", "unsampled neurons R2")


def score(
    result: FitResult, session: str | None = None, unsampled: list[int] | None = None
) -> dict[str, Any]:
    """Return output R2 and the median R2 of the unsampled units, of one session of a pool if it is one."""
    recorded, predicted = result.recorded, result.predicted
    if session is not None:
        recorded, predicted = select_session(recorded, session, predicted)
    if unsampled is not None:
        recorded = recorded.assign_coords(sampled=~recorded["unit"].isin(unsampled))
    scores = evaluate(recorded, predicted)
    return {name: scores.get(name).value for name in SCORES}


def list_unsampled(result: FitResult) -> list[int]:
    return [int(unit) for unit in result.recorded["unit"].values[~result.recorded["sampled"].values]]


def compare(sessions: dict[str, xr.Dataset], settings: dict[str, Any], test: str) -> Iterator[dict[str, Any]]:
    """Yield the scores of all sessions, pooled and alone."""
    together = nwbrnn.pool(list(sessions.values()), names=list(sessions))
    shared = nwbrnn.fit(together, **settings)
    own = nwbrnn.fit(together, **settings, session_outputs="own")
    for name, ds in sessions.items():
        yield {"test": test, "session": name, "fit": "pooled"} | score(shared, name)
        yield {"test": test, "session": name, "fit": "pooled, own outputs"} | score(own, name)
        yield {"test": test, "session": name, "fit": "alone"} | score(nwbrnn.fit(ds, **settings))


def leave_out(sessions: dict[str, xr.Dataset], seed: int) -> Iterator[dict[str, Any]]:
    """Yield the scores of each session as a new day."""
    for day, ds in sessions.items():
        others = {name: one for name, one in sessions.items() if name != day}
        together = nwbrnn.pool(list(others.values()), names=list(others))
        pooled = nwbrnn.fit(together, seed=seed, session_outputs="own")
        readout: dict[str, Any] = {
            "seed": seed,
            "dynamics_weight": 0.0,
            "freeze": FROZEN,
            "hidden": pooled.config.hidden,
        }
        for n_trials in TRIALS:
            alone = nwbrnn.fit(ds, seed=seed, train_trials=n_trials)
            units = list_unsampled(alone)
            fits = {
                "alone": alone,
                "frozen pool": nwbrnn.fit(ds, **readout, train_trials=n_trials, start_from=pooled),
                "random network": nwbrnn.fit(ds, **readout, train_trials=n_trials),
            }
            for name, result in fits.items():
                about = {"test": f"new day, {n_trials} trials", "session": day, "fit": name}
                yield about | score(result, unsampled=units)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, help="also write all scores to this CSV")
    given = parser.parse_args()
    print_versions()
    read = {path.stem: nwbrnn.read_nwb(path) for path in given.files}
    labels = sorted({c for ds in read.values() for c in ds["condition"].values.tolist()}, key=float)
    in_all = [c for c in labels if all(c in ds["condition"].values for ds in read.values())]
    rows: list[dict[str, Any]] = []
    for seed in range(given.seeds):
        held_out = {"seed": seed, "held_out_conditions": tuple(in_all[1::2])}
        parts = (
            compare(read, {"seed": seed}, "held-out trials"),
            compare(read, held_out, "held-out conditions"),
            leave_out(read, seed),
        )
        for part in parts:
            for row in part:
                rows.append({"seed": seed} | row)
                print(
                    *(f"{v:.3f}" if isinstance(v, float) else v for v in rows[-1].values()),
                    sep="  ",
                    flush=True,
                )
                if given.output:
                    pd.DataFrame(rows).to_csv(given.output, index=False)
    table = pd.DataFrame(rows)
    print(table.groupby(["test", "fit"])[list(SCORES)].agg(["mean", "std"]).round(3).to_string())
