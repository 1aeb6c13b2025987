import numpy as np
import pytest
import torch

from nwbrnn.errors import ShapeError
from nwbrnn.models import loops
from nwbrnn.models import observer as module
from nwbrnn.models.observer import Observations, track
from nwbrnn.models.scan import activate, scan

NONLINEARITIES = ["tanh", "softplus", "soc"]
SIZES = [(1, 1, 1, 1, 1), (6, 3, 5, 2, 1), (4, 2, 7, 7, 2), (3, 7, 13, 5, 3), (5, 10, 40, 9, 1)]


def create_problem(n_bins=6, n_trials=3, n_hidden=5, n_observed=3, substeps=1, *, dtype=torch.float64):
    generator = torch.Generator().manual_seed(n_hidden)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    # small, since torch rounds the softplus of states above 20
    weights = 0.5 * normal(n_hidden, n_hidden) / n_hidden**0.5
    keep = torch.rand(n_hidden, generator=generator, dtype=torch.float64).to(dtype)
    given = [
        normal(n_bins * substeps, n_trials, n_hidden),
        weights,
        keep,
        0.3 * normal(n_hidden, n_observed) / n_observed,
        normal(n_trials, n_hidden),
    ]
    counted = torch.rand(n_trials, n_bins, n_observed, generator=generator).to(dtype).round()
    units = torch.randperm(n_hidden, generator=generator)[:n_observed]
    seen = Observations(normal(n_trials, n_bins, n_observed), counted, units)
    return [value.requires_grad_() for value in given], seen


def run_fast(drive, weights, keep, gains, initial, *, seen, nonlinearity="tanh"):
    return track(drive, (weights, keep, gains), initial, seen, nonlinearity=nonlinearity)[:2]


def run_slow(drive, weights, keep, gains, initial, *, seen, nonlinearity="tanh"):
    """Run the equation as it is written down, for autograd."""
    substeps = len(drive) // seen.values.shape[1]
    state, rates, predicted = initial, [], []
    for t, step in enumerate(drive):
        state = keep * state + activate(state, nonlinearity) @ weights.T + step
        if (t + 1) % substeps == 0:
            now = t // substeps
            predicted.append(activate(state, nonlinearity))
            error = seen.counted[:, now] * (seen.values[:, now] - predicted[-1][:, seen.units])
            state = state + error @ gains.T
        rates.append(activate(state, nonlinearity))
    return torch.stack(rates), torch.stack(predicted)


def compute_gradients(run, problem, **about):
    found = run(*problem, **about)
    generator = torch.Generator().manual_seed(9)
    weights = [torch.randn(one.shape, generator=generator, dtype=torch.float64) for one in found]
    loss = sum((one * weight.to(one.dtype)).sum() for one, weight in zip(found, weights, strict=True))
    return [*(one.detach() for one in found), *torch.autograd.grad(loss, problem)]


@pytest.fixture(params=["compiled", "torch"])
def loop(request, monkeypatch):
    if request.param == "torch":
        monkeypatch.setattr(module, "is_compiled", lambda values: False)
    return request.param


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
def test_rates_and_gradients_equal_an_autograd_loop(loop, sizes, nonlinearity):
    problem, seen = create_problem(*sizes)
    fast, slow = (
        compute_gradients(run, problem, seen=seen, nonlinearity=nonlinearity) for run in (run_fast, run_slow)
    )
    for got, expected in zip(fast, slow, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
def test_track_passes_gradcheck(loop, nonlinearity):
    problem, seen = create_problem(2, 2, 4, 2, 2)
    run = lambda *args: run_fast(*args, seen=seen, nonlinearity=nonlinearity)  # noqa: E731
    assert torch.autograd.gradcheck(run, problem)


@pytest.mark.parametrize("which", range(5))
def test_gradients_equal_central_differences(which):
    problem, seen = create_problem(5, 3, 6, 4, 2)

    def compute_loss(*given):
        rates, predicted = run_fast(*given, seen=seen)
        return rates.square().sum() + predicted[:, :, 1].sum()

    gradient = torch.autograd.grad(compute_loss(*problem), problem)[which]
    generator = torch.Generator().manual_seed(4)
    direction = torch.randn(problem[which].shape, generator=generator, dtype=torch.float64)

    def move(step):
        moved = [p.detach() + step * direction if i == which else p.detach() for i, p in enumerate(problem)]
        return compute_loss(*moved).item()

    expected = (move(1e-5) - move(-1e-5)) / 2e-5
    assert (gradient * direction).sum().item() == pytest.approx(expected, rel=1e-6)


def test_float32_is_near_float64():
    single, double = (
        compute_gradients(run_fast, problem, seen=seen)
        for problem, seen in (create_problem(30, 3, 17, 6, dtype=d) for d in (torch.float32, torch.float64))
    )
    for got, expected in zip(single, double, strict=True):
        scale = expected.abs().max().item()
        torch.testing.assert_close(got.double(), expected, rtol=0, atol=1e-4 * scale)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_gains_or_observations_it_is_the_network_bit_for_bit(loop, dtype, monkeypatch):
    if loop == "torch":
        monkeypatch.setattr("nwbrnn.models.scan.is_compiled", lambda values: False)
    problem, seen = create_problem(7, 3, 9, 4, dtype=dtype)
    drive, weights, keep, gains, initial = (value.detach() for value in problem)
    plain = scan(drive, weights, initial, keep)
    nothing = Observations(seen.values, torch.zeros_like(seen.counted), seen.units)
    for some_gains, observed in ((torch.zeros_like(gains), seen), (gains, nothing)):
        rates, predicted = track(drive, (weights, keep, some_gains), initial, observed)
        torch.testing.assert_close(rates, plain, rtol=0, atol=0)
        torch.testing.assert_close(predicted, plain, rtol=0, atol=0)


def test_with_a_constant_gain_a_linear_network_is_a_kalman_filter_in_its_steady_state():
    """Where rates are small φ is the identity, and the steady gain of a scalar filter has a closed form."""
    keep, process, noise, small = 0.9, 0.5, 2.0, 1e-6
    p = 1.0
    for _ in range(500):
        p = keep**2 * p * noise / (p + noise) + process
    gain = p / (p + noise)
    rng = np.random.default_rng(0)
    y = small * rng.standard_normal(50)
    expected, state = [], 0.0
    for value in y:
        state = keep * state
        state += gain * (value - state)
        expected.append(state)
    seen = Observations(
        torch.from_numpy(y).reshape(1, -1, 1),
        torch.ones(1, 50, 1, dtype=torch.float64),
        torch.zeros(1, dtype=torch.int64),
    )
    drive, one = torch.zeros(50, 1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    tracked = track(drive, (0 * one, keep * one[0], gain * one), 0 * one, seen)
    np.testing.assert_allclose(tracked.rates.ravel(), expected, rtol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nan_is_not_lost(dtype):
    problem, seen = create_problem(5, 2, 6, dtype=dtype)
    drive, weights, keep, gains, initial = (value.detach() for value in problem)
    gains[0, 0] = float("nan")
    rates, predicted = track(drive, (weights, keep, gains), initial, seen)
    assert rates[-1].isnan().any()
    assert predicted[-1].isnan().any()


def test_dropped_neurons_are_lost_for_a_whole_trial_and_the_mean_stays():
    counted = torch.ones(4000, 3, 5)
    seen = Observations(counted, counted, torch.arange(5))
    dropped = seen.drop(0.3, torch.Generator().manual_seed(0)).counted
    assert bool((dropped == dropped[:, :1]).all())
    assert sorted(set(dropped.unique().tolist())) == pytest.approx([0, 1 / 0.7])
    np.testing.assert_allclose(dropped[:, 0].mean(dim=0), 1, atol=0.03)


def create_arrays(function):
    rng = np.random.default_rng(0)
    shapes = {
        "drive": (4, 3, 5), "whole": (5, 3, 5), "bins": (2, 3, 5), "state": (1, 3, 5), "square": (5, 5),
        "keep": (5,), "tall": (5, 2), "wide": (2, 5), "seen": (2, 3, 2),
    }  # fmt: skip
    seen = ["seen", "seen", "units"]
    if function is loops.run_observed_forward:
        kinds = [["drive"], ["square", "keep", "wide"], seen, ["state", "whole", "bins", "seen"]]
    else:
        kinds = [["drive"], ["bins"], ["square", "keep", "tall"], seen, ["whole", "bins", "whole", "bins"]]
    draw = lambda kind: np.array([3, 0]) if kind == "units" else rng.normal(size=shapes[kind])  # noqa: E731
    return [[draw(kind) for kind in group] for group in kinds]


def call(function, groups):
    given = [group[0] if len(group) == 1 else tuple(group) for group in groups]
    given.insert(len(given) - 2, loops.TANH)
    function(*given)


DAMAGES = {
    "shorter": lambda v: np.ascontiguousarray(v[:-1]) if len(v) > 1 else np.ascontiguousarray(v[:, :-1]),
    "narrower": lambda v: np.ascontiguousarray(v[..., :-1]),
    "longer": lambda v: np.concatenate([v, v, v]),
    "scalar": lambda v: v.ravel()[0].reshape(()),
    "another type": lambda v: v.astype(np.int32),
    "half the precision": lambda v: v.astype(np.float32),
    "other strides": lambda v: np.repeat(v, 2, axis=-1)[..., ::2],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("function", [loops.run_observed_forward, loops.run_observed_backward])
def test_nothing_that_does_not_fit_reaches_a_compiled_loop(function, damage):
    call(function, create_arrays(function))
    for i, group in enumerate(create_arrays(function)):
        for j in range(len(group)):
            groups = create_arrays(function)
            groups[i][j] = damage(groups[i][j])
            with pytest.raises(ShapeError):
                call(function, groups)


@pytest.mark.parametrize("units", [[0, 5], [-1, 0]])
@pytest.mark.parametrize("function", [loops.run_observed_forward, loops.run_observed_backward])
def test_a_neuron_without_a_hidden_unit_does_not_reach_a_compiled_loop(function, units):
    groups = create_arrays(function)
    groups[-2][2] = np.array(units)
    with pytest.raises(ShapeError, match="units"):
        call(function, groups)


@pytest.mark.parametrize("which", range(5))
def test_track_refuses_shapes_that_do_not_fit(which):
    problem, seen = create_problem()
    given = [value.detach() for value in problem]
    given[which] = given[which][..., :-1]
    with pytest.raises(ShapeError):
        run_fast(*given, seen=seen)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
def test_track_on_a_gpu_agrees_with_the_cpu():
    found = []
    for device in ("cpu", "cuda"):
        problem, seen = create_problem(20, 4, 16, 6, 2)
        problem = [value.detach().to(device).requires_grad_() for value in problem]
        moved = Observations(seen.values.to(device), seen.counted.to(device), seen.units.to(device))
        rates, predicted = run_fast(*problem, seen=moved)
        loss = rates.square().sum() + predicted.sum()
        found.append([rates, predicted, *torch.autograd.grad(loss, problem)])
    for on_cpu, on_gpu in zip(*found, strict=True):
        torch.testing.assert_close(on_gpu.cpu(), on_cpu, rtol=1e-9, atol=1e-9)
