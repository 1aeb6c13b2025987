"""How good a network is after some seconds, on directions never trained on.

For each seed a teacher of 200 neurons and 16 directions; every other direction is held out, 25 % of the
neurons are sampled. First the default fit, with the time it takes. Then every method gets the same wall time
on one thread: its number of epochs is set so that the learning rate has come down when the time is over
(patience may end it earlier). Peers: the same gradient fit with the loop one would write for torch's
autograd, and a reservoir of reservoirpy (skipped where it is not installed) with a ridge readout, which has
no use for more time. Scores are R2 on condition averages; those of neurons are medians.

    OMP_NUM_THREADS=1 python benchmarks/budget.py --seeds 5 --seconds 15 60
"""

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from timing import print_versions  # first: it sets the number of threads

# isort: split
import numpy as np
import xarray as xr
from epoch import autograd_scan
from torch import Tensor

import nwbrnn
from nwbrnn.config import FitConfig
from nwbrnn.evaluation import evaluate
from nwbrnn.models import rate_rnn
from nwbrnn.preprocessing import average_conditions, prepare
from nwbrnn.result import FitResult

NAMES = ("output R2", "sampled neurons R2", "unsampled neurons R2", "canonical correlation")
RIDGE, LEAK, RADIUS = 1e-3, 0.2, 0.9  # of the reservoir; leak as of tau 0.05 s, the best of a few tries


def create_settings(ds: xr.Dataset, seed: int) -> dict[str, Any]:
    conditions = list(dict.fromkeys(ds["condition"].values.tolist()))
    return {"sampled": 0.25, "held_out_conditions": tuple(conditions[1::2]), "seed": seed}


def fit_for(ds: xr.Dataset, seconds: float, settings: dict[str, Any]) -> FitResult:
    """Fit for some time: as many epochs as fit in, and no second more."""
    started = []

    def warm_up(number: int, losses: dict[str, float]) -> None:
        started.append(time.perf_counter())

    nwbrnn.fit(ds, **settings | {"epochs": 12, "method": "gradient"}, progress=warm_up)
    epochs = max(int(seconds / np.median(np.diff(started)[1:])), 1)
    begin = time.perf_counter()

    def stop(number: int, losses: dict[str, float]) -> None:
        if time.perf_counter() - begin > seconds:
            raise KeyboardInterrupt

    return nwbrnn.fit(ds, **settings | {"epochs": epochs}, progress=stop)


@contextmanager
def plain_torch() -> Iterator[None]:
    """Replace the time loop by that for autograd; stop if no fit has used it."""
    used = False

    def run(*given: Tensor, nonlinearity: str) -> tuple[Tensor, Tensor]:
        nonlocal used
        used = True
        rates = autograd_scan(*given[:-1], nonlinearity=nonlinearity)
        return rates @ given[-1].T, rates

    before, rate_rnn.scan_and_read = rate_rnn.scan_and_read, run  # type: ignore[assignment, attr-defined]
    try:
        yield
    finally:
        rate_rnn.scan_and_read = before  # type: ignore[attr-defined]
    if not used:
        sys.exit("the networks use another loop than scan_and_read")


def fit_reservoir(ds: xr.Dataset, settings: dict[str, Any]) -> tuple[xr.Dataset, xr.Dataset] | None:
    """Return recorded and predicted Datasets of a reservoir, or ``None`` without reservoirpy."""
    try:
        from reservoirpy.nodes import Reservoir
    except ImportError:
        return None
    recorded = prepare(ds, FitConfig(**settings))
    reservoir = Reservoir(200, lr=LEAK, sr=RADIUS, seed=settings["seed"])
    states: list[np.ndarray] = []
    for inputs in recorded["inputs"].values:
        reservoir.reset() if states else None
        states.append(reservoir.run(np.asarray(inputs, dtype=float)))
    hidden = np.stack(states)
    known = average_conditions(
        recorded.assign(hidden=(("trial", "time", "hidden"), hidden)).isel(
            trial=recorded["split"].values != "test"
        )
    )
    design = known["hidden"].values.reshape(-1, 200)
    design = np.c_[design, np.ones(len(design))]
    predicted = recorded.assign(hidden=(("trial", "time", "hidden"), hidden))
    for name in ("outputs", "rates"):
        target = known[name].values.reshape(len(design), -1)
        weights = np.linalg.solve(design.T @ design + RIDGE * np.eye(201), design.T @ target)
        values = hidden @ weights[:-1] + weights[-1]
        predicted = predicted.assign({name: (recorded[name].dims, values)})
    return recorded, predicted


def score(recorded: xr.Dataset, predicted: xr.Dataset) -> list[float]:
    """Return the output R2 on trained directions, then all scores on held-out ones."""
    split = recorded["split"].values
    swapped = recorded.assign_coords(split=("trial", np.where(split == "test", "train", "test")))
    held = evaluate(recorded, predicted)
    return [evaluate(swapped, predicted).get("output R2").value, *(held.get(name).value for name in NAMES)]


def run_seed(seed: int, budgets: list[float], rows: dict[str, list[list[float]]]) -> None:
    """Add the scores of every method for one seed."""
    ds = nwbrnn.simulate_teacher(nwbrnn.TeacherConfig(n_directions=16, seed=seed))
    settings = create_settings(ds, seed)

    def add(name: str, pair: tuple[xr.Dataset, xr.Dataset], begin: float) -> None:
        rows.setdefault(name, []).append([*score(*pair), time.perf_counter() - begin])

    begin = time.perf_counter()
    result = nwbrnn.fit(ds, **settings)
    add("auto, default settings", (result.recorded, result.predicted), begin)
    begin = time.perf_counter()
    result = nwbrnn.fit(ds, **settings, method="least_squares")
    add("least squares", (result.recorded, result.predicted), begin)
    begin = time.perf_counter()
    if (pair := fit_reservoir(ds, settings)) is not None:
        add("reservoirpy", pair, begin)
    for seconds in budgets:
        for method in ("auto", "gradient"):
            begin = time.perf_counter()
            result = fit_for(ds, seconds, settings | {"method": method})
            add(f"{method}, {seconds:g} s", (result.recorded, result.predicted), begin)
        with plain_torch():
            begin = time.perf_counter()
            result = fit_for(ds, seconds, settings | {"method": "gradient"})
            add(f"plain torch, {seconds:g} s", (result.recorded, result.predicted), begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--seconds", type=float, nargs="*", default=[15.0, 60.0])
    args = parser.parse_args()
    print_versions("torch", "numpy")
    rows: dict[str, list[list[float]]] = {}
    for seed in range(args.seeds):
        run_seed(seed, args.seconds, rows)
        print(
            f"after {seed + 1} seeds: method | output R2, trained directions | {' | '.join(NAMES)} | seconds"
        )
        for name, values in rows.items():
            print(f"{name:24}| " + " | ".join(f"{v:.3f}" for v in np.mean(values, axis=0)), flush=True)


if __name__ == "__main__":
    main()
