"""Units of a network that are pushed, and networks beside their circuits."""

import numpy as np
import pytest

import nwbrnn
from nwbrnn.cli.perturb import parse_push
from nwbrnn.errors import ConfigError
from nwbrnn.mechanism import Teacher, compare_responses, list_effects, probe_teacher, score_perturbed
from nwbrnn.mechanism.responses import compute_response_r2, correlate
from nwbrnn.prediction import Push, find_components, map_population, map_units, perturb, predict
from nwbrnn.preprocessing import prepare_perturbed
from nwbrnn.teacher import TeacherConfig, simulate_teacher
from tests.messages import names

SETTINGS = {"hidden": 60, "sampled": 15, "min_rate": 0, "method": "least_squares"}
TEACHER = {"n_neurons": 60, "n_directions": 8, "n_trials": 4, "preparation": 0.3, "movement": 0.5}


@pytest.fixture(scope="module")
def ds():
    return simulate_teacher(TeacherConfig(**TEACHER))


@pytest.fixture(scope="module")
def result(ds):
    return nwbrnn.fit(ds, **SETTINGS)


def find_unit(result, *, sampled):
    return int(np.flatnonzero(result.recorded["sampled"].values == sampled)[0])


# ------------------------------------------------------------------ pushes


def test_a_sampled_neuron_changes_by_what_was_asked_for(result):
    unit = find_unit(result, sampled=True)
    pushed = result.perturb({unit: 1.0}, size=2.0, at=0.1)
    change = (pushed["rates"] - result.predicted["rates"]).values[..., unit]
    moved = np.searchsorted(result.recorded["time"].values + 0.005, 0.1 + 1e-9, side="right")
    np.testing.assert_allclose(change[:, moved], 2.0, rtol=1e-3)
    assert not change[:, :moved].any()


def test_a_unit_without_a_hidden_one_is_pushed_through_the_readout(result):
    unit = find_unit(result, sampled=False)
    pushed = result.perturb({unit: -0.5}, size=1.0, at=0.1)
    change = (pushed["rates"] - result.predicted["rates"]).values[..., unit]
    np.testing.assert_allclose(change[:, 40], -0.5, rtol=1e-2)


def test_a_push_over_time_is_as_large_in_all_as_one_at_once_where_nothing_leaks(result):
    """Without leak and recurrence a state keeps what it was given."""
    unit = find_unit(result, sampled=True)
    weights = dict(result.weights)
    n_hidden = len(weights["bias"])
    weights |= {
        name: np.zeros_like(weights[name])
        for name in ("recurrent_weights", "input_weights", "bias", "initial_state")
    }
    slow = result.config.model_copy(update={"tau": 1e6})
    ends = []
    for duration in (0.0, 0.2):
        push = Push({unit: 1.0}, 0.5, 0.1, duration)
        found = perturb(result.recorded, weights, slow, push)["hidden"].values[0, -1]
        ends.append(found[np.abs(found).argmax()])
    assert ends[0] == pytest.approx(ends[1], rel=1e-3)
    assert n_hidden == 60


@pytest.mark.parametrize("substeps", [1, 3])
def test_a_shift_of_states_is_seen_in_the_states(ds, substeps):
    result = nwbrnn.fit(ds, **SETTINGS | {"hidden": 20}, substeps=substeps)
    weights = dict(result.weights)
    weights["recurrent_weights"] = np.zeros_like(weights["recurrent_weights"])
    shift = np.zeros((ds.sizes["trial"], ds.sizes["time"], 20))
    shift[:, 5] = 0.3
    before, after = (
        np.arctanh(predict(result.recorded, weights, result.config, shift=s)["hidden"].values.astype(float))
        for s in (None, shift)
    )
    np.testing.assert_allclose((after - before)[:, 5], 0.3, atol=2e-3)


def test_gated_networks_are_pushed_too(ds):
    result = nwbrnn.fit(ds, network="gru", hidden=20, sampled=5, epochs=2, min_rate=0)
    unit = find_unit(result, sampled=True)
    pushed = result.perturb({unit: 1.0}, size=2.0, at=0.0)
    change = (pushed["rates"] - result.predicted["rates"]).values[..., unit]
    np.testing.assert_allclose(change[:, 30], 2.0, rtol=1e-3)


def test_mappings_of_units_and_populations(result):
    components, deviations = find_components(result.recorded, 3)
    np.testing.assert_allclose(components.T @ components, np.eye(3), atol=1e-9)
    assert (np.diff(deviations) <= 0).all()
    mapping = map_population(result.recorded, result.predicted["hidden"].values, components)
    # the sampled neurons follow the components as their own hidden units do
    sampled = np.flatnonzero(result.recorded["sampled"].values)
    expected = components[sampled].T / result.recorded["rate_scale"].values[sampled]
    close = np.corrcoef(mapping[:, : len(sampled)].ravel(), expected.ravel())[0, 1]
    assert close > 0.95
    change = np.zeros((2, 60))
    change[0, sampled[0]] = 3.0
    hidden = map_units(result.recorded, result.weights, result.config, change)
    assert hidden[0, 0] == pytest.approx(3.0 / result.recorded["rate_scale"].values[sampled[0]])
    assert np.count_nonzero(hidden) == 1


@pytest.mark.parametrize(
    ("push", "parts"),
    [
        ({"units": {1000: 1.0}, "size": 1.0}, ("units", 1000)),
        ({"units": {}, "size": 1.0}, ("units",)),
        ({"units": {0: 1.0}, "size": np.nan}, ("size", "nan")),
        ({"units": {0: 1e200}, "size": 1e200}, ("units", "size", "1e+200")),
        ({"units": {0: 1.0}, "size": 1.0, "at": 0.6}, ("at", "0.5")),
        ({"units": {0: 1.0}, "size": 1.0, "at": 0.4, "duration": 0.2}, ("duration", "0.5")),
        ({"units": {0: 1.0}, "size": 1.0, "duration": -0.1}, ("duration", "-0.1")),
    ],
)
def test_pushes_that_cannot_be_are_refused(result, push, parts):
    with pytest.raises(ConfigError, match=names(*parts)):
        result.perturb(**push)


@pytest.mark.parametrize(
    ("units", "options", "parts"),
    [
        (["3", "3=2"], {}, ("--unit", 3)),
        (["3="], {}, ("--unit", "'3='")),
        (["=2"], {}, ("--unit", "'=2'")),
        (["3=a"], {}, ("--unit", "'3=a'")),
        (None, {"size": 5.0}, ("--size", "--unit")),
        (None, {"at": 0.1}, ("--at", "--unit")),
        (None, {"duration": 0.1}, ("--duration", "--unit")),
    ],
)
def test_options_that_would_be_ignored_are_refused(units, options, parts):
    with pytest.raises(ConfigError, match=names(*parts)):
        parse_push(units, **{"size": 10.0, "at": 0.0, "duration": 0.0} | options)


def test_options_of_a_push():
    assert parse_push(["3", "5=-0.5"], size=2.0, at=0.1, duration=0.2) == Push({3: 1, 5: -0.5}, 2.0, 0.1, 0.2)
    assert parse_push(None, size=10.0, at=0.0, duration=0.0) is None


def test_effects_are_in_recorded_units(result):
    unit = find_unit(result, sampled=True)
    effects = list_effects(result, Push({unit: 1.0}, 2.0, 0.1))
    assert [one.kind for one in effects[:6]] == ["output"] * 6
    own = next(one for one in effects[6:] if one.name == str(unit))
    assert (own.unit, own.kind) == ("Hz", "sampled")
    pushed = result.perturb({unit: 1.0}, size=2.0, at=0.1)
    is_test = result.recorded["split"].values == "test"
    rates = (pushed["rates"] - result.predicted["rates"]).values[is_test, :, unit]
    assert own.change == pytest.approx(rates.ravel()[np.abs(rates).argmax()], rel=1e-4)
    assert own.time == result.recorded["time"].values[np.abs(rates).max(axis=0).argmax()]
    change = (pushed["outputs"] - result.predicted["outputs"]).values[is_test][:, 40:, 0]
    assert abs(effects[0].change) == pytest.approx(np.abs(change).max(), rel=1e-5)
    assert effects[0].size == pytest.approx(np.sqrt(np.square(change).mean()), rel=1e-4)


# ------------------------------------------------------------------ trials that were perturbed


def test_perturbed_trials_are_left_out_and_predicted(ds):
    """The perturbed trials are what the network of the others does when it is pushed."""
    push = {"size": 8.0, "at": 0.05, "duration": 0.1}
    opto = np.arange(ds.sizes["trial"]) >= 24  # one of each direction
    marked = ds.assign_coords(opto=("trial", opto))
    fitted = nwbrnn.fit(marked, **SETTINGS, perturbed="opto")
    assert fitted.recorded.sizes["trial"] == (~opto).sum()
    first = Push({find_unit(fitted, sampled=True): 1.0}, **push)
    everything = fitted.recorded.assign_coords(split=("trial", ["test"] * (~opto).sum()))
    made = perturb(fitted.recorded, fitted.weights, fitted.config, first, trials=everything)
    own = made.isel(trial=slice(0, 8))
    whole = marked.copy(deep=True)
    rows = [int(np.flatnonzero(opto & (ds["condition"].values == c))[0]) for c in own["condition"].values]
    whole["outputs"].values[rows] = own["outputs"].values
    whole["rates"].values[rows] = own["rates"].values
    scores = score_perturbed(fitted, whole, first)
    for name, (with_push, without) in scores.items():
        assert with_push > 0.999, name
        assert with_push > without, name
    trials = prepare_perturbed(whole, fitted.recorded, fitted.config)
    unpushed = predict(trials, fitted.weights, fitted.config, fitted=fitted.recorded)
    truth, guess = ((ds["outputs"] / fitted.recorded["output_scale"]).values for ds in (trials, unpushed))
    total = np.square(truth - truth.mean(axis=(0, 1))).sum()
    assert scores["outputs"][1] == pytest.approx(1 - np.square(truth - guess).sum() / total, rel=1e-4)


def test_columns_that_mark_nothing_are_refused(ds):
    with pytest.raises(ConfigError, match=names("perturbed", "laser", "direction")):
        nwbrnn.fit(ds, perturbed="laser")
    for value, word in ((0, "none"), (1, "all")):
        marked = ds.assign_coords(opto=("trial", np.full(ds.sizes["trial"], value)))
        with pytest.raises(ConfigError, match=names("perturbed", "'opto'", word)):
            nwbrnn.fit(marked, perturbed="opto")


def test_texts_mark_trials(ds):
    labels = np.where(np.arange(ds.sizes["trial"]) < 24, "none", "ICMS")
    prepared = nwbrnn.preprocessing.prepare(
        ds.assign_coords(stimulus=("trial", labels)), nwbrnn.FitConfig(perturbed="stimulus")
    )
    assert prepared.sizes["trial"] == 24


# ------------------------------------------------------------------ simulated circuits


def test_a_teacher_agrees_with_itself(result):
    teacher = Teacher.find(result.recorded)
    conditions = teacher.tests["condition"].values.tolist()
    clean = teacher.run(conditions) + 20
    recorded = result.recorded["rates"].values
    noise = np.abs(clean - teacher.tests["rates"].values).mean() / recorded.std()
    assert noise < 0.3
    kicks = np.zeros((len(conditions), 60))
    np.testing.assert_allclose(teacher.run(conditions, kicks=kicks), teacher.run(conditions), atol=1e-9)


def test_runs_that_are_kept_are_those_of_the_circuit(result, monkeypatch):
    """A second fit of the same data gets the same rates without another simulation."""
    first = Teacher.find(result.recorded)
    drive, kicks = first.get_drive(["0"]), np.full((1, 60), 0.125)
    expected = first.reaches.run(drive, kicks=kicks)[:, first.bins]
    np.testing.assert_array_equal(first.run(["0"], kicks=kicks), expected)
    later = Teacher.find(result.recorded.copy(deep=True))
    monkeypatch.setattr(type(later.reaches), "run", None)  # cannot be called
    kept = later.run(["0"], kicks=kicks)
    kept[:] = 0  # a copy, so that the next fit does not see it
    np.testing.assert_array_equal(later.run(["0"], kicks=kicks), expected)
    monkeypatch.undo()
    assert np.abs(later.run(["0"], kicks=2 * kicks) - expected).max() > 0.1
    changed = result.recorded.copy(deep=True)
    changed["connectivity"] *= 0.5
    assert np.abs(Teacher.find(changed).run(["0"], kicks=kicks) - expected).max() > 0.1


def test_a_kick_is_a_jump_of_the_rates_at_the_go_cue(result):
    teacher = Teacher.find(result.recorded)
    kicks = np.zeros((1, 60))
    kicks[0, 4] = 5.0
    change = teacher.run(["0"], kicks=kicks) - teacher.run(["0"])
    go = int(np.searchsorted(result.recorded["time"].values, 0.0))
    assert not change[:, :go].any()
    assert change[0, go, 4] == pytest.approx(5.0, rel=0.1)  # mean of the first bin, in which it leaks


def test_noisy_inputs_hurt_the_teacher_the_more_the_noisier(result):
    teacher = Teacher.find(result.recorded)
    scores = probe_teacher(teacher, (0.0, 0.5, 2.0), n_repeats=2)
    assert scores[0.0] > 0.9
    assert scores[0.0] > scores[0.5] > scores[2.0]


def test_without_noise_a_teacher_predicts_its_own_muscles_whatever_their_offset(result):
    teacher = Teacher.find(result.recorded)
    conditions = result.recorded["condition"].values.tolist()
    muscles = teacher.read(teacher.run(conditions)) + 7
    own = result.recorded.assign(outputs=(result.recorded["outputs"].dims, muscles))
    assert probe_teacher(Teacher.find(own), (0.0,))[0.0] == pytest.approx(1, abs=1e-6)


def test_networks_respond_to_kicks_of_the_state_but_not_of_single_neurons(result):
    teacher = Teacher.find(result.recorded)
    scores = compare_responses(teacher, result.weights, result.config)
    kicked, pushed = (
        value for name, value in scores.items() if name.startswith("response correlation, outputs")
    )
    assert kicked > 0.8
    assert pushed < 0.7
    assert len(scores) == 8


def test_without_bins_before_the_go_cue_nobody_is_kicked(ds):
    """The state at the end of the bin before it is what a kick changes."""
    late = nwbrnn.fit(ds.sel(time=slice(0, None)), sampled=20, hidden=60, epochs=2, method="gradient")
    teacher = Teacher.find(late.recorded)
    assert teacher is not None
    assert compare_responses(teacher, late.weights, late.config) == {}


def test_a_teacher_of_which_a_part_is_missing_is_not_known(ds, result):
    assert Teacher.find(result.recorded.isel(unit=slice(1, None))) is None
    assert Teacher.find(result.recorded.drop_vars("readout")) is None
    assert Teacher.find(result.recorded.assign_attrs(teacher="{}{")) is None
    later = result.recorded.assign_coords(
        time=result.recorded["time"] + result.recorded.attrs["bin_size"] / 2
    )
    assert Teacher.find(later) is None
    renamed = result.recorded.assign_coords(condition=("trial", ["up"] * ds.sizes["trial"]))
    assert Teacher.find(renamed) is None


def test_measures_of_responses():
    rng = np.random.default_rng(0)
    target = rng.standard_normal((3, 4, 5))
    assert correlate(3 * target + 1, target) == pytest.approx(1.0)
    assert compute_response_r2(target, target) == 1
    assert compute_response_r2(0 * target, target) == 0
    assert compute_response_r2(2 * target, target) == pytest.approx(0.0)
    assert np.isnan(compute_response_r2(target, 0 * target))
    assert np.isnan(correlate(target, 0 * target))
    assert np.isnan(correlate(target[:0], target[:0]))
