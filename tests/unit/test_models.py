import numpy as np
import pytest
import torch

from nwbrnn.models import RateRNN
from nwbrnn.models.scan import scan


def create_problem(*, n_time=7, n_trials=3, n_hidden=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = (n_time, n_trials, n_hidden), (n_hidden, n_hidden), (n_trials, n_hidden)
    return [torch.randn(s, generator=generator, dtype=torch.float64).requires_grad_() for s in shapes]


def run_autograd_loop(drive, weights, initial, alpha):
    state, rates = initial, []
    for step in drive:
        state = (1 - alpha) * state + alpha * (torch.tanh(state) @ weights.T + step)
        rates.append(torch.tanh(state))
    return torch.stack(rates)


def run_numpy_loop(weights, inputs, alpha, noise=0.0):
    w = {name: values.astype(float) for name, values in weights.items()}
    noise = np.broadcast_to(noise, (*inputs.shape[:2], len(w["bias"])))
    outputs, rates = [], []
    for trial, disturbance in zip(inputs, noise, strict=True):
        x = w["initial_state"]
        for u, e in zip(trial, disturbance, strict=True):
            recurrent = w["recurrent_weights"] @ np.tanh(x) + w["input_weights"] @ u + w["bias"]
            x = x + alpha * (-x + recurrent + e)
            rates.append(np.tanh(x))
            outputs.append(w["output_weights"] @ np.tanh(x) + w["output_bias"])
    shape = (*inputs.shape[:2], -1)
    return np.reshape(outputs, shape), np.reshape(rates, shape)


def create_random_model(alpha=0.3):
    model = RateRNN((2, 5, 3), alpha=alpha, seed=1)
    generator = torch.Generator().manual_seed(2)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return model


@pytest.mark.parametrize("alpha", [0.3, 1.0])
@pytest.mark.parametrize("n_time", [1, 6])
def test_scan_passes_gradcheck(alpha, n_time):
    problem = create_problem(n_time=n_time, n_trials=2, n_hidden=3)
    assert torch.autograd.gradcheck(lambda *args: scan(*args, alpha=alpha), problem)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 1.0])
def test_scan_and_its_gradient_equal_an_autograd_loop(alpha):
    problem = create_problem()
    seen = torch.randn(7, 3, 4, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    fast, slow = scan(*problem, alpha=alpha), run_autograd_loop(*problem, alpha)
    torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-12)
    gradients = [torch.autograd.grad((rates * seen).sum(), problem) for rates in (fast, slow)]
    for got, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_scan_gradient_equals_central_differences(which):
    problem = create_problem()
    gradient = torch.autograd.grad(scan(*problem, alpha=0.2).square().sum(), problem)[which]
    direction = torch.randn(
        problem[which].shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64
    )

    def compute_loss(step):
        moved = [p.detach() + step * direction if i == which else p.detach() for i, p in enumerate(problem)]
        return run_autograd_loop(*moved, 0.2).square().sum().item()

    expected = (compute_loss(1e-5) - compute_loss(-1e-5)) / 2e-5
    assert (gradient * direction).sum().item() == pytest.approx(expected, rel=1e-6)


def test_scan_leaves_its_arguments_alone():
    problem = create_problem()
    before = [p.detach().clone() for p in problem]
    scan(*problem, alpha=0.4).sum().backward()
    for now, then in zip(problem, before, strict=True):
        torch.testing.assert_close(now.detach(), then, rtol=0, atol=0)


def test_scan_refuses_a_second_derivative():
    problem = create_problem()
    loss = scan(*problem, alpha=0.4).square().sum()
    (gradient,) = torch.autograd.grad(loss, problem[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_forward_equals_a_numpy_loop():
    model = create_random_model()
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((4, 6, 2)).astype(np.float32)
    noise = rng.standard_normal((4, 6, 5)).astype(np.float32)
    with torch.no_grad():
        plain = model(torch.from_numpy(inputs))
        noisy = model(torch.from_numpy(inputs), noise=torch.from_numpy(noise))
    for got, expected in zip(plain, run_numpy_loop(model.to_weights(), inputs, 0.3), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-5)
    for got, expected in zip(noisy, run_numpy_loop(model.to_weights(), inputs, 0.3, noise), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_weights_round_trip(dtype):
    weights = {name: values.astype(dtype) for name, values in create_random_model().to_weights().items()}
    again = RateRNN.from_weights(weights, alpha=0.3).to_weights()
    assert again.keys() == weights.keys()
    for name, values in weights.items():
        assert again[name].dtype == dtype
        np.testing.assert_array_equal(again[name], values)


def test_weights_are_copies():
    model = create_random_model()
    before = model.bias.detach().clone()
    weights = model.to_weights()
    copied = RateRNN.from_weights(weights, alpha=0.3)
    weights["bias"][:] = 99
    torch.testing.assert_close(model.bias.detach(), before)
    torch.testing.assert_close(copied.bias.detach(), before)


def test_from_weights_needs_every_parameter():
    weights = create_random_model().to_weights()
    del weights["recurrent_weights"]
    with pytest.raises(KeyError, match="recurrent_weights"):
        RateRNN.from_weights(weights, alpha=0.3)


def test_alpha_is_clipped_at_one():
    assert RateRNN((1, 2, 1), alpha=4.0).alpha == 1.0
    assert RateRNN((1, 2, 1), alpha=0.25).alpha == 0.25


def test_same_seed_gives_the_same_network_and_gain_its_spectral_radius():
    first, same, other = (RateRNN((2, 300, 1), alpha=0.1, gain=1.5, seed=s).to_weights() for s in (0, 0, 1))
    for name, values in first.items():
        np.testing.assert_array_equal(values, same[name])
    assert (first["recurrent_weights"] != other["recurrent_weights"]).any()
    radius = np.abs(np.linalg.eigvals(first["recurrent_weights"])).max()
    assert radius == pytest.approx(1.5, rel=0.1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
def test_scan_on_a_gpu_agrees_with_the_cpu():
    generator = torch.Generator().manual_seed(3)
    shapes = ((30, 4, 16), (16, 16), (4, 16))
    start = [torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in shapes]
    found = []
    for device in ("cpu", "cuda"):
        given = [value.to(device).detach().requires_grad_() for value in start]
        rates = scan(*given, alpha=0.3)
        rates.square().sum().backward()
        found.append([rates.detach().cpu(), *(value.grad.cpu() for value in given)])
    for on_cpu, on_gpu in zip(*found, strict=True):
        torch.testing.assert_close(on_gpu, on_cpu, rtol=1e-9, atol=1e-9)
