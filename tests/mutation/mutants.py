"""Small faults to put into a module: each mutant replaces one stretch of its source by another."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

COMPARISONS = {
    ast.Lt: ("<=", ">="), ast.LtE: ("<", ">"), ast.Gt: (">=", "<="), ast.GtE: (">", "<"),
    ast.Eq: ("!=",), ast.NotEq: ("==",), ast.In: ("not in",), ast.NotIn: ("in",),
    ast.Is: ("is not",), ast.IsNot: ("is",),
}  # fmt: skip
ARITHMETIC = {
    ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*", ast.FloorDiv: "*", ast.Mod: "*", ast.Pow: "*",
    ast.BitAnd: "|", ast.BitOr: "&",
}  # fmt: skip
PAIRS = [
    ("min", "max"), ("any", "all"), ("minimum", "maximum"), ("argmin", "argmax"), ("nanmin", "nanmax"),
    ("floor", "ceil"), ("zeros", "ones"), ("cos", "sin"), ("sum", "mean"), ("nansum", "nanmean"),
    ("cumsum", "cumprod"), ("left", "right"),
]  # fmt: skip
SWAPS = dict(PAIRS) | {b: a for a, b in PAIRS}
NO_BEHAVIOUR = {"strict", "stacklevel"}  # keywords that only guard or describe


@dataclass(frozen=True)
class Mutant:
    """Characters ``begin`` to ``end`` of a file are replaced; ``lines`` are those of their statement."""

    file: str
    begin: int
    end: int
    text: str
    kind: str
    lines: tuple[int, int]
    in_function: bool

    def apply(self, source: str) -> str:
        """Return the source with the fault in it."""
        return source[: self.begin] + self.text + source[self.end :]

    def describe(self, source: str) -> dict[str, str | int]:
        """Return file, line, and the changed lines before and after."""
        first, last = source.rfind("\n", 0, self.begin) + 1, source.find("\n", self.end)
        after = source[first : self.begin] + self.text + source[self.end : last]
        about = {"file": self.file, "line": source.count("\n", 0, self.begin) + 1, "kind": self.kind}
        return about | {"before": source[first:last].strip(), "after": after.strip()}


def list_mutants(root: Path, file: str) -> list[Mutant]:
    """Return every mutant of a file, those that do not compile left out."""
    source = (root / file).read_text()
    found = dict.fromkeys(_Finder(file, source).find())
    return [mutant for mutant in found if _compiles(mutant.apply(source))]


def _compiles(source: str) -> bool:
    try:
        compile(source, "mutant", "exec")
    except SyntaxError:
        return False
    return True


class _Finder:
    """Walks through the syntax tree of one file."""

    def __init__(self, file: str, source: str) -> None:
        self.file, self.source = file, source
        self.starts = [0]
        for line in source.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))
        self.rows = source.splitlines()

    def find(self) -> Iterator[Mutant]:
        yield from self._walk(ast.parse(self.source).body, in_function=False)

    def _walk(self, body: list[ast.stmt], *, in_function: bool) -> Iterator[Mutant]:
        for statement in body:
            inside = in_function or isinstance(statement, ast.FunctionDef)
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                continue  # a docstring
            if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
                continue
            parts = list(_header(statement))
            last = max((p.end_lineno for p in parts), default=statement.lineno)
            place = {"lines": (statement.lineno, last), "in_function": in_function}
            for kind, begin, end, text in self._change_statement(statement):
                yield Mutant(self.file, begin, end, text, kind, **place)
            for part in parts:
                for node in _descend(part):
                    for kind, begin, end, text in self._change(node):
                        yield Mutant(self.file, begin, end, text, kind, **place)
            for name in ("body", "orelse", "finalbody"):
                yield from self._walk(getattr(statement, name, []), in_function=inside)
            for other in (*getattr(statement, "handlers", []), *getattr(statement, "cases", [])):
                yield from self._walk(other.body, in_function=inside)

    def _at(self, line: int, column: int) -> int:
        """Return a position in characters; syntax trees count columns in bytes."""
        return self.starts[line - 1] + len(self.rows[line - 1].encode()[:column].decode())

    def _span(self, node: ast.AST) -> tuple[int, int]:
        return self._at(node.lineno, node.col_offset), self._at(node.end_lineno, node.end_col_offset)

    def _text(self, node: ast.AST) -> str:
        begin, end = self._span(node)
        return self.source[begin:end]

    def _change_statement(self, node: ast.stmt) -> Iterator[tuple[str, int, int, str]]:
        if isinstance(node, ast.Expr | ast.AugAssign | ast.Raise | ast.Continue | ast.Break):
            yield "removed statement", *self._span(node), "pass"
        if isinstance(node, ast.Return) and node.value is not None:
            yield "returned None", *self._span(node), "return None"
        if isinstance(node, ast.If | ast.While) and not isinstance(node.test, ast.UnaryOp):
            yield "negated condition", *self._span(node.test), f"not ({self._text(node.test)})"

    def _between(self, left: ast.AST, right: ast.AST, old: str, new: str) -> tuple[int, int, str]:
        """Replace an operator that stands between two operands."""
        begin, end = self._span(left)[1], self._span(right)[0]
        return begin, end, self.source[begin:end].replace(old, new, 1)

    def _change(self, node: ast.AST) -> Iterator[tuple[str, int, int, str]]:  # noqa: C901, PLR0912
        match node:
            case ast.Compare():
                for left, op, right in zip(
                    [node.left, *node.comparators], node.ops, node.comparators, strict=False
                ):
                    for new in COMPARISONS[type(op)]:
                        yield "comparison", *self._between(left, right, _write(op), new)
            case ast.BinOp() if type(node.op) in ARITHMETIC:
                new = ARITHMETIC[type(node.op)]
                yield "arithmetic", *self._between(node.left, node.right, _write(node.op), new)
            case ast.BoolOp():
                old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
                for left, right in zip(node.values, node.values[1:], strict=False):
                    yield "and/or", *self._between(left, right, old, new)
            case ast.UnaryOp() if not isinstance(node.operand, ast.Constant):
                yield "removed operator", *self._span(node), f"({self._text(node.operand)})"
            case ast.Constant(value=bool()):
                yield "constant", *self._span(node), str(not node.value)
            case ast.Constant(value=int()):
                yield "constant", *self._span(node), str(node.value + 1)
            case ast.Constant(value=float()):
                yield "constant", *self._span(node), repr(1.5 * node.value if node.value else 1.0)
            case ast.IfExp():
                yield "negated condition", *self._span(node.test), f"not ({self._text(node.test)})"
            case ast.comprehension():
                for test in node.ifs:
                    yield "removed condition", *self._span(test), "True"
            case ast.Call():
                yield from self._change_call(node)

    def _change_call(self, node: ast.Call) -> Iterator[tuple[str, int, int, str]]:
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        if name in SWAPS:
            end = self._span(node.func)[1]
            yield "swapped function", end - len(name), end, SWAPS[name]
        for keyword in node.keywords:
            if keyword.arg is not None and keyword.arg not in NO_BEHAVIOUR:
                begin, end = self._span(keyword)
                while self.source[end] in " \n":
                    end += 1
                yield "dropped argument", begin, end + (self.source[end] == ","), ""
        if len(node.args) >= 2 and not any(isinstance(a, ast.Starred) for a in node.args[:2]):
            (begin, middle), (other, end) = self._span(node.args[0]), self._span(node.args[1])
            swapped = self.source[other:end] + self.source[middle:other] + self.source[begin:middle]
            yield "swapped arguments", begin, end, swapped


def _write(op: ast.AST) -> str:
    """Return an operator as it is written."""
    node = ast.Name("a")
    whole = ast.Compare(node, [op], [node]) if isinstance(op, ast.cmpop) else ast.BinOp(node, op, node)
    return ast.unparse(whole)[2:-2]


def _header(statement: ast.stmt) -> Iterator[ast.AST]:
    """Return the expressions of a statement itself: not of statements in it, and no types."""
    match statement:
        case ast.FunctionDef():
            yield from [d for d in (*statement.args.defaults, *statement.args.kw_defaults) if d is not None]
        case ast.With():
            yield from (item.context_expr for item in statement.items)
        case ast.AnnAssign():
            yield from [] if statement.value is None else [statement.value]
        case ast.ClassDef() | ast.Raise() | ast.Import() | ast.ImportFrom() | ast.Assert():
            return  # what is raised is a message
        case _:
            yield from (n for n in ast.iter_child_nodes(statement) if isinstance(n, ast.expr))


def _descend(node: ast.AST) -> Iterator[ast.AST]:
    """Return a node and all in it, without texts and what is said in warnings."""
    yield node
    name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
    if isinstance(node, ast.JoinedStr) or name == "warnings.warn" or name.endswith(("Error", "cast")):
        return
    for child in ast.iter_child_nodes(node):
        yield from _descend(child)
