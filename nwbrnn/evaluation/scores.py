"""The scores of a fit: recorded against predicted Dataset, each score beside its ceiling."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwbrnn.evaluation.accuracy import compute_r2, compute_weighted_r2
from nwbrnn.evaluation.subspaces import compute_canonical_correlations
from nwbrnn.notebook import format_number, format_table
from nwbrnn.preprocessing import average_conditions

Array = NDArray[np.floating]

LEVELS = ("condition averages", "single trials")


@dataclass(frozen=True)
class Score:
    """One number, what could be reached at best in its place, and what by chance.

    In :func:`nwbrnn.evaluate` the ceiling is what the average of the trials known to the fit would score; in
    :func:`nwbrnn.assess` it comes from halves of the test trials. ``chance``, ``low`` and ``high`` (95 %) are
    NaN where they were not asked for.
    """

    name: str
    level: str
    value: float
    ceiling: float
    chance: float = math.nan
    low: float = math.nan
    high: float = math.nan

    def __str__(self) -> str:
        """Return the value beside its ceiling."""
        ceiling = f" (ceiling {self.ceiling:.3f})" if math.isfinite(self.ceiling) else ""
        return f"{format_number(self.value)}{ceiling}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and text, NaN as ``None``, for JSON."""
        return {
            k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(self).items()
        }


@dataclass(frozen=True)
class Scores:
    """The scores of a fit on its test trials.

    Attributes
    ----------
    summary
        Every overall score, on condition averages and on single trials.
    output_r2, output_ceiling
        R² of each output on condition averages, shape (n_outputs,).
    unit_r2, unit_ceiling
        R² of each unit on condition averages, shape (n_units,).
    """

    summary: tuple[Score, ...]
    output_r2: Array
    output_ceiling: Array
    unit_r2: Array
    unit_ceiling: Array

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

    def __repr__(self) -> str:
        """Return the scores on condition averages beside their ceilings."""
        sizes = f"{len(self.output_r2)} outputs, {len(self.unit_r2)} units"
        lines = [f"\n  {s.name:<25} {s}" for s in self.summary if s.level == LEVELS[0]]
        return f"Scores on test trials ({sizes}), {LEVELS[0]}:" + "".join(lines)

    def _repr_html_(self) -> str:
        rows: dict[str, list[str]] = {}
        for level in LEVELS:
            for score in (s for s in self.summary if s.level == level):
                pair = [format_number(score.value), format_number(score.ceiling)]
                rows.setdefault(score.name, [score.name]).extend(pair)
        columns = ["score on test trials", *(c for level in LEVELS for c in (level, "ceiling"))]
        return format_table(columns, rows.values())

    def to_dict(self, recorded: xr.Dataset) -> dict[str, Any]:
        """Return everything as plain numbers and text, NaN as ``None``, for JSON."""

        def plain(value: float) -> float | None:
            return float(value) if np.isfinite(value) else None

        def rows(labels: Array, values: Array, ceilings: Array) -> list[dict[str, Any]]:
            triples = zip(labels.tolist(), values, ceilings, strict=True)
            return [{"name": n, "r2": plain(v), "ceiling": plain(c)} for n, v, c in triples]

        return {
            "summary": [
                {"name": s.name, "level": s.level, "value": plain(s.value), "ceiling": plain(s.ceiling)}
                for s in self.summary
            ],
            "outputs": rows(recorded["output"].values, self.output_r2, self.output_ceiling),
            "units": rows(recorded["unit"].values, self.unit_r2, self.unit_ceiling),
        }


def evaluate(recorded: xr.Dataset, predicted: xr.Dataset) -> Scores:
    """Score a fit on the trials of its test split.

    Condition averages compare the mean of a condition's test trials with the mean of the
    predictions for them; single trials compare trial by trial. The ceiling is what the average of
    the trials that are not in the test split scores; NaN where a condition has none.

    Parameters
    ----------
    recorded
        A prepared Dataset.
    predicted
        What :func:`nwbrnn.predict` returned for it.

    Returns
    -------
    Scores
        All scores on both levels, and R² of each output and unit on condition averages.

    Raises
    ------
    ValueError
        If there are no test trials.
    """
    is_test = recorded["split"].values == "test"
    if not is_test.any():
        raise ValueError(
            "split: expected trials of 'test', but there are none; assign some with split_trials"
        )
    known = average_conditions(recorded.isel(trial=~is_test))
    tests = recorded.isel(trial=is_test), predicted.isel(trial=is_test)
    by_level = {
        LEVELS[0]: tuple(average_conditions(ds) for ds in tests),
        LEVELS[1]: tests,
    }
    summary: list[Score] = []
    for level, (truth, student) in by_level.items():
        summary += _score_level(level, truth, student, expect_average(known, truth))
    truth, student = by_level[LEVELS[0]]
    ceiling = expect_average(known, truth)
    tables = [
        compute_r2(stack_samples(other, name), stack_samples(truth, name, like=other))
        for name in ("outputs", "rates")
        for other in (student, ceiling)
    ]
    return Scores(tuple(summary), *tables)


def _score_level(level: str, truth: xr.Dataset, student: xr.Dataset, ceiling: xr.Dataset) -> list[Score]:
    """Return all summary scores at one level."""
    sampled = truth["sampled"].values
    pairs = []
    for other in (student, ceiling):
        outputs = stack_samples(other, "outputs"), stack_samples(truth, "outputs", like=other)
        rates = stack_samples(other, "rates"), stack_samples(truth, "rates", like=other)
        r2 = compute_r2(*rates)
        normal = [(values - truth["rate_offset"].values) / truth["rate_scale"].values for values in rates]
        population = stack_samples(other, "hidden") if "hidden" in other else normal[0]
        pairs.append(
            {
                "output R2": compute_weighted_r2(*outputs),
                "sampled neurons R2": compute_median(r2[sampled]),
                "unsampled neurons R2": compute_median(r2[~sampled]),
                "canonical correlation": compute_mean_correlation(population, normal[1]),
            }
        )
    values, ceilings = pairs
    return [Score(name, level, value, ceilings[name]) for name, value in values.items()]


def expect_average(known: xr.Dataset, truth: xr.Dataset) -> xr.Dataset:
    """Return, for every trial of ``truth``, the average of the known trials of its condition.

    Where a condition has no known trials the mask is False throughout.
    """
    rows = {condition: i for i, condition in enumerate(known["condition"].values.tolist())}
    index = np.array([rows.get(condition, -1) for condition in truth["condition"].values.tolist()])
    names = [name for name in ("outputs", "rates", "hidden", "mask") if name in known]
    expected = known[names].isel(trial=index)
    seen = expected["mask"].values & (index >= 0)[:, np.newaxis] & truth["mask"].values
    return expected.assign(mask=(("trial", "time"), seen))


def stack_samples(ds: xr.Dataset, name: str, *, like: xr.Dataset | None = None) -> Array:
    """Return a variable as samples by channels, of the bins inside the mask (of ``like``)."""
    mask = (ds if like is None else like)["mask"].values
    return np.asarray(ds[name].values[mask])


def compute_median(values: Array) -> float:
    """Return the median of the finite values, NaN if there are none."""
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else float("nan")


def compute_mean_correlation(first: Array, second: Array) -> float:
    """Return the mean canonical correlation, NaN without samples or if a population is constant."""
    correlations = compute_canonical_correlations(first, second) if len(first) else np.array([])
    return float(correlations.mean()) if correlations.size else float("nan")


def score_trials(recorded: xr.Dataset, predicted: xr.Dataset) -> dict[str, Array]:
    """Return how well each single trial is predicted, of whatever split it is.

    Parameters
    ----------
    recorded, predicted
        Of a fit.

    Returns
    -------
    dict
        ``output_r2``: variance-weighted R² of all outputs; ``rate_r2``: median R² over the units. Shape
        (n_trials,) [1], NaN where nothing varies.
    """
    scores: dict[str, list[float]] = {"output_r2": [], "rate_r2": []}
    for trial, mask in enumerate(recorded["mask"].values):
        outputs, rates = (
            (predicted[name].values[trial, mask], recorded[name].values[trial, mask])
            for name in ("outputs", "rates")
        )
        scores["output_r2"].append(compute_weighted_r2(*outputs))
        scores["rate_r2"].append(compute_median(compute_r2(*rates)))
    return {name: np.array(values) for name, values in scores.items()}
