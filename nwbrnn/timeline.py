"""Convert trial-aligned arrays to session time, in layers of trials that do not overlap, and to pynapple."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwbrnn.errors import ExportError
from nwbrnn.schema import HIDDEN_UNIT, INPUT, OUTPUT, TRIAL, UNIT

_DIMENSIONS = {"outputs": OUTPUT, "inputs": INPUT, "rates": UNIT, "spike_counts": UNIT}
_TOUCHING = 1e-6  # [s]: pynapple needs at least this gap between two intervals


@dataclass(frozen=True)
class Layer:
    """Trials that do not overlap in session time, in the order of their start."""

    rows: NDArray[np.int64]  # row of each trial in the Dataset, shape (n_trials,)
    # first sample and number of samples of each trial in the layer's series, shape (n_trials,)
    starts: NDArray[np.int64]
    counts: NDArray[np.int64]
    time: NDArray[np.float64]  # bin centres in session time, ascending, shape (n_samples,) [s]
    _mask: NDArray[np.bool_]

    def flatten(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the recorded bins of a (n_trials, n_time, ...) array of the whole Dataset, in order.

        This is no copy if all bins were recorded and all trials are in order, since a pool is large.
        """
        in_order = np.array_equal(self.rows, np.arange(len(values)))
        if in_order and self._mask.all():
            return values.reshape(-1, *values.shape[2:])
        return np.asarray((values if in_order else values[self.rows])[self._mask])


def lay_out(ds: xr.Dataset) -> list[Layer]:
    """Distribute trials over as few layers as possible, usually one, in which no trials overlap."""
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


def to_pynapple(ds: xr.Dataset, predicted: xr.Dataset | None = None) -> dict[str, Any]:
    """Convert a Dataset to pynapple objects over session time, which share no memory with it.

    Parameters
    ----------
    ds
        Any valid Dataset.
    predicted
        Predictions of a network for the same trials, as in ``predicted`` of a fit.

    Returns
    -------
    dict
        ``trials``, an IntervalSet with the labels of the trials (``trial_split`` for the split), and as
        TsdFrames ``outputs`` (in their recorded unit), ``inputs``, ``rates`` [Hz] and ``spike_counts`` if
        the Dataset has them; with ``predicted`` also ``predicted_outputs``, ``predicted_rates`` and
        ``hidden``. Times are bin centres, and bins that were not recorded are absent. Outputs that a lag had
        shifted are back at their original times. Trials that overlap others are in ``trials_2``,
        ``outputs_2`` and so on.

    Raises
    ------
    ExportError
        If pynapple is not installed.

    Examples
    --------
    >>> import nwbrnn
    >>> nwbrnn.to_pynapple(nwbrnn.read_nwb(example))["outputs"].shape[1]
    3
    """
    try:
        import pynapple
    except ImportError as error:
        raise ExportError("to_pynapple needs pynapple; run pip install 'nwbrnn[pynapple]'") from error
    frames = {name: (ds[name], dim) for name, dim in _DIMENSIONS.items() if name in ds}
    if predicted is not None:
        names = [name for name in ("outputs", "rates") if name in predicted]
        frames |= {f"predicted_{name}": (predicted[name], _DIMENSIONS[name]) for name in names}
        frames["hidden"] = (predicted["hidden"], HIDDEN_UNIT)
    lag = float(ds.attrs.get("neural_lag", 0.0))
    found: dict[str, Any] = {}
    for number, layer in enumerate(lay_out(ds)):
        suffix = f"_{number + 1}" if number else ""
        start, stop = _bound_trials(layer, ds.attrs["bin_size"])
        trials = pynapple.IntervalSet(start, stop)
        trials.set_info(**_list_labels(ds.isel(trial=layer.rows), TRIAL, taken=dir(trials)))
        found[f"trials{suffix}"] = trials
        for name, (variable, dim) in frames.items():
            shift = lag if dim == OUTPUT else 0.0
            frame = pynapple.TsdFrame(
                t=layer.time + shift,
                d=layer.flatten(variable.values.copy()),
                columns=variable[dim].values.tolist(),
                time_support=pynapple.IntervalSet(start + shift, stop + shift),
            )
            taken = [*dir(frame), *map(str, frame.columns)]
            frame.set_info(**_list_labels(variable, dim, taken=taken))
            found[f"{name}{suffix}"] = frame
    return found


def _bound_trials(layer: Layer, bin_size: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the start and stop of each trial of a layer, so that no two trials touch."""
    first = layer.time[layer.starts]
    last = layer.time[layer.starts + layer.counts - 1]
    start, stop = first - bin_size / 2, last + bin_size / 2
    stop[:-1] = np.minimum(stop[:-1], start[1:] - _TOUCHING)
    return start, stop


def _list_labels(
    of: xr.Dataset | xr.DataArray, dim: str, *, taken: Collection[str]
) -> dict[str, NDArray[Any]]:
    """Return the labels along a dimension, under names that pynapple can use."""
    labels = {}
    for name, coord in of.coords.items():
        if coord.dims == (dim,):
            plain = re.sub(r"\W", "_", str(name))
            values = coord.values.astype("U") if coord.dtype.kind in "OT" else coord.values
            labels[f"{dim}_{plain}" if plain in taken else plain] = values
    return labels
