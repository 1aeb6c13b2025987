"""Run all steps between reading and training, in order."""

import xarray as xr

from nwbrnn.config import FitConfig
from nwbrnn.dataset import add_choice, blank_unrecorded
from nwbrnn.errors import ConfigError
from nwbrnn.preprocessing.emg import clip_outputs
from nwbrnn.preprocessing.lag import apply_neural_lag
from nwbrnn.preprocessing.normalization import soft_normalize
from nwbrnn.preprocessing.selection import (
    choose_observed,
    choose_sampled,
    find_perturbed,
    leave_out_perturbed,
    select_conditions,
    select_units,
)
from nwbrnn.preprocessing.sessions import (
    align_like,
    align_sessions,
    describe_different_outputs,
    is_pooled,
    separate_outputs,
)
from nwbrnn.preprocessing.smoothing import smooth_spikes
from nwbrnn.preprocessing.splits import limit_training, split_conditions, split_trials
from nwbrnn.schema import validate


def prepare(ds: xr.Dataset, config: FitConfig) -> xr.Dataset:
    """Split, select, scale and normalize a Dataset for a fit, with statistics of the training trials only.

    Parameters
    ----------
    ds
        The Dataset from :func:`nwbrnn.read_nwb`, or any valid one.
    config
        The settings of the split, the units and the lag.

    Returns
    -------
    xarray.Dataset
        A Dataset with the coordinates ``split``, ``sampled``, ``output_scale``, ``rate_scale`` and
        ``rate_offset``, and with ``observed`` if the network observes neurons.

    Raises
    ------
    SchemaError
        If the Dataset breaks the contract.
    ConfigError
        If a setting does not fit the data.
    """
    ds = _begin(ds, config)
    if config.perturbed is not None:
        ds = leave_out_perturbed(ds, config.perturbed)
    if config.average:
        ds = select_conditions(ds, kept=config.held_out_conditions)
    if config.held_out_conditions:
        ds = split_conditions(
            ds,
            held_out=config.held_out_conditions,
            validation=config.validation,
            test=config.test if config.held_out == "outputs" else None,
            seed=config.seed,
        )
    else:
        ds = split_trials(ds, test=config.test, validation=config.validation, seed=config.seed)
    if config.train_trials is not None:
        ds = limit_training(ds, n_trials=config.train_trials, seed=config.seed)
    ds = select_units(ds, min_rate=config.min_rate)
    ds = choose_sampled(ds, n_sampled=config.sampled, seed=config.seed)
    ds = choose_observed(ds, observe=config.observe)
    ds = _match_sessions(ds, config)
    ds = clip_outputs(ds, percentile=config.output_percentile, clip=config.output_clip)
    ds = soft_normalize(ds, centered=config.nonlinearity != "softplus")
    return blank_unrecorded(validate(ds))


def prepare_perturbed(ds: xr.Dataset, recorded: xr.Dataset, config: FitConfig) -> xr.Dataset:
    """Prepare the perturbed trials that a fit left out, as the fit would, and test on all of them.

    Parameters
    ----------
    ds
        The Dataset that was fitted, with all trials.
    recorded
        The prepared Dataset of the fit, whose units, sampled neurons and scales are used.
    config
        Settings of the fit; ``perturbed`` names the column that marks these trials.

    Raises
    ------
    ConfigError
        If no column was named, or it marks no trial; or if the Dataset is not the one that was fitted.
    """
    if config.perturbed is None:
        raise ConfigError("perturbed: expected a fit that names the trial column of its perturbed trials")
    ds = _begin(ds, config)
    if config.session_outputs == "own":
        ds = separate_outputs(ds)
    ds = ds.isel(trial=find_perturbed(ds, config.perturbed))
    for dim in ("unit", "output", "input", "time"):
        if not set(recorded[dim].values.tolist()) <= set(ds[dim].values.tolist()):
            raise ConfigError(f"{dim}: expected the same as in the fit, but got others; give its Dataset")
    ds = ds.sel(unit=recorded["unit"].values)
    ds = align_like(ds, recorded)
    names = ("sampled", "observed", "rate_scale", "rate_offset", "output_scale")
    ds = ds.assign_coords({name: recorded[name].variable for name in names if name in recorded.coords})
    return blank_unrecorded(validate(ds.assign_coords(split=("trial", ["test"] * ds.sizes["trial"]))))


def _match_sessions(ds: xr.Dataset, config: FitConfig) -> xr.Dataset:
    """Bring pooled sessions to a common scale, or give them outputs of their own."""
    if not is_pooled(ds):
        return ds
    if config.session_outputs == "own":
        align = [what for what in config.align_sessions if not what.startswith("output")]
        return align_sessions(separate_outputs(ds), align=align, percentile=config.output_percentile)
    ds = align_sessions(ds, align=config.align_sessions, percentile=config.output_percentile)
    different = describe_different_outputs(ds)
    return ds if different is None else add_choice(ds, different)


def _begin(ds: xr.Dataset, config: FitConfig) -> xr.Dataset:
    """Return a validated Dataset with rates, and with the neural lag applied."""
    validate(ds)
    if "rates" not in ds:
        ds = smooth_spikes(ds)
    return apply_neural_lag(ds, lag=config.neural_lag) if config.neural_lag else ds
