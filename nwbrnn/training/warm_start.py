"""Begin training at the weights of an earlier fit."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwbrnn.config import FitConfig
from nwbrnn.dataset import Choice, get_output_units
from nwbrnn.errors import ConfigError
from nwbrnn.preprocessing import find_conditions, find_factor, identify, is_aligned, list_sources
from nwbrnn.weights import READOUT

Weights = dict[str, NDArray[np.floating]]

SAME = ("network", "hidden", "nonlinearity", "tau", "learn_tau", "substeps", "initial_state")
"""Settings that determine the meaning of the weights; both fits need the same values."""


class Match(NamedTuple):
    """Which hidden unit of the earlier fit each hidden unit begins as.

    Attributes
    ----------
    order
        Number of the earlier hidden unit, shape (n_hidden,).
    kept
        Units that are sampled in both fits, and keep their hidden unit.
    new
        Sampled units that the earlier fit did not sample, and that begin as another hidden unit.
    """

    order: NDArray[np.int_]
    kept: tuple[int, ...]
    new: tuple[int, ...]


def check_start(
    earlier: xr.Dataset, earlier_config: FitConfig, ds: xr.Dataset, config: FitConfig, *, name: str
) -> None:
    """Refuse an earlier fit whose weights would mean something else, or that has learned from test trials.

    Parameters
    ----------
    earlier, earlier_config
        The prepared Dataset and the settings of the earlier fit.
    ds, config
        Those of the fit that begins at its weights.
    name
        What the message calls the earlier fit.

    Raises
    ------
    ConfigError
        If a setting, the inputs or the width of a bin differ, if outputs differ that training could not
        learn, or if test trials are among those from which the earlier network learned.
    """
    pairs: dict[str, tuple[Any, Any]] = {n: (getattr(earlier_config, n), getattr(config, n)) for n in SAME}
    pairs["inputs"] = earlier["input"].values.tolist(), ds["input"].values.tolist()
    if {"output_weights", "output_bias"} & set(config.freeze) or config.stop_after == 0:
        pairs["outputs"] = earlier["output"].values.tolist(), ds["output"].values.tolist()
    bins = float(earlier.attrs["bin_size"]), float(ds.attrs["bin_size"])
    if not np.isclose(*bins, rtol=1e-6):
        pairs["bin_size"] = bins
    differing = [
        f"{n}: {_show(there)}, here {_show(here)}" for n, (there, here) in pairs.items() if there != here
    ]
    if differing:
        raise ConfigError(
            f"start_from: expected a fit of the same network and inputs, but {name} differs in "
            f"{'; '.join(differing)}; give both fits the same, or start from another fit"
        )
    leaked = _find_leaked(earlier, ds)
    if leaked:
        raise ConfigError(
            f"start_from: expected a network that has not seen the test trials, but {name} has learned from "
            f"{len(leaked)} of them (trials {_show(leaked)}); use the split of that fit (seed, test, "
            "validation, held_out_conditions), or start from another fit"
        )


def match_units(earlier: xr.Dataset, earlier_config: FitConfig, ds: xr.Dataset) -> Match:
    """Return which hidden unit of an earlier fit each hidden unit begins as.

    A unit of the same file that both fits sample keeps its hidden unit, also in a pool. Other sampled units
    begin as free hidden units of the earlier fit, as far as there are any. Hidden units of different files,
    and those that stood for no neurons, keep their places: nothing says which of them belong together.

    Parameters
    ----------
    earlier, earlier_config
        The prepared Dataset and the settings of the earlier fit.
    ds
        The prepared Dataset of the fit that begins at its weights.
    """
    n_hidden = earlier_config.hidden
    units = ds["unit"].values[ds["sampled"].values].tolist()
    before, after = (_list_units(one, "sampled") for one in (earlier, ds))
    if not list_sources(earlier) & list_sources(ds) or not earlier_config.dynamics_factor:
        return Match(np.arange(n_hidden), (), tuple(units))
    order = np.full(n_hidden, -1)
    rows = {unit: row for row, unit in enumerate(before)}
    for place, unit in enumerate(after[:n_hidden]):  # training refuses more sampled than hidden units
        order[place] = rows.pop(unit, -1)  # two sessions can hold the same unit
    free = np.arange(max(len(before), len(after)), n_hidden)
    order[free] = free  # those that are free in both stay where they are
    spare = sorted(set(range(n_hidden)) - set(order.tolist()), key=lambda row: (row < len(before), row))
    is_kept = [place < n_hidden and bool(order[place] >= 0) for place in range(len(after))]
    order[order < 0] = spare
    kept, new = (
        tuple(unit for unit, known in zip(units, is_kept, strict=True) if known is wanted)
        for wanted in (True, False)
    )
    return Match(order, kept, new)


def _list_units(ds: xr.Dataset, which: str) -> list[tuple[str, int]]:
    """Return source and row of the units that are sampled, or observed."""
    return [unit for unit, chosen in zip(identify(ds, "unit"), ds[which].values, strict=True) if chosen]


def adopt_weights(
    weights: Mapping[str, NDArray[np.floating]],
    earlier: xr.Dataset,
    ds: xr.Dataset,
    config: FitConfig,
    match: Match,
) -> Weights:
    """Return the weights of an earlier fit for the units, scales and conditions of another.

    Before it is trained, the network gives the outputs of the earlier one, in the unit of the file; where
    sessions were brought to one scale, in that of the session. An output that the earlier fit lacks begins
    at 0. A condition that the earlier fit did not train on begins at the mean of the initial states. A neuron
    that the earlier network did not observe corrects nothing at first.

    Parameters
    ----------
    weights
        Of the earlier fit, by name.
    earlier, ds
        The prepared Datasets of both fits.
    config
        Settings of the fit that begins.
    match
        From :func:`match_units`.
    """
    order = match.order
    named = {name: np.asarray(values) for name, values in weights.items() if name not in READOUT}
    outputs = earlier["output"].values.tolist()
    rows = [outputs.index(name) if name in outputs else -1 for name in ds["output"].values.tolist()]
    scale = _compare_scales(earlier, ds, rows)
    adopted = {
        name: values[order] for name, values in named.items() if name in ("input_weights", "bias", "tau")
    }
    adopted["recurrent_weights"] = named["recurrent_weights"][order][..., order]
    adopted["output_weights"] = named["output_weights"][rows][:, order] * scale[:, np.newaxis]
    adopted["output_bias"] = named["output_bias"][rows] * scale
    adopted["initial_state"] = named["initial_state"][..., order]
    if config.initial_state == "condition":
        known = {condition: row for row, condition in enumerate(find_conditions(earlier))}
        states = [*adopted["initial_state"], adopted["initial_state"].mean(axis=0)]
        adopted["initial_state"] = np.stack([states[known.get(c, -1)] for c in find_conditions(ds)])
    if config.observes:
        adopted["observer_weights"] = _adopt_observer(named.get("observer_weights"), earlier, ds, order)
    dtype = np.float64 if config.precision == "float64" else np.float32
    return {name: np.ascontiguousarray(values, dtype=dtype) for name, values in adopted.items()}


def _compare_scales(earlier: xr.Dataset, ds: xr.Dataset, rows: list[int]) -> NDArray[np.floating]:
    """Return by how much larger the network must draw each output than the earlier one; 0 for new outputs.

    Outputs that were brought to the scale of their session have no unit of the file. What is 1 there is the
    scale of any other session. Units that cannot be compared count as the same.
    """
    units = np.array(get_output_units(earlier))[rows].tolist()
    pairs = zip(units, get_output_units(ds), strict=True)
    factors = [find_factor(unit, into) or 1.0 for unit, into in pairs]
    before, after = earlier["output_scale"].values[rows], ds["output_scale"].values
    if is_aligned(earlier) != is_aligned(ds):  # only the aligned one has the scale of a session as its unit
        before = before if is_aligned(earlier) else np.ones(len(rows))
        after = after if is_aligned(ds) else np.ones(len(rows))
    return np.where(np.array(rows) < 0, 0.0, np.array(factors) * before / after)


def _adopt_observer(
    weights: NDArray[np.floating] | None, earlier: xr.Dataset, ds: xr.Dataset, order: NDArray[np.int_]
) -> NDArray[np.floating]:
    """Return a column for each observed neuron, that of the earlier fit or 0."""
    units = _list_units(ds, "observed")
    adopted = np.zeros((len(order), len(units)))
    if weights is None:
        return adopted
    before = _list_units(earlier, "observed")
    for column, unit in enumerate(units):
        if unit in before:
            adopted[:, column] = weights[order, before.index(unit)]
    return adopted


def describe_match(match: Match, earlier: xr.Dataset, ds: xr.Dataset, *, name: str) -> Choice:
    """Describe, as a choice, which sampled units keep their own hidden unit, and which outputs are new."""
    n_sampled = int(ds["sampled"].sum())
    reason = f"{len(match.kept)} of {n_sampled} sampled units begin as their own hidden unit"
    if match.kept:
        reason += f": {_show(match.kept)}"
    if match.new:
        reason += f"; the others as free hidden units: {_show(match.new)}"
    known = earlier["output"].values.tolist()
    outputs = [output for output in ds["output"].values.tolist() if output not in known]
    if outputs:
        reason += f"; outputs that the earlier fit lacks begin at 0: {_show(outputs)}"
    return Choice("initial weights", name, reason)


def hash_weights(networks: Sequence[Mapping[str, NDArray[np.floating]]]) -> str:
    """Return a hash of the weights of networks, in the order of their names."""
    digest = hashlib.sha256()
    for weights in networks:
        for name in sorted(set(weights) - set(READOUT)):
            values = np.ascontiguousarray(weights[name])
            digest.update(f"{name} {values.dtype.str} {values.shape}".encode())
            digest.update(values.tobytes())
    return digest.hexdigest()


def _find_leaked(earlier: xr.Dataset, ds: xr.Dataset) -> list[int]:
    """Return the test trials from which the earlier network learned, or that told it when to stop.

    What a fit before the earlier one learned from is not known here (docs/howto/fitted_network.md).
    """
    learned = earlier["split"].values != "test"
    seen = {trial for trial, used in zip(identify(earlier, "trial"), learned, strict=True) if used}
    tested = ds["split"].values == "test"
    trials = zip(identify(ds, "trial"), ds["trial"].values.tolist(), tested, strict=True)
    return [number for trial, number, is_test in trials if is_test and trial in seen]


def _show(value: Any) -> str:
    """Return a value, or the first ones of many."""
    if not isinstance(value, list | tuple):
        return str(value)
    return ", ".join(map(str, value[:20])) + (", …" if len(value) > 20 else "") if value else "none"
