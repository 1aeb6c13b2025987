"""inspect_nwb: what is in a file, and what would be read from it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pynwb import NWBFile

from nwbrnn.config import ReadConfig, parse_settings
from nwbrnn.errors import NwbrnnError
from nwbrnn.readers.choices import Choice
from nwbrnn.readers.discovery import find_signals
from nwbrnn.readers.plan import plan_reading
from nwbrnn.readers.trial_choices import choose_table
from nwbrnn.readers.trials import read_trials
from nwbrnn.readers.units import find_units, read_unit_columns
from nwbrnn.storage import Source, find_source, open_nwb


@dataclass(frozen=True)
class Inspection:
    """What a file holds and what would be read.

    Attributes
    ----------
    identity
        Identifier, NWB version, session and subject, by name.
    signals
        Path, role, samples, channels, time between samples (their mean, if it varies), unit of each time
        series.
    units
        Their number, spikes and plain columns.
    trials
        Name, number of different values and examples of each plain trial column.
    choices
        What would be picked, and why.
    problem
        Why nothing can be read with these settings, if so.
    """

    identity: dict[str, str]
    signals: tuple[dict[str, Any], ...]
    units: dict[str, Any]
    trials: tuple[dict[str, Any], ...]
    choices: tuple[Choice, ...]
    problem: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values, for JSON."""
        return vars(self) | {"choices": [choice.to_dict() for choice in self.choices]}


def inspect_nwb(path: str | Path | Source, config: ReadConfig | None = None, **settings: Any) -> Inspection:
    """Look into an NWB file without reading its data.

    Parameters
    ----------
    path
        A local HDF5 file or Zarr folder, or an address, as for :func:`nwbrnn.read_nwb`.
    config
        Settings made before.
    **settings
        As for :func:`nwbrnn.read_nwb`.

    Returns
    -------
    Inspection
        What is there, what would be picked and why, or why nothing can be read.

    Raises
    ------
    UnsupportedFileError
        If the file is not a readable NWB 2 file.
    ConfigError
        If a setting is unknown.
    """
    source = find_source(path)
    given = (config or ReadConfig()).model_dump() | settings
    config = parse_settings(ReadConfig, given, source="inspect_nwb")
    with open_nwb(source, follow_links=config.follow_links) as nwbfile:
        choices: tuple[Choice, ...] = ()
        problem = None
        try:
            choices = plan_reading(nwbfile, config, path=source.text).choices
        except NwbrnnError as error:
            problem = str(error)
        return Inspection(
            identity=_identify(nwbfile, source.name),
            signals=tuple(_list_signals(nwbfile)),
            units=_summarise_units(nwbfile),
            trials=tuple(_list_trial_columns(nwbfile, config, path=source.text)),
            choices=choices,
            problem=problem,
        )


def _identify(nwbfile: NWBFile, name: str) -> dict[str, str]:
    subject = nwbfile.subject
    return {
        "file": name,
        "identifier": str(nwbfile.identifier),
        "session start": str(nwbfile.session_start_time),
        "description": str(nwbfile.session_description),
        "subject": f"{subject.subject_id} ({subject.species})" if subject is not None else "none",
    }


def _list_signals(nwbfile: NWBFile) -> list[dict[str, Any]]:
    return [
        {
            "path": signal.path,
            "role": signal.role,
            "samples": signal.shape[0],
            "channels": list(signal.columns),
            "interval": signal.interval if np.isfinite(signal.interval) else None,
            "varies": signal.varies,
            "unit": signal.unit,
        }
        for signal in find_signals(nwbfile)
    ]


def _summarise_units(nwbfile: NWBFile) -> dict[str, Any]:
    units = find_units(nwbfile)[1]
    if units is None:
        return {"number": 0}
    spikes = len(units["spike_times"].target.data) if "spike_times" in units.colnames else 0
    places = read_unit_columns(nwbfile).get("location", np.zeros(0)).tolist()
    numbers = [f"{place}: {places.count(place)}" for place in dict.fromkeys(places)]
    return {"number": len(units), "spikes": spikes, "locations": numbers, "columns": list(units.colnames)}


def _list_trial_columns(nwbfile: NWBFile, config: ReadConfig, *, path: str) -> list[dict[str, Any]]:
    """Return the plain columns of the table of trials, events among them."""
    try:
        table, where, _ = choose_table(nwbfile, config, path=path)
        trials = read_trials(nwbfile, table, name=where, path=path)
    except NwbrnnError:  # none there; the problem says so
        return []
    rows = []
    for name, values in trials.drop(columns="id").items():
        known = values.dropna()
        examples = [f"{v:g}" if values.dtype.kind == "f" else str(v) for v in known.unique()[:4]]
        missing = len(values) - len(known)
        rows.append({"name": name, "different": known.nunique(), "missing": missing, "examples": examples})
    return rows
