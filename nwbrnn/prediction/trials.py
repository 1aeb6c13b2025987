"""Predict trials to which the network was not fitted."""

import warnings
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from nwbrnn.config import FitConfig
from nwbrnn.dataset import create_dataset, get_channel_units, get_unit_ids
from nwbrnn.errors import SchemaError
from nwbrnn.prediction.observations import forget_observer
from nwbrnn.prediction.predict import predict
from nwbrnn.preprocessing import (
    convert_channels,
    identify,
    is_pooled,
    list_sessions,
    list_sources,
    name_source,
)
from nwbrnn.schema import RECORDING, SESSION, validate
from nwbrnn.text import list_some

Weights = Mapping[str, NDArray[np.floating]]

KEPT = ("sampled", "observed", "rate_scale", "rate_offset", "output_scale", "output_units", "unit_id")
"""Coordinates that describe the network's outputs and units, whatever trials it sees."""


def predict_trials(
    recorded: xr.Dataset, weights: Weights, config: FitConfig, data: xr.Dataset | ArrayLike
) -> xr.Dataset:
    """Run a fitted network on the inputs of other trials, and on their neurons if it observes them.

    If only inputs are given, the network observes nothing.

    Parameters
    ----------
    recorded
        The prepared Dataset of the fit.
    weights
        Arrays by parameter name.
    config
        Settings of the fit.
    data
        A Dataset with the inputs of the fit, of which it uses ``inputs``, ``mask`` and ``condition``, and the
        neurons of the fit if it observes them; or an array of inputs, shape (n_trials, n_time, n_inputs) or
        (n_time, n_inputs), in bins of the fit. An array begins at the first bin of the fit.

    Returns
    -------
    xarray.Dataset
        The prediction, as from :func:`nwbrnn.predict`.

    Raises
    ------
    SchemaError
        If the inputs, the width of a bin or the units do not fit those of the fit.
    """
    if isinstance(data, xr.Dataset):
        trials = validate(data)
    elif config.initial_state == "data":
        raise SchemaError(
            ["inputs: expected a Dataset, since recorded rates set the initial state (initial_state: data)"]
        )
    else:
        trials = _create_trials(recorded, data)
        weights, config = forget_observer(weights, config)
    names = recorded["input"].values.tolist()
    missing = [name for name in names if name not in trials["input"].values.tolist()]
    if missing:
        raise SchemaError(
            [f"inputs: expected those of the fit, {', '.join(names)}, but {', '.join(missing)} is missing"]
        )
    theirs, own = trials.attrs["bin_size"], recorded.attrs["bin_size"]
    if not np.isclose(theirs, own, rtol=1e-6):
        raise SchemaError([f"bin_size: expected bins of {own:g} s, as in the fit, but got {theirs:g} s"])
    if isinstance(data, xr.Dataset):
        trials = _align_inputs(_convert_inputs(trials.sel(input=names), recorded), recorded)
    return predict(_adopt(trials, recorded, config), weights, config, fitted=recorded)


def _create_trials(recorded: xr.Dataset, inputs: ArrayLike) -> xr.Dataset:
    """Return trials with given inputs and unknown outputs and rates."""
    values = np.asarray(inputs, dtype=float)
    values = values[np.newaxis] if values.ndim == 2 else values
    names = recorded["input"].values
    if values.ndim != 3 or values.shape[2] != len(names) or not values.size:
        raise SchemaError(
            [
                f"inputs: expected the shape (n_trials, n_time, {len(names)}), for {', '.join(names)}, "
                f"but got {values.shape}"
            ]
        )
    if not np.isfinite(values).all():
        raise SchemaError(["inputs: expected finite numbers, but there is NaN or infinity"])
    bin_size = recorded.attrs["bin_size"]
    time = recorded["time"].values[0] + bin_size * np.arange(values.shape[1])
    empty = {name: np.zeros((*values.shape[:2], recorded.sizes[dim])) for name, dim in _SIZES.items()}
    coords = {"time": time, "input": names, "output": recorded["output"].values}
    return create_dataset(
        {"inputs": values} | empty, coords | {"unit": recorded["unit"].values}, bin_size=bin_size
    )


def _convert_inputs(trials: xr.Dataset, recorded: xr.Dataset) -> xr.Dataset:
    """Return trials with inputs in the units of a fit, if both say what these are."""
    stated = recorded.coords.get("recording_input_units")
    units = get_channel_units(recorded, "input") if stated is None else stated.values[0].tolist()
    return convert_channels(trials, "input", dict(zip(recorded["input"].values.tolist(), units, strict=True)))


def _align_inputs(trials: xr.Dataset, recorded: xr.Dataset) -> xr.Dataset:
    """Return trials with inputs on the scale that the fit of a pool gave those of their sessions."""
    if "recording_input_scale" not in recorded.coords or "recording_input_scale" in trials.coords:
        return trials
    if is_pooled(trials):
        known, own = recorded[RECORDING].values.tolist(), trials[SESSION].values.tolist()
    else:
        known = [name_source(one) for one in list_sessions(recorded)]
        own = [name_source(trials.attrs)] * trials.sizes["trial"]
    if any(known.count(session) != 1 for session in own):
        raise SchemaError(
            [
                "inputs: expected trials of the sessions of the fit, which brought the inputs of each to one "
                "scale (align_sessions), but got trials of which this is not known; give the pool, or an "
                "array of inputs on that scale"
            ]
        )
    rows = [known.index(session) for session in own]
    scale, offset = (
        recorded[f"recording_input_{part}"].values[rows][:, np.newaxis] for part in ("scale", "offset")
    )
    return trials.assign(inputs=trials["inputs"].copy(data=(trials["inputs"].values - offset) / scale))


_SIZES = {"outputs": "output", "rates": "unit"}


def _adopt(trials: xr.Dataset, recorded: xr.Dataset, config: FitConfig) -> xr.Dataset:
    """Return trials with the outputs and units of a fit, whatever their own outputs and units."""
    coords = {name: coord for name, coord in trials.coords.items() if coord.dims in (("trial",), ("time",))}
    described = {
        name: recorded[name] for name in ("unit", "output", "input", *KEPT) if name in recorded.coords
    }
    empty = {
        name: (("trial", "time", dim), np.zeros((*trials["mask"].shape, recorded.sizes[dim])))
        for name, dim in _SIZES.items()
    }
    adopted = xr.Dataset(empty, coords=coords | described, attrs={"bin_size": recorded.attrs["bin_size"]})
    adopted = adopted.assign(inputs=trials["inputs"], mask=trials["mask"])
    for name in _SIZES:
        adopted[name].attrs = dict(recorded[name].attrs)
    by_id = not (is_pooled(recorded) or is_pooled(trials))
    if (
        by_id
        and (config.initial_state == "data" or config.observes)
        and list_sources(trials) != list_sources(recorded)
    ):
        text = "the data come from another file; units with the ids of the fit are taken for the same neurons"
        warnings.warn(text, stacklevel=4)
    if config.initial_state == "data":  # the sampled neurons determine where each trial starts
        adopted = adopted.assign(_find_first(trials, recorded))
    if config.observes:
        adopted = adopted.assign(_find_observed(trials, recorded))
    return adopted


def _find_observed(trials: xr.Dataset, recorded: xr.Dataset) -> dict[str, tuple[Any, NDArray[Any]]]:
    """Return spike counts, or rates, of the units of a fit; NaN for those that are not there."""
    name = "spike_counts" if "spike_counts" in recorded else "rates"
    theirs, own = _name_units(trials, recorded)
    chosen = np.flatnonzero(recorded["observed"].values)
    observed = get_unit_ids(recorded)[chosen].tolist()
    missing = [unit for unit, row in zip(observed, chosen, strict=True) if own[row] not in theirs]
    if name not in trials or len(missing) == len(observed):
        raise SchemaError(
            [
                f"{name}: expected those of the neurons that the network observes, {list_some(observed)}, "
                "but there are none; give only inputs to predict without neurons"
            ]
        )
    if missing and not is_pooled(recorded):  # a trial of a pool never has the neurons of other sessions
        text = f"units {list_some(missing)} are not in the data; the network does not observe them"
        warnings.warn(text, stacklevel=4)
    return {name: (("trial", "time", "unit"), _place(trials[name], theirs, own))}


def _find_first(trials: xr.Dataset, recorded: xr.Dataset) -> dict[str, tuple[Any, NDArray[Any]]]:
    """Return the spike counts, or rates, of the units of a fit, which set the initial state."""
    name = "spike_counts" if "spike_counts" in recorded else "rates"
    theirs, own = _name_units(trials, recorded)
    ids = get_unit_ids(recorded).tolist()
    missing = [unit for unit, key in zip(ids, own, strict=True) if key not in theirs]
    most = len(own) - 1 if is_pooled(recorded) else 0  # a trial of a pool lacks those of other sessions
    if len(missing) > most or name not in trials:
        what = f"units {missing[:20]} are missing" if missing else "there are none"
        raise SchemaError(
            [
                f"{name}: expected those of the units of the fit, since they set the initial state "
                f"(initial_state: data), but {what}"
            ]
        )
    return {name: (("trial", "time", "unit"), _place(trials[name], theirs, own))}


def _name_units(trials: xr.Dataset, recorded: xr.Dataset) -> tuple[list[Any], list[Any]]:
    """Return what tells which units of the trials are those of the fit: ids, or session and row in a pool."""
    if is_pooled(trials) or is_pooled(recorded):
        theirs, own = (_number(identify(ds, "unit")) for ds in (trials, recorded))
        return theirs, own
    return get_unit_ids(trials).tolist(), get_unit_ids(recorded).tolist()


def _number(units: list[tuple[str, int]]) -> list[tuple[str, int, int]]:
    """Return units with how often each came before, since two sessions of a pool can hold the same one."""
    seen: Counter[tuple[str, int]] = Counter()
    numbered = []
    for unit in units:
        numbered.append((*unit, seen[unit]))
        seen[unit] += 1
    return numbered


def _place(neurons: xr.DataArray, theirs: list[Any], own: list[Any]) -> NDArray[Any]:
    """Return the values of the units of a fit, NaN for those that are not there."""
    values = np.full((*neurons.shape[:2], len(own)), np.nan)
    rows = [i for i, unit in enumerate(own) if unit in theirs]
    values[..., rows] = neurons.values[..., [theirs.index(own[i]) for i in rows]]
    return values
