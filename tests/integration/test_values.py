"""read_nwb gives the right values, also from files that are odd: against NumPy and SciPy."""

import json

import h5py
import layouts
import numpy as np
import pytest
import scipy.signal
from hypothesis import given
from hypothesis import strategies as st
from layouts import average, compute_envelope, count, create_series, suppress_aliases

import nwbrnn
from nwbrnn.errors import MissingDataError, ReadError
from nwbrnn.preprocessing import ENVELOPES
from nwbrnn.readers import series
from nwbrnn.readers.discovery import find_signals
from nwbrnn.readers.times import RegularTimes, to_ticks
from nwbrnn.storage import open_nwb
from tests.drawing import draw
from tests.messages import assert_names, names

pytestmark = pytest.mark.no_cover

DURATION = 14.0
START = 1.0 + 2.0 * np.arange(6)
STOP = START + 1.8
GO = START + np.array([0.6137, 0.5933, 0.6021, 0.6267, 0.5871, 0.6049])  # no sample ends up on an edge
WINDOW = (-0.4, 1.0)
FEW = draw(8)
MANY = draw(200)


def create_trains(seed=0, *, n_units=3):
    rng = np.random.default_rng(seed)
    return [np.sort(rng.uniform(0, DURATION, 300)) for _ in range(n_units)]


def write(path, outputs, *, spikes=None, trials=None, units=None, invalid=()):
    """Write a series of outputs with units and trials; ``trials`` and ``units`` replace or add columns."""
    nwbfile = layouts.create_file()
    nwbfile.add_acquisition(outputs)
    layouts.add_units(nwbfile, create_trains() if spikes is None else spikes, **(units or {}))
    columns = {"start_time": START, "stop_time": STOP, "go_cue_time": GO} | (trials or {})
    for name in columns:
        if name not in ("start_time", "stop_time"):
            nwbfile.add_trial_column(name, name)
    for i in range(len(columns["start_time"])):
        nwbfile.add_trial(**{name: values[i] for name, values in columns.items()})
    for start, stop in invalid:
        nwbfile.add_invalid_time_interval(start_time=start, stop_time=stop)
    layouts.write(nwbfile, path)


def create_emg(rate=50.0, *, n_channels=2, seed=1):
    """Return an envelope and the start of each sample [s]."""
    stamps = np.arange(round(DURATION * rate)) / rate
    return layouts.create_values(np.random.default_rng(seed), stamps, n_channels), stamps


def get_edges(align=GO, *, window=WINDOW, bin_size=0.02):
    n_bins = round((window[1] - window[0]) / bin_size)
    return align[:, np.newaxis] + window[0] + np.arange(n_bins + 1) * bin_size


def get_choices(ds, role):
    return [c for c in json.loads(ds.attrs["choices"]) if c["role"] == role]


def check(ds, values, centres, *, edges=None, bin_size=0.02, rtol=1e-5):
    """Compare outputs and the mask with averages of the samples in bins."""
    expected = average(values, centres, get_edges() if edges is None else edges, bin_size=bin_size)
    mask = np.isfinite(expected).all(axis=2)
    np.testing.assert_array_equal(ds["mask"], mask)
    assert mask.mean() > 0.5  # or little is compared
    np.testing.assert_allclose(ds["outputs"].values[mask], expected[mask], rtol=rtol, atol=1e-6)
    assert np.isnan(ds["outputs"].values[~mask]).all()
    return mask


@pytest.fixture
def path(tmp_path):
    return tmp_path / "session.nwb"


# units of values


@pytest.mark.parametrize("dtype", ["int16", "uint8", "float32", ">f8"])
def test_conversion_and_offset(path, dtype):
    values, stamps = create_emg()
    stored = np.round(20 * values).astype(dtype)
    write(path, create_series("EMG", stored, unit="mV", rate=50.0, conversion=0.25, offset=-3.5))
    check(nwbrnn.read_nwb(path, window=WINDOW), stored.astype(float) * 0.25 - 3.5, stamps + 0.01)


def test_starting_time_shifts_regular_samples(path):
    values, stamps = create_emg()
    write(path, create_series("EMG", values, unit="mV", rate=50.0, starting_time=0.123))
    check(nwbrnn.read_nwb(path, window=WINDOW), values, stamps + 0.133)


def test_gain_of_each_channel(path):
    from pynwb.ecephys import ElectricalSeries

    values, stamps = create_emg(n_channels=3)
    stored = np.round(1000 * values).astype(np.int16)
    gain = np.array([1.0, 0.5, 4.0])
    nwbfile = layouts.create_file()
    group = nwbfile.create_electrode_group("arm", "arm", location="arm", device=nwbfile.create_device("d"))
    for _ in range(3):
        nwbfile.add_electrode(location="arm", group=group)
    nwbfile.add_acquisition(
        ElectricalSeries(
            name="EMG",
            data=stored,
            electrodes=nwbfile.create_electrode_table_region([0, 1, 2], "all"),
            rate=50.0,
            conversion=1e-3,
            channel_conversion=gain,
            offset=0.25,
        )
    )
    layouts.add_units(nwbfile, create_trains())
    nwbfile.add_trial_column("go_cue_time", "go")
    for start, stop, go in zip(START, STOP, GO, strict=True):
        nwbfile.add_trial(start_time=start, stop_time=stop, go_cue_time=go)
    layouts.write(nwbfile, path)
    ds = nwbrnn.read_nwb(path, window=WINDOW)
    expected = stored * 1e-3 * gain + 0.25
    check(ds, expected, stamps + 0.01)
    some = nwbrnn.read_nwb(path, window=WINDOW, channels=("EMG_2", "EMG_0"))
    assert some["output"].values.tolist() == ["EMG_0", "EMG_2"]
    check(some, expected[:, [0, 2]], stamps + 0.01)


# time stamps


def test_samples_whose_time_is_claimed_twice_are_left_out(path):
    values, stamps = create_emg()
    # the clock jumps back by 0.29 s within the third trial
    stamps[300:] -= 0.29
    claimed = (stamps > stamps[300] - 1e-9) & (stamps < stamps[299] + 1e-9)
    assert claimed.sum() == 28
    write(path, create_series("EMG", values, unit="mV", timestamps=stamps))
    ds = nwbrnn.read_nwb(path, window=WINDOW)
    mask = check(ds, values[~claimed], stamps[~claimed] + 0.01)
    assert not mask.all()
    (choice,) = get_choices(ds, "samples left out")
    assert choice["picked"] == "acquisition/EMG"
    assert_names(choice["reason"], f"{claimed.sum()} of 700 samples")


def test_one_stamp_far_ahead_costs_one_sample(path):
    values, stamps = create_emg()
    stamps[100] = 1e4
    write(path, create_series("EMG", values, unit="mV", timestamps=stamps))
    ds = nwbrnn.read_nwb(path, window=WINDOW)
    kept = np.arange(700) != 100
    check(ds, values[kept], stamps[kept] + 0.01)


def test_samples_with_equal_stamps_share_a_bin(path):
    values, stamps = create_emg()
    write(path, create_series("EMG", values, unit="mV", timestamps=np.repeat(stamps[::2], 2)))
    ds = nwbrnn.read_nwb(path, window=WINDOW)
    assert ds.attrs["bin_size"] == 0.04
    # two samples that were sent together: they are 20 ms long, and their packet is 40 ms long
    pairs = suppress_aliases(values, 50.0, 0.04).reshape(350, 2, 2).mean(axis=1)
    check(ds, pairs, stamps[::2] + 0.02, edges=get_edges(bin_size=0.04), bin_size=0.04)
    assert get_choices(ds, "samples left out") == []


def test_gaps_are_masked(path):
    values, stamps = create_emg()
    kept = (stamps < 3.5) | (stamps > 4.013)
    write(path, create_series("EMG", values[kept], unit="mV", timestamps=stamps[kept]))
    mask = check(nwbrnn.read_nwb(path, window=WINDOW), values[kept], stamps[kept] + 0.01)
    assert not mask[1].all()
    assert mask[[0, 2, 3, 4, 5]].all()


@pytest.mark.parametrize("bad", [[150, 151, 152], [0, 1, 699], [0], [699]])
def test_samples_without_a_stamp_are_left_out(path, bad):
    values, stamps = create_emg()
    kept = ~np.isin(np.arange(700), bad)
    write(path, create_series("EMG", values, unit="mV", timestamps=np.where(kept, stamps, np.nan)))
    ds = nwbrnn.read_nwb(path, window=WINDOW)
    check(ds, values[kept], stamps[kept] + 0.01)
    assert get_choices(ds, "samples left out")[0]["reason"].startswith(f"{len(bad)} of 700 samples")


def test_jittered_stamps(path):
    values, stamps = create_emg()
    stamps = stamps + np.random.default_rng(3).uniform(-0.004, 0.004, len(stamps))
    write(path, create_series("EMG", values, unit="mV", timestamps=stamps))
    ds = nwbrnn.read_nwb(path, window=WINDOW)
    assert ds.attrs["bin_size"] == 0.04  # jitter averages out; in bins of a single step, some lack a sample
    filtered = suppress_aliases(values, 50.0, 0.04)
    edges = get_edges(bin_size=0.04)
    mask = check(ds, filtered, stamps + 0.01, edges=edges, bin_size=0.04, rtol=1e-4)
    assert mask.all()
    narrow = nwbrnn.read_nwb(path, window=WINDOW, bin_size=0.02)
    assert not check(narrow, values, stamps + 0.01).all()
    assert get_choices(narrow, "irregular clock")
    assert not get_choices(ds, "irregular clock")


def test_rate_of_zero_is_refused(path):
    values, _ = create_emg()
    write(path, create_series("EMG", values, unit="mV", rate=0.0))
    with pytest.raises(ReadError, match=names(path, "acquisition/EMG", "rate 0.0", "700 samples")):
        nwbrnn.read_nwb(path)


# filters


def create_raw(rate=1000.0):
    values, stamps = create_emg(rate)
    return values * np.random.default_rng(5).standard_normal(values.shape), stamps


def test_envelope_on_both_sides_of_a_gap_by_themselves(path):
    raw, stamps = create_raw()
    kept = (stamps < 3.5) | (stamps >= 4.017)
    # and a stretch between gaps that is too short for an envelope
    kept &= ~((stamps >= 9.4) & (stamps < 9.6)) & ~((stamps >= 9.65) & (stamps < 9.8))
    raw, stamps = raw[kept], stamps[kept]
    write(path, create_series("EMG", raw, unit="mV", timestamps=stamps))
    ds = nwbrnn.read_nwb(path, window=WINDOW)
    breaks = np.flatnonzero(np.diff(stamps) > 0.0015) + 1
    parts = np.split(raw, breaks)
    assert [len(part) for part in parts] == [3500, 5383, 50, 4200]
    envelope = np.concatenate(
        [compute_envelope(p, 1000.0) if len(p) > 50 else np.full_like(p, np.nan) for p in parts]
    )
    good = np.isfinite(envelope).all(axis=1)
    expected = average(envelope, stamps + 0.0005, get_edges(), bin_size=0.02)
    mask = np.isfinite(expected).all(axis=2)
    assert good.sum() == len(stamps) - 50
    np.testing.assert_array_equal(ds["mask"], mask)
    np.testing.assert_allclose(ds["outputs"].values[mask], expected[mask], rtol=1e-4, atol=1e-5)


def test_filters_of_raw_emg_can_be_chosen(path):
    """Against filters written out in transfer functions, on the whole recording."""
    raw, stamps = create_raw()
    write(path, create_series("EMG", raw, unit="mV", rate=1000.0))
    filtered = raw
    for frequency in (50.0, 100.0):
        notch = scipy.signal.iirnotch(frequency, 30.0, fs=1000.0)
        filtered = scipy.signal.filtfilt(*notch, filtered, axis=0)
    high, low = (
        scipy.signal.butter(n, f, kind, fs=1000.0) for n, f, kind in ((4, 65.0, "high"), (2, 5.0, "low"))
    )
    rectified = np.abs(scipy.signal.filtfilt(*high, filtered, axis=0))
    envelope = np.maximum(scipy.signal.filtfilt(*low, rectified, axis=0), 0)
    settings = {"emg_filter": "falcon", "emg_low_pass": 5.0, "emg_notch": (50.0, 100.0)}
    ds = nwbrnn.read_nwb(path, window=WINDOW, **settings)
    expected = average(envelope, stamps + 0.0005, get_edges(), bin_size=0.02)
    inside = slice(2, -2)  # at the ends of the recording the padding of the two differs
    np.testing.assert_allclose(ds["outputs"].values[inside], expected[inside], rtol=1e-3, atol=1e-3)
    (choice,) = [one for one in json.loads(ds.attrs["choices"]) if one["role"] == "envelope"]
    assert_names(choice["reason"], "notch 50, 100 Hz", "high-pass 65 Hz", "low-pass 5 Hz")
    assert json.loads(ds.attrs["read_config"])["emg_notch"] == [50.0, 100.0]


def test_low_pass_on_both_sides_of_a_gap_by_itself(path):
    values, stamps = create_emg(1000.0)
    kept = (stamps < 3.5) | (stamps >= 4.017)
    values, stamps = values[kept] - 5.0, stamps[kept]
    write(path, create_series("hand_vel", values, unit="m/s", timestamps=stamps))
    filtered = suppress_aliases(values, 1000.0, 0.02, breaks=[3500])
    mask = check(nwbrnn.read_nwb(path, window=WINDOW), filtered, stamps + 0.0005)
    assert not mask.all()


@pytest.mark.parametrize(
    ("frequency", "low", "high"), [(3.0, 0.98, 1.02), (30.0, 0.0, 0.1), (48.0, 0.0, 0.1), (140.0, 0.0, 0.1)]
)
def test_sines_pass_or_are_suppressed(path, frequency, low, high):
    stamps = np.arange(round(DURATION * 1000)) / 1000
    wave = np.stack([np.sin(2 * np.pi * frequency * (stamps + 0.0005)), np.cos(stamps)], axis=1)
    write(path, create_series("hand_vel", wave, unit="m/s", rate=1000.0))
    ds = nwbrnn.read_nwb(path, window=WINDOW)
    assert ds.attrs["bin_size"] == 0.02
    # amplitude of what comes out at this frequency, as seen through bins of 20 ms
    time = ds["align_time"].values[:, np.newaxis] + ds["time"].values
    phase = 2 * np.pi * frequency * time.ravel()
    design = np.stack([np.sin(phase), np.cos(phase)], axis=1)
    found = ds["outputs"].values[..., 0].ravel()
    fitted, *_ = np.linalg.lstsq(design, found, rcond=None)
    assert low <= np.hypot(*fitted) <= high
    assert np.abs(found).max() <= high
    assert np.abs(found).max() >= low


def read_blocks(path, monkeypatch, *, size, envelope, bin_size):
    monkeypatch.setattr(series, "BLOCK", size)
    edges = to_ticks(get_edges(bin_size=bin_size))
    with open_nwb(path) as nwbfile:
        (signal,) = [s for s in find_signals(nwbfile) if s.path.startswith("acquisition/")]
        return series.read_binned(signal, edges, nan="mask", envelope=envelope)


@pytest.mark.parametrize(
    ("rate", "bin_size", "envelope"),
    [
        (50.0, 0.02, None),
        (1000.0, 0.02, None),
        (1000.0, 0.02, ENVELOPES["miller"]),
        (1000.0, 0.02, ENVELOPES["falcon"]),
    ],
)
@pytest.mark.parametrize("damaged", [False, True])
def test_blocks_give_the_same_as_one_block(path, monkeypatch, rate, bin_size, envelope, damaged):
    raw, stamps = create_raw(rate)
    kept = np.ones(len(stamps), dtype=bool)
    if damaged:  # a gap, and NaN
        kept = (stamps < 5.2) | (stamps >= 5.61)
        raw[round(7.7 * rate) : round(7.9 * rate), 1] = np.nan
    write(path, create_series("EMG", raw[kept], unit="mV", timestamps=stamps[kept]))
    options = {"envelope": envelope, "bin_size": bin_size}
    whole = read_blocks(path, monkeypatch, size=1 << 30, **options)
    assert whole.covered.mean() > 0.5
    assert whole.covered.all() != damaged
    for size in (1, 61, 1500) if rate < 100 else (301, 1999):
        parts = read_blocks(path, monkeypatch, size=size, **options)
        np.testing.assert_array_equal(parts.covered, whole.covered)
        np.testing.assert_allclose(parts.values, whole.values, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("near", "n_calls"), [(0, 6), (series.NEAR, 1)])
def test_trials_close_together_are_read_at_once(path, monkeypatch, near, n_calls):
    values, stamps = create_emg(50.0)
    expected = average(values, stamps + 0.01, get_edges(), bin_size=0.02)
    values[(stamps > START[0] + 1.7) & (stamps < START[0] + 1.9)] = (
        np.nan
    )  # between the windows of two trials
    write(path, create_series("EMG", values, unit="mV", timestamps=stamps))
    read, calls = series.read_values, []
    monkeypatch.setattr(series, "NEAR", near)
    monkeypatch.setattr(series, "read_values", lambda *given: calls.append(given) or read(*given))
    with open_nwb(path) as nwbfile:
        binned = series.read_binned(find_signals(nwbfile)[0], to_ticks(get_edges()), nan="raise")
    assert len(calls) == n_calls
    np.testing.assert_allclose(binned.values, expected, rtol=1e-12)


def test_blocks_agree_about_signs(path, monkeypatch):
    """A low-pass undershoots beside steps: whether this is clipped at 0 must not depend on blocks."""
    values = np.zeros((round(DURATION * 1000), 2))
    values[1500::2000] = values[1501::2000] = 50.0
    values[1300] = -1.0  # within the first window
    write(path, create_series("hand_vel", values, unit="m/s", rate=1000.0))
    options = {"envelope": None, "bin_size": 0.02}
    whole = read_blocks(path, monkeypatch, size=1 << 30, **options)
    parts = read_blocks(path, monkeypatch, size=600, **options)
    filtered = suppress_aliases(values, 1000.0, 0.02)
    expected = average(filtered, np.arange(len(values)) / 1000 + 0.0005, get_edges(), bin_size=0.02)
    assert expected.min() < -0.1
    np.testing.assert_allclose(whole.values, expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(parts.values, expected, rtol=1e-9, atol=1e-9)


# trials


def test_invalid_times_are_masked(path):
    values, stamps = create_emg()
    invalid = [(1.5, 1.55), (5.0, 6.2), (9.601, 9.602)]
    write(path, create_series("EMG", values, unit="mV", rate=50.0), invalid=invalid)
    ds = nwbrnn.read_nwb(path, window=WINDOW)
    edges = get_edges()
    touched = np.zeros(ds["mask"].shape, dtype=bool)
    for start, stop in invalid:
        touched |= (edges[:, :-1] < stop) & (edges[:, 1:] > start)
    assert 0 < touched.sum() < touched.size / 4
    np.testing.assert_array_equal(ds["mask"], ~touched)
    expected = average(values, stamps + 0.01, edges, bin_size=0.02)
    np.testing.assert_allclose(ds["outputs"].values[~touched], expected[~touched], rtol=1e-5)
    assert get_choices(ds, "invalid times")[0]["picked"] == "3 stretches"


@pytest.mark.parametrize("spacing", [1.0, 0.7, 0.25])
def test_touching_and_overlapping_trials_keep_their_own_values(path, spacing):
    values, stamps = create_emg()
    spikes = create_trains()
    start = 1.003 + spacing * np.arange(8)
    trials = {"start_time": start, "stop_time": start + 1.0, "go_cue_time": start}
    write(path, create_series("EMG", values, unit="mV", rate=50.0), trials=trials, spikes=spikes)
    ds = nwbrnn.read_nwb(path, window=(0.0, 1.0), align_to="start_time")
    edges = get_edges(start, window=(0.0, 1.0))
    check(ds, values, stamps + 0.01, edges=edges)
    np.testing.assert_array_equal(ds["spike_counts"], count(spikes, edges))
    overlap = [c["picked"] for c in get_choices(ds, "overlap")]
    assert len(overlap) == (spacing < 1.0)
    for text in overlap:
        assert_names(text, "7 windows")


@pytest.mark.parametrize("spacing", [1.0, 0.7, 0.25])
@pytest.mark.parametrize("window", [(0.0, 1.0), (-0.4, 1.5)])
def test_windows_share_no_bin_unless_they_are_given(path, spacing, window):
    values, stamps = create_emg()
    start = 1.003 + spacing * np.arange(8)
    stop = start + 1.0 + (0.05 * np.arange(8) if window[0] else 0)  # equal trials are read whole
    write(
        path,
        create_series("EMG", values, unit="mV", rate=50.0),
        trials={"start_time": start, "stop_time": stop, "go_cue_time": start},
    )
    ds = nwbrnn.read_nwb(path)
    edges = get_edges(start, window=window)
    own = edges[:, 1:] <= np.append(start[1:] + window[0], np.inf)[:, np.newaxis] + 2e-4
    np.testing.assert_array_equal(ds["mask"], own)
    expected = average(values, stamps + 0.01, edges, bin_size=0.02)
    np.testing.assert_allclose(ds["outputs"].values[own], expected[own], rtol=1e-5)
    n_cut = 7 * (spacing < window[1] - window[0])
    picked = [c["picked"] for c in get_choices(ds, "overlap")]
    assert [text.split()[1] for text in picked] == [str(n_cut)] * (n_cut > 0)


def create_unequal():
    """Return trials whose times are whole bins apart: start, stop, go."""
    start = np.array([1.007, 3.007, 5.007, 7.007])
    return start, start + np.array([1.0, 1.4, 0.8, 1.2]), start + np.array([0.3, 0.4, 0.2, 0.3])


def find_inside(edges, start, stop):
    low, high = edges[:, :-1], edges[:, 1:]
    return (low >= start[:, np.newaxis] - 1e-6) & (high <= stop[:, np.newaxis] + 1e-6)


@pytest.mark.parametrize("given", [{}, {"align_to": "start_time"}, {"window": "trial"}])
def test_unequal_trials_are_padded_and_masked(path, given):
    values, stamps = create_emg()
    spikes = create_trains()
    start, stop, go = create_unequal()
    trials = {"start_time": start, "stop_time": stop, "go_cue_time": go}
    if not given:
        trials["go_cue_time"] = np.full(4, np.nan)  # nothing to align to but the start
    write(path, create_series("EMG", values, unit="mV", rate=50.0), trials=trials, spikes=spikes)
    ds = nwbrnn.read_nwb(path, **given)
    align, window = (go, (-0.4, 1.0)) if "window" in given else (start, (0.0, 1.4))
    edges = get_edges(align, window=window)
    assert ds.sizes["time"] == 70
    inside = find_inside(edges, start, stop)
    assert inside.sum(axis=1).tolist() == [50, 70, 40, 60]
    np.testing.assert_array_equal(ds["mask"], inside)
    expected = average(values, stamps + 0.01, edges, bin_size=0.02)
    np.testing.assert_allclose(ds["outputs"].values[inside], expected[inside], rtol=1e-5)
    np.testing.assert_array_equal(ds["spike_counts"].values[inside], count(spikes, edges)[inside])
    assert_names(get_choices(ds, "window")[0]["picked"], f"{window[0]:g} to {window[1]:g} s")


@pytest.mark.parametrize(
    "shift",
    [
        0.0,
        1.6e9,
    ],
)
def test_without_stop_times_the_next_start_ends_a_trial(path, shift):
    values, stamps = create_emg()
    start = np.array([1.0, 2.0, 3.4, 4.2]) + 0.0078125 + shift  # a binary fraction, exact in any session
    trials = {"start_time": start, "stop_time": np.full(4, np.nan), "go_cue_time": np.full(4, np.nan)}
    outputs = create_series("EMG", values, unit="mV", rate=50.0, starting_time=shift)
    write(path, outputs, trials=trials, spikes=[s + shift for s in create_trains()])
    ds = nwbrnn.read_nwb(path)
    edges = get_edges(start, window=(0.0, 1.4))
    inside = find_inside(edges, start, np.append(start[1:], np.inf))
    assert inside.sum(axis=1).tolist() == [50, 70, 40, 70]
    np.testing.assert_array_equal(ds["mask"], inside)
    expected = average(values, stamps + 0.01 + shift, edges, bin_size=0.02)
    np.testing.assert_allclose(ds["outputs"].values[inside], expected[inside], rtol=1e-5)


# spikes


def test_unsorted_spikes_are_counted(path):
    values, _ = create_emg()
    spikes = create_trains()
    rng = np.random.default_rng(4)
    write(
        path, create_series("EMG", values, unit="mV", rate=50.0), spikes=[rng.permutation(s) for s in spikes]
    )
    ds = nwbrnn.read_nwb(path, window=WINDOW)
    np.testing.assert_array_equal(ds["spike_counts"], count(spikes, get_edges()))


@pytest.mark.parametrize(
    "first",
    [
        0,
        200,
    ],
)
def test_last_spike_tells_how_long_the_recording_was(path, first):
    values, _ = create_emg()
    spikes = create_trains()
    window = (-0.4, 2.0)  # beyond the stop of the last trial, but before the last spike
    stored = [np.concatenate([s[first:], s[:first]]) for s in spikes]
    write(path, create_series("EMG", values, unit="mV", rate=50.0), spikes=stored)
    ds = nwbrnn.read_nwb(path, window=window)
    assert ds["mask"].values.all()
    np.testing.assert_array_equal(ds["spike_counts"], count(spikes, get_edges(window=window)))


@pytest.mark.parametrize("place", [0, 150, -1])
def test_spikes_without_a_time_are_refused(path, place):
    values, _ = create_emg()
    spikes = create_trains()
    spikes[1][place] = np.nan
    write(path, create_series("EMG", values, unit="mV", rate=50.0), spikes=spikes)
    with pytest.raises(ReadError, match=names(path, "units/spike_times", "NaN")):
        nwbrnn.read_nwb(path, window=WINDOW)


def test_times_since_1970_are_as_exact_as_floats_allow(path):
    """Spikes in multiples of 1/1024 s, counted in whole numbers: units of 1/25600 s."""
    shift = 1_600_000_000
    rng = np.random.default_rng(6)
    ticks = [np.sort(rng.choice(14 * 1024, 2000, replace=False)) for _ in range(3)]
    go = np.arange(2, 13, 2)
    trials = {
        "start_time": go - 0.5 + shift,
        "stop_time": go + 1.25 + shift,
        "go_cue_time": go + float(shift),
    }
    values, stamps = create_emg()
    for timing in ({"rate": 50.0, "starting_time": float(shift)}, {"timestamps": stamps + shift}):
        spikes = [t / 1024 + shift for t in ticks]
        write(path, create_series("EMG", values, unit="mV", **timing), spikes=spikes, trials=trials)
        ds = nwbrnn.read_nwb(path, window=WINDOW)
        edges = 25600 * go[:, np.newaxis] + 512 * np.arange(-20, 51)
        on_an_edge = [np.isin(25 * t, edges).sum() for t in ticks]
        assert min(on_an_edge) > 0
        expected = [np.diff(np.searchsorted(25 * t, edges), axis=1) for t in ticks]
        np.testing.assert_array_equal(ds["spike_counts"], np.stack(expected, axis=2))
        first = go[:, np.newaxis] * 50 + np.arange(-20, 50)  # one sample in each bin
        np.testing.assert_allclose(ds["outputs"], values[first], rtol=1e-6)


@pytest.mark.slow
@FEW
@given(
    milliseconds=st.lists(st.lists(st.integers(0, 13_999), max_size=80), min_size=2, max_size=4),
    n_bins=st.integers(2, 30),
    first=st.integers(0, 5000),
    n_trials=st.integers(2, 6),
)
def test_contiguous_windows_conserve_spikes(tmp_path_factory, milliseconds, n_bins, first, n_trials):
    path = tmp_path_factory.mktemp("property") / "session.nwb"
    values, _ = create_emg()
    begin = first + 20 * n_bins * np.arange(n_trials)
    end = begin + 20 * n_bins
    # a spike before and after all trials shows that units were recorded throughout
    spikes = [np.sort([0.0, *(m / 1000 for m in train), 13.9995]) for train in milliseconds]
    trials = {"start_time": begin / 1000, "stop_time": end / 1000, "go_cue_time": begin / 1000}
    write(path, create_series("EMG", values, unit="mV", rate=50.0), spikes=spikes, trials=trials)
    ds = nwbrnn.read_nwb(path, align_to="start_time", window=(0.0, n_bins * 0.02))
    assert ds["mask"].values.all()
    inside = [sum(begin[0] <= m < end[-1] for m in [0, *train]) for train in milliseconds]
    assert ds["spike_counts"].values.sum(axis=(0, 1)).tolist() == inside


@pytest.mark.slow
@MANY
@given(
    n_samples=st.integers(1, 300),
    start=st.one_of(st.floats(-100, 100), st.floats(1e9, 2e9)),
    rate=st.one_of(
        st.floats(0.5, 50_000), st.sampled_from([30.0, 50.0, 100.0, 1000.0, 24414.0625, 30_000.0])
    ),
    part=st.sampled_from([-0.5, 0.0, 0.5]),
    data=st.data(),
)
def test_regular_times_are_found_as_if_they_were_stored(n_samples, start, rate, part, data):
    shift = part / rate
    centres = np.rint(start * 1e6).astype(np.int64)  # of the clock and in it: alike wherever the clock begins
    centres = centres + np.rint((np.arange(n_samples) / rate + shift) * 1e6).astype(np.int64)
    near = st.tuples(st.integers(-2, n_samples + 1), st.integers(-300, 300))
    drawn = data.draw(st.lists(near, min_size=1, max_size=20))
    step = round(1e6 / rate)
    edges = np.array([centres[min(max(i, 0), n_samples - 1)] + (i < 0) * i * step + j for i, j in drawn])
    times = RegularTimes(n_samples, start, shift, rate)
    np.testing.assert_array_equal(times.find(edges), np.searchsorted(centres, edges))


# units


def test_late_units_count_as_recorded_unless_the_file_says_otherwise(path):
    values, _ = create_emg()
    spikes = create_trains()
    spikes[1] = spikes[1][spikes[1] > 8.0]
    spikes[2] = spikes[2][spikes[2] > 4.0]
    outputs = {"unit": "mV", "rate": 50.0}
    write(path, create_series("EMG", values, **outputs), spikes=spikes)
    ds = nwbrnn.read_nwb(path, window=WINDOW)
    assert ds["unit"].values.tolist() == [0, 1, 2]
    assert ds["mask"].values.all()
    counts = count(spikes, get_edges())
    np.testing.assert_array_equal(ds["spike_counts"], counts)
    observed = {"obs_intervals": [[[0.0, DURATION]], [[8.0, DURATION]], [[4.0, DURATION]]]}
    write(path, create_series("EMG", values, **outputs), spikes=spikes, units=observed)
    ds = nwbrnn.read_nwb(path, window=WINDOW)
    # the second is seen in less than half of the bins, the third in most of them
    assert ds["unit"].values.tolist() == [0, 1, 2]
    assert get_choices(ds, "incomplete units")[0]["picked"] == "2 of 3"
    assert ds["mask"].values.all()
    expected = counts.astype(float)
    for unit, start in ((1, 8.0), (2, 4.0)):
        lacks = get_edges()[:, :-1] < start - 2e-4
        assert 0 < lacks.sum() < lacks.size
        expected[lacks, unit] = np.nan
    np.testing.assert_array_equal(ds["spike_counts"], expected)


def test_units_never_observed_are_refused(path):
    values, _ = create_emg()
    outputs = create_series("EMG", values, unit="mV", rate=50.0)
    write(path, outputs, units={"obs_intervals": [[[100.0, 200.0]]] * 3})
    with pytest.raises(MissingDataError, match=names(path, "units", "align_to", "window")):
        nwbrnn.read_nwb(path, window=WINDOW)


def test_ragged_columns_are_not_loaded(path, monkeypatch):
    layouts.build_perich_with(path, by="electrodes")
    with h5py.File(path) as file:
        assert {"waveforms", "waveforms_index", "waveforms_index_index"} <= set(file["units"])
    touched = []

    def watch(name):
        original = getattr(h5py.Dataset, name)

        def read(self, *arguments, **options):
            touched.append(self.name)
            return original(self, *arguments, **options)

        monkeypatch.setattr(h5py.Dataset, name, read)

    for name in ("__getitem__", "__array__", "read_direct", "__iter__"):
        watch(name)
    nwbrnn.read_nwb(path)
    assert "/units/spike_times" in touched
    assert not [name for name in touched if "waveforms" in name]
