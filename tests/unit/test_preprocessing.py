import json

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.ndimage import gaussian_filter1d

from nwbrnn.config import FitConfig, ReadConfig
from nwbrnn.dataset import create_dataset
from nwbrnn.errors import ConfigError
from nwbrnn.preprocessing import (
    EnvelopeFilter,
    apply_neural_lag,
    average_conditions,
    choose_envelope,
    choose_sampled,
    clip_outputs,
    compute_envelope,
    normalize_outputs,
    prepare,
    select_conditions,
    select_units,
    smooth_counts,
    smooth_spikes,
    soft_normalize,
    split_conditions,
    split_trials,
)
from nwbrnn.preprocessing.resampling import suppress_aliases
from tests.drawing import draw
from tests.messages import names

FAST = draw(25)


def create_recording(*, n_trials=12, n_units=5, n_time=10, conditions="abc", seed=0, mask=None):
    rng = np.random.default_rng(seed)
    shape = (n_trials, n_time)
    arrays = {
        "outputs": rng.standard_normal((*shape, 2)),
        "inputs": rng.standard_normal((*shape, 1)),
        "rates": rng.uniform(2, 60, (*shape, n_units)),
        "spike_counts": rng.poisson(0.5, (*shape, n_units)),
    }
    if mask is not None:
        arrays["mask"] = mask
    labels = np.array([conditions[i % len(conditions)] for i in range(n_trials)])
    return create_dataset(arrays, {"condition": labels}, bin_size=0.01)


def create_gaps(seed=0, shape=(12, 10)):
    mask = np.random.default_rng(seed).random(shape) > 0.3
    mask[:, 5] = True
    return mask


def assign_split(ds, split):
    return ds.assign_coords(split=("trial", split))


def create_modulated_noise(rate=2000):
    time = np.arange(5 * rate) / rate
    modulation = 1 + 0.8 * np.sin(2 * np.pi * time)
    return (modulation * np.random.default_rng(0).standard_normal(len(time)))[:, np.newaxis], modulation


def create_labeled(labels):
    shape = (len(labels), 2, 1)
    arrays = {"outputs": np.zeros(shape), "inputs": np.zeros(shape), "rates": np.ones(shape)}
    return create_dataset(arrays, {"condition": labels}, bin_size=0.1)


@FAST
@given(
    st.lists(st.sampled_from("abcd"), min_size=8, max_size=60),
    st.floats(0.25, 0.6),
    st.floats(0, 0.35),
    st.integers(0, 1000),
)
def test_split_holds_out_its_share_of_every_condition(labels, test, validation, seed):
    labels = np.array([*labels, *"aaaa"])
    split = split_trials(create_labeled(labels), test=test, validation=validation, seed=seed)["split"].values
    assert set(split) <= {"train", "validation", "test"}
    for condition in np.unique(labels):
        here = split[labels == condition]
        n_test = min(round(test * len(here)), len(here) - 1)
        assert (here == "test").sum() == n_test
        assert (here == "train").any()
        room = max(len(here) - 2 - n_test, 0)
        assert (here == "validation").sum() == min(np.ceil(validation * len(here)), room)


@pytest.mark.parametrize("test", [0.6, 0.9, 0.99])
def test_each_condition_keeps_a_trial_to_train_on(test):
    split = split_trials(create_labeled(np.array([*"abb", *"c" * 20])), test=test, validation=0.3)[
        "split"
    ].values
    assert [(split[part] == "train").sum() >= 1 for part in (slice(1), slice(1, 3), slice(3, None))] == [
        True
    ] * 3


def test_split_is_seeded():
    ds = create_recording(n_trials=30)
    splits = [split_trials(ds, seed=seed)["split"].values for seed in (0, 0, 1)]
    np.testing.assert_array_equal(splits[0], splits[1])
    assert (splits[0] != splits[2]).any()


def test_split_refuses_too_few_trials():
    with pytest.raises(
        ConfigError,
        match=names("test", 0.25, "3 trials", "3 conditions", "--condition", "--held-out-condition"),
    ):
        split_trials(create_recording(n_trials=3))


def test_split_conditions_tests_whole_conditions():
    ds = split_conditions(create_recording(n_trials=30), held_out=["b"], validation=0.2)
    held = ds["condition"].values == "b"
    assert (ds["split"].values[held] == "test").all()
    assert set(ds["split"].values[~held]) == {"train", "validation"}
    counts = [(ds["split"].values[ds["condition"].values == c] == "validation").sum() for c in "ac"]
    assert counts == [2, 2]  # of ten each
    usual = split_conditions(create_recording(n_trials=30), held_out=["b"])
    assert (usual["split"].values == "validation").sum() == 2  # a tenth, one of ten of each condition
    no_validation = split_conditions(create_recording(), held_out=["a", "b"], validation=0)
    assert (no_validation["split"].values[no_validation["condition"].values == "c"] == "train").all()


@pytest.mark.parametrize("held_out", [["x"], ["a", "x"], ["a", "b", "c"]])
def test_split_conditions_refuses_unknown_or_all(held_out):
    with pytest.raises(
        ConfigError,
        match=names("held_out_conditions", "a, b, c", f"got {', '.join(held_out)}", "--held-out-condition"),
    ):
        split_conditions(create_recording(), held_out=held_out)


def test_test_trials_do_not_leak_into_preparation():
    config = FitConfig(min_rate=20, sampled=2)
    ds = create_recording(n_trials=24)
    ds["rates"].values[..., 3] *= 0.2  # slower than min_rate
    prepared = prepare(ds, config)
    changed = ds.copy(deep=True)
    hidden = prepared["split"].values == "test"
    for name in ("outputs", "rates"):
        changed[name].values[hidden] = 1000 * changed[name].values[hidden] + 77
    changed["spike_counts"].values[hidden] += 9
    again = prepare(changed, config)
    assert prepared.sizes["unit"] == 4
    for name in ("split", "unit", "sampled", "output_scale", "rate_scale", "rate_offset"):
        np.testing.assert_array_equal(again[name], prepared[name])


def test_prepare_smooths_counts_where_there_are_no_rates():
    ds = create_recording()
    prepared = prepare(ds.drop_vars("rates"), FitConfig(min_rate=0))
    valid = np.ones((12, 10), dtype=bool)
    smoothed = smooth_counts(ds["spike_counts"].values, bin_size=0.01, sigma=0.05, valid=valid)
    np.testing.assert_allclose(prepared["rates"], smoothed)
    np.testing.assert_allclose(smooth_spikes(ds)["rates"], smoothed)


@FAST
@given(st.integers(1, 30), st.integers(0, 30), st.integers(0, 1000))
def test_sampled_neurons_are_nested_and_seeded(fewer, more, seed):
    ds = create_recording(n_units=30, n_trials=1, n_time=2)
    more = max(fewer, more)
    few, many, same = (
        choose_sampled(ds, n_sampled=n, seed=seed)["sampled"].values for n in (fewer, more, more)
    )
    assert (few.sum(), many.sum()) == (fewer, more)
    assert not (few & ~many).any()
    np.testing.assert_array_equal(many, same)


def test_sampled_fraction_none_and_other_seeds():
    ds = create_recording(n_units=30)
    assert choose_sampled(ds, n_sampled=0.2)["sampled"].values.sum() == 6
    assert not choose_sampled(ds, n_sampled=0)["sampled"].values.any()
    choices = [choose_sampled(ds, n_sampled=10, seed=seed)["sampled"].values for seed in (0, 1)]
    assert (choices[0] != choices[1]).any()


def test_sampled_refuses_more_than_there_are():
    with pytest.raises(ConfigError, match=names("sampled", "at most 5", "min_rate", "got 6")):
        choose_sampled(create_recording(), n_sampled=6)


def test_averages_equal_a_pandas_groupby():
    ds = create_recording(mask=create_gaps())
    averages = average_conditions(ds)
    for name, channel in (("outputs", "output"), ("rates", "unit"), ("spike_counts", "unit")):
        frame = ds[name].where(ds["mask"]).to_dataframe(name="value").reset_index()
        expected = frame.groupby(["condition", "time", channel])["value"].mean().to_xarray()
        got = averages[name].swap_dims(trial="condition").transpose("condition", "time", channel)
        np.testing.assert_allclose(got.where(averages["mask"].values[..., None]), expected, rtol=1e-6)


def test_averages_ignore_nan_outside_the_mask_and_know_empty_bins():
    mask = create_gaps()
    mask[0::3, 2] = False
    ds = create_recording(mask=mask)
    ds["outputs"].values[~mask] = np.nan
    averages = average_conditions(ds)
    assert averages["condition"].values.tolist() == ["a", "b", "c"]
    assert averages["n_trials"].values.tolist() == [4, 4, 4]
    assert not averages["mask"].values[0, 2]
    assert np.isfinite(averages["outputs"].values[averages["mask"].values]).all()
    assert np.isnan(averages["outputs"].values[0, 2]).all()


@FAST
@given(st.integers(0, 1000), st.integers(1, 9), st.just(0.0) | st.floats(0.001, 0.1))
def test_smoothing_keeps_a_constant_rate(seed, count, sigma):
    valid = create_gaps(seed)
    rates = smooth_counts(np.full((12, 10, 2), count), bin_size=0.01, sigma=sigma, valid=valid)
    np.testing.assert_allclose(rates[valid], count / 0.01, rtol=1e-5)
    assert np.isnan(rates[~valid]).all()


def test_smoothing_equals_scipy_in_the_interior():
    counts = np.random.default_rng(0).poisson(1, (2, 200, 3))
    valid = np.ones((2, 200), dtype=bool)
    rates = smooth_counts(counts, bin_size=0.01, sigma=0.05, valid=valid)
    expected = gaussian_filter1d(counts / 0.01, 5, axis=1, truncate=4)
    np.testing.assert_allclose(rates[:, 20:-20], expected[:, 20:-20], rtol=1e-4)


def test_smoothing_ignores_counts_outside_the_mask():
    valid = create_gaps()
    counts = np.random.default_rng(0).poisson(1, (12, 10, 2))
    changed = np.where(valid[..., np.newaxis], counts, 1000)
    first, second = (smooth_counts(c, bin_size=0.01, sigma=0.02, valid=valid) for c in (counts, changed))
    np.testing.assert_array_equal(first, second)


def test_envelope_follows_the_modulation():
    emg, modulation = create_modulated_noise()
    envelope = compute_envelope(emg, sampling_rate=2000)
    assert envelope.shape == emg.shape
    assert (envelope >= 0).all()
    assert np.corrcoef(envelope[:, 0], modulation)[0, 1] > 0.9


def test_envelope_of_silence_and_drift_is_nothing():
    drift = np.sin(2 * np.pi * 1.0 * np.arange(4000) / 1000)[:, np.newaxis]
    assert not compute_envelope(np.zeros((4000, 1)), sampling_rate=1000).any()
    assert compute_envelope(drift, sampling_rate=1000)[500:-500].max() < 0.01


@pytest.mark.parametrize("frequency", [40.0, 60.0, 150.0])
def test_envelope_of_a_tone_is_its_rectified_mean_after_a_fourth_order_high_pass(frequency):
    tone = np.sin(2 * np.pi * frequency * np.arange(20_000) / 4000)[:, np.newaxis]
    middle = compute_envelope(tone, sampling_rate=4000)[8000:12_000].mean()
    # |H|² of a Butterworth filter of order n is 1 / (1 + (corner / f)^2n); both ways |H| is squared
    warped = np.tan(np.pi * 50 / 4000) / np.tan(np.pi * frequency / 4000)
    assert middle == pytest.approx(2 / np.pi / (1 + warped**8), rel=1e-3)


@pytest.mark.parametrize("distance", [0.0, 0.5, 2.0, 20.0])
def test_a_notch_removes_the_line_and_little_else(distance):
    """A second-order notch of quality Q: |H|² = x² / (x² + 1), x = Q (f / f0 - f0 / f), warped."""
    line, frequency = 200.0, 200.0 + distance
    tone = np.sin(2 * np.pi * frequency * np.arange(40_000) / 4000)[:, np.newaxis]
    filters = EnvelopeFilter(high_pass=10.0, notch=(line,))
    middle = compute_envelope(tone, sampling_rate=4000, filters=filters)[16_000:24_000].mean()
    width = np.tan(np.pi * line / 30 / 4000)
    warped, corner = np.cos(2 * np.pi * frequency / 4000), np.cos(2 * np.pi * line / 4000)
    x = (warped - corner) / (width * np.sin(2 * np.pi * frequency / 4000))
    assert middle == pytest.approx(2 / np.pi * x**2 / (x**2 + 1), rel=2e-3, abs=2e-3)


def test_settings_change_the_filters_of_a_laboratory():
    assert choose_envelope(ReadConfig()) == EnvelopeFilter(50.0, 10.0, ())
    changed = choose_envelope(ReadConfig(emg_filter="falcon", emg_low_pass=5, emg_notch=()))
    assert changed == EnvelopeFilter(65.0, 5.0, ())
    assert EnvelopeFilter().settled == pytest.approx(1.0, rel=0.01)
    with pytest.raises(ValidationError, match="emg_notch"):
        ReadConfig(emg_notch=(0,))


@pytest.mark.parametrize("frequency", [5.0, 20.0, 30.0])
def test_what_is_too_fast_for_the_bins_is_removed_by_a_fourth_order_low_pass_both_ways(frequency):
    tone = np.sin(2 * np.pi * frequency * np.arange(20_000) / 1000)[:, np.newaxis]
    middle = suppress_aliases(tone, sampling_rate=1000, bin_size=0.02)[5000:15_000]
    corner = 0.8 * 25  # Hz; bins of 20 ms hold up to 25 Hz
    warped = np.tan(np.pi * frequency / 1000) / np.tan(np.pi * corner / 1000)
    np.testing.assert_allclose(middle[:, 0], tone[5000:15_000, 0] / (1 + warped**8), atol=2e-4)


@pytest.mark.parametrize(("distance", "clipped"), [(100, False), (159, False), (161, True), (500, True)])
def test_an_envelope_does_not_ring_below_zero_unless_it_is_negative_nearby(distance, clipped):
    values = np.zeros((3000, 1))
    values[1500:] = 1.0
    values[1420 - distance] = -1e-9  # it counts for 8 bins of 20 samples
    how = {"sampling_rate": 1000, "bin_size": 0.02}
    plain, magnitude = (suppress_aliases(values, **how, magnitude=m)[1420, 0] for m in (False, True))
    assert plain < -0.005
    assert magnitude == (0 if clipped else plain)


def test_envelope_refuses_slow_or_short_signals():
    with pytest.raises(ConfigError, match=names("emg_high_pass", "100 Hz", "50 Hz", "envelope")):
        compute_envelope(np.zeros((1000, 1)), sampling_rate=100)
    with pytest.raises(
        ConfigError, match=names("emg", "0.1 s", "emg_low_pass 10 Hz", "99 samples", "1000 Hz")
    ):
        compute_envelope(np.zeros((99, 1)), sampling_rate=1000)


def test_a_little_more_than_twice_the_high_pass_is_fast_enough():
    """At 101 Hz nearly nothing lies between a high-pass of 50 Hz and half the sampling rate."""
    emg = np.random.default_rng(0).standard_normal((1010, 1))
    assert compute_envelope(emg, sampling_rate=101).mean() < 0.1 * emg.std()


def test_outputs_are_scaled_by_a_percentile_of_training_bins():
    mask = create_gaps()
    ds = assign_split(create_recording(mask=mask), ["train"] * 8 + ["test"] * 4)
    ds["outputs"].values[9, 5, 0] = -1e3
    clipped = clip_outputs(ds, percentile=80, clip=2)
    sizes = np.abs(ds["outputs"].values[:8][mask[:8]])
    expected = np.quantile(sizes, 0.8, axis=0)
    np.testing.assert_allclose(clipped["output_scale"], expected)
    np.testing.assert_allclose(clipped["outputs"], np.clip(ds["outputs"].values, -2 * expected, 2 * expected))
    assert clipped["outputs"].attrs["units"] == ds["outputs"].attrs["units"]
    normalized = normalize_outputs(clipped)["outputs"]
    np.testing.assert_allclose(normalized, np.clip(ds["outputs"].values / expected, -2, 2))
    assert normalized.values[9, 5, 0] == -2
    assert normalized.attrs["units"] == "1"


def test_clip_outputs_refuses_a_silent_muscle():
    ds = assign_split(create_recording(), ["train"] * 8 + ["test"] * 4)
    ds["outputs"].values[:8, :, 1] = 0
    with pytest.raises(ConfigError, match=names("outputs", "output_1")):
        clip_outputs(ds, percentile=95, clip=3)


@pytest.mark.parametrize(("factor", "offset"), [(1e-300, 0), (1, 1e6), (1, 1e12)])
def test_outputs_that_float32_cannot_hold_are_refused(factor, offset):
    ds = assign_split(create_recording(), ["train"] * 12)
    ds["outputs"].values[:] = ds["outputs"].values * factor + offset
    with pytest.raises(ConfigError, match=names("outputs", "output_0", "output_1")):
        clip_outputs(ds, percentile=95, clip=3)
    ds["outputs"].values[..., 0] = create_recording()["outputs"].values[..., 0]
    if offset:  # a dead channel beside others is allowed
        clip_outputs(ds, percentile=95, clip=3)


def test_soft_normalization_by_hand():
    ds = assign_split(create_recording(mask=create_gaps()), ["train"] * 9 + ["test"] * 3)
    recorded = ds["rates"].where(ds["mask"])[:9].groupby("condition").mean("trial").values.reshape(-1, 5)
    normalized = soft_normalize(ds)
    span = np.nanmax(recorded, axis=0) - np.nanmin(recorded, axis=0)
    np.testing.assert_allclose(normalized["rate_scale"], span + 5)
    np.testing.assert_allclose(normalized["rate_offset"], np.nanmean(recorded, axis=0))
    np.testing.assert_array_equal(normalized["rates"], ds["rates"])
    scaled = (recorded - normalized["rate_offset"].values) / normalized["rate_scale"].values
    assert np.nanmax(np.abs(scaled)) <= 1


@pytest.mark.parametrize("nonlinearity", ["tanh", "soc", "softplus"])
def test_rates_are_centred_unless_hidden_units_are_never_negative(nonlinearity):
    ds = prepare(create_recording(n_trials=24), FitConfig(nonlinearity=nonlinearity, min_rate=0))
    assert (ds["rate_offset"].values == 0).all() == (nonlinearity == "softplus")


def test_soft_normalization_of_a_constant_unit_is_the_constant():
    ds = assign_split(create_recording(), ["train"] * 12)
    ds["rates"].values[..., 0] = 7
    normalized = soft_normalize(ds, constant=3)
    assert normalized["rate_scale"].values[0] == pytest.approx(3)
    assert normalized["rate_offset"].values[0] == pytest.approx(7)


@pytest.mark.parametrize("n_bins", [3, -2])
def test_lag_pairs_neurons_with_shifted_outputs(n_bins):
    mask = create_gaps()
    ds = create_recording(mask=mask)
    lagged = apply_neural_lag(ds, lag=n_bins * 0.01)
    keep = np.arange(max(0, -n_bins), 10 - max(0, n_bins))
    np.testing.assert_array_equal(lagged["time"], ds["time"].values[keep])
    np.testing.assert_array_equal(lagged["rates"], ds["rates"].values[:, keep])
    np.testing.assert_array_equal(lagged["inputs"], ds["inputs"].values[:, keep])
    np.testing.assert_array_equal(lagged["outputs"], ds["outputs"].values[:, keep + n_bins])
    np.testing.assert_array_equal(lagged["mask"], mask[:, keep] & mask[:, keep + n_bins])
    assert lagged.attrs["neural_lag"] == pytest.approx(n_bins * 0.01)


def test_no_lag_changes_nothing():
    ds = create_recording()
    xr.testing.assert_equal(apply_neural_lag(ds, lag=0.004), ds)


def test_lag_refuses_the_whole_window_and_a_second_lag():
    ds = create_recording()
    assert apply_neural_lag(ds, lag=0.08).sizes["time"] == 2
    assert apply_neural_lag(ds, lag=-0.08).sizes["time"] == 2
    with pytest.raises(ConfigError, match=names("neural_lag", "0.08 s", "0.1 s", "0.09 s")):
        apply_neural_lag(ds, lag=0.09)
    with pytest.raises(ConfigError, match=names("neural_lag", "0.02 s")):
        apply_neural_lag(apply_neural_lag(ds, lag=0.02), lag=0.02)


def test_select_units_counts_recorded_training_bins():
    mask = create_gaps()
    ds = assign_split(create_recording(mask=mask), ["train"] * 8 + ["test"] * 4)
    ds["rates"].values[:] = 10
    ds["rates"].values[8:, :, 1] = 1000  # fast in test trials only
    ds["rates"].values[..., 1] *= 0.5
    ds["rates"].values[..., 2] = np.where(mask, 4, 1000)  # fast where nothing was recorded only
    ds["rates"].values[..., 3] = 6
    kept = select_units(ds, min_rate=6)
    assert kept["unit"].values.tolist() == [0, 3, 4]
    note = json.loads(kept.attrs["choices"])[-1]
    assert (note["role"], note["picked"]) == ("units left out", "2 of 5")
    assert "choices" not in ds.attrs
    assert "choices" not in select_units(ds, min_rate=0).attrs
    assert select_units(ds.drop_vars("split"), min_rate=6)["unit"].values.tolist() == [0, 1, 3, 4]


def test_units_of_one_spike_a_second_are_kept():
    ds = assign_split(create_recording(), ["train"] * 12)
    ds["rates"].values[:] = [0.9, 1.0, 1.2, 5.0, 0.0]
    assert select_units(ds)["unit"].values.tolist() == [1, 2, 3]


def test_no_lowest_rate_keeps_rates_below_a_baseline():
    ds = assign_split(create_recording(), ["train"] * 12)
    ds["rates"].values[:] = [-3.0, 0.0, -0.1, 5.0, np.nan]
    assert select_units(ds, min_rate=0)["unit"].values.tolist() == [0, 1, 2, 3]
    assert select_units(ds, min_rate=1e-9)["unit"].values.tolist() == [3]


def test_select_units_refuses_to_drop_all():
    with pytest.raises(ConfigError, match=names("min_rate", "500 Hz", "lower min_rate")):
        select_units(create_recording(), min_rate=500)


def test_conditions_of_few_trials_are_left_out_of_averages_and_named():
    ds = create_recording(n_trials=21, conditions="a" * 9 + "b" * 9 + "ccd")
    some = select_conditions(ds)
    assert set(some["condition"].values) == {"a", "b"}
    (note,) = json.loads(some.attrs["choices"])
    assert (note["role"], note["picked"]) == ("conditions left out", "c, d")
    assert set(select_conditions(ds, kept=("d",))["condition"].values) == {"a", "b", "d"}
    assert set(prepare(ds, FitConfig(average=False))["condition"].values) == set("abcd")
    assert set(prepare(ds, FitConfig())["condition"].values) == {"a", "b"}
    few = create_recording(n_trials=4, conditions="ab")
    assert select_conditions(few) is few
