"""Everything between reading and training, in order."""

import xarray as xr

from nwbrnn.config import FitConfig
from nwbrnn.dataset import blank_unrecorded
from nwbrnn.preprocessing.emg import scale_outputs
from nwbrnn.preprocessing.lag import apply_neural_lag
from nwbrnn.preprocessing.normalization import soft_normalize
from nwbrnn.preprocessing.selection import choose_sampled, select_conditions, select_units
from nwbrnn.preprocessing.smoothing import smooth_spikes
from nwbrnn.preprocessing.splits import limit_training, split_conditions, split_trials
from nwbrnn.schema import validate


def prepare(ds: xr.Dataset, config: FitConfig) -> xr.Dataset:
    """Split, select, scale and normalise a Dataset for a fit; statistics come from training trials only.

    Parameters
    ----------
    ds
        What :func:`nwbrnn.read_nwb` returned, or any valid Dataset.
    config
        The settings of the split, the units and the lag.

    Returns
    -------
    xarray.Dataset
        With the coordinates ``split``, ``sampled``, ``output_scale``, ``rate_scale`` and ``rate_offset``.

    Raises
    ------
    SchemaError
        If the Dataset breaks the contract.
    ConfigError
        If a setting does not fit the data.
    """
    validate(ds)
    if "rates" not in ds:
        ds = smooth_spikes(ds)
    if config.neural_lag:
        ds = apply_neural_lag(ds, lag=config.neural_lag)
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
    ds = soft_normalize(scale_outputs(ds), centered=config.nonlinearity != "softplus")
    return blank_unrecorded(validate(ds))
