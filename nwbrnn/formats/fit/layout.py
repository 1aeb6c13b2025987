"""The layout of an exported fit: names that writer and reader share, as ``docs/nwb_export.md`` explains."""

import re

from nwbrnn.errors import ConfigError

LAYOUT_VERSION = 1

MODULE = "nwbrnn"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")

_HIDDEN, _UNITS = "hidden_units", "recorded_units"
_EACH = f"a column for each row of {_UNITS}"

# fmt: off
SERIES = {
    # series in the module: Dataset, variable, description
    "recorded_outputs": ("recorded", "outputs", "outputs that the network was compared with, clipped"),
    "inputs": ("recorded", "inputs", "inputs of the network"),
    "recorded_rates": ("recorded", "rates", f"rates that the network was compared with, {_EACH}"),
    "recorded_spike_counts": ("recorded", "spike_counts", f"spikes in each bin, {_EACH}"),
    "predicted_outputs": ("predicted", "outputs", "outputs of the network"),
    "predicted_rates": ("predicted", "rates", f"rates predicted by the network, {_EACH}"),
    "hidden_rates": ("predicted", "hidden", f"rates r of the network, a column for each row of {_HIDDEN}"),
}
WEIGHTS = {
    # weight: table, column, description
    "recurrent_weights": (
        _HIDDEN, "recurrent_weights", "matrix, one column for each presynaptic hidden unit"),
    "input_weights": (_HIDDEN, "input_weights", "matrix, one column for each input"),
    "bias": (_HIDDEN, "bias", "b"),
    "initial_state": (_HIDDEN, "initial_state", "x before the first bin"),
    "output_weights": (_HIDDEN, "output_weights", "matrix, one column for each output, before its scale"),
    "observer_weights": (
        _HIDDEN, "observer_weights", f"matrix K, one column for each observed row of {_UNITS}"),
    "tau": (_HIDDEN, "tau", "time constant that was learned [s]"),
    "output_bias": ("outputs", "bias", "c in z = output_weights r + c"),
    "rate_readout": (_UNITS, "readout", "rate [Hz] = readout r + readout_offset, other units"),
    "rate_readout_offset": (_UNITS, "readout_offset", "see readout [Hz]"),
}
# fmt: on
OPTIONAL = ("tau", "observer_weights")
"""Weights that not every network has."""
TRANSPOSED = ("initial_state", "output_weights")
"""Weights whose columns are the rows of their table."""
MATRICES = {"connectivity": "recorded_units", "readout": "outputs"}
"""Variables of a simulated circuit, and the table with each in a column ``teacher_NAME``."""


def name_module(name: str | None) -> str:
    """Return the processing module of a fit: ``nwbrnn``, or ``nwbrnn_NAME`` for a named fit."""
    if name is None:
        return MODULE
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"name: expected at most 64 letters, digits, '_' and '-', beginning with a letter or digit, "
            f"but got {name!r}; choose another"
        )
    return f"{MODULE}_{name}"


def name_series(name: str, layer: int) -> str:
    """Return the name of a series in a layer, counted from 1; there are others only if windows overlap."""
    return f"{name}_{layer}" if layer > 1 else name


def name_scratch(module: str) -> str:
    """Return the name in ``scratch`` of the settings and provenance of the fit in a module."""
    return f"{module}_fit"


def is_module_of_fit(module: str) -> bool:
    """Return whether the name of a processing module is that of a fit."""
    return module == MODULE or module.startswith(f"{MODULE}_")


def list_parts(module: str) -> tuple[str, str]:
    """Return the paths of the two objects that hold the fit of a module."""
    return f"processing/{module}", f"scratch/{name_scratch(module)}"
