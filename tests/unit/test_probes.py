"""Disturbed networks."""

import numpy as np
import pytest

from nwbrnn.evaluation import compute_skill
from nwbrnn.job import fit
from nwbrnn.prediction.disturbances import LEVELS
from nwbrnn.prediction.equations import RateEquation
from nwbrnn.preprocessing import average_conditions
from nwbrnn.training import probe
from nwbrnn.training import probes as module
from tests.unit.test_training import create_recording

SETTINGS = {"hidden": 30, "sampled": 6, "min_rate": 0, "method": "least_squares"}


@pytest.fixture(scope="module")
def fitted():
    return fit(create_recording(), **SETTINGS)


def run(result, weights=None):
    return probe(result.recorded, weights or result.weights, result.config)


def test_more_disturbance_is_worse(fitted):
    scores = run(fitted)
    assert len(scores) == 9
    for kind, levels in module.KINDS.items():
        values = [scores[f"output skill, disturbed {kind} {level:g}"] for level in levels]
        assert values[0] > values[1] > values[2], kind
    assert run(fitted) == scores


def test_without_disturbance_the_outputs_are_those_of_the_fit(fitted, monkeypatch):
    monkeypatch.setattr(module, "KINDS", dict.fromkeys(module.KINDS, (0.0,)))
    is_test = fitted.recorded["split"].values == "test"
    target, predicted = (
        average_conditions(ds.isel(trial=is_test)) for ds in (fitted.recorded, fitted.predicted)
    )
    size = fitted.recorded["output_scale"].values  # muscles count alike, whatever their unit is
    reference = average_conditions(fitted.recorded)["outputs"].values.reshape(-1, 3) / size
    pair = [ds["outputs"].values.reshape(-1, 3) / size for ds in (predicted, target)]
    for value in run(fitted).values():
        assert value == pytest.approx(compute_skill(*pair, reference), abs=1e-5)


def test_noise_of_the_inputs_is_relative_to_each_input_whatever_the_weights(fitted, monkeypatch):
    monkeypatch.setattr(module, "KINDS", {"inputs": (0.5,)})
    seen = []
    run_equation = RateEquation.run

    def record(self, inputs, states, **given):
        seen.append(inputs)
        return run_equation(self, inputs, states, **given)

    monkeypatch.setattr(RateEquation, "run", record)
    scaled = {"input_weights": 10 * fitted.weights["input_weights"]}
    for weights in (fitted.weights, dict(fitted.weights) | scaled):
        seen.clear()
        run(fitted, weights)
        clean = seen[0]
        noisy = np.concatenate(seen[1:]).reshape(-1, *clean.shape)  # whether repeats run together or not
        sizes = np.sqrt(np.square(noisy - clean).mean(axis=(0, 1, 2)))
        expected = 0.5 * np.sqrt(np.square(clean).mean(axis=(0, 1)))
        np.testing.assert_allclose(sizes, expected, rtol=0.1)
        assert not sizes[expected == 0].any()


def test_a_kick_is_of_the_size_that_was_asked_for(fitted, monkeypatch):
    """In a network that only leaks the kick must be seen in the states as it is."""
    monkeypatch.setattr(module, "KINDS", dict.fromkeys(module.KINDS, (0.3,)))
    weights = dict(fitted.weights)
    n_hidden = len(weights["bias"])
    weights["recurrent_weights"] = np.zeros((n_hidden, n_hidden), dtype=np.float32)
    seen = []
    run_equation = RateEquation.run

    def record(self, inputs, states, *, shift=None):
        course = run_equation(self, inputs, states, shift=shift)
        seen.append((shift, course.rates))
        return course

    monkeypatch.setattr(RateEquation, "run", record)
    run(fitted, weights)
    undisturbed = np.arctanh(seen[0][1].astype(float))
    asked, rates = next((shift, rates) for shift, rates in seen if shift is not None and shift[:, 0].any())
    repeats = np.arctanh(rates.astype(float)).reshape(-1, *undisturbed.shape)
    shift = (repeats - undisturbed)[:, :, 0].reshape(len(asked), -1)
    expected = 0.3 * np.sqrt(np.square(undisturbed).mean())
    assert np.sqrt(np.square(shift).mean()) == pytest.approx(expected, rel=0.3)
    np.testing.assert_allclose(shift, asked[:, 0], atol=2e-3)


def test_the_initial_state_is_disturbed_in_the_first_bin_and_the_state_later():
    result = fit(create_recording(), **SETTINGS, tau=0.02)  # the state of one bin is forgotten in the next
    weights = dict(result.weights)
    weights["recurrent_weights"] = np.zeros_like(weights["recurrent_weights"])
    mask = result.recorded["mask"].values.copy()
    mask[:, 0] = False
    hidden = result.recorded.assign(mask=(("trial", "time"), mask))
    whole, rest = (probe(ds, weights, result.config) for ds in (result.recorded, hidden))
    levels, unseen, kicked = (
        [scores[f"output skill, disturbed {kind} {level:g}"] for level in LEVELS]
        for scores, kind in ((whole, "initial state"), (rest, "initial state"), (rest, "kick"))
    )
    assert levels[0] > levels[-1]
    assert unseen[0] == pytest.approx(unseen[-1])
    assert kicked[0] > kicked[-1]
