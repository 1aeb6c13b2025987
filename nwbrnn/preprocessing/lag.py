"""The delay between neurons and behaviour."""

import xarray as xr

from nwbrnn.errors import ConfigError


def apply_neural_lag(ds: xr.Dataset, *, lag: float) -> xr.Dataset:
    """Pair neurons with the outputs that follow them after a delay.

    Parameters
    ----------
    ds
        Any valid Dataset.
    lag
        Time by which neurons precede outputs [s], rounded to whole bins; if negative, they follow. The Neural
        Latents Benchmark uses 0.1 for a maze task and -0.02 for area 2.

    Returns
    -------
    xarray.Dataset
        A Dataset with the time of the neurons and inputs, and with outputs from ``lag`` later. Bins without
        a counterpart are removed. ``attrs["neural_lag"]`` is the applied delay [s].

    Raises
    ------
    ConfigError
        If the lag is as long as the window, or if a lag was already applied.
    """
    if ds.attrs.get("neural_lag"):
        raise ConfigError(
            f"neural_lag: expected a Dataset without a lag, but one of {ds.attrs['neural_lag']:g} s was "
            "already applied; start from the Dataset as it was read"
        )
    bin_size, n_time = ds.attrs["bin_size"], ds.sizes["time"]
    n_bins = round(lag / bin_size)
    if abs(n_bins) > n_time - 2:
        raise ConfigError(
            f"neural_lag: expected at most {(n_time - 2) * bin_size:g} s, two bins less than the window of "
            f"{n_time * bin_size:g} s, but got {lag:g} s; use a shorter lag or a longer window"
        )
    early = ds.isel(time=slice(max(0, -n_bins), n_time - max(0, n_bins)))
    late = ds.isel(time=slice(max(0, n_bins), n_time - max(0, -n_bins)))
    outputs = (late["outputs"].dims, late["outputs"].values, late["outputs"].attrs)
    recorded = early["mask"].values & late["mask"].values
    return early.assign(
        outputs=outputs, mask=(early["mask"].dims, recorded, early["mask"].attrs)
    ).assign_attrs(neural_lag=n_bins * bin_size)
