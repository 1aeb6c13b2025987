"""Paired statistics: compare each setting with the network trained on the outputs only, or on one session."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy  # loads its parts on first use
import xarray as xr
from numpy.typing import NDArray

from nwbrnn.evaluation import get_spec
from nwbrnn.evaluation.accuracy import compute_median

Array = NDArray[np.floating]

OWN = (
    "source",
    "held_out",
    "seed",
    "n_sampled",
    "seconds",
    "chosen",
    "error",
    "status",
    "pooled",
    "reference",
)
LIMITS = ("known_average", "noise_ceiling", "reliability", "chance")
UNSAMPLED = "unsampled neurons R2"


class Interval(NamedTuple):
    """Mean of a table of numbers with its 95 % interval, its standard error and degrees of freedom."""

    mean: float
    low: float
    high: float
    error: float
    freedom: float


def compute_interval(values: Array) -> Interval:
    """Mean over seeds and conditions with a 95 % interval for other seeds and other conditions.

    With x_sc = mean + seed effect + condition effect + residual, the variance of the mean is at most
    Var_s(mean over c) / n_s + Var_c(mean over s) / n_c, which is the closed form of the pigeonhole bootstrap
    [1]_. The interval uses Student's t with the degrees of freedom of Satterthwaite 1946. With one condition,
    it is the t interval over seeds.

    Parameters
    ----------
    values
        Values, shape (n_seeds, n_conditions), with NaN for missing ones.

    Returns
    -------
    Interval
        The interval, with NaN limits if there are fewer than two seeds and fewer than two conditions.

    References
    ----------
    .. [1] Owen 2007, Annals of Applied Statistics, doi:10.1214/07-AOAS122.
    """
    terms = []
    for means in (_mean(values, axis=1), _mean(values, axis=0)):
        known = means[np.isfinite(means)]
        if known.size > 1:
            terms.append((known.var(ddof=1) / known.size, known.size - 1))
    mean = float(_mean(values.ravel(), axis=0))
    variance = sum(v for v, _ in terms)
    if not terms or not np.isfinite(variance):
        return Interval(mean, np.nan, np.nan, np.nan, np.nan)
    freedom = variance**2 / sum(v**2 / f for v, f in terms) if variance > 0 else float(terms[0][1])
    error = float(np.sqrt(variance))
    half = float(scipy.stats.t.ppf(0.975, freedom)) * error
    return Interval(mean, mean - half, mean + half, error, float(freedom))


def compare_with_baseline(table: xr.Dataset, *, pooled: bool = False) -> pd.DataFrame:
    """Compare every setting with the one without sampled neurons, pair by pair.

    The two cells of a pair have the same data, seed, held-out condition and other settings. The R² of
    unsampled neurons is for the same neurons in both: those that the setting left unsampled.

    Parameters
    ----------
    table
        The table from :func:`nwbrnn.sweep.create_table`.
    pooled
        Whether all sources form one group, in which each source and seed counts as a seed.

    Returns
    -------
    pandas.DataFrame
        A row for each source, setting and score: ``mean`` and ``baseline``, ``difference`` with ``low`` and
        ``high`` (95 %, see ``compute_interval``), ``p`` (two-sided, of the same t), ``effect`` (Cohen's
        d_z, over seeds), ``fits``, ``seeds`` and ``better`` (in how many of them, over all conditions),
        ``conditions``, ``conditions_better``, ``known_average``, ``noise_ceiling``, ``reliability``,
        ``chance``, and a column for each of ``nwbrnn.evaluation.BASELINES``.
    """
    return _compare_all(table, ("sampled", "0"), pooled=pooled)


def compare_with_fewest(table: xr.Dataset) -> pd.DataFrame:
    """Compare pools with the smallest ones of a sweep over numbers of sessions, pair by pair.

    The two cells of a pair have the same seed, held-out condition and other settings. They are scored on the
    same session, so they have the same test trials and the same neurons.

    Parameters
    ----------
    table
        The table from :func:`nwbrnn.sweep.create_table`.

    Returns
    -------
    pandas.DataFrame
        As from :func:`compare_with_baseline`, where the baseline has the smallest number of ``sessions`` of
        which a fit is done; empty if there are no fits of several sizes.
    """
    if "sessions" not in table.coords:
        return pd.DataFrame()
    sizes = set(table["sessions"].values[table["status"].values == "done"].tolist())
    return _compare_all(table, ("sessions", min(sizes, key=int))) if len(sizes) > 1 else pd.DataFrame()


def find_settings(table: xr.Dataset) -> list[str]:
    """Return the coordinates of cells that are settings, in which fits differ."""
    return [str(n) for n in table.coords if table[n].dims == ("cell",) and n not in (*OWN, "cell")]


def list_failures(table: xr.Dataset) -> list[dict[str, str]]:
    """Return the cells that are not done: their data, settings, held-out conditions and seed, and why."""
    failed = table.isel(cell=table["status"].values != "done")
    told = [name for name in ("held_out", "reference") if name in table.coords and any(table[name].values)]
    names = ["cell", "source", *find_settings(table), *told, "seed", "error"]
    columns = [map(str, failed[name].values.tolist()) for name in names]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def _compare_all(table: xr.Dataset, baseline: tuple[str, str], *, pooled: bool = False) -> pd.DataFrame:
    """Compare every setting with the one that has a given value of one setting."""
    settings = find_settings(table)
    rows: list[dict[str, Any]] = []
    done = table.isel(cell=table["status"].values == "done")
    frame = pd.DataFrame({name: done[name].values for name in (*OWN, *settings) if name in done.coords})
    partners = _find_partners(frame, settings, *baseline)
    groups = ["source", *settings] if not pooled else settings
    for key, part in frame.groupby(groups, sort=False):
        cells = part.index.to_numpy()
        names = dict(zip(groups, key, strict=True))
        scores = done["score"].values.tolist()
        rows += [names | _compare(done, frame, cells, partners, score) for score in scores]
    return pd.DataFrame(rows)


def _find_partners(frame: pd.DataFrame, settings: list[str], axis: str, value: str) -> NDArray[np.intp]:
    """Return, for each cell, its partner with a given value of one setting, -1 if there is none."""
    unused = ("sampled", "dynamics_weight") if axis == "sampled" else (axis,)
    same = [name for name in settings if name not in unused]
    kinds = list(frame[["source", "held_out", "seed", *same]].itertuples(index=False, name=None))
    baselines = {kind: i for i, kind in enumerate(kinds) if frame[axis][i] == value}
    return np.array([baselines.get(kind, -1) for kind in kinds], dtype=np.intp)


def _compare(
    done: xr.Dataset, frame: pd.DataFrame, cells: NDArray[np.intp], partners: NDArray[np.intp], score: str
) -> dict[str, Any]:
    """Return one row of the comparison."""
    column = done["score"].values.tolist().index(score)
    value = done["value"].values[:, column]
    own, other = value[cells], np.where(partners[cells] >= 0, value[partners[cells]], np.nan)
    if score == UNSAMPLED:
        other = np.array([_read_unsampled(done, cell, partners[cell]) for cell in cells])
    part = frame.loc[cells]
    seeds = part["source"] + " " + part["seed"].astype(str)
    paired = _arrange(own - other, seeds, part["held_out"])
    interval = compute_interval(paired)
    by_seed = _mean(paired, axis=1)
    by_condition = _mean(paired, axis=0)
    sign = -1 if get_spec(score).better == "lower" else 1
    deviation = np.nanstd(by_seed, ddof=1) if np.isfinite(by_seed).sum() > 1 else np.nan
    alone = compute_interval(_arrange(own, seeds, part["held_out"]))
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.divide(interval.mean, interval.error)
        effect = np.divide(interval.mean, deviation)
    return {
        "score": score,
        "mean": alone.mean,
        "mean_low": alone.low,
        "mean_high": alone.high,
        "baseline": float(_mean(other, axis=0)),
        "difference": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "p": float(2 * scipy.stats.t.sf(abs(t), interval.freedom)),
        "effect": float(effect),
        "fits": int(np.isfinite(own).sum()),
        "better": int((sign * by_seed > 0).sum()),
        "seeds": int(np.isfinite(by_seed).sum()),
        "conditions_better": int((sign * by_condition > 0).sum()),
        "conditions": int(np.isfinite(by_condition).sum()),
        **{name: float(_mean(done[name].values[cells, column], axis=0)) for name in LIMITS},
        **{
            str(name): float(_mean(done["baseline_value"].values[cells, column, i], axis=0))
            for i, name in enumerate(done["baseline"].values)
        },
    }


def _read_unsampled(done: xr.Dataset, cell: int, partner: int) -> float:
    """Return the median R² of the partner over the neurons that a cell left unsampled."""
    if partner < 0:
        return float("nan")
    return compute_median(done["unit_r2"].values[partner][~done["unit_sampled"].values[cell]])


def _arrange(values: Array, seeds: "pd.Series[str]", conditions: "pd.Series[str]") -> Array:
    """Return values as a table of seeds by conditions, NaN where there is none."""
    rows, row_names = pd.factorize(seeds)
    columns, column_names = pd.factorize(conditions)
    arranged = np.full((len(row_names), len(column_names)), np.nan)
    arranged[rows, columns] = values
    return arranged


def _mean(values: Array, *, axis: int) -> Array:
    """Return the mean of the finite values, NaN if there are none."""
    finite = np.isfinite(values)
    n = finite.sum(axis=axis)
    return np.asarray(np.where(finite, values, 0).sum(axis=axis) / np.where(n > 0, n, np.nan))
