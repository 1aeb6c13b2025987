"""Declare and check the contract of a network's weights: the arrays, their shapes and their types."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nwbrnn.config import FitConfig
from nwbrnn.errors import ShapeError
from nwbrnn.schema import LARGEST


class Kind(NamedTuple):
    """A kind of network: its equation, which a file stores next to its weights, and its gates.

    ``gates`` is the shape of the parameters that a hidden unit has several of; empty for plain rate units.
    """

    equation: str
    gates: tuple[int, ...] = ()


KINDS = {
    "rate": Kind("tau dx/dt = -x + recurrent_weights r + input_weights u + bias, {rate}"),
    "gru": Kind(
        "gated recurrent unit, each bin: a = s(W_a r + U_a u + b_a), g = s(W_g r + U_g u + b_g), "
        "r <- g r + (1 - g) tanh(a (W r) + U u + b), s the logistic function; second axis of "
        "recurrent_weights, input_weights and bias: a, g, candidate",
        (3,),
    ),
}
"""Kinds by the value of the setting ``network``."""

READOUT = ("rate_readout", "rate_readout_offset")
"""Arrays that predict all units from the hidden ones; their precision may differ from the others'."""


def list_shapes(
    sizes: tuple[int, int, int],
    config: FitConfig,
    *,
    n_conditions: int,
    n_units: int | None = None,
    n_observed: int = 0,
) -> dict[str, tuple[int, ...]]:
    """Return the shape of each array of a network.

    ``sizes`` are the numbers of inputs, hidden units and outputs. The initial state has a row for each of
    ``n_conditions`` if each condition has its own. The arrays of :data:`READOUT` are listed if ``n_units`` is
    given; ``n_observed`` neurons correct the state.
    """
    n_inputs, n_hidden, n_outputs = sizes
    rows = (n_hidden, *KINDS[config.network].gates)
    by_condition = config.initial_state == "condition"
    shapes: dict[str, tuple[int, ...]] = {
        "recurrent_weights": (*rows, n_hidden),
        "input_weights": (*rows, n_inputs),
        "bias": rows,
        "output_weights": (n_outputs, n_hidden),
        "output_bias": (n_outputs,),
        "initial_state": (n_conditions, n_hidden) if by_condition else (n_hidden,),
    }
    if config.learn_tau:
        shapes["tau"] = (n_hidden,)
    if n_observed:
        shapes["observer_weights"] = (n_hidden, n_observed)
    if n_units is not None:
        shapes |= {"rate_readout": (n_units, n_hidden), "rate_readout_offset": (n_units,)}
    return shapes


def find_sizes(weights: Mapping[str, NDArray[Any]]) -> tuple[int, int, int]:
    """Infer the numbers of inputs, hidden units and outputs from weights."""
    inputs, outputs = np.shape(weights["input_weights"]), np.shape(weights["output_bias"])
    if len(inputs) < 2 or len(outputs) != 1:
        raise ShapeError(
            f"input_weights, output_bias: expected two dimensions and one, but got {inputs} and {outputs}"
        )
    return inputs[-1], inputs[0], outputs[0]


def check_weights(weights: Mapping[str, NDArray[Any]], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse weights whose arrays, shapes, types or values are not those of :func:`list_shapes`.

    All are float32 or all are float64. Numbers must be finite, as must their squares, and time constants
    positive.
    """
    problems = [f"{name}: expected an array, but it is missing" for name in shapes if name not in weights]
    found = {name: np.asarray(weights[name]) for name in shapes if name in weights}
    dtype = next(
        (values.dtype for values in found.values() if values.dtype in (np.float32, np.float64)), None
    )
    for name, values in found.items():
        own = name in READOUT and values.dtype in (np.float32, np.float64)
        if values.shape != shapes[name]:
            problems.append(f"{name}: expected the shape {shapes[name]}, but got {values.shape}")
        elif values.dtype != dtype and not own:
            problems.append(f"{name}: expected {dtype or 'float32 or float64'}, but got {values.dtype}")
        elif not (np.abs(values) <= LARGEST).all():
            problems.append(f"{name}: expected finite numbers up to {LARGEST:g}, but got others")
        elif name == "tau" and not (values > 0).all():
            problems.append(f"tau: expected time constants above 0 s, but got {values.min():g}")
    if problems:
        raise ShapeError("; ".join(problems))
