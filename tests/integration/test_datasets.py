"""Datasets in files: what write_dataset writes, read_dataset and plain xarray read."""

import errno
import hashlib
import os
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import nwbrnn
from nwbrnn.errors import ExportError, OutputExistsError, SchemaError, UnsupportedFileError
from tests.messages import assert_names, names

zarr = pytest.importorskip("zarr")
HAS_ZARR_3 = not zarr.__version__.startswith("2.")
NEEDS_ZARR_3 = pytest.mark.skipif(not HAS_ZARR_3, reason="writing Zarr needs zarr 3")
KINDS = ["nc", pytest.param("zarr", marks=NEEDS_ZARR_3)]


def digest(path):
    if path.is_dir():
        return {p.relative_to(path): digest(p) for p in path.rglob("*") if p.is_file()}
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def ds(make_recording):
    """Return a Dataset with gaps, text and truths in it."""
    file = make_recording(drop_emg=(30.0, 31.5))
    ds = nwbrnn.read_nwb(file.path)
    assert not ds["mask"].values.all()
    names = np.array([["", "größer", "x y"][i % 3] for i in range(ds.sizes["trial"])])
    truths = np.arange(ds.sizes["trial"]) % 2 == 0
    return ds.assign_coords(remark=("trial", names), good=("trial", truths))


@pytest.mark.parametrize("kind", KINDS)
def test_round_trip_is_identical(ds, tmp_path, kind):
    path = tmp_path / f"data.{kind}"
    nwbrnn.write_dataset(ds, path)
    back = nwbrnn.read_dataset(path)
    xr.testing.assert_identical(back, ds)
    assert {name: back[name].dtype for name in back.variables} == {n: ds[n].dtype for n in ds.variables}
    assert {name: type(value) for name, value in back.attrs.items()} == {
        n: type(v) for n, v in ds.attrs.items()
    }
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("kind", KINDS)
def test_plain_xarray_reads_it(ds, tmp_path, kind):
    path = tmp_path / f"data.{kind}"
    nwbrnn.write_dataset(ds, path)
    with xr.open_dataset(path, engine="zarr" if kind == "zarr" else "h5netcdf") as plain:
        np.testing.assert_array_equal(plain["outputs"].values, ds["outputs"].values)
        assert plain["output"].values.tolist() == ds["output"].values.tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_existing_file_is_replaced_only_on_request(ds, tmp_path, kind):
    path = tmp_path / f"data.{kind}"
    nwbrnn.write_dataset(ds, path)
    before = digest(path)
    with pytest.raises(OutputExistsError, match=names(path, "overwrite=True", "--overwrite")):
        nwbrnn.write_dataset(ds.isel(trial=slice(3)), path)
    assert digest(path) == before
    nwbrnn.write_dataset(ds.isel(trial=slice(3)), path, overwrite=True)
    assert nwbrnn.read_dataset(path).sizes["trial"] == 3
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left_of_a_failure(ds, tmp_path, kind, monkeypatch):
    path = tmp_path / f"data.{kind}"
    nwbrnn.write_dataset(ds, path)
    before = digest(path)

    def fail_zarr(self, target, **options):
        target.mkdir()
        fail(target / "part", b"half")

    def fail(target, content):
        with target.open("wb") as stream:
            stream.write(content[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(xr.Dataset, "to_zarr", fail_zarr)
    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(ExportError, match=names(path, os.strerror(errno.ENOSPC))):
        nwbrnn.write_dataset(ds, path, overwrite=True)
    assert digest(path) == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_nothing_is_borrowed_from_a_buffer(ds, tmp_path, monkeypatch):
    """An error that keeps a view of one, whose buffer Python 3.12 then deletes, ends the process later."""
    held = []

    def fail(target, content):
        held.append(content)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(ExportError, match=names(tmp_path / "data.nc", os.strerror(errno.ENOSPC))):
        nwbrnn.write_dataset(ds, tmp_path / "data.nc")
    assert isinstance(held[0], bytes)


def test_folder_that_is_no_zarr_is_not_replaced(ds, tmp_path):
    folder = tmp_path / "data.zarr"
    folder.mkdir()
    (folder / "thesis.txt").write_text("thesis")
    with pytest.raises(ExportError, match=names(folder)):
        nwbrnn.write_dataset(ds, folder, overwrite=True)
    assert (folder / "thesis.txt").read_text() == "thesis"


@pytest.mark.skipif(HAS_ZARR_3, reason="zarr 3 is installed")
def test_zarr_2_is_refused_with_the_reason(ds, tmp_path):
    with pytest.raises(
        ExportError, match=names(tmp_path / "data.zarr", "zarr 3", f"zarr {version('zarr')}", ".nc")
    ):
        nwbrnn.write_dataset(ds, tmp_path / "data.zarr")
    assert not list(tmp_path.iterdir())


def test_unsuitable_names_and_datasets_are_refused(ds, tmp_path):
    with pytest.raises(ExportError, match=names(tmp_path / "data.csv", ".nc", ".zarr")):
        nwbrnn.write_dataset(ds, tmp_path / "data.csv")
    with pytest.raises(SchemaError, match="'mask'"):
        nwbrnn.write_dataset(ds.drop_vars("mask"), tmp_path / "data.nc")
    assert not list(tmp_path.iterdir())


def test_unreadable_datasets_are_refused(ds, tmp_path):
    with pytest.raises(UnsupportedFileError, match=names(tmp_path / "none.nc", "check")):
        nwbrnn.read_dataset(tmp_path / "none.nc")
    (tmp_path / "text.nc").write_text("not a Dataset")
    with pytest.raises(UnsupportedFileError, match=names(tmp_path / "text.nc", ".nc", "write")):
        nwbrnn.read_dataset(tmp_path / "text.nc")
    ds.drop_vars("mask").to_netcdf(tmp_path / "other.nc", engine="h5netcdf")
    with pytest.raises(SchemaError, match="'mask'"):
        nwbrnn.read_dataset(tmp_path / "other.nc")


def test_command_writes_what_read_nwb_reads(recording, tmp_path, run_cli):
    path = tmp_path / "data.nc"
    options = ["--map", "emg=acquisition/EMG", "--units", "quality=good", "--channels", "FCR,ECR"]
    options += ["--where", "all", "--whole-trials", "--stamps", "centre", "--smoothing", "0.1"]
    finished = run_cli("read", recording.path, "-o", path, *options)
    assert finished.code == 0
    assert "picked" in finished.out
    expected = nwbrnn.read_nwb(
        recording.path,
        map={"emg": "acquisition/EMG"},
        units={"quality": "good"},
        channels=("FCR", "ECR"),
        where={},
        window="trial",
        stamps="centre",
        smoothing=0.1,
    )
    xr.testing.assert_identical(nwbrnn.read_dataset(path), expected)
    assert (expected.sizes["trial"], expected.sizes["unit"], expected.sizes["output"]) == (40, 6, 2)
    refused = run_cli("read", recording.path, "-o", path)
    assert (refused.code, refused.out) == (2, "")
    assert "--overwrite" in refused.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--map", "acquisition/EMG"], ["--map", "role=value", "'acquisition/EMG'"]),
        (["--map", "muscles=acquisition/EMG"], ["map.muscles", "'emg'"]),
        (["--units", "good"], ["--units", "column=value", "'good'"]),
        (["--units", "area=M1"], ["units", "'area'", "quality"]),
        (["--units", "quality=best"], ["units", "{'quality': 'best'}", "'good'"]),
        (["--whole-trials", "--window", "0", "1"], ["--whole-trials", "--window"]),
        (["--stamps", "middle"], ["stamps", "'centre'", "'middle'"]),
    ],
)
def test_command_refuses(recording, tmp_path, run_cli, options, message):
    finished = run_cli("read", recording.path, "-o", tmp_path / "data.nc", *options)
    assert finished.code == 2
    assert_names(finished.err, *message)
    assert not list(tmp_path.iterdir())
