"""The ``nwbrnn`` command. Errors a user can cause become one paragraph and exit code 2."""

import sys

import typer

from nwbrnn.cli.convert import convert
from nwbrnn.cli.dandi import dandi
from nwbrnn.cli.doctor import doctor
from nwbrnn.cli.evaluate import evaluate
from nwbrnn.cli.fit import fit
from nwbrnn.cli.inspect import inspect
from nwbrnn.cli.read import read
from nwbrnn.cli.reproduce import reproduce
from nwbrnn.cli.simulate import simulate
from nwbrnn.cli.sweep import sweep
from nwbrnn.errors import NwbrnnError

app = typer.Typer(
    help="From an NWB file to a recurrent network that reproduces muscles and recorded neurons, and back.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for command in (fit, sweep, dandi, reproduce, inspect, read, doctor, evaluate, simulate, convert):
    app.command()(command)


def main() -> None:
    """Run the command line."""
    try:
        app()
    except NwbrnnError as error:
        sys.stderr.write(f"Error: {error}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted; nothing was written.\n")
        sys.exit(130)
