"""The equations of fitted networks in NumPy, from which all predictions come.

Training has the same equations in torch, with their gradients (:mod:`nwbrnn.models`); tests compare the two.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nwbrnn.config import FitConfig
from nwbrnn.prediction.activations import EDGE, activate, invert, round_to_bfloat16
from nwbrnn.weights import check_weights, find_sizes, list_shapes

Array = NDArray[np.floating]

RESET, UPDATE, CANDIDATE = range(3)
"""Gates of a gated recurrent unit, in the order of its weights."""


class Seen(NamedTuple):
    """The activity of the observed neurons in each bin, as the network uses it.

    Attributes
    ----------
    values
        Rates in units of hidden rates, from spikes of this bin and earlier ones only, shape
        (n_trials, n_time, n_observed) [1]. Any finite value where nothing was observed.
    counted
        How much each counts: 1, or 0 where nothing was observed; same shape.
    units
        The hidden unit that stands for each neuron, shape (n_observed,).
    """

    values: Array
    counted: Array
    units: NDArray[np.int64]


class Course(NamedTuple):
    """What hidden units do in each bin, trials first: shape (n_trials, n_time, n_hidden).

    Attributes
    ----------
    rates
        Rates at the end of each bin.
    predicted
        These rates before observed neurons correct them.
    states
        States at the end of each bin.
    """

    rates: Array
    predicted: Array
    states: Array


class Equation(ABC):
    """The equation of a fitted network: a time loop, and a linear readout z = W_out r + c.

    Each kind of network is a subclass. The precision is that of the weights.

    Parameters
    ----------
    weights
        Arrays by name; see ``nwbrnn.weights.list_shapes``.
    config
        Settings of the fit.
    bin_size
        Width of a time bin [s].

    Raises
    ------
    ShapeError
        If the weights do not fit one another or the settings; see ``nwbrnn.weights.check_weights``.
    """

    substeps = 1

    def __init__(self, weights: Mapping[str, Array], config: FitConfig, *, bin_size: float) -> None:
        n_observed = np.shape(weights["observer_weights"])[-1] if "observer_weights" in weights else 0
        n_conditions = len(np.atleast_2d(weights["initial_state"]))
        shapes = list_shapes(find_sizes(weights), config, n_conditions=n_conditions, n_observed=n_observed)
        check_weights({name: weights[name] for name in shapes if name in weights}, shapes)
        self.config, self.bin_size = config, bin_size
        self.weights = {name: np.asarray(weights[name]) for name in shapes}
        self.dtype = self.weights["input_weights"].dtype

    @abstractmethod
    def drive(self, inputs: Array) -> Array:
        """Return what inputs, shape (..., n_inputs), and biases give each unit in one step."""

    @abstractmethod
    def advance(self, states: Array, rates: Array, drive: Array) -> Array:
        """Return the states one step later, shape (n_trials, n_hidden)."""

    @abstractmethod
    def activate(self, states: Array) -> Array:
        """Return the rates of states, any shape."""

    @abstractmethod
    def invert(self, rates: Array) -> Array:
        """Return the states of rates, any shape; rates at the ends of their range move inwards."""

    @abstractmethod
    def spread(self, shift: Array) -> Array:
        """Return what shifts states by ``shift`` in a bin if added in each step, apart from recurrence."""

    @abstractmethod
    def get_gains(self) -> Array:
        """Return how far a state moves for an error of each observed neuron, shape (n_hidden, n_observed)."""

    def linearize(self, state: Array, drive: Array) -> Array:
        """Return the derivative of the next state with respect to this one, shape (n_hidden, n_hidden).

        A rate network needs none, since it is also known as a differential equation.
        """
        raise NotImplementedError

    @np.errstate(over="ignore", invalid="ignore")  # as for :meth:`run`
    def read(self, rates: Array) -> Array:
        """Return the outputs that are read from rates of shape (..., n_hidden)."""
        return np.asarray(rates @ self.weights["output_weights"].T + self.weights["output_bias"])

    def begin(self, start: NDArray[np.generic] | None, n_trials: int) -> Array:
        """Return the state of each trial before its first bin, shape (n_trials, n_hidden).

        Parameters
        ----------
        start
            With initial states by condition, the row of each trial, shape (n_trials,), or -1 for the mean of
            all; with initial states from data, the first rates of the sampled neurons, shape
            (n_trials, n_sampled).
        n_trials
            Number of trials.
        """
        state = self.weights["initial_state"]
        if self.config.initial_state == "condition":
            known = np.concatenate([state, state.mean(axis=0, keepdims=True)])  # row -1
            return np.asarray(known[np.full(n_trials, -1) if start is None else start])
        states = np.tile(state, (n_trials, 1))
        if self.config.initial_state == "data" and start is not None:
            states[:, : start.shape[1]] = self.invert(start.astype(self.dtype))
        return states

    @np.errstate(over="ignore", invalid="ignore")  # a network may run away
    def run(
        self,
        inputs: Array,
        states: Array,
        *,
        shift: Array | None = None,
        seen: Seen | None = None,
        keep_states: bool = False,
    ) -> Course:
        """Run the network, and correct its state by what neurons did in each bin that has ended.

        After each bin x <- x + G (y - r[observed]), with G from :meth:`get_gains`.

        Parameters
        ----------
        inputs
            Shape (n_trials, n_time, n_inputs).
        states
            Of each trial before its first bin, shape (n_trials, n_hidden); see :meth:`begin`.
        shift
            Shift of the states in each bin, shape (n_trials, n_time, n_hidden).
        seen
            What neurons did.
        keep_states
            Whether to return states, too; otherwise they are empty.
        """
        drives = self.drive(inputs.swapaxes(0, 1).astype(self.dtype))
        added = None if shift is None else self.spread(shift.swapaxes(0, 1).astype(self.dtype))
        rates = np.empty((len(drives), *states.shape), self.dtype)
        predicted = rates if seen is None else np.empty_like(rates)
        kept = np.empty_like(rates if keep_states else rates[:0])
        correct = None if seen is None else self._prepare_correction(seen)
        rate = self.activate(states)
        for t, drive in enumerate(drives):
            for _ in range(self.substeps):
                states = self.advance(states, rate, drive)
                if added is not None:
                    states = states + added[t]
                rate = self.activate(states)
            predicted[t] = rate
            if correct is not None:
                states = states + correct(rate, t)
                rate = self.activate(states)
            rates[t] = rate
            if keep_states:
                kept[t] = states
        return Course(*(values.swapaxes(0, 1) for values in (rates, predicted, kept)))

    def _prepare_correction(self, seen: Seen) -> Callable[[Array, int], Array]:
        """Return the function from rates and the number of a bin to what is added to the states."""
        values, counted = (given.swapaxes(0, 1).astype(self.dtype) for given in (seen.values, seen.counted))
        gains = self.get_gains().T

        def correct(rates: Array, t: int) -> Array:
            return np.asarray((counted[t] * (values[t] - rates[:, seen.units])) @ gains)

        return correct


class RateEquation(Equation):
    """Leaky rate network: τ dx/dt = -x + W r + W_in u + b, r = φ(x).

    Time is discretized by forward Euler with one or more steps per bin. Inputs are constant within a bin, and
    rates and outputs are those at its end.
    """

    def __init__(self, weights: Mapping[str, Array], config: FitConfig, *, bin_size: float) -> None:
        super().__init__(weights, config, bin_size=bin_size)
        self.substeps = config.substeps
        tau = self.weights.get("tau", np.full_like(self.weights["bias"], config.tau))
        # integration step divided by the time constant, at most 1
        self.alpha = np.minimum(bin_size / config.substeps / tau, 1).astype(self.dtype)
        self._keep = 1 - self.alpha
        # the products of such a network are computed in bfloat16, unless neurons correct its state
        is_rough = config.precision == "bfloat16" and not config.observes
        self._round = round_to_bfloat16 if is_rough else np.asarray
        recurrent = (self.alpha[:, None] * self.weights["recurrent_weights"]).T
        self._recurrent = self._round(np.ascontiguousarray(recurrent))

    @property
    def way(self) -> Array:
        """The part of its way to equilibrium that each unit goes in a bin, shape (n_hidden,)."""
        slow = self.alpha.astype(np.float64)  # 1 - alpha is 1 in float32 for units that hardly move
        return np.asarray(1 - (1 - slow) ** self.substeps).astype(self.dtype)

    def drive(self, inputs: Array) -> Array:
        """Return what inputs and biases give each unit; see :meth:`Equation.drive`."""
        entry = self.alpha[:, None] * self.weights["input_weights"]
        return self._round(inputs @ entry.T + self.alpha * self.weights["bias"])

    def advance(self, states: Array, rates: Array, drive: Array) -> Array:
        """Return the states one step later; see :meth:`Equation.advance`."""
        return np.asarray(self._keep * states + drive + self._round(rates @ self._recurrent))

    def activate(self, states: Array) -> Array:
        """Return the rates of states, any shape."""
        return self._round(activate(states, self.config.nonlinearity))

    def invert(self, rates: Array) -> Array:
        """Return the states of rates, any shape."""
        return invert(rates, self.config.nonlinearity)

    def spread(self, shift: Array) -> Array:
        """Return a share of the shift for each step, as if a constant input caused it."""
        return np.asarray(self.alpha / self.way * shift)

    def get_gains(self) -> Array:
        """Return the observer weights times the part of its way that a unit goes in a bin."""
        return np.asarray(self.way[:, None] * self.weights["observer_weights"])


class GatedEquation(Equation):
    """A gated recurrent unit, whose state h is its rate: h ← g h + (1 - g) tanh(a (W h) + U u + b).

    a = σ(W_a h + U_a u + b_a) is the reset gate, and g likewise the update gate; one step in each bin.

    References
    ----------
    .. [1] Cho et al. 2014, EMNLP, arXiv:1406.1078.
    """

    def drive(self, inputs: Array) -> Array:
        """Return what inputs and biases give each gate, shape (..., n_hidden, 3)."""
        entry, bias = self.weights["input_weights"], self.weights["bias"]
        n_hidden, n_gates, n_inputs = entry.shape
        found = inputs @ entry.reshape(-1, n_inputs).T + bias.ravel()
        return np.asarray(found.reshape(*inputs.shape[:-1], n_hidden, n_gates))

    def _open_gates(self, states: Array, drive: Array) -> tuple[Array, Array, Array, Array]:
        """Return reset and update gates, candidates, and the recurrent input of these."""
        matrices = self.weights["recurrent_weights"]
        reset, update = (_squash(drive[..., gate] + states @ matrices[:, gate].T) for gate in (RESET, UPDATE))
        recurrent = states @ matrices[:, CANDIDATE].T
        return reset, update, np.tanh(drive[..., CANDIDATE] + reset * recurrent), recurrent

    def advance(self, states: Array, rates: Array, drive: Array) -> Array:  # noqa: ARG002
        """Return the states one bin later; see :meth:`Equation.advance`."""
        _, update, candidate, _ = self._open_gates(states, drive)
        return np.asarray(update * states + (1 - update) * candidate)

    def linearize(self, state: Array, drive: Array) -> Array:
        """Return the derivative of the next state; see :meth:`Equation.linearize`."""
        reset, update, candidate, recurrent = self._open_gates(state, drive)
        matrices = self.weights["recurrent_weights"].swapaxes(0, 1)
        by_update = (state - candidate) * update * (1 - update)
        by_candidate = (1 - update) * (1 - candidate**2)
        by_reset = by_candidate * recurrent * reset * (1 - reset)
        found = np.diag(update) + by_update[:, None] * matrices[UPDATE]
        found += by_reset[:, None] * matrices[RESET]
        return np.asarray(found + (by_candidate * reset)[:, None] * matrices[CANDIDATE])

    def activate(self, states: Array) -> Array:
        """Return the rates, which are the states."""
        return states

    def invert(self, rates: Array) -> Array:
        """Return the states of rates, which are the rates limited to the range of a state."""
        return np.clip(rates, -EDGE, EDGE)

    def spread(self, shift: Array) -> Array:
        """Return the shift itself."""
        return shift

    def get_gains(self) -> Array:
        """Return the observer weights."""
        return self.weights["observer_weights"]


def _squash(values: Array) -> Array:
    """Return the logistic function, 1 / (1 + e^-x), of which no part can be infinite."""
    return np.asarray((1 + np.tanh(values / 2)) / 2)


EQUATIONS: dict[str, type[Equation]] = {"rate": RateEquation, "gru": GatedEquation}
"""Equations by the value of the setting ``network``."""
