"""How far networks agree: the same, rotated and different ones."""

import doctest

import numpy as np
import pytest

import nwbrnn
from nwbrnn.evaluation.baselines import SEED_MEAN
from nwbrnn.mechanism import agreement as module
from nwbrnn.mechanism import compare_networks, compare_runs, find_determined_share, predict_mean
from nwbrnn.mechanism.agreement import compute_determined_share, decode
from nwbrnn.prediction import predict
from tests.unit.test_training import create_recording

SETTINGS = {"hidden": 30, "sampled": 6, "min_rate": 0, "method": "least_squares", "seeds": 3, "processes": 1}


@pytest.fixture(scope="module")
def result():
    return nwbrnn.fit(create_recording(), **SETTINGS)


def test_examples():
    assert doctest.testmod(module, extraglobs={"np": np}).failed == 0


def test_a_network_agrees_with_itself_however_it_is_rotated(result):
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((30, 30)))[0]
    other = result.predicted.copy(deep=True)
    hidden = other["hidden"]
    other["hidden"] = hidden.dims, hidden.values @ rotation, hidden.attrs
    found = {name: values[0] for name, values in compare_networks([result.predicted, other]).items()}
    assert found["predicted outputs, R2"] == 1
    assert found["predicted unsampled neurons, R2"] == 1
    assert found["hidden activity, Procrustes angle"] == pytest.approx(0, abs=0.1)
    assert found["hidden units, cross-decoded R2"] > 0.85


def test_every_pair_of_seeds_is_compared(result):
    found = compare_runs(result)
    assert set(found) <= set(module.MEANINGS)
    assert all(len(values) == 3 for values in found.values())
    assert (
        compare_runs(nwbrnn.FitResult(result.recorded, result.predicted, result.runs[:1], result.config))
        == {}
    )


def test_it_does_not_matter_which_network_comes_first(result):
    first, second = (predict(result.recorded, run.weights, result.config) for run in result.runs[:2])
    one_way, other_way = compare_networks([first, second]), compare_networks([second, first])
    for name, values in one_way.items():
        assert values == pytest.approx(other_way[name], rel=1e-5), name


def test_the_mean_of_the_seeds_errs_less_than_its_parts(result):
    """The squared error is convex, so that of a mean is at most the mean of those of its parts."""
    (mean,) = predict_mean(result).values()
    assert "hidden" not in mean
    each = [predict(result.recorded, run.weights, result.config) for run in result.runs]
    for name in ("outputs", "rates"):
        truth = result.recorded[name].values
        errors = [np.square(ds[name].values - truth).mean() for ds in each]
        assert np.square(mean[name].values - truth).mean() < np.mean(errors)
    first = nwbrnn.FitResult(result.recorded, result.predicted, result.runs[:1], result.config)
    assert predict_mean(first) == {}
    scores = nwbrnn.assess(result.recorded, result.predicted, n_resamples=3, others=predict_mean(result))
    (output,) = (score for score in scores if score.name == "output R2")
    rival = output.rivals[-1]
    assert rival.name == SEED_MEAN
    assert rival.low < output.value - rival.value < rival.high


def test_cross_decoding_finds_linear_maps_and_nothing_else():
    rng = np.random.default_rng(1)
    first = rng.standard_normal((6, 40, 5))
    mask, trained = np.ones((6, 40), dtype=bool), np.arange(6) % 2 == 0
    mixed = first @ rng.standard_normal((5, 7)) + 3
    assert decode(mixed, first, trained=trained, mask=mask) == pytest.approx(1)
    assert decode(rng.standard_normal((6, 40, 4)), first, trained=trained, mask=mask) < 0.1
    assert np.isnan(decode(first, first, trained=np.ones(6, dtype=bool), mask=mask))


def test_weights_off_the_activity_are_not_determined(result):
    """Whatever is added there changes the share, and no prediction."""
    hidden = np.zeros((50, 4))
    hidden[:, :2] = np.random.default_rng(0).standard_normal((50, 2))
    hidden[:, 1] *= 0.5
    weights = np.array([[3.0, 0, 4.0, 0]])
    assert compute_determined_share(weights, hidden) == (pytest.approx(9 / 25), 2)
    assert compute_determined_share(weights, np.zeros((5, 4))) == (0.0, 0)
    share, n_dimensions = find_determined_share(
        result.recorded, result.predicted, result.weights["recurrent_weights"]
    )
    assert 0 < share < 1
    assert 1 < n_dimensions < 30
