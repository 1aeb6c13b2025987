"""Spike counts on bins, for any spikes and any bins."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nwbrnn.errors import ReadError
from nwbrnn.readers.times import TICKS_PER_SECOND
from nwbrnn.readers.units import SpikeTrains, count_spikes
from tests.drawing import draw

TIMES = st.lists(st.integers(-1000, 1000), max_size=60)
EQUAL = st.tuples(st.integers(1, 200), st.integers(1, 20)).map(lambda pair: [pair[0]] * pair[1])
WIDTHS = st.one_of(st.lists(st.integers(1, 200), min_size=1, max_size=20), EQUAL)
FEW = draw(60)


SCALE = 20  # ticks; the strategies count in these


def make_trains(*units):
    times = np.concatenate([np.sort(np.array(unit, dtype=np.float64)) for unit in units])
    ends = np.cumsum([len(unit) for unit in units])
    return SpikeTrains(times * SCALE / TICKS_PER_SECOND, ends, None, "test")


def make_edges(start, widths):
    return (start + np.concatenate([[0], np.cumsum(widths)]).astype(np.int64)) * SCALE


@FEW
@given(units=st.lists(TIMES, min_size=1, max_size=4), start=st.integers(-1000, 1000), widths=WIDTHS)
def test_contiguous_bins_conserve_spikes(units, start, widths):
    edges = make_edges(start, widths)
    counts = count_spikes(make_trains(*units), edges[np.newaxis])
    inside = [sum(edges[0] <= t * SCALE < edges[-1] for t in unit) for unit in units]
    assert counts.shape == (1, len(widths), len(units))
    assert counts.sum(axis=(0, 1)).tolist() == inside


@FEW
@given(unit=TIMES, start=st.integers(-1000, 1000), widths=WIDTHS, second=st.integers(-1000, 1000))
def test_counts_equal_a_loop_over_spikes_in_every_trial(unit, start, widths, second):
    edges = np.stack([make_edges(start, widths), make_edges(second, widths)])
    counts = count_spikes(make_trains(unit), edges)
    for trial in range(2):
        expected = [
            sum(low <= t * SCALE < high for t in unit)
            for low, high in zip(edges[trial, :-1], edges[trial, 1:], strict=True)
        ]
        assert counts[trial, :, 0].tolist() == expected


@FEW
@given(start=st.integers(-1000, 1000), widths=WIDTHS, data=st.data())
def test_spike_on_an_edge_counts_once_in_the_later_bin(start, widths, data):
    edges = make_edges(start, widths)
    k = data.draw(st.integers(0, len(edges) - 1))
    counts = count_spikes(make_trains([edges[k] // SCALE]), edges[np.newaxis])[0, :, 0]
    expected = np.zeros(len(widths), dtype=int)
    if k < len(widths):
        expected[k] = 1
    np.testing.assert_array_equal(counts, expected)


@FEW
@given(
    unit=TIMES, start=st.integers(-1000, 1000), widths=st.lists(st.integers(1, 200), min_size=2, max_size=2)
)
def test_joining_two_bins_adds_their_counts(unit, start, widths):
    edges = make_edges(start, widths)
    trains = make_trains(unit)
    parts = count_spikes(trains, edges[np.newaxis])[0, :, 0]
    whole = count_spikes(trains, edges[[0, -1]][np.newaxis])[0, :, 0]
    assert parts.sum() == whole[0]


@pytest.mark.parametrize(
    ("stored", "expected", "unwritten"),
    [
        ([0.5, 1.0, 1.0, 2.0], [0.5, 1.0, 1.0, 2.0], False),
        ([2.0, 0.5, 1.0], [0.5, 1.0, 2.0], False),
        ([-1.0, 0.0, 1.0], [-1.0, 0.0, 1.0], False),
        ([0.0, 1.0], [0.0, 1.0], False),
        ([1.0, 2.0, 0.0, 3.0], [1.0, 2.0, 3.0], True),
        # these ascend, and yet some were never written
        ([-1.0, *[0.0] * 32, 1.0], [-1.0, 1.0], True),
        ([0.0] * 40, [], True),
        ([3.3e-317, 1.0, 2.0], [1.0, 2.0], True),
        ([], [], False),
    ],
)
def test_trains_ascend_without_times_that_were_never_written(stored, expected, unwritten):
    trains = SpikeTrains(np.array([9.0, *stored]), np.array([1, 1 + len(stored)]), None, "test")
    assert [train.tolist() for train in trains.iterate()] == [[9.0], expected]
    assert trains.unwritten == ({1} if unwritten else set())


@pytest.mark.parametrize(
    "stored", [[np.nan], [np.nan, 1.0], [1.0, np.nan], [1.0, np.inf], [2.0, np.nan, 1.0]]
)
def test_times_that_are_not_finite_are_refused(stored):
    trains = SpikeTrains(np.array(stored), np.array([len(stored)]), None, "file.nwb: units/spike_times")
    with pytest.raises(ReadError, match=r"file\.nwb: units/spike_times"):
        list(trains.iterate())
