"""Write a simulated circuit as an ordinary NWB file, and read the circuit back from it."""

import json
import uuid
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pynwb import NWBFile
from pynwb.file import Subject
from pynwb.misc import Units

from nwbrnn.errors import ExportError, MissingDataError
from nwbrnn.formats.nwb_file import write_nwbfile
from nwbrnn.formats.series import create_series
from nwbrnn.formats.tables import compress, create_table
from nwbrnn.schema import PARTIAL, TRIAL, UNIT, validate
from nwbrnn.storage import open_nwb, read_whole
from nwbrnn.timeline import Layer, lay_out

NEURON = "neuron"
CONFIG_NAME = "teacher_config"
OFFSET = "readout_offset"


def write_teacher(ds: xr.Dataset, path: str | Path, *, overwrite: bool = False) -> None:
    """Write a simulation as an NWB file that :func:`nwbrnn.read_nwb` and every NWB tool can read.

    Units hold Poisson or recorded spikes, placed evenly inside their bins; ``firing_rates`` holds the rates,
    ``EMG`` the outputs, and ``task_inputs`` the inputs. Trials follow one another in session time.

    Parameters
    ----------
    ds
        The Dataset from :func:`nwbrnn.simulate_teacher`, or any valid Dataset of a simulation.
    path
        The file to write.
    overwrite
        Whether to replace an existing file.

    Raises
    ------
    SchemaError
        If the Dataset breaks the contract.
    OutputExistsError
        If the file exists and ``overwrite`` is false.
    ExportError
        If trials overlap in session time, or the file cannot be written.

    Examples
    --------
    >>> import nwbrnn
    >>> ds = nwbrnn.simulate_teacher(nwbrnn.TeacherConfig(n_neurons=60, n_directions=3, n_trials=2))
    >>> nwbrnn.write_teacher(ds, "teacher.nwb", overwrite=True)
    >>> nwbrnn.read_nwb("teacher.nwb").sizes["unit"]
    60
    """
    validate(ds)
    _check_columns(ds, path)
    layers = lay_out(ds)
    if len(layers) > 1:
        raise ExportError(
            f"{path}: expected trials that do not overlap in session time, but some do; "
            "drop the coordinate align_time to place them one after another"
        )
    nwbfile = NWBFile(
        session_description="Simulation of a recurrent circuit that makes reaching movements.",
        identifier=str(uuid.uuid4()),
        session_start_time=datetime.now(UTC),
        experiment_description="Simulated circuit, made with nwbrnn; no animal was involved.",
        keywords=["simulation", "motor cortex", "recurrent neural network"],
        experimenter=["Simulation, Computer"],
        institution="simulated",
        was_generated_by=[("nwbrnn", version("nwbrnn"))],
        subject=Subject(
            subject_id="simulated",
            description="a simulated circuit; sex, species and age are placeholders",
            species="Macaca mulatta",
            sex="U",
            age="P0D",
        ),
    )
    _add_series(nwbfile, ds, layers[0])
    _add_units(nwbfile, ds, layers[0])
    _add_trials(nwbfile, ds)
    _add_circuit(nwbfile, ds)
    write_nwbfile(nwbfile, Path(path), overwrite=overwrite)


def _check_columns(ds: xr.Dataset, path: str | Path) -> None:
    """Refuse values and names that an NWB table cannot hold."""
    partial = [name for name in PARTIAL if name in ds and np.isnan(ds[name].values[ds["mask"].values]).any()]
    if partial:
        raise ExportError(
            f"{path}: {', '.join(partial)}: expected a simulation of all units and outputs, but some are NaN "
            "inside the mask; leave them out"
        )
    if "spike_counts" in ds:
        counts = ds["spike_counts"].values[ds["mask"].values]
        if not np.array_equal(counts, np.rint(counts)):
            raise ExportError(
                f"{path}: spike_counts: expected whole numbers, but some are fractions; give them as rates"
            )
    reserved = {str(name) for name, coord in ds.coords.items() if coord.dims == (TRIAL,)}
    reserved &= {"id", "tags", "timeseries"}
    if reserved:
        raise ExportError(
            f"{path}: {', '.join(sorted(reserved))}: NWB uses this name for something else; rename the array"
        )


def _add_series(nwbfile: NWBFile, ds: xr.Dataset, layer: Layer) -> None:
    """Add outputs, inputs and rates over session time."""
    outputs = create_series(
        "EMG",
        layer.flatten(ds["outputs"].values),
        layer.time,
        unit=ds["outputs"].attrs["units"],
        description="simulated muscle activity",
        columns=ds["output"].values.tolist(),
    )
    nwbfile.add_acquisition(outputs)
    nwbfile.add_stimulus(
        create_series(
            "task_inputs",
            layer.flatten(ds["inputs"].values),
            outputs,
            unit=ds["inputs"].attrs["units"],
            description="what the task shows the network",
            columns=ds["input"].values.tolist(),
        )
    )
    if "rates" in ds:
        module = nwbfile.create_processing_module("ecephys", "rates of the simulated neurons")
        module.add(
            create_series(
                "firing_rates",
                layer.flatten(ds["rates"].values),
                outputs,
                unit=ds["rates"].attrs["units"],
                description="firing rates, one column for each row of the units table",
            )
        )


def _add_units(nwbfile: NWBFile, ds: xr.Dataset, layer: Layer) -> None:
    """Add a unit for each neuron, with its spikes if there are counts."""
    bin_size = ds.attrs["bin_size"]
    labels = {NEURON: ds["unit"].values} | _name_columns(ds)
    for name in labels:
        nwbfile.add_unit_column(
            name, "number of the neuron, from 0" if name == NEURON else f"{name} of the neuron"
        )
    observed = _find_runs(layer.time, bin_size)
    counts = layer.flatten(ds["spike_counts"].values).astype(int) if "spike_counts" in ds else None
    for i in range(ds.sizes["unit"]):
        row = {name: values[i] for name, values in labels.items()}
        if counts is not None:
            row["spike_times"] = _place_spikes(counts[:, i], layer.time, bin_size)
            row["obs_intervals"] = observed
        nwbfile.add_unit(**row)
    if counts is not None:
        nwbfile.units.resolution = bin_size


def _name_columns(ds: xr.Dataset) -> dict[str, NDArray[Any]]:
    """Return the columns of the units, renamed where NWB gives a name another meaning."""
    taken = {"id", *(column["name"] for column in Units.__columns__)}
    columns: dict[str, NDArray[Any]] = {}
    for coordinate, values in ds.coords.items():
        name = str(coordinate)
        if values.dims != (UNIT,) or name == UNIT or values.dtype.kind not in "iufbU":
            continue
        short = name.removeprefix("unit_")
        column = next(one for one in (short, name, f"unit_{name}") if one not in taken)
        taken.add(column)
        columns[column] = values.values
    return columns


def _place_spikes(
    counts: NDArray[np.int64], centres: NDArray[np.float64], bin_size: float
) -> NDArray[np.float64]:
    """Return spike times placed evenly inside each bin: n spikes at (k + 1/2) / n of it."""
    bins = np.repeat(np.arange(len(counts)), counts)
    order = np.arange(len(bins)) - np.repeat(np.cumsum(counts) - counts, counts)
    fraction = (order + 0.5) / counts[bins]
    return np.asarray(centres[bins] + (fraction - 0.5) * bin_size)


def _find_runs(centres: NDArray[np.float64], bin_size: float) -> NDArray[np.float64]:
    """Return start and stop of each gapless stretch of bins, shape (n_runs, 2) [s]."""
    breaks = np.flatnonzero(np.diff(centres) > 1.5 * bin_size)
    first = np.concatenate([[0], breaks + 1])
    last = np.concatenate([breaks, [len(centres) - 1]])
    return np.stack([centres[first] - bin_size / 2, centres[last] + bin_size / 2], axis=1).round(9)


def _add_trials(nwbfile: NWBFile, ds: xr.Dataset) -> None:
    """Add the trial table: windows, go cue, condition and all other trial coordinates."""
    time, half = ds["time"].values, ds.attrs["bin_size"] / 2
    mask, align = ds["mask"].values, ds["align_time"].values
    columns = {
        str(name): coord.values
        for name, coord in ds.coords.items()
        if coord.dims == (TRIAL,) and name not in (TRIAL, "align_time", "start_time", "stop_time")
    }
    if time[0] < 0 < time[-1]:
        columns["go_cue_time"] = align.round(9)
    for name in columns:
        unit = ds[name].attrs.get("units") if name in ds.coords else "s"
        nwbfile.add_trial_column(name, f"{name} of the trial" + (f" [{unit}]" if unit else ""))
    for i, recorded in enumerate(mask):
        window = align[i] + time[recorded][[0, -1]] + [-half, half]
        row = {name: values[i] for name, values in columns.items()}
        nwbfile.add_trial(start_time=round(window[0], 9), stop_time=round(window[1], 9), **row)


def _add_circuit(nwbfile: NWBFile, ds: xr.Dataset) -> None:
    """Add what is needed to repeat the simulation: connectivity, readout and configuration."""
    if "connectivity" in ds or "readout" in ds:
        module = nwbfile.create_processing_module("misc", "the simulated circuit")
    if "connectivity" in ds:
        weights = compress(ds["connectivity"].values)
        text = "recurrent weights onto the neuron, one column for each presynaptic neuron"
        module.add(create_table("connectivity", "a row for each neuron", {"weights": (weights, text)}))
    if "readout" in ds:
        columns = {
            "muscle": (ds["output"].values.tolist(), "name of the muscle"),
            "weights": (ds["readout"].values, "muscle = weights x (rates - 20 Hz) + offset"),
        }
        if OFFSET in ds.coords:
            columns["offset"] = (ds[OFFSET].values, "see weights")
        module.add(create_table("readout", "a row for each muscle", columns))
    if "teacher" in ds.attrs:
        nwbfile.add_scratch(
            ds.attrs["teacher"], name=CONFIG_NAME, description="configuration of the simulation, JSON"
        )


def read_circuit(path: str | Path) -> tuple[NDArray[np.float64], dict[str, Any]]:
    """Read from a file the circuit and the settings that are needed to repeat its simulation.

    Parameters
    ----------
    path
        An NWB file from ``nwbrnn simulate``.

    Returns
    -------
    weights, settings
        Recurrent weights, shape (n_neurons, n_neurons), for :class:`nwbrnn.teacher.Circuit`, and the
        fields of :class:`nwbrnn.TeacherConfig`.

    Raises
    ------
    MissingDataError
        If the file holds no circuit or no configuration.

    Examples
    --------
    >>> import nwbrnn
    >>> ds = nwbrnn.simulate_teacher(nwbrnn.TeacherConfig(n_neurons=60, n_directions=3, n_trials=2))
    >>> nwbrnn.write_teacher(ds, "teacher.nwb", overwrite=True)
    >>> weights, settings = nwbrnn.read_circuit("teacher.nwb")
    >>> weights.shape, settings["n_directions"]
    ((60, 60), 3)
    """
    with open_nwb(path) as nwbfile:
        module = nwbfile.processing.get("misc")
        if module is None or "connectivity" not in module.data_interfaces:
            raise MissingDataError(
                "processing/misc/connectivity: expected a simulated circuit, but there is none; "
                "give a file from 'nwbrnn simulate'"
            )
        if CONFIG_NAME not in (nwbfile.scratch or {}):
            raise MissingDataError(
                f"scratch/{CONFIG_NAME}: expected the settings of a simulation, but there are none"
            )
        weights = read_whole(module["connectivity"]["weights"].data)
        return weights, dict(json.loads(nwbfile.scratch[CONFIG_NAME].data))


def attach_circuit(ds: xr.Dataset, nwbfile: NWBFile) -> xr.Dataset:
    """Add to a Dataset the simulated circuit and its readout, if the open file holds them.

    They are added only if all neurons were read, and no outputs other than muscles of the circuit, so that
    they belong together.
    """
    module, scratch = nwbfile.processing.get("misc"), nwbfile.scratch or {}
    if module is None or not {"connectivity", "readout"} <= set(module.data_interfaces):
        return ds
    n_units, outputs = ds.sizes["unit"], ds["output"].values.tolist()
    try:
        weights, readout = (read_whole(module[name]["weights"].data) for name in ("connectivity", "readout"))
        rows = {str(name): row for row, name in enumerate(read_whole(module["readout"]["muscle"].data))}
        offsets = read_whole(module["readout"]["offset"].data).astype(np.float64)
        config = str(scratch[CONFIG_NAME].data)
        whole = weights.shape == (n_units, n_units) and readout.shape == (len(rows), n_units)
        if not whole or offsets.shape != (len(rows),) or not np.isfinite(weights).all():
            return ds
        own = [rows[name] for name in outputs]
    except (KeyError, TypeError, ValueError, AttributeError):  # written by other software
        return ds
    parts = {
        "connectivity": (("unit", "presynaptic"), weights.astype(np.float64)),
        "readout": (("output", "unit"), readout[own].astype(np.float64)),
    }
    named = {name: xr.Variable(dims, values, {"units": "a.u."}) for name, (dims, values) in parts.items()}
    return ds.assign(named).assign_coords({OFFSET: ("output", offsets[own])}).assign_attrs(teacher=config)
