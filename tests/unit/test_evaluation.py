import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nwbrnn.dataset import create_dataset
from nwbrnn.evaluation import (
    Score,
    compute_canonical_correlations,
    compute_principal_components,
    compute_r2,
    compute_skill,
    compute_weighted_r2,
    evaluate,
)
from nwbrnn.evaluation.comparison import Comparison
from nwbrnn.evaluation.noise_ceilings import limit_neurons
from nwbrnn.evaluation.ridge import fit_ridge
from nwbrnn.evaluation.single_trials import split_errors
from nwbrnn.evaluation.subspaces import compute_linear_cka, decompose
from tests.drawing import draw
from tests.messages import names

LEVELS = ("condition averages", "single trials")
NAMES = ("output R2", "sampled neurons R2", "unsampled neurons R2", "canonical correlation")
SPLIT = np.array(["train", "train", "validation", "test", "test"] * 2)
CONDITION = np.repeat(["a", "b"], 5)


def create_recorded(seed=0, split=SPLIT):
    rng = np.random.default_rng(seed)
    courses = rng.standard_normal((2, 12, 6))
    trials = courses[np.repeat([0, 1], 5)] + 0.3 * rng.standard_normal((10, 12, 6))
    mask = np.ones((10, 12), dtype=bool)
    mask[3, :4] = False
    arrays = {
        "outputs": trials[..., :2],
        "rates": 20 + trials[..., 2:],
        "inputs": np.zeros((10, 12, 1)),
        "mask": mask,
    }
    coords = {
        "condition": CONDITION,
        "split": split,
        "sampled": np.array([True, True, False, False]),
        "rate_scale": np.ptp(arrays["rates"], axis=(0, 1)) + 5,
        "rate_offset": arrays["rates"].mean(axis=(0, 1)),
    }
    return create_dataset(arrays, coords, bin_size=0.02)


def predict_known_average(ds):
    known = (ds["split"].values != "test")[:, np.newaxis] & (CONDITION[:, np.newaxis] == CONDITION)
    shares = known / known.sum(axis=0)  # column: the average for one trial
    changed = {
        name: (
            ds[name].dims,
            np.einsum("kt,kbc->tbc", shares, np.nan_to_num(ds[name].values)),
            ds[name].attrs,
        )
        for name in ("outputs", "rates")
    }
    return ds.assign(changed)


def draw_samples(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def test_r2_by_hand():
    target = np.array([[1.0, 0.0], [2.0, 2.0], [3.0, 4.0]])
    predicted = np.array([[1.0, 2.0], [2.0, 2.0], [4.0, 2.0]])
    np.testing.assert_allclose(compute_r2(predicted, target), [1 - 1 / 2, 1 - 8 / 8])
    assert compute_weighted_r2(predicted, target) == pytest.approx(1 - 9 / 10)


@draw(25)
@given(st.integers(0, 10**6), st.floats(0.1, 10), st.floats(-5, 5))
def test_r2_does_not_depend_on_scale_and_offset(seed, scale, offset):
    target, predicted = draw_samples(seed, 20, 3), draw_samples(seed + 1, 20, 3)
    before = compute_r2(predicted, target)
    after = compute_r2(scale * predicted + offset, scale * target + offset)
    np.testing.assert_allclose(after, before, rtol=1e-6)
    assert compute_weighted_r2(target, target) == 1


def test_r2_of_a_constant_target_is_nan():
    target = np.stack([np.ones(5), np.arange(5.0)], axis=1)
    r2 = compute_r2(target + 1, target)
    assert np.isnan(r2[0])
    assert r2[1] == pytest.approx(1 - 5 / 10)
    assert np.isnan(compute_weighted_r2(np.zeros((5, 1)), np.ones((5, 1))))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e6 / 3])
def test_a_constant_does_not_vary_though_its_mean_is_rounded(value, dtype):
    rng = np.random.default_rng(0)
    target = np.full((997, 3), value, dtype)
    target[:, 1] += np.spacing(target[:, 1]) * rng.integers(-1, 2, 997).astype(dtype)
    target[:, 2] = np.arange(997)
    r2 = compute_r2(np.zeros_like(target), target)
    assert np.isnan(r2).tolist() == [True, True, False]
    missing = target.copy()
    missing[5] = np.nan
    assert np.isnan(compute_r2(np.zeros_like(target), missing)).tolist() == [True, True, False]
    assert np.isnan(compute_weighted_r2(np.zeros((997, 2)), target[:, :2]))
    assert np.isnan(compute_linear_cka(target[:, :1], target[:, 2:]))
    assert compute_linear_cka(target[:, 2:] * 1e-3 + 1, target[:, 2:]) == pytest.approx(1)


def test_little_variation_about_a_large_mean_counts():
    noise = draw_samples(0, 500, 1)
    target = 1e6 + 1e-3 * noise
    r2 = compute_r2(np.full_like(target, 1e6), target)
    assert r2[0] == pytest.approx(
        -len(noise) * noise.mean() ** 2 / np.square(noise - noise.mean()).sum(), rel=1e-4
    )


def test_a_constant_neuron_has_no_score():
    ds = create_recorded()
    ds["rates"].values[..., 2] = 10 / 3
    scores = evaluate(ds, predict_known_average(ds).assign(rates=ds["rates"] + 1))
    assert np.isnan(scores.unit_r2).tolist() == [False, False, True, False]
    for level in LEVELS:
        assert scores.get("unsampled neurons R2", level).value > -100
    trials = Comparison(*(one.isel(trial=SPLIT == "test") for one in (ds, ds.assign(rates=ds["rates"] + 1))))
    assert (split_errors(trials, "rates")[1] >= 0).all()
    assert split_errors(trials, "rates", lambda pair: ~pair.sampled)[1].sum(axis=0)[0] == 0
    assert np.isnan(limit_neurons(trials)).tolist() == [False, False, True, False]


def test_a_large_constant_does_not_spoil_a_ridge_regression():
    x = draw_samples(0, 8, 40, 2)
    folds = [(np.concatenate([np.full((40, 1), 1e9), one], axis=1), one @ [[2.0], [1.0]]) for one in x]
    ridge = fit_ridge(folds)
    assert ridge.predict(folds[0][0]) == pytest.approx(folds[0][1], abs=1e-3)


@pytest.mark.parametrize("offset", [0.0, 1e4, 1e6])
def test_ridge_regression_does_not_depend_on_how_far_features_are_from_zero(offset):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 4))
    y = x @ rng.standard_normal((4, 3)) + 0.1 * rng.standard_normal((60, 3))
    near, far = (
        fit_ridge(list(zip(np.split(one, 5), np.split(y, 5), strict=True))) for one in (x, x + offset)
    )
    assert near.penalty == far.penalty
    np.testing.assert_allclose(far.predict(x + offset), near.predict(x), atol=1e-6)


def test_skill_relative_to_a_constant_is_nan_though_its_mean_is_rounded():
    reference, rng = np.full((1000, 1), 0.1), np.random.default_rng(0)
    target = rng.standard_normal((20, 1))
    assert np.isnan(compute_skill(target, target, reference))
    varied = reference + rng.standard_normal((1000, 1))
    error = np.square(target - 1).mean() / varied.var()
    assert compute_skill(np.ones((20, 1)), target, varied) == pytest.approx(1 - error)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_small_variation_of_many_samples_counts(dtype):
    rng = np.random.default_rng(0)
    small = (0.5 + 0.005 * rng.standard_normal((200_000, 3))).astype(dtype)
    assert len(decompose(small).singular) == 3


@pytest.mark.parametrize("shape", [(5, 40), (60, 40)])
def test_rounding_errors_of_a_population_are_no_components(shape):
    noise = 3e-8 * np.random.default_rng(0).standard_normal(shape)
    assert len(decompose((0.3 + noise).astype(np.float32)).singular) == 0


def test_r2_without_samples_is_nan():
    assert np.isnan(compute_r2(np.empty((0, 2)), np.empty((0, 2)))).all()


@pytest.mark.parametrize("function", [compute_r2, compute_weighted_r2])
def test_r2_refuses_other_shapes(function):
    with pytest.raises(ValueError, match=names("(3, 2)", "(3, 1)")):
        function(np.zeros((3, 2)), np.zeros((3, 1)))


def test_principal_components_are_leading_eigenvectors_of_the_covariance():
    activity = draw_samples(0, 300, 4) * [5, 3, 2, 1] @ np.linalg.qr(draw_samples(1, 4, 4))[0]
    components, mean = compute_principal_components(activity + 7, 2)
    vectors = np.linalg.eigh(np.cov(activity.T))[1][:, :-3:-1]
    np.testing.assert_allclose(np.abs(np.sum(components * vectors, axis=0)), 1, rtol=1e-9)
    np.testing.assert_allclose(mean, (activity + 7).mean(axis=0))


def test_principal_components_stop_at_the_rank():
    activity = draw_samples(0, 50, 2) @ draw_samples(1, 2, 6)
    components, _ = compute_principal_components(activity, 5)
    assert components.shape == (6, 2)


@draw(25)
@given(st.integers(0, 10**6))
def test_canonical_correlations_survive_invertible_maps(seed):
    activity = draw_samples(seed, 100, 4)
    mixing = np.linalg.qr(draw_samples(seed + 1, 4, 4))[0] * [0.5, 1, 2, 4]
    np.testing.assert_allclose(compute_canonical_correlations(activity, activity @ mixing + 3), 1)


def test_canonical_correlations_of_known_populations():
    shared, other = draw_samples(0, 20000, 2), draw_samples(1, 20000, 2)
    rho = np.array([0.9, 0.4])
    mixed = (rho * shared + np.sqrt(1 - rho**2) * other) @ draw_samples(2, 2, 2)
    correlations = compute_canonical_correlations(shared, mixed)
    np.testing.assert_allclose(correlations, rho, atol=0.02)


def test_canonical_correlations_keep_so_many_components():
    first, second = draw_samples(0, 200, 8), draw_samples(1, 200, 5)
    assert compute_canonical_correlations(first, second).shape == (5,)
    assert compute_canonical_correlations(first, second, n_components=3).shape == (3,)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", NAMES)
def test_the_known_average_scores_itself(name, level):
    recorded = create_recorded()
    score = evaluate(recorded, predict_known_average(recorded)).get(name, level)
    assert score.value == pytest.approx(score.known_average, rel=1e-9)
    assert score.known_average < 1


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", NAMES)
def test_a_perfect_prediction_scores_one(name, level):
    recorded = create_recorded()
    assert evaluate(recorded, recorded).get(name, level).value == pytest.approx(1)


def test_single_trial_score_by_hand():
    recorded = create_recorded()
    predicted = predict_known_average(recorded)
    counted = recorded["mask"].values & (SPLIT == "test")[:, np.newaxis]
    y, z = recorded["outputs"].values[counted], predicted["outputs"].values[counted]
    expected = 1 - ((y - z) ** 2).sum() / ((y - y.mean(axis=0)) ** 2).sum()
    scores = evaluate(recorded, predicted)
    assert scores.get("output R2", "single trials").value == pytest.approx(expected)
    np.testing.assert_allclose(scores.output_r2, scores.output_known_average)
    assert scores.unit_r2.shape == (4,)


def test_scores_look_at_test_trials_only():
    recorded = create_recorded()
    predicted = recorded.copy(deep=True)
    predicted["outputs"].values[SPLIT != "test"] = 1e3
    assert evaluate(recorded, predicted).get("output R2").value == pytest.approx(1)


def test_held_out_condition_has_no_known_average():
    recorded = create_recorded(split=np.where(CONDITION == "a", "test", "train"))
    scores = evaluate(recorded, recorded)
    assert scores.get("output R2").value == pytest.approx(1)
    assert all(np.isnan(score.known_average) for score in scores.summary)
    table = json.loads(json.dumps(scores.to_dict(recorded), allow_nan=False))
    assert table["outputs"][0] == {"name": "output_0", "r2": 1.0, "known_average": None}


def test_evaluate_refuses_a_split_without_tests():
    recorded = create_recorded(split=np.full(10, "train"))
    with pytest.raises(ValueError, match=names("split", "'test'", "split_trials")):
        evaluate(recorded, recorded)


def test_get_refuses_an_unknown_score():
    with pytest.raises(
        LookupError, match=names("'beauty'", "output R2", "condition averages", "single trials")
    ):
        evaluate(create_recorded(), create_recorded()).get("beauty")


def test_scores_with_nan_are_equal_if_all_else_is():
    first, second = (Score("output R2", LEVELS[0], 0.5, float("nan")) for _ in range(2))
    assert first == second
    assert len({first, second, Score("output R2", LEVELS[0], 0.5, 0.25)}) == 2
    assert first != "output R2"


def test_a_score_for_json_has_none_where_it_is_not_finite():
    score = Score("output R2", LEVELS[0], 0.5, float("nan"), chance=float("inf"), low=-0.25)
    assert score.to_dict() == {
        "name": "output R2", "level": LEVELS[0], "value": 0.5, "known_average": None, "noise_ceiling": None,
        "reliability": None, "chance": None, "low": -0.25, "high": None, "rivals": [],
    }  # fmt: skip
