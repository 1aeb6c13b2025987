"""Files and functions stay short enough to be read in one sitting."""

import ast
from pathlib import Path

import nwbrnn

FILES = sorted(Path(nwbrnn.__file__).parent.rglob("*.py"))
MAX_LINES = 450
MAX_BODY = 50


def _measure_body(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the lines of a function after its docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return function.end_lineno - body[0].lineno + 1 if body else 0


def test_files_are_short():
    lines = {str(path): len(path.read_text().splitlines()) for path in FILES}
    assert len(lines) > 100
    assert {name: count for name, count in lines.items() if count > MAX_LINES} == {}


def test_functions_are_short():
    functions = [
        node
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert len(functions) > 1000
    assert {node.name: _measure_body(node) for node in functions if _measure_body(node) > MAX_BODY} == {}
