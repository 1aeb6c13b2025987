"""Pair recorded with predicted data, and compute only once what several scores need."""

from copy import copy
from functools import cached_property

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwbrnn.dataset import find_observed
from nwbrnn.evaluation.accuracy import compute_r2
from nwbrnn.evaluation.rotations import Rotations, compute_rotations, compute_surrogate_r2
from nwbrnn.evaluation.subspaces import Components, decompose
from nwbrnn.preprocessing import average_conditions, find_complete_units, match_observed, normalize_rates

Array = NDArray[np.floating]
Pair = tuple[Array, Array]


_OF_ALL_TRIALS = ("reference", "known", "known_predicted", "noise", "sampled")
"""Properties that do not depend on which averages are compared."""
_OF_GUESS = ("hidden_components", "rate_components", "hidden_rotations")
"""Properties that depend on the recorded data only by the units which lack none of them."""
_OF_RECORDED = ("reference", "known", "noise", "sampled", "recorded_rotations", "surrogate_r2")
"""Properties that do not depend on the predictions."""


class Comparison:
    """The test trials paired with the predictions for them, the input of every score.

    Parameters
    ----------
    trials, predicted
        The recorded trials and the predictions for them, of the same sizes. Only the bins inside the mask
        of ``predicted`` count, and of these, for each unit and output, only those in which it was observed.
        If a prediction has no hidden units, such as the average of other trials, its rates replace them.
    averaged
        Whether to compare condition averages instead of single trials.
    whole
        All trials of the recording, known and tested, and the predictions for them, unless only test trials
        are predicted; if not given, the compared trials.

    Attributes
    ----------
    truth, guess : xarray.Dataset
        The compared data: ``trials`` and ``predicted``, or their condition averages.
    """

    def __init__(
        self,
        trials: xr.Dataset,
        predicted: xr.Dataset,
        *,
        averaged: bool = True,
        whole: tuple[xr.Dataset, xr.Dataset | None] | None = None,
    ) -> None:
        predicted = match_observed(predicted, trials)
        self.trials, self.predicted, self.averaged = trials, predicted, averaged
        self.truth, self.guess = (average_conditions(ds) if averaged else ds for ds in (trials, predicted))
        self.whole = (trials, predicted) if whole is None else whole

    def replace(self, truth: xr.Dataset, guess: xr.Dataset) -> "Comparison":
        """Return the same comparison of other condition averages, such as those of resampled trials."""
        unchanged = guess is self.guess and np.array_equal(find_complete_units(truth), self.complete_units)
        other = self._copy((*_OF_ALL_TRIALS, *(_OF_GUESS if unchanged else ())))
        other.truth, other.guess = truth, guess
        return other

    def with_prediction(self, predicted: xr.Dataset, everywhere: xr.Dataset | None = None) -> "Comparison":
        """Return the same trials paired with another prediction, and with that for all trials, if any."""
        other = self._copy(_OF_RECORDED)
        other.predicted, other.whole = match_observed(predicted, self.trials), (self.whole[0], everywhere)
        other.guess = average_conditions(other.predicted) if self.averaged else other.predicted
        if _count_same(self.guess, other.guess):
            other.recorded_components = self.recorded_components
        return other

    def _copy(self, kept: tuple[str, ...]) -> "Comparison":
        """Return a copy with only some of the properties that were computed."""
        _ = self.reference  # computed once, for all copies
        other = copy(self)
        for name, member in vars(Comparison).items():
            if isinstance(member, cached_property) and name not in kept:
                vars(other).pop(name, None)
        return other

    def tells(self, what: str) -> bool:
        """Return whether outputs, rates of some or all neurons, or hidden units are predicted.

        A ``network`` also has hidden units in the known trials.
        """
        if what == "network":
            return self.whole[1] is not None and "hidden" in self.guess
        if what in ("outputs", "hidden"):
            return what in self.guess and bool(np.isfinite(self.guess[what].values).any())
        known = np.isfinite(self.guess["rates"].values).any(axis=(0, 1))
        tested = ~np.isnan(self.truth["rates"].values).all(axis=(0, 1))
        chosen = {"rates": slice(None), "sampled": self.sampled, "unsampled": ~self.sampled}[what]
        known = known[chosen][tested[chosen]]
        return bool(known.all() and known.size)

    @cached_property
    def reference(self) -> Array:
        """Reference for the variance of outputs: averages of all conditions, shape (n_samples, n_outputs)."""
        return stack_samples(average_conditions(self.whole[0]), "outputs")

    @cached_property
    def known(self) -> xr.Dataset:
        """The trials outside the test split."""
        return self.whole[0].isel(trial=self.whole[0]["split"].values != "test")

    @cached_property
    def known_predicted(self) -> xr.Dataset:
        """The predictions for the known trials."""
        if self.whole[1] is None:
            raise ValueError("expected a network, which predicts all trials")
        return self.whole[1].isel(trial=self.whole[0]["split"].values != "test")

    @cached_property
    def noise(self) -> dict[str, Array]:
        """Squared error of the test averages about the true course, s² / n, for ``outputs`` and ``rates``.

        Shape (n_conditions, n_time, n_channels), with s² the variance over all trials of a condition, whether
        they are tested or not, and n the number of test trials; see :func:`estimate_noise`.
        """
        return {name: estimate_noise(self.whole[0], self.trials, name) for name in ("outputs", "rates")}

    @cached_property
    def outputs(self) -> Pair:
        """Predicted and recorded outputs, shapes (n_samples, n_outputs)."""
        return self._stack("outputs")

    @cached_property
    def rates(self) -> Pair:
        """Predicted and recorded rates, shapes (n_samples, n_units) [Hz]."""
        return self._stack("rates")

    @cached_property
    def unit_r2(self) -> Array:
        """R² of the rates of each unit, shape (n_units,)."""
        return compute_r2(*self.rates)

    @cached_property
    def sampled(self) -> NDArray[np.bool_]:
        """Which units are sampled, shape (n_units,)."""
        return np.asarray(self.trials["sampled"].values)

    @cached_property
    def complete_units(self) -> NDArray[np.bool_]:
        """Which units were observed in every bin of the compared data; only these form a population."""
        return find_complete_units(self.truth)

    @cached_property
    def normalized_rates(self) -> Pair:
        """Predicted and recorded rates, soft-normalized, of the units that lack none of these samples.

        Shapes (n_samples, n_complete).
        """
        complete = np.all([~np.isnan(rates).any(axis=0) for rates in self.rates], axis=0)
        if complete.all():
            predicted, recorded = (normalize_rates(rates, self.truth) for rates in self.rates)
        else:
            few = self.truth[["rate_scale", "rate_offset"]].isel(unit=complete)
            predicted, recorded = (normalize_rates(rates[:, complete], few) for rates in self.rates)
        return predicted, recorded

    @cached_property
    def rate_components(self) -> Components:
        """Principal components of the predicted rates."""
        return decompose(self.normalized_rates[0])

    @cached_property
    def hidden_components(self) -> Components:
        """Principal components of the hidden units."""
        return (
            decompose(stack_samples(self.guess, "hidden")) if "hidden" in self.guess else self.rate_components
        )

    @cached_property
    def recorded_components(self) -> Components | None:
        """Principal components of the recorded rates; ``None`` for one sample or no unit."""
        recorded = self.normalized_rates[1]
        return decompose(recorded) if len(recorded) > 1 and recorded.shape[1] > 0 else None

    @cached_property
    def recorded_rotations(self) -> Rotations:
        """Rotations of the recorded population."""
        return self._rotate(self.recorded_population)

    @cached_property
    def surrogate_r2(self) -> Array:
        """R² of pure rotation of surrogates of the recorded population, shape (n_surrogates,)."""
        complete = self.truth["mask"].values.all(axis=0)
        activity = self.recorded_population[:, complete]
        return compute_surrogate_r2(activity, bin_size=self.truth.attrs["bin_size"])

    @cached_property
    def hidden_rotations(self) -> Rotations:
        """Rotations of the hidden units."""
        return self._rotate(self.guess["hidden"].values)

    def _stack(self, name: str) -> Pair:
        return stack_samples(self.guess, name), stack_samples(self.truth, name, like=self.guess)

    @cached_property
    def recorded_population(self) -> Array:
        """Soft-normalized recorded rates of the complete units, shape (n_trials, n_time, n_complete)."""
        normalized, complete = normalize_rates(self.truth["rates"].values, self.truth), self.complete_units
        return normalized if complete.all() else normalized[..., complete]

    def _rotate(self, activity: Array) -> Rotations:
        complete = self.truth["mask"].values.all(axis=0)
        return compute_rotations(activity[:, complete], bin_size=self.truth.attrs["bin_size"])


def _count_same(first: xr.Dataset, second: xr.Dataset) -> bool:
    """Return whether two predictions predict the same bins and all rates there."""
    same = np.array_equal(first["mask"].values, second["mask"].values)
    return same and bool(find_complete_units(first).all() and find_complete_units(second).all())


def expect_average(known: xr.Dataset, truth: xr.Dataset) -> xr.Dataset:
    """Return, for every trial of ``truth``, the average of the known trials of its condition.

    If a condition has no known trials, its mask is False throughout.
    """
    rows = {condition: i for i, condition in enumerate(known["condition"].values.tolist())}
    index = np.array([rows.get(condition, -1) for condition in truth["condition"].values.tolist()])
    names = [name for name in ("outputs", "rates", "hidden", "mask") if name in known]
    expected = known[names].isel(trial=index)
    seen = expected["mask"].values & (index >= 0)[:, np.newaxis] & truth["mask"].values
    own = {"mask": (("trial", "time"), seen), "condition": ("trial", truth["condition"].values)}
    return expected.assign(own)


def select_known(recorded: xr.Dataset) -> xr.Dataset:
    """Return the trials outside the test split, with NaN for outputs that the network does not see."""
    known = recorded.isel(trial=recorded["split"].values != "test")
    hidden = (known["split"].values == "dynamics_only")[:, np.newaxis, np.newaxis]
    outputs = np.where(hidden, np.nan, known["outputs"].values)
    return known.assign(outputs=(known["outputs"].dims, outputs, known["outputs"].attrs))


def average_known(known: xr.Dataset, truth: xr.Dataset) -> xr.Dataset:
    """Return, for every trial of ``truth``, the average of the known trials of its condition.

    Outputs and rates are NaN where no known trial of the condition has any.
    """
    return expect_average(average_conditions(known), truth)


def list_samples(first: xr.Dataset, second: xr.Dataset, names: tuple[str, str]) -> list[Pair]:
    """Return variables of two Datasets of the same trials, in the bins of each trial inside both masks."""
    masks = first["mask"].values & second["mask"].values
    values = zip(first[names[0]].values, second[names[1]].values, masks, strict=True)
    return [(x[mask], y[mask]) for x, y, mask in values]


def stack_samples(ds: xr.Dataset, name: str, *, like: xr.Dataset | None = None) -> Array:
    """Return a variable as samples by channels, for the bins inside the mask (of ``like``)."""
    mask = (ds if like is None else like).variables["mask"].values  # much faster than ds["mask"]
    return np.asarray(ds.variables[name].values[mask])


def select_tests(recorded: xr.Dataset, predicted: xr.Dataset) -> tuple[xr.Dataset, xr.Dataset]:
    """Return the test trials and the predictions for them.

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
    return recorded.isel(trial=is_test), predicted.isel(trial=is_test)


def find_groups(trials: xr.Dataset) -> list[NDArray[np.intp]]:
    """Return the rows of the trials of each condition, conditions in order of their first appearance."""
    labels = trials["condition"].values
    return [np.flatnonzero(labels == condition) for condition in dict.fromkeys(labels.tolist())]


def estimate_noise(whole: xr.Dataset, trials: xr.Dataset, name: str) -> Array:
    """Return the expected squared error of the averages of some trials about the true course: s² / n.

    Parameters
    ----------
    whole
        All trials of the recording. s² is the variance over all trials of a condition, which does not depend
        on the true course, so that a single test trial is enough. If a condition has only one trial, s² is
        the mean of the other conditions.
    trials
        The trials that are averaged; in n of them, a unit or output was observed in this bin.
    name
        A variable of shape (n_trials, n_time, n_channels).

    Returns
    -------
    ndarray
        Shape (n_conditions, n_time, n_channels), conditions as in
        :func:`nwbrnn.preprocessing.average_conditions`, in the square of the unit; NaN if no condition has
        two trials.
    """
    groups = find_groups(trials)
    conditions = [trials["condition"].values[rows[0]] for rows in groups]
    seen_whole, belonging = find_observed(whole, name), whole["condition"].values
    values = np.where(seen_whole, whole[name].values, 0).astype(np.float64)
    variances = []
    for condition in conditions:
        rows = belonging == condition
        n = seen_whole[rows].sum(axis=0)
        mean = values[rows].sum(axis=0) / np.maximum(n, 1)
        squares = np.where(seen_whole[rows], np.square(values[rows] - mean), 0).sum(axis=0)
        variances.append(squares / np.where(n > 1, n - 1, np.nan))
    variance = np.stack(variances)
    seen = np.isfinite(variance)
    others = np.where(seen, variance, 0).sum(axis=0) / np.where(seen.any(axis=0), seen.sum(axis=0), np.nan)
    return np.asarray(np.where(seen, variance, others) / np.maximum(count_observed(trials, name), 1))


def count_observed(trials: xr.Dataset, name: str) -> NDArray[np.intp]:
    """Return in how many trials of each condition each bin was observed, as :func:`estimate_noise`.

    Shape (n_conditions, n_time, n_channels), or (n_conditions, n_time, 1) if it is the same for all.
    """
    seen = find_observed(trials, name)
    return np.stack([seen[rows].sum(axis=0) for rows in find_groups(trials)])
