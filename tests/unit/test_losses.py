import numpy as np
import pytest
import scipy.stats
import torch

from nwbrnn.losses import (
    Targets,
    apply_exponential_link,
    compute_loss_terms,
    poisson_error,
    squared_error,
)


def create_target(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def create_mask(n_trials=3, n_time=5, n_missing=0):
    mask = torch.ones(n_trials, n_time, dtype=torch.bool)
    mask[0, :n_missing] = False
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
    assert squared_error(predicted, target, mask=create_mask()).item() == pytest.approx(expected)


def test_squared_error_is_zero_at_equality_and_one_at_the_mean():
    target, mask = create_target(3, 5, 2), create_mask(n_missing=2)
    mean = target[mask].mean(dim=0).expand_as(target)
    assert squared_error(target, target, mask=mask).item() == 0
    assert squared_error(mean, target, mask=mask).item() == pytest.approx(1)


def test_squared_error_ignores_what_the_mask_hides():
    target, predicted, mask = create_target(3, 5, 2), create_target(3, 5, 2, seed=1), create_mask(n_missing=2)
    before = squared_error(predicted, target, mask=mask).item()
    target[0, :2] = 1e6
    assert squared_error(predicted, target, mask=mask).item() == before


def test_squared_error_refuses_a_constant_target():
    target = torch.ones(3, 5, 2)
    with pytest.raises(ValueError, match="target: expected values that vary"):
        squared_error(torch.zeros(3, 5, 2), target, mask=create_mask())


@pytest.mark.parametrize("error", [squared_error, poisson_error])
def test_errors_refuse_other_shapes(error):
    target = create_target(3, 5, 2).exp()
    with pytest.raises(ValueError, match=r"expected equal shapes.*\(3, 5, 1\)"):
        error(target[..., :1], target, mask=create_mask())
    with pytest.raises(ValueError, match=r"expected equal shapes.*mask \(3, 4\)"):
        error(target, target, mask=create_mask(n_time=4))


def test_poisson_error_is_a_ratio_of_deviances():
    counts, expected = create_counts()
    null = np.broadcast_to(counts.mean(axis=(0, 1)), counts.shape)
    got = poisson_error(torch.from_numpy(expected), torch.from_numpy(counts).double(), mask=create_mask())
    ratio = compute_deviance(counts, expected) / compute_deviance(counts, null)
    assert got.item() == pytest.approx(ratio, rel=1e-9)


def test_poisson_error_is_zero_at_the_counts_and_one_at_the_mean():
    counts = torch.from_numpy(create_counts()[0]).double() + 0.5  # averages over trials
    mean = counts.mean(dim=(0, 1)).expand_as(counts)
    assert poisson_error(counts, counts, mask=create_mask()).item() == pytest.approx(0, abs=1e-12)
    assert poisson_error(mean, counts, mask=create_mask()).item() == pytest.approx(1)


def test_poisson_error_ignores_what_the_mask_hides():
    counts, expected = (torch.from_numpy(a).double() for a in create_counts())
    mask = create_mask(n_missing=3)
    before = poisson_error(expected, counts, mask=mask).item()
    counts[0, :3] = 1000
    assert poisson_error(expected, counts, mask=mask).item() == before


def test_poisson_error_refuses_constant_counts():
    with pytest.raises(ValueError, match="counts: expected values that vary"):
        poisson_error(torch.ones(3, 5, 2), torch.zeros(3, 5, 2), mask=create_mask())


def test_exponential_link_spans_twenty_times_the_mean_either_way():
    rates = torch.tensor([-1.0, 0.0, 1.0])
    linked = apply_exponential_link(rates, torch.tensor(2.0))
    np.testing.assert_allclose(linked, [2 * np.exp(-3), 2, 2 * np.exp(3)], rtol=1e-6)


@pytest.mark.parametrize("dynamics_error", ["squared", "poisson"])
def test_loss_terms_are_named_and_compare_the_first_hidden_units(dynamics_error):
    outputs, rates = create_target(3, 5, 2), torch.tanh(create_target(3, 5, 4, seed=1))
    counts = torch.from_numpy(create_counts()[0]).double()
    means = torch.tensor([1.0, 2.0], dtype=torch.float64)
    targets = Targets(create_target(3, 5, 2, seed=2), create_mask(), counts, means, dynamics_error)
    terms = compute_loss_terms(outputs, rates, targets)
    assert set(terms) == {"output", "dynamics", "rate"}
    assert terms["rate"].item() == pytest.approx(np.mean(rates.numpy() ** 2))
    hidden = rates.numpy()[..., :2]
    k = counts.numpy()
    null = np.broadcast_to(k.mean(axis=(0, 1)), k.shape)
    if dynamics_error == "poisson":
        expected = compute_deviance(k, means.numpy() * np.exp(3 * hidden)) / compute_deviance(k, null)
    else:
        expected = ((hidden - k) ** 2).sum() / ((k - null) ** 2).sum()
    assert terms["dynamics"].item() == pytest.approx(expected)


def test_loss_terms_without_sampled_neurons_have_no_dynamics():
    outputs = create_target(3, 5, 2)
    targets = Targets(outputs, create_mask(), torch.empty(3, 5, 0), torch.empty(0))
    terms = compute_loss_terms(outputs, torch.zeros(3, 5, 4), targets)
    assert {name: term.item() for name, term in terms.items()} == {"output": 0.0, "rate": 0.0}
