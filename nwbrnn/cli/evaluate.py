"""``nwbrnn evaluate``: predict and score again from a stored fit."""

from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from nwbrnn.cli import options
from nwbrnn.cli.output import check_json, print_assessment, print_table, say, step, write_json
from nwbrnn.errors import ReadError, SchemaError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import xarray as xr

    from nwbrnn.evaluation.scores import Assessment, Scores
    from nwbrnn.result import FitResult

Gru = Annotated[
    bool, typer.Option("--gru", help="Also fit a gated recurrent unit to the same trials, as a baseline.")
]


def evaluate(
    file: options.Fit,
    name: options.Name = None,
    gru: Gru = False,
    json_path: options.JsonPath = None,
    overwrite: options.OverwriteJson = False,
) -> None:
    """Run the network of a stored fit again, check its stored predictions, and compute all its scores.

    The tables show each score next to its limits and to the scores of the baselines. Below them, sentences
    say which baselines the network beats. The scores of each output are in the JSON and in the report.

    nwbrnn evaluate fit.nwb
    """
    from nwbrnn.evaluation import compare_baselines, evaluate_sessions
    from nwbrnn.evaluation import evaluate as score
    from nwbrnn.formats.fit.decode import read_fit
    from nwbrnn.prediction import compare_predictions, predict
    from nwbrnn.preprocessing import normalize_outputs, select_session

    check_json(json_path, overwrite=overwrite)
    with step(f"Reading {file}"):
        stored = read_fit(file, name)
    try:
        predicted = predict(stored.recorded, stored.weights, stored.config)
    except SchemaError as error:
        raise ReadError(
            f"{file}: expected a network whose predictions stay finite, but {error}; fit again"
        ) from error
    changed = [name for name, ratio in compare_predictions(stored.predicted, predicted).items() if ratio > 1]
    if changed:
        raise ReadError(
            f"{file}: expected the stored network to repeat the stored predictions, but got different "
            f"{' and '.join(changed)}; the weights or the predictions have changed since the fit; fit again"
        )
    mask = stored.recorded["mask"].values
    again, then = (normalize_outputs(ds)["outputs"].values for ds in (predicted, stored.predicted))
    difference = np.abs(again - then)[mask].max()
    scores = score(stored.recorded, predicted).to_dict(stored.recorded)
    by_session = evaluate_sessions(stored.recorded, predicted)
    with step("Scoring"):
        everything = assess_beside_all(stored, predicted, gru=gru)
    values: dict[str, Any] = {
        "scores": scores,
        "assessment": [one.to_dict() for one in everything],
        "verdict": compare_baselines(everything),
        "largest_difference": float(difference),
    }
    if by_session:
        values["sessions"] = {
            session: one.to_dict(select_session(stored.recorded, session)[0])
            for session, one in by_session.items()
        }
    write_json(values, json_path, overwrite=overwrite)
    if str(json_path) != "-":
        print_assessment(everything)
        _print_sessions(by_session)
        for sentence in values["verdict"]:
            say(sentence)
        say(f"The stored and the repeated predictions differ by at most {difference:.1e} (scaled outputs).")


def _print_sessions(by_session: "Mapping[str, Scores]") -> None:
    """Print the scores of each session of a pool."""
    level = "condition averages"
    rows = [
        {"session": session} | {s.name: str(s) for s in scores.summary if s.level == level}
        for session, scores in by_session.items()
    ]
    if rows:
        print_table(f"Each session, {level}", list(rows[0]), [list(row.values()) for row in rows])


def assess_beside_all(result: "FitResult", predicted: "xr.Dataset", *, gru: bool) -> "Assessment":
    """Return all scores of a fit, with those of the mean of its seeds and of a gated recurrent unit."""
    from nwbrnn.evaluation import assess
    from nwbrnn.evaluation.assessment import N_RESAMPLES
    from nwbrnn.evaluation.baselines import GATED
    from nwbrnn.mechanism import predict_mean

    others = predict_mean(result)
    if gru:
        from nwbrnn.job import predict_gated  # with torch, which this command does not need otherwise

        others |= {GATED: predict_gated(result)}
    return assess(result.recorded, predicted, n_resamples=N_RESAMPLES, others=others)
