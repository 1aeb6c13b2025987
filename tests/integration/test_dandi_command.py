"""A whole dandiset, from a folder and from an archive of this computer in which much goes wrong."""

import errno
import hashlib
import json
import os
import re
import shutil
import warnings

import h5py
import numpy as np
import pandas as pd
import pytest
from servers import DANDISET, PAGE, Fault, serve_dandi

import nwbrnn
from nwbrnn.dandiset import Settings, analysis, pools, select_assets
from nwbrnn.errors import ConfigError, ExportError, ReadError, UnsupportedFileError
from nwbrnn.storage import find_source, remote
from nwbrnn.sweep import list_finished, rebuild_fit, show_session
from nwbrnn.sweep.cell import run_cell
from tests.messages import assert_names, names

pytestmark = pytest.mark.slow

SMALL = (
    "--set",
    "hidden=20",
    "--set",
    "epochs=3",
    "--set",
    "min_rate=0",
    "--set",
    "processes=1",
    "--sampled",
    "3",
)
FIT = Settings().fit.model_copy(
    update={"hidden": 20, "epochs": 3, "min_rate": 0.0, "processes": 1, "sampled": 3}
)


def read_rows(out):
    """Return the rows of both summaries, which agree."""
    rows = {row["path"]: row for row in json.loads((out / "summary.json").read_text())["assets"]}
    frame = pd.read_csv(out / "summary.csv").set_index("path")
    assert list(frame.index) == list(rows)
    assert frame["status"].tolist() == [row["status"] for row in rows.values()]
    return rows, frame


def list_files(out):
    return {path: path.lstat().st_mtime_ns for path in out.rglob("*") if path.suffix in (".nwb", ".nc")}


@pytest.fixture
def in_process(monkeypatch):
    """Fit in this process: starting others takes longer than the fits."""

    def run(folder, cells, **_):
        for cell in cells:
            run_cell(folder, cell)

    monkeypatch.setattr(analysis, "run_cells", run)


@pytest.fixture(scope="module")
def other(make_recording):
    return make_recording(seed=1).path


@pytest.fixture(scope="module")
def without_emg(make_recording):
    return make_recording(layout="none").path


@pytest.fixture(scope="module")
def large(make_recording):
    """Return a file of several blocks."""
    return make_recording(emg_rate=2000.0).path


# ------------------------------------------------------------------ a folder


@pytest.fixture
def folder(recording, other, without_emg, tmp_path):
    """A downloaded dandiset: two sessions that can be fitted, three files that cannot."""
    root = tmp_path / "000123"
    contents = {
        "sub-T/sub-T_ses-1_behavior+ecephys.nwb": recording.path.read_bytes(),
        "sub-U/sub-U_ses-1_behavior+ecephys.nwb": other.read_bytes(),
        "sub-V/sub-V_ses-1_ecephys.nwb": without_emg.read_bytes(),
        "sub-W/sub-W_ses-1.nwb": b"not NWB",
    }
    for path, content in contents.items():
        (root / path).parent.mkdir(parents=True)
        (root / path).write_bytes(content)
    (root / "sub-X").mkdir()
    (root / "sub-X" / "sub-X_ses-1.nwb").symlink_to(root / ".git" / "annex")
    return root


@pytest.mark.first
def test_a_folder_is_fitted_once_and_what_changes_again(folder, recording, run_cli, tmp_path, request):
    out = tmp_path / "fits"
    command = ("dandi", folder, "-o", out, *SMALL, "--seeds", "2")
    finished = run_cli(*command)
    assert (finished.code, finished.err) == (1, "")
    assert "5 assets: 2 fitted, 3 failed" in finished.out
    rows, frame = read_rows(out)
    reasons = {path.split("/")[0]: row["reason"] for path, row in rows.items()}
    assert reasons["sub-T"] == reasons["sub-U"] == ""
    assert_names(reasons["sub-V"], "outputs", "time series")
    assert_names(reasons["sub-W"], "HDF5", ".nwb")
    assert_names(reasons["sub-X"], "NWB", "check")
    first = rows["sub-T/sub-T_ses-1_behavior+ecephys.nwb"]
    assert first["derivative"] == "sub-T/sub-T_ses-1_desc-nwbrnn_behavior+ecephys.nwb"
    assert (first["units"], first["outputs"], first["sampled"], first["seeds"]) == (12, 3, 3, 2)
    result = nwbrnn.read_fit(out / first["derivative"])
    assert first["output_r2"] == pytest.approx(result.scores.get("output R2").value, abs=1e-6)
    assert first["output_known_average"] == pytest.approx(
        result.scores.get("output R2").known_average, abs=1e-6
    )
    average = first["baselines"]["condition average"]
    assert average["output_r2"] == pytest.approx(first["output_known_average"], abs=1e-6)
    assert frame.loc[first["path"], "unsampled_r2, untrained network"] == pytest.approx(
        first["baselines"]["untrained network"]["unsampled_r2"]
    )
    assert "condition average" in first["verdict"]
    assert first["unsampled_r2"] == pytest.approx(result.scores.get("unsampled neurons R2").value, abs=1e-6)
    assert result.best.seed == first["seed"]
    assert frame.loc[first["path"], "notes"] == len(nwbrnn.diagnose(recording.path))
    assert frame.loc[first["path"], "biases"] == 0

    before = list_files(out)
    again = run_cli(*command)
    assert (again.code, again.err) == (1, "")
    assert list_files(out) == before  # nothing was fitted or written
    with (folder / first["path"]).open("ab") as stream:  # HDF5 does not mind
        stream.write(b"\0" * 1000)
    request.getfixturevalue("in_process")
    changed = run_cli(*command)
    assert (changed.code, changed.err) == (1, "")
    after = list_files(out)
    derivatives = {path: time for path, time in before.items() if path.suffix == ".nwb"}
    rewritten = [path.name for path in derivatives if after[path] != before[path]]
    assert rewritten == ["sub-T_ses-1_desc-nwbrnn_behavior+ecephys.nwb"]


@pytest.mark.cover
def test_listing_and_checking_write_nothing(folder, run_cli):
    before = list_files(folder)
    listed = run_cli("dandi", folder, "--list", "--path", "sub-[TV]/*.nwb")
    assert (listed.code, listed.err) == (0, "")
    assert "2 assets" in listed.out
    checked = run_cli("dandi", folder, "--check")
    assert (checked.code, checked.err) == (1, "")
    assert "2 checked, 3 failed" in checked.out
    assert list_files(folder) == before


@pytest.mark.cover
def test_a_check_lists_what_was_found_and_where(recording, run_cli, tmp_path):
    for subject in ("A", "B"):
        path = tmp_path / "000124" / f"sub-{subject}" / f"sub-{subject}_ses-1.nwb"
        path.parent.mkdir(parents=True)
        shutil.copy(recording.path, path)
        with h5py.File(path, "r+") as file:
            file["intervals/trials/stop_time"][10] = recording.start[11] + 0.5
    checked = run_cli("dandi", tmp_path / "000124", "--check")
    assert checked.code == 0
    _, title, rows = re.split(r"(?m)^ *(rule .*)\n", checked.out)
    assert title.split()[:3] == ["rule", "asset:", "object"]
    assert rows.count("trials_overlap") == 1  # one problem, two assets
    assert "sub-A_ses-1: intervals/trials" in rows
    assert "sub-B_ses-1: intervals/trials" in rows
    assert_names(rows, "--where")


@pytest.mark.cover
def test_a_check_is_not_repeated_by_the_fit(folder, run_cli, tmp_path, monkeypatch, in_process):
    only = ("--path", "sub-T/*.nwb", "-o", tmp_path / "fits")
    checked = run_cli("dandi", folder, "--check", *only)
    assert (checked.code, checked.err) == (0, "")
    monkeypatch.setattr("nwbrnn.dandiset.rows.diagnose", None)  # whoever calls it fails
    finished = run_cli("dandi", folder, *only, *SMALL)
    assert (finished.code, finished.err) == (0, "")
    other = run_cli("dandi", folder, "--path", "sub-V/*.nwb", "-o", tmp_path / "fits", *SMALL)
    assert other.code == 1
    assert [row["status"] for row in read_rows(tmp_path / "fits")[0].values()] == ["fitted", "failed"]


def test_an_asset_whose_fit_fails_does_not_stop_the_others(
    folder, run_cli, tmp_path, monkeypatch, in_process
):
    write = analysis.write_fit

    def fail_for_t(result, source, path, **options):
        if "sub-T" in str(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        write(result, source, path, **options)

    monkeypatch.setattr(analysis, "write_fit", fail_for_t)
    out = tmp_path / "fits"
    (out / "sub-U").parent.mkdir()
    (out / "summary.json").write_text(json.dumps({"dandiset": str(folder), "assets": []}))
    (out / "sub-U").symlink_to(tmp_path)
    finished = run_cli("dandi", folder, "-o", out, "--path", "sub-[TU]/*.nwb", *SMALL)
    assert (finished.code, finished.err) == (1, "")
    first, second = read_rows(out)[0].values()
    assert_names(first["reason"], "OSError", os.strerror(errno.ENOSPC), out / first["derivative"])
    assert_names(second["reason"], out / "sub-U", "link")
    assert not list(tmp_path.glob("*.nwb"))


@pytest.mark.cover
def test_another_dandiset_or_folder_is_refused(folder, tmp_path, run_cli):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "mother.txt").write_text("Dear")
    selection = select_assets(str(folder))
    with pytest.raises(ExportError, match=names(tmp_path / "letters", "output")):
        analysis.Journal(selection, tmp_path / "letters")
    analysis.Journal(selection, tmp_path / "fits")
    other = select_assets(str(tmp_path / "letters"))
    with pytest.raises(ExportError, match=names(tmp_path / "fits", tmp_path / "letters", folder)):
        analysis.Journal(other, tmp_path / "fits")
    refused = run_cli("dandi", folder)
    assert (refused.code, refused.err.split(":")[1]) == (2, " --output")


# ------------------------------------------------------------------ pools


@pytest.fixture
def subjects(recording, other, make_recording, without_emg, tmp_path):
    """A dandiset: subject T with two sessions that can be pooled and four other files, and U with one."""
    root = tmp_path / "000125"
    third, else_ = make_recording(seed=2).path, tmp_path / "else.nwb"
    shutil.copy(make_recording(seed=3).path, else_)
    with h5py.File(else_, "r+") as file:
        emg = file["acquisition/EMG"]
        for old, new in (("FCR", "A"), ("FCU", "B"), ("ECR", "C")):
            emg.attrs["comments"] = emg.attrs["comments"].replace(old, new)
    contents = {
        "sub-T/sub-T_ses-0_ecephys.nwb": without_emg,
        "sub-T/sub-T_ses-1_behavior+ecephys.nwb": recording.path,
        "sub-T/sub-T_ses-2_behavior+ecephys.nwb": other,
        "sub-T/sub-T_ses-3_behavior+ecephys.nwb": else_,
        "sub-T/sub-T_ses-4_behavior+ecephys.nwb": recording.path,
        "sub-U/sub-U_ses-1_behavior+ecephys.nwb": third,
    }
    for path, source in contents.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, root / path)
    (root / "sub-T" / "sub-T_ses-5.nwb").write_bytes(b"not NWB")
    return root


@pytest.mark.first
@pytest.mark.cover
def test_the_assets_of_a_subject_are_pooled_and_what_does_not_suit_is_named(
    subjects, run_cli, tmp_path, monkeypatch, in_process
):
    out = tmp_path / "fits"
    command = ("dandi", subjects, "-o", out, "--pool", "subject", *SMALL)
    finished = run_cli(*command)
    assert (finished.code, finished.err) == (1, "")
    rows, frame = read_rows(out)
    session = {path.split("ses-")[1][0]: row for path, row in rows.items() if row["subject"] == "T"}
    pool = [session[n]["path"] for n in "12"]
    fitted = {path for path, row in rows.items() if row["status"] == "fitted"}
    assert fitted == {*pool, "sub-U/sub-U_ses-1_behavior+ecephys.nwb"}
    assert_names(session["0"]["reason"], "outputs", "time series")
    assert_names(session["3"]["reason"], "outputs", "A, B, C", "FCR")
    assert_names(session["4"]["reason"], "trials", "sub-T_ses-1_behavior+ecephys")
    assert_names(session["5"]["reason"], "HDF5")
    assert session["1"]["pool"] == session["2"]["pool"] == pool
    assert frame.loc[pool, "sessions"].tolist() == [2, 2]
    assert frame.loc["sub-U/sub-U_ses-1_behavior+ecephys.nwb", "sessions"] == 1
    assert session["1"]["derivative"] == session["2"]["derivative"]
    assert session["1"]["derivative"] == "sub-T/sub-T_desc-pool-nwbrnn_ecephys.nwb"

    result = nwbrnn.read_fit(out / session["1"]["derivative"])
    again = nwbrnn.read_sessions([subjects / path for path in pool])
    assert result.recorded.equals(nwbrnn.fit(again, FIT).recorded)
    for number, one in enumerate((session["1"], session["2"])):  # the scores of its own neurons
        mine = result.recorded["session_of_unit"].values == result.recorded["recording"].values[number]
        r2 = result.scores.unit_r2[mine & ~result.recorded["sampled"].values]
        assert one["unsampled_r2"] == pytest.approx(np.median(r2), abs=1e-4)
        assert (one["units"], one["sampled"]) == (12, 3)
    page = (out / session["1"]["derivative"]).with_suffix(".html").read_text(encoding="utf-8")
    assert all(path in page for path in pool)
    assert json.loads((out / "sweep" / "sweep.json").read_text())["grid"]["pool"] == "subject"
    alone = nwbrnn.read_fit(out / "sub-U/sub-U_ses-1_desc-nwbrnn_behavior+ecephys.nwb")
    assert "session_of_unit" not in alone.recorded.coords

    before = list_files(out)
    again = run_cli(*command)
    assert (again.code, again.err) == (1, "")
    assert list_files(out) == before  # nothing was fitted or written
    with monkeypatch.context() as patch:  # what an interrupt leaves is read no more than once
        (out / session["1"]["derivative"]).unlink()
        patch.setattr("nwbrnn.dandiset.pools.read_session", None)
        assert run_cli(*command).code == 1
    after = list_files(out)
    assert [path.name for path in before if after[path] != before[path]] == [
        "sub-T_desc-pool-nwbrnn_ecephys.nwb"
    ]
    (subjects / pool[1]).unlink()  # now the first is alone
    assert run_cli(*command).code == 1
    row = read_rows(out)[0][pool[0]]
    assert (row["status"], row["pool"]) == ("fitted", [])
    assert "session_of_unit" not in nwbrnn.read_fit(out / row["derivative"]).recorded.coords
    written = {path.relative_to(out).as_posix() for path in out.glob("sub-*/*")}
    fits = [one["derivative"] for one in read_rows(out)[0].values() if one["derivative"]]
    fits += json.loads((out / "summary.json").read_text())["superseded"]  # the other asset may come back
    assert written == {name for fit in fits for name in (fit, fit.replace(".nwb", ".html"))}


def test_an_asset_that_breaks_while_it_is_read_is_left_out_of_the_pool(
    subjects, run_cli, tmp_path, monkeypatch, in_process
):
    read = pools.read_session

    def fail_for_first(source, plan, number):
        if "ses-1" in source.name:
            raise ReadError(f"{source.name}: broken")
        return read(source, plan, number)

    monkeypatch.setattr(pools, "read_session", fail_for_first)
    monkeypatch.setattr(analysis, "_write", lambda *_: None)
    monkeypatch.setattr(analysis, "run_cells", lambda *_, **__: None)
    command = (
        "dandi",
        subjects,
        "-o",
        tmp_path / "fits",
        "--pool",
        "subject",
        "--path",
        "sub-T/*_ses-[124]_*",
    )
    shutil.copy(
        subjects / "sub-U/sub-U_ses-1_behavior+ecephys.nwb", subjects / "sub-T/sub-T_ses-4_ecephys.nwb"
    )
    (subjects / "sub-T" / "sub-T_ses-4_behavior+ecephys.nwb").unlink()
    assert run_cli(*command, *SMALL).code == 1
    first, *others = read_rows(tmp_path / "fits")[0].values()
    assert_names(first["reason"], "broken")
    assert not first["pool"]
    assert [one["pool"] for one in others] == [[one["path"] for one in others]] * 2


def create_subject(root, *sources):
    """Create the folder of a dandiset with the sessions of one subject."""
    (root / "sub-T").mkdir(parents=True)
    for number, source in enumerate(sources):
        shutil.copy(source, root / "sub-T" / f"sub-T_ses-{number}.nwb")


def test_assets_of_a_pool_are_scored_on_the_trained_time_as_others_are(
    recording, other, run_cli, tmp_path, monkeypatch, in_process
):
    monkeypatch.setattr(analysis, "_write", lambda *_: None)
    root, out = tmp_path / "000127", tmp_path / "fits"
    create_subject(root, recording.path, other)
    run_cli("dandi", root, "-o", out, "--pool", "subject", *SMALL, "--set", "train_until=0.2")
    (cell,) = list_finished(out / "sweep")
    fitted = rebuild_fit(out / "sweep", cell)
    for row, name in zip(read_rows(out)[0].values(), cell.sessions, strict=True):
        shown = show_session(fitted, out / "sweep", cell, name)
        trained = shown.recorded["time"].values <= 0.2
        pair = (ds.isel(time=trained) for ds in (shown.recorded, shown.predicted))
        assert row["output_r2"] == pytest.approx(nwbrnn.evaluate(*pair).get("output R2").value, abs=1e-6)


def test_a_session_that_is_too_small_to_be_tested_leaves_the_others_their_scores(
    recording, other, run_cli, tmp_path, monkeypatch, in_process
):
    monkeypatch.setattr(analysis, "_write", lambda *_: None)
    root, out = tmp_path / "000128", tmp_path / "fits"
    create_subject(root, recording.path, other)
    with h5py.File(root / "sub-T" / "sub-T_ses-1.nwb", "r+") as file:
        result, directions = (file[f"intervals/trials/{name}"] for name in ("result", "target_dir"))
        good = [result[:].astype("U") == "R", directions[:]]
        kept = [int(np.flatnonzero(good[0] & (good[1] == direction))[0]) for direction in (0, 90)]
        result[:] = ["R" if row in kept else "F" for row in range(len(result))]
    done = run_cli("dandi", root, "-o", out, "--pool", "subject", *SMALL)
    assert (done.code, done.err) == (0, "")
    large, small = read_rows(out)[0].values()
    assert large["pool"] == small["pool"] == [large["path"], small["path"]]
    assert np.isfinite(large["output_r2"])
    assert small["output_r2"] is None
    assert_names(small["verdict"], "session sub-T_ses-1", "test", "2 trials")


def test_data_of_an_earlier_state_of_an_asset_are_not_pooled(
    recording, other, run_cli, tmp_path, monkeypatch
):
    monkeypatch.setattr(analysis, "run_cells", lambda *_, **__: None)  # only what is read counts here
    root, out = tmp_path / "000126", tmp_path / "fits"
    (root / "sub-T").mkdir(parents=True)
    changed, second = (root / "sub-T" / f"sub-T_ses-{number}.nwb" for number in (1, 2))
    shutil.copy(recording.path, changed)
    shutil.copy(other, second)
    command, pooled = ("dandi", root, "-o", out, *SMALL), ("--pool", "subject")
    run_cli(*command, *pooled)
    with changed.open("ab") as stream:  # HDF5 does not mind
        stream.write(b"\0" * 1000)
    described = out / "sweep" / "sweep.json"
    assert json.loads(described.read_text())["grid"]["pool"] == "subject"
    run_cli(*command)
    assert json.loads(described.read_text())["grid"]["pool"] is False
    run_cli(*command, *pooled)
    kept = [nwbrnn.read_dataset(path) for path in (out / "sweep" / "data").glob("sub-T_ses-1-*.nc")]
    expected = hashlib.sha256(changed.read_bytes()).hexdigest()
    assert [ds.attrs["source_sha256"] for ds in kept] == [expected] * 2  # alone, and for the pool


def test_a_check_says_which_assets_cannot_be_pooled(subjects, run_cli):
    checked = run_cli("dandi", subjects, "--check", "--pool", "subject")
    assert (checked.code, checked.err) == (1, "")
    assert "7 assets: 3 checked, 4 failed" in checked.out
    refused = run_cli("dandi", subjects, "--check", "--pool", "animal")
    assert refused.code == 2
    assert_names(refused.err, "--pool", "subject", "'animal'")


def test_a_file_whose_path_names_no_subject_says_it_itself(recording, other, tmp_path, run_cli):
    root = tmp_path / "mine"
    root.mkdir()
    for name, source in (("a", recording.path), ("b", other)):
        shutil.copy(source, root / f"{name}.nwb")
        with h5py.File(root / f"{name}.nwb", "r+") as file:
            file["general/subject/subject_id"][()] = "Spike 1"
    checked = run_cli("dandi", root, "--check", "--pool", "subject", "-o", tmp_path / "out")
    assert (checked.code, checked.err) == (0, "")
    rows, _ = read_rows(tmp_path / "out")
    assert [row["subject"] for row in rows.values()] == ["Spike 1"] * 2


# ------------------------------------------------------------------ an archive


@pytest.fixture
def archive(recording, large, tmp_path, monkeypatch, in_process):
    """An archive of two pages, whose client waits and repeats less than it would."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = pytest.importorskip("dandi.dandiapi", reason="the package dandi is not installed")
    monkeypatch.setattr(client, "REQUEST_RETRIES", 2)
    for name in ("dropped", "embargoed", "fine", "missing", "once", "stalled"):
        path = tmp_path / "archive" / f"sub-{name}" / f"sub-{name}_ecephys.nwb"
        path.parent.mkdir(parents=True)
        os.link(large if name in ("dropped", "stalled") else recording.path, path)
    monkeypatch.setenv("DANDI_NO_ET", "1")
    monkeypatch.setattr(remote, "READ_TIMEOUT", 4)  # an honest answer may take a while on a busy machine
    monkeypatch.setattr(remote, "TRIES", 3)
    monkeypatch.setattr(remote, "PAUSE", 0.01)
    with serve_dandi(tmp_path / "archive") as server:
        monkeypatch.setenv("DANDI_INSTANCE", server.url)
        yield server


def get_path(name):
    return f"/sub-{name}/sub-{name}_ecephys.nwb"


def find_download(server, name):
    (path,) = (path for path, target in server.redirects.items() if get_path(name) in target)
    return path


@pytest.mark.first
def test_an_archive_in_which_much_goes_wrong(archive, run_cli, tmp_path):
    archive.faults |= {
        get_path("dropped"): Fault("drop", start=1 << 20),
        get_path("stalled"): Fault("stall", start=1 << 20),
        get_path("once"): Fault("drop", times=2),
        get_path("missing"): Fault(404),
        find_download(archive, "embargoed"): Fault(401),
    }
    archive.key = "secret"
    out = tmp_path / "fits"
    command = (
        "dandi",
        f"{archive.url}/dandiset/{DANDISET}/draft",
        "--path",
        "sub-*/*.nwb",
        "-o",
        out,
        *SMALL,
    )
    with archive.outlasted():
        finished = run_cli(*command)
    assert (finished.code, finished.err) == (1, "")
    rows = {path.split("/")[0].removeprefix("sub-"): row for path, row in read_rows(out)[0].items()}
    assert len(rows) == 6 > PAGE
    assert {name for name, row in rows.items() if row["status"] == "fitted"} == {"fine", "once"}
    reasons = {name: row["reason"] for name, row in rows.items()}
    assert_names(reasons["dropped"], "bytes", "ClientPayloadError", "download")
    assert_names(reasons["stalled"], "bytes", "4 s", 3, "download")
    assert_names(reasons["missing"], "Not Found")
    assert_names(reasons["embargoed"], 401)
    assert "_API_KEY" in reasons["embargoed"]
    address = f"dandi://{DANDISET}/sub-fine/sub-fine_ecephys.nwb@draft"
    assert nwbrnn.read_fit(out / rows["fine"]["derivative"]).recorded.attrs["source_file"] == address

    fetched = [one for one in archive.requests if one.startswith(f"GET {get_path('fine')}")]
    size = (tmp_path / "archive" / get_path("fine")[1:]).stat().st_size
    assert len(fetched) <= -(-size // remote.BLOCK_SIZE)  # each block once, though it is opened four times

    archive.faults.clear()
    archive.reset()
    again = run_cli(*command[:3], "sub-[dfo]*/*.nwb", *command[4:])
    assert (again.code, again.err) == (0, "")
    asked = {request.split()[1].split("?")[0] for request in archive.requests}
    assert get_path("dropped") in asked
    assert not asked & {get_path("fine"), get_path("once")}  # finished before


def test_tries_are_bounded(archive):
    archive.faults[get_path("dropped")] = Fault("drop", start=1 << 20)
    address = f"dandi://{DANDISET}{get_path('dropped')}"
    with pytest.raises(nwbrnn.NwbrnnError, match=names(address, "bytes", "download")):
        nwbrnn.read_nwb(address)
    assert (
        archive.requests.count(f"GET {get_path('dropped')}") <= 3 + 3
    )  # those before the fault, three tries


def test_what_is_embargoed_is_read_with_a_key(archive, monkeypatch):
    archive.faults[find_download(archive, "embargoed")] = Fault(401)
    archive.key = "secret"
    address = f"dandi://{DANDISET}{get_path('embargoed')}"
    with pytest.raises(UnsupportedFileError, match=names(address, 401)) as refused:
        find_source(address)
    variable = re.search(r"\S+_API_KEY\b", str(refused.value))[0]
    monkeypatch.setenv(variable, "secret")
    assert find_source(address).url.endswith("?X-Amz-Signature=abc")  # of no use to others, and for a while
    assert nwbrnn.read_nwb(address).attrs["source_file"] == address


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(401), [401]),
        (Fault(404), ["'draft'", DANDISET]),
        (Fault("stall"), ["3 s"]),
    ],
)
def test_a_dandiset_that_cannot_be_listed(fault, words, archive, run_cli, monkeypatch, tmp_path):
    monkeypatch.setattr("nwbrnn.storage.dandi.TIMEOUT", (20.0, 3.0))
    archive.faults[f"/api/dandisets/{DANDISET}/versions/draft/assets/"] = fault
    with archive.outlasted():
        finished = run_cli("dandi", f"dandi://{DANDISET}", "-o", tmp_path / "fits")
    assert finished.code == 2
    assert finished.err.startswith(f"Error: dandi://{DANDISET}@draft: ")
    assert_names(finished.err, *words)
    assert not (tmp_path / "fits").exists()


def test_only_what_begins_like_the_pattern_is_asked_for(archive):
    selection = select_assets(DANDISET, "sub-fine/**/*.nwb")
    assert [asset.path for asset in selection.assets] == ["sub-fine/sub-fine_ecephys.nwb"]
    assert any(request.endswith("assets/?path=sub-fine%2F") for request in archive.requests)


def test_another_archive_than_the_client_is_set_to_is_refused(archive, tmp_path):
    (tmp_path / "other").mkdir()
    with (
        serve_dandi(tmp_path / "other") as other,
        pytest.raises(UnsupportedFileError, match="DANDI_INSTANCE") as no,
    ):
        select_assets(f"{other.url}/dandiset/{DANDISET}")
    assert_names(str(no.value), other.url, f"DANDI_INSTANCE to {other.url}")


def test_a_scheduler_that_is_not_there_is_said_at_once(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("nwbrnn.sweep.run.CONNECT_TIMEOUT", 2)
    selection = select_assets(str(folder), "sub-T/*.nwb")
    journal = analysis.Journal(selection, tmp_path / "fits")
    address = "tcp://127.0.0.1:9"
    with pytest.raises(ConfigError, match=names("scheduler", f"'{address}'", "'dask scheduler'")):
        analysis.fit_assets(selection, journal, Settings(fit=FIT), scheduler=address)
