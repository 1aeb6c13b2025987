"""What is not to be trained on has no influence: outputs of conditions, later bins, surplus trials."""

import numpy as np
import pytest

from nwbrnn.config import FitConfig
from nwbrnn.errors import ConfigError
from nwbrnn.job import fit
from nwbrnn.preprocessing import find_conditions, prepare
from nwbrnn.training import train
from tests.messages import names
from tests.unit.test_training import QUICK, create_recording

METHODS = [{"method": "gradient"}, {"method": "least_squares"}, {"method": "auto", "epochs": 3}]
OUTPUTS = {"held_out": "outputs", "held_out_conditions": ("1",), "test": 0.5}


def train_on(ds, **settings):
    config = FitConfig(**QUICK | settings)
    return train(prepare(ds, config), config)


def change(ds, name, chosen, value=7.0):
    """Overwrite a variable in the chosen trials (and bins)."""
    values = ds[name].values.copy()
    values[chosen] = value
    return ds.assign({name: (ds[name].dims, values, ds[name].attrs)})


def assert_equal_weights(first, second):
    for name, values in first.weights.items():
        np.testing.assert_array_equal(values, second.weights[name], err_msg=name)


def differ(first, second):
    return any(not np.array_equal(values, second.weights[name]) for name, values in first.weights.items())


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_held_out_outputs_have_no_influence_but_their_neurons_have(method):
    ds = create_recording(counts=False)
    held = ds["condition"].values == "1"
    config = FitConfig(**QUICK | OUTPUTS | method)
    split = prepare(ds, config)["split"].values
    assert set(split[held]) == {"dynamics_only", "test"}
    assert (split[held] == "test").sum() == 3
    before = train_on(ds, **OUTPUTS, **method)
    assert_equal_weights(before, train_on(change(ds, "outputs", held), **OUTPUTS, **method))
    assert differ(before, train_on(change(ds, "rates", split == "dynamics_only", 50.0), **OUTPUTS, **method))
    assert_equal_weights(before, train_on(change(ds, "rates", held & (split == "test")), **OUTPUTS, **method))


def test_held_out_conditions_have_no_influence():
    ds = create_recording(counts=False)
    held = ds["condition"].values == "1"
    changed = change(change(ds, "outputs", held), "rates", held, 50.0)
    settings = {"held_out_conditions": ("1",)}
    assert_equal_weights(train_on(ds, **settings), train_on(changed, **settings))


@pytest.mark.parametrize("label", [1, 1.0, "1.0"])
def test_a_condition_can_be_given_as_a_number(label):
    ds = create_recording()
    found, expected = (prepare(ds, FitConfig(held_out_conditions=(one,))) for one in (label, "1"))
    assert found["split"].values.tolist() == expected["split"].values.tolist()


@pytest.mark.parametrize("label", [1_234_567, 1_234_567.0, 10**30])
def test_large_numbers_keep_all_their_digits(label):
    assert FitConfig(held_out_conditions=(label,)).held_out_conditions == (str(int(label)),)


def test_seen_neurons_of_a_condition_are_reproduced_better():
    ds = create_recording(noise=0.0)
    common = {"hidden": 40, "sampled": 6, "min_rate": 0, "method": "least_squares"}
    common |= {"held_out_conditions": ("1",)}
    unseen = fit(ds, **common).scores.get("sampled neurons R2").value
    seen = fit(ds, **common, held_out="outputs", test=0.5).scores.get("sampled neurons R2").value
    assert 1 - seen < 0.5 * (1 - unseen)


def test_initial_states_by_condition_know_conditions_of_which_only_neurons_are_seen():
    ds = prepare(create_recording(), FitConfig(**QUICK | OUTPUTS))
    assert sorted(find_conditions(ds)) == ["0", "1", "2", "3"]


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_bins_after_train_until_have_no_influence(method):
    ds = create_recording(counts=False)
    later = ds["time"].values > 0.4
    settings = {"train_until": 0.4} | method
    config = FitConfig(**QUICK | settings)
    prepared = prepare(ds, config)
    changed = prepared
    for name, value in (("outputs", 0.5), ("rates", 40.0)):
        changed = change(changed, name, (slice(None), later), value)
    before, after = (train(one, config) for one in (prepared, changed))
    assert_equal_weights(before, after)
    assert differ(before, train(changed, config.model_copy(update={"train_until": None})))


def test_an_end_before_the_window_is_refused():
    with pytest.raises(ConfigError, match=names("train_until", "-1 s", "0.01 to 0.59 s")):
        train_on(create_recording(), train_until=-1.0)


def test_training_trials_are_limited_by_condition_and_nested():
    ds = create_recording()
    few, more = (prepare(ds, FitConfig(**QUICK, train_trials=n)) for n in (1, 3))
    for prepared, n_trials in ((few, 1), (more, 3)):
        train_split = prepared.isel(trial=prepared["split"].values == "train")
        assert np.unique(train_split["condition"].values, return_counts=True)[1].tolist() == [n_trials] * 4
    whole = prepare(ds, FitConfig(**QUICK))
    for split in ("validation", "test"):
        kept, all_of_them = (set(one["trial"].values[one["split"].values == split]) for one in (few, whole))
        assert kept == all_of_them
    first, second = (set(one["trial"].values[one["split"].values == "train"]) for one in (few, more))
    assert first < second


def test_stop_after_takes_the_last_weights_of_so_many_epochs():
    ds = create_recording()
    stopped = train_on(ds, epochs=20, stop_after=5, patience=1)
    assert len(stopped.history["train_total"]) == 5
    assert stopped.best_epoch == 5
    whole = train_on(ds, epochs=20)
    assert stopped.history["train_total"] == whole.history["train_total"][:5]  # the same schedule
    assert train_on(ds, stop_after=0, method="auto").best_epoch == 0
    with pytest.raises(ValueError, match="stop_after"):
        train_on(ds, stop_after=0, method="gradient")
    for settings in ({"network": "gru"}, {"freeze": ("bias",)}, {"excitatory": 0.8}, {"rank": 2}):
        with pytest.raises(ValueError, match=names("stop_after", 0)):  # nothing would be trained
            FitConfig(stop_after=0, **settings)
