"""The three ways out, in HDF5 and Zarr; the file as others read it; earlier layouts; refit."""

import errno
import json
import os
import shlex
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import h5py
import numpy as np
import pynwb
import pytest

import nwbrnn
from nwbrnn.errors import ConfigError, ExportError, MissingDataError, OutputExistsError, ReadError
from nwbrnn.evaluation import compute_weighted_r2
from nwbrnn.formats.fit.layout import list_parts
from nwbrnn.storage import atomic, create_nwb, list_differences, open_nwb
from tests.messages import assert_names, names

pytestmark = pytest.mark.slow

READ = {"bin_size": 0.1}


@pytest.fixture(scope="module")
def fitted(make_recording, tmp_path_factory):
    """Return a folder with a recording and two fits of it; only to be read."""
    folder = tmp_path_factory.mktemp("fitted")
    source = folder / "session.nwb"
    shutil.copy(make_recording(drop_emg=(30.0, 30.7)).path, source)
    ds = nwbrnn.read_nwb(source, **READ)
    for name, weight in (("fit", 1.0), ("other", 0.0)):
        result = nwbrnn.fit(ds, epochs=4, hidden=8, sampled=3, min_rate=0, dynamics_weight=weight)
        nwbrnn.write_fit(result, source, folder / f"{name}.nwb")
    return folder


@pytest.fixture
def folder(fitted, tmp_path):
    """Return a folder of one's own with a recording and two fits of it."""
    for path in fitted.iterdir():
        shutil.copy(path, tmp_path / path.name)
    return tmp_path


def read(folder, name="fit"):
    return nwbrnn.read_fit(folder / f"{name}.nwb")


def assert_same_fit(first, second):
    assert first.recorded.identical(second.recorded)
    assert first.predicted.identical(second.predicted)
    assert first.config == second.config
    for name, values in first.weights.items():
        np.testing.assert_array_equal(second.weights[name], values, err_msg=name)
    assert first.scores.summary == second.scores.summary or repr(first.scores) == repr(second.scores)
    assert first.history == second.history


@pytest.mark.parametrize("to", ["new", "copy", "in-place"])
def test_fit_comes_back_the_same_from_anywhere(folder, to):
    stored, source = read(folder), folder / "session.nwb"
    out = None if to == "in-place" else folder / "out.nwb"
    path = nwbrnn.write_fit(stored, source, out, to=to)
    assert path == (out or source)
    assert_same_fit(nwbrnn.read_fit(path), stored)
    assert not list(folder.glob(".nwbrnn*"))


@pytest.fixture(scope="module")
def fitted_zarr(fitted, tmp_path_factory):
    """Return a recording in Zarr and a fit of it; only to be read."""
    pytest.importorskip("hdmf_zarr")
    path = tmp_path_factory.mktemp("zarr") / "session.zarr"
    with (
        open_nwb(fitted / "session.nwb") as nwbfile,
        create_nwb(path, as_zarr=True) as io,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # of hdmf-zarr 0.14 on its use of zarr
        io.export(src_io=nwbfile.read_io, nwbfile=nwbfile, write_args={"link_data": False})
    return path, nwbrnn.fit(nwbrnn.read_nwb(path, **READ), epochs=4, hidden=8, sampled=3, min_rate=0)


@pytest.mark.parametrize(
    ("to", "name"), [("new", "out.zarr"), ("new", "out.nwb"), ("copy", "out.zarr"), ("in-place", None)]
)
def test_fit_comes_back_the_same_from_zarr(fitted_zarr, tmp_path, to, name):
    original, result = fitted_zarr
    source = tmp_path / "session.zarr"
    shutil.copytree(original, source)
    path = nwbrnn.write_fit(result, source, name and tmp_path / name, to=to)
    assert path == (tmp_path / name if name else source)
    assert_same_fit(nwbrnn.read_fit(path), result)
    if name is None:
        nwbrnn.write_fit(result, source, to=to, overwrite=True)
        nwbrnn.write_fit(result, source, to=to, name="second")
        assert_same_fit(nwbrnn.read_fit(path, "second"), result)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted({"session.zarr", path.name})


@pytest.mark.cover
def test_copy_of_hdf5_as_zarr(folder):
    pytest.importorskip("hdmf_zarr")
    path = nwbrnn.write_fit(read(folder), folder / "session.nwb", folder / "out.zarr", to="copy")
    assert_same_fit(nwbrnn.read_fit(path), read(folder))
    again, first = (nwbrnn.read_nwb(p, **READ) for p in (path, folder / "session.nwb"))
    assert again.drop_attrs(deep=False).identical(first.drop_attrs(deep=False))


@pytest.mark.parametrize("to", ["copy", "in-place"])
def test_everything_else_stays_as_it_was(folder, to):
    source = folder / "session.nwb"
    before = shutil.copy(source, folder / "before.nwb")
    out = nwbrnn.write_fit(read(folder), source, None if to == "in-place" else folder / "out.nwb", to=to)
    with h5py.File(before) as first, h5py.File(out) as second:
        assert list(list_differences(first, second)) == []
        assert set(second["processing"]) - set(first["processing"]) == {"nwbrnn"}
        same_identity = first["identifier"][()] == second["identifier"][()]
        assert same_identity == (first.attrs["object_id"] == second.attrs["object_id"]) == (to == "in-place")
    assert pynwb.validate(path=str(out)) == []
    again, first = nwbrnn.read_nwb(out, **READ), nwbrnn.read_nwb(before, **READ)
    assert again.drop_attrs(deep=False).identical(first.drop_attrs(deep=False))
    assert json.loads(again.attrs["choices"]) == json.loads(first.attrs["choices"])
    assert nwbrnn.diagnose(out) == nwbrnn.diagnose(before)


@pytest.mark.cover
def test_what_a_copy_lacks_is_found(folder):
    """The comparison before a file is replaced sees a value, an attribute or an object that is gone."""
    changes = {
        "acquisition/EMG/data: values": lambda f: f["acquisition/EMG/data"].__setitem__((3, 1), 9.0),
        "units/spike_times: values": lambda f: f["units/spike_times"].__setitem__(-1, 9.0),
        "intervals/trials/result: texts": lambda f: f["intervals/trials/result"].__setitem__(0, "X"),
        "acquisition/EMG: attribute description d": lambda f: f["acquisition/EMG"].attrs.modify(
            "description", "x"
        ),
        "acquisition/EMG: attribute comments is m": lambda f: f["acquisition/EMG"].attrs.pop("comments"),
        "general/subject is missing": lambda f: f["general"].__delitem__("subject"),
        "session_start_time: texts": lambda f: f["session_start_time"].__setitem__(
            (), "2020-05-17T09:30:01+00:00"
        ),
        "general/experimenter: texts": lambda f: f["general/experimenter"].__setitem__(0, "Doe, John"),
        "units: attribute neurodata_type d": lambda f: f["units"].attrs.modify(
            "neurodata_type", "ElectrodesTable"
        ),
    }
    for expected, change in changes.items():
        shutil.copy(folder / "session.nwb", folder / "changed.nwb")
        with h5py.File(folder / "changed.nwb", "r+") as file:
            change(file)
        with h5py.File(folder / "session.nwb") as before, h5py.File(folder / "changed.nwb") as after:
            (found,) = list_differences(before, after)
        assert found.startswith(expected)


def test_several_fits_live_side_by_side(folder):
    source, first, second = folder / "session.nwb", read(folder), read(folder, "other")
    nwbrnn.write_fit(first, source, to="in-place", name="with")
    nwbrnn.write_fit(second, source, to="in-place", name="without")
    assert_same_fit(nwbrnn.read_fit(source, "with"), first)
    assert_same_fit(nwbrnn.read_fit(source, "without"), second)
    with pytest.raises(ConfigError, match=names(source, "with, without")):
        nwbrnn.read_fit(source)
    with pytest.raises(MissingDataError, match=names(source, "processing/nwbrnn_neither", "with, without")):
        nwbrnn.read_fit(source, "neither")


@pytest.mark.parametrize("kind", ["hdf5", "zarr"])
def test_links_of_a_file_that_is_replaced_are_not_followed(folder, kind):
    """Fits in another file, to which the old one links, are not lost with it."""
    source, out = folder / "session.nwb", folder / f"out.{'nwb' if kind == 'hdf5' else 'zarr'}"
    shutil.copy(source, folder / "elsewhere.nwb")
    nwbrnn.write_fit(read(folder), folder / "elsewhere.nwb", to="in-place", name="held")
    if kind == "hdf5":
        with h5py.File(out, "w") as file:
            file["processing"] = h5py.ExternalLink("elsewhere.nwb", "/processing")
    else:
        pytest.importorskip("hdmf_zarr")
        (folder / "others" / "nwbrnn_held").mkdir(parents=True)
        out.mkdir()
        (out / ".zgroup").write_text('{"zarr_format": 2}')
        (out / "processing").symlink_to(folder / "others")
    before = (folder / "elsewhere.nwb").read_bytes()
    nwbrnn.write_fit(read(folder), source, out, overwrite=True)
    nwbrnn.read_fit(out)
    assert (folder / "elsewhere.nwb").read_bytes() == before
    assert (folder / "others").exists() == (kind == "zarr")


def test_overwrite_replaces_this_fit_and_nothing_else(folder):
    source, first, second = folder / "session.nwb", read(folder), read(folder, "other")
    nwbrnn.write_fit(first, source, to="in-place", name="a")
    nwbrnn.write_fit(first, source, to="in-place", name="b")
    shutil.copy(source, folder / "before.nwb")
    with pytest.raises(
        OutputExistsError, match=names(source, "processing/nwbrnn_a", "overwrite=True", "--as")
    ):
        nwbrnn.write_fit(second, source, to="in-place", name="a")
    nwbrnn.write_fit(second, source, to="in-place", name="a", overwrite=True)
    assert_same_fit(nwbrnn.read_fit(source, "a"), second)
    assert_same_fit(nwbrnn.read_fit(source, "b"), first)
    with h5py.File(folder / "before.nwb") as before, h5py.File(source) as after:
        assert list(list_differences(before["processing/nwbrnn_b"], after["processing/nwbrnn_b"])) == []


def test_file_with_other_fits_is_not_replaced(folder):
    source, out = folder / "session.nwb", folder / "out.nwb"
    nwbrnn.write_fit(read(folder), source, out, name="a")
    with pytest.raises(ExportError, match=names(out, "nwbrnn_a", "in-place")):
        nwbrnn.write_fit(read(folder), source, out, name="b", overwrite=True)
    nwbrnn.write_fit(read(folder, "other"), source, out, name="a", overwrite=True)
    assert nwbrnn.read_fit(out).config.dynamics_weight == 0


@pytest.mark.cover
def test_only_fits_are_replaced(folder):
    """A module of somebody else that happens to have such a name stays, and so do other fits in a copy."""
    source, stored = folder / "session.nwb", read(folder)
    with pynwb.NWBHDF5IO(str(source), "a") as io:
        nwbfile = io.read()
        nwbfile.create_processing_module("nwbrnn_mine", "not a fit")
        io.write(nwbfile)
    result = nwbrnn.fit(nwbrnn.read_nwb(source, **READ), epochs=2, hidden=6, sampled=3, min_rate=0)
    with pytest.raises(ExportError, match=names(source, "processing/nwbrnn_mine", "name")):
        nwbrnn.write_fit(result, source, to="in-place", name="mine", overwrite=True)
    nwbrnn.write_fit(result, source, to="in-place", name="a")
    with h5py.File(shutil.copy(source, folder / "before.nwb")) as before, h5py.File(source, "r+") as after:
        assert list(list_differences(before, after, ignore=list_parts("nwbrnn_b"))) == []
        del after["processing/nwbrnn_a"]
        (lost,) = list_differences(before, after, ignore=list_parts("nwbrnn_b"))
        assert_names(lost, "processing/nwbrnn_a")
        assert list(list_differences(before, after, ignore=list_parts("nwbrnn_a"))) == []
    assert stored.config.hidden == 8


def test_fit_that_comes_meanwhile_is_not_lost(folder, monkeypatch):
    source, out, stored = folder / "session.nwb", folder / "out.nwb", read(folder)
    nwbrnn.write_fit(stored, source, folder / "theirs.nwb", name="theirs")

    def validate(**_):
        if (folder / "theirs.nwb").exists():
            (folder / "theirs.nwb").replace(out)
        return []

    monkeypatch.setattr("nwbrnn.storage.output.pynwb.validate", validate)
    with pytest.raises(ExportError, match=names(out, "nwbrnn_theirs")):
        nwbrnn.write_fit(stored, source, out, name="mine", overwrite=True)
    assert nwbrnn.read_fit(out, "theirs").config == stored.config


def test_read_only_source_is_not_changed(folder):
    (folder / "session.nwb").chmod(0o444)
    with pytest.raises(ExportError, match=names(folder / "session.nwb", "to='copy'")):
        nwbrnn.write_fit(read(folder), folder / "session.nwb", to="in-place")


def test_stored_fit_does_not_permit_links(folder):
    with h5py.File(folder / "fit.nwb", "r+") as file:
        about = json.loads(file["scratch/nwbrnn_fit"][()])
        config = json.loads(about["dataset"]["attrs"]["read_config"])
        about["dataset"]["attrs"]["read_config"] = json.dumps(config | {"follow_links": True})
        file["scratch/nwbrnn_fit"][()] = json.dumps(about)
    assert json.loads(read(folder).recorded.attrs["read_config"])["follow_links"] is False


def test_old_folder_is_kept_until_the_new_one_has_its_name(tmp_path, monkeypatch):
    """Where two names cannot change places in one step, and nobody removes what is not ours."""
    monkeypatch.setattr(atomic, "exchange_names", lambda *_: False)
    path, notes = tmp_path / "a.zarr", tmp_path / ".nwbrnn-notes.tmpl.md"
    notes.write_text("mine")

    def write(text):
        with atomic.replace_whole(path, overwrite=True, folder=True) as temporary:
            temporary.mkdir()
            (temporary / ".zgroup").write_text(text)

    write("old")
    write("new")
    assert (path / ".zgroup").read_text() == "new"
    assert sorted(p.name for p in tmp_path.iterdir()) == [notes.name, "a.zarr"]
    rename = Path.replace

    def fail(self, target):
        if Path(target) == path and self.name == "a.zarr":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(ExportError, match=names(path, os.strerror(errno.EIO))):
        write("newer")
    assert (path / ".zgroup").read_text() == "new"


@pytest.mark.cover
def test_wrong_calls_are_refused(folder):
    source, stored = folder / "session.nwb", read(folder)
    with pytest.raises(ConfigError, match=names("to", "new, copy, in-place", "'elsewhere'")):
        nwbrnn.write_fit(stored, source, folder / "x.nwb", to="elsewhere")
    with pytest.raises(ConfigError, match=names("path", "to='in-place'", folder / "x.nwb")):
        nwbrnn.write_fit(stored, source, folder / "x.nwb", to="in-place")
    with pytest.raises(ConfigError, match=names("path", "to='new'", None)):
        nwbrnn.write_fit(stored, source)
    for name in ("", "a/b", "..", "a b", "x" * 65, "é"):
        with pytest.raises(ConfigError, match=names("name", 64, repr(name))):
            nwbrnn.write_fit(stored, source, folder / "x.nwb", name=name)
    with pytest.raises(ExportError, match=names(source, "output")):
        nwbrnn.write_fit(stored, source, source, to="copy", overwrite=True)
    assert sorted(path.name for path in folder.iterdir()) == ["fit.nwb", "other.nwb", "session.nwb"]


def test_link_to_the_source_stays_a_link(folder):
    (folder / "link.nwb").symlink_to("session.nwb")
    nwbrnn.write_fit(read(folder), folder / "link.nwb", to="in-place")
    assert (folder / "link.nwb").is_symlink()
    assert nwbrnn.read_fit(folder / "session.nwb").config == read(folder).config


def test_permissions_stay(folder):
    (folder / "session.nwb").chmod(0o640)
    nwbrnn.write_fit(read(folder), folder / "session.nwb", to="in-place")
    assert (folder / "session.nwb").stat().st_mode & 0o777 == 0o640


@pytest.mark.cover
@pytest.mark.parametrize("to", ["new", "copy"])
def test_rows_link_to_the_tables_of_the_recording(folder, to):
    source = folder / "session.nwb"
    out = nwbrnn.write_fit(read(folder), source, folder / "out.nwb", to=to)
    stored = read(folder).recorded
    with open_nwb(out) as nwbfile, open_nwb(source) as original:
        module = nwbfile.processing["nwbrnn"]
        trials, units, hidden = (module[name] for name in ("trials", "recorded_units", "hidden_units"))
        assert trials["source_trial"].table is nwbfile.trials
        for i, trial in enumerate(trials["source_trial"].data[:]):
            trial_of_source = int(stored["trial"][int(trials["row"][i])])
            assert nwbfile.trials["start_time"][trial] == original.trials["start_time"][trial_of_source]
        assert units["source_unit"].table is nwbfile.units
        for i, unit in enumerate(units["source_unit"].data[:]):
            spikes = original.units["spike_times"][int(stored["unit"][i])]
            np.testing.assert_array_equal(nwbfile.units["spike_times"][unit], spikes)
        assert hidden["recorded_unit"].target.table is nwbfile.units
        linked = units["source_unit"].data[:][stored["sampled"].values]
        np.testing.assert_array_equal(hidden["recorded_unit"].target.data[:], linked)


def test_h5py_alone_finds_everything(folder):
    """The specification page is enough to run the network and compare it, without NWB's libraries."""
    stored = read(folder)
    with h5py.File(folder / "fit.nwb") as file:
        module = file["processing/nwbrnn"]
        about = json.loads(file["scratch/nwbrnn_fit"][()])
        hidden, outputs, trials = (module[name] for name in ("hidden_units", "outputs", "trials"))
        bin_size, tau = about["dataset"]["attrs"]["bin_size"], about["config"]["tau"]
        alpha = bin_size / tau
        row = int(np.flatnonzero(trials["split"].asstr()[:] == "test")[0])
        first, last = (int(trials["timeseries_index"][i]) if i >= 0 else 0 for i in (row - 1, row))
        windows = {file[ref].name.rsplit("/", 1)[1]: (int(start), int(count))
                   for start, count, ref in trials["timeseries"][first:last]}  # fmt: skip
        series = {name: module[name]["data"][start : start + count]
                  for name, (start, count) in windows.items()}  # fmt: skip
        x, predicted = hidden["initial_state"][:], []
        weights, bias = hidden["recurrent_weights"][:], hidden["bias"][:]
        for u in series["inputs"]:
            x = (1 - alpha) * x + alpha * (weights @ np.tanh(x) + hidden["input_weights"][:] @ u + bias)
            predicted.append(hidden["output_weights"][:].T @ np.tanh(x) + outputs["bias"][:])
        predicted = np.array(predicted) * outputs["scale"][:]
        np.testing.assert_allclose(
            predicted, series["predicted_outputs"], atol=1e-5 * np.abs(predicted).max()
        )
        r2 = compute_weighted_r2(predicted / outputs["scale"][:],
                                 series["recorded_outputs"] / outputs["scale"][:])  # fmt: skip
        assert trials["output_r2"][row] == pytest.approx(r2, abs=1e-4)
        assert file[trials["source_trial"].attrs["table"]].name == "/intervals/trials"
        assert about["dataset"]["attrs"]["source_sha256"] == stored.recorded.attrs["source_sha256"]
        assert set(about["versions"]) >= {"nwbrnn", "torch", "pynwb", "python"}


def test_another_layout_is_refused(folder):
    with h5py.File(folder / "fit.nwb", "r+") as file:
        about = json.loads(file["scratch/nwbrnn_fit"][()])
        file["scratch/nwbrnn_fit"][()] = json.dumps(about | {"layout_version": 2})
    with pytest.raises(ReadError, match=names(folder / "fit.nwb", "layout 1", "got 2", "version")):
        read(folder)


def test_refit_repeats_the_fit(folder, run_cli):
    done = run_cli("refit", folder / "fit.nwb", "-o", folder / "again.nwb", "--json", folder / "x.json")
    assert done.code == 0
    compared = json.loads((folder / "x.json").read_text())
    assert compared["same_weights"]
    assert_same_fit(read(folder, "again"), read(folder))


def test_refit_refuses_other_data(folder, run_cli, make_recording):
    other = make_recording(seed=5).path
    done = run_cli("refit", folder / "fit.nwb", "--source", other)
    assert done.code == 2
    assert_names(done.err, other, "session.nwb", "identifier", "'synthetic-5'")
    (folder / "session.nwb").unlink()
    done = run_cli("refit", folder / "fit.nwb")
    assert done.code == 2
    assert_names(done.err, folder / "fit.nwb", "session.nwb", "--source")


@pytest.mark.first
def test_export_command(folder, run_cli):
    assert run_cli("export", folder / "fit.nwb", "--to", "copy", "-o", folder / "copy.nwb").code == 0
    assert run_cli("export", folder / "fit.nwb", "--to", "in-place", "--as", "a").code == 0
    assert run_cli("export", folder / "other.nwb", "--to", "in-place", "--as", "b").code == 0
    assert run_cli("export", folder / "session.nwb", "--name", "b", "-o", folder / "b.nwb").code == 0
    assert nwbrnn.read_fit(folder / "b.nwb").config.dynamics_weight == 0
    assert run_cli("refit", folder / "copy.nwb").code == 0
    refused = run_cli("export", folder / "fit.nwb", "--to", "in-place", "--as", "a")
    assert (refused.code, "--overwrite" in refused.err) == (2, True)
    evaluated = run_cli("evaluate", folder / "session.nwb", "--name", "a", "--json", "-")
    assert json.loads(evaluated.out)["largest_difference"] < 1e-6


def test_secrets_of_addresses_are_not_kept(folder, monkeypatch):
    from nwbrnn.cli.options import describe_command

    address = "https://me:secret@example.org/a.nwb?signature=secret"
    monkeypatch.setattr(sys, "argv", ["nwbrnn", "fit", address, "-o", "a b.nwb"])
    assert shlex.split(describe_command()) == ["nwbrnn", "fit", "https://example.org/a.nwb", "-o", "a b.nwb"]


def inspect(path):
    """Return what nwbinspector's checks for DANDI find that is more than a suggestion."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nwbinspector = pytest.importorskip("nwbinspector")
        config = nwbinspector.load_config("dandi")
        messages = list(nwbinspector.inspect_nwbfile(nwbfile_path=str(path), config=config))
    limit = nwbinspector.Importance.BEST_PRACTICE_SUGGESTION.value
    return {f"{m.check_function_name} {m.location}" for m in messages if m.importance.value > limit}


@pytest.mark.parametrize("to", ["new", "copy", "in-place"])
def test_inspector_for_dandi_finds_nothing_new(folder, to):
    source = folder / "session.nwb"
    before = inspect(source)
    out = nwbrnn.write_fit(read(folder), source, None if to == "in-place" else folder / "out.nwb", to=to)
    assert inspect(out) <= before


def test_dandi_accepts_source_and_derivatives(folder, tmp_path_factory):
    pytest.importorskip("dandi")
    source = folder / "session.nwb"
    nwbrnn.write_fit(read(folder), source, folder / "copy.nwb", to="copy")
    (folder / "other.nwb").unlink()
    dandiset = tmp_path_factory.mktemp("dandiset")
    (dandiset / "dandiset.yaml").write_text("identifier: DANDI:000000\nname: x\ndescription: x\n")
    dandi = Path(sys.executable).with_name("dandi")
    command = [dandi, "-l", "ERROR", "organize", "-d", dandiset, "-f", "copy", folder]
    environment = os.environ | {"DANDI_NO_ET": "1", "DANDI_CACHE": "ignore"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    organized = sorted(dandiset.rglob("*.nwb"))
    assert len(organized) == 3
    command = [dandi, "validate", "--ignore", "DANDI.NO_DANDISET_FOUND", dandiset]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
