"""``nwbrnn report``: a page on a fit or a sweep that stands alone."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nwbrnn.addresses import strip_secrets
from nwbrnn.cli import options
from nwbrnn.cli.access import Access
from nwbrnn.cli.evaluate import Gru, assess_beside_all
from nwbrnn.cli.output import say, step
from nwbrnn.cli.perturb import SIZE, At, Duration, Size, Unit, parse_push
from nwbrnn.errors import ConfigError

if TYPE_CHECKING:
    from nwbrnn.prediction import Push

Source = Annotated[
    Path,
    typer.Argument(
        help="The NWB file of a fit, or the folder of a sweep.", show_default=False, metavar="FIT|FOLDER"
    ),
    Access.READ,
]
Page = Annotated[
    Path,
    typer.Option(
        "--output", "-o", help="The HTML page to write; its name ends in .html.", show_default=False
    ),
    Access.WRITE,
]


def report(
    source: Source,
    output: Page,
    unit: Unit = None,
    size: Size = SIZE,
    at: At = 0.0,
    duration: Duration = 0.0,
    gru: Gru = False,
    name: options.Name = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Write one HTML page for any browser on a fit or a sweep: verdict, figures, scores and provenance.

    nwbrnn report fit.nwb -o report.html
    """
    from nwbrnn.storage.paths import check_output

    check_output(output, overwrite=overwrite, suffix=".html")
    verdict = ""
    if (source / "sweep.json").exists():
        from nwbrnn.sweep.page import write_sweep_report

        given = {
            "--unit": bool(unit), "--size": size != SIZE, "--at": at != 0, "--duration": duration != 0,
            "--gru": gru, "--name": bool(name),
        }  # fmt: skip
        unused = [option for option, value in given.items() if value]
        if unused:
            raise ConfigError(
                f"{unused[0]}: expected no value for {source}, the folder of a sweep, whose page does not "
                "use it; leave it out, or name a file with a fit"
            )
        with step("Drawing"):
            write_sweep_report(source, output, overwrite=overwrite)
    else:
        push = parse_push(unit, size=size, at=at, duration=duration)
        verdict = _report_fit(source, output, name=name, gru=gru, push=push, overwrite=overwrite)
    size = output.stat().st_size / 1e6
    if verdict:
        say(verdict)
    say(f"Wrote {output} ({size:.1f} MB). Open it in a browser.")


def _report_fit(
    source: Path, output: Path, *, name: str | None, gru: bool, push: "Push | None", overwrite: bool
) -> str:
    """Write the page of a fit, and return its verdict."""
    from nwbrnn.formats.fit.decode import read_fit, read_versions
    from nwbrnn.report import write_fit_report

    with step(f"Reading {source}"):
        result = read_fit(source, name)
    versions = [f"{software} {version}" for software, version in read_versions(source, name).items()]
    shown = Path(strip_secrets(str(source))).name
    about = {"fit file": shown, "fitted with": ", ".join(versions) or "unknown"}
    with step("Computing all scores and their intervals, and drawing"):
        assessment = assess_beside_all(result, result.predicted, gru=gru)
        return write_fit_report(
            result, output, about=about, assessment=assessment, push=push, overwrite=overwrite
        )
