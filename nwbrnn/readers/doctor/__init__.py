"""diagnose: what in a file would bias a fit, or has to be known before one.

A rule is one function ``check_...`` whose findings say what to do. All of a module are run, and a module
holds those that look at one thing: the file, one series, the values of one series, the units, the trials.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import xarray as xr

from nwbrnn.config import ReadConfig
from nwbrnn.config.check import change_settings
from nwbrnn.errors import MissingDataError, NwbrnnError
from nwbrnn.readers.doctor import file, series, trials, units, values
from nwbrnn.readers.doctor.finding import Finding, Findings, run_checks
from nwbrnn.readers.doctor.spikes import view_spikes
from nwbrnn.readers.plan import Plan, plan_reading
from nwbrnn.readers.recording import read_planned
from nwbrnn.readers.session import Session, open_session
from nwbrnn.readers.strange_clocks import find_strange_clocks
from nwbrnn.storage import Source
from nwbrnn.text import show_count

__all__ = ["Finding", "Findings", "diagnose"]


def diagnose(path: str | Path | Source, config: ReadConfig | None = None, **settings: Any) -> Findings:
    """Examine an NWB file for what would bias a fit, or has to be known before one.

    Examined is what :func:`nwbrnn.read_nwb` would read with the same settings, and what else is there that a
    fit could use; what it refuses is a finding. Series are read in blocks and spike times unit by unit.

    Parameters
    ----------
    path
        A local HDF5 file or Zarr folder, or an address as for :func:`nwbrnn.read_nwb`.
    config
        Settings made before.
    **settings
        As for :func:`nwbrnn.read_nwb`.

    Returns
    -------
    Findings
        A tuple of :class:`~nwbrnn.readers.doctor.Finding`. Those that would bias a fit first.

    Raises
    ------
    UnsupportedFileError
        If the file is not a readable NWB 2 file.
    ReadError
        If data in it cannot be read.
    ConfigError
        If a setting is unknown.

    Examples
    --------
    >>> import nwbrnn
    >>> [finding.rule for finding in nwbrnn.diagnose(example) if finding.biases]
    []
    """
    config = change_settings(config or ReadConfig(), settings, source="diagnose")
    with open_session(path, follow_links=config.follow_links) as session:
        findings = _examine(session, config)
    return Findings(sorted(findings, key=lambda finding: not finding.biases))


def _examine(session: Session, config: ReadConfig) -> list[Finding]:
    """Return what is found in the objects of a file, and why it would be refused."""
    plan = error = None
    try:
        plan = plan_reading(session, config)
    except NwbrnnError as found_error:
        error = found_error
    found = list(_examine_objects(session, config, plan))
    if plan is not None:
        try:
            # smoothing reads counts beside the windows, too; of spike times, it decides nothing to refuse
            quick = {} if plan.objects.counts is not None else {"smoothing": 0.0}
            ds = read_planned(session, plan, config.model_copy(update=quick))
            found += _report_unrecorded(session, plan, ds)
        except NwbrnnError as found_error:
            error = found_error
    if error is not None:
        refusal = _report(error, session.path)
        where = refusal.problem.partition(":")[0]
        if not any(finding.biases and finding.object == where for finding in found):  # else it says so itself
            found.append(refusal)
    return found


def _examine_objects(session: Session, config: ReadConfig, plan: Plan | None) -> Iterator[Finding]:
    """Yield what is found in the objects of a file."""
    extents: dict[str, tuple[float, float]] = {}
    yield from run_checks(file, session)
    for one in series.list_series(session, config, plan):
        yield from run_checks(series, one)
        if values.has_outputs(one) and not series.is_unwritten(one):
            yield from run_checks(values, values.view_values(one))
            extents[one.path] = one.extent
    table = trials.view_trials(session, config)
    if table is not None:
        yield from run_checks(trials, table)
        extents[table.path] = table.extent
    rows = plan.objects.units if config.units and plan is not None and plan.objects.in_table else None
    spikes = view_spikes(session, trials=None if table is None else table.spans, rows=rows)
    if spikes is not None:
        yield from run_checks(units, spikes)
        extents[spikes.spikes] = spikes.extent
    for name, problem in find_strange_clocks(extents, trials="" if table is None else table.path).items():
        yield Finding(
            "clocks", name, problem, "write all times in seconds, counted from the same moment", biases=True
        )


def _report_unrecorded(session: Session, plan: Plan, ds: xr.Dataset) -> Iterator[Finding]:
    """Yield that trials were left out because nothing was recorded in their windows."""
    n_trials = len(plan.trials.frame)
    left_out = n_trials - ds.sizes["trial"]
    if left_out:
        lacking = "was recorded that is not declared invalid" if len(plan.invalid) else "was recorded"
        yield Finding(
            "trials_unrecorded",
            session.find_path(plan.trials.table),
            f"nothing {lacking} in the window of {left_out} of {show_count(n_trials, 'trial')}",
            "no action needed if the recording began later or stopped early; otherwise name other outputs, "
            "rates or times (--outputs, --rates, --align-to)",
            biases=False,
        )


def _report(error: NwbrnnError, path: str) -> Finding:
    """Return why a file is refused as a finding; what it lacks is no bias."""
    problem, _, remedy = str(error).removeprefix(f"{path}: ").rpartition("; ")
    if not problem:
        problem, remedy = remedy, "use the settings of reading to say what to read"
    return Finding("refused", "/", problem, remedy, biases=not isinstance(error, MissingDataError))
