"""Tests ask what a message names (see :mod:`messages`), so that its sentences can be improved freely."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.messages import assert_names, names

TESTS = Path(__file__).parent
PROSE = re.compile(r"(?<![\w/.,=-])(a|[a-z]{2,})( (a|[a-z]{2,})){2,}(?![\w/.=-])")
COMPARING = {"startswith", "endswith", "search", "match", "fullmatch", "index", "split"}

INTERFACE = (  # words that others rely on: names of scores, roles of choices, kinds of values
    "bits per spike",
    "columns left out",
    "conditions left out",
    "departure from normality",
    "input units converted",
    "leading growth rate",
    "output units converted",
    "predicted unsampled neurons",
    "samples left out",
    "trials left out",
    "true or false",
    "units left out",
)


def find_texts(node: ast.AST) -> Iterator[ast.Constant]:
    return (n for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str))


def find_compared(tree: ast.AST) -> Iterator[ast.Constant]:
    """Yield the texts that a test compares with what was said."""
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "match":
            yield from find_texts(node.value)
        elif isinstance(node, ast.Compare):
            yield from find_texts(node)
        elif isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in COMPARING | {"names", "assert_names"}:
                for argument in node.args:
                    yield from find_texts(argument)
        elif isinstance(node, ast.FunctionDef):
            yield from find_parametrized(node)


def find_parametrized(function: ast.FunctionDef) -> Iterator[ast.Constant]:
    """Yield the texts in values that a test is given as what a message names."""
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call) and getattr(decorator.func, "attr", "") == "parametrize":
            arguments = re.findall(r"\w+", " ".join(text.value for text in find_texts(decorator.args[0])))
            places = [i for i, name in enumerate(arguments) if name in ("message", "words", "parts")]
            for case in getattr(decorator.args[1], "elts", ()):
                values = getattr(case, "elts", [case])
                for place in places:
                    yield from find_texts(values[place])


def find_prose(source: str) -> list[tuple[int, str]]:
    found = []
    for text in find_compared(ast.parse(source)):
        words = text.value
        for known in INTERFACE:
            words = words.replace(known, "")
        if PROSE.search(words):
            found.append((text.lineno, text.value))
    return found


@pytest.mark.parametrize("path", sorted(TESTS.rglob("*.py")), ids=lambda path: path.name)
def test_no_test_reads_a_sentence(path):
    found = find_prose(path.read_text(encoding="utf-8"))
    listed = [f"{path.name}:{line}: {text!r}" for line, text in found]
    assert not listed, "\n".join(["ask for names, numbers and remedies (tests/messages.py) in:", *listed])


@pytest.mark.parametrize(
    "source",
    [
        'pytest.raises(E, match="the file is damaged")',
        'pytest.raises(E, match=r"a\\.nwb: expected a whole file")',
        'assert "nothing was changed" in finished.err',
        'assert finished.err == f"{path}: there is no such file"',
        'assert finished.err.startswith("get a fresh copy")',
        'assert_names(text, path, "is open elsewhere")',
        '@pytest.mark.parametrize(("a", "message"), [(1, ["x", "has to be positive"])])\ndef test(): ...',
    ],
)
def test_prose_is_found(source):
    assert len(find_prose(source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        'assert_names(finished.err, path, "at least 3", "--overwrite", "pip install \'nwbrnn[zarr]\'")',
        'assert "bits per spike" in scores',
        'run("what a user types")',
    ],
)
def test_names_and_numbers_are_no_prose(source):
    assert find_prose(source) == []


def test_parts_are_found_whole_and_in_any_order():
    text = "a.nwb: rate: expected 3 Hz,\nbut got 0.25 Hz; use --rate"
    assert_names(text, "--rate", 0.25, "3 Hz", "a.nwb", "rate")
    assert re.search(names("--rate", 0.25, "3 Hz", "a.nwb"), text)
    for part in (25, 0, 2, "0.2", "rat", "nwb: rate: e"):
        assert not re.search(names(part), text), part
        with pytest.raises(AssertionError, match=names(repr(part))):
            assert_names(text, part)
