"""Describe a network as a dynamical system with constant inputs."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from nwbrnn.config import FitConfig, Nonlinearity
from nwbrnn.evaluation.fixed_points import Gain, System, create_rate_system
from nwbrnn.models import NETWORKS
from nwbrnn.models.scan import activate

Array = NDArray[np.float64]
Weights = Mapping[str, NDArray[np.floating]]


def create_system(weights: Weights, config: FitConfig, inputs: Array, *, bin_size: float) -> System:
    """Return the equations of a network, in double precision.

    The equations of a rate network are implemented in NumPy, with their analytic Jacobian. Any other network
    is treated as the map from one bin to the next that its class defines, with automatic differentiation for
    the Jacobian.

    Parameters
    ----------
    weights
        Arrays by parameter name.
    config
        Settings of the fit.
    inputs
        Constant inputs, shape (n_inputs,).
    bin_size
        Width of a time bin [s].
    """
    if config.network != "rate":
        return _create_map(weights, config, inputs, bin_size=bin_size)
    double = {name: np.asarray(values, dtype=np.float64) for name, values in weights.items()}
    current = double["input_weights"] @ inputs + double["bias"]
    step = bin_size / config.substeps
    # a step is never longer than the time constant; see RateRNN.alpha
    tau = np.maximum(double.get("tau", np.array(config.tau)), step)
    return create_rate_system(
        double["recurrent_weights"], current, tau, create_gain(config.nonlinearity), step=step
    )


def create_gain(nonlinearity: Nonlinearity) -> Gain:
    """Return φ and φ' of a rate network in NumPy; see :func:`nwbrnn.models.scan.activate`."""

    def rate(states: Array) -> Array:
        return activate(torch.from_numpy(states), nonlinearity).numpy()

    def slope(states: Array) -> Array:
        if nonlinearity == "softplus":
            return np.asarray(-np.expm1(-rate(states)))
        rates = rate(states)
        if nonlinearity == "soc":
            rates = np.where(rates < 0, rates, rates / 4)  # 4 tanh(x / 4) has the slope 1 - tanh²(x / 4)
        return np.asarray(1 - rates**2)

    return Gain(rate, slope)


def find_states(weights: Weights, config: FitConfig, hidden: Array, *, bin_size: float) -> Array:
    """Return the states of hidden rates of any shape, moving rates at the ends of their range inwards."""
    model = NETWORKS[config.network].from_weights(weights, config, bin_size=bin_size)
    with torch.no_grad():
        states: Array = model.invert(torch.from_numpy(np.asarray(hidden, dtype=np.float64))).numpy()
    return states


def _create_map(weights: Weights, config: FitConfig, inputs: Array, *, bin_size: float) -> System:
    """Return the map of a network from one bin to the next."""
    double = {name: np.asarray(values, dtype=np.float64) for name, values in weights.items()}
    model = NETWORKS[config.network].from_weights(
        double, config.model_copy(update={"precision": "float64"}), bin_size=bin_size
    )
    held = torch.from_numpy(np.asarray(inputs, dtype=np.float64)).unsqueeze(0)

    def advance(state: torch.Tensor) -> torch.Tensor:
        return model.advance(state.unsqueeze(0), held)[0]

    def change(state: Array) -> Array:
        with torch.no_grad():
            after: Array = advance(torch.from_numpy(state)).numpy()
        return (after - state) / bin_size

    def jacobian(state: Array) -> Array:
        found = torch.autograd.functional.jacobian(advance, torch.from_numpy(state))  # type: ignore[no-untyped-call]
        return np.asarray((found.numpy() - np.eye(len(state))) / bin_size)

    return System(change, jacobian, bin_size)
