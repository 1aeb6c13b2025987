"""Averages over the trials of a condition."""

from collections.abc import Hashable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwbrnn.schema import TIME, TRIAL


def average_conditions(ds: xr.Dataset) -> xr.Dataset:
    """Average the trials of each condition, bin by bin, over what was recorded.

    Parameters
    ----------
    ds
        Any valid Dataset.

    Returns
    -------
    xarray.Dataset
        One ``trial`` for each condition, in order of first appearance, with ``n_trials``. A bin counts if it
        was recorded in any of its trials; spike counts become fractions. Trial coordinates other
        than the condition keep the value of the condition's first trial.
    """
    labels = ds["condition"].values
    first = np.sort(np.unique(labels, return_index=True)[1])
    belongs = labels[first][:, np.newaxis] == labels  # (n_conditions, n_trials)
    mask = ds["mask"].values
    n_recorded = np.einsum("ct,tb->cb", belongs.astype(float), mask.astype(float))
    averages: dict[Hashable, tuple[tuple[Hashable, ...], NDArray[np.generic], dict[Any, Any]]] = {}
    for name, variable in ds.data_vars.items():
        if variable.dims[:2] == (TRIAL, TIME) and name != "mask":
            recorded = np.where(mask[..., np.newaxis], variable.values, 0).astype(np.float64)
            sums = np.tensordot(belongs.astype(np.float64), recorded, axes=1)
            with np.errstate(invalid="ignore"):
                mean = sums / n_recorded[..., np.newaxis]  # 0 / 0: never recorded, NaN
            dtype = variable.dtype if variable.dtype.kind == "f" else np.float32
            averages[name] = (variable.dims, mean.astype(dtype), variable.attrs)
    averages["mask"] = (ds["mask"].dims, n_recorded > 0, ds["mask"].attrs)
    kept = ds.drop_vars(list(averages)).isel(trial=first)
    # at once: each single assignment to a Dataset aligns all of it
    return kept.assign(averages).assign_coords(n_trials=(TRIAL, belongs.sum(axis=1)))
