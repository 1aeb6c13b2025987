"""A ``fit.yaml``: read with the line of everything that is wrong, written with every setting explained."""

from collections.abc import Iterator
from pathlib import Path
from textwrap import wrap
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from nwbrnn.config import JobConfig, Place, describe_faults
from nwbrnn.errors import ConfigError

_HEAD = """\
# Settings of nwbrnn: nwbrnn fit session.nwb -o fit.nwb --config fit.yaml
# These are the defaults; change what you need, and leave the rest out or as it is.
"""
_SIGNS = {"gt": "greater than", "ge": "at least", "lt": "less than", "le": "at most"}


def read_config(path: Path) -> JobConfig:
    """Read a ``fit.yaml`` with the sections ``read`` and ``fit``.

    Raises
    ------
    ConfigError
        If the file cannot be read, is not YAML, or holds an unknown, repeated or unsuitable setting; all of
        them are named, each with its line.
    """
    values, lines, faults = _parse(path)
    try:
        config = JobConfig.model_validate(values)
    except ValidationError as error:
        faults += [(_find_line(lines, place), text) for place, text in describe_faults(error, JobConfig)]
    if faults:
        raise ConfigError("\n".join(f"{path}:{line}: {text}" for line, text in sorted(faults)))
    return config


def _parse(path: Path) -> tuple[Any, dict[Place, int], list[tuple[int, str]]]:
    """Return the values of a file, the line of each, and its repeated settings."""
    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8-sig"))
        root = loader.get_single_node()
        values = {} if root is None else loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        why = " ".join(f"{error.context or ''} {error.problem or ''}".split())
        raise ConfigError(f"{path}:{line}: expected YAML, but {why}") from error
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file; nwbrnn config > {path} writes one to change") from error
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        why = " ".join(str(error).split())  # ValueError: not UTF-8, or a date such as 2020-13-45
        raise ConfigError(f"{path}: expected a readable YAML file, but {why}") from error
    lines: dict[Place, int] = {}
    faults = []
    for place, line in [] if root is None else _walk(root, ()):
        if place in lines and isinstance(place[-1], str):
            text = f"{'.'.join(map(str, place))}: expected once, but it is also on line {lines[place]}"
            faults.append((line, f"{text}; leave one of them out"))
        lines.setdefault(place, line)
    return {} if values is None else values, lines, faults


def _walk(node: yaml.Node, place: Place) -> Iterator[tuple[Place, int]]:
    """Yield the place and line of each value: sections, settings and what is in them, no deeper."""
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
    while place not in lines and place:
        place = place[:-1]
    return lines.get(place, 1)


def format_config() -> str:
    """Return a ``fit.yaml`` with every setting, its default and its meaning; read, it is the defaults."""
    parts = [_HEAD]
    for section, field in JobConfig.model_fields.items():
        parts.append(f"\n{section}:\n")
        parts += [_format_setting(*item) for item in type(field.default).model_fields.items()]
    return "".join(parts)


def _format_setting(name: str, field: FieldInfo) -> str:
    """Return a setting with its meaning above it."""
    value = list(field.default) if isinstance(field.default, tuple) else field.default
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True).removesuffix("...\n")
    about = "; ".join(filter(None, (field.description or "", _describe_range(field))))
    comment = "".join(f"  # {line}\n" for line in wrap(about, 96, break_on_hyphens=False))
    return f"{comment}  {name}: {text}"


def _describe_range(field: FieldInfo) -> str:
    """Return the limits of a number, or the words that are allowed, if the description has not named them."""
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
