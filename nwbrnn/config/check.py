"""Check settings and describe each fault: which setting, what was expected, and what was found."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from nwbrnn.errors import ConfigError
from nwbrnn.text import describe, shorten

MAX_FAULTS = 20
"""The largest number of faults that one message lists."""

Settings = TypeVar("Settings", bound=BaseModel)


def parse_settings(model: type[Settings], values: object, *, source: str) -> Settings:
    """Check settings by name and report all their faults in one message, which begins with their source."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        faults = [text for _, text in describe_faults(error, model)]
        raise ConfigError(f"{source}: " + "; ".join(map(shorten, faults[:MAX_FAULTS]))) from error


def change_settings(base: Settings, changes: Mapping[str, Any], *, source: str) -> Settings:
    """Return settings with some of them changed, checked by :func:`parse_settings`.

    Examples
    --------
    >>> from nwbrnn.config import ReadConfig
    >>> change_settings(ReadConfig(nan="mask"), {"bin_size": 0.05}, source="test").nan
    'mask'
    """
    return parse_settings(type(base), base.model_dump() | dict(changes), source=source)


Place = tuple[int | str, ...]

_EXPECTED = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "tuple": "a list",
    "list": "a list",
    "dict": "names with values",
    "json": "text in JSON",
    "none": "null",
    "missing": "a value for each",
}
_EXACTLY = {
    "finite_number": "a finite number",
    "invalid_key": "names that are text",
    "string_too_short": "text that is not empty",
    "too_long": "{max_length} values at most",
}


def describe_faults(error: ValidationError, model: type[BaseModel]) -> list[tuple[Place, str]]:
    """Return the place of each fault among the settings, and a sentence that describes it.

    Where a value may be of several kinds, pydantic lists a fault for each kind; here they are one fault.
    """
    kinds: dict[Place, list[Any]] = {}
    for fault in error.errors():
        kinds.setdefault(_locate(model, fault["loc"]), []).append(fault)
    for place in [p for p in kinds if any(p and p == other[: len(p)] for other in kinds if other != p)]:
        del kinds[place]  # the fault of the list itself: its faulty item says more
    return [_describe_fault(place, faults, model) for place, faults in kinds.items()]


def _locate(model: type[BaseModel], loc: Place) -> Place:
    """Return section, setting, key and list index of a place, without pydantic's names of kinds.

    Examples
    --------
    >>> from nwbrnn.config import JobConfig
    >>> _locate(JobConfig, ("read", "map", "dict[literal['emg'],str]", "emg"))
    ('read', 'map', 'emg')
    >>> _locate(JobConfig, ("read", "outputs", "tuple[str, ...]", 1))
    ('read', 'outputs', 1)
    >>> _locate(JobConfig, ("read", "no_such_setting"))
    ('read', 'no_such_setting')
    """
    for depth, name in enumerate(loc, start=1):
        if name not in model.model_fields:
            break
        annotation = model.model_fields[str(name)].annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            model = annotation
            continue
        has_keys = dict in (annotation, *map(get_origin, (annotation, *get_args(annotation))))
        rest = (part for part in loc[depth:] if isinstance(part, int) or (has_keys and _is_key(part)))
        return loc[:depth] + tuple(rest)
    return loc


def _is_key(part: str) -> bool:
    """Return whether a part of a place is a key from the user rather than pydantic's name of a kind."""
    return part != "[key]" and not part.startswith(("dict[", "literal["))


def _describe_fault(place: Place, faults: list[Any], model: type[BaseModel]) -> tuple[Place, str]:
    """Return the place of a fault and what is wrong there."""
    first = faults[0]
    name = ".".join(map(str, place))
    if first["type"] == "extra_forbidden":
        return place, f"{shorten(name)}: unknown setting; {_suggest(place, model)}"
    if first["type"] == "model_type":
        known = list(_find_section(model, place).model_fields)
        return place, f"{name}: expected settings by name; {_list(known)}".removeprefix(": ")
    own = [fault["msg"].removeprefix("Value error, ") for fault in faults if fault["type"] == "value_error"]
    if own and isinstance(first["input"], dict) and "expected" not in own[0].split(":")[0].split():
        word = own[0].split(maxsplit=1)[0].rstrip(":")  # a message about several settings names them itself
        return (*place, word), f"{name}.{own[0]}" if name else own[0]
    expected = dict.fromkeys(_say_expected(fault) for fault in faults if fault["type"] != "value_error")
    text = own[0] if own else f"expected {' or '.join(expected)}"
    got = "" if "but got" in text else f", but got {describe(first['input'])}{_say_default(place, model)}"
    return place, f"{name}: {text}{got}"


def _say_expected(fault: Any) -> str:
    """Return what pydantic expected in place of a faulty value."""
    kind = str(fault["type"]).split("_", maxsplit=1)[0]
    if (
        fault["type"].endswith(("_type", "_parsing", "_from_float", "_required", "_invalid"))
        or kind == "missing"
    ):
        return _EXPECTED.get(kind, str(fault["msg"]))
    if fault["type"] in _EXACTLY:
        return _EXACTLY[fault["type"]].format_map(fault.get("ctx", {}))
    if fault["type"] == "literal_error":
        return str(fault["ctx"]["expected"])
    return str(fault["msg"]).replace("Input should be", "a value").removeprefix("a value a ")


def _say_default(place: Place, model: type[BaseModel]) -> str:
    """Return the default of a setting, for a message."""
    for depth, part in enumerate(place):
        section = _find_section(model, place[:depth])
        field = section.model_fields.get(str(part))
        if field is None or field.is_required():
            return ""
        if not isinstance(field.default, BaseModel):
            return f" (default {field.default!r})" if field.default and depth == len(place) - 1 else ""
    return ""


def _suggest(place: Place, model: type[BaseModel]) -> str:
    """Return what the user may have meant by an unknown setting."""
    name, known = str(place[-1]), list(_find_section(model, place[:-1]).model_fields)
    for other, field in model.model_fields.items():
        if isinstance(field.default, BaseModel) and name in type(field.default).model_fields:
            return f"it belongs to the section {other}"
    close = get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else _list(known)


def _list(known: list[str]) -> str:
    """Return the known settings, or where to find them if there are many."""
    return f"there are {', '.join(known)}" if len(known) <= 20 else "`nwbrnn config` shows them all"


def _find_section(model: type[BaseModel], place: Place) -> type[BaseModel]:
    """Return the model of the section at a place, or the whole model."""
    for part in place:
        field = model.model_fields.get(str(part))
        section = field.annotation if field is not None else None
        if isinstance(section, type) and issubclass(section, BaseModel):
            model = section
    return model
