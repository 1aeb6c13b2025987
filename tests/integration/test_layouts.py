"""read_nwb of every layout met in the wild, without settings, against what was put into the files."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import layouts
import numpy as np
import pytest
from hdmf.backends.hdf5.h5_utils import ContainerResolverMixin
from layouts import LAYOUTS

import nwbrnn
from nwbrnn.errors import ConfigError, MissingDataError
from nwbrnn.readers.trials import find_events
from tests.messages import assert_names, names


def get_choice(ds, role):
    (choice,) = [c for c in json.loads(ds.attrs["choices"]) if c["role"] == role]
    return choice


def check(ds, expected):
    """Compare a Dataset with what is expected of it."""
    assert get_choice(ds, "outputs")["picked"] == expected.picked
    assert get_choice(ds, "align_to")["picked"] == expected.align_to
    assert ds["output"].values.tolist() == expected.names
    assert set(ds["output_units"].values.tolist()) == {expected.unit}
    assert ds["outputs"].attrs["units"] == expected.unit
    assert ds.attrs["bin_size"] == expected.bin_size
    np.testing.assert_array_equal(ds["trial"], expected.rows)
    np.testing.assert_allclose(ds["align_time"], expected.align, rtol=0, atol=1e-9)
    assert ds["condition"].values.tolist() == expected.condition
    mask = expected.mask
    assert mask.mean() > 0.5  # or little is compared
    np.testing.assert_array_equal(ds["mask"], mask)
    outputs = ds["outputs"].values
    np.testing.assert_allclose(outputs[mask], expected.outputs[mask], rtol=1e-5, atol=1e-5)
    assert np.isnan(outputs[~mask]).all()
    kept = np.arange(len(expected.spikes)) if expected.kept is None else expected.kept
    np.testing.assert_array_equal(ds["unit"], kept)
    np.testing.assert_array_equal(ds["spike_counts"].values[mask], expected.spike_counts[..., kept][mask])


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout(tmp_path, name):
    path = tmp_path / "session.nwb"
    expected = LAYOUTS[name](path)
    check(nwbrnn.read_nwb(path, **expected.settings), expected)


@pytest.fixture(scope="module")
def binned_spikes(tmp_path_factory):
    """Return a folder of files with ndx-binned-spikes, which this process has never heard of."""
    folder = tmp_path_factory.mktemp("binned")
    script = str(Path(layouts.__file__))
    subprocess.run([sys.executable, "-W", "ignore", script, str(folder)], check=True, timeout=600)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ["session", "aligned", "aligned_without_cues"])
def test_binned_spikes_by_the_namespace_in_the_file(binned_spikes, name):
    ds = nwbrnn.read_nwb(binned_spikes / f"{name}.nwb")
    check(ds, layouts.expect_binned_spikes(name))
    assert_names(get_choice(ds, "rates")["reason"], "spike times", "counts")


def test_series_of_counts_is_not_taken_for_an_output(tmp_path):
    path = tmp_path / "session.nwb"
    LAYOUTS["falcon_h1"](path)
    ds = nwbrnn.read_nwb(path)
    assert get_choice(ds, "rates")["picked"].startswith("acquisition/binned_spikes")
    assert get_choice(ds, "outputs")["alternatives"] == []


def test_spike_times_win_over_counts(tmp_path):
    path = tmp_path / "session.nwb"
    LAYOUTS["falcon_h1_units_with_spikes"](path)
    choice = get_choice(nwbrnn.read_nwb(path), "rates")
    assert choice["picked"].startswith("units/spike_times")
    assert choice["alternatives"] == ["acquisition/binned_spikes"]


def test_counts_can_be_mapped(tmp_path):
    path = tmp_path / "session.nwb"
    expected = LAYOUTS["falcon_h1_units_with_spikes"](path)
    ds = nwbrnn.read_nwb(path, map={"spike_counts": "acquisition/binned_spikes"})
    check(ds, expected)
    assert get_choice(ds, "rates")["picked"] == "acquisition/binned_spikes"


def test_offset_of_kinematics_is_added_and_reported(tmp_path):
    """H1's own loader takes the offset for a time, NWB for part of the value."""
    task = layouts.create_task(30)
    nwbfile = layouts.create_file()
    values, stamps = layouts.create_envelopes(task.rng)
    timing = {"rate": 50.0, "offset": 2.5, "unit": "m/s"}
    nwbfile.add_acquisition(layouts.create_series("OpenLoopKinematicsVelocity", values, **timing))
    layouts.write_wrist(tmp_path / "session.nwb", task, nwbfile)
    ds = nwbrnn.read_nwb(tmp_path / "session.nwb")
    expected = layouts.expect_wrist(task, values + 2.5, stamps + 0.01)
    np.testing.assert_allclose(ds["outputs"], expected.outputs, rtol=1e-6)
    assert get_choice(ds, "offset")["picked"] == "acquisition/OpenLoopKinematicsVelocity: 2.5"
    assert "H1" in get_choice(ds, "offset")["reason"]


def test_units_and_trials_only_are_refused(tmp_path):
    path = tmp_path / "session.nwb"
    layouts.write_mouse(path, emg=False)
    with pytest.raises(MissingDataError, match=names(path, "outputs", "EMG", "time series")):
        nwbrnn.read_nwb(path)


def test_evaluation_files_without_behavior_are_refused(tmp_path):
    path = tmp_path / "session.nwb"
    task = layouts.create_task(31)
    nwbfile = layouts.create_file()
    layouts.add_nlb_units(nwbfile, task, np.array([[0.0, layouts.DURATION]]))
    layouts.add_trials(nwbfile, task, {"go_cue_time": task.go, "split": ["test"] * layouts.N_TRIALS})
    layouts.write(nwbfile, path)
    with pytest.raises(MissingDataError, match=names(path, "outputs", "EMG", "time series")):
        nwbrnn.read_nwb(path)


def test_filtered_emg_is_picked_and_the_others_are_named(tmp_path):
    path = tmp_path / "session.nwb"
    LAYOUTS["rat"](path)
    choice = get_choice(nwbrnn.read_nwb(path), "outputs")
    folder = "processing/emg_filtering_module"
    assert set(choice["alternatives"]) == {"acquisition/emg_raw", f"{folder}/emg_notch", f"{folder}/emg_hp"}
    assert_names(choice["reason"], "raw")


def test_rectified_emg_gets_no_second_envelope_and_raw_does(tmp_path):
    for name, roles in (("turner", []), ("eeg_and_emg", ["acquisition/raw[EMGArray]"])):
        path = tmp_path / f"{name}.nwb"
        LAYOUTS[name](path)
        choices = json.loads(nwbrnn.read_nwb(path).attrs["choices"])
        assert [c["picked"] for c in choices if c["role"] == "envelope"] == roles


@pytest.mark.parametrize("by", ["electrode_group", "electrodes"])
def test_units_know_their_area(tmp_path, by):
    path = tmp_path / "session.nwb"
    layouts.build_perich_with(path, by=by)
    ds = nwbrnn.read_nwb(path)
    assert ds["unit_location"].values.tolist() == ["M1", "PMd", "M1", "PMd", "M1"]
    assert "waveforms" not in str(list(ds.coords))
    assert get_choice(ds, "units")["alternatives"] == ["location=M1 (3)", "location=PMd (2)"]
    with pytest.raises(MissingDataError, match=names(path, "{'location': 'S1'}", "'M1', 'PMd'")):
        nwbrnn.read_nwb(path, units={"location": "S1"})
    with pytest.raises(ConfigError, match=names(path, "units", "'area'", "location")):
        nwbrnn.read_nwb(path, units={"area": "M1"})


def test_each_electrode_group_is_found_once(tmp_path, monkeypatch):
    path = tmp_path / "session.nwb"
    layouts.build_perich_with(path, by="electrode_group")
    found = []
    find = ContainerResolverMixin.get_object
    monkeypatch.setattr(
        ContainerResolverMixin, "get_object", lambda data, item: found.append(item.name) or find(data, item)
    )
    nwbrnn.read_nwb(path)
    assert sorted(found) == ["/general/extracellular_ephys/M1", "/general/extracellular_ephys/PMd"]


def test_columns_of_several_numbers_become_coordinates(tmp_path):
    import h5py

    path = tmp_path / "session.nwb"
    expected = LAYOUTS["perich"](path)
    ds = nwbrnn.read_nwb(path)
    with h5py.File(path) as file:
        corners = file["intervals/trials/target_corners"][:]
    assert corners.shape == (layouts.N_TRIALS, 8)
    for i in range(8):
        np.testing.assert_array_equal(ds[f"target_corners_{i}"], corners[expected.rows, i])


def test_heldout_units_and_split_are_kept_as_coordinates(tmp_path):
    path = tmp_path / "session.nwb"
    LAYOUTS["nlb_maze"](path)
    ds = nwbrnn.read_nwb(path)
    assert ds["unit_heldout"].values.tolist() == [False, True, False, True, False]
    assert ds["trial_split"].values.tolist() == [
        "val" if i % 4 == 3 else "train" for i in range(layouts.N_TRIALS)
    ]
    assert not ds["mask"].values.all()
    by_move = nwbrnn.read_nwb(path, align_to="move_onset_time")
    assert_names(get_choice(by_move, "align_to")["reason"], "2 trials")


def test_other_kinematics_by_name(tmp_path):
    path = tmp_path / "session.nwb"
    LAYOUTS["nlb_area2"](path)
    ds = nwbrnn.read_nwb(path, outputs=("joint_ang", "hand_vel"))
    assert ds["output"].values.tolist() == ["shoulder", "elbow", "x", "y"]
    assert ds["output_units"].values.tolist() == ["rad", "rad", "m/s", "m/s"]


def test_oddities_of_position_are_reported(tmp_path):
    path = tmp_path / "session.nwb"
    expected = LAYOUTS["churchland"](path)
    ds = nwbrnn.read_nwb(path)
    assert get_choice(ds, "conversion")["picked"] == "processing/behavior/Position/Hand: 1"
    left_out = 3400 - len(expected.values)
    assert get_choice(ds, "samples left out")["reason"].startswith(f"{left_out} of 3400 samples")
    assert get_choice(ds, "outputs")["alternatives"] == ["processing/behavior/Position/Cursor"]


@pytest.mark.parametrize(
    ("mapped", "message"),
    [
        ({"emg": "nothing"}, ["map emg", "'nothing'", "acquisition/EMG (emg)"]),
        ({"trials": "nothing"}, ["map trials", "'nothing'", "intervals/reaches"]),
    ],
)
def test_maps_to_nothing_are_refused(tmp_path, mapped, message):
    path = tmp_path / "session.nwb"
    LAYOUTS["reaches"](path)
    with pytest.raises(MissingDataError, match=names(path, *message)):
        nwbrnn.read_nwb(path, map=mapped)


def test_table_of_trials_is_reported(tmp_path):
    path = tmp_path / "session.nwb"
    LAYOUTS["reaches_mapped"](path)
    mapped = nwbrnn.read_nwb(path, map={"trials": "reaches"})
    choice = get_choice(mapped, "trial table")
    assert choice["picked"] == f"processing/behavior/reaches ({layouts.N_TRIALS} rows)"
    assert choice["alternatives"] == ["intervals/trials"]


def test_counts_are_added_up_in_wider_bins(tmp_path):
    path = tmp_path / "session.nwb"
    expected = LAYOUTS["falcon_h1"](path)
    ds = nwbrnn.read_nwb(path, bin_size=0.04, window=(-0.4, 1.2))
    edges = expected.align[:, np.newaxis] - 0.4 + np.arange(41) * 0.04
    np.testing.assert_array_equal(ds["spike_counts"], layouts.count(expected.spikes, edges))


@pytest.mark.slow
@pytest.mark.cover
@pytest.mark.parametrize("name", ["session", "aligned"])
def test_binned_spikes_are_added_up_in_wider_bins(binned_spikes, name):
    expected = layouts.expect_binned_spikes(name)
    ds = nwbrnn.read_nwb(binned_spikes / f"{name}.nwb", bin_size=0.04, window=(-0.2, 0.6))
    edges = expected.align[:, np.newaxis] - 0.2 + np.arange(21) * 0.04
    assert ds["mask"].values.all()
    np.testing.assert_array_equal(ds["spike_counts"], layouts.count(expected.spikes, edges))


@pytest.mark.slow
@pytest.mark.cover
def test_bins_without_counts_around_an_event_are_masked(binned_spikes):
    expected = layouts.expect_binned_spikes("aligned")
    ds = nwbrnn.read_nwb(binned_spikes / "aligned.nwb", window=(-0.4, 0.8))
    counted = (ds["time"].values > -0.2) & (ds["time"].values < 0.6)
    np.testing.assert_array_equal(ds["mask"], np.tile(counted, (len(expected.rows), 1)))
    np.testing.assert_array_equal(ds["spike_counts"].values[:, counted], expected.spike_counts)


def test_labelled_events_of_the_extension_are_a_kind_for_each_label():
    """As ndx-events has them: codes, and what they mean."""
    events = SimpleNamespace(
        name="cues",
        neurodata_type="LabeledEvents",
        timestamps=np.array([1.0, 1.5, 3.0, 3.5]),
        data=np.array([1, 0, 1, 0]),
        labels=["go_cue", "target_on"],
    )
    nwbfile = SimpleNamespace(events={}, acquisition={"cues": events}, processing={})
    found = {name: times.tolist() for name, times in find_events(nwbfile)}
    assert found == {"go_cue": [1.5, 3.5], "target_on": [1.0, 3.0]}
