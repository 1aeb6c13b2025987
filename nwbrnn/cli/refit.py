"""``nwbrnn refit``: repeat a stored fit, and compare."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from nwbrnn.cli import options
from nwbrnn.cli.access import Access, list_paths
from nwbrnn.cli.output import check_json, print_table, say, step, write_json

if TYPE_CHECKING:
    from nwbrnn.result import FitResult

Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Also write the new fit to this NWB file."),
    Access.WRITE,
]
StartFrom = Annotated[
    str | None,
    typer.Option(
        "--start-from",
        help="The earlier fit at whose weights this one began, if it is not next to the fit.",
        metavar="FILE",
    ),
    Access.READ,
]


def refit(
    file: options.Fit,
    output: Output = None,
    source: options.SourceFiles = None,
    start_from: StartFrom = None,
    name: options.Name = None,
    json_path: options.JsonPath = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Repeat a stored fit from the file that was fitted, with the stored settings, and compare both fits.

    nwbrnn refit fit.nwb
    """
    from nwbrnn.formats.fit.decode import find_fit_sources, find_start, read_fit
    from nwbrnn.formats.fit.export import check_fit_output, write_fit
    from nwbrnn.job import refit as repeat
    from nwbrnn.storage.paths import check_apart

    stored = read_fit(file, name)
    found = source or find_fit_sources(file, stored.recorded)
    started = start_from or find_start(file, stored.config.start_from)
    check_apart(list_paths(output, json_path), [file, *found, *list_paths(started)])
    check_json(json_path, overwrite=overwrite)
    if output is not None:
        check_fit_output(found, output, overwrite=overwrite)
    with step(f"Repeating the fit of {', '.join(found)}"):
        again = repeat(stored, found, start_from=started)
    if output is not None:
        write_fit(again, found, output, overwrite=overwrite)
    compared = _compare(stored, again)
    write_json(compared, json_path, overwrite=overwrite, after=output)
    rows = [(s["score"], f"{s['stored']:.6f}", f"{s['repeated']:.6f}") for s in compared["scores"]]
    print_table("Held-out trials", ("score", "stored", "repeated"), rows)
    if compared["same_weights"]:
        say("The fit was repeated exactly: all weights are the same.")
    else:
        say(
            f"The weights differ by up to {compared['largest_difference']:.1e}. The reason may be another "
            "machine, other versions, or an interrupted fit."
        )


def _compare(stored: "FitResult", again: "FitResult") -> dict[str, Any]:
    """Return whether the weights are the same, and the scores of both."""
    differences = [
        np.abs(again.weights[name].astype(float) - values).max() if name in again.weights else np.inf
        for name, values in stored.weights.items()
    ]
    names = ("output R2", "sampled neurons R2", "unsampled neurons R2")
    return {
        "same_weights": bool(max(differences) == 0),
        "largest_difference": float(max(differences)),
        "scores": [
            {"score": n, "stored": stored.scores.get(n).value, "repeated": again.scores.get(n).value}
            for n in names
        ],
    }
