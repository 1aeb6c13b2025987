"""A fit as a torch module that predicts in the units of the file."""

from collections.abc import Mapping

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from nwbrnn.config import FitConfig
from nwbrnn.models import NETWORKS
from nwbrnn.models.plain import FittedNetwork
from nwbrnn.prediction.observations import LOG_RANGE, expect_counts, forget_observer, get_count_scale


def create_module(
    recorded: xr.Dataset, weights: Mapping[str, NDArray[np.floating]], config: FitConfig
) -> FittedNetwork:
    """Return the network of a fit with the scales of its outputs and rates, without an observer.

    Parameters
    ----------
    recorded
        The prepared Dataset of the fit.
    weights
        Arrays by parameter name, with ``rate_readout`` and ``rate_readout_offset``.
    config
        Settings of the fit.

    Raises
    ------
    ShapeError
        If the weights do not fit the settings or one another.
    """
    network = NETWORKS[config.network].from_weights(
        *forget_observer(weights, config), bin_size=recorded.attrs["bin_size"]
    )
    readout, offset = (np.array(weights[name]) for name in ("rate_readout", "rate_readout_offset"))
    logarithmic = np.zeros(len(offset), dtype=bool)
    if config.dynamics_factor > 0:  # otherwise no hidden unit stands for a neuron
        sampled = np.flatnonzero(recorded["sampled"].values)
        hidden = np.arange(len(sampled))
        readout[sampled] = 0
        readout[sampled, hidden], offset[sampled] = _describe_sampled(recorded.isel(unit=sampled), config)
        logarithmic[sampled] = config.dynamics_error == "poisson" and config.nonlinearity == "tanh"
    scale = recorded["output_scale"].values
    return FittedNetwork(network, *map(torch.from_numpy, (scale, readout, offset, logarithmic)))


def _describe_sampled(
    sampled: xr.Dataset, config: FitConfig
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Return slope and offset of the rate [Hz] of each neuron, or of its logarithm, over its hidden rate."""
    if config.dynamics_error == "squared":
        return sampled["rate_scale"].values, sampled["rate_offset"].values
    scale = get_count_scale(sampled, config)
    if config.nonlinearity == "tanh":
        return np.full(len(scale), LOG_RANGE), np.log(scale)
    zero, one = (expect_counts(at, scale, nonlinearity=config.nonlinearity) for at in (0.0, 1.0))
    return one - zero, zero
