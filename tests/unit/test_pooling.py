"""Sessions in one Dataset: what goes where, what is refused, and what each session keeps to itself."""

import json
import math
import warnings

import numpy as np
import pytest

import nwbrnn
from nwbrnn.config import FitConfig
from nwbrnn.dataset import blank_unrecorded
from nwbrnn.errors import ConfigError, SchemaError
from nwbrnn.preprocessing import (
    align_sessions,
    find_factor,
    find_unsuitable,
    identify,
    list_sessions,
    name_rows,
    name_sessions,
    prepare,
    prepare_perturbed,
)
from nwbrnn.preprocessing.matching import Outline, find_mismatches
from nwbrnn.report.trials import collect_trials
from nwbrnn.teacher import TeacherConfig, simulate_teacher
from nwbrnn.training import match_units
from nwbrnn.training.batches import create_batch
from tests.messages import assert_names, names

CIRCUIT = {"n_neurons": 60, "n_directions": 4, "n_muscles": 3, "preparation": 0.1, "movement": 0.3}
SETTINGS = {"hidden": 30, "sampled": 4, "min_rate": 0, "epochs": 3, "validation": 0}


@pytest.fixture(scope="module")
def ds():
    circuit = simulate_teacher(TeacherConfig(**CIRCUIT, n_trials=8))
    return circuit.drop_vars(["connectivity", "readout"]).isel(unit=slice(0, 20))


@pytest.fixture(scope="module")
def sessions(ds):
    """Return two sessions of one circuit: 16 trials and 8 neurons; 16 trials, 12 neurons, 2 of 3 muscles."""
    first = ds.isel(trial=slice(0, 16), unit=slice(0, 8))
    second = ds.isel(trial=slice(16, 32), unit=slice(8, 20), output=[2, 0])
    return [
        one.assign_attrs(source_file=f"{name}.nwb", source_identifier=f"id-{name}")
        for one, name in ((first, "monday"), (second, "tuesday"))
    ]


@pytest.fixture(scope="module")
def pooled(sessions):
    return nwbrnn.pool(sessions)


def test_each_value_has_its_place_and_everything_else_was_not_observed(sessions, pooled):
    first, second = sessions
    assert pooled["session"].values.tolist() == ["monday"] * 16 + ["tuesday"] * 16
    assert pooled["session_of_unit"].values.tolist() == ["monday"] * 8 + ["tuesday"] * 12
    assert pooled["session_trial"].values.tolist() == [*first["trial"].values, *second["trial"].values]
    assert pooled["session_unit"].values.tolist() == list(range(20))
    for name in ("rates", "spike_counts"):
        values = pooled[name].values
        np.testing.assert_array_equal(values[:16, :, :8], first[name].values)
        np.testing.assert_array_equal(values[16:, :, 8:], second[name].values)
        assert np.isnan(values[:16, :, 8:]).all()
        assert np.isnan(values[16:, :, :8]).all()
    assert pooled["output"].values.tolist() == ["muscle_1", "muscle_2", "muscle_3"]
    np.testing.assert_array_equal(pooled["outputs"].values[:16], first["outputs"].values)
    np.testing.assert_array_equal(pooled["outputs"].values[16:][..., [2, 0]], second["outputs"].values)
    assert np.isnan(pooled["outputs"].values[16:, :, 1]).all()
    np.testing.assert_array_equal(pooled["inputs"].values[16:], second["inputs"].values)
    assert pooled["direction"].values.tolist() == [*first["direction"].values, *second["direction"].values]


def test_the_pool_knows_where_each_session_comes_from(pooled):
    about = list_sessions(pooled)
    assert [one["source_identifier"] for one in about] == ["id-monday", "id-tuesday"]
    assert [one["n_units"] for one in about] == [8, 12]
    (choice,) = (c for c in json.loads(pooled.attrs["choices"]) if c["role"] == "outputs missing")
    assert_names(choice["picked"], "tuesday", "muscle_2")


def test_times_of_a_session_follow_those_of_the_session_before_in_whole_seconds(sessions, pooled):
    starts = pooled["recording_start"].values
    np.testing.assert_array_equal(starts, np.rint(starts))
    for number, one in enumerate(sessions):
        own = pooled["align_time"].values[pooled["session"].values == pooled["recording"].values[number]]
        np.testing.assert_allclose(own - starts[number], one["align_time"].values, atol=1e-9)
    ends = pooled["align_time"].values + pooled["time"].values[-1]
    begins = pooled["align_time"].values + pooled["time"].values[0]
    assert begins[16:].min() > ends[:16].max()


def test_conditions_are_matched_by_number_and_files_of_one_name_are_told_apart(sessions):
    first, second = sessions
    labels = [f"{float(label):.2f}" for label in second["condition"].values]
    second = second.assign_coords(condition=("trial", labels)).assign_attrs(source_file="monday.nwb")
    pooled = nwbrnn.pool([first, second])
    assert set(pooled["condition"].values.tolist()) == {"0", "90", "180", "270"}
    assert pooled["recording"].values.tolist() == ["monday", "monday_2"]


def test_files_get_names_of_their_own_whatever_they_are_called():
    files = ["x_3.nwb", "a/x.nwb", "b/x.nwb", "c/x.nwb"]
    assert name_sessions([{"source_file": file} for file in files]) == ["x_3", "x", "x_4", "x_5"]


def test_a_trial_column_with_the_name_of_a_coordinate_of_a_pool_is_kept(sessions):
    marked = [ds.assign_coords(recording=("trial", np.arange(16) + 100)) for ds in sessions]
    pooled = nwbrnn.pool(marked)
    assert pooled["recording"].values.tolist() == ["monday", "tuesday"]
    assert pooled["trial_recording"].values.tolist() == [*range(100, 116)] * 2


def test_a_condition_that_has_an_input_of_its_own_is_zero_where_a_session_lacks_it(sessions):
    names_of = [["target=1", "target=2", "go_cue"], ["target=2", "target=3", "go_cue"]]
    pooled = nwbrnn.pool([s.assign_coords(input=n) for s, n in zip(sessions, names_of, strict=True)])
    assert pooled["input"].values.tolist() == ["target=1", "target=2", "go_cue", "target=3"]
    assert not pooled["inputs"].sel(input="target=3").values[:16].any()
    np.testing.assert_array_equal(
        pooled["inputs"].sel(input="target=3").values[16:], sessions[1]["inputs"].values[..., 1]
    )


def test_the_window_that_all_sessions_have_is_kept(sessions):
    first, second = sessions
    pooled = nwbrnn.pool([first.isel(time=slice(0, 30)), second.isel(time=slice(4, 40))])
    np.testing.assert_array_equal(pooled["time"].values, first["time"].values[4:30])
    np.testing.assert_array_equal(pooled["rates"].values[16:, :, 8:], second["rates"].values[:, 4:30])
    (choice,) = (c for c in json.loads(pooled.attrs["choices"]) if c["role"] == "common window")
    assert_names(choice["reason"], 2)


def test_a_session_without_a_recorded_bin_in_the_common_window_is_named(sessions):
    first, second = sessions
    late = np.arange(second.sizes["time"]) >= 30
    late = second.assign(mask=second["mask"] & late)
    with pytest.raises(ConfigError, match=names("tuesday", "time", "--window")):
        nwbrnn.pool([first.isel(time=slice(0, 30)), blank_unrecorded(late)])


def _rename(ds, **coords):
    return ds.assign_coords(coords)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda ds: _rename(ds, condition=("trial", ["up"] * 16)), ("conditions", "up", "90")),
        (lambda ds: _rename(ds, output=["x", "y"]), ("outputs", "muscle_2", "x", "y")),
        (lambda ds: _rename(ds, output=["Muscle_2 ", "x"]), ("outputs", "'muscle_2'", "'Muscle_2 '")),
        (lambda ds: _rename(ds, input=["direction_cos", "direction_sin", "go"]), ("inputs", "go", "go_cue")),
        (lambda ds: ds.isel(input=[0, 1]), ("inputs", "go_cue")),
        (lambda ds: _rename(ds, time=ds["time"] * 2).assign_attrs(bin_size=0.02), ("bin_size", 0.02, 0.01)),
        (lambda ds: _rename(ds, time=ds["time"] + 0.004), ("time", "--window")),
        (lambda ds: _rename(ds, time=ds["time"] + 7), ("time", "--window")),
        (lambda ds: ds.assign_attrs(source_identifier="id-monday", teacher="").assign_coords(
            trial=ds["trial"] - 15), ("trials", 15, "identifier")),
        (lambda ds: ds.assign_attrs(neural_lag=0.05), ("neural_lag", 0.05)),
    ],
    ids=["conditions", "outputs", "spelling", "inputs", "fewer", "bins", "grid", "window", "twice", "lag"],
)  # fmt: skip
def test_what_does_not_match_is_refused_with_session_object_and_remedy(sessions, change, told):
    first, second = (ds.assign_attrs(teacher="") for ds in sessions)
    with pytest.raises(ConfigError) as caught:
        nwbrnn.pool([first, change(second)])
    if told[0] != "time" or told[1] != "--window":
        assert_names(str(caught.value), "tuesday")
    assert_names(str(caught.value), *told)


def test_all_reasons_are_given_at_once(sessions):
    first, second = sessions
    other = second.assign_coords(output=["x", "y"], condition=("trial", ["up"] * 16))
    with pytest.raises(ConfigError) as caught:
        nwbrnn.pool([first, other])
    assert len(caught.value.args) == 2  # outputs and conditions


@pytest.mark.parametrize("make", [lambda s: s[:1], lambda s: [s[0], prepare(s[1], FitConfig(**SETTINGS))]])
def test_a_single_session_and_a_prepared_one_are_refused(sessions, make):
    with pytest.raises(ConfigError):
        nwbrnn.pool(make(sessions))


def test_a_pool_is_not_pooled_again_and_names_are_unique(sessions, pooled):
    with pytest.raises(ConfigError, match="pooled"):
        nwbrnn.pool([pooled, sessions[0]])
    with pytest.raises(ConfigError, match=names("monday")):
        nwbrnn.pool(sessions, names=["monday", "monday"])
    with pytest.raises(ConfigError, match=names("sessions", "monday")):
        nwbrnn.pool(sessions, names=["monday", " "])


@pytest.mark.parametrize("held_out", [{}, {"held_out_conditions": ("90",)}, {"train_trials": 1}])
def test_each_session_has_the_split_and_the_sampled_neurons_that_it_has_alone(sessions, pooled, held_out):
    config = FitConfig(**SETTINGS | {"validation": 0.2, "seed": 5} | held_out)
    together = prepare(pooled, config)
    for one in sessions:
        name = one.attrs["source_file"].removesuffix(".nwb")
        alone = prepare(one, config)
        mine = together.isel(
            trial=together["session"].values == name, unit=together["session_of_unit"].values == name
        )
        assert mine["split"].values.tolist() == alone["split"].values.tolist()
        assert mine["session_trial"].values.tolist() == alone["trial"].values.tolist()
        assert mine["sampled"].values.tolist() == alone["sampled"].values.tolist()


def test_the_targets_of_each_neuron_are_those_of_its_session_alone(sessions, pooled):
    config = FitConfig(**SETTINGS)
    batch = create_batch(prepare(pooled, config), "train", config, device="cpu")
    assert batch.targets.dynamics.shape[2] == 8
    for number, one in enumerate(sessions):
        alone = create_batch(prepare(one, config), "train", config, device="cpu")
        mine = slice(4 * number, 4 * (number + 1))
        np.testing.assert_allclose(
            batch.targets.dynamics[..., mine].numpy(), alone.targets.dynamics.numpy(), atol=2e-6
        )


def test_the_scale_of_outputs_is_that_of_each_session(sessions):
    """EMG that is a thousand times as large on one day gives the same targets."""
    first, second = sessions
    config = FitConfig(**SETTINGS)
    usual = prepare(nwbrnn.pool([first, second]), config)
    larger = prepare(nwbrnn.pool([first, second.assign(outputs=1000 * second["outputs"])]), config)
    np.testing.assert_allclose(larger["outputs"].values, usual["outputs"].values, rtol=1e-4, atol=1e-6)
    ratio = larger["recording_output_scale"].values / usual["recording_output_scale"].values
    np.testing.assert_allclose(ratio, [[1, 1, 1], [1000, 1, 1000]], rtol=1e-5)
    raw = first["outputs"].values[first["trial"].values.searchsorted(usual["session_trial"].values[:16])]
    scale, offset = (usual[f"recording_output_{part}"].values[0] for part in ("scale", "offset"))
    own = usual["outputs"].values[:16] * scale + offset
    np.testing.assert_allclose(own, raw, rtol=1e-4, atol=1e-6)
    as_recorded = prepare(nwbrnn.pool([first, second]), FitConfig(**SETTINGS, align_sessions=[]))
    assert as_recorded["outputs"].attrs["units"] == first["outputs"].attrs["units"]
    assert "recording_output_scale" not in as_recorded.coords


def test_offsets_and_gains_of_inputs_and_outputs_are_removed(sessions):
    first, second = sessions
    moved = second.assign(outputs=3 * second["outputs"] + 7, inputs=2 * second["inputs"] - 1)
    every = ("output_gain", "output_offset", "input_gain", "input_offset")
    config = FitConfig(**SETTINGS, align_sessions=every)
    usual, other = (prepare(nwbrnn.pool([first, s]), config) for s in (second, moved))
    np.testing.assert_allclose(other["outputs"].values, usual["outputs"].values, atol=1e-4)
    np.testing.assert_allclose(other["inputs"].values, usual["inputs"].values, atol=1e-5)


def test_a_constant_muscle_of_a_session_is_refused_though_its_mean_is_rounded(sessions):
    first, second = (one.copy(deep=True) for one in sessions)
    second["outputs"].values[..., 1] = 0.1
    with pytest.raises(ConfigError, match=names("tuesday", "outputs", "muscle_1")):
        prepare(nwbrnn.pool([first, second]), FitConfig(**SETTINGS))


def test_sessions_with_outputs_of_their_own_share_none(sessions, pooled):
    config = FitConfig(**SETTINGS, session_outputs="own")
    ds = prepare(pooled, config)
    expected = [*(f"muscle_{i} (monday)" for i in (1, 2, 3)), *(f"muscle_{i} (tuesday)" for i in (1, 3))]
    assert ds["output"].values.tolist() == expected
    assert ds["outputs"].attrs["units"] == sessions[0]["outputs"].attrs["units"]
    assert np.isnan(ds["outputs"].values[:16, :, 3:]).all()
    assert np.isnan(ds["outputs"].values[16:, :, :3]).all()
    for number, one in enumerate(sessions):
        batch, alone = (create_batch(d, "train", config, device="cpu") for d in (ds, prepare(one, config)))
        mine = [0, 1, 2] if number == 0 else [4, 3]
        np.testing.assert_allclose(
            batch.targets.outputs[..., mine].numpy(), alone.targets.outputs.numpy(), atol=2e-6
        )


def test_shared_outputs_that_differ_between_sessions_are_named(sessions):
    def list_different(ds):
        choices = json.loads(prepare(ds, FitConfig(**SETTINGS)).attrs["choices"])
        return [c["picked"] for c in choices if c["role"] == "different outputs"]

    first, second = sessions
    assert list_different(nwbrnn.pool(sessions)) == []
    other = second.assign(outputs=second["outputs"] * np.array([1, -1]))  # muscle_1, the other way round
    (picked,) = list_different(nwbrnn.pool([first, other]))
    assert_names(picked, "muscle_1", "tuesday")
    assert "muscle_3" not in picked


def test_an_output_that_is_silent_in_one_session_is_refused_by_name(sessions):
    first, second = sessions
    silent = second.assign(outputs=second["outputs"] * np.array([1, 0]))
    with pytest.raises(ConfigError, match=names("tuesday", "muscle_1", "channels")):
        prepare(nwbrnn.pool([first, silent]), FitConfig(**SETTINGS))


def test_a_dataset_of_one_session_is_not_changed(sessions):
    assert align_sessions(sessions[0], align=("output_gain",), percentile=95) is sessions[0]


def test_rare_conditions_are_left_out_of_their_session_alone(sessions):
    first, second = sessions
    few = second.isel(trial=[*np.flatnonzero(second["condition"].values != "90"), 1])
    ds = prepare(nwbrnn.pool([first, few]), FitConfig(**SETTINGS))
    of_session = [set(ds["condition"].values[ds["session"].values == n]) for n in ("monday", "tuesday")]
    assert of_session == [{"0", "90", "180", "270"}, {"0", "180", "270"}]


def test_a_session_whose_trials_are_all_left_out_changes_nothing_for_the_others(sessions, ds):
    """Of a session without trials, neither units nor scales are left."""
    third = ds.isel(trial=slice(16, 32), unit=slice(0, 3)).assign_attrs(source_identifier="id-sunday")
    every = ("output_gain", "output_offset", "input_gain", "input_offset")
    config = FitConfig(**SETTINGS, align_sessions=every)
    three = nwbrnn.pool([third, *sessions], names=["sunday", "monday", "tuesday"])
    found = prepare(three.isel(trial=three["session"].values != "sunday"), config)
    expected = prepare(nwbrnn.pool(sessions), config)
    assert set(found["session_of_unit"].values) == {"monday", "tuesday"}
    for name in ("outputs", "inputs", "rates"):
        np.testing.assert_array_equal(found[name].values, expected[name].values)
    np.testing.assert_array_equal(
        found["recording_input_offset"].values[1:], expected["recording_input_offset"].values
    )


def test_perturbed_trials_get_the_scale_of_their_session(sessions):
    marked = [
        ds.assign_coords(opto=("trial", np.arange(16) % 4 == 3)).assign(outputs=factor * ds["outputs"])
        for ds, factor in zip(sessions, (1, 50), strict=True)
    ]
    pooled, config = nwbrnn.pool(marked), FitConfig(**SETTINGS, perturbed="opto")
    recorded = prepare(pooled, config)
    perturbed = prepare_perturbed(pooled, recorded, config)
    assert perturbed.sizes["trial"] == 8
    scale, offset = (recorded[f"recording_output_{part}"].values[1] for part in ("scale", "offset"))
    mine = perturbed["session"].values == "tuesday"
    expected = (pooled["outputs"].values[perturbed["trial"].values[mine]] - offset) / scale
    np.testing.assert_allclose(perturbed["outputs"].values[mine], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_hidden_units_follow_the_number_of_sampled_neurons(pooled):
    result = nwbrnn.fit(pooled, **SETTINGS | {"hidden": 4})
    assert result.config.hidden == 16  # two for each of the four sampled neurons of both sessions
    assert result.weights["recurrent_weights"].shape == (16, 16)
    assert np.isfinite(result.predicted["outputs"].values[result.recorded["mask"].values]).all()
    kept = nwbrnn.fit(pooled, **SETTINGS | {"hidden": 17})
    assert kept.config.hidden == 17


def test_units_of_a_pool_are_known_by_source_and_row(sessions, pooled):
    config = FitConfig(**SETTINGS)
    together, alone = prepare(pooled, config), prepare(sessions[1], config)
    teacher = pooled.attrs.get("teacher", sessions[0].attrs["teacher"])
    assert identify(pooled, "unit")[8] == ("id-tuesday" + teacher, 8)
    match = match_units(together, config, alone)
    assert match.kept == tuple(alone["unit"].values[alone["sampled"].values].tolist())
    np.testing.assert_array_equal(match.order[:4], [4, 5, 6, 7])  # after the four of monday


def test_sessions_that_name_no_source_have_different_units(sessions):
    nameless = [
        ds.assign_attrs(source_identifier="", teacher="").assign_coords(unit=np.arange(ds.sizes["unit"]))
        for ds in sessions
    ]
    together = prepare(nwbrnn.pool(nameless, names=["monday", "tuesday"]), FitConfig(**SETTINGS))
    units = identify(together, "unit")
    assert len(set(units)) == len(units) == 20
    match = match_units(together, FitConfig(**SETTINGS), together)
    np.testing.assert_array_equal(match.order, np.arange(30))
    assert len(match.kept) == 8


def test_a_unit_that_two_sessions_of_one_file_hold_begins_as_one_hidden_unit(ds):
    halves = [ds.isel(trial=slice(0, 16)), ds.isel(trial=slice(16, 32))]
    together = prepare(nwbrnn.pool(halves, names=["early", "late"]), FitConfig(**SETTINGS))
    match = match_units(together, FitConfig(**SETTINGS), together)
    assert sorted(match.order.tolist()) == list(range(30))
    assert len(match.kept) == len(match.new) == 4


@pytest.mark.slow
def test_a_network_of_a_pool_observes_the_neurons_of_the_session_that_it_is_given(sessions, pooled):
    """Ids and rows are those of a session, and say nothing of the rows of the pool."""
    result = nwbrnn.fit(pooled, **SETTINGS, observe="sampled")
    for one in sessions:
        name = one.attrs["source_file"].removesuffix(".nwb")
        mine = result.recorded["session"].values == name
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            again = result.predict(one.assign_coords(unit_id=("unit", np.arange(one.sizes["unit"]))))
        for variable in ("outputs", "rates"):
            np.testing.assert_allclose(
                again[variable].values, result.predicted[variable].values[mine], rtol=1e-4, atol=1e-4
            )
    other = sessions[0].assign_attrs(source_identifier="id-friday")
    with pytest.raises(SchemaError, match=names("spike_counts")):
        result.predict(other)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"observe": "sampled", "method": "auto"},
        {"initial_state": "data"},
        {"align_sessions": ("output_gain", "input_gain", "input_offset")},
    ],
    ids=["observer", "initial states from data", "aligned inputs"],
)
def test_a_pool_and_its_sessions_are_predicted_as_in_the_fit(sessions, pooled, changes):
    """Neurons of a session are those of this session, whatever their ids, and its inputs have its scale."""
    result = nwbrnn.fit(pooled, **SETTINGS | changes)
    for trials, rows in ((pooled, slice(None)), (sessions[0], slice(0, 16)), (sessions[1], slice(16, 32))):
        found = result.predict(trials)
        for name in ("outputs", "rates", "hidden"):
            expected = result.predicted[name].values[rows]
            rounding = 1e-5 * np.nanmax(np.abs(expected))  # other trials in a product, other last bits
            np.testing.assert_allclose(found[name].values, expected, rtol=1e-4, atol=rounding)
    if "align_sessions" in changes:
        with pytest.raises(SchemaError, match=names("inputs", "align_sessions")):
            result.predict(sessions[0].assign_attrs(source_identifier="id-friday"))


@pytest.mark.slow
def test_on_a_new_day_only_the_readout_is_fitted(ds, sessions):
    """The network stays as it is, a muscle that it never saw gets a readout, and neurons are read from it."""
    earlier = nwbrnn.fit(nwbrnn.pool([s.isel(output=[0]) for s in _share(sessions)]), **SETTINGS)
    frozen = ("recurrent_weights", "input_weights", "bias", "initial_state")
    day = ds.isel(trial=slice(0, 16), output=[1, 2]).assign_attrs(source_identifier="id-wednesday")
    settings = SETTINGS | {"dynamics_weight": 0, "train_trials": 2, "epochs": 400, "patience": 400}
    new = nwbrnn.fit(day, **settings, learning_rate=0.02, start_from=earlier, freeze=frozen)
    for name in frozen:
        np.testing.assert_array_equal(new.weights[name], earlier.weights[name])
    assert (new.recorded["split"].values == "train").sum() == 8
    ridge = _fit_readout(new)
    assert new.scores.output_r2 == pytest.approx(ridge, abs=0.1)
    assert new.scores.get("unsampled neurons R2").value > 0.3


def _share(sessions):
    """Return sessions that have the first muscle in common."""
    return sessions[0], sessions[1].isel(output=[1, 0])


def _fit_readout(result):
    """Return the R2 of each output by ordinary ridge regression on the hidden units, by condition."""
    recorded, hidden = result.recorded, result.predicted["hidden"].values
    labels, split = recorded["condition"].values, recorded["split"].values
    parts = {}
    for kind in ("train", "test"):
        rows = [np.flatnonzero((labels == c) & (split == kind)) for c in dict.fromkeys(labels.tolist())]
        x = np.concatenate([hidden[r].mean(axis=0) for r in rows])
        y = np.concatenate([recorded["outputs"].values[r].mean(axis=0) for r in rows])
        parts[kind] = np.column_stack([x, np.ones(len(x))]).astype(float), y.astype(float)
    x, y = parts["train"]
    weights = np.linalg.solve(x.T @ x + 1e-3 * np.eye(x.shape[1]), x.T @ y)
    x, y = parts["test"]
    return 1 - ((y - x @ weights) ** 2).sum(axis=0) / ((y - y.mean(axis=0)) ** 2).sum(axis=0)


@pytest.mark.slow
def test_a_pool_that_learned_from_test_trials_is_refused_as_a_start(sessions, pooled):
    earlier = nwbrnn.fit(pooled, **SETTINGS)
    same = nwbrnn.fit(sessions[0], **SETTINGS, start_from=earlier, stop_after=1)
    assert same.recorded.sizes["trial"] == 16
    with pytest.raises(ConfigError, match=names("start_from", "trials")):
        nwbrnn.fit(sessions[0], **SETTINGS | {"seed": 1}, start_from=earlier)


def test_choices_name_spike_counts_that_are_left_out(sessions):
    monday, tuesday = sessions
    pooled = nwbrnn.pool([monday, tuesday.drop_vars("spike_counts")], names=["monday", "tuesday"])
    assert "tuesday" in nwbrnn.list_choices(pooled).loc["spike counts", "reason"]
    assert "spike_counts" not in pooled
    assert "spike counts" not in nwbrnn.list_choices(nwbrnn.pool(sessions)).index


def test_names_that_differ_in_capitals_are_two_outputs_where_a_session_has_both():
    time = np.arange(4) * 0.1
    mon, tue = (Outline(name, ("EDCr", "EDCR"), (), ("0", "1"), time, 0.1, source=name) for name in "ab")
    assert not find_mismatches([mon, tue])
    only = Outline("c", ("EDCR", "FCR"), (), ("0", "1"), time, 0.1, source="c")
    assert not find_mismatches([mon, only])
    (reason,) = find_mismatches([only, Outline("d", ("edcr", "FCR"), (), ("0", "1"), time, 0.1, source="d")])
    assert_names(reason, "session d", "'EDCR'", "'edcr'")
    three = [
        Outline(n, (o,), (), ("0", "1"), time, 0.1, source=n)
        for n, o in zip("efg", ("A", "a", "A"), strict=True)
    ]
    (reason,) = find_mismatches(three)  # the third agrees with the first
    assert_names(reason, "session f", "session e")


def test_a_session_joins_the_pool_if_another_shares_outputs_with_it():
    one, more, both, none = (
        Outline(name, outputs, (), ("0", "1"), np.arange(4) * 0.1, 0.1, source=name)
        for name, outputs in (("a", "x"), ("b", "y"), ("c", "xy"), ("d", "z"))
    )
    assert not find_mismatches([one, more, both])
    assert not find_unsuitable([one, more, both])  # a and b have nothing in common, but c has both
    (reason,) = find_unsuitable([one, none, more, both]).values()
    assert_names(reason, "session d", "outputs", "x", "y", "z")


def state_units(ds, **units):
    return ds.assign_coords({f"{channel}_units": (channel, found) for channel, found in units.items()})


def test_outputs_and_inputs_are_converted_to_the_unit_that_the_pool_states(sessions):
    monday, tuesday = sessions
    monday = state_units(monday, output=["V", "N", "a.u."], input=["m", "1", "1"])
    tuesday = state_units(tuesday, output=["", "µV"], input=["cm", "1", "1"])
    pooled = nwbrnn.pool([monday, tuesday])
    assert pooled["output_units"].values.tolist() == ["V", "N", "a.u."]
    assert pooled["outputs"].attrs["units"] == "V, N, a.u."
    assert pooled["recording_output_units"].values.tolist() == [["V", "N", "a.u."], ["V", "", "a.u."]]
    assert pooled["input_units"].values.tolist() == ["m", "1", "1"]
    np.testing.assert_allclose(
        pooled["outputs"].values[16:, :, 0], tuesday["outputs"].values[..., 1] / 1e6, rtol=1e-6
    )
    np.testing.assert_array_equal(pooled["outputs"].values[:16], monday["outputs"].values)
    np.testing.assert_allclose(
        pooled["inputs"].values[16:], tuesday["inputs"].values * [0.01, 1, 1], rtol=1e-6
    )
    picked = nwbrnn.list_choices(pooled)["picked"]
    assert_names(picked["output units converted"], "muscle_1", "V (monday)", "µV (tuesday)")
    assert_names(picked["input units converted"], "m (monday)", "cm (tuesday)")
    plain = nwbrnn.pool(sessions)
    assert not [role for role in nwbrnn.list_choices(plain).index if "units" in role]
    assert plain["outputs"].attrs["units"] == sessions[0]["outputs"].attrs["units"]
    scaled = [prepare(ds, FitConfig(min_rate=0)) for ds in (pooled, plain)]
    np.testing.assert_allclose(*(ds["outputs"].values for ds in scaled), rtol=1e-4, atol=1e-6)
    assert scaled[0]["recording_output_units"].values[1, 0] == "V"


def test_outputs_whose_units_cannot_be_converted_need_a_gain_or_outputs_of_their_own(sessions):
    pooled = nwbrnn.pool([state_units(sessions[0], output=["V", "N", "N"]), sessions[1]])
    assert pooled["output_units"].values.tolist() == ["V or a.u.", "N", "N or a.u."]
    choice = nwbrnn.list_choices(pooled).loc["output units different", "picked"]
    assert_names(choice, "muscle_1", "V (monday)", "a.u. (tuesday)")
    for align in ([], ["output_offset", "input_gain"]):
        with pytest.raises(ConfigError, match=names("tuesday", "muscle_1", "output_gain", "align_sessions")):
            prepare(pooled, FitConfig(min_rate=0, align_sessions=align))
    aligned = prepare(pooled, FitConfig(min_rate=0))
    assert set(aligned["output_units"].values.tolist()) == {"1"}
    assert aligned["recording_output_units"].values.tolist() == [["V", "N", "N"], ["a.u.", "", "a.u."]]
    own = prepare(pooled, FitConfig(min_rate=0, session_outputs="own", align_sessions=[]))
    assert own["output_units"].values.tolist() == ["V", "N", "N", "a.u.", "a.u."]
    assert own["outputs"].attrs["units"] == "V, N, a.u."


def test_inputs_whose_units_cannot_be_converted_need_a_gain(sessions):
    monday, tuesday = (
        state_units(ds, input=[u, "1", "1"]) for ds, u in zip(sessions, ("m", "a.u."), strict=True)
    )
    pooled = nwbrnn.pool([monday, tuesday])
    name = pooled["input"].values[0]
    with pytest.raises(ConfigError, match=names("tuesday", name, "m", "a.u.", "input_gain")):
        prepare(pooled, FitConfig(min_rate=0))
    aligned = prepare(pooled, FitConfig(min_rate=0, align_sessions=["output_gain", "input_gain"]))
    assert set(aligned["input_units"].values.tolist()) == {"1"}


def test_rates_and_columns_are_converted_too_or_refused_and_left_out(sessions):
    monday, tuesday = (ds.drop_vars("spike_counts") for ds in sessions)
    fast = tuesday.assign(rates=tuesday["rates"] / 1000).assign_coords(
        force=("trial", np.full(16, 2e3), {"units": "mN"}), size=("trial", np.ones(16), {"units": "m"})
    )
    fast["rates"].attrs["units"] = "kHz"
    monday = monday.assign_coords(
        force=("trial", np.ones(16), {"units": "N"}), size=("trial", np.ones(16), {"units": "V"})
    )
    pooled = nwbrnn.pool([monday, fast])
    np.testing.assert_allclose(pooled["rates"].values[16:, :, 8:], tuesday["rates"].values, rtol=1e-5)
    assert pooled["rates"].attrs["units"] == "Hz"
    assert pooled["force"].values.tolist() == [1.0] * 16 + [2.0] * 16
    assert pooled["force"].attrs["units"] == "N"
    assert "size" not in pooled.coords
    assert_names(nwbrnn.list_choices(pooled).loc["columns left out", "picked"], "size")
    fast["rates"].attrs["units"] = "V"
    with pytest.raises(ConfigError, match=names("tuesday", "rates", "Hz", "V")):
        nwbrnn.pool([monday, fast])


def test_directions_in_degrees_and_radians_are_not_taken_for_one_another(sessions):
    monday = sessions[0].assign_coords(
        direction=("trial", sessions[0]["direction"].values, {"units": "degrees"})
    )
    angles = np.deg2rad(sessions[1]["direction"].values)
    tuesday = sessions[1].assign_coords(
        direction=("trial", angles, {"units": "radians"}), condition=("trial", [f"{a:.6g}" for a in angles])
    )
    with pytest.raises(ConfigError, match=names("tuesday", "direction", "degrees", "radians")):
        nwbrnn.pool([monday, tuesday])


@pytest.mark.parametrize(
    ("unit", "into", "factor"),
    [
        ("mV", "V", 1e-3), ("volts", "mV", 1e3), ("Microvolts", "µV", 1.0), ("uV", "μV", 1.0),
        ("mv", "V", 1e-3), ("cm/s", "m/s", 1e-2), ("mm/s^2", "meters/second²", 1e-3),
        ("deg", "radians", np.pi / 180),
        ("m per s", "m/s", 1.0), ("N*m", "mN*m", 1e3), ("a.u.", "unknown", 1.0), ("newtons", "newtons", 1.0),
        ("1/s", "2/s", None), ("V", "N", None), ("V", "a.u.", None), ("m/s", "m", None), ("Nm", "nm", None),
        ("furlong", "m", None), ("MV", "V", None), ("V/", "V", None),
    ],
)  # fmt: skip
def test_units_are_compared_by_what_they_mean(unit, into, factor):
    found = find_factor(unit, into)
    assert found is None if factor is None else found == pytest.approx(factor, rel=1e-9)


@pytest.fixture(scope="module")
def observing(pooled):
    settings = SETTINGS | {"epochs": 1, "observe_dropout": 0}
    return nwbrnn.fit(pooled, **settings, observe="sampled", session_outputs="own")


@pytest.mark.slow
def test_a_few_shot_readout_has_a_trial_of_each_condition_of_its_session(observing):
    """Neurons that are a readout of the network need no more."""
    recorded, predicted = observing.recorded.drop_vars("spike_counts"), observing.predicted
    rates = np.where(np.isnan(recorded["rates"].values), np.nan, predicted["rates"].values)
    linear = recorded.assign(rates=recorded["rates"].copy(data=rates))
    score = nwbrnn.assess(linear, predicted, n_resamples=0).get("few-shot neurons R2")
    assert score.value > 0.95


@pytest.mark.slow
def test_a_trial_on_the_page_shows_outputs_and_neurons_of_its_session(observing, pooled):
    courses = collect_trials(observing)
    names_of = dict(zip(*(pooled[name].values.tolist() for name in ("unit", "session_of_unit")), strict=True))
    for row, trial in enumerate(courses["trials"]):
        (session,) = (name for name in ("monday", "tuesday") if f"of {name}, condition" in trial["name"])
        for channel in courses["trialOutputs"]:
            assert (channel["recorded"][row] is not None) == channel["name"].endswith(f"({session})")
        shown = [one["name"] for one in courses["trialRates"] if one["recorded"][row] is not None]
        assert {names_of[int(name.split()[1].rstrip(","))] for name in shown} == {session}
        assert len(shown) == 8
    assert math.isfinite(courses["trials"][0]["network"])


def test_labels_name_the_session_of_trials_and_units(pooled, sessions):
    units, trials = (name_rows(pooled, dim) for dim in ("unit", "trial"))
    assert units[7:9] == ["7, 7 of monday", "8, 8 of tuesday"]
    assert trials[16] == f"16, {sessions[1]['trial'].values[0]} of tuesday"
    assert name_rows(sessions[1], "trial")[0] == str(sessions[1]["trial"].values[0])
