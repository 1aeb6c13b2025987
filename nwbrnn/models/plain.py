"""A fitted network with its scales, in ordinary torch operations, to use without nwbrnn."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from nwbrnn.models.network import Network


class Prediction(NamedTuple):
    """Predictions of a network.

    Attributes
    ----------
    outputs
        Shape (n_trials, n_time, n_outputs), in the unit of the file.
    rates
        Of the recorded units, shape (n_trials, n_time, n_units) [Hz].
    hidden
        Of the hidden units, shape (n_trials, n_time, n_hidden) [1].
    """

    outputs: Tensor
    rates: Tensor
    hidden: Tensor


class FittedNetwork(nn.Module):
    """A fitted network that predicts outputs in the unit of the file and rates in Hz.

    Its time loop consists of ordinary torch operations, so that derivatives of any order work.

    Parameters
    ----------
    network
        The network of the fit, which keeps the plain loop.
    output_scale
        Shape (n_outputs,), in the unit of the file.
    rate_readout, rate_offset
        Shapes (n_units, n_hidden) and (n_units,): rate = readout · r + offset [Hz], or its exponential.
    is_logarithmic
        Which units have the exponential, shape (n_units,).

    Attributes
    ----------
    network
        With the parameters that were learned.
    output_scale, rate_readout, rate_offset, is_logarithmic
        Buffers.
    """

    output_scale: Tensor
    rate_readout: Tensor
    rate_offset: Tensor
    is_logarithmic: Tensor

    def __init__(
        self,
        network: Network,
        output_scale: Tensor,
        rate_readout: Tensor,
        rate_offset: Tensor,
        is_logarithmic: Tensor,
    ) -> None:
        super().__init__()
        network.is_plain = True
        self.network = network
        dtype = network.bias.dtype
        self.register_buffer("output_scale", output_scale.to(dtype))
        self.register_buffer("rate_readout", rate_readout.to(dtype))
        self.register_buffer("rate_offset", rate_offset.to(dtype))
        self.register_buffer("is_logarithmic", is_logarithmic)

    def forward(self, inputs: Tensor, *, start: Tensor | None = None) -> Prediction:
        """Run the network.

        Parameters
        ----------
        inputs
            Shape (n_trials, n_time, n_inputs), in the unit of the file.
        start
            As for :meth:`nwbrnn.models.Network.forward`.

        Returns
        -------
        Prediction
            ``outputs``, ``rates`` and ``hidden``.
        """
        outputs, hidden = self.network(inputs.to(self.output_scale.dtype), start=start)
        rates = hidden @ self.rate_readout.T + self.rate_offset
        # exp only where it counts: elsewhere it could be infinite, and its gradient NaN
        powers = torch.where(self.is_logarithmic, rates, 0.0).exp()
        return Prediction(
            outputs * self.output_scale, torch.where(self.is_logarithmic, powers, rates), hidden
        )
