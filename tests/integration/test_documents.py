"""All code of the README and the pages of the documentation runs, or is at least parsed by what would run it.

Pages with ``file_format: mystnb`` run when the documentation is built; here only their commands are parsed.
"""

import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt
from typer.main import get_command

from nwbrnn.cli import options
from nwbrnn.cli.main import app
from nwbrnn.config import FitConfig, JobConfig, SweepConfig, parse_settings

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "example_data" / "teacher.nwb"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "example_data/README.md")),
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if not {"_build", "generated"} & set(path.parts)),
]
SHELL = ("", "sh", "console", "yaml", "inline")
# needs a cluster: has a test of its own
EXCEPTIONS = {"slurm.md", "sweeps.md"}


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
        for child in token.children or ():
            if child.type == "code_inline":
                blocks.append(Block(page, line, "inline", child.content))
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
    assert {"README.md", "tutorial.md", "real_emg.md", "results.md"} <= {where.split(":")[0] for where, _ in COMMANDS}


@pytest.mark.parametrize(("where", "text"), COMMANDS, ids=[where for where, _ in COMMANDS])
def test_commands_are_ones_that_the_command_line_knows(where, text):
    name, *arguments = split_command(text)
    commands = get_command(app).commands
    if name in ("--help", "COMMAND"):
        return
    assert name in commands, f"{where}: nwbrnn {name}"
    if not arguments or arguments == ["--help"]:  # prose that names a command
        return
    given = commands[name].make_context(name, arguments).params
    fixed = options.parse_values(given.get("settings") or [], "--set")
    parse_settings(FitConfig, fixed, source=where)
    varied = options.parse_values(given.get("vary") or [], "--vary")
    parse_settings(SweepConfig, {"vary": varied}, source=where)


YAML = [block for block in BLOCKS if block.language == "yaml"]


@pytest.mark.parametrize("block", YAML, ids=lambda block: f"{block.page.name}:{block.line}")
def test_settings_in_the_pages_are_valid(block):
    values = yaml.safe_load(block.text)
    assert set(values) <= {"read", "fit"}
    parse_settings(JobConfig, values, source=block.page.name)


PYTHON_PAGES = sorted({block.page for block in BLOCKS if block.language == "python"} - {ROOT / "README.md"})


@pytest.mark.parametrize("page", [p for p in PYTHON_PAGES if p.name not in EXCEPTIONS], ids=lambda page: page.name)
def test_python_in_the_pages_runs(page, tmp_path, monkeypatch):
    """Blocks of a page run one after the other, where example_data and a session.nwb are."""
    (tmp_path / "example_data").symlink_to(EXAMPLE.parent)
    shutil.copy(EXAMPLE, tmp_path / "session.nwb")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in BLOCKS:
        if block.page == page and block.language == "python":
            exec(compile(block.text, f"{page.name}:{block.line}", "exec"), names)
    for value in names.values():
        if hasattr(value, "close"):
            value.close()
