"""The ``nwbrnn`` command: which commands there are, and with which exit code they end.

A command is the function ``NAME`` in ``nwbrnn/cli/NAME.py``, imported when it is called; the help of
``nwbrnn`` needs none of them.
"""

import _thread
import atexit
import gc
import importlib
import inspect
import os
import sys
import threading
import traceback
from contextlib import ExitStack
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer
from typer.core import TyperCommand, TyperGroup

from nwbrnn.cli.access import Access, list_paths
from nwbrnn.errors import NwbrnnError
from nwbrnn.text import show

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

COMMANDS = {
    "look": {
        "inspect": "Show what a file holds, what a fit would read, and why",
        "doctor": "Find what in a file would bias a fit, and the remedy",
        "read": "Align a file by trial, and write it as NetCDF or Zarr",
    },
    "fit": {
        "fit": "Fit a network, score it, and write it to an NWB file",
        "sweep": "Run many fits: files, neurons, settings and seeds",
        "dandi": "Check and fit every file of a dandiset or a folder",
        "reproduce": "Test the claims of the method on simulated circuits",
        "config": "Write a fit.yaml that explains every setting",
    },
    "result": {
        "evaluate": "Run a stored network again, and compute all its scores",
        "perturb": "Push units of a network; compare it with its circuit",
        "report": "Write a page on a fit or a sweep, with its figures",
        "export": "Write a fit to another file, or into its source",
        "refit": "Repeat a stored fit from its source, and compare both",
    },
    "simulate": {
        "simulate": "Simulate a circuit that makes reaching movements",
        "convert": "Make an NWB file of your own simulated arrays",
    },
}
"""Commands and what they do, grouped in the order of work."""

USAGE = "Usage: nwbrnn [OPTIONS] COMMAND [ARGS]...      More: nwbrnn COMMAND --help"
ABOUT = "From an NWB file to a recurrent network that reproduces it, and back to NWB."
END = """\
Options, before the command:
  -v, --verbose  print each step      --version             print the version
  -q, --quiet    print only errors    --install-completion  for your shell

Example:    nwbrnn fit session.nwb -o fit.nwb --sampled 20
Exit codes: 0 done, 1 partly done, 2 bad input, 70 bug in nwbrnn, 130 Ctrl-C"""

METAVARS = {int: "NUMBER", float: "NUMBER", Path: "FILE"}
"""What the help calls a value of a type, if the parameter does not name it; text is always named."""

COLLECTION = 100_000  # new objects before Python looks for cycles, not 700: imports leave no garbage

IN_PART, BAD_INPUT, BUG, INTERRUPTED = 1, 2, 70, 130


class Command(TyperCommand):
    """A command that begins only with names it can use, and none of its outputs in anything that it reads."""

    accesses: "Mapping[str, Access]"

    def invoke(self, ctx: Any) -> Any:
        """Compare outputs and inputs, keep other commands from the outputs, then run the command."""
        from nwbrnn.cli.output import step

        with step("Loading libraries"):
            from nwbrnn.storage.lock import hold
            from nwbrnn.storage.paths import check_apart, check_names

        writes, reads = (
            list_paths(*(ctx.params[name] for name, access in self.accesses.items() if access is wanted))
            for wanted in (Access.WRITE, Access.READ)
        )
        check_names(reads)
        with ExitStack() as held:
            if writes:
                check_apart(writes, reads)
            for path in writes:
                held.enter_context(hold(path))
            return super().invoke(ctx)


class Commands(TyperGroup):
    """The commands, each imported when it is needed."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        texts = {name: text for group in COMMANDS.values() for name, text in group.items()}
        self.commands = {name: TyperCommand(name, help=text) for name, text in texts.items()}

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all commands."""
        return list(self.commands)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command with its options, or ``None`` if there is no such command."""
        return _load(cmd_name) if cmd_name in self.commands else None

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Return the completions of a name, without importing the commands."""
        stubs = TyperGroup(name="nwbrnn", commands=dict(self.commands), params=self.params)
        ctx.command = stubs
        return stubs.shell_complete(ctx, incomplete)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Tell the story on one screen."""
        formatter.write(f"{USAGE}\n\n{ABOUT}\n\n")
        for panel, commands in COMMANDS.items():
            for i, (name, text) in enumerate(commands.items()):
                label = "" if i else typer.style(f"{panel:<10}", bold=True)
                formatter.write(f"  {label:<10}{name:<10} {text}\n")
            formatter.write("\n")
        formatter.write(END)

    def invoke(self, ctx: Any) -> Any:
        """Run a command; Ctrl-C ends it in a word."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            sys.stderr.write("Interrupted.\n")
            raise typer.Exit(INTERRUPTED) from None


def _load(name: str) -> TyperCommand:
    """Import a command and read its options; paragraphs of command lines in its docstring are examples."""
    function: Callable[..., None] = getattr(importlib.import_module(f"nwbrnn.cli.{name}"), name)
    text = "\n\n".join(map(_keep_example, (inspect.getdoc(function) or "").split("\n\n")))
    one = typer.Typer(add_completion=False, rich_markup_mode="rich" if os.isatty(1) else None)
    one.command(name, cls=Command, help=text)(function)
    command = cast(Command, typer.main.get_command(one))
    command.accesses = _list_accesses(function)
    kinds = inspect.signature(function).parameters
    for parameter in command.params:
        _name_value(parameter, get_args(kinds[str(parameter.name)].annotation)[0])
    return command


def _name_value(parameter: Any, kind: Any) -> None:
    """Name the value of a parameter for the help, which otherwise shows a Python type."""
    named = [METAVARS[one] for one in (kind, *get_args(kind)) if one in METAVARS]
    parameter.metavar = parameter.metavar or next(iter(named), None)
    if parameter.param_type_name == "argument":
        parameter.display_type_rich = lambda ctx: None  # its name is enough


def _list_accesses(function: "Callable[..., None]") -> dict[str, Access]:
    """Return which parameters of a command are paths that it reads or writes."""
    return {
        parameter.name: mark
        for parameter in inspect.signature(function).parameters.values()
        for mark in getattr(parameter.annotation, "__metadata__", ())
        if isinstance(mark, Access)
    }


def _keep_example(paragraph: str) -> str:
    """Return a paragraph; the lines of one with command lines are kept apart."""
    return f"\b\nExample:\n{indent(paragraph, '  ')}" if paragraph.startswith("nwbrnn ") else paragraph


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"nwbrnn {version('nwbrnn')}")
        raise typer.Exit


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich" if os.isatty(2) else None,
)


@app.callback()
def _set_verbosity(
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Print each step and its seconds.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    from nwbrnn.cli import output

    if verbose and quiet:
        raise typer.BadParameter("--quiet: expected no --verbose, but got both; give only one of them")
    output.set_verbosity(verbose=verbose, quiet=quiet)


def main() -> None:
    """Run the command line; docs/cli.md lists the exit codes."""
    sys.unraisablehook = _interrupt_again
    gc.set_threshold(COLLECTION)
    atexit.register(gc.freeze)  # or Python looks for cycles among all objects of all libraries when it ends
    try:
        app(prog_name="nwbrnn")
    except NwbrnnError as error:
        _end(map(str, error.args), BAD_INPUT)
    except Exception as error:
        _end(_explain_bug(error), BUG)


def _interrupt_again(lost: "sys.UnraisableHookArgs") -> None:
    """Interrupt once more if Ctrl-C came during a finalizer or a callback, where Python drops exceptions."""
    if lost.exc_type is KeyboardInterrupt:
        threading.Timer(0.01, _thread.interrupt_main).start()  # what this function raises is dropped, too
    else:
        sys.__unraisablehook__(lost)


def _end(lines: "Iterable[str]", code: int) -> None:
    sys.stderr.write("Error: " + "\n".join(map(show, lines)) + "\n")
    sys.exit(code)


def _explain_bug(error: Exception) -> list[str]:
    """Return the lines that are to be said of an error that should not have happened."""
    from nwbrnn.cli.output import steps

    if not steps.quiet:
        return "".join(traceback.format_exception(error)).rstrip().split("\n")
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return [f"unexpected {what}; this is a bug in nwbrnn; `nwbrnn --verbose COMMAND ...` shows where"]
