"""``nwbrnn simulate``: make a teacher."""

from pathlib import Path
from typing import Annotated

import typer

from nwbrnn.cli import options
from nwbrnn.cli.access import Access
from nwbrnn.cli.output import say, step
from nwbrnn.config_check import parse_settings
from nwbrnn.errors import ConfigError


def simulate(
    output: options.Output,
    teacher: Annotated[
        str | None, typer.Option(help="Its mechanism: soc, low_rank, feedforward or ring. Default soc.")
    ] = None,
    neurons: Annotated[int | None, typer.Option(help="Neurons. Default 200.")] = None,
    directions: Annotated[int | None, typer.Option(help="Reach directions. Default 8.")] = None,
    trials: Annotated[int | None, typer.Option(help="Trials of each direction. Default 5.")] = None,
    muscles: Annotated[int | None, typer.Option(help="Muscles. Default 6.")] = None,
    preparation: Annotated[float | None, typer.Option(help="Before the go cue in s. Default 0.5.")] = None,
    movement: Annotated[float | None, typer.Option(help="After the go cue in s. Default 0.7.")] = None,
    bin_size: Annotated[float | None, typer.Option(help="Sampling interval in s. Default 0.01.")] = None,
    noise: Annotated[float | None, typer.Option(help="Input noise, SD in Hz. Default 0.5.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of circuit, noise and spikes. Default 0.")] = None,
    repeat: Annotated[
        Path | None,
        typer.Option(help="Take circuit and settings from this teacher file."),
        Access.READ,
    ] = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Simulate a circuit that reaches, stability-optimized by default; write it as an ordinary NWB file.

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
            raise ConfigError(f"--neurons: the circuit of {repeat} has {len(weights)} neurons; leave it out")
        circuit, given = Circuit(weights), stored | given
    config = parse_settings(TeacherConfig, given, source="command line")
    with step("Simulating"):
        ds = simulate_teacher(config, circuit=circuit)
    with step(f"Writing {output}"):
        write_teacher(ds, output, overwrite=overwrite)
    sizes = ", ".join(f"{ds.sizes[d]} {d}s" for d in ("trial", "unit", "output"))
    say(f"Wrote {output}: {sizes}, {ds.sizes['time']} bins of {ds.attrs['bin_size']:g} s.")
