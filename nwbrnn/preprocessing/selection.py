"""Select the units, conditions and trials to use, and the sampled neurons for the dynamics loss."""

from collections.abc import Collection
from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwbrnn.dataset import Choice, add_choice, get_unit_ids
from nwbrnn.errors import ConfigError
from nwbrnn.preprocessing.averaging import average_rows
from nwbrnn.preprocessing.sessions import is_pooled, list_trials, list_units
from nwbrnn.schema import SESSION, SESSION_OF_UNIT, TRIAL, UNIT
from nwbrnn.text import find_label, list_some

UNMARKED = ("", "0", "0.0", "false", "no", "none", "off", "nan", "n/a", "control")  # texts of ordinary trials
MIN_TRIALS = 3  # a condition needs this many for its average to count like that of the others


def select_units(ds: xr.Dataset, *, min_rate: float = 1.0) -> xr.Dataset:
    """Drop units slower than ``min_rate`` [Hz] in the training trials, or in all trials without a split.

    With 0, no unit is too slow, not even one whose rates are negative, relative to a baseline.

    A unit that lacks some bins has the mean rate of those in which it was observed; a unit that was observed
    in none is dropped. ``ds.attrs["choices"]`` records how many units are left out for each reason.

    Raises
    ------
    ConfigError
        If no unit is left.
    """
    counted = ds["mask"].values
    if "split" in ds.coords:
        counted = counted & (ds["split"].values == "train")[:, np.newaxis]
    mean = average_rows(ds["rates"].values[counted])
    observed = ~np.isnan(mean)
    kept = mean >= min_rate if min_rate > 0 else observed  # rates relative to a baseline may be negative
    if not observed.any():
        raise ConfigError(
            f"rates: expected units that were observed in the training trials, but none of {len(mean)} was; "
            "choose other units or trials"
        )
    if not kept.any():
        raise ConfigError(
            f"min_rate: expected some units of at least {min_rate:g} Hz, "
            f"but the fastest of {len(mean)} has {mean[observed].max():.3g} Hz; lower min_rate; 0 keeps all"
        )
    reasons = {
        f"slower than {min_rate:g} Hz (min_rate) in the training trials": observed & ~kept,
        "not observed in the training trials": ~observed,
    }
    chosen = ds if kept.all() else ds.isel(unit=kept)
    for reason, left_out in reasons.items():
        if left_out.any():
            number = f"{left_out.sum()} of {len(kept)}"
            chosen = add_choice(chosen, Choice("units left out", number, reason))
    return chosen


def select_conditions(ds: xr.Dataset, *, kept: Collection[str] = ()) -> xr.Dataset:
    """Drop conditions that have too few trials, in a session if several are pooled, if others have enough.

    In averages, a single trial would count as much as many. ``ds.attrs["choices"]`` records what is left out.

    Parameters
    ----------
    ds
        Any valid Dataset.
    kept
        Conditions to keep in any case.
    """
    labels = ds["condition"].values
    keep, dropped = np.ones(len(labels), dtype=bool), []
    for rows in list_trials(ds):
        names, numbers = np.unique(labels[rows], return_counts=True)
        spared = {find_label(names.tolist(), label) for label in kept}
        rare = [
            name
            for name, n in zip(names.tolist(), numbers, strict=True)
            if n < MIN_TRIALS and name not in spared
        ]
        if rare and len(rare) < len(names):
            keep[rows] = ~np.isin(labels[rows], rare)
            where = f" ({ds[SESSION].values[rows[0]]})" if is_pooled(ds) else ""
            dropped.append(", ".join(rare) + where)
    if not dropped:
        return ds
    reason = f"each has fewer than {MIN_TRIALS} trials, but would count as much as the others in averages"
    return add_choice(ds.isel(trial=keep), Choice("conditions left out", "; ".join(dropped), reason))


def find_perturbed(ds: xr.Dataset, column: str) -> NDArray[np.bool_]:
    """Return which trials a column marks as perturbed, shape (n_trials,).

    A trial is perturbed unless the column holds 0, false, NaN, an empty text, "no", "none", "off" or
    "control".

    Raises
    ------
    ConfigError
        If there is no such column, or it marks all trials or none.
    """
    columns = sorted(str(name) for name, coord in ds.coords.items() if coord.dims == (TRIAL,))
    if column not in columns:
        raise ConfigError(
            f"perturbed: expected one of the trial columns {', '.join(columns)}, but got {column!r}"
        )
    values = ds[column].values
    if values.dtype.kind in "biuf":
        marked = np.nan_to_num(values.astype(np.float64)) != 0
    else:
        marked = np.array([str(value).strip().lower() not in UNMARKED for value in values.tolist()])
    if marked.all() or not marked.any():
        raise ConfigError(
            f"perturbed: expected the column {column!r} to mark some of the {len(marked)} trials, but it "
            f"marks {'all' if marked.all() else 'none'}; name another"
        )
    return np.asarray(marked)


def leave_out_perturbed(ds: xr.Dataset, column: str) -> xr.Dataset:
    """Drop the trials that a column marks as perturbed, and record their number in ``ds.attrs["choices"]``.

    Raises
    ------
    ConfigError
        As :func:`find_perturbed`.
    """
    marked = find_perturbed(ds, column)
    number = f"{marked.sum()} of {len(marked)}"
    reason = f"marked by the trial column {column} (perturbed)"
    return add_choice(ds.isel(trial=~marked), Choice("perturbed trials left out", number, reason))


def choose_sampled(ds: xr.Dataset, *, n_sampled: int | float | Literal["all"], seed: int = 0) -> xr.Dataset:
    """Choose at random the neurons whose dynamics the network is trained on.

    Parameters
    ----------
    ds
        Any valid Dataset.
    n_sampled
        Number of neurons of each session, or below 1 the fraction of all its units (rounded), or ``"all"``.
    seed
        Seed of the choice. A larger number with the same seed chooses the same neurons and further ones.

    Returns
    -------
    xarray.Dataset
        A Dataset with the boolean coordinate ``sampled`` (unit).

    Raises
    ------
    ConfigError
        If there are fewer units than requested.
    """
    sampled = np.zeros(ds.sizes[UNIT], dtype=bool)
    for rows in list_units(ds):
        n_units = len(rows)
        if n_sampled == "all":
            count = n_units
        else:
            count = int(n_sampled) if n_sampled >= 1 else round(n_sampled * n_units)
        if count > n_units:
            where = f" of session {ds[SESSION_OF_UNIT].values[rows[0]]}" if is_pooled(ds) else ""
            raise ConfigError(
                f"sampled: expected at most {n_units}, the number of units{where} that are fast enough "
                f"(min_rate), but got {count}; take fewer, or all"
            )
        # a separate random stream, so that the choice does not depend on the split of trials by the same seed
        order = np.random.default_rng([seed, 1]).permutation(n_units)
        sampled[rows[order[:count]]] = True
    return ds.assign_coords(sampled=(UNIT, sampled))


def choose_observed(ds: xr.Dataset, *, observe: str | tuple[int, ...]) -> xr.Dataset:
    """Mark the neurons that correct the state of the network; each of them is sampled, too.

    An observed neuron needs a hidden unit, whose rate is its prediction.

    Parameters
    ----------
    ds
        A Dataset with ``sampled``.
    observe
        ``"none"``, ``"sampled"``, ``"all"``, or ids of units.

    Returns
    -------
    xarray.Dataset
        With the boolean coordinate ``observed`` (unit); the same one for ``"none"``.

    Raises
    ------
    ConfigError
        If there is no such unit.

    Examples
    --------
    >>> ds = xr.Dataset(coords={"unit": [3, 5, 8], "sampled": ("unit", [True, False, False])})
    >>> ds = choose_observed(ds, observe=(8,))
    >>> ds["observed"].values.tolist(), ds["sampled"].values.tolist()
    ([False, False, True], [True, False, True])
    """
    if observe == "none":
        return ds
    sampled = ds["sampled"].values
    if isinstance(observe, tuple):
        ids = get_unit_ids(ds).tolist()
        unknown = [unit for unit in observe if unit not in ids]
        if unknown:
            raise ConfigError(
                f"observe: expected ids of units that are fast enough (min_rate), but got {unknown}; "
                f"there are {list_some(ids)}"
            )
        observed = np.isin(ids, observe)
    else:
        observed = np.ones_like(sampled) if observe == "all" else sampled
    if not observed.any():
        raise ConfigError(
            "observe: expected sampled neurons to observe, but there are none; sample some, or observe all"
        )
    return ds.assign_coords(observed=(UNIT, observed), sampled=(UNIT, sampled | observed))
