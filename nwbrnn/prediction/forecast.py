"""What a network that observes neurons predicts some bins ahead."""

from collections.abc import Iterator, Mapping

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwbrnn.config import FitConfig
from nwbrnn.errors import ConfigError
from nwbrnn.prediction.equations import EQUATIONS
from nwbrnn.prediction.observations import create_observations, find_start
from nwbrnn.prediction.predict import Activity, describe_activity

Weights = Mapping[str, NDArray[np.floating]]


def forecast(
    recorded: xr.Dataset, weights: Weights, config: FitConfig, *, horizon: int = 10
) -> Iterator[xr.Dataset]:
    """Predict each bin from the neurons observed up to some bins before it.

    The task is known ahead: a forecast uses the inputs of all bins, also those that nobody has observed yet.
    Where a trial begins later than so many bins before, the network has observed nothing.

    Parameters
    ----------
    recorded
        A prepared Dataset.
    weights
        Arrays by parameter name, with ``rate_readout`` and ``rate_readout_offset``.
    config
        Settings of a fit that observes neurons.
    horizon
        Largest number of bins ahead.

    Yields
    ------
    xarray.Dataset
        As :func:`nwbrnn.predict` returns, for 0, 1, ..., ``horizon`` bins ahead, always from the state that
        the observed neurons have corrected. With 0 they are those of the bin itself, too, and sampled neurons
        are what the network says of them when it has seen them.

    Raises
    ------
    ConfigError
        If the fit observes no neurons, or the horizon is below 0.
    """
    if not config.observes:
        raise ConfigError("observe: expected a fit that observes neurons to forecast from; fit with observe")
    if horizon < 0:
        raise ConfigError(f"horizon: expected 0 bins or more, but got {horizon}")
    return _forecast(recorded, weights, config, horizon)


def _forecast(
    recorded: xr.Dataset, weights: Weights, config: FitConfig, horizon: int
) -> Iterator[xr.Dataset]:
    """Let the network run on from its state at the end of each bin; see :func:`forecast`."""
    equation = EQUATIONS[config.network](weights, config, bin_size=recorded.attrs["bin_size"])
    inputs = np.nan_to_num(recorded["inputs"].values)
    start = equation.begin(find_start(recorded, recorded, config), len(inputs))
    seen = create_observations(recorded, config)
    rates, _, states = equation.run(inputs, start, seen=seen, keep_states=True)
    blind = equation.run(inputs, start).rates
    n_trials, n_time, n_hidden = rates.shape
    for ahead in range(horizon + 1):
        if ahead and ahead < n_time:
            # one bin on from each state that is at least as many bins before the end
            run_on = inputs[:, ahead:].reshape(-1, 1, inputs.shape[2])
            before = states[:, : n_time - ahead].reshape(-1, n_hidden)
            found = equation.run(run_on, before, keep_states=True)
            states = found.states.reshape(n_trials, -1, n_hidden)
            rates = np.concatenate([blind[:, :ahead], found.rates.reshape(n_trials, -1, n_hidden)], axis=1)
        elif ahead:
            rates = blind
        activity = Activity(equation.read(rates), rates, rates)
        yield describe_activity(recorded, activity, weights, config)
