"""``nwbrnn simulate``: simulate a circuit."""

from pathlib import Path
from typing import Annotated

import typer

from nwbrnn.cli import options
from nwbrnn.cli.access import Access
from nwbrnn.cli.output import say, step
from nwbrnn.config.check import parse_settings
from nwbrnn.errors import ConfigError
from nwbrnn.text import show_count


def simulate(
    output: options.Output,
    teacher: Annotated[
        str | None,
        typer.Option(
            help="Mechanism of the circuit: soc, low_rank, feedforward or ring. Default: soc.", metavar="NAME"
        ),
    ] = None,
    neurons: Annotated[int | None, typer.Option(help="Number of neurons. Default: 200.")] = None,
    directions: Annotated[int | None, typer.Option(help="Number of reach directions. Default: 8.")] = None,
    trials: Annotated[
        int | None, typer.Option(help="Number of trials of each direction. Default: 5.")
    ] = None,
    muscles: Annotated[int | None, typer.Option(help="Number of muscles. Default: 6.")] = None,
    preparation: Annotated[
        float | None, typer.Option(help="Time before the go cue, in s. Default: 0.5.")
    ] = None,
    movement: Annotated[float | None, typer.Option(help="Time after the go cue, in s. Default: 0.7.")] = None,
    bin_size: Annotated[float | None, typer.Option(help="Sampling interval, in s. Default: 0.01.")] = None,
    noise: Annotated[float | None, typer.Option(help="SD of the input noise, in Hz. Default: 0.5.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the circuit, the noise and the spikes. Default: 0.")
    ] = None,
    repeat: Annotated[
        Path | None,
        typer.Option(help="Simulate again with the circuit and the settings of this file."),
        Access.READ,
    ] = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Simulate a circuit that makes reaching movements, and write it as an ordinary NWB file.

    By default, the circuit is stability-optimized.

    nwbrnn simulate -o teacher.nwb --neurons 200 --directions 8 --trials 5
    nwbrnn simulate -o ring.nwb --teacher ring
    """
    from nwbrnn.formats import read_circuit, write_teacher
    from nwbrnn.storage.paths import check_output
    from nwbrnn.teacher import Circuit, TeacherConfig, simulate_teacher

    check_output(output, overwrite=overwrite)
    options_given = {
        "teacher": teacher, "n_neurons": neurons, "n_directions": directions, "n_trials": trials,
        "n_muscles": muscles,
        "preparation": preparation, "movement": movement, "bin_size": bin_size, "noise": noise, "seed": seed,
    }  # fmt: skip
    given = {name: value for name, value in options_given.items() if value is not None}
    circuit = None
    if repeat is not None:
        weights, stored = read_circuit(repeat)
        if neurons not in (None, len(weights)):
            raise ConfigError(
                f"--neurons: expected {len(weights)}, the number of neurons of the circuit in {repeat}, "
                f"but got {neurons}; leave the option out"
            )
        circuit, given = Circuit(weights), stored | given
    config = parse_settings(TeacherConfig, given, source="command line")
    with step("Simulating"):
        ds = simulate_teacher(config, circuit=circuit)
    with step(f"Writing {output}"):
        write_teacher(ds, output, overwrite=overwrite)
    sizes = ", ".join(show_count(ds.sizes[d], d) for d in ("trial", "unit", "output"))
    bins = f"{show_count(ds.sizes['time'], 'bin')} of {ds.attrs['bin_size']:g} s"
    say(f"Wrote {output}: {sizes}, {bins}.")
