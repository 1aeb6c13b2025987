"""What inspect_nwb says of a file."""

import json

import pytest

import nwbrnn
from nwbrnn.errors import ConfigError


def test_inspection_lists_what_was_put_in(recording):
    found = nwbrnn.inspect_nwb(recording.path)
    assert found.problem is None
    assert found.identity["identifier"] == "synthetic-0"
    assert found.identity["subject"] == "T (Macaca mulatta)"
    (emg,) = found.signals
    assert emg == {
        "path": "acquisition/EMG",
        "role": "emg",
        "samples": 5000,
        "channels": ["FCR", "FCU", "ECR"],
        "interval": pytest.approx(0.02),
        "varies": False,
        "unit": "mV",
    }
    assert found.units["number"] == 12
    assert found.units["spikes"] == sum(map(len, recording.spikes))
    columns = {row["name"]: row for row in found.trials}
    assert columns["target_dir"]["different"] == 4
    assert columns["target_dir"]["examples"] == ["0", "90", "180", "270"]
    assert columns["result"]["examples"] == ["R", "F"]


def test_choices_are_those_of_reading(recording):
    found = nwbrnn.inspect_nwb(recording.path, align_to="move_onset_time")
    ds = nwbrnn.read_nwb(recording.path, align_to="move_onset_time")
    assert json.loads(ds.attrs["choices"]) == [choice.to_dict() for choice in found.choices]


def test_what_stands_in_the_way_is_said_and_the_rest_is_listed(make_recording):
    path = make_recording(layout="none").path
    found = nwbrnn.inspect_nwb(path)
    assert found.choices == ()
    assert "outputs" in found.problem
    assert found.units["number"] == 12
    assert len(found.trials) == 7


def test_file_without_units_and_trials(make_recording):
    found = nwbrnn.inspect_nwb(make_recording(units=False, trials=False).path)
    assert found.units == {"number": 0}
    assert found.trials == ()
    assert "units" in found.problem


def test_inspection_is_plain_json(recording):
    found = nwbrnn.inspect_nwb(recording.path)
    assert json.loads(json.dumps(found.to_dict()))["units"]["number"] == 12


def test_unknown_setting_is_refused(recording):
    with pytest.raises(ConfigError, match="bin_sise"):
        nwbrnn.inspect_nwb(recording.path, bin_sise=0.02)
