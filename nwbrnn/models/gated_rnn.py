"""A gated recurrent network with a linear readout, whose equations do not model a circuit."""

from collections.abc import Callable

import torch
from torch import Tensor

from nwbrnn.config import FitConfig
from nwbrnn.models.network import Network
from nwbrnn.models.observer import Observations, Tracked
from nwbrnn.prediction.activations import EDGE
from nwbrnn.prediction.equations import CANDIDATE, RESET, UPDATE
from nwbrnn.text import show_count

_KEEP = 1.0  # initial bias of the update gate, so that states persist (Jozefowicz et al. 2015, ICML 37:2342)


class GatedRNN(Network):
    """A gated recurrent network, whose state h is its rate: r = h.

    With a = σ(W_a h + U_a u + b_a) for the reset gate and g likewise for the update gate,
    h ← g h + (1 - g) tanh(a (W h) + U u + b), once in each bin. This is :class:`torch.nn.GRU` with one bias.

    Parameters
    ----------
    sizes
        Numbers of inputs, hidden units and outputs.
    config
        The settings of the network: ``gain``, ``initial_state``, ``precision`` and ``seed``.
    bin_size
        Width of a time bin [s]; not used.
    n_conditions
        Number of rows of the initial state if each condition has its own.
    n_observed
        Number of neurons that correct the state.

    Attributes
    ----------
    full_weights, input_weights, bias
        Parameters of shapes (n_hidden, 3, n_hidden), (n_hidden, 3, n_inputs) and (n_hidden, 3): reset gate,
        update gate, candidate.
    observer_weights
        Parameter K of shape (n_hidden, n_observed), or ``None``; see :meth:`follow`.

    References
    ----------
    .. [1] Cho et al. 2014, EMNLP, arXiv:1406.1078.
    """

    def __init__(
        self,
        sizes: tuple[int, int, int],
        config: FitConfig,
        *,
        bin_size: float,
        n_conditions: int = 1,
        n_observed: int = 0,
    ) -> None:
        super().__init__(sizes, config, bin_size=bin_size, n_conditions=n_conditions, n_observed=n_observed)
        with torch.no_grad():
            self.bias[:, UPDATE] = _KEEP

    def __repr__(self) -> str:
        """Return the numbers of inputs, units, outputs and parameters."""
        n_hidden, _, n_inputs = self.input_weights.shape
        n_parameters = sum(parameter.numel() for parameter in self.parameters())
        return (
            f"GatedRNN({show_count(n_inputs, 'input')} -> {show_count(n_hidden, 'gated unit')} -> "
            f"{show_count(len(self.output_bias), 'output')}, {n_parameters:,} parameters)"
        )

    def run(self, inputs: Tensor, initial: Tensor, noise: Tensor | None) -> Tensor:
        """Return the rates; see :meth:`Network.run`."""
        step, state, rates = self._prepare(inputs, noise), initial, []
        for t in range(len(inputs)):
            state = step(state, t)
            rates.append(state)
        return torch.stack(rates)

    def follow(self, inputs: Tensor, initial: Tensor, noise: Tensor | None, seen: Observations) -> Tracked:
        """Return the rates of a network that neurons correct; see :meth:`Network.follow`.

        After each bin h <- h + K (y - h[observed]). K = 0 is the network of :meth:`run`.
        """
        if self.observer_weights is None:
            raise ValueError("expected a network that was made to observe neurons (n_observed)")
        step, state = self._prepare(inputs, noise), initial
        rates, predicted = [], []
        for t in range(len(inputs)):
            before = step(state, t)
            errors = seen.counted[:, t] * (seen.values[:, t] - before[:, seen.units])
            state = before + errors @ self.observer_weights.T
            predicted.append(before)
            rates.append(state)
        return Tracked(torch.stack(rates), torch.stack(predicted))

    def _prepare(self, inputs: Tensor, noise: Tensor | None) -> Callable[[Tensor, int], Tensor]:
        """Return the function from a state and the number of a bin to the state at its end."""
        drives = [inputs @ self.input_weights[:, gate].T + self.bias[:, gate] for gate in range(3)]
        recurrent = [self.recurrent_weights[:, gate].T for gate in range(3)]

        def step(state: Tensor, t: int) -> Tensor:
            reset, update = (
                torch.sigmoid(drives[gate][t] + state @ recurrent[gate]) for gate in (RESET, UPDATE)
            )
            candidate = torch.tanh(drives[CANDIDATE][t] + reset * (state @ recurrent[CANDIDATE]))
            after = update * state + (1 - update) * candidate
            return after if noise is None else after + noise[t]

        return step

    def invert(self, rates: Tensor) -> Tensor:
        """Return the states of rates, which are the rates limited to the range of a state."""
        return rates.clamp(-EDGE, EDGE)
