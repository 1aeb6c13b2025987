"""inspect_nwb: list what a file holds and what read_nwb would read from it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pynwb import NWBFile

from nwbrnn.config import ReadConfig
from nwbrnn.config.check import change_settings
from nwbrnn.dataset import Choice
from nwbrnn.errors import NwbrnnError, name_file
from nwbrnn.html_repr import format_table, format_text
from nwbrnn.readers.plan import plan_reading
from nwbrnn.readers.rules.trials import choose_table
from nwbrnn.readers.session import Session, open_session
from nwbrnn.storage import Source


@dataclass(frozen=True)
class Inspection:
    """What a file holds, and what :func:`nwbrnn.read_nwb` would read from it.

    Attributes
    ----------
    identity
        Identifier, NWB version, session and subject, by name.
    signals
        Path, role, samples, channels, time between samples (the mean if it varies) and unit of each time
        series.
    units
        Number of units, their spikes and their plain columns.
    trials
        Name, number of distinct values and examples of each plain trial column.
    choices
        What would be read, and why.
    problem
        Why nothing can be read with these settings; empty if it can.
    """

    identity: dict[str, str]
    signals: tuple[dict[str, Any], ...]
    units: dict[str, Any]
    trials: tuple[dict[str, Any], ...]
    choices: tuple[Choice, ...]
    problem: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values for JSON."""
        return vars(self) | {"choices": [choice.to_dict() for choice in self.choices]}

    def _repr_html_(self) -> str:
        about = self.identity | {"units": self.units["number"]}
        signals = [(one["path"], one["role"], one["samples"], len(one["channels"])) for one in self.signals]
        trials = [(one["name"], one["different"], ", ".join(one["examples"])) for one in self.trials]
        tables = [
            format_table(("file", ""), list(about.items())),
            format_table(("time series", "role", "samples", "channels"), signals),
            format_table(("trial column", "different values", "examples"), trials),
        ]
        if self.problem is None:
            choices = [(one.role, one.picked, one.reason) for one in self.choices]
            tables.append(format_table(("what is read", "picked", "reason"), choices))
        else:
            tables.append(format_text(f"Nothing would be read: {self.problem}"))
        return f"<div>{''.join(tables)}</div>"


def inspect_nwb(path: str | Path | Source, config: ReadConfig | None = None, **settings: Any) -> Inspection:
    """List what an NWB file holds, without reading its data.

    Parameters
    ----------
    path
        A local HDF5 file or Zarr folder, or an address, as for :func:`nwbrnn.read_nwb`.
    config
        The settings of reading; the defaults if not given.
    **settings
        As for :func:`nwbrnn.read_nwb`.

    Returns
    -------
    Inspection
        What the file holds, what would be read and why, or why nothing can be read.

    Raises
    ------
    UnsupportedFileError
        If the file is not a readable NWB 2 file.
    ConfigError
        If a setting is unknown.

    Examples
    --------
    >>> import nwbrnn
    >>> found = nwbrnn.inspect_nwb(example)
    >>> [choice.picked for choice in found.choices if choice.role == "outputs"]
    ['acquisition/EMG']
    """
    config = change_settings(config or ReadConfig(), settings, source="inspect_nwb")
    with open_session(path, follow_links=config.follow_links) as session:
        choices: tuple[Choice, ...] = ()
        problem = None
        try:
            with name_file(session.path):
                choices = plan_reading(session, config).choices
        except NwbrnnError as error:
            problem = str(error)
        return Inspection(
            identity=_identify(session.nwbfile, session.source.name),
            signals=tuple(_list_signals(session)),
            units=_summarize_units(session),
            trials=tuple(_list_trial_columns(session, config)),
            choices=choices,
            problem=problem,
        )


def read_subject(path: str | Path | Source, *, follow_links: bool = False) -> str:
    """Return the id of the subject of an NWB file; empty if the file names none."""
    with open_session(path, follow_links=follow_links) as session:
        subject = session.nwbfile.subject
        return "" if subject is None else str(subject.subject_id or "")


def _identify(nwbfile: NWBFile, name: str) -> dict[str, str]:
    subject = nwbfile.subject
    return {
        "file": name,
        "identifier": str(nwbfile.identifier),
        "session start": str(nwbfile.session_start_time),
        "description": str(nwbfile.session_description),
        "subject": f"{subject.subject_id} ({subject.species})" if subject is not None else "none",
    }


def _list_signals(session: Session) -> list[dict[str, Any]]:
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
        for signal in session.signals
    ]


def _summarize_units(session: Session) -> dict[str, Any]:
    units = session.units
    if units is None:
        return {"number": 0}
    spikes = len(session.trains.times) if "spike_times" in units.colnames else 0
    places = session.unit_columns.get("location", np.zeros(0)).tolist()
    numbers = [f"{place}: {places.count(place)}" for place in dict.fromkeys(places)]
    return {"number": len(units), "spikes": spikes, "locations": numbers, "columns": list(units.colnames)}


def _list_trial_columns(session: Session, config: ReadConfig) -> list[dict[str, Any]]:
    """Return the plain columns of the trial table, including events."""
    try:
        table, _ = choose_table(session.trial_tables, config)
        trials = session.read_trials(table)
    except NwbrnnError:  # there is no trial table, as ``problem`` says
        return []
    rows = []
    for name, values in trials.drop(columns="id").items():
        known = values.dropna()
        examples = [f"{v:g}" if values.dtype.kind == "f" else str(v) for v in known.unique()[:4]]
        missing = len(values) - len(known)
        rows.append({"name": name, "different": known.nunique(), "missing": missing, "examples": examples})
    return rows
