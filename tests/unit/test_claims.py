"""What the method promises, on simulated circuits: with a quarter of the neurons seen, the others follow."""

import numpy as np
import pytest

from nwbrnn.job import fit
from nwbrnn.teacher import TeacherConfig, simulate_teacher

pytestmark = pytest.mark.no_cover

TEACHER = {"n_neurons": 60, "n_directions": 8, "n_trials": 4, "preparation": 0.3, "movement": 0.5}
SEEDS = range(4)


@pytest.fixture(scope="module")
def scores():
    """R² by name of fits with and without the dynamics loss, for several circuits."""
    found = {name: [] for name in ("seen", "unseen", "seen outputs", "sampled")}
    for seed in SEEDS:
        ds = simulate_teacher(TeacherConfig(**TEACHER, seed=seed))
        common = {"sampled": 0.25, "hidden": 60, "min_rate": 0, "method": "least_squares", "seed": seed}
        seen, unseen = (fit(ds, **common, dynamics_weight=weight).scores for weight in (1.0, 0.0))
        found["seen"].append(seen.get("unsampled neurons R2").value)
        found["unseen"].append(unseen.get("unsampled neurons R2").value)
        found["seen outputs"].append(seen.get("output R2").value)
        found["sampled"].append(seen.get("sampled neurons R2").value)
    return {name: np.array(values) for name, values in found.items()}


def test_a_quarter_of_the_neurons_predicts_the_others_better_than_outputs_alone(scores):
    gain = scores["seen"] - scores["unseen"]  # the same neurons of the same circuit
    assert gain.min() > 0.03
    assert gain.mean() > 4 * gain.std(ddof=1) / np.sqrt(len(gain))
    assert (1 - scores["seen"]).mean() < 0.5 * (1 - scores["unseen"]).mean()


def test_with_a_quarter_of_the_neurons_everything_is_reproduced(scores):
    assert scores["seen"].min() > 0.93
    assert scores["sampled"].min() > 0.93
    assert scores["seen outputs"].min() > 0.85
