"""The baselines: what they are fitted to, what they see, and that each finds what it is made to find."""

from dataclasses import replace

import numpy as np
import pytest

from nwbrnn.dataset import create_dataset
from nwbrnn.evaluation import (
    BASELINES,
    assess,
    baselines,
    compare_baselines,
    evaluate,
    get_baseline,
    predict_baselines,
)
from nwbrnn.evaluation.baselines import AVERAGE, GATED, _fill, run_untrained
from nwbrnn.evaluation.ridge import PENALTIES, fit_ridge
from nwbrnn.evaluation.scores import Rival, Score
from nwbrnn.job import fit, predict_gated
from nwbrnn.schema import SPLIT_TYPE

N_CONDITIONS, N_TRIALS, N_TIME, N_UNITS, N_OUTPUTS = 8, 10, 24, 12, 3
ANGLES = np.arange(N_CONDITIONS) * 2 * np.pi / N_CONDITIONS
BY_TASK = ("condition average", "ridge on the task", "untrained network")
DECODING = ("Wiener filter", "condition average + Wiener filter", "reduced-rank regression")


def create_recorded(*, noise=0.5, seed=0, held_out=(), n_latent=3):
    """Reaches whose courses are two harmonics of the direction, with noise of few dimensions."""
    rng = np.random.default_rng(seed)
    condition = np.repeat(np.arange(N_CONDITIONS), N_TRIALS)
    harmonics = np.stack([np.cos(ANGLES), np.sin(ANGLES), np.cos(2 * ANGLES), np.sin(2 * ANGLES)])
    base = rng.standard_normal((4, N_TIME, N_UNITS + N_OUTPUTS))
    truth = np.einsum("hc,htk->ctk", harmonics, base)[condition]
    latent = noise * rng.standard_normal((len(condition), N_TIME, n_latent))
    rates = truth[..., :N_UNITS] + latent @ rng.standard_normal((n_latent, N_UNITS))
    drive = rng.standard_normal((n_latent, N_OUTPUTS))
    outputs = truth[..., N_UNITS:] + latent @ drive
    outputs[:, 1:] += 0.5 * latent[:, :-1] @ drive  # also by what was a bin before
    inputs = np.zeros((len(condition), N_TIME, 3))
    inputs[:, 4:, 0], inputs[:, 4:, 1] = (f(ANGLES[condition])[:, None] for f in (np.cos, np.sin))
    inputs[:, 8:, 2] = 1
    split = np.where(np.arange(len(condition)) % N_TRIALS < 3, "test", "train")
    if held_out:
        split = np.where(np.isin(condition, held_out), "test", "train")
    coords = {
        "condition": condition.astype(str),
        "split": split,
        "sampled": np.arange(N_UNITS) < 5,
        "rate_scale": np.full(N_UNITS, 20.0),
        "rate_offset": np.full(N_UNITS, 30.0),
        "input": np.array(["direction_cos", "direction_sin", "go_cue"]),
    }
    arrays = {"outputs": outputs, "rates": 30 + 3 * rates, "inputs": inputs}
    return create_dataset(arrays, coords, bin_size=0.05)


def score(predicted, recorded, name="outputs", channels=slice(None)):
    tests = recorded.isel(trial=recorded["split"].values == "test")
    y, z = (ds[name].values[..., channels].astype(float) for ds in (tests, predicted))
    return 1 - np.square(y - z).sum() / np.square(y - y.mean(axis=(0, 1))).sum()


# ------------------------------------------------------------------ what they see


def scramble(recorded, names, rows, seed=9):
    rng = np.random.default_rng(seed)
    changed = {}
    for name in names:
        values = recorded[name].values.copy()
        values[rows] = 100 * rng.standard_normal(values[rows].shape)
        changed[name] = (recorded[name].dims, values, recorded[name].attrs)
    return recorded.assign(changed)


def test_no_baseline_sees_outputs_of_test_trials():
    recorded = create_recorded()
    rows = np.flatnonzero(recorded["split"].values == "test")
    before, after = (
        predict_baselines(ds, n_hidden=20) for ds in (recorded, scramble(recorded, ("outputs",), rows))
    )
    assert list(before) == [baseline.name for baseline in BASELINES]
    for name in before:
        assert before[name].identical(after[name]), name


def test_baselines_by_the_task_do_not_see_neurons_of_test_trials_either():
    recorded = create_recorded()
    rows = np.flatnonzero(recorded["split"].values == "test")
    before, after = (
        predict_baselines(ds, n_hidden=20)
        for ds in (recorded, scramble(recorded, ("outputs", "rates"), rows))
    )
    for name in BY_TASK:
        assert before[name].identical(after[name]), name
    for name in DECODING:
        assert not before[name].identical(after[name]), name


def test_decoders_are_not_fitted_to_neurons_of_test_trials():
    recorded = create_recorded()
    rows = np.flatnonzero(recorded["split"].values == "test")
    changed = scramble(recorded, ("outputs", "rates"), rows[1:])
    before, after = (predict_baselines(ds, n_hidden=20) for ds in (recorded, changed))
    for name in DECODING:
        for kind in ("outputs", "rates"):
            first, second = (ds[name][kind].values[0] for ds in (before, after))
            np.testing.assert_array_equal(first, second)


def test_reduced_rank_regression_does_not_see_unsampled_neurons():
    recorded = create_recorded()
    hidden = recorded["rates"].values.copy()
    hidden[np.ix_(recorded["split"].values == "test", np.arange(N_TIME), ~recorded["sampled"].values)] = -1e3
    changed = recorded.assign(rates=(recorded["rates"].dims, hidden, recorded["rates"].attrs))
    first, second = (predict_baselines(ds)["reduced-rank regression"] for ds in (recorded, changed))
    assert first.identical(second)


def test_only_what_a_baseline_uses_makes_it_answer_again(monkeypatch):
    asked = []

    def spy(one):
        return replace(one, predict=lambda trials: asked.append(one.name) or one.predict(trials))

    spied = [spy(one) for one in BASELINES if one.name != "untrained network"]
    monkeypatch.setattr("nwbrnn.evaluation.baselines.BASELINES", spied)
    recorded = create_recorded(seed=5)
    first = predict_baselines(recorded)
    others = recorded.assign_coords(sampled=("unit", np.arange(N_UNITS) >= 5))
    found = predict_baselines(others)
    wider = predict_baselines(recorded.assign_attrs(bin_size=0.1))
    assert asked == [*first, "reduced-rank regression", *first]
    for name in list(first)[:-1]:
        np.testing.assert_array_equal(found[name]["outputs"], first[name]["outputs"])
        np.testing.assert_array_equal(found[name]["sampled"], others["sampled"])
    unknown = np.isnan(found["reduced-rank regression"]["rates"].values).all(axis=(0, 1))
    np.testing.assert_array_equal(unknown, others["sampled"])
    assert not wider["Wiener filter"].identical(first["Wiener filter"])


def test_predictions_that_take_too_much_memory_are_not_kept(monkeypatch):
    recorded = create_recorded(seed=6)
    kept = predict_baselines(recorded)
    size = kept["condition average"]["rates"].nbytes + kept["condition average"]["outputs"].nbytes
    monkeypatch.setattr(baselines, "MAX_KEPT", 2 * size)
    predict_baselines(recorded)
    held = [values.nbytes for found in baselines._answers.values() for values in found.values()]
    assert 0 < sum(held) <= 2 * size
    monkeypatch.setattr(baselines, "MAX_KEPT", 0)
    again = predict_baselines(recorded)
    assert not baselines._answers
    assert all(again[name].identical(kept[name]) for name in kept)


def test_outputs_that_the_network_is_not_shown_are_not_used():
    recorded = create_recorded()
    split = recorded["split"].values.astype(SPLIT_TYPE)
    split[(recorded["condition"].values == "2") & (split == "train")] = "dynamics_only"
    recorded = recorded.assign_coords(split=("trial", split))
    changed = scramble(recorded, ("outputs",), np.flatnonzero(split == "dynamics_only"))
    before, after = (predict_baselines(ds, n_hidden=20) for ds in (recorded, changed))
    for name in before:
        assert before[name].identical(after[name]), name
    third = (recorded["condition"].values == "2")[split == "test"]
    assert np.isnan(before[AVERAGE]["outputs"].values[third]).all()
    assert np.isfinite(before[AVERAGE]["outputs"].values[~third]).all()


def test_what_decodes_is_said():
    assert [one.name for one in BASELINES if one.decodes] == list(DECODING)
    assert get_baseline("Wiener filter").label == "Wiener filter (decoding)"
    assert get_baseline("another model") is None


# ------------------------------------------------------------------ what they find


def test_the_average_scores_what_evaluate_says_of_it():
    recorded = create_recorded()
    fitted = recorded.assign(hidden=(("trial", "time", "hidden_unit"), recorded["rates"].values))
    known = {s.name: s.known_average for s in evaluate(recorded, fitted).summary if "aver" in s.level}
    scores = {s.name: s for s in assess(recorded, fitted)}
    for name in ("output R2", "sampled neurons R2", "unsampled neurons R2"):
        assert scores[name].known_average == pytest.approx(known[name])
        assert scores[name].rivals[0].name == AVERAGE


def test_harmonics_tell_of_a_direction_that_was_never_seen():
    recorded = create_recorded(noise=0.0, held_out=(3,))
    predicted = predict_baselines(recorded, n_hidden=20)
    assert score(predicted[BY_TASK[1]], recorded) > 0.98
    assert np.isnan(predicted[AVERAGE]["outputs"].values).all()
    assert not predicted[AVERAGE]["mask"].values.any()


def test_without_inputs_the_conditions_are_the_task():
    recorded = create_recorded(noise=0.0)
    recorded = recorded.assign(inputs=recorded["inputs"] * 0)
    recorded["inputs"].attrs["units"] = "1"
    assert score(predict_baselines(recorded)[BY_TASK[1]], recorded) > 0.98


def test_a_wiener_filter_finds_a_filter_and_residuals_find_what_differs_between_trials():
    recorded = create_recorded(noise=1.0)
    predicted = predict_baselines(recorded)
    assert score(predicted["condition average + Wiener filter"], recorded) > 0.95
    assert (
        score(predicted["condition average + Wiener filter"], recorded)
        > score(predicted[AVERAGE], recorded) + 0.2
    )
    lagged = recorded["rates"].values.astype(float) - 30
    outputs = np.stack([lagged[..., 0], lagged[..., 1]], axis=2)
    outputs[:, 2:, 0] += lagged[:, :-2, 3]
    outputs = np.concatenate([outputs, outputs[..., :1]], axis=2)
    linear = recorded.assign(outputs=(recorded["outputs"].dims, outputs, recorded["outputs"].attrs))
    assert score(predict_baselines(linear)["Wiener filter"], linear) > 0.98


def test_sampled_neurons_tell_of_unsampled_ones():
    recorded = create_recorded(noise=1.0)
    truth = recorded["rates"].values.astype(float)
    mixed = truth[..., :5] @ np.random.default_rng(1).standard_normal((5, 2)) @ np.ones((2, N_UNITS))
    rates = np.where(recorded["sampled"].values, truth, mixed)
    recorded = recorded.assign(rates=(recorded["rates"].dims, rates, recorded["rates"].attrs))
    predicted = predict_baselines(recorded)["reduced-rank regression"]
    assert score(predicted, recorded, "rates", ~recorded["sampled"].values) > 0.99
    assert np.isnan(predicted["rates"].values[..., :5]).all()


def test_an_untrained_network_obeys_its_equation():
    inputs = np.random.default_rng(0).standard_normal((2, 5, 3))
    rates = run_untrained(inputs, n_hidden=4, bin_size=0.02)
    rng = np.random.default_rng(0)
    recurrent = 0.25 * rng.standard_normal((4, 4))
    entry = rng.standard_normal((3, 4)) / np.sqrt(3)
    state = np.zeros(4)
    for u in inputs[1]:  # the exact solution of dx/dt = (-x + drive) / 0.1 s with a constant drive
        drive = recurrent @ np.tanh(state) + u @ entry
        state = drive + (state - drive) * np.exp(-0.2)
    np.testing.assert_allclose(rates[1, -1], np.tanh(state))


def test_two_trials_are_enough_for_every_baseline():
    recorded = create_recorded()
    rows = [0, 5, 2 * N_TRIALS, 2 * N_TRIALS + 4]
    for baseline in predict_baselines(recorded.isel(trial=rows), n_hidden=5).values():
        assert np.isfinite(baseline["outputs"].values).any() or np.isfinite(baseline["rates"].values).any()
    assert predict_baselines(recorded.isel(trial=rows[:1])) == {}


# ------------------------------------------------------------------ ridge regression


def create_samples(n=200, n_features=6, n_targets=4, seed=0):
    rng = np.random.default_rng(seed)
    x = 3 + rng.standard_normal((n, n_features)) * np.arange(1, n_features + 1)
    y = x @ rng.standard_normal((n_features, n_targets)) + 2 + rng.standard_normal((n, n_targets))
    return [(x[i::4], y[i::4]) for i in range(4)]


@pytest.mark.parametrize("n_targets", [1, 4])  # few, for which each penalty is solved, and many
@pytest.mark.parametrize("twice", [False, True])
def test_ridge_is_that_of_scikit_learn(n_targets, twice):
    linear_model = pytest.importorskip("sklearn.linear_model")
    folds = create_samples(n_targets=n_targets)
    if twice:  # features of lower rank
        folds = [(np.hstack([x, x[:, :2]]), y) for x, y in folds]
    found = fit_ridge(folds)
    x, y = (np.concatenate(parts) for parts in zip(*folds, strict=True))
    scale, size = x.std(axis=0), y.std(axis=0)
    errors = []
    for penalty in PENALTIES:
        error = 0.0
        for i, (left, target) in enumerate(folds):
            a, b = (np.concatenate(parts) for parts in zip(*folds[:i], *folds[i + 1 :], strict=True))
            model = linear_model.Ridge(alpha=penalty * len(a)).fit(a / scale, b / size)
            error += np.square(target / size - model.predict(left / scale).reshape(target.shape)).sum()
        errors.append(error)
    assert found.penalty == PENALTIES[int(np.argmin(errors))]
    model = linear_model.Ridge(alpha=found.penalty * len(x)).fit(x / scale, y)
    np.testing.assert_allclose(found.predict(x), model.predict(x / scale).reshape(y.shape), rtol=1e-6)


def test_ridge_solves_its_normal_equations():
    folds = create_samples()
    found = fit_ridge(folds)
    x, y = (np.concatenate(parts) for parts in zip(*folds, strict=True))
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    gram = x.T @ x + len(x) * found.penalty * np.diag(x.var(axis=0))
    np.testing.assert_allclose(gram @ found.weights, x.T @ y, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", [1.0, 1e4, 1e8])
def test_a_feature_that_is_constant_changes_no_prediction(size):
    folds = create_samples()
    more = [(np.column_stack([x, np.full(len(x), size)]), y) for x, y in folds]
    found, expected = fit_ridge(more), fit_ridge(folds)
    assert found.penalty == expected.penalty
    for (x, _), (wide, _) in zip(folds, more, strict=True):
        np.testing.assert_allclose(found.predict(wide), expected.predict(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n_targets", [1, 4])
def test_each_set_of_targets_gets_its_own_penalty(n_targets):
    rng = np.random.default_rng(1)
    signal = create_samples(n=60, n_features=12, n_targets=n_targets)
    noise = [(x, rng.standard_normal(y.shape)) for x, y in signal]
    folds = [(x, np.hstack([y, z])) for (x, y), (_, z) in zip(signal, noise, strict=True)]
    found, alone = fit_ridge(folds, n_sets=2), [fit_ridge(one) for one in (signal, noise)]
    assert alone[0].penalty < alone[1].penalty == found.penalty
    np.testing.assert_allclose(
        found.weights, np.hstack([one.weights for one in alone]), rtol=1e-9, atol=1e-12
    )


def test_noise_alone_gets_the_largest_penalty():
    rng = np.random.default_rng(0)
    folds = [(rng.standard_normal((20, 15)), rng.standard_normal((20, 2))) for _ in range(5)]
    assert fit_ridge(folds).penalty >= 1
    assert fit_ridge(folds[:1]).penalty == PENALTIES[-1]


def test_the_rank_of_the_truth_is_found():
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((8, 2)) @ rng.standard_normal((2, 10))
    x = rng.standard_normal((5, 60, 8))
    folds = [(part, part @ weights + 1 + 2 * rng.standard_normal((60, 10))) for part in x]
    found = fit_ridge(folds, max_rank=8)
    assert np.linalg.matrix_rank(found.weights, tol=1e-6) == 2
    full = fit_ridge(folds)
    assert np.square(found.weights - weights).sum() < np.square(full.weights - weights).sum()
    np.testing.assert_allclose(  # the mean stays
        found.predict(x.reshape(-1, 8)).mean(axis=0), full.predict(x.reshape(-1, 8)).mean(axis=0)
    )


# ------------------------------------------------------------------ what is said of them


def test_intervals_decide_which_baselines_are_beaten():
    rivals = (
        Rival("condition average", 0.5, -0.01, 0.02),
        Rival("Wiener filter", 0.4, 0.05, 0.15),
        Rival("another model", 0.7, -0.3, -0.1),
        Rival("unknown", 0.6),
    )
    (sentence,) = compare_baselines([Score("output R2", "condition averages", 0.5, rivals=rivals)])
    beats, level, beaten = (part.strip(" .") for part in sentence.split(";"))
    assert "Wiener filter" in beats
    assert "decoding" in beats
    assert "condition average" in level
    assert "another model" in beaten
    assert "unknown" not in sentence
    (other,) = compare_baselines([Score("Procrustes angle", "condition averages", 20.0, rivals=rivals[1:2])])
    assert "beaten" in other  # lower is better


@pytest.mark.parametrize("better", [True, False])
def test_a_network_is_told_apart_from_the_average(better):
    recorded = create_recorded(noise=1.0)
    courses = create_recorded(noise=0.0)
    fitted = courses.assign(hidden=(("trial", "time", "hidden_unit"), courses["rates"].values))
    if not better:
        fitted = fitted.assign(outputs=0.3 * fitted["outputs"])
    rivals = {s.name: s.rivals for s in assess(recorded, fitted, n_resamples=10)}["output R2"]
    average = next(rival for rival in rivals if rival.name == AVERAGE)
    assert (average.low > 0) if better else (average.high < 0)


def test_another_model_is_compared_as_baselines_are():
    recorded = create_recorded()
    fitted = recorded.assign(hidden=(("trial", "time", "hidden_unit"), recorded["rates"].values))
    worse = fitted.assign(outputs=0.5 * fitted["outputs"])
    scores = {s.name: s for s in assess(recorded, fitted, n_resamples=5, others={"half": worse})}
    found = next(rival for rival in scores["output R2"].rivals if rival.name == "half")
    assert found.value < 0.8
    assert found.low > 0


def test_missing_bins_are_filled_with_the_mean_of_the_trials_that_have_them():
    recorded = create_recorded()
    mask = recorded["mask"].values.copy()
    mask[3, 5:9], mask[:, 20] = False, False
    mask[7] = False
    has, filled = _fill(recorded.assign(mask=(("trial", "time"), mask)), "outputs")
    assert np.flatnonzero(~has).tolist() == [7]
    values = recorded["outputs"].values[has]
    seen = mask[has]
    np.testing.assert_array_equal(filled[seen], values[seen])
    others = np.delete(values, 3, axis=0)
    np.testing.assert_allclose(filled[3, 5:9], others[:, 5:9].mean(axis=0))
    assert (filled[:, 20] == 0).all()  # nobody knows


@pytest.mark.slow
def test_a_gated_unit_is_fitted_to_the_same_trials():
    ds = create_recorded(noise=0.1).drop_vars(["split", "sampled", "rate_scale", "rate_offset"])
    result = fit(
        ds, hidden=12, epochs=40, min_rate=0, nonlinearity="softplus", tau=0.2, method="least_squares"
    )
    gated = predict_gated(result)
    assert gated["outputs"].shape == result.predicted["outputs"].shape
    others = {GATED: gated}
    for score in assess(result.recorded, result.predicted, n_resamples=3, others=others):
        if score.name in ("output R2", "cycle consistency"):  # it has hidden units in all trials, too
            assert score.rivals[-1].name == GATED
