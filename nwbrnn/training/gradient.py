"""Fit a network by gradient descent: back-propagation through time with Adam."""

import contextlib
import math
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from nwbrnn.buffers import reuse_memory
from nwbrnn.config import Ended, FitConfig
from nwbrnn.errors import TrainingDivergedError
from nwbrnn.losses import Outcome, compute_loss_terms
from nwbrnn.models import Network
from nwbrnn.training.adam import Adam
from nwbrnn.training.batches import Batch
from nwbrnn.training.checkpoint import Checkpoint

History = dict[str, list[float]]
"""One value per pass or epoch: ``train_output``, ``train_dynamics``, ..., ``validation_output``, ..., and
``learning_rate``, which is 0 for a pass of least squares.
"""

Batches = tuple[Batch, Batch | None]
Progress = Callable[[int, dict[str, float]], None]

LEARNING_RATE = "learning_rate"  # in the history
WARM_UP = 50  # epochs over which the learning rate rises from good weights; with 20, the loss still jumps
RETRY_FACTOR = 0.25  # factor of the learning rate if a diverged fit starts once more


@dataclass
class _Descent:
    """Everything that the next epoch depends on."""

    model: Network
    config: FitConfig
    optimizer: Adam
    noise: torch.Generator
    history: History
    learning_rate: float
    warm_up: int
    epoch: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    best_loss: float = math.inf
    best_epoch: int = 0

    def keep_if_better(self, loss: float) -> None:
        """Keep the current parameters if none were better."""
        if loss < self.best_loss or not self.best:
            self.best = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
            self.best_loss, self.best_epoch = loss, self.epoch

    def compute_rate(self) -> float:
        """Return the learning rate of this epoch: a cosine, preceded by a linear rise from good weights.

        The length of Adam's first steps does not depend on the gradient, so they would undo the result of
        least squares, or of an earlier fit.
        """
        rise = (self.epoch + 1) / (self.warm_up + 1) if self.epoch < self.warm_up else 1.0
        return rise * self.learning_rate * (1 + math.cos(math.pi * self.epoch / self.config.epochs)) / 2

    def write(self, checkpoint: Checkpoint) -> None:
        """Write the whole state to a checkpoint."""
        tensors = _name_all("model", self.model.state_dict()) | _name_all("best", self.best)
        for number, state in self.optimizer.moments.items():
            tensors |= _name_all(f"adam.{number}", state)
        for name, values in self.history.items():
            tensors[f"history.{name}"] = torch.tensor(values, dtype=torch.float64)
        tensors["noise"] = self.noise.get_state()
        names = ("learning_rate", "epoch", "best_epoch")
        about = {name: getattr(self, name) for name in names} | {"best_loss": self.best_loss.hex()}
        checkpoint.write(tensors, about)

    def read(self, checkpoint: Checkpoint) -> None:
        """Restore the state from a checkpoint, if there is one.

        Raises
        ------
        ConfigError
            As :meth:`Checkpoint.read`.
        """
        stored = checkpoint.read(self._list_parts())
        if stored is None:
            return
        tensors, about = stored
        groups: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "adam": {}, "history": {}}
        for name, tensor in tensors.items():
            group, _, rest = name.partition(".")
            if group in groups:
                groups[group][rest] = tensor
        self.model.load_state_dict(groups["model"])
        self.best = {name: tensor.to(self.model.bias.device) for name, tensor in groups["best"].items()}
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in groups["adam"].items():
            number, _, rest = name.partition(".")
            moments.setdefault(int(number), {})[rest] = tensor.to(self.model.bias.device)
        self.optimizer.moments = moments
        self.history = {name: values.tolist() for name, values in groups["history"].items()}
        with checkpoint.blame("noise"):  # torch checks whether it is the state of a generator
            self.noise.set_state(tensors["noise"])
        with checkpoint.blame("learning_rate, epoch, best_epoch and best_loss"):
            self.learning_rate, self.epoch = float(about["learning_rate"]), int(about["epoch"])
            self.best_loss, self.best_epoch = float.fromhex(about["best_loss"]), int(about["best_epoch"])

    def _list_parts(self) -> list[dict[str, Tensor]]:
        """Return tensors like those that are written, as :meth:`Checkpoint.read` expects them."""
        state = self.model.state_dict()
        moments = [
            _name_all(f"adam.{number}", {"step": torch.zeros(()), "exp_avg": one, "exp_avg_sq": one})
            for number, one in enumerate(_list_trained(self.model))
        ]
        always = _name_all("model", state) | {"noise": self.noise.get_state()}
        return [always, _name_all("best", state), *moments]


def _name_all(group: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors by name, prefixed with the name of their group."""
    return {f"{group}.{name}": tensor for name, tensor in tensors.items()}


def descend(
    model: Network,
    batches: Batches,
    config: FitConfig,
    *,
    history: History,
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
) -> tuple[History, Ended, int]:
    """Train a model by gradient descent, so that it ends with the best parameters.

    With validation trials, the best parameters are those with the lowest validation loss, and training stops
    after ``patience`` epochs without better ones. Otherwise, and with ``stop_after``, the last are the best.

    Parameters
    ----------
    model
        The model to train, with its initial parameters.
    batches
        Training trials, and validation trials or ``None``.
    config
        Settings.
    history
        Earlier losses, to which those of the epochs are appended.
    progress
        Called after each epoch with its number and its losses by name.
    checkpoint
        Where to store the state, and from where to continue if it has one.

    Returns
    -------
    history, ended, epoch
        All losses, why training ended, and the number of epochs after which the model had these parameters.

    Raises
    ------
    TrainingDivergedError
        If a loss term or a gradient stops being finite; with ``retry``, if it does so twice.
    """
    start = deepcopy(model.state_dict())
    descent = _begin(model, config, history, config.learning_rate)
    if checkpoint is not None:
        descent.read(checkpoint)
    try:
        ended = _run(descent, batches, progress, checkpoint)
    except TrainingDivergedError as error:
        if not config.retry or descent.learning_rate != config.learning_rate:
            raise
        rate = RETRY_FACTOR * config.learning_rate
        warnings.warn(f"{error}; starting again with learning_rate {rate:g}", stacklevel=2)
        model.load_state_dict(start)
        descent = _begin(model, config, history, rate)
        ended = _run(descent, batches, progress, checkpoint)
    model.load_state_dict(descent.best)
    return descent.history, ended, descent.best_epoch


def _begin(model: Network, config: FitConfig, history: History, learning_rate: float) -> _Descent:
    optimizer = Adam(_list_trained(model))
    noise = torch.Generator().manual_seed(config.seed)
    warm_up = min(WARM_UP, config.epochs // 4) if history else 0
    return _Descent(model, config, optimizer, noise, deepcopy(history), learning_rate, warm_up)


def _list_trained(model: Network) -> list[torch.nn.Parameter]:
    """Return the parameters that are not frozen."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _draw_noise(batch: Batch, config: FitConfig, generator: torch.Generator) -> Tensor | None:
    """Draw the training noise of every trial, bin and hidden unit; ``None`` without noise."""
    if not config.noise:
        return None
    shape = (*batch.inputs.shape[:2], config.hidden)
    return config.noise * torch.randn(shape, generator=generator).to(batch.inputs)


def _run(
    descent: _Descent, batches: Batches, progress: Progress | None, checkpoint: Checkpoint | None
) -> Ended:
    """Run the remaining epochs."""
    config = descent.config
    ended: Ended = "finished"
    with _listen_for_interrupt() as interrupt, reuse_memory():
        while descent.epoch < _count_epochs(config) and ended == "finished":
            losses = _run_epoch(descent, batches)
            if losses is None:
                return "patience"
            for name, value in losses.items():
                descent.history.setdefault(name, []).append(value)
            descent.history.setdefault(LEARNING_RATE, []).append(descent.compute_rate())
            descent.epoch += 1
            try:
                if progress is not None:
                    progress(len(descent.history["train_total"]) - 1, losses)
            except KeyboardInterrupt:
                interrupt.set()
            if interrupt.is_set():
                ended = "interrupted"
            if checkpoint is not None and (ended == "interrupted" or checkpoint.is_due()):
                descent.write(checkpoint)
    final = compare(descent.model, batches, config)  # the losses after the last step are not known yet
    _check_finite(final, descent)
    if batches[1] is None or config.stop_after is not None:
        descent.best_loss = math.inf  # then the last parameters are the best
    descent.keep_if_better(final["validation_total" if batches[1] is not None else "train_total"])
    return ended


def _count_epochs(config: FitConfig) -> int:
    return config.epochs if config.stop_after is None else min(config.stop_after, config.epochs)


def _run_epoch(descent: _Descent, batches: Batches) -> dict[str, float] | None:
    """Compute validation losses, take a step, and return all losses before it; ``None`` to stop."""
    model, config = descent.model, descent.config
    batch, held = batches
    losses: dict[str, float] = {}
    if held is not None:  # before the step, so that history pairs losses of the same weights
        with torch.no_grad():
            losses |= _name("validation", _compare_held(model, held))
        _check_finite(losses, descent)
        descent.keep_if_better(losses["validation_total"])
        if config.stop_after is None and descent.epoch - descent.best_epoch >= config.patience:
            return None
    terms = _step(descent, batch)
    losses |= _name("train", terms)
    _check_finite(losses, descent)
    return losses


def _step(descent: _Descent, batch: Batch) -> dict[str, Tensor]:
    """Take one step and return the loss terms before it."""
    model, config, optimizer = descent.model, descent.config, descent.optimizer
    noise = _draw_noise(batch, config, descent.noise)
    optimizer.forget_gradients()
    if batch.seen is not None and config.observe_dropout:
        batch = replace(batch, seen=batch.seen.drop(config.observe_dropout, descent.noise))
    terms = _compare(model, batch, noise=noise)
    terms["total"].backward()  # type: ignore[no-untyped-call]
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_gradient_norm)
    if torch.isfinite(terms["total"]) and not torch.isfinite(norm):
        broken = [
            n for n, p in model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()
        ]
        raise TrainingDivergedError(descent.epoch, f"gradient of {broken[0] if broken else 'all weights'}")
    optimizer.step(descent.compute_rate())
    model.constrain()
    return terms


def compare(model: Network, batches: Batches, config: FitConfig) -> dict[str, float]:
    """Return all losses by name, including ``train_total`` and ``validation_total``.

    Training losses are those of a run without noise. Validation losses include the noise of training, the
    same each time, since early stopping would otherwise choose the best parameters without noise.
    """
    batch, held = batches
    with torch.no_grad():
        losses = _name("train", _compare(model, batch))
        return losses if held is None else losses | _name("validation", _compare_held(model, held))


def _compare_held(model: Network, held: Batch) -> dict[str, Tensor]:
    """Return the loss terms on validation trials; see :func:`compare`."""
    generator = torch.Generator().manual_seed(model.config.seed)
    return _compare(model, held, penalized=False, noise=_draw_noise(held, model.config, generator))


def _compare(
    model: Network, batch: Batch, *, penalized: bool = True, noise: Tensor | None = None
) -> dict[str, Tensor]:
    """Run the network and return its loss terms, and as ``total`` their weighted sum with weight penalties.

    On validation trials, weights are not penalized, since a penalty would choose small weights rather than
    good ones. If neurons correct the state, the loss compares their rates before the correction, so that the
    network has to predict them.
    """
    if batch.seen is None:
        outputs, rates = model(batch.inputs, start=batch.start, noise=noise)
    else:
        outputs, tracked = model.track(batch.inputs, batch.seen, start=batch.start, noise=noise)
        rates = tracked.predicted
    terms, total = compute_loss_terms(Outcome(outputs, rates, batch.targets), model.config)
    return terms | {"total": total + _penalize(model) if penalized else total}


def _penalize(model: Network) -> Tensor:
    """Return the sums of squared weights, each times the penalty of its setting."""
    config = model.config
    squares = model.recurrent_weights.square().sum() + model.output_weights.square().sum()
    penalty = config.penalty_factor * squares
    if config.input_penalty:
        penalty = penalty + config.input_penalty * model.input_weights.square().sum()
    if model.observer_weights is not None:
        penalty = penalty + config.observe_penalty * model.observer_weights.square().sum()
    return penalty


def _name(prefix: str, terms: dict[str, Tensor]) -> dict[str, float]:
    """Convert terms to numbers, all together to wait for a GPU only once."""
    values = torch.stack([term.detach() for term in terms.values()]).tolist()
    return {f"{prefix}_{name}": value for name, value in zip(terms, values, strict=True)}


def _check_finite(losses: dict[str, float], descent: _Descent) -> None:
    """Raise if a loss is not finite."""
    for name, value in losses.items():
        if not math.isfinite(value):
            raise TrainingDivergedError(descent.epoch, f"loss term {name.partition('_')[2]!r}")


@contextlib.contextmanager
def _listen_for_interrupt() -> Iterator[threading.Event]:
    """Make the first Ctrl-C stop training between two epochs, and the second one stop it at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def on_signal(*_: object) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    before = signal.signal(signal.SIGINT, on_signal)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)
