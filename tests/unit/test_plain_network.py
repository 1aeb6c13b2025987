"""The network of a fit as a module that predicts in the units of the file, in ordinary torch operations."""

import numpy as np
import pytest
import torch

import nwbrnn
from nwbrnn.models import RateRNN
from nwbrnn.prediction.observations import find_start
from nwbrnn.teacher import TeacherConfig, simulate_teacher

TEACHER = {"n_neurons": 30, "n_directions": 4, "n_trials": 4, "preparation": 0.1, "movement": 0.2}
SETTINGS = {"hidden": 24, "sampled": 8, "min_rate": 0, "epochs": 3}


@pytest.fixture(scope="module")
def ds():
    return simulate_teacher(TeacherConfig(**TEACHER))


def list_inputs(result):
    recorded = result.recorded
    start = find_start(recorded, recorded, result.config)
    return torch.tensor(recorded["inputs"].values), None if start is None else torch.from_numpy(start)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"network": "gru", "precision": "float64"},
        {"substeps": 3, "learn_tau": True, "initial_state": "condition"},
        {"nonlinearity": "softplus", "initial_state": "data"},
        {"nonlinearity": "soc", "dynamics_error": "poisson"},
        {"dynamics_error": "poisson"},
        {"nonlinearity": "softplus", "dynamics_error": "poisson"},
        {"dynamics_weight": 0},
    ],
)
def test_it_predicts_what_the_fit_predicts_in_the_units_of_the_file(ds, settings):
    result = nwbrnn.fit(ds, **SETTINGS, **settings)
    inputs, start = list_inputs(result)
    with torch.no_grad():
        predicted = result.to_torch()(inputs, start=start)
    for name, values in predicted._asdict().items():
        expected = result.predicted[name].values
        atol = 1e-4 * np.abs(expected).max()
        np.testing.assert_allclose(values.numpy(), expected, rtol=1e-4, atol=atol, err_msg=name)


def test_its_state_is_all_of_it(ds):
    result, other = (nwbrnn.fit(ds, **SETTINGS, seed=seed) for seed in (0, 1))
    inputs, _ = list_inputs(result)
    module, copied = result.to_torch(), other.to_torch()
    copied.load_state_dict(module.state_dict())
    for mine, theirs in zip(module(inputs), copied(inputs), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


def test_second_derivatives_are_those_of_finite_differences(ds):
    result = nwbrnn.fit(ds, **SETTINGS, precision="float64")
    module = result.to_torch()
    inputs = torch.tensor(result.recorded["inputs"].values[:1, :5], dtype=torch.float64)

    def last(change):
        moved = torch.cat([inputs[:, :1] + change, inputs[:, 1:]], dim=1)
        return module(moved).outputs[0, -1, 0]

    zero = torch.zeros(inputs.shape[2], dtype=torch.float64)
    hessian = torch.autograd.functional.hessian(last, zero)
    size, step = 1e-3, torch.eye(len(zero), dtype=torch.float64)[0]
    curvature = (last(size * step) - 2 * last(zero) + last(-size * step)) / size**2
    assert float(hessian[0, 0].detach()) == pytest.approx(float(curvature.detach()), rel=1e-3)
    assert hessian[0, 0] != 0


def test_the_fast_loop_has_the_same_gradient(ds):
    result = nwbrnn.fit(ds, **SETTINGS, precision="float64")
    inputs = torch.tensor(result.recorded["inputs"].values, dtype=torch.float64)
    fast, plain = result.build_model(), result.to_torch().network
    assert isinstance(plain, RateRNN)
    for network in (fast, plain):
        network(inputs)[0].square().sum().backward()
    for (name, one), other in zip(fast.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-8, atol=1e-8, msg=name)
