"""The equations of fitted networks in NumPy: the same as those of training, in torch and compiled."""

import numpy as np
import pytest
import torch

import nwbrnn
from nwbrnn.errors import ShapeError
from nwbrnn.models import NETWORKS, Observations
from nwbrnn.models import scan as in_torch
from nwbrnn.prediction import EQUATIONS
from nwbrnn.prediction import activations as in_numpy
from nwbrnn.prediction.equations import Seen

N_TRIALS, N_TIME, N_HIDDEN, BIN = 4, 30, 9, 0.01

SETTINGS = [
    {},
    {"nonlinearity": "softplus"},
    {"nonlinearity": "soc", "substeps": 3},
    {"learn_tau": True, "substeps": 2},
    {"tau": 0.005},
    {"network": "gru"},
]


def create(*, n_observed=0, **settings):
    """Return a network of training, the same network in NumPy, and inputs."""
    config = nwbrnn.FitConfig(hidden=N_HIDDEN, seed=3, **({"precision": "float64"} | settings))
    sizes = 2, N_HIDDEN, 3
    model = NETWORKS[config.network](
        sizes, config, bin_size=BIN, n_conditions=N_TRIALS, n_observed=n_observed
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name == "log_tau":
                parameter.add_(torch.linspace(-3, 1, N_HIDDEN))  # some units are as fast as a bin
            elif name != "full_weights":
                parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    equation = EQUATIONS[config.network](model.to_weights(), config, bin_size=BIN)
    inputs = np.random.default_rng(0).standard_normal((N_TRIALS, N_TIME, 2)).astype(equation.dtype)
    return model, equation, inputs


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize(("precision", "tolerance"), [("float64", 1e-12), ("float32", 2e-6)])
def test_a_network_is_that_of_training(settings, precision, tolerance):
    model, equation, inputs = create(precision=precision, **settings)
    with torch.no_grad():
        outputs, rates = model(torch.from_numpy(inputs))
    found = equation.run(inputs, equation.begin(None, N_TRIALS), keep_states=True)
    assert found.rates.dtype == equation.read(found.rates).dtype == precision
    np.testing.assert_allclose(found.rates, rates, atol=tolerance)
    np.testing.assert_allclose(equation.read(found.rates), outputs, atol=5 * tolerance)
    np.testing.assert_allclose(equation.activate(found.states), found.rates, atol=tolerance)
    assert found.predicted is found.rates or np.shares_memory(found.predicted, found.rates)


@pytest.mark.parametrize("start", ["condition", "data"])
@pytest.mark.parametrize("network", ["rate", "gru"])
def test_states_begin_as_in_training(start, network):
    model, equation, inputs = create(initial_state=start, network=network)
    given = {"condition": np.array([2, -1, 0, 1]), "data": np.linspace(-1.2, 0.9, 8).reshape(4, 2)}[start]
    for some in (given, None):
        with torch.no_grad():
            rates = model(torch.from_numpy(inputs), start=None if some is None else torch.from_numpy(some))[1]
        found = equation.run(inputs, equation.begin(some, N_TRIALS)).rates
        np.testing.assert_allclose(found, rates, atol=1e-12)


@pytest.mark.parametrize("settings", SETTINGS)
def test_neurons_correct_the_state_as_in_training(settings):
    model, equation, inputs = create(n_observed=3, observe="sampled", **settings)
    rng = np.random.default_rng(1)
    values = rng.standard_normal((N_TRIALS, N_TIME, 3))
    counted, units = (rng.random(values.shape) < 0.7).astype(float), np.array([0, 4, 2])
    seen = Observations(torch.from_numpy(values), torch.from_numpy(counted), torch.from_numpy(units))
    with torch.no_grad():
        outputs, tracked = model.track(torch.from_numpy(inputs), seen)
    states = equation.begin(None, N_TRIALS)
    found = equation.run(inputs, states, seen=Seen(values, counted, units), keep_states=True)
    np.testing.assert_allclose(found.rates, tracked.rates, atol=1e-12)
    np.testing.assert_allclose(found.predicted, tracked.predicted, atol=1e-12)
    np.testing.assert_allclose(equation.read(found.rates), outputs, atol=1e-12)
    np.testing.assert_allclose(equation.activate(found.states), found.rates, atol=1e-12)


@pytest.mark.parametrize("settings", [one for one in SETTINGS if "substeps" not in one])
def test_a_shift_moves_the_state_within_its_bin(settings):
    _, equation, inputs = create(**settings)
    states, shift = equation.begin(None, N_TRIALS), np.zeros((N_TRIALS, N_TIME, N_HIDDEN))
    shift[:, 2] = 0.3
    plain, moved = (equation.run(inputs, states, shift=some, keep_states=True) for some in (None, shift))
    np.testing.assert_array_equal(moved.states[:, :2], plain.states[:, :2])
    np.testing.assert_allclose(moved.states[:, 2], plain.states[:, 2] + 0.3)
    assert not np.isclose(moved.states[:, 3], plain.states[:, 3]).any()


@pytest.mark.parametrize("substeps", [2, 5])
def test_substeps_share_a_shift(substeps):
    """Without weights, a unit forgets each share until the end of the bin, and the rest is the shift."""
    config = nwbrnn.FitConfig(hidden=2, substeps=substeps, precision="float64")
    shapes = {
        "recurrent_weights": (2, 2), "input_weights": (2, 1), "bias": 2, "output_weights": (1, 2),
        "output_bias": 1, "initial_state": 2,
    }  # fmt: skip
    equation = EQUATIONS["rate"](
        {name: np.zeros(shape) for name, shape in shapes.items()}, config, bin_size=BIN
    )
    shift = np.full((1, 1, 2), 0.3)
    found = equation.run(np.zeros((1, 1, 1)), np.zeros((1, 2)), shift=shift, keep_states=True)
    np.testing.assert_allclose(found.states, shift)


def test_products_in_bfloat16_are_those_of_training():
    model, equation, inputs = create(precision="bfloat16")
    with torch.no_grad():
        rates = model(torch.from_numpy(inputs))[1]
    found = equation.run(inputs, equation.begin(None, N_TRIALS)).rates
    exact = create(precision="float32")[1].run(inputs, equation.begin(None, N_TRIALS)).rates
    error, rounding = (np.abs(one - rates.numpy()).max() for one in (found, exact))
    assert error < rounding / 2  # a product that another order of sums rounds elsewhere is one step away


def test_bfloat16_is_that_of_torch():
    values = np.random.default_rng(0).standard_normal(10_000).astype(np.float32) * 100
    values = np.concatenate([values, np.float32([0, -0.0, 1 + 2**-8, 1 + 3 * 2**-8, np.inf])])
    expected = torch.from_numpy(values).bfloat16().float().numpy()
    np.testing.assert_array_equal(in_numpy.round_to_bfloat16(values), expected)


@pytest.mark.parametrize("nonlinearity", ["tanh", "softplus", "soc"])
@pytest.mark.parametrize("name", ["activate", "invert", "compute_slopes"])
def test_nonlinearities_are_those_of_torch(name, nonlinearity):
    values = np.linspace(-3, 6, 201)
    if name != "activate" and nonlinearity == "softplus":
        values = values[values > 0]
    found = getattr(in_numpy, name)(values, nonlinearity)
    expected = getattr(in_torch, name)(torch.from_numpy(values), nonlinearity)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("network", ["rate", "gru"])
def test_weights_that_do_not_fit_are_refused(network):
    model, equation, _ = create(network=network)
    weights = model.to_weights()
    weights["bias"] = weights["bias"][:-1]
    with pytest.raises(ShapeError, match="bias"):
        EQUATIONS[network](weights, equation.config, bin_size=BIN)


def test_a_network_that_runs_away_does_not_warn():
    _, equation, inputs = create(nonlinearity="softplus", precision="float32")
    equation._recurrent *= 1e4
    rates = equation.run(inputs, equation.begin(None, N_TRIALS)).rates
    assert np.isinf(rates).any()
    assert not np.isfinite(equation.read(rates)).all()
