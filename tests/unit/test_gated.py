"""The gated recurrent unit: another network in every place where there is the rate network."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import nwbrnn
from nwbrnn.errors import ConfigError
from nwbrnn.models import NETWORKS, GatedRNN, Observations
from nwbrnn.prediction import EQUATIONS
from nwbrnn.prediction.disturbances import KINDS as DISTURBANCES
from nwbrnn.report import write_fit_report
from nwbrnn.training.probes import probe
from nwbrnn.weights import KINDS
from tests.messages import names
from tests.unit.test_training import create_recording

SMALL = {"network": "gru", "epochs": 30, "hidden": 12, "sampled": 4, "min_rate": 0, "learning_rate": 0.02}


def create(n_hidden=7, **settings):
    config = nwbrnn.FitConfig(network="gru", hidden=n_hidden, precision="float64", seed=3, **settings)
    return GatedRNN((2, n_hidden, 3), config, bin_size=0.02, n_conditions=4)


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_every_kind_of_network_is_listed_once():
    assert set(KINDS) == set(NETWORKS) == set(nwbrnn.FitConfig.model_fields["network"].annotation.__args__)
    assert set(EQUATIONS) == set(NETWORKS)


def test_states_are_those_of_torch():
    model = create()
    other = torch.nn.GRU(2, 7, dtype=torch.float64)
    with torch.no_grad():
        model.initial_state.copy_(torch.linspace(-0.5, 0.5, 7))
        model.bias.copy_(draw(7, 3))
        other.weight_hh_l0.copy_(model.recurrent_weights.transpose(0, 1).flatten(0, 1))
        other.weight_ih_l0.copy_(model.input_weights.transpose(0, 1).flatten(0, 1))
        other.bias_ih_l0.copy_(model.bias.T.flatten())
        other.bias_hh_l0.zero_()
    inputs = draw(4, 30, 2)
    outputs, rates = model(inputs)
    expected, _ = other(inputs.transpose(0, 1), model.initial_state.expand(1, 4, 7).contiguous())
    torch.testing.assert_close(rates, expected.transpose(0, 1))
    torch.testing.assert_close(outputs, rates @ model.output_weights.T + model.output_bias)


def test_without_gains_or_observations_an_observer_changes_nothing():
    config = nwbrnn.FitConfig(network="gru", hidden=7, precision="float64", seed=3)
    model = GatedRNN((2, 7, 3), config, bin_size=0.02, n_observed=2)
    inputs, values = draw(4, 30, 2), draw(4, 30, 2)
    seen = Observations(values, torch.ones_like(values), torch.tensor([0, 3]))
    outputs, rates = model(inputs)
    for gain, counted in ((0.0, 1.0), (0.3, 0.0)):
        with torch.no_grad():
            model.observer_weights.fill_(gain)
        found, tracked = model.track(inputs, replace(seen, counted=counted * seen.counted))
        torch.testing.assert_close(found, outputs, rtol=0, atol=0)
        for name in ("rates", "predicted"):
            torch.testing.assert_close(getattr(tracked, name), rates, rtol=0, atol=0)


def test_an_observer_corrects_the_state_by_the_errors_of_the_prediction():
    config = nwbrnn.FitConfig(network="gru", hidden=7, precision="float64", seed=3)
    model = GatedRNN((2, 7, 3), config, bin_size=0.02, n_observed=2)
    with torch.no_grad():
        model.observer_weights.copy_(draw(7, 2))
    inputs, values = draw(4, 6, 2), draw(4, 6, 2)
    _, tracked = model.track(inputs, Observations(values, torch.ones_like(values), torch.tensor([0, 3])))
    state = model.initial_state.expand(4, 7)
    for t in range(6):
        before = model.run(inputs[:, t].unsqueeze(0), state, None)[0]
        torch.testing.assert_close(tracked.predicted[:, t], before)
        state = before + (values[:, t] - before[:, [0, 3]]) @ model.observer_weights.T
        torch.testing.assert_close(tracked.rates[:, t], state)


@pytest.mark.parametrize("start", ["learned", "condition", "data"])
def test_weights_make_the_same_network_again(start):
    model = create(initial_state=start)
    with torch.no_grad():
        model.initial_state.copy_(draw(*model.initial_state.shape).clamp(-0.9, 0.9))
    again = GatedRNN.from_weights(model.to_weights(), model.config, bin_size=0.02)
    inputs = draw(4, 6, 2)
    given = {
        "learned": None,
        "condition": torch.tensor([0, 3, -1, 1]),
        "data": torch.linspace(-0.9, 0.9, 8).reshape(4, 2),
    }[start]
    torch.testing.assert_close(again(inputs, start=given), model(inputs, start=given), rtol=0, atol=0)
    if start == "data":  # the first states are those that were seen, after one update at most
        quiet = {name: np.zeros_like(values) for name, values in model.to_weights().items()}
        rates = GatedRNN.from_weights(quiet, model.config, bin_size=0.02)(inputs, start=given)[1]
        torch.testing.assert_close(rates[:, 0, :2], given.double() / 2)  # gates at 1/2, candidate 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("nonlinearity", "softplus"),
        ("tau", 0.2),
        ("learn_tau", True),
        ("substeps", 2),
        ("excitatory", 0.8),
        ("density", 0.5),
        ("rank", 3),
        ("method", "least_squares"),
        ("precision", "bfloat16"),
    ],
)
def test_what_it_does_not_have_is_refused(name, value):
    with pytest.raises(ValueError, match=names(name, "gru")):
        nwbrnn.FitConfig(network="gru", **{name: value})


@pytest.fixture(scope="module")
def result(recording):
    """Return a short fit of a gated network to a recording."""
    return nwbrnn.fit(nwbrnn.read_nwb(recording.path, bin_size=0.1), **SMALL)


@pytest.mark.slow
def test_a_fit_reproduces_outputs_and_sampled_neurons():
    result = nwbrnn.fit(create_recording(), **SMALL | {"epochs": 150, "hidden": 20})
    scores = {s.name: s.value for s in result.scores.summary if s.level == "condition averages"}
    assert min(scores["output R2"], scores["sampled neurons R2"], scores["unsampled neurons R2"]) > 0.9
    assert result.weights["recurrent_weights"].shape == (20, 3, 20)
    assert result.history["train_total"][-1] < 0.5 * result.history["train_total"][0]


@pytest.mark.slow
@pytest.mark.cover
def test_a_fit_comes_back_from_a_file_with_its_equation(result, recording, tmp_path):
    path = nwbrnn.write_fit(result, recording.path, tmp_path / "fit.nwb")
    stored = nwbrnn.read_fit(path)
    assert stored.config == result.config
    for name, values in result.weights.items():
        np.testing.assert_array_equal(stored.weights[name], values, err_msg=name)
    again = nwbrnn.predict(stored.recorded, stored.weights, stored.config)
    np.testing.assert_allclose(again["outputs"], stored.predicted["outputs"], atol=1e-5)
    assert isinstance(stored.build_model(), GatedRNN)
    from nwbrnn.storage import open_nwb

    with open_nwb(path) as nwbfile:
        description = nwbfile.processing["nwbrnn"]["hidden_units"].description
    assert description == KINDS["gru"].equation


@pytest.mark.slow
@pytest.mark.cover
def test_a_page_shows_it_without_a_spectrum(result, tmp_path):
    scores = nwbrnn.assess(result.recorded, result.predicted, n_resamples=2)
    write_fit_report(result, tmp_path / "page.html", assessment=scores)
    page = (tmp_path / "page.html").read_text("utf-8")
    assert 'id="network"' in page
    assert "Eigenvalues" not in page
    with pytest.raises(ConfigError, match=names("network", "'gru'")):
        nwbrnn.plot.spectrum(result)


def test_it_is_disturbed_like_the_others(result):
    scores = probe(result.recorded, result.weights, result.config)
    for kind, levels in DISTURBANCES.items():
        weak, strong = (
            scores[f"output skill, disturbed {kind} {level:g}"] for level in (levels[0], levels[-1])
        )
        assert strong < weak < 1, kind
