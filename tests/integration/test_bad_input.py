"""What a user can get wrong ends with exit code 2, one helpful paragraph, and no file."""

import shutil

import h5py
import numpy as np
import pytest

import nwbrnn
from tests.messages import assert_names, names


@pytest.fixture(scope="module")
def files(make_recording, recording, tmp_path_factory):
    """Return the paths of bad and good files by name."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "text.nwb").write_text("not HDF5, though it is called NWB\n")
    with h5py.File(folder / "plain.nwb", "w") as file:
        file["numbers"] = np.arange(3)
    with h5py.File(folder / "old.nwb", "w") as file:
        file["nwb_version"] = b"NWB-1.0.6"
    whole = recording.path.read_bytes()
    (folder / "truncated.nwb").write_bytes(whole[: len(whole) // 2])
    return {
        "good": recording.path,
        "text": folder / "text.nwb",
        "plain": folder / "plain.nwb",
        "old": folder / "old.nwb",
        "truncated": folder / "truncated.nwb",
        "missing": folder / "missing.nwb",
        "folder": folder,
        "no_units": make_recording(units=False).path,
        "no_trials": make_recording(trials=False).path,
        "no_emg": make_recording(layout="none").path,
        "nan": make_recording(nan_emg=(slice(1500, 1520), 1)).path,
    }


CASES = {
    # name: file, options, what the message must name beside the file
    "not HDF5": ("text", [], ["HDF5", ".nwb"]),
    "not NWB": ("plain", [], ["nwb_version"]),
    "NWB 1": ("old", [], ["NWB-1.0.6", "NWB 2"]),
    "truncated": ("truncated", [], ["NWB", "copy"]),
    "missing": ("missing", [], ["NWB", "check"]),
    "folder": ("folder", [], ["folder"]),
    "no units": ("no_units", [], ["units"]),
    "no trials": ("no_trials", [], ["intervals/trials"]),
    "no EMG": ("no_emg", ["--outputs", "emg"], ["outputs", "'emg'"]),
    "no outputs": ("no_emg", [], ["outputs", "time series"]),
    "unknown series": (
        "good",
        ["--outputs", "acquisition/EMGG"],
        ["acquisition/EMGG", "acquisition/EMG (emg)"],
    ),
    "unknown channel": ("good", ["--channels", "FCR,XYZ"], ["channels", "XYZ", "FCR, FCU, ECR"]),
    "unknown inputs": ("good", ["--inputs", "cues"], ["inputs", "'cues'"]),
    "unknown rates": ("good", ["--rates", "speeds"], ["rates", "'speeds'"]),
    "unknown alignment": (
        "good",
        ["--align-to", "gocue"],
        ["align_to", "'gocue'", "start_time", "go_cue_time", "move_onset_time", "result"],
    ),
    "alignment to text": ("good", ["--align-to", "result"], ["align_to", "result", "text"]),
    "unknown condition": ("good", ["--condition", "colour"], ["condition", "'colour'", "target_dir"]),
    "unknown where column": ("good", ["--where", "outcom=R"], ["where", "'outcom'", "result"]),
    "unknown where value": ("good", ["--where", "result=X"], ["intervals/trials", "'X'", "'F', 'R'"]),
    "window too long": ("good", ["--window", "-1", "200"], ["window", "201 s"]),
    "window too short": (
        "good",
        ["--window", "0", "0.03"],
        ["window", "0.02 s", "0 to 0.03 s", "--window", "--bin-size"],
    ),
    "bins too fine": ("good", ["--bin-size", "0.01"], ["bin_size", "acquisition/EMG", "0.02 s"]),
    "bins no multiple": ("good", ["--bin-size", "0.03"], ["bin_size", "acquisition/EMG", "0.02 s"]),
    "NaN": ("nan", [], ["acquisition/EMG", "FCU", "NaN", "--nan mask"]),
    "outside the recording": (
        "good",
        ["--window", "500", "501"],
        ["window", "500 to 501 s", "go_cue_time", "--window", "--align-to"],
    ),
}


def assert_refused(finished, *words):
    assert finished.code == 2
    assert finished.err.startswith("Error: ")
    assert finished.err.endswith("\n")
    assert "\n" not in finished.err.rstrip("\n"), "more than one paragraph"
    assert "Traceback" not in finished.err
    assert_names(finished.err, *words)


@pytest.mark.parametrize("case", CASES)
def test_bad_file_or_setting_is_refused(case, files, run_cli, tmp_path):
    name, options, words = CASES[case]
    out = tmp_path / "fit.nwb"
    finished = run_cli("fit", files[name], "-o", out, "--epochs", 1, *options)
    assert_refused(finished, files[name], *words)
    assert list(tmp_path.iterdir()) == []


SETTINGS = {
    "unknown": ("fit:\n  hiden: 3\n", ["fit.hiden"]),
    "out of range": ("fit:\n  tau: -1\n", ["fit.tau", "-1"]),
    "unknown section": ("training:\n  tau: 1\n", ["training"]),
    "not YAML": ("fit: [1, 2\n", ["YAML"]),
    "window backwards": ("read:\n  window: [1.5, -0.4]\n", ["window", "start < stop"]),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_bad_configuration_is_refused(case, files, run_cli, tmp_path):
    text, words = SETTINGS[case]
    path = tmp_path / "fit.yaml"
    path.write_text(text)
    finished = run_cli("fit", files["good"], "-o", tmp_path / "fit.nwb", "--config", path)
    assert_refused(finished, path, *words)
    assert list(tmp_path.iterdir()) == [path]


def test_missing_configuration_is_refused(files, run_cli, tmp_path):
    path = tmp_path / "none.yaml"
    assert_refused(run_cli("fit", files["good"], "-o", tmp_path / "fit.nwb", "--config", path), path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--epochs", "0"], ["command line", "epochs"]),
        (["--sampled", "2.5"], ["sampled", "2.5"]),
        (["--sampled", "13"], ["sampled", "13", "12"]),
        (["--held-out-condition", "45"], ["held_out_conditions", "45", "270"]),
        (["--where", "R"], ["--where", "column=value"]),
        (["--emg", "rectified"], ["emg", "rectified"]),
    ],
)
def test_bad_option_is_refused(options, words, files, run_cli, tmp_path):
    assert_refused(run_cli("fit", files["good"], "-o", tmp_path / "fit.nwb", *options), *words)
    assert list(tmp_path.iterdir()) == []


def test_existing_output_stays_without_overwrite(files, run_cli, tmp_path):
    out = tmp_path / "fit.nwb"
    out.write_bytes(b"precious")
    finished = run_cli("fit", files["good"], "-o", out, "--epochs", 1)
    assert_refused(finished, out, "--overwrite")
    assert out.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [out]


def test_existing_json_stays_without_overwrite(files, run_cli, tmp_path):
    report = tmp_path / "report.json"
    report.write_text("precious")
    assert_refused(run_cli("inspect", files["good"], "--json", report), report, "--overwrite")
    assert report.read_text() == "precious"


def test_missing_output_folder_is_refused(files, run_cli, tmp_path):
    out = tmp_path / "nowhere" / "fit.nwb"
    assert_refused(run_cli("fit", files["good"], "-o", out, "--epochs", 1), out, "folder")
    assert list(tmp_path.iterdir()) == []


def test_output_without_nwb_suffix_is_refused(files, run_cli, tmp_path):
    assert_refused(run_cli("fit", files["good"], "-o", tmp_path / "fit.h5"), "fit.h5", ".nwb")


def test_output_that_is_the_source_is_refused(files, run_cli, tmp_path):
    source = tmp_path / "session.nwb"
    content = files["good"].read_bytes()
    source.write_bytes(content)
    options = ["--overwrite", "--epochs", 1, "--hidden", 12]
    assert_refused(run_cli("fit", source, "-o", source, *options), source, "output")
    assert source.read_bytes() == content
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.slow
def test_nan_can_be_masked(files, run_cli, tmp_path):
    out = tmp_path / "fit.nwb"
    finished = run_cli("fit", files["nan"], "-o", out, "--nan", "mask", "--epochs", 1, "--hidden", 12)
    assert (finished.code, finished.err) == (0, "")
    stored = nwbrnn.read_fit(out).recorded
    assert 0 < (~stored["mask"].values).sum() <= 20


@pytest.mark.parametrize("name", ["text", "good", "missing"])
def test_evaluate_refuses_what_is_no_fit(name, files, run_cli):
    assert_refused(run_cli("evaluate", files[name]), files[name])


def test_repeat_refuses_what_is_no_teacher(files, run_cli, tmp_path):
    finished = run_cli("simulate", "-o", tmp_path / "t.nwb", "--repeat", files["good"])
    assert_refused(finished, files["good"], "connectivity")
    assert list(tmp_path.iterdir()) == []


def test_inspect_refuses_what_is_not_nwb(files, run_cli):
    assert_refused(run_cli("inspect", files["text"]), files["text"], "HDF5")


@pytest.mark.parametrize("name", [".zarray", ".zmetadata"])
def test_a_folder_with_an_array_of_zarr_is_no_nwb_file(name, run_cli, tmp_path):
    (tmp_path / name).write_text("{}")
    assert_refused(run_cli("inspect", tmp_path), tmp_path, "folder", "Zarr group", ".nwb file")


def test_a_file_named_like_a_folder_inside_is_named_before_its_object(recording, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(recording.path, "acquisition")
    with h5py.File("acquisition", "r+") as file:
        file["acquisition/EMG/data"][2000:2100] = np.nan
    with pytest.raises(nwbrnn.NwbrnnError, match=r"\Aacquisition: acquisition/EMG: NaN"):
        nwbrnn.read_nwb("acquisition")
    (refusal,) = (one for one in nwbrnn.diagnose("acquisition") if one.rule == "refused")
    assert refusal.problem.startswith("acquisition/EMG: NaN")


@pytest.mark.parametrize("name", ["run.mat", "run.npz"])
def test_convert_refuses_unreadable_runs(name, run_cli, tmp_path):
    run = tmp_path / name
    run.write_text("nothing of use")
    assert_refused(run_cli("convert", run, "-o", tmp_path / "t.nwb"), run)
    assert list(tmp_path.iterdir()) == [run]


def test_convert_refuses_damaged_netcdf_in_one_paragraph(run_cli, tmp_path):
    run = tmp_path / "run.nc"
    run.write_text("nothing of use")
    assert_refused(run_cli("convert", run, "-o", tmp_path / "t.nwb"), run)
    assert list(tmp_path.iterdir()) == [run]


POINTERS = {
    "git-lfs": "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    "git-annex": "/annex/objects/SHA256E-s12345--4d7a.nwb\n",
}
COMMANDS = {
    ".nwb": ["inspect", "doctor", "read", "fit", "evaluate", "perturb", "export", "refit", "report"],
    ".zarr": ["inspect", "fit"],
    ".npz": ["convert"],
    ".nc": ["convert", "fit"],
}
WRITING = ("read", "fit", "export", "refit", "report", "convert")


@pytest.mark.parametrize("kind", ["git-lfs", "git-annex", "link of git-annex"])
@pytest.mark.parametrize(
    ("command", "suffix"), [(command, suffix) for suffix, some in COMMANDS.items() for command in some]
)
def test_content_that_was_not_downloaded(kind, command, suffix, run_cli, tmp_path):
    path = tmp_path / f"session{suffix}"
    place = path
    if suffix == ".zarr":
        path.mkdir()
        place = path / ".zgroup"
    if kind in POINTERS:
        place.write_text(POINTERS[kind])
    else:
        place.symlink_to(".git/annex/objects/Xq/7w/SHA256E-s12345--4d7a/SHA256E-s12345--4d7a.nwb")
    suffixes = {"read": ".nc", "report": ".html"}
    output = ["-o", tmp_path / f"out{suffixes.get(command, '.nwb')}"] if command in WRITING else []
    done = run_cli(command, path, *output)
    assert done.code == 2
    assert_names(done.err, place, kind.split()[-1])


@pytest.mark.parametrize("text", ["2.0b", b"2.0b", np.array([b"2.0b"]), np.array(["2.1.0"], dtype=object)])
def test_versions_of_any_shape_are_understood(text, recording, tmp_path):
    path = shutil.copy(recording.path, tmp_path / "version.nwb")
    with h5py.File(path, "r+") as file:
        file.attrs["nwb_version"] = text
    assert nwbrnn.inspect_nwb(path).problem is None
    assert all(finding.object != "/" for finding in nwbrnn.diagnose(path))


def _write_link_to_root(file):
    file["acquisition/circle"] = h5py.SoftLink("/")


def _write_link_to_parent(file):
    file["processing/again/deep"] = file["processing"]


def _write_longer(file, name="intervals/trials/target_dir", *, n_more=1):
    values, attributes = file[name][:], dict(file[name].attrs)
    del file[name]
    file[name] = np.resize(values, len(values) + n_more)
    file[name].attrs.update(attributes)


BUILDS = {
    "a link to the root": (_write_link_to_root, ["acquisition/circle", "/"]),
    "a link to a group above": (_write_link_to_parent, ["processing/again/deep"]),
    "a column too long": (_write_longer, ["intervals/trials/target_dir", "41", "40"]),
    "a column too short": (
        lambda file: _write_longer(file, "intervals/trials/result", n_more=-1),
        ["intervals/trials/result", "39", "40"],
    ),
    "an index too long": (
        lambda file: _write_longer(file, "units/spike_times_index"),
        ["units/spike_times_index", "13", "12"],
    ),
}


@pytest.mark.parametrize("case", BUILDS)
def test_what_pynwb_cannot_build_is_named(case, recording, tmp_path, run_cli):
    change, words = BUILDS[case]
    path = shutil.copy(recording.path, tmp_path / "odd.nwb")
    with h5py.File(path, "r+") as file:
        change(file)
    for command in ("inspect", "doctor"):
        done = run_cli(command, path)
        assert done.code == 2
        assert_names(done.err, path, *words)


@pytest.mark.parametrize("read", [nwbrnn.read_nwb, nwbrnn.inspect_nwb])
def test_ids_of_a_table_that_are_a_single_value_are_named(recording, tmp_path, read):
    path = tmp_path / "session.nwb"
    shutil.copy(recording.path, path)
    with h5py.File(path, "a") as file:
        trials = file["intervals/trials"]
        about = dict(trials["id"].attrs)
        del trials["id"]
        trials.create_dataset("id", data=3).attrs.update(about)
    with pytest.raises(nwbrnn.NwbrnnError, match=names(path, "intervals/trials/id")):
        read(path)
