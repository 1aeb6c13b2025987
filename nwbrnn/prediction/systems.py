"""Describe a network as a dynamical system with constant inputs."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwbrnn.config import FitConfig, Nonlinearity
from nwbrnn.evaluation.fixed_points import Gain, System, create_rate_system
from nwbrnn.prediction.activations import activate, compute_slopes
from nwbrnn.prediction.equations import EQUATIONS, Equation

Array = NDArray[Any]
Weights = Mapping[str, NDArray[np.floating]]


def create_system(weights: Weights, config: FitConfig, inputs: Array, *, bin_size: float) -> System:
    """Return the equations of a network, in double precision.

    A rate network is a differential equation, integrated step by step. Any other network is the map from one
    bin to the next. Both have their analytic Jacobian.

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
    double = {name: np.asarray(values, dtype=np.float64) for name, values in weights.items()}
    if config.network != "rate":
        return _create_map(EQUATIONS[config.network](double, config, bin_size=bin_size), inputs)
    current = double["input_weights"] @ inputs + double["bias"]
    step = bin_size / config.substeps
    # a step is never longer than the time constant; see RateEquation.alpha
    tau = np.maximum(double.get("tau", np.array(config.tau)), step)
    return create_rate_system(
        double["recurrent_weights"], current, tau, create_gain(config.nonlinearity), step=step
    )


def create_gain(nonlinearity: Nonlinearity) -> Gain:
    """Return φ and φ' of a rate network; see :func:`nwbrnn.prediction.activations.activate`."""

    def rate(states: Array) -> Array:
        return activate(states, nonlinearity)

    def slope(states: Array) -> Array:
        return compute_slopes(activate(states, nonlinearity), nonlinearity)

    return Gain(rate, slope)


def find_states(weights: Weights, config: FitConfig, hidden: Array, *, bin_size: float) -> Array:
    """Return the states of hidden rates of any shape, moving rates at the ends of their range inwards."""
    equation = EQUATIONS[config.network](weights, config, bin_size=bin_size)
    return equation.invert(np.asarray(hidden, dtype=np.float64))


def _create_map(equation: Equation, inputs: Array) -> System:
    """Return the map of a network from one bin to the next."""
    held = equation.drive(inputs)

    def change(state: Array) -> Array:
        return (equation.advance(state, state, held) - state) / equation.bin_size

    def jacobian(state: Array) -> Array:
        return (equation.linearize(state, held) - np.eye(len(state))) / equation.bin_size

    return System(change, jacobian, equation.bin_size)
