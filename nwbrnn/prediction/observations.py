"""The sampled and the observed neurons as a network uses them: in units of hidden rates."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwbrnn.config import FitConfig, Nonlinearity
from nwbrnn.dataset import find_observed
from nwbrnn.prediction.equations import Seen
from nwbrnn.preprocessing import find_conditions, normalize_rates, smooth_causally

Weights = Mapping[str, NDArray[np.floating]]

LOG_RANGE = 3.0  # rates of tanh in (-1, 1) span expected counts from 1/20 to 20 times the mean
_LEAST = 1e-6  # of the scale, since an expected count of 0 would make any spike impossible


def encode_rates(sampled: xr.Dataset, config: FitConfig) -> NDArray[np.floating]:
    """Return the hidden rates that stand for recorded rates, shape (n_trials, n_time, n_sampled) [1]."""
    if config.dynamics_error == "squared" or config.nonlinearity == "softplus":
        return normalize_rates(sampled["rates"].values, sampled)
    relative = np.maximum(sampled["rates"].values / sampled["rate_offset"].values, np.exp(-LOG_RANGE))
    return np.asarray(relative - 1 if config.nonlinearity == "soc" else np.log(relative) / LOG_RANGE)


def decode_rates(
    hidden: NDArray[np.floating], sampled: xr.Dataset, config: FitConfig
) -> NDArray[np.floating]:
    """Return the rates [Hz] that hidden rates stand for, shape (n_trials, n_time, n_sampled)."""
    if config.dynamics_error == "poisson":
        scale = get_count_scale(sampled, config)
        return np.asarray(expect_counts(hidden, scale, nonlinearity=config.nonlinearity))
    return np.asarray(sampled["rate_scale"].values * hidden + sampled["rate_offset"].values)


def expect_counts(rates: Any, scale: Any, *, nonlinearity: Nonlinearity, exp: Any = np.exp) -> Any:
    """Return the spikes that hidden rates represent, in the unit of ``scale``.

    Parameters
    ----------
    rates
        Hidden rates, any shape with the neurons last.
    scale
        The mean for ``tanh`` and ``soc``, and the value of a hidden rate of 1 for ``softplus``, shape
        (n_neurons,).
    nonlinearity
        Nonlinearity of the hidden units. Rates of ``tanh`` are logarithmic, mean · exp(3 r); those of ``soc``
        begin at the baseline, mean · (1 + r); those of ``softplus`` begin at 0, scale · r.
    exp
        The exponential of the library of the arrays, which may be tensors.
    """
    if nonlinearity == "tanh":
        return scale * exp(LOG_RANGE * rates)
    above = rates + 1 if nonlinearity == "soc" else rates
    return scale * (above + _LEAST)


def get_count_scale(sampled: xr.Dataset, config: FitConfig) -> NDArray[np.floating]:
    """Return the scale of :func:`expect_counts` as a rate, shape (n_sampled,) [Hz]."""
    name = "rate_scale" if config.nonlinearity == "softplus" else "rate_offset"
    return np.asarray(sampled[name].values)


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


def create_observations(trials: xr.Dataset, config: FitConfig) -> Seen | None:
    """Return the observed neurons of single trials, or ``None`` if the network observes none.

    Spike counts, from this bin and earlier ones only; see :func:`encode_causally`. A neuron corrects
    nothing in bins that lack it.

    Parameters
    ----------
    trials
        Of a prepared Dataset.
    config
        Settings of the fit.
    """
    if not config.observes:
        return None
    observed = trials["observed"].values
    values = encode_causally(trials.isel(unit=observed), config)
    counted = trials["mask"].values[..., np.newaxis] & np.isfinite(values)
    units = np.flatnonzero(observed[trials["sampled"].values]).astype(np.int64)
    return Seen(np.where(counted, values, 0), counted, units)


def find_start(trials: xr.Dataset, ds: xr.Dataset, config: FitConfig) -> NDArray[np.generic] | None:
    """Return the values on which the initial states of trials depend; ``None`` if all states are the same.

    Parameters
    ----------
    trials
        The trials, or averages, to start.
    ds
        The prepared Dataset that they come from; each condition of its training trials has its own state.
    config
        Settings, of which ``initial_state`` is used.

    Returns
    -------
    ndarray or None
        See :meth:`nwbrnn.prediction.equations.Equation.begin`.
    """
    if config.initial_state == "condition":
        rows = {condition: row for row, condition in enumerate(find_conditions(ds))}
        return np.array([rows.get(condition, -1) for condition in trials["condition"].values.tolist()])
    if config.initial_state == "data":
        sampled = trials.isel(unit=trials["sampled"].values)
        bins = np.arange(sampled.sizes["trial"]), sampled["mask"].values.argmax(axis=1)  # the first recorded
        return np.asarray(np.nan_to_num(encode_causally(sampled, config)[bins]), dtype=np.float32)
    return None


def forget_observer(weights: Weights, config: FitConfig) -> tuple[Weights, FitConfig]:
    """Return the weights and settings of the same network without its observer.

    What is disturbed in a network would else be corrected by neurons of an undisturbed recording.
    """
    kept = {name: values for name, values in weights.items() if name != "observer_weights"}
    return kept, config.model_copy(update={"observe": "none"})
