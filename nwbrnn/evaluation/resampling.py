"""Compute intervals by resampling condition averages and single trials, as if recorded on another day."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwbrnn.evaluation.comparison import Comparison, estimate_noise, find_groups

Array = NDArray[np.floating]

NAMES = ("outputs", "rates", "hidden")


@dataclass(frozen=True)
class Draws:
    """Random numbers that several predictions share, so that differences between them are paired.

    Attributes
    ----------
    multipliers
        Normal multipliers of the residuals of each trial in each average, shape
        (n_resamples, n_conditions, n_trials).
    counts
        How often each trial is drawn within its condition, shape (n_resamples, n_trials).
    """

    multipliers: Array
    counts: NDArray[np.intp]


def draw(tests: xr.Dataset, n_resamples: int, rng: np.random.Generator) -> Draws:
    """Draw the random numbers for resamples of the test trials."""
    groups = find_groups(tests)
    normal = rng.standard_normal((n_resamples, len(groups), tests.sizes["trial"]))
    counts = np.zeros((n_resamples, tests.sizes["trial"]), dtype=np.intp)
    for rows in groups:
        counts[:, rows] = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=n_resamples)
    return Draws(normal, counts)


class Resampler:
    """Condition averages of the test trials with new noise, around an estimate of the true courses.

    Drawing trials with replacement adds noise to averages that are already noisy. If a network misses nothing
    but noise, scores of such averages vary twice as much as those of new recordings. Here, the residual
    average of a channel, recorded minus predicted, is first shrunk to the part that is not noise,
    √(1 - Σ(s² / n) / Σ(residual²)), and noise is then added once. The noise consists of the residuals of all
    trials about the averages of their conditions, times standard normal multipliers (the wild bootstrap of
    Wu 1986, Annals of Statistics, doi:10.1214/aos/1176350142), scaled to the noise of the condition.

    Few trials show noise in many bins along too few directions. This does not affect the part of a score that
    changes sign with the noise, but the part that does not, such as squared noise, varies too much. Each draw
    is therefore repeated with the opposite sign, and the variance is Var(odd part) + κ Var(even part),
    κ = tr(Σ²) / tr(S²), with S the covariance of the residuals and an unbiased tr(Σ²) as in Bai & Saranadasa
    1996, Statistica Sinica 6:311.

    Parameters
    ----------
    pair
        Condition averages of test trials, paired with the predictions for them.
    draws
        Random numbers, shared by all predictions for the same trials.
    """

    def __init__(self, pair: Comparison, draws: Draws) -> None:
        self.pair, self.draws = pair, draws
        self.groups = find_groups(pair.trials)
        self.sizes = np.array([len(rows) for rows in self.groups])
        self.freedom = int((self.sizes - 1).sum())
        self.recorded = _find_residuals(pair.trials, pair.truth, self.groups)
        self.predicted = _find_residuals(pair.predicted, pair.guess, self.groups)
        self.truth = _select_scored(pair.truth)
        self.guess = _select_scored(pair.guess) if self.predicted else pair.guess

    def redraw(self, number: int, sign: int) -> Comparison:
        """Return the comparison of one resample, with the noise or its opposite."""
        changed = {
            name: values + sign * self._draw(self.recorded, name, number)
            for name, values in self.centre.items()
        }
        return self.pair.replace(_exchange(self.truth, changed), self._redraw_guess(number, sign))

    def follow(self, other: Comparison, number: int, sign: int) -> Comparison:
        """Return the comparison with the averages that were drawn around another prediction."""
        return self.pair.replace(other.truth, self._redraw_guess(number, sign))

    def measure_spread(self, values: Array, name: str) -> float:
        """Return the standard deviation of a score.

        Parameters
        ----------
        values
            Scores of each resample with both signs, shape (n_resamples, 2).
        name
            The variable that is scored, ``outputs`` or ``rates``.
        """
        odd, even = (values[:, 0] - values[:, 1]) / 2, values.mean(axis=1)
        return float(np.sqrt(np.square(odd).mean() + self.share[name] * even.var(ddof=1)))

    @cached_property
    def share(self) -> dict[str, float]:
        """κ, the fraction of the variation of squared noise that is not due to the small number of trials."""
        return {name: self._find_share(name) for name in ("outputs", "rates")}

    def _find_share(self, name: str) -> float:
        m = self.freedom
        if name not in self.recorded or m < 2:
            return 1.0
        residuals = self.recorded[name] / self._spread_scale(name)[:, np.newaxis, np.newaxis]
        if name == "rates":
            residuals = residuals / self.pair.truth["rate_scale"].values
        flat = residuals.reshape(len(residuals), -1)
        products = flat @ flat.T / m
        squared, trace = float(np.square(products).sum()), float(np.trace(products))
        unbiased = m**2 / ((m - 1) * (m + 2)) * (squared - trace**2 / m)
        return float(np.clip(unbiased / squared, 0, 1))

    def _spread_scale(self, name: str) -> Array:
        """Return, for each trial, the size of the noise in its condition."""
        own = np.empty(self.pair.trials.sizes["trial"])
        for size, rows in zip(self.scale[name], self.groups, strict=True):
            own[rows] = size
        return own

    def _redraw_guess(self, number: int, sign: int) -> xr.Dataset:
        """Return the averages of the predictions for the drawn trials."""
        guess = self.guess
        if not self.predicted:  # the same in all trials of a condition
            return guess
        changed = {
            name: guess.variables[name].values + sign * self._draw(self.predicted, name, number)
            for name in self.predicted
        }
        return _exchange(guess, changed)

    @cached_property
    def centre(self) -> dict[str, Array]:
        """The estimates of the true courses, shapes (n_conditions, n_time, n_channels)."""
        return {name: self._shrink(name) for name in ("outputs", "rates")}

    @cached_property
    def scale(self) -> dict[str, Array]:
        """The size of the noise of a trial in each condition, relative to all others."""
        return {name: self._measure(name) for name in ("outputs", "rates")}

    def _shrink(self, name: str) -> Array:
        """Return the averages with their differences to the prediction shrunk by the noise in them."""
        pair = self.pair
        guess = pair.guess[name].values.astype(np.float64)
        residual = pair.truth[name].values - guess
        mask = pair.guess["mask"].values[..., np.newaxis] & ~np.isnan(pair.truth[name].values)
        difference = pair.trials[name].values - pair.predicted[name].values
        trials = pair.trials[[name, "mask"]].assign({name: (pair.trials[name].dims, difference)})
        noise = np.where(mask, estimate_noise(trials, trials, name), 0).sum(axis=(0, 1))
        total = np.where(mask, np.square(residual), 0).sum(axis=(0, 1))
        share = np.sqrt(np.clip(1 - noise / np.where(total > 0, total, np.inf), 0, 1))
        return np.asarray(guess + share * residual)

    def _measure(self, name: str) -> Array:
        residuals = self.recorded.get(name)
        if residuals is None:
            return np.ones(len(self.groups))
        squares = np.array([np.square(residuals[rows]).sum() for rows in self.groups])
        size = np.sqrt(squares / np.maximum(self.sizes - 1, 1))
        known = size > 0
        return np.asarray(np.where(known, size, size[known].mean()))

    def _draw(self, residuals: dict[str, Array], name: str, number: int) -> Array | float:
        """Return the noise of one resample, shape (n_conditions, n_time, n_channels)."""
        if name not in residuals:
            return 0.0
        kind = "rates" if name == "hidden" else name
        factors = self.scale[kind] / np.sqrt(self.sizes * self.freedom)
        weights = self.draws.multipliers[number] / self._spread_scale(kind) * factors[:, np.newaxis]
        return np.asarray(np.tensordot(weights, residuals[name], axes=1))


def resample_parts(parts: tuple[Array, Array], counts: NDArray[np.intp]) -> tuple[Array, Array]:
    """Return sums of numerator and denominator over the drawn trials, shapes (n_resamples, n_channels)."""
    numerator, denominator = parts
    return counts @ numerator, counts @ denominator


def _select_scored(averages: xr.Dataset) -> xr.Dataset:
    """Return averages without what no resampled score reads; copies of them are faster."""
    scored = averages[[name for name in (*NAMES, "mask") if name in averages]]
    return scored.drop_vars(set(scored.coords) - {"rate_scale", "rate_offset"})


def _exchange(averages: xr.Dataset, changed: Mapping[str, Array]) -> xr.Dataset:
    """Return averages with other values, much faster than by ``assign``, which aligns all variables."""
    own = {str(name): averages.variables[name].data for name in averages.data_vars}
    return averages.copy(data=own | dict(changed))


def _find_residuals(
    trials: xr.Dataset, averages: xr.Dataset, groups: Sequence[NDArray[np.intp]]
) -> dict[str, Array]:
    """Return each trial minus the average of its condition, 0 where it was not recorded.

    Variables that are the same in all trials of a condition, apart from rounding, are left out.
    """
    mask = trials["mask"].values[..., np.newaxis]
    residuals: dict[str, Array] = {}
    for name in (name for name in NAMES if name in trials):
        values = trials[name].values.astype(np.float64)
        for row, members in enumerate(groups):
            values[members] -= averages[name].values[row]
        values = np.where(mask & np.isfinite(values), values, 0)
        largest = np.abs(values).max(initial=0)
        tiny = 1e-6 * np.abs(averages[name].values).max(initial=0, where=np.isfinite(averages[name].values))
        if largest > tiny:
            residuals[name] = values
    return residuals
