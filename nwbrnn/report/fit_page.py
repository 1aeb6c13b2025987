"""The page on a fit: what is said, shown and drawn."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwbrnn import plot
from nwbrnn.config import FitConfig, ReadConfig
from nwbrnn.dataset import get_output_units
from nwbrnn.evaluation import (
    Score,
    assess,
    compare_baselines,
    compute_skill,
    evaluate_sessions,
    get_spec,
    list_rivals,
)
from nwbrnn.evaluation.assessment import N_RESAMPLES
from nwbrnn.evaluation.comparison import stack_samples
from nwbrnn.mechanism import predict_mean
from nwbrnn.plot.fit import describe_time, label_conditions, pick_evenly, sort_conditions
from nwbrnn.plot.style import COLOURS
from nwbrnn.prediction import Push
from nwbrnn.preprocessing import (
    average_conditions,
    average_tests,
    compute_standard_errors,
    is_pooled,
    list_sessions,
    name_rows,
    normalize_outputs,
)
from nwbrnn.report.figures import plot_rotations
from nwbrnn.report.html import create_figure, render_figure, render_matrix, round_values, write_page
from nwbrnn.report.mechanism import describe_mechanism
from nwbrnn.report.trials import collect_trials
from nwbrnn.report.verdict import judge, list_cautions, summarize
from nwbrnn.result import FitResult
from nwbrnn.schema import SESSION
from nwbrnn.text import show_count
from nwbrnn.threads import limit_threads
from nwbrnn.weights import KINDS

Array = NDArray[np.floating]

MAX_NUMBERS = 250_000  # of the neurons' courses on a page, about 1.5 MB; more neurons are thinned out

SHOWN = ("output R2", "sampled neurons R2", "unsampled neurons R2")
"""The scores of each session of a pool."""

ROTATIONS = {
    "R², pure rotation": "rotation R2",
    "R², any linear dynamics": "rotation R2 of any linear dynamics",
    "frequency of the fastest plane [Hz]": "rotation frequency",
}


@limit_threads()
def write_fit_report(
    result: FitResult,
    path: str | Path,
    *,
    about: Mapping[str, str] | None = None,
    assessment: Sequence[Score] | None = None,
    push: Push | None = None,
    overwrite: bool = False,
) -> str:
    """Write a page on a fit that stands alone: one HTML file, opened by any browser.

    Parameters
    ----------
    result
        A fit.
    path
        The page to make, ``.html``.
    about
        More of where the fit comes from, such as its file, for the last section.
    assessment
        Scores of the fit, from :func:`nwbrnn.assess`; if not given, they are computed with 25 resamples.
    push
        Units to push, whose effects the page lists.
    overwrite
        Whether an existing file may be replaced.

    Returns
    -------
    str
        The verdict on the fit, in one sentence, with which the page begins.

    Raises
    ------
    OutputExistsError
        If there is a file and ``overwrite`` is false.
    ExportError
        If it cannot be written.

    Examples
    --------
    >>> import nwbrnn
    >>> result = nwbrnn.fit(nwbrnn.read_nwb(example), sampled=3, min_rate=0, hidden=20, epochs=2)
    >>> assessment = nwbrnn.assess(result.recorded, result.predicted, n_resamples=0)
    >>> sentence = nwbrnn.write_fit_report(result, "report.html", assessment=assessment, overwrite=True)
    >>> sentence.startswith("On held-out trials, the network reproduces the outputs")
    True
    """
    if assessment is None:
        assessment = assess(
            result.recorded, result.predicted, n_resamples=N_RESAMPLES, others=predict_mean(result)
        )
    courses = collect_courses(result)
    if result.config.observes:
        courses |= collect_trials(result)
    values = describe_fit(result, assessment, about=about or {}, push=push)
    values |= {"n_drawn": len(courses["rates"]), "n_trials_drawn": len(courses.get("trials", ()))}
    write_page("fit.html", values, Path(path), data=courses, overwrite=overwrite)
    return str(values["summary"])


def describe_fit(
    result: FitResult, assessment: Sequence[Score], *, about: Mapping[str, str], push: Push | None = None
) -> dict[str, Any]:
    """Return everything the template shows."""
    recorded, attrs = result.recorded, result.recorded.attrs
    judgements = judge(result, assessment)
    is_test, conditions = recorded["split"].values == "test", recorded["condition"].values
    weights = np.asarray(result.weights["recurrent_weights"])
    is_gated = bool(KINDS[result.config.network].gates)
    matrix, limit = render_matrix(weights[:, -1] if is_gated else weights)
    by_name = {score.name: score for score in assessment}
    mechanism, portrait = describe_mechanism(result, push)
    title, subtitle = _name_sources(recorded)
    return {
        "title": title,
        "subtitle": subtitle,
        "sizes": {name: recorded.sizes[name] for name in ("trial", "unit", "output", "time")},
        "slow": next((c["picked"] for c in _list_choices(attrs) if c["role"] == "units left out"), ""),
        "n_conditions": len(set(conditions.tolist())),
        "n_test": int(is_test.sum()),
        "n_test_conditions": len(set(conditions[is_test].tolist())),
        "summary": summarize(judgements),
        "judgements": judgements,
        "cautions": list_cautions(result, judgements),
        "outputs": _list_outputs(result),
        "verdicts": compare_baselines(assessment),
        "baselines": list(list_rivals(assessment).values()),
        "rivals": _list_rivals(assessment),
        "scores": [
            (score, get_spec(score.name))
            for score in assessment
            if get_spec(score.name).better != "neither"
            and math.isfinite(score.value)
            and score not in [one.score for one in judgements]
        ],
        "rotations": [
            (label, by_name[f"{name}, recorded"], by_name[f"{name}, network"])
            for label, name in ROTATIONS.items()
        ],
        "surrogates": [by_name[f"rotation {name}, surrogates"].value for name in ("R2", "p")],
        "conditions": _score_conditions(result),
        "sessions": _score_sessions(result),
        "runs": result.runs,
        "figures": _draw(result) | {"mechanism": portrait},
        "mechanism": mechanism,
        "matrix": matrix,
        "largest_weight": limit,
        "is_gated": is_gated,
        "n_sampled": int(recorded["sampled"].values.sum()),
        "choices": _list_choices(attrs),
        "alternatives": any(choice["alternatives"] for choice in _list_choices(attrs)),
        "settings": _list_settings(result.config),
        "provenance": _list_provenance(result, about),
    }


def _name_sources(recorded: xr.Dataset) -> tuple[str, str]:
    """Return title and subtitle of a page: file and session, or number of sessions and files of a pool."""
    file = str(recorded.attrs.get("source_file", "A fit"))
    if is_pooled(recorded):
        return show_count(len(list_sessions(recorded)), "pooled session"), file
    return file, str(recorded.attrs.get("session_description", ""))


def _list_rivals(assessment: Sequence[Score]) -> list[dict[str, Any]]:
    """Return for each score that a baseline has, those of all baselines, NaN where there is none."""
    names, rows = list_rivals(assessment), []
    for score in (one for one in assessment if one.rivals):
        found = {rival.name: rival.value for rival in score.rivals}
        values = [found.get(name, math.nan) for name in names]
        rows.append({"name": get_spec(score.name).label, "network": score.value, "values": values})
    return rows


def collect_courses(result: FitResult) -> dict[str, Any]:
    """Return what the script draws: outputs and neurons over time by condition, recorded and predicted."""
    recorded = result.recorded
    truth, network = average_tests(recorded, result.predicted)
    order = sort_conditions(truth["condition"].values)
    labels = label_conditions(truth)
    tests = recorded.isel(trial=recorded["split"].values == "test")
    output_units, scores, ids = get_output_units(recorded), result.scores, name_rows(recorded, "unit")
    sampled = recorded["sampled"].values
    kinds: dict[str, list[dict[str, Any]]] = {"outputs": [], "rates": []}
    for name, unit_of, r2, known in (
        ("outputs", output_units, scores.output_r2, scores.output_known_average),
        (
            "rates",
            [recorded["rates"].attrs["units"]] * len(sampled),
            scores.unit_r2,
            scores.unit_known_average,
        ),
    ):
        courses = [ds[name].values[order] for ds in (truth, network)]
        courses.append(compute_standard_errors(tests, name)[order])
        for channel in _pick_channels(r2, n_numbers=3 * courses[0][..., 0].size):
            label = str(truth["output"].values[channel]) if name == "outputs" else f"unit {ids[channel]}"
            group = "" if name == "outputs" else "sampled" if sampled[channel] else "not sampled"
            kinds[name].append(
                {
                    "name": label, "unit": unit_of[channel], "group": group, "r2": float(r2[channel]),
                    "knownAverage": float(known[channel]),
                }
                | _round_together([values[..., channel] for values in courses])
            )  # fmt: skip
    return {
        "time": round_values(truth["time"].values),
        "timeLabel": describe_time(recorded),
        "conditions": [labels[i] for i in order],
        **kinds,
    }


def _round_together(courses: list[Array]) -> dict[str, Any]:
    """Return recorded, predicted and standard error with the same number of digits."""
    rounded = round_values(np.stack(courses))
    return dict(zip(("recorded", "network", "error"), rounded, strict=True))


def _pick_channels(r2: Array, *, n_numbers: int) -> list[int]:
    """Return the channels that a page has room for, evenly over all qualities."""
    order = np.argsort(np.nan_to_num(r2, nan=-np.inf), kind="stable")
    return sorted(order[pick_evenly(len(order), max(MAX_NUMBERS // n_numbers, 2))].tolist())


def _list_choices(attrs: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what was picked, and why."""
    return list(json.loads(attrs.get("choices", "[]")))


def _list_outputs(result: FitResult) -> list[tuple[str, str, float, float]]:
    """Return name, unit, R² and known average of each output."""
    scores = result.scores
    names = [str(name) for name in result.recorded["output"].values]
    units = get_output_units(result.recorded)
    return list(
        zip(names, units, scores.output_r2.tolist(), scores.output_known_average.tolist(), strict=True)
    )


def _score_conditions(result: FitResult) -> list[dict[str, Any]]:
    """Return for each test condition whether it was trained on, and how well it is predicted."""
    recorded = result.recorded
    truth, network = average_tests(recorded, result.predicted)
    everything = average_conditions(recorded)
    split, labels = recorded["split"].values, recorded["condition"].values
    unsampled = ~recorded["sampled"].values
    shown = label_conditions(truth)
    rows = []
    for i in sort_conditions(truth["condition"].values):
        label = truth["condition"].values[i]
        kinds = set(split[labels == label].tolist())
        pair = [ds.isel(trial=[i]) for ds in (network, truth)]
        rows.append(
            {
                "name": shown[i],
                "n_test": int(truth["n_trials"].values[i]),
                "trained": "yes"
                if "train" in kinds
                else "neurons only"
                if "dynamics_only" in kinds
                else "no",
                "outputs": _score_part(pair, everything, "outputs"),
                "neurons": _score_part(pair, everything, "rates", channels=unsampled),
            }
        )
    return rows


def _score_sessions(result: FitResult) -> list[tuple[str, int, list[float]]]:
    """Return name, number of test trials and main scores of each session of a pool."""
    recorded = result.recorded
    tested = recorded[SESSION].values[recorded["split"].values == "test"] if is_pooled(recorded) else ()
    return [
        (name, int(np.sum(tested == name)), [scores.get(score).value for score in SHOWN])
        for name, scores in evaluate_sessions(recorded, result.predicted).items()
    ]


def _score_part(
    pair: list[xr.Dataset], everything: xr.Dataset, name: str, *, channels: NDArray[np.bool_] | None = None
) -> float:
    """Return the skill in one condition, of outputs and rates over their scales."""
    network, truth = pair
    values = [stack_samples(normalize_outputs(ds), name, like=truth) for ds in (network, truth)]
    values.append(stack_samples(normalize_outputs(everything), name))
    if name == "rates":
        values = [v / everything["rate_scale"].values for v in values]
    if channels is not None:
        values = [v[:, channels] for v in values]
    return compute_skill(*values)


def _draw(result: FitResult) -> dict[str, Any]:
    """Return the figures that do not move."""
    drawn = {}
    figures: list[tuple[str, Callable[..., Any], tuple[float, float]]] = [
        ("trajectories", plot.trajectories, (5.0, 3.4)),
        ("learning", plot.learning_curve, (5.6, 2.6)),
    ]
    if result.config.observes:
        figures.append(("forecast", plot.forecast, (5.0, 2.8)))
    if not KINDS[result.config.network].gates:
        figures.append(("spectrum", plot.spectrum, (3.4, 2.8)))
    for name, draw, size in figures:
        figure = create_figure(figsize=size)
        draw(result, ax=figure.add_subplot())
        drawn[name] = render_figure(figure, name=name)
    drawn["rotations"] = render_figure(plot_rotations(result.recorded, result.predicted), name="rotations")
    figure = create_figure(figsize=(3.4, 2.8))
    ax = figure.add_subplot()
    weights = np.asarray(result.weights["recurrent_weights"])
    ax.hist(weights.ravel(), bins=60, color=COLOURS[0])
    ax.set_yscale("log")
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=8)
    ax.set_xlabel("recurrent weight [1]", fontsize=9)
    ax.set_ylabel("connections", fontsize=9)
    drawn["weights"] = render_figure(figure, name="weights")
    return drawn


def _list_settings(config: FitConfig) -> list[dict[str, Any]]:
    """Return name, value and meaning of each setting, and whether it is another than the default."""
    values, defaults = config.model_dump(mode="json"), FitConfig().model_dump(mode="json")
    return [
        {
            "name": name,
            "value": json.dumps(values[name], ensure_ascii=False).strip('"'),
            "changed": values[name] != defaults[name],
            "meaning": field.description or "",
        }
        for name, field in FitConfig.model_fields.items()
    ]


def _list_provenance(result: FitResult, about: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return where the data and the numbers come from."""
    named = {
        "source file": "source_file",
        "its SHA-256": "source_sha256",
        "its NWB identifier": "source_identifier",
        "its object id": "source_object_id",
        "session start": "session_start_time",
    }
    rows: list[tuple[str, str]] = []
    for one in list_sessions(result.recorded):
        known = [(label, str(one[name])) for label, name in named.items() if name in one]
        known.append(("read with", _describe_reading(one.get("read_config", {}))))
        if is_pooled(result.recorded):  # a row for each session
            known = [(one["name"], "; ".join(f"{label}: {value}" for label, value in known))]
        rows += known
    rows += [("seed", str(result.best.seed)), ("ended", result.best.ended)]
    return [*rows, *about.items(), ("this page", f"nwbrnn {version('nwbrnn')}")]


def _describe_reading(given: Mapping[str, Any]) -> str:
    """Return the settings of reading that differ from the defaults."""
    defaults = ReadConfig().model_dump(mode="json")
    named = [
        f"{name} {json.dumps(v, ensure_ascii=False)}" for name, v in given.items() if v != defaults.get(name)
    ]
    return ", ".join(named) or "default settings"
