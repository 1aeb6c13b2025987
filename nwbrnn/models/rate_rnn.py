"""The student: a leaky rate network with a linear readout."""

import math
from collections.abc import Mapping
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nwbrnn.models.scan import scan


class RateRNN(nn.Module):
    """Leaky rate network: τ dx/dt = -x + W r + W_in u + b, r = tanh(x), z = W_out r + c.

    The first hidden units stand for the sampled neurons one to one, the rest are free. Time is
    discretised by forward Euler at the bin size.

    Parameters
    ----------
    n_inputs, n_hidden, n_outputs
        Sizes.
    alpha
        Bin size over time constant, clipped to at most 1 (units that follow their input at once).
    gain
        Spectral radius of the random initial recurrent weights.
    seed
        Of the initial weights.

    Attributes
    ----------
    recurrent_weights, input_weights, bias, output_weights, output_bias, initial_state
        Parameters of shapes (n_hidden, n_hidden), (n_hidden, n_inputs), (n_hidden,),
        (n_outputs, n_hidden), (n_outputs,), (n_hidden,).
    """

    def __init__(
        self, sizes: tuple[int, int, int], *, alpha: float, gain: float = 1.2, seed: int = 0
    ) -> None:
        super().__init__()
        n_inputs, n_hidden, n_outputs = sizes
        self.alpha = min(alpha, 1.0)
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator) / math.sqrt(shape[-1])

        self.recurrent_weights = nn.Parameter(gain * normal(n_hidden, n_hidden))
        self.input_weights = nn.Parameter(normal(n_hidden, n_inputs))
        self.bias = nn.Parameter(torch.zeros(n_hidden))
        self.output_weights = nn.Parameter(normal(n_outputs, n_hidden))
        self.output_bias = nn.Parameter(torch.zeros(n_outputs))
        self.initial_state = nn.Parameter(torch.zeros(n_hidden))

    def forward(self, inputs: Tensor, *, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Run the network.

        Parameters
        ----------
        inputs
            Shape (n_trials, n_time, n_inputs).
        noise
            Added to what drives each hidden unit, shape (n_trials, n_time, n_hidden).

        Returns
        -------
        outputs, rates
            Shapes (n_trials, n_time, n_outputs) and (n_trials, n_time, n_hidden).
        """
        # time first in memory throughout, trials first only in shape: nothing is copied
        drive = inputs.transpose(0, 1) @ self.input_weights.T + self.bias
        if noise is not None:
            drive = drive + noise.transpose(0, 1)
        initial = self.initial_state.expand(len(inputs), -1)
        rates = scan(drive, self.recurrent_weights, initial, alpha=self.alpha)
        outputs = rates @ self.output_weights.T + self.output_bias
        return outputs.transpose(0, 1), rates.transpose(0, 1)

    def to_weights(self) -> dict[str, NDArray[np.floating]]:
        """Return all parameters as arrays, by name."""
        return {name: p.detach().cpu().numpy().copy() for name, p in self.named_parameters()}

    @classmethod
    def from_weights(cls, weights: Mapping[str, NDArray[np.floating]], *, alpha: float) -> Self:
        """Return a network with the given parameters, in their precision; the inverse of ``to_weights``."""
        n_hidden, n_inputs = weights["input_weights"].shape
        model = cls((n_inputs, n_hidden, len(weights["output_bias"])), alpha=alpha)
        for name, parameter in model.named_parameters():
            parameter.data = torch.from_numpy(np.array(weights[name]))
        return model
