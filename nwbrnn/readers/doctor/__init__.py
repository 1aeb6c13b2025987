"""diagnose: what in a file would bias a fit, or has to be known before one.

A rule is one function ``check_...`` whose findings say what to do. The checks stand in tuples, by what
they look at: the raw file, the NWB file, one series, the values of one series, the units, the trials.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from pynwb import NWBFile

from nwbrnn.readers.doctor.file import FILE_CHECKS, STORE_CHECKS
from nwbrnn.readers.doctor.finding import Finding, run_checks
from nwbrnn.readers.doctor.series import SERIES_CHECKS, list_series
from nwbrnn.readers.doctor.spikes import view_spikes
from nwbrnn.readers.doctor.trials import TRIAL_CHECKS, view_trials
from nwbrnn.readers.doctor.units import UNIT_CHECKS
from nwbrnn.readers.doctor.values import VALUE_CHECKS, has_outputs, view_values
from nwbrnn.storage import Source, find_source, open_nwb, open_store

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
    with open_nwb(path, follow_links=follow_links) as nwbfile:
        store = open_store(find_source(path), follow_links=follow_links)
        with contextlib.closing(store):
            findings = [*run_checks(STORE_CHECKS, store.root), *_examine(nwbfile)]
    return tuple(sorted(findings, key=lambda finding: not finding.biases))


def _examine(nwbfile: NWBFile) -> Iterator[Finding]:
    """Yield what is found in the objects of a file."""
    yield from run_checks(FILE_CHECKS, nwbfile)
    for series in list_series(nwbfile):
        yield from run_checks(SERIES_CHECKS, series)
        if has_outputs(series):
            yield from run_checks(VALUE_CHECKS, view_values(series))
    trials = view_trials(nwbfile)
    if trials is not None:
        yield from run_checks(TRIAL_CHECKS, trials)
    spikes = view_spikes(nwbfile, trials=None if trials is None else trials.spans)
    if spikes is not None:
        yield from run_checks(UNIT_CHECKS, spikes)
