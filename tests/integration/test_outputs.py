"""What a command writes is apart from everything that it reads: of all commands, from the program itself."""

import importlib
import inspect
import itertools
import os
import stat
from pathlib import Path
from typing import get_args

import h5py
import pytest

from nwbrnn.cli.access import Access
from nwbrnn.cli.main import COMMANDS, Commands
from nwbrnn.errors import ExportError
from nwbrnn.storage.paths import check_apart, check_output, create_temporary_name
from nwbrnn.training import remove_checkpoint

NAMES = [name for group in COMMANDS.values() for name in group]
ALIASES = {
    "itself": lambda path, alias: path,
    "symbolic link": lambda path, alias: alias.symlink_to(path) or alias,
    "hard link": lambda path, alias: alias.hardlink_to(path) or alias,
    "through a folder": lambda path, alias: path.parent / "x" / ".." / path.name,
}


def load(name):
    return Commands(name="nwbrnn").get_command(None, name)


def list_pairs():
    pairs = []
    for name in NAMES:
        accesses = load(name).accesses
        writes = [p for p, access in accesses.items() if access is Access.WRITE]
        reads = [p for p, access in accesses.items() if access is Access.READ]
        pairs += [(name, *pair) for pair in itertools.product(writes, reads)]
    return pairs


def create_arguments(name, values):
    arguments = []
    for parameter in load(name).params:
        if parameter.name in values:
            option = parameter.opts[:1] if parameter.param_type_name == "option" else []
            arguments += [*option, values[parameter.name]]
    return arguments


@pytest.mark.parametrize("name", NAMES)
def test_every_path_of_a_command_is_marked_as_read_or_written(name):
    function = getattr(importlib.import_module(f"nwbrnn.cli.{name}"), name)
    paths = {
        parameter.name
        for parameter in inspect.signature(function).parameters.values()
        if Path in (base := get_args(parameter.annotation))[:1] or base[:1] == (Path | None,)
    }
    marked = load(name).accesses
    assert paths <= set(marked)
    assert Access.READ in marked.values() or name in ("reproduce", "config")
    options = {option: p.name for p in load(name).params for option in p.opts}
    assert all(marked[options[o]] is Access.WRITE for o in ("--output", "--json") if o in options)
    assert all(marked[options[o]] is Access.READ for o in ("--config", "--source") if o in options)


@pytest.mark.parametrize("alias", list(ALIASES))
@pytest.mark.parametrize(("name", "write", "read"), list_pairs())
def test_no_command_writes_over_what_it_reads(name, write, read, alias, tmp_path, run_cli):
    accesses = load(name).accesses
    (tmp_path / "x").mkdir()
    values = {parameter: tmp_path / f"{parameter}.nwb" for parameter in accesses}
    for parameter, access in accesses.items():
        if access is Access.READ:
            values[parameter].write_text(parameter)
    values[write] = ALIASES[alias](values[read], tmp_path / "alias.nwb")
    more = ["--overwrite"] if any("--overwrite" in p.opts for p in load(name).params) else []
    finished = run_cli(name, *create_arguments(name, values), *more)
    assert finished.code == 2, finished
    assert str(values[write]) in finished.err
    assert str(values[read]) in finished.err
    assert len(finished.err.splitlines()) == 1
    assert values[read].read_text() == read


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("reproduce", "config")])
def test_no_command_replaces_a_folder_that_it_reads_from_or_writes_into_a_store(name, tmp_path, run_cli):
    accesses = load(name).accesses
    store = tmp_path / "store.nwb.zarr"
    store.mkdir()
    (store / ".zgroup").write_text("{}")
    values = {p: store if a is Access.READ else store / f"{p}.nwb" for p, a in accesses.items()}
    inside = run_cli(name, *create_arguments(name, values))
    assert (inside.code, [path.name for path in store.iterdir()]) == (2, [".zgroup"])
    assert str(store) in inside.err
    (store / "session.nwb").write_text("content")
    values = {p: store / "session.nwb" if a is Access.READ else store for p, a in accesses.items()}
    around = run_cli(name, *create_arguments(name, values))
    assert (around.code, (store / "session.nwb").read_text()) == (2, "content")


def test_the_checkpoints_of_a_fit_are_apart_from_its_source(tmp_path, run_cli):
    for source, seeds in (("x.nwb.checkpoint", 1), ("x.nwb.checkpoint.1", 2)):
        path = tmp_path / source
        path.write_text("a recording")
        finished = run_cli("fit", path, "-o", tmp_path / "x.nwb", "--overwrite", "--seeds", seeds)
        assert (finished.code, path.read_text()) == (2, "a recording")
        assert str(path) in finished.err


def test_two_outputs_of_a_job_have_different_names(tmp_path):
    for second in ("fit.nwb", "FIT.nwb"):  # the latter is the same file on some systems
        with pytest.raises(ExportError, match=second):
            check_apart([tmp_path / "fit.nwb", tmp_path / second])
    check_apart([tmp_path / "fit.nwb", tmp_path / "other.nwb"])


def test_what_is_read_does_not_have_the_name_of_a_temporary_file(tmp_path):
    path = create_temporary_name(tmp_path / "fit.nwb", suffix=".nwb")
    with pytest.raises(ExportError, match=path.name):
        check_apart([tmp_path / "fit.nwb"], [path])


def test_addresses_are_no_paths(tmp_path):
    check_apart([tmp_path / "fit.nwb"], ["https://example.org/fit.nwb", Path("https://example.org/fit.nwb")])


def test_a_circle_of_links_is_refused(tmp_path):
    for one, other in (("a", "b"), ("b", "a")):
        (tmp_path / one).symlink_to(tmp_path / other)
    with pytest.raises(ExportError, match=r"fit\.nwb"):
        check_output(tmp_path / "a" / "fit.nwb", overwrite=False)


def test_json_of_sweep_replaces_nothing_without_being_asked(tmp_path, run_cli):
    other = tmp_path / "other.json"
    other.write_text("mine")
    for command in (("sweep", "a.nwb", "-o", tmp_path / "sweep"), ("reproduce", "-o", tmp_path / "all")):
        finished = run_cli(*command, "--json", other)
        assert (finished.code, other.read_text()) == (2, "mine")
        assert str(other) in finished.err
        assert "--overwrite" in finished.err


def test_a_pipe_is_not_replaced(tmp_path, run_cli):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    finished = run_cli("inspect", "example_data/teacher.nwb", "--json", pipe, "--overwrite")
    assert finished.code == 2
    assert str(pipe) in finished.err
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_only_checkpoints_are_removed_as_checkpoints(tmp_path):
    path = tmp_path / "x.checkpoint"
    remove_checkpoint(path)  # there is none
    path.write_bytes(b"\x89HDF\r\n\x1a\n and more")
    with pytest.raises(ExportError, match=path.name):
        remove_checkpoint(path)
    assert path.exists()


@pytest.mark.parametrize("command", ["inspect", "doctor", "read", "fit", "sweep"])
def test_files_that_are_read_through_links_are_not_replaced(command, recording, tmp_path, run_cli):
    linked, session = tmp_path / "linked.nwb", tmp_path / "session.nwb"
    for path in (linked, session):
        path.write_bytes(recording.path.read_bytes())
    with h5py.File(session, "r+") as file:
        del file["acquisition/EMG"]
        file["acquisition/EMG"] = h5py.ExternalLink(linked.name, "acquisition/EMG")
    before = linked.read_bytes()
    config = tmp_path / "fit.yaml"
    config.write_text("read: {follow_links: true}")
    permission = ["--follow-links"] if command == "doctor" else ["--config", config]
    outputs = {"read": ["-o", tmp_path / "x.nc"], "fit": ["-o", linked], "sweep": ["-o", tmp_path / "s"]}
    json_path = [] if command == "fit" else ["--json", linked]
    arguments = [command, session, *outputs.get(command, []), *json_path, *permission, "--overwrite"]
    finished = run_cli(*arguments)
    assert (finished.code, linked.read_bytes() == before) == (2, True), finished
    assert str(linked) in finished.err
