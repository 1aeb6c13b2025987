"""What a fit leaves behind: plain arrays, numbers and text, ready for a file or a report."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwbrnn.config import FitConfig
from nwbrnn.evaluation import Scores

if TYPE_CHECKING:
    from nwbrnn.models import RateRNN

Ended = Literal["finished", "patience", "interrupted"]


@dataclass(frozen=True)
class Run:
    """One student: its weights, how it came to them, and how good they are.

    Attributes
    ----------
    seed
        Of its initial weights.
    weights
        Parameters of :class:`nwbrnn.models.RateRNN` by name, and ``rate_readout`` (n_units, n_hidden) [Hz]
        with ``rate_readout_offset`` (n_units,) [Hz], which predict all units from the hidden ones.
    history
        Losses by name, one value for each pass of least squares and each epoch.
    loss
        Total loss of these weights on the validation trials, or on the training trials if there are none [1].
    ended
        Whether all epochs were run, patience ran out, or the user interrupted.
    free_run
        How far the outputs stray when the student runs on, with its last inputs held, for twice the time it
        was trained on: the largest output of that time over the largest output before [1].
    scores
        On the trials of the test split.
    """

    seed: int
    weights: Mapping[str, NDArray[np.floating]]
    history: Mapping[str, list[float]]
    loss: float
    ended: Ended
    free_run: float
    scores: Scores


@dataclass(frozen=True)
class FitResult:
    """A fitted student, what it predicts, and how well.

    Attributes
    ----------
    recorded
        The prepared Dataset: what the student was compared with, with ``split`` and ``sampled``.
    predicted
        The same trials as the best student sees them: ``outputs``, ``rates`` [Hz] and ``hidden``.
    runs
        One student for each seed, the best (lowest ``loss``) first.
    config
        The settings.
    """

    recorded: xr.Dataset
    predicted: xr.Dataset
    runs: tuple[Run, ...]
    config: FitConfig

    @property
    def best(self) -> Run:
        """The student of the lowest loss; test trials have no say in it."""
        return self.runs[0]

    @property
    def weights(self) -> Mapping[str, NDArray[np.floating]]:
        """Weights of the best student; see :class:`nwbrnn.result.Run`."""
        return self.best.weights

    @property
    def history(self) -> Mapping[str, list[float]]:
        """Losses of the best student; see :class:`nwbrnn.result.Run`."""
        return self.best.history

    @property
    def scores(self) -> Scores:
        """Scores of the best student; see :class:`nwbrnn.result.Run`."""
        return self.best.scores

    def build_model(self) -> "RateRNN":
        """Return the best student as a torch module; its inputs have shape (n_trials, n_time, n_inputs)."""
        from nwbrnn.models import RateRNN

        return RateRNN.from_weights(self.weights, self.config, bin_size=self.recorded.attrs["bin_size"])
