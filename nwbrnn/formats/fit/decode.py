"""read_fit: rebuild a fit from the file that ``write_fit`` exported."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pynwb import NWBFile, ProcessingModule
from pynwb.base import TimeSeriesReference

from nwbrnn.config import FitConfig
from nwbrnn.config.check import parse_settings
from nwbrnn.errors import ConfigError, MissingDataError, ReadError
from nwbrnn.evaluation import Score, Scores
from nwbrnn.formats.fit.contract import check_attributes, list_faults, parse_about
from nwbrnn.formats.fit.coordinates import restore_values
from nwbrnn.formats.fit.layout import (
    MATRICES,
    OPTIONAL,
    SERIES,
    TRANSPOSED,
    WEIGHTS,
    is_module_of_fit,
    name_module,
    name_scratch,
    name_series,
)
from nwbrnn.formats.series import read_stamps
from nwbrnn.formats.tables import read_plain_columns
from nwbrnn.preprocessing import list_sessions
from nwbrnn.result import FitResult, Run
from nwbrnn.schema import VARIABLES, validate
from nwbrnn.storage import find_source, format_error, open_nwb, read_whole

_DIMS = {spec.name: spec.dims for spec in VARIABLES}


def read_fit(path: str | Path, name: str | None = None) -> FitResult:
    """Read a fit back from an NWB file to which :func:`nwbrnn.write_fit` wrote it.

    Parameters
    ----------
    path
        An NWB file with a processing module ``nwbrnn`` or ``nwbrnn_NAME``: a path or an address.
    name
        Name of the fit, if the file holds several.

    Returns
    -------
    FitResult
        The fit as it was written. Since the file holds outputs in their recorded unit, float32 comes back
        exactly and float64 to its last digit.

    Raises
    ------
    UnsupportedFileError
        If the file is not NWB, or if this version does not know its layout.
    MissingDataError
        If the file holds no fit, or a part of it is missing.
    ConfigError
        If the file holds several fits and none is named.

    Examples
    --------
    >>> import nwbrnn
    >>> result = nwbrnn.fit(nwbrnn.read_nwb(example), sampled=3, min_rate=0, hidden=20, epochs=2)
    >>> path = nwbrnn.write_fit(result, example, "fit.nwb", overwrite=True)
    >>> nwbrnn.read_fit("fit.nwb").config == result.config
    True
    """
    source = find_source(path)
    path = source.text  # as open_nwb names the file
    with open_nwb(source, follow_links=False) as nwbfile:
        module = _find_module(nwbfile, name, path=path)
        try:
            return _read(nwbfile, module, path=path)
        except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
            if isinstance(error, ConfigError | ReadError):
                raise
            raise ReadError(
                f"{path}: processing/{module.name}: expected the layout of docs/nwb_export.md, but a part is "
                f"missing or changed ({format_error(error)}); fit again"
            ) from error


def list_fits(nwbfile: NWBFile) -> list[str]:
    """Return the processing modules of a file that hold a fit."""
    scratch = nwbfile.scratch or {}
    return [m for m in nwbfile.processing if is_module_of_fit(m) and name_scratch(m) in scratch]


def read_versions(path: str | Path, name: str | None = None) -> dict[str, str]:
    """Return the versions of the software that made a fit, by name; arguments as for :func:`read_fit`."""
    source = find_source(path)
    path = source.text
    with open_nwb(source) as nwbfile:
        about = _read_about(nwbfile, _find_module(nwbfile, name, path=path), path=path)
    return dict(about["versions"])


def find_fit_sources(path: str | Path, recorded: xr.Dataset) -> list[str]:
    """Return the locations of a fit's recordings: in the same file, at the original address, or next to it.

    There is one for each session of a pool, in their order, and one for any other fit.
    """
    abouts = list_sessions(recorded)
    objects = set(abouts[0].get("source_objects", {}).values())
    with open_nwb(path) as nwbfile:
        if len(abouts) == 1 and objects and objects <= set(nwbfile.objects):
            return [str(path)]
    texts = [str(about.get("source_file", "")) for about in abouts]
    repeated = sorted({text for text in texts if text and "://" not in text and texts.count(text) > 1})
    if repeated:
        raise MissingDataError(
            f"{path}: expected files of different names, but several sessions were in files called "
            f"{', '.join(repeated)}; give them with source (--source), once for each session"
        )
    found = {text: text if "://" in text else str(Path(path).parent / Path(text).name) for text in texts}
    missing = [text for text in texts if not text or ("://" not in text and not Path(found[text]).exists())]
    if missing:
        names = ", ".join(text or "of unknown name" for text in missing)
        raise MissingDataError(
            f"{path}: expected the file that was fitted, {names}, next to it, but it is not there; give it "
            "with source (--source)" + (", once for each session" if len(abouts) > 1 else "")
        )
    return [found[text] for text in texts]


def find_start(path: str | Path, start_from: str | None) -> str | None:
    """Return where the earlier fit is at whose weights a fit began: at its address, or beside the fit."""
    if start_from is None or "://" in start_from:
        return start_from
    beside = Path(path).parent / Path(start_from).name
    if not beside.exists():
        raise MissingDataError(
            f"{path}: expected the fit at whose weights it began, {start_from}, beside it, but it is not "
            "there; give it with start_from (--start-from)"
        )
    return str(beside)


def _find_module(nwbfile: NWBFile, name: str | None, *, path: str | Path) -> ProcessingModule:
    """Return the module of the named fit, or of the only one."""
    found = list_fits(nwbfile)
    wanted = name_module(name)
    if name is None and len(found) == 1:
        return nwbfile.processing[found[0]]
    if wanted in found:
        return nwbfile.processing[wanted]
    if not found:
        raise MissingDataError(
            f"{path}: processing/{wanted}: expected a fit, but the file has none; make one with 'nwbrnn fit'"
        )
    names = ", ".join(module.removeprefix("nwbrnn_") for module in found)
    if name is None:
        raise ConfigError(f"{path}: expected one fit, but there are several; choose one by its name: {names}")
    raise MissingDataError(f"{path}: processing/{wanted}: expected a fit, but there are only: {names}")


def _read(nwbfile: NWBFile, module: ProcessingModule, *, path: str | Path) -> FitResult:
    where = f"{path}: scratch/{name_scratch(module.name)}"
    about = _read_about(nwbfile, module, path=path)
    config = parse_settings(FitConfig, about["config"], source=where)
    dataset = about["dataset"]
    check_attributes(dataset["attrs"], source=where)
    rows = _read_rows(module)
    coords = _read_coords(module, dataset["coords"], order=np.argsort(rows))
    arrays, mask = _read_arrays(module, rows, coords, dataset["attrs"])
    matrices = {
        name: np.asarray(module[table][f"teacher_{name}"].data[:])
        for name, table in MATRICES.items()
        if name in dataset["variables"]
    }
    _forget_permission(dataset["attrs"])
    recorded = _build(dataset, {**arrays, **matrices, "mask": mask}, coords, dataset="recorded")
    about_predicted = {"attrs": {"bin_size": recorded.attrs["bin_size"]}, "variables": about["predicted"]}
    predicted = _build(about_predicted, {**arrays, "mask": mask}, coords, dataset="predicted")
    runs = _read_runs(module, recorded)
    result = FitResult(recorded=recorded, predicted=predicted, runs=runs, config=config)
    faults = list(list_faults(result))
    if faults:
        raise ReadError(f"{path}: processing/{module.name}: {'; '.join(faults[:5])}; fit again")
    return result


def _read_about(nwbfile: NWBFile, module: ProcessingModule, *, path: str | Path) -> dict[str, Any]:
    """Return the settings and provenance of a fit."""
    name = name_scratch(module.name)
    return parse_about(nwbfile.scratch[name].data, source=f"{path}: scratch/{name}")


def _forget_permission(attrs: dict[str, Any]) -> None:
    """Revoke the permission to follow links in the source, which a file from another person cannot give."""
    if "read_config" in attrs:
        config = json.loads(attrs["read_config"])
        if config.get("follow_links"):
            attrs["read_config"] = json.dumps(config | {"follow_links": False})
    sessions = json.loads(attrs.get("sessions") or "[]")
    permitted = [one["read_config"] for one in sessions if (one.get("read_config") or {}).get("follow_links")]
    for config in permitted:
        config["follow_links"] = False
    if permitted:
        attrs["sessions"] = json.dumps(sessions)


def _read_rows(module: ProcessingModule) -> NDArray[np.integer]:
    """Return the position in the Dataset of each trial of the table."""
    rows = np.asarray(module["trials"]["row"].data[:])
    if not np.array_equal(np.sort(rows), np.arange(len(rows))):
        raise ValueError(f"trials/row: expected each from 0 to {len(rows) - 1} once, but got others")
    return rows


def _read_windows(module: ProcessingModule) -> list[list[TimeSeriesReference]]:
    """Return the samples of each trial in the series; a Zarr store has no references to parts of series."""
    table = module["trials"]
    if "timeseries" in table.colnames:
        return [table["timeseries"][i] for i in range(len(table))]
    columns = (table[name].data[:].tolist() for name in ("first_sample", "n_samples", "layer"))
    return [
        [
            TimeSeriesReference(first, count, module[name_series(name, layer)])
            for name in SERIES
            if name_series(name, layer) in module.data_interfaces
        ]
        for first, count, layer in zip(*columns, strict=True)
    ]


def _read_coords(
    module: ProcessingModule, abouts: Mapping[str, Any], *, order: NDArray[np.integer]
) -> dict[str, xr.Variable]:
    """Return all coordinates with their original types; ``order`` is that of the trials in the Dataset."""
    trials = read_plain_columns(module["trials"], max_width=0)
    columns = {
        "trial": {name: values[order] for name, values in trials.items()},
        "unit": read_plain_columns(module["recorded_units"], max_width=0),
    }
    coords = {}
    for name, about in abouts.items():
        values = columns[about["dims"][0]][about["column"]] if "column" in about else about["values"]
        restored = restore_values(name, values, about["dtype"])
        coords[name] = xr.Variable(about["dims"], restored, about["attrs"])
    return coords


def _read_arrays(
    module: ProcessingModule,
    rows: NDArray[np.integer],
    coords: Mapping[str, xr.Variable],
    attrs: Mapping[str, Any],
) -> tuple[dict[str, NDArray[Any]], NDArray[np.bool_]]:
    """Return every series, shape (n_trials, n_time, n_channels), with NaN outside the mask, and the mask."""
    time, align = coords["time"].values, coords["align_time"].values
    mask = np.zeros((len(align), len(time)), dtype=bool)
    arrays: dict[str, NDArray[Any]] = {}
    loaded: dict[str, tuple[NDArray[Any], NDArray[np.float64]]] = {}
    for trial, references in zip(rows.tolist(), _read_windows(module), strict=True):
        for reference in references:
            series = reference.timeseries
            if series.name not in loaded:
                loaded[series.name] = read_whole(series.data), read_stamps(series)
            data, stamps = loaded[series.name]
            samples = slice(reference.idx_start, reference.idx_start + reference.count)
            name = series.name.rstrip("0123456789").removesuffix("_")  # without the number of its layer
            lag = float(attrs.get("neural_lag", 0.0)) if name.endswith("outputs") else 0.0
            bins = np.rint((stamps[samples] - lag - align[trial] - time[0]) / attrs["bin_size"])
            if not ((bins >= 0) & (bins < len(time))).all():
                raise ValueError(f"{series.name}: expected samples at the times of the trials")
            if name not in arrays:
                fill = np.nan if data.dtype.kind == "f" else 0
                arrays[name] = np.full((*mask.shape, data.shape[1]), fill, dtype=data.dtype)
            arrays[name][trial, bins.astype(int)] = data[samples]
            mask[trial, bins.astype(int)] = True
    return arrays, mask


def _build(
    about: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    coords: Mapping[str, xr.Variable],
    *,
    dataset: str,
) -> xr.Dataset:
    """Build a Dataset from its description and arrays."""
    stored = {variable: name for name, (owner, variable, _) in SERIES.items() if owner == dataset}
    variables = {}
    for name, one in about["variables"].items():
        values = arrays[stored.get(name, name)].astype(one["dtype"])
        variables[name] = (_DIMS[name], values, one["attrs"])
    ds = xr.Dataset(variables, coords=dict(coords), attrs=dict(about["attrs"]))
    return validate(ds)


def _read_weights(module: ProcessingModule) -> dict[str, NDArray[np.floating]]:
    weights = {}
    for name, (table, column, _) in WEIGHTS.items():
        if name in OPTIONAL and column not in module[table].colnames:  # this network has none
            continue
        values = np.asarray(module[table][column].data[:])
        weights[name] = np.ascontiguousarray(values.T) if name in TRANSPOSED else values
    return weights


def _read_runs(module: ProcessingModule, recorded: xr.Dataset) -> tuple[Run, ...]:
    """Return the networks, best first."""
    best = _read_weights(module)
    table = read_plain_columns(module["runs"])
    runs = []
    for row, seed in enumerate(table["seed"].tolist()):
        weights = {name: np.asarray(module["runs"][name].data[row]) for name in best} if row else best
        runs.append(
            Run(
                seed=seed,
                weights=weights,
                history=_read_history(module, seed),
                loss=float(table["loss"][row]) if "loss" in table else float("nan"),
                ended=str(table["ended"][row]),  # type: ignore[arg-type]
                free_run=float(table["free_run"][row]) if "free_run" in table else float("nan"),
                scores=_read_scores(module, recorded, seed=seed, row=row),
            )
        )
    return tuple(runs)


def _read_history(module: ProcessingModule, seed: int) -> dict[str, list[float]]:
    """Return the losses of one network."""
    columns = {str(name): np.asarray(module["history"][name].data[:]) for name in module["history"].colnames}
    mine = columns.pop("seed") == seed
    history = {}
    for name, values in columns.items():
        losses = values[mine]
        known = np.flatnonzero(~np.isnan(losses))  # NaN pads the shorter columns
        history[name] = losses[: known.max(initial=-1) + 1].tolist()
    return history


def _read_scores(module: ProcessingModule, recorded: xr.Dataset, *, seed: int, row: int) -> Scores:
    """Return the stored scores of one network; columns omitted because they were all NaN become NaN."""

    def column(table: str, name: str, n_rows: int) -> NDArray[np.float64]:
        columns = read_plain_columns(module[table])
        earlier = name.replace("known_average", "ceiling")  # its name before there was a noise ceiling
        return np.asarray(columns.get(name, columns.get(earlier, np.full(n_rows, np.nan))))

    def of_run(table: str, name: str, n_rows: int) -> NDArray[np.float64]:
        if row == 0:
            return column(table, "r2", n_rows)
        runs = module["runs"]
        return np.asarray(runs[name].data[row]) if name in runs.colnames else np.full(n_rows, np.nan)

    names = read_plain_columns(module["scores"])
    n_scores = len(names["score"])
    values, known = (column("scores", name, n_scores) for name in ("value", "known_average"))
    summary = [
        Score(str(names["score"][i]), str(names["level"][i]), float(values[i]), float(known[i]))
        for i in np.flatnonzero(names["seed"] == seed)
    ]
    n_outputs, n_units = recorded.sizes["output"], recorded.sizes["unit"]
    return Scores(
        summary=tuple(summary),
        output_r2=of_run("outputs", "output_r2", n_outputs),
        output_known_average=column("outputs", "r2_known_average", n_outputs),
        unit_r2=of_run("recorded_units", "unit_r2", n_units),
        unit_known_average=column("recorded_units", "r2_known_average", n_units),
    )
