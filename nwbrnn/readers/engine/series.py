"""Read a TimeSeries as data by time and channel, in their unit."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from nwbrnn.errors import ReadError
from nwbrnn.readers.engine.arrays import ComputedTimes, Scaling, StoredArray
from nwbrnn.readers.engine.contents import ArrayNode, Contents, GroupNode
from nwbrnn.readers.engine.time_index import TimeIndex
from nwbrnn.readers.engine.variables import create_variable, create_variables, name_dims
from nwbrnn.readers.vocabulary import name_channels
from nwbrnn.text import show_count

# the few texts have their own dimension, so that it does not appear in a table of the samples
_TEXTS = {"external_file", "control_description"}


def is_series(group: GroupNode) -> bool:
    """Return whether a group is a TimeSeries."""
    data = group.arrays.get("data")
    return data is not None and data.shape != () and bool({"timestamps", "starting_time"} & set(group.arrays))


def read_series(contents: Contents, group: GroupNode) -> xr.Dataset:
    """Read a TimeSeries: ``data`` by ``time`` [s] and ``channel``, in their unit, and its other arrays."""
    data = group.arrays["data"]
    n_samples = data.shape[0]
    variables, coords, indexes = {}, {}, {}
    if _is_beside_file(group):
        n_samples = _count_stamps(group)
    elif data.dtype is None or data.dtype.names:
        group.omitted.append(f"data ({data.problem or 'compound values'})")
    else:
        variables["data"] = _create_data(contents, group)
        if len(data.shape) == 2:
            coords["channel"] = xr.Variable(("channel",), _name_channels(contents, group))
    if n_samples or "data" in variables:
        coords["time"], indexes["time"] = _create_time(contents, group, n_samples)
    texts = contents.load_texts({name: a for name, a in group.arrays.items() if name in _TEXTS})
    done = {"data", "starting_time", *texts}
    if _count_stamps(group) == n_samples:
        done.add("timestamps")
    rest = {name: array for name, array in group.arrays.items() if array.shape and name not in done}
    dims = {name: name_dims(name, a, _find_first_dim(group, name, n_samples)) for name, a in rest.items()}
    variables |= create_variables(contents.file, group, dims)
    timing = group.arrays.get("starting_time")
    rate = {} if timing is None or "rate" not in timing.attrs else {"rate": timing.attrs["rate"]}
    return xr.Dataset(variables, coords=xr.Coordinates(coords, indexes=indexes), attrs=texts | rate)


def _is_beside_file(group: GroupNode) -> bool:
    """Return whether the data are a video in a separate file."""
    return "external_file" in group.arrays and not math.prod(group.arrays["data"].shape)


def _count_stamps(group: GroupNode) -> int:
    """Return the number of timestamps, 0 if there are none."""
    stamps = group.arrays.get("timestamps")
    return stamps.shape[0] if stamps is not None and len(stamps.shape) == 1 else 0


def _find_first_dim(group: GroupNode, name: str, n_samples: int) -> str:
    """Return the first dimension of an array: the samples, the channels, or a dimension of its own."""
    size, shape = group.arrays[name].shape[0], group.arrays["data"].shape
    if name in {"electrodes", "channel_conversion"}:
        return "channel" if shape[1:2] == (size,) else f"{name}_row"
    # "dimension" is the size of video frames; other arrays as long as the channels may belong to them
    is_timed = size == n_samples and name != "dimension" and (name == "control" or size not in shape[1:])
    return "time" if is_timed else f"{name}_row"


def _create_data(contents: Contents, group: GroupNode) -> xr.Variable:
    """Return the data of a series, scaled as the file says."""
    data = group.arrays["data"]
    dims = ("time", "channel", *(f"channel_{i}" for i in range(2, len(data.shape))))[: len(data.shape)]
    scaling, note = _read_scaling(contents, group)
    variable = create_variable(contents.file, data, dims, scaling=scaling)
    for name in ("conversion", "offset"):  # drop them, so that nobody applies them again
        variable.attrs.pop(name, None)
    if note:
        variable.attrs["scaling"] = note
    kept = ("description", "comments", "neurodata_type")
    variable.attrs |= {name: group.attrs[name] for name in kept if name in group.attrs}
    return variable


def _read_scaling(contents: Contents, group: GroupNode) -> tuple[Scaling | None, str]:
    """Return the scaling from stored numbers to values in their unit, and a note that describes it."""
    data, by_channel = group.arrays["data"], group.arrays.get("channel_conversion")
    if not data.is_number:
        return None, ""
    conversion, offset = data.get_number("conversion", 1.0), data.get_number("offset", 0.0)
    if by_channel is not None and by_channel.shape:
        note = f"applied: stored * {conversion!r} * channel_conversion + {offset!r}"
        axis = int(by_channel.get_number("axis", 1))
        return Scaling(conversion * _load_gains(contents, group, by_channel, axis), offset, axis), note
    if conversion == 1 and offset == 0:
        return None, ""
    return Scaling(np.asarray(conversion), offset), f"applied: stored * {conversion!r} + {offset!r}"


def _load_gains(
    contents: Contents, group: GroupNode, by_channel: ArrayNode, axis: int
) -> npt.NDArray[np.float64]:
    """Return the conversion of each channel, or a single one of shape () for all channels."""
    data = group.arrays["data"]
    is_each = by_channel.shape == data.shape[axis : axis + 1]
    if not is_each and by_channel.shape != (1,):
        raise ReadError(
            f"{contents.file.source.text}: {group.path}: expected a channel_conversion for each channel, "
            f"but got {by_channel.shape} for data {data.shape}; correct the file"
        )
    gains = np.asarray(contents.load(by_channel), np.float64)
    return gains if is_each else gains.reshape(())


def _name_channels(contents: Contents, group: GroupNode) -> npt.NDArray[Any]:
    """Return the channel names that the reader would use, else the electrode ids, else numbers."""
    n_channels = group.arrays["data"].shape[1]
    text = f"{group.attrs.get('comments', '')} {group.attrs.get('description', '')}"
    electrodes = group.arrays.get("electrodes")
    columns: dict[str, Callable[[], Any]] = {}
    if electrodes is not None and electrodes.shape == (n_channels,) and "table" in electrodes.attrs:
        rows = np.asarray(contents.load(electrodes), np.intp)
        table = contents.list_group(str(electrodes.attrs["table"])).arrays
        if not rows.size or (rows.min() >= 0 and rows.max() < table["id"].shape[0]):
            whole = {name: array for name, array in table.items() if array.shape == table["id"].shape}
            columns = {name: partial(_load_rows, contents, array, rows) for name, array in whole.items()}
        else:
            group.omitted.append("names of electrodes (they point to rows that do not exist)")
    names = name_channels(text, n_channels, columns)
    if names is not None:
        return np.array(names, dtype=object)
    return np.asarray(columns["id"]()) if columns else np.arange(n_channels)


def _load_rows(contents: Contents, array: ArrayNode, rows: npt.NDArray[np.intp]) -> npt.NDArray[Any]:
    return contents.load(array)[rows]


def _create_time(contents: Contents, group: GroupNode, n_samples: int) -> tuple[xr.Variable, TimeIndex]:
    """Return the times of samples; if the file gives no valid ones, they are NaN and not selectable."""
    stamps, start = group.arrays.get("timestamps"), group.arrays.get("starting_time")
    times: StoredArray | ComputedTimes = ComputedTimes(math.nan, math.nan, (n_samples,))
    if stamps is not None and stamps.dtype is not None and stamps.is_number:
        if stamps.shape == (n_samples,):
            times = StoredArray(contents.file, stamps.path, stamps.shape, stamps.dtype)
        else:
            group.omitted.append(f"time ({stamps.shape} timestamps for {show_count(n_samples, 'sample')})")
    elif start is not None and start.is_number:
        rate = start.get_number("rate", math.nan)
        if 0 < rate < math.inf:
            times = ComputedTimes(float(contents.load(start).ravel()[0]), rate, (n_samples,))
    is_increasing = isinstance(times, ComputedTimes) and not math.isnan(times.rate)
    label = f"{contents.file.source.text}: {group.path}"
    index = TimeIndex(times, "time", "time", label=label, is_increasing=is_increasing)
    variable = index.create_variables()["time"]
    variable.attrs = {"units": "s", "long_name": "session time"}
    return variable, index
