"""Pages of zeros among times, as where a part of a file was never written or copied."""

import json

import h5py
import numpy as np
import pytest

import nwbrnn
from nwbrnn.errors import MissingDataError
from nwbrnn.readers.times import find_unwritten
from tests.messages import names

pytestmark = pytest.mark.slow


@pytest.fixture
def erase(make_recording, tmp_path):
    """Return a function that leaves zeros in a part of an array of a copy of a recording."""

    def run(name, where, **options):
        path = tmp_path / "session.nwb"
        path.write_bytes(make_recording(**options).path.read_bytes())
        with h5py.File(path, "r+") as file:
            file[name][where] = 0.0
        return path

    return run


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([1.0, 2.0, 0.0, 0.0, 5.0], [2, 3]),
        ([1.0, 2.0, 0.0], [2]),
        ([1.0, 2.0, 3.3e-317, 0.0, 5.0], [2, 3]),  # the page begins within a number
        ([0.0] * 32 + [4.0, 5.0], range(32)),
        ([0.0] * 40, range(40)),
        ([-1.0] + [0.0] * 32 + [1.0], range(1, 33)),
        ([3.0, 1.0] + [0.0] * 32 + [2.0], range(2, 34)),  # not sorted at all
        ([0.0] * 31 + [4.0, 5.0], []),
        ([0.0] * 40 + [0.02] * 20, []),
        ([0.0, 0.1, 0.2], []),
        ([-0.2, 0.0, 0.2], []),
        ([0.0, 0.0, 0.02, 0.02, 0.04], []),  # in bins: several spikes at one time
        ([0.0] * 4 + [0.02] * 2 + [0.06], []),
        ([3.0, 1.0, 0.0, 2.0], []),
        ([np.nan, 1.0, 0.0, 2.0], [2]),
        ([], []),
        ([0.0], []),
    ],
)
def test_which_zeros_were_never_written(times, expected):
    assert np.flatnonzero(find_unwritten(np.array(times))).tolist() == list(expected)


def test_spikes_that_were_never_written(erase, recording):
    first = len(recording.spikes[0]) + 100
    path = erase("units/spike_times", slice(first, first + 200))
    ds = nwbrnn.read_nwb(path)
    (choice,) = (c for c in json.loads(ds.attrs["choices"]) if c["role"] == "units left out")
    assert choice["picked"] == "1 of 12"
    assert ds["unit"].values.tolist() == [0, *range(2, 12)]
    (finding,) = (f for f in nwbrnn.diagnose(path) if f.rule == "spikes_unwritten")
    assert finding.biases
    assert "row!=1'" in finding.remedy
    whole = nwbrnn.read_nwb(recording.path, units={"row!": "1"})
    for name in ("spike_counts", "rates", "mask"):
        np.testing.assert_array_equal(ds[name], whole[name])
    with pytest.raises(MissingDataError, match=names(path, "units")):
        nwbrnn.read_nwb(path, units={"row": "1"})


def test_spikes_of_several_units_that_were_never_written(erase, recording):
    ends = np.cumsum([len(train) for train in recording.spikes])
    path = erase("units/spike_times", slice(ends[2] - 20, ends[3] + 40))
    (finding,) = (f for f in nwbrnn.diagnose(path) if f.rule == "spikes_unwritten")
    assert "row!=2,3,4'" in finding.remedy
    assert nwbrnn.read_nwb(path).sizes["unit"] == 9


def test_files_without_zeros_have_no_such_finding(recording):
    assert "spikes_unwritten" not in {finding.rule for finding in nwbrnn.diagnose(recording.path)}


@pytest.mark.parametrize("where", [slice(2000, 2512), slice(0, 512)])
def test_stamps_that_were_never_written(erase, where):
    path = erase("acquisition/EMG/timestamps", where, use_timestamps=True)
    ds = nwbrnn.read_nwb(path)
    choices = {choice["role"]: choice for choice in json.loads(ds.attrs["choices"])}
    assert choices["samples left out"]["reason"].startswith(("512 of 5000 ", "513 of 5000 "))  # one is 0 s
    assert any(finding.object == "acquisition/EMG" for finding in nwbrnn.diagnose(path))


@pytest.mark.parametrize("name", ["start_time", "go_cue_time"])
def test_trials_whose_times_were_never_written(erase, recording, name):
    path = erase(f"intervals/trials/{name}", slice(10, 20))
    ds, whole = nwbrnn.read_nwb(path, window=(-0.2, 0.4)), nwbrnn.read_nwb(recording.path, window=(-0.2, 0.4))
    if name == "go_cue_time":
        assert not set(range(10, 20)) & set(ds["trial"].values.tolist())
        whole = whole.sel(trial=ds["trial"])
    np.testing.assert_array_equal(ds["align_time"], whole["align_time"])
    found = {finding.rule for finding in nwbrnn.diagnose(path)}
    assert found & {"trial_times_missing", "events_outside"}
