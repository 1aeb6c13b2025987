"""read_nwb against what was put into the file, by NumPy."""

import json

import numpy as np
import pytest
import scipy.signal

import nwbrnn
from tests.messages import assert_names

pytestmark = pytest.mark.no_cover

WINDOW = (-0.4, 1.5)


def get_edges(align, *, window=WINDOW, bin_size=0.02):
    n_bins = round((window[1] - window[0]) / bin_size)
    return align[:, np.newaxis] + window[0] + np.arange(n_bins + 1) * bin_size


def get_means(values, centres, edges):
    """Average the samples in each bin; NaN where there are none."""
    means = np.full((edges.shape[0], edges.shape[1] - 1, values.shape[1]), np.nan)
    for trial, bounds in enumerate(edges):
        which = np.searchsorted(bounds, centres, side="right") - 1
        for b in range(len(bounds) - 1):
            if (which == b).any():
                means[trial, b] = values[which == b].mean(axis=0)
    return means


def get_counts(spikes, edges):
    return np.stack(
        [[np.histogram(train, bounds)[0] for train in spikes] for bounds in edges],
    ).transpose(0, 2, 1)


def get_choice(ds, role):
    (choice,) = [c for c in json.loads(ds.attrs["choices"]) if c["role"] == role]
    return choice


@pytest.fixture(scope="module")
def ds(recording):
    return nwbrnn.read_nwb(recording.path)


@pytest.mark.parametrize(
    ("layout", "use_timestamps"),
    [("columns", False), ("columns", True), ("separate", False), ("behavioral", True)],
)
def test_emg_layouts_give_the_values_put_in(make_recording, layout, use_timestamps):
    rec = make_recording(layout=layout, use_timestamps=use_timestamps, conversion=2.5, offset=-0.125)
    ds = nwbrnn.read_nwb(rec.path)
    expected = get_means(rec.emg * 2.5 - 0.125, rec.emg_start + 0.01, get_edges(rec.go[rec.rewarded]))
    # the columns of one series keep their order; series of their own come sorted by name, as HDF5 does
    names = ["FCR", "FCU", "ECR"] if layout == "columns" else ["ECR", "FCR", "FCU"]
    assert ds["output"].values.tolist() == names
    expected = expected[..., [["FCR", "FCU", "ECR"].index(name) for name in names]]
    np.testing.assert_allclose(ds["outputs"].values, expected, rtol=1e-6, atol=1e-6)
    assert ds["mask"].values.all()
    assert ds["output_units"].values.tolist() == ["mV"] * 3
    assert ds["outputs"].attrs["units"] == "mV"


def test_trials_conditions_and_coordinates(recording, ds):
    rows = recording.rewarded
    np.testing.assert_array_equal(ds["trial"], rows)
    np.testing.assert_array_equal(ds["align_time"], recording.go[rows])
    np.testing.assert_array_equal(ds["start_time"], recording.start[rows])
    np.testing.assert_array_equal(ds["stop_time"], recording.stop[rows])
    np.testing.assert_array_equal(ds["target_dir"], recording.direction[rows])
    assert set(ds["result"].values.tolist()) == {"R"}
    assert ds["condition"].values.tolist() == [f"{d:g}" for d in recording.direction[rows]]
    np.testing.assert_array_equal(ds["unit"], np.arange(12))
    assert ds["unit_quality"].values.tolist() == ["multi", "good"] * 6
    np.testing.assert_allclose(ds["time"], -0.4 + 0.02 * (np.arange(95) + 0.5), atol=1e-12)
    assert ds.attrs["bin_size"] == 0.02


def test_spike_counts_equal_histograms(recording, ds):
    expected = get_counts(recording.spikes, get_edges(recording.go[recording.rewarded]))
    np.testing.assert_array_equal(ds["spike_counts"], expected)


def test_rates_are_counts_smoothed_beyond_the_window(recording, ds):
    # 50 ms are 2.5 bins; the Gaussian is cut off at 10 bins
    kernel = np.exp(-0.5 * (np.arange(-10, 11) / 2.5) ** 2)
    kernel /= kernel.sum()
    wide = get_edges(recording.go[recording.rewarded], window=(-0.6, 1.7))
    counts = get_counts(recording.spikes, wide) / 0.02
    expected = np.apply_along_axis(np.convolve, 1, counts, kernel, mode="valid")
    np.testing.assert_allclose(ds["rates"].values, expected, rtol=1e-4, atol=1e-4)


def test_without_smoothing_rates_are_counts_over_the_bin(recording):
    ds = nwbrnn.read_nwb(recording.path, smoothing=0.0)
    np.testing.assert_allclose(ds["rates"].values, ds["spike_counts"].values / 0.02, rtol=1e-6)


def test_task_inputs_are_the_shown_direction_and_a_go_step(recording, ds):
    rows = recording.rewarded
    assert ds["input"].values.tolist() == ["target_dir_cos", "target_dir_sin", "go_cue"]
    angle = np.deg2rad(recording.direction[rows])[:, np.newaxis]
    time = ds["time"].values
    shown = time >= (recording.target_on - recording.go)[rows, np.newaxis]
    np.testing.assert_allclose(ds["inputs"].values[..., 0], shown * np.cos(angle), atol=1e-6)
    np.testing.assert_allclose(ds["inputs"].values[..., 1], shown * np.sin(angle), atol=1e-6)
    np.testing.assert_array_equal(ds["inputs"].values[..., 2], np.tile(time > 0, (len(rows), 1)))


def test_twice_the_direction_is_two_more_inputs(recording, ds):
    more = nwbrnn.read_nwb(recording.path, second_harmonic=0.4)
    assert more["input"].values.tolist()[2:] == ["target_dir_cos2", "target_dir_sin2", "go_cue"]
    np.testing.assert_array_equal(more["inputs"].values[..., [0, 1, 4]], ds["inputs"].values)
    cosine, sine = (ds["inputs"].values[..., i] for i in (0, 1))
    expected = 0.4 * np.stack([cosine**2 - sine**2, 2 * sine * cosine], axis=2)
    np.testing.assert_allclose(more["inputs"].values[..., 2:4], expected, atol=1e-6)


def test_choices_say_what_and_why(ds):
    assert get_choice(ds, "outputs")["picked"] == "acquisition/EMG"
    assert_names(get_choice(ds, "outputs")["reason"], "name", "emg")
    assert get_choice(ds, "trials")["picked"] == "result = R (35 of 40)"
    align = get_choice(ds, "align_to")
    assert (align["picked"], align["alternatives"]) == (
        "go_cue_time",
        ["move_onset_time", "target_on_time", "start_time"],
    )
    assert get_choice(ds, "condition")["picked"] == "target_dir"
    assert get_choice(ds, "bin_size")["picked"] == "0.02 s"
    assert "acquisition/EMG" in get_choice(ds, "bin_size")["reason"]
    assert get_choice(ds, "window")["picked"] == "-0.4 to 1.5 s"
    assert "target_on_time" in get_choice(ds, "task inputs")["reason"]


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        ({}, "RF"),
        ({"result": "F"}, "F"),
        ({"result": "R,F"}, "RF"),
        ({"result": "F", "target_dir": "270"}, "F"),
    ],
)
def test_where_keeps_trials(recording, where, kept):
    ds = nwbrnn.read_nwb(recording.path, where=where)
    expected = np.isin(recording.result, list(kept))
    np.testing.assert_array_equal(ds["trial"], np.flatnonzero(expected))


def test_where_on_a_number(recording):
    ds = nwbrnn.read_nwb(recording.path, where={"target_dir": "90"})
    np.testing.assert_array_equal(ds["trial"], np.flatnonzero(recording.direction == 90))


def test_align_to_window_and_bin_size_given(recording):
    settings = {"align_to": "move_onset_time", "window": (-0.2, 0.63), "bin_size": 0.04}
    ds = nwbrnn.read_nwb(recording.path, **settings)
    edges = get_edges(recording.go[recording.rewarded] + 0.3, window=(-0.2, 0.6), bin_size=0.04)
    assert ds.sizes["time"] == 20
    np.testing.assert_array_equal(ds["spike_counts"], get_counts(recording.spikes, edges))
    # two samples in a bin: a low-pass at 0.8 of the new Nyquist frequency comes first
    low = scipy.signal.butter(4, 10.0, "lowpass", fs=50.0, output="sos")
    filtered = np.maximum(scipy.signal.sosfiltfilt(low, recording.emg, axis=0), 0)
    expected = get_means(filtered, recording.emg_start + 0.01, edges)
    np.testing.assert_allclose(ds["outputs"].values, expected, rtol=1e-5, atol=1e-6)
    assert get_choice(ds, "align_to")["reason"] == "given"
    assert get_choice(ds, "window")["picked"] == "-0.2 to 0.6 s"
    assert_names(get_choice(ds, "window")["reason"], "0.63 s", "bins")
    # the go cue comes 0.3 s before
    go = ds["inputs"].sel(input="go_cue").values
    np.testing.assert_array_equal(go, np.ones_like(go))


def test_text_condition_becomes_one_hot(make_recording):
    rec = make_recording(text_condition=True)
    ds = nwbrnn.read_nwb(rec.path)
    labels = np.array(["east", "north", "west", "south"])[(rec.direction[rec.rewarded] / 90).astype(int)]
    assert ds["condition"].values.tolist() == labels.tolist()
    names = ["east", "north", "south", "west"]
    assert ds["input"].values.tolist() == [*(f"trial_type={n}" for n in names), "go_cue"]
    one_hot = labels[:, np.newaxis] == np.array(names)
    np.testing.assert_array_equal(ds["inputs"].values[:, -1, :4], one_hot)
    assert not ds["inputs"].values[:, 0, :4][rec.target_on[rec.rewarded] > rec.go[rec.rewarded] - 0.38].any()


def test_times_counted_from_the_start_of_the_trial(make_recording, ds):
    rec = make_recording(relative_times=True)
    other = nwbrnn.read_nwb(rec.path)
    np.testing.assert_allclose(other["align_time"], rec.go[rec.rewarded], atol=1e-12)
    np.testing.assert_array_equal(other["spike_counts"], ds["spike_counts"])
    np.testing.assert_array_equal(other["inputs"], ds["inputs"])
    assert_names(get_choice(other, "align_to")["reason"], "start_time")


def test_units_are_used_where_they_were_observed(make_recording):
    stops = {0: 20.0, 5: 47.3, 7: -1.0}  # two units are lost in the middle, one was never observed
    rec = make_recording(obs_intervals=lambda unit: [[-2.0, stops.get(unit, 100.0)]])
    ds = nwbrnn.read_nwb(rec.path)
    kept = [u for u in range(12) if u != 7]
    assert ds["unit"].values.tolist() == kept
    assert ds["mask"].values.all()
    edges = get_edges(rec.go[rec.rewarded])
    counts = get_counts([rec.spikes[u] for u in kept], edges).astype(float)
    for column, unit in enumerate(kept):
        counts[edges[:, 1:] > stops.get(unit, 100.0) + 1e-9, column] = np.nan
    n_observed = np.isfinite(counts).sum(axis=(0, 1))
    assert 0 < n_observed[0] < n_observed[5] < n_observed[1] == counts[..., 1].size
    np.testing.assert_array_equal(ds["spike_counts"], counts)
    np.testing.assert_array_equal(np.isnan(ds["rates"]), np.isnan(counts))
    assert get_choice(ds, "units left out")["picked"] == "1 of 12"
    assert get_choice(ds, "incomplete units")["picked"] == "2 of 11"


@pytest.mark.slow
def test_units_with_their_own_intervals_read_as_with_those_of_all(make_recording):
    alone = nwbrnn.read_nwb(make_recording(obs_intervals=lambda unit: [[-2.0, 47.3]]).path)
    rec = make_recording(obs_intervals=lambda unit: [[-2.0, 100.0 if unit == 3 else 47.3]])
    ds = nwbrnn.read_nwb(rec.path)
    assert ds["mask"].values.all()
    assert ds.sizes["trial"] > alone.sizes["trial"]
    ds = ds.sel(trial=alone["trial"].values)
    seen = alone["mask"].values
    for name in ("spike_counts", "rates"):
        np.testing.assert_array_equal(ds[name].values[seen][:, :3], alone[name].values[seen][:, :3])
    assert np.isnan(ds["rates"].values[~seen][:, :3]).all()
    assert np.isfinite(ds["rates"].values[..., 3]).all()


def test_bins_outside_all_observation_are_not_recorded(make_recording):
    rec = make_recording(obs_intervals=lambda unit: [[0.0, 60.0]])
    ds = nwbrnn.read_nwb(rec.path)
    edges = get_edges(rec.go[rec.rewarded])
    observed = edges[:, 1:] <= 60.0 + 1e-9
    some = observed.any(axis=1)
    np.testing.assert_array_equal(ds["trial"], rec.rewarded[some])
    np.testing.assert_array_equal(ds["mask"], observed[some])
    assert get_choice(ds, "trials left out")["picked"] == str((~some).sum())


def test_channels_keep_some_outputs_in_file_order(recording, ds):
    some = nwbrnn.read_nwb(recording.path, channels=("ECR", "FCR"))
    assert some["output"].values.tolist() == ["FCR", "ECR"]
    np.testing.assert_array_equal(some["outputs"], ds["outputs"].values[..., [0, 2]])


@pytest.mark.slow
def test_raw_emg_gets_its_envelope(make_recording):
    rec = make_recording(emg_rate=1000.0, raw=True)
    ds = nwbrnn.read_nwb(rec.path)
    high = scipy.signal.butter(4, 50.0, "highpass", fs=1000.0, output="sos")
    low = scipy.signal.butter(2, 10.0, "lowpass", fs=1000.0, output="sos")
    rectified = np.abs(scipy.signal.sosfiltfilt(high, rec.emg, axis=0))
    envelope = np.maximum(scipy.signal.sosfiltfilt(low, rectified, axis=0), 0)
    expected = get_means(envelope, rec.emg_start + 0.0005, get_edges(rec.go[rec.rewarded]))
    np.testing.assert_allclose(ds["outputs"].values, expected, rtol=1e-4, atol=1e-5)
    assert_names(get_choice(ds, "envelope")["reason"], "1000 Hz")
    plain = nwbrnn.read_nwb(rec.path, emg="envelope")
    low = scipy.signal.butter(4, 20.0, "lowpass", fs=1000.0, output="sos")
    filtered = scipy.signal.sosfiltfilt(low, rec.emg, axis=0)
    expected = get_means(filtered, rec.emg_start + 0.0005, get_edges(rec.go[rec.rewarded]))
    np.testing.assert_allclose(plain["outputs"].values, expected, rtol=1e-4, atol=1e-5)


def test_gaps_are_masked_and_nan(make_recording):
    rec = make_recording(drop_emg=(30.0, 31.5))
    ds = nwbrnn.read_nwb(rec.path)
    edges = get_edges(rec.go[rec.rewarded])
    expected = get_means(rec.emg, rec.emg_start + 0.01, edges)
    recorded = np.isfinite(expected).all(axis=2)
    assert 0 < (~recorded).sum() < 100
    np.testing.assert_array_equal(ds["mask"], recorded)
    for name in ("outputs", "rates", "inputs"):
        assert np.isnan(ds[name].values[~recorded]).all()
        assert np.isfinite(ds[name].values[recorded]).all()
    np.testing.assert_allclose(ds["outputs"].values, expected, rtol=1e-6)


def test_nan_masked_on_request(make_recording):
    rec = make_recording(nan_emg=(slice(1500, 1520), 1))
    ds = nwbrnn.read_nwb(rec.path, nan="mask")
    expected = get_means(rec.emg, rec.emg_start + 0.01, get_edges(rec.go[rec.rewarded]))
    recorded = np.isfinite(expected).all(axis=2)
    assert 0 < (~recorded).sum() <= 20
    np.testing.assert_array_equal(ds["mask"], recorded)


def test_two_columns_make_a_condition(recording):
    ds = nwbrnn.read_nwb(recording.path, condition=("target_dir", "result"), where={})
    expected = [
        f"target_dir={d:g}, result={r}" for d, r in zip(recording.direction, recording.result, strict=True)
    ]
    assert ds["condition"].values.tolist() == expected


def test_provenance(recording, ds):
    assert ds.attrs["source_file"] == "session.nwb"
    assert ds.attrs["source_identifier"] == "synthetic-0"
    assert ds.attrs["session_start_time"] == "2020-05-17T09:30:00+00:00"
    assert json.loads(ds.attrs["read_config"])["smoothing"] == 0.05
