"""Campaigns over all commands: hostile settings and texts, kills, full disks, and two of everything at once.

Each case runs in a forked process: none may crash, hang, take much memory, end in an unexpected error,
lose or change anything. See docs/reliability.md.
"""

import html.parser
import json
import os
import shutil
import signal
import time
import warnings
from itertools import product

import h5py
import numpy as np
import pytest
import xarray as xr
import yaml
from exporting import hash_file

import nwbrnn
from nwbrnn.cli.main import COMMANDS, Commands
from nwbrnn.config import FitConfig, ReadConfig
from nwbrnn.training.checkpoint import Checkpoint
from tests import forked
from tests.messages import assert_names

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("in_process")]

QUICK = ("--set", "hidden=8", "--set", "epochs=2", "--set", "min_rate=0", "--set", "processes=1")
FIT = (*QUICK, "--sampled", "3")
READ = ("--bin-size", "0.1")
LINES = {
    "inspect": ("{folder}/session.nwb", "--json", "{out}.json"),
    "doctor": ("{folder}/session.nwb", "--json", "{out}.json"),
    "read": ("{folder}/session.nwb", "-o", "{out}.nc", *READ, "--json", "{out}.json"),
    "fit": ("{folder}/session.nwb", "-o", "{out}.nwb", *READ, *FIT, "--json", "{out}.json"),
    "sweep": ("{folder}/session.nwb", "-o", "{out}", *FIT, "--seeds", "1", "--resamples", "0"),
    "dandi": ("{folder}/sessions", "-o", "{out}", *FIT),
    "evaluate": ("{folder}/fit.nwb", "--json", "{out}.json"),
    "report": ("{folder}/fit.nwb", "-o", "{out}.html"),
    "perturb": ("{folder}/fit.nwb", "--unit", "0", "--json", "{out}.json"),
    "export": ("{folder}/fit.nwb", "-o", "{out}.nwb", "--as", "mine"),
    "refit": ("{folder}/fit.nwb", "-o", "{out}.nwb", "--json", "{out}.json"),
    "simulate": (
        *("-o", "{out}.nwb", "--neurons", "60", "--directions", "3", "--trials", "2"),
        *("--preparation", "0.1", "--movement", "0.2", "--muscles", "2"),
    ),
    "convert": ("{folder}/run.nc", "-o", "{out}.nwb"),
}
FOLDERS = ("sweep", "dandi")  # their output is a folder, in which the same command goes on
UNTRIED = {"config": "it writes no file", "reproduce": "it is simulate and sweep, at full size"}


@pytest.fixture(scope="module")
def folder(make_recording, teacher, tmp_path_factory):
    """Return a folder with what the commands read; only to be read."""
    forked.preload()
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "sessions").mkdir()
    for path in (folder / "session.nwb", folder / "sessions" / "session.nwb"):
        shutil.copy(make_recording().path, path)
    ds = nwbrnn.read_nwb(folder / "session.nwb", bin_size=0.1)
    result = nwbrnn.fit(ds, epochs=2, hidden=8, sampled=3, min_rate=0)
    nwbrnn.write_fit(result, folder / "session.nwb", folder / "fit.nwb")
    nwbrnn.write_dataset(teacher.ds, folder / "run.nc")
    return folder


@pytest.fixture(autouse=True)
def inputs_stay(folder):
    """Fail if anything that the commands read has changed."""
    before = hash_all(folder)
    yield
    assert hash_all(folder) == before


def hash_all(folder):
    return {path: hash_file(path) for path in folder.rglob("*") if path.is_file()}


def create_line(command, folder, out, *more):
    line = [part.format(folder=folder, out=out) for part in LINES[command]]
    return [command, *line, *more]


def list_leftovers(folder):
    return [path for path in folder.rglob("*") if ".nwbrnn-" in path.name]


def assert_whole(folder):
    """Fail if a file of a folder is not what its name says."""
    for path in folder.rglob("*"):
        if path.suffix == ".nwb":
            with h5py.File(path) as file:
                assert "processing" in file or "units" in file
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".nc":
            with xr.open_dataset(path, engine="h5netcdf") as ds:
                ds.load()
        elif path.suffix == ".html":
            assert path.read_text().rstrip().endswith("</html>")


def test_every_command_that_writes_is_tried():
    writing = {
        name for group in COMMANDS.values() for name in group
        if Commands(name="nwbrnn").get_command(None, name).accesses
    }  # fmt: skip
    assert writing <= {*LINES, *UNTRIED}


# ------------------------------------------------------------------ full disks


def test_full_disks(folder, mount, campaign, tmp_path):
    fills = campaign("commands on a full disk", few=4, many=8 * len(LINES))
    mount("-t", "tmpfs", "-o", "size=8m", "tmpfs", tmp_path)
    for command, free in fills.pick(product(LINES, [0, *fills.rng.sample(range(4096, 200_000, 4096), 7)])):
        fill_disk(command, free, folder, tmp_path, fills)
        for path in tmp_path.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def fill_disk(command, free, folder, disk, fills):
    """Run a command on a disk with so many bytes left, and again when there is space."""
    out, filling = disk / "out", disk / "filling"
    with filling.open("wb") as file:
        file.write(b"x" * (shutil.disk_usage(disk).free - free))
    ended = forked.run_cli(*create_line(command, folder, out), seconds=60)
    assert not ended.fault, f"{command}, {free} bytes left: {ended.fault}"
    code, _, err = ended.value
    fills.count({0: "had enough", 1: "done in part", 2: "refused"}[code])
    written = [path.name for path in disk.iterdir() if path != filling]
    if code == 2:
        assert_names(err, os.strerror(28))
        if command not in FOLDERS:  # there is an output only if the JSON that belongs to it has no space
            assert_names(err, *written)
    assert code or free, command
    assert not list_leftovers(disk)
    filling.unlink()
    assert_whole(disk)
    more = () if command in FOLDERS or not written else ("--overwrite",)
    again = forked.run_cli(*create_line(command, folder, out, *more), seconds=60)
    assert (again.fault, again.value[0]) == ("", 0), again
    assert_whole(disk)


# ------------------------------------------------------------------ two at once


def test_two_commands_at_once(folder, campaign, tmp_path):
    races = campaign("commands raced against each other", few=4, many=8 * len(LINES))
    for command, number in races.pick(product(LINES, range(8))):
        out = tmp_path / command / str(number) / "out"
        out.parent.mkdir(parents=True)
        more = ("--overwrite",) if number % 2 and command not in FOLDERS else ()
        line = create_line(command, folder, out, *more)
        begun = [forked.begin_cli(*line, seconds=60) for _ in range(2)]
        ended = [one.finish() for one in begun]
        assert [one.fault for one in ended] == ["", ""], line
        codes = sorted(one.value[0] for one in ended)
        assert codes in ([0, 0], [0, 2]), ended
        races.count("won by both" if codes == [0, 0] else "won by one")
        assert_whole(out.parent)
        assert not list_leftovers(out.parent)


# ------------------------------------------------------------------ kills


def kill_at_random(kills, line, duration, look):
    """Begin a command and kill it, from its first millisecond on, as often as the campaign has cases."""
    while kills.counts.get("killed", 0) < kills.size:
        begun = forked.begin_cli(*line(), seconds=60)
        time.sleep(kills.rng.uniform(0, duration) * kills.rng.random())
        begun.kill()
        ended = begun.finish()
        assert ended.fault in ("", forked.KILLED)
        kills.count("killed" if ended.fault else "ended before")
        look(ended)


def measure(*line):
    started = time.monotonic()
    ended = forked.run_cli(*line, seconds=60)
    assert (ended.fault, ended.value[0]) == ("", 0), ended
    return time.monotonic() - started


def test_kills_of_fits_from_the_first_millisecond(folder, campaign, tmp_path):
    """A fit is whole or absent, and --resume goes on to the very same weights."""
    kills = campaign("kills of fits", few=2, many=100)
    options = ("--set", "epochs=40", "--set", "method=gradient", "--set", "patience=1000")
    duration = measure(*create_line("fit", folder, tmp_path / "whole", *options))
    expected = nwbrnn.read_fit(tmp_path / "whole.nwb").weights
    out = tmp_path / "killed.nwb"

    def line():
        out.unlink(missing_ok=True)
        return create_line("fit", folder, tmp_path / "killed", *options, "--overwrite")

    def look(_):
        if out.exists():
            kills.count("with a complete file")
            np.testing.assert_array_equal(nwbrnn.read_fit(out).weights["bias"], expected["bias"])

    kill_at_random(kills, line, duration, look)
    again = forked.run_cli(*line(), "--resume", seconds=60)
    assert (again.fault, again.value[0]) == ("", 0), again
    for name, values in nwbrnn.read_fit(out).weights.items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)
    assert_whole(tmp_path)
    assert not list_leftovers(tmp_path)


def test_kills_of_sweeps_from_the_first_millisecond(folder, campaign, tmp_path):
    """Whenever a sweep is killed, the same command ends with the same table."""
    kills = campaign("kills of sweeps", few=2, many=100)
    grid = ("--sampled", "0,3")
    duration = measure(*create_line("sweep", folder, tmp_path / "whole", *grid))
    expected, out = read_table(tmp_path / "whole"), tmp_path / "killed"

    def line():
        return create_line("sweep", folder, out, *grid)

    def look(ended):
        if not ended.fault:
            assert ended.value[0] == 0, ended
            xr.testing.assert_identical(read_table(out), expected)
            shutil.rmtree(out)

    kill_at_random(kills, line, duration, look)
    ended = forked.run_cli(*line(), seconds=60)
    assert (ended.fault, ended.value[0]) == ("", 0), ended
    xr.testing.assert_identical(read_table(out), expected)


# ------------------------------------------------------------------ damaged checkpoints and cells


def damage_bytes(path, rng):
    """Change some bytes of a file, or cut it off; return what was done."""
    content = bytearray(path.read_bytes())
    kind = rng.choice(["flip", "flip", "erase", "cut", "append", "empty", "head"])
    place = rng.randrange(len(content))
    if kind == "flip":
        content[place] ^= 1 << rng.randrange(8)
    elif kind == "head":  # where sizes, names and types are
        content[rng.randrange(min(600, len(content)))] = rng.randrange(256)
    elif kind == "erase":
        content[place : place + 512] = bytes(len(content[place : place + 512]))
    elif kind == "append":
        content += bytes(100)
    else:
        del content[place if kind == "cut" else 0 :]
    path.write_bytes(content)
    return f"{kind} at {place}"


write = Checkpoint.write


def write_and_die(checkpoint, *state):
    """Write the third checkpoint of a fit, and be killed."""
    write(checkpoint, *state)
    if state[1]["epoch"] == 3:
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("part", range(2))
def test_damaged_checkpoints(part, folder, campaign, tmp_path, monkeypatch):
    """A fit refuses a damaged checkpoint by its name, or goes on as from a whole one."""
    monkeypatch.setattr(Checkpoint, "is_due", lambda _: True)
    damaged = campaign("damaged checkpoints", few=2, many=100)
    options = ("--set", "epochs=200", "--set", "patience=1000", "--set", "method=gradient")
    line, checkpoint = create_line("fit", folder, tmp_path / "out", *options), tmp_path / "out.nwb.checkpoint"
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "write", write_and_die)
        assert forked.run_cli(*line, seconds=60).fault == forked.KILLED
    whole, scores = checkpoint.read_bytes(), tmp_path / "out.json"
    assert forked.run_cli(*line, "--resume", seconds=60).value[0] == 0
    expected = json.loads(scores.read_text())["scores"]
    for _ in range(damaged.size):
        for path in tmp_path.iterdir():
            path.unlink()
        checkpoint.write_bytes(whole)
        what = damage_bytes(checkpoint, damaged.rng)
        ended = forked.run_cli(*line, "--resume", seconds=60)
        assert not ended.fault, f"{what}: {ended.fault}"
        code, _, err = ended.value
        if code == 0:  # it was changed where nothing is, such as a space of its header
            assert json.loads(scores.read_text())["scores"] == expected, what
        else:
            assert code == 2, f"{what}: {err}"
            assert_names(err, checkpoint)
            assert {path.name for path in tmp_path.iterdir()} <= {checkpoint.name}, what
        damaged.count("changed nothing" if code == 0 else "refused")


@pytest.mark.parametrize("part", range(2))
def test_damaged_cells(part, folder, campaign, tmp_path):
    """A damaged cell is fitted again; the table is the same."""
    damaged = campaign("damaged cells", few=1, many=100)
    out = tmp_path / "out"
    line = create_line("sweep", folder, out, "--sampled", "0,3")
    ended = forked.run_cli(*line, seconds=60)
    assert (ended.fault, ended.value[0]) == ("", 0), ended
    expected = read_table(out)
    for _ in range(damaged.size):
        cells = sorted((out / "cells").glob("*.nc"))
        what = damage_bytes(damaged.rng.choice(cells), damaged.rng)
        ended = forked.run_cli(*line, seconds=60)
        assert not ended.fault, f"{what}: {ended.fault}"
        assert ended.value[0] == 0, f"{what}: {ended}"
        xr.testing.assert_identical(read_table(out), expected)
        kept = [path for path in (out / "cells").iterdir() if path.name.endswith(".damaged")]
        damaged.count("set aside and fitted again" if kept else "had no effect")
        for path in kept:
            path.unlink()


def read_table(out):
    """Return the table of a sweep without what depends on the clock."""
    with xr.open_dataset(out / "table.nc", engine="h5netcdf") as table:
        return table.load().drop_vars([name for name in table.variables if "second" in str(name)])


# ------------------------------------------------------------------ settings

VALUES = (
    *(
        0,
        1,
        -1,
        2,
        1e-9,
        1e9,
        1e-300,
        1e300,
        -0.0,
        float("nan"),
        float("inf"),
        2**31,
        2**63,
        10**30,
        0.5,
        True,
        None,
    ),
    *(
        "",
        "x",
        "auto",
        "\x1b[2J",
        "a" * 5000,
        "null",
        "1e9",
        "-1",
        "é",
        "../..",
        "http://a/b",
        "[1",
        "{",
        "!!python/x",
    ),
    *([], [1, 2], [-0.2, 0.4], [0.4, -0.2], [float("nan")] * 2, {}, {"a": 1}, [[1]], ["emg"], {"id": "1"}),
)


@pytest.mark.parametrize("part", range(2))
def test_configurations(part, folder, campaign, tmp_path):
    """Any value of any setting, in a file or on the command line, is used or refused by its name."""
    tried = campaign("configurations", few=8, many=130)
    rng = tried.rng
    groups = {"read": sorted(ReadConfig.model_fields), "fit": sorted(FitConfig.model_fields)}
    small = {"hidden": 8, "epochs": 2, "min_rate": 0, "processes": 1, "sampled": 3}
    for number in range(tried.size):
        settings = {"read": {"bin_size": 0.1}, "fit": dict(small)}
        changed = []
        for _ in range(rng.choice([1, 1, 1, 2])):
            group = rng.choice(list(groups))
            name, value = rng.choice(groups[group]), rng.choice(VALUES)
            settings[group][name] = value
            changed.append((group, name, value))
        path, out = tmp_path / "fit.yaml", tmp_path / f"{number}.nwb"
        if number % 3:
            path.write_text(yaml.safe_dump(settings))
            line = ["fit", folder / "session.nwb", "-o", out, "--config", path]
        else:
            group, name, value = changed[0]
            text = value if isinstance(value, str) else json.dumps(value)
            line = ["fit", folder / "session.nwb", "-o", out, *READ, *FIT]
            line += ["--set", f"{name}={text}"]
        ended = forked.run_cli(*line, seconds=60)
        assert not ended.fault, f"{changed}: {ended.fault}"
        code, _, err = ended.value
        assert code in (0, 2), f"{changed}: {err}"
        assert out.exists() == (code == 0), changed
        assert len(err) < 20_000, changed
        tried.count("used" if code == 0 else "refused")
        out.unlink(missing_ok=True)


# ------------------------------------------------------------------ texts

TEXTS = (
    *("\x1b]0;owned\x07", "\x1b[2J\x1b[1;1H", "a\nError: forged", "a\rb", "\u202evil", "\u2028", "\x85"),
    *("<evil onload=alert(1)>", "</script><evil>", '"><evil src=x onerror=alert(1)>', "'`;--${x}{{7*7}}%s%n"),
    *("x" * 4000, "é\u0301" * 50, "[bold red]x[/]", "[link=file:///etc/passwd]x[/link]", " ", "..", "=1+1"),
)


class Tags(html.parser.HTMLParser):
    """Gathers the elements of a page."""

    def __init__(self, text):
        super().__init__()
        self.found = set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.add(tag)
        assert not any(name.startswith("on") for name, _ in attrs)


def write_hostile(path, rng):
    """Write a recording with hostile texts in every field that is one."""
    from datetime import UTC, datetime

    from pynwb import NWBHDF5IO, NWBFile, TimeSeries
    from pynwb.file import Subject

    def text():
        return rng.choice(TEXTS)

    def name(kept):
        return (kept + text().replace("/", "").replace(":", ""))[:60] + str(rng.randrange(10**6))

    noise = np.random.default_rng(rng.getrandbits(32))
    nwbfile = NWBFile(
        text(), text() or "x", datetime(2020, 1, 1, tzinfo=UTC), experimenter=[text()], lab=text(),
        institution=text(), experiment_description=text(), keywords=[text()], session_id=text(), notes=text(),
        subject=Subject(subject_id=text(), species=text(), sex="F", age="P6Y", description=text()),
    )  # fmt: skip
    channels = ",".join(text().replace(",", "").replace("]", "") + str(i) for i in range(3))
    series = TimeSeries(
        name=name("EMG"), data=noise.random((2000, 3)), unit=text(), rate=50.0, description=text(),
        comments=f"columns=[{channels}] {text()}",
    )  # fmt: skip
    nwbfile.add_acquisition(series)
    column, other, kind = name("quality"), name("notes"), rng.choice(["target_dir", "trial_type"])
    nwbfile.add_unit_column(column, text())
    for _ in range(6):
        nwbfile.add_unit(spike_times=np.sort(noise.uniform(0, 40, 400)), **{column: text()})
    for added in ("go_cue_time", kind, "result", other):
        nwbfile.add_trial_column(added, text())
    labels = [text(), text(), text()]
    for trial in range(24):
        start = 1 + 1.5 * trial
        values = {"go_cue_time": start + 0.4, kind: labels[trial % 3], other: text(), "result": "R"}
        nwbfile.add_trial(start, start + 1.4, **values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with NWBHDF5IO(str(path), "w") as io:
            io.write(nwbfile, cache_spec=False)


@pytest.mark.parametrize("part", range(2))
def test_hostile_texts(part, campaign, tmp_path, folder):
    """No text of a file moves the cursor, makes a line of its own, or is an element of a page."""
    files = campaign("files of hostile texts, through eight commands", few=1, many=25)
    for number in range(files.size):
        here = tmp_path / str(number)
        here.mkdir()
        session, fit = here / "session.nwb", here / "fit.nwb"
        write_hostile(session, files.rng)
        window = ("--window", "-0.2", "0.6", *READ)
        lines = (
            ("inspect", session), ("doctor", session), ("read", session, "-o", here / "out.nc", *window),
            ("fit", session, "-o", fit, *window, *QUICK, "--sampled", "2"), ("evaluate", fit),
            ("report", fit, "-o", here / "out.html"),
            ("export", fit, "-o", here / "copy.nwb", "--to", "copy"),
            ("inspect", here / "copy.nwb"),
        )  # fmt: skip
        for line in lines:
            ended = forked.run_cli(*line, seconds=60)
            assert not ended.fault, f"{line}: {ended.fault}"
            code, out, err = ended.value
            assert code in (0, 1, 2), f"{line}: {err}"
            shown = (out + err).replace("\n", "")
            assert all(c.isprintable() for c in shown), f"{line}: {shown!r}"
            assert "\nError: forged" not in out + err
            if code == 2:
                files.count(f"refused by {line[0]}")
                break
        else:
            assert "evil" not in Tags((here / "out.html").read_text()).found
            files.count("through all")
        shutil.rmtree(here)
