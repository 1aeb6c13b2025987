"""What was recorded beside what was predicted: what several scores need is computed once."""

from functools import cached_property

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwbrnn.evaluation.accuracy import compute_r2
from nwbrnn.evaluation.rotations import Rotations, compute_rotations
from nwbrnn.evaluation.subspaces import Components, decompose
from nwbrnn.preprocessing import average_conditions

Array = NDArray[np.floating]
Pair = tuple[Array, Array]


class Comparison:
    """The test trials beside the predictions for them, as every score gets them.

    Parameters
    ----------
    trials, predicted
        The recorded trials and what was predicted for them, of the same sizes. Only the bins inside the mask
        of ``predicted`` count. Where it has no hidden units, such as the average of other trials, its rates
        stand in for them.
    averaged
        Whether condition averages are compared, or trial with trial.
    reference
        What outputs vary by, shape (n_samples, n_outputs); that of ``trials`` if it is not given.

    Attributes
    ----------
    truth, guess : xarray.Dataset
        What is compared: ``trials`` and ``predicted``, or their condition averages.
    """

    def __init__(
        self,
        trials: xr.Dataset,
        predicted: xr.Dataset,
        *,
        averaged: bool = True,
        reference: Array | None = None,
    ) -> None:
        self.trials, self.predicted = trials, predicted
        self.truth, self.guess = (average_conditions(ds) if averaged else ds for ds in (trials, predicted))
        self.reference = self.outputs[1] if reference is None else reference

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
    def normalized_rates(self) -> Pair:
        """Predicted and recorded rates, soft-normalised, shapes (n_samples, n_units)."""
        predicted, recorded = (self._normalize(rates) for rates in self.rates)
        return predicted, recorded

    @cached_property
    def populations(self) -> tuple[Components, Components] | None:
        """Principal components of the hidden units and of the recorded rates; none of a single sample."""
        hidden = stack_samples(self.guess, "hidden") if "hidden" in self.guess else self.normalized_rates[0]
        return (decompose(hidden), decompose(self.normalized_rates[1])) if len(hidden) > 1 else None

    @cached_property
    def recorded_rotations(self) -> Rotations:
        """Rotations of the recorded population."""
        return self._rotate(self._normalize(self.truth["rates"].values))

    @cached_property
    def student_rotations(self) -> Rotations:
        """Rotations of the hidden units."""
        return self._rotate(self.guess["hidden"].values)

    def stack_counts(self) -> tuple[Array, Array, Array]:
        """Return predicted rates, spike counts and mean rates of the unsampled neurons in single trials.

        Shapes (n_samples, n_neurons) [Hz], the same [spikes], and (n_neurons,) [Hz].
        """
        rates = stack_samples(self.predicted, "rates")[:, ~self.sampled]
        counts = stack_samples(self.trials, "spike_counts", like=self.predicted)[:, ~self.sampled]
        return rates, counts, stack_samples(self.trials, "rates")[:, ~self.sampled].mean(axis=0)

    def _stack(self, name: str) -> Pair:
        return stack_samples(self.guess, name), stack_samples(self.truth, name, like=self.guess)

    def _normalize(self, rates: Array) -> Array:
        return np.asarray((rates - self.truth["rate_offset"].values) / self.truth["rate_scale"].values)

    def _rotate(self, activity: Array) -> Rotations:
        complete = self.truth["mask"].values.all(axis=0)
        return compute_rotations(activity[:, complete], bin_size=self.truth.attrs["bin_size"])


def expect_average(known: xr.Dataset, truth: xr.Dataset) -> xr.Dataset:
    """Return, for every trial of ``truth``, the average of the known trials of its condition.

    Where a condition has no known trials the mask is False throughout.
    """
    rows = {condition: i for i, condition in enumerate(known["condition"].values.tolist())}
    index = np.array([rows.get(condition, -1) for condition in truth["condition"].values.tolist()])
    names = [name for name in ("outputs", "rates", "hidden", "mask") if name in known]
    expected = known[names].isel(trial=index)
    seen = expected["mask"].values & (index >= 0)[:, np.newaxis] & truth["mask"].values
    own = {"mask": (("trial", "time"), seen), "condition": ("trial", truth["condition"].values)}
    return expected.assign(own)


def stack_samples(ds: xr.Dataset, name: str, *, like: xr.Dataset | None = None) -> Array:
    """Return a variable as samples by channels, of the bins inside the mask (of ``like``)."""
    mask = (ds if like is None else like)["mask"].values
    return np.asarray(ds[name].values[mask])
