"""The observed neurons as a network uses them: causal, and in units of hidden rates."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from nwbrnn.config import FitConfig
from nwbrnn.dataset import find_observed
from nwbrnn.losses import LOG_RANGE
from nwbrnn.models import Observations
from nwbrnn.preprocessing import normalize_rates, smooth_causally

Weights = Mapping[str, NDArray[np.floating]]


def encode_rates(sampled: xr.Dataset, config: FitConfig) -> NDArray[np.floating]:
    """Return the hidden rates that stand for recorded rates, shape (n_trials, n_time, n_sampled) [1]."""
    if config.dynamics_error == "squared" or config.nonlinearity == "softplus":
        return normalize_rates(sampled["rates"].values, sampled)
    relative = np.maximum(sampled["rates"].values / sampled["rate_offset"].values, np.exp(-LOG_RANGE))
    return np.asarray(relative - 1 if config.nonlinearity == "soc" else np.log(relative) / LOG_RANGE)


def encode_causally(neurons: xr.Dataset, config: FitConfig) -> NDArray[np.floating]:
    """Return the hidden rates that stand for spikes of each bin and earlier ones; NaN where not recorded.

    Where the data have rates only, those; they are as causal as the recording has them.
    """
    chosen = neurons
    if "spike_counts" in neurons:
        smoothed = smooth_causally(
            neurons["spike_counts"].values,
            bin_size=neurons.attrs["bin_size"],
            tau=config.observe_smoothing,
            valid=find_observed(neurons, "spike_counts"),
        )
        chosen = neurons.assign(rates=(neurons["rates"].dims, smoothed))
    with np.errstate(invalid="ignore", divide="ignore"):
        return encode_rates(chosen, config)


def count_observed(ds: xr.Dataset, config: FitConfig) -> int:
    """Return how many neurons correct the state of the network."""
    return int(ds["observed"].values.sum()) if config.observes else 0


def create_observations(
    trials: xr.Dataset, config: FitConfig, to_tensor: Callable[[NDArray[np.generic]], Tensor]
) -> Observations | None:
    """Return the observed neurons of single trials, or ``None`` if the network observes none.

    Spike counts, from this bin and earlier ones only; see :func:`encode_causally`. A neuron corrects
    nothing in bins that lack it.

    Parameters
    ----------
    trials
        Of a prepared Dataset.
    config
        Settings of the fit.
    to_tensor
        Makes a tensor of the precision of the network, 0 for NaN.
    """
    if not config.observes:
        return None
    observed = trials["observed"].values
    values = encode_causally(trials.isel(unit=observed), config)
    counted = trials["mask"].values[..., np.newaxis] & np.isfinite(values)
    units = np.flatnonzero(observed[trials["sampled"].values]).astype(np.int64)
    tensor = to_tensor(np.where(counted, values, 0))
    return Observations(tensor, to_tensor(counted), torch.from_numpy(units).to(tensor.device))


def forget_observer(weights: Weights, config: FitConfig) -> tuple[Weights, FitConfig]:
    """Return the weights and settings of the same network without its observer.

    What is disturbed in a network would else be corrected by neurons of an undisturbed recording.
    """
    kept = {name: values for name, values in weights.items() if name != "observer_weights"}
    return kept, config.model_copy(update={"observe": "none"})
