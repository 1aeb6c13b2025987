"""Two commands with the same output at the same time: one is done whole, the other says why it is not."""

import subprocess
import sys

import pytest
from test_outputs import NAMES, create_arguments, load

from nwbrnn.cli.access import Access
from nwbrnn.storage.lock import hold

SMALL = ["--set", "epochs=1", "--set", "hidden=12"]
TWICE = {
    "read": ["session.nwb", "-o", "out/x.nc"],
    "fit": ["session.nwb", "-o", "out/x.nwb", "--epochs", "1", "--hidden", "12"],
    "export": ["fit.nwb", "-o", "out/x.nwb", "--source", "session.nwb"],
    "report": ["fit.nwb", "-o", "out/x.html"],
    "sweep": ["session.nwb", "-o", "out/x", "--sampled", "0", "--seeds", "1", "--resamples", "0", *SMALL],
    "dandi": ["assets", "-o", "out/x", *SMALL, "--set", "sampled=2"],
    "simulate": ["-o", "out/x.nwb", "--neurons", "60", "--directions", "4", "--trials", "4"],
    "convert": ["run.npz", "-o", "out/x.nwb"],
    "inspect": ["session.nwb", "--json", "out/x.json"],
    "doctor": ["session.nwb", "--json", "out/x.json"],
    "evaluate": ["fit.nwb", "--json", "out/x.json"],
    "refit": ["fit.nwb", "-o", "out/x.nwb", "--source", "session.nwb"],
}


def list_outputs():
    return [(n, p) for n in NAMES for p, access in load(n).accesses.items() if access is Access.WRITE]


@pytest.mark.parametrize(("name", "parameter"), list_outputs())
def test_no_command_begins_while_another_writes_there(name, parameter, tmp_path, run_cli):
    values = {one: tmp_path / f"{one}.nwb" for one in load(name).accesses}
    with hold(values[parameter]):
        finished = run_cli(name, *create_arguments(name, values))
    assert (finished.code, len(finished.err.splitlines())) == (2, 1)
    assert str(values[parameter]) in finished.err
    assert list(tmp_path.iterdir()) == []


def list_files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def inputs(recording, tmp_path_factory):
    """Return a folder with a recording, a fit of it, a run, and assets."""
    import numpy as np

    import nwbrnn

    folder = tmp_path_factory.mktemp("inputs")
    for path in (folder / "session.nwb", folder / "assets" / "a.nwb"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(recording.path.read_bytes())
    ds = nwbrnn.read_nwb(folder / "session.nwb")
    result = nwbrnn.fit(ds, epochs=1, hidden=12, processes=1)
    nwbrnn.write_fit(result, folder / "session.nwb", folder / "fit.nwb")
    rng = np.random.default_rng(0)
    arrays = {"outputs": (12, 20, 2), "inputs": (12, 20, 1), "rates": (12, 20, 6)}
    values = {name: rng.uniform(1, 20, size=shape) for name, shape in arrays.items()}
    np.savez(folder / "run.npz", bin_size=0.02, condition=np.repeat(["a", "b", "c"], 4), **values)
    return folder


def run_twice(command, inputs, out):
    """Run a command twice at once, with outputs in a folder of its own; return the exit codes and errors."""
    arguments = [
        str(inputs / word) if (inputs / word).exists() else word.replace("out/", f"{out}/")
        for word in TWICE[command]
    ]
    program = "from nwbrnn.cli import main; main.main()"
    line = [sys.executable, "-W", "ignore", "-c", program, command, *arguments]
    both = [subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for _ in "ab"]
    errors = [process.communicate(timeout=300)[1] for process in both]
    return [process.returncode for process in both], errors


@pytest.mark.slow
@pytest.mark.no_cover
def test_of_two_at_once_one_is_done_whole(campaign, inputs, tmp_path):
    assert set(TWICE) == {name for name, _ in list_outputs()} - {"reproduce"}  # which takes minutes
    run = campaign("commands raced against themselves", few=2, many=3 * len(TWICE))
    for number, command in enumerate(run.pick(3 * list(TWICE))):
        out = tmp_path / str(number)
        out.mkdir()
        codes, errors = run_twice(command, inputs, out)
        assert sorted(codes) == [0, 2], (command, codes, errors)
        (refused,) = (error for code, error in zip(codes, errors, strict=True) if code == 2)
        assert len(refused.splitlines()) == 1, (command, refused)
        assert str(out) in refused
        assert not [name for name in list_files(out) if ".nwbrnn" in name], command
        assert list_files(out), command
        run.count(command)
