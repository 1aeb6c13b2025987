"""Convert Datasets of xarray to tensors of torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from nwbrnn.config import FitConfig
from nwbrnn.dataset import find_observed
from nwbrnn.errors import ConfigError
from nwbrnn.losses import Targets, compute_change, identity
from nwbrnn.models import Observations
from nwbrnn.prediction.observations import (
    create_observations,
    encode_rates,
    expect_counts,
    find_start,
    get_count_scale,
)
from nwbrnn.preprocessing import (
    ROUNDING,
    average_conditions,
    find_trained,
    normalize_outputs,
    normalize_rates,
)
from nwbrnn.training.virtual import add_virtual_targets


@dataclass(frozen=True)
class Batch:
    """The inputs of the network, and the targets with which its predictions are compared.

    Attributes
    ----------
    inputs
        Inputs, shape (n_trials, n_time, n_inputs).
    start
        Values on which the initial states depend; see :meth:`nwbrnn.models.Network.forward`.
    targets
        Targets of outputs and dynamics.
    mask
        True where a bin was recorded, shape (n_trials, n_time).
    outputs_seen
        True where outputs may be used for training, shape (n_trials, n_time, n_outputs) or (..., 1).
    sampled
        Hidden rates that represent the recorded rates of the sampled neurons, as a target of least squares,
        shape (n_trials, n_time, n_sampled) [1].
    sampled_seen
        True where the sampled neurons were observed, shape (n_trials, n_time, n_sampled) or (..., 1).
    seen
        What the neurons did, if they correct the state.
    """

    inputs: Tensor
    start: Tensor | None
    targets: Targets
    mask: NDArray[np.bool_]
    outputs_seen: NDArray[np.bool_]
    sampled: NDArray[np.floating]
    sampled_seen: NDArray[np.bool_]
    seen: Observations | None = None


def create_batch(ds: xr.Dataset, split: str, config: FitConfig, *, device: torch.device) -> Batch | None:
    """Return the inputs and targets of one split, averaged by condition unless told otherwise.

    If neurons are observed the trials stay single, and those of a condition together count as much as those
    of any other, as in averages.

    Parameters
    ----------
    ds
        A prepared Dataset, with coordinates ``split``, ``sampled``, ``rate_scale`` and ``rate_offset``.
    split
        ``"train"`` (with ``"dynamics_only"``, whose outputs do not count), ``"validation"`` or ``"test"``.
    config
        Settings; this function uses those of the loss, ``average``, ``initial_state`` and ``precision``.
    device
        Device for the tensors.

    Returns
    -------
    Batch or None
        The batch in the precision of the network; ``None`` if the split has no trials.

    Raises
    ------
    ConfigError
        If a Poisson error is requested without spike counts, if the sampled neurons do not vary, or if an
        importance names an unknown output or unit.
    """
    chosen = find_trained(ds) if split == "train" else ds["split"].values == split
    trials = normalize_outputs(ds.isel(trial=chosen))
    if not trials.sizes["trial"]:
        return None
    if config.train_until is not None:
        trials = _forget_later(trials, config.train_until)
    if config.trains_on_averages:
        trials = average_conditions(trials)
    if config.virtual_targets and split == "train":
        trials = add_virtual_targets(trials, config.virtual_targets)
    dtype = np.dtype(np.float64 if config.precision == "float64" else np.float32)

    def to_tensor(values: NDArray[np.generic]) -> Tensor:
        """Return a tensor with 0 in place of NaN and with time first in memory, as in the network."""
        tensor = torch.from_numpy(np.nan_to_num(values.astype(dtype))).to(device)
        return tensor if tensor.ndim < 2 else tensor.transpose(0, 1).contiguous().transpose(0, 1)

    start = find_start(trials, ds, config)
    sampled = trials.isel(unit=trials["sampled"].values)
    seen = create_observations(trials, config)
    return Batch(
        inputs=to_tensor(trials["inputs"].values),
        start=None if start is None else torch.from_numpy(start).to(device),
        targets=_create_targets(trials, split, config, to_tensor),
        mask=trials["mask"].values,
        outputs_seen=_find_outputs(trials),
        sampled=np.nan_to_num(encode_rates(sampled, config)),
        sampled_seen=find_observed(sampled, "rates"),
        seen=None
        if seen is None
        else Observations(
            to_tensor(seen.values), to_tensor(seen.counted), torch.from_numpy(seen.units).to(device)
        ),
    )


def _forget_later(trials: xr.Dataset, end: float) -> xr.Dataset:
    """Return trials with the bins after ``end`` [s] masked."""
    mask = trials["mask"].values & (trials["time"].values <= end)
    if not mask.any(axis=1).all():
        raise ConfigError(
            f"train_until: expected recorded bins before it in every trial, but got {end:g} s; the window is "
            f"{trials['time'].values[0]:g} to {trials['time'].values[-1]:g} s"
        )
    return trials.assign(mask=(trials["mask"].dims, mask, trials["mask"].attrs))


def _create_targets(
    trials: xr.Dataset, split: str, config: FitConfig, to_tensor: Callable[[NDArray[np.generic]], Tensor]
) -> Targets:
    """Return the targets of the network, and the weight of each value."""
    sampled = trials.isel(unit=trials["sampled"].values)
    dynamics, known = _read_dynamics(sampled, config)
    if len(sampled["unit"]) and not _varies(dynamics, known, sampled):
        raise ConfigError(
            f"sampled: the {sampled.sizes['unit']} sampled neurons do not vary in the {split} trials; "
            "sample more neurons, others with another seed, or none (--sampled 0)"
        )
    read = identity
    if config.dynamics_of == "derivative":
        dynamics, known, read = np.diff(dynamics, axis=1), known[:, 1:] & known[:, :-1], compute_change
    if config.dynamics_error == "poisson":
        scale = to_tensor(get_count_scale(sampled, config) * trials.attrs["bin_size"])
        read = partial(expect_counts, scale=scale, nonlinearity=config.nonlinearity, exp=torch.exp)
    outputs = _get_importance("output", config.output_importance, trials["output"].values)
    units = _get_importance("unit", config.unit_importance, sampled["unit"].values)
    share = _weigh_trials(trials)[:, np.newaxis, np.newaxis] if config.observes else 1.0
    return Targets(
        outputs=to_tensor(trials["outputs"].values),
        output_weight=to_tensor(share * _find_outputs(trials) * outputs),
        dynamics=to_tensor(dynamics),
        dynamics_weight=to_tensor(share * known * units),
        read_dynamics=read,
        counts=config.dynamics_error == "poisson",
    )


def _varies(dynamics: NDArray[np.floating], known: NDArray[np.bool_], sampled: xr.Dataset) -> bool:
    """Return whether any neuron varies by more than the rounding errors of its rates."""
    highest, lowest = (np.where(known, dynamics, limit) for limit in (-np.inf, np.inf))
    spread = highest.max(axis=(0, 1)) - lowest.min(axis=(0, 1))
    offset = np.abs(sampled["rate_offset"].values / sampled["rate_scale"].values)
    size = np.maximum(offset, np.where(known, np.abs(dynamics), 0).max(axis=(0, 1)))
    return bool((spread > ROUNDING * np.finfo(sampled["rates"].dtype).eps * size).any())


def _find_outputs(trials: xr.Dataset) -> NDArray[np.bool_]:
    """Return where outputs were observed and may be used for training."""
    shown = trials["split"].values != "dynamics_only"
    return np.asarray(find_observed(trials, "outputs") & shown[:, np.newaxis, np.newaxis])


def _weigh_trials(trials: xr.Dataset) -> NDArray[np.float64]:
    """Return how much each trial counts, 1 on average, so that all conditions count the same."""
    _, belongs, numbers = np.unique(trials["condition"].values, return_inverse=True, return_counts=True)
    return np.asarray(len(belongs) / len(numbers) / numbers[belongs])


def _read_dynamics(sampled: xr.Dataset, config: FitConfig) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    """Return spike counts or normalized rates of the sampled neurons, and where they were observed.

    If the network observes neurons, their rates are those of each bin alone. Smoothed rates hold spikes of
    earlier bins, which the network has seen, so that it would learn to repeat the noise of its neurons.
    """
    if config.dynamics_error == "squared":
        if not config.observes or "spike_counts" not in sampled:
            return normalize_rates(sampled["rates"].values, sampled), find_observed(sampled, "rates")
        rates = sampled["spike_counts"].values / sampled.attrs["bin_size"]
        return normalize_rates(rates, sampled), find_observed(sampled, "spike_counts")
    if "spike_counts" not in sampled:
        raise ConfigError(
            "dynamics_error: 'poisson' needs spike counts, but the data have rates only; use 'squared'"
        )
    counts = np.asarray(sampled["spike_counts"].values, dtype=np.float64)
    return counts, find_observed(sampled, "spike_counts")


def _get_importance(
    kind: str, factors: Mapping[str, float], names: NDArray[np.generic]
) -> NDArray[np.float64]:
    """Return a factor for each channel, or a single 1 if none are given."""
    labels = [str(name) for name in names.tolist()]
    unknown = sorted(set(factors) - set(labels))
    if unknown and labels:  # without sampled units no factor matters
        raise ConfigError(
            f"{kind}_importance: expected names of {'outputs' if kind == 'output' else 'sampled units'}, "
            f"but got {', '.join(unknown)}; there are {', '.join(labels)}"
        )
    values = np.array([factors.get(label, 1.0) for label in labels] if factors else [1.0])
    if labels and not values.any():
        raise ConfigError(f"{kind}_importance: expected a factor above 0, but all {len(labels)} are 0")
    return values
