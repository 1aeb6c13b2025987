"""Read a ``fit.yaml``, reporting the line of each fault, and write one that explains every setting."""

from collections.abc import Iterator
from pathlib import Path
from textwrap import wrap
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from nwbrnn.config import GROUPS, JobConfig
from nwbrnn.config.check import MAX_FAULTS, Place, describe_faults
from nwbrnn.errors import ConfigError
from nwbrnn.text import shorten, show_count

_HEAD = """\
# Settings of nwbrnn: nwbrnn fit session.nwb -o fit.nwb --config fit.yaml
# These are the defaults. Change the settings that you need; you can delete the others.
"""
MAX_BYTES, MAX_VALUES, MAX_DEPTH = 1 << 20, 20_000, 20
"""Limits of a file: its size, its number of values (repeats by aliases count), and its nesting depth."""

_SIGNS = {"gt": "greater than", "ge": "at least", "lt": "less than", "le": "at most"}


def read_config(path: Path) -> JobConfig:
    """Read a ``fit.yaml``, with sections ``read`` and ``fit``; a ConfigError has the line of each fault."""
    values, lines, faults = _parse(path)
    try:
        config = JobConfig.model_validate(values)
    except ValidationError as error:
        faults += [(_find_line(lines, place), text) for place, text in describe_faults(error, JobConfig)]
    if faults:
        raise ConfigError(*_list_faults(path, faults))
    return config


def _list_faults(path: Path, faults: list[tuple[int, str]]) -> list[str]:
    """Return a line for each fault in file order, then the number of those beyond :data:`MAX_FAULTS`."""
    lines = [f"{path}:{line}: {shorten(text)}" for line, text in sorted(faults)]
    more = len(lines) - MAX_FAULTS
    return lines if more <= 0 else [*lines[:MAX_FAULTS], f"{path}: and {show_count(more, 'more fault')}"]


def parse_yaml(text: str) -> tuple[Any, yaml.Node | None]:
    """Return the values of a YAML document and its nodes; aliases may repeat values only up to a limit.

    Raises
    ------
    yaml.YAMLError, ValueError, RecursionError
        If the text is not YAML, or exceeds the limits of this module.
    """
    if len(text) > MAX_BYTES:
        raise ValueError(f"it has {len(text)} characters, more than the {MAX_BYTES} allowed")
    loader = yaml.SafeLoader(text)
    root = loader.get_single_node()
    if root is None:
        return None, None
    _count_values(root, {}, 0)
    return loader.construct_document(root), root


def _count_values(node: yaml.Node, known: dict[int, int], depth: int) -> int:
    """Return how many values a node holds, counting each repeat by an alias."""
    if depth > MAX_DEPTH:  # an alias inside its own anchor never ends
        raise ValueError(f"its values are nested more than {MAX_DEPTH} deep")
    if id(node) not in known:
        children: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            children = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            children = node.value
        known[id(node)] = 1 + sum(_count_values(child, known, depth + 1) for child in children)
        if known[id(node)] > MAX_VALUES:
            raise ValueError(f"it holds more than {MAX_VALUES} values")
    return known[id(node)]


def _parse(path: Path) -> tuple[Any, dict[Place, int], list[tuple[int, str]]]:
    """Return the values of a file, the line of each, and its repeated settings."""
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
        values, root = parse_yaml(content.decode("utf-8-sig"))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        why = " ".join(f"{error.context or ''} {error.problem or ''}".split())
        raise ConfigError(f"{path}:{line}: expected YAML, but {why}") from error
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file; to create one, run nwbrnn config > {path}") from error
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        why = shorten(" ".join(str(error).split()))  # ValueError: not UTF-8, or a date such as 2020-13-45
        raise ConfigError(f"{path}: expected a readable YAML file, but {why}") from error
    lines: dict[Place, int] = {}
    faults = []
    for place, line in [] if root is None else _walk(root, ()):
        if place in lines and isinstance(place[-1], str):
            text = f"{'.'.join(map(str, place))}: expected once, but it is also on line {lines[place]}"
            faults.append((line, f"{text}; delete one of them"))
        lines.setdefault(place, line)
    return {} if values is None else values, lines, faults


def _walk(node: yaml.Node, place: Place) -> Iterator[tuple[Place, int]]:
    """Yield the place and line of each section, each setting and each item in a setting, but no deeper."""
    yield place, node.start_mark.line + 1
    children: list[tuple[Any, yaml.Node, yaml.Node]] = []
    if isinstance(node, yaml.MappingNode):
        children = [(key.value, key, value) for key, value in node.value if isinstance(key, yaml.ScalarNode)]
    elif isinstance(node, yaml.SequenceNode):
        children = [(i, item, item) for i, item in enumerate(node.value)]
    for name, start, child in children if len(place) < 3 else []:
        below = _walk(child, (*place, name))
        next(below)
        yield (*place, name), start.start_mark.line + 1
        yield from below


def _find_line(lines: dict[Place, int], place: Place) -> int:
    """Return the line of a place, or of the nearest one around it."""
    while place and place not in lines:
        named = (*place[:-1], str(place[-1]))  # pydantic turns names that are numbers into numbers
        if named in lines:
            return lines[named]
        place = place[:-1]
    return lines.get(place, 1)


def format_config() -> str:
    """Return a ``fit.yaml`` that describes every setting and sets its default."""
    parts = [_HEAD]
    for section, field in JobConfig.model_fields.items():
        parts.append(f"\n{section}:\n")
        for name, setting in type(field.default).model_fields.items():
            parts += [_format_heading(name) if section == "fit" else "", _format_setting(name, setting)]
    return "".join(parts)


def _format_heading(name: str) -> str:
    """Return a heading above the first setting of a group; nothing above the others."""
    first = {next(iter(group.model_fields)): group for group in GROUPS}
    return f"\n  # ---- {(first[name].__doc__ or '').rstrip('.')} ----\n" if name in first else ""


def _format_setting(name: str, field: FieldInfo) -> str:
    """Return a setting below a comment with its meaning."""
    value = list(field.default) if isinstance(field.default, tuple) else field.default
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True).removesuffix("...\n")
    about = "; ".join(filter(None, (field.description or "", _describe_range(field))))
    comment = "".join(f"  # {line}\n" for line in wrap(about, 96, break_on_hyphens=False))
    return f"{comment}  {name}: {text}"


def _describe_range(field: FieldInfo) -> str:
    """Return the limits of a number or the allowed words, unless the description names them."""
    limits = [
        f"{text} {getattr(limit, sign)}"
        for limit in field.metadata
        for sign, text in _SIGNS.items()
        if hasattr(limit, sign)
    ]
    kinds = (field.annotation, *get_args(field.annotation))
    words = [str(word) for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
    if all(word in (field.description or "") for word in words):
        words = []
    return " and ".join(limits) or ", ".join(words)
