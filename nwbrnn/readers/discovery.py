"""Find the time series of a file, group them into signals, and infer each signal's role from its name.

This module looks at names, shapes and rates only. It reads no data, and only a few stretches of time stamps.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np
from hdmf.common import VectorData
from numpy.typing import NDArray
from pynwb import NWBFile, TimeSeries
from pynwb.behavior import BehavioralEvents
from pynwb.core import NWBContainer
from pynwb.ecephys import ElectricalSeries, ElectrodeGroup
from pynwb.image import ImageSeries
from pynwb.misc import AnnotationSeries, IntervalSeries

from nwbrnn.readers.clock import Clock
from nwbrnn.readers.tables import list_modules
from nwbrnn.readers.vocabulary import OUTPUT_ROLES, drop_axis, find_quantity, find_role, name_channels
from nwbrnn.text import shorten, show_count

_VERSION = re.compile(
    r"raw|notch|filt|pass|rectif|envelope|smooth(?:ed)?|normali[sz]ed|processed|resampl|downsampl|clean"
    # a line that synchronizes devices is recorded with the muscles but is none
    r"|(?<![a-z])(?:sync|trig|trigger|ttl|rect(?![\s_-]?(?:fem|ab))|env|norm|rms|[hlb]p)(?![a-z])",
    re.IGNORECASE,
)
_OF_BIN = r" of (the |each |every |its )?([\d.]+[\s-]?m?s )?bin"
_END_STAMPS = re.compile(
    rf"bin[\s_-]*(ends?|stop)|(end|right edge|trailing edge)s?{_OF_BIN}|bins \(right edges?\)", re.IGNORECASE
)
_FALCON = "acquisition/preprocessed_emg"  # FALCON M1 stamps the ends of bins without saying so
_CENTRE = r"(cent(er|re)|mid(dle|point))s?"
_CENTRE_STAMPS = re.compile(rf"bin[\s_-]*{_CENTRE}|{_CENTRE}{_OF_BIN}", re.IGNORECASE)
_MANY_CHANNELS = 1001  # a second dimension of this length or longer is time


@dataclass(frozen=True)
class Signal:
    """One or more series that belong together, such as the muscles of an EMG recording."""

    # path in the file, e.g. acquisition/EMG; a user gives it to choose the signal. Columns of one electrode
    # group within a series have a path such as acquisition/raw[EMGArray]
    path: str
    role: str  # one of nwbrnn.config.Role, or other
    # the NWB objects, each with time first. If there are several, each has one channel and its own clock
    series: tuple[TimeSeries, ...]
    columns: tuple[str, ...]  # channel names, over all series
    # columns of the one series that belong to the signal; all by default
    picks: tuple[int, ...] | None = None
    stamps_given: str | None = None  # the value of stamps that the user gave

    @property
    def unit(self) -> str:
        """Unit of the data after conversion."""
        return ", ".join(dict.fromkeys(self.units))

    @property
    def units(self) -> tuple[str, ...]:
        """Unit of each channel after conversion."""
        if len(self.series) == 1:
            return (shorten(str(self.series[0].unit)),) * len(self.columns)
        return tuple(shorten(str(series.unit)) for series in self.series)

    def split(self) -> tuple["Signal", ...]:
        """Return a signal for each series, since each has its own clock, however alike they look."""
        if len(self.series) == 1:
            return (self,)
        pairs = zip(self.series, self.columns, strict=True)
        return tuple(replace(self, series=(series,), columns=(column,)) for series, column in pairs)

    def split_groups(self) -> tuple["Signal", ...]:
        """Return a signal for each electrode group, with a path such as acquisition/EMG[triceps]."""
        series = self.series[0]
        groups = _get_groups(series) if isinstance(series, ElectricalSeries) else []
        if self.picks is not None or len(groups) != len(self.columns) or len(self.series) > 1:
            return (self,)
        picks = {group: tuple(i for i, one in enumerate(groups) if one is group) for group in groups}
        if len(picks) < 2 or None in picks:
            return (self,)
        return tuple(
            replace(
                self,
                path=f"{self.path}[{group.name}]",
                columns=tuple(self.columns[i] for i in mine),
                picks=mine,
            )
            for group, mine in picks.items()
            if group is not None
        )

    @cached_property
    def clocks(self) -> tuple[Clock, ...]:
        """The clock of each series."""
        return tuple(map(Clock, self.series))

    @property
    def interval(self) -> float:
        """Time between samples without gaps [s], the longest of several series; NaN for a single sample."""
        return float(np.max([clock.interval for clock in self.clocks]))

    @property
    def spacing(self) -> float:
        """Time between different time stamps [s], the longest of several series; packets share one."""
        return float(np.max([clock.span for clock in self.clocks]))

    @property
    def varies(self) -> bool:
        """Whether steps between time stamps vary, so that bins as wide as their mean can lack samples."""
        return any(clock.varies for clock in self.clocks)

    @property
    def may_be_events(self) -> bool:
        """Whether it may have samples only when something happened, such as a lift of the hand."""
        return all(
            isinstance(series.parent, BehavioralEvents)
            and series.rate is None
            and (len(series.data.shape) < 2 or series.data.shape[1] == 1)
            for series in self.series
        )

    @property
    def extent(self) -> tuple[float, float]:
        """Earliest and latest time stamp of all series [s]."""
        starts, stops = zip(*(clock.extent for clock in self.clocks), strict=True)
        return min(starts), max(stops)

    @property
    def stamps(self) -> str:
        """Which part of its sample a time stamp marks: ``start``, ``centre`` or ``end``."""
        if self.stamps_given is not None:
            return self.stamps_given
        text = f"{self.series[0].description} {self.series[0].comments}"
        if _CENTRE_STAMPS.search(text):
            return "centre"
        return "end" if _END_STAMPS.search(text) or self.path.endswith(_FALCON) else "start"

    @property
    def shape(self) -> tuple[int, int]:
        """Number of samples (the largest of several series) and number of channels."""
        return max(int(series.data.shape[0]) for series in self.series), len(self.columns)

    @property
    def n_stored(self) -> int:
        """Number of values stored for each sample, including channels outside the signal."""
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
    """Return every signal of a file in file order: acquisition, processing, stimulus."""
    return [
        signal
        for path, around, members in _list_folders(nwbfile)
        for signal in _group(path, [m for m in members if not _describe_form(m)], around)
    ]


def find_unusable(nwbfile: NWBFile) -> dict[str, TimeSeries]:
    """Return, by path, series named like outputs that do not hold numbers by time and channel."""
    return {
        f"{path}/{member.name}": member
        for path, around, members in _list_folders(nwbfile)
        for member in members
        if _describe_form(member) and _find_role(member, around) in OUTPUT_ROLES
    }


class Fault(NamedTuple):
    """Why a series cannot be read, and what to do."""

    problem: str
    remedy: str


def find_fault(series: TimeSeries) -> Fault | None:
    """Return why a series cannot be read; ``None`` if its shape, times and gains allow it."""
    again = "write the series again, with time first, then channels"
    form = _describe_form(series)
    if form:
        return Fault(form, again)
    shape, n_stamps = series.data.shape, 0 if series.timestamps is None else len(series.timestamps)
    sideways = len(shape) == 2 and shape[1] > 1 and shape[0] < shape[1]
    if sideways and (n_stamps == shape[1] or (n_stamps == 0 and shape[1] > _MANY_CHANNELS)):
        problem = f"its data have the shape {shape} and look transposed, since time comes first in a series"
        return Fault(problem, again)
    gains, n_channels = get_gains(series), shape[1] if len(shape) > 1 else 1
    if gains is not None and gains.shape not in ((n_channels,), (1,)):
        problem = f"its channel_conversion has {gains.size} values for {show_count(n_channels, 'channel')}"
        return Fault(problem, "give channel_conversion a value for each channel")
    return None


def get_gains(series: TimeSeries) -> NDArray[np.float64] | None:
    """Return the conversion of each channel, shape (n_channels,), or (1,) for all; ``None`` if not given."""
    stored = getattr(series, "channel_conversion", None)
    return None if stored is None else np.asarray(stored[:], dtype=np.float64)


def _describe_form(series: TimeSeries) -> str:
    """Return why a series does not hold numbers by time and channel; empty if it does."""
    shape = tuple(getattr(series.data, "shape", None) or ())
    if not shape or not all(shape):
        return "it holds no data"
    if len(shape) > 2:
        return f"its data have the shape {shape}, but a series has time first, then one dimension of channels"
    if np.dtype(getattr(series.data, "dtype", "O")).kind not in "iufb":
        return f"its data are of type {series.data.dtype}, not numbers"
    if series.rate is None and series.timestamps is None:
        return "it has neither a rate nor timestamps"
    return ""


def _list_folders(nwbfile: NWBFile) -> Iterator[tuple[str, tuple[str, ...], list[TimeSeries]]]:
    """Yield each folder or container: its path, the names around a series, and its series but no video."""
    sections: list[tuple[str, tuple[str, ...], Iterable[NWBContainer]]] = [
        ("acquisition", (), nwbfile.acquisition.values()),
        *(
            (f"processing/{name}", (name,), module.data_interfaces.values())
            for name, module in list_modules(nwbfile).items()
        ),
        ("stimulus/presentation", (), nwbfile.stimulus.values()),
    ]
    for path, around, members in sections:
        held = list(members)
        yield path, around, [m for m in held if _is_sampled(m)]
        for container in held:
            if not isinstance(container, TimeSeries):
                children = [c for c in container.children if _is_sampled(c)]
                names = (str(container.name), type(container).__name__, *around)
                yield f"{path}/{container.name}", names, sorted(children, key=lambda child: str(child.name))


def _is_sampled(item: NWBContainer) -> bool:
    return isinstance(item, TimeSeries) and not isinstance(item, ImageSeries)


def _group(path: str, members: list[TimeSeries], around: tuple[str, ...]) -> Iterator[Signal]:
    """Yield the signals of a folder or container, joining single-channel series of the same kind."""
    kinds: dict[tuple[str, str], list[TimeSeries]] = {}
    for series in members:
        kind = _find_kind(series, around)
        if kind is not None:
            kinds.setdefault(kind, []).append(series)
    groups = {kind: group for kind, group in kinds.items() if len(group) > 1}
    for (role, label), group in groups.items():
        names = tuple(str(series.name) for series in group)
        if role == "emg" and len(around) < 2:  # in a container, the names need not repeat the role
            names = tuple(re.sub(r"(?i)^emg[_\s-]?|[_\s-]?emg$", "", name) or name for name in names)
        is_whole = len(group) == len(members) and (len(around) > 1 or find_role(around) == role == "emg")
        start = "EMG" if role == "emg" else ""
        yield Signal(path if is_whole else f"{path}/{start}*{label}", role, tuple(group), names)
    grouped = {id(series) for group in groups.values() for series in group}
    for series in members:
        if id(series) not in grouped:
            yield from _from_series(f"{path}/{series.name}", series, around)


def _find_kind(series: TimeSeries, around: tuple[str, ...]) -> tuple[str, str] | None:
    """Return the role of a single-channel series, and the name that it shares with others of its signal.

    In a container, all series of a quantity belong together. Elsewhere, muscles do, and so do series whose
    names differ only by the axis.
    """
    if len(series.data.shape) > 1 and series.data.shape[1] > 1:
        return None
    name, role = str(series.name), _find_role(series, around)
    if role == "emg":
        return role, "_".join(sorted({version.lower() for version in _VERSION.findall(name)}))
    stem = drop_axis(name)
    if len(around) > 1:
        return role, find_quantity(name) if stem is None else stem
    return None if stem is None or role == "other" else (role, stem or "axes")


def _from_series(path: str, series: TimeSeries, around: tuple[str, ...]) -> Iterator[Signal]:
    """Yield the signals of one series: several if its columns belong to several electrode groups."""
    n_channels = series.data.shape[1] if len(series.data.shape) > 1 else 1
    if isinstance(series, ElectricalSeries) and len(series.electrodes.data) == n_channels:
        yield from _from_electrodes(path, series, around)
        return
    numbered = [series.name] if n_channels == 1 else [f"{series.name}_{i}" for i in range(n_channels)]
    names = name_channels(f"{series.comments} {series.description}", n_channels) or numbered
    yield Signal(path, _find_role(series, around), (series,), tuple(names))


def _from_electrodes(path: str, series: ElectricalSeries, around: tuple[str, ...]) -> Iterator[Signal]:
    """Yield the columns of each electrode group, which are EMG if the group says so.

    If the series itself says so, all its columns are one signal, even if each muscle has its own group.
    """
    rows = np.asarray(series.electrodes.data[:], dtype=int)
    table = series.electrodes.table
    labels = {name: partial(_get_rows, table[name], rows) for name in table.colnames}
    numbered = [f"{series.name}_{i}" for i in range(len(rows))]
    names = name_channels(f"{series.comments} {series.description}", len(rows), labels) or numbered
    if _find_role(series, around) == "emg":
        yield Signal(path, "emg", (series,), tuple(names))
        return
    groups = _get_groups(series)
    distinct = list(dict.fromkeys(groups))
    for group in distinct:
        picks = tuple(i for i, other in enumerate(groups) if other is group)
        columns = tuple(names[i] for i in picks)
        said = "" if group is None else f"{group.name} {group.description} {group.location}"
        role = (
            "emg" if find_role((str(series.name), said, type(series).__name__, *around)) == "emg" else "other"
        )
        if group is None or len(distinct) == 1:
            yield Signal(path, role, (series,), columns)
        else:
            yield Signal(f"{path}[{group.name}]", role, (series,), columns, picks)


def _get_groups(series: ElectricalSeries) -> list[ElectrodeGroup | None]:
    """Return the electrode group of each column."""
    rows, table = np.asarray(series.electrodes.data[:], dtype=int), series.electrodes.table
    return [table["group"][int(row)] for row in rows] if "group" in table.colnames else [None] * len(rows)


def _get_rows(column: VectorData, rows: NDArray[np.int_]) -> list[str]:
    return [str(column[int(row)]) for row in rows]


def _find_role(series: TimeSeries, around: tuple[str, ...]) -> str:
    """Return the role that the name of a series suggests, else its type, else the names around it."""
    if isinstance(series, AnnotationSeries | IntervalSeries):  # samples only when something happens
        return "other"
    return find_role((str(series.name), type(series).__name__, *around))
