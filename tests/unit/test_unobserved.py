"""Units and outputs that were not observed in some bins: nothing that uses a Dataset counts them there."""

import numpy as np
import pytest
import scipy.special
import torch
import xarray as xr

import nwbrnn
from nwbrnn.config import FitConfig
from nwbrnn.errors import ConfigError, ExportError, MissingDataError
from nwbrnn.evaluation import compute_r2, compute_skill, compute_vaf, compute_weighted_r2, fit_ridge
from nwbrnn.evaluation.baselines import predict_baselines
from nwbrnn.losses import Outcome, compute_loss_terms
from nwbrnn.models import NETWORKS
from nwbrnn.prediction.observations import count_observed
from nwbrnn.prediction.perturb import find_components
from nwbrnn.preprocessing import (
    average_conditions,
    find_conditions,
    prepare,
    select_units,
    smooth_causally,
    smooth_counts,
)
from nwbrnn.training.batches import create_batch
from nwbrnn.training.least_squares import LinearProblem, create_targets, run_closed_loop, solve_forced
from tests.messages import names

N_DIRECTIONS, N_REPEATS, N_TIME, N_UNITS, BIN = 4, 10, 24, 8, 0.04
SETTINGS = {"hidden": 16, "sampled": 4, "min_rate": 0, "epochs": 4, "validation": 0.1}
CPU = torch.device("cpu")


def create_recording(*, seed=0, n_units=N_UNITS):
    """Return trials of reaches, in which every unit and output was observed."""
    rng = np.random.default_rng(seed)
    reach = np.tile(np.arange(N_DIRECTIONS), N_REPEATS)
    angle = 2 * np.pi * reach / N_DIRECTIONS
    course = np.sin(np.linspace(0, 3, N_TIME))[:, np.newaxis]
    state = np.stack([np.cos(angle), np.sin(angle)], axis=1)[:, np.newaxis] * course
    rates = np.maximum(20 + 12 * state @ rng.standard_normal((2, n_units)), 1)
    variables = {
        "outputs": state @ rng.standard_normal((2, 3)) + 0.1 * rng.standard_normal((*state.shape[:2], 3)),
        "inputs": state,
        "spike_counts": rng.poisson(BIN * rates),
    }
    return nwbrnn.create_dataset(variables, {"condition": reach.astype(str)}, bin_size=BIN)


def lose(ds, lost, *, name="spike_counts"):
    """Return a Dataset in which channels were not observed: the index of trials and bins by channel."""
    values = ds[name].values.astype(float)
    for channel, index in lost.items():
        values[(*index, channel)] = np.nan
    return nwbrnn.validate(ds.assign({name: (ds[name].dims, values, ds[name].attrs)}))


ALL = (slice(None), slice(None))
EVERY = slice(None)
LOST = {0: (slice(0, None, 2), EVERY), 1: (slice(20, None), EVERY), 2: (EVERY, slice(8, 12))}
LOST_OUTPUTS = {1: (slice(0, None, 3), slice(None)), 2: (slice(None), slice(0, 5))}


@pytest.fixture(scope="module")
def partial():
    return lose(lose(create_recording(), LOST), LOST_OUTPUTS, name="outputs")


# ------------------------------------------------------------------ preprocessing


def test_averages_are_those_of_the_trials_in_which_a_unit_was_observed(partial):
    averages = average_conditions(partial)
    assert averages["mask"].values.all()
    for row, condition in enumerate(averages["condition"].values):
        trials = partial.isel(trial=partial["condition"].values == condition)
        for name in ("spike_counts", "outputs"):
            values = trials[name].values
            for channel in range(values.shape[2]):
                for t in range(N_TIME):
                    seen = [v for v in values[:, t, channel] if not np.isnan(v)]
                    expected = sum(seen) / len(seen) if seen else np.nan
                    assert averages[name].values[row, t, channel] == pytest.approx(expected, nan_ok=True)


def test_smoothing_does_not_see_what_was_not_observed():
    counts = np.random.default_rng(0).poisson(2, (2, 30, 2))
    seen = np.ones(counts.shape, dtype=bool)
    seen[0, 10:15, 1] = False
    whole = np.ones((2, 30), dtype=bool)
    for smooth, width in ((smooth_counts, "sigma"), (smooth_causally, "tau")):
        given = {"bin_size": 0.02, width: 0.05}
        found = smooth(counts, valid=seen, **given)
        np.testing.assert_array_equal(found[..., 0], smooth(counts, valid=whole, **given)[..., 0])
        alone = smooth(counts[..., 1:], valid=seen[..., 1], **given)
        np.testing.assert_array_equal(found[..., 1:], alone)
        np.testing.assert_array_equal(np.isnan(found), ~seen)


def test_rates_of_units_are_those_of_their_own_bins():
    counts = {0: ALL, 1: (slice(0, 20), slice(None))}
    ds = lose(create_recording(), counts)
    ds = ds.assign(rates=(ds["spike_counts"].dims, (ds["spike_counts"] / BIN).values, {"units": "Hz"}))
    slow = ds["rates"].values.copy()
    slow[20:, :, 1] = 3.0  # twice the limit in the half that was observed
    slow[..., 2] = 1.0
    kept = select_units(ds.assign(rates=(ds["rates"].dims, slow)), min_rate=1.5)
    assert kept["unit"].values.tolist() == [1, 3, 4, 5, 6, 7]
    assert '"1 of 8", "reason": "slower' in kept.attrs["choices"]
    assert '"1 of 8", "reason": "not observed' in kept.attrs["choices"]
    nothing = ds.assign(rates=ds["rates"].copy(data=np.full(slow.shape, np.nan)))
    with pytest.raises(ConfigError, match=names("rates", 8, "observed")):
        select_units(nothing)


def test_scales_are_those_of_the_observed_bins(partial):
    ds = prepare(partial, FitConfig(**SETTINGS))
    train = (ds["split"].values == "train") & ~np.isnan(partial["outputs"].values[:, 12, 1])
    for output, rows in ((0, ds["split"].values == "train"), (1, train)):
        values = np.abs(partial["outputs"].values[rows][..., output])
        assert ds["output_scale"].values[output] == np.percentile(values, 95)
    rates = average_conditions(ds.isel(trial=ds["split"].values == "train"))["rates"].values
    for unit in range(N_UNITS):
        seen = rates[..., unit][~np.isnan(rates[..., unit])].astype(float)
        assert ds["rate_offset"].values[unit] == pytest.approx(seen.mean())
        assert ds["rate_scale"].values[unit] == pytest.approx(np.ptp(seen) + 5)


def test_an_output_that_was_never_observed_is_refused():
    ds = lose(create_recording(), {1: ALL}, name="outputs")
    with pytest.raises(ConfigError, match=names("outputs", "output_1", "observed")):
        prepare(ds, FitConfig(**SETTINGS))


# ------------------------------------------------------------------ training


KINDS = {
    "auto": {},
    "gradient": {"method": "gradient"},
    "counts": {"dynamics_error": "poisson", "method": "gradient"},
    "derivative": {"dynamics_of": "derivative"},
    "single trials": {"average": False},
    "observer": {"observe": "sampled"},
    "initial states": {"initial_state": "data"},
}


@pytest.mark.slow
@pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS.keys())
def test_a_fit_with_a_unit_that_was_never_observed_is_the_fit_without_it(changes):
    ds = create_recording(n_units=N_UNITS + 1)
    without = nwbrnn.fit(ds.drop_isel(unit=3), **SETTINGS | changes)
    masked = nwbrnn.fit(lose(ds, {3: ALL}), **SETTINGS | changes)
    assert masked.recorded["unit"].values.tolist() == without.recorded["unit"].values.tolist()
    for name, values in without.weights.items():
        np.testing.assert_array_equal(masked.weights[name], values, err_msg=name)
    assert masked.scores.to_dict(masked.recorded) == without.scores.to_dict(without.recorded)
    scores = [nwbrnn.assess(one.recorded, one.predicted, n_resamples=3) for one in (masked, without)]
    for first, second in zip(*scores, strict=True):
        for name in ("value", "known_average", "noise_ceiling", "reliability", "chance", "low"):
            found, expected = getattr(first, name), getattr(second, name)
            assert found == pytest.approx(expected, rel=1e-5, abs=1e-5, nan_ok=True), (first.name, name)


@pytest.mark.slow
@pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS.keys())
def test_counts_that_could_be_missing_change_nothing_if_none_is(changes):
    ds = create_recording()
    floats = ds.assign(spike_counts=ds["spike_counts"].astype(float))
    fits = [nwbrnn.fit(one, **SETTINGS | changes) for one in (ds, floats)]
    for name, values in fits[0].weights.items():
        np.testing.assert_array_equal(fits[1].weights[name], values, err_msg=name)


def compute_loss(ds, changes):
    """Return a network, and a function that computes its loss on the training trials."""
    config = FitConfig(**SETTINGS | changes | {"precision": "float64", "rate_penalty": 1e-3})
    ds = prepare(ds, config)
    batch = create_batch(ds, "train", config, device=CPU)
    model = NETWORKS["rate"](
        (ds.sizes["input"], config.hidden, ds.sizes["output"]),
        config,
        bin_size=BIN,
        n_conditions=len(find_conditions(ds)),
        n_observed=count_observed(ds, config),
    )
    if batch.seen is not None:  # the gains begin at 0
        with torch.no_grad():
            model.observer_weights.normal_(std=0.1, generator=torch.Generator().manual_seed(0))

    def compute():
        if batch.seen is None:
            outputs, rates = model(batch.inputs, start=batch.start)
        else:
            outputs, tracked = model.track(batch.inputs, batch.seen, start=batch.start)
            rates = tracked.predicted
        return compute_loss_terms(Outcome(outputs, rates, batch.targets), config)[1]

    return model, compute


LOSSES = {name: KINDS[name] for name in ("gradient", "counts", "derivative", "single trials", "observer")}


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "torch"])
@pytest.mark.parametrize("changes", LOSSES.values(), ids=LOSSES.keys())
def test_gradient_is_that_of_finite_differences(partial, changes, compiled, monkeypatch):
    if not compiled:
        monkeypatch.setattr("nwbrnn.models.scan.is_compiled", lambda values: False)
        monkeypatch.setattr("nwbrnn.models.observer.is_compiled", lambda values: False)
    model, compute = compute_loss(partial, changes)
    compute().backward()
    generator = torch.Generator().manual_seed(1)
    step = 1e-5
    for name, parameter in model.named_parameters():
        if parameter.grad is None:
            continue
        direction = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
        found = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter.add_(sign * step * direction)
                found.append(float(compute()))
                parameter.sub_(sign * step * direction)
        slope = float((parameter.grad * direction).sum())
        assert slope == pytest.approx((found[0] - found[1]) / (2 * step), rel=1e-5, abs=1e-9), name


def test_loss_is_that_of_the_observed_values(partial):
    config = FitConfig(**SETTINGS | {"sampled": "all"})
    ds = prepare(partial, config)
    batch = create_batch(ds, "train", config, device=CPU)
    rng = np.random.default_rng(0)
    averages = average_conditions(ds.isel(trial=ds["split"].values == "train"))
    outputs = rng.standard_normal(batch.targets.outputs.shape)
    rates = rng.standard_normal((*outputs.shape[:2], config.hidden))
    tensors = [torch.from_numpy(values.astype(np.float32)) for values in (outputs, rates)]
    terms, _ = compute_loss_terms(Outcome(*tensors, batch.targets), config)
    normal = (averages["rates"].values - ds["rate_offset"].values) / ds["rate_scale"].values
    scaled = averages["outputs"].values / ds["output_scale"].values
    for name, guess, target in (("output", outputs, scaled), ("dynamics", rates[..., :N_UNITS], normal)):
        error = np.nansum((guess - target) ** 2)
        total = sum(np.nansum((y - np.nanmean(y)) ** 2) for y in np.moveaxis(target, 2, 0))
        assert np.isnan(target).any()
        assert float(terms[name]) == pytest.approx(error / total, rel=1e-5)


def test_least_squares_gives_no_weight_to_rows_without_a_target():
    rng = np.random.default_rng(0)
    n_time, n_trials, n_hidden = 40, 6, 10
    seen = np.ones((n_time, n_trials, 4), dtype=bool)
    seen[:, :3, 1] = seen[10:20, 4, 1] = seen[30:, :, 2] = False
    known = np.ones((n_time, n_trials, 3), dtype=bool)
    known[:, 2, 0] = known[:7, :, 1] = False
    sampled, outputs = rng.uniform(-0.8, 0.8, seen.shape), rng.standard_normal(known.shape)
    start = {
        "recurrent_weights": rng.standard_normal((n_hidden, n_hidden)) / 4,
        "input_weights": rng.standard_normal((n_hidden, 2)),
        "bias": np.zeros(n_hidden),
        "initial_state": np.zeros(n_hidden),
    }

    def create(sampled, outputs):
        mask = np.ones((n_time, n_trials), dtype=bool)
        inputs = np.random.default_rng(1).standard_normal((n_time, n_trials, 2))
        alpha = np.full(n_hidden, 0.25)
        return LinearProblem(inputs, sampled, outputs, mask, seen, known, alpha, np.tanh, np.arctanh)

    problem = create(np.where(seen, sampled, 0), np.where(known, outputs, 0))
    rates, currents, initial = create_targets(problem, start)
    regression = solve_forced(problem, rates, currents, ridge=2.0)
    features = np.concatenate([rates[:-1], problem.inputs, np.ones((n_time, n_trials, 1))], axis=2)
    for unit in range(n_hidden):
        own = seen[..., unit] if unit < 4 else problem.mask
        rows = own & np.concatenate([np.ones_like(own[:1]), own[:-1]])
        x, y = features[rows], currents[rows][:, unit]
        ridge = 2.0 * own.mean() * np.eye(x.shape[1])
        expected = np.linalg.solve(x.T @ x + ridge, x.T @ y)
        np.testing.assert_allclose(regression.coefficients[:, unit], expected, rtol=1e-7, atol=1e-9)
    spoiled = create(np.where(seen, sampled, 0.9), np.where(known, outputs, 1e6))
    np.testing.assert_array_equal(create_targets(spoiled, start)[0], rates)
    again = [run_closed_loop(one, regression, currents, initial) for one in (problem, spoiled)]
    np.testing.assert_array_equal(again[0].coefficients, again[1].coefficients)
    changed = currents.copy()
    changed[:, :3, 1] = 1e3
    moved = run_closed_loop(problem, regression, changed, initial)
    np.testing.assert_array_equal(moved.coefficients[:, 0], again[0].coefficients[:, 0])


def test_an_unobserved_neuron_corrects_nothing(partial):
    config = FitConfig(**SETTINGS | {"observe": "all"})
    ds = prepare(partial, config)
    seen = create_batch(ds, "train", config, device=CPU).seen
    trials = ds.isel(trial=ds["split"].values == "train")
    counted = ~np.isnan(trials["spike_counts"].values)
    assert not counted.all()
    np.testing.assert_array_equal(seen.counted.numpy(), counted)
    assert (seen.values.numpy()[~counted] == 0).all()
    model, _ = compute_loss(partial, {"observe": "all"})
    batch = create_batch(ds, "train", config.model_copy(update={"precision": "float64"}), device=CPU)
    spoiled = batch.seen.values.clone()
    spoiled[batch.seen.counted == 0] = 1e6
    other = type(batch.seen)(spoiled, batch.seen.counted, batch.seen.units)
    for first, second in zip(
        model.track(batch.inputs, batch.seen)[1], model.track(batch.inputs, other)[1], strict=True
    ):
        assert (first is None and second is None) or torch.equal(first, second)


# ------------------------------------------------------------------ scores


def test_scores_of_arrays_by_hand():
    nan = np.nan
    target = np.array([[1.0, 2.0], [3.0, nan], [5.0, 6.0], [nan, 4.0]])
    guess = np.array([[1.0, 3.0], [2.0, 7.0], [5.0, 6.0], [9.0, nan]])
    # first: residuals 0, 1, 0 about a mean of 3; second: 1 and 0 about a mean of 4
    np.testing.assert_allclose(compute_r2(guess, target), [1 - 1 / 8, 1 - 1 / 8])
    assert compute_weighted_r2(guess, target) == pytest.approx(1 - 2 / 16)
    # differences 0, 1, 0 and -1, 0: 2/3 and 1/2 about their means
    assert compute_vaf(guess, target) == pytest.approx(1 - (2 / 3 + 1 / 2) / 16)
    reference = np.array([[0.0, 1.0], [2.0, nan], [nan, 5.0]])
    assert compute_skill(guess, target, reference) == pytest.approx(1 - (1 / 3 + 1 / 2) / (1 + 4))
    nothing = np.full_like(target, nan)
    assert np.isnan(compute_r2(nothing, target)).all()
    assert np.isnan([f(nothing, target) for f in (compute_weighted_r2, compute_vaf)]).all()
    assert np.isnan(compute_skill(nothing, target, reference))


def test_ridge_of_targets_that_were_observed_in_other_samples():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, 20, 3))
    y = x @ rng.standard_normal((3, 4)) + rng.standard_normal((5, 20, 4))
    y[2:, :, 1], y[:, 5:9, 2] = np.nan, np.nan
    found = fit_ridge(list(zip(x, y, strict=True)))
    for columns in ([0, 3], [1], [2]):
        rows = ~np.isnan(y[..., columns[0]])
        folds = [(a[r], b[r][:, columns]) for a, b, r in zip(x, y, rows, strict=True) if r.any()]
        alone = fit_ridge(folds)
        np.testing.assert_allclose(found.weights[:, columns], alone.weights, rtol=1e-9)
        np.testing.assert_allclose(found.offset[columns], alone.offset, rtol=1e-9)
    y[..., 3] = np.nan
    assert np.isnan(fit_ridge(list(zip(x, y, strict=True))).offset).tolist() == [False] * 3 + [True]


def predict_something(ds, *, seed=0):
    """Return a prediction that differs from trial to trial."""
    rng = np.random.default_rng(seed)
    noisy = {
        name: (ds[name].dims, np.abs(np.nan_to_num(ds[name].values) + rng.standard_normal(ds[name].shape)))
        for name in ("outputs", "rates")
    }
    hidden = (("trial", "time", "hidden_unit"), rng.standard_normal((*ds["mask"].shape, 5)))
    return ds.drop_vars("spike_counts").assign(noisy | {"hidden": hidden})


@pytest.mark.slow
def test_scores_of_a_unit_are_those_of_the_trials_in_which_it_was_observed():
    config = FitConfig(**SETTINGS | {"sampled": 1, "seed": 3})
    whole = prepare(create_recording(), config)
    predicted = predict_something(whole)
    test, rows = whole["split"].values == "test", np.arange(whole.sizes["trial"])
    unit = int(np.flatnonzero(~whole["sampled"].values)[0])
    kept = ~test | (rows < 20)  # of the test trials, the unit was observed in the first half only
    assert 0 < (test & kept).sum() < test.sum()
    rates = whole["rates"].values.copy()
    rates[~kept, :, unit] = np.nan
    counts = whole["spike_counts"].values.astype(float)
    counts[~kept, :, unit] = np.nan
    dims = whole["rates"].dims
    part = nwbrnn.validate(
        whole.assign(rates=(dims, rates, {"units": "Hz"}), spike_counts=(dims, counts, {"units": "1"}))
    )
    alone = [ds.isel(unit=[unit], trial=kept) for ds in (whole, predicted)]
    masked = [part.isel(unit=[unit]), predicted.isel(unit=[unit])]
    first, second = nwbrnn.evaluate(*masked), nwbrnn.evaluate(*alone)
    np.testing.assert_allclose(first.unit_r2, second.unit_r2, rtol=1e-6)
    np.testing.assert_allclose(first.unit_known_average, second.unit_known_average, rtol=1e-6)
    scores = [nwbrnn.assess(*pair, n_resamples=0) for pair in (masked, alone)]
    for name in ("unsampled neurons R2", "single-trial unsampled neurons R2", "PSTH R2"):
        one, other = (found.get(name) for found in scores)
        assert np.isfinite(one.value)
        assert one.value == pytest.approx(other.value, rel=1e-6), name
        assert one.known_average == pytest.approx(other.known_average, rel=1e-6), name
        # s² is that of all trials in which the unit was observed, in both
        assert one.noise_ceiling == pytest.approx(other.noise_ceiling, rel=1e-6), name
    bits = scores[0].get("unsampled neurons bits per spike").value
    assert bits == pytest.approx(scores[1].get("unsampled neurons bits per spike").value, rel=1e-6)
    floor = counts[~test & kept][..., unit].mean()
    expected = np.maximum(predicted["rates"].values[test & kept][..., unit], 0.05 * floor / BIN) * BIN
    k = counts[test & kept][..., unit]
    gain = (scipy.special.xlogy(k, expected) - expected - scipy.special.xlogy(k, floor) + floor).sum()
    assert bits == pytest.approx(gain / k.sum() / np.log(2), rel=1e-6)


@pytest.mark.slow
def test_every_score_and_baseline_is_finite_if_some_values_are_missing(partial):
    whole = nwbrnn.fit(create_recording(), **SETTINGS)
    result = nwbrnn.fit(partial, **SETTINGS)
    found, known = (nwbrnn.assess(one.recorded, one.predicted, n_resamples=5) for one in (result, whole))
    for one, other in zip(found, known, strict=True):
        for name in ("value", "known_average", "noise_ceiling", "reliability", "chance", "low"):
            assert np.isfinite(getattr(one, name)) == np.isfinite(getattr(other, name)), (one.name, name)
        assert [rival.name for rival in one.rivals] == [rival.name for rival in other.rivals]


def test_baselines_learn_from_observed_values_only(partial):
    ds = prepare(partial, FitConfig(**SETTINGS))
    spoiled = ds.copy(deep=True)
    for name in ("outputs", "rates"):
        spoiled[name].values[np.isnan(spoiled[name].values)] = 1e3
    found, wrong = predict_baselines(ds, n_hidden=8), predict_baselines(spoiled, n_hidden=8)
    truth = create_recording()["outputs"].values[ds["split"].values == "test"]
    for name in found:
        if not np.isnan(found[name]["outputs"].values).all():
            errors = (np.square(one[name]["outputs"].values - truth) for one in (found, wrong))
            error, other = map(np.nanmean, errors)  # nobody knows an output that was never observed
            assert error < 0.6 * truth.var() < other, name


# ------------------------------------------------------------------ what comes after


def test_a_kick_moves_only_units_that_were_always_observed(partial):
    ds = prepare(lose(partial, {5: (partial["condition"].values == "1", slice(None))}), FitConfig(**SETTINGS))
    axes, deviations = find_components(ds, 2)
    assert (axes[5] == 0).all()
    assert (axes[2] == 0).all()  # not observed in some bins of every trial
    assert np.isfinite(axes).all()
    assert (deviations > 0).all()


def test_formats_without_a_place_for_it_refuse_it(partial, tmp_path):
    teacher, arrays = tmp_path / "teacher.nwb", tmp_path / "data.h5"
    with pytest.raises(ExportError, match=names(teacher, "spike_counts", "outputs")):
        nwbrnn.write_teacher(partial, teacher)
    ds = prepare(partial, FitConfig(**SETTINGS))
    with pytest.raises(MissingDataError, match=names("spike_counts", 3, "units")):
        nwbrnn.write_lfads(ds, arrays)
    assert not list(tmp_path.iterdir())


def test_a_dataset_comes_back_from_netcdf(partial, tmp_path):
    nwbrnn.write_dataset(partial, tmp_path / "partial.nc")
    xr.testing.assert_identical(nwbrnn.read_dataset(tmp_path / "partial.nc"), partial)
