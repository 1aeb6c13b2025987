import numpy as np
import pytest
import scipy.stats
import torch

from nwbrnn.config import FitConfig
from nwbrnn.losses import (
    Outcome,
    Targets,
    compute_change,
    compute_loss_terms,
    identity,
    poisson_error,
    squared_error,
)
from nwbrnn.prediction.observations import expect_counts
from tests.messages import names


def create_target(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def create_mask(n_trials=3, n_time=5, n_missing=0):
    mask = torch.ones(n_trials, n_time, 1, dtype=torch.float64)
    mask[0, :n_missing] = 0
    return mask


def create_counts(seed=0):
    rng = np.random.default_rng(seed)
    return rng.poisson(1.5, (3, 5, 2)), rng.uniform(0.5, 3, (3, 5, 2))


def compute_deviance(counts, expected):  # against the saturated model, from SciPy's likelihood
    pmf = scipy.stats.poisson.logpmf
    return 2 * (pmf(counts, counts) - pmf(counts, expected)).sum()


def test_squared_error_is_one_minus_r2():
    target, predicted = create_target(3, 5, 2), create_target(3, 5, 2, seed=1)
    y, z = target.numpy().reshape(-1, 2), predicted.numpy().reshape(-1, 2)
    expected = ((y - z) ** 2).sum() / ((y - y.mean(axis=0)) ** 2).sum()
    assert squared_error(predicted, target, weight=create_mask()).item() == pytest.approx(expected)


def test_squared_error_is_zero_at_equality_and_one_at_the_mean():
    target, mask = create_target(3, 5, 2), create_mask(n_missing=2)
    mean = target[mask[..., 0] > 0].mean(dim=0).expand_as(target)
    assert squared_error(target, target, weight=mask).item() == 0
    assert squared_error(mean, target, weight=mask).item() == pytest.approx(1)


def test_squared_error_ignores_what_the_mask_hides():
    target, predicted, mask = create_target(3, 5, 2), create_target(3, 5, 2, seed=1), create_mask(n_missing=2)
    before = squared_error(predicted, target, weight=mask).item()
    target[0, :2] = 1e6
    assert squared_error(predicted, target, weight=mask).item() == before


def test_squared_error_refuses_a_constant_target():
    target = torch.ones(3, 5, 2).double()
    with pytest.raises(ValueError, match=names("target", "mask")):
        squared_error(torch.zeros(3, 5, 2), target, weight=create_mask())


@pytest.mark.parametrize("error", [squared_error, poisson_error])
def test_errors_refuse_other_shapes(error):
    target = create_target(3, 5, 2).exp()
    with pytest.raises(ValueError, match=names("predicted (3, 5, 1)", "target (3, 5, 2)")):
        error(target[..., :1], target, weight=create_mask())
    with pytest.raises(ValueError, match=names("target (3, 5, 2)", "weight (3, 4, 1)")):
        error(target, target, weight=create_mask(n_time=4))
    with pytest.raises(ValueError, match=names("target (3, 5, 2)", "weight (3, 5, 3)")):
        error(target, target, weight=torch.ones(3, 5, 3))


def test_poisson_error_is_a_ratio_of_deviances():
    counts, expected = create_counts()
    null = np.broadcast_to(counts.mean(axis=(0, 1)), counts.shape)
    got = poisson_error(torch.from_numpy(expected), torch.from_numpy(counts).double(), weight=create_mask())
    ratio = compute_deviance(counts, expected) / compute_deviance(counts, null)
    assert got.item() == pytest.approx(ratio, rel=1e-9)


def test_poisson_error_is_zero_at_the_counts_and_one_at_the_mean():
    counts = torch.from_numpy(create_counts()[0]).double() + 0.5  # averages over trials
    mean = counts.mean(dim=(0, 1)).expand_as(counts)
    assert poisson_error(counts, counts, weight=create_mask()).item() == pytest.approx(0, abs=1e-12)
    assert poisson_error(mean, counts, weight=create_mask()).item() == pytest.approx(1)


def test_poisson_error_ignores_what_the_mask_hides():
    counts, expected = (torch.from_numpy(a).double() for a in create_counts())
    mask = create_mask(n_missing=3)
    before = poisson_error(expected, counts, weight=mask).item()
    counts[0, :3] = 1000
    assert poisson_error(expected, counts, weight=mask).item() == before


def test_poisson_error_refuses_constant_counts():
    with pytest.raises(ValueError, match=names("counts", "mask")):
        poisson_error(torch.ones(3, 5, 2), torch.zeros(3, 5, 2), weight=create_mask())


def test_importance_weighs_channels_and_zero_leaves_them_out():
    target, predicted = create_target(3, 5, 2), create_target(3, 5, 2, seed=1)
    y, z = target.numpy().reshape(-1, 2), predicted.numpy().reshape(-1, 2)
    error, variation = ((y - z) ** 2).sum(axis=0), ((y - y.mean(axis=0)) ** 2).sum(axis=0)
    for factors in ([3.0, 1.0], [1.0, 0.0]):
        weight = create_mask() * torch.tensor(factors)
        expected = (factors * error).sum() / (factors * variation).sum()
        assert squared_error(predicted, target, weight=weight).item() == pytest.approx(expected)
    counts, rates = (torch.from_numpy(a).double() for a in create_counts())
    only_first = poisson_error(rates[..., :1], counts[..., :1], weight=create_mask())
    weighed = poisson_error(rates, counts, weight=create_mask() * torch.tensor([2.0, 0.0]))
    assert weighed.item() == pytest.approx(only_first.item())


@pytest.mark.parametrize("error", [squared_error, poisson_error])
def test_gradients_of_errors_equal_finite_differences(error):
    predicted = create_target(3, 5, 2).exp().requires_grad_()
    target = create_target(3, 5, 2, seed=1).abs()
    weight = create_mask(n_missing=2) * torch.tensor([1.0, 2.5])
    assert torch.autograd.gradcheck(lambda p: error(p, target, weight=weight), predicted)


def test_what_has_no_weight_passes_no_gradient_even_if_it_is_absurd():
    predicted = create_target(3, 5, 2).exp()
    predicted[0, :2] = 0  # a Poisson likelihood of nothing
    predicted.requires_grad_()
    target, weight = create_target(3, 5, 2, seed=1).abs(), create_mask(n_missing=2)
    for error in (squared_error, poisson_error):
        (gradient,) = torch.autograd.grad(error(predicted, target, weight=weight), predicted)
        assert torch.isfinite(gradient).all()
        assert (gradient[0, :2] == 0).all()


def test_expected_counts_follow_the_nonlinearity():
    rates, scale = torch.tensor([-1.0, 0.0, 1.0]), torch.tensor(2.0)
    logarithmic = expect_counts(rates, scale, nonlinearity="tanh", exp=torch.exp)
    np.testing.assert_allclose(logarithmic, [2 * np.exp(-3), 2, 2 * np.exp(3)], rtol=1e-6)
    np.testing.assert_allclose(expect_counts(rates, scale, nonlinearity="soc"), [0, 2, 4], atol=1e-5)
    np.testing.assert_allclose(expect_counts(rates[1:], scale, nonlinearity="softplus"), [0, 2], atol=1e-5)
    assert (expect_counts(rates[:1], scale, nonlinearity="soc") > 0).all()


def create_targets(dynamics, read, *, counts=False, mask=None):
    mask = create_mask() if mask is None else mask
    return Targets(create_target(3, 5, 2, seed=2), mask, dynamics, mask[:, : dynamics.shape[1]], read, counts)


@pytest.mark.parametrize("dynamics_error", ["squared", "poisson"])
def test_loss_terms_are_named_and_compare_the_first_hidden_units(dynamics_error):
    outputs, rates = create_target(3, 5, 2), torch.tanh(create_target(3, 5, 4, seed=1))
    counts = torch.from_numpy(create_counts()[0]).double()
    means = torch.tensor([1.0, 2.0], dtype=torch.float64)
    hidden, k = rates.numpy()[..., :2], counts.numpy()
    null = np.broadcast_to(k.mean(axis=(0, 1)), k.shape)
    if dynamics_error == "poisson":
        targets = create_targets(
            counts, lambda r: expect_counts(r, means, nonlinearity="tanh", exp=torch.exp), counts=True
        )
        expected = compute_deviance(k, means.numpy() * np.exp(3 * hidden)) / compute_deviance(k, null)
    else:
        targets = create_targets(counts, identity)
        expected = ((hidden - k) ** 2).sum() / ((k - null) ** 2).sum()
    terms, total = compute_loss_terms(Outcome(outputs, rates, targets), FitConfig(dynamics_weight=0.5))
    assert total.item() == pytest.approx((terms["output"] + 0.5 * terms["dynamics"]).item())
    assert set(terms) == {"output", "dynamics", "rate"}
    assert terms["rate"].item() == pytest.approx(np.mean(rates.numpy() ** 2))
    assert terms["dynamics"].item() == pytest.approx(expected)


def test_change_of_rates_does_not_see_their_level():
    recorded, rates = create_target(3, 5, 2), create_target(3, 5, 4, seed=1)
    targets = create_targets(compute_change(recorded), compute_change)
    change, seen = np.diff(recorded, axis=1), np.diff(rates[..., :2], axis=1)
    expected = ((seen - change) ** 2).sum() / ((change - change.mean(axis=(0, 1))) ** 2).sum()
    for level in (0, 10):
        found = Outcome(create_target(3, 5, 2), rates + level, targets)
        terms, _ = compute_loss_terms(found, FitConfig(smoothness_penalty=1.0))
        assert terms["dynamics"].item() == pytest.approx(expected)
        assert terms["smoothness"].item() == pytest.approx((np.diff(rates, axis=1) ** 2).mean())


def test_loss_terms_without_sampled_neurons_have_no_dynamics():
    outputs = create_target(3, 5, 2, seed=2)
    targets = create_targets(torch.empty(3, 5, 0), identity)
    terms, total = compute_loss_terms(Outcome(outputs, torch.zeros(3, 5, 4), targets), FitConfig())
    assert total.item() == 0
    assert {name: term.item() for name, term in terms.items()} == {"output": 0.0, "rate": 0.0}
