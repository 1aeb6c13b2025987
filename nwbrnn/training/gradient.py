"""The gradient fit: back-propagation through time with Adam."""

import contextlib
from collections.abc import Callable, Iterator

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from nwbrnn.config import FitConfig
from nwbrnn.errors import ConfigError, TrainingDivergedError
from nwbrnn.losses import compute_loss_terms
from nwbrnn.models import RateRNN
from nwbrnn.training.batches import Batch, create_batch, find_conditions

History = dict[str, list[float]]
"""One value per epoch: ``train_output``, ``train_dynamics``, ..., ``validation_output``, ..."""

Weights = dict[str, NDArray[np.floating]]


def train(
    ds: xr.Dataset,
    config: FitConfig,
    *,
    progress: Callable[[int, dict[str, float]], None] | None = None,
) -> tuple[Weights, History]:
    """Fit a student to the training trials and return its best weights.

    With validation trials the best weights are those of the lowest validation loss, and training
    stops after ``patience`` epochs without a better one; otherwise they are the last.

    Parameters
    ----------
    ds
        A prepared Dataset; see :func:`nwbrnn.preprocessing.prepare`.
    config
        Settings. The same settings, data, machine and torch version give the same result.
    progress
        Called after each epoch with its number and its losses by name.

    Returns
    -------
    weights, history
        Arrays by parameter name, and losses by name, one value per epoch.

    Raises
    ------
    ConfigError
        If there are fewer hidden units than sampled neurons.
    TrainingDivergedError
        If a loss term stops being finite.
    """
    n_sampled = int(ds["sampled"].sum())
    if config.hidden < n_sampled:
        raise ConfigError(
            f"hidden: expected at least {n_sampled}, one for each sampled neuron, but got {config.hidden}"
        )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batch, held = (create_batch(ds, split, config, device=device) for split in ("train", "validation"))
    if batch is None:
        raise ValueError("expected training trials, but the split has none")
    sizes = (ds.sizes["input"], config.hidden, ds.sizes["output"])
    with _one_thread():
        model = RateRNN(sizes, config, bin_size=ds.attrs["bin_size"], n_conditions=len(find_conditions(ds)))
        model.to(device)
        return _descend(model, (batch, held), config, progress)


def _descend(
    model: RateRNN,
    batches: tuple[Batch, Batch | None],
    config: FitConfig,
    progress: Callable[[int, dict[str, float]], None] | None,
) -> tuple[Weights, History]:
    """Run the epochs."""
    batch, held = batches
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.epochs)
    noise = torch.Generator().manual_seed(config.seed)
    history: History = {}
    best, best_loss, best_epoch = model.to_weights(), float("inf"), 0
    for epoch in range(config.epochs):
        if held is not None:  # before the step, so that history pairs losses of the same weights
            terms = _compare_quietly(model, held, epoch)
            loss = _combine(terms, model, config).item()
            if loss < best_loss:
                best, best_loss, best_epoch = model.to_weights(), loss, epoch
            elif epoch - best_epoch >= config.patience:
                return best, history
            _record(history, "validation", terms)
        terms = _step(model, batch, optimizer, config, noise)
        _check_finite(terms, epoch)
        _record(history, "train", terms)
        schedule.step()
        if progress is not None:
            progress(epoch, {name: values[-1] for name, values in history.items()})
    terms = _compare_quietly(model, held or batch, config.epochs)  # nothing has seen the last step yet
    if _combine(terms, model, config).item() < best_loss or held is None:
        best = model.to_weights()
    return best, history


def _step(
    model: RateRNN,
    batch: Batch,
    optimizer: torch.optim.Optimizer,
    config: FitConfig,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Take one step and return the loss terms before it."""
    noise = None
    if config.noise:
        shape = (*batch.inputs.shape[:2], config.hidden)
        noise = config.noise * torch.randn(shape, generator=generator).to(batch.inputs.device)
    optimizer.zero_grad()
    terms = _compare(model, batch, noise=noise)
    _combine(terms, model, config).backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_gradient_norm)
    optimizer.step()
    model.constrain()
    return terms


def _compare(model: RateRNN, batch: Batch, *, noise: Tensor | None = None) -> dict[str, Tensor]:
    """Run the network and return its loss terms."""
    outputs, rates = model(batch.inputs, start=batch.start, noise=noise)
    return compute_loss_terms(outputs, rates, batch.targets, smoothness=model.config.smoothness_penalty > 0)


def _compare_quietly(model: RateRNN, batch: Batch, epoch: int) -> dict[str, Tensor]:
    """Return the loss terms without a gradient, or say that they are not finite."""
    with torch.no_grad():
        terms = _compare(model, batch)
    _check_finite(terms, epoch)
    return terms


def _check_finite(terms: dict[str, Tensor], epoch: int) -> None:
    """Raise if a loss term is not finite."""
    for name, term in terms.items():
        if not torch.isfinite(term):
            raise TrainingDivergedError(epoch, name)


def _combine(terms: dict[str, Tensor], model: RateRNN, config: FitConfig) -> Tensor:
    """Return the weighted sum of the terms and the weight penalty."""
    weights = {
        "output": 1.0,
        "dynamics": config.dynamics_factor,
        "rate": config.rate_penalty,
        "smoothness": config.smoothness_penalty,
    }
    # terms without weight are only logged: their gradient is not worth computing
    total = sum((weights[name] * terms[name] for name in terms if weights[name]), torch.tensor(0.0))
    squares = model.recurrent_weights.square().sum() + model.output_weights.square().sum()
    return total + config.weight_penalty * squares


def _record(history: History, prefix: str, terms: dict[str, Tensor]) -> None:
    for name, term in terms.items():
        history.setdefault(f"{prefix}_{name}", []).append(term.item())


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread: at these sizes more are slower beside any other process, and less repeatable."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
