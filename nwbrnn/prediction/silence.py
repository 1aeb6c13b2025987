"""Predict the effect of silencing chosen neurons of a fitted network."""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwbrnn.config import FitConfig
from nwbrnn.dataset import get_unit_ids
from nwbrnn.errors import ConfigError
from nwbrnn.prediction.observations import encode_rates, forget_observer
from nwbrnn.prediction.predict import predict
from nwbrnn.text import list_some

Weights = Mapping[str, NDArray[np.floating]]

_RECEIVERS = {
    "recurrent_weights": "bias",
    "output_weights": "output_bias",
    "rate_readout": "rate_readout_offset",
}
"""Weights that act on hidden rates, each with the bias that is added to their product."""


def silence(recorded: xr.Dataset, weights: Weights, config: FitConfig, units: Sequence[int]) -> xr.Dataset:
    """Run a fitted network in which chosen sampled neurons do not fire during the whole trial.

    Their hidden units keep the value that represents 0 Hz, and other units and outputs receive only this
    value from them. A network that observes neurons does not see them here.

    Parameters
    ----------
    recorded
        A prepared Dataset.
    weights
        Arrays by parameter name.
    config
        Settings of the fit.
    units
        Ids of sampled neurons.

    Returns
    -------
    xarray.Dataset
        The prediction, as from :func:`nwbrnn.predict`; the rates of silent neurons are 0 Hz.

    Raises
    ------
    ConfigError
        If a unit has no hidden unit of its own, or the network is not a rate network.
    """
    sampled = np.flatnonzero(recorded["sampled"].values & (config.dynamics_factor > 0))
    ids = get_unit_ids(recorded)[sampled].tolist()
    unknown = [unit for unit in units if unit not in ids]
    if unknown or not len(units):
        raise ConfigError(
            f"units: expected ids of sampled neurons, which have a hidden unit each, but got "
            f"{unknown or 'none'}; the fit has {list_some(ids)}"
        )
    if config.network != "rate":
        raise ConfigError(f"network: expected a rate network to silence units of, but got {config.network!r}")
    hidden = np.array([ids.index(unit) for unit in units])
    silent = recorded.isel(trial=[0], time=[0], unit=sampled)
    level = encode_rates(silent.assign(rates=xr.zeros_like(silent["rates"])), config)[0, 0, hidden]
    weights, config = forget_observer(weights, config)
    changed = {name: np.array(values) for name, values in weights.items()}
    for name, added in _RECEIVERS.items():
        changed[added] += (changed[name][:, hidden] @ level).astype(changed[added].dtype)
        changed[name][:, hidden] = 0
    predicted = predict(recorded, changed, config)
    predicted["hidden"][..., hidden] = level
    predicted["rates"][..., sampled[hidden]] = 0
    return predicted
