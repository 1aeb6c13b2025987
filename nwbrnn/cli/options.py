"""Options that several commands share: which part of a file to read."""

import functools
import inspect
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nwbrnn.addresses import strip_secrets
from nwbrnn.cli.access import Access, list_paths
from nwbrnn.errors import ConfigError
from nwbrnn.text import describe

if TYPE_CHECKING:
    from nwbrnn.config import JobConfig, ReadConfig

File = Annotated[
    str,
    typer.Argument(
        help="An NWB file: a path, https://..., s3://... or dandi://DANDISET/path.",
        show_default=False,
        metavar="FILE",
    ),
    Access.READ,
]
Files = Annotated[
    list[str],
    typer.Argument(
        help="An NWB file: a path, https://..., s3://... or dandi://DANDISET/path. nwbrnn pools several "
        "files as sessions of one task.",
        show_default=False,
        metavar="FILE...",
    ),
    Access.READ,
]
Fit = Annotated[
    str, typer.Argument(help="The NWB file of a fit.", show_default=False, metavar="FIT"), Access.READ
]
Output = Annotated[
    Path, typer.Option("--output", "-o", help="The NWB file to write.", show_default=False), Access.WRITE
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing output files.")]
OverwriteJson = Annotated[bool, typer.Option("--overwrite", help="Replace an existing JSON file.")]
JsonPath = Annotated[
    Path | None,
    typer.Option("--json", help="Also write the results as JSON; - prints only the JSON."),
    Access.WRITE,
]
ConfigPath = Annotated[Path | None, typer.Option("--config", help="A fit.yaml with settings."), Access.READ]


_SOME, _ONE, _NUMBER = list[str] | None, str | None, float | None
_BY_RULE, _BY_FILTER = "by rule", "by --emg-filter"
_READING: dict[str, tuple[Any, str | None, str, str | None]] = {
    # setting: type, name of its value, what it is, default
    "map": (_SOME, "ROLE=PATH", "Object with a role: emg=processing/behavior/emg", None),
    "outputs": (_SOME, "SIGNAL", "Outputs: emg, force, kinematics or a path", _BY_RULE),
    "channels": (_ONE, "NAME,NAME", "Outputs to keep, such as FCR,FCU", "all"),
    "inputs": (_SOME, "SIGNAL", "Inputs: task (from the trial table) or a path", _BY_RULE),
    "rates": (_ONE, "SIGNAL", "Rates: spikes, or the path of a series", _BY_RULE),
    "units": (_SOME, "COLUMN=VALUE", "Units to keep, such as location=M1", "all"),
    "align_to": (_ONE, "COLUMN", "Trial column with the time that becomes 0", _BY_RULE),
    "window": (
        tuple[float, float] | None, "START STOP", "Start and stop relative to time 0, in s", _BY_RULE),
    "whole_trials": (bool | None, None, "Read each trial from its start to its stop", None),
    "bin_size": (_NUMBER, None, "Width of a time bin, in s", _BY_RULE),
    "condition": (_SOME, "COLUMN", "Trial column that names the condition", _BY_RULE),
    "sectors": (
        int | None, None, "Number of conditions for directions that differ from trial to trial", "8"),
    "second_harmonic": (
        _NUMBER, None, "Size of two more inputs: cosine and sine of twice a direction", "0"),
    "where": (_SOME, "COLUMN=VALUE", "Trials to keep: all, or for example result=R", _BY_RULE),
    "smoothing": (_NUMBER, None, "SD of the Gaussian that turns counts into rates, in s", "0.05"),
    "emg": (_ONE, "KIND", "Kind of EMG: raw or envelope", _BY_RULE),
    "emg_filter": (_ONE, "NAME", "Filters for raw EMG: miller or falcon", "miller"),
    "emg_notch": (list[float] | None, "NUMBER", "Frequency to cut out of raw EMG, in Hz", _BY_FILTER),
    "emg_high_pass": (_NUMBER, None, "Corner frequency of the high-pass for raw EMG, in Hz", _BY_FILTER),
    "emg_low_pass": (_NUMBER, None, "Corner frequency of the low-pass for raw EMG, in Hz", _BY_FILTER),
    "stamps": (_ONE, "KIND", "What time stamps mark: start, centre or end of a sample", _BY_RULE),
    "nan": (_ONE, "ACTION", "What to do with NaN: raise an error, or mask its bins", "raise"),
    "follow_links": (bool | None, None, "Allow links that lead out of the file", None),
}  # fmt: skip


def _create_option(name: str, kind: Any, metavar: str | None, text: str, default: str | None) -> Any:
    """Return the type of an option that says what to read; a list of values can be given one by one."""
    repeatable = "; repeatable" if kind in (_SOME, list[float] | None) else ""
    about = f"{text}{repeatable}." + (f" Default: {default}." if default else "")
    panel = "What to read (chosen by rule if not given)"
    option = f"--{name.replace('_', '-')}"
    return Annotated[kind, typer.Option(option, help=about, rich_help_panel=panel, metavar=metavar)]


READING = {name: _create_option(name, *about) for name, about in _READING.items()}
"""The options of reading, by name: those of ``ReadConfig``, and ``whole_trials``."""
Read = Mapping[str, Any]
"""Their values, as a command gets them."""
BY_RULE: Read = MappingProxyType({})
"""None of them given."""


def takes_reading(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of reading; its parameter ``read`` gets their values."""
    own = inspect.signature(command).parameters
    parameters: list[inspect.Parameter] = []
    for name, parameter in own.items():
        if name != "read":
            parameters.append(parameter)
            continue
        kind = parameter.kind
        parameters += [inspect.Parameter(n, kind, default=None, annotation=a) for n, a in READING.items()]

    @functools.wraps(command)
    def run(**values: Any) -> None:
        command(**{n: values[n] for n in own if n != "read"}, read={n: values[n] for n in READING})

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


Name = Annotated[
    str | None, typer.Option("--name", help="Name of the fit, if the file holds several.", metavar="NAME")
]
SourceFiles = Annotated[
    list[str] | None,
    typer.Option(
        "--source",
        help="The NWB file that was fitted, if it is not next to the fit; once for each session of a pool.",
        metavar="FILE",
    ),
    Access.READ,
]


def check_linked(files: Iterable[str], *outputs: Any) -> None:
    """Refuse outputs that are among what files link to; call it where links are followed."""
    from nwbrnn.storage import list_linked_files
    from nwbrnn.storage.paths import check_apart

    check_apart(list_paths(*outputs), [linked for file in files for linked in list_linked_files(file)])


def describe_command() -> str:
    """Return the command line, for the provenance; addresses without what may be secret in them."""
    return shlex.join(["nwbrnn", *map(strip_secrets, sys.argv[1:])])


def load_config(path: Path | None) -> "JobConfig":
    """Return the settings of a file, or the defaults."""
    from nwbrnn.config import JobConfig
    from nwbrnn.config.file import read_config

    return JobConfig() if path is None else read_config(path)


def choose_reading(
    file: str | Sequence[str], config: "ReadConfig", read: Read, *outputs: Any
) -> "ReadConfig":
    """Return how to read files, by settings and options; outputs must not be among what they may link to."""
    settings = merge_read(config, read)
    if settings.follow_links:
        check_linked([file] if isinstance(file, str) else file, *outputs)
    return settings


def merge_read(config: "ReadConfig", read: Read) -> "ReadConfig":
    """Return reading settings with the options of reading that were given on the command line."""
    from nwbrnn.config.check import change_settings

    given = {name: value for name, value in read.items() if value is not None and value is not False}
    if given.pop("whole_trials", False):
        if "window" in given:
            raise ConfigError("--whole-trials: expected no --window, but got both; give only one of them")
        given["window"] = "trial"
    for name in ("outputs", "inputs", "condition"):
        if name in given:
            given[name] = given[name][0] if len(given[name]) == 1 else tuple(given[name])
    if "channels" in given:
        given["channels"] = tuple(part.strip() for part in given["channels"].split(","))
    if "where" in given:
        given["where"] = {} if given["where"] == ["all"] else _parse_pairs(given["where"], "--where")
    if "units" in given:
        given["units"] = _parse_pairs(given["units"], "--units")
    if "map" in given:
        given["map"] = config.map | _parse_pairs(given["map"], "--map")
    return change_settings(config, given, source="command line")


def parse_values(values: list[str], option: str) -> dict[str, Any]:
    """Return names and values from ``name=value``; values as in a ``fit.yaml``."""
    parsed: dict[str, Any] = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not (name and equals):
            raise ConfigError(f"{option}: expected name=value, but got {value!r}")
        parsed[name.strip()] = parse_value(text, option)
    return parsed


def parse_value(text: str, option: str) -> Any:
    """Return a value as in a ``fit.yaml``."""
    import yaml

    from nwbrnn.config.file import parse_yaml

    try:
        return parse_yaml(text)[0]
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date such as 2020-13-45
        raise ConfigError(f"{option}: expected a value as in YAML, but got {describe(text)}") from error


def _parse_pairs(values: list[str], option: str) -> dict[str, str]:
    """Return names and values from ``name=value``."""
    pairs = [value.partition("=") for value in values]
    for name, equals, _ in pairs:
        if not (name and equals):
            what = "column" if option != "--map" else "role"
            more = " or all" if option == "--where" else ""
            raise ConfigError(f"{option}: expected {what}=value{more}, but got {name!r}")
    joined: dict[str, str] = {}
    for name, _, value in pairs:
        before = f"{joined[name.strip()]}," if name.strip() in joined else ""
        joined[name.strip()] = before + value.strip()
    return joined
