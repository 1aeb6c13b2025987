"""Checkpoints: the state of a running fit in a safetensors file with a JSON header, without pickles.

Whatever happens, the file holds a complete state, either the last one or the one before. A file that is not a
checkpoint is never replaced or removed, whatever its name.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from nwbrnn.config import FitConfig
from nwbrnn.errors import ConfigError, ExportError
from nwbrnn.training.batches import Batch

_KEY = "nwbrnn_checkpoint"
_HASH = "hash"
_LAYOUT = 1
_REMEDY = "remove it to start again"


@dataclass
class Checkpoint:
    """The file in which a fit stores its state.

    Attributes
    ----------
    path
        The file.
    fingerprint
        Fingerprint of the settings and the data of the fit; see :func:`compute_fingerprint`.
    interval
        Minimum time between two writes [s].
    """

    path: Path
    fingerprint: Mapping[str, str]
    interval: float = 10.0
    _written: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Start the interval now, since the first state is not worth writing."""
        self._written = time.monotonic()

    def is_due(self) -> bool:
        """Return whether the last state is older than the interval."""
        return time.monotonic() - self._written >= self.interval

    def write(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        """Replace the file, whole or not at all.

        Raises
        ------
        ExportError
            If the file cannot be written, or exists and is not a checkpoint.
        """
        from nwbrnn.storage.atomic import replace_whole  # this imports pynwb, which training does not need

        if self.path.exists():
            _check_is_checkpoint(self.path)
        told = {"layout": _LAYOUT, "fingerprint": self.fingerprint, **about}
        parts = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        content = save(parts, {_KEY: json.dumps(told | {_HASH: _compute_hash(parts, told)})})
        with replace_whole(self.path, overwrite=True) as temporary:
            temporary.write_bytes(content)
        self._written = time.monotonic()

    def read(self, parts: Sequence[Mapping[str, Tensor]]) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return the tensors and the information about them, or ``None`` if there is no file.

        Parameters
        ----------
        parts
            Tensors like the expected ones, in groups that are either complete or absent; the first group is
            required. The file may also hold losses with names ``history.NAME``.

        Raises
        ------
        ConfigError
            If the file is damaged, belongs to other settings or data, or holds tensors of other names,
            shapes or types, beyond which compiled code would write.
        """
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                about = json.loads((file.metadata() or {})[_KEY])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise ConfigError(
                f"{self.path}: expected a checkpoint, but it is damaged or another file; {_REMEDY}"
            ) from error
        if not isinstance(about, dict) or about.get("layout") != _LAYOUT:
            raise ConfigError(f"{self.path}: another version of nwbrnn wrote this checkpoint; {_REMEDY}")
        self._compare(about.get("fingerprint"))
        problems = _find_problems(tensors, parts)
        if problems:
            raise ConfigError(f"{self.path}: {'; '.join(problems[:3])}; {_REMEDY}")
        if about.pop(_HASH, None) != _compute_hash(tensors, about):
            raise ConfigError(f"{self.path}: expected a complete checkpoint, but it is damaged; {_REMEDY}")
        return tensors, about

    @contextlib.contextmanager
    def blame(self, what: str) -> Iterator[None]:
        """Report an error that occurs when a part of the file is used as a fault of the file."""
        try:
            yield
        except (RuntimeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise ConfigError(
                f"{self.path}: expected {what} of a fit, but got others ({error!s:.100}); {_REMEDY}"
            ) from error

    def _compare(self, theirs: object) -> None:
        """Refuse the state of another fit."""
        theirs = theirs if isinstance(theirs, dict) else {}
        names = sorted(set(theirs) | set(self.fingerprint))
        differing = [name for name in names if theirs.get(name) != self.fingerprint.get(name)]
        if differing:
            raise ConfigError(
                f"{self.path}: expected a checkpoint of this fit, but {', '.join(differing)} differ; "
                f"continue with the original settings and data, or {_REMEDY}"
            )


def _compute_hash(tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> str:
    """Return a hash of all tensors, their names and types, and the information about them."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _find_problems(tensors: Mapping[str, Tensor], parts: Sequence[Mapping[str, Tensor]]) -> list[str]:
    """Return the faults in names, shapes and types of tensors; see :meth:`Checkpoint.read`."""
    losses = {name: tensor for name, tensor in tensors.items() if name.startswith("history.")}
    expected = {name: like for part in parts for name, like in part.items()}
    present = [part for part in parts if part is parts[0] or any(name in tensors for name in part)]
    missing = [name for part in present for name in part if name not in tensors]
    problems = [f"{name}: expected a tensor, but it is missing" for name in missing]
    for name in sorted(set(tensors) - set(losses)):
        found, like = tensors[name], expected.get(name)
        if like is None:
            problems.append(f"{name}: expected no such tensor")
        elif (found.shape, found.dtype) != (like.shape, like.dtype):
            problems.append(
                f"{name}: expected {like.dtype} of shape {tuple(like.shape)}, "
                f"but got {found.dtype} of shape {tuple(found.shape)}"
            )
    if "history.train_total" not in losses:
        problems.append("history.train_total: expected a tensor, but it is missing")
    problems += [
        f"{name}: expected a row of float64, but got {tensor.dtype} of shape {tuple(tensor.shape)}"
        for name, tensor in losses.items()
        if tensor.dtype != torch.float64 or tensor.ndim != 1
    ]
    lengths = {name: tensor.numel() for name, tensor in losses.items()}
    if len(set(lengths.values())) > 1:
        problems.append(f"history: expected as many values of each loss, but got {lengths}")
    return problems


def remove_checkpoint(path: Path) -> None:
    """Remove a checkpoint, if there is one.

    Raises
    ------
    ExportError
        If the file is not a checkpoint, or cannot be removed.
    """
    if not os.path.lexists(path):
        return
    _check_is_checkpoint(path)
    try:
        path.unlink()
    except OSError as error:
        raise ExportError(f"{path}: the checkpoint cannot be removed: {error.strerror}; remove it") from error


def _check_is_checkpoint(path: Path) -> None:
    """Refuse a file that is not a checkpoint, so that it is never overwritten."""
    try:
        with safe_open(path, framework="pt") as file:
            is_checkpoint = _KEY in (file.metadata() or {})
    except (SafetensorError, OSError):
        is_checkpoint = False
    if not is_checkpoint:
        raise ExportError(
            f"{path}: expected a checkpoint, but it is another file or a damaged one; "
            "remove it, or choose another output"
        )


def compute_fingerprint(config: FitConfig, batches: tuple[Batch, Batch | None]) -> dict[str, str]:
    """Return every setting that affects a fit, a hash of the data, and the versions."""
    digest = hashlib.sha256()
    for batch in batches:
        if batch is not None:
            targets = batch.targets
            parts = (batch.inputs, targets.outputs, targets.output_weight, targets.dynamics)
            seen = () if batch.seen is None else (batch.seen.values, batch.seen.counted)
            for tensor in (*parts, targets.dynamics_weight, *seen):
                digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    settings = config.model_dump(mode="json", exclude={"seeds", "device", "processes"})
    return {name: json.dumps(value) for name, value in settings.items()} | {
        "the data": digest.hexdigest(),
        "the version of torch": str(torch.__version__),
    }
