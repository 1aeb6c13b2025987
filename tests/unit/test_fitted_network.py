"""A fitted network on other inputs, and with neurons that are silent."""

import json
import re

import numpy as np
import pytest

import nwbrnn
from nwbrnn.errors import ConfigError, SchemaError
from nwbrnn.mechanism import list_effects
from nwbrnn.teacher import TeacherConfig, simulate_teacher
from tests.messages import names

TEACHER = {"n_neurons": 60, "n_directions": 6, "n_trials": 4, "preparation": 0.2, "movement": 0.3}
SETTINGS = {"hidden": 40, "sampled": 15, "min_rate": 0, "method": "least_squares"}


@pytest.fixture(scope="module")
def ds():
    return simulate_teacher(TeacherConfig(**TEACHER))


@pytest.fixture(scope="module")
def result(ds):
    return nwbrnn.fit(ds, **SETTINGS)


@pytest.mark.parametrize("initial_state", ["learned", "condition", "data"])
def test_the_trials_of_the_fit_give_its_predictions(ds, initial_state):
    result = nwbrnn.fit(ds, **SETTINGS, initial_state=initial_state)
    again = result.predict(ds)
    for name in ("outputs", "rates", "hidden"):
        np.testing.assert_array_equal(again[name], result.predicted[name])
    assert again["outputs"].attrs == result.predicted["outputs"].attrs


def test_an_array_of_inputs_gives_what_the_dataset_gives(result):
    inputs = result.recorded["inputs"].values
    every, one = result.predict(inputs), result.predict(inputs[2])
    np.testing.assert_array_equal(every["outputs"], result.predicted["outputs"])
    np.testing.assert_allclose(every["time"], result.recorded["time"], atol=1e-12)
    np.testing.assert_allclose(one["rates"][0], result.predicted["rates"][2], rtol=1e-4, atol=1e-3)
    assert every["unit"].values.tolist() == result.recorded["unit"].values.tolist()
    assert result.predict(inputs[:, :7]).sizes["time"] == 7


def test_a_dataset_of_other_outputs_and_units_needs_inputs_only(ds, result):
    other = ds.isel(unit=slice(0, 5), output=[0], input=slice(None, None, -1), trial=[3, 1])
    np.testing.assert_array_equal(other["input"], ds["input"][::-1])
    predicted = result.predict(other)
    assert predicted.sizes["unit"] == ds.sizes["unit"]
    np.testing.assert_allclose(
        predicted["outputs"], result.predicted["outputs"].sel(trial=other["trial"]), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda ds: ds.isel(input=[0]), ("inputs",)),
        (lambda ds: ds.assign_coords(time=2 * ds["time"]).assign_attrs(bin_size=0.02), ("bin_size", "0.02")),
        (lambda ds: ds.drop_vars("inputs"), ("inputs",)),
        (lambda ds: ds["inputs"].values[..., :1], ("inputs", "n_trials")),
        (lambda ds: ds["inputs"].values * np.nan, ("inputs", "NaN")),
        (lambda ds: [], ("inputs",)),
    ],
    ids=["an input is missing", "wider bins", "no inputs", "an array without an input", "NaN", "nothing"],
)  # fmt: skip
def test_what_does_not_fit_is_named(ds, result, change, told):
    with pytest.raises(SchemaError, match=names(*told)):
        result.predict(change(ds))


def test_other_units_cannot_set_the_initial_state(ds):
    result = nwbrnn.fit(ds, **SETTINGS, initial_state="data")
    with pytest.raises(SchemaError, match=names("spike_counts", "initial_state")):
        result.predict(ds.isel(unit=slice(0, 5)))
    with pytest.raises(SchemaError, match=names("inputs", "initial_state")):
        result.predict(ds["inputs"].values)


def test_spikes_set_the_initial_state_as_in_the_fit(ds):
    rng = np.random.default_rng(0)
    counts = rng.poisson(ds["rates"].values.clip(0) * ds.attrs["bin_size"])
    spikes = ds.assign(spike_counts=(ds["rates"].dims, counts, {"units": "1"})).drop_vars("rates")
    result = nwbrnn.fit(spikes, **SETTINGS, initial_state="data")
    np.testing.assert_array_equal(result.predict(spikes)["outputs"], result.predicted["outputs"])
    later, first = counts.copy(), counts.copy()
    later[:, 1:] += 3
    first[:, 0] += 3
    changed = [
        result.predict(spikes.assign(spike_counts=(ds["rates"].dims, values, {"units": "1"})))["outputs"]
        for values in (later, first)
    ]
    np.testing.assert_array_equal(changed[0], result.predicted["outputs"])  # nothing later is read
    assert (changed[1].values != result.predicted["outputs"].values).any()


def test_a_silent_neuron_equals_one_that_is_held_at_its_lowest_value_in_each_step(result):
    """Against the equation of the network, step by step."""
    unit = int(np.flatnonzero(result.recorded["sampled"].values)[4])
    silent = result.silence([unit])
    weights = {name: np.asarray(values, dtype=float) for name, values in result.weights.items()}
    recorded, config = result.recorded, result.config
    level = -float(recorded["rate_offset"][unit] / recorded["rate_scale"][unit])
    alpha = recorded.attrs["bin_size"] / config.tau
    state = np.tile(weights["initial_state"], (recorded.sizes["trial"], 1))
    for step in range(recorded.sizes["time"]):
        rates = np.tanh(state)
        rates[:, 4] = level
        drive = rates @ weights["recurrent_weights"].T
        drive += recorded["inputs"].values[:, step] @ weights["input_weights"].T + weights["bias"]
        state = state + alpha * (drive - state)
        rates = np.tanh(state)
        rates[:, 4] = level
        outputs = rates @ weights["output_weights"].T + weights["output_bias"]
        scaled = silent["outputs"].values[:, step] / recorded["output_scale"].values
        np.testing.assert_allclose(scaled, outputs, atol=2e-3)
    assert (silent["rates"].values[..., unit] == 0).all()
    assert np.abs(silent["outputs"] - result.predicted["outputs"]).max() > 0


def test_only_neurons_of_the_network_can_be_silent(ds, result):
    other = int(np.flatnonzero(~result.recorded["sampled"].values)[0])
    for units in ([other], [10_000], []):
        with pytest.raises(ConfigError, match="units"):
            result.silence(units)
    gated = nwbrnn.fit(ds, hidden=20, sampled=5, min_rate=0, network="gru", epochs=1)
    with pytest.raises(ConfigError, match=names("network", "gru")):
        gated.silence([int(np.flatnonzero(gated.recorded["sampled"].values)[0])])


def test_effects_of_silence_are_listed_as_those_of_a_push(result):
    unit = int(np.flatnonzero(result.recorded["sampled"].values)[4])
    effects = {one.name: one for one in list_effects(result, [unit])}
    is_test = result.recorded["split"].values == "test"
    changes = (result.silence([unit])["outputs"] - result.predicted["outputs"]).values[is_test]
    largest = changes[..., 0].ravel()[np.abs(changes[..., 0]).argmax()]
    name = str(result.recorded["output"].values[0])
    assert effects[name].change == pytest.approx(largest, rel=1e-4)
    assert effects[str(unit)].kind == "sampled"


@pytest.mark.slow
@pytest.mark.cover
def test_the_command_silences_neurons(ds, result, run_cli, tmp_path):
    path = tmp_path / "fit.nwb"
    nwbrnn.write_teacher(ds, tmp_path / "teacher.nwb")
    nwbrnn.write_fit(result, tmp_path / "teacher.nwb", path)
    unit = int(np.flatnonzero(result.recorded["sampled"].values)[4])
    finished = run_cli("perturb", path, "--silence", unit, "--json", tmp_path / "effects.json")
    assert (finished.code, finished.err) == (0, "")
    effects = json.loads((tmp_path / "effects.json").read_text())["effects"]
    assert effects == [one.to_dict() for one in list_effects(nwbrnn.read_fit(path), [unit])]
    both = run_cli("perturb", path, "--silence", unit, "--unit", unit)
    assert both.code == 2
    assert re.search(names("--unit", "--silence"), both.err)
