"""Datasets and fits as pynapple objects over session time."""

import builtins

import numpy as np
import pytest

import nwbrnn
from nwbrnn.errors import ExportError
from tests.messages import names

pytestmark = pytest.mark.slow

nap = pytest.importorskip("pynapple")


@pytest.fixture(scope="module")
def ds(recording):
    return nwbrnn.read_nwb(recording.path)


def expect(ds, name, *, rows=None):
    """Return times and values of the recorded bins, trial by trial: what the series has to hold."""
    rows = range(ds.sizes["trial"]) if rows is None else rows
    times, values = [], []
    for row in rows:
        kept = ds["mask"].values[row]
        times.append(ds["align_time"].values[row] + ds["time"].values[kept])
        values.append(ds[name].values[row][kept])
    return np.concatenate(times), np.concatenate(values)


def test_series_hold_every_recorded_bin_at_its_session_time(ds):
    found = nwbrnn.to_pynapple(ds)
    assert set(found) == {"trials", "outputs", "inputs", "rates", "spike_counts"}
    for name in ("outputs", "inputs", "rates", "spike_counts"):
        times, values = expect(ds, name)
        assert isinstance(found[name], nap.TsdFrame)
        np.testing.assert_allclose(found[name].t, times, atol=1e-9)
        np.testing.assert_array_equal(found[name].d, values)
    assert list(found["outputs"].columns) == ["FCR", "FCU", "ECR"]
    assert list(found["rates"].columns) == ds["unit"].values.tolist()


def test_spikes_counted_by_pynapple_are_the_counts(ds, recording):
    found = nwbrnn.to_pynapple(ds)
    spikes = nap.TsGroup({i: nap.Ts(times) for i, times in enumerate(recording.spikes)})
    counted = spikes.count(ds.attrs["bin_size"], ep=found["trials"])
    assert counted.shape == found["spike_counts"].shape
    np.testing.assert_allclose(counted.t, found["spike_counts"].t, atol=1e-6)
    assert (counted.d != found["spike_counts"].d).mean() < 1e-3  # spikes at an edge, to rounding


def test_trials_carry_their_labels_and_restrict(ds, recording):
    found = nwbrnn.to_pynapple(ds)
    trials = found["trials"]
    assert len(trials) == ds.sizes["trial"]
    np.testing.assert_array_equal(trials["condition"], ds["condition"].values)
    half = ds.attrs["bin_size"] / 2
    np.testing.assert_allclose(trials.start, ds["align_time"].values + ds["time"].values[0] - half, atol=1e-6)
    east = trials[np.asarray(trials["condition"] == "0")]
    assert (
        found["outputs"].restrict(east).shape[0] == ds.sizes["time"] * (ds["condition"] == "0").values.sum()
    )


def test_overlapping_trials_are_layers(recording):
    ds = nwbrnn.read_nwb(recording.path, window=(-1.5, 1.5), bin_size=0.04)
    found = nwbrnn.to_pynapple(ds)
    assert "trials_2" in found
    assert len(found["trials"]) + len(found["trials_2"]) == ds.sizes["trial"]
    for suffix in ("", "_2"):
        trials = found[f"trials{suffix}"]
        rows = [ds["trial"].values.tolist().index(trial) for trial in trials["trial"]]
        times, values = expect(ds, "outputs", rows=rows)
        np.testing.assert_allclose(found[f"outputs{suffix}"].t, times, atol=1e-9)
        np.testing.assert_array_equal(found[f"outputs{suffix}"].d, values)
        assert (np.diff(times) > 0).all()


def test_trials_end_to_end_lose_no_bin():
    rng = np.random.default_rng(0)
    names = {"output": np.array(["index", "a b"]), "output_units": np.array(["mV", "N"])}
    arrays = {
        "outputs": rng.random((5, 10, 2)),
        "inputs": rng.random((5, 10, 1)),
        "rates": rng.random((5, 10, 4)),
    }
    ds = nwbrnn.create_dataset(arrays, names, bin_size=0.02)
    found = nwbrnn.to_pynapple(ds)
    assert len(found["trials"]) == 5
    np.testing.assert_array_equal(found["outputs"].d, arrays["outputs"].reshape(50, 2))
    assert list(found["outputs"]["output_units"]) == ["mV", "N"]


def test_fit_has_predictions_in_recorded_units_with_the_lag_undone(recording):
    ds = nwbrnn.read_nwb(recording.path, bin_size=0.04)
    result = nwbrnn.fit(ds, epochs=2, hidden=8, sampled=3, neural_lag=0.08)
    found = result.to_pynapple()
    assert set(found) >= {"predicted_outputs", "predicted_rates", "hidden", "outputs", "rates", "trials"}
    times, values = expect(result.recorded, "outputs")
    np.testing.assert_allclose(found["outputs"].t, times + 0.08, atol=1e-9)
    np.testing.assert_allclose(found["outputs"].d, values, rtol=1e-6)
    times, values = expect(result.predicted.assign(mask=result.recorded["mask"]), "outputs")
    np.testing.assert_allclose(found["predicted_outputs"].d, values, rtol=1e-6)
    np.testing.assert_allclose(found["predicted_rates"].t, times, atol=1e-9)
    assert found["hidden"].shape[1] == 8
    assert int(np.sum(found["rates"]["sampled"])) == 3
    assert set(found["trials"]["trial_split"]) >= {"train", "test"}


def test_without_pynapple_the_extra_is_named(ds, monkeypatch):
    original = builtins.__import__

    def refuse(name, *arguments, **options):
        if name == "pynapple":
            raise ImportError(name)
        return original(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ExportError, match=names("pynapple", "pip install 'nwbrnn[pynapple]'")):
        nwbrnn.to_pynapple(ds)
