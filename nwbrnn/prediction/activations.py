"""The nonlinearities of rate networks in NumPy: rates of states, states of rates, and slopes."""

import numpy as np
from numpy.typing import NDArray

from nwbrnn.config import Nonlinearity

Array = NDArray[np.floating]

SOC_RANGE = 4.0  # (rmax - r0) / r0 of Stroud et al. 2018, Nature Neuroscience, doi:10.1038/s41593-018-0276-0
EDGE = 0.99  # of the range of a rate; a state beyond would be too large to return


def activate(states: Array, nonlinearity: Nonlinearity) -> Array:
    """Return the rates of states, any shape.

    ``tanh``; ``softplus``, log(1 + e^x); or ``soc``, tanh(x) for x < 0 and 4 tanh(x/4) for x >= 0: the gain
    function of Stroud et al. 2018 in units of the baseline rate.
    """
    if nonlinearity == "softplus":
        return np.asarray(np.maximum(states, 0) + np.log1p(np.exp(-np.abs(states))))
    if nonlinearity == "soc":
        return np.where(states < 0, np.tanh(states), SOC_RANGE * np.tanh(states / SOC_RANGE))
    return np.asarray(np.tanh(states))


def invert(rates: Array, nonlinearity: Nonlinearity) -> Array:
    """Return the states of rates of any shape; rates at or beyond the ends of the range move inwards."""
    if nonlinearity == "softplus":
        rates = np.maximum(rates, 1 - EDGE)
        return np.asarray(rates + np.log(-np.expm1(-rates)))
    negative = np.arctanh(np.clip(rates, -EDGE, EDGE))
    if nonlinearity == "soc":
        positive = SOC_RANGE * np.arctanh(np.clip(rates / SOC_RANGE, -EDGE, EDGE))
        return np.where(rates < 0, negative, positive)
    return np.asarray(negative)


def compute_slopes(rates: Array, nonlinearity: Nonlinearity) -> Array:
    """Return dr/dx, which follows from the rates alone."""
    if nonlinearity == "softplus":
        return np.asarray(-np.expm1(-rates))
    if nonlinearity == "soc":
        rates = np.where(rates < 0, rates, rates / SOC_RANGE)
    return np.asarray(1 - np.square(rates))


def round_to_bfloat16(values: Array) -> Array:
    """Return values in float32 that are rounded, to even, to the eight digits of bfloat16."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return (bits + np.uint32(0x7FFF) + ((bits >> 16) & np.uint32(1)) & np.uint32(0xFFFF0000)).view(np.float32)
