"""The assessment of a fit: values, ceilings, chance and intervals."""

import numpy as np
import pytest
import scipy.stats

from nwbrnn.dataset import create_dataset
from nwbrnn.evaluation import assess, evaluate
from nwbrnn.evaluation.specs import SPIKES, correct_reliability
from nwbrnn.preprocessing import average_conditions
from tests.messages import names

N_CONDITIONS, N_TRIALS, N_TIME, N_UNITS = 6, 12, 30, 8
NOISE = 0.8
HIGHER = (
    "output R2", "output VAF", "output skill", "sampled neurons R2", "unsampled neurons R2", "PSTH R2",
    SPIKES, "canonical correlation", "SVCCA", "linear CKA",
)  # fmt: skip
LOWER = ("principal angle", "Procrustes angle")


def create_pair(*, noise=NOISE, n_test=8, counts=True, seed=0, noise_seed=None):
    """Recorded trials around a true course for each condition, and a student that knows the true course."""
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
        assert score.ceiling == pytest.approx(score.value, abs=0.03), name
    for name in HIGHER:
        assert scores[name].value > scores[name].chance + 0.02, name
    assert scores["Procrustes angle"].value < scores["Procrustes angle"].chance - 2


def test_chance_and_intervals_that_would_say_nothing_are_nan():
    scores = get(assess(*create_pair(), n_resamples=2))
    assert np.isfinite(scores["principal angle"].value)
    assert np.isnan(scores["principal angle"].chance)
    assert np.isfinite(scores["rotation R2, recorded"].low)
    assert np.isnan(scores["rotation R2, student"].low)  # its course is the same in every trial


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


def test_spikes_are_expected_of_each_neuron_by_its_own_mean():
    recorded, predicted = create_pair()
    factors = np.array([1, 1, 1, 1, 0.02, 1, 1, 1])  # one unsampled neuron is far slower than the others
    recorded = recorded.assign(rates=recorded["rates"] * factors)
    predicted = predicted.assign(rates=predicted["rates"] * factors)
    rng = np.random.default_rng(0)
    counts = rng.poisson(predicted["rates"].values.clip(0) * 0.05)
    recorded = recorded.assign(spike_counts=(recorded["rates"].dims, counts))
    test = recorded["split"].values == "test"
    k, rates, seen = (
        values[test][..., 4:].reshape(-1, 4)
        for values in (counts, predicted["rates"].values, recorded["rates"].values)
    )
    expected = np.maximum(rates, 0.05 * seen.mean(axis=0)) * 0.05
    gain = (scipy.stats.poisson.logpmf(k, expected) - scipy.stats.poisson.logpmf(k, k.mean(axis=0))).sum()
    found = get(assess(recorded, predicted))[SPIKES].value
    assert found == pytest.approx(gain / k.sum() / np.log(2), rel=1e-6)


def test_ceilings_of_sampled_and_unsampled_neurons_are_told_apart():
    recorded, predicted = create_pair(counts=False)
    rates = np.where(recorded["sampled"].values, predicted["rates"].values, recorded["rates"].values)
    scores = get(assess(recorded.assign(rates=(recorded["rates"].dims, rates)), predicted))
    assert scores["sampled neurons R2"].ceiling == pytest.approx(1)
    assert scores["unsampled neurons R2"].ceiling < 0.97


def test_without_noise_everything_is_perfect():
    scores = get(assess(*create_pair(noise=0.0)))
    for name in HIGHER:
        if name != SPIKES:
            assert scores[name].value == pytest.approx(1, abs=1e-6), name
            assert scores[name].ceiling == pytest.approx(1, abs=1e-6), name
    for name in LOWER:
        assert scores[name].value == pytest.approx(0, abs=1e-2), name
    names = ("rotation R2", "rotation frequency", "rotation R2 of any linear dynamics")
    for name in names:
        assert scores[f"{name}, student"].value == pytest.approx(scores[f"{name}, recorded"].value)


def test_intervals_are_1_96_standard_deviations_of_the_score_wide_on_each_side():
    noise, n_test, shrunk = 0.05, 2, 0.6  # a student that is wrong in the same way in every trial
    recorded, student = create_pair(noise=noise, n_test=n_test, counts=False)
    truth = average_conditions(student)["outputs"].values.reshape(-1, 3)
    rng = np.random.default_rng(1)
    seen = truth + noise / np.sqrt(n_test) * rng.standard_normal((4000, *truth.shape))
    left = np.square(seen - shrunk * truth).sum(axis=(1, 2))
    expected = 1 - left / np.square(seen - seen.mean(axis=1, keepdims=True)).sum(axis=(1, 2))
    halves, covered = [], 0
    for seed in range(4):
        recorded, student = create_pair(noise=noise, n_test=n_test, counts=False, noise_seed=seed)
        student = student.assign(outputs=shrunk * student["outputs"])
        score = get(assess(recorded, student, n_resamples=30))["output R2"]
        halves.append((score.high - score.low) / 2)
        covered += score.low <= expected.mean() <= score.high
    assert np.mean(halves) == pytest.approx(1.96 * expected.std(), rel=0.25)
    assert covered >= 3


def test_intervals_cover_the_score_of_the_true_course_and_shrink_with_noise():
    expected = 1 - NOISE**2 / 8 / (1 + NOISE**2 / 8)
    scores = [get(assess(*create_pair(seed=seed, counts=False), n_resamples=15)) for seed in range(4)]
    found = [one["output R2"] for one in scores]
    # trials resampled with replacement are noisier than others: intervals are too wide rather than too narrow
    assert all(score.low <= expected <= score.high for score in found)
    small = get(assess(*create_pair(noise=0.1), n_resamples=15))["output R2"]
    assert small.high - small.low < 0.2 * np.mean([score.high - score.low for score in found])


def test_what_cannot_be_had_is_nan():
    scores = get(assess(*create_pair(n_test=1, counts=False), n_resamples=3))
    assert np.isnan(scores["output R2"].ceiling)  # one test trial has no halves
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


def test_reliability_of_the_whole_from_two_halves():
    rng = np.random.default_rng(0)
    signal = rng.standard_normal((20000, 1))
    halves = [signal + rng.standard_normal((20000, 1)) for _ in range(2)]
    # one half: 1 / (1 + 1), both together: 1 / (1 + 1/2)
    assert correct_reliability(*halves)[0] == pytest.approx(2 / 3, abs=0.01)
    assert correct_reliability(signal, -signal)[0] == 0
    assert np.isnan(correct_reliability(signal, np.ones((20000, 1)))[0])
