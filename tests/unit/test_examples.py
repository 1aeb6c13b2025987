"""Every example in a docstring gives what it shows; ``example`` is the path of a recording."""

import doctest
import importlib
import inspect
from pathlib import Path

import pytest

import nwbrnn

pytestmark = pytest.mark.no_cover

PACKAGE = Path(nwbrnn.__file__).parent
TEXTS = {
    ".".join(("nwbrnn", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): text
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in (text := path.read_text("utf-8"))
}
MODULES = [
    pytest.param(name, marks=pytest.mark.slow if "= nwbrnn.fit(" in text else ())
    for name, text in TEXTS.items()
]


def test_there_are_examples():
    assert {"nwbrnn.text", "nwbrnn.readers.plan", "nwbrnn.storage.names"} <= set(TEXTS)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, recording, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # some write files
    failed, tried = doctest.testmod(
        importlib.import_module(name), extraglobs={"example": str(recording.path)}
    )
    assert tried
    assert not failed


def test_every_public_name_has_an_example():
    things = [getattr(nwbrnn, name) for name in nwbrnn.__all__ if name != "predict"]
    things += [getattr(nwbrnn.plot, name) for name in nwbrnn.plot.__all__]
    assert [thing.__name__ for thing in things if ">>> " not in inspect.getdoc(thing)] == []
