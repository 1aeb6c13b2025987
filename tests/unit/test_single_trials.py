"""Fits to single trials: the likelihood of spike counts with an observer, and neurons that tell nothing."""

import numpy as np
import pytest
import torch

import nwbrnn
from nwbrnn.evaluation import score_horizons
from nwbrnn.models import RateRNN
from nwbrnn.preprocessing import prepare
from nwbrnn.training import gradient
from nwbrnn.training.batches import create_batch
from tests.unit.test_observed_fits import BIN, create_recording

SETTINGS = {"hidden": 14, "sampled": 6, "min_rate": 0, "observe": "sampled", "precision": "float64"}


@pytest.mark.parametrize("nonlinearity", ["tanh", "soc", "softplus"])
def test_the_gradient_of_the_likelihood_of_counts_equals_central_differences(nonlinearity):
    config = nwbrnn.FitConfig(**SETTINGS, dynamics_error="poisson", nonlinearity=nonlinearity)
    ds = prepare(create_recording(), config)
    batch = create_batch(ds, "train", config, device=torch.device("cpu"))
    model = RateRNN((2, 14, 3), config, bin_size=ds.attrs["bin_size"], n_observed=6).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        model.observer_weights.normal_(0, 0.05, generator=generator)

    def compute_error():
        return gradient._compare(model, batch)["dynamics"]

    compute_error().backward()
    for name in ("full_weights", "input_weights", "bias", "observer_weights", "initial_state"):
        parameter = dict(model.named_parameters())[name]
        direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        slope, errors = (parameter.grad * direction).sum().item(), []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                parameter += step * direction
                errors.append(compute_error().item())
                parameter -= step * direction
        expected = (errors[0] - errors[1]) / 2e-5
        assert slope == pytest.approx(expected, rel=1e-5), name


def shuffle_neurons(ds, *, seed=0):
    """Return trials in which each neuron is that of another trial, drawn for each neuron anew."""
    rng, names = np.random.default_rng(seed), ("rates", "spike_counts")
    orders = [rng.permutation(ds.sizes["trial"]) for _ in range(ds.sizes["unit"])]
    shuffled = {
        name: np.stack([ds[name].values[order, :, i] for i, order in enumerate(orders)], axis=2)
        for name in names
    }
    return ds.assign({name: (ds[name].dims, values, ds[name].attrs) for name, values in shuffled.items()})


def test_the_dynamics_loss_of_an_observer_compares_with_the_spikes_of_each_bin_alone():
    """Smoothed rates hold earlier spikes, which the network has seen."""
    ds = create_recording()
    observing = prepare(ds, nwbrnn.FitConfig(**SETTINGS))
    train = observing["split"].values == "train"
    for observe, name in (("sampled", "spike_counts"), ("none", "rates")):
        config = nwbrnn.FitConfig(**SETTINGS | {"observe": observe, "average": False})
        found = create_batch(observing, "train", config, device=torch.device("cpu")).targets.dynamics.numpy()
        sampled = observing["sampled"].values
        values = observing[name].values[train][..., sampled] / (BIN if name == "spike_counts" else 1)
        offset, scale = (observing[n].values[sampled] for n in ("rate_offset", "rate_scale"))
        np.testing.assert_allclose(found, (values - offset) / scale, rtol=1e-6)


@pytest.mark.slow
def test_neurons_that_tell_nothing_do_not_make_it_worse_than_without_them():
    """Early stopping and the penalty leave the network as it is, within the spread over seeds."""
    ds = shuffle_neurons(create_recording())
    found = {
        observe: [
            nwbrnn.fit(ds, observe=observe, seed=seed, hidden=20, sampled=6, min_rate=0, epochs=200)
            for seed in range(4)
        ]
        for observe in ("none", "all")
    }
    name = "single-trial output R2"
    r2 = {
        observe: np.array([score_horizons(r.recorded, [r.predicted])[name][0] for r in results])
        for observe, results in found.items()
    }
    assert r2["all"].mean() > r2["none"].mean() - r2["none"].std(ddof=1)
    informed = nwbrnn.fit(create_recording(), observe="all", hidden=20, min_rate=0, epochs=200)
    told = score_horizons(informed.recorded, [informed.predicted])[name][0]
    assert told > r2["none"].mean() + 0.05  # the neurons as they were tell a lot
