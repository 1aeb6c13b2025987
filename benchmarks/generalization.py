"""How well each option predicts the outputs of held-out targets.

Each target of each recording is held out in turn, and networks with 100 hidden units and 20 sampled neurons
are fitted to the others by gradient descent, once for each option and seed. The score is output skill,
averaged over the targets; intervals are 95 % t intervals over recordings. The scores of each target are
appended to a file of JSON lines, and a second call continues where the first one ended.

    OMP_NUM_THREADS=1 python benchmarks/generalization.py one.nwb two.nwb three.nwb -o options.jsonl
"""

import argparse
import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

import nwbrnn
from nwbrnn.evaluation.comparison import Comparison, select_tests
from nwbrnn.evaluation.specs import get_spec
from nwbrnn.preprocessing import average_conditions, normalize_outputs

DEFAULT, ALONE = "default", "no dynamics loss"
HARMONIC = 0.4  # size of the inputs of twice the direction
OPTIONS: dict[str, dict[str, Any]] = {
    DEFAULT: {},
    ALONE: {"dynamics_weight": 0.0},
    "input penalty 0.01": {"input_penalty": 0.01},
    "second harmonic, input penalty 0.01": {"second_harmonic": HARMONIC, "input_penalty": 0.01},
    "second harmonic, input penalty 0.01, no dynamics loss": {
        "second_harmonic": HARMONIC,
        "input_penalty": 0.01,
        "dynamics_weight": 0.0,
    },
    "virtual targets": {"virtual_targets": 8},
    "virtual targets, no dynamics loss": {"virtual_targets": 8, "dynamics_weight": 0.0},
}
MEAN = ", mean of the seeds"
SCORE = "output skill"
RIVALS = ("ridge on the task", "untrained network")


def score(recorded: xr.Dataset, predicted: xr.Dataset) -> float:
    """Return the output skill of a prediction of all trials."""
    whole = normalize_outputs(recorded), normalize_outputs(predicted)
    return float(get_spec(SCORE).compute(Comparison(*select_tests(*whole), whole=whole)))


def score_rivals(recorded: xr.Dataset, predicted: xr.Dataset) -> dict[str, float]:
    """Return the scores of baselines, of averages of known targets, and of the true time course."""
    found = next(one for one in nwbrnn.assess(recorded, predicted) if one.name == SCORE)
    scores = {one.name: one.value for one in found.rivals if one.name in RIVALS}
    known = average_conditions(recorded.isel(trial=recorded["split"].values != "test"))
    target = float(recorded["condition"].values[recorded["split"].values == "test"][0])
    angles = known["condition"].values.astype(float)
    distance = np.abs((angles - target + 180) % 360 - 180)
    for name, chosen in (
        ("average of the two nearest targets", np.argsort(distance)[:2]),
        ("average of all other targets", np.arange(len(angles))),
    ):
        outputs = known["outputs"].values[chosen].mean(axis=0)
        other = predicted.assign(
            outputs=(predicted["outputs"].dims, np.stack([outputs] * len(recorded.trial)))
        )
        scores[name] = score(recorded, other)
    return scores | {"noise ceiling": found.noise_ceiling}


@lru_cache
def read(path: Path, second_harmonic: float) -> xr.Dataset:
    """Return a recording."""
    return nwbrnn.read_nwb(path, second_harmonic=second_harmonic)


def fit_target(path: Path, target: str, n_seeds: int) -> dict[str, float]:
    """Return the scores of all options and rivals for one target; the mean over seeds, and of their mean."""
    scores: dict[str, float] = {}
    for name, option in OPTIONS.items():
        settings = dict(option)
        ds = read(path, settings.pop("second_harmonic", 0.0))
        results = [
            nwbrnn.fit(
                ds,
                hidden=100,
                sampled=20,
                method="gradient",
                held_out_conditions=(target,),
                seed=seed,
                **settings,
            )
            for seed in range(n_seeds)
        ]
        recorded, predicted = results[0].recorded, results[0].predicted
        scores[name] = float(np.mean([score(one.recorded, one.predicted) for one in results]))
        outputs = np.mean([one.predicted["outputs"].values for one in results], axis=0)
        mean = predicted.assign(outputs=(predicted["outputs"].dims, outputs, predicted["outputs"].attrs))
        scores[name + MEAN] = score(recorded, mean)
        if name == DEFAULT:
            scores |= score_rivals(recorded, predicted)
    return scores


def order_angles(labels: list[str]) -> list[str]:
    """Return each angle once: every fourth, then those halfway between them, then the rest."""
    angles = sorted(set(labels), key=float)
    return [angle for start in (0, 2, 1, 3) for angle in angles[start::4]]


def list_targets(paths: list[Path]) -> Iterator[tuple[Path, str]]:
    """Yield recordings and targets, the first target of each recording before the second one of any."""
    targets = {path: order_angles(read(path, 0.0)["condition"].values.tolist()) for path in paths}
    for number in range(max(map(len, targets.values()))):
        yield from ((path, found[number]) for path, found in targets.items() if number < len(found))


def summarize(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield a table of the scores and of their differences, with intervals over recordings."""
    files = list(dict.fromkeys(row["file"] for row in rows))

    def average(name: str) -> np.ndarray:
        return np.array([np.mean([row["scores"][name] for row in rows if row["file"] == f]) for f in files])

    def compare(name: str, other: str) -> str:
        difference = average(name) - average(other)
        half = stats.t.ppf(0.975, len(files) - 1) * stats.sem(difference)
        low, high = difference.mean() - half, difference.mean() + half
        better = f"{(difference > 0).sum()} of {len(files)}"
        return f"{difference.mean():+.3f} ({low:+.3f} to {high:+.3f}), {better}"

    yield f"{len(rows)} targets of {', '.join(files)}"
    yield "| | output skill | minus default | minus ridge on the task | mean of the seeds | its gain |"
    yield "|---|---|---|---|---|---|"
    for name in (one for one in rows[0]["scores"] if not one.endswith(MEAN)):
        mean, gain = "–", "–"
        if name in OPTIONS:
            mean, gain = f"{average(name + MEAN).mean():.3f}", compare(name + MEAN, name)
        differences = " | ".join(
            "–" if name == other else compare(name, other) for other in (DEFAULT, RIVALS[0])
        )
        yield f"| {name} | {average(name).mean():.3f} | {differences} | {mean} | {gain} |"
    yield f"dynamics loss against none: {compare(DEFAULT, ALONE)}"
    for name in (one for one in OPTIONS if f"{one}, {ALONE}" in OPTIONS):
        yield f"the same with {name}: {compare(name, f'{name}, {ALONE}')}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, help="recordings whose conditions are angles")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=2)
    args = parser.parse_args()
    lines = args.output.read_text().splitlines() if args.output.exists() else []
    rows = [json.loads(line) for line in lines]
    for path, target in list_targets(args.files):
        if not any((row["file"], row["target"]) == (path.name, target) for row in rows):
            scores = fit_target(path, target, args.seeds)
            rows.append({"file": path.name, "target": target, "scores": scores})
            with args.output.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
    print("\n".join(summarize(rows)))


if __name__ == "__main__":
    main()
