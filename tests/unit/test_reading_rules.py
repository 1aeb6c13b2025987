"""The rules of the readers by themselves: times, events, directions, intervals, blocks, windows."""

import warnings
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynwb import NWBFile, TimeSeries
from pynwb.behavior import BehavioralTimeSeries
from pynwb.misc import AnnotationSeries

from nwbrnn.config import ReadConfig
from nwbrnn.dataset import Choice
from nwbrnn.errors import MissingDataError
from nwbrnn.readers.discovery import Signal, find_signals
from nwbrnn.readers.neurons import _find_between
from nwbrnn.readers.plan import Plan
from nwbrnn.readers.rules.objects import choose_outputs
from nwbrnn.readers.rules.trials import choose_alignment, choose_condition
from nwbrnn.readers.rules.windows import Window, choose_window, find_limits, note_outside
from nwbrnn.readers.series import _plan_blocks, read_binned
from nwbrnn.readers.times import RegularTimes, StampedTimes, read_times, to_ticks
from nwbrnn.readers.trials import _split_line, find_angles, find_events, is_relative, read_trials
from nwbrnn.readers.units import SpikeTrains, count_spikes, find_inside, find_observed
from nwbrnn.readers.vocabulary import drop_axis
from tests.drawing import draw
from tests.messages import assert_names, names

FAST = draw(60)


# ------------------------------------------------------------------ times of samples


@FAST
@given(
    st.floats(-5, 5),
    st.floats(-0.02, 0.02),
    st.sampled_from([30.0, 100.0, 1000 / 3]),
    st.lists(st.floats(-6, 9), min_size=2, max_size=9),
)
def test_regular_times_are_found_as_if_they_were_stored(start, shift, rate, edges):
    regular = RegularTimes(100, start, shift, rate)
    stored = StampedTimes(regular.get_centres(np.arange(100)), 1 / rate, 1.5 / rate)
    found = regular.find(to_ticks(np.array(edges)))
    np.testing.assert_array_equal(found, stored.find(to_ticks(np.array(edges))))
    by_hand = [(to_ticks(start + np.arange(100) / rate + shift) < to_ticks(edge)).sum() for edge in edges]
    np.testing.assert_array_equal(found, by_hand)


def read_stamps(stamps):
    data = np.arange(len(stamps), dtype=float)
    series = TimeSeries(name="x", data=data, unit="V", timestamps=np.array(stamps, dtype=float))
    return read_times(Signal("acquisition/x", "other", (series,), ("x",)))


def test_a_gap_is_longer_than_one_and_a_half_intervals():
    stamps = np.cumsum([0, *[1] * 9, 1.4, *[1] * 9, 1.6, *[1] * 9, 2.2, *[1] * 9])
    assert read_stamps(stamps).find_breaks().tolist() == [20, 30]


@pytest.mark.parametrize(
    ("stamps", "left_out"),
    [
        ([0, 1, 2, 9, 4, 5], [3]),  # too late
        ([0, 1, 2, 0.5, 4, 5], [3]),  # too early
        ([0, 1, 2, 3, np.nan, 5], [4]),
        ([0, 1, 2, 90, 91, 92, 3, 4, 5, 6, 7], [3, 4, 5]),  # three that claim a minute and a half
        ([0, 1, 2, 3, 1.2, 2.2, 3.2, 4], [2, 3, 4, 5]),  # the clock was set back: two claim the time
        ([0, 1, 1, 2], []),
    ],
)
def test_stamps_that_run_backwards_are_left_out(stamps, left_out):
    times = read_stamps(stamps)
    kept = [i for i in range(len(stamps)) if i not in left_out]
    assert (list(range(len(stamps))) if times.rows is None else times.rows.tolist()) == kept


@pytest.mark.parametrize("rate", [30.0, 60.0, 1000.0, 2034.5])
def test_the_interval_of_stamps_is_exact_or_that_of_three_digits(rate):
    series = TimeSeries(name="x", data=np.zeros(900), unit="V", timestamps=np.arange(900) / rate)
    assert Signal("acquisition/x", "other", (series,), ("x",)).interval == pytest.approx(1 / rate, rel=5e-4)


def test_regular_samples_reach_from_the_first_to_the_last():
    series = TimeSeries(name="x", data=np.zeros(11), unit="V", rate=10.0)
    assert Signal("acquisition/x", "other", (series,), ("x",)).extent == (0.0, 1.0)


def test_what_is_noted_of_one_series_is_noted_of_its_signal():
    stamps = np.arange(40) / 10
    damaged = stamps.copy()
    damaged[7] = 90.0
    series = [
        TimeSeries(name=label, data=np.arange(40.0), unit="V", timestamps=times)
        for label, times in (("a", stamps), ("b", damaged), ("c", stamps))
    ]
    edges = to_ticks(np.array([[0.0, 1.0, 2.0]]))
    alone, together = (
        read_binned(Signal("x", "inputs", tuple(s), tuple(str(one.name) for one in s)), edges).note
        for s in (series[1:2], series)
    )
    assert alone
    assert together == alone


def test_a_column_is_named_for_each_channel_or_not_at_all():
    from nwbrnn.readers.discovery import _from_series

    for comments, columns in (
        ("columns=[a, b, c]", ("a", "b", "c")),
        ("columns=[a, b]", ("x_0", "x_1", "x_2")),
        ("columns=[a, b, a]", ("x_0", "x_1", "x_2")),
    ):
        series = TimeSeries(name="x", data=np.zeros((9, 3)), unit="V", rate=1.0, comments=comments)
        assert next(iter(_from_series("acquisition/x", series, ()))).columns == columns


# ------------------------------------------------------------------ blocks


@FAST
@given(
    st.lists(st.tuples(st.integers(0, 80), st.integers(1, 30)), min_size=1, max_size=5),
    st.sets(st.integers(1, 109), max_size=4),
    st.integers(0, 12),
    st.integers(1, 40),
)
def test_blocks_use_each_sample_in_a_trial_once_and_never_read_across_a_gap(windows, breaks, settled, size):
    index = np.array([[first, first + length] for first, length in windows])
    gaps = np.array(sorted(breaks), dtype=np.int64)
    borders = np.array([0, *gaps, 10**6])
    used = np.zeros(200, dtype=int)
    for outer, inner in _plan_blocks(index, gaps, settled=settled, size=size):
        used[inner] += 1
        assert inner.stop - inner.start <= size
        run = np.searchsorted(borders, inner.start, side="right") - 1
        assert outer.start == max(inner.start - settled, borders[run])
        assert outer.stop == min(inner.stop + settled, borders[run + 1])
        assert inner.stop <= borders[run + 1]
    assert used.max(initial=0) <= 1
    for first, stop in index:
        assert (used[first:stop] == 1).all()


# ------------------------------------------------------------------ spikes and intervals


@FAST
@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 30)), max_size=6),
    st.integers(0, 3),
    st.integers(-5, 50),
    st.sampled_from([4, 7]),
)
def test_a_bin_is_inside_if_joined_intervals_hold_it(intervals, tolerance, start, width):
    spans = np.array([[a, a + n] for a, n in intervals], dtype=np.int64).reshape(-1, 2)
    edges = start + width * np.arange(6)[np.newaxis]
    joined = []
    for a, b in sorted(spans.tolist()):
        if joined and a <= joined[-1][1] + tolerance:
            joined[-1][1] = max(joined[-1][1], b)
        else:
            joined.append([a, b])
    expected = [
        any(a - tolerance <= e and e + width <= b + tolerance for a, b in joined) for e in edges[0, :-1]
    ]
    # where the tolerance lets a bin begin in the next interval, only that one counts
    found = find_inside(spans, edges, tolerance=tolerance)[0]
    if tolerance == 0:
        assert found.tolist() == expected
    assert not (found & ~np.array(expected)).any()


@pytest.mark.parametrize("width", [10, 20_000_000])  # ticks: both ways of counting
def test_spikes_are_counted_as_by_a_histogram_unit_by_unit(width):
    rng = np.random.default_rng(0)
    numbers = [0, 40, 0, 300, 1]  # also units without spikes, the first of them
    trains = [np.sort(rng.uniform(0, 300 * width / 1e9, n)) for n in numbers]
    spikes = SpikeTrains(np.concatenate(trains), np.cumsum(numbers), None, "units")
    edges = np.array([5, 40, 47])[:, np.newaxis] * width + width * np.arange(31)
    counts = count_spikes(spikes, edges)
    assert counts.dtype == np.int32
    for unit, train in enumerate(trains):
        for trial in range(3):
            ticks = to_ticks(train)  # from an edge up to the next
            by_hand = [((ticks >= a) & (ticks < a + width)).sum() for a in edges[trial][:-1]]
            np.testing.assert_array_equal(counts[trial, :, unit], by_hand)
    assert find_observed(spikes, edges, tolerance=0).all()
    assert find_observed(spikes, edges, tolerance=0).shape == (3, 30, 5)


def test_bins_that_only_touch_invalid_times_are_valid():
    plan = SimpleNamespace(invalid=np.array([[0.2, 0.4], [0.55, 0.56]]))
    edges = to_ticks(np.arange(8)[np.newaxis] / 10)
    assert Plan.find_valid(plan, edges).tolist() == [[True, True, False, False, True, False, True]]


def test_bins_count_between_the_first_and_the_last_sign_of_a_recording():
    plan = SimpleNamespace(trials=SimpleNamespace(session=(0.2, np.nan)))
    edges = to_ticks(np.arange(8)[np.newaxis] / 10)
    found = _find_between(plan, (0.3, 0.5), edges)[..., 0]
    assert found.tolist() == [[False, False, True, True, True, False, False]]


# ------------------------------------------------------------------ series that belong together


def find_by_path(series, *, container=None):
    nwbfile = create_file()
    for one in series:
        if container is None:
            nwbfile.add_acquisition(one)
        else:
            container.add_timeseries(one)
    if container is not None:
        nwbfile.add_acquisition(container)
    return {
        signal.path: (signal.role, len(signal.series), signal.columns) for signal in find_signals(nwbfile)
    }


def create_channels(*names, shape=(20,)):
    return [TimeSeries(name=name, data=np.zeros(shape), unit="m", rate=10.0) for name in names]


def test_axes_of_one_name_are_one_signal():
    found = find_by_path(create_channels("hand_vel_x", "hand_vel_y", "cursor_vel_x"))
    (path,) = (path for path, (_, n, _) in found.items() if n == 2)
    assert found[path][0] == "kinematics"
    assert len(found) == 2
    held = BehavioralTimeSeries(name="tracking")
    found = find_by_path(
        create_channels("hand_x", "hand_y", "finger_x", "finger_y", "finger_z"), container=held
    )
    assert sorted(n for _, n, _ in found.values()) == [2, 3]
    assert (drop_axis("x_vel"), drop_axis("hand_vel_y"), drop_axis("speed")) == ("vel", "hand_vel", None)


def test_series_of_several_channels_stay_apart():
    found = find_by_path(create_channels("EMG_left", "EMG_right", shape=(20, 2)))
    assert [(role, n, len(columns)) for role, n, columns in found.values()] == [("emg", 1, 2)] * 2


def test_the_order_of_the_file_decides_between_two_signals_and_is_named():
    signals = [
        Signal(f"acquisition/{name}", "emg", (series,), (name,))
        for name, series in zip("ab", create_channels("a", "b"), strict=True)
    ]
    (first,), choice = choose_outputs(signals, ReadConfig(), unusable={})
    assert first.path == "acquisition/a"
    assert choice.alternatives == ("acquisition/b",)
    assert_names(choice.reason, "emg", "file")
    assert "file" not in choose_outputs(signals[:1], ReadConfig(), unusable={})[1].reason


# ------------------------------------------------------------------ trials


def create_file():
    return NWBFile(
        session_description="x", identifier="x", session_start_time=datetime(2020, 1, 1, tzinfo=UTC)
    )


def add_events(nwbfile, name, labels, stamps):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pynwb would rather write events in another way
        nwbfile.add_acquisition(
            AnnotationSeries(name=name, description="x", data=labels, timestamps=np.array(stamps))
        )


def test_events_with_several_labels_are_a_kind_for_each_and_with_one_keep_their_name():
    nwbfile = create_file()
    add_events(nwbfile, "cues", ["go", "stop", "go"], [1.0, 2.0, 3.0])
    add_events(nwbfile, "rewards", ["juice"] * 3, [1.0, 2.0, 3.0])
    found = {name: times.tolist() for name, times in find_events(nwbfile)}
    assert found == {"go": [1.0, 3.0], "stop": [2.0], "rewards": [1.0, 2.0, 3.0]}


def test_a_line_rises_and_falls():
    times = np.arange(6.0)
    rises, falls = _split_line("cue", times, np.array([0, 5, 5, 0, 0, 5]))
    assert (rises[:2], rises[2].tolist()) == (("cue", "cue"), [1.0, 5.0])
    assert (falls[:2], falls[2].tolist()) == (("cue", "cue_falling"), [3.0])


def test_events_become_columns_of_the_trials_that_hold_them():
    nwbfile = create_file()
    add_events(nwbfile, "tone", ["a"] * 4, [0.2, 11.0, 12.0, 25.0])
    for start, stop in ((np.nan, 5.0), (10.0, 13.0), (20.0, 24.0), (24.5, np.nan)):
        nwbfile.add_trial(start_time=start, stop_time=stop)
    trials = read_trials(nwbfile.trials, dict(find_events(nwbfile)), name="intervals/trials")
    np.testing.assert_array_equal(trials["tone"], [np.nan, 11.0, np.nan, 25.0])


def test_directions_are_numbers_and_in_degrees_beyond_a_turn_in_radians():
    trials = pd.DataFrame(
        {
            "target_dir": [0.0, 2 * np.pi],
            "angle": [-45.0, 0.0],
            "direction": [0.0, 90.0],
            "speed": [0.0, 300.0],
            "move_dir": ["left", "right"],
        }
    )
    assert find_angles(trials) == {"target_dir": "radians", "angle": "degrees", "direction": "degrees"}


@pytest.mark.parametrize(
    ("times", "starts", "relative"),
    [
        ([0.1, 0.2], [10.0, 20.0], True),
        ([0.5, 0.5, 0.5], [0.0, 10.0, 20.0], True),  # in the first trial both are the same
        ([10.1, 20.2], [10.0, 20.0], False),
        ([0.5, 0.5, 20.5, 30.5], [0.0, 10.0, 20.0, 30.0], False),
        ([0.1, np.nan], [10.0, 20.0], False),
    ],
)
def test_times_that_count_from_the_start_of_each_trial(times, starts, relative):
    assert is_relative(np.array(times), np.array(starts)) == relative


def test_a_condition_has_several_values_and_repeats_them():
    trials = pd.DataFrame({"target_dir": [90.0] * 6, "condition": list("ababab"), "start_time": range(6)})
    assert choose_condition(trials, ReadConfig(), angles={})[0] == ("condition",)
    assert choose_condition(trials[["target_dir", "start_time"]], ReadConfig(), angles={})[0] == ()


def test_directions_that_repeat_little_give_way_to_values_that_repeat():
    angles = np.linspace(0, 6, 40)
    trials = pd.DataFrame({"target_dir": angles, "condition": ["a", "b"] * 20, "start_time": range(40)})
    given = {"angles": {"target_dir": "radians"}}
    columns, continuous, _ = choose_condition(trials, ReadConfig(), **given)
    assert (columns, continuous) == (("condition",), False)
    columns, continuous, _ = choose_condition(trials.drop(columns="condition"), ReadConfig(), **given)
    assert (columns, continuous) == (("target_dir",), True)
    twice = trials.assign(target_dir=np.repeat(angles[::2], 2)).drop(columns="condition")
    columns, continuous, _ = choose_condition(twice, ReadConfig(), **given)
    assert (columns, continuous) == (("target_dir",), False)


BINS = Choice("bin_size", "0.02 s", "for the test")


def test_an_alignment_of_which_no_time_is_known_is_refused():
    trials = pd.DataFrame(
        {"start_time": [0.0, 1.0], "go_cue_time": [np.nan, np.nan], "move_onset": [0.5, np.nan]}
    )
    given = {"counts": None, "relative": frozenset()}
    with pytest.raises(MissingDataError, match=r"intervals/trials/go_cue_time: "):
        choose_alignment(trials, ReadConfig(align_to="go_cue_time"), **given)
    with pytest.raises(MissingDataError, match=names("start_time, go_cue_time", "--align-to")):
        choose_alignment(np.nan * trials.drop(columns="move_onset"), ReadConfig(), **given)
    name, times, choice = choose_alignment(trials, ReadConfig(), **given)
    assert name == "move_onset"
    np.testing.assert_array_equal(times, [0.5, np.nan])
    assert "1 trial " in choice.reason


def create_trials(starts, stops, times):
    trials = pd.DataFrame({"start_time": np.array(starts, dtype=float)})
    stops, times = (np.array(values, dtype=float) for values in (stops, times))
    return SimpleNamespace(frame=trials, stop_times=stops, times=times, align_to="go")


def choose(which, bin_size=0.02, **changes):
    return choose_window(which, ReadConfig(**changes), counts=None, bins=BINS, bin_size=bin_size)


def test_a_window_that_is_given_is_kept_and_one_that_is_found_begins_at_a_bin():
    which = create_trials([0, 10, 20], [1.013, 11.013, 21.013], [0.507, 10.507, 20.507])
    assert choose(which, window=(-0.013, 0.5))[0] == Window(-0.013, 25, 0.02, whole=False)
    window, _ = choose(which)
    assert (window.start, window.n_bins, window.whole) == (pytest.approx(-0.5), 50, False)


def test_windows_that_leave_their_trials_are_counted_without_trials_that_end_before_they_begin():
    which = create_trials([0, 10, 20, 30], [2, 9, 23, 33], [0, 10, 20, 30])
    (found,) = note_outside(which, Window(-0.5, 150, 0.02))
    assert "stop_time in 1" in found.picked
    assert "start_time in 3" in found.picked
    assert "of 3 trials" in found.picked
    assert note_outside(which, Window(0.0, 50, 0.02)) == []
    (early,) = note_outside(which, Window(-0.5, 50, 0.02))
    assert "stop_time" not in early.picked


def test_a_window_ends_where_the_next_begins_whatever_the_order_of_the_trials():
    which = create_trials([0, 20, 10, 10], [5, 25, 15, 15], [1, 21, 11, 11])
    limits = find_limits(which, Window(-0.5, 900, 0.02), apart=True)
    np.testing.assert_array_equal(limits[:, 1], [10.5, np.inf, 20.5, 20.5])
    np.testing.assert_array_equal(limits[:, 0], -np.inf)
