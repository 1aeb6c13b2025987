"""All code of the README and the pages of the documentation runs, or is at least parsed by what would run it.

Pages with ``file_format: mystnb`` run when the documentation is built; here only their commands are parsed.
"""

import contextlib
import importlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
import xarray as xr
import yaml
from markdown_it import MarkdownIt
from typer.main import get_command

import nwbrnn.plot
from nwbrnn.cli import options
from nwbrnn.cli.main import app
from nwbrnn.config import FitConfig, JobConfig, SweepConfig
from nwbrnn.config.check import parse_settings
from nwbrnn.readers import vocabulary

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "example_data" / "teacher.nwb"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "example_data/README.md")),
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if not {"_build", "generated"} & set(path.parts)),
]
SHELL = ("", "sh", "console", "yaml", "inline")
EXCEPTIONS = {"README.md", "report.md", "slurm.md"}  # have tests of their own


def test_the_layers_of_the_page_are_those_that_are_checked():
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8").partition("## Who may import whom\n\n")[2]
    shown = [line[4:].partition("      ")[0] for line in text.partition("\n\n")[0].splitlines()]
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    assert [shown] == [one["layers"] for one in contracts if one["type"] == "layers"]


@dataclass(frozen=True)
class Block:
    """A block of code: its language (empty if it is indented only), its text and where it is."""

    page: Path
    line: int
    language: str
    text: str


def list_blocks(page):
    """Return the fenced and the indented blocks of a page, and the code within its text."""
    blocks = []
    for token in MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8")):
        line = token.map[0] + 1 if token.map else 0
        if token.type in ("fence", "code_block"):
            blocks.append(Block(page, line, token.info, token.content))
        inline = [child.content for child in token.children or () if child.type == "code_inline"]
        blocks += [Block(page, line, "inline", text) for text in inline]
    return blocks


BLOCKS = [block for page in PAGES for block in list_blocks(page)]


def list_commands():
    """Return every command line with ``nwbrnn`` in the pages, joined where it goes on on the next line."""
    commands = set()
    for block in BLOCKS:
        if block.language in SHELL or (block.language.startswith("{code-cell}") and "%%bash" in block.text):
            for line in block.text.replace("\\\n", " ").splitlines():
                match = re.match(r"\s*(?:[#$] )?(?:\S*/)?(nwbrnn .*)", line)
                if match:
                    commands.add((f"{block.page.name}:{block.line}", match[1]))
    return sorted(commands)


COMMANDS = list_commands()


def split_command(text):
    """Return the arguments of a command line, up to a pipe or a comment."""
    words = shlex.split(text, comments=True)[1:]
    ends = [i for i, word in enumerate(words) if word in ("|", "&&", "||", ">")]
    return words[: ends[0]] if ends else words


def test_there_is_something_to_test():
    assert len(COMMANDS) > 40
    pages = {where.split(":")[0] for where, _ in COMMANDS}
    assert {"README.md", "tutorial.md", "real_emg.md", "results.md"} <= pages


@pytest.mark.parametrize(("where", "text"), COMMANDS, ids=[where for where, _ in COMMANDS])
def test_commands_are_ones_that_the_command_line_knows(where, text):
    words = split_command(text)
    while words[0] in ("--verbose", "--quiet", "-v", "-q"):
        words = words[1:]
    name, *arguments = words
    if name in ("--help", "--version", "--install-completion", "COMMAND"):
        return
    command = get_command(app).get_command(None, name)
    assert command is not None, f"{where}: nwbrnn {name}"
    if not arguments or arguments == ["--help"]:  # prose that names a command
        return
    given = command.make_context(name, arguments).params
    fixed = options.parse_values(given.get("settings") or [], "--set")
    parse_settings(FitConfig, fixed, source=where)
    varied = options.parse_values(given.get("vary") or [], "--vary")
    parse_settings(SweepConfig, {"vary": varied}, source=where)


def test_the_vocabulary_is_that_of_the_rules(monkeypatch):
    """The page is made from the data; each list of names and words in it stands there, and in its order."""
    monkeypatch.syspath_prepend(ROOT / "docs" / "_ext")
    page = importlib.import_module("reference")._describe_vocabulary()
    rows = {line.split(" | ")[0].strip("| "): re.findall(r"`([^`]+)`", line) for line in page.splitlines()}
    lists = {
        name: values
        for name, values in vars(vocabulary).items()
        if name.isupper() and isinstance(values, tuple) and all(isinstance(one, str) for one in values)
    }
    derived = {"ALIGN_NAMES", "OUTPUT_ROLES", "STATE_NAMES", "_OUTCOMES"}
    for name in lists.keys() - derived:
        assert list(lists[name]) in rows.values(), name
    assert [name for name in vocabulary.OUTCOME_COLUMNS if name in rows["outcome"]] == rows["outcome"]
    assert {f"role `{role}`" for role in vocabulary.ROLE_WORDS} <= rows.keys()
    assert rows["condition"] == [" + ".join(names) for names in vocabulary.CONDITION_NAMES]


def test_the_gallery_shows_every_figure():
    page = (ROOT / "docs" / "gallery.md").read_text()
    assert [name for name in nwbrnn.plot.__all__ if f"plot.{name}(" not in page] == []


def test_installation_names_the_version_of_torch_that_is_tested():
    pinned = re.findall(r"^torch==\S+", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert re.findall(r"torch==\S+", (ROOT / "docs" / "install.md").read_text()) == pinned


YAML = [block for block in BLOCKS if block.language == "yaml"]


@pytest.mark.parametrize("block", YAML, ids=lambda block: f"{block.page.name}:{block.line}")
def test_settings_in_the_pages_are_valid(block):
    values = yaml.safe_load(block.text)
    assert set(values) <= {"read", "fit"}
    parse_settings(JobConfig, values, source=block.page.name)


PYTHON_PAGES = sorted(
    {block.page for block in BLOCKS if block.language == "python" and block.page.name not in EXCEPTIONS}
)


@pytest.mark.slow
@pytest.mark.parametrize("page", PYTHON_PAGES, ids=lambda page: page.name)
def test_python_in_the_pages_runs(page, tmp_path, monkeypatch):
    """Blocks of a page run one after the other, where example_data, a session.nwb and a dandiset are."""
    (tmp_path / "example_data").symlink_to(EXAMPLE.parent)
    shutil.copy(EXAMPLE, tmp_path / "session.nwb")
    asset = tmp_path / "downloads" / "000941" / "sub-MonkeyL" / "sub-MonkeyL.nwb"
    asset.parent.mkdir(parents=True)
    shutil.copy(EXAMPLE, asset)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    for block in BLOCKS:
        if block.page == page and block.language == "python":
            exec(compile(block.text, f"{page.name}:{block.line}", "exec"), names)
    for value in names.values():
        if isinstance(value, xr.Dataset | xr.DataTree):
            value.close()


RUN = [
    (where, text)
    for where, text in COMMANDS
    if where.split(":")[0] in ("README.md", "install.md", "held_out.md", "spikes.md", "training.md")
    and split_command(text)[0] in ("inspect", "doctor", "read", "fit", "evaluate")
    and len(split_command(text)) > 1
    and not any(word in text for word in ("--config", "--resume", "--units", "dandi://"))  # need other files
]
SMALL = ("--overwrite", "--epochs", "2", "--hidden", "80", "--method", "gradient", "--seeds", "1")


@pytest.mark.first
@pytest.mark.slow
def test_commands_of_the_pages_do_what_they_say(run_cli, tmp_path, monkeypatch):
    """In one folder, as a reader would, on small networks; the sweeps have tests of their own."""
    (tmp_path / "example_data").symlink_to(EXAMPLE.parent)
    shutil.copy(EXAMPLE, tmp_path / "session.nwb")
    monkeypatch.chdir(tmp_path)
    assert len(RUN) >= 8
    done = []
    for where, text in sorted(RUN, key=lambda pair: split_command(pair[1])[0] == "evaluate"):
        arguments = split_command(text.replace("example_data/teacher.nwb", "session.nwb"))  # the same file
        if arguments in done:
            continue
        done.append(arguments)
        finished = run_cli(*arguments, *(SMALL if arguments[0] == "fit" else ()))
        assert (finished.code, finished.err) == (0, ""), f"{where}: {text}"
    assert (tmp_path / "fit.nwb").exists()


SBATCH = """#!/bin/sh
sh "$1" >> jobs.log 2>&1 &
echo $! >> jobs.pid
echo "Submitted batch job $!"
"""


@pytest.mark.slow
@pytest.mark.long
def test_script_for_slurm_makes_a_sweep(tmp_path):
    """With an `sbatch` that starts the job at once, here: its workers are real, only the queue is not."""
    pytest.importorskip("dask_jobqueue")
    blocks = {b.language: b for b in BLOCKS if b.page.name == "slurm.md" and b.language in ("python", "sh")}
    block = blocks["python"]
    more = '"--seeds", "1", "--resamples", "0", "--set", "hidden=30", "--set", "epochs=2"'
    assert '"--seeds", "2"' in block.text
    (tmp_path / "sweep_on_slurm.py").write_text(block.text.replace('"--seeds", "2"', more))
    shutil.copy(EXAMPLE, tmp_path / "session.nwb")
    for name, text in (("sbatch", SBATCH), ("scancel", '#!/bin/sh\nkill "$@" 2> /dev/null; true\n')):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    subprocess.run(["sh", "-ec", blocks["sh"].text], env=environment, capture_output=True, check=True)
    assert all(file.stat().st_mode & 0o077 == 0 for file in (tmp_path / ".sweep-tls").iterdir())
    try:
        done = subprocess.run(
            ["sh", "-c", '. ~/.sweep-tls/use.sh; "$0" sweep_on_slurm.py', sys.executable],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
    finally:
        for pid in (tmp_path / "jobs.pid").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGTERM)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "sweep" / "cells").glob("*.nc"))) == 2
    assert (tmp_path / "sweep" / "statistics.csv").exists()


@pytest.fixture
def extensions(monkeypatch):
    """The modules with which the documentation is built."""
    monkeypatch.syspath_prepend(ROOT / "docs" / "_ext")
    pytest.importorskip("myst_nb", reason="the packages of the documentation are not installed")
    return importlib.import_module


def test_pages_that_run_are_notebooks_too(extensions, tmp_path):
    """Text and code are those of the page, without what only the build needs; links lead into the clone."""
    nbformat = pytest.importorskip("nbformat")
    notebooks = extensions("notebooks")
    notebooks.write_notebooks(ROOT / "docs", tmp_path)
    begin = "---\nfile_format: mystnb"
    pages = {p.stem: p.read_text() for p in PAGES if p.read_text().startswith(begin)}
    assert {path.stem for path in tmp_path.iterdir()} == pages.keys() >= {"tutorial", "own_file", "gallery"}
    for name, text in pages.items():
        book = nbformat.read(tmp_path / f"{name}.ipynb", as_version=4)
        nbformat.validate(book)
        code = [cell.source for cell in book.cells if cell.cell_type == "code"]
        assert len(code) == text.count("```{code-cell}") - text.count("remove-cell")
        assert all(cell in text and "tutorial_setup" not in cell for cell in code)
        prose = "\n".join(cell.source for cell in book.cells if cell.cell_type == "markdown")
        assert re.findall(r"^#+ .*", prose, re.MULTILINE)[0] in text
        linked = re.findall(r"\]\((?!https?:)([^)#]+)", prose)
        assert [path for path in linked if not (ROOT / path).exists()] == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the client, about its event loop
def test_a_downloaded_notebook_runs_in_a_clone(extensions, tmp_path, monkeypatch):
    """Up to its first command: the build of the pages runs all cells, with magic and a folder of its own."""
    nbclient = pytest.importorskip("nbclient")
    book = extensions("notebooks").convert((ROOT / "docs" / "own_file.md").read_text())
    first = next(i for i, cell in enumerate(book.cells) if cell.source.startswith("%%bash"))
    book.cells = book.cells[: first + 1]
    assert "nwbrnn inspect session.nwb" in book.cells[first].source
    (tmp_path / "example_data").symlink_to(ROOT / "example_data")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    resources = {"metadata": {"path": str(tmp_path)}}
    limits = {"timeout": 600, "startup_timeout": 600}
    nbclient.NotebookClient(book, **limits, kernel_name="python3", resources=resources).execute()
    shown = "".join(output.get("text", "") for output in book.cells[first].outputs)
    assert "emg" in shown
    assert "exit code 2" in shown
    assert (tmp_path / "session.nwb").exists()


def test_stored_output_is_that_of_the_commands_of_the_page(extensions):
    """The output says of which recording it is, and there is one for each command of the page."""
    store = extensions("store_output")
    names = [re.search(r"\bnwbrnn ([a-z]+)", cell)[1] for cell in store.list_cells()]
    folder = store.HERE / "stored_output"
    assert {path.stem for path in folder.iterdir()} == set(names)
    assert len(names) == len(set(names))
    for name in names:
        assert "spike_20120829.nwb" in (folder / f"{name}.txt").read_text().splitlines()[1]


@pytest.mark.slow
def test_stored_output_is_not_out_of_date(extensions, monkeypatch, tmp_path):
    recording = Path(os.environ.get("NWBRNN_TEST_DATA", "")) / "data" / "spike_20120829.nwb"
    if not recording.exists():
        pytest.skip("the recording is not there; set NWBRNN_TEST_DATA")
    store = extensions("store_output")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / recording.name).symlink_to(recording)
    cells = {name: cell for cell in store.list_cells() for name in ("inspect", "doctor") if name in cell}
    for name, cell in cells.items():
        assert store.run(cell, recording, tmp_path) == (
            name, (store.HERE / "stored_output" / f"{name}.txt").read_text()
        )  # fmt: skip


def test_the_reference_describes_every_name_that_pages_import(extensions):
    described = {name.removesuffix(".rst") for name in extensions("reference")._write_api()}
    text = "\n".join(block.text for block in BLOCKS if block.language == "python")
    imported = {
        f"{module}.{name.strip()}"
        for module, names in re.findall(r"from (nwbrnn[.\w]*) import ([\w, ]+)", text)
        for name in names.split(",")
    }
    assert len(imported) > 5
    same = {"nwbrnn.sweep.run_sweep"}  # also nwbrnn.run_sweep
    assert {f"api/{name}" for name in imported - same} <= described
