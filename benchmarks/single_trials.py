"""How near the state of a network that observes neurons is to the true state of the circuit, trial by trial.

Stability-optimized circuits reach in 8 directions. Trials of a direction differ: its preparatory input
varies, and every neuron gets noise. Only Poisson spikes of half of the neurons are observed, and the true
rates are compared with those that are estimated from them: by the network with and without the observer, by
Kalman filters (``kalman.py``) that were fitted to the same trials, and by the true average of the condition.

    OMP_NUM_THREADS=1 python benchmarks/single_trials.py -o single_trials.csv --circuits 10
    python benchmarks/single_trials.py -o single_trials.csv --circuits 0 --figure single_trials.png

Circuits that are in the table already are not simulated again.
"""

import argparse
import csv
from pathlib import Path
from typing import Any

import kalman
import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import NDArray

import nwbrnn
from nwbrnn.dataset import create_dataset
from nwbrnn.evaluation import fit_ridge
from nwbrnn.plot.style import COLOURS, GREY
from nwbrnn.sweep.statistics import compute_interval
from nwbrnn.teacher import Reaches, TeacherConfig, build_circuit
from nwbrnn.teacher.reaching import create_readout
from nwbrnn.teacher.simulate import create_inputs, create_noise
from nwbrnn.teacher.soc import BASELINE_RATE

Array = NDArray[np.float64]

N_NEURONS, N_TRIALS, BIN = 100, 20, 0.05
# Of the movements: rates have a standard deviation of 9 Hz instead of 1.5 Hz, about a mean of 20 Hz
SCALE = 8.0
# Of the preparatory input, relative to its size, and of the input noise [Hz]. A decoder that is fitted to the
# true rates then explains 0.2 of the deviations from the average of a condition (circuit 0), about as much as
# the condition average + Wiener filter explains of those of the muscles of six recordings (docs/results.md)
JITTER, NOISE = 0.3, 2.0
DIMENSIONS = (20, N_NEURONS)  # of the Kalman filter
NETWORKS: dict[str, dict[str, Any]] = {
    "network, task only": {},
    "network, observer": {"observe": "sampled"},
    "network, observer, Poisson": {"observe": "sampled", "dynamics_error": "poisson"},
    "network, observer, no dropout": {"observe": "sampled", "observe_dropout": 0},
    "network, observer, 100 units": {"observe": "sampled", "hidden": N_NEURONS},
}
COLUMNS = ("circuit", "model", "score", "value")
DRAWN = {
    "all neurons": "true rates from the state",
    "unsampled neurons": "unsampled neurons, read out without the truth",
}
SHOWN = {
    "network, task only": "network, task only",
    "network, observer": "network, observer",
    "condition average": "condition average",
    "Kalman filter, neurons, 100 states": "Kalman filter",
    "Kalman filter, neurons and outputs, 100 states": "Kalman filter, fitted to outputs, too",
}
SCORES = ("all neurons", "deviations", "sampled neurons", "unsampled neurons", "outputs")


def simulate(seed: int) -> tuple[xr.Dataset, Array]:
    """Return what a laboratory would have of a circuit, and its true rates [Hz]."""
    config = TeacherConfig(n_neurons=N_NEURONS, n_trials=N_TRIALS, bin_size=BIN, noise=NOISE, seed=seed)
    circuit = build_circuit(N_NEURONS, seed=seed)
    reaches = Reaches(config, circuit)
    readout_rng, noise_rng, spike_rng, jitter_rng = np.random.default_rng(seed).spawn(4)
    n_read = circuit.n_excitatory
    weights, offsets = create_readout(
        reaches.run(SCALE * reaches.drive)[..., :n_read], config.n_muscles, readout_rng
    )
    directions = np.tile(reaches.directions, N_TRIALS)
    angle = np.deg2rad(directions)
    aim = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    aim += JITTER * jitter_rng.standard_normal(aim.shape)
    drive = SCALE * aim @ reaches.input_patterns
    above = reaches.run(drive, noise=create_noise(NOISE, drive.shape, noise_rng))
    truth = np.maximum(above + BASELINE_RATE, 0)
    ds = create_dataset(
        {
            "spike_counts": spike_rng.poisson(truth * BIN),
            "outputs": (above[..., :n_read] @ weights.T + offsets).astype(np.float32),
            "inputs": create_inputs(directions, reaches.time),
        },
        {
            "time": reaches.time,
            "condition": np.array([f"{d:g}" for d in directions]),
            "input": np.array(["direction_cos", "direction_sin", "go_cue"]),
        },
        bin_size=BIN,
    )
    return ds, truth


class Judge:
    """Compares estimates of one circuit with the truth, on its test trials."""

    def __init__(self, recorded: xr.Dataset, truth: Array) -> None:
        split, labels = recorded["split"].values, recorded["condition"].values
        self.tests, self.known = split == "test", split != "test"
        self.truth, self.outputs = truth, recorded["outputs"].values
        self.sampled = recorded["sampled"].values
        self.counted = recorded["rates"].values
        self.average = self.average_known(truth, labels)
        self.labels = labels

    def average_known(self, values: Array, labels: NDArray[np.str_]) -> Array:
        """Return for each test trial the average of the known trials of its condition."""
        means = {label: values[self.known & (labels == label)].mean(axis=0) for label in set(labels.tolist())}
        return np.stack([means[label] for label in labels[self.tests].tolist()])

    def compute_r2(self, predicted: Array, target: Array, floor: Array | None = None) -> float:
        """Return the part of the squares about the mean, or another floor, that is explained."""
        floor = target.mean(axis=(0, 1)) if floor is None else floor
        return float(1 - np.square(target - predicted).sum() / np.square(target - floor).sum())

    def score_state(self, states: Array) -> dict[str, float]:
        """Score the best linear map from states, shape (n_trials, n_time, n), to the true rates."""
        mapped = self._map(states, self.truth)
        target = self.truth[self.tests]
        return {
            "all neurons": self.compute_r2(mapped, target),
            "deviations": self.compute_r2(mapped, target, self.average),
        }

    def score_rates(self, rates: Array, outputs: Array) -> dict[str, float]:
        """Score rates [Hz] and outputs of the test trials that were found without the truth."""
        target = self.truth[self.tests]
        return {
            "sampled neurons": self.compute_r2(rates[..., self.sampled], target[..., self.sampled]),
            "unsampled neurons": self.compute_r2(rates[..., ~self.sampled], target[..., ~self.sampled]),
            "outputs": self.compute_r2(outputs, self.outputs[self.tests]),
        }

    def score_all(self, states: Array, sampled: Array) -> dict[str, float]:
        """Score states; unsampled neurons and outputs are read out as they are of a network."""
        outputs, rates = self._map(states, self.outputs), np.empty_like(self.truth[self.tests])
        rates[..., self.sampled] = sampled[self.tests]
        rates[..., ~self.sampled] = self._map(states, self.counted[..., ~self.sampled])
        return self.score_state(states) | self.score_rates(rates, outputs)

    def _map(self, states: Array, targets: Array) -> Array:
        """Return targets of the test trials from their states, by ridge regression on the known trials."""
        x, y = states[self.known].astype(float), targets[self.known].astype(float)
        n_states, n_targets = x.shape[-1], y.shape[-1]
        folds = [(x[i::5].reshape(-1, n_states), y[i::5].reshape(-1, n_targets)) for i in range(5)]
        return np.asarray(fit_ridge(folds).predict(states[self.tests]))


def fit_kalman(recorded: xr.Dataset, judge: Judge, *, with_outputs: bool) -> dict[int, dict[str, float]]:
    """Return the scores of a filter of each dimension, fitted until validation trials become less likely."""
    inputs = recorded["inputs"].values.astype(float)
    counts = recorded["spike_counts"].values[..., judge.sampled].astype(float)
    outputs = recorded["outputs"].values.astype(float)
    seen = np.concatenate([counts, outputs], axis=2) if with_outputs else counts
    is_count = np.arange(seen.shape[2]) < counts.shape[2]
    train, held = (recorded["split"].values == name for name in ("train", "validation"))
    found = {}
    for n in DIMENSIONS:
        model = kalman.fit(inputs[train], seen[train], n, held=(inputs[held], seen[held]))
        model = kalman.keep_channels(model, is_count)  # a test trial has neurons only
        states, before, *_, _value = kalman.run_filter(model, inputs, counts)
        held_value = kalman.run_filter(model, inputs[held], counts[held])[-1]
        rates = (before @ model.C.T + model.d) / BIN  # before the spikes of the bin, as of a network
        found[n] = judge.score_all(states, rates) | {"held log likelihood": held_value}
    return found


def run(seed: int) -> dict[str, dict[str, float]]:
    """Return all scores of one circuit by model."""
    ds, truth = simulate(seed)
    found: dict[str, dict[str, float]] = {}
    for name, settings in NETWORKS.items():
        result = nwbrnn.fit(ds, sampled=0.5, min_rate=0, **settings)
        judge = Judge(result.recorded, truth)
        predicted = result.predicted.isel(trial=judge.tests)
        found[name] = judge.score_state(result.predicted["hidden"].values) | judge.score_rates(
            predicted["rates"].values, predicted["outputs"].values
        )
    averages = [judge.average_known(values, judge.labels) for values in (judge.counted, judge.outputs)]
    found["condition average"] = {
        "all neurons": judge.compute_r2(judge.average, truth[judge.tests]), "deviations": 0.0,
    } | judge.score_rates(*averages)  # fmt: skip
    for with_outputs in (False, True):
        filters = fit_kalman(result.recorded, judge, with_outputs=with_outputs)
        told = "Kalman filter, neurons and outputs" if with_outputs else "Kalman filter, neurons"
        best = max(filters, key=lambda n: filters[n]["held log likelihood"])
        for n, scores in filters.items():
            found[f"{told}, {n} states"] = scores
        found[f"{told}, likeliest"] = filters[best] | {"states": best}
    return found


def summarize(table: Path) -> None:
    """Print means and 95 % intervals over circuits, and the differences to the observer."""
    values = read(table)
    models = list(dict.fromkeys(model for _, model, _ in values))
    circuits = sorted({circuit for circuit, _, _ in values}, key=int)
    for score in SCORES:
        print(score)
        ours = np.array([values[circuit, "network, observer", score] for circuit in circuits])
        for model in models:
            theirs = np.array([values[circuit, model, score] for circuit in circuits])
            text = f"  {model:45} {theirs.mean():6.3f}"
            if len(circuits) > 1 and model != "network, observer":
                gain = compute_interval((ours - theirs)[:, np.newaxis])
                text += f"   ours {gain.mean:+.3f} ({gain.low:+.3f} to {gain.high:+.3f}), "
                text += f"better in {int((ours > theirs).sum())} of {len(circuits)}"
            print(text)


def read(table: Path) -> dict[tuple[str, str, str], float]:
    """Return the values of a table by circuit, model and score."""
    with table.open(newline="") as file:
        return {(r["circuit"], r["model"], r["score"]): float(r["value"]) for r in csv.DictReader(file)}


def draw(table: Path, path: Path) -> None:
    """Draw the scores of each circuit, and how much the observer gains over each model."""
    values = read(table)
    circuits = sorted({circuit for circuit, _, _ in values}, key=int)
    figure = Figure(figsize=(9, 5.2), layout="constrained", facecolor="white")
    panels = figure.subplots(2, 2, sharey="row", width_ratios=(3, 2))
    for row, (score, title) in zip(panels, DRAWN.items(), strict=True):
        found = {m: np.array([values[c, m, score] for c in circuits]) for m in SHOWN}
        ours = found["network, observer"]
        for place, (model, theirs) in enumerate(found.items()):
            colour = COLOURS[1] if model == "network, observer" else COLOURS[0]
            row[0].plot(theirs, np.full(len(theirs), -place), "o", color=colour, ms=4, alpha=0.5)
            row[0].plot([theirs.mean()] * 2, [-place - 0.3, -place + 0.3], color=colour, lw=2)
            if model != "network, observer":
                gain = compute_interval((ours - theirs)[:, np.newaxis])
                row[1].plot(ours - theirs, np.full(len(ours), -place), "o", color=GREY, ms=4, alpha=0.5)
                row[1].errorbar(
                    gain.mean, -place, xerr=[[gain.mean - gain.low], [gain.high - gain.mean]],
                    fmt="o", color=COLOURS[1], capsize=3,
                )  # fmt: skip
        row[0].set_yticks(-np.arange(len(SHOWN)), list(SHOWN.values()), fontsize=8)
        row[0].set_xlabel(f"R², {title}", fontsize=9)
        row[1].set_xlabel("gain of the observer, with 95 % interval", fontsize=9)
        row[1].axvline(0, color=GREY, lw=0.8)
        row[1].locator_params(axis="x", nbins=5)
        for ax in row:
            ax.spines[["top", "right"]].set_visible(False)
            ax.tick_params(labelsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--table", type=Path, required=True)
    parser.add_argument("--circuits", type=int, default=10)
    parser.add_argument("--figure", type=Path)
    given = parser.parse_args()
    if not given.table.exists():
        given.table.write_text(",".join(COLUMNS) + "\r\n")
    done = {circuit for circuit, _, _ in read(given.table)}
    for seed in range(given.circuits):
        if str(seed) in done:
            continue
        found = run(seed)
        with given.table.open("a", newline="") as file:
            rows = [(seed, m, s, f"{v:.6g}") for m, scores in found.items() for s, v in scores.items()]
            csv.writer(file).writerows(rows)
        print(f"circuit {seed}: done", flush=True)
    summarize(given.table)
    if given.figure:
        draw(given.table, given.figure)


if __name__ == "__main__":
    main()
