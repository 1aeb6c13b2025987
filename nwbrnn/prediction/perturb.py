"""Predict the effect of pushing chosen units, or the state of the population, of a fitted network."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwbrnn.config import FitConfig
from nwbrnn.dataset import get_unit_ids
from nwbrnn.errors import ConfigError
from nwbrnn.evaluation import compute_principal_components
from nwbrnn.prediction.observations import forget_observer
from nwbrnn.prediction.predict import predict
from nwbrnn.prediction.systems import find_states
from nwbrnn.preprocessing import average_conditions, average_rows, find_complete_units
from nwbrnn.text import list_some

Array = NDArray[np.float64]
Weights = Mapping[str, NDArray[np.floating]]


@dataclass(frozen=True)
class Push:
    """A push of some units: by how much, when and for how long.

    Attributes
    ----------
    units
        Weight of each unit by its id: 1 pushes it by ``size``, -0.5 the other way by half of it.
    size
        Total change of the rates [Hz].
    at
        Time at which the push begins, relative to the alignment [s].
    duration
        Time over which the change is spread evenly [s]; 0 applies it within one bin.
    """

    units: Mapping[int, float]
    size: float
    at: float = 0.0
    duration: float = 0.0

    def compute_change(self, recorded: xr.Dataset) -> Array:
        """Return the change in the rate of each recorded unit, shape (n_units,) [Hz].

        Raises
        ------
        ConfigError
            If there is no such unit, or a number is not finite.
        """
        ids = get_unit_ids(recorded).tolist()
        unknown = sorted(set(self.units) - set(ids))
        if unknown or not self.units:
            raise ConfigError(
                f"units: expected ids of units of the fit, but got {unknown or 'none'}; "
                f"the fit has {list_some(ids)}"
            )
        numbers = [*self.units.values(), self.size, self.at, self.duration]
        changes = [weight * self.size for weight in self.units.values()]
        if not np.isfinite([*numbers, *changes]).all() or self.duration < 0:
            raise ConfigError(
                "units, size, at, duration: expected finite numbers, and no duration below 0, but got "
                f"{numbers}"
            )
        change = np.zeros(len(ids))
        for unit, weight in self.units.items():
            change[ids.index(unit)] = weight * self.size
        return change

    def find_bins(self, recorded: xr.Dataset) -> NDArray[np.intp]:
        """Return the bins in which the push takes place.

        Raises
        ------
        ConfigError
            If the push is not within the window.
        """
        half = recorded.attrs["bin_size"] / 2
        time = recorded["time"].values
        first, last = time[0] - half, time[-1] + half
        if not first <= self.at < last or self.at + self.duration > last + 1e-9:
            raise ConfigError(
                f"at, duration: expected a push within the window of the fit, {first:g} to {last:g} s, "
                f"but got {self.at:g} to {self.at + self.duration:g} s"
            )
        start = np.searchsorted(time + half, self.at + 1e-9, side="right")
        stop = np.searchsorted(time - half, self.at + self.duration - 1e-9)
        return np.arange(start, max(stop, start + 1), dtype=np.intp)


def perturb(
    recorded: xr.Dataset,
    weights: Weights,
    config: FitConfig,
    push: Push,
    *,
    trials: xr.Dataset | None = None,
) -> xr.Dataset:
    """Run a fitted network with some of its units pushed.

    The hidden unit of a sampled neuron changes by as much as the rate of the neuron should. Units without a
    hidden unit (not sampled, or no dynamics loss) are pushed through the readout of rates, by the smallest
    change of hidden rates that produces the change of their rates. A network that observes
    neurons does not see them here.

    Parameters
    ----------
    recorded
        A prepared Dataset.
    weights
        Arrays by parameter name.
    config
        Settings of the fit.
    push
        The units to push, by how much and when.
    trials
        Trials to use instead of those of ``recorded``.

    Returns
    -------
    xarray.Dataset
        The prediction of the perturbed network, as from :func:`nwbrnn.predict`.

    Raises
    ------
    ConfigError
        If the fit has no such unit or time.
    """
    weights, config = forget_observer(weights, config)
    change = map_units(recorded, weights, config, push.compute_change(recorded))
    bins = push.find_bins(recorded)
    changes = np.zeros((recorded.sizes["time"], len(change)))
    changes[bins] = change / len(bins)
    trials = recorded if trials is None else trials
    hidden = predict(trials, weights, config, fitted=recorded)["hidden"].values.astype(np.float64)
    shift = shift_states(hidden, changes, weights, config, bin_size=recorded.attrs["bin_size"])
    return predict(trials, weights, config, shift=shift, fitted=recorded)


def map_units(recorded: xr.Dataset, weights: Weights, config: FitConfig, change: Array) -> Array:
    """Return the change of hidden rates that corresponds to a change of recorded rates.

    Parameters
    ----------
    recorded, weights, config
        Prepared Dataset, weights and settings of the fit.
    change
        Change of each recorded unit, shape (..., n_units) [Hz].

    Returns
    -------
    ndarray
        Change of each hidden unit, shape (..., n_hidden) [1].
    """
    readout = np.asarray(weights["rate_readout"], dtype=np.float64)
    sampled = np.flatnonzero(recorded["sampled"].values & (config.dynamics_factor > 0))
    free = np.setdiff1d(np.arange(len(readout)), sampled)
    hidden = np.zeros((*change.shape[:-1], readout.shape[1]))
    moved = change[..., free].any(axis=tuple(range(change.ndim - 1)))
    if moved.any():  # units that are not pushed may change freely
        pushed = free[moved]
        hidden += change[..., pushed] @ np.linalg.pinv(readout[pushed]).T
    own = change[..., sampled] / recorded["rate_scale"].values[sampled]
    hidden[..., : len(sampled)] = np.where(own != 0, own, hidden[..., : len(sampled)])
    return hidden


def map_population(recorded: xr.Dataset, hidden: Array, components: Array) -> Array:
    """Return the hidden rates that correspond to leading components of the recorded rates.

    They come from a least-squares regression of the network's hidden rates on the components, over the
    condition averages of all trials outside the test split.

    Parameters
    ----------
    recorded
        A prepared Dataset.
    hidden
        Hidden rates of the network, shape (n_trials, n_time, n_hidden).
    components
        Orthonormal axes, shape (n_units, n_components).

    Returns
    -------
    ndarray
        Hidden rates per component, shape (n_components, n_hidden) [1/Hz].
    """
    known = recorded["split"].values != "test"
    trials = recorded[["rates", "mask"]].assign(hidden=(("trial", "time", "hidden_unit"), hidden))
    averages = average_conditions(trials.isel(trial=known))
    mask = averages["mask"].values
    rates, units = (averages[name].values[mask].astype(np.float64) for name in ("rates", "hidden"))
    states = np.nan_to_num(rates - average_rows(rates)) @ components  # 0 for units that lack a condition
    return np.asarray(np.linalg.lstsq(states, units - units.mean(axis=0))[0])


def find_components(recorded: xr.Dataset, n_components: int) -> tuple[Array, Array]:
    """Return the leading components of the recorded rates, and the standard deviation along each.

    The components are those of the condition averages of all trials outside the test split, of the units
    that were observed in all of them.

    Returns
    -------
    components, deviations
        Axes, shape (n_units, n_components), and standard deviations, shape (n_components,) [Hz].
    """
    averages = average_conditions(recorded.isel(trial=recorded["split"].values != "test"))
    rates = averages["rates"].values[averages["mask"].values].astype(np.float64)
    complete = find_complete_units(averages)
    rates = rates if complete.all() else rates[:, complete]
    components, mean = compute_principal_components(rates, n_components)
    axes = np.zeros((len(complete), components.shape[1]))
    axes[complete] = components
    return axes, np.asarray(((rates - mean) @ components).std(axis=0))


def shift_states(
    hidden: Array, changes: Array, weights: Weights, config: FitConfig, *, bin_size: float
) -> Array:
    """Return the shift of states that changes hidden rates as given, from the network's current state.

    Parameters
    ----------
    hidden
        Hidden rates of the network, shape (n_trials, n_time, n_hidden) [1].
    changes
        Changes of these rates, shape (n_time, n_hidden) or (n_trials, n_time, n_hidden) [1].
    weights, config
        Weights and settings of the fit.
    bin_size
        Width of a time bin [s].

    Returns
    -------
    ndarray
        Shift, shape (n_trials, n_time, n_hidden); 0 where nothing changes.
    """
    before = find_states(weights, config, hidden, bin_size=bin_size)
    after = find_states(weights, config, hidden + changes, bin_size=bin_size)
    return np.where(np.broadcast_to(changes, hidden.shape) != 0, after - before, 0.0)
