"""``nwbrnn inspect``: what is in a file, and what would be read."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nwbrnn.cli import options
from nwbrnn.cli.output import check_json, print_choices, print_table, say, step, write_json

if TYPE_CHECKING:
    from nwbrnn.config import ReadConfig
    from nwbrnn.readers.inspect import Inspection


@options.takes_reading
def inspect(
    files: options.Files,
    only_choices: Annotated[
        bool, typer.Option("--choices", help="Print only what a fit would read, and why.")
    ] = False,
    read: options.Read = options.BY_RULE,
    config: options.ConfigPath = None,
    json_path: options.JsonPath = None,
    overwrite: options.OverwriteJson = False,
) -> None:
    """Show what an NWB file holds, what a fit would read from it, and why.

    If you give several files, the command also says whether they can be pooled. The exit code is 2 if a fit
    would read nothing.

    nwbrnn inspect session.nwb --choices
    nwbrnn inspect monday.nwb tuesday.nwb
    """
    from nwbrnn.readers import inspect_nwb

    check_json(json_path, overwrite=overwrite)
    settings = options.choose_reading(files, options.load_config(config).read, read, json_path)
    if len(files) > 1:
        _inspect_sessions(files, settings, json_path, only_choices=only_choices, overwrite=overwrite)
        return
    with step(f"Inspecting {files[0]}"):
        found = inspect_nwb(files[0], settings)
    write_json(found.to_dict(), json_path, overwrite=overwrite)
    if not only_choices:
        _print_contents(found)
    if found.problem is None:
        print_choices(choice.to_dict() for choice in found.choices)
    else:
        say(f"A fit would read nothing: {found.problem}")
        raise typer.Exit(2)


def _print_contents(found: "Inspection") -> None:
    """Print what the file holds."""
    print_table("Session", ("what", "value"), found.identity.items())
    rows = [
        (s["path"], s["role"], f"{s['samples']} x {len(s['channels'])}", _interval(s), s["unit"],
         ", ".join(s["channels"][:16]))
        for s in found.signals
    ]  # fmt: skip
    print_table("Time series", ("path", "role", "shape", "interval", "unit", "channels"), rows)
    print_table("Units", ("what", "value"), [(k, _join(v)) for k, v in found.units.items()])
    trials = [(t["name"], t["different"], t["missing"], ", ".join(t["examples"])) for t in found.trials]
    print_table("Trial columns", ("column", "different values", "missing", "examples"), trials)


def _inspect_sessions(
    files: Sequence[str],
    settings: "ReadConfig",
    json_path: Path | None,
    *,
    only_choices: bool,
    overwrite: bool,
) -> None:
    """Show whether several files can be pooled, with what they have in common or what would be read."""
    from nwbrnn.readers import outline_sessions

    with step(f"Inspecting {', '.join(files)}"):
        found = outline_sessions(files, settings).to_dict()
    write_json(found, json_path, overwrite=overwrite)
    if only_choices:
        for one in found["sessions"]:
            print_choices(one["choices"], of=one["name"])
    else:
        _print_sessions(found["sessions"])
    if not found["problems"]:
        say("A fit can pool these sessions.")
        return
    say("A fit cannot pool these sessions:")
    for problem in found["problems"]:
        say(problem)
    raise typer.Exit(2)


def _print_sessions(sessions: Sequence[Mapping[str, Any]]) -> None:
    """Print what decides whether sessions can be pooled."""
    rows = [
        (
            one["name"],
            one["trials"],
            one["units"],
            ", ".join(one["outputs"]),
            ", ".join(one["inputs"]),
            ", ".join(one["conditions"][:16]),
            f"{one['bin_size']:g} s, {one['window'][0]:g} to {one['window'][1]:g} s",
        )
        for one in sessions
    ]
    columns = ("session", "trials", "units", "outputs", "inputs", "conditions", "bins")
    print_table("Sessions", columns, rows)


def _interval(signal: Mapping[str, Any]) -> str:
    """Return the time between the samples of a series, and whether it is only their mean."""
    if signal["interval"] is None:
        return "–"
    text = f"{signal['interval'] * 1000:.4g} ms"
    return f"{text} on average, irregular" if signal["varies"] else text


def _join(value: object) -> object:
    return (", ".join(map(str, value)) or "–") if isinstance(value, list) else value
