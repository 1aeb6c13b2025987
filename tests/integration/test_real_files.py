"""The real sessions, against computations of their own with h5py and NumPy."""

import json

import h5py
import numpy as np
import pytest

import nwbrnn
from nwbrnn.errors import MissingDataError
from nwbrnn.readers.session import open_session
from nwbrnn.readers.units import count_spikes
from tests.messages import assert_names, names

pytestmark = pytest.mark.slow

BIN = 0.05
SESSIONS = ("spike_20120829.nwb", "jango_20141203.nwb")
MONKEYS = (*SESSIONS, *(f"spike_{day}.nwb" for day in (20120727, 20120807, 20120910, 20121017)))
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


@pytest.mark.parametrize("bin_size", [0.05, 0.1, 0.15, 0.25])
@pytest.mark.parametrize("name", MONKEYS)
def test_counts_equal_an_independent_count_at_every_bin_size(shared_data, name, bin_size):
    path = shared_data(name)
    ds = nwbrnn.read_nwb(path, bin_size=bin_size)
    start = ds["align_time"].values[:, np.newaxis] + ds["time"].values - bin_size / 2
    with h5py.File(path) as file:
        ends = file["units/spike_times_index"][:].astype(int)
        trains = np.split(file["units/spike_times"][:], ends)[: len(ends)]
    first, width = np.rint(start * 1e6).astype(np.int64), round(bin_size * 1e6)
    for unit, train in zip(ds["unit"].values, trains, strict=True):
        ticks = np.sort(np.rint(train * 1e6).astype(np.int64))
        counts = np.searchsorted(ticks, first + width) - np.searchsorted(ticks, first)
        found = ds["spike_counts"].values[:, :, unit]
        np.testing.assert_array_equal(found[ds["mask"].values], counts[ds["mask"].values])


@pytest.mark.parametrize("bin_size", [0.001, 0.005, 0.02, 0.05, 0.333])
@pytest.mark.parametrize("name", MICE)
def test_spikes_of_mice_equal_an_independent_count_at_every_bin_size(shared_data, name, bin_size):
    """They have nothing to reproduce, so no Dataset; their spikes are counted all the same."""
    path = shared_data(name)
    with h5py.File(path) as file:
        starts = file["intervals/trials/start_time"][:40]
        ends = file["units/spike_times_index"][:].astype(int)
        trains = np.split(file["units/spike_times"][:], ends)[: len(ends)]
    edges = np.rint(1e6 * starts).astype(np.int64)[:, np.newaxis] + np.arange(21) * round(bin_size * 1e6)
    with open_session(path, follow_links=False) as session:
        counts = count_spikes(session.read_spikes(), edges)
    assert counts.sum() > 0
    for unit, train in enumerate(trains):
        ticks = np.sort(np.rint(train * 1e6).astype(np.int64))
        expected = [np.histogram(ticks, [*row[:-1], row[-1] - 0.5])[0] for row in edges]
        np.testing.assert_array_equal(counts[:, :, unit], expected)


def test_emg_is_found(session):
    ds, _ = session
    choices = {c["role"]: c for c in json.loads(ds.attrs["choices"])}
    assert choices["outputs"]["picked"] in ("acquisition/EMG", "acquisition/preprocessed_emg")
    assert_names(choices["outputs"]["reason"], "name", "emg")
    assert choices["align_to"]["picked"] in ("go_cue_time", "gocue_time")
    assert choices["bin_size"]["picked"] == "0.05 s"
    assert choices["time grid"]["picked"] == "0.05 s"


@pytest.mark.parametrize(("name", "known"), [(SESSIONS[0], 0.935), (SESSIONS[1], 0.973)])
def test_known_average_is_the_known_one(name, known, shared_data):
    ds = nwbrnn.read_nwb(shared_data(name))
    result = nwbrnn.fit(ds, epochs=1, hidden=24)
    assert result.scores.get("output R2").known_average == pytest.approx(known, abs=0.02)


@pytest.mark.parametrize("name", MICE)
def test_mice_without_muscles_are_refused(name, shared_data):
    path = shared_data(name)
    with pytest.raises(MissingDataError, match=names(path, "outputs", "EMG")):
        nwbrnn.read_nwb(path)


@pytest.mark.parametrize("name", MICE)
def test_mice_can_be_inspected(name, shared_data):
    path = shared_data(name)
    found = nwbrnn.inspect_nwb(path)
    with h5py.File(path) as file:
        assert found.units["number"] == len(file["units/id"])
        assert found.units["spikes"] == len(file["units/spike_times"])
    assert "outputs" in found.problem
