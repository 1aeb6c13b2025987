"""Fits of layout 1 and 2, in the terms of the present one: their units and trials were those of the file."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pynwb import NWBFile, ProcessingModule

from nwbrnn.readers.tables import read_plain_columns
from nwbrnn.schema import COORDINATES, VARIABLES

_TRIAL_COLUMNS = ("start_time", "stop_time", "source_row")


def describe_earlier(
    nwbfile: NWBFile, module: ProcessingModule, about: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any], dict[str, dict[str, NDArray[Any]]], list[tuple[int, Any]]]:
    """Return what a fit of an earlier layout says of its Datasets, as ``nwbrnn.readers.fit._Description``.

    Parameters
    ----------
    nwbfile
        A file of its own for the fit.
    module
        Of the fit.
    about
        Its settings and provenance.
    """
    columns = _read_columns(nwbfile, module)
    units = {spec.name: spec.units for spec in (*VARIABLES, *COORDINATES) if spec.units}
    coords = {
        name: _describe(values, [dim], units.get(name), column=name)
        for dim in ("trial", "unit")
        for name, values in columns[dim].items()
    }
    outputs = read_plain_columns(module["outputs"])
    inputs = read_plain_columns(module["input_names"])
    for name, dim, values in (
        ("time", "time", np.array(about["time"])),
        ("output", "output", outputs["output_name"]),
        ("output_scale", "output", outputs["scale"]),
        ("output_units", "output", outputs["unit"]),
        ("input", "input", inputs["input_name"]),
    ):
        coords[name] = _describe(values, [dim], units.get(name), values=values)
    units |= {"outputs": "1", "inputs": str(module["inputs"].unit), "rates": "Hz"}

    def describe(*names: str, **types: str) -> dict[str, Any]:
        return {n: {"dtype": types.get(n, "<f4"), "attrs": {"units": units[n]}} for n in names}

    recorded = describe("outputs", "inputs", "mask", "rates", mask="|b1")
    if "recorded_spike_counts" in module.data_interfaces:
        dtype = module["recorded_spike_counts"].data.dtype.str
        recorded |= describe("spike_counts", spike_counts=dtype)
    predicted = describe("outputs", "inputs", "mask", "rates", "hidden", mask="|b1")
    windows = module["windows"]
    trials = [
        (int(row), windows["timeseries"][i]) for i, row in enumerate(np.asarray(windows["trial"].data[:]))
    ]
    described = {"attrs": about["dataset_attrs"], "coords": coords, "variables": recorded}
    return described, predicted, columns, trials


def _describe(array: NDArray[Any], dims: list[str], unit: str | None, **where: Any) -> dict[str, Any]:
    return {"dims": dims, "dtype": array.dtype.str, "attrs": {"units": unit} if unit else {}} | where


def _read_columns(nwbfile: NWBFile, module: ProcessingModule) -> dict[str, dict[str, NDArray[Any]]]:
    """Return the coordinates of trials and units."""
    units = read_plain_columns(nwbfile.units)
    trials = read_plain_columns(nwbfile.trials)
    of_module = read_plain_columns(module["recorded_units"])
    of_units = {"unit": units.pop("source_row")} | units
    of_units |= {name: of_module[name] for name in ("sampled", "rate_scale", "rate_offset")}
    of_trials = {"trial": trials["source_row"]}
    of_trials |= {name: values for name, values in trials.items() if name not in _TRIAL_COLUMNS}
    for name in ("start_time", "stop_time"):
        if f"source_{name}" in of_trials:
            of_trials[name] = of_trials.pop(f"source_{name}")
    return {"trial": of_trials, "unit": of_units}
