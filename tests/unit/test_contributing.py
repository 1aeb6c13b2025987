"""The recipes of CONTRIBUTING, followed step by step in a copy of the package; what they name exists."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import N_TRIALS

from tests.recipes.run import read_layout

ROOT = Path(__file__).parents[2]
RECIPES = {
    name: re.findall(r"^\d\. (.*?)(?=^\d\. |^## |\Z)", text, re.MULTILINE | re.DOTALL)
    for page in ("CONTRIBUTING.md", "docs/reading.md")
    for name, text in re.findall(
        r"^##+ (Add(?:ing)? an? [^\n]*)\n(.*?)(?=^## |\Z)",
        (ROOT / page).read_text("utf-8"),
        re.MULTILINE | re.DOTALL,
    )
    if "1. " in text
}
ALL_STEPS = [(name, number) for name, steps in RECIPES.items() for number in range(len(steps))]

ADDED = {
    # file: what a step puts there, before which text
    "nwbrnn/losses/terms.py": [
        (
            "TERMS = (",
            "def _compare_absolutely(found: Outcome) -> Tensor:\n"
            "    target, weight = found.targets.outputs, found.targets.output_weight\n"
            "    deviation = ((target - (target * weight).sum() / weight.sum()).abs() * weight).sum()\n"
            "    return ((found.outputs - target).abs() * weight).sum() / deviation\n\n\n",
        ),
        (
            '    LossTerm("rate", ',
            '    LossTerm("absolute", "absolute_weight", _compare_absolutely),\n',
        ),
    ],
    "nwbrnn/config/groups.py": [
        (
            "    smoothness_penalty: float",
            "    absolute_weight: float = Field(0.0, ge=0, description='a test')\n",
        ),
    ],
    "nwbrnn/evaluation/specs.py": [
        (
            "    *_describe_rotations(),",
            '    ScoreSpec("gap", lambda pair: 0.25, "a test", unit="m", better="lower", '
            "noise_ceiling=lambda pair: 0.5),\n",
        )
    ],
    "nwbrnn/schema.py": [
        (
            '    VariableSpec("spike_counts"',
            '    VariableSpec("load", (TRIAL, TIME, INPUT), FLOAT, "load on the hand", False, "N"),\n',
        )
    ],
    "nwbrnn/readers/recording.py": [
        ('}, {"input": np.array(names)}, covered)\n    values', ', "load": 2 * inputs')
    ],
    "nwbrnn/formats/fit/layout.py": [
        ('    "recorded_outputs": (', '    "recorded_load": ("recorded", "load", "hand"),\n')
    ],
    "nwbrnn/readers/doctor/trials.py": [
        (
            "def check_trials_overlap(",
            "def check_trials_counted(view: TrialView) -> Iterator[Finding]:\n"
            "    yield note(view.path, f'{len(view.table)} trials', 'nothing')\n\n\n",
        ),
    ],
    "nwbrnn/cli/main.py": [('        "doctor": "', '        "count": "Count trials",\n')],
    "nwbrnn/readers/vocabulary.py": [("force|torque|grip", "squeeze|")],
}
COMMAND = '''
"""``nwbrnn count``: how many trials a file has."""

from pathlib import Path
from typing import Annotated

import typer

from nwbrnn.cli.output import console


def count(path: Annotated[Path, typer.Argument(help="An NWB file.")]) -> None:
    """Count the trials of a file.

    nwbrnn count session.nwb
    """
    from nwbrnn.storage import open_nwb

    with open_nwb(path) as nwbfile:
        console.print(len(nwbfile.trials))
'''


def run(package, session, folder):
    folder.mkdir()
    paths = os.pathsep.join(map(str, (package, ROOT / "tests")))
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "recipes" / "run.py"), str(session), str(folder)],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def found(recording, tmp_path_factory):
    """Return what came of following every recipe."""
    package = tmp_path_factory.mktemp("package")
    # with the loops that numba compiled, which takes much longer than anything here
    shutil.copytree(ROOT / "nwbrnn", package / "nwbrnn", ignore=shutil.ignore_patterns("*.pyc*", "*.tmp.*"))
    for name, changes in ADDED.items():
        text = (package / name).read_text("utf-8")
        for before, added in changes:
            assert text.count(before) == 1, (name, before)
            text = text.replace(before, added + before)
        (package / name).write_text(text, "utf-8")
    (package / "nwbrnn" / "cli" / "count.py").write_text(COMMAND.lstrip(), "utf-8")
    return run(package, recording.path, package / "out")


@pytest.mark.slow
def test_loss(found):
    assert found["term"] > 0.1
    assert found["total"] == pytest.approx(0.5 * found["term"], rel=1e-5)
    assert found["term in the file"]


@pytest.mark.slow
def test_score(found):
    assert found["score"] == [0.25, 0.5]
    assert found["better"] == "lower"
    assert found["page"]


@pytest.mark.slow
def test_variable(found):
    assert found["load"]
    assert found["load in the file"]
    assert found["series"].startswith("hand;")


@pytest.mark.slow
def test_rule_of_the_doctor(found):
    assert found["rule"] == [["intervals/trials", f"{N_TRIALS} trials", False]]


@pytest.mark.slow
def test_command(found):
    assert found["command"]["codes"] == [0, 0, 0]
    counted, overview, own = found["command"]["said"]
    assert counted.strip() == str(N_TRIALS)
    assert "Count trials" in overview
    assert len(overview.splitlines()) <= 30
    assert "nwbrnn count session.nwb" in own


@pytest.mark.slow
def test_layout_by_names(found, tmp_path):
    assert found["layout"] == "N"
    assert read_layout(tmp_path) == "MissingDataError"


def test_all_recipes_are_looked_at():
    assert [len(steps) for steps in RECIPES.values()] == [2, 3, 3, 2, 2, 5, 3, 3]


@pytest.mark.parametrize(("name", "number"), ALL_STEPS)
def test_what_a_step_names_exists(name, number):
    """Files and folders are there, and one of the files holds each name."""
    named = [text for text in re.findall(r"`([^`]+)`", RECIPES[name][number]) if "NAME" not in text]
    paths = [text for text in named if "/" in text]
    assert not [path for path in paths if not (ROOT / path).exists()]
    files = [ROOT / path for path in paths if (ROOT / path).is_file()]
    text = "".join(file.read_text("utf-8") for file in files)
    names = [text for text in named if re.fullmatch(r"[A-Za-z_]\w+", text)]
    assert not [one for one in names if not re.search(rf"\b{one}\b", text)]


@pytest.mark.parametrize("name", sorted(ADDED))
def test_files_of_the_recipes_are_named(name):
    assert any(f"`{name}`" in step for steps in RECIPES.values() for step in steps)
