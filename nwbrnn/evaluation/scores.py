"""The scores of a fit: recorded against predicted Dataset, each next to the score of the known average."""

import math
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from nwbrnn.evaluation.accuracy import compute_median, compute_r2, compute_weighted_r2
from nwbrnn.evaluation.comparison import Comparison, average_known, select_known, select_tests
from nwbrnn.evaluation.score_spec import AVERAGES, LEVELS
from nwbrnn.evaluation.specs import SCORES
from nwbrnn.html_repr import format_number, format_table
from nwbrnn.preprocessing import is_pooled, normalize_outputs, select_session
from nwbrnn.schema import RECORDING, SESSION, SESSION_OF_UNIT
from nwbrnn.text import show_count
from nwbrnn.threads import limit_threads

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Rival:
    """The same score of another model, and its difference to that of the network.

    Attributes
    ----------
    name
        Name of a baseline or of another model.
    value
        Score of this model.
    low, high
        95 % interval of the network's score minus this score; NaN if not requested.
    """

    name: str
    value: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class Score:
    """A score of a network, with its limits and references.

    Attributes
    ----------
    name, level
        Name of the score, and whether it is of condition averages or single trials.
    value
        Score of the network.
    known_average
        Score of the average of the trials known to the fit.
    noise_ceiling
        Score of the true course of each condition; noise prevents a higher score for any model that knows
        only the condition.
    reliability
        Score of one half of the test trials against the other; not an upper limit.
    chance
        Score with conditions exchanged.
    low, high
        95 % interval.
    rivals
        The baselines that have this score.

    :func:`nwbrnn.evaluate` sets the first four, and the others are NaN; :func:`nwbrnn.assess` sets all.
    """

    name: str
    level: str
    value: float
    known_average: float = math.nan
    noise_ceiling: float = math.nan
    reliability: float = math.nan
    chance: float = math.nan
    low: float = math.nan
    high: float = math.nan
    rivals: tuple[Rival, ...] = ()

    def __eq__(self, other: object) -> bool:
        """Compare all fields, with NaN equal to NaN in every version of Python."""
        return repr(self) == repr(other) if isinstance(other, Score) else NotImplemented

    def __hash__(self) -> int:
        """Return a hash that equal scores share."""
        return hash(repr(self))

    def __str__(self) -> str:
        """Return the value and that of the average of the known trials."""
        known = f" (known average {self.known_average:.3f})" if math.isfinite(self.known_average) else ""
        return f"{format_number(self.value)}{known}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and text, NaN as ``None``, for JSON."""
        values = {k: _plain(v) for k, v in asdict(self).items() if k != "rivals"}
        return values | {"rivals": [{k: _plain(v) for k, v in asdict(r).items()} for r in self.rivals]}


class Assessment(tuple[Score, ...]):
    """All scores of a fit, a row each in a notebook."""

    __slots__ = ()

    def get(self, name: str) -> Score:
        """Return one score by its name.

        Raises
        ------
        LookupError
            If there is no such score.
        """
        for score in self:
            if score.name == name:
                return score
        raise LookupError(f"no score {name!r}; there are {[score.name for score in self]}")

    def to_dataframe(self) -> pd.DataFrame:
        """Return a row for each score, with a column for each limit and for each other model."""
        rows = [
            {key: value for key, value in asdict(score).items() if key != "rivals"}
            | {rival.name: rival.value for rival in score.rivals}
            for score in self
        ]
        return pd.DataFrame(rows).set_index("name")

    def _repr_html_(self) -> str:
        columns = ("score", "value", "95 %", "known average", "noise ceiling", "reliability", "chance")
        rows = [
            (
                one.name,
                format_number(one.value),
                "–" if math.isnan(one.low) else f"{one.low:.3f} to {one.high:.3f}",
                *map(format_number, (one.known_average, one.noise_ceiling, one.reliability, one.chance)),
            )
            for one in self
            if math.isfinite(one.value)
        ]
        return format_table(columns, rows)


def _plain(value: Any) -> Any:
    """Return a value, or None for a number that JSON cannot hold."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True)
class Scores:
    """The scores of a fit on its test trials.

    Attributes
    ----------
    summary
        Every overall score, on condition averages and on single trials.
    output_r2, output_known_average
        R² of each output on condition averages, shape (n_outputs,).
    unit_r2, unit_known_average
        R² of each unit on condition averages, shape (n_units,).

    Examples
    --------
    >>> import nwbrnn
    >>> result = nwbrnn.fit(nwbrnn.read_nwb(example), sampled=3, min_rate=0, hidden=20, epochs=2)
    >>> result.scores.to_dataframe().columns.tolist()
    ['value', 'known_average']
    """

    summary: tuple[Score, ...]
    output_r2: Array
    output_known_average: Array
    unit_r2: Array
    unit_known_average: Array

    def get(self, name: str, level: str = LEVELS[0]) -> Score:
        """Return one score of the summary by name.

        Raises
        ------
        LookupError
            If there is no such score.
        """
        for score in self.summary:
            if (score.name, score.level) == (name, level):
                return score
        raise LookupError(
            f"no score {name!r} on {level}; there are {[(s.name, s.level) for s in self.summary]}"
        )

    def to_dataframe(self) -> pd.DataFrame:
        """Return a row for each overall score, with the score of the average of the known trials."""
        return pd.DataFrame(
            [
                {"name": s.name, "level": s.level, "value": s.value, "known_average": s.known_average}
                for s in self.summary
            ]
        ).set_index(["name", "level"])

    def __repr__(self) -> str:
        """Return the scores on condition averages next to those of the average of the known trials."""
        sizes = f"{show_count(len(self.output_r2), 'output')}, {show_count(len(self.unit_r2), 'unit')}"
        lines = [f"\n  {s.name:<25} {s}" for s in self.summary if s.level == LEVELS[0]]
        return f"Scores on test trials ({sizes}), {LEVELS[0]}:" + "".join(lines)

    def _repr_html_(self) -> str:
        rows: dict[str, list[str]] = {}
        for level in LEVELS:
            for score in (s for s in self.summary if s.level == level):
                pair = [format_number(score.value), format_number(score.known_average)]
                rows.setdefault(score.name, [score.name]).extend(pair)
        columns = ["score on test trials", *(c for level in LEVELS for c in (level, "known average"))]
        return format_table(columns, rows.values())

    def to_dict(self, recorded: xr.Dataset) -> dict[str, Any]:
        """Return everything as plain numbers and text, NaN as ``None``, for JSON."""

        def rows(labels: Array, values: Array, known: Array) -> list[dict[str, Any]]:
            triples = zip(labels.tolist(), values, known, strict=True)
            return [
                {"name": n, "r2": _plain(float(v)), "known_average": _plain(float(k))} for n, v, k in triples
            ]

        return {
            "summary": [
                {k: _plain(getattr(s, k)) for k in ("name", "level", "value", "known_average")}
                for s in self.summary
            ],
            "outputs": rows(recorded["output"].values, self.output_r2, self.output_known_average),
            "units": [
                row | about
                for row, about in zip(
                    rows(recorded["unit"].values, self.unit_r2, self.unit_known_average),
                    _locate_units(recorded),
                    strict=True,
                )
            ],
        }


def _locate_units(recorded: xr.Dataset) -> list[dict[str, Any]]:
    """Return the session of each unit of a pool, and its row there."""
    if not is_pooled(recorded):
        return [{}] * recorded.sizes["unit"]
    places = recorded[SESSION_OF_UNIT].values.tolist(), recorded["session_unit"].values.tolist()
    return [{"session": session, "session_unit": row} for session, row in zip(*places, strict=True)]


@limit_threads()
def evaluate(recorded: xr.Dataset, predicted: xr.Dataset) -> Scores:
    """Score a fit on the trials of its test split.

    Scores of condition averages compare the mean of a condition's test trials with the mean of the
    predictions for them; scores of single trials compare trial by trial. Each comes with the score of the
    average of the trials known to the fit, which is NaN if a condition has none, and for outputs that the
    fit does not see.

    Parameters
    ----------
    recorded
        A prepared Dataset.
    predicted
        The prediction for it from :func:`nwbrnn.predict`.

    Returns
    -------
    Scores
        All scores on both levels, and R² of each output and unit on condition averages.

    Raises
    ------
    ValueError
        If there are no test trials.

    Examples
    --------
    >>> import nwbrnn
    >>> result = nwbrnn.fit(nwbrnn.read_nwb(example), sampled=3, min_rate=0, hidden=20, epochs=2)
    >>> scores = nwbrnn.evaluate(result.recorded, result.predicted)
    >>> scores.get("output R2") == result.scores.get("output R2")
    True
    """
    recorded, predicted = normalize_outputs(recorded), normalize_outputs(predicted)
    truth, guess = select_tests(recorded, predicted)
    average = average_known(select_known(recorded[["outputs", "rates", "mask"]]), truth)
    quick = [spec for spec in SCORES if spec.is_quick]
    values: dict[str, list[list[float]]] = {level: [] for level in LEVELS}
    outputs, units = [], []
    for level, other in product(LEVELS, (guess, average)):  # one comparison after the other: each is large
        pair = Comparison(truth, other, averaged=level == AVERAGES)
        values[level].append([spec.compute(pair) for spec in quick])
        if level == AVERAGES:
            outputs.append(compute_r2(*pair.outputs))
            units.append(pair.unit_r2)
        del pair
    summary = tuple(
        Score(spec.name, level, value, known_average=known)
        for level in LEVELS
        for spec, value, known in zip(quick, *values[level], strict=True)
    )
    return Scores(summary, *outputs, *units)


def evaluate_sessions(recorded: xr.Dataset, predicted: xr.Dataset) -> dict[str, Scores]:
    """Score a fit of several sessions on the test trials, units and outputs of each.

    The scores of a pool are those of averages over all its trials. They hide outputs that differ between
    sessions.

    Parameters
    ----------
    recorded, predicted
        As for :func:`evaluate`.

    Returns
    -------
    dict
        The scores by session, of those with test trials; empty for the Dataset of a single session.
    """
    if not is_pooled(recorded):
        return {}
    tested = recorded[SESSION].values[recorded["split"].values == "test"]
    return {
        name: evaluate(*select_session(recorded, name, predicted))
        for name in recorded[RECORDING].values.tolist()
        if name in tested
    }


def score_trials(recorded: xr.Dataset, predicted: xr.Dataset) -> dict[str, Array]:
    """Return how well each single trial of any split is predicted.

    Parameters
    ----------
    recorded, predicted
        The recorded and predicted Datasets of a fit.

    Returns
    -------
    dict
        ``output_r2``: variance-weighted R² of all outputs; ``rate_r2``: median R² over the units. Shape
        (n_trials,) [1], NaN where nothing varies.
    """
    recorded, predicted = normalize_outputs(recorded), normalize_outputs(predicted)
    scores: dict[str, list[float]] = {"output_r2": [], "rate_r2": []}
    for trial, mask in enumerate(recorded["mask"].values):
        outputs, rates = (
            (predicted[name].values[trial, mask], recorded[name].values[trial, mask])
            for name in ("outputs", "rates")
        )
        scores["output_r2"].append(compute_weighted_r2(*outputs))
        scores["rate_r2"].append(compute_median(compute_r2(*rates)))
    return {name: np.array(values) for name, values in scores.items()}
