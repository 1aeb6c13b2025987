"""What an adversarial user tried on the reading side, and what went wrong then."""

import hashlib
import json
import shutil
from datetime import UTC, datetime

import h5py
import numpy as np
import pandas as pd
import pytest
from pynwb import NWBHDF5IO, NWBFile, TimeSeries

import nwbrnn
from nwbrnn.errors import ConfigError, MissingDataError
from nwbrnn.readers.discovery import find_signals
from nwbrnn.readers.series import looks_raw
from nwbrnn.readers.trials import find_relative, label_values, match_values
from tests.messages import assert_names, names


def patch(recording, tmp_path, change):
    """Return a copy of a file that ``change`` did something to."""
    path = tmp_path / "patched.nwb"
    shutil.copy(recording.path, path)
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def get_choice(ds, role):
    return next(c for c in json.loads(ds.attrs["choices"]) if c["role"] == role)


def create_nwbfile(*series):
    nwbfile = NWBFile(
        session_description="x", identifier="x", session_start_time=datetime(2020, 5, 17, tzinfo=UTC)
    )
    for one in series:
        nwbfile.add_acquisition(one)
    return nwbfile


@pytest.mark.parametrize("change", [{"rate": 100.0}, {"starting_time": 10.0}])
def test_muscles_with_clocks_of_their_own_are_one_signal_that_can_be_split(change):
    timing = {"rate": 50.0, "starting_time": 0.0, "unit": "mV"}
    first = TimeSeries(name="EMG_FCR", data=np.ones(99), **timing)
    second = TimeSeries(name="EMG_FCU", data=np.ones(99), **timing | change)
    (signal,) = find_signals(create_nwbfile(first, second))
    assert signal.columns == ("FCR", "FCU")
    assert [part.series for part in signal.split()] == [(first,), (second,)]
    third = TimeSeries(name="EMG_ECR", data=np.ones(99), **timing | {"unit": "uV"})
    (signal,) = find_signals(create_nwbfile(first, third))
    assert signal.units == ("mV", "uV")


@pytest.mark.parametrize("first_part", [None, 0.0, np.nan])
@pytest.mark.parametrize(("kind", "raw"), [("raw", True), ("rectified", False), ("envelope", False)])
@pytest.mark.parametrize("offset", [0.0, 3000.0])
def test_raw_emg_is_told_from_what_was_processed(kind, raw, offset, first_part):
    rng = np.random.default_rng(0)
    time = np.arange(20_000) / 1000
    burst = 1 + 10 * np.exp(-0.5 * ((time % 4 - 2) / 0.3) ** 2)
    values = burst if kind == "envelope" else burst * rng.standard_normal(time.size)
    values = (np.abs(values) if kind == "rectified" else values) + offset
    if first_part is not None:
        values[:9000] = first_part
    series = TimeSeries(name="EMG", data=values[:, np.newaxis], rate=1000.0, unit="V")
    (signal,) = find_signals(create_nwbfile(series))
    assert looks_raw(signal) is raw


def test_zero_on_the_command_line_is_a_value(recording, tmp_path, run_cli):
    finished = run_cli("read", recording.path, "-o", tmp_path / "a.nc", "--smoothing", "0")
    assert finished.code == 0
    ds = nwbrnn.read_dataset(tmp_path / "a.nc")
    np.testing.assert_allclose(ds["rates"], ds["spike_counts"] / 0.02, rtol=1e-6)
    refused = run_cli("read", recording.path, "-o", tmp_path / "b.nc", "--bin-size", "0")
    assert (refused.code, "bin_size" in refused.err) == (2, True)


def test_repeated_options_add_up(recording, tmp_path, run_cli):
    options = ["--where", "target_dir=0", "--where", "target_dir=90"]
    assert run_cli("read", recording.path, "-o", tmp_path / "a.nc", *options).code == 0
    assert set(nwbrnn.read_dataset(tmp_path / "a.nc")["condition"].values) == {"0", "90"}


def test_source_is_never_overwritten(recording, tmp_path, run_cli):
    path = tmp_path / "session.nc"
    shutil.copy(recording.path, path)
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    finished = run_cli("read", path, "-o", path, "--overwrite")
    assert finished.code == 2
    assert_names(finished.err, path, "output")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before


@pytest.mark.parametrize("stop", [np.inf, np.nan, 60.0])
def test_invalid_times_mask_bins_and_stay_out_of_rates(recording, tmp_path, stop):
    path = tmp_path / "invalid.nwb"
    with NWBHDF5IO(str(recording.path), "r") as source:
        nwbfile = source.read()
        nwbfile.add_invalid_time_interval(start_time=50.0, stop_time=stop)
        with NWBHDF5IO(str(path), "w") as io:
            io.export(src_io=source, nwbfile=nwbfile)
    with h5py.File(path, "r+") as file:  # an artefact: a thousand spikes within 10 ms
        times = file["units/spike_times"][:]
        assert not np.isin(50.0, times)
        end = int(file["units/spike_times_index"][0])
        burst = np.linspace(50.001, 50.009, 1000)
        del file["units/spike_times"]
        kept = np.sort(np.concatenate([times[:end], burst]))
        file["units/spike_times"] = np.concatenate([kept, times[end:]])
        file["units/spike_times"].attrs.update({
            "namespace": "hdmf-common", "neurodata_type": "VectorData", "description": "x",
            "object_id": "00000000-0000-0000-0000-000000000001", "resolution": 1e-9,
        })  # fmt: skip
        index = file["units/spike_times_index"]
        index[...] = index[...] + 1000
        index.attrs["target"] = file["units/spike_times"].ref
    ds = nwbrnn.read_nwb(path)
    session = ds["align_time"].values[:, np.newaxis] + ds["time"].values
    invalid = (session > 49.99) & (session < (stop if np.isfinite(stop) else 1e9) + 0.01)
    assert not ds["mask"].values[invalid].any()
    assert ds["mask"].values[session < 49.95].all()
    assert np.nanmax(ds["rates"].values[..., 0]) < 300


def test_relative_times_are_judged_by_all_trials():
    trials = pd.DataFrame({"start_time": 2.4 * np.arange(8), "stop_time": 2.4 * np.arange(8) + 2})
    trials["go_cue_time"] = 0.8  # also in the first trial, where both are the same
    trials["target_on_time"] = trials["start_time"] + 0.4
    assert find_relative(trials) == {"go_cue_time"}


def test_missing_stop_times_end_with_the_next_trial_also_of_those_left_out(recording, tmp_path):
    path = patch(
        recording, tmp_path, lambda f: f["intervals/trials/stop_time"].write_direct(np.full(40, np.nan))
    )
    ds = nwbrnn.read_nwb(path, align_to="start_time", where={"target_dir": "0"})
    lengths = ds["mask"].values.sum(axis=1) * 0.02
    np.testing.assert_allclose(lengths[:-1], 2.4, atol=0.03)


def test_session_of_failures_is_refused(recording, tmp_path):
    def fail(file):
        file["intervals/trials/result"][...] = "F"

    path = patch(recording, tmp_path, fail)
    with pytest.raises(MissingDataError, match=names(path, "intervals/trials", "result", "'F'")):
        nwbrnn.read_nwb(path)


def test_labels_and_values():
    assert label_values(np.array([-0.0, 0.0, 90.0, 1e6, 1e6 + 1, 0.1])).tolist() == [
        "0", "0", "90", "1000000", "1000001", "0.1",
    ]  # fmt: skip
    assert match_values(np.array([90.0, 0.0, 45.0]), "90.0, 45").tolist() == [True, False, True]
    assert match_values(np.array([True, False]), "1").tolist() == [True, False]
    assert match_values(np.array([True, False]), "false").tolist() == [False, True]
    assert match_values(np.array(["left, up", "left"]), "left, up").tolist() == [True, True]
    assert match_values(np.array(["left, up", "up"]), "left, up").tolist() == [True, True]


def test_name_of_several_series_is_refused(recording):
    one = TimeSeries(name="wires", data=np.ones((9, 2)), rate=1.0, unit="V")
    other = TimeSeries(name="wires", data=np.ones((9, 2)), rate=1.0, unit="V")
    nwbfile = create_nwbfile(one)
    nwbfile.create_processing_module("behavior", "x").add(other)
    from nwbrnn.config import ReadConfig
    from nwbrnn.readers.rules.objects import apply_map

    config = ReadConfig(map={"emg": "wires"})
    with pytest.raises(ConfigError, match=names("map emg", "acquisition/wires, processing/behavior/wires")):
        apply_map(find_signals(nwbfile), config)
    with pytest.raises(ConfigError, match=names(recording.path, "map", "acquisition/EMG")):
        nwbrnn.read_nwb(recording.path, map={"emg": "acquisition/EMG", "force": "acquisition/EMG"})


def test_resolution_that_is_nan_counts_as_none(recording, tmp_path):
    def spoil(file):
        file["units/spike_times"].attrs["resolution"] = np.nan

    ds = nwbrnn.read_nwb(patch(recording, tmp_path, spoil))
    np.testing.assert_array_equal(ds["spike_counts"], nwbrnn.read_nwb(recording.path)["spike_counts"])


@pytest.mark.parametrize("settings", [{"outputs": ()}, {"channels": ()}, {"condition": ""}])
def test_empty_lists_are_refused(recording, settings):
    with pytest.raises(ConfigError, match=names(*settings)):
        nwbrnn.read_nwb(recording.path, **settings)


def test_settings_of_yaml_may_be_numbers(recording, tmp_path):
    path = tmp_path / "fit.yaml"
    path.write_text("read:\n  where: {target_dir: [0, 90], result: R}\nfit:\n")
    from nwbrnn.config.file import read_config

    config = read_config(path).read
    assert config.where == {"target_dir": "0,90", "result": "R"}
    assert set(nwbrnn.read_nwb(recording.path, config)["condition"].values) == {"0", "90"}


def test_windows_are_moved_to_the_bins_of_the_spikes(recording, tmp_path):
    def coarsen(file):
        times = file["units/spike_times"]
        times[:] = np.floor(times[:] / 0.02) * 0.02 + 0.01
        times.attrs["resolution"] = 0.02

    ds = nwbrnn.read_nwb(patch(recording, tmp_path, coarsen), window=(-0.313, 0.5), bin_size=0.02)
    edges = (ds["align_time"].values[:, np.newaxis] + ds["time"].values - 0.01) / 0.02
    np.testing.assert_allclose(edges, np.rint(edges), atol=1e-6)
    assert_names(get_choice(ds, "time grid")["picked"], "0.02 s")
