"""Find where network and simulated circuit rest, and how their activity grows, rotates and decays."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nwbrnn.evaluation.fixed_points import (
    FixedPoint,
    Gain,
    System,
    compute_departure_from_normality,
    compute_lyapunov_exponent,
    create_rate_system,
    find_fixed_points,
)
from nwbrnn.mechanism.teacher import Stored, Teacher, restore, store
from nwbrnn.prediction import create_system, find_states
from nwbrnn.preprocessing import average_conditions
from nwbrnn.result import FitResult
from nwbrnn.teacher import Reaches
from nwbrnn.teacher.reaching import compute_preparation_profile
from nwbrnn.teacher.soc import TAU, compute_slope, gain, invert_gain
from nwbrnn.weights import KINDS

Array = NDArray[np.float64]
Phase = Literal["preparation", "movement"]

N_STARTS, N_ENDS = 12, 8  # of Newton's method in a phase: on the trajectories, and after them
N_GROUPS = 4  # number of different inputs to examine
N_TIMES, N_CONDITIONS = 8, 3  # at which modes are computed along the trajectories
SETTLED, STEP = 5.0, 0.005  # duration of a trajectory for a Lyapunov exponent [s]; its step, if free [s]
SLOW_MODE = 2.5  # modes that decay slower count as slow [1/s]: half of the leak of the circuits


@dataclass(frozen=True)
class Motion:
    """The trajectories of a network in the conditions of the test trials, and its equations.

    Attributes
    ----------
    states, inputs
        States and inputs, shapes (n_conditions, n_time, n_states) and (n_conditions, n_time, n_inputs).
    time
        Time of each bin, shape (n_time,) [s].
    create
        Function from constant inputs, shape (n_inputs,), to the equations.
    weights
        Recurrent weights, shape (n_states, n_states); ``None`` if units have gates.
    """

    states: Array
    inputs: Array
    time: Array
    create: Callable[[Array], System]
    weights: Array | None

    def find_points(self, phase: Phase) -> list[FixedPoint]:
        """Return fixed and slow points for the inputs at the end of a phase; preparation ends at time 0.

        The search starts from states on the trajectories and from the states after another 5 s.
        """
        inside = np.flatnonzero(self.time < 0 if phase == "preparation" else self.time > 0)
        if not inside.size:
            return []
        held, group = np.unique(self.inputs[:, inside[-1]], axis=0, return_inverse=True)
        groups = _pick(len(held), N_GROUPS)
        points = []
        for number in groups:
            states = self.states[group.ravel() == number][:, inside]
            starts = states.reshape(-1, states.shape[-1])
            starts = starts[_pick(len(starts), max(N_STARTS // len(groups), 1))]
            system = self.create(held[number])
            ends = states[_pick(len(states), N_ENDS), -1]
            points += find_fixed_points(system, np.concatenate([starts, settle(system, ends)]))
        return points

    def find_modes(self) -> tuple[Array, NDArray[np.complex128]]:
        """Return times [s] and the fastest growing mode at each, averaged over conditions [1/s]."""
        bins = _pick(len(self.time), N_TIMES)
        rows = _pick(len(self.states), N_CONDITIONS)
        rates = [
            [self.create(self.inputs[row, b]).compute_rates(self.states[row, b])[0] for b in bins]
            for row in rows
        ]
        modes = np.array(rates)
        return self.time[bins], modes.real.mean(axis=0) + 1j * np.abs(modes.imag).mean(axis=0)

    def compute_exponent(self) -> float:
        """Return the largest Lyapunov exponent after the first condition, with its last inputs held."""
        system = self.create(self.inputs[0, -1])
        step = system.step or STEP
        return compute_lyapunov_exponent(
            system, self.states[0, -1], step=step, n_steps=max(round(SETTLED / step), 10)
        )

    def measure(self, points: Sequence[FixedPoint] | None = None) -> dict[str, float]:
        """Return measures by the names of :data:`nwbrnn.evaluation.specs.MEASURED`.

        Modes are those of the most stable fixed point of movement; they are NaN if there is none.

        Parameters
        ----------
        points
            Fixed points of movement, if they are already known.
        """
        points = self.find_points("movement") if points is None else points
        leading = min((point.rates.real for point in points if point.exact), key=max, default=np.array([]))
        return {
            "leading growth rate": float(leading[0]) if leading.size else float("nan"),
            "slow modes": float((leading > -SLOW_MODE).sum()) if leading.size else float("nan"),
            "attracting points": float(sum(point.attracts for point in points)),
            "Lyapunov exponent": self.compute_exponent(),
            "departure from normality": float("nan")
            if self.weights is None
            else compute_departure_from_normality(self.weights),
        }


def follow_network(result: FitResult) -> Motion:
    """Return the trajectories and equations of the best network of a fit."""
    is_test = result.recorded["split"].values == "test"
    tests = average_conditions(result.predicted.isel(trial=is_test))
    bin_size = float(result.recorded.attrs["bin_size"])
    gated = bool(KINDS[result.config.network].gates)
    return Motion(
        find_states(result.weights, result.config, tests["hidden"].values, bin_size=bin_size),
        np.nan_to_num(tests["inputs"].values.astype(np.float64)),
        tests["time"].values,
        lambda inputs: create_system(result.weights, result.config, inputs, bin_size=bin_size),
        None if gated else np.asarray(result.weights["recurrent_weights"], dtype=np.float64),
    )


def follow_teacher(teacher: Teacher) -> Motion:
    """Return the trajectories and equations of a circuit without noise, in the conditions of the tests."""
    conditions = teacher.tests["condition"].values.tolist()
    time = teacher.recorded["time"].values
    profile = compute_preparation_profile(time)
    # the fall after the go cue is far shorter than a bin
    profile = np.where(time < 0, profile, 0.0)
    inputs = profile[:, np.newaxis] * teacher.get_drive(conditions)[:, np.newaxis]
    return _follow_circuit(teacher.reaches, invert_gain(teacher.run(conditions)), inputs, time)


def _follow_circuit(reaches: Reaches, states: Array, inputs: Array, time: Array) -> Motion:
    """Return trajectories of a circuit with its equations."""
    weights = reaches.circuit.weights
    return Motion(
        states,
        inputs,
        time,
        lambda drive: create_rate_system(weights, drive, TAU, Gain(gain, compute_slope)),
        weights,
    )


def measure_teacher(teacher: Teacher) -> dict[str, float]:
    """Return the measures of a teacher, which all fits of the same data share; see :meth:`Motion.measure`."""
    motion = follow_teacher(teacher)
    return dict(_measure_teacher(teacher.reaches, *map(store, (motion.states, motion.inputs, motion.time))))


@lru_cache(maxsize=2)
def _measure_teacher(reaches: Reaches, *stored: Stored) -> dict[str, float]:
    return _follow_circuit(reaches, *map(restore, stored)).measure()


def settle(system: System, states: Array) -> Array:
    """Return states after 5 s, shape (n_states, n_units), integrated by Euler's method."""
    step = system.step or STEP
    ended = np.array(states, dtype=np.float64)
    for _ in range(round(SETTLED / step)):
        ended += step * system.change(ended)
    return ended[np.isfinite(ended).all(axis=1)]


def _pick(n: int, n_picked: int) -> NDArray[np.intp]:
    """Return ``n_picked`` evenly spread numbers below n."""
    return np.unique(np.linspace(0, n - 1, min(n, n_picked)).round().astype(np.intp))
