"""No test asserts how long something takes, because other processes may run beside it."""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
CLOCKS = {"monotonic", "perf_counter", "process_time", "thread_time", "time"}
CLOCKS |= {f"{name}_ns" for name in CLOCKS}
MEASURING = {"measure"}  # returns a duration, within which processes are killed at random


def find_measured(tree):
    """Return the lines in which a time is subtracted from what a clock shows."""
    allowed = [f for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) and f.name in MEASURING]
    inside = {node for function in allowed for node in ast.walk(function)}
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub) and node not in inside
        if isinstance(node.left, ast.Call) and _get_name(node.left.func) in CLOCKS
    ]


def _get_name(function):
    """Return the name by which a function is called, without that of its module."""
    return getattr(function, "attr", getattr(function, "id", ""))


@pytest.mark.parametrize("path", sorted(TESTS.rglob("test_*.py")), ids=lambda path: path.stem)
def test_nobody_looks_at_the_clock(path):
    assert find_measured(ast.parse(path.read_text(encoding="utf-8"))) == []


def test_this_test_would_see_it():
    text = "def {}():\n    begin = time.monotonic()\n    assert time.monotonic() - begin < 10\n"
    assert find_measured(ast.parse(text.format("test_a"))) == [3]
    assert find_measured(ast.parse(text.format("test_a").replace("time.monotonic", "monotonic_ns"))) == [3]
    assert find_measured(ast.parse(text.format("measure"))) == []
