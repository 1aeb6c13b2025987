"""The doctor examines what the plan picks: the table, trials, units and channels that the reader reads."""

import shutil

import h5py
import numpy as np
import pytest
from pynwb import NWBHDF5IO

import nwbrnn
from nwbrnn.errors import NwbrnnError
from nwbrnn.readers.doctor import diagnose
from tests.messages import assert_names


@pytest.fixture
def damage(recording, tmp_path):
    """Return a function that changes a copy of a recording with h5py, and returns its path."""

    def change(function):
        path = tmp_path / "damaged.nwb"
        shutil.copy(recording.path, path)
        with h5py.File(path, "r+") as file:
            function(file)
        return path

    return change


def list_rules(findings):
    return {finding.rule for finding in findings}


def test_trials_of_the_mapped_table_are_examined(recording, tmp_path):
    path = tmp_path / "two_tables.nwb"
    with NWBHDF5IO(str(recording.path), "r") as source, NWBHDF5IO(str(path), "w") as io:
        nwbfile = source.read()
        nwbfile.create_time_intervals("reaches", "others, which overlap")
        for start in (10.0, 11.0, 20.0):
            nwbfile.intervals["reaches"].add_interval(start_time=start, stop_time=start + 1.5)
        io.export(src_io=source, nwbfile=nwbfile)
    assert "trials_overlap" not in list_rules(diagnose(path))
    found = [one for one in diagnose(path, map={"trials": "reaches"}) if one.rule == "trials_overlap"]
    assert [one.object for one in found] == ["intervals/reaches"]
    assert_names(found[0].problem, "1 of 3", "row 1", "0.5 s")


def test_trials_left_out_are_not_examined_and_rows_stay_those_of_the_table(damage, recording):
    def overlap(file):
        stops = file["intervals/trials/stop_time"][:]
        stops[[10, 20]] = recording.start[[11, 21]] + 0.5
        file["intervals/trials/stop_time"][:] = stops

    path = damage(overlap)
    assert "trials_overlap" in list_rules(diagnose(path))
    (found,) = diagnose(path, where={"id!": "11"})
    assert found.rule == "trials_overlap"
    assert_names(found.problem, "1 of 39", "row 21")
    assert diagnose(path, where={"id!": "11,21"}) == ()


def test_units_left_out_are_not_examined_and_rows_stay_those_of_the_table(damage):
    def spoil(file):
        ends = file["units/spike_times_index"][:].astype(int)
        times = file["units/spike_times"][:]
        times[[ends[1], ends[3]]] = np.nan  # first spikes of units 2 and 4
        file["units/spike_times"][:] = times

    path = damage(spoil)
    (found,) = [one for one in diagnose(path, units={"row!": "2"}) if one.rule == "spike_times"]
    assert_names(found.problem, "1 of", "unit 4")
    assert "spike_times" not in list_rules(diagnose(path, units={"row!": "2,4"}))


def test_channels_left_out_are_not_examined(damage):
    def silence(file):
        values = file["acquisition/EMG/data"][:]
        values[:, 1] = 0.25
        file["acquisition/EMG/data"][:] = values

    path = damage(silence)
    assert "channels_dead" in list_rules(diagnose(path))
    assert diagnose(path, channels=("!1",)) == ()


def test_series_that_are_named_are_examined_and_others_only_noted(damage):
    """A series of any name is examined once it is chosen; what is not chosen biases nothing."""

    def add(file):
        file.copy("acquisition/EMG", "acquisition/torso")
        del file["acquisition/torso"].attrs["object_id"]
        file["acquisition/torso"].attrs["object_id"] = "00000000-0000-0000-0000-000000000000"
        values = file["acquisition/torso/data"][:]
        values[5, 0] = np.nan
        file["acquisition/torso/data"][:] = values
        file["acquisition/EMG/data"].attrs["conversion"] = 0.0

    path = damage(add)
    assert {(one.rule, one.object) for one in diagnose(path)} >= {("conversion", "acquisition/EMG")}
    assert "acquisition/torso" not in {one.object for one in diagnose(path)}
    found = diagnose(path, outputs="torso", nan="mask")
    assert ("values_missing", "acquisition/torso") in {(one.rule, one.object) for one in found}
    assert not any(one.biases for one in found)


def test_a_refusal_is_reported_beside_what_biases(damage, recording):
    """One of trials that overlap says nothing of outputs that cannot be read."""

    def spoil(file):
        stops = file["intervals/trials/stop_time"][:]
        stops[10] = recording.start[11] + 0.5
        file["intervals/trials/stop_time"][:] = stops
        values = file["acquisition/EMG/data"][:]
        values[300:2000] = np.nan
        file["acquisition/EMG/data"][:] = values

    path = damage(spoil)
    with pytest.raises(NwbrnnError):
        nwbrnn.read_nwb(path)
    found = {(one.rule, one.object) for one in diagnose(path)}
    assert found >= {("trials_overlap", "intervals/trials"), ("refused", "/")}


@pytest.mark.slow
def test_settings_that_the_file_does_not_fit_are_reported(recording):
    for settings in (
        {"align_to": "no_such_time"},
        {"outputs": "force"},
        {"window": (500.0, 600.0)},
        {"map": {"trials": "nowhere"}},
        {"units": {"location": "Mars"}},
    ):
        with pytest.raises(NwbrnnError):
            nwbrnn.read_nwb(recording.path, **settings)
        assert "refused" in list_rules(diagnose(recording.path, **settings)), settings
