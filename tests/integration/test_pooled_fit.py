"""Several files, one network: what the commands do with them, and what the file of the fit holds."""

import hashlib
import json
import shutil
import warnings
from collections import Counter

import h5py
import numpy as np
import pytest
from pynwb import NWBHDF5IO, validate

import nwbrnn
from nwbrnn.config import ReadConfig
from nwbrnn.errors import ConfigError, ExportError, MissingDataError, ReadError
from nwbrnn.prediction import silence
from nwbrnn.readers import plan_pool
from nwbrnn.readers.session import open_session
from tests.messages import assert_names, names

pytestmark = pytest.mark.slow

SMALL = ("--epochs", 3, "--hidden", 12, "--bin-size", 0.04, "--sampled", 3, "--set", "min_rate=0")
MONDAY, TUESDAY = "synthetic-1", "synthetic-2"


@pytest.fixture(scope="module")
def files(make_recording, tmp_path_factory):
    """Return the files of two days; on tuesday, one of three muscles is missing."""
    folder = tmp_path_factory.mktemp("days")
    paths = [folder / f"{name}.nwb" for name in ("monday", "tuesday")]
    for seed, path in enumerate(paths, start=1):
        shutil.copy(make_recording(seed=seed).path, path)
    with h5py.File(paths[1], "r+") as file:
        emg = file["acquisition/EMG"]
        emg.attrs["comments"] = emg.attrs["comments"].replace("FCU", "PT")
    return paths


def hash_all(paths):
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]


@pytest.fixture(scope="module")
def fitted(files):
    """Return the file of a fit of both days, next to them."""
    ds = nwbrnn.read_sessions(files, bin_size=0.04)
    result = nwbrnn.fit(ds, epochs=3, hidden=12, sampled=3, min_rate=0)
    return nwbrnn.write_fit(result, files, files[0].with_name("pooled.nwb")), result


def test_two_files_are_fitted_scored_repeated_and_reported(files, run_cli, tmp_path):
    before = hash_all(files)
    out, again = files[0].with_name("by_command.nwb"), tmp_path / "again.nwb"
    done = run_cli("fit", *files, "-o", out, *SMALL)
    assert (done.code, done.err) == (0, "")
    assert_names(done.out, "monday", "tuesday", "tuesday lacks FCU")
    stored = nwbrnn.read_fit(out)
    assert stored.recorded.sizes["unit"] == 24
    assert stored.recorded["sampled"].values.sum() == 6
    repeated = run_cli("refit", out, "-o", again, "--json", tmp_path / "same.json")
    assert repeated.code == 0
    assert json.loads((tmp_path / "same.json").read_text())["same_weights"]
    assert nwbrnn.read_fit(again).recorded.equals(stored.recorded)
    assert run_cli("evaluate", out).code == 0
    assert run_cli("report", out, "-o", tmp_path / "page.html").code == 0
    page = (tmp_path / "page.html").read_text()
    assert "monday.nwb, tuesday.nwb" in page
    assert page.count("bin_size 0.04") == 2  # each session was read with it
    assert all(digest in page for digest in before)
    assert run_cli("export", out, "-o", tmp_path / "moved.nwb").code == 0
    assert nwbrnn.read_fit(tmp_path / "moved.nwb").recorded.equals(stored.recorded)
    assert hash_all(files) == before
    out.unlink()


def test_the_module_names_each_session(files, fitted):
    path, result = fitted
    with NWBHDF5IO(str(path), "r") as io:
        nwbfile = io.read()
        table = nwbfile.processing["nwbrnn"]["sessions"]
        assert table["session_name"][:].tolist() == ["monday", "tuesday"]
        assert table["nwb_identifier"][:].tolist() == [MONDAY, TUESDAY]
        assert table["sha256"][:].tolist() == hash_all(files)
        for file, object_id in zip(files, table["nwb_object_id"][:], strict=True):
            with h5py.File(file) as source:
                assert source.attrs["object_id"] == object_id
        np.testing.assert_array_equal(table["start"][:], result.recorded["recording_start"].values)
        np.testing.assert_array_equal(
            table["output_scale"][:], result.recorded["recording_output_scale"].values
        )
        assert table["output_units"][:].tolist() == result.recorded["recording_output_units"].values.tolist()
        module = nwbfile.processing["nwbrnn"]
        for rows, names_of in (("trials", "session"), ("recorded_units", "session_of_unit")):
            linked = module[rows]["source_session"]
            assert linked.table is table
            sessions = table["session_name"][:][linked.data[:]]
            np.testing.assert_array_equal(sessions, module[rows][names_of][:])
            assert len(set(sessions.tolist())) == 2
        assert nwbfile.subject.subject_id == "T"
        assert_names(nwbfile.notes, MONDAY, TUESDAY)
        about = json.loads(nwbfile.scratch["nwbrnn_fit"].data)
    sessions = json.loads(about["dataset"]["attrs"]["sessions"])
    assert all("units" in one["source_objects"] for one in sessions)


def test_other_programs_find_no_fault_in_the_file(fitted):
    path, _ = fitted
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of nwbinspector and what it imports
        nwbinspector = pytest.importorskip("nwbinspector")
        found = list(nwbinspector.inspect_nwbfile(nwbfile_path=str(path)))
    limit = nwbinspector.Importance.BEST_PRACTICE_SUGGESTION.value
    assert not [one for one in found if one.importance.value > limit]
    assert not validate(path=str(path))
    with h5py.File(path) as file:  # a link to another file would break when either of them moves
        kinds = []
        file.visititems_links(lambda _, link: kinds.append(type(link)))
    assert h5py.ExternalLink not in kinds


def test_the_file_gives_the_fit_back(fitted):
    path, result = fitted
    stored = nwbrnn.read_fit(path)
    assert stored.recorded.identical(result.recorded)
    np.testing.assert_array_equal(stored.predicted["rates"].values, result.predicted["rates"].values)
    for name, values in result.weights.items():
        np.testing.assert_array_equal(stored.weights[name], values)


def test_a_session_that_is_missing_changed_or_in_another_place_is_named(files, fitted, tmp_path):
    path, _ = fitted
    stored = nwbrnn.read_fit(path)
    alone = tmp_path / "alone.nwb"
    shutil.copy(path, alone)
    shutil.copy(files[0], tmp_path)
    from nwbrnn.formats.fit.decode import find_fit_sources

    with pytest.raises(MissingDataError, match=names("tuesday.nwb", "--source")):
        find_fit_sources(alone, stored.recorded)
    with pytest.raises(ReadError, match=names("tuesday.nwb", MONDAY, TUESDAY)):
        nwbrnn.refit(stored, files[::-1])
    with pytest.raises(ConfigError, match=names("monday", "tuesday", "--source")):
        nwbrnn.refit(stored, files[:1])
    with pytest.raises(ExportError, match=names("sessions", "source")):
        nwbrnn.write_fit(stored, files[0], tmp_path / "fit.nwb")
    with pytest.raises(ExportError, match=names("tuesday.nwb")):
        nwbrnn.write_fit(stored, [files[0], _change(files[1], tmp_path)], tmp_path / "fit.nwb")
    with pytest.raises(ConfigError, match=names("to", "new")):
        nwbrnn.write_fit(stored, files, tmp_path / "fit.nwb", to="copy")
    assert not (tmp_path / "fit.nwb").exists()


def test_files_of_one_name_are_not_taken_for_one_another(files, tmp_path):
    """Next to the fit, there can be only one of them."""
    from nwbrnn.formats.fit.decode import find_fit_sources

    same = [tmp_path / day / "session.nwb" for day in ("monday", "tuesday")]
    for file, copy in zip(files, same, strict=True):
        copy.parent.mkdir()
        shutil.copy(file, copy)
    ds = nwbrnn.read_sessions(same, bin_size=0.04)
    assert ds["recording"].values.tolist() == ["session", "session_2"]
    result = nwbrnn.fit(ds, epochs=2, hidden=12, sampled=3, min_rate=0)
    out = nwbrnn.write_fit(result, same, tmp_path / "pooled.nwb")
    shutil.copy(same[0], tmp_path)
    with pytest.raises(MissingDataError, match=names("session.nwb", "--source")):
        find_fit_sources(out, nwbrnn.read_fit(out).recorded)
    again = nwbrnn.refit(nwbrnn.read_fit(out), same)
    np.testing.assert_array_equal(again.weights["bias"], result.weights["bias"])


def _change(file, folder):
    changed = folder / file.name
    shutil.copy(file, changed)
    with h5py.File(changed, "r+") as opened:
        opened["acquisition/EMG/data"][0] += 1
    return changed


def test_an_output_must_not_be_one_of_the_sessions(files, run_cli):
    before = hash_all(files)
    done = run_cli("fit", *files, "-o", files[1], *SMALL, "--overwrite")
    assert done.code == 2
    assert_names(done.err, "tuesday.nwb")
    assert hash_all(files) == before


def test_json_must_not_be_one_of_the_sessions_that_perturb_reads_again(files, run_cli):
    before, out = hash_all(files), files[0].with_name("perturbed.nwb")
    assert run_cli("fit", *files, "-o", out, *SMALL, "--set", "perturbed=target_dir").code == 0
    unit = int(nwbrnn.read_fit(out).recorded["unit"].values[0])
    done = run_cli("perturb", out, "--unit", unit, "--json", files[1], "--overwrite")
    out.unlink()
    assert done.code == 2
    assert_names(done.err, "tuesday.nwb")
    assert hash_all(files) == before


def test_files_with_other_bins_are_read_with_the_widest(files, make_recording, tmp_path):
    fast = tmp_path / "fast.nwb"
    shutil.copy(make_recording(seed=3, emg_rate=100.0).path, fast)
    ds = nwbrnn.read_sessions([fast, files[0]])
    assert ds.attrs["bin_size"] == 0.02
    alone = nwbrnn.read_nwb(fast, bin_size=0.02)  # with the low-pass of the reader
    mine = ds["session"].values == "fast"
    muscles = alone["output"].values.tolist()
    np.testing.assert_array_equal(ds["outputs"].sel(output=muscles).values[mine], alone["outputs"].values)
    (choice,) = (c for c in json.loads(ds.attrs["choices"]) if c["role"] == "common bins")
    assert_names(choice["picked"], 0.02)


def test_each_file_of_a_plan_is_opened_once_for_each_width_of_bins(
    files, make_recording, tmp_path, monkeypatch
):
    twice, fast = tmp_path / "twice.nwb", tmp_path / "fast.nwb"
    shutil.copy(files[0], twice)
    shutil.copy(make_recording(seed=3, emg_rate=100.0).path, fast)
    opened = []

    def count(source, **settings):
        opened.append(source.name)
        return open_session(source, **settings)

    monkeypatch.setattr("nwbrnn.readers.pooled.open_session", count)
    plan, unsuitable = plan_pool([twice, *files], ReadConfig())
    assert list(unsuitable) == [1]  # the same trials
    assert [one.name for one in plan.outlines] == ["twice", "tuesday"]
    assert Counter(opened) == {"twice.nwb": 1, "monday.nwb": 1, "tuesday.nwb": 1}
    opened.clear()
    plan, _ = plan_pool([fast, files[0]], ReadConfig())
    assert plan.config.bin_size == 0.02
    assert Counter(opened) == {"fast.nwb": 2, "monday.nwb": 2}


def test_inspect_says_whether_sessions_can_be_pooled(files, make_recording, run_cli, tmp_path):
    found = tmp_path / "found.json"
    assert run_cli("inspect", *files, "--json", found).code == 0
    about = json.loads(found.read_text())
    assert [one["name"] for one in about["sessions"]] == ["monday", "tuesday"]
    assert [one["units"] for one in about["sessions"]] == [12, 12]
    assert about["problems"] == []
    picked = {c["role"]: c["picked"] for c in about["sessions"][1]["choices"]}
    short = run_cli("inspect", *files, "--choices")
    assert short.code == 0
    assert_names(short.out, "monday", "tuesday", picked["outputs"], picked["condition"])
    assert "bins" not in short.out.splitlines()[1]
    words = tmp_path / "words.nwb"
    shutil.copy(make_recording(seed=4, text_condition=True).path, words)
    done = run_cli("inspect", files[0], words)
    assert done.code == 2
    assert_names(done.out, "words", "conditions", "east", "90")


def test_files_that_do_not_match_leave_nothing(files, make_recording, run_cli, tmp_path):
    words = tmp_path / "words.nwb"
    shutil.copy(make_recording(seed=4, text_condition=True).path, words)
    done = run_cli("fit", files[0], words, "-o", tmp_path / "fit.nwb", *SMALL)
    assert done.code == 2
    assert_names(done.err, "words", "conditions", "east", "90")
    twice = run_cli("fit", files[0], files[0], "-o", tmp_path / "fit.nwb", *SMALL)
    assert twice.code == 2
    assert_names(twice.err, "monday_2", "trials", MONDAY)
    assert [path.name for path in tmp_path.iterdir()] == ["words.nwb"]


def test_a_new_day_starts_from_the_file_of_a_pool(files, fitted, make_recording, run_cli, tmp_path):
    path, result = fitted
    day, out = tmp_path / "wednesday.nwb", tmp_path / "new_day.nwb"
    shutil.copy(make_recording(seed=5).path, day)
    done = run_cli(
        "fit", day, "-o", out, *SMALL, "--start-from", path, "--dynamics-weight", 0,
        "--set", "freeze=[recurrent_weights, input_weights, bias, initial_state]",
        "--set", "train_trials=2",
    )  # fmt: skip
    assert (done.code, done.err) == (0, "")
    stored = nwbrnn.read_fit(out)
    np.testing.assert_array_equal(stored.weights["recurrent_weights"], result.weights["recurrent_weights"])
    trained = stored.recorded["split"].values == "train"
    assert max(np.unique(stored.recorded["condition"].values[trained], return_counts=True)[1]) == 2


def test_a_tampered_list_of_sessions_is_refused(fitted, tmp_path):
    path = tmp_path / "tampered.nwb"
    shutil.copy(fitted[0], path)
    with h5py.File(path, "r+") as file:
        text = file["scratch/nwbrnn_fit"][()].decode()
        about = json.loads(text)
        sessions = json.loads(about["dataset"]["attrs"]["sessions"])
        about["dataset"]["attrs"]["sessions"] = json.dumps(sessions[:1])
        file["scratch/nwbrnn_fit"][()] = json.dumps(about)
    with pytest.raises(ReadError, match=names("sessions", "tuesday")):
        nwbrnn.read_fit(path)


def test_five_days_of_a_monkey_are_pooled(shared_data):
    days = ("20120727", "20120807", "20120829", "20120910", "20121017")
    files = [shared_data(f"spike_{day}.nwb") for day in days]
    ds = nwbrnn.read_sessions(files)
    assert ds.sizes["unit"] == 5 * 96
    n_trials = dict(zip(*np.unique(ds["session"].values, return_counts=True), strict=True))
    assert n_trials == dict(zip((f"spike_{day}" for day in days), (202, 172, 202, 124, 244), strict=True))
    lacks = np.isnan(ds["outputs"].values).any(axis=1)
    has_md = ~lacks[:, ds["output"].values.tolist().index("MD")]
    assert set(ds["session"].values[has_md]) == {"spike_20120829", "spike_20120910", "spike_20121017"}
    counts = ds["spike_counts"].values
    assert np.nansum(counts[ds["session"].values == "spike_20120829"]) == np.sum(
        nwbrnn.read_nwb(files[2])["spike_counts"].values
    )


def test_a_unit_of_one_session_is_pushed_and_silenced_by_its_number_in_the_pool(
    files, fitted, run_cli, tmp_path
):
    path, result = fitted
    recorded, found = result.recorded, tmp_path / "effects.json"
    chosen = recorded["sampled"].values & (recorded["session_of_unit"].values == "tuesday")
    row = int(np.flatnonzero(chosen)[0])
    unit, there = int(recorded["unit"].values[row]), int(recorded["session_unit_id"].values[row])
    before = hash_all(files)
    done = run_cli("perturb", path, "--silence", unit, "--json", found)
    assert (done.code, done.err) == (0, "")
    effects = {one["name"]: one for one in json.loads(found.read_text())["effects"]}
    silenced = effects[f"{unit}, {there} of tuesday"]
    predicted = silence(recorded, result.weights, result.config, [unit])
    assert not predicted["rates"].values[..., row].any()
    assert silenced["size"] > 0
    assert sum(name.endswith("of monday") for name in effects) == 12
    assert run_cli("perturb", path, "--unit", unit).code == 0
    moved = tmp_path / path.name  # the sources are elsewhere, and not needed
    shutil.copy(path, moved)
    assert run_cli("perturb", moved, "--unit", unit).code == 0
    unread = run_cli("perturb", path, "--unit", unit, "--source", files[0])
    assert unread.code == 2
    assert_names(unread.err, "--source", "perturbed", files[0])
    unknown = run_cli("perturb", path, "--silence", 999)
    assert unknown.code == 2
    assert_names(unknown.err, 999)
    assert hash_all(files) == before


def test_perturbed_trials_of_a_pool_are_scored_wherever_its_sources_are(files, run_cli, tmp_path):
    out, found = tmp_path / "perturbed.nwb", tmp_path / "found.json"
    assert run_cli("fit", *files, "-o", out, *SMALL, "--set", "perturbed=target_dir").code == 0
    unit = int(nwbrnn.read_fit(out).recorded["unit"].values[0])
    lost = run_cli("perturb", out, "--unit", unit)
    assert lost.code == 2
    assert_names(lost.err, "monday.nwb", "--source")
    renamed = [tmp_path / f"{name}.nwb" for name in ("one", "two")]
    for file, copy in zip(files, renamed, strict=True):
        shutil.copy(file, copy)
    sources = [text for path in renamed for text in ("--source", path)]
    assert run_cli("perturb", out, "--unit", unit, *sources, "--json", found).code == 0
    scores = json.loads(found.read_text())["perturbed_trials"]
    assert all(np.isfinite(list(pair.values())).all() for pair in scores.values())
    swapped = run_cli("perturb", out, "--unit", unit, "--source", renamed[1], "--source", renamed[0])
    assert swapped.code == 2
    assert_names(swapped.err, "two.nwb", MONDAY)


def test_evaluate_and_the_page_score_each_session(fitted, run_cli, tmp_path):
    path, result = fitted
    found = tmp_path / "scores.json"
    done = run_cli("evaluate", path, "--json", found)
    assert done.code == 0
    values = json.loads(found.read_text())
    assert {one["session"] for one in values["scores"]["units"]} == {"monday", "tuesday"}
    recorded, predicted = result.recorded, result.predicted
    muscles = ["FCR", "ECR", "PT"]  # of tuesday
    chosen = {"trial": recorded["session"] == "tuesday", "unit": recorded["session_of_unit"] == "tuesday"}
    alone = nwbrnn.evaluate(*(ds.isel(chosen).sel(output=muscles) for ds in (recorded, predicted)))
    own = values["sessions"]["tuesday"]
    assert [one["name"] for one in own["outputs"]] == muscles
    np.testing.assert_allclose([one["r2"] for one in own["outputs"]], alone.output_r2)
    np.testing.assert_allclose([one["r2"] for one in own["units"]], alone.unit_r2)
    line = next(line for line in done.out.splitlines() if line.split()[:1] == ["tuesday"])
    assert_names(line, f"{alone.get('output R2').value:.3f}")
    assert run_cli("report", path, "-o", tmp_path / "page.html").code == 0
    page = (tmp_path / "page.html").read_text()
    units = recorded["unit"].values, recorded["session_unit_id"].values, recorded["session_of_unit"].values
    for unit, there, session in zip(*(values.tolist() for values in units), strict=True):
        assert f"unit {unit}, {there} of {session}" in page
