"""The table of the sessions of a pool, and the rows of it to which trials and units belong."""

import numpy as np
import xarray as xr
from hdmf.common import DynamicTable
from numpy.typing import NDArray

from nwbrnn.formats.tables import create_table, show_text
from nwbrnn.preprocessing import is_pooled, list_sessions
from nwbrnn.schema import RECORDING, SESSION, SESSION_OF_UNIT, UNIT

_COLUMNS = {
    "session_name": ("name", "name of the session in the tables here"),
    "file": ("source_file", "file or address"),
    "nwb_identifier": ("source_identifier", "identifier of the NWB file"),
    "nwb_object_id": ("source_object_id", "object id of the NWB file"),
    "sha256": ("source_sha256", "SHA-256 of the file"),
    # NWB Inspector takes a column whose name ends in _time for numbers
    "session_start": ("session_start_time", "start of the session"),
}
_SIGNALS = {
    "output_units": "unit of the outputs of the session, a column for each output; empty without this output",
    "output_scale": "recorded unit of 1 in the outputs here, a column for each output",
    "output_offset": "recorded value of 0 in the outputs here, a column for each output",
    "input_units": "unit of the inputs of the session, a column for each input; empty without this input",
    "input_scale": "recorded unit of 1 in the inputs here, a column for each input",
    "input_offset": "recorded value of 0 in the inputs here, a column for each input",
}
_show = np.vectorize(show_text, otypes=[object])


def create_sessions(recorded: xr.Dataset) -> DynamicTable | None:
    """Return the table of the sessions of a pool; ``None`` for the Dataset of one session."""
    if not is_pooled(recorded):
        return None
    abouts = list_sessions(recorded)
    columns = {
        name: ([show_text(str(about.get(key) or "unknown")) for about in abouts], text)
        for name, (key, text) in _COLUMNS.items()
    }
    starts = np.array([about["start"] for about in abouts])
    table = columns | {
        "start": (starts, "what was added to the times of the session, in every time here [s]")
    }
    for name, text in _SIGNALS.items():
        if f"recording_{name}" in recorded.coords:
            values = recorded[f"recording_{name}"].values
            table[name] = values if values.dtype.kind == "f" else _show(values), text
    return create_table("sessions", "the recordings of the fit, in the order of their trials", table)


def find_session_rows(recorded: xr.Dataset, dim: str) -> NDArray[np.int_]:
    """Return the row of each trial or unit of a pool in the table of sessions."""
    names = recorded[RECORDING].values.tolist()
    labels = recorded[SESSION_OF_UNIT if dim == UNIT else SESSION].values.tolist()
    return np.array([names.index(label) for label in labels])
