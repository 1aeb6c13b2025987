"""Create series over session time, which every NWB tool understands, and read their times."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pynwb import TimeSeries

from nwbrnn.formats.tables import compress, show_text


def create_series(
    name: str,
    data: NDArray[Any],
    time: NDArray[np.float64] | TimeSeries,
    *,
    unit: str,
    description: str,
    columns: Sequence[str] = (),
) -> TimeSeries:
    """Return a compressed series, with a rate if its times are regular and with timestamps otherwise.

    The data have the shape (n_samples, n_channels). The times are bin centres, ascending [s], or a series
    that has the same ones. Channel names go into ``comments`` as ``columns=[a,b]``, as NLB and FALCON do.
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
        unit=show_text(unit),
        description=f"{description}; time stamps are bin centres",
        comments=show_text(f"columns=[{','.join(columns)}]") if columns else "no comments",
        **timing,
    )


def read_stamps(series: TimeSeries, start: int = 0, stop: int | None = None) -> NDArray[np.float64]:
    """Return the time stamps of some samples of a series, either stored or computed from its rate [s]."""
    if series.timestamps is not None:
        return np.asarray(series.timestamps[start:stop], dtype=np.float64)
    samples = np.arange(len(series.data))[start:stop]
    return np.asarray(float(series.starting_time or 0.0) + samples / float(series.rate))
