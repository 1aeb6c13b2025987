"""read_sessions: read several files, one after the other, and pool them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwbrnn.config import ReadConfig
from nwbrnn.config.check import change_settings, parse_settings
from nwbrnn.dataset import Choice, add_choice
from nwbrnn.errors import ConfigError, NwbrnnError
from nwbrnn.preprocessing import (
    Outline,
    cut_window,
    describe_window,
    find_mismatches,
    find_unsuitable,
    find_window,
    list_sessions,
    name_sessions,
    pool,
)
from nwbrnn.readers.plan import Plan, plan_reading
from nwbrnn.readers.recording import read_nwb
from nwbrnn.readers.session import Session, open_session
from nwbrnn.readers.task import create_task_inputs
from nwbrnn.storage import Source, find_source

File = str | Path | Source


def read_sessions(paths: Sequence[File], config: ReadConfig | None = None, **settings: Any) -> xr.Dataset:
    """Read several NWB files of one task, one after the other, and pool them in one Dataset.

    If the rules choose bins of different widths, all files are read with the widest. Nothing is read unless
    the files can be pooled.

    Parameters
    ----------
    paths
        At least two files, as for :func:`nwbrnn.read_nwb`.
    config
        The settings of reading, for all files; the defaults if not given.
    **settings
        Fields of :class:`nwbrnn.ReadConfig`; they override those of ``config``.

    Returns
    -------
    xarray.Dataset
        A Dataset as from :func:`nwbrnn.pool`.

    Raises
    ------
    ConfigError
        If the files cannot be pooled; it lists all reasons. Also as :func:`nwbrnn.read_nwb`.
    ReadError
        As :func:`nwbrnn.read_nwb`, for any of the files.

    Examples
    --------
    >>> import nwbrnn
    >>> try:
    ...     nwbrnn.read_sessions([example, example])
    ... except nwbrnn.NwbrnnError as error:
    ...     print(str(error).split(",")[0])
    session session_2: trials: expected other trials than those of session session
    """
    config = change_settings(config or ReadConfig(), settings, source="read_sessions")
    sources = [find_source(path) for path in paths]
    found = outline_sessions(sources, config)
    if found.problems:
        raise ConfigError(*found.problems)
    sessions = [read_session(source, found, number) for number, source in enumerate(sources)]
    return pool(sessions, names=[one.name for one in found.outlines])


def read_session(path: File, plan: "PoolPlan", number: int) -> xr.Dataset:
    """Read one of the sessions of a pool, with the bins and the window that all of them have.

    Parameters
    ----------
    path
        The file.
    plan
        What is known of all sessions; see :func:`outline_sessions`.
    number
        Its place among them.

    Raises
    ------
    ConfigError, ReadError
        As :func:`nwbrnn.read_nwb`, and if no trial has a recorded bin in the window.
    """
    ds = read_nwb(path, plan.config)
    cut = cut_window(ds, plan.outlines[number], plan.outlines)
    choices = plan.common_bins, describe_window(plan.outlines, n_empty=ds.sizes["trial"] - cut.sizes["trial"])
    for choice in choices:
        cut = cut if choice is None else add_choice(cut, choice)
    return cut


def reread_sessions(paths: Sequence[File], recorded: xr.Dataset) -> xr.Dataset:
    """Read the files of a pooled Dataset again, each with its own settings, and pool them under their names.

    Parameters
    ----------
    paths
        The files, in the order of the sessions.
    recorded
        The pooled Dataset.
    """
    abouts = list_sessions(recorded)
    names = [one["name"] for one in abouts]
    if len(paths) != len(abouts):
        raise ConfigError(
            f"source: expected the files of {len(abouts)} sessions, {', '.join(names)}, in this order, but "
            f"got {len(paths)}; name them all (--source, once for each)"
        )
    unknown = [one["name"] for one in abouts if "read_config" not in one]
    if unknown:
        raise ConfigError(
            f"read_config: expected sessions that read_nwb read, but {', '.join(unknown)} does not record "
            "how its data were read; fit the Datasets again"
        )
    configs = [parse_settings(ReadConfig, one["read_config"], source="read_config") for one in abouts]
    sessions = [read_nwb(path, config) for path, config in zip(paths, configs, strict=True)]
    return pool(sessions, names=names)


@dataclass(frozen=True)
class PoolPlan:
    """What would be read from several files, and why they cannot be pooled.

    Attributes
    ----------
    outlines
        What decides whether each session can be pooled with the others.
    n_units
        Number of units of each session.
    choices
        What would be read from each session, and why.
    config
        The settings of reading, with bins that suit all files.
    common_bins
        A note if these are not the bins that the rules chose for each file.
    problems
        Why the files cannot be pooled, a sentence for each reason; empty if they can.
    """

    outlines: tuple[Outline, ...]
    n_units: tuple[int, ...]
    choices: tuple[tuple[Choice, ...], ...]
    config: ReadConfig
    common_bins: Choice | None
    problems: tuple[str, ...]

    @property
    def time(self) -> NDArray[np.float64]:
        """Centres of the bins that all sessions have [s]."""
        return self.outlines[0].time[slice(*find_window(self.outlines))]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values for JSON."""
        sessions = [
            {
                "name": one.name,
                "trials": len(one.trials),
                "units": n_units,
                "outputs": list(one.outputs),
                "inputs": list(one.inputs),
                "conditions": list(one.conditions),
                "bin_size": one.bin_size,
                "window": [float(one.time[0] - one.bin_size / 2), float(one.time[-1] + one.bin_size / 2)],
                "choices": [choice.to_dict() for choice in choices],
            }
            for one, n_units, choices in zip(self.outlines, self.n_units, self.choices, strict=True)
        ]
        return {"sessions": sessions, "problems": list(self.problems)}


def outline_sessions(paths: Sequence[File], config: ReadConfig) -> PoolPlan:
    """Find out whether files can be pooled, without reading their data.

    Parameters
    ----------
    paths
        At least two files.
    config
        The settings of reading, for all files.
    """
    if len(paths) < 2:
        raise ConfigError(f"sessions: expected at least two files, but got {len(paths)}; name more")
    found, unreadable = _outline_files(dict(enumerate(paths)), config, {}, all_faults=False)
    if found is None:
        raise next(iter(unreadable.values()))
    return found


def plan_pool(paths: Sequence[File], config: ReadConfig) -> tuple[PoolPlan | None, dict[int, str]]:
    """Find out which of several files can be pooled, without reading their data.

    Parameters
    ----------
    paths
        The files.
    config
        The settings of reading, for all files.

    Returns
    -------
    PoolPlan or None
        What would be read from those that can be pooled; ``None`` if they are fewer than two.
    dict
        Why each of the others cannot, by its place.
    """
    unsuitable: dict[int, str] = {}
    known: _Known = {}
    while len(paths) - len(unsuitable) > 1:
        chosen = {place: path for place, path in enumerate(paths) if place not in unsuitable}
        plan, unreadable = _outline_files(chosen, config, known, all_faults=True)
        found = {place: str(error) for place, error in unreadable.items()}
        if plan is not None:
            places = list(chosen)
            found = {places[row]: why for row, why in find_unsuitable(plan.outlines).items()}
        if not found:
            return plan, unsuitable
        unsuitable |= found  # without these, the bins may be others
    return None, unsuitable


_Known = dict[tuple[int, float | None], tuple[Source, Outline, int, tuple[Choice, ...]]]
"""What is known of each file, by its place and the width of the bins."""


def _outline_files(
    paths: Mapping[int, File], config: ReadConfig, known: _Known, *, all_faults: bool
) -> tuple[PoolPlan | None, dict[int, NwbrnnError]]:
    """Return what would be read from files, or why some of them cannot be read, by their place.

    Each file is opened once for each width of the bins, and what was found is added to ``known``. Unless
    ``all_faults`` are wanted, none is opened after the first that cannot be read.
    """
    common_bins = None
    for _ in range(2):  # with the bins of each file, and with those that suit all
        unreadable = {}
        for place, path in paths.items():
            try:
                if (place, config.bin_size) not in known:
                    known[place, config.bin_size] = _outline(find_source(path), config)
            except NwbrnnError as error:
                unreadable[place] = error
                if not all_faults:
                    break
        if unreadable:
            return None, unreadable
        sources, outlines, n_units, choices = zip(
            *(known[place, config.bin_size] for place in paths), strict=True
        )
        wider = _find_common_bins(outlines, config)
        if wider is None:
            break
        common_bins = wider
        config = config.model_copy(update={"bin_size": max(one.bin_size for one in outlines)})
    names = name_sessions([{"source_file": s.text if s.is_remote else s.name} for s in sources])
    outlines = tuple(replace(one, name=name) for one, name in zip(outlines, names, strict=True))
    return PoolPlan(outlines, n_units, choices, config, common_bins, tuple(find_mismatches(outlines))), {}


def _find_common_bins(outlines: Sequence[Outline], config: ReadConfig) -> Choice | None:
    """Return, as a choice, the widest bins, if the rules chose others for some files."""
    widths = [one.bin_size for one in outlines]
    if config.bin_size is not None or max(widths) <= min(widths) * (1 + 1e-6):
        return None
    reason = "the widest bins that the rules chose for any of the sessions; all are read with them"
    return Choice("common bins", f"{max(widths):g} s", reason)


def _outline(source: Source, config: ReadConfig) -> tuple[Source, Outline, int, tuple[Choice, ...]]:
    """Return a file, what decides whether it can be pooled with others, its number of units, and choices."""
    with open_session(source, follow_links=config.follow_links) as session:
        plan = plan_reading(session, config)
        return source, _describe_plan(session, plan), len(plan.objects.units), plan.choices


def _describe_plan(session: Session, plan: Plan) -> Outline:
    inputs = [column for signal in plan.objects.inputs for column in signal.columns]
    if not inputs:
        inputs = create_task_inputs(plan)[1]
    return Outline(
        name="",  # it depends on the names of the other files
        outputs=tuple(plan.objects.output_names),
        inputs=tuple(map(str, inputs)),
        conditions=tuple(dict.fromkeys(plan.conditions.tolist())),
        time=plan.time,
        bin_size=plan.window.bin_size,
        source=str(session.nwbfile.identifier),
        trials=frozenset(plan.trials.frame.index.tolist()),
        angles={name: unit for name, unit in plan.trials.angles.items() if name in plan.trials.shown},
    )
