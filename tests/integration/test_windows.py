"""Files come to be whole where what Windows lacks is taken away (``tests/windows/run.py``)."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import nwbrnn

RUN = Path(__file__).parents[1] / "windows" / "run.py"
pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux tells what is open"),
    pytest.mark.slow,
]


def begin(*steps):
    command = [sys.executable, "-W", "ignore", str(RUN), *map(str, steps)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def run(*steps):
    """Return what each step returned, given with its path."""
    process = begin(*steps)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])


def list_names(folder):
    return sorted(path.name for path in folder.iterdir())


@dataclass
class Done:
    """What each step returned, and the names that it left in its folder."""

    results: dict
    names: dict


@pytest.fixture(scope="module")
def done(make_recording, tmp_path_factory):
    """Do everything that one process can do."""
    paths = {"import_everything": "x", "write": "a.txt", "write_folder": "b.zarr", "race": "a.txt"}
    folders = {step: tmp_path_factory.mktemp(step) for step in [*paths, "export"]}
    (folders["write"] / "a.txt").write_text("old")
    shutil.copy(make_recording().path, folders["export"] / "session.nwb")
    steps = [(step, folders[step] / paths.get(step, "session.nwb")) for step in folders]
    results = run(*(part for step in steps for part in step))
    names = {step: list_names(folder) for step, folder in folders.items()}
    return Done(dict(zip(folders, results, strict=True)), names)


def test_every_module_can_be_imported(done):
    root = Path(nwbrnn.__file__).parent
    files = {path.relative_to(root.parent).with_suffix("") for path in root.rglob("*.py")}
    modules = {".".join(file.parts).removesuffix(".__init__") for file in files} - {"nwbrnn"}
    assert set(done.results["import_everything"]) == modules


def test_files_and_folders_are_replaced_whole(done):
    assert (done.results["write"], done.names["write"]) == ("written", ["a.txt"])
    assert (done.results["write_folder"], done.names["write_folder"]) == ("new", ["b.zarr"])


def test_of_many_at_once_one_gets_the_name(done):
    found = done.results["race"]
    assert found["outcomes"] == [found["text"], *["refused"] * 7]
    assert done.names["race"] == ["a.txt"]


def test_next_writer_removes_what_a_killed_one_left_and_nothing_else(tmp_path):
    living, killed = begin("hold", tmp_path / "a.txt"), begin("hold", tmp_path / "a.txt")
    assert [process.stdout.readline() for process in (living, killed)] == ["begun\n"] * 2
    killed.kill()
    killed.communicate()
    assert len(list(tmp_path.glob(".nwbrnn-*.tmp.txt"))) == 2
    assert run("write", tmp_path / "b.txt") == ["written"]
    assert len(list(tmp_path.glob(".nwbrnn-*.tmp.txt"))) == 1
    out, err = living.communicate("\n", timeout=600)
    assert json.loads(out) == ["held"], err
    assert list_names(tmp_path) == ["a.txt", "b.txt"]


def test_fit_is_exported_in_all_ways(done):
    expected = [["new.nwb", True], ["copy.nwb", True], ["session.nwb", True], ["session.nwb", True]]
    assert done.results["export"] == expected
    assert done.names["export"] == ["copy.nwb", "new.nwb", "session.nwb"]
