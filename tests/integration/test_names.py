"""Names that no system takes, that are not UTF-8, or of what is no file: an error, or a row, and no hang."""

import contextlib
import os
import shutil
import socket
from pathlib import Path

import pytest
from test_outputs import NAMES, create_arguments, load

from nwbrnn.cli.access import Access
from nwbrnn.dandiset import Journal, check_assets, select_assets
from nwbrnn.errors import ExportError, NwbrnnError
from nwbrnn.job import fit
from nwbrnn.storage import find_source, open_saved
from nwbrnn.storage.atomic import replace_whole
from nwbrnn.storage.names import MAX_NAME, find_fault

pytestmark = pytest.mark.slow

LATIN = os.fsdecode(b"sub-\xe9.nwb")
ODD = {
    "too long": "a" * MAX_NAME + ".nwb",
    "too long in bytes": "é" * 128 + ".nwb",
    "Latin-1": LATIN,
    "surrogate": "sub-\udcff.nwb",
    "folder in Latin-1": f"{os.fsdecode(bytes([0xE9]))}/sub.nwb",
    "path too long": "/".join(["a" * 200] * 25) + ".nwb",
}


def list_paths():
    """Return each path that a command takes."""
    return [(name, parameter) for name in NAMES for parameter in load(name).accesses]


def make_special(kind, path):
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        # its address has at most 107 bytes, which a whole path may exceed
        with socket.socket(socket.AF_UNIX) as one, contextlib.chdir(path.parent):
            one.bind(path.name)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "dangling":
        path.symlink_to("nothing")
    elif kind == "circle":
        path.symlink_to(path)
    return path


SPECIAL = ("pipe", "socket", "device", "folder", "dangling", "circle")


@pytest.mark.parametrize("kind", list(ODD))
@pytest.mark.parametrize(("name", "parameter"), list_paths())
def test_no_command_begins_with_a_name_that_cannot_be_used(name, parameter, kind, tmp_path, run_cli):
    values = {one: tmp_path / f"{one}.nwb" for one in load(name).accesses} | {parameter: tmp_path / ODD[kind]}
    finished = run_cli(name, *create_arguments(name, values))
    assert finished.code == 2, finished
    assert finished.err.startswith("Error: ")
    assert len(finished.err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize(
    ("name", "parameter"), [(n, p) for n, p in list_paths() if load(n).accesses[p] is Access.READ]
)
def test_no_command_reads_what_is_no_file(name, parameter, kind, tmp_path, run_cli):
    if parameter == "config":
        return  # a pipe is one way to give it
    values = {one: tmp_path / f"{one}.nwb" for one in load(name).accesses if one != "config"}
    if name == "convert":
        values[parameter] = values[parameter].with_suffix(".npz")
    make_special(kind, values[parameter])
    finished = run_cli(name, *create_arguments(name, values))
    if (name, kind) == ("dandi", "folder"):
        assert finished.code == 0  # a folder without assets
        return
    assert (finished.code, len(finished.err.splitlines())) == (2, 1), finished
    assert str(tmp_path) in finished.err


@pytest.mark.slow
def test_a_fit_whose_checkpoint_has_too_long_a_name_is_refused_at_once(recording, tmp_path, run_cli):
    for length in (MAX_NAME - 4, MAX_NAME):
        output = tmp_path / ("a" * (length - 4) + ".nwb")
        finished = run_cli("fit", recording.path, "-o", output, "--epochs", "1", "--hidden", "12")
        assert (finished.code, finished.out) == (2, "")
        assert str(MAX_NAME) in finished.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_longest_names_are_read_and_written(recording, tmp_path, run_cli):
    source, output = (tmp_path / (letter * (MAX_NAME - 4) + ".nwb") for letter in "ab")
    shutil.copy(recording.path, source)
    assert run_cli("inspect", source, "--json", tmp_path / ("c" * MAX_NAME)).code == 0
    assert run_cli("read", source, "-o", tmp_path / ("d" * (MAX_NAME - 3) + ".nc")).code == 0
    shorter = output.with_name("b" * 200 + ".nwb")
    assert (
        run_cli("fit", source, "-o", shorter, "--epochs", "1", "--hidden", "12", "--bin-size", "0.1").code
        == 0
    )
    assert run_cli("report", shorter, "-o", tmp_path / ("e" * (MAX_NAME - 5) + ".html")).code == 0
    assert run_cli("export", shorter, "-o", output).code == 0


def test_python_refuses_such_names_at_once(tmp_path, teacher):
    for kind, name in {**ODD, "zero byte": "a\0b.nwb"}.items():
        path = tmp_path / name
        with pytest.raises(NwbrnnError):
            find_source(path)
        with pytest.raises(NwbrnnError):
            open_saved(path)
        with pytest.raises(ExportError), replace_whole(path, overwrite=False):
            pytest.fail(kind)
        with pytest.raises(ExportError):
            fit(teacher.ds, epochs=1, hidden=12, checkpoint=path)
        assert find_fault(path)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def odd_folder(recording, tmp_path):
    """Return a folder of assets with every kind of name, and one that can be read."""
    folder = tmp_path / "dandiset"
    (folder / "sub-a").mkdir(parents=True)
    for name in (LATIN, "fine.nwb", "f" * (MAX_NAME - 4) + ".nwb", "é" * 125 + ".nwb", "new\nline.nwb"):
        os.link(recording.path, folder / "sub-a" / name)
    for kind in SPECIAL:
        make_special(kind, folder / "sub-a" / f"{kind}.nwb")
    return folder


def test_every_name_in_a_dandiset_is_a_row(odd_folder, tmp_path, run_cli):
    output = tmp_path / "fits"
    finished = run_cli("dandi", odd_folder, "--check", "-o", output)
    assert (finished.code, finished.err) == (1, "")
    rows = check_assets(select_assets(str(odd_folder)), Journal(select_assets(str(odd_folder)), output))
    assert {row.path for row in rows if row.status == "checked"} >= {"sub-a/fine.nwb"}
    failed = {row.path for row in rows if row.status == "failed"}
    expected = {f"sub-a/{kind}.nwb" for kind in SPECIAL if kind != "folder"}
    assert failed == expected | {r"sub-a/sub-\udce9.nwb"}
    again = run_cli("dandi", odd_folder, "--check", "-o", output)
    assert (again.code, again.err) == (1, "")


@pytest.mark.slow
def test_the_fits_of_a_dandiset_go_on_beside_such_names(odd_folder, tmp_path, run_cli, in_process):
    settings = [word for one in ("epochs=1", "hidden=12", "sampled=2") for word in ("--set", one)]
    finished = run_cli("dandi", odd_folder, "-o", tmp_path / "fits", *settings)
    assert (finished.code, finished.err) == (1, "")
    assert (tmp_path / "fits" / "sub-a" / "fine_desc-nwbrnn.nwb").exists()
    text = Path(tmp_path / "fits" / "summary.csv").read_text(encoding="utf-8")
    assert text.count(",fitted,") == 1
    assert str(MAX_NAME) in text  # names that are too long for a derivative
