"""Run the simulated circuit of a fit again, if it is known, without noise or with disturbances."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwbrnn.config.check import parse_settings
from nwbrnn.errors import ConfigError
from nwbrnn.evaluation import compute_skill
from nwbrnn.preprocessing import average_conditions
from nwbrnn.teacher import Circuit, Reaches, TeacherConfig

Array = NDArray[np.float64]

Stored = tuple[tuple[int, ...], bytes]
"""Shape and values of an array of float64."""

N_KEPT = 8  # sets of runs: two fits need four each, and fits of the same data repeat most of them

SHOWN = ("direction_cos", "direction_sin")  # inputs that the circuit has


@dataclass(frozen=True)
class Teacher:
    """The circuit with which a Dataset was simulated, and its bins and units in the Dataset.

    Attributes
    ----------
    recorded
        The prepared Dataset.
    reaches
        The circuit and its movements.
    bins
        Bins of the movements that the Dataset contains, shape (n_time,).
    """

    recorded: xr.Dataset
    reaches: Reaches
    bins: NDArray[np.intp]

    @classmethod
    def find(cls, recorded: xr.Dataset) -> Self | None:
        """Return the circuit of a prepared Dataset, or ``None`` if it has none or only a part of it.

        Datasets from :func:`nwbrnn.simulate_teacher`, and from files written from them, contain the circuit
        unless units were left out, bins were widened or conditions were renamed.
        """
        if not {"connectivity", "readout"} <= set(recorded) or "teacher" not in recorded.attrs:
            return None
        weights = recorded["connectivity"].values.astype(np.float64)
        try:
            reaches = _create_reaches(recorded.attrs["teacher"], store(weights))
        except (ConfigError, ValueError, TypeError):
            return None
        time = recorded["time"].values
        bins = np.abs(reaches.time[:, np.newaxis] - time).argmin(axis=0)
        known = {f"{direction:g}" for direction in reaches.directions}
        same = np.allclose(reaches.time[bins], time, atol=recorded.attrs["bin_size"] / 100)
        if len(weights) != weights.shape[1] or not same or not set(recorded["condition"].values) <= known:
            return None
        return cls(recorded, reaches, bins)

    def get_drive(self, conditions: Sequence[str]) -> Array:
        """Return the preparatory input of conditions, shape (n_conditions, n_neurons) [Hz]."""
        labels = [f"{direction:g}" for direction in self.reaches.directions]
        return np.asarray(self.reaches.drive[[labels.index(label) for label in conditions]])

    def run(
        self, conditions: Sequence[str], *, kicks: Array | None = None, added: Array | None = None
    ) -> Array:
        """Return the rates above baseline in the bins of the Dataset, shape (n_runs, n_time, n_units) [Hz].

        Parameters
        ----------
        conditions
            Condition of each run.
        kicks
            Jump of the rates at the go cue, shape (n_runs, n_units) [Hz].
        added
            Values to add to the inputs cosine and sine in all bins of the movement, shape
            (n_runs, n_bins, 2) [1].
        """
        drive = store(self.get_drive(conditions))
        changes = (None if values is None else store(values) for values in (kicks, added))
        return np.asarray(_run(self.reaches, drive, *changes)[:, self.bins])

    def read(self, rates: Array) -> Array:
        """Return the muscle outputs of given rates, without their offset, in their recorded unit."""
        return np.asarray(rates @ self.recorded["readout"].values.T)

    @cached_property
    def tests(self) -> xr.Dataset:
        """Condition averages of the test trials."""
        return average_conditions(self.recorded.isel(trial=self.recorded["split"].values == "test"))

    @cached_property
    def undisturbed(self) -> Array:
        """Rates above baseline in the conditions of the test trials, shape (n_runs, n_time, n_units) [Hz]."""
        return self.run(self.tests["condition"].values.tolist())


def store(values: Array) -> Stored:
    """Return an array in a form that a cache can compare."""
    return values.shape, np.asarray(values, dtype=np.float64).tobytes()


def restore(stored: Stored) -> Array:
    """Return the array that was stored; it cannot be changed."""
    shape, values = stored
    return np.frombuffer(values).reshape(shape)


@lru_cache(maxsize=2)
def _create_reaches(config: str, weights: Stored) -> Reaches:
    """Return the circuit with these settings (JSON) and weights; it is the same object in the next fit."""
    given = parse_settings(TeacherConfig, json.loads(config), source="teacher")
    return Reaches(given, Circuit(restore(weights)))


@lru_cache(maxsize=N_KEPT)
def _run(reaches: Reaches, drive: Stored, kicks: Stored | None, added: Stored | None) -> Array:
    """Return the rates of runs in all bins; see :meth:`nwbrnn.teacher.Reaches.run`."""
    return reaches.run(
        restore(drive),
        kicks=None if kicks is None else restore(kicks),
        added=None if added is None else restore(added),
    )


def probe_teacher(
    teacher: Teacher, levels: Sequence[float], *, n_repeats: int = 3, seed: int = 0
) -> dict[float, float]:
    """Return the output skill of the circuit itself with noisy inputs, by level.

    The inputs are disturbed as in :func:`nwbrnn.training.probe`: in each bin, Gaussian noise with ε times the
    root mean square of an input is added to it. The circuit has no go cue as an input.

    Parameters
    ----------
    teacher
        The simulated circuit of the fit.
    levels
        Values of ε.
    n_repeats
        Number of draws of noise for each level and condition.
    seed
        Seed of the noise.
    """
    tests, names = teacher.tests, teacher.recorded["input"].values.tolist()
    conditions, mask = tests["condition"].values.tolist(), tests["mask"].values
    inputs = tests["inputs"].values
    scale = [
        np.sqrt(np.square(inputs[mask][:, names.index(name)]).mean()) if name in names else 0.0
        for name in SHOWN
    ]
    clean = teacher.read(teacher.undisturbed)
    target, size = tests["outputs"].values, teacher.recorded["output_scale"].values
    offset = (target - clean)[mask].mean(axis=0)
    everything = average_conditions(teacher.recorded)
    reference = everything["outputs"].values[everything["mask"].values] / size
    rng = np.random.default_rng(seed)
    # run all at once, since a step of many runs takes little more time than a step of one
    drawn = rng.standard_normal((len(levels), n_repeats, len(conditions), len(teacher.reaches.time), 2))
    added = np.reshape(levels, (-1, 1, 1, 1, 1)) * np.array(scale) * drawn
    runs = conditions * (len(levels) * n_repeats)
    found = teacher.read(teacher.run(runs, added=added.reshape(len(runs), -1, 2))) + offset
    scores = [
        compute_skill(one[mask] / size, target[mask] / size, reference)
        for one in found.reshape(-1, *target.shape)
    ]
    return dict(zip(levels, np.reshape(scores, (len(levels), -1)).mean(axis=1).tolist(), strict=True))
