"""What a file holds: time series grouped into signals, and the role each one's name suggests.

Only names, shapes and rates are looked at here; no data are read except timestamps' ends.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from pynwb import NWBFile, TimeSeries
from pynwb.core import NWBContainer
from pynwb.ecephys import ElectricalSeries
from pynwb.image import ImageSeries

from nwbrnn.readers.tables import list_modules

ROLE_PATTERNS = (
    # EMG has no NWB standard; these are the names met in the wild
    ("emg", r"emg|electromyo|muscle_?activ"),
    ("rates", r"firing_rate"),
    ("spike_counts", r"binned_?spike|spike_?count"),
    ("inputs", r"task_input"),
    ("other", r"eye|pupil|gaze|target"),
    ("force", r"force|torque|grip"),
    (
        "kinematics",
        r"hand|finger|cursor|joint|wrist|elbow|position|velocity|accel|kinematic|muscle_(len|vel)",
    ),
)
"""Roles by regular expression on the path, first match wins."""

ROLES = ("emg", "force", "kinematics", "inputs", "rates", "spike_counts")

_EMG = re.compile(ROLE_PATTERNS[0][1], re.IGNORECASE)
_VERSION = re.compile(r"raw|notch|filt|pass|rect|envelope|(^|_)[hlb]p($|_)", re.IGNORECASE)
_END_STAMPS = re.compile(r"bin[\s-]*(ends?|stop)|end of (the |each )?bin", re.IGNORECASE)
_FALCON = "acquisition/preprocessed_emg"  # FALCON M1 stamps the ends of bins and need not say so
_CENTRE_STAMPS = re.compile(r"bin[\s-]*cent(er|re)s?|cent(er|re) of (the |each )?bin", re.IGNORECASE)
COLUMNS = re.compile(r"columns\s*=\s*\[([^\]]*)\]")
_LABELS = ("label", "muscle", "channel_name", "location")


@dataclass(frozen=True)
class Signal:
    """One or more series that belong together, such as the muscles of an EMG recording.

    Attributes
    ----------
    path
        Where it is, e.g. ``acquisition/EMG``; what a user gives to choose it. Some columns of a series are
        ``acquisition/raw[EMGArray]``, by electrode group.
    role
        One of :data:`ROLES`, or ``other``.
    series
        The NWB objects, each with time first.
    columns
        Channel names, over all series.
    picks
        Columns of the one series that are meant; all by default.
    stamps_given
        What the user says of ``stamps``.
    """

    path: str
    role: str
    series: tuple[TimeSeries, ...]
    columns: tuple[str, ...]
    picks: tuple[int, ...] | None = None
    stamps_given: str | None = None

    @property
    def unit(self) -> str:
        """Unit of the data after conversion."""
        return ", ".join(dict.fromkeys(self.units))

    @property
    def units(self) -> tuple[str, ...]:
        """Unit of each channel after conversion."""
        if len(self.series) == 1:
            return (str(self.series[0].unit),) * len(self.columns)
        return tuple(str(series.unit) for series in self.series)

    @property
    def interval(self) -> float:
        """Time between samples [s]; the mean without gaps; NaN for a single sample or rate 0."""
        first = self.series[0]
        if first.timestamps is None:
            return 1.0 / float(first.rate) if first.rate > 0 else float("nan")
        steps = np.diff(np.asarray(first.timestamps[: min(1001, len(first.timestamps))], dtype=np.float64))
        if not (steps > 0).any():
            return float("nan")
        median = np.median(steps[steps > 0])
        mean = float(steps[(steps > 0.5 * median) & (steps < 1.5 * median)].mean())  # jitter averages out
        plain = float(f"{mean:.3g}")
        return plain if abs(plain - mean) < 5e-4 * mean else mean

    @property
    def extent(self) -> tuple[float, float]:
        """Time stamps of the first and the last sample [s]."""
        first = self.series[0]
        if first.timestamps is None:
            start = float(first.starting_time or 0.0)
            return start, start + (self.shape[0] - 1) * self.interval
        return float(first.timestamps[0]), float(first.timestamps[len(first.timestamps) - 1])

    @property
    def stamps(self) -> str:
        """Whether a time stamp is the ``start``, ``centre`` or ``end`` of its sample, by the description."""
        if self.stamps_given is not None:
            return self.stamps_given
        text = f"{self.series[0].description} {self.series[0].comments}"
        if _CENTRE_STAMPS.search(text):
            return "centre"
        return "end" if _END_STAMPS.search(text) or self.path.endswith(_FALCON) else "start"

    @property
    def shape(self) -> tuple[int, int]:
        """Number of samples and of channels."""
        return int(self.series[0].data.shape[0]), len(self.columns)

    @property
    def n_stored(self) -> int:
        """Values stored for each sample, also of channels that are not meant."""
        return sum(int(np.prod(s.data.shape[1:])) for s in self.series)

    def select(self, names: Iterable[str]) -> "Signal":
        """Return the signal with some of its channels, in the order of the file."""
        kept = [i for i, name in enumerate(self.columns) if name in set(names)]
        columns = tuple(self.columns[i] for i in kept)
        if len(self.series) > 1:
            return replace(self, series=tuple(self.series[i] for i in kept), columns=columns)
        picks = self.picks or tuple(range(len(self.columns)))
        return replace(self, columns=columns, picks=tuple(picks[i] for i in kept))


def find_signals(nwbfile: NWBFile) -> list[Signal]:
    """Return every signal of a file, in the order of the file: acquisition, processing, stimulus."""
    sections: list[tuple[str, Iterable[NWBContainer]]] = [
        ("acquisition", nwbfile.acquisition.values()),
        *(
            (f"processing/{name}", module.data_interfaces.values())
            for name, module in list_modules(nwbfile).items()
        ),
        ("stimulus/presentation", nwbfile.stimulus.values()),
    ]
    return [signal for path, members in sections for signal in _group(path, list(members))]


def _group(path: str, members: list[NWBContainer]) -> Iterator[Signal]:
    """Yield the signals among the members of one folder of the file."""
    series = [m for m in members if isinstance(m, TimeSeries) and _is_usable(m)]
    muscles = [s for s in series if len(s.data.shape) == 1 and _find_role(f"{path}/{s.name}") == "emg"]
    versions = any(_VERSION.search(s.name) for s in muscles)
    if len(muscles) > 1 and not versions and len({_get_clock(s) for s in muscles}) == 1:
        names = tuple(re.sub(r"(?i)^emg[_\s-]?|[_\s-]?emg$", "", s.name) or s.name for s in muscles)
        yield Signal(path if _EMG.search(path) else f"{path}/EMG*", "emg", tuple(muscles), names)
        series = [s for s in series if s not in muscles]
    for item in series:
        yield from _from_series(f"{path}/{item.name}", item)
    for member in members:
        if not isinstance(member, TimeSeries):
            yield from _from_container(f"{path}/{member.name}", member)


def _from_container(path: str, container: NWBContainer) -> Iterator[Signal]:
    """Yield the signals of a container: one if it holds one series per channel, else one for each series."""
    children = [c for c in container.children if isinstance(c, TimeSeries) and _is_usable(c)]
    children.sort(key=lambda child: str(child.name))
    alike = {_get_clock(c) for c in children}
    if len(children) > 1 and len(alike) == 1 and len(children[0].data.shape) == 1:
        names = tuple(str(c.name) for c in children)
        yield Signal(path, _find_role(path), tuple(children), names)
        return
    for child in children:
        yield from _from_series(f"{path}/{child.name}", child)


def _get_clock(series: TimeSeries) -> tuple[object, ...]:
    """Return what two series have in common if they were sampled together."""
    n_samples = series.data.shape[0]
    if series.timestamps is None:
        return n_samples, series.rate, series.starting_time
    n_stamps = len(series.timestamps)
    ends = (float(series.timestamps[0]), float(series.timestamps[n_stamps - 1])) if n_stamps else ()
    return n_samples, n_stamps, *ends


def _from_series(path: str, series: TimeSeries) -> Iterator[Signal]:
    """Yield the signals of one series: several if its columns are of several electrode groups."""
    if isinstance(series, ElectricalSeries):
        yield from _from_electrodes(path, series)
        return
    n_channels = series.data.shape[1] if len(series.data.shape) > 1 else 1
    listed = COLUMNS.search(f"{series.comments} {series.description}")
    names = [name.strip() for name in listed.group(1).split(",")] if listed else []
    if len(names) != n_channels or len(set(names)) != n_channels:
        names = [series.name] if n_channels == 1 else [f"{series.name}_{i}" for i in range(n_channels)]
    yield Signal(path, _find_role(path), (series,), tuple(names))


def _from_electrodes(path: str, series: ElectricalSeries) -> Iterator[Signal]:
    """Yield the columns of each electrode group; EMG by the name of the series or by what the group says."""
    rows = np.asarray(series.electrodes.data[:], dtype=int)
    table = series.electrodes.table
    names = _name_channels(series, rows)
    groups = [table["group"][int(row)] for row in rows] if "group" in table.colnames else [None] * len(rows)
    distinct = list(dict.fromkeys(groups))
    for group in distinct:
        picks = tuple(i for i, other in enumerate(groups) if other is group)
        columns = tuple(names[i] for i in picks)
        said = "" if group is None else f"{group.name} {group.description} {group.location}"
        role = "emg" if _EMG.search(path) or _EMG.search(said) else "other"
        if group is None or len(distinct) == 1:
            yield Signal(path, role, (series,), columns)
        else:
            yield Signal(f"{path}[{group.name}]", role, (series,), columns, picks)


def _name_channels(series: ElectricalSeries, rows: np.ndarray) -> list[str]:
    """Return names of channels: a label of the electrodes that tells them apart, else numbers."""
    table = series.electrodes.table
    for label in _LABELS:
        if label in table.colnames:
            names = [str(table[label][int(row)]) for row in rows]
            if len(set(names)) == len(names):
                return names
    return [f"{series.name}_{i}" for i in range(len(rows))]


def _is_usable(series: TimeSeries) -> bool:
    """Return whether a series is numbers over time, by channel, and not video."""
    if isinstance(series, ImageSeries) or series.data is None:
        return False
    shape = getattr(series.data, "shape", None)
    numeric = np.dtype(getattr(series.data, "dtype", "O")).kind in "iufb"
    timed = series.rate is not None or series.timestamps is not None
    return bool(shape and len(shape) <= 2 and all(shape) and numeric and timed)


def _find_role(path: str) -> str:
    """Return the role that a path suggests."""
    for role, pattern in ROLE_PATTERNS:
        if re.search(pattern, path, re.IGNORECASE):
            return role
    return "other"
