"""The interface of a network that fitting, scoring, storing and plotting need."""

import math
from collections.abc import Iterable, Mapping
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nwbrnn.config import FitConfig
from nwbrnn.models.observer import Observations, Tracked
from nwbrnn.weights import KINDS, check_weights, find_sizes, list_shapes

_STATE_DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.float32}


class Network(nn.Module):
    """A recurrent network with a linear readout: z = W_out r + c.

    Each kind of network is a subclass: it runs the recurrence in :meth:`run`, and finds the state of a rate
    in :meth:`invert`. Predictions come from the same equation in NumPy (``nwbrnn.prediction.equations``).

    Parameters
    ----------
    sizes
        Numbers of inputs, hidden units and outputs.
    config
        Settings of the network.
    bin_size
        Width of a time bin [s].
    n_conditions
        Number of rows of the initial state if each condition has its own.
    n_observed
        Number of neurons that correct the state.

    Attributes
    ----------
    input_weights, full_weights, bias
        Parameters of shapes ``(n_hidden, ..., n_inputs)``, ``(n_hidden, ..., n_hidden)`` and
        ``(n_hidden, ...)``; see ``nwbrnn.weights.list_shapes``. The second may be missing if
        ``recurrent_weights`` is overridden.
    output_weights, output_bias
        Of shapes (n_outputs, n_hidden) and (n_outputs,).
    initial_state
        Of shape (n_hidden,), or (n_conditions, n_hidden).
    is_plain
        Whether the time loop consists of ordinary torch operations, which are slow but have all derivatives.
    """

    is_plain = False

    def __init__(
        self,
        sizes: tuple[int, int, int],
        config: FitConfig,
        *,
        bin_size: float,
        n_conditions: int = 1,
        n_observed: int = 0,
    ) -> None:
        super().__init__()
        n_inputs, n_hidden, n_outputs = sizes
        rows = (n_hidden, *KINDS[config.network].gates)
        self.config = config
        generator = torch.Generator().manual_seed(config.seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator) / math.sqrt(shape[-1])

        recurrent = config.gain * normal(*rows, n_hidden)
        by_condition = config.initial_state == "condition"
        self.input_weights = self._create_parameter(normal(*rows, n_inputs))
        self.bias = self._create_parameter(torch.zeros(rows))
        self.output_weights = self._create_parameter(normal(n_outputs, n_hidden))
        self.output_bias = self._create_parameter(torch.zeros(n_outputs))
        self.initial_state = self._create_parameter(
            torch.zeros((n_conditions, n_hidden) if by_condition else n_hidden)
        )
        self._create_recurrence(recurrent, generator)
        # 0, so that training begins with a network that observes nothing
        none = torch.zeros(n_hidden, n_observed)
        self.observer_weights = self._create_parameter(none) if n_observed else None

    def _create_parameter(self, values: Tensor) -> nn.Parameter:
        """Return a parameter with the precision of the settings."""
        return nn.Parameter(values.to(_STATE_DTYPES[self.config.precision]))

    def _create_recurrence(self, weights: Tensor, generator: torch.Generator) -> None:
        """Create the parameters of ``recurrent_weights`` from normally distributed weights."""
        self.full_weights = self._create_parameter(weights)

    @property
    def recurrent_weights(self) -> Tensor:
        """All weights between hidden units, with presynaptic units on the last axis."""
        return self.full_weights

    def run(self, inputs: Tensor, initial: Tensor, noise: Tensor | None) -> Tensor:
        """Return the rates, shape (n_time, n_trials, n_hidden).

        Parameters
        ----------
        inputs
            Shape (n_time, n_trials, n_inputs).
        initial
            The state of each trial before its first bin, shape (n_trials, n_hidden).
        noise
            As for :meth:`forward`, but time first.
        """
        raise NotImplementedError

    def invert(self, rates: Tensor) -> Tensor:
        """Return the states of rates, any shape."""
        raise NotImplementedError

    def follow(self, inputs: Tensor, initial: Tensor, noise: Tensor | None, seen: Observations) -> Tracked:
        """Return the rates of a network that neurons correct, at the end of each bin, time first.

        Parameters
        ----------
        inputs, initial, noise
            As for :meth:`run`.
        seen
            What neurons did.
        """
        raise NotImplementedError

    def track(
        self,
        inputs: Tensor,
        seen: Observations,
        *,
        start: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> tuple[Tensor, Tracked]:
        """Run the network, and correct its state by what neurons did in each bin that has ended.

        Parameters
        ----------
        inputs, start, noise
            As for :meth:`forward`.
        seen
            What neurons did.

        Returns
        -------
        outputs, tracked
            Outputs, shape (n_trials, n_time, n_outputs), from the corrected or the predicted rates
            (``observe_read``); both rates, trials first.
        """
        early = None if noise is None else noise.transpose(0, 1)
        initial = self._create_initial(start, len(inputs))
        found = self.follow(inputs.transpose(0, 1), initial, early, seen)
        read = found.rates if self.config.observe_read == "corrected" else found.predicted
        outputs = read @ self.output_weights.T + self.output_bias
        return outputs.transpose(0, 1), Tracked(*(one.transpose(0, 1) for one in found))

    def forward(
        self, inputs: Tensor, *, start: Tensor | None = None, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run the network.

        Parameters
        ----------
        inputs
            Shape (n_trials, n_time, n_inputs).
        start
            With initial states by condition, the row of each trial, shape (n_trials,), or -1 for the mean of
            all; with initial states from data, the first rates of the sampled neurons, shape
            (n_trials, n_sampled).
        noise
            Noise to add to the input of each hidden unit, shape (n_trials, n_time, n_hidden).

        Returns
        -------
        outputs, rates
            Shapes (n_trials, n_time, n_outputs) and (n_trials, n_time, n_hidden).
        """
        # time is first in memory throughout, and trials are first only in shape, so nothing is copied
        early = None if noise is None else noise.transpose(0, 1)
        initial = self._create_initial(start, len(inputs))
        outputs, rates = self._run_and_read(inputs.transpose(0, 1), initial, early)
        return (outputs + self.output_bias).transpose(0, 1), rates.transpose(0, 1)

    def _run_and_read(self, inputs: Tensor, initial: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return outputs, without their bias, and rates, both time first; see :meth:`run`."""
        rates = self.run(inputs, initial, noise)
        return rates @ self.output_weights.T, rates

    def _create_initial(self, start: Tensor | None, n_trials: int) -> Tensor:
        """Return the state of each trial before its first bin, shape (n_trials, n_hidden)."""
        state = self.initial_state
        if self.config.initial_state == "condition":
            known = torch.cat([state, state.mean(dim=0, keepdim=True)])  # row -1
            return known[start] if start is not None else known[-1].expand(n_trials, -1)
        if self.config.initial_state == "data" and start is not None:
            seen = self.invert(start.to(state.dtype))
            return torch.cat([seen, state[start.shape[1] :].expand(n_trials, -1)], dim=1)
        return state.expand(n_trials, -1)

    def find_parameters(self, name: str) -> list[nn.Parameter]:
        """Return the parameters that make up one of the arrays of :meth:`to_weights`."""
        return [getattr(self, "full_weights" if name == "recurrent_weights" else name)]

    def freeze(self, names: Iterable[str]) -> None:
        """Let training leave some arrays of :meth:`to_weights` as they are."""
        for name in names:
            for parameter in self.find_parameters(name):
                parameter.requires_grad_(False)

    def constrain(self) -> None:
        """Restore the limits of the settings on the weights, after each step of a fit."""

    def to_weights(self) -> dict[str, NDArray[np.floating]]:
        """Return all learned parameters as arrays by name; see ``nwbrnn.weights.list_shapes``."""
        names = (
            "recurrent_weights", "input_weights", "bias", "output_weights", "output_bias", "initial_state",
        )  # fmt: skip
        tensors = {name: getattr(self, name) for name in names}
        if self.observer_weights is not None:
            tensors["observer_weights"] = self.observer_weights
        return {name: tensor.detach().cpu().numpy().copy() for name, tensor in tensors.items()}

    @classmethod
    def from_weights(
        cls, weights: Mapping[str, NDArray[np.floating]], config: FitConfig, *, bin_size: float
    ) -> Self:
        """Return a network with the given weights, in their precision; the inverse of ``to_weights``.

        The weights already have their signs, sparsity and rank, which do not limit the network further.

        Raises
        ------
        ShapeError
            If the weights do not fit one another or the settings; see ``nwbrnn.weights.check_weights``.
        """
        sizes = find_sizes(weights)
        n_observed = np.shape(weights["observer_weights"])[-1] if "observer_weights" in weights else 0
        n_conditions = len(np.atleast_2d(weights["initial_state"]))
        shapes = list_shapes(sizes, config, n_conditions=n_conditions, n_observed=n_observed)
        check_weights({name: weights[name] for name in shapes}, shapes)
        plain = config.model_copy(update={"rank": None, "excitatory": None, "density": 1.0})
        model = cls(sizes, plain, bin_size=bin_size, n_observed=n_observed)
        model.load_weights(weights)
        return model

    def load_weights(self, weights: Mapping[str, NDArray[np.floating]]) -> None:
        """Take the given weights, and their precision, in place of its own."""
        named = dict(weights) | {"full_weights": weights["recurrent_weights"]}
        for name, parameter in self.named_parameters():
            # so that products are rounded the same way, whatever the source of the weights
            values = np.array(named[name], order="C")
            parameter.data = torch.from_numpy(values).to(parameter.device)
