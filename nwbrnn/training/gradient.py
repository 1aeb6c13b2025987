"""The gradient fit: back-propagation through time with Adam."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nwbrnn.config import FitConfig
from nwbrnn.errors import TrainingDivergedError
from nwbrnn.losses import compute_loss_terms
from nwbrnn.models import RateRNN
from nwbrnn.training.batches import Batch

History = dict[str, list[float]]
"""One value per epoch: ``train_output``, ``train_dynamics``, ..., ``validation_output``, ..."""

Weights = dict[str, NDArray[np.floating]]


def descend(
    model: RateRNN,
    batches: tuple[Batch, Batch | None],
    config: FitConfig,
    progress: Callable[[int, dict[str, float]], None] | None,
) -> tuple[Weights, History, float, str]:
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
                return best, history, best_loss, "patience"
            _record(history, "validation", terms | {"total": torch.tensor(loss)})
        terms = _step(model, batch, optimizer, config, noise)
        _check_finite(terms, epoch)
        _record(history, "train", terms)
        schedule.step()
        if progress is not None:
            progress(epoch, {name: values[-1] for name, values in history.items()})
    terms = _compare_quietly(model, held or batch, config.epochs)  # nothing has seen the last step yet
    loss = _combine(terms, model, config).item()
    if loss < best_loss or held is None:
        best, best_loss = model.to_weights(), loss
    return best, history, best_loss, "finished"


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
