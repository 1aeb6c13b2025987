"""Train one network: by least squares, by gradient descent, or by both in turn."""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from nwbrnn.config import Ended, FitConfig
from nwbrnn.errors import ConfigError
from nwbrnn.limits import describe_shortage
from nwbrnn.models import NETWORKS, RateRNN
from nwbrnn.models.scan import activate
from nwbrnn.prediction.observations import count_observed
from nwbrnn.preprocessing import find_conditions
from nwbrnn.training.batches import Batch, create_batch
from nwbrnn.training.checkpoint import Checkpoint, compute_fingerprint, remove_checkpoint
from nwbrnn.training.gradient import LEARNING_RATE, History, Progress, compare, descend
from nwbrnn.training.least_squares import LinearProblem, fit_least_squares
from nwbrnn.training.warm_start import hash_weights
from nwbrnn.weights import KINDS

Weights = dict[str, NDArray[np.floating]]


class Trained(NamedTuple):
    """A trained network: its weights, history, losses of these weights by name, and why training ended.

    ``best_epoch`` is the number of epochs of gradient descent after which it had these weights.
    """

    weights: Weights
    history: History
    losses: dict[str, float]
    ended: Ended
    best_epoch: int

    @property
    def loss(self) -> float:
        """Total loss on validation trials, or on training trials if there are none."""
        return self.losses.get("validation_total", self.losses["train_total"])


def train(
    ds: xr.Dataset,
    config: FitConfig,
    *,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
    start: Weights | None = None,
) -> Trained:
    """Fit a network to the training trials and return its best weights.

    With validation trials, the best weights are those with the lowest validation loss, and training stops
    after ``patience`` epochs without a better one. Otherwise, the last weights are the best.

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
        File in which the state of training is stored every few seconds.
    resume
        Whether to continue from the checkpoint, if there is one.
    start
        First weights, from :func:`nwbrnn.training.warm_start.adopt_weights`; random ones if not given.

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
        raise ValueError(
            "split: expected trials of 'train', but there are none; assign some with split_trials"
        )
    sizes = (ds.sizes["input"], config.hidden, ds.sizes["output"])
    with _one_thread():
        model = NETWORKS[config.network](
            sizes,
            config,
            bin_size=ds.attrs["bin_size"],
            n_conditions=len(find_conditions(ds)),
            n_observed=count_observed(ds, config),
        ).to(device)
        batches = batch, held
        begin = {"the weights of start_from": hash_weights([start])} if start is not None else {}
        if start is not None:
            model.load_weights(start)
        model.freeze(config.freeze)
        fingerprint = compute_fingerprint(config, batches) | begin
        keeper = Checkpoint(checkpoint, fingerprint) if checkpoint else None
        if keeper is not None and not resume:
            remove_checkpoint(keeper.path)
        history: History = {}
        ended: Ended = "finished"
        best_epoch = 0
        resumed = keeper is not None and keeper.path.exists()
        if start is not None:
            losses = compare(model, batches, config)
            history = {name: [value] for name, value in (losses | {LEARNING_RATE: 0.0}).items()}
            if progress is not None and not resumed:
                progress(0, losses)
        elif config.begins_by_least_squares:
            assert isinstance(model, RateRNN)
            # also when resuming, but silently, since a retry would start again from there
            averages = batch
            if config.observes:  # a network that sees nothing yet
                unseen = config.model_copy(update={"observe": "none", "average": True})
                averages = create_batch(ds, "train", unseen, device=device) or batch
            history = _start_by_least_squares(
                model, (averages, *batches), config, None if resumed else progress
            )
        if config.method != "least_squares":
            history, ended, best_epoch = descend(
                model, batches, config, history=history, progress=progress, checkpoint=keeper
            )
        return Trained(model.to_weights(), history, compare(model, batches, config), ended, best_epoch)


def _start_by_least_squares(
    model: RateRNN, batches: tuple[Batch, Batch, Batch | None], config: FitConfig, progress: Progress | None
) -> History:
    """Set the weights of the model to the least-squares candidate with the best validation loss.

    The first of the batches is solved; the loss of each candidate is that on the other two.
    """
    batch, train, held = batches
    history: History = {}
    alpha = model.alpha.detach().double().cpu().numpy()

    def to_array(tensor: torch.Tensor) -> NDArray[np.float64]:
        return np.asarray(tensor.transpose(0, 1).double().cpu().numpy())

    n_targets = batch.sampled.shape[2] if config.dynamics_factor else 0
    problem = LinearProblem(
        inputs=to_array(batch.inputs),
        sampled=np.asarray(batch.sampled.swapaxes(0, 1)[..., :n_targets], dtype=np.float64),
        outputs=to_array(batch.targets.outputs),
        mask=batch.mask.T,
        sampled_mask=(batch.sampled_seen if n_targets else batch.mask[..., np.newaxis]).swapaxes(0, 1),
        output_mask=batch.outputs_seen.swapaxes(0, 1),
        alpha=1 - (1 - alpha) ** config.substeps,
        activate=lambda x: activate(torch.from_numpy(x), config.nonlinearity).numpy(),
        invert=lambda r: model.invert(torch.from_numpy(r)).numpy(),
    )
    start = model.to_weights()
    shape = start["initial_state"].shape
    start["initial_state"] = start["initial_state"].reshape(-1, shape[-1]).mean(axis=0)

    def load(weights: Weights) -> None:
        state = np.broadcast_to(weights["initial_state"], shape)
        model.load_weights(start | weights | {"initial_state": state})

    def score(weights: Weights) -> float:
        load(weights)
        losses = compare(model, (train, held), config)
        for name, value in losses.items():
            history.setdefault(name, []).append(value)
        history.setdefault(LEARNING_RATE, []).append(0.0)
        if progress is not None:
            progress(len(history["train_total"]) - 1, losses)
        return losses["train_total" if held is None else "validation_total"]

    load(fit_least_squares(problem, start, score=score)[0])
    return history


def _check(ds: xr.Dataset, config: FitConfig) -> None:
    """Refuse settings that do not fit the data or other settings."""
    n_sampled = int(ds["sampled"].sum())
    if config.hidden < n_sampled:
        raise ConfigError(
            f"hidden: expected at least {n_sampled}, one for each sampled neuron, but got {config.hidden}"
        )
    shortage = describe_shortage(_estimate_memory(ds, config))
    if shortage:
        raise ConfigError(f"hidden: {config.hidden} hidden units need {shortage}; use fewer")
    limits = config.recurrent_limits
    if config.method == "least_squares" and limits:
        raise ConfigError(
            f"method: least squares cannot limit recurrent weights, but {' and '.join(limits)} is set; "
            "use method 'gradient' or 'auto'"
        )


def _estimate_memory(ds: xr.Dataset, config: FitConfig) -> int:
    """Estimate the memory that the largest arrays of a fit need [bytes].

    There are copies of the recurrent weights for the parameter, its gradient, two moments of Adam, the best
    so far, the start and the transpose. Least squares has three matrices of this size in double precision.
    The time loop keeps states, rates and their gradients.
    """
    single = 8 if config.precision == "float64" else 4
    n_rows = len(find_conditions(ds)) if config.trains_on_averages else ds.sizes["trial"]
    n_arrays = 7 if config.observes else 4  # an observer has predicted and corrected rates
    n_gates = math.prod(KINDS[config.network].gates)
    weights = n_gates * config.hidden**2 * (7 * single + 3 * 8 * (config.method != "gradient"))
    return weights + n_arrays * n_rows * (ds.sizes["time"] * config.substeps + 1) * config.hidden * single


def _choose_device(config: FitConfig) -> torch.device:
    """Return the device of the settings, or raise an error if there is none."""
    available = torch.cuda.is_available()
    if config.device == "cuda" and not available:
        raise ConfigError("device: expected a GPU for 'cuda', but torch sees none; use 'auto' or 'cpu'")
    return torch.device("cuda" if available and config.device != "cpu" else "cpu")


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread: at these sizes, more are slower next to any other process, and less reproducible."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
