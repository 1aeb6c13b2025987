"""``nwbrnn reproduce``: the three claims of the paper."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nwbrnn.cli import options
from nwbrnn.cli.access import Access
from nwbrnn.cli.output import check_json, print_table, say, say_interrupted, write_json
from nwbrnn.cli.sweep import Scheduler, show_cells

if TYPE_CHECKING:
    from collections.abc import Hashable

    import pandas as pd

    from nwbrnn.reproduce import Claim


def reproduce(
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="Folder for all results; an existing one is continued.", metavar="FOLDER"
        ),
        Access.WRITE,
    ] = Path("reproduction"),
    quick: Annotated[bool, typer.Option("--quick", help="Three circuits instead of ten.")] = False,
    scheduler: Scheduler = None,
    json_path: options.JsonPath = None,
    overwrite: options.OverwriteJson = False,
) -> None:
    """Test the three claims of Salatiello & Giese 2020 on simulated circuits.

    nwbrnn reproduce --quick
    """
    from nwbrnn.reproduce import reproduce as run

    check_json(json_path, overwrite=overwrite)
    with show_cells() as begin:
        try:
            found = run(output, quick=quick, scheduler=scheduler, progress=begin)
        except KeyboardInterrupt:
            say_interrupted(f"finished results are in {output}; run the same command again to continue.")
            raise typer.Exit(130) from None
    about = {"claims": [claim.to_dict() for claim in found.claims], "mechanisms": list_rows(found.mechanisms)}
    write_json(about, json_path, overwrite=overwrite)
    print_claims(found.claims)
    print_mechanisms(found.mechanisms)
    say(f"Wrote {output}: simulated circuits, sweeps, figures, claims.json and mechanisms.csv.")


def list_rows(mechanisms: "pd.DataFrame") -> "list[dict[Hashable, Any]]":
    """Return rows as plain values, NaN as ``None``."""
    return mechanisms.astype(object).where(mechanisms.notna(), None).to_dict("records")


def print_mechanisms(mechanisms: "pd.DataFrame") -> None:
    """Print for each kind of circuit what networks recover of it."""
    for kind, part in mechanisms.groupby("mechanism", sort=False):
        rows = [
            (
                row["measure"],
                "outputs only" if str(row["sampled"]) == "0" else f"{row['sampled']} sampled",
                f"{row['mean']:.2f} ({row['low']:.2f} to {row['high']:.2f})",
                "–" if row["circuit"] != row["circuit"] else f"{row['circuit']:.2f}",
                "yes" if row["recovered"] else "no",
            )
            for row in part.sort_values("measure", kind="stable").to_dict("records")
        ]
        print_table(f"Mechanism: {kind}", ("measure", "network", "mean (95 %)", "circuit", "recovered"), rows)


def print_claims(claims: "tuple[Claim, ...]") -> None:
    """Print each claim, its numbers, and whether it holds."""
    for number, claim in enumerate(claims, start=1):
        rows = [
            (
                one.score,
                f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})"
                if one.baseline != one.baseline
                else f"{one.baseline + one.value:.3f}, {one.value:+.3f} ({one.low:+.3f} to {one.high:+.3f})",
                "–" if one.effect != one.effect else f"{one.effect:.1f}",
                "–" if one.effect != one.effect else f"{one.better} of {one.seeds}",
                "yes" if one.holds else "no",
            )
            for one in claim.evidence
        ]
        title = f"{number}. {claim.text}: {'holds' if claim.holds else 'does not hold here'}"
        columns = ("score", "mean, or mean and gain (95 %)", "effect size", "better in", "holds")
        print_table(title, columns, rows)
