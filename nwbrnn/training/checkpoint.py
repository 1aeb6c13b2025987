"""Checkpoints: the state of a running fit in one safetensors file, with JSON in its header. No pickle.

Whatever happens, the name holds a whole state, the last one or the one before. A file that is not a
checkpoint is never replaced or removed, whatever its name.
"""

import hashlib
import json
import os
import time
from collections.abc import Mapping
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
_LAYOUT = 1


@dataclass
class Checkpoint:
    """Where a fit keeps its state.

    Attributes
    ----------
    path
        The file.
    fingerprint
        Of the settings and the data of the fit; see :func:`compute_fingerprint`.
    interval
        Least time between two writes [s].
    """

    path: Path
    fingerprint: Mapping[str, str]
    interval: float = 10.0
    _written: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Count from now: the first state is not worth writing."""
        self._written = time.monotonic()

    def is_due(self) -> bool:
        """Return whether the last state is older than the interval."""
        return time.monotonic() - self._written >= self.interval

    def write(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        """Replace the file, whole or not at all.

        Raises
        ------
        ExportError
            If it cannot be written, or the file is there and is no checkpoint.
        """
        from nwbrnn.storage.atomic import replace_whole  # with pynwb, which training does not need

        if self.path.exists():
            _check_is_checkpoint(self.path)
        header = {_KEY: json.dumps({"layout": _LAYOUT, "fingerprint": self.fingerprint, **about})}
        content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, header)
        with replace_whole(self.path, overwrite=True) as temporary:
            temporary.write_bytes(content)
        self._written = time.monotonic()

    def read(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return the tensors and what was said about them, or ``None`` if there is no file.

        Raises
        ------
        ConfigError
            If the file is damaged, or of other settings or data.
        """
        if not self.path.exists():
            return None
        remedy = "remove it to start again"
        try:
            with safe_open(self.path, framework="pt") as file:
                about = json.loads((file.metadata() or {})[_KEY])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise ConfigError(
                f"{self.path}: expected a checkpoint, but it is damaged or another file; {remedy}"
            ) from error
        if about.get("layout") != _LAYOUT:
            raise ConfigError(f"{self.path}: the checkpoint is of another version of nwbrnn; {remedy}")
        theirs = about["fingerprint"]
        names = sorted(set(theirs) | set(self.fingerprint))
        differing = [name for name in names if theirs.get(name) != self.fingerprint.get(name)]
        if differing:
            raise ConfigError(
                f"{self.path}: expected a checkpoint of this fit, but {', '.join(differing)} differ; "
                f"go on with the settings and data it was made with, or {remedy}"
            )
        return tensors, about


def remove_checkpoint(path: Path) -> None:
    """Remove a checkpoint, if there is one.

    Raises
    ------
    ExportError
        If the file is no checkpoint, or cannot be removed.
    """
    if not os.path.lexists(path):
        return
    _check_is_checkpoint(path)
    try:
        path.unlink()
    except OSError as error:
        raise ExportError(f"{path}: the checkpoint cannot be removed: {error.strerror}; remove it") from error


def _check_is_checkpoint(path: Path) -> None:
    """Refuse a file that is no checkpoint: it belongs to somebody else."""
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
    """Return every setting that matters to a fit, and a hash of the data and of the versions."""
    digest = hashlib.sha256()
    for batch in batches:
        if batch is not None:
            targets = batch.targets
            parts = (batch.inputs, targets.outputs, targets.output_weight, targets.dynamics)
            for tensor in (*parts, targets.dynamics_weight):
                digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    settings = config.model_dump(mode="json", exclude={"seeds", "device", "processes"})
    return {name: json.dumps(value) for name, value in settings.items()} | {
        "the data": digest.hexdigest(),
        "the version of torch": str(torch.__version__),
    }
