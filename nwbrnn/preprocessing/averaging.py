"""Averages over the trials of a condition."""

from collections.abc import Hashable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwbrnn.dataset import find_observed
from nwbrnn.schema import TIME, TRIAL

BLOCK = 1 << 23
"""Number of values that are averaged at a time, which limits the memory for copies in float64."""
ROUNDING = 8
"""Rounding errors of averages and filters, in units of the precision of the values."""


def average_conditions(ds: xr.Dataset) -> xr.Dataset:
    """Average the trials of each condition, bin by bin, over those in which a unit or output was observed.

    Parameters
    ----------
    ds
        Any valid Dataset.

    Returns
    -------
    xarray.Dataset
        One ``trial`` for each condition, in order of first appearance, with ``n_trials``. A bin counts as
        recorded if it was recorded in any of the trials. A unit or output that was observed in none of them
        is NaN. Spike counts become fractions. Trial coordinates other than the condition keep the value of
        the condition's first trial.
    """
    labels = ds["condition"].values
    first = np.sort(np.unique(labels, return_index=True)[1])
    belongs = labels[first][:, np.newaxis] == labels  # (n_conditions, n_trials)
    mask = ds["mask"].values
    n_recorded = np.einsum("ct,tb->cb", belongs.astype(float), mask.astype(float))
    averages: dict[Hashable, xr.Variable] = {}
    for name, variable in ds.data_vars.variables.items():
        if variable.dims[:2] == (TRIAL, TIME) and name != "mask":
            mean = _average(variable.values, find_observed(ds, str(name)), mask, belongs.astype(np.float64))
            averages[name] = xr.Variable(variable.dims, mean, variable.attrs)
    averages["mask"] = xr.Variable((TRIAL, TIME), n_recorded > 0, ds["mask"].attrs)
    # made at once: each change of a Dataset copies and aligns all of it
    kept = {
        name: variable.isel({TRIAL: first}, missing_dims="ignore")
        for name, variable in ds.variables.items()
        if name not in averages
    }
    coords = {name: kept.pop(name) for name in ds.coords}
    return xr.Dataset(kept | averages, coords | {"n_trials": (TRIAL, belongs.sum(axis=1))}, ds.attrs)


def _average(
    values: NDArray[Any], seen: NDArray[np.bool_], mask: NDArray[np.bool_], belongs: NDArray[np.float64]
) -> NDArray[np.floating]:
    """Return the mean of each condition over the trials that were observed, some bins at a time."""
    dtype = values.dtype if values.dtype.kind == "f" else np.float32
    means = np.empty((len(belongs), *values.shape[1:]), dtype)
    in_part = bool((seen != mask[..., np.newaxis]).any())
    step = max(BLOCK // max(values.shape[0] * values.shape[2], 1), 1)
    for start in range(0, values.shape[1], step):
        bins = slice(start, start + step)
        here = seen[:, bins]
        sums = np.tensordot(belongs, np.where(here, values[:, bins], 0).astype(np.float64), axes=1)
        counted = here if in_part else mask[:, bins, np.newaxis]
        n = np.tensordot(belongs, counted.astype(np.float64), axes=1)
        with np.errstate(invalid="ignore"):
            means[:, bins] = sums / n  # 0 / 0 is NaN: never observed
    return means


def average_rows(values: NDArray[np.number]) -> NDArray[np.floating]:
    """Return the mean of each column over the rows that are not NaN; NaN if there are none.

    Examples
    --------
    >>> average_rows(np.array([[1.0, 2.0], [3.0, np.nan]])).tolist()
    [2.0, 2.0]
    """
    missing = np.isnan(values)
    if not missing.any():
        return np.asarray(values.mean(axis=0))
    n = (~missing).sum(axis=0)
    return np.asarray(np.where(missing, 0, values).sum(axis=0) / np.where(n > 0, n, np.nan))


def find_complete_units(ds: xr.Dataset) -> NDArray[np.bool_]:
    """Return which units were observed in every bin of the mask, shape (n_units,)."""
    return np.asarray(~np.isnan(ds["rates"].values[ds["mask"].values]).any(axis=0))


def match_observed(predicted: xr.Dataset, recorded: xr.Dataset) -> xr.Dataset:
    """Return a prediction with NaN where the recording of the same trials lacks a unit or output.

    Averages of both are then averages of the same trials.
    """
    changed = {}
    for name in ("outputs", "rates"):
        lacks = recorded["mask"].values[..., np.newaxis] & ~find_observed(recorded, name)
        if lacks.any():
            changed[name] = predicted[name].copy(data=np.where(lacks, np.nan, predicted[name].values))
    return predicted.assign(changed) if changed else predicted


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
        The averages; see :func:`average_conditions`. Where a trial lacks a unit or output, the average of the
        prediction leaves out this trial, too.
    """
    is_test = recorded["split"].values == "test"
    tests = recorded.isel(trial=is_test)
    return average_conditions(tests), average_conditions(match_observed(predicted.isel(trial=is_test), tests))


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
