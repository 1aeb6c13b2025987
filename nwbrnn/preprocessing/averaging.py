"""Averages over the trials of a condition."""

from collections.abc import Hashable

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwbrnn.schema import TIME, TRIAL


def average_conditions(ds: xr.Dataset) -> xr.Dataset:
    """Average the trials of each condition, bin by bin, over the recorded bins.

    Parameters
    ----------
    ds
        Any valid Dataset.

    Returns
    -------
    xarray.Dataset
        One ``trial`` for each condition, in order of first appearance, with ``n_trials``. A bin counts as
        recorded if it was recorded in any of the trials; spike counts become fractions. Trial coordinates
        other than the condition keep the value of the condition's first trial.
    """
    labels = ds["condition"].values
    first = np.sort(np.unique(labels, return_index=True)[1])
    belongs = labels[first][:, np.newaxis] == labels  # (n_conditions, n_trials)
    mask = ds["mask"].values
    n_recorded = np.einsum("ct,tb->cb", belongs.astype(float), mask.astype(float))
    averages: dict[Hashable, xr.Variable] = {}
    for name, variable in ds.data_vars.variables.items():
        if variable.dims[:2] == (TRIAL, TIME) and name != "mask":
            recorded = np.where(mask[..., np.newaxis], variable.values, 0).astype(np.float64)
            sums = np.tensordot(belongs.astype(np.float64), recorded, axes=1)
            with np.errstate(invalid="ignore"):
                mean = sums / n_recorded[..., np.newaxis]  # 0 / 0 is NaN: never recorded
            dtype = variable.dtype if variable.dtype.kind == "f" else np.float32
            averages[name] = xr.Variable(variable.dims, mean.astype(dtype), variable.attrs)
    averages["mask"] = xr.Variable((TRIAL, TIME), n_recorded > 0, ds["mask"].attrs)
    # made at once: each change of a Dataset copies and aligns all of it
    kept = {
        name: variable.isel({TRIAL: first}, missing_dims="ignore")
        for name, variable in ds.variables.items()
        if name not in averages
    }
    coords = {name: kept.pop(name) for name in ds.coords}
    return xr.Dataset(kept | averages, coords | {"n_trials": (TRIAL, belongs.sum(axis=1))}, ds.attrs)


def average_tests(recorded: xr.Dataset, predicted: xr.Dataset) -> tuple[xr.Dataset, xr.Dataset]:
    """Average the test trials of each condition, for a recording and its prediction.

    Parameters
    ----------
    recorded
        The recording, with ``split``.
    predicted
        The prediction for the same trials.

    Returns
    -------
    recorded, predicted
        The averages; see :func:`average_conditions`.
    """
    is_test = recorded["split"].values == "test"
    return average_conditions(recorded.isel(trial=is_test)), average_conditions(predicted.isel(trial=is_test))


def compute_standard_errors(ds: xr.Dataset, name: str) -> NDArray[np.float64]:
    """Return the standard error of each bin of the condition averages: SD over trials / √n.

    Parameters
    ----------
    ds
        Any valid Dataset.
    name
        A variable of shape (n_trials, n_time, n_channels).

    Returns
    -------
    ndarray
        Shape (n_conditions, n_time, n_channels), conditions as in :func:`average_conditions`, in the unit of
        the variable; NaN in bins with fewer than two recorded trials.
    """
    labels = ds["condition"].values
    values = np.where(ds["mask"].values[..., np.newaxis], ds[name].values, np.nan).astype(np.float64)
    errors = []
    for condition in dict.fromkeys(labels.tolist()):
        trials = values[labels == condition]
        n = np.isfinite(trials).sum(axis=0)
        mean = np.nansum(trials, axis=0) / np.maximum(n, 1)
        squares = np.nansum((trials - mean) ** 2, axis=0)
        errors.append(np.sqrt(squares / np.where(n > 1, (n - 1) * n, np.nan)))
    return np.stack(errors)
