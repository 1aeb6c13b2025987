"""Read the neurons of a recording as spike counts and rates in the bins of each trial."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwbrnn.config import ReadConfig
from nwbrnn.dataset import Choice
from nwbrnn.errors import MissingDataError, ReadError
from nwbrnn.preprocessing import smooth_counts
from nwbrnn.preprocessing.smoothing import TRUNCATE
from nwbrnn.readers.binned import BinnedCounts
from nwbrnn.readers.discovery import Signal
from nwbrnn.readers.plan import Plan
from nwbrnn.readers.series import read_binned
from nwbrnn.readers.session import Session
from nwbrnn.readers.tables import name_coordinates
from nwbrnn.readers.times import TICKS_PER_SECOND, Ticks, to_ticks
from nwbrnn.readers.units import count_spikes, find_observed, iterate_counts
from nwbrnn.text import list_some

_PER_SECOND = re.compile(
    r"^k?hz$|(/|per)\s*(s|sec|secs|second|seconds)$|(?<![a-z])s(ec)?\s*\^?-1$", re.IGNORECASE
)
_FRACTION = 1e-3  # by which sums of counts in single precision may differ from whole numbers
SMOOTHED = 16  # number of units to smooth at once

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Part:
    """Some variables and coordinates of the Dataset, and the bins in which any of them was recorded."""

    values: dict[str, NDArray[Any]]
    coords: dict[str, Any]
    covered: Mask
    choices: tuple[Choice, ...] = ()
    extent: tuple[float, float] = (np.nan, np.nan)
    """First and last spike [s], if the reader had to search for them."""


def read_neurons(session: Session, plan: Plan, config: ReadConfig, *, used: Mask) -> Part:
    """Read, for the units to keep, recorded rates, or spike counts and the rates smoothed from them.

    Parameters
    ----------
    session, plan, config
        The open file, and what to read from it.
    used
        The bins in which outputs and inputs were recorded, shape (n_trials, n_bins). A unit that was observed
        in none of them is left out; one that was observed in some is NaN in the others.
    """
    if plan.objects.rates:
        part = _read_rates(session, plan, nan=config.nan)
    else:
        part = _read_spikes(session, plan, config, used)
    part = _mark_unobserved(part, used)
    kept = part.coords["unit"]
    columns = session.unit_columns if plan.objects.in_table else {}
    labels = name_coordinates(columns, prefix="unit_", always=True)
    coords = {labels[name]: ("unit", values[kept]) for name, values in columns.items()}
    return replace(part, coords=coords | part.coords)


def _read_rates(session: Session, plan: Plan, *, nan: str) -> Part:
    """Read series of rates, and also spike counts if there are spikes."""
    edges = plan.compute_edges()
    binned = [read_binned(signal, edges, nan=nan) for signal in plan.objects.rates]
    rates = np.concatenate([part.values for part in binned], axis=2)
    values: dict[str, NDArray[Any]] = {"rates": rates[..., plan.objects.units].astype(np.float32)}
    if plan.objects.in_table and session.has_spikes:
        trains = session.read_spikes()
        values["spike_counts"] = count_spikes(trains, edges)[..., plan.objects.units]
        damaged = sorted(trains.unwritten & set(plan.objects.units.tolist()))
        if damaged:
            raise ReadError(
                f"{trains.name}: expected spike times, but some of units {damaged[:20]} were never written "
                f"and are 0; get a fresh copy, or leave out these units (--units 'row!={damaged[0]}')"
            )
    # series of other probes can have gaps of their own
    covered = np.asarray(np.isfinite(values["rates"]).any(axis=2))
    return Part(values, {"unit": plan.objects.units}, covered)


def _read_spikes(session: Session, plan: Plan, config: ReadConfig, used: Mask) -> Part:
    """Read spike counts, and smooth them to rates, a few units at a time."""
    # read bins on both sides of the window, so that smoothing includes the spikes before and after it
    n_pad = int(np.ceil(TRUNCATE * config.smoothing / plan.window.bin_size))
    edges = plan.compute_edges(n_pad=n_pad)
    inside = slice(n_pad, n_pad + plan.window.n_bins)
    counted, rows, observed, extent, unwritten = _open_counts(session, plan, config, edges)
    wanted = np.isin(rows, plan.objects.units)
    kept, choices = _choose_observed(observed[:, inside] & used[..., np.newaxis], wanted)
    mine = observed[..., kept if observed.shape[2] > 1 else [0]]
    seen = np.asarray(plan.find_valid(edges)[..., np.newaxis] & mine)
    covered = np.asarray(seen.any(axis=2))
    if (seen == covered[..., np.newaxis]).all():  # all units were observed in the same bins
        seen = covered[..., np.newaxis]
    counts = np.empty((len(kept), len(edges), plan.window.n_bins), dtype=np.int32)
    rates = np.empty(counts.shape, dtype=np.float32)
    done, block, chosen = 0, [], set(kept.tolist())
    for i, one in enumerate(counted):
        if i in chosen:
            block.append(one)
        if len(block) == SMOOTHED or (block and done + len(block) == len(kept)):
            padded = np.stack(block, axis=2)
            here = slice(done, done + len(block))
            valid = seen if seen.shape[2] == 1 else seen[..., here]
            smoothed = smooth_counts(
                padded, bin_size=plan.window.bin_size, sigma=config.smoothing, valid=valid
            )
            counts[here] = padded[:, inside].transpose(2, 0, 1)
            rates[here] = smoothed[:, inside].transpose(2, 0, 1)
            done, block = here.stop, []
    whole, left_out = _choose_written(rows[kept], unwritten)
    if left_out:
        counts, rates, kept = counts[whole], rates[whole], kept[whole]
    values = {"spike_counts": counts.transpose(1, 2, 0), "rates": rates.transpose(1, 2, 0)}
    return Part(values, {"unit": rows[kept]}, covered[:, inside], choices + left_out, extent)


def _mark_unobserved(part: Part, used: Mask) -> Part:
    """Return neurons with NaN for the counts of units that were not observed in some of the used bins."""
    lacks = np.isnan(part.values["rates"]) & (used & part.covered)[..., np.newaxis]
    if not lacks.any():
        return part
    text = f"{int(lacks.any(axis=(0, 1)).sum())} of {lacks.shape[2]}"
    reason = "not observed in some of the bins that others were; their rates and counts are NaN there"
    choices = (*part.choices, Choice("incomplete units", text, reason))
    if "spike_counts" not in part.values:
        return replace(part, choices=choices)
    counts = np.where(lacks, np.float32(np.nan), part.values["spike_counts"].astype(np.float32))
    return replace(part, values=part.values | {"spike_counts": counts}, choices=choices)


def _open_counts(
    session: Session, plan: Plan, config: ReadConfig, edges: Ticks
) -> tuple[Iterator[NDArray[np.integer]], NDArray[np.int64], Mask, tuple[float, float], set[int]]:
    """Return an iterator over the counts of each unit, their rows, the observed bins, and their extent.

    The third item has shape (n_trials, n_bins, n_units), or (n_trials, n_bins, 1) if it is the same for all
    units. The fourth [s] is NaN unless all spikes had to be read for it. The last item lists the units with
    some spikes that were never written; it is filled while the units are counted.
    """
    extent = (np.nan, np.nan)
    counts = plan.objects.counts
    if isinstance(counts, BinnedCounts):
        added, covered = counts.count(edges, plan.trials.times)
        return iter(np.moveaxis(added, 2, 0)), counts.rows, covered[..., np.newaxis], extent, set()
    if isinstance(counts, Signal):
        binned = read_binned(counts, edges, nan="mask")
        whole = _check_counts(counts, np.nan_to_num(binned.values), mapped="spike_counts" in config.map)
        rows = np.arange(whole.shape[2])
        return iter(np.moveaxis(whole, 2, 0)), rows, binned.covered[..., np.newaxis], extent, set()
    trains = session.read_spikes()
    tolerance = round(
        plan.window.bin_size * TICKS_PER_SECOND / 100
    )  # intervals may end early by a rounding error
    if trains.observed is None:
        extent = trains.extent
        observed = _find_between(plan, extent, edges)
    else:
        observed = find_observed(trains, edges, tolerance=tolerance)
    return iterate_counts(trains, edges), np.arange(len(trains)), observed, extent, trains.unwritten


def _check_counts(counts: Signal, values: NDArray[np.float64], *, mapped: bool) -> NDArray[np.int32]:
    """Return counts as whole numbers, or refuse those that are none, or rates unless the user mapped them.

    A unit per second does not suffice, since some files give it to counts. Rates from counts are also
    multiples of the sampling rate.
    """
    whole = np.rint(values).astype(np.int32)
    broken = np.abs(values - whole) > _FRACTION
    advice = f"if the series holds rates, name it with rates (--rates {counts.path})"
    if broken.any():
        raise ReadError(
            f"{counts.path}: expected counts of spikes, which are whole numbers, but got "
            f"{values[broken][0]:g}; {advice}"
        )
    in_samples = values * counts.interval
    is_multiple = whole.any() and (np.abs(in_samples - np.rint(in_samples)) < _FRACTION).all()
    if is_multiple and counts.interval < 1 and _PER_SECOND.search(counts.unit) and not mapped:
        raise ReadError(
            f"{counts.path}: expected counts of spikes, but its unit is {counts.unit}, and all values are "
            f"multiples of {1 / counts.interval:g}, as of rates; {advice}, or else with map "
            f"(--map spike_counts={counts.path})"
        )
    if (whole < 0).any():
        raise ReadError(
            f"{counts.path}: expected counts of 0 or more, but got {whole.min():g}; repair the file"
        )
    return whole


def _find_between(plan: Plan, extent: tuple[float, float], edges: Ticks) -> Mask:
    """Return the bins between the first and last sign of a recording, shape (n_trials, n_bins, 1)."""
    times = np.array([*plan.trials.session, *extent])
    times = times[np.isfinite(times)]
    first, last = to_ticks(times.min()), to_ticks(times.max())
    return ((edges[:, :-1] >= first) & (edges[:, 1:] <= last))[..., np.newaxis]


def _choose_written(units: NDArray[np.int64], unwritten: set[int]) -> tuple[Mask, tuple[Choice, ...]]:
    """Return which units have all their spikes; the others are left out."""
    whole = ~np.isin(units, list(unwritten))
    if whole.all():
        return whole, ()
    if not whole.any():
        raise MissingDataError(
            "units: expected spike times, but some of every unit were never written and are 0; "
            "get a fresh copy"
        )
    reason = f"rows {list_some(map(str, units[~whole]))}: some of their spikes were never written and are 0"
    return whole, (Choice("units left out", f"{int((~whole).sum())} of {len(whole)}", reason),)


def _choose_observed(observed: Mask, wanted: Mask) -> tuple[NDArray[np.int64], tuple[Choice, ...]]:
    """Return those units to keep that were observed in any of the used bins."""
    kept = np.flatnonzero(wanted & np.broadcast_to(observed.any(axis=(0, 1)), wanted.shape))
    if not kept.size:
        raise MissingDataError(
            "units: expected units observed during the trials, but none was in any bin in which "
            "outputs were recorded; choose another align_to or window"
        )
    if kept.size == wanted.sum():
        return kept, ()
    text = f"{wanted.sum() - kept.size} of {wanted.sum()}"
    reason = "observed in none of the bins in which outputs were recorded"
    return kept, (Choice("units left out", text, reason),)
