"""``nwbrnn perturb``: push or silence units of a fitted network, and see what it does."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nwbrnn.cli import options
from nwbrnn.cli.access import list_paths
from nwbrnn.cli.output import check_json, print_table, say, step, write_json
from nwbrnn.errors import ConfigError

if TYPE_CHECKING:
    from nwbrnn.mechanism import Effect
    from nwbrnn.prediction import Push
    from nwbrnn.result import FitResult

SIZE = 10.0  # default change of the pushed rates [Hz]
N_UNITS = 10  # of the neurons that change most, on the screen

Unit = Annotated[
    list[str] | None,
    typer.Option(
        "--unit",
        help="Id of a unit to push: 12, or 12=-0.5 for half of --size down; repeatable.",
        metavar="UNIT",
    ),
]

Size = Annotated[float, typer.Option("--size", help="Change of the pushed rates, in Hz.")]
At = Annotated[float, typer.Option("--at", help="Start of the push, in s relative to time 0.")]
Duration = Annotated[
    float, typer.Option("--duration", help="Time over which the push is spread, in s; 0: all at once.")
]


Silent = Annotated[
    list[int] | None,
    typer.Option("--silence", help="Id of a sampled neuron to silence; repeatable.", metavar="UNIT"),
]


def perturb(
    file: options.Fit,
    unit: Unit = None,
    silent: Silent = None,
    size: Size = SIZE,
    at: At = 0.0,
    duration: Duration = 0.0,
    source: options.SourceFiles = None,
    name: options.Name = None,
    json_path: options.JsonPath = None,
    overwrite: options.OverwriteJson = False,
) -> None:
    """Push or silence units of a fitted network, and show how its outputs and units change.

    If the network was fitted to a simulated circuit, the command also compares the responses of network and
    circuit, and you need not name a unit. If the fit left out perturbed trials (setting perturbed), the
    command compares them with the pushed network.

    nwbrnn perturb fit.nwb --unit 12 --unit 40=-0.5 --size 10 --at 0.1
    """
    from nwbrnn.formats.fit.decode import read_fit
    from nwbrnn.mechanism import Teacher, compare_responses, list_effects

    check_json(json_path, overwrite=overwrite)
    with step(f"Reading {file}"):
        result = read_fit(file, name)
    teacher = Teacher.find(result.recorded)
    push = parse_push(unit, size=size, at=at, duration=duration)
    if push is not None and silent:
        raise ConfigError(
            "--unit, --silence: expected units to push or units to silence, but got both; "
            "give only one of them"
        )
    cause = push or silent
    if not cause and teacher is None:
        raise ConfigError(
            "--unit, --silence: expected at least one unit, because no simulated circuit is known for the "
            "fit, but got none; give the id of a unit"
        )
    scored = push is not None and result.config.perturbed is not None
    if source and not scored:
        raise ConfigError(
            "--source: expected a fit that left out perturbed trials (setting perturbed), and units to push, "
            f"because nothing else is read from the recording, but got {', '.join(source)}; leave it out"
        )
    values: dict[str, Any] = {}
    effects: list[Effect] = []
    if cause:
        effects = list_effects(result, cause)
        values["effects"] = [effect.to_dict() for effect in effects]
    if push is not None and scored:
        values["perturbed_trials"] = _score(result, push, file, source, json_path)
    if teacher is not None:
        with step("Perturbing network and circuit"):
            values["responses"] = compare_responses(teacher, result.weights, result.config)
    write_json(values, json_path, overwrite=overwrite)
    if str(json_path) != "-":
        _print(values, effects)


def parse_push(units: list[str] | None, *, size: float, at: float, duration: float) -> "Push | None":
    """Return what the options ask for, or nothing if no unit is named."""
    from nwbrnn.prediction import Push

    if not units:
        unused = {"--size": size != SIZE, "--at": at != 0, "--duration": duration != 0}
        for option in (name for name, is_given in unused.items() if is_given):
            raise ConfigError(
                f"{option}: expected a unit to push, but got none; name one with --unit, or leave it out"
            )
        return None
    weights: dict[int, float] = {}
    for text in units:
        unit, equals, weight = text.partition("=")
        try:
            number, factor = int(unit), float(weight) if equals else 1.0
        except ValueError:
            raise ConfigError(
                f"--unit: expected an id, or id=weight, but got {text!r}; give one such as 12 or 12=-0.5"
            ) from None
        if number in weights:
            raise ConfigError(
                f"--unit: expected each unit once, but got {number} more than once; leave one out"
            )
        weights[number] = factor
    return Push(weights, size, at, duration)


def _score(
    result: "FitResult", push: "Push", file: str, source: list[str] | None, json_path: Path | None
) -> dict[str, dict[str, float]]:
    """Read the recording of the fit again, and compare its perturbed trials."""
    from nwbrnn.formats.fit.decode import find_fit_sources
    from nwbrnn.job import read_again
    from nwbrnn.mechanism import score_perturbed
    from nwbrnn.storage.paths import check_apart

    where = source or find_fit_sources(file, result.recorded)
    check_apart(list_paths(json_path), where)
    with step(f"Reading {', '.join(where)}"):
        ds = read_again(result, where)
    scores = score_perturbed(result, ds, push)
    return {name: {"perturbed": one, "not_perturbed": other} for name, (one, other) in scores.items()}


def _print(values: dict[str, Any], effects: "list[Effect]") -> None:
    """Print what was found."""
    outputs = [effect for effect in effects if effect.kind == "output"]
    units = sorted(effects[len(outputs) :], key=lambda effect: -abs(effect.change))[:N_UNITS]
    columns = ("", "kind", "unit", "largest change", "at [s]", "RMS change", "unperturbed SD")
    for title, shown in (("Outputs", outputs), (f"Units that change most ({len(units)})", units)):
        rows = [
            (one.name, one.kind, one.unit, f"{one.change:+.3g}", f"{one.time:.3f}", f"{one.size:.3g}",
             f"{one.deviation:.3g}")
            for one in shown
        ]  # fmt: skip
        if rows:
            print_table(title, columns, rows)
    if "perturbed_trials" in values:
        scored = [
            (name, f"{one['perturbed']:.3f}", f"{one['not_perturbed']:.3f}")
            for name, one in values["perturbed_trials"].items()
        ]
        print_table("Perturbed trials, R2 on condition averages", ("", "pushed", "not pushed"), scored)
    if "responses" in values:
        compared = [(score, f"{value:.3f}") for score, value in values["responses"].items()]
        print_table("Responses of network and circuit", ("", "value"), compared)
        say("nwbrnn kicks the state at the go cue, within the leading components of the circuit.")
