"""The assessment of a fit: values, ceilings, chance and intervals."""

import doctest
import importlib

import numpy as np
import pytest
import scipy.stats

from nwbrnn.dataset import create_dataset
from nwbrnn.evaluation import MAIN, SCORES, assess, evaluate, specs
from nwbrnn.evaluation.assessment import (
    N_PERMUTATIONS,
    N_SPLITS,
    _permute,
    _resample,
    _resample_trials,
    _split,
)
from nwbrnn.evaluation.comparison import Comparison, estimate_noise, select_tests
from nwbrnn.evaluation.resampling import Resampler, draw
from nwbrnn.evaluation.score_spec import LOWER as SUFFIX
from nwbrnn.evaluation.single_trials import pool_parts, split_errors
from nwbrnn.evaluation.specs import SPIKES
from nwbrnn.preprocessing import average_conditions
from tests.messages import names

pytestmark = pytest.mark.no_cover

N_CONDITIONS, N_TRIALS, N_TIME, N_UNITS = 6, 12, 30, 8
NOISE = 0.8
HIGHER = (
    "output R2", "output VAF", "output skill", "sampled neurons R2", "unsampled neurons R2", "PSTH R2",
    SPIKES, "canonical correlation", "SVCCA", "linear CKA",
)  # fmt: skip
LOWER = ("principal angle", "Procrustes angle")


def create_pair(*, noise=NOISE, n_test=8, counts=True, seed=0, noise_seed=None):
    """Recorded trials around a true course for each condition, and a network that knows the true course."""
    rng = np.random.default_rng(seed)
    smooth = np.cumsum(rng.standard_normal((N_CONDITIONS, N_TIME, N_UNITS + 3)), axis=1)
    smooth = (smooth - smooth.mean(axis=(0, 1))) / smooth.std(axis=(0, 1))
    rng = rng if noise_seed is None else np.random.default_rng(noise_seed)
    condition = np.repeat(np.arange(N_CONDITIONS), N_TRIALS)
    truth = smooth[condition]
    recorded = truth + noise * rng.standard_normal(truth.shape)
    split = np.tile(np.arange(N_TRIALS) < N_TRIALS - n_test, N_CONDITIONS)
    coords = {
        "condition": condition.astype(str),
        "split": np.where(split, "train", "test"),
        "sampled": np.arange(N_UNITS) < 4,
        "rate_scale": np.full(N_UNITS, 20.0),
        "rate_offset": np.full(N_UNITS, 30.0),
    }
    inputs = np.zeros((*truth.shape[:2], 1))
    both = []
    for values in (recorded, truth):
        arrays = {"outputs": values[..., :3], "rates": 30 + 5 * values[..., 3:], "inputs": inputs}
        if values is truth:
            arrays["hidden"] = 0.25 * values[..., 3:]
        elif counts:
            arrays["spike_counts"] = rng.poisson((30 + 5 * truth[..., 3:]).clip(0) * 0.05)
        both.append(create_dataset(arrays, coords, bin_size=0.05))
    return both


def get(scores):
    return {score.name: score for score in scores}


def test_values_are_those_of_the_quick_scores():
    pair = create_pair()
    scores, quick = get(assess(*pair)), evaluate(*pair)
    for name in ("output R2", "sampled neurons R2", "unsampled neurons R2"):
        assert scores[name].value == pytest.approx(quick.get(name).value)


def test_the_true_course_scores_its_ceiling_and_chance_is_far_below():
    scores = get(assess(*create_pair()))
    for name in ("output R2", "output VAF", "output skill", "unsampled neurons R2", "PSTH R2"):
        score = scores[name]
        # Var(signal) = 1, Var(noise of the average) = NOISE² / 8
        assert score.value == pytest.approx(1 - NOISE**2 / 8 / (1 + NOISE**2 / 8), abs=0.02), name
        assert score.noise_ceiling == pytest.approx(score.value, abs=0.03), name
        assert np.isnan(score.reliability), name
    single = scores["single-trial output R2"]
    assert single.value == pytest.approx(1 / (1 + NOISE**2), abs=0.03)
    assert single.noise_ceiling == pytest.approx(single.value, abs=0.03)
    for name in HIGHER:
        assert scores[name].value > scores[name].chance + 0.02, name
    assert scores["Procrustes angle"].value < scores["Procrustes angle"].chance - 2


def test_chance_and_intervals_that_would_say_nothing_are_nan():
    scores = get(assess(*create_pair(), n_resamples=2))
    assert np.isfinite(scores["principal angle"].value)
    assert np.isnan(scores["principal angle"].chance)
    assert np.isfinite(scores["rotation R2, recorded"].low)
    assert np.isnan(scores["rotation R2, network"].low)  # its course is the same in every trial


def test_recorded_and_predicted_trials_are_drawn_together():
    recorded, predicted = create_pair(counts=False)
    scores = get(assess(recorded, predicted.assign(outputs=recorded["outputs"]), n_resamples=3))
    assert scores["output R2"].value == pytest.approx(1)
    assert np.isnan(scores["output R2"].low)  # every trial is predicted exactly: whichever are drawn


def test_one_condition_alone_has_no_chance():
    recorded, predicted = (ds.isel(trial=ds["condition"].values == "2") for ds in create_pair())
    score = get(assess(recorded, predicted))["output R2"]
    assert score.value > 0.6
    assert np.isnan(score.chance)


def test_one_sample_has_no_angles_and_no_shape():
    pair = (ds.isel(trial=[5], time=[0]) for ds in create_pair())
    scores = get(assess(*pair))
    for name in ("principal angle", "Procrustes angle", "linear CKA"):
        assert np.isnan(scores[name].value), name


def test_single_trials_count_by_their_recorded_bins():
    trials, predicted = select_tests(*create_pair())
    mask = np.random.default_rng(0).random(trials["mask"].shape) < 0.6
    given = predicted.assign(mask=(predicted["mask"].dims, mask))
    explained, total = split_errors(Comparison(trials, given), "outputs", lambda _: np.ones(3, dtype=bool))
    target, guess = (ds["outputs"].values[mask].astype(float) for ds in (trials, predicted))
    np.testing.assert_allclose(total.sum(axis=0), len(target) * target.var(axis=0), rtol=1e-6)
    r2 = 1 - np.square(target - guess).mean(axis=0) / target.var(axis=0)
    for unit in (1.0, 1e-9):
        assert pool_parts(unit * explained, unit * total) == pytest.approx(np.median(r2), rel=1e-6)


def test_a_single_recorded_bin_does_not_vary():
    trials, predicted = select_tests(*create_pair())
    mask = np.zeros(trials["mask"].shape, dtype=bool)
    mask[3, 7] = True
    pair = Comparison(trials, predicted.assign(mask=(predicted["mask"].dims, mask)))
    assert not split_errors(pair, "outputs")[1].any()


def test_a_sweep_shows_a_few_of_the_scores_first():
    assert 0 < len(MAIN) < len(SCORES) / 2


def test_one_of_the_dynamical_distances_is_given_the_inputs(monkeypatch):
    monkeypatch.setattr(specs, "compute_dynamical_distance", lambda *activity: len(activity))
    monkeypatch.setattr(specs, "compute_controlled_distance", lambda *given: given[2].shape)
    pair = Comparison(*select_tests(*create_pair()))
    found = {spec.name: spec.compute(pair) for spec in SCORES if "dynamical distance" in spec.name}
    assert found.pop("dynamical distance") == 2
    assert list(found.values()) == [(N_CONDITIONS, N_TIME, 1)]


def test_spikes_are_expected_of_each_neuron_by_its_own_mean():
    recorded, predicted = create_pair()
    factors = np.array([1, 1, 1, 1, 0.02, 1, 1, 1])  # one unsampled neuron is far slower than the others
    recorded = recorded.assign(rates=recorded["rates"] * factors)
    predicted = predicted.assign(rates=predicted["rates"] * factors)
    rng = np.random.default_rng(0)
    counts = rng.poisson(predicted["rates"].values.clip(0) * 0.05)
    recorded = recorded.assign(spike_counts=(recorded["rates"].dims, counts))
    test = recorded["split"].values == "test"
    k, rates = (values[test][..., 4:].reshape(-1, 4) for values in (counts, predicted["rates"].values))
    floor = counts[~test][..., 4:].reshape(-1, 4).mean(axis=0)  # what the known trials say
    expected = np.maximum(rates * 0.05, 0.05 * floor)
    gain = (scipy.stats.poisson.logpmf(k, expected) - scipy.stats.poisson.logpmf(k, floor)).sum()
    found = get(assess(recorded, predicted))[SPIKES].value
    assert found == pytest.approx(gain / k.sum() / np.log(2), rel=1e-6)


def test_ceilings_of_sampled_and_unsampled_neurons_are_told_apart():
    recorded, predicted = create_pair(counts=False)
    rates = np.where(recorded["sampled"].values, predicted["rates"].values, recorded["rates"].values)
    scores = get(assess(recorded.assign(rates=(recorded["rates"].dims, rates)), predicted))
    assert scores["sampled neurons R2"].noise_ceiling == pytest.approx(1)
    assert scores["unsampled neurons R2"].noise_ceiling < 0.97


def test_without_noise_everything_is_perfect():
    scores = get(assess(*create_pair(noise=0.0)))
    for name in HIGHER:
        if name != SPIKES:
            assert scores[name].value == pytest.approx(1, abs=1e-6), name
            limits = [scores[name].noise_ceiling, scores[name].reliability]
            np.testing.assert_allclose([one for one in limits if np.isfinite(one)], 1, atol=1e-6)
    for name in LOWER:
        assert scores[name].value == pytest.approx(0, abs=1e-2), name
    names = ("rotation R2", "rotation frequency", "rotation R2 of any linear dynamics")
    for name in names:
        assert scores[f"{name}, network"].value == pytest.approx(scores[f"{name}, recorded"].value)


@pytest.mark.slow
def test_intervals_are_1_96_standard_deviations_of_the_score_wide_on_each_side():
    noise, n_test, shrunk = 0.05, 2, 0.6  # a network that is wrong in the same way in every trial
    recorded, fitted = create_pair(noise=noise, n_test=n_test, counts=False)
    truth = average_conditions(fitted)["outputs"].values.reshape(-1, 3)
    rng = np.random.default_rng(1)
    seen = truth + noise / np.sqrt(n_test) * rng.standard_normal((4000, *truth.shape))
    left = np.square(seen - shrunk * truth).sum(axis=(1, 2))
    expected = 1 - left / np.square(seen - seen.mean(axis=1, keepdims=True)).sum(axis=(1, 2))
    halves, covered = [], 0
    for seed in range(4):
        recorded, fitted = create_pair(noise=noise, n_test=n_test, counts=False, noise_seed=seed)
        fitted = fitted.assign(outputs=shrunk * fitted["outputs"])
        score = get(assess(recorded, fitted, n_resamples=15))["output R2"]
        halves.append((score.high - score.low) / 2)
        covered += score.low <= expected.mean() <= score.high
    assert np.mean(halves) == pytest.approx(1.96 * expected.std(), rel=0.25)
    assert covered >= 3


@pytest.mark.slow
def test_intervals_are_as_wide_as_scores_vary_where_residuals_are_noise():
    """The network knows the true course: what it misses is noise, which resampling must not add twice."""
    names = ("output R2", "unsampled neurons R2", "single-trial output R2", "PSTH R2", "linear CKA")
    values, halves = {name: [] for name in names}, {name: [] for name in names}
    covered = 0
    specs = [spec for spec in SCORES if spec.name in names]
    for seed in range(40):
        recorded, fitted = create_pair(n_test=6, counts=False, noise_seed=seed)
        pair = Comparison(*select_tests(recorded, fitted), whole=(recorded, fitted))
        draws = draw(pair.trials, 15, np.random.default_rng(seed))
        errors = _resample(specs, pair, {}, draws)[0] | _resample_trials(specs, pair, {}, draws)[0]
        for spec in specs:
            values[spec.name].append(spec.compute(pair))
            halves[spec.name].append(errors[spec.name])
    for name in names:
        ratio = np.mean(halves[name]) / (1.96 * np.std(values[name], ddof=1))
        assert 0.75 < ratio < 1.4, (name, ratio)
        apart = np.abs(np.array(values[name]) - np.mean(values[name]))
        covered += (apart < halves[name]).sum()
    assert 0.9 < covered / (40 * len(names)) <= 0.99


def test_intervals_shrink_with_noise():
    wide, narrow = (
        get(assess(*create_pair(noise=noise, counts=False), n_resamples=15))["output R2"]
        for noise in (NOISE, 0.1)
    )
    assert narrow.high - narrow.low < 0.2 * (wide.high - wide.low)


def test_what_cannot_be_had_is_nan():
    scores = get(assess(*create_pair(n_test=1, counts=False), n_resamples=3))
    # one test trial has no halves, but all trials of its condition tell how noisy it is
    assert scores["output R2"].noise_ceiling == pytest.approx(1 / (1 + NOISE**2), abs=0.05)
    assert np.isnan(scores["linear CKA"].reliability)
    assert np.isnan(scores["output R2"].low)
    assert np.isnan(scores[SPIKES].value)
    assert np.isfinite(scores["output R2"].chance)


def test_one_held_out_condition_is_compared_with_predictions_for_others():
    recorded, predicted = create_pair()
    split = np.where(recorded["condition"].values == "2", "test", "train")
    pair = [ds.assign_coords(split=("trial", split)) for ds in (recorded, predicted)]
    scores = get(assess(*pair))
    assert scores["output skill"].value > 0.9
    assert scores["output skill"].chance < 0.3
    assert np.isnan(scores["rotation R2, recorded"].value)  # nothing differs between conditions


def test_no_test_trials_are_refused():
    recorded, predicted = create_pair(n_test=0)
    with pytest.raises(ValueError, match=names("split", "'test'", "split_trials")):
        assess(recorded, predicted)


def test_noise_of_averages_by_hand():
    recorded = create_pair(counts=False)[0]
    tests = recorded.isel(trial=recorded["split"].values == "test")
    noise = estimate_noise(recorded, tests, "outputs")
    chosen = recorded["outputs"].values[recorded["condition"].values == "3"]
    np.testing.assert_allclose(noise[3], chosen.var(axis=0, ddof=1) / 8, rtol=1e-5)


def test_an_artefact_in_a_known_trial_does_not_lower_the_ceiling_of_single_test_trials():
    recorded, fitted = create_pair(counts=False)
    ceilings = []
    for size in (0.0, 1e3):
        outputs = recorded["outputs"].values.copy()
        outputs[0] += size
        assert recorded["split"].values[0] == "train"
        changed = recorded.assign(outputs=(recorded["outputs"].dims, outputs))
        ceilings.append(get(assess(changed, fitted))["single-trial output R2"].noise_ceiling)
    assert ceilings[0] == ceilings[1] == pytest.approx(1 / (1 + NOISE**2), abs=0.03)


def test_a_condition_with_one_trial_is_as_noisy_as_the_others():
    recorded = create_pair(counts=False)[0]
    alone = np.flatnonzero(recorded["condition"].values == "0")[1:]
    recorded = recorded.isel(trial=np.setdiff1d(np.arange(recorded.sizes["trial"]), alone))
    noise = estimate_noise(recorded, recorded, "outputs")
    np.testing.assert_allclose(noise[0], (noise[1:] * N_TRIALS).mean(axis=0))


def test_a_network_is_told_from_what_is_recorded_of_it():
    recorded, fitted = create_pair(noise=0.1, counts=False)
    scores = get(assess(recorded, fitted))
    assert scores["cycle consistency"].value == pytest.approx(1, abs=0.01)  # its hidden units are the rates
    few, *mapped = [s.name for s in SCORES if s.needs == "network" and s.better == "higher"]
    assert len(mapped) == 2
    assert all(scores[name].value > 0.9 for name in mapped)
    rng = np.random.default_rng(3)
    extra = np.cumsum(rng.standard_normal((N_CONDITIONS, N_TIME, N_UNITS)), axis=1)
    extra *= fitted["hidden"].values.std() / extra.std()
    hidden = np.concatenate(
        [fitted["hidden"].values, extra[recorded["condition"].values.astype(int)]], axis=2
    )
    dims = fitted["hidden"].dims
    more = fitted.drop_vars("hidden").assign(hidden=(dims, hidden, {"units": "1"}))
    superfluous = get(assess(recorded, more))
    assert superfluous[few].value < scores[few].value
    for name in mapped:
        assert superfluous[name].value < scores[name].value - 0.2, name


def test_lower_is_better_is_said_wherever_a_score_is_named():
    for spec in SCORES:
        assert spec.label.endswith(SUFFIX) == (spec.better == "lower")


@pytest.mark.parametrize("module", ["accuracy", "baselines", "ridge", "superfluous", "spikes", "subspaces"])
def test_examples_of_the_docstrings(module):
    found = doctest.testmod(importlib.import_module(f"nwbrnn.evaluation.{module}"))
    assert found.failed == 0


def test_halves_of_the_tests_share_no_trial():
    """The mean of both halves of an even number of trials is the mean of all."""
    recorded, _ = create_pair(n_test=8)
    tests, _ = select_tests(recorded, recorded)
    averages = average_conditions(tests)
    halves = _split(tests, averages, np.random.default_rng(0))
    assert len(halves) == N_SPLITS
    for first, second in halves:
        both = (first["rates"].values + second["rates"].values) / 2
        np.testing.assert_allclose(both, averages["rates"].values, rtol=1e-6)
        assert np.abs(first["rates"].values - second["rates"].values).max() > 1


def test_chance_is_the_mean_of_so_many_exchanges_of_all_conditions():
    recorded, fitted = create_pair()
    tests, _ = select_tests(recorded, fitted)
    permuted = _permute(tests, fitted, np.random.default_rng(0))
    assert len(permuted) == N_PERMUTATIONS
    truth = average_conditions(fitted)
    own = {label: truth["rates"].values[i] for i, label in enumerate(truth["condition"].values)}
    for other in permuted:
        for label, rates in zip(other["condition"].values, other["rates"].values, strict=True):
            assert not np.allclose(rates, own[label])


@pytest.mark.parametrize("missing", [False, True])
def test_true_courses_are_estimated_between_average_and_prediction(missing):
    """Courses = prediction + s (average - prediction), s² the part of the difference that is not noise.

    What a network predicts from trial to trial is no noise, nor are bins that nobody recorded.
    """
    rng = np.random.default_rng(0)
    _, fitted = create_pair(noise=0.0)
    shape = fitted["outputs"].shape
    varied = fitted.assign(outputs=fitted["outputs"] + 3 * rng.standard_normal(shape))
    wrong = 0.2 * fitted["outputs"].values
    spread = 0.4 * rng.standard_normal(shape)
    recorded = varied.assign(outputs=varied["outputs"] + wrong + spread)
    if missing:
        mask = recorded["mask"].values.copy()
        mask[:, :10] = False
        recorded, varied = (ds.assign(mask=(("trial", "time"), mask)) for ds in (recorded, varied))
    pair = Comparison(*select_tests(recorded, varied), whole=(recorded, varied))
    centre = Resampler(pair, draw(pair.trials, 2, rng)).centre["outputs"]
    truth, guess = pair.truth["outputs"].values, pair.guess["outputs"].values
    seen = pair.truth["mask"].values
    noise, total = np.zeros(3), np.square(truth - guess)[seen].sum(axis=0)
    for condition in np.unique(pair.trials["condition"]):
        rows = pair.trials["condition"].values == condition
        apart = (pair.trials["outputs"].values - pair.predicted["outputs"].values)[rows]
        noise += (apart.var(axis=0, ddof=1) / rows.sum())[seen[0]].sum(axis=0)
    share = np.sqrt(1 - noise / total)
    assert (share > 0.3).all()
    assert (share < 0.98).all()
    np.testing.assert_allclose(centre[seen], (guess + share * (truth - guess))[seen], rtol=1e-5, atol=1e-6)


def test_another_model_is_judged_as_if_it_were_compared_alone():
    recorded, fitted = create_pair()
    other = fitted.assign(outputs=0.9 * fitted["outputs"], rates=fitted["rates"] + 1)
    tests, predicted = select_tests(recorded, fitted)
    pair = Comparison(tests, predicted, whole=(recorded, fitted))
    specs = SCORES
    for spec in specs:
        spec.compute(pair)  # fills what later comparisons may share
    for whole in (None, other):
        judged = pair.with_prediction(select_tests(recorded, other)[1], whole)
        alone = Comparison(tests, select_tests(recorded, other)[1], whole=(recorded, whole))
        for spec in (spec for spec in specs if judged.tells(spec.needs)):
            assert alone.tells(spec.needs)
            assert spec.compute(judged) == pytest.approx(spec.compute(alone), abs=1e-12, nan_ok=True), (
                spec.name
            )


@pytest.mark.parametrize("varies", [False, True])
def test_resampled_averages_score_as_datasets_of_the_same_values_do(varies):
    """Resampling leaves out what no score reads, and what does not change."""
    rng = np.random.default_rng(0)
    recorded, fitted = create_pair()
    if varies:
        fitted = fitted.assign(outputs=fitted["outputs"] + rng.standard_normal(fitted["outputs"].shape))
    pair = Comparison(*select_tests(recorded, fitted), whole=(recorded, fitted))
    drawn = Resampler(pair, draw(pair.trials, 2, rng)).redraw(1, -1)
    assert not np.allclose(drawn.truth["outputs"], pair.truth["outputs"])
    assert np.allclose(drawn.guess["outputs"], pair.guess["outputs"]) != varies
    alone = Comparison(pair.trials, pair.predicted, whole=(recorded, fitted))
    names = ("outputs", "rates")
    alone.truth = pair.truth.assign(
        {name: (pair.truth[name].dims, drawn.truth[name].values) for name in names}
    )
    alone.guess = pair.guess.assign(
        {name: (pair.guess[name].dims, drawn.guess[name].values) for name in names}
    )
    for spec in (spec for spec in SCORES if spec.is_resampled and spec.parts is None):
        assert spec.compute(drawn) == pytest.approx(spec.compute(alone), abs=1e-12, nan_ok=True), spec.name
