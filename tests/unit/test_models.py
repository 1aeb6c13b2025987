import numpy as np
import pytest
import torch

from nwbrnn.config import FitConfig
from nwbrnn.errors import ShapeError
from nwbrnn.models import RateRNN
from nwbrnn.models.scan import activate, invert

BIN_SIZE = 0.03
TAU = 0.1


def activate_by_hand(x, nonlinearity):
    if nonlinearity == "softplus":
        return np.logaddexp(0, x)
    if nonlinearity == "soc":
        return np.where(x < 0, np.tanh(x), 4 * np.tanh(x / 4))
    return np.tanh(x)


def run_numpy_loop(weights, inputs, *, noise=0.0, nonlinearity="tanh", substeps=1):
    w = {name: values.astype(float) for name, values in weights.items()}
    noise = np.broadcast_to(noise, (*inputs.shape[:2], len(w["bias"])))
    alpha = np.minimum(BIN_SIZE / substeps / w.get("tau", TAU), 1)
    outputs, rates = [], []
    for trial, disturbance in zip(inputs, noise, strict=True):
        x = w["initial_state"]
        for u, e in zip(trial, disturbance, strict=True):
            for _ in range(substeps):
                r = activate_by_hand(x, nonlinearity)
                recurrent = w["recurrent_weights"] @ r + w["input_weights"] @ u + w["bias"]
                x = x + alpha * (-x + recurrent + e)
            rates.append(activate_by_hand(x, nonlinearity))
            outputs.append(w["output_weights"] @ rates[-1] + w["output_bias"])
    shape = (*inputs.shape[:2], -1)
    return np.reshape(outputs, shape), np.reshape(rates, shape)


def create_model(n_hidden=5, n_conditions=1, **settings):
    config = FitConfig(**({"hidden": n_hidden, "tau": TAU, "precision": "float64", "seed": 1} | settings))
    return RateRNN((2, n_hidden, 3), config, bin_size=BIN_SIZE, n_conditions=n_conditions)


def create_random_model(**settings):
    """Return a model whose parameters are all random, within what limits them."""
    model = create_model(**settings)
    generator = torch.Generator().manual_seed(2)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
        parameter.data = parameter.data + 0.3 * noise if name == "log_tau" else noise
    model.constrain()
    return model


OPTIONS = {
    "tanh": {},
    "softplus": {"nonlinearity": "softplus"},
    "soc": {"nonlinearity": "soc"},
    "learned tau": {"learn_tau": True},
    "learned tau of softplus": {"learn_tau": True, "nonlinearity": "softplus"},
    "learned tau of soc": {"learn_tau": True, "nonlinearity": "soc"},
    "substeps": {"substeps": 3},
    "substeps and learned tau": {"substeps": 2, "learn_tau": True},
    "Dale's law": {"excitatory": 0.6},
    "sparse": {"density": 0.5},
    "low rank": {"rank": 2},
}


@pytest.mark.parametrize("settings", OPTIONS.values(), ids=OPTIONS)
def test_forward_equals_a_numpy_loop(settings):
    model = create_random_model(**settings)
    rng = np.random.default_rng(0)
    inputs, noise = rng.standard_normal((4, 6, 2)), rng.standard_normal((4, 6, 5))
    with torch.no_grad():
        plain = model(torch.from_numpy(inputs))
        noisy = model(torch.from_numpy(inputs), noise=torch.from_numpy(noise))
    how = {name: settings[name] for name in ("nonlinearity", "substeps") if name in settings}
    weights = model.to_weights()
    for got, expected in zip(plain, run_numpy_loop(weights, inputs, **how), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-11)
    for got, expected in zip(noisy, run_numpy_loop(weights, inputs, noise=noise, **how), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-11)


STARTS = {"condition": torch.tensor([1, 0, -1]), "data": torch.tensor([[0.3, -0.2], [0.1, 0.5], [-0.4, 0.2]])}


@pytest.mark.parametrize("settings", [*OPTIONS.values(), *({"initial_state": s} for s in STARTS)], ids=str)
def test_gradients_of_all_parameters_equal_finite_differences(settings):
    model = create_random_model(n_conditions=2, **settings)
    start = STARTS.get(settings.get("initial_state"))
    start = start.double() if start is not None and start.is_floating_point() else start
    generator = torch.Generator().manual_seed(3)
    inputs, seen = (torch.randn(3, 7, n, generator=generator, dtype=torch.float64) for n in (2, 5))
    names, parameters = zip(*model.named_parameters(), strict=True)

    def run(*values):
        given = dict(zip(names, values, strict=True))
        outputs, rates = torch.func.functional_call(model, given, (inputs,), {"start": start})
        return outputs.square().sum() + (rates * seen).sum()

    assert torch.autograd.gradcheck(run, parameters)


def test_initial_states_by_condition_and_their_mean_for_the_unknown():
    model = create_random_model(n_conditions=2, initial_state="condition")
    inputs = torch.zeros(3, 1, 2, dtype=torch.float64)
    rates = model(inputs, start=torch.tensor([1, 0, -1]))[1].detach().numpy()
    states = model.initial_state.detach().numpy()
    weights = model.to_weights()
    for row, state in enumerate([states[1], states[0], states.mean(axis=0)]):
        expected = run_numpy_loop(weights | {"initial_state": state}, inputs[:1].numpy())[1]
        np.testing.assert_allclose(rates[row], expected[0])


def test_initial_states_from_data_are_those_of_the_recorded_rates():
    model = create_random_model(initial_state="data")
    recorded = torch.tensor([[0.3, -0.2]], dtype=torch.float64)
    inputs = torch.zeros(1, 1, 2, dtype=torch.float64)
    state = model.initial_state.detach().numpy().copy()
    state[:2] = np.arctanh([0.3, -0.2])
    expected = run_numpy_loop(model.to_weights() | {"initial_state": state}, inputs.numpy())[1]
    np.testing.assert_allclose(model(inputs, start=recorded)[1].detach(), expected)


@pytest.mark.parametrize("nonlinearity", ["tanh", "softplus", "soc"])
def test_invert_finds_the_state_of_a_rate(nonlinearity):
    x = torch.linspace(-2, 2, 41, dtype=torch.float64)
    torch.testing.assert_close(invert(activate(x, nonlinearity), nonlinearity), x)
    assert torch.isfinite(invert(torch.tensor([-9.0, 9.0]), nonlinearity)).all()


def test_dales_law_keeps_the_sign_of_each_column():
    model = create_model(n_hidden=40, excitatory=0.75)
    before = np.sign(model.to_weights()["recurrent_weights"])
    assert (np.abs(before.sum(axis=0)) == 40).all()
    assert (before[0] > 0).sum() == 30
    model.full_weights.data += torch.randn(40, 40, generator=torch.Generator().manual_seed(0))
    model.constrain()
    after = model.to_weights()["recurrent_weights"]
    assert ((after == 0) | (np.sign(after) == before)).all()
    assert (after == 0).any()


def test_sparse_weights_stay_where_they_are():
    model = create_model(n_hidden=60, density=0.2)
    exists = model.to_weights()["recurrent_weights"] != 0
    assert exists.mean() == pytest.approx(0.2, abs=0.03)
    model.full_weights.data += 1
    model.constrain()
    np.testing.assert_array_equal(model.to_weights()["recurrent_weights"] != 0, exists)
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}  # as a fit stores it


def test_low_rank_weights_have_that_rank():
    weights = create_random_model(n_hidden=30, rank=3).to_weights()["recurrent_weights"]
    assert np.linalg.matrix_rank(weights) == 3


@pytest.mark.parametrize("settings", [{}, {"excitatory": 0.5}, {"density": 0.1}, {"rank": 5}], ids=str)
def test_gain_is_the_spectral_radius(settings):
    weights = create_model(n_hidden=300, gain=1.5, **settings).to_weights()["recurrent_weights"]
    radius = np.abs(np.linalg.eigvals(weights)).max()
    assert radius == pytest.approx(1.5, rel=1e-5 if settings else 0.1)


def test_initial_weights_keep_the_variance_of_what_they_add_up():
    config = FitConfig(hidden=400, seed=1)
    weights = RateRNN((100, 400, 100), config, bin_size=BIN_SIZE).to_weights()
    for name, n_inputs in (("input_weights", 100), ("output_weights", 400)):
        assert weights[name].var() == pytest.approx(1 / n_inputs, rel=0.05)
        assert weights[name].mean() == pytest.approx(0, abs=0.01)


def test_initial_states_from_data_are_the_learned_one_where_there_are_no_data():
    model = create_random_model(initial_state="data")
    inputs = torch.zeros(2, 3, 2, dtype=torch.float64)
    expected = run_numpy_loop(model.to_weights(), inputs.numpy())[1]
    np.testing.assert_allclose(model(inputs)[1].detach(), expected)


def test_same_seed_gives_the_same_network():
    first, same, other = (create_model(seed=s).to_weights() for s in (0, 0, 1))
    for name, values in first.items():
        np.testing.assert_array_equal(values, same[name])
    assert (first["recurrent_weights"] != other["recurrent_weights"]).any()


@pytest.mark.parametrize("settings", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_weights_round_trip(settings, dtype):
    model = create_random_model(**settings)
    weights = {name: values.astype(dtype) for name, values in model.to_weights().items()}
    again = RateRNN.from_weights(weights, model.config, bin_size=BIN_SIZE)
    repeated = again.to_weights()
    assert repeated.keys() == weights.keys()
    for name, values in weights.items():
        assert repeated[name].dtype == dtype
        np.testing.assert_allclose(repeated[name], values, rtol=1e-6 if name == "tau" else 0)
    inputs = torch.ones(2, 4, 2, dtype=torch.float64)
    seen = again(inputs.to(again.bias.dtype))[0].detach()
    np.testing.assert_allclose(seen, model(inputs)[0].detach(), atol=1e-4 if dtype == np.float32 else 1e-12)


def test_weights_are_copies():
    model = create_random_model()
    before = model.bias.detach().clone()
    weights = model.to_weights()
    copied = RateRNN.from_weights(weights, model.config, bin_size=BIN_SIZE)
    weights["bias"][:] = 99
    torch.testing.assert_close(model.bias.detach(), before)
    torch.testing.assert_close(copied.bias.detach(), before)


def test_from_weights_needs_every_parameter():
    model = create_random_model()
    weights = model.to_weights()
    del weights["recurrent_weights"]
    with pytest.raises(KeyError, match="recurrent_weights"):
        RateRNN.from_weights(weights, model.config, bin_size=BIN_SIZE)


WRONG = {
    "width": lambda v: v[..., :-1],
    "length": lambda v: np.concatenate([v, v]),
    "scalar": lambda v: v.ravel()[0],
    "whole numbers": lambda v: v.astype(int),
    "text": lambda v: np.full(v.shape, b"x"),
    "NaN": lambda v: v * np.nan,
    "infinity": lambda v: v + np.inf,
    "huge": lambda v: v + 1e200,
}


@pytest.mark.parametrize("kind", WRONG)
def test_from_weights_refuses_what_is_no_network(kind):
    model = create_random_model(learn_tau=True, initial_state="condition", n_conditions=2)
    weights = model.to_weights()
    own = {("input_weights", "width"), ("initial_state", "length")}  # other networks, and nothing wrong
    for name in [name for name in weights if (name, kind) not in own]:
        counted = kind in ("width", "length") and name in ("input_weights", "output_bias")
        changed = weights | {name: WRONG[kind](weights[name])}
        with pytest.raises(ShapeError, match="weights" if counted else name):
            RateRNN.from_weights(changed, model.config, bin_size=BIN_SIZE)


def test_alpha_is_clipped_at_one():
    for tau, expected in ((0.001, 1.0), (0.12, 0.25)):
        np.testing.assert_allclose(create_model(tau=tau).alpha.detach(), expected)
        np.testing.assert_allclose(create_model(tau=tau, learn_tau=True).alpha.detach(), expected)


def test_bfloat16_is_near_float32():
    single, half = (create_random_model(n_hidden=20, precision=p) for p in ("float32", "bfloat16"))
    inputs = torch.randn(3, 10, 2, generator=torch.Generator().manual_seed(0))
    outputs, rates = half(inputs)
    assert rates.dtype == torch.float32
    assert (rates - single(inputs)[1]).abs().mean() < 0.02
    outputs.square().sum().backward()
    assert torch.isfinite(half.full_weights.grad).all()
