"""The layout of an exported fit: names that writer and reader share. ``docs/nwb_export.md`` explains it."""

import re

from nwbrnn.errors import ConfigError

LAYOUT_VERSION = 1

MODULE = "nwbrnn"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")

SERIES = {
    # series in the module: Dataset, variable, description
    "recorded_outputs": ("recorded", "outputs", "outputs that the student was compared with, clipped"),
    "inputs": ("recorded", "inputs", "inputs of the student"),
    "recorded_rates": (
        "recorded",
        "rates",
        "rates that the student was compared with, a column for each row of recorded_units",
    ),
    "recorded_spike_counts": (
        "recorded",
        "spike_counts",
        "spikes in each bin, a column for each row of recorded_units",
    ),
    "predicted_outputs": ("predicted", "outputs", "outputs of the student"),
    "predicted_rates": (
        "predicted",
        "rates",
        "rates predicted by the student, a column for each row of recorded_units",
    ),
    "hidden_rates": (
        "predicted",
        "hidden",
        "rates r of the student, a column for each row of hidden_units",
    ),
}
MATRICES = {"connectivity": "recorded_units", "readout": "outputs"}
"""Variables of a teacher, and the table that holds them in a column ``teacher_NAME``."""


def name_module(name: str | None) -> str:
    """Return the processing module of a fit: ``nwbrnn``, or ``nwbrnn_NAME`` for one with a name.

    Raises
    ------
    ConfigError
        If the name has other characters than letters, digits, ``_`` and ``-``, or is too long.
    """
    if name is None:
        return MODULE
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"name: expected at most 64 letters, digits, '_' and '-', beginning with a letter or digit, "
            f"but got {name!r}; choose another"
        )
    return f"{MODULE}_{name}"


def name_series(name: str, layer: int) -> str:
    """Return the name of a series in a layer, from 1 on: further ones only where windows overlap."""
    return f"{name}_{layer}" if layer > 1 else name


def name_scratch(module: str) -> str:
    """Return where settings and provenance of the fit in a module are, in ``scratch``."""
    return f"{module}_fit"


def is_module_of_fit(module: str) -> bool:
    """Return whether a processing module is one of ours, by its name."""
    return module == MODULE or module.startswith(f"{MODULE}_")


def list_parts(module: str) -> tuple[str, str]:
    """Return the paths of the two objects that are the fit in a module."""
    return f"processing/{module}", f"scratch/{name_scratch(module)}"
