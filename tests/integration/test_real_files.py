"""The real sessions, against computations of their own with h5py and NumPy."""

import json

import h5py
import numpy as np
import pytest

import nwbrnn
from nwbrnn.errors import MissingDataError
from tests.messages import assert_names, names

BIN = 0.05
SESSIONS = ("spike_20120829.nwb", "jango_20141203.nwb")
MICE = (
    "sub-anm372793_ses-20170508.nwb",
    "sub_anm00239123_ses_20170627T093549_ecephys_and_ogen.nwb",
    "sub_anm00239123_older_version.nwb",
)


class Expected:
    """Counts and EMG on the session's grid of 50 ms, and the first bin of each rewarded trial."""

    def __init__(self, path):
        with h5py.File(path) as file:
            trials = file["intervals/trials"]
            go = trials["go_cue_time" if "go_cue_time" in trials else "gocue_time"][:]
            keep = (
                (trials["result"].asstr()[:] == "R") & np.isfinite(go) & np.isfinite(trials["target_dir"][:])
            )
            self.trials = np.flatnonzero(keep)
            self.first = np.rint(go[keep] / BIN).astype(int) - 8
            self.directions = trials["target_dir"][:][keep]
            ends = file["units/spike_times_index"][:].astype(int)
            trains = np.split(file["units/spike_times"][:], ends)[: len(ends)]
            self.counts = np.stack(
                [np.bincount((t / BIN).astype(int), minlength=24000) for t in trains], axis=1
            )
            if "EMG" in file["acquisition"]:
                emg = file["acquisition/EMG"]
                text = emg.attrs["comments"]
                self.muscles = text[text.index("[") + 1 : text.index("]")].split(",")
                self.emg = emg["data"][:]
                assert emg["starting_time"][()] == 0
            else:
                emg = file["acquisition/preprocessed_emg"]
                self.muscles = sorted(emg)
                bins = np.rint(emg[self.muscles[0]]["timestamps"][:] / BIN).astype(int) - 1  # stamps are ends
                self.emg = np.full((bins.max() + 1, len(self.muscles)), np.nan, dtype=np.float32)
                self.emg[bins] = np.stack([emg[name]["data"][:] for name in self.muscles], axis=1)


@pytest.fixture(scope="module", params=SESSIONS)
def session(request, shared_data):
    path = shared_data(request.param)
    return nwbrnn.read_nwb(path), Expected(path)


def test_all_rewarded_trials_are_read(session):
    ds, expected = session
    np.testing.assert_array_equal(ds["trial"], expected.trials)
    assert ds["condition"].values.tolist() == [f"{d:g}" for d in expected.directions]
    assert ds.sizes["unit"] == 96
    assert ds.sizes["time"] == 38
    assert ds["mask"].values.all()


def test_counts_and_emg_are_those_of_the_file(session):
    ds, expected = session
    bins = expected.first[:, np.newaxis] + np.arange(38)
    np.testing.assert_array_equal(ds["spike_counts"], expected.counts[bins])
    assert ds["output"].values.tolist() == expected.muscles
    np.testing.assert_array_equal(ds["outputs"], expected.emg[bins])


def test_emg_is_found(session):
    ds, _ = session
    choices = {c["role"]: c for c in json.loads(ds.attrs["choices"])}
    assert choices["outputs"]["picked"] in ("acquisition/EMG", "acquisition/preprocessed_emg")
    assert_names(choices["outputs"]["reason"], "name", "emg")
    assert choices["align_to"]["picked"] in ("go_cue_time", "gocue_time")
    assert choices["bin_size"]["picked"] == "0.05 s"
    assert choices["time grid"]["picked"] == "0.05 s"


@pytest.mark.parametrize(("name", "known"), [(SESSIONS[0], 0.935), (SESSIONS[1], 0.973)])
def test_ceiling_is_the_known_one(name, known, shared_data):
    ds = nwbrnn.read_nwb(shared_data(name))
    result = nwbrnn.fit(ds, epochs=1, hidden=24)
    assert result.scores.get("output R2").ceiling == pytest.approx(known, abs=0.02)


@pytest.mark.parametrize("name", MICE)
def test_mice_without_muscles_are_refused(name, shared_data):
    path = shared_data(name)
    with pytest.raises(MissingDataError, match=names(path, "outputs", "EMG", "--map", "--outputs")):
        nwbrnn.read_nwb(path)


@pytest.mark.parametrize("name", MICE)
def test_mice_can_be_inspected(name, shared_data):
    path = shared_data(name)
    found = nwbrnn.inspect_nwb(path)
    with h5py.File(path) as file:
        assert found.units["number"] == len(file["units/id"])
        assert found.units["spikes"] == len(file["units/spike_times"])
    assert "outputs" in found.problem
