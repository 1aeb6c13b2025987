"""What the command line says of itself, to whom, how much, and with which exit code it ends."""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from typer.main import get_command

from nwbrnn.cli import main as module
from nwbrnn.cli import output
from nwbrnn.cli.main import COMMANDS
from tests.messages import assert_names

NAMES = [name for group in COMMANDS.values() for name in group]
HEAVY = (
    "torch",
    "pynwb",
    "hdmf",
    "h5py",
    "numpy",
    "xarray",
    "pandas",
    "matplotlib",
    "yaml",
    "rich",
)
START = "import sys; sys.argv = ['nwbrnn', *sys.argv[1:]]; from nwbrnn.cli.main import main; main()"


def start(*arguments, env=None, **options):
    """Start the command in a process of its own."""
    return start_program(START, *arguments, env=env, **options)


def start_program(program, *arguments, env=None, **options):
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, env=os.environ | (env or {}), **options)


def run(*arguments, env=None):
    process = start(*arguments, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    out, err = process.communicate(timeout=600)
    return process.returncode, out, err


def run_on_terminal(*arguments, env=None):
    """Run the command with a terminal of 100 columns as its standard output and error."""
    leader, follower = pty.openpty()
    size = {"COLUMNS": "100", "LINES": "40", "TERM": "xterm-256color"}
    process = start(*arguments, env=size | (env or {}), stdout=follower, stderr=follower, stdin=follower)
    os.close(follower)
    parts = []
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:  # the other end is closed
            part = b""
        if not part:
            break
        parts.append(part)
    os.close(leader)
    return process.wait(timeout=600), b"".join(parts).decode()


def test_help_tells_the_story_on_one_screen(run_cli):
    finished = run_cli("--help")
    assert (finished.code, finished.err) == (0, "")
    lines = finished.out.splitlines()
    assert 20 <= len(lines) <= 30
    assert max(map(len, lines)) <= 80
    positions = [finished.out.index(f"  {name}  ") for name in NAMES]
    assert positions == sorted(positions)
    for text in (
        "NWB file",
        "--verbose",
        "--quiet",
        "--version",
        "nwbrnn fit session.nwb -o fit.nwb",
        "130 Ctrl-C",
    ):
        assert text in finished.out


def test_the_page_lists_every_command_in_its_group():
    page = Path(__file__).parents[2] / "docs" / "cli.md"
    groups, _, names = [
        line.strip("| ").split(" | ")
        for line in page.read_text(encoding="utf-8").splitlines()
        if line.startswith("|")
    ][:3]
    assert {group: re.findall(r"`(\w+)`", cell) for group, cell in zip(groups, names, strict=True)} == {
        group: list(commands) for group, commands in COMMANDS.items()
    }


@pytest.mark.slow
def test_help_on_a_terminal_is_the_same_with_bold_groups():
    code, out = run_on_terminal("--help")
    assert code == 0
    assert "\x1b[1mlook" in out
    plain = re.sub(r"\x1b\[\d*m", "", out).replace("\r\n", "\n")
    assert plain == run("--help")[1]


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("nonsense",)])
def test_help_imports_nothing_heavy(arguments):
    code = f"{START.removesuffix('main()')}\ntry:\n    main()\nexcept SystemExit:\n    print(*sys.modules)"
    command = [sys.executable, "-c", code, *arguments]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    modules = set(finished.stdout.splitlines()[-1].split())
    assert "typer" in modules
    assert not modules & set(HEAVY)
    assert "pydantic" not in modules or arguments == ("nonsense",)  # typer reads arguments with it
    assert {name for name in modules if name.startswith("nwbrnn.cli.")} == {
        "nwbrnn.cli.access",
        "nwbrnn.cli.main",
    }


@pytest.mark.parametrize("name", NAMES)
def test_each_command_has_an_example_that_its_options_allow(name, run_cli):
    finished = run_cli(name, "--help")
    assert (finished.code, finished.err) == (0, "")
    lines = [line.strip() for line in finished.out.splitlines()]
    examples = [line.split("#")[0] for line in lines if line.startswith("nwbrnn ")]
    assert examples
    assert f"nwbrnn {name}" in examples[0]
    for option in re.findall(
        r"(?<=\s)--?[a-z][a-z-]*", " ".join(e for e in examples if f"nwbrnn {name}" in e)
    ):
        assert re.search(rf"^(-\w, )?{option}\b", "\n".join(lines), re.MULTILINE), option
    assert not re.search(r"<[a-z\[]", finished.out)  # a Python type in the place of a name for the value
    assert "\x1b" not in finished.out
    assert not re.search(r"[│─╭╮╰╯]|\[/?dim\]|\\b|\x08", finished.out)
    assert max(map(len, finished.out.splitlines())) <= 80


def test_every_setting_of_reading_is_an_option():
    from nwbrnn.cli.options import READING
    from nwbrnn.config import ReadConfig

    assert set(READING) - {"whole_trials"} == set(ReadConfig.model_fields)


BY_RULE = {"channels": "all", "units": "all"} | dict.fromkeys(
    ("emg_notch", "emg_high_pass", "emg_low_pass"), "by --emg-filter"
)
FLAGS = {
    "map",
    "vary",
    "freeze",
    "start_from",
    "follow_links",
    "held_out_conditions",
    "pool",
    "sessions",
}  # given or not; fmt: skip


@pytest.mark.parametrize(
    ("command", "model"), [("inspect", "ReadConfig"), ("fit", "FitConfig"), ("sweep", "SweepConfig")]
)
def test_help_gives_the_default_of_each_option(command, model):
    from nwbrnn import config

    fields = getattr(config, model).model_fields
    shown = {param.name: param for param in get_command(module.app).get_command(None, command).params}
    common = (shown.keys() & fields.keys()) - FLAGS
    if command == "fit":
        common -= {"held_out"}  # names conditions there
    assert len(common) > 3
    for name in common:
        default = fields[name].default
        text = ",".join(map(str, default)) if isinstance(default, tuple) else f"{default}"
        expected = BY_RULE.get(
            name, "by rule" if default is None or text == "auto" else text.removesuffix(".0")
        )
        if (command, name) == ("fit", "method"):
            expected = "auto"
        assert shown[name].help.endswith(f" Default: {expected}."), name


def test_version_is_that_of_the_package(run_cli):
    from importlib.metadata import version

    finished = run_cli("--version")
    assert (finished.code, finished.out, finished.err) == (0, f"nwbrnn {version('nwbrnn')}\n", "")


def test_unknown_command_suggests_the_nearest(run_cli):
    finished = run_cli("inspekt", "x.nwb")
    assert (finished.code, finished.out) == (2, "")
    assert_names(finished.err, "inspekt", "'inspect'")
    assert "│" not in finished.err


@pytest.mark.slow
def test_completion_of_names_and_options():
    names = {"_NWBRNN_COMPLETE": "complete_bash", "COMP_WORDS": "nwbrnn re", "COMP_CWORD": "1"}
    code, out, err = run(env=names)
    assert (code, err) == (0, "")
    assert {"read", "reproduce"} <= set(out.split()) <= {n for n in NAMES if n.startswith("re")}
    options = {"_NWBRNN_COMPLETE": "complete_bash", "COMP_WORDS": "nwbrnn fit --ali", "COMP_CWORD": "2"}
    code, out, err = run(env=options)
    assert (code, out.split(), err) == (0, ["--align-to"], "")
    script = run(env={"_NWBRNN_COMPLETE": "source_zsh"})
    assert script[0] == 0
    assert script[1].lstrip().startswith("#compdef")
    assert_names(script[1], "nwbrnn", "_NWBRNN_COMPLETE")


@pytest.mark.slow
def test_completion_of_names_imports_no_command():
    code = f"import sys, atexit; atexit.register(lambda: print(*sys.modules, file=sys.stderr)); {START}"
    env = {"_NWBRNN_COMPLETE": "complete_bash", "COMP_WORDS": "nwbrnn ", "COMP_CWORD": "1"}
    command = [sys.executable, "-c", code]
    finished = subprocess.run(command, env=os.environ | env, capture_output=True, text=True, check=True)
    assert finished.stdout.split() == NAMES
    assert not set(finished.stderr.split()) & {*HEAVY, "nwbrnn.cli.fit"}


# what is printed, and where


@pytest.mark.slow
def test_a_pipe_gets_plain_rows_that_are_whole(make_recording, run_cli):
    recording = make_recording(layout="behavioral")
    finished = run_cli("inspect", recording.path)
    assert finished.code == 0
    assert not re.search(r"[│─━╭\x1b]", finished.out)
    choices = json.loads(run_cli("inspect", recording.path, "--json", "-").out)["choices"]
    lines = finished.out.rstrip().splitlines()
    rows = lines[-len(choices) :]  # a line each, however long
    for row, choice in zip(rows, choices, strict=True):
        assert choice["picked"] in row
        assert choice["reason"] in row
    assert max(map(len, rows)) > 120
    assert all(line == line.rstrip() for line in finished.out.splitlines())
    narrow = run("inspect", recording.path, env={"COLUMNS": "40"})
    assert narrow == (0, finished.out, "")
    assert run("inspect", recording.path, env={"FORCE_COLOR": "1"}) == (0, finished.out, "")  # as in Jupyter


@pytest.mark.slow
def test_a_terminal_gets_tables_in_its_width(recording, run_cli):
    code, out = run_on_terminal("inspect", recording.path)
    assert code == 0
    assert "───" in out
    assert "\x1b[1mSession" in out
    assert max(len(re.sub(r"\x1b\[[\d;]*m", "", line)) for line in out.splitlines()) <= 100
    assert "\x1b[" not in run_on_terminal("inspect", recording.path, env={"TERM": "dumb"})[1]
    cell = {"JPY_PARENT_PID": "1", "FORCE_COLOR": "1"}  # as "!nwbrnn" in a notebook
    out = run_on_terminal("inspect", recording.path, env=cell)[1]
    assert out.splitlines() == run_cli("inspect", recording.path).out.splitlines()


@pytest.mark.slow
def test_a_terminal_sees_progress(recording, tmp_path):
    small = ("--epochs", "3", "--hidden", "8")
    code, out = run_on_terminal("fit", recording.path, "-o", tmp_path / "fit.nwb", *small)
    assert code == 0
    assert "Fitting" in out


def test_neither_a_pipe_nor_the_quiet_see_progress(monkeypatch):
    assert not output.shows_progress()
    monkeypatch.setattr(output, "stderr", Console(stderr=True, force_terminal=True))
    assert output.shows_progress()
    output.set_verbosity(verbose=False, quiet=True)
    assert not output.shows_progress()
    output.set_verbosity(verbose=False, quiet=False)


def test_control_codes_of_a_file_are_not_sent_to_the_terminal(run_cli, tmp_path, recording):
    import shutil

    import h5py

    path = tmp_path / "hostile.nwb"
    shutil.copy(recording.path, path)
    with h5py.File(path, "a") as file:
        del file["session_description"]
        file["session_description"] = "\x1b]0;owned\x07\x1b[2J[red]x[/red]"
    finished = run_cli("inspect", path)
    assert finished.code == 0
    assert "\x1b" not in finished.out
    assert "\x07" not in finished.out
    assert r"\x1b[2J[red]x[/red]" in finished.out


def test_a_long_name_makes_no_endless_table(run_cli, tmp_path, recording):
    import shutil

    import h5py

    path = tmp_path / "session.nwb"
    shutil.copy(recording.path, path)
    with h5py.File(path, "a") as file:
        file.move("acquisition/EMG", f"acquisition/EMG{'x' * 60_000}")
    finished = run_cli("inspect", path)
    assert (finished.code, len(finished.out) < 100_000) == (0, True)


def test_quiet_says_nothing_but_errors(recording, run_cli, tmp_path):
    finished = run_cli("--quiet", "inspect", recording.path)
    assert (finished.code, finished.out, finished.err) == (0, "", "")
    finished = run_cli("-q", "inspect", recording.path, "--json", "-")
    assert (finished.code, finished.err) == (0, "")
    assert json.loads(finished.out)["units"]["number"] == 12
    finished = run_cli("-q", "inspect", tmp_path / "none.nwb")
    assert (finished.code, finished.out) == (2, "")
    assert_names(finished.err, tmp_path / "none.nwb")
    assert run_cli("inspect", recording.path).out  # the next command is not quiet
    finished = run_cli("-q", "-v", "inspect", recording.path)
    assert finished.code == 2
    assert_names(finished.err, "--quiet", "--verbose")


def test_verbose_tells_the_steps_with_seconds_on_standard_error(recording, run_cli):
    finished = run_cli("--verbose", "inspect", recording.path)
    assert finished.code == 0
    steps = r"Loading libraries", r"Inspecting .*/session\.nwb"
    told = "".join(rf"{one} \.\.\.\n{one}: \d+\.\d s\n" for one in steps)
    assert re.fullmatch(told, finished.err)
    assert finished.out == run_cli("inspect", recording.path).out


@pytest.mark.slow
def test_json_on_standard_output_is_alone(recording, teacher, run_cli, tmp_path):
    fit, read = tmp_path / "fit.nwb", tmp_path / "data.nc"
    small = ("--epochs", 2, "--hidden", 8)
    commands = [
        (("inspect", recording.path), "choices"),
        (("doctor", recording.path), "file"),
        (("read", recording.path, "-o", read), "choices"),
        (("fit", recording.path, "-o", fit, *small), "scores"),
        (("evaluate", fit), "assessment"),
    ]
    for command, key in commands:
        finished = run_cli(*command, "--json", "-")
        assert (finished.code, finished.err) == (0, ""), command
        assert json.loads(finished.out)[key], command
    told = json.loads(run_cli("read", recording.path, "-o", read, "--overwrite", "--json", "-").out)
    assert (told["output"], told["sizes"]["output"], told["sizes"]["trial"]) == (str(read), 3, 35)


# how it ends


@pytest.mark.slow
def test_a_reader_that_leaves_ends_it_quietly(recording):
    process = start("inspect", recording.path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    _, err = process.communicate(timeout=600)
    assert (process.returncode, err) == (141, b"")
    process = start("inspect", recording.path, "--json", "-", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    _, err = process.communicate(timeout=600)
    assert (process.returncode, err) == (141, b"")


def test_a_bug_is_called_one_and_verbose_shows_where(recording, run_cli, monkeypatch):
    import nwbrnn.readers

    def fail(*arguments, **options):
        raise KeyError("tau")

    monkeypatch.setattr(nwbrnn.readers, "inspect_nwb", fail)
    finished = run_cli("inspect", recording.path)
    assert (finished.code, finished.out) == (70, "")
    assert finished.err.startswith("Error: ")
    assert_names(finished.err, "KeyError", "'tau'")
    assert "Traceback" not in finished.err
    assert finished.err.count("\n") == 1
    assert "nwbrnn --verbose" in finished.err
    finished = run_cli("--verbose", "inspect", recording.path)
    assert finished.code == 70
    assert "Traceback" in finished.err
    assert_names(finished.err, Path(__file__).name, "fail")


INTERRUPTED = f"""
import os, signal
from nwbrnn import teacher
simulate = teacher.simulate_teacher
def press_ctrl_c(*arguments, **options):
    os.kill(os.getpid(), signal.SIGINT)
    return simulate(*arguments, **options)
teacher.simulate_teacher = press_ctrl_c
{START}
"""


@pytest.mark.slow
def test_ctrl_c_is_130_and_one_line(tmp_path):
    arguments = ("-v", "simulate", "-o", tmp_path / "teacher.nwb", "--neurons", "60")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = start_program(INTERRUPTED, *arguments, **pipes)
    printed, err = process.communicate(timeout=600)
    *told, last = err.splitlines(keepends=True)
    assert told[-1].startswith("Simulating")
    assert (process.returncode, printed, last) == (130, "", "Interrupted.\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_ctrl_c_during_a_finalizer_is_not_lost():
    program = """
import time
import nwbrnn.cli.main as module
class Leaving:
    def __del__(self):
        raise KeyboardInterrupt
def run(**_):
    Leaving()
    for _ in range(6000):  # until the interrupt comes
        time.sleep(0.1)
    print("went on")
module.app = run
try:
    module.main()
except KeyboardInterrupt:
    print("interrupted")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted\n", "")


def test_codes_are_those_of_the_help(run_cli):
    stated = re.search(r"^Exit codes: (.*)$", run_cli("--help").out, re.MULTILINE)[1]
    assert [int(code) for code in re.findall(r"\b\d+\b", stated)] == [
        0, module.IN_PART, module.BAD_INPUT, module.BUG, module.INTERRUPTED,
    ]  # fmt: skip
    assert run_cli().code == 2  # no command
    assert run_cli("fit").code == 2  # no file
    assert run_cli("inspect", "x.nwb", "--nonsense").code == 2
