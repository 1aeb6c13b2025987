"""A fit that begins at the weights of another, and weights that training leaves as they are."""

import json

import numpy as np
import pytest

import nwbrnn
from nwbrnn.config import FitConfig
from nwbrnn.errors import ConfigError, MissingDataError
from nwbrnn.formats.fit.decode import find_start
from nwbrnn.job import IN_MEMORY, predict_gated
from nwbrnn.models import NETWORKS
from nwbrnn.preprocessing import find_conditions, prepare
from nwbrnn.sweep import describe_data, list_cells
from nwbrnn.teacher import TeacherConfig, simulate_teacher
from nwbrnn.training import Match, adopt_weights, train
from tests.messages import names

TEACHER = {"n_neurons": 60, "n_directions": 6, "n_trials": 4, "preparation": 0.2, "movement": 0.2}
# without validation trials the last weights are kept
SETTINGS = {"hidden": 30, "sampled": 10, "min_rate": 0, "epochs": 3, "validation": 0}
LEARNED = ["recurrent_weights", "input_weights", "bias", "output_weights", "output_bias", "initial_state"]
UNTRAINED = {"stop_after": 0}


@pytest.fixture(scope="module")
def ds():
    return simulate_teacher(TeacherConfig(**TEACHER))


@pytest.fixture(scope="module")
def earlier(ds):
    return nwbrnn.fit(ds, **SETTINGS)


def list_sampled(result):
    return result.recorded["unit"].values[result.recorded["sampled"].values].tolist()


def find_choice(result):
    return json.loads(result.recorded.attrs["choices"])[-1]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"network": "gru"},
        {"learn_tau": True, "substeps": 2, "noise": 0.1},
        {"initial_state": "condition", "precision": "float64"},
        {"initial_state": "data"},
        {"nonlinearity": "softplus", "dynamics_weight": 0},
    ],
)
def test_before_training_the_network_is_the_earlier_one_bit_for_bit(ds, settings):
    earlier = nwbrnn.fit(ds, **(SETTINGS | settings))
    again = nwbrnn.fit(ds, **(SETTINGS | settings), start_from=earlier, **UNTRAINED)
    assert again.weights.keys() == earlier.weights.keys()
    for name, values in earlier.weights.items():
        np.testing.assert_array_equal(again.weights[name], values, err_msg=name)
    assert again.best.loss == earlier.best.loss


@pytest.mark.parametrize("sampled", [6, 14])
def test_units_keep_their_hidden_unit_whatever_others_are_sampled(ds, earlier, sampled):
    other = nwbrnn.fit(ds, **(SETTINGS | {"sampled": sampled}), start_from=earlier, **UNTRAINED)
    before, after = list_sampled(earlier), list_sampled(other)
    shared = [unit for unit in after if unit in before]
    assert len(shared) == min(sampled, 10)
    assert [before.index(unit) for unit in shared] != [after.index(unit) for unit in shared]
    for unit in shared:  # its course is the same, at another place
        np.testing.assert_allclose(
            other.predicted["hidden"].values[..., after.index(unit)],
            earlier.predicted["hidden"].values[..., before.index(unit)],
            atol=1e-5,
        )
    np.testing.assert_allclose(other.predicted["outputs"], earlier.predicted["outputs"], atol=1e-5)
    reason = find_choice(other)["reason"]
    for unit in after:
        assert str(unit) in reason
    assert find_choice(other)["picked"] == IN_MEMORY


def test_other_scales_of_outputs_leave_the_outputs_as_they_were(ds, earlier):
    other = nwbrnn.fit(ds, **SETTINGS, output_percentile=50, start_from=earlier, **UNTRAINED)
    assert (other.recorded["output_scale"].values < earlier.recorded["output_scale"].values).all()
    np.testing.assert_allclose(other.predicted["outputs"], earlier.predicted["outputs"], rtol=1e-4, atol=1e-5)


def test_outputs_in_another_unit_are_the_same_outputs(ds):
    in_millivolts, in_volts = (
        ds.assign(outputs=ds["outputs"] * size).assign_coords(
            output_units=("output", [unit] * ds.sizes["output"])
        )
        for size, unit in ((1, "mV"), (1e-3, "V"))
    )
    for data in (in_millivolts, in_volts):
        data["outputs"].attrs["units"] = "given"
    earlier = nwbrnn.fit(in_millivolts, **SETTINGS)
    other = nwbrnn.fit(in_volts, **SETTINGS, start_from=earlier, **UNTRAINED)
    np.testing.assert_allclose(
        other.predicted["outputs"] * 1000, earlier.predicted["outputs"], rtol=1e-4, atol=1e-5
    )


@pytest.mark.slow
@pytest.mark.cover
def test_units_of_another_circuit_are_not_matched(earlier):
    other = simulate_teacher(TeacherConfig(**TEACHER, seed=1))
    begun = nwbrnn.fit(other, **SETTINGS, seed=1, start_from=earlier, **UNTRAINED)
    np.testing.assert_array_equal(begun.weights["recurrent_weights"], earlier.weights["recurrent_weights"])
    assert find_choice(begun)["reason"].startswith("0 of 10 ")


def test_a_new_condition_begins_at_the_mean_state(ds):
    config = FitConfig(**SETTINGS, initial_state="condition")
    recorded = prepare(ds, config)
    conditions = find_conditions(recorded)
    earlier = recorded.isel(trial=recorded["condition"].values != conditions[2])
    sizes = ds.sizes["input"], 30, ds.sizes["output"]
    model = NETWORKS["rate"](sizes, config, bin_size=0.01, n_conditions=5)
    weights = model.to_weights()
    states = weights["initial_state"] = np.random.default_rng(0).normal(size=(5, 30)).astype(np.float32)
    match = Match(np.arange(30), (), ())
    begun = adopt_weights(weights, earlier, recorded, config, match)["initial_state"]
    np.testing.assert_array_equal(np.delete(begun, 2, axis=0), states)
    np.testing.assert_array_equal(begun[2], states.mean(axis=0))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"hidden": 31}, ("hidden: 30, here 31",)),
        ({"network": "gru"}, ("network: rate, here gru",)),
        ({"tau": 0.2, "initial_state": "condition"}, ("tau", "initial_state")),
        ({"seed": 1}, ("test trials", "seed")),
        ({"seeds": 2}, ("seeds", "1")),
        ({"held_out_conditions": ["0"]}, ("test trials", "held_out_conditions")),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, dict) else "",
)  # fmt: skip
def test_an_earlier_fit_that_does_not_suit_is_refused_and_the_difference_named(ds, earlier, changes, told):
    with pytest.raises(ConfigError, match=names(IN_MEMORY, *told)):
        nwbrnn.fit(ds, **(SETTINGS | changes), start_from=earlier)


def test_other_inputs_and_outputs_are_refused_by_name(ds, earlier):
    first_input, first_output = str(ds["input"].values[0]), str(ds["output"].values[0])
    with pytest.raises(ConfigError, match=names("inputs", first_input)):
        nwbrnn.fit(ds.isel(input=[0]), **SETTINGS, start_from=earlier)
    for kept in ({"freeze": ["output_weights"]}, UNTRAINED):  # nothing could learn other outputs
        with pytest.raises(ConfigError, match=names("outputs", first_output)):
            nwbrnn.fit(ds.isel(output=[0]), **SETTINGS, **kept, start_from=earlier)
    wider = ds.assign_coords(time=2 * ds["time"]).assign_attrs(bin_size=2 * ds.attrs["bin_size"])
    with pytest.raises(ConfigError, match="bin_size"):
        nwbrnn.fit(wider, **SETTINGS, start_from=earlier)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"method": "least_squares", "start_from": "fit.nwb"}, "method"),
        ({"method": "least_squares", "freeze": ["bias"]}, "method"),
        ({"rank": 3, "start_from": "fit.nwb"}, "rank"),
        ({"density": 0.5, "start_from": "fit.nwb"}, "density"),
        ({"dynamics_weight": "cv", "start_from": "fit.nwb"}, "dynamics_weight"),
        ({"freeze": ["recurrent"]}, "freeze"),
        ({"freeze": ["tau"]}, "freeze"),
        ({"freeze": LEARNED}, "freeze"),
        ({"start_from": IN_MEMORY}, "start_from"),
    ],
)  # fmt: skip
def test_settings_that_rule_it_out_are_named(ds, settings, name):
    with pytest.raises(ConfigError, match=name):
        nwbrnn.fit(ds, **(SETTINGS | settings))


def test_a_sweep_takes_no_earlier_fit(ds):
    with pytest.raises(ConfigError, match="start_from"):
        list_cells([describe_data("a", ds)], nwbrnn.SweepConfig(seeds=1), FitConfig(start_from="fit.nwb"))
    with pytest.raises(ValueError, match="start_from"):
        nwbrnn.SweepConfig(vary={"start_from": ["fit.nwb"]})


def test_each_seed_begins_at_its_own_network(ds):
    several = SETTINGS | {"seeds": 2, "processes": 1}
    earlier = nwbrnn.fit(ds, **several)
    again = nwbrnn.fit(ds, **several, start_from=earlier, **UNTRAINED)
    weights = {run.seed: run.weights["recurrent_weights"] for run in earlier.runs}
    assert len(again.runs) == 2
    for run in again.runs:
        np.testing.assert_array_equal(run.weights["recurrent_weights"], weights[run.seed])
    alone = nwbrnn.fit(ds, **SETTINGS, start_from=earlier, **UNTRAINED)
    np.testing.assert_array_equal(alone.weights["bias"], earlier.best.weights["bias"])


def test_the_loss_of_the_earlier_network_is_the_first_of_the_history(ds, earlier):
    result = nwbrnn.fit(ds, **(SETTINGS | {"epochs": 20}), start_from=earlier)
    assert len(result.history["train_total"]) == 21
    assert result.history["train_total"][0] == earlier.best.loss
    assert result.best.loss < earlier.best.loss


def test_a_resumed_fit_goes_on_and_another_start_is_refused(ds, earlier, tmp_path):
    path = tmp_path / "fit.checkpoint"
    settings = SETTINGS | {"epochs": 8, "noise": 0.1, "freeze": ["bias"]}

    def stop(number, losses):
        if number == 4:
            raise KeyboardInterrupt

    whole = nwbrnn.fit(ds, **settings, start_from=earlier)
    stopped = nwbrnn.fit(ds, **settings, start_from=earlier, checkpoint=path, progress=stop)
    assert stopped.best.ended == "interrupted"
    resumed = nwbrnn.fit(ds, **settings, start_from=earlier, checkpoint=path, resume=True)
    for name, values in whole.weights.items():
        np.testing.assert_array_equal(resumed.weights[name], values, err_msg=name)
    other = nwbrnn.fit(ds, **(SETTINGS | {"epochs": 2}))
    with pytest.raises(ConfigError, match=names(path, "start_from")):
        nwbrnn.fit(ds, **settings, start_from=other, checkpoint=path, resume=True)


@pytest.mark.parametrize(
    ("settings", "frozen"),
    [
        ({}, ["recurrent_weights"]),
        ({"method": "gradient"}, ["input_weights", "bias", "initial_state"]),
        ({"learn_tau": True}, ["tau", "output_weights", "output_bias"]),
        ({"rank": 3}, ["recurrent_weights"]),
        ({"network": "gru"}, ["recurrent_weights", "bias"]),
        ({}, ["recurrent_weights", "input_weights", "bias", "initial_state"]),
    ],
)
def test_frozen_weights_stay_bit_for_bit_and_the_others_move(ds, settings, frozen):
    config = FitConfig(**(SETTINGS | settings), freeze=frozen)
    sizes = ds.sizes["input"], config.hidden, ds.sizes["output"]
    recorded = prepare(ds, config)
    first = NETWORKS[config.network](sizes, config, bin_size=ds.attrs["bin_size"]).to_weights()
    last = train(recorded, config).weights
    moved = {name for name, values in first.items() if not np.array_equal(last[name], values)}
    assert moved == set(first) - set(frozen)


def test_a_frozen_recurrence_is_that_of_the_earlier_fit(ds, earlier):
    result = nwbrnn.fit(ds, **SETTINGS, start_from=earlier, freeze=["recurrent_weights"])
    np.testing.assert_array_equal(result.weights["recurrent_weights"], earlier.weights["recurrent_weights"])
    assert not np.array_equal(result.weights["output_weights"], earlier.weights["output_weights"])
    baselines = predict_gated(result), predict_gated(earlier)  # begin at random, and learn everything
    np.testing.assert_array_equal(*(one["outputs"] for one in baselines))


@pytest.mark.cover
@pytest.mark.slow
def test_the_command_stores_where_it_began_and_refit_repeats_it(ds, run_cli, tmp_path):
    source, first, second = (tmp_path / name for name in ("teacher.nwb", "first.nwb", "second.nwb"))
    nwbrnn.write_teacher(ds, source)
    options = ("--hidden", 30, "--sampled", 10, "--epochs", 3, "--set", "validation=0")
    assert run_cli("fit", source, "-o", first, *options).code == 0
    line = ("fit", source, "-o", second, *options, "--start-from", first, "--set", "freeze=[bias]")
    finished = run_cli(*line)
    assert (finished.code, finished.err) == (0, "")
    earlier, result = nwbrnn.read_fit(first), nwbrnn.read_fit(second)
    assert result.config.start_from == str(first)
    np.testing.assert_array_equal(result.weights["bias"], earlier.weights["bias"])
    finished = run_cli("refit", second, "--json", tmp_path / "refit.json")
    assert (finished.code, finished.err) == (0, "")
    assert json.loads((tmp_path / "refit.json").read_text())["same_weights"] is True
    with pytest.raises(ConfigError, match=names("start_from", first)):
        nwbrnn.refit(result, source)
    with pytest.raises(ConfigError, match=names("start_from", first)):  # of other weights
        nwbrnn.refit(result, source, start_from=result)
    with pytest.raises(ConfigError, match="start_from"):
        nwbrnn.refit(earlier, source, start_from=result)
    again = run_cli("refit", second, "--start-from", second)
    assert again.code == 2
    first.rename(tmp_path / "moved.nwb")
    missing = run_cli("refit", second)
    assert missing.code == 2
    assert "--start-from" in missing.err
    assert run_cli("refit", second, "--start-from", tmp_path / "moved.nwb").code == 0
    with pytest.raises(MissingDataError, match=names("first.nwb", "start_from")):
        find_start(second, str(first))


@pytest.mark.slow
@pytest.mark.cover
def test_an_output_is_kept_apart_from_the_earlier_fit(ds, earlier, run_cli, tmp_path):
    source, path = tmp_path / "teacher.nwb", tmp_path / "fit.nwb"
    nwbrnn.write_teacher(ds, source)
    nwbrnn.write_fit(earlier, source, path)
    before = path.read_bytes()
    for place in (("--start-from", path), ("--set", f"start_from={path}")):
        finished = run_cli("fit", source, "-o", path, *place, "--overwrite")
        assert finished.code == 2
        assert str(path) in finished.err
    assert path.read_bytes() == before


def test_more_sampled_units_than_hidden_ones_are_refused_as_in_any_fit(ds, earlier):
    with pytest.raises(ConfigError, match=names("hidden", 60, 30)):
        nwbrnn.fit(ds, **SETTINGS | {"sampled": "all"}, start_from=earlier)
