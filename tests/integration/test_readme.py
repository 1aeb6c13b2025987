import hashlib
import re
from pathlib import Path

import numpy as np
import pytest

import nwbrnn
from nwbrnn.config.file import read_config
from nwbrnn.errors import ConfigError
from nwbrnn.teacher import Circuit, TeacherConfig, simulate_teacher

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "example_data" / "teacher.nwb"


def read_blocks(language: str, name: str = "README.md") -> list[str]:
    text = (ROOT / name).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.mark.slow
def test_python_examples_of_the_readme_run(tmp_path, monkeypatch):
    (tmp_path / "example_data").symlink_to(EXAMPLE.parent)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    (block,) = read_blocks("python")
    exec(block, names)
    assert names["again"].scores.summary == names["result"].scores.summary
    assert names["again"].scores.get("output R2").value > 0.5
    assert (tmp_path / "fit.nwb").exists()


def test_example_is_what_its_checksum_says():
    stated, name = (EXAMPLE.parent / "SHA256SUMS").read_text().split()
    assert name == "teacher.nwb"
    assert hashlib.sha256(EXAMPLE.read_bytes()).hexdigest() == stated
    assert EXAMPLE.stat().st_size < 3_000_000


def test_example_can_be_repeated():
    weights, settings = nwbrnn.read_circuit(EXAMPLE)
    again = simulate_teacher(TeacherConfig(**settings), circuit=Circuit(weights))
    stored = nwbrnn.read_nwb(EXAMPLE)
    # float32 of another machine's matrix products may differ in the last digits
    for name in ("rates", "outputs", "inputs"):
        np.testing.assert_allclose(again[name].values, stored[name].values, rtol=1e-5, atol=1e-5)
    assert (again["condition"].values == stored["condition"].values).all()


def test_faults_shown_in_the_document_of_the_command_line_are_those_that_are_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("fit.yaml").write_text("read:\n  bin_size: -1\nfit:\n  hiden: 20\n  tau: slow\n")
    with pytest.raises(ConfigError) as caught:
        read_config(Path("fit.yaml"))
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    shown = text.split("    Error: ")[1].split("\n\n")[0].replace("\n    ", "\n")
    assert shown == str(caught.value)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_somewhere(name):
    """Those of the pages are checked when the documentation is built."""
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", (ROOT / name).read_text(encoding="utf-8")):
        assert (ROOT / target).exists(), target
