"""diagnose: what in a file would bias a fit, or has to be known before one.

A rule is one function ``check_...`` whose findings say what to do. The checks stand in tuples, by what
they look at: the raw file, the NWB file, one series, the values of one series, the units, the trials.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from nwbrnn.config import ReadConfig
from nwbrnn.errors import MissingDataError, NwbrnnError
from nwbrnn.readers.doctor.clocks import CLOCK_CHECKS, Clocks
from nwbrnn.readers.doctor.file import FILE_CHECKS, STORE_CHECKS
from nwbrnn.readers.doctor.finding import Finding, bias, note, run_checks
from nwbrnn.readers.doctor.series import SERIES_CHECKS, is_unwritten, list_series
from nwbrnn.readers.doctor.spikes import view_spikes
from nwbrnn.readers.doctor.trials import TRIAL_CHECKS, view_trials
from nwbrnn.readers.doctor.units import UNIT_CHECKS
from nwbrnn.readers.doctor.values import VALUE_CHECKS, has_outputs, view_values
from nwbrnn.readers.recording import read_session
from nwbrnn.readers.session import Session, open_session
from nwbrnn.storage import Source, open_store

__all__ = ["Finding", "diagnose"]


def diagnose(path: str | Path | Source, *, follow_links: bool = False) -> tuple[Finding, ...]:
    """Examine an NWB file for what would bias a fit, or has to be known before one.

    Series are read in blocks and spike times unit by unit, so that memory stays bounded.

    Parameters
    ----------
    path
        A local HDF5 file or Zarr folder, or an address as for :func:`nwbrnn.read_nwb`.
    follow_links
        Whether links may lead out of the file.

    Returns
    -------
    tuple of Finding
        Those that would bias a fit first.

    Raises
    ------
    UnsupportedFileError
        If the file is not a readable NWB 2 file.
    ReadError
        If data in it cannot be read.
    """
    with open_session(path, follow_links=follow_links) as session:
        store = open_store(session.source, follow_links=follow_links)
        with contextlib.closing(store):
            findings = [*run_checks(STORE_CHECKS, store.root), *_examine(session)]
    return tuple(sorted(findings, key=lambda finding: not finding.biases))


def _examine(session: Session) -> Iterator[Finding]:
    """Yield what is found in the objects of a file, and, if that is no reason, why it would be refused."""
    found = list(_examine_objects(session))
    yield from found
    if not any(finding.biases for finding in found):
        yield from run_checks((check_refused,), session)


def _examine_objects(session: Session) -> Iterator[Finding]:
    """Yield what is found in the objects of a file."""
    extents: dict[str, tuple[float, float]] = {}
    yield from run_checks(FILE_CHECKS, session)
    for series in list_series(session):
        yield from run_checks(SERIES_CHECKS, series)
        if has_outputs(series) and not is_unwritten(series):
            yield from run_checks(VALUE_CHECKS, view_values(series))
            extents[series.path] = series.extent
    trials = view_trials(session)
    if trials is not None:
        yield from run_checks(TRIAL_CHECKS, trials)
        extents[trials.path] = trials.extent
    spikes = view_spikes(session, trials=None if trials is None else trials.spans)
    if spikes is not None:
        yield from run_checks(UNIT_CHECKS, spikes)
        extents[spikes.spikes] = spikes.extent
    yield from run_checks(CLOCK_CHECKS, Clocks(extents, "" if trials is None else trials.path))


def check_refused(session: Session) -> Iterator[Finding]:
    """Find a reason why the file is not read without settings, by reading it; what it lacks is no bias."""
    try:
        read_session(session, ReadConfig())
    except MissingDataError as error:
        yield note("/", *_split(error, session.source))
    except NwbrnnError as error:
        yield bias("/", *_split(error, session.source))


def _split(error: NwbrnnError, source: Source) -> tuple[str, str]:
    """Return the problem and the remedy in a message, without the file."""
    problem, _, remedy = str(error).removeprefix(source.text).lstrip(":/ ").rpartition("; ")
    return (problem, remedy) if problem else (remedy, "name what to read with the settings of reading")
