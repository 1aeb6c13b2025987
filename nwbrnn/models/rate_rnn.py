"""A leaky rate network with a linear readout."""

import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nwbrnn.config import FitConfig
from nwbrnn.models.network import Network
from nwbrnn.models.observer import Observations, Tracked, track
from nwbrnn.models.scan import invert, multiply, scan, scan_and_read, scan_plainly
from nwbrnn.text import show_count


class RateRNN(Network):
    """Leaky rate network: τ dx/dt = -x + W r + W_in u + b, r = φ(x), z = W_out r + c.

    The first hidden units represent the sampled neurons one to one, and the others are free. Time is
    discretized by forward Euler with one or more steps per bin. Inputs are constant within a bin, and rates
    and outputs are those at its end.

    Parameters
    ----------
    sizes
        Numbers of inputs, hidden units and outputs.
    config
        The settings of the network: ``nonlinearity``, ``tau``, ``learn_tau``, ``substeps``, ``gain``,
        ``excitatory``, ``density``, ``rank``, ``initial_state``, ``precision`` and ``seed``.
    bin_size
        Width of a time bin [s].
    n_conditions
        Number of rows of the initial state if each condition has its own.
    n_observed
        Number of neurons that correct the state.

    Attributes
    ----------
    input_weights, bias, output_weights, output_bias
        Parameters of shapes (n_hidden, n_inputs), (n_hidden,), (n_outputs, n_hidden), (n_outputs,).
    initial_state
        Parameter of shape (n_hidden,), or (n_conditions, n_hidden).
    observer_weights
        Parameter K of shape (n_hidden, n_observed), or ``None``; see :meth:`follow`.
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
        self._step = bin_size / config.substeps

    def _create_recurrence(self, weights: Tensor, generator: torch.Generator) -> None:
        """Make the recurrent weights sparse, signed or of low rank, if the settings say so."""
        config, n_hidden = self.config, len(weights)
        log_tau = torch.full((n_hidden,), math.log(config.tau))
        self.log_tau = self._create_parameter(log_tau) if config.learn_tau else None
        self.register_buffer("_signs", None, persistent=False)
        self.register_buffer("_exists", None, persistent=False)
        if config.rank is not None:
            factors = torch.randn(2, n_hidden, config.rank, generator=generator)
            scale = _rescale(factors[0] @ factors[1].T, config.gain) ** 0.5
            self.left_factors, self.right_factors = (self._create_parameter(scale * f) for f in factors)
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
        self.full_weights = self._create_parameter(weights)

    def __repr__(self) -> str:
        """Return the numbers of inputs, units, outputs and parameters."""
        n_hidden, n_inputs = self.input_weights.shape
        tau = "learned time constants" if self.log_tau is not None else f"tau {self.config.tau:g} s"
        n_parameters = sum(parameter.numel() for parameter in self.parameters())
        units = show_count(n_hidden, f"{self.config.nonlinearity} unit")
        return (
            f"RateRNN({show_count(n_inputs, 'input')} -> {units} -> "
            f"{show_count(len(self.output_bias), 'output')}, {tau}, {n_parameters:,} parameters)"
        )

    @property
    def recurrent_weights(self) -> Tensor:
        """W, shape (n_hidden, n_hidden); columns are presynaptic."""
        if self.config.rank is not None:
            return self.left_factors @ self.right_factors.T
        return self.full_weights

    @property
    def alpha(self) -> Tensor:
        """Integration step divided by the time constant of each hidden unit, at most 1, shape (n_hidden,)."""
        if self.log_tau is None:
            return torch.full_like(self.bias, min(self._step / self.config.tau, 1.0))
        return (self._step * torch.exp(-self.log_tau)).clamp(max=1.0)

    def run(self, inputs: Tensor, initial: Tensor, noise: Tensor | None) -> Tensor:
        """Return the rates; see :meth:`Network.run`."""
        substeps = self.config.substeps
        given = self._prepare(inputs, initial, noise)
        loop = scan_plainly if self.is_plain else scan
        rates = loop(*given, nonlinearity=self.config.nonlinearity)
        if substeps > 1:
            rates = rates[substeps - 1 :: substeps]
        return rates.to(self.bias.dtype)

    def _run_and_read(self, inputs: Tensor, initial: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return outputs, without their bias, and rates; both from one loop if each step ends a bin."""
        if self.is_plain or self.config.substeps > 1 or self.config.precision == "bfloat16":
            return super()._run_and_read(inputs, initial, noise)
        given = self._prepare(inputs, initial, noise)
        return scan_and_read(*given, self.output_weights, nonlinearity=self.config.nonlinearity)

    def _prepare(
        self, inputs: Tensor, initial: Tensor, noise: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the first arguments of :func:`nwbrnn.models.scan.scan`."""
        alpha = self.alpha
        drive = self._drive(inputs, noise, alpha)
        weights = alpha[:, None] * self.recurrent_weights
        if self.config.precision == "bfloat16":
            drive, weights = drive.bfloat16(), weights.bfloat16()
        return drive, weights, initial, 1 - alpha

    def follow(self, inputs: Tensor, initial: Tensor, noise: Tensor | None, seen: Observations) -> Tracked:
        """Return the rates of a network that neurons correct; see :meth:`Network.follow`.

        After each bin x <- x + alpha K (y - r[observed]), with r the predicted rates, y what the neurons did
        in this bin, and alpha the part of its way that a unit goes in a bin. K = 0 is the network of
        :meth:`run`.
        """
        if self.observer_weights is None:
            raise ValueError("expected a network that was made to observe neurons (n_observed)")
        alpha, substeps = self.alpha, self.config.substeps
        weights = alpha[:, None] * self.recurrent_weights
        gains = (1 - (1 - alpha) ** substeps)[:, None] * self.observer_weights
        found = track(
            self._drive(inputs, noise, alpha),
            (weights, 1 - alpha, gains),
            initial,
            seen,
            nonlinearity=self.config.nonlinearity,
        )
        if substeps == 1:
            return found
        ends = slice(substeps - 1, None, substeps)
        return Tracked(found.rates[ends], found.predicted)

    def _drive(self, inputs: Tensor, noise: Tensor | None, alpha: Tensor) -> Tensor:
        """Return all that enters a unit in each step besides recurrence, time first."""
        # the bias is the weight of an input of 1; more such inputs, of weight 0, since with fewer than four
        # columns the product of the gradient takes three times as long
        n_more = max(4 - inputs.shape[2], 1)
        given = torch.cat([inputs, inputs.new_ones(*inputs.shape[:2], n_more)], dim=2)
        rows = (alpha[:, None] * self.input_weights).T, (alpha * self.bias)[None]
        weights = torch.cat([*rows, rows[1].new_zeros(n_more - 1, len(alpha))])
        product = torch.mm if self.is_plain else multiply
        drive = product(given.flatten(0, 1), weights).reshape(*inputs.shape[:2], -1)
        if noise is not None:
            drive = drive + alpha * noise
        substeps = self.config.substeps
        return drive.repeat_interleave(substeps, dim=0) if substeps > 1 else drive

    def invert(self, rates: Tensor) -> Tensor:
        """Return the states of rates, any shape."""
        return invert(rates, self.config.nonlinearity)

    def find_parameters(self, name: str) -> list[nn.Parameter]:
        """Return the parameters that make up one of the arrays of :meth:`to_weights`."""
        if name == "recurrent_weights" and self.config.rank is not None:
            return [self.left_factors, self.right_factors]
        return super().find_parameters("log_tau" if name == "tau" else name)

    @torch.no_grad()
    def constrain(self) -> None:
        """Restore the signs and sparsity of the recurrent weights, after each step of a fit."""
        if self._signs is not None:
            self.full_weights.copy_((self.full_weights * self._signs).clamp(min=0) * self._signs)
        if self._exists is not None:
            self.full_weights.mul_(self._exists)

    def to_weights(self) -> dict[str, NDArray[np.floating]]:
        """Return all learned parameters as arrays by name, including ``tau`` [s] if it was learned."""
        own = {} if self.log_tau is None else {"tau": self.log_tau.exp().detach().cpu().numpy().copy()}
        return super().to_weights() | own

    def load_weights(self, weights: Mapping[str, NDArray[np.floating]]) -> None:
        """Take the given weights, and their precision, in place of its own."""
        own = {} if self.log_tau is None else {"log_tau": np.log(weights["tau"])}
        super().load_weights(dict(weights) | own)


def _rescale(weights: Tensor, radius: float) -> float:
    """Return the factor that scales the weights to a spectral radius."""
    present = float(torch.linalg.eigvals(weights).abs().max())
    return radius / present if present > 0 else 1.0
