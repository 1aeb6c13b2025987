"""What a file holds: time series grouped into signals, and the role each one's name suggests.

Only names, shapes and rates are looked at here; no data are read except timestamps' ends.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from pynwb import NWBFile, TimeSeries
from pynwb.core import NWBContainer
from pynwb.ecephys import ElectricalSeries
from pynwb.image import ImageSeries

ROLE_PATTERNS = (
    # EMG has no NWB standard; these are the names met in the wild
    ("emg", r"emg|electromyo|muscle_activ"),
    ("rates", r"firing_rate"),
    ("inputs", r"task_input"),
    ("force", r"force|torque|grip"),
    ("kinematics", r"hand|finger|cursor|joint|wrist|elbow|position|velocity|kinematic|muscle_(len|vel)"),
)
"""Roles by regular expression on the path, first match wins."""

_END_STAMPS = re.compile(r"bin[\s-]*(ends?|stop)|end of (the |each )?bin", re.IGNORECASE)
_CENTRE_STAMPS = re.compile(r"bin[\s-]*cent(er|re)s?|cent(er|re) of (the |each )?bin", re.IGNORECASE)
_COLUMNS = re.compile(r"columns\s*=\s*\[([^\]]*)\]")


@dataclass(frozen=True)
class Signal:
    """One or more series that belong together, such as the muscles of an EMG recording.

    Attributes
    ----------
    path
        Where it is, e.g. ``acquisition/EMG``; what a user gives to choose it.
    role
        ``emg``, ``force``, ``kinematics``, ``inputs``, ``rates`` or ``other``.
    series
        The NWB objects, each with time first.
    columns
        Channel names, over all series.
    """

    path: str
    role: str
    series: tuple[TimeSeries, ...]
    columns: tuple[str, ...]

    @property
    def unit(self) -> str:
        """Unit of the data after conversion."""
        return str(self.series[0].unit)

    @property
    def interval(self) -> float:
        """Time between samples [s]; the median where they have timestamps; NaN for a single sample."""
        first = self.series[0]
        if first.rate:
            return 1.0 / float(first.rate)
        stamps = np.asarray(first.timestamps[: min(1001, len(first.timestamps))], dtype=np.float64)
        return float(np.median(np.diff(stamps))) if len(stamps) > 1 else float("nan")

    @property
    def stamps(self) -> str:
        """Whether a time stamp is the ``start``, ``centre`` or ``end`` of its sample, by the description."""
        text = f"{self.series[0].description} {self.series[0].comments}"
        if _END_STAMPS.search(text):
            return "end"
        return "centre" if _CENTRE_STAMPS.search(text) else "start"

    @property
    def shape(self) -> tuple[int, int]:
        """Number of samples and of channels."""
        return int(self.series[0].data.shape[0]), len(self.columns)


def find_signals(nwbfile: NWBFile) -> list[Signal]:
    """Return every signal of a file, in the order of the file: acquisition, processing, stimulus."""
    sections: list[tuple[str, Iterable[NWBContainer]]] = [
        ("acquisition", nwbfile.acquisition.values()),
        *(
            (f"processing/{name}", module.data_interfaces.values())
            for name, module in nwbfile.processing.items()
        ),
        ("stimulus/presentation", nwbfile.stimulus.values()),
    ]
    return [signal for path, members in sections for signal in _group(path, list(members))]


def _group(path: str, members: list[NWBContainer]) -> Iterator[Signal]:
    """Yield the signals among the members of one folder of the file."""
    series = [m for m in members if isinstance(m, TimeSeries) and _is_usable(m)]
    single = [s for s in series if len(s.data.shape) == 1]
    muscles = [s for s in single if re.match(r"emg", s.name, re.IGNORECASE)]
    if len(muscles) > 1 and len({s.data.shape for s in muscles}) == 1:
        names = tuple(re.sub(r"(?i)^emg[_\s-]?", "", s.name) or s.name for s in muscles)
        yield Signal(f"{path}/EMG*", "emg", tuple(muscles), names)
        series = [s for s in series if s not in muscles]
    for item in series:
        yield _from_series(f"{path}/{item.name}", item)
    for member in members:
        if not isinstance(member, TimeSeries):
            yield from _from_container(f"{path}/{member.name}", member)


def _from_container(path: str, container: NWBContainer) -> Iterator[Signal]:
    """Yield the signals of a container: one if it holds one series per channel, else one for each series."""
    children = [c for c in container.children if isinstance(c, TimeSeries) and _is_usable(c)]
    children.sort(key=lambda child: str(child.name))
    alike = {(c.data.shape, str(c.unit)) for c in children}
    if len(children) > 1 and len(alike) == 1 and len(children[0].data.shape) == 1:
        names = tuple(str(c.name) for c in children)
        yield Signal(path, _find_role(path), tuple(children), names)
        return
    for child in children:
        yield _from_series(f"{path}/{child.name}", child)


def _from_series(path: str, series: TimeSeries) -> Signal:
    """Return a signal of one series."""
    n_channels = series.data.shape[1] if len(series.data.shape) > 1 else 1
    listed = _COLUMNS.search(f"{series.comments} {series.description}")
    names = [name.strip() for name in listed.group(1).split(",")] if listed else []
    if len(names) != n_channels or len(set(names)) != n_channels:
        names = [series.name] if n_channels == 1 else [f"{series.name}_{i}" for i in range(n_channels)]
    return Signal(path, _find_role(path), (series,), tuple(names))


def _is_usable(series: TimeSeries) -> bool:
    """Return whether a series is numbers over time, by channel, and not broadband voltage or video."""
    if isinstance(series, ElectricalSeries | ImageSeries) or series.data is None:
        return False
    shape = getattr(series.data, "shape", None)
    numeric = getattr(series.data, "dtype", np.dtype("O")).kind in "iufb"
    timed = bool(series.rate) or series.timestamps is not None
    return bool(shape and len(shape) <= 2 and all(shape) and numeric and timed)


def _find_role(path: str) -> str:
    """Return the role that a path suggests."""
    for role, pattern in ROLE_PATTERNS:
        if re.search(pattern, path, re.IGNORECASE):
            return role
    return "other"
