"""Checks of the file as a whole: its groups, its schema, and what it lacks."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from nwbrnn.readers.doctor.finding import Finding, note
from nwbrnn.readers.session import Session
from nwbrnn.text import list_some, show_count

_TYPED_FOLDERS = (
    "acquisition", "analysis", "general/devices", "intervals", "processing", "scratch",
    "stimulus/presentation", "stimulus/templates",
)  # fmt: skip
_ROOT = {folder.partition("/")[0] for folder in _TYPED_FOLDERS} | {"specifications"}


def check_orphans(session: Session) -> Iterator[Finding]:
    """Find groups without a type where NWB requires one: a laboratory's own, or of an interrupted write."""
    root = session.root
    folders = [name for name in _TYPED_FOLDERS if name in root]
    folders += [
        f"processing/{name}" for name in root.get("processing", ()) if _has_type(root["processing"], name)
    ]
    orphans = [
        f"{folder}/{name}" for folder in folders for name in root[folder] if not _has_type(root[folder], name)
    ]
    orphans += [
        name
        for name in root
        if name not in _ROOT and hasattr(root[name], "keys") and not _has_type(root, name)
    ]
    for path in orphans:
        size = len(root[path]) if hasattr(root[path], "keys") else 1
        yield note(
            path,
            f"it holds {show_count(size, 'object')} but has no neurodata_type, so NWB readers do not see it",
            "no action needed if the laboratory keeps its own data there; if a write was interrupted, write "
            "the data again under another name, and export the file with pynwb, which leaves this out",
        )


def check_schema(session: Session) -> Iterator[Finding]:
    """Find several versions of the schema: another version appended to the file, which may be invalid."""
    cached = session.root.get("specifications")
    core = sorted(cached["core"]) if cached is not None and "core" in cached else []
    (version,) = np.ravel(session.root.attrs.get("nwb_version", ""))[:1]
    text = version.decode() if isinstance(version, bytes) else str(version)
    if len(core) > 1:
        yield note(
            "specifications/core",
            f"nwb_version is {text}, but the file holds the schemas of {list_some(core, limit=5)}",
            "another version of NWB was used to append to the file; export it to a new file with one version "
            "of pynwb, and validate the new file",
        )


def check_trials_missing(session: Session) -> Iterator[Finding]:
    """Find units without trials."""
    if session.units is not None and not session.trial_tables:
        yield note(
            "intervals/trials",
            f"the file has {show_count(len(session.units), 'unit')} but no trials (interval tables: "
            f"{list_some(session.nwbfile.intervals or (), limit=5)})",
            "add the trials with nwbfile.add_trial before you fit",
        )


def check_units_none(session: Session) -> Iterator[Finding]:
    """Find a table of units without rows."""
    if session.units is not None and not len(session.units):
        yield note(
            session.units_path,
            "the table has 0 units",
            "write the units of the recording, with their spike_times",
        )


def _has_type(group: Any, name: str) -> bool:
    member = group.get(name)
    return member is not None and "neurodata_type" in member.attrs
