"""How one student is trained: by least squares, by gradient descent, or by one after the other."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from nwbrnn.config import FitConfig
from nwbrnn.errors import ConfigError
from nwbrnn.models import RateRNN
from nwbrnn.result import Ended
from nwbrnn.training.batches import create_batch, find_conditions
from nwbrnn.training.gradient import History, descend

Weights = dict[str, NDArray[np.floating]]
Progress = Callable[[int, dict[str, float]], None]


class Trained(NamedTuple):
    """A trained student: weights, history, loss of these weights, and why training ended."""

    weights: Weights
    history: History
    loss: float
    ended: Ended


def train(
    ds: xr.Dataset,
    config: FitConfig,
    *,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
) -> Trained:
    """Fit a student to the training trials and return its best weights.

    With validation trials the best weights are those of the lowest validation loss, and training
    stops after ``patience`` epochs without a better one; otherwise they are the last.

    Parameters
    ----------
    ds
        A prepared Dataset; see :func:`nwbrnn.preprocessing.prepare`.
    config
        Settings. The same settings, data, machine and versions give the same result.
    progress
        Called after each pass or epoch with its number and its losses by name. An interrupt, from the
        keyboard or raised by it, ends training with the best weights so far.
    checkpoint
        File that keeps the state of training, written every few seconds.
    resume
        Whether to go on from the checkpoint, if there is one.

    Returns
    -------
    Trained
        Weights by parameter name; losses by name, one value for each pass and epoch.

    Raises
    ------
    ConfigError
        If settings do not fit the data, one another, or the checkpoint.
    TrainingDivergedError
        If a loss term, a gradient or a weight stops being finite.
    """
    _check(ds, config)
    device = _choose_device(config)
    batch, held = (create_batch(ds, split, config, device=device) for split in ("train", "validation"))
    if batch is None:
        raise ValueError("expected training trials, but the split has none")
    sizes = (ds.sizes["input"], config.hidden, ds.sizes["output"])
    with _one_thread():
        model = RateRNN(
            sizes, config, bin_size=ds.attrs["bin_size"], n_conditions=len(find_conditions(ds))
        ).to(device)
        return Trained(*descend(model, (batch, held), config, progress))


def _check(ds: xr.Dataset, config: FitConfig) -> None:
    """Refuse settings that the data or other settings rule out."""
    n_sampled = int(ds["sampled"].sum())
    if config.hidden < n_sampled:
        raise ConfigError(
            f"hidden: expected at least {n_sampled}, one for each sampled neuron, but got {config.hidden}"
        )
    limits = [name for name in ("excitatory", "rank") if getattr(config, name) is not None]
    limits += ["density"] * (config.density < 1)
    if config.method == "least_squares" and limits:
        raise ConfigError(
            f"method: least squares cannot limit recurrent weights, but {' and '.join(limits)} is set; "
            "use method 'gradient' or 'auto'"
        )


def _choose_device(config: FitConfig) -> torch.device:
    """Return the device of the settings, or say that there is none."""
    available = torch.cuda.is_available()
    if config.device == "cuda" and not available:
        raise ConfigError("device: expected a GPU for 'cuda', but torch sees none; use 'auto' or 'cpu'")
    return torch.device("cuda" if available and config.device != "cpu" else "cpu")


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread: at these sizes more are slower beside any other process, and less repeatable."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
