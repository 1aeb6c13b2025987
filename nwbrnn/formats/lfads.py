"""The data of a fit in the HDF5 layout of lfads-torch, so that LFADS sees the same trials and neurons."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from nwbrnn.dataset import find_observed, get_unit_ids
from nwbrnn.errors import MissingDataError
from nwbrnn.storage.atomic import replace_whole
from nwbrnn.storage.output import pack_hdf5
from nwbrnn.storage.paths import check_output
from nwbrnn.text import list_some, show_count

SUFFIXES = (".h5", ".hdf5")
PREFIXES = {"train": ("train", "dynamics_only"), "valid": ("validation",), "test": ("test",)}
"""The splits of a fit by the prefix of their keys."""


def write_lfads(
    recorded: xr.Dataset, path: str | Path, *, inputs: bool = False, overwrite: bool = False
) -> None:
    """Write the data of a fit in the HDF5 layout that lfads-torch reads.

    LFADS encodes the sampled neurons and reconstructs all units. Its trials are split as those of the fit.
    The layout is that of ``BasicDataModule`` [1]_; every array has the shape
    (n_trials, n_time, n_channels):

    - ``train_encod_data``, ``valid_encod_data``, ``test_encod_data``: spike counts of the sampled neurons, or
      rates [Hz] if there are no counts.
    - ``train_recon_data``, ...: the same of all units, the sampled ones first.
    - ``train_behavior``, ...: outputs, in the unit of the file; NaN where the fit held out only the outputs.
    - ``train_truth``, ...: for a simulated circuit its rates [Hz], with ``conversion_factor``, by which
      lfads-torch divides them to get counts in a bin.
    - ``train_ext_input``, ...: inputs, if asked for.

    ``train_trial``, ..., ``unit``, ``sampled``, ``output`` and ``time`` say which trials, units (in the order
    of ``recon_data``), outputs and times these are.

    Parameters
    ----------
    recorded
        A prepared Dataset, such as ``result.recorded``.
    path
        The file to make, ``.h5`` or ``.hdf5``.
    inputs
        Whether to write the inputs of the task. The model of lfads-torch then needs their number as
        ``ext_input_dim``.
    overwrite
        Whether to replace an existing file.

    Raises
    ------
    MissingDataError
        If the Dataset has no splits or sampled neurons, or no trials for training or validation, or if some
        trials lack bins.
    OutputExistsError
        If the file exists and ``overwrite`` is false.
    ExportError
        If the name ends otherwise, or the file cannot be written.

    References
    ----------
    .. [1] Sedler & Pandarinath 2023, arXiv:2309.01230; lfads_torch/datamodules.py of
       https://github.com/arsedler9/lfads-torch.

    Examples
    --------
    >>> import nwbrnn
    >>> result = nwbrnn.fit(nwbrnn.read_nwb(example), sampled=3, min_rate=0, hidden=20, epochs=2)
    >>> nwbrnn.write_lfads(result.recorded, "lfads.h5", overwrite=True)
    """
    path = Path(path)
    check_output(path, overwrite=overwrite, suffix=SUFFIXES)
    content = pack_hdf5(_list_arrays(recorded, inputs=inputs))
    with replace_whole(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(content)


def _list_arrays(recorded: xr.Dataset, *, inputs: bool) -> Mapping[str, Any]:
    """Return everything that goes into the file by its key."""
    _check(recorded)
    sampled = recorded["sampled"].values
    order = np.concatenate([np.flatnonzero(sampled), np.flatnonzero(~sampled)])
    ds = recorded.isel(unit=order)
    neural = ds["spike_counts" if "spike_counts" in ds else "rates"]
    arrays: dict[str, Any] = {}
    for prefix, splits in PREFIXES.items():
        chosen = np.isin(ds["split"].values, splits)
        if not chosen.any():  # of the test split: the others are there
            continue
        trials = ds.isel(trial=chosen)
        counts = neural.values[chosen].astype(np.float32)
        outputs = trials["outputs"].values.astype(np.float32)
        outputs[trials["split"].values == "dynamics_only"] = np.nan
        arrays[f"{prefix}_encod_data"] = counts[..., : sampled.sum()]
        arrays[f"{prefix}_recon_data"] = counts
        arrays[f"{prefix}_behavior"] = outputs
        if _knows_truth(ds):
            arrays[f"{prefix}_truth"] = trials["rates"].values.astype(np.float32)
        if inputs:
            arrays[f"{prefix}_ext_input"] = trials["inputs"].values.astype(np.float32)
        arrays[f"{prefix}_trial"] = trials["trial"].values
    if _knows_truth(ds):
        arrays["conversion_factor"] = 1 / ds.attrs["bin_size"] if "spike_counts" in ds else 1.0
    names = {"output": ds["output"].values.astype(object)}
    return arrays | names | {name: ds[name].values for name in ("unit", "sampled", "time")}


def _knows_truth(ds: xr.Dataset) -> bool:
    """Return whether the rates are those of a simulated circuit, rather than smoothed spikes."""
    read = json.loads(ds.attrs.get("read_config") or "{}")
    return "teacher" in ds.attrs and "rates" in ds and read.get("rates") != "spikes"


def _check(recorded: xr.Dataset) -> None:
    """Refuse a Dataset that the layout cannot hold."""
    absent = [name for name in ("split", "sampled") if name not in recorded.coords]
    if absent:
        raise MissingDataError(
            f"{', '.join(absent)}: expected the prepared Dataset of a fit, but the Dataset has none; give "
            "result.recorded"
        )
    if not recorded["sampled"].values.any():
        raise MissingDataError(
            "sampled: expected sampled neurons, which LFADS encodes, but the fit has none; "
            "fit with some (sampled)"
        )
    split = recorded["split"].values
    for prefix, name in (("train", "train"), ("valid", "validation")):
        if not np.isin(split, PREFIXES[prefix]).any():
            raise MissingDataError(
                f"split: expected trials for {name}, which lfads-torch needs, but the fit has none; fit "
                f"with more trials or another fraction ({'test' if prefix == 'train' else 'validation'})"
            )
    mask = recorded["mask"].values
    if not mask.all():
        trials = recorded["trial"].values[~mask.all(axis=1)].tolist()
        raise MissingDataError(
            "mask: expected every bin of every trial, but some bins are missing in "
            f"{show_count(len(trials), 'trial')} ({', '.join(map(str, trials[:20]))}); read a window "
            "that all trials have (window), or other trials (where)"
        )
    name = "spike_counts" if "spike_counts" in recorded else "rates"
    partial = ~np.broadcast_to(find_observed(recorded, name), recorded[name].shape).all(axis=(0, 1))
    if partial.any():
        raise MissingDataError(
            f"{name}: expected units that were observed in every bin, but {int(partial.sum())} were not "
            f"(units {list_some(get_unit_ids(recorded)[partial].tolist())}); leave them out (units)"
        )
