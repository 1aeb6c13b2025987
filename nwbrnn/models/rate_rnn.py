"""The student: a leaky rate network with a linear readout."""

import math
from collections.abc import Mapping
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nwbrnn.config import FitConfig
from nwbrnn.models.scan import invert, scan
from nwbrnn.weights import check_weights, find_sizes, list_shapes

_STATE_DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.float32}


class RateRNN(nn.Module):
    """Leaky rate network: τ dx/dt = -x + W r + W_in u + b, r = φ(x), z = W_out r + c.

    The first hidden units stand for the sampled neurons one to one, the rest are free. Time is
    discretised by forward Euler, in one or more steps in each bin; inputs are constant in a bin, rates
    and outputs are those at its end.

    Parameters
    ----------
    sizes
        Numbers of inputs, hidden units and outputs.
    config
        The settings of the student: ``nonlinearity``, ``tau``, ``learn_tau``, ``substeps``, ``gain``,
        ``excitatory``, ``density``, ``rank``, ``initial_state``, ``precision`` and ``seed``.
    bin_size
        Width of a time bin [s].
    n_conditions
        Rows of the initial state, where each condition has its own.

    Attributes
    ----------
    input_weights, bias, output_weights, output_bias
        Parameters of shapes (n_hidden, n_inputs), (n_hidden,), (n_outputs, n_hidden), (n_outputs,).
    initial_state
        Parameter of shape (n_hidden,), or (n_conditions, n_hidden).
    """

    def __init__(
        self,
        sizes: tuple[int, int, int],
        config: FitConfig,
        *,
        bin_size: float,
        n_conditions: int = 1,
    ) -> None:
        super().__init__()
        n_inputs, n_hidden, n_outputs = sizes
        self.config = config
        self._step = bin_size / config.substeps
        dtype = _STATE_DTYPES[config.precision]
        generator = torch.Generator().manual_seed(config.seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator) / math.sqrt(shape[-1])

        def parameter(values: Tensor) -> nn.Parameter:
            return nn.Parameter(values.to(dtype))

        recurrent = config.gain * normal(n_hidden, n_hidden)
        self.input_weights = parameter(normal(n_hidden, n_inputs))
        self.bias = parameter(torch.zeros(n_hidden))
        self.output_weights = parameter(normal(n_outputs, n_hidden))
        self.output_bias = parameter(torch.zeros(n_outputs))
        by_condition = config.initial_state == "condition"
        self.initial_state = parameter(torch.zeros((n_conditions, n_hidden) if by_condition else n_hidden))
        self.log_tau = parameter(torch.full((n_hidden,), math.log(config.tau))) if config.learn_tau else None
        self._limit_recurrence(recurrent, generator)

    def _limit_recurrence(self, weights: Tensor, generator: torch.Generator) -> None:
        """Make the recurrent weights sparse, signed or of low rank, if that is asked for."""
        config, n_hidden = self.config, len(weights)
        dtype = _STATE_DTYPES[config.precision]
        self.register_buffer("_signs", None, persistent=False)
        self.register_buffer("_exists", None, persistent=False)
        if config.rank is not None:
            factors = torch.randn(2, n_hidden, config.rank, generator=generator)
            scale = _rescale(factors[0] @ factors[1].T, config.gain) ** 0.5
            self.left_factors, self.right_factors = (nn.Parameter(scale * f.to(dtype)) for f in factors)
            return
        if config.density < 1:
            self._exists = torch.rand(n_hidden, n_hidden, generator=generator) < config.density
            weights = weights * self._exists
        if config.excitatory is not None:
            n_excitatory = min(max(round(config.excitatory * n_hidden), 1), n_hidden)
            order = torch.randperm(n_hidden, generator=generator)
            self._signs = torch.where(torch.isin(torch.arange(n_hidden), order[:n_excitatory]), 1.0, -1.0)
            balance = n_excitatory / max(n_hidden - n_excitatory, 1)  # as much inhibition as excitation
            weights = weights.abs() * torch.where(self._signs > 0, 1.0, -balance)
        if config.density < 1 or config.excitatory is not None:
            weights = weights * _rescale(weights, config.gain)
        self.full_weights = nn.Parameter(weights.to(dtype))

    def __repr__(self) -> str:
        """Return what goes in and out, and how large it is."""
        n_hidden, n_inputs = self.input_weights.shape
        tau = "learned time constants" if self.log_tau is not None else f"tau {self.config.tau:g} s"
        n_parameters = sum(parameter.numel() for parameter in self.parameters())
        return (
            f"RateRNN({n_inputs} inputs -> {n_hidden} {self.config.nonlinearity} units -> "
            f"{len(self.output_bias)} outputs, {tau}, {n_parameters:,} parameters)"
        )

    @property
    def recurrent_weights(self) -> Tensor:
        """W, shape (n_hidden, n_hidden); columns are presynaptic."""
        if self.config.rank is not None:
            return self.left_factors @ self.right_factors.T
        return self.full_weights

    @property
    def alpha(self) -> Tensor:
        """Integration step over time constant of each hidden unit, at most 1, shape (n_hidden,)."""
        if self.log_tau is None:
            return torch.full_like(self.bias, min(self._step / self.config.tau, 1.0))
        return (self._step * torch.exp(-self.log_tau)).clamp(max=1.0)

    def forward(
        self, inputs: Tensor, *, start: Tensor | None = None, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run the network.

        Parameters
        ----------
        inputs
            Shape (n_trials, n_time, n_inputs).
        start
            With initial states by condition the row of each trial, shape (n_trials,), -1 for the mean of all;
            with initial states from data the first rates of the sampled neurons, shape (n_trials, n_sampled).
        noise
            Added to what drives each hidden unit, shape (n_trials, n_time, n_hidden).

        Returns
        -------
        outputs, rates
            Shapes (n_trials, n_time, n_outputs) and (n_trials, n_time, n_hidden).
        """
        alpha = self.alpha
        # time first in memory throughout, trials first only in shape: nothing is copied
        drive = inputs.transpose(0, 1) @ (alpha[:, None] * self.input_weights).T + alpha * self.bias
        if noise is not None:
            drive = drive + alpha * noise.transpose(0, 1)
        substeps = self.config.substeps
        if substeps > 1:
            drive = drive.repeat_interleave(substeps, dim=0)
        weights = alpha[:, None] * self.recurrent_weights
        initial = self._create_initial(start, len(inputs))
        if self.config.precision == "bfloat16":
            drive, weights = drive.bfloat16(), weights.bfloat16()
        rates = scan(drive, weights, initial, 1 - alpha, nonlinearity=self.config.nonlinearity)
        if substeps > 1:
            rates = rates[substeps - 1 :: substeps]
        rates = rates.to(self.bias.dtype)
        outputs = rates @ self.output_weights.T + self.output_bias
        return outputs.transpose(0, 1), rates.transpose(0, 1)

    def _create_initial(self, start: Tensor | None, n_trials: int) -> Tensor:
        """Return the state of each trial before its first bin, shape (n_trials, n_hidden)."""
        state = self.initial_state
        if self.config.initial_state == "condition":
            known = torch.cat([state, state.mean(dim=0, keepdim=True)])  # row -1
            return known[start] if start is not None else known[-1].expand(n_trials, -1)
        if self.config.initial_state == "data" and start is not None:
            seen = invert(start.to(state.dtype), self.config.nonlinearity)
            return torch.cat([seen, state[start.shape[1] :].expand(n_trials, -1)], dim=1)
        return state.expand(n_trials, -1)

    @torch.no_grad()
    def constrain(self) -> None:
        """Bring the recurrent weights back to their signs and their sparsity; after each step of a fit."""
        if self._signs is not None:
            self.full_weights.copy_((self.full_weights * self._signs).clamp(min=0) * self._signs)
        if self._exists is not None:
            self.full_weights.mul_(self._exists)

    def to_weights(self) -> dict[str, NDArray[np.floating]]:
        """Return everything that was learned as arrays by name; ``tau`` [s] if it was."""
        tensors = {"recurrent_weights": self.recurrent_weights}
        names = ("input_weights", "bias", "output_weights", "output_bias", "initial_state")
        tensors |= {name: getattr(self, name) for name in names}
        if self.log_tau is not None:
            tensors["tau"] = self.log_tau.exp()
        return {name: tensor.detach().cpu().numpy().copy() for name, tensor in tensors.items()}

    @classmethod
    def from_weights(
        cls, weights: Mapping[str, NDArray[np.floating]], config: FitConfig, *, bin_size: float
    ) -> Self:
        """Return a network with the given weights, in their precision; the inverse of ``to_weights``.

        Signs, sparsity and rank are in the weights, and do not limit the network any further.

        Raises
        ------
        ShapeError
            If the weights do not fit one another or the settings; see ``nwbrnn.weights.check_weights``.
        """
        sizes = find_sizes(weights)
        shapes = list_shapes(sizes, config, n_conditions=len(np.atleast_2d(weights["initial_state"])))
        check_weights({name: weights[name] for name in shapes}, shapes)
        plain = config.model_copy(update={"rank": None, "excitatory": None, "density": 1.0})
        model = cls(sizes, plain, bin_size=bin_size)
        model.load_weights(weights)
        return model

    def load_weights(self, weights: Mapping[str, NDArray[np.floating]]) -> None:
        """Take the given weights, and their precision, in place of its own."""
        named = dict(weights) | {"full_weights": weights["recurrent_weights"]}
        if self.log_tau is not None:
            named["log_tau"] = np.log(weights["tau"])
        for name, parameter in self.named_parameters():
            values = np.array(
                named[name], order="C"
            )  # products round the same way, wherever weights came from
            parameter.data = torch.from_numpy(values).to(parameter.device)


def _rescale(weights: Tensor, radius: float) -> float:
    """Return the factor that gives the weights a spectral radius."""
    present = float(torch.linalg.eigvals(weights).abs().max())
    return radius / present if present > 0 else 1.0
