"""Checks of the units table: spike times one by one, against each other, and against the session."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from nwbrnn.readers.doctor.duplicates import find_duplicates
from nwbrnn.readers.doctor.finding import Finding, bias, note
from nwbrnn.readers.doctor.spikes import COARSE, SpikeView
from nwbrnn.readers.rules.windows import FINEST
from nwbrnn.readers.units import lies_on_grid
from nwbrnn.text import list_some, show_count

Spans = NDArray[np.float64]

_MIN_SILENT = 50.0
_AROUND = 500
_LOST = 1.0
_FEW = 10
_MIN_ABSENT = 20.0
_MIN_SPIKES = 50
_DRIFT = 2.0
_DRIFT_Z = 5.0


def check_spike_index(view: SpikeView) -> Iterator[Finding]:
    """Find a damaged index, which gives spikes to the wrong units."""
    if not view.trains.fault:
        return
    ends, remedy = view.trains.ends, "write the units again from the sorter's output"
    falls = int((np.diff(ends, prepend=0) < 0).sum())
    if not len(ends):
        yield bias(f"{view.spikes}_index", "there is no index, so no spike belongs to a unit", remedy)
    elif falls or ends[-1] > view.n_spikes:
        entries = show_count(len(ends), "entry", "entries")
        problem = f"it should ascend to at most {view.n_spikes}, but it falls at {falls} of {entries}, and "
        yield bias(f"{view.spikes}_index", f"{problem}the last is {ends[-1]}", remedy)
    else:
        yield bias(
            f"{view.path}/obs_intervals_index", "it does not ascend within the number of intervals", remedy
        )


def check_spike_times(view: SpikeView) -> Iterator[Finding]:
    """Find spike times that are not finite, not ascending, or before time 0."""
    for name, counts, remedy, report in (
        ("NaN or infinite", view.not_finite, "remove these spikes", bias),
        (
            "negative",
            view.negative,
            "no action needed if time 0 is not the start of the recording; otherwise correct them",
            note,
        ),
        (
            "earlier than the one before",
            view.unsorted,
            "no action needed: nwbrnn sorts them; for other readers, sort them in the file",
            note,
        ),
    ):
        if counts.any():
            yield report(view.spikes, f"there are spike times that are {name}: {view.count(counts)}", remedy)


def check_spikes_unwritten(view: SpikeView) -> Iterator[Finding]:
    """Find spikes at 0 s among later ones, as where a page of the file was never written or copied."""
    units = view.rows[np.flatnonzero(view.unwritten)]
    if len(units):
        yield bias(
            view.spikes,
            "there are spike times of 0 among later ones, so they were never written: "
            f"{view.count(view.unwritten)} ({list_some(units, limit=16)})",
            "get a fresh copy of the file, or leave out these units "
            f"(--units 'row!={','.join(map(str, units[:200].tolist()))}')",
        )


def check_spikes_unobserved(view: SpikeView) -> Iterator[Finding]:
    """Find spikes outside obs_intervals, which contradict them and are not used."""
    if view.outside.any():
        yield note(
            f"{view.path}/obs_intervals",
            f"there are spikes outside the observation intervals: {view.count(view.outside)}",
            "correct obs_intervals, because nwbrnn does not use a unit outside them",
        )


def check_units_empty(view: SpikeView) -> Iterator[Finding]:
    """Find units without spikes."""
    empty = view.counts == 0
    if empty.any() and not view.trains.fault:
        yield note(
            view.path,
            f"there are no spikes in {int(empty.sum())} of {show_count(len(empty), 'unit')}: "
            f"{list_some(view.rows[np.flatnonzero(empty)], limit=16)}",
            "no action needed if these units were silent; otherwise remove them",
        )


def check_spikes_in_bins(view: SpikeView) -> Iterator[Finding]:
    """Find spikes on a coarse grid: they are counts in bins, which readers have to know."""
    width = view.grid
    resolution = view.resolution
    if width >= COARSE and resolution < 0.5 * width:
        yield note(
            view.spikes,
            f"all {view.n_spikes} spike times lie on a grid of {width * 1000:.4g} ms, but "
            f"{view.path}.resolution is {'not set' if not resolution else f'{resolution:g} s'}",
            f"set {view.path}.resolution to {width:.4g}, so that readers round alignments to it; "
            "otherwise spikes on bin edges fall to one side",
        )


def check_resolution(view: SpikeView) -> Iterator[Finding]:
    """Find a resolution that spikes do not have: times are rounded to it by those who believe it."""
    resolution = view.resolution
    if resolution >= FINEST and not view.trains.fault and not lies_on_grid(view.trains.times, resolution):
        yield note(
            f"{view.path}.resolution",
            f"it is {resolution:g} s, but the spikes do not lie in bins of this width; nwbrnn ignores it",
            "set it to the precision of the spike times, in seconds",
        )


def check_silent_spans(view: SpikeView) -> Iterator[Finding]:
    """Find stretches in which no unit fires at all: nothing was recorded, but obs_intervals do not say so.

    Silence counts if it lasts a second, if more than 50 spikes were to be expected in it from the activity
    around (a Poisson process then makes none with a probability of e^-50), and if it is 20 times longer than
    nine in ten of the pauses around: units that pause together are not off. A few units may all pause; fewer
    than ten have to be silent five times longer than ever around.
    """
    spans, expected = _find_silences(view)
    if not len(spans):
        return
    n_trials, n_lost = _count_lost(view, spans)
    trials = (
        f"they cover a second or more of {n_lost} of {show_count(n_trials, 'trial')}"
        if n_trials
        else "there are no trials"
    )
    report = bias if n_lost or not n_trials else note
    lengths = spans[:, 1] - spans[:, 0]
    k = int(np.argmax(lengths))
    yield report(
        view.path,
        f"no unit fires in {show_count(len(spans), 'stretch', 'stretches')} of {lengths.sum():.2f} s in all; "
        f"the first is from {spans[0, 0]:.2f} to {spans[0, 1]:.2f} s, and the longest lasts "
        f"{lengths[k]:.2f} s, in which about {expected[k]:.0f} spikes were expected; {trials}",
        "if the recording was off, leave these stretches out of units.obs_intervals so that nwbrnn masks "
        "them; or leave out these trials",
    )


def check_units_absent(view: SpikeView) -> Iterator[Finding]:
    """Find units that begin late or stop early: lost, not silent, but obs_intervals do not say so."""
    late, early = _find_absent(view)
    absent = late | early
    if absent.any():
        low, high = view.extent
        texts = [
            f"unit {view.rows[i]} " + " and ".join(
                text for text, applies in (
                    (f"begins {view.first[i] - low:.4g} s late", late[i]),
                    (f"stops {high - view.last[i]:.4g} s early", early[i]),
                ) if applies
            )
            for i in np.flatnonzero(absent)
        ]  # fmt: skip
        yield bias(
            view.path,
            f"only part of the session from {low:.2f} to {high:.2f} s has spikes in {int(absent.sum())} of "
            f"{show_count(len(absent), 'unit')}: {list_some(texts, limit=5)}",
            "state in units.obs_intervals when each unit was observed, or leave out these units or trials",
        )


def check_units_drifting(view: SpikeView) -> Iterator[Finding]:
    """Find rates that change by a factor over the session, beyond their scatter."""
    drifting, factor = _find_drifting(view)
    drifting &= ~np.logical_or(*_find_absent(view))
    if drifting.any():
        worst = np.flatnonzero(drifting)[np.argsort(-factor[drifting])]
        listed = [f"unit {view.rows[i]} by {factor[i]:.3g}" for i in worst]
        yield note(
            view.path,
            f"the rate changes between thirds of the session by a factor of {_DRIFT:g} or more, beyond its "
            f"scatter, in {int(drifting.sum())} of {show_count(len(drifting), 'unit')} "
            f"({drifting.mean():.1%}): {list_some(listed, limit=5)}",
            "leave out these units, or fit only part of the session; held-out trials mix early and late "
            "trials",
        )


def check_units_twice(view: SpikeView) -> Iterator[Finding]:
    """Find units with the same spikes, which are one unit."""
    duplicates = (
        []
        if view.trains.fault
        else find_duplicates(view.trains, rows=view.rows, width=view.grid or view.resolution)
    )
    if duplicates:
        texts = [f"units {a} and {b} share {share:.1%}" for a, b, share in duplicates]
        yield bias(
            view.path,
            f"{show_count(len(duplicates), 'pair of units has', 'pairs of units have')} more than half of "
            f"their spikes at identical times: {list_some(texts, limit=5)}",
            "keep one unit of each pair (--units 'row!="
            + ",".join(str(b) for _, b, _ in duplicates[:20])
            + "'): "
            "predictions of one from the other mean nothing",
        )


def _find_silences(view: SpikeView) -> tuple[Spans, NDArray[np.float64]]:
    """Return stretches without spikes, too long to be chance [s], and the spikes expected in each."""
    busy = np.flatnonzero(view.busy)
    low, width = view.edges
    if len(busy) < 2:
        return np.empty((0, 2)), np.empty(0)
    bounds = np.stack([np.append(-1, busy) + 1, np.append(busy, len(view.busy))], axis=1)
    pauses = np.diff(busy)
    found, rates = [], []
    for k in np.flatnonzero(bounds[:, 1] - bounds[:, 0] > 1.0 / width):
        around = np.append(pauses[max(k - 1 - _AROUND, 0) : max(k - 1, 0)], pauses[k : k + _AROUND])
        longest = 20 * np.quantile(around, 0.9)
        if len(view.counts) < _FEW:
            longest = max(longest, 5 * around.max())
        rate = 1 / (around[around <= longest].mean() * width)
        span = bounds[[k]] * width + low
        if view.observed is not None:
            span = _intersect(span, view.all_observed)
        lengths = span[:, 1] - span[:, 0]
        chosen = lengths > max(1.0, longest * width, _MIN_SILENT / rate)
        found.append(span[chosen])
        rates.append(rate * lengths[chosen])
    return np.concatenate([np.empty((0, 2)), *found]), np.concatenate([np.empty(0), *rates])


def _count_lost(view: SpikeView, spans: Spans) -> tuple[int, int]:
    """Return the number of trials, and of those that share a second or more with one of the stretches."""
    if view.trials is None:
        return 0, 0
    start, stop = view.trials[:, 0], view.trials[:, 1]
    stop = np.where(np.isfinite(stop), stop, start + _LOST)
    lost = np.zeros(len(start), dtype=bool)
    for low, high in spans:
        lost |= np.minimum(stop, high) - np.maximum(start, low) >= _LOST
    return len(start), int(lost.sum())


def _intersect(spans: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return where both lists of disjoint spans are, shape (n, 2)."""
    pieces = [np.stack([np.maximum(others[:, 0], a), np.minimum(others[:, 1], b)], axis=1) for a, b in spans]
    both = np.concatenate([np.empty((0, 2)), *pieces])
    return both[both[:, 1] > both[:, 0]]


def _find_absent(view: SpikeView) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which units begin late and which stop early.

    Compared with the other units: by more than five of their own longest pauses, and by more than 20 spikes
    of their own rate, within the time in which they are said to be observed.
    """
    low, high = view.extent
    begin, end = np.full(len(view.counts), low), np.full(len(view.counts), high)
    if view.observed is not None:
        spans = [s if len(s) else np.array([[high, low]]) for s in view.observed]
        begin = np.maximum(begin, [s[0, 0] for s in spans])
        end = np.minimum(end, [s[-1, 1] for s in spans])
    pace = (view.last - view.first) / np.maximum(view.counts, 1)
    least = np.maximum(5 * view.longest, _MIN_ABSENT * pace)
    enough = view.counts >= _MIN_SPIKES
    return enough & (view.first - begin > least), enough & (end - view.last > least)


def _find_drifting(view: SpikeView) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return which units drift, and the largest ratio of rates between thirds of the session.

    The scatter of counts within thirds, at least that of a Poisson process, tells how far counts of thirds
    scatter by themselves.
    """
    parts = view.parts.reshape(len(view.parts), 3, -1).astype(np.float64)
    thirds, mean = parts.sum(axis=2), np.maximum(parts.mean(axis=2), 1e-9)
    scatter = np.maximum(1.0, (parts.var(axis=2, ddof=1) / mean).mean(axis=1))
    most, least = thirds.max(axis=1), thirds.min(axis=1)
    z = (most - least) / np.sqrt(scatter * np.maximum(most + least, 1))
    factor = most / np.maximum(least, 1)
    return (z > _DRIFT_Z) & (factor >= _DRIFT) & _find_observed_throughout(view), factor


def _find_observed_throughout(view: SpikeView) -> NDArray[np.bool_]:
    """Return which units are said to be observed in at least nine tenths of the session."""
    low, high = view.extent
    if view.observed is None:
        return np.ones(len(view.counts), dtype=bool)
    covered = [np.clip(spans, low, high) for spans in view.observed]
    return np.array([(s[:, 1] - s[:, 0]).sum() >= 0.9 * (high - low) for s in covered])
