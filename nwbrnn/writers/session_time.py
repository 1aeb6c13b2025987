"""Trial-aligned arrays as series over session time, the form that every NWB tool understands."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pynwb import TimeSeries

from nwbrnn.writers.tables import compress


@dataclass(frozen=True)
class Layer:
    """Trials that do not overlap in session time, in the order of their start.

    Attributes
    ----------
    rows
        Row of each trial in the Dataset, shape (n_trials,).
    starts, counts
        Where the samples of each trial are in the layer's series, shape (n_trials,).
    time
        Bin centres in session time, ascending, shape (n_samples,) [s].
    """

    rows: NDArray[np.int64]
    starts: NDArray[np.int64]
    counts: NDArray[np.int64]
    time: NDArray[np.float64]
    _mask: NDArray[np.bool_]

    def flatten(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the recorded bins of a (n_trials, n_time, ...) array of the whole Dataset, in order."""
        return np.asarray(values[self.rows][self._mask])


def lay_out(ds: xr.Dataset) -> list[Layer]:
    """Distribute trials over as few layers as needed so that none overlap within one; usually one."""
    bin_size = ds.attrs["bin_size"]
    mask = ds["mask"].values
    centres = ds["align_time"].values[:, np.newaxis] + ds["time"].values
    first = np.array([c[m][0] for c, m in zip(centres, mask, strict=True)])
    last = np.array([c[m][-1] for c, m in zip(centres, mask, strict=True)])
    layers: list[list[int]] = []
    for row in np.argsort(first, kind="stable"):
        free = (layer for layer in layers if first[row] > last[layer[-1]] + bin_size / 2)
        target = next(free, None)
        if target is None:
            target = []
            layers.append(target)
        target.append(int(row))
    return [_create_layer(np.array(rows), centres, mask) for rows in layers]


def _create_layer(rows: NDArray[np.int64], centres: NDArray[np.float64], mask: NDArray[np.bool_]) -> Layer:
    counts = mask[rows].sum(axis=1)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    return Layer(rows, starts, counts, centres[rows][mask[rows]], mask[rows])


def create_series(
    name: str,
    data: NDArray[Any],
    time: NDArray[np.float64] | TimeSeries,
    *,
    unit: str,
    description: str,
    columns: Sequence[str] = (),
) -> TimeSeries:
    """Return a compressed series, by rate if its times are regular, else by timestamps.

    Parameters
    ----------
    name
        Of the series.
    data
        Shape (n_samples, n_channels).
    time
        Bin centres, ascending [s], or a series whose times it shares.
    unit
        Of the data.
    description
        What they are.
    columns
        Channel names, kept in ``comments`` as ``columns=[a,b]``, the custom of NLB and FALCON.
    """
    timing: dict[str, Any] = {"timestamps": time}
    if isinstance(time, TimeSeries):
        if time.rate:
            timing = {"rate": time.rate, "starting_time": time.starting_time}
    else:
        step = (time[-1] - time[0]) / (len(time) - 1) if len(time) > 1 else 0.0
        if step > 0 and np.allclose(np.diff(time), step, rtol=0, atol=1e-6):
            timing = {"rate": round(1.0 / step, 9), "starting_time": float(time[0])}
        else:
            timing = {"timestamps": compress(time)}
    return TimeSeries(
        name=name,
        data=compress(data),
        unit=unit,
        description=f"{description}; time stamps are bin centres",
        comments=f"columns=[{','.join(columns)}]" if columns else "no comments",
        **timing,
    )
