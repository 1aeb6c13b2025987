"""Run a fitted network and return its predictions as a Dataset."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwbrnn.config import FitConfig
from nwbrnn.dataset import create_dataset, group_channels
from nwbrnn.evaluation import compute_principal_components, fit_ridge
from nwbrnn.prediction.equations import EQUATIONS
from nwbrnn.prediction.observations import (
    count_observed,
    create_observations,
    decode_rates,
    find_start,
    forget_observer,
)
from nwbrnn.preprocessing import average_conditions, find_conditions, normalize_outputs
from nwbrnn.schema import HIDDEN_UNIT, TIME, TRIAL
from nwbrnn.threads import limit_threads
from nwbrnn.weights import check_weights, find_sizes, list_shapes

Array = NDArray[np.floating]

# of the network, from which unsampled neurons are predicted; with 10 of its own components, even the recorded
# activity of held-out directions has an R2 of only 0.95, and with 20 of 0.99 (docs/performance.md)
N_COMPONENTS = 20

FREE_BLOCK = 1 << 24  # number of hidden rates of a free run to hold at a time

N_FOLDS = 5  # of trials, for the penalty of a readout from single trials

# of a repeated prediction, as a fraction of the range of a channel; bfloat16 alone may cost a hundredth
TOLERANCE, ROUNDING = 0.05, 1e-4


class Activity(NamedTuple):
    """Outputs, the hidden rates from which they are read, and those before neurons correct them."""

    outputs: Array
    hidden: Array
    before: Array


@limit_threads()
def predict(
    ds: xr.Dataset,
    weights: Mapping[str, Array],
    config: FitConfig,
    *,
    shift: Array | None = None,
    fitted: xr.Dataset | None = None,
) -> xr.Dataset:
    """Run a fitted network on the inputs of every trial, and on its neurons if it observes them.

    Parameters
    ----------
    ds
        A prepared Dataset.
    weights
        Arrays by parameter name, with ``rate_readout`` and ``rate_readout_offset``.
    config
        Settings of the fit.
    shift
        Shift of the states in each bin, shape (n_trials, n_time, n_hidden).
    fitted
        The prepared Dataset of the fit, if ``ds`` has other trials.

    Returns
    -------
    xarray.Dataset
        ``outputs`` in their recorded unit, ``rates`` of all units [Hz] (sampled ones directly from their
        hidden unit if there was a dynamics loss), ``hidden`` and the coordinates of ``ds``. A network that
        observes neurons predicts sampled ones from earlier bins. Outputs, ``hidden`` and other neurons also
        depend on neurons observed in the same bin (``observe_read``).

    Raises
    ------
    ShapeError
        If the weights do not fit the Dataset, the settings or one another.
    SchemaError
        If the network runs away, so that its predictions are not finite.
    """
    sizes = ds.sizes["input"], find_sizes(weights)[1], ds.sizes["output"]
    fitted = ds if fitted is None else fitted
    n_conditions, n_units = len(find_conditions(fitted)), ds.sizes["unit"]
    n_observed = count_observed(ds, config)
    shapes = list_shapes(sizes, config, n_conditions=n_conditions, n_units=n_units, n_observed=n_observed)
    check_weights(weights, shapes)
    activity = _run(ds, weights, config, shift=shift, fitted=fitted)
    return describe_activity(ds, activity, weights, config)


def describe_activity(
    ds: xr.Dataset, activity: Activity, weights: Mapping[str, Array], config: FitConfig
) -> xr.Dataset:
    """Return what a network did, in the units of the recording; see :func:`predict`."""
    outputs, hidden, before = activity
    rates = hidden @ weights["rate_readout"].T + weights["rate_readout_offset"]
    if config.dynamics_factor > 0:  # otherwise no hidden unit represents a neuron
        _link_sampled(rates, before, ds, config)
    variables = {
        "outputs": (outputs * ds["output_scale"].values).astype(outputs.dtype),
        "rates": rates,
        "hidden": hidden,
        "inputs": ds["inputs"].values,
        "mask": ds["mask"].values,
    }
    units = {name: ds[name].attrs["units"] for name in ("outputs", "inputs")}
    return create_dataset(
        variables,
        {str(name): coord for name, coord in ds.coords.items()},
        bin_size=ds.attrs["bin_size"],
        units=units,
    )


def compare_predictions(stored: xr.Dataset, repeated: xr.Dataset) -> dict[str, float]:
    """Return how far a repeated prediction is from the stored one.

    Parameters
    ----------
    stored, repeated
        The earlier and the repeated prediction from :func:`predict`.

    Returns
    -------
    dict
        Largest difference of ``outputs``, ``rates`` and ``hidden``, divided by the allowed difference, which
        is :data:`TOLERANCE` of the range of a channel. Rounding on another machine stays within this.
    """
    mask = stored["mask"].values
    ratios = {}
    for name in ("outputs", "rates", "hidden"):
        then, now = (normalize_outputs(ds)[name].values[mask].astype(float) for ds in (stored, repeated))
        allowed = TOLERANCE * np.ptp(then, axis=0) + ROUNDING * np.abs(then).max()
        ratios[name] = float((np.abs(now - then) / np.maximum(allowed, ROUNDING)).max())
    return ratios


def fit_rate_readout(ds: xr.Dataset, weights: Mapping[str, Array], config: FitConfig) -> dict[str, Array]:
    """Fit a linear prediction of every unit's rate from the network's leading components.

    The fit uses ordinary least squares on condition averages of the trials outside the test split. If the
    network observes neurons, it uses ridge regression of single trials on all hidden units instead, with the
    penalty that predicts left-out trials best, chosen separately for observed neurons and for the others.
    For each unit, only bins in which it was observed count.

    Returns
    -------
    dict
        ``rate_readout``, shape (n_units, n_hidden) [Hz], and ``rate_readout_offset``, shape (n_units,) [Hz].
    """
    hidden = _run(ds, weights, config).hidden
    known = ds["split"].values != "test"
    if config.observes:
        return _fit_single_trials(hidden[known], ds.isel(trial=known))
    trials = ds[["rates", "mask"]].assign(hidden=((TRIAL, TIME, HIDDEN_UNIT), hidden)).isel(trial=known)
    averages = average_conditions(trials)
    mask = averages["mask"].values
    activity, rates = (averages[name].values[mask].astype(np.float64) for name in ("hidden", "rates"))
    components, _ = compute_principal_components(activity, N_COMPONENTS)
    # store rows contiguously, as when read from a file, so that products are rounded the same way
    readout = np.empty((rates.shape[1], activity.shape[1]), dtype=np.float32)
    offset = np.empty(rates.shape[1], dtype=np.float32)
    seen = ~np.isnan(rates)
    for units, rows in group_channels(seen[:, :1] if seen.all() else seen):
        target, source = rates[rows][:, units], activity[rows]
        center, mean = source.mean(axis=0), target.mean(axis=0)
        coefficients = np.linalg.lstsq((source - center) @ components, target - mean)[0]
        weights_of_units = (components @ coefficients).T
        readout[units], offset[units] = weights_of_units, mean - weights_of_units @ center
    return {"rate_readout": readout, "rate_readout_offset": offset}


def _fit_single_trials(hidden: Array, known: xr.Dataset) -> dict[str, Array]:
    """Return the readout of rates from the hidden units of single trials; see :func:`fit_rate_readout`."""
    mask, rates = known["mask"].values, known["rates"].values
    parts = [np.arange(fold, len(mask), N_FOLDS) for fold in range(min(N_FOLDS, len(mask)))]
    readout = np.empty((rates.shape[2], hidden.shape[2]), dtype=np.float32)
    offset = np.empty(rates.shape[2], dtype=np.float32)
    observed = known["observed"].values
    # the state has seen the spikes of observed neurons, whose penalty would be too small for the others
    for chosen in (observed, ~observed):
        if chosen.any():
            ridge = fit_ridge(
                (hidden[rows][mask[rows]].astype(float), rates[rows][mask[rows]][:, chosen].astype(float))
                for rows in parts
            )
            readout[chosen], offset[chosen] = ridge.weights.T, ridge.offset
    return {"rate_readout": readout, "rate_readout_offset": offset}


def measure_free_run(ds: xr.Dataset, weights: Mapping[str, Array], config: FitConfig) -> float:
    """Let a network run on for twice the time it was trained on, and return how far its outputs stray.

    Parameters
    ----------
    ds
        A prepared Dataset.
    weights
        Arrays by parameter name.
    config
        Settings of the fit.

    Returns
    -------
    float
        The largest absolute output of that time, with the last inputs held, divided by the largest output
        before [1]. It is about 1 or less for a network that comes to rest, and infinite for one that runs
        away.
    """
    n_time = ds.sizes["time"]
    steps = np.minimum(np.arange(3 * n_time), n_time - 1)
    neurons = ["rates", "spike_counts"] if config.initial_state == "data" else []  # which begin each trial
    names = ["inputs", "mask", *(name for name in neurons if name in ds)]
    alone = forget_observer(weights, config)
    before, after = [], []
    # some trials at a time, to limit the memory for their hidden rates
    n_trials = max(FREE_BLOCK // (3 * n_time * find_sizes(weights)[1]), 1)
    for first in range(0, ds.sizes[TRIAL], n_trials):
        longer = ds[names].isel(trial=slice(first, first + n_trials), time=steps)
        outputs = np.abs(_run(longer, *alone, fitted=ds).outputs)
        before.append(outputs[:, :n_time].max())
        after.append(outputs[:, n_time:].max())
    largest, later = np.max(before), np.max(after)
    return float(later / largest) if np.isfinite(later) and largest > 0 else float("inf")


def _run(
    ds: xr.Dataset,
    weights: Mapping[str, Array],
    config: FitConfig,
    *,
    shift: Array | None = None,
    fitted: xr.Dataset | None = None,
) -> Activity:
    """Return outputs and hidden rates of every trial; see :func:`predict`."""
    equation = EQUATIONS[config.network](weights, config, bin_size=ds.attrs["bin_size"])
    inputs = np.nan_to_num(ds["inputs"].values)
    states = equation.begin(find_start(ds, ds if fitted is None else fitted, config), len(inputs))
    seen = create_observations(ds, config)
    if seen is None:
        # once for all trials that are alike, whose predictions are then the same to the last bit
        parts = [part.reshape(len(inputs), -1) for part in (inputs, states, shift) if part is not None]
        rows = np.ascontiguousarray(np.concatenate(parts, axis=1))
        whole = rows.view(np.dtype((np.void, rows.shape[1] * rows.itemsize)))[:, 0]  # compared as bytes
        _, first, belongs = np.unique(whole, return_index=True, return_inverse=True)
        pushed = None if shift is None else shift[first]
        hidden = equation.run(inputs[first], states[first], shift=pushed).rates[belongs]
        return Activity(equation.read(hidden), hidden, hidden)
    course = equation.run(inputs, states, shift=shift, seen=seen)
    read = course.predicted if config.observe_read == "prediction" else course.rates
    return Activity(equation.read(read), read, course.predicted)


def _link_sampled(rates: Array, hidden: Array, ds: xr.Dataset, config: FitConfig) -> None:
    """Replace the rates of sampled neurons by the rates that their own hidden units represent [Hz]."""
    sampled = np.flatnonzero(ds["sampled"].values)
    rates[..., sampled] = decode_rates(hidden[..., : len(sampled)], ds.isel(unit=sampled), config)
