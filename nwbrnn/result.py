"""What a fit leaves behind: plain arrays, numbers and text, ready for a file or a report."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwbrnn.config import FitConfig
from nwbrnn.evaluation import Scores

if TYPE_CHECKING:
    from nwbrnn.models import RateRNN


@dataclass(frozen=True)
class FitResult:
    """A fitted student, what it predicts, and how well.

    Attributes
    ----------
    recorded
        The prepared Dataset: what the student was compared with, with ``split`` and ``sampled``.
    predicted
        The same trials as the student sees them: ``outputs``, ``rates`` [Hz] and ``hidden``.
    weights
        Parameters of :class:`nwbrnn.models.RateRNN` by name, and ``rate_readout`` (n_units, n_hidden) [Hz]
        with ``rate_readout_offset`` (n_units,) [Hz], which predict all units from the hidden ones.
    history
        Losses by name, one value per epoch.
    scores
        On the trials of the test split.
    config
        The settings.
    """

    recorded: xr.Dataset
    predicted: xr.Dataset
    weights: Mapping[str, NDArray[np.floating]]
    history: Mapping[str, list[float]]
    scores: Scores
    config: FitConfig

    def build_model(self) -> "RateRNN":
        """Return the student as a torch module that takes inputs of shape (n_trials, n_time, n_inputs)."""
        from nwbrnn.models import RateRNN

        return RateRNN.from_weights(self.weights, self.config, bin_size=self.recorded.attrs["bin_size"])
