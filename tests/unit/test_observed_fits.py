"""Fits that observe neurons: what they see, what they do not see, and what they gain."""

import dataclasses
import json

import numpy as np
import pytest
import scipy.signal
import scipy.stats
import torch

import nwbrnn
from nwbrnn.errors import ConfigError, SchemaError
from nwbrnn.evaluation import score_horizons
from nwbrnn.evaluation.ridge import PENALTIES
from nwbrnn.formats.fit.contract import list_faults
from nwbrnn.mechanism import list_effects
from nwbrnn.models import RateRNN
from nwbrnn.prediction import fit_rate_readout, forget_observer, predict
from nwbrnn.prediction.observations import create_observations
from nwbrnn.preprocessing import prepare, smooth_causally
from nwbrnn.sweep.cell import rebuild_fit
from nwbrnn.sweep.run import add_data, create_folder, run_cells
from nwbrnn.training import gradient as descent
from nwbrnn.training import probe, train
from tests.messages import names

N_DIRECTIONS, N_REPEATS, N_TIME, BIN = 4, 12, 30, 0.02
SETTINGS = {"hidden": 20, "sampled": 6, "min_rate": 0, "method": "gradient", "epochs": 6}


def create_recording(*, seed=0, counts=True):
    """Return trials that differ within a condition, by a slow deviation of all neurons and outputs."""
    rng = np.random.default_rng(seed)
    reach = np.tile(np.arange(N_DIRECTIONS), N_REPEATS)
    angle = 2 * np.pi * reach / N_DIRECTIONS
    inputs = np.zeros((len(reach), N_TIME, 2))
    inputs[:, 5:] = np.stack([np.cos(angle), np.sin(angle)], axis=1)[:, np.newaxis]
    own = scipy.signal.lfilter([0.3], [1, -0.95], rng.standard_normal((len(reach), N_TIME, 2)), axis=1)
    state = scipy.signal.lfilter([0.2], [1, -0.8], inputs, axis=1) + own
    rates = np.maximum(40 + 15 * state @ rng.standard_normal((2, 12)), 0)
    variables = {"outputs": state @ rng.standard_normal((2, 3)), "inputs": inputs, "rates": rates}
    if counts:
        variables["spike_counts"] = rng.poisson(BIN * rates)
    return nwbrnn.create_dataset(variables, {"condition": reach.astype(str)}, bin_size=BIN)


def compute_r2(predicted, target):
    return 1 - np.square(target - predicted).sum() / np.square(target - target.mean(axis=(0, 1))).sum()


def fit(ds=None, **changes):
    return nwbrnn.fit(create_recording() if ds is None else ds, **SETTINGS | {"observe": "sampled"} | changes)


@pytest.fixture(scope="module")
def result():
    return fit(observe_dropout=0.2)


def change(ds, name, rows, bins=slice(None), *, seed=5):
    """Return a Dataset with other values of a variable in some trials and bins."""
    values = ds[name].values.copy()
    part = values[rows, bins]
    drawn = np.random.default_rng(seed).permutation(part.ravel()).reshape(part.shape)
    values[rows, bins] = drawn + (drawn.dtype.kind != "f")
    return ds.assign({name: (ds[name].dims, values, ds[name].attrs)})


def assert_same_weights(first, second):
    assert set(first) == set(second)
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name], err_msg=name)


# ---------------------------------------------------------------- what it sees


def test_the_causal_filter_is_an_exponential_one_whose_kernel_sums_to_1():
    counts = np.random.default_rng(0).poisson(1, (3, 40, 2))
    found = smooth_causally(counts, bin_size=0.02, tau=0.05, valid=np.ones((3, 40), bool))
    keep = np.exp(-0.02 / 0.05)
    above, below = (
        scipy.signal.lfilter([1], [1, -keep], values, axis=1)
        for values in (counts / 0.02, np.ones((3, 40, 2)))
    )
    np.testing.assert_allclose(found, above / below, rtol=1e-5)
    plain = smooth_causally(counts, bin_size=0.02, tau=0, valid=np.ones((3, 40), bool))
    np.testing.assert_allclose(plain, counts / 0.02)


def test_the_causal_filter_skips_gaps():
    valid = np.array([[True, False, True, True]])
    found = smooth_causally(np.array([[[2], [9], [2], [2]]]), bin_size=0.5, tau=1.0, valid=valid)
    np.testing.assert_allclose(found.ravel(), [4, np.nan, 4, 4], rtol=1e-6)


@pytest.mark.parametrize(
    ("observe", "observed", "sampled"),
    [
        ("sampled", None, 6),
        ("all", 12, 12),
        ((2, 7), 2, None),
        ("2, 7", 2, None),
        (7, 1, None),
    ],
)
def test_observed_neurons_are_sampled(observe, observed, sampled):
    config = nwbrnn.FitConfig(**SETTINGS, observe=observe)
    ds = prepare(create_recording(), config)
    plain = prepare(create_recording(), nwbrnn.FitConfig(**SETTINGS))
    assert ds["observed"].values.sum() == (observed or 6)
    if sampled is None:
        ids = [7] if observe == 7 else [2, 7]
        assert ds["unit"].values[ds["observed"].values].tolist() == ids
    assert not (ds["observed"].values & ~ds["sampled"].values).any()
    np.testing.assert_array_equal(ds["sampled"].values, plain["sampled"].values | ds["observed"].values)
    assert "observed" not in plain.coords


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"observe": (3, 99)}, ("observe", "99")),
        ({"observe": "some"}, ("observe", "some")),
        ({"observe": ()}, ("observe",)),
        ({"observe": (3, 3)}, ("observe", "once")),
        ({"observe": "sampled", "sampled": 0}, ("observe", "sampled")),
        ({"observe": "all", "hidden": 5}, ("hidden", "12")),
        ({"initial_state": "data"}, ("initial_state", "'data'", "observe")),
        ({"method": "least_squares"}, ("method", "'least_squares'", "observe")),
        ({"precision": "bfloat16"}, ("precision", "'bfloat16'", "observe")),
        ({"virtual_targets": 3}, ("virtual_targets", "observe")),
        ({"observe_dropout": 1.0}, ("observe_dropout",)),
        ({"observe_penalty": -1.0}, ("observe_penalty",)),
    ],
)
def test_settings_that_do_not_fit_are_named(settings, told):
    with pytest.raises(ConfigError, match=names(*told)):
        fit(**settings)


@pytest.mark.slow
def test_trials_of_each_condition_count_the_same(monkeypatch):
    seen = []
    original = descent.compute_loss_terms
    monkeypatch.setattr(descent, "compute_loss_terms", lambda *a: seen.append(a[0].targets) or original(*a))
    ds = create_recording()
    kept = (ds["condition"].values != "0") | (np.arange(ds.sizes["trial"]) < 24)
    config = nwbrnn.FitConfig(**SETTINGS, observe="sampled", validation=0)
    prepared = prepare(ds.isel(trial=kept), config)
    train(prepared, config)
    labels = prepared["condition"].values[prepared["split"].values == "train"]
    for weight in (seen[0].output_weight, seen[0].dynamics_weight):
        by_condition = [float(weight[labels == label].sum()) for label in "0123"]
        np.testing.assert_allclose(by_condition, by_condition[0], rtol=1e-5)
        assert float(weight.mean()) == pytest.approx(1)


# ---------------------------------------------------------------- none of it


def test_without_it_nothing_is_tracked_and_nothing_of_it_is_stored(monkeypatch):
    monkeypatch.setattr(RateRNN, "follow", None)
    result = fit(observe="none")
    assert "observer_weights" not in result.weights
    assert "observed" not in result.recorded.coords


def test_the_first_weights_do_not_depend_on_it():
    config = nwbrnn.FitConfig(**SETTINGS)
    plain, observing = (RateRNN((2, 20, 3), config, bin_size=BIN, n_observed=n) for n in (0, 4))
    first, second = plain.to_weights(), observing.to_weights()
    assert not second.pop("observer_weights").any()
    assert_same_weights(first, second)


@pytest.mark.parametrize("settings", [{}, {"substeps": 2, "learn_tau": True}], ids=str)
def test_if_no_neuron_is_seen_it_trains_the_network_without_it(settings, monkeypatch):
    ds = create_recording()
    config = nwbrnn.FitConfig(**SETTINGS | settings, observe="sampled")
    prepared = prepare(ds, config)
    plain = config.model_copy(update={"observe": "none", "average": False})
    # the dynamics loss of an observer takes the spikes of each bin, that of a network without one the rates
    counted = prepared.assign(rates=(prepared["rates"].dims, prepared["spike_counts"].values / BIN))
    expected = train(counted, plain).weights

    def see_nothing(*given):
        seen = create_observations(*given)
        return seen._replace(counted=np.zeros_like(seen.counted))

    monkeypatch.setattr("nwbrnn.training.batches.create_observations", see_nothing)
    weights = train(prepared, config).weights
    assert not weights.pop("observer_weights").any()
    for name, values in expected.items():
        np.testing.assert_allclose(weights[name], values, rtol=1e-5, atol=1e-7, err_msg=name)


def test_a_large_penalty_leaves_the_network_without_it():
    ds = create_recording()
    free, held = (fit(ds, observe_penalty=p, epochs=40) for p in (0.0, 1e4))
    sizes = [np.linalg.norm(one.weights["observer_weights"]) for one in (free, held)]
    assert sizes[1] < 0.1 * sizes[0]


# ---------------------------------------------------------------- leaks


@pytest.mark.parametrize("network", ["rate", "gru"])
@pytest.mark.parametrize("read", ["corrected", "prediction"])
def test_the_future_of_the_neurons_changes_nothing_before(read, network):
    result = fit(observe_read=read, validation=0, network=network)
    recorded, first = result.recorded, 12
    changed = change(
        change(recorded, "spike_counts", [3], slice(first, None)), "rates", [3], slice(first, None)
    )
    before, after = (predict(ds, result.weights, result.config) for ds in (recorded, changed))
    others = np.arange(recorded.sizes["trial"]) != 3
    for name in ("outputs", "hidden", "rates"):
        old, new = before[name].values, after[name].values
        np.testing.assert_array_equal(new[others], old[others], err_msg=name)
        np.testing.assert_array_equal(new[3, :first], old[3, :first], err_msg=name)
        assert (new[3, first + 1] != old[3, first + 1]).any()
    sampled = recorded["sampled"].values
    same_bin = {"outputs": before["outputs"] - after["outputs"], "hidden": before["hidden"] - after["hidden"]}
    for name, difference in same_bin.items():
        assert bool(difference.values[3, first].any()) == (read == "corrected"), name
    # a neuron is predicted from earlier bins, whatever the outputs are read from
    rates = [ds["rates"].values[3, first, sampled] for ds in (before, after)]
    np.testing.assert_array_equal(*rates)


def test_nothing_that_is_trained_depends_on_test_trials():
    ds = create_recording()
    config = nwbrnn.FitConfig(**SETTINGS | {"method": "auto"}, observe="sampled", observe_dropout=0.2)
    rows = np.flatnonzero(prepare(ds, config)["split"].values == "test")
    changed = ds
    for name in ("outputs", "rates", "spike_counts"):
        changed = change(changed, name, rows)
    first, second = (nwbrnn.fit(one, config) for one in (ds, changed))
    assert_same_weights(first.weights, second.weights)
    assert first.history == second.history
    others = np.setdiff1d(np.arange(ds.sizes["trial"]), rows)
    for name in ("outputs", "rates"):
        values = [one.predicted[name].values for one in (first, second)]
        np.testing.assert_array_equal(values[0][others], values[1][others])
    only_outputs = nwbrnn.fit(change(ds, "outputs", rows), config)
    for name in ("outputs", "rates", "hidden"):
        np.testing.assert_array_equal(only_outputs.predicted[name], first.predicted[name])


def test_neurons_that_are_not_observed_change_nothing(result):
    unseen = np.flatnonzero(~result.recorded["observed"].values)
    values = result.recorded["spike_counts"].values.copy()
    values[..., unseen] += 7
    changed = result.recorded.assign(spike_counts=(("trial", "time", "unit"), values, {"units": "1"}))
    again = predict(changed, result.weights, result.config)
    np.testing.assert_array_equal(again["outputs"], result.predicted["outputs"])


# ---------------------------------------------------------------- what it gains


@pytest.mark.slow
def test_it_follows_single_trials_where_the_task_says_nothing_of_them():
    ds = create_recording()
    settings = SETTINGS | {"epochs": 200, "method": "auto", "learning_rate": 0.01}
    values = {}
    for observe in ("none", "sampled", "all"):
        scores = nwbrnn.assess(*_pair(nwbrnn.fit(ds, **settings, observe=observe)))
        values[observe] = {score.name: score for score in scores}
    outputs = {name: found["single-trial output R2"].value for name, found in values.items()}
    assert outputs["sampled"] > outputs["none"] + 0.1
    assert outputs["all"] > outputs["none"] + 0.2
    unsampled = [values[name]["single-trial unsampled neurons R2"].value for name in ("none", "sampled")]
    assert unsampled[1] > unsampled[0] + 0.1


def _pair(result):
    return result.recorded, result.predicted


@pytest.mark.slow
def test_by_default_it_does_not_overfit_the_noise_of_its_neurons():
    """Few trials tell little of the weights of many noisy neurons, which make predictions noisy in turn."""
    settings = {"hidden": 40, "sampled": "all", "min_rate": 0, "epochs": 200, "learning_rate": 0.01}
    scores = {"default": [], "no dropout": []}
    for seed in range(6):
        ds = create_recording(seed=seed)
        for name, own in (("default", {}), ("no dropout", {"observe_dropout": 0})):
            result = nwbrnn.fit(ds, **settings, observe="all", **own)
            test = result.recorded["split"].values == "test"
            # the next bin of the observed neurons, whose true rates the recording has, and the outputs
            scores[name].append(
                [
                    compute_r2(result.predicted[key].values[test], ds[key].values[test])
                    for key in ("rates", "outputs")
                ]
            )
    gains = np.mean(scores["default"], axis=0) - np.mean(scores["no dropout"], axis=0)
    assert gains.mean() > 0.02  # 0.055 for rates and 0.089 for outputs on one processor


@pytest.mark.slow
def test_with_dropout_a_lost_neuron_costs_less():
    ds = create_recording()
    settings = SETTINGS | {"epochs": 200, "learning_rate": 0.01, "validation": 0, "sampled": 3}
    losses = []
    for dropout in (0.0, 0.5):
        result = nwbrnn.fit(ds, **settings, observe="sampled", observe_dropout=dropout)
        test = result.recorded["split"].values == "test"
        truth, scale = result.recorded["outputs"].values[test], result.recorded["output_scale"].values
        for unit in np.flatnonzero(result.recorded["observed"].values):
            counts = result.recorded["spike_counts"].astype(float)
            counts[..., unit] = np.nan
            found = predict(result.recorded.assign(spike_counts=counts), result.weights, result.config)
            losses.append(np.square((found["outputs"].values[test] - truth) / scale).mean())
    assert np.mean(losses[3:]) < np.mean(losses[:3])


def test_rates_serve_where_there_are_no_counts():
    result = fit(create_recording(counts=False))
    changed = change(result.recorded, "rates", [3], slice(12, None))
    again = predict(changed, result.weights, result.config)
    np.testing.assert_array_equal(again["hidden"][3, :12], result.predicted["hidden"][3, :12])
    assert (again["hidden"][3, 12] != result.predicted["hidden"][3, 12]).any()


@pytest.mark.parametrize(
    "settings",
    [
        {"network": "gru"},
        {"dynamics_error": "poisson"},
        {"dynamics_error": "poisson", "nonlinearity": "soc"},
        {"nonlinearity": "softplus"},
        {"dynamics_weight": 0.0},
        {"substeps": 3, "learn_tau": True},
        {"excitatory": 0.5, "density": 0.5},
        {"rank": 3, "noise": 0.1},
        {"initial_state": "condition", "precision": "float64"},
    ],
    ids=str,
)
@pytest.mark.slow
def test_it_goes_with_other_settings(settings):
    result = fit(**settings)
    assert result.weights["observer_weights"].shape == (20, 6)
    assert np.abs(result.weights["observer_weights"]).max() > 0
    assert result.history["train_total"][-1] < result.history["train_total"][0]


# ---------------------------------------------------------------- other trials, and disturbances


def test_the_trials_of_the_fit_give_its_predictions(result):
    again = result.predict(create_recording())
    for name in ("outputs", "rates", "hidden"):
        np.testing.assert_array_equal(again[name], result.predicted[name])


def test_inputs_alone_give_the_network_without_neurons(result):
    given = result.recorded["inputs"].values
    expected = predict(result.recorded, *forget_observer(result.weights, result.config))
    np.testing.assert_array_equal(result.predict(given)["outputs"], expected["outputs"])
    assert (expected["outputs"] != result.predicted["outputs"]).any()


def test_a_lost_neuron_is_warned_of_and_not_observed(result):
    observed = result.recorded["unit"].values[result.recorded["observed"].values]
    ds = create_recording()
    counts = ds["spike_counts"].values.astype(float)
    counts[..., observed[0]] = np.nan
    expected = predict(
        result.recorded.assign(spike_counts=(("trial", "time", "unit"), counts)),
        result.weights,
        result.config,
    )
    with pytest.warns(UserWarning, match=names(str(observed[0]))):
        found = result.predict(ds.drop_sel(unit=observed[0]))
    np.testing.assert_array_equal(found["outputs"], expected["outputs"])
    with pytest.raises(SchemaError, match=names("spike_counts", str(observed[0]))):
        result.predict(ds.drop_sel(unit=observed))


def test_disturbances_are_those_of_the_network_without_neurons(result):
    weights, config = forget_observer(result.weights, result.config)
    plain = nwbrnn.FitResult(result.recorded, predict(result.recorded, weights, config), result.runs, config)
    unit = int(result.recorded["unit"].values[result.recorded["sampled"].values][0])
    np.testing.assert_array_equal(result.silence([unit])["outputs"], plain.silence([unit])["outputs"])
    pushed = [one.perturb({unit: 1.0}, size=10.0, at=0.1)["outputs"] for one in (result, plain)]
    np.testing.assert_array_equal(*pushed)
    assert list_effects(result, [unit]) == list_effects(plain, [unit])
    assert probe(result.recorded, result.weights, result.config) == probe(result.recorded, weights, config)


def test_the_settings_are_plain_in_json(result):
    again = nwbrnn.FitConfig.model_validate(json.loads(json.dumps(result.config.model_dump(mode="json"))))
    assert again == result.config
    listed = nwbrnn.FitConfig(observe=(4, 2))
    assert nwbrnn.FitConfig.model_validate(json.loads(listed.model_dump_json())) == listed


def test_neurons_are_read_from_single_trials_by_ridge_regression(result):
    """The readout solves the normal equations of a penalty, over the trials that are not tested."""
    known = result.recorded["split"].values != "test"
    hidden = result.predicted["hidden"].values[known].reshape(-1, 20).astype(float)
    rates = result.recorded["rates"].values[known].reshape(len(hidden), -1).astype(float)
    x, y = hidden - hidden.mean(axis=0), rates - rates.mean(axis=0)
    size, best = x.std(axis=0), np.empty((20, 12))
    observed = result.recorded["observed"].values
    for chosen in (observed, ~observed):  # each with its own penalty
        found = []
        for penalty in PENALTIES:
            gram = (x / size).T @ (x / size) + penalty * len(x) * np.eye(20)
            found.append(np.linalg.solve(gram, (x / size).T @ y[:, chosen]) / size[:, np.newaxis])
        readout = result.weights["rate_readout"][chosen].T
        errors = [np.abs(readout - one).max() / np.abs(one).max() for one in found]
        assert min(errors) < 1e-3
        best[:, chosen] = found[int(np.argmin(errors))]
    offset = rates.mean(axis=0) - hidden.mean(axis=0) @ best
    np.testing.assert_allclose(result.weights["rate_readout_offset"], offset, rtol=1e-3, atol=1e-2)


def test_the_penalty_of_unobserved_neurons_does_not_depend_on_observed_ones(result):
    """With a penalty in common, the spikes that the state has seen would choose one that is too small."""
    recorded = result.recorded
    values = recorded["rates"].values.copy()
    factors = np.random.default_rng(0).uniform(0, 50, (*values.shape[:2], 1))
    values[..., recorded["observed"].values] *= factors
    changed = recorded.assign(rates=(recorded["rates"].dims, values, recorded["rates"].attrs))
    again = fit_rate_readout(changed, result.weights, result.config)["rate_readout"]
    unseen = ~result.recorded["observed"].values
    np.testing.assert_array_equal(again[unseen], result.weights["rate_readout"][unseen])
    assert (again[~unseen] != result.weights["rate_readout"][~unseen]).any()


def test_cosmoothing_is_that_of_the_benchmark(result):
    test = result.recorded["split"].values == "test"
    unsampled = ~result.recorded["sampled"].values
    counts = result.recorded["spike_counts"].values[test][..., unsampled].reshape(-1, unsampled.sum())
    mean = counts.mean(axis=0)
    rates = result.predicted["rates"].values[test][..., unsampled].reshape(counts.shape)
    expected = np.maximum(BIN * rates, 0.05 * mean)
    gain = (scipy.stats.poisson.logpmf(counts, expected) - scipy.stats.poisson.logpmf(counts, mean)).sum()
    scores = {score.name: score for score in nwbrnn.assess(*_pair(result))}
    found = scores["co-smoothing bits per spike"]
    assert found.value == pytest.approx(gain / counts.sum() / np.log(2), rel=1e-5)
    assert "reduced-rank regression" in {rival.name for rival in found.rivals}
    plain = {score.name: score for score in nwbrnn.assess(*_pair(fit(observe="none", epochs=1)))}
    assert np.isnan(plain["co-smoothing bits per spike"].value)


# ---------------------------------------------------------------- forecasts


def test_a_forecast_is_what_the_network_predicts_if_it_sees_no_later_neurons(result):
    found = result.forecast(4)
    recorded, config = result.recorded, result.config
    assert len(found) == 5
    np.testing.assert_allclose(found[0]["outputs"], result.predicted["outputs"], rtol=1e-4, atol=1e-4)
    for ahead in (1, 2, 4):
        for now in (0, 2, 3, 17, N_TIME - 1):
            counts = recorded["spike_counts"].values.astype(float)
            counts[:, max(now - ahead + 1, 0) :] = np.nan
            seen = recorded.assign(spike_counts=(("trial", "time", "unit"), counts))
            expected = predict(seen, result.weights, config)
            for name, scale in (("outputs", 1), ("hidden", 1), ("rates", 50)):
                got, wanted = found[ahead][name].values[:, now], expected[name].values[:, now]
                np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4 * scale, err_msg=name)


def test_one_bin_ahead_is_the_prediction_before_the_correction(result):
    config = result.config.model_copy(update={"observe_read": "prediction"})
    expected = predict(result.recorded, result.weights, config)
    ahead = result.forecast(1)[1]
    for name, scale in (("outputs", 1), ("hidden", 1), ("rates", 50)):
        np.testing.assert_allclose(ahead[name], expected[name], rtol=1e-4, atol=1e-4 * scale, err_msg=name)


def test_beyond_the_trial_a_forecast_is_that_of_the_task(result):
    blind = predict(result.recorded, *forget_observer(result.weights, result.config))
    for one in result.forecast(N_TIME + 1)[N_TIME:]:
        np.testing.assert_allclose(one["outputs"], blind["outputs"], rtol=1e-5, atol=1e-5)


def test_scores_of_forecasts_are_those_of_assess(result):
    scores = score_horizons(result.recorded, result.forecast(2))
    expected = {score.name: score.value for score in nwbrnn.assess(*_pair(result))}
    for name, values in scores.items():
        assert len(values) == 3
        assert values[0] == pytest.approx(expected[name], abs=1e-3), name


def test_the_figure_shows_the_scores(result):
    ax = nwbrnn.plot.forecast(result, horizon=3)
    scores = score_horizons(result.recorded, result.forecast(3))
    np.testing.assert_allclose(ax.lines[0].get_ydata(), scores["single-trial output R2"])
    np.testing.assert_allclose(ax.lines[0].get_xdata(), [0, 20, 40, 60])


def test_there_is_no_forecast_without_neurons():
    result = fit(observe="none", epochs=1)
    with pytest.raises(ConfigError, match=names("observe")):
        result.forecast()
    with pytest.raises(ConfigError, match=names("horizon", "-1")):
        fit(epochs=1).forecast(-1)


# ---------------------------------------------------------------- what is stored


def test_a_stored_fit_whose_observer_does_not_fit_is_refused(result):
    def change_run(**weights):
        run = dataclasses.replace(result.best, weights=dict(result.weights) | weights)
        return dataclasses.replace(result, runs=(run,))

    def change_recorded(recorded):
        return dataclasses.replace(result, recorded=recorded)

    observer, recorded = result.weights["observer_weights"], result.recorded
    assert not list(list_faults(result))
    cases = {
        "observer_weights": change_run(observer_weights=observer[:, 1:]),
        "observed": change_recorded(recorded.assign_coords(observed=~recorded["observed"])),
        "recorded observed": change_recorded(recorded.drop_vars("observed")),
    }
    for name, changed in cases.items():
        assert any(name in fault for fault in list_faults(changed)), name


@pytest.mark.slow
@pytest.mark.cover
def test_a_sweep_varies_it_and_rebuilds_its_fits(tmp_path):
    ds = create_recording()
    grid = nwbrnn.SweepConfig(sampled=(3,), seeds=1, vary={"observe": ("none", "sampled")}, resamples=0)
    base = nwbrnn.FitConfig(**SETTINGS | {"epochs": 2})
    create_folder(tmp_path, [], grid, (nwbrnn.ReadConfig(), base))
    cells = add_data(tmp_path, "a", ds, grid, base)
    run_cells(tmp_path, cells, scheduler=None, n_workers=1, progress=None)
    assert sorted(cell.config.observe for cell in cells) == ["none", "sampled"]
    for cell in cells:
        fit_again, expected = rebuild_fit(tmp_path, cell), nwbrnn.fit(ds, cell.config)
        assert_same_weights(fit_again.weights, expected.weights)
        np.testing.assert_array_equal(fit_again.predicted["outputs"], expected.predicted["outputs"])


def test_an_observer_can_be_added_to_a_network_that_stays_as_it_is():
    ds = create_recording()
    earlier = nwbrnn.fit(ds, **SETTINGS)
    others = ("recurrent_weights", "input_weights", "bias", "output_weights", "output_bias", "initial_state")
    result = nwbrnn.fit(ds, **SETTINGS | {"epochs": 40}, observe="all", start_from=earlier, freeze=others)
    # the other weights are permuted: all neurons are sampled then, which gives some another hidden unit
    np.testing.assert_array_equal(result.weights["output_bias"], earlier.weights["output_bias"])
    assert np.abs(result.weights["observer_weights"]).max() > 0
    blind = predict(result.recorded, *forget_observer(result.weights, result.config))
    np.testing.assert_allclose(blind["outputs"], earlier.predicted["outputs"], atol=1e-4)
    with_neurons, without = (
        nwbrnn.evaluate(result.recorded, one).get("output R2", level="single trials").value
        for one in (result.predicted, blind)
    )
    assert with_neurons > without + 0.05


def test_a_fit_that_begins_at_an_observer_keeps_it_unit_by_unit():
    ds = create_recording()
    earlier = nwbrnn.fit(ds, **SETTINGS, observe=(0, 3, 5))
    again = nwbrnn.fit(
        ds, **SETTINGS | {"epochs": 1, "learning_rate": 1e-9}, observe=(3, 7), start_from=earlier
    )
    hidden = [
        one.recorded["unit"].values[one.recorded["sampled"].values].tolist() for one in (earlier, again)
    ]
    shared = [unit for unit in hidden[0] if unit in hidden[1]]
    rows = [[units.index(unit) for unit in shared] for units in hidden]
    before, after = earlier.weights["observer_weights"], again.weights["observer_weights"]
    np.testing.assert_allclose(after[rows[1], 0], before[rows[0], 1], atol=1e-7)
    np.testing.assert_allclose(after[:, 1], 0, atol=1e-7)


def test_as_a_torch_module_a_network_observes_nothing():
    result = nwbrnn.fit(create_recording(), **SETTINGS, observe="sampled")
    inputs = torch.tensor(result.recorded["inputs"].values)
    blind = predict(result.recorded, *forget_observer(result.weights, result.config))
    outputs = result.to_torch()(inputs).outputs.detach().numpy()
    np.testing.assert_allclose(outputs, blind["outputs"], atol=1e-4)


def test_a_stored_fit_whose_observer_is_not_as_it_says_is_refused(result):
    recorded = result.recorded
    nobody = recorded.assign_coords(observed=("unit", np.zeros(recorded.sizes["unit"], dtype=bool)))
    weights = {name: values for name, values in result.weights.items() if name != "observer_weights"}
    run = dataclasses.replace(result.best, weights=weights)
    blind = dataclasses.replace(result, recorded=nobody, runs=(run,))
    assert any(fault.startswith("observed: ") for fault in list_faults(blind))
    stray = dataclasses.replace(result, config=result.config.model_copy(update={"observe": "none"}))
    assert any("observer_weights" in fault for fault in list_faults(stray))


def test_neurons_of_another_file_are_taken_by_their_ids_with_a_warning(result):
    ds = create_recording()
    other = ds.assign_attrs(source_identifier="another")
    with pytest.warns(UserWarning, match=names("another file")):
        result.predict(other)
    beginning = nwbrnn.fit(ds, **SETTINGS, initial_state="data")
    with pytest.warns(UserWarning, match=names("another file")):
        beginning.predict(other)
    with pytest.raises(ValueError, match=names("freeze", "observer_weights", "start_from")):
        nwbrnn.FitConfig(observe="all", freeze=("observer_weights",))
