"""``nwbrnn doctor``: what in a file would bias a fit."""

from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nwbrnn.cli import options
from nwbrnn.cli.output import check_json, console, print_table, step, write_json

if TYPE_CHECKING:
    from nwbrnn.readers.doctor import Finding

FollowLinks = Annotated[bool, typer.Option("--follow-links", help="Let links lead out of the file.")]


def doctor(
    file: options.File,
    follow_links: FollowLinks = False,
    json_path: options.JsonPath = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Examine an NWB file for what would bias a fit, and say what to do.

    The exit code is 0 if nothing would, 1 if something would, 2 if the file cannot be read.

    nwbrnn doctor session.nwb
    """
    from nwbrnn.readers.doctor import diagnose

    check_json(json_path, overwrite=overwrite, others=[Path(file)])
    with step(f"Examining {file}"):
        findings = diagnose(file, follow_links=follow_links)
    biases = any(finding.biases for finding in findings)
    values = {"file": str(file), "biases": biases, "findings": [asdict(finding) for finding in findings]}
    write_json(values, json_path, overwrite=overwrite)
    _print(findings)
    if biases:
        raise typer.Exit(1)


def _print(findings: "tuple[Finding, ...]") -> None:
    """Print findings; a problem that several objects share is one row."""
    for biases, title in ((True, "Would bias a fit"), (False, "To know")):
        chosen = (finding for finding in findings if finding.biases is biases)
        groups = groupby(chosen, key=lambda finding: (finding.rule, finding.problem, finding.remedy))
        rows = [
            (rule, "\n".join(f.object for f in same), f"{problem}\n→ {remedy}")
            for (rule, problem, remedy), same in groups
        ]
        if rows:
            print_table(title, ("rule", "object", "problem → what to do"), rows)
    if not findings:
        console.print("Nothing was found that would bias a fit.")
