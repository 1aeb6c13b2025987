"""Checks of one time series: its scaling and its time stamps."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from pynwb import TimeSeries
from pynwb.behavior import BehavioralEvents
from pynwb.ecephys import ElectricalSeries
from pynwb.image import ImageSeries
from pynwb.misc import AnnotationSeries, IntervalSeries

from nwbrnn.config import ReadConfig
from nwbrnn.errors import NwbrnnError
from nwbrnn.formats.fit.layout import is_module_of_fit
from nwbrnn.formats.series import read_stamps
from nwbrnn.limits import is_written
from nwbrnn.readers.clock import GAP, REGULAR, Clock
from nwbrnn.readers.discovery import Fault, Signal, find_fault, get_gains
from nwbrnn.readers.doctor.finding import BLOCK, Finding, Tally, bias, note
from nwbrnn.readers.plan import Plan
from nwbrnn.readers.rules.objects import apply_map
from nwbrnn.readers.session import Session
from nwbrnn.readers.vocabulary import OUTPUT_ROLES
from nwbrnn.storage import find_stored
from nwbrnn.text import show_count


@dataclass
class Steps:
    """What is known of the time stamps of a series, gathered block by block."""

    n: int
    median: float  # median time between the first of them [s]; NaN if there are fewer than two
    rounding: float  # what they are rounded to, if that is coarse [s]; 0 otherwise
    gap: float  # steps longer than this are gaps [s]
    regular: int = 0  # how many steps are within a tenth of the median
    # the longest step [s], and the time at which it begins [s]
    longest: float = 0.0
    longest_at: float = float("nan")
    most_backwards: float = 0.0  # the longest step back in time [s], negative
    first_gap_at: float = float("nan")  # time at which the first gap begins [s]
    not_finite: Tally = field(default_factory=Tally)
    backwards: Tally = field(default_factory=Tally)
    repeated: Tally = field(default_factory=Tally)
    gaps: Tally = field(default_factory=Tally)

    def count(self, bad: Tally) -> str:
        """Return how many time stamps are bad, and the number of the first."""
        return f"at {bad.count} of {show_count(self.n, 'timestamp')}, first at number {bad.first}"


@dataclass(frozen=True)
class SeriesView:
    """A time series, and what its checks look at."""

    path: str  # where it is in the file
    series: TimeSeries
    signal: Signal | None  # the signal it belongs to; None if it is not one that could be read
    steps: Steps | None  # its time stamps; None if it has a rate instead
    is_wanted: bool  # whether a fit would read it, or could if nothing else is chosen by the settings
    is_picked: bool  # whether a fit would read it
    emg: str  # whether the user said that EMG is raw, or an envelope; else auto
    fault: Fault | None  # why it cannot be read though its name suggests that it should be

    @property
    def role(self) -> str:
        """Role of its signal."""
        return "other" if self.signal is None else self.signal.role

    @property
    def extent(self) -> tuple[float, float]:
        """First and last time stamp of its signal [s]; NaN without one."""
        return (np.nan, np.nan) if self.signal is None else self.signal.extent

    @property
    def is_read(self) -> bool:
        """Whether a fit would read it, or could by its name."""
        return self.role != "other" or self.is_picked

    @property
    def rounding(self) -> float:
        """What its time stamps are rounded to, if that is coarse [s]; 0 otherwise."""
        return 0.0 if self.steps is None else self.steps.rounding

    @property
    def n_samples(self) -> int | None:
        """Number of samples; ``None`` where the data are elsewhere."""
        shape = getattr(self.series.data, "shape", None)
        outside = isinstance(self.series, ImageSeries) and self.series.external_file is not None
        return None if not shape or outside else int(shape[0])

    @property
    def is_sampled(self) -> bool:
        """Whether a fit could use it: numbers sampled over time, not events, video or broadband."""
        if self.is_picked:
            return True
        odd = isinstance(self.series, ImageSeries | IntervalSeries | AnnotationSeries)
        events = isinstance(self.series.parent, BehavioralEvents)
        broadband = isinstance(self.series, ElectricalSeries) and self.role == "other"
        return not (odd or events or broadband)

    def report(self, problem: str, remedy: str) -> Finding:
        """Return a finding that biases a fit if a fit could use this series."""
        return (bias if self.is_sampled and self.is_wanted else note)(self.path, problem, remedy)


def list_series(session: Session, config: ReadConfig, plan: Plan | None) -> Iterator[SeriesView]:
    """Yield every time series of a file, wherever it is, sorted by path."""
    read = {} if plan is None else {signal.path: signal for signal in plan.objects.signals}
    ordered = sorted(_map_signals(session, config), key=lambda s: s.role == "emg")  # EMG may be some columns
    ordered = [read.get(signal.path, signal) for signal in ordered]
    ordered.sort(key=lambda signal: signal.path in read)
    signals = {id(series): signal for signal in ordered for series in signal.series}
    named = {id(series) for series in session.unusable.values()}
    named |= {key for key, signal in signals.items() if signal.role != "other"}
    is_chosen = config.outputs != "auto" or config.channels or set(config.map) & set(OUTPUT_ROLES)
    found = [item for item in session.nwbfile.objects.values() if isinstance(item, TimeSeries)]
    paths = {session.find_path(item): item for item in found}
    for path, series in sorted(paths.items()):
        parts = path.split("/")
        if parts[0] == "processing" and is_module_of_fit(parts[1]):  # results, no data
            continue
        signal = signals.get(id(series))
        is_picked = signal is not None and signal.path in read
        fault = find_fault(series) if id(series) in named else None
        is_wanted = is_picked or plan is None or not is_chosen
        yield SeriesView(path, series, signal, _read_steps(series), is_wanted, is_picked, config.emg, fault)


def _map_signals(session: Session, config: ReadConfig) -> Sequence[Signal]:
    """Return the signals with the roles that they are mapped to, if that can be."""
    try:
        return apply_map(session.signals, config)
    except NwbrnnError:
        return session.signals


def check_conversion(view: SeriesView) -> Iterator[Finding]:
    """Find a conversion of 0, which makes all values equal, or NaN, which counts as 1."""
    conversion = float(view.series.conversion)
    if conversion == 0 or np.isinf(conversion):
        yield view.report(
            f"conversion is {conversion:g}, which makes all values in {view.series.unit} the same",
            "set the conversion to the size of one step of the data in the unit, or to 1 if the data are in "
            "the unit",
        )
    elif np.isnan(conversion):
        yield note(
            view.path,
            "conversion is NaN; nwbrnn treats it as 1, but other readers make every value NaN",
            "set it to 1, or to the size of one step of the data in the unit",
        )


def check_channel_conversion(view: SeriesView) -> Iterator[Finding]:
    """Find channels that a conversion of 0 makes constant, or one of NaN unknown."""
    gains = get_gains(view.series)
    if gains is None or view.fault:
        return
    bad = ~np.isfinite(gains) | (gains == 0)
    if bad.any():
        yield view.report(
            f"channel_conversion is {gains[bad][0]:g} for {bad.sum()} of {show_count(len(bad), 'channel')}",
            "set it to the size of one step of each channel relative to conversion, or to 1",
        )


def check_offset(view: SeriesView) -> Iterator[Finding]:
    """Find an offset that is no number, which spoils all values."""
    if not np.isfinite(float(view.series.offset or 0.0)):
        yield view.report(f"offset is {view.series.offset}, which spoils every value", "set the offset to 0")


def check_offset_as_start(view: SeriesView) -> Iterator[Finding]:
    """Find offsets that may be the time at which a series begins, as in FALCON H1."""
    offset = float(view.series.offset or 0.0)
    begins_at_zero = view.series.timestamps is None and not view.series.starting_time
    if offset and np.isfinite(offset) and view.role == "kinematics" and begins_at_zero:
        yield note(
            view.path,
            f"offset is {offset:g} {view.series.unit} and starting_time is 0; some files (FALCON H1) keep "
            "the start time in the offset, but readers add the offset to the values",
            "if the offset is a time, set starting_time to this time and offset to 0",
        )


def check_rate(view: SeriesView) -> Iterator[Finding]:
    """Find rates that do not tell when samples were taken."""
    rate, start = view.series.rate, view.series.starting_time
    if view.series.timestamps is None and rate is not None and not (np.isfinite(rate) and rate > 0):
        yield view.report(
            f"rate is {rate:g} Hz for {view.n_samples} samples",
            "set the rate, or give timestamps instead of a rate",
        )
    if start is not None and not np.isfinite(start):
        yield view.report(f"starting_time is {start}", "set it to the time of the first sample [s]")


def check_timestamps_number(view: SeriesView) -> Iterator[Finding]:
    """Find a number of time stamps that is not that of the samples."""
    # a series without data only lends its clock to others
    if view.steps is not None and view.n_samples and not view.fault and view.steps.n != view.n_samples:
        yield view.report(
            f"there are {show_count(view.steps.n, 'timestamp')} for {show_count(view.n_samples, 'sample')}",
            "write data and timestamps again with the same length, and with time on the first axis",
        )


def check_timestamps_not_finite(view: SeriesView) -> Iterator[Finding]:
    """Find time stamps that are not finite; such samples are left out."""
    if view.steps is not None and (bad := view.steps.not_finite).count:
        yield note(
            view.path,
            f"the time is not finite {view.steps.count(bad)}",
            "no action needed: nwbrnn leaves out these samples; you can also repair the timestamps",
        )


def check_timestamps_backwards(view: SeriesView) -> Iterator[Finding]:
    """Find a clock that was set back.

    Samples that claim the same time are left out; the others may be shifted against the spikes.
    """
    if view.steps is not None and (bad := view.steps.backwards).count:
        yield view.report(
            f"the clock goes backwards {view.steps.count(bad)}; the longest step back is "
            f"{-view.steps.most_backwards:.6g} s",
            "sort the samples by time, or cut the overlap where recordings were joined",
        )


def check_timestamps_repeated(view: SeriesView) -> Iterator[Finding]:
    """Find several samples at one time, which are averaged."""
    if view.steps is not None and not view.rounding and (bad := view.steps.repeated).count:
        yield note(
            view.path,
            f"the time is the same as before {view.steps.count(bad)}",
            "remove the samples that were written twice, or give a rate if the clock was too coarse",
        )


def check_timestamps_gaps(view: SeriesView) -> Iterator[Finding]:
    """Find gaps; bins in them are masked, and filters do not run across them."""
    steps = view.steps
    if (
        steps is None
        or not steps.gaps.count
        or not (steps.rounding or steps.regular >= REGULAR * (steps.n - 1))
    ):
        return  # events are not sampled regularly
    yield note(
        view.path,
        f"the clock has {show_count(steps.gaps.count, 'gap')}, with steps of more than {GAP} times the usual "
        f"{steps.median:.6g} s; the first is at {steps.first_gap_at:.6g} s, and the longest, of "
        f"{steps.longest:.6g} s, is at {steps.longest_at:.6g} s",
        "no action needed: nwbrnn masks bins without samples; do not replace these timestamps by a rate",
    )


def check_stamps_in_bins(view: SeriesView) -> Iterator[Finding]:
    """Find time stamps that are read as the ends or centres of bins, as the description says."""
    if view.signal is not None and view.signal.stamps != "start":
        yield note(
            view.path,
            f"according to its description, time stamps are bin {view.signal.stamps}s; nwbrnn reads them so",
            "no action needed if this is true; otherwise correct the description",
        )


def check_shape(view: SeriesView) -> Iterator[Finding]:
    """Find series named as outputs that are no numbers by time and channel."""
    if view.fault:
        yield view.report(*view.fault)


def check_data_unwritten(view: SeriesView) -> Iterator[Finding]:
    """Find series of which next to nothing is stored; their values are not looked at."""
    if view.is_read and is_unwritten(view):
        size, stored = _find_sizes(view)
        yield view.report(
            f"its data would take {size:.0e} bytes, but only {stored:.0e} are stored; the rest is one value",
            "write the data again, or cut the series to the part that was recorded",
        )


def is_unwritten(view: SeriesView) -> bool:
    """Return whether the data of a series claim far more than what is stored of them."""
    return not is_written(*_find_sizes(view))


def _find_sizes(view: SeriesView) -> tuple[int, int]:
    """Return how large the data of a series are, and how much is stored of them [bytes]."""
    data = view.series.data
    size = math.prod(getattr(data, "shape", ())) * getattr(getattr(data, "dtype", None), "itemsize", 0)
    return size, find_stored(data)


def check_timestamps_rounded(view: SeriesView) -> Iterator[Finding]:
    """Find clocks with a fixed step whose time stamps are rounded more coarsely than that."""
    if view.is_read and view.signal is not None and view.rounding:
        yield note(
            view.path,
            f"its time stamps are rounded to {view.rounding:.2g} s, although a sample was taken every "
            f"{view.signal.interval:g} s; so samples may be in the bin beside theirs",
            "give a rate and a starting_time, or write the time of each sample",
        )


def check_steps_varying(view: SeriesView) -> Iterator[Finding]:
    """Find clocks without a fixed step; bins as wide as a step may then hold no sample."""
    if view.is_read and view.signal is not None and view.signal.varies and not view.rounding:
        yield note(
            view.path,
            "its clock is irregular: the steps between its time stamps vary; on average, they are "
            f"{view.signal.interval:g} s long",
            "no action needed: bins are two steps wide unless you give another width (--bin-size)",
        )


def _read_steps(series: TimeSeries) -> Steps | None:
    """Return what is known of the time stamps, read block by block."""
    if series.timestamps is None:
        return None
    n = len(series.timestamps)
    first_steps = np.diff(read_stamps(series, 0, BLOCK))
    forward = first_steps[first_steps > 0]  # a repeated or backward step says nothing about the usual one
    median = float(np.median(forward)) if len(forward) else float("nan")
    clock = Clock(series)
    steps = Steps(n, median, clock.rounding, clock.gap)
    for start in range(0, n, BLOCK):
        block = read_stamps(series, max(start - 1, 0), start + BLOCK)
        _add_block(steps, block, max(start - 1, 0))
    return steps


def _add_block(steps: Steps, block: np.ndarray, offset: int) -> None:
    """Add a block of time stamps that begins with the last of the block before."""
    new = block[1:] if offset else block
    steps.not_finite.add(~np.isfinite(new), offset + len(block) - len(new))
    step = np.diff(block)
    steps.backwards.add(step < 0, offset + 1)
    steps.repeated.add(step == 0, offset + 1)
    gaps = step > steps.gap
    if gaps.any() and not steps.gaps.count:
        steps.first_gap_at = float(block[np.argmax(gaps)])
    steps.gaps.add(gaps, offset + 1)
    steps.regular += int(np.count_nonzero(np.abs(step - steps.median) <= 0.1 * steps.median))
    finite = np.where(np.isfinite(step), step, 0.0)
    if finite.max(initial=0.0) > steps.longest:
        steps.longest, steps.longest_at = float(finite.max()), float(block[np.argmax(finite)])
    steps.most_backwards = min(steps.most_backwards, float(finite.min(initial=0.0)))
