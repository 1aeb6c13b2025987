"""Several networks at once, the choice of the dynamics weight, and settings that exclude one another."""

import json

import numpy as np
import pytest
import torch

from nwbrnn.config import FitConfig
from nwbrnn.config.check import parse_settings
from nwbrnn.errors import ConfigError
from nwbrnn.job import fit
from nwbrnn.prediction import measure_free_run
from nwbrnn.preprocessing import prepare
from nwbrnn.training import Trained, choose_settings, train
from nwbrnn.training import cross_validation as module
from tests.messages import names
from tests.unit.test_training import QUICK, create_recording

AUTO = QUICK | {"method": "auto"}


def train_on(ds, **settings):
    config = FitConfig(**settings)
    return train(prepare(ds, config), config)


@pytest.mark.slow
def test_several_seeds_equal_the_same_seeds_one_by_one_and_are_ranked():
    ds = create_recording()
    together = fit(ds, **AUTO, seeds=3)
    losses = [run.loss for run in together.runs]
    assert losses == sorted(losses)
    assert sorted(run.seed for run in together.runs) == [0, 1, 2]
    recorded = prepare(ds, FitConfig(**AUTO))
    for run in together.runs:
        alone = train(recorded, FitConfig(**AUTO, seed=run.seed))
        assert alone.loss == run.loss
        np.testing.assert_array_equal(alone.weights["recurrent_weights"], run.weights["recurrent_weights"])
    assert together.scores is together.runs[0].scores
    np.testing.assert_array_equal(together.build_model().bias.detach(), together.runs[0].weights["bias"])


@pytest.mark.slow
def test_seeds_differ_in_their_weights_but_not_in_their_data():
    one, two = (fit(create_recording(), **QUICK, seeds=n) for n in (1, 2))
    for name in ("split", "sampled"):
        np.testing.assert_array_equal(one.recorded[name], two.recorded[name])
    weights = {run.seed: run.weights["bias"] for run in two.runs}
    assert (weights[0] != weights[1]).any()


@pytest.mark.slow
def test_progress_counts_networks():
    calls = []
    fit(create_recording(), progress=lambda n, losses: calls.append((n, losses)), **QUICK, seeds=2)
    assert [n for n, _ in calls] == [1, 2]
    assert all("train_output" in losses for _, losses in calls)


@pytest.mark.slow
def test_an_interrupt_keeps_the_networks_that_are_ready():
    def progress(number, losses):
        raise KeyboardInterrupt

    result = fit(create_recording(), progress=progress, **QUICK, seeds=4)
    assert len(result.runs) == 1


def pretend_to_train(monkeypatch, errors, epochs=(0,)):
    seen = []

    def train_all(tasks, *, progress):
        seen.extend(tasks)
        found = {}
        for i in range(len(tasks)):
            losses = {"validation_output": float(errors[i % len(errors)])}
            found[i] = Trained({}, {}, losses, "finished", epochs[i % len(epochs)])
        return found

    monkeypatch.setattr(module, "train_all", train_all)
    return seen


def test_the_settings_with_the_least_error_of_left_out_outputs_are_chosen(monkeypatch):
    config = FitConfig(**QUICK | {"dynamics_weight": "cv", "weight_penalty": "cv"})
    ds = prepare(create_recording(), config)
    means = [5, 4, 3, 2, 4, 1.5, 2, 3, 9, 8]  # of 5 dynamics weights with 2 penalties each
    errors = [mean + change for mean in means for change in (-0.5, 0, 0.5)]
    seen = pretend_to_train(monkeypatch, errors, epochs=(7, 30, 9))
    choice = choose_settings(ds, config)
    assert choice.settings == {"dynamics_weight": 0.3, "weight_penalty": 1e-2, "stop_after": 9}
    assert choice.candidates[8]["errors"] == [8.5, 9.0, 9.5]
    known = ds["split"].values != "test"
    assert len(seen) == 30
    for first in range(0, 30, 3):
        left_out = [task.ds["split"].values == "validation" for task in seen[first : first + 3]]
        np.testing.assert_array_equal(np.sum(left_out, axis=0), known)  # each trial once, no test trials
        configs = [task.config for task in seen[first : first + 3]]
        assert len({(config.dynamics_weight, config.weight_penalty) for config in configs}) == 1


def test_what_is_given_is_not_chosen(monkeypatch):
    config = FitConfig(**QUICK | {"dynamics_weight": 0.7, "weight_penalty": "cv"})
    seen = pretend_to_train(monkeypatch, [1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
    assert choose_settings(prepare(create_recording(), config), config).settings == {
        "dynamics_weight": 0.7, "weight_penalty": 1e-2, "stop_after": 1,  # by gradient there has to be one
    }  # fmt: skip
    assert len(seen) == 6


def test_without_sampled_neurons_only_the_penalty_is_chosen(monkeypatch):
    config = FitConfig(**QUICK | {"sampled": 0, "dynamics_weight": "cv", "weight_penalty": "cv"})
    seen = pretend_to_train(monkeypatch, [1.0])
    assert choose_settings(prepare(create_recording(), config), config).settings["dynamics_weight"] == 0.0
    assert len(seen) == 6


def test_only_outputs_of_left_out_conditions_are_unknown_if_that_is_tested(monkeypatch):
    settings = {"dynamics_weight": "cv", "held_out": "outputs", "held_out_conditions": ("3",)}
    config = FitConfig(**QUICK | settings)
    ds = prepare(create_recording(), config)
    seen = pretend_to_train(monkeypatch, [1.0])
    choose_settings(ds, config)
    labels, split = ds["condition"].values, ds["split"].values
    for task in seen:
        inner = task.ds["split"].values
        left_out = set(labels[inner == "validation"])
        assert left_out
        assert left_out == set(labels[inner == "dynamics_only"]) - {"3"}
        for label in left_out:  # half of the trials each
            numbers = [(inner[labels == label] == name).sum() for name in ("validation", "dynamics_only")]
            assert abs(numbers[0] - numbers[1]) <= 1
        assert not left_out & set(labels[inner == "train"])
        np.testing.assert_array_equal(inner[labels == "3"], split[labels == "3"])


def test_whole_conditions_are_left_out_if_the_test_has_whole_conditions(monkeypatch):
    config = FitConfig(**QUICK, held_out_conditions=("3",))
    ds = prepare(create_recording(), config)
    seen = pretend_to_train(monkeypatch, [1.0])
    choose_settings(ds, config)
    labels = ds["condition"].values
    for task in seen:
        split = task.ds["split"].values
        assert not set(labels[split == "validation"]) & set(labels[split == "train"])
        assert set(labels[split == "test"]) == {"3"}


@pytest.mark.slow
def test_cross_validation_end_to_end():
    result = fit(create_recording(), **(AUTO | {"epochs": 2}), dynamics_weight="cv")
    assert result.config.dynamics_weight in module.DYNAMICS_WEIGHTS
    assert result.config.stop_after in range(3)
    assert len(json.loads(result.recorded.attrs["cross_validation"])) == len(module.DYNAMICS_WEIGHTS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"dynamics_weight": "cv", "held_out_conditions": ("0", "1")},
            ["'cv'", "3 conditions", 2],
        ),
        ({"method": "least_squares", "rank": 2}, ["method", "rank", "'gradient'"]),
        ({"method": "least_squares", "density": 0.5, "excitatory": 0.5}, ["method", "excitatory", "density"]),
        (
            {"output_importance": {"nothing": 2}},
            ["output_importance", "got nothing", "output_0, output_1, output_2"],
        ),
        ({"unit_importance": {"99": 2}}, ["unit_importance", "sampled", 99]),
    ],
)
def test_settings_that_do_not_suit_are_refused(changes, message):
    with pytest.raises(ConfigError, match=names(*message)):
        fit(create_recording(), **(QUICK | changes))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 3, "excitatory": 0.5}, ["x: rank", "excitatory", "density"]),
        ({"rank": 300}, ["x: rank", "hidden", 200, 300]),
        (
            {"dynamics_of": "derivative", "dynamics_error": "poisson"},
            ["x: dynamics_of", "'rates'", "Poisson"],
        ),
        ({"dynamics_weight": "many"}, ["x: dynamics_weight", "'cv'", "'many'", 1.0]),
        ({"unit_importance": {1: -1}}, ["x: unit_importance", 0, "{1: -1}"]),
        ({"excitatory": 1.5}, ["x: excitatory", "less than 1", 1.5]),
    ],
)
def test_settings_that_exclude_one_another_are_refused(settings, message):
    with pytest.raises(ConfigError, match=names(*message)):
        parse_settings(FitConfig, settings, source="x")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_an_error():
    with pytest.raises(ConfigError, match=names("device", "'cuda'", "'auto'", "'cpu'")):
        fit(create_recording(), **QUICK, device="cuda")


def test_importance_draws_the_fit_to_an_output():
    ds = create_recording()
    names = [str(name) for name in ds["output"].values]
    settings = QUICK | {"epochs": 60, "learning_rate": 0.01, "dynamics_weight": 0}
    first, last = (
        fit(ds, **settings, output_importance={name: 0.0 for name in names if name != kept})
        for kept in (names[0], names[-1])
    )
    assert first.scores.output_r2[0] > last.scores.output_r2[0] + 0.2
    assert last.scores.output_r2[-1] > first.scores.output_r2[-1] + 0.2


OPTIONS = [
    {"nonlinearity": "softplus"},
    {"nonlinearity": "soc"},
    {"learn_tau": True, "method": "gradient"},
    {"substeps": 2},
    {"excitatory": 0.5},
    {"density": 0.5},
    {"rank": 5},
    {"initial_state": "condition"},
    {"initial_state": "data"},
    {"dynamics_of": "derivative"},
    {"precision": "float64"},
    {"precision": "bfloat16"},
    {"smoothness_penalty": 0.1},
    {"rate_penalty": 0.1},
    {"noise": 0.1},
    {"dynamics_error": "poisson"},
    {"dynamics_error": "poisson", "nonlinearity": "soc", "initial_state": "condition"},
    {"dynamics_error": "poisson", "nonlinearity": "softplus"},
]


@pytest.mark.parametrize("option", OPTIONS, ids=str)
def test_every_option_learns(option):
    settings = AUTO | {"epochs": 60, "learning_rate": 0.01, "patience": 1000}
    result = fit(create_recording(), **(settings | option))
    assert result.scores.get("output R2").value > 0.8
    assert np.isfinite(result.best.free_run)
    if "excitatory" in option:
        signs = np.sign(result.weights["recurrent_weights"])
        assert ((signs >= 0).all(axis=0) | (signs <= 0).all(axis=0)).all()
    if "rank" in option:
        assert np.linalg.matrix_rank(result.weights["recurrent_weights"], tol=1e-4) <= 5
    if "learn_tau" in option:
        assert np.ptp(result.weights["tau"]) > 0


@pytest.mark.parametrize("option", OPTIONS, ids=str)
def test_gradient_descent_alone_learns_with_every_option(option):
    settings = QUICK | {"epochs": 60, "learning_rate": 0.02, "validation": 0}
    history = train_on(create_recording(), **(settings | option)).history
    assert history["train_output"][-1] < 0.05 * history["train_output"][0]
    assert history["train_total"][-1] < 0.35 * history["train_total"][0]


def test_auto_is_never_worse_than_its_start():
    result = fit(create_recording(), **(AUTO | {"epochs": 40}))
    n_passes = len(result.history["validation_total"]) - 40
    assert n_passes >= 5
    assert result.best.loss <= min(result.history["validation_total"][:n_passes])


def test_least_squares_alone_fits_a_small_teacher():
    result = fit(create_recording(), **(QUICK | {"method": "least_squares", "hidden": 30, "sampled": 6}))
    assert result.scores.get("output R2").value > 0.9
    assert result.scores.get("sampled neurons R2").value > 0.9


def test_a_network_that_runs_away_is_recognized():
    config = FitConfig(**QUICK)
    ds = prepare(create_recording(), config)
    weights = train(ds, config).weights
    calm = {name: np.zeros_like(values) for name, values in weights.items()}
    calm |= {"output_weights": np.ones_like(weights["output_weights"]), "bias": np.full(20, 1e-3, np.float32)}
    slow = config.model_copy(update={"tau": 0.5})
    # dx/dt = (-x + b) / tau comes to rest at b; with a recurrence of 1.5 it grows as (exp(t/s) - 1)
    ratio = (1 - np.exp(-3 * 0.6 / 0.5)) / (1 - np.exp(-0.6 / 0.5))
    assert measure_free_run(ds, calm, slow) == pytest.approx(ratio, rel=0.02)
    loud = calm | {"recurrent_weights": 1.5 * np.eye(20, dtype=np.float32)}
    ratio = (np.exp(3 * 0.6) - 1) / (np.exp(0.6) - 1)
    assert measure_free_run(ds, loud, slow) == pytest.approx(ratio, rel=0.05)


def test_the_gradient_goes_on_from_least_squares_without_a_jump(monkeypatch):
    """With the full rate at once, Adam's first steps multiply the loss."""
    from nwbrnn.training import gradient

    ds = create_recording()
    settings = AUTO | {"epochs": 200, "hidden": 60, "validation": 0.2}
    squares = train_on(ds, **settings | {"method": "least_squares"})
    n_passes = len(squares.history["train_total"])
    highest = []
    for warm_up in (gradient.WARM_UP, 0):
        monkeypatch.setattr(gradient, "WARM_UP", warm_up)
        both = train_on(ds, **settings)
        assert both.history["train_total"][:n_passes] == squares.history["train_total"]
        rates = both.history["learning_rate"]
        assert [rate > 0 for rate in rates] == [False] * n_passes + [True] * (len(rates) - n_passes)
        assert max(rates[n_passes:]) == pytest.approx(FitConfig().learning_rate, rel=0.3)
        highest.append(max(both.history["validation_total"][n_passes:]) / squares.loss)
    assert highest[0] < 4
    assert highest[1] > 3 * highest[0]


def test_the_rate_rises_only_after_least_squares():
    from nwbrnn.training.gradient import WARM_UP, _Descent

    rates = {
        warm_up: [
            _Descent(None, FitConfig(), None, None, {}, 1.0, warm_up, n).compute_rate() for n in range(60)
        ]
        for warm_up in (0, WARM_UP)
    }
    assert rates[0][0] == 1
    assert rates[WARM_UP][0] == pytest.approx(1 / (WARM_UP + 1))
    assert rates[0][WARM_UP:] == rates[WARM_UP][WARM_UP:]
    assert max(rates[WARM_UP]) < 1


def test_noise_chooses_other_weights_after_least_squares():
    """What is best without noise must not be what early stopping returns."""
    ds = create_recording()
    settings = AUTO | {"epochs": 100, "hidden": 60, "validation": 0.2, "patience": 60}
    squares = train_on(ds, **settings | {"method": "least_squares"})
    noisy = train_on(ds, **settings, noise=0.3)
    again = train_on(ds, **settings, noise=0.3)
    assert noisy.best_epoch > 0
    assert (noisy.weights["recurrent_weights"] != squares.weights["recurrent_weights"]).any()
    np.testing.assert_array_equal(noisy.weights["recurrent_weights"], again.weights["recurrent_weights"])
    assert noisy.loss == min(noisy.history["validation_total"] + [noisy.loss])
