"""Declare and check the contract of the Dataset that passes between all parts.

Nothing in this module reads, computes or repairs. A new variable is one more :class:`VariableSpec`.
"""

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwbrnn.errors import SchemaError
from nwbrnn.text import show_count

TRIAL, TIME, UNIT, OUTPUT, INPUT = "trial", "time", "unit", "output", "input"
SESSION, SESSION_OF_UNIT, RECORDING = "session", "session_of_unit", "recording"  # of pooled sessions
HIDDEN_UNIT = "hidden_unit"  # xarray turns a variable with the name of a dimension into a coordinate

LARGEST = 1e15
"""The largest allowed value; sums of squares of larger values would not be finite in float32."""

FLOAT, NUMBER, BOOL, TEXT = "f", "iuf", "b", "UTO"
"""Allowed NumPy dtype kinds (``T`` is NumPy's variable-width string)."""


@dataclass(frozen=True)
class VariableSpec:
    """One variable or coordinate of the Dataset."""

    name: str
    dims: tuple[str, ...]
    kinds: str
    text: str
    required: bool = True
    units: str | None = None
    """The required unit; with ``None``, ``attrs["units"]`` must be set but may name any unit."""


VARIABLES = (
    VariableSpec("outputs", (TRIAL, TIME, OUTPUT), FLOAT, "muscles, force or kinematics"),
    VariableSpec("inputs", (TRIAL, TIME, INPUT), FLOAT, "what the task shows the subject"),
    VariableSpec("mask", (TRIAL, TIME), BOOL, "True where a bin was recorded", units="1"),
    VariableSpec("rates", (TRIAL, TIME, UNIT), FLOAT, "firing rates", False),
    VariableSpec("spike_counts", (TRIAL, TIME, UNIT), NUMBER, "spikes per bin", False, "1"),
    VariableSpec("hidden", (TRIAL, TIME, HIDDEN_UNIT), FLOAT, "rates of hidden units", False, "1"),
    VariableSpec("connectivity", (UNIT, "presynaptic"), FLOAT, "weights of a simulated circuit", False),
    VariableSpec("readout", (OUTPUT, UNIT), FLOAT, "from rates to muscles of a simulated circuit", False),
)
"""Outside the mask, nothing was recorded: numbers with decimals are NaN, and whole numbers are 0. Inside it,
NaN in one of :data:`PARTIAL` says that this unit or output was not observed in this bin of this trial.
"""

MASKED = tuple(spec.name for spec in VARIABLES if spec.dims[:2] == (TRIAL, TIME) and spec.kinds != BOOL)
"""Variables whose values have no meaning outside the mask."""

PARTIAL = ("outputs", "rates", "spike_counts")
"""Variables that may be NaN inside the mask. Spike counts are whole numbers if all units were observed in
every bin, and else floating-point numbers. ``rates`` and ``spike_counts`` lack the same values. A prediction
of a network, which has ``hidden``, lacks none.
"""

CHANNELS = (OUTPUT, INPUT)
"""Dimensions of signals whose channels have units of their own, ``output_units`` and ``input_units``."""

COORDINATES = (
    VariableSpec(TRIAL, (TRIAL,), "iu", "row of the source's trial table"),
    VariableSpec(TIME, (TIME,), FLOAT, "bin centre relative to the alignment", units="s"),
    VariableSpec(UNIT, (UNIT,), "iu", "row of the source's units table"),
    VariableSpec(OUTPUT, (OUTPUT,), TEXT, "name of the muscle or channel"),
    VariableSpec(INPUT, (INPUT,), TEXT, "name of the task input"),
    VariableSpec("condition", (TRIAL,), TEXT, "label of the trial's condition"),
    VariableSpec("align_time", (TRIAL,), FLOAT, "session time of time = 0", units="s"),
    VariableSpec("split", (TRIAL,), TEXT, "train, dynamics_only, validation or test", False),
    VariableSpec("n_trials", (TRIAL,), "iu", "trials averaged into this one", False),
    VariableSpec("output_units", (OUTPUT,), TEXT, "unit of each output", False),
    VariableSpec("input_units", (INPUT,), TEXT, "unit of each input", False),
    VariableSpec(
        "output_scale",
        (OUTPUT,),
        FLOAT,
        "networks see outputs / output_scale",
        False,
    ),
    VariableSpec("sampled", (UNIT,), BOOL, "True where the dynamics loss sees the unit", False),
    VariableSpec("observed", (UNIT,), BOOL, "True where the unit corrects the state of the network", False),
    VariableSpec("rate_scale", (UNIT,), FLOAT, "rate = rate_scale * normalized + rate_offset", False),
    VariableSpec("rate_offset", (UNIT,), FLOAT, "see rate_scale", False),
    VariableSpec(SESSION, (TRIAL,), TEXT, "session of the trial, if several are pooled", False),
    VariableSpec("session_trial", (TRIAL,), "iu", "row of the trial table of this session", False),
    VariableSpec(SESSION_OF_UNIT, (UNIT,), TEXT, "session in which the unit was recorded", False),
    VariableSpec("session_unit", (UNIT,), "iu", "row of the units table of this session", False),
)

COSINE, SINE = "_cos", "_sin"
"""Endings of the two inputs that tell a direction. Those of twice the direction have a 2 after them."""

SPLITS = ("train", "dynamics_only", "validation", "test")
"""``dynamics_only`` marks trials whose rates, but not outputs, are trained on."""
SPLIT_TYPE = f"<U{max(map(len, SPLITS))}"
"""NumPy's type of text that is wide enough for every split; a narrower array would cut off longer names."""


def validate(ds: xr.Dataset) -> xr.Dataset:
    """Return the Dataset unchanged, or raise an error that lists all its faults.

    Parameters
    ----------
    ds
        Any Dataset.

    Returns
    -------
    xarray.Dataset
        The same Dataset.

    Raises
    ------
    SchemaError
        If a variable or coordinate is missing, has other dimensions, an unsuitable type or no unit;
        if time bins are not regular; if a value inside the mask is infinite, or is NaN and not one of
        outputs, rates and spike counts; or if rates and spike counts were not observed in the same bins.

    Examples
    --------
    >>> import nwbrnn
    >>> ds = nwbrnn.read_nwb(example)
    >>> validate(ds) is ds
    True
    """
    problems = find_problems(ds)
    if problems:
        raise SchemaError(problems)
    return ds


def find_problems(ds: xr.Dataset) -> list[str]:
    """Return every fault of a Dataset, one sentence each; an empty list for a valid one."""
    problems = [p for spec in VARIABLES for p in _check_spec(ds, spec)]
    problems += [p for spec in COORDINATES for p in _check_spec(ds, spec)]
    if "rates" not in ds and "spike_counts" not in ds:
        problems.append("neither 'rates' nor 'spike_counts' is present")
    if not problems:
        problems = _check_time(ds) + _check_values(ds) + _check_labels(ds)
    return problems


def _check_spec(ds: xr.Dataset, spec: VariableSpec) -> list[str]:
    """Check presence, dimensions, type and unit of one variable or coordinate."""
    if spec.name not in ds.variables:
        return [f"{spec.name!r} ({spec.text}) is missing"] if spec.required else []
    variable = ds[spec.name]
    problems = []
    if variable.dims != spec.dims:
        problems.append(f"{spec.name!r}: expected dimensions {spec.dims}, but got {variable.dims}")
    if variable.dtype.kind not in spec.kinds:
        problems.append(f"{spec.name!r}: expected a dtype of kind {spec.kinds!r}, but got {variable.dtype}")
    elif variable.dtype.kind == "O":
        others = [value for value in variable.values.ravel().tolist() if not isinstance(value, str)]
        if others:
            problems.append(f"{spec.name!r}: expected texts only, but got {others[0]!r:.40}")
    units = variable.attrs.get("units")
    if spec.name in ds.data_vars and not units:
        problems.append(f"{spec.name!r}: expected attrs['units'], but it is not set")
    elif not isinstance(units, str | None):
        problems.append(f"{spec.name!r}: expected a text as attrs['units'], but got {units!r:.40}")
    elif spec.units is not None and units != spec.units:
        problems.append(f"{spec.name!r}: expected units {spec.units!r}, but got {units!r}")
    return problems


def _check_time(ds: xr.Dataset) -> list[str]:
    """Check that time bins are regular and ``attrs["bin_size"]`` apart."""
    bin_size = ds.attrs.get("bin_size")
    if not isinstance(bin_size, float) or not bin_size > 0:
        return [f"attrs['bin_size']: expected a positive float [s], but got {bin_size!r}"]
    steps = np.diff(ds["time"].values)
    if ds.sizes[TIME] < 2 or not np.allclose(steps, bin_size, rtol=1e-6, atol=1e-9):
        found = f", {steps.min():g} to {steps.max():g} s apart" if len(steps) else ""
        return [f"'time': expected at least two bins, {bin_size} s apart, but got {ds.sizes[TIME]}{found}"]
    return []


def _check_values(ds: xr.Dataset) -> list[str]:
    """Check that values inside the mask are finite, or NaN where they may be, and counts not negative."""
    problems = []
    mask = ds["mask"].values
    partial = () if "hidden" in ds else PARTIAL
    if not mask.any(axis=1).all():
        empty = ds["trial"].values[~mask.any(axis=1)][:10].tolist()
        problems.append(f"'mask': expected at least one recorded bin in every trial, but {empty} have none")
    for name in MASKED:
        if name in ds:
            # no copy of the values, which can take most of the memory
            values = ds[name].values
            is_float = values.dtype.kind == "f"
            limit = min(LARGEST, float(np.finfo(values.dtype).max)) if is_float else LARGEST
            usable = (values <= limit) & (values >= -limit)
            if name in partial and is_float and not usable.all():
                usable |= np.isnan(values)
            n_bad = int((~usable & mask[..., np.newaxis]).sum())
            if n_bad:
                fault = "infinite" if name in partial else "not finite"
                problems.append(
                    f"{name!r}: {show_count(n_bad, 'value')} inside the mask "
                    f"{'is' if n_bad == 1 else 'are'} {fault}, or beyond {LARGEST:g}"
                )
    # rates may be negative: relative to a baseline in a simulation, or predicted linearly
    if "spike_counts" in ds and ((ds["spike_counts"].values < 0) & mask[..., np.newaxis]).any():
        smallest = np.nanmin(ds["spike_counts"].values[mask])
        problems.append(f"'spike_counts': expected counts of 0 or more, but got {smallest}")
    return problems + _check_observed(ds, mask)


def _check_observed(ds: xr.Dataset, mask: NDArray[np.bool_]) -> list[str]:
    """Check that rates and spike counts lack the same values inside the mask."""
    if "rates" not in ds or "spike_counts" not in ds:
        return []
    rates, counts = (np.isnan(ds[name].values) for name in ("rates", "spike_counts"))
    n_other = int(((rates != counts) & mask[..., np.newaxis]).sum())
    if not n_other:
        return []
    return [
        f"'rates': expected NaN exactly where 'spike_counts' are, but {n_other} values inside the mask are "
        "only in one of them; set both to NaN where a unit was not observed"
    ]


def _check_labels(ds: xr.Dataset) -> list[str]:
    """Check that labels are unique, that splits are known words, and that no dimension is empty."""
    problems = [f"{dim!r} is empty" for dim in (TRIAL, UNIT, OUTPUT, INPUT) if not ds.sizes[dim]]
    for dim in (TRIAL, UNIT, OUTPUT, INPUT):
        repeated = ds.indexes[dim][ds.indexes[dim].duplicated()].unique()[:10].tolist()
        if repeated:
            problems.append(f"{dim!r}: expected unique labels, but {repeated} occur more than once")
    if "split" in ds:
        unknown = sorted(set(ds["split"].values.tolist()) - set(SPLITS))
        if unknown:
            problems.append(f"'split': expected {SPLITS}, but got {unknown}")
    return problems
