"""The scale of firing rates."""

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwbrnn.preprocessing.averaging import average_conditions, average_rows
from nwbrnn.schema import UNIT

SOFT_CONSTANT = 5.0  # [Hz], Churchland et al. 2012, Nature, doi:10.1038/nature11129


def soft_normalize(ds: xr.Dataset, *, constant: float = SOFT_CONSTANT, centered: bool = True) -> xr.Dataset:
    """Find each unit's soft normalization in the training trials.

    Parameters
    ----------
    ds
        A Dataset with ``rates`` and ``split``, and with units that were observed in the training trials; see
        :func:`~nwbrnn.preprocessing.select_units`.
    constant
        Constant to add to the range, so that slow units are not amplified [Hz].
    centered
        Whether the offset is the mean; otherwise it is 0, for hidden units that are never negative.

    Returns
    -------
    xarray.Dataset
        The unchanged rates, and the coordinates ``rate_offset`` (mean rate or 0 [Hz]) and ``rate_scale``
        (range of the condition averages + constant [Hz]); ``(rates - rate_offset) / rate_scale`` is within
        ± 1 on the averages.
    """
    averages = average_conditions(ds[["rates", "mask"]].isel(trial=ds["split"].values == "train"))
    rates = averages["rates"].values[averages["mask"].values].astype(np.float64)
    return ds.assign_coords(
        rate_offset=(UNIT, average_rows(rates) * centered),
        rate_scale=(UNIT, np.nanmax(rates, axis=0) - np.nanmin(rates, axis=0) + constant),
    )


def normalize_rates(rates: NDArray[np.floating], recorded: xr.Dataset) -> NDArray[np.floating]:
    """Return normalized rates, as the network sees them.

    Parameters
    ----------
    rates
        Firing rates, shape (..., n_units) [Hz].
    recorded
        A Dataset of these units with ``rate_offset`` and ``rate_scale``.

    Returns
    -------
    ndarray
        Normalized rates, with the same shape [1].

    Examples
    --------
    >>> coords = {"rate_offset": ("unit", [10.0, 0.0]), "rate_scale": ("unit", [20.0, 5.0])}
    >>> normalize_rates(np.array([30.0, 10.0]), xr.Dataset(coords=coords))
    array([1., 2.])
    """
    return np.asarray((rates - recorded["rate_offset"].values) / recorded["rate_scale"].values)
