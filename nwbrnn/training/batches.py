"""The bridge from xarray to torch."""

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from nwbrnn.config import FitConfig
from nwbrnn.errors import ConfigError
from nwbrnn.losses import Targets
from nwbrnn.preprocessing import average_conditions

Batch = tuple[Tensor, Targets]
"""Inputs of shape (n_trials, n_time, n_inputs), and what the student's answer is compared with."""


def create_batch(ds: xr.Dataset, split: str, config: FitConfig, *, device: torch.device) -> Batch | None:
    """Return the inputs and targets of one split, averaged by condition unless told otherwise.

    Parameters
    ----------
    ds
        A prepared Dataset, with coordinates ``split``, ``sampled``, ``rate_scale`` and ``rate_offset``.
    split
        ``"train"``, ``"validation"`` or ``"test"``.
    config
        ``average`` and ``dynamics_error`` are used.
    device
        Where the tensors are to be.

    Returns
    -------
    Batch or None
        In float32; ``None`` if the split has no trials.

    Raises
    ------
    ConfigError
        If a Poisson error is asked for and there are no spike counts.
    """
    trials = ds.isel(trial=ds["split"].values == split)
    if not trials.sizes["trial"]:
        return None
    if config.average:
        trials = average_conditions(trials)
    sampled = trials.isel(unit=trials["sampled"].values)
    bin_size = ds.attrs["bin_size"]
    if config.dynamics_error == "poisson":
        if "spike_counts" not in ds:
            raise ConfigError(
                "dynamics_error: 'poisson' needs spike counts, but the data have rates only; use 'squared'"
            )
        dynamics = sampled["spike_counts"]
    else:
        dynamics = (sampled["rates"] - sampled["rate_offset"]) / sampled["rate_scale"]
        dynamics = dynamics.transpose("trial", "time", "unit")
    values = dynamics.values[trials["mask"].values]
    if values.shape[1] and not np.ptp(values, axis=0).any():
        raise ConfigError(
            f"sampled: the {values.shape[1]} sampled neurons do not vary in the {split} trials; "
            "sample more neurons, others with another seed, or none (--sampled 0)"
        )
    targets = Targets(
        outputs=_to_tensor(trials["outputs"], device),
        mask=torch.from_numpy(trials["mask"].values).to(device),
        dynamics=_to_tensor(dynamics, device),
        mean_counts=_to_tensor(sampled["rate_offset"] * bin_size, device),
        dynamics_error=config.dynamics_error,
    )
    return _to_tensor(trials["inputs"], device), targets


def _to_tensor(values: xr.DataArray, device: torch.device) -> Tensor:
    """Return a float32 tensor; what was not recorded (NaN, outside the mask) becomes 0.

    Time comes first in memory, as in the network, so that comparing the two runs along it.
    """
    tensor = torch.from_numpy(np.nan_to_num(values.values.astype(np.float32))).to(device)
    return tensor if tensor.ndim < 2 else tensor.transpose(0, 1).contiguous().transpose(0, 1)
