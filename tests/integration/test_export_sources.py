"""Fits beside what other programs and older schemas wrote, and as other programs read them."""

import shutil
import subprocess
import sys
import warnings

import h5py
import numpy as np
import pynwb
import pytest

import nwbrnn
from nwbrnn.errors import ExportError
from nwbrnn.storage import open_nwb

pytestmark = pytest.mark.slow

READ = {"bin_size": 0.1}
QUICK = {"epochs": 1, "hidden": 8, "sampled": 3, "min_rate": 0}


@pytest.fixture
def folder(recording, tmp_path):
    """Return a folder of one's own with a recording."""
    shutil.copy(recording.path, tmp_path / "session.nwb")
    return tmp_path


def fit(path):
    return nwbrnn.fit(nwbrnn.read_nwb(path, **READ), **QUICK)


OTHERS = """
import sys, numcodecs, pynwb
from hdmf_zarr import NWBZarrIO
with NWBZarrIO(sys.argv[1], "r") as io:
    file = io.read()
    modules = sys.argv[2].split(",")
    for table in (file.processing[name]["trials"] for name in modules):
        print("fit", len(table), len(file.units), table["source_trial"].table is file.trials, end=" ")
    if "parts" in (file.intervals or {}):
        parts = file.intervals["parts"]["timeseries"]
        (part,) = parts[2]
        print(part.idx_start, part.count, part.timeseries is file.acquisition["EMG"])
        print(file.electrodes["group"][1].name, parts[:3][1][0].idx_start)
    else:
        print(pynwb.validate(io=io))
"""


def ask_others(path, modules="nwbrnn"):
    """Return what a process prints of a store in which hdmf-zarr is as others have it."""
    command = [sys.executable, "-W", "ignore", "-c", OTHERS, str(path), modules]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert asked.returncode == 0, asked.stderr
    return asked.stdout.split()


def list_pickled(path):
    return [one for one in path.rglob(".zarray") if '"pickle"' in one.read_text()]


def test_others_read_and_validate_a_fit_in_zarr(folder):
    pytest.importorskip("hdmf_zarr")
    stored = fit(folder / "session.nwb")
    path = nwbrnn.write_fit(stored, folder / "session.nwb", folder / "out.zarr")
    trials, units = (str(stored.recorded.sizes[dim]) for dim in ("trial", "unit"))
    assert ask_others(path) == ["fit", trials, units, "True", "[]"]
    assert list_pickled(path) == []


@pytest.fixture
def with_references(folder):
    """Return the folder, with a recording of which a table refers to parts of the EMG, and a fit of it."""
    path = folder / "session.nwb"
    with pynwb.NWBHDF5IO(path, "a") as io:
        nwbfile = io.read()
        emg = nwbfile.acquisition["EMG"]
        group = nwbfile.create_electrode_group("array", "of wires", "M1", nwbfile.create_device("amplifier"))
        for _ in range(2):
            nwbfile.add_electrode(location="M1", group=group)
        parts = pynwb.epoch.TimeIntervals(name="parts", description="of the EMG")
        for i in range(9):
            part = pynwb.base.TimeSeriesReference(10 * i, 5, emg)
            parts.add_row(start_time=float(i), stop_time=i + 0.5, timeseries=[part])
        nwbfile.add_time_intervals(parts)
        io.write(nwbfile)
    return folder, fit(path)


def test_references_of_a_source_survive_in_zarr_for_others(with_references):
    pytest.importorskip("hdmf_zarr")
    folder, result = with_references
    path = nwbrnn.write_fit(result, folder / "session.nwb", folder / "copy.zarr", to="copy")
    (_, *expected) = found = ask_others(path)
    assert found[-6:] == ["True", "20", "5", "True", "array", "10"]
    # from Zarr to Zarr, beside another fit and in place
    again = fit(path)
    nwbrnn.write_fit(again, path, to="in-place", name="second")
    assert ask_others(path, "nwbrnn,nwbrnn_second")[-5:] == expected[-5:]
    assert list_pickled(path) == []
    assert nwbrnn.read_fit(path, "second").predicted.identical(again.predicted)


def test_pickled_references_of_a_source_become_json(with_references):
    """A copy of a store that hdmf-zarr wrote by itself is one that others can read."""
    hdmf_zarr = pytest.importorskip("hdmf_zarr")
    folder, _ = with_references
    source = folder / "session.zarr"
    with open_nwb(folder / "session.nwb") as nwbfile, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of hdmf-zarr 0.14 on its use of zarr
        with hdmf_zarr.NWBZarrIO(str(source), mode="w") as io:
            io.export(src_io=nwbfile.read_io, nwbfile=nwbfile, write_args={"link_data": False})
    result = fit(source)
    for to, out in (("copy", folder / "copy.zarr"), ("in-place", None)):
        path = nwbrnn.write_fit(result, source, out, to=to)
        assert ask_others(path)[-5:] == ["20", "5", "True", "array", "10"]
        assert list_pickled(path) == []


def make_old(path):
    """Give a recording what older schemas had; pynwb brings each up to date where it writes it again."""
    with pynwb.NWBHDF5IO(path, "a") as io:
        nwbfile = io.read()
        group = nwbfile.create_electrode_group("array", "of wires", "M1", nwbfile.create_device("amplifier"))
        for _ in range(2):
            nwbfile.add_electrode(location="M1", group=group)
        table = pynwb.epoch.TimeIntervals(name="parts", description="of the EMG")
        part = pynwb.base.TimeSeriesReference(0, 5, nwbfile.acquisition["EMG"])
        for start in (0.0, 1.0):
            table.add_row(start_time=start, stop_time=start + 0.5, timeseries=[part])
        nwbfile.add_time_intervals(table)
        nwbfile.related_publications = ("doi:1",)
        io.write(nwbfile)
    with h5py.File(path, "r+") as file:
        del file["specifications"]
        del file.attrs[".specloc"]
        file.attrs["nwb_version"] = "2.0.2"
        file.visititems(lambda _, item: item.attrs.update(help="what this is"))
        file.attrs["help"] = "an NWB file"
        for name in ("general/experimenter", "general/related_publications"):
            _put(file, name, file[name][0])
        _put(file, "session_description", np.bytes_(file["session_description"][()]))
        _put(file, "session_start_time", "2020-05-17T09:30:00.000000Z")
        _put(file, "timestamps_reference_time", "2020-05-17T09:30:00")
        file["intervals/parts/timeseries"].attrs.update(neurodata_type="VectorData", namespace="core")
        electrodes = file["general/extracellular_ephys/electrodes"]
        electrodes.attrs.update(neurodata_type="DynamicTable", namespace="core")


def _put(file, name, value):
    del file[name]
    file[name] = value


@pytest.mark.parametrize("to", ["copy", "in-place"])
def test_source_of_an_older_schema(folder, to):
    source = folder / "session.nwb"
    make_old(source)
    before = shutil.copy(source, folder / "before.nwb")
    result = fit(source)
    out = nwbrnn.write_fit(result, source, None if to == "in-place" else folder / "out.nwb", to=to)
    assert pynwb.validate(path=str(out)) == []
    assert nwbrnn.read_fit(out).predicted.identical(result.predicted)
    with h5py.File(before) as first, h5py.File(out) as second:
        assert second["general/experimenter"].asstr()[:].tolist() == ["Doe, Jane"]
        for name in ("units/spike_times", "acquisition/EMG/data", "intervals/parts/start_time"):
            np.testing.assert_array_equal(first[name][:], second[name][:])


@pytest.mark.parametrize("to", ["copy", "in-place"])
def test_faults_that_the_source_has_may_stay(folder, to):
    source = folder / "session.nwb"
    with h5py.File(source, "r+") as file:
        del file["acquisition/EMG/data"].attrs["unit"]
    (fault,) = pynwb.validate(path=str(source))
    result = fit(source)
    out = nwbrnn.write_fit(result, source, None if to == "in-place" else folder / "out.nwb", to=to)
    assert [str(one) for one in pynwb.validate(path=str(out))] == [str(fault)]
    assert nwbrnn.read_fit(out).predicted.identical(result.predicted)


def test_attributes_that_pynwb_does_not_know_are_no_schema(folder):
    """They would be lost, so the copy is refused, and names them."""
    with h5py.File(folder / "session.nwb", "r+") as file:
        file.attrs["lab_note"] = "x"
    with pytest.raises(ExportError, match="lab_note"):
        nwbrnn.write_fit(fit(folder / "session.nwb"), folder / "session.nwb", to="in-place")
