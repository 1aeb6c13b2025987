"""Hundreds of damaged copies of files: each is read, or refused by an NwbrnnError; never anything else.

libhdf5 may crash or hang on damaged bytes, so each copy is read by a process of its own.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import traceback
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
import pytest
from exporting import hash_file

from tests import forked, layouts
from tests.messages import assert_names

pytestmark = pytest.mark.slow

BASE = "base.nwb"
N_FLIPPED, N_ERASED, N_TRUNCATED, N_STRUCTURAL, N_ATTRIBUTES = 150, 40, 50, 140, 110


def write_base(path):
    """Write a tiny file with everything that is read: small enough that many bytes matter."""
    from pynwb import NWBHDF5IO, H5DataIO, NWBFile, TimeSeries
    from pynwb.behavior import BehavioralTimeSeries

    rng = np.random.default_rng(0)
    nwbfile = NWBFile("fuzz", "fuzz", datetime(2020, 1, 1, tzinfo=UTC))
    compressed = H5DataIO(rng.normal(size=(300, 2)) ** 2, compression="gzip", chunks=(100, 2))
    nwbfile.add_acquisition(
        TimeSeries(name="EMG", data=compressed, unit="mV", rate=50.0, comments="columns=[FCR,ECR]")
    )
    hand = TimeSeries(
        name="hand_vel", data=rng.normal(size=(300, 2)), unit="m/s", timestamps=np.arange(300) / 50
    )
    module = nwbfile.create_processing_module("behavior", "hand")
    module.add(BehavioralTimeSeries(name="Velocity", time_series=hand))
    nwbfile.add_unit_column("quality", "sorting quality")
    for unit in range(4):
        times = np.sort(rng.uniform(0, 6, 60))
        nwbfile.add_unit(spike_times=times, obs_intervals=[[0.0, 6.0]], quality="good" if unit else "poor")
    for name in ("go_cue_time", "target_dir", "result"):
        nwbfile.add_trial_column(name, name)
    for trial in range(6):
        start = 0.2 + 0.9 * trial
        nwbfile.add_trial(
            start,
            start + 0.8,
            go_cue_time=start + 0.3,
            target_dir=90.0 * (trial % 2),
            result="RF"[trial == 5],
        )
    with NWBHDF5IO(str(path), "w") as io:
        io.write(nwbfile, cache_spec=False)  # the schema is most of a file, and slow to read


# Damages: each takes a path and a source of random numbers


def flip_bytes(path, rng):
    content = bytearray(path.read_bytes())
    for _ in range(rng.choice([1, 1, 2, 8, 64])):
        content[rng.randrange(len(content))] = rng.randrange(256)
    path.write_bytes(content)


def erase_bytes(path, rng):
    content = bytearray(path.read_bytes())
    start, length = rng.randrange(len(content)), rng.choice([16, 256, 2048])
    content[start : start + length] = rng.choice([b"\0", b"\xff"]) * len(content[start : start + length])
    path.write_bytes(content)


def erase_page(path, rng):
    """Leave zeros where a page of the file was never copied."""
    with path.open("r+b") as file:
        file.seek(rng.randrange(path.stat().st_size // 4096) * 4096)
        file.write(bytes(4096 * rng.choice([1, 1, 4])))


def truncate(path, rng):
    size = path.stat().st_size
    os.truncate(path, rng.choice([rng.randrange(size), rng.randrange(600), size - rng.randrange(1, 64)]))


def damage_object(path, rng):
    with h5py.File(path, "r+") as file:
        names = []
        file.visit(names.append)
        name = rng.choice(names)
        rng.choice(DATASET_DAMAGES if isinstance(file[name], h5py.Dataset) else OBJECT_DAMAGES)(
            file, name, rng
        )
        return name


def damage_attribute(path, rng):
    with h5py.File(path, "r+") as file:
        names = [""]
        file.visit(names.append)
        found = [(name, key) for name in names for key in file[name or "/"].attrs]
        name, key = rng.choice(found)
        attributes = file[name or "/"].attrs
        values = [None, 7, -1.5, np.nan, "", "text", np.arange(3), np.array(["a", "b"], dtype="S1")]
        value = rng.choice(values)
        del attributes[key]
        if value is not None:
            attributes[key] = value
        return f"{name}@{key}={value}"


def remove(file, name, _):
    del file[name]


def rename(file, name, rng):
    file.move(name, rng.choice([f"{name}_", f"{name}_index", "elsewhere", "acquisition/elsewhere"]))


def swap(file, name, rng):
    names = []
    file.visit(names.append)
    other = rng.choice([n for n in names if not n.startswith(name) and not name.startswith(n)])
    file.move(name, "held")
    file.move(other, name)
    file.move("held", other)


def replace(file, name, values):
    attributes = dict(file[name].attrs)
    del file[name]
    file.create_dataset(name, data=values)
    for key, value in attributes.items():
        file[name].attrs[key] = value


def retype(file, name, rng):
    values = file[name][()]
    shape = np.shape(values)
    kinds = [
        np.zeros(shape, dtype="f4"), np.full(shape, -1, dtype="i8"), np.full(shape, b"text", dtype="S4"),
        np.full(shape, 2**63, dtype="u8"), np.zeros(shape, dtype=bool), np.ones(shape, dtype="c8"),
        np.zeros(shape, dtype=[("a", "i4"), ("b", "f8")]), np.zeros((2, 3, 4)), np.float64(3.0), "text",
        h5py.Empty("f8"), np.zeros((0, *shape[1:])), np.full(shape, "é" * 10, dtype=h5py.string_dtype()),
    ]  # fmt: skip
    replace(file, name, rng.choice(kinds))


def cut(file, name, rng):
    values = np.atleast_1d(file[name][()])
    replace(file, name, rng.choice([values[:-1], values[:1], np.concatenate([values, values[:1]]), values.T]))


def spoil_values(file, name, rng):
    values = file[name][()]
    if not np.size(values) or np.asarray(values).dtype.kind not in "iuf":
        remove(file, name, rng)
        return
    values = np.array(values, dtype=rng.choice(["f8", "i8"]))
    bad = rng.choice([np.nan, np.inf, -np.inf, -1.0, 0.0, 1e300, 2.0**62, 1e6])
    if values.dtype.kind == "i":
        bad = int(np.clip(np.nan_to_num(bad), -(2**62), 2**62))
    where = rng.choice([slice(None), slice(0, 1), slice(-1, None), slice(1, None, 2)])
    flat = values.reshape(-1)
    flat[where] = bad
    replace(file, name, flat.reshape(values.shape))


def shuffle_values(file, name, rng):
    values = np.atleast_1d(file[name][()])
    replace(file, name, rng.choice([values[::-1], np.repeat(values[:1], len(values), axis=0), values[1:]]))


def make_group(file, name, _):
    del file[name]
    file.create_group(name)


def make_huge(file, name, _):
    """Claim far more values than there are bytes."""
    values = np.atleast_1d(file[name][()])
    if values.dtype.kind not in "iuf":
        del file[name]
        return
    attributes = dict(file[name].attrs)
    del file[name]
    shape = (10**13, *values.shape[1:])
    chunks = (1000, *values.shape[1:])
    file.create_dataset(name, shape=shape, dtype=values.dtype, chunks=chunks).attrs.update(attributes)


OBJECT_DAMAGES = [remove, rename, swap]
DATASET_DAMAGES = [
    *OBJECT_DAMAGES, retype, retype, retype, cut, cut, spoil_values, spoil_values, spoil_values,
    shuffle_values, make_group, make_huge,
]  # fmt: skip

NUMBERS = {
    "acquisition/EMG/data": [np.nan, np.inf],
    "processing/behavior/Velocity/hand_vel/timestamps": [np.nan, -5.0, 1e300],
    "units/spike_times": [np.nan, -1e9, np.inf, 1e300],
    "units/spike_times_index": [-1, 2**40, 0],
    "units/obs_intervals": [np.nan, -np.inf],
    "units/obs_intervals_index": [-1, 2**31, 0],
    "intervals/trials/start_time": [np.nan, np.inf, 1e300],
    "intervals/trials/go_cue_time": [np.nan, -np.inf, 1e300, 1e15],
    "intervals/trials/id": [-1, 3],
    "intervals/trials/target_dir": [np.nan, np.inf],
}
RATES = [0.0, -50.0, np.nan, np.inf, 1e-300, 1e300, 1e9]


def list_targeted():
    """Return damages at places where a number decides much."""
    damages = {}
    for name, values in NUMBERS.items():
        for value in values:
            for where in (slice(None), slice(0, 1), slice(2, 3)):
                label = f"{name}[{where.start}]={value}"
                damages[label] = lambda path, _, n=name, v=value, w=where: set_values(path, n, v, w)
    for key in ("rate", "unit"):
        for rate in RATES:
            damages[f"{key}={rate}"] = lambda path, _, k=key, r=rate: set_timing(path, k, r)
    for key in ("conversion", "offset", "resolution"):
        for value in (np.nan, np.inf, 0.0, 1e300):
            damages[f"{key}={value}"] = lambda path, _, k=key, v=value: set_scaling(path, k, v)
    return damages


def set_values(path, name, value, where):
    with h5py.File(path, "r+") as file:
        values = file[name][()].astype("i8" if isinstance(value, int) else "f8")
        values[where] = value
        replace(file, name, values)


def set_timing(path, key, value):
    with h5py.File(path, "r+") as file:
        file["acquisition/EMG/starting_time"].attrs[key] = value


def set_scaling(path, key, value):
    with h5py.File(path, "r+") as file:
        file["acquisition/EMG/data"].attrs[key] = value


def list_damages():
    """Return every damage by name: ``(path, rng)`` functions, in an order that never changes."""
    groups = {
        flip_bytes: N_FLIPPED,
        erase_bytes: N_ERASED,
        truncate: N_TRUNCATED,
        damage_object: N_STRUCTURAL,
        damage_attribute: N_ATTRIBUTES,
    }
    damages = {f"{f.__name__} {i}": f for f, number in groups.items() for i in range(number)}
    return damages | list_targeted()


# What is done with each


def list_readers():
    """Return what reads a file: each returns nothing, and raises what is wrong."""
    import xarray as xr

    import nwbrnn

    def read(path, number):
        nan = "mask" if number % 2 else "raise"
        outputs = ("emg", "kinematics", "auto")[number % 3]
        ds = nwbrnn.read_nwb(path, window=(-0.2, 0.4), nan=nan, outputs=outputs)
        nwbrnn.validate(ds)

    def inspect(path, _):
        json.dumps(nwbrnn.inspect_nwb(path).to_dict(), default=str)

    def load(path, _):
        with xr.open_datatree(path, engine="nwb") as tree:
            tree.load()

    def diagnose(path, _):
        nwbrnn.diagnose(path)

    return {"read_nwb": read, "inspect_nwb": inspect, "open_datatree": load, "diagnose": diagnose}


def damage_and_read(path, damage, number, readers):
    """Damage a copy, and return what was done, and how each reader ended."""
    from nwbrnn.errors import NwbrnnError

    note = damage(path, random.Random(number))  # noqa: S311
    before = hash_file(path)
    outcomes = {}
    for name, read in list_readers().items():
        if name not in readers:
            continue
        outcomes[name] = "read"
        try:
            read(path, number)
        except NwbrnnError as error:
            outcomes[name] = "refused" if str(path) in str(error) else f"refused without name: {error}"
        except Exception:
            outcomes[name] = "".join(traceback.format_exc().splitlines(keepends=True)[-7:])
    if hash_file(path) != before:
        outcomes["file"] = "changed"
    return [str(note or ""), outcomes]


def run_campaign(damaged, cases, tmp_path):
    """Damage copies, each in a process of its own, and fail if one is neither read nor refused.

    Cases are a file, the name of the damage, the damage, its number, and the names of the readers.
    """
    bad, counts, path = [], Counter(), tmp_path / "damaged.nwb"
    for base, name, damage, number, readers in cases:
        shutil.copyfile(base, path)
        ended = forked.call(damage_and_read, path, damage, number, readers, seconds=len(readers) * 20)
        note, outcomes = ended.value or ("", {"process": ended.fault})
        if ended.value and ended.fault:
            outcomes["process"] = ended.fault
        faulty = {k: v for k, v in outcomes.items() if v not in ("read", "refused")}
        bad += [f"{base.name}: {name} {note}: {reader}: {outcome}" for reader, outcome in faulty.items()]
        refused = "refused" in outcomes.values()
        damaged.count("neither" if faulty else "refused by a reader" if refused else "read")
        counts.update(outcomes.values())
    assert not bad, f"{len(bad)} of {damaged.size}:\n" + "\n".join(bad)
    return counts


@pytest.mark.parametrize("part", range(2))
def test_damaged_files_are_read_or_refused(part, campaign, tmp_path):
    write_base(tmp_path / BASE)
    damages = list(list_damages().items())
    assert len(damages) >= 500
    damaged = campaign("damaged files", few=30, many=len(damages) // 2)
    cases = [
        # to save time, only one of both: they look at the same things
        (
            tmp_path / BASE,
            name,
            damage,
            number,
            ("read_nwb", "open_datatree", ("diagnose", "inspect_nwb")[number % 2]),
        )
        for number, (name, damage) in enumerate(damages)
    ]
    counts = run_campaign(damaged, damaged.pick(cases[part::2]), tmp_path)
    assert counts["read"] > damaged.size / 4  # damage that does not matter is no reason to refuse
    assert counts["refused"] > damaged.size / 4


@pytest.mark.parametrize("part", range(4))
def test_damaged_files_of_other_layouts(part, campaign, tmp_path, layouts_of_files):
    """Every layout of laboratories, and real files: what is in them decides which code reads them."""
    damaged = campaign("damaged files of other layouts", few=8, many=160)
    groups = (erase_page, damage_object, damage_object, damage_attribute, erase_bytes, truncate)
    readers = ("read_nwb", "diagnose", "inspect_nwb")
    cases = []
    for number in range(part, 4 * damaged.size, 4):
        base, damage = layouts_of_files[number % len(layouts_of_files)], damaged.rng.choice(groups)
        seed = damaged.rng.getrandbits(32)
        kept = readers if number % 8 == part else readers[number % 2 :: 2]
        cases.append((base, f"{damage.__name__} {seed}", damage, seed, kept))
    run_campaign(damaged, cases, tmp_path)


@pytest.fixture(scope="module")
def layouts_of_files(tmp_path_factory):
    """Return files of all layouts, and the real ones that are there."""
    folder = tmp_path_factory.mktemp("layouts")
    files = []
    for name, build in layouts.LAYOUTS.items():
        files.append(folder / f"{len(files)}.nwb")
        build(files[-1])
        assert files[-1].exists(), name
    real = Path(__file__).resolve().parents[2] / os.environ.get("NWBRNN_TEST_DATA", "../shared") / "data"
    return files + sorted(real.glob("*.nwb"), key=lambda path: path.stat().st_size)[:6]


def break_off_texts(content):
    """Leave zeros in the second half of a heap of texts, as where a page of the file was never copied."""
    heap = content.index(b"GCOL")
    content[heap + 2000 : heap + 4096] = bytes(2096)


def invent_type(content):
    """Make the first type of variable length neither one of values nor one of text."""
    place = content.index(b"\x19\x01\x01\0\x10\0\0\0")
    content[place + 1] = 0x0A


@pytest.mark.parametrize("damage", [break_off_texts, invent_type], ids=lambda damage: damage.__name__)
def test_what_libhdf5_does_not_survive_is_refused_before(damage, tmp_path):
    path = tmp_path / BASE
    write_base(path)
    content = bytearray(path.read_bytes())
    damage(content)
    path.write_bytes(content)
    program = "import sys, nwbrnn; nwbrnn.inspect_nwb(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"nwbrnn.errors.UnsupportedFileError: {path}: ")
    assert_names(last, "NWB", "copy")
