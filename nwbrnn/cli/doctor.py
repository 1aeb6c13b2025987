"""``nwbrnn doctor``: what in a file would bias a fit."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import typer

from nwbrnn.addresses import strip_secrets
from nwbrnn.cli import options
from nwbrnn.cli.output import check_json, print_table, say, step, write_json


@options.takes_reading
def doctor(
    file: options.File,
    read: options.Read = options.BY_RULE,
    config: options.ConfigPath = None,
    json_path: options.JsonPath = None,
    overwrite: options.OverwriteJson = False,
) -> None:
    """Find what in an NWB file would bias a fit, and say what to do about it.

    The command examines what a fit would read with the same options, and what else a fit could use. The
    exit code is 0 if nothing would bias a fit, 1 if something would, and 2 if the file cannot be read.

    nwbrnn doctor session.nwb
    """
    from nwbrnn.readers.doctor import diagnose

    check_json(json_path, overwrite=overwrite)
    settings = options.choose_reading(file, options.load_config(config).read, read, json_path)
    with step(f"Examining {file}"):
        findings = diagnose(file, settings)
    biases = any(finding.biases for finding in findings)
    plain = [asdict(finding) for finding in findings]
    values = {"file": strip_secrets(file), "biases": biases, "findings": plain}
    write_json(values, json_path, overwrite=overwrite)
    print_findings([(one["object"], one) for one in plain], "object")
    if biases:
        raise typer.Exit(1)
    refused = any(finding.rule == "refused" for finding in findings)
    say(
        "nwbrnn found nothing that would bias a fit."
        + " But a fit would refuse this file; see above." * refused
    )


def print_findings(findings: Iterable[tuple[str, Mapping[str, Any]]], where: str) -> None:
    """Print findings, each with where it is; a problem that several places share is one row."""
    places: dict[bool, dict[tuple[str, str, str], list[str]]] = {True: {}, False: {}}
    for place, one in findings:
        problem = one["rule"], one["problem"], one["remedy"]
        places[one["biases"]].setdefault(problem, []).append(place)
    for biases, title in ((True, "Findings that would bias a fit"), (False, "Other findings")):
        rows = [
            (rule, names, [problem, f"→ {remedy}"])
            for (rule, problem, remedy), names in places[biases].items()
        ]
        if rows:
            print_table(title, ("rule", where, "problem → what to do"), rows)
