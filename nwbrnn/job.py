"""The main job: fit a network to a Dataset and score it."""

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn

import numpy as np
import xarray as xr

from nwbrnn.addresses import strip_secrets
from nwbrnn.config import FitConfig, ReadConfig
from nwbrnn.config.check import parse_settings
from nwbrnn.dataset import Choice, add_choice
from nwbrnn.errors import ConfigError, ReadError
from nwbrnn.evaluation import evaluate
from nwbrnn.formats.fit.decode import read_fit
from nwbrnn.prediction import fit_rate_readout, measure_free_run, predict
from nwbrnn.preprocessing import is_pooled, list_sessions, prepare
from nwbrnn.progress import show_training
from nwbrnn.readers import read_nwb, reread_sessions
from nwbrnn.result import FitResult, Run
from nwbrnn.storage.lock import hold
from nwbrnn.storage.paths import name_beside
from nwbrnn.threads import limit_threads
from nwbrnn.training import (
    Progress,
    Task,
    Trained,
    Weights,
    adopt_weights,
    check_start,
    choose_settings,
    describe_match,
    hash_weights,
    match_units,
    train,
    train_all,
)

IN_MEMORY = "a fit in memory"
"""What stands for ``start_from`` in the settings of a fit that began at a FitResult."""


FREE = 2
"""A pool gets at least this many hidden units for each sampled neuron: the neuron's own, and a free one."""


@limit_threads()
def fit(
    ds: xr.Dataset,
    config: FitConfig | None = None,
    *,
    progress: Progress | Literal[False] | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
    **settings: Any,
) -> FitResult:
    """Fit a recurrent network to the outputs and the sampled neurons of a Dataset.

    Parameters
    ----------
    ds
        The Dataset from :func:`nwbrnn.read_nwb` or :func:`nwbrnn.simulate_teacher`, or any valid one.
    config
        The settings of the fit; the defaults if not given.
    progress
        Called after each epoch, or with several seeds after each network, with its number and its losses by
        name. Ctrl-C, or a KeyboardInterrupt that it raises, ends training with the best weights so far. By
        default, a notebook shows the errors on a line that changes; ``False`` shows nothing.
    checkpoint
        File in which to store the state of training; with several seeds, each has a file of its own next to
        it.
    resume
        Whether to continue from the checkpoint, if there is one.
    **settings
        Fields of :class:`nwbrnn.FitConfig`, such as ``sampled`` and ``dynamics_weight``; they override those
        of ``config``. ``start_from`` may also be a FitResult.

    Returns
    -------
    FitResult
        The networks, their scores on the test trials, and the predictions of the best one for all trials.

    Raises
    ------
    SchemaError
        If the Dataset breaks the contract.
    ConfigError
        If a setting is unknown or does not fit the data, if the checkpoint belongs to another fit, or if the
        fit of ``start_from`` does not suit.
    TrainingDivergedError
        If the loss stops being finite.
    ExportError
        If another fit is using the checkpoint, or it cannot be written.

    Examples
    --------
    >>> import nwbrnn
    >>> ds = nwbrnn.read_nwb(example)
    >>> result = nwbrnn.fit(ds, sampled=3, min_rate=0, hidden=20, epochs=2)
    >>> int(result.recorded["sampled"].sum())
    3
    """
    given = (config or FitConfig()).model_dump() | settings
    start = given["start_from"]
    given["start_from"] = IN_MEMORY if isinstance(start, FitResult) else start and str(start)
    config = parse_settings(FitConfig, given, source="fit")
    earlier = _read_earlier(start) if start else None
    if earlier is not None:  # an address may hold secrets
        config = config.model_copy(update={"start_from": strip_secrets(str(config.start_from))})
    seeds = range(config.seed, config.seed + config.seeds)
    with hold(checkpoint) if checkpoint is not None else nullcontext(), _report(progress, config) as report:
        saved = _Saved(checkpoint, resume)
        return _fit(ds, config, seeds, earlier=earlier, saved=saved, progress=report)


def _report(
    given: Progress | Literal[False] | None, config: FitConfig
) -> AbstractContextManager[Progress | None]:
    """Return what to tell how far a fit is: what was given, or a line of a notebook."""
    return show_training(*config.counted) if given is None else nullcontext(given or None)


class _Saved(NamedTuple):
    """Where a fit keeps its state, and whether it goes on from there."""

    checkpoint: Path | None = None
    resume: bool = False


_UNSAVED = _Saved()


def _fit(
    ds: xr.Dataset,
    config: FitConfig,
    seeds: Sequence[int],
    *,
    earlier: FitResult | None = None,
    saved: _Saved = _UNSAVED,
    progress: Progress | None = None,
) -> FitResult:
    """Fit a network for each seed."""
    recorded = prepare(ds, config)
    recorded, config = make_room(recorded, config)
    starts: Sequence[Weights | None] = [None] * len(seeds)
    if earlier is not None:
        recorded, starts = _begin_at(earlier, recorded, config, seeds)
    checkpoint, resume = saved
    if "cv" in (config.dynamics_weight, config.weight_penalty):
        choice = choose_settings(recorded, config, progress=progress)
        config = config.model_copy(update=choice.settings)
        recorded.attrs["cross_validation"] = json.dumps(choice.candidates)
    configs = [config.model_copy(update={"seed": seed, "seeds": 1}) for seed in seeds]
    if len(configs) == 1:
        trained = {
            0: train(
                recorded, configs[0], progress=progress, checkpoint=checkpoint, resume=resume, start=starts[0]
            )
        }
    else:
        files = list_checkpoints(checkpoint, config) if checkpoint else [None] * len(configs)
        tasks = [
            Task(recorded, c, file, resume, start)
            for c, file, start in zip(configs, files, starts, strict=True)
        ]
        trained = train_all(tasks, progress=progress)
    runs = [_finish(recorded, one, configs[number]) for number, one in sorted(trained.items())]
    runs.sort(key=lambda run: run.loss)
    predicted = predict(recorded, runs[0].weights, config)
    return FitResult(recorded=recorded, predicted=predicted, runs=tuple(runs), config=config)


def make_room(recorded: xr.Dataset, config: FitConfig) -> tuple[xr.Dataset, FitConfig]:
    """Return settings with hidden units for the sampled neurons of all sessions, and as many free ones."""
    needed = FREE * int(recorded["sampled"].values.sum())
    if not is_pooled(recorded) or config.hidden >= needed or config.start_from is not None:
        return recorded, config
    reason = f"{FREE} for each sampled neuron of all sessions; {config.hidden} (hidden) would be fewer"
    choice = Choice("hidden units", str(needed), reason)
    return add_choice(recorded, choice), config.model_copy(update={"hidden": needed})


def _read_earlier(start: FitResult | str | Path) -> FitResult:
    """Return the fit at whose weights another begins."""
    if isinstance(start, FitResult):
        return start
    if start == IN_MEMORY:
        raise ConfigError(
            f"start_from: expected a fit or its file, but got {IN_MEMORY!r}, which stands for a fit "
            "that was in no file; give the fit again"
        )
    return read_fit(start)


def _begin_at(
    earlier: FitResult, recorded: xr.Dataset, config: FitConfig, seeds: Sequence[int]
) -> tuple[xr.Dataset, list[Weights | None]]:
    """Return the weights at which the network of each seed begins, and the Dataset that says so."""
    name = str(config.start_from)
    check_start(earlier.recorded, earlier.config, recorded, config, name=name)
    by_seed = {run.seed: run.weights for run in earlier.runs}
    missing = [seed for seed in seeds if seed not in by_seed]
    if config.seeds > 1 and missing:
        raise ConfigError(
            f"seeds: expected networks of {name} to start from, but it has none of the seeds "
            f"{', '.join(map(str, missing[:20]))}; fit it with these seeds, or fit one network (seeds "
            "1), which starts from the best"
        )
    chosen = [by_seed[seed] for seed in seeds] if config.seeds > 1 else [earlier.weights]
    match = match_units(earlier.recorded, earlier.config, recorded)
    recorded = add_choice(recorded, describe_match(match, earlier.recorded, recorded, name=name))
    recorded.attrs["start_weights"] = hash_weights([by_seed[run.seed] for run in earlier.runs])
    return recorded, [adopt_weights(one, earlier.recorded, recorded, config, match) for one in chosen]


@limit_threads()
def refit(
    stored: FitResult,
    source: str | Path | Sequence[str | Path],
    *,
    start_from: FitResult | str | Path | None = None,
    progress: Progress | Literal[False] | None = None,
) -> FitResult:
    """Repeat a fit from its source: read, prepare and train again with the stored settings.

    Parameters
    ----------
    stored
        The fit that :func:`nwbrnn.read_fit` returned.
    source
        The NWB file that was fitted, or another file with the same data; for a pool, those of all sessions
        in their order.
    start_from
        The earlier fit at whose weights this one began, or its file; needed if it began at one.
    progress
        As for :func:`fit`.

    Returns
    -------
    FitResult
        The repeated fit; its weights are the same on the same machine with the same versions.

    Raises
    ------
    ReadError
        If the source cannot be read, or its data differ from those that were fitted.
    ConfigError
        If the fit does not record how its data were read, or began at other weights than those of
        ``start_from``.

    Examples
    --------
    >>> import nwbrnn
    >>> result = nwbrnn.fit(nwbrnn.read_nwb(example), sampled=3, min_rate=0, hidden=20, epochs=2)
    >>> again = nwbrnn.refit(result, example)
    >>> bool((again.weights["bias"] == result.weights["bias"]).all())
    True
    """
    earlier = _find_earlier(stored, start_from)
    files = [source] if isinstance(source, str | Path) else list(source)
    ds = read_again(stored, files)
    # the seeds of the stored networks only: after an interrupt, there are fewer than requested
    seeds = sorted(run.seed for run in stored.runs)
    with _report(progress, stored.config) as report:
        return _fit(ds, stored.config, seeds, earlier=earlier, progress=report)


def read_again(stored: FitResult, files: Sequence[str | Path]) -> xr.Dataset:
    """Read the file of a fit, or the files of a pool, with the stored settings, and refuse other data.

    Parameters
    ----------
    stored
        The fit.
    files
        The file, or those of all sessions in their order.

    Raises
    ------
    ConfigError
        If the number of files is another one, or the fit does not record how its data were read.
    ReadError
        If a file cannot be read, or holds other data than those that were fitted.
    """
    ds = _read_files(stored.recorded, files)
    different = _compare_recorded(prepare(ds, stored.config), stored.recorded)
    if different:
        _explain_difference(stored.recorded, ds, files, different)
    return ds


def _read_files(recorded: xr.Dataset, files: Sequence[str | Path]) -> xr.Dataset:
    """Read the file of a fit, or the files of a pool, with the stored settings."""
    if is_pooled(recorded):
        return reread_sessions(files, recorded)
    if len(files) != 1:
        raise ConfigError(
            f"source: expected one file, since the fit has one session, but got {len(files)}; give only it"
        )
    about = list_sessions(recorded)[0]
    if "read_config" not in about:
        raise ConfigError(
            "read_config: expected a fit of a Dataset that read_nwb made, but this fit does not record how "
            "its data were read; fit the Dataset again"
        )
    return read_nwb(files[0], parse_settings(ReadConfig, about["read_config"], source="read_config"))


def _explain_difference(
    stored: xr.Dataset, again: xr.Dataset, files: Sequence[str | Path], different: Sequence[str]
) -> NoReturn:
    """Refuse files with other data than those that were fitted."""
    for file, about, now in zip(files, list_sessions(stored), list_sessions(again), strict=True):
        ours, theirs = (one.get("source_identifier") for one in (about, now))
        if ours != theirs:
            raise ReadError(
                f"{file}: expected the file that was fitted, {about.get('source_file')} with the identifier "
                f"{ours!r}, but this one has {theirs!r} and other data; name the right one (--source)"
            )
    raise ReadError(
        f"{', '.join(map(str, files))}: expected the data that were fitted, but {', '.join(different)} "
        "differ; the file has changed, or it is another file, or the Dataset was changed before it was fitted"
    )


def _find_earlier(stored: FitResult, start: FitResult | str | Path | None) -> FitResult | None:
    """Return the fit at whose weights a stored one began, if it began at any."""
    name = stored.config.start_from
    if name is None and start is None:
        return None
    if name is None or start is None:
        wanted = "no earlier fit, since this one began at random weights" if name is None else f"{name}"
        raise ConfigError(
            f"start_from: expected {wanted}, but got {'one' if name is None else 'none'}; "
            + (
                "leave it out"
                if name is None
                else "give the fit at whose weights this one began (--start-from)"
            )
        )
    earlier = _read_earlier(start)
    if hash_weights([run.weights for run in earlier.runs]) != stored.recorded.attrs.get("start_weights"):
        raise ConfigError(
            f"start_from: expected the fit at whose weights this one began, {name}, but the weights of "
            "the given one are others; give the right one (--start-from)"
        )
    return earlier


def predict_gated(stored: FitResult) -> xr.Dataset:
    """Fit a gated recurrent network to the same trials and return its predictions, as a baseline.

    Parameters
    ----------
    stored
        A fit. The baseline has the same settings, except those that a gated recurrent network does not use,
        and it observes no neurons.
    """
    plain = FitConfig()
    unused = ("nonlinearity", "tau", "learn_tau", "substeps", "excitatory", "density", "rank", "observe")
    update: dict[str, Any] = {name: getattr(plain, name) for name in unused}
    update |= {"network": "gru", "method": "auto", "seed": stored.best.seed, "seeds": 1}
    update |= {"start_from": None, "freeze": (), "stop_after": None}
    if stored.config.precision == "bfloat16":
        update["precision"] = plain.precision
    config = stored.config.model_copy(update=update)
    weights = train(stored.recorded, config).weights
    weights = weights | fit_rate_readout(stored.recorded, weights, config)
    return predict(stored.recorded, weights, config)


def _compare_recorded(again: xr.Dataset, stored: xr.Dataset) -> list[str]:
    """Return the names of variables and coordinates that differ."""
    names = sorted({*map(str, again.variables), *map(str, stored.variables)})
    return [name for name in names if not _is_same(again, stored, name)]


def _is_same(again: xr.Dataset, stored: xr.Dataset, name: str) -> bool:
    if name not in again.variables or name not in stored.variables:
        return False
    first, second = again[name].values, stored[name].values
    if first.shape != second.shape:
        return False
    return bool(np.array_equal(first, second, equal_nan=first.dtype.kind == "f"))


def list_checkpoints(checkpoint: Path, config: FitConfig) -> list[Path]:
    """Return the checkpoint of each seed."""
    if config.seeds == 1:
        return [checkpoint]
    seeds = range(config.seed, config.seed + config.seeds)
    return [name_beside(checkpoint, f"{checkpoint.name}.{seed}") for seed in seeds]


def _finish(recorded: xr.Dataset, trained: Trained, config: FitConfig) -> Run:
    """Add the readout of all units and the scores to a trained network."""
    weights = trained.weights | fit_rate_readout(recorded, trained.weights, config)
    predicted = predict(recorded, weights, config)
    return Run(
        seed=config.seed,
        weights=weights,
        history=trained.history,
        loss=trained.loss,
        ended=trained.ended,
        free_run=measure_free_run(recorded, weights, config),
        scores=evaluate(recorded, predicted),
    )
