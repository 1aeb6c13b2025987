"""Build the Dataset, here and nowhere else, and read its names, units and choices."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from nwbrnn.schema import COORDINATES, MASKED, VARIABLES, validate


def create_dataset(
    variables: Mapping[str, ArrayLike],
    coords: Mapping[str, Any],
    *,
    bin_size: float,
    units: Mapping[str, str] | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Build a validated Dataset from arrays.

    Parameters
    ----------
    variables
        Arrays by the names of :data:`nwbrnn.schema.VARIABLES`, e.g. ``outputs`` of shape
        (n_trials, n_time, n_outputs). ``mask`` defaults to all True. NaN in ``outputs``, ``rates`` and
        ``spike_counts`` says that an output or unit was not observed in this bin of this trial.
    coords
        Arrays by the names of :data:`nwbrnn.schema.COORDINATES`; any other name needs a pair
        ``(dimension, values)``. ``trial``, ``unit``, ``output`` and ``input`` default to numbered
        names, and ``align_time`` to trials that follow one another without gaps.
    bin_size
        Width of a time bin [s].
    units
        Unit of each variable without a fixed one (default ``a.u.``, for rates ``Hz``).
    attrs
        Attributes of the Dataset (provenance); text and numbers only.

    Returns
    -------
    xarray.Dataset
        A Dataset that satisfies the contract.

    Raises
    ------
    SchemaError
        If the Dataset would break the contract.
    ValueError
        If arrays disagree about the length of a dimension.

    Examples
    --------
    The second unit was lost after the first of two trials:

    >>> counts = np.ones((2, 3, 2))
    >>> counts[1, :, 1] = np.nan
    >>> arrays = {"outputs": np.zeros((2, 3, 1)), "inputs": np.zeros((2, 3, 1)), "spike_counts": counts}
    >>> ds = create_dataset(arrays, {}, bin_size=0.1)
    >>> find_observed(ds, "spike_counts").sum(axis=(0, 1)).tolist()  # bins in which each unit was observed
    [6, 3]
    """
    variables = dict(variables)
    if "mask" not in variables and "outputs" in variables:
        variables["mask"] = np.ones(np.shape(variables["outputs"])[:2], dtype=bool)
    mask = np.asarray(variables.get("mask"))
    stated = {"rates": "Hz"} | dict(units or {})
    data = {}
    for spec in VARIABLES:
        if spec.name in variables:
            unit = spec.units or stated.get(spec.name, "a.u.")
            values = np.asarray(variables[spec.name])
            if spec.name in MASKED and values.shape[:2] == mask.shape:
                values = _blank(values, mask)
            data[spec.name] = (spec.dims, values, {"units": unit})
    ds = xr.Dataset(data, attrs=dict(attrs or {}) | {"bin_size": float(bin_size)})
    return validate(ds.assign_coords(_complete_coords(ds, coords)))


def blank_unrecorded(ds: xr.Dataset) -> xr.Dataset:
    """Return a recorded Dataset with NaN in the bins outside the mask, or 0 for integer counts.

    Values in these bins have no meaning, and no file stores them.
    """
    names = [name for name in MASKED if name in ds]
    blanked = {name: _blank(ds[name].values, ds["mask"].values) for name in names}
    return ds.assign({name: ds[name].variable.copy(data=values) for name, values in blanked.items()})


def find_observed(ds: xr.Dataset, name: str) -> NDArray[np.bool_]:
    """Return where the values of a variable were observed: inside the mask and not NaN.

    Parameters
    ----------
    ds
        Any valid Dataset.
    name
        ``"outputs"``, ``"rates"`` or ``"spike_counts"``, or any other variable of trials and time.

    Returns
    -------
    ndarray
        Shape (n_trials, n_time, n_channels). If every channel was observed in all bins of the mask, this is
        the mask itself, shape (n_trials, n_time, 1).
    """
    mask, values = ds["mask"].values[..., np.newaxis], ds[name].values
    if values.dtype.kind != "f":
        return np.asarray(mask)
    seen = ~np.isnan(values)
    seen &= mask
    return seen if (seen != mask).any() else np.asarray(mask)


def group_channels(seen: NDArray[np.bool_]) -> list[tuple[slice | NDArray[np.intp], NDArray[np.bool_]]]:
    """Return the channels that were observed in the same samples, each group with these samples.

    Parameters
    ----------
    seen
        Where each channel was observed, shape (..., n_channels); with shape (..., 1), all channels are one
        group. See :func:`find_observed`.

    Returns
    -------
    list
        The channels of each group, and where they were observed, shape (...,); groups in order of their first
        channel.

    Examples
    --------
    >>> seen = np.array([[True, True, True], [True, False, True]])
    >>> [(channels.tolist(), where.tolist()) for channels, where in group_channels(seen)]
    [([0, 2], [True, True]), ([1], [True, False])]
    """
    if seen.shape[-1] == 1:
        return [(slice(None), seen[..., 0])]
    packed = np.packbits(seen.reshape(-1, seen.shape[-1]), axis=0).T
    _, first, group = np.unique(packed, axis=0, return_index=True, return_inverse=True)
    return [(np.flatnonzero(group.ravel() == group.ravel()[i]), seen[..., i]) for i in np.sort(first)]


def get_output_units(ds: xr.Dataset) -> list[str]:
    """Return the unit of each output."""
    return get_channel_units(ds, "output")


def get_channel_units(ds: xr.Dataset, channel: str) -> list[str]:
    """Return the unit of each ``"output"`` or ``"input"``."""
    if f"{channel}_units" not in ds.coords:
        return [str(ds[f"{channel}s"].attrs["units"])] * ds.sizes[channel]
    return [str(unit) for unit in ds[f"{channel}_units"].values]


def get_unit_ids(ds: xr.Dataset) -> NDArray[Any]:
    """Return the id of each unit in the file, or its row if the Dataset has no ids."""
    return np.asarray((ds["unit_id"] if "unit_id" in ds.coords else ds["unit"]).values)


def _blank(values: NDArray[Any], mask: NDArray[np.bool_]) -> NDArray[Any]:
    """Return values with NaN or 0 outside the mask; the same array if nothing changes."""
    outside = values[~mask]
    is_float = values.dtype.kind == "f"
    if (np.isnan(outside) if is_float else outside == 0).all():
        return values
    blanked = values.copy()
    blanked[~mask] = np.nan if is_float else 0
    return blanked


def _complete_coords(ds: xr.Dataset, coords: Mapping[str, Any]) -> dict[str, Any]:
    """Return coordinates with their dimensions and units, and with defaults for those not given."""
    sizes = ds.sizes
    bin_size = ds.attrs["bin_size"]
    values: dict[str, Any] = {
        "trial": np.arange(sizes.get("trial", 0)),
        "time": (np.arange(sizes.get("time", 0)) + 0.5) * bin_size,
        "unit": np.arange(sizes.get("unit", 0)),
        "output": np.array([f"output_{i}" for i in range(sizes.get("output", 0))], dtype="U"),
        "input": np.array([f"input_{i}" for i in range(sizes.get("input", 0))], dtype="U"),
        "condition": np.full(sizes.get("trial", 0), "all"),
    }
    values |= dict(coords)
    span = sizes.get("time", 0) * bin_size
    first = float(np.asarray(values["time"])[0]) if span else 0.0
    values.setdefault("align_time", np.arange(sizes.get("trial", 0)) * span + bin_size / 2 - first)
    specs = {spec.name: spec for spec in COORDINATES}
    complete = {}
    for name, value in values.items():
        if name in specs:
            attrs = {"units": specs[name].units} if specs[name].units else {}
            complete[name] = (specs[name].dims, np.asarray(value), attrs)
        else:
            complete[name] = value
    return complete


@dataclass(frozen=True)
class Choice:
    """What was picked for a role when data were read or prepared, the reason, and the alternatives."""

    role: str
    picked: str
    reason: str
    alternatives: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values for JSON."""
        return asdict(self) | {"alternatives": list(self.alternatives)}


def add_choice(ds: xr.Dataset, choice: Choice) -> xr.Dataset:
    """Return a Dataset with a choice added to ``ds.attrs["choices"]``."""
    choices = [*json.loads(ds.attrs.get("choices", "[]")), choice.to_dict()]
    return ds.assign_attrs(choices=json.dumps(choices))


def list_choices(ds: xr.Dataset) -> pd.DataFrame:
    """Return what nwbrnn picked when it read and prepared a Dataset, and why: a row for each choice.

    Parameters
    ----------
    ds
        The Dataset from :func:`nwbrnn.read_nwb`, or ``recorded`` of a fit.

    Returns
    -------
    pandas.DataFrame
        Columns ``picked``, ``reason`` and ``alternatives``, by ``role``; empty for other Datasets.

    Examples
    --------
    >>> import nwbrnn
    >>> list_choices(nwbrnn.read_nwb(example)).loc["outputs", "picked"]
    'acquisition/EMG'
    """
    columns = ["role", "picked", "reason", "alternatives"]
    choices = pd.DataFrame(json.loads(ds.attrs.get("choices", "[]")), columns=columns)
    choices["alternatives"] = choices["alternatives"].map(", ".join)
    return choices.set_index("role")


def hash_dataset(ds: xr.Dataset) -> str:
    """Return a hash of all values, names and dimensions as hexadecimal text, which a file preserves."""
    digest = hashlib.sha256()
    for name in sorted(map(str, ds.variables)):
        values = ds[name].values
        if values.dtype.kind in ("O", "T", "U"):  # text in the width that it needs
            values = values.astype(object).astype("U")
        digest.update(repr((name, ds[name].dims, values.shape)).encode())
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()
