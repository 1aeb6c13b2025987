"""What ``read_nwb`` refuses, ``diagnose`` reports, and nothing else as refused."""

import itertools
import shutil

import h5py
import numpy as np
import pytest
from layouts import LAYOUTS

import nwbrnn
from nwbrnn.errors import NwbrnnError
from nwbrnn.readers.doctor import diagnose

pytestmark = pytest.mark.slow


def find_arrays(file, wanted):
    """Return the arrays of a file for which a function of their path holds, but for the cached schema."""
    found = []
    file.visititems(
        lambda name, item: (
            found.append(item)
            if isinstance(item, h5py.Dataset) and not name.startswith("specifications") and wanted(item)
            else None
        )
    )
    return found


def list_data(file):
    """Return the data of series as floats, and others that damages are put into."""
    return find_arrays(
        file, lambda item: item.name.endswith("/data") and item.ndim > 0 and item.dtype.kind in "fiu"
    )


def replace(item, values):
    file, name, attributes = item.file, item.name, dict(item.attrs)
    del file[name]
    file[name] = values
    file[name].attrs.update(attributes)


def set_some(wanted, value, where=slice(None)):
    """Return a damage that sets values of those arrays of floats whose path ends so."""

    def damage(file):
        for item in find_arrays(file, lambda item: item.name.endswith(wanted) and item.dtype.kind == "f"):
            if item.shape and item.shape[0]:
                item[where] = value

    return damage


def change(wanted, function):
    def damage(file):
        for item in find_arrays(file, lambda item: item.name.endswith(wanted) and item.ndim > 0):
            replace(item, function(item[()]))

    return damage


def remove(*names):
    def damage(file):
        for name in names:
            if name in file:
                del file[name]

    return damage


def set_rates(value):
    def damage(file):
        for item in find_arrays(file, lambda item: item.name.endswith("/starting_time")):
            item.attrs["rate"] = value

    return damage


def scale_data(attribute, value):
    def damage(file):
        for item in list_data(file):
            item.attrs[attribute] = value

    return damage


DAMAGES = {
    "nothing": lambda file: None,
    "a sample of NaN": set_some("/data", np.nan, slice(300, 303)),
    "data of NaN": set_some("/data", np.nan),
    "a sample of infinity": set_some("/data", np.inf, slice(300, 301)),
    "data without samples": change("/data", lambda values: values[:0]),
    "transposed data": change("/data", lambda values: values.T),
    "three dimensions": change("/data", lambda values: values[:, np.newaxis, np.newaxis]),
    "conversion of infinity": scale_data("conversion", np.inf),
    "conversion of 0": scale_data("conversion", 0.0),
    "offset of NaN": scale_data("offset", np.nan),
    "no rate": set_rates(0.0),
    "a rate of NaN": set_rates(np.nan),
    "a rate far too high": set_rates(1e9),
    "a rate far too low": set_rates(1e-3),
    "stamps too few": change("/timestamps", lambda values: values[:-7]),
    "stamps of NaN": set_some("/timestamps", np.nan),
    "stamps of zero": set_some("/timestamps", 0.0),
    "stamps backwards": change("/timestamps", lambda values: values[::-1]),
    "stamps in ms": change("/timestamps", lambda values: values * 1000),
    "no units": remove("units"),
    "no trials": remove("intervals"),
    "no series": remove("acquisition", "processing"),
    "a spike of NaN": set_some("/spike_times", np.nan, slice(5, 6)),
    "a spike of infinity": set_some("/spike_times", np.inf, slice(-1, None)),
    "spikes in ms": change("/spike_times", lambda values: values * 1000),
    "spikes of zero": set_some("/spike_times", 0.0),
    "an index that falls": change("/spike_times_index", lambda values: values[::-1]),
    "an index beyond": change("/spike_times_index", lambda values: values + np.array(200, values.dtype)),
    "intervals reversed": change("/obs_intervals", lambda values: values[:, ::-1]),
    "starts of NaN": set_some("/start_time", np.nan),
    "stops of NaN": set_some("/stop_time", np.nan),
    "stops before starts": set_some("/stop_time", 0.0),
    "all trials at once": set_some("/start_time", 20.0),
    "cues of NaN": set_some("_time", np.nan),
    "trials in ms": change("_time", lambda values: values * 1000),
    "one trial": change("/result", lambda values: np.array(["F"] * len(values), dtype="S")),
}


def damage(path, name, target):
    """Damage a copy of a file."""
    shutil.copy(path, target)
    with h5py.File(target, "r+") as file:
        DAMAGES[name](file)


def compare(path):
    """Return whether a file is refused, after a look whether the doctor says so."""
    refused = find_refusal(nwbrnn.read_nwb, path)
    try:
        rules = {finding.rule for finding in diagnose(path)}
    except NwbrnnError as error:
        rules = {str(error)}
    assert rules or not refused, refused
    assert refused or "refused" not in rules
    return bool(refused)


def find_refusal(call, path):
    try:
        call(path)
    except NwbrnnError as error:
        return str(error)
    return ""


def test_what_is_refused_is_reported(campaign, tmp_path):
    """Each damage in some layouts: read, or refused and reported, and never anything else."""
    cases = campaign("damaged layouts", few=20, many=len(LAYOUTS) * len(DAMAGES))
    pairs = list(itertools.product(sorted(LAYOUTS), DAMAGES))
    for layout, name in cases.rng.sample(pairs, cases.size):
        path = tmp_path / "session.nwb"
        LAYOUTS[layout](path)
        damage(path, name, tmp_path / "damaged.nwb")
        try:
            cases.count("refused" if compare(tmp_path / "damaged.nwb") else "read")
        except BaseException as error:
            error.add_note(f"{name} in {layout}")
            raise
