"""Files come to be whole where what Windows lacks is taken away (``tests/windows/run.py``)."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import nwbrnn

RUN = Path(__file__).parents[1] / "windows" / "run.py"
pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux tells what is open")


def begin(step, path):
    command = [sys.executable, "-W", "ignore", str(RUN), step, str(path)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def run(step, path):
    """Return what a step returned."""
    process = begin(step, path)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])


def list_names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_every_module_can_be_imported():
    root = Path(nwbrnn.__file__).parent
    files = {path.relative_to(root.parent).with_suffix("") for path in root.rglob("*.py")}
    modules = {".".join(file.parts).removesuffix(".__init__") for file in files} - {"nwbrnn"}
    assert set(run("import_everything", root)) == modules


def test_files_and_folders_are_replaced_whole(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    assert run("write", tmp_path / "a.txt") == "written"
    assert run("write_folder", tmp_path / "b.zarr") == "new"
    assert list_names(tmp_path) == ["a.txt", "b.zarr"]


def test_of_many_at_once_one_gets_the_name(tmp_path):
    found = run("race", tmp_path / "a.txt")
    assert found["outcomes"] == [found["text"], *["refused"] * 7]
    assert list_names(tmp_path) == ["a.txt"]


def test_next_writer_removes_what_a_killed_one_left_and_nothing_else(tmp_path):
    living, killed = begin("hold", tmp_path / "a.txt"), begin("hold", tmp_path / "a.txt")
    assert [process.stdout.readline() for process in (living, killed)] == ["begun\n"] * 2
    killed.kill()
    killed.communicate()
    assert len(list(tmp_path.glob(".nwbrnn-*.tmp.txt"))) == 2
    assert run("write", tmp_path / "b.txt") == "written"
    assert len(list(tmp_path.glob(".nwbrnn-*.tmp.txt"))) == 1
    out, err = living.communicate("\n", timeout=600)
    assert json.loads(out) == "held", err
    assert list_names(tmp_path) == ["a.txt", "b.txt"]


def test_fit_is_exported_in_all_ways(make_recording, tmp_path):
    session = tmp_path / "session.nwb"
    shutil.copy(make_recording().path, session)
    expected = [["new.nwb", True], ["copy.nwb", True], ["session.nwb", True], ["session.nwb", True]]
    assert run("export", session) == expected
    assert list_names(tmp_path) == ["copy.nwb", "new.nwb", "session.nwb"]
