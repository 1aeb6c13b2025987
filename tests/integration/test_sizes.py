"""Files that claim more than they store, or would need far more memory than that."""

import json
import warnings
import zipfile
import zlib

import h5py
import numpy as np
import pynwb
import pytest
import xarray as xr

import nwbrnn
from nwbrnn import limits
from nwbrnn.errors import ConfigError, ReadError, UnsupportedFileError
from nwbrnn.readers.discovery import find_signals
from nwbrnn.readers.trials import _split_labels
from nwbrnn.readers.vocabulary import name_channels
from nwbrnn.storage.store import find_links_outside
from nwbrnn.text import MAX_SHOWN
from tests import forked
from tests.messages import names

pytestmark = pytest.mark.slow

WINDOW = (-0.2, 0.4)


@pytest.fixture
def session(recording, tmp_path):
    path = tmp_path / "session.nwb"
    path.write_bytes(recording.path.read_bytes())
    return path


def declare(path, name, shape, **options):
    """Give a dataset another shape, of which nothing is stored, and keep its attributes and its beginning."""
    with h5py.File(path, "r+") as file:
        values, attributes = file[name][()], dict(file[name].attrs)
        del file[name]
        chunks = tuple(min(n, 100_000) for n in shape[:1]) + shape[1:]
        options = {"dtype": values.dtype, "chunks": chunks} | options
        claimed = file.create_dataset(name, shape=shape, **options)
        if values.shape[1:] == shape[1:]:
            claimed[: len(values)] = values
        claimed.attrs.update(attributes)


@pytest.mark.long
def test_session_of_ten_hours_is_read_where_it_is_stored(session):
    """64 channels at 30 kHz, 1,000 units: 69 GB of claims, of which the trials are stored."""
    declare(session, "acquisition/EMG/data", (36_000 * 30_000, 64), dtype="i2", chunks=(30_000, 64))
    with h5py.File(session, "r+") as file:
        file["acquisition/EMG/starting_time"].attrs["rate"] = 30_000.0
        file["acquisition/EMG"].attrs["comments"] = ""
        rng = np.random.default_rng(0)
        file["acquisition/EMG/data"][90_000:180_000] = rng.integers(-99, 99, (90_000, 64))
        for name, index in (("spike_times", "spike_times_index"),):
            trains = np.split(file[f"units/{name}"][()], file[f"units/{index}"][()])[:12]
            many = [trains[unit % 12] for unit in range(1000)]
            attributes = {n: dict(file[f"units/{n}"].attrs) for n in ("id", name, index)}
            values = {
                "id": np.arange(1000),
                name: np.concatenate(many),
                index: np.cumsum([len(train) for train in many]),
            }
            del file["units/quality"]
            file["units"].attrs["colnames"] = [name]
            for key, value in values.items():
                del file[f"units/{key}"]
                file[f"units/{key}"] = value
                for attribute, held in attributes[key].items():
                    file[f"units/{key}"].attrs[attribute] = held
            file[f"units/{index}"].attrs["target"] = file[f"units/{name}"].ref
    ds = nwbrnn.read_nwb(session, where={"id": "1"}, window=WINDOW, emg="envelope")
    assert ds.sizes["trial"] == 1
    assert ds.sizes["unit"] == 1000
    assert ds.sizes["output"] == 64
    assert bool((ds["outputs"] > 0).any())
    found = {finding.rule for finding in nwbrnn.diagnose(session)}
    assert "data_unwritten" in found


def test_doctor_does_not_read_what_is_only_claimed(session):
    declare(session, "acquisition/EMG/data", (4 * 10**10, 3))
    ended = forked.call(lambda: [(f.rule, f.object, f.biases) for f in nwbrnn.diagnose(session)], seconds=120)
    assert not ended.fault  # to read 960 GB would take longer
    assert ["data_unwritten", "acquisition/EMG", True] in ended.value


@pytest.mark.parametrize(
    "name", ["units/spike_times", "units/spike_times_index", "units/id", "intervals/trials/start_time"]
)
def test_claims_of_what_is_read_whole_are_refused(session, name):
    with h5py.File(session) as file:
        shape = file[name].shape
    declare(session, name, (10**9, *shape[1:]))
    for read in (nwbrnn.read_nwb, nwbrnn.inspect_nwb, nwbrnn.diagnose):
        with pytest.raises(UnsupportedFileError, match=names(session, f"/{name}")):
            read(session)


def test_timestamps_that_are_only_claimed_are_refused(make_recording, tmp_path):
    path = tmp_path / "session.nwb"
    path.write_bytes(make_recording(use_timestamps=True).path.read_bytes())
    declare(path, "acquisition/EMG/timestamps", (10**9,))
    with pytest.raises(UnsupportedFileError, match=names(path, "/acquisition/EMG/timestamps")):
        nwbrnn.inspect_nwb(path)


@pytest.mark.parametrize("kind", ["chunk", "scalar", "virtual"])
def test_chunks_scalars_and_virtual_datasets_have_a_size_too(session, kind):
    with h5py.File(session, "r+") as file:
        if kind == "chunk":
            file.create_dataset("scratch/data", (2**28, 8), "f4", chunks=(2**26, 8), compression="gzip")
        elif kind == "scalar":
            space, text = h5py.h5s.create(h5py.h5s.SCALAR), h5py.h5t.py_create("S1").copy()
            text.set_size(2**30)
            h5py.h5d.create(file["/"].id, b"session_notes", text, space)
        else:
            layout = h5py.VirtualLayout((10**9,), "f8")
            layout[:6] = h5py.VirtualSource(".", "intervals/trials/start_time", (6,), "f8", maxshape=(6,))
            file.create_virtual_dataset("units/depth", layout)
    with pytest.raises(UnsupportedFileError, match=names(session, "unpack")):
        nwbrnn.inspect_nwb(session)


def test_chunk_that_unpacks_to_more_than_it_declares(session):
    packing = zlib.compressobj(9)
    bomb = b"".join(packing.compress(bytes(1 << 20)) for _ in range(32)) + packing.flush()
    declare(session, "acquisition/EMG/data", (5000, 3), chunks=(1000, 3), compression="gzip")
    nwbrnn.inspect_nwb(session)
    with h5py.File(session, "r+") as file:
        file["acquisition/EMG/data"].id.write_direct_chunk((1000, 0), bomb)
    with pytest.raises(UnsupportedFileError, match=names(session, "/acquisition/EMG/data")):
        nwbrnn.inspect_nwb(session)


@pytest.mark.parametrize("name", ["blosc", "zlib", "gzip"])
def test_chunks_of_zarr_unpack_within_bounds(name, recording, tmp_path, monkeypatch):
    pytest.importorskip("hdmf_zarr")
    import numcodecs

    nwbrnn.inspect_nwb(convert_to_zarr(recording.path, tmp_path / "session.nwb.zarr"))
    codec = numcodecs.get_codec({"id": name})
    values = np.random.default_rng(0).random(1000)
    np.testing.assert_array_equal(np.frombuffer(codec.decode(codec.encode(values))), values)
    out = np.empty(1000)
    codec.decode(codec.encode(values), out)
    np.testing.assert_array_equal(out, values)
    bomb = bytes(codec.encode(np.zeros(10_000_000)))
    assert len(codec.decode(bomb)) == 80_000_000
    monkeypatch.setattr(limits, "MAX_CHUNK", 1 << 20)
    monkeypatch.setattr(limits, "MAX_WHOLE_RATIO", 10)
    with pytest.raises(ValueError, match=names("unpack")):
        codec.decode(bomb)
    with pytest.raises((ValueError, RuntimeError)):
        codec.decode(bomb[:-10])


@pytest.mark.parametrize("n_samples", [2**62, 10**13])
def test_zarr_that_claims_more_than_it_stores(recording, tmp_path, n_samples):
    pytest.importorskip("hdmf_zarr")
    store = convert_to_zarr(recording.path, tmp_path / "session.nwb.zarr")
    for path in (*store.rglob(".zarray"), *store.rglob(".zmetadata"), *store.rglob("zarr.json")):
        change_shapes(path, "acquisition/EMG/data", n_samples)
    for read in (nwbrnn.read_nwb, nwbrnn.diagnose):
        with pytest.raises(UnsupportedFileError, match=names(store, "/acquisition/EMG/data")):
            read(store)


def convert_to_zarr(source, path):
    from hdmf_zarr import NWBZarrIO
    from pynwb import NWBHDF5IO

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with NWBHDF5IO(source, "r") as read, NWBZarrIO(str(path), "w") as written:
            written.export(src_io=read, write_args={"link_data": False})
    return path


def change_shapes(path, name, n_samples):
    document = json.loads(path.read_bytes())
    parts = {str(path): document, **document.get("metadata", {})}
    parts |= (document.get("consolidated_metadata") or {}).get("metadata", {})
    for where, part in parts.items():
        if name in where and "shape" in part:
            part["shape"] = [n_samples, *part["shape"][1:]]
    path.write_text(json.dumps(document))


def test_one_long_text_among_many_is_left_out(session):
    with h5py.File(session, "r+") as file:
        trials = file["intervals/trials"]
        for name, texts in (
            ("notes", ["ok"] * 39 + ["x" * 10**6]),
            ("parameters", [f"{i:02}" * 10**4 for i in range(40)]),
        ):
            column = trials.create_dataset(name, data=texts, dtype=h5py.string_dtype())
            column.attrs.update(dict(trials["result"].attrs) | {"object_id": f"id of {name}"})
        trials.attrs["colnames"] = [*trials.attrs["colnames"], "notes", "parameters"]
    ds = nwbrnn.read_nwb(session)
    assert "notes" not in ds.coords
    assert ds["parameters"].values[0] == "00" * 10**4


def test_texts_share_one_bound():
    assert limits.find_readable([[10] * 100, [10**6] + [2] * 999, [3] * 5]) == [True, False, True]
    widths = [[20_000] + [1] * 800] * 20  # 64 MB each
    assert sum(limits.find_readable(widths)) == 1


def test_many_conditions_are_no_inputs(make_recording, monkeypatch):
    path = make_recording(text_condition=True).path
    monkeypatch.setattr("nwbrnn.readers.plan.MAX_CONDITIONS", 3)
    with pytest.raises(ConfigError, match=names(path, "condition", "trial_type", 3, 4, "--condition")):
        nwbrnn.read_nwb(path)
    assert any("trial_type" in finding.problem for finding in nwbrnn.diagnose(path))
    ds = nwbrnn.read_nwb(path, where={"trial_type": "east,north,west"})
    assert ds.sizes["input"] == 4
    directions = make_recording().path  # two inputs, however many
    assert nwbrnn.read_nwb(directions).sizes["input"] == 3


def test_dataset_without_room_is_refused_before_it_is_read(recording, monkeypatch):
    monkeypatch.setattr("nwbrnn.limits.find_free_memory", lambda: 10_000)
    with pytest.raises(ConfigError, match=names(recording.path, 35, 12, "GB", "--bin-size", "--window")):
        nwbrnn.read_nwb(recording.path)


def test_fit_without_room_is_refused(recording, monkeypatch):
    monkeypatch.setattr("nwbrnn.limits.find_free_memory", lambda: 8 * 10**9)
    ds = nwbrnn.read_nwb(recording.path)
    with pytest.raises(ConfigError, match=names("hidden", 50_000, "GB")):
        nwbrnn.fit(ds, hidden=50_000, sampled=2)


def test_simulation_without_room_is_refused():
    config = nwbrnn.TeacherConfig(n_neurons=5000, n_directions=360, n_trials=10_000)
    with pytest.raises(ConfigError, match=names("n_trials", 3_600_000, 5000, "GB")):
        nwbrnn.simulate_teacher(config)


@pytest.mark.parametrize(
    ("model", "name"),
    [(nwbrnn.FitConfig, "tau"), (nwbrnn.TeacherConfig, "noise"), (nwbrnn.ReadConfig, "window")],
)
@pytest.mark.parametrize("number", [1e300, 1e-300, -1e10])
def test_numbers_beyond_reason_are_refused(model, name, number):
    with pytest.raises(ValueError, match=name):
        model(**{name: (-0.2, number) if name == "window" else number})


def test_limits_of_the_process_count(monkeypatch):
    if limits.resource is None:
        pytest.skip("this system has no limits of processes")
    used = limits.psutil.Process().memory_info().vms
    monkeypatch.setattr(limits.resource, "getrlimit", lambda _: (used + 2**20, used + 2**20))
    assert limits.find_free_memory() <= 2**20


def test_npz_that_unpacks(tmp_path):
    path = tmp_path / "run.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("outputs.npy", bytes(80 << 20))
    with pytest.raises(UnsupportedFileError, match=names(path, "outputs.npy")):
        nwbrnn.read_run(path)


def test_npz_that_claims_more_than_it_holds(tmp_path):
    path = tmp_path / "run.npz"
    header = {"descr": "<f8", "fortran_order": False, "shape": (10**13,)}
    with zipfile.ZipFile(path, "w") as archive, archive.open("outputs.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(UnsupportedFileError, match=names(path)):
        nwbrnn.read_run(path)


def test_netcdf_that_claims_more_than_it_stores(tmp_path):
    path = tmp_path / "session.nc"
    xr.Dataset({"outputs": ("time", np.zeros(10))}).to_netcdf(path, engine="h5netcdf")
    with h5py.File(path, "r+") as file:
        attributes = dict(file["outputs"].attrs)
        del file["outputs"]
        file.create_dataset("outputs", (10**9, 100), "f8", chunks=(1000, 100)).attrs.update(attributes)
    with pytest.raises(ReadError, match=names(path)):
        nwbrnn.read_dataset(path)


@pytest.mark.parametrize(("end", "expected"), [("", None), ("a,b,c]", ["a", "b", "c"])])
def test_names_are_found_in_linear_time(end, expected):
    ended = forked.call(name_channels, "columns=[" * 100_000 + end, 3)  # which ends what takes too long
    assert ended == forked.Ended(expected, "")


def test_long_texts_that_many_share_stay_one(recording):
    """The location of a group, a unit and a label of events are stored once, for many units or channels."""
    assert limits.fits_padded(["M1"] * 10_000)
    assert not limits.fits_padded(["x" * 10**6] * 100)
    assert name_channels(f"columns=[a,{'x' * 10**7},b]", 3) is None
    with pynwb.NWBHDF5IO(recording.path, "r") as io:
        series = io.read().acquisition["EMG"]
        series.fields["unit"] = "x" * 10**6
        (signal,) = find_signals(io.read())
        assert all(len(unit) == MAX_SHOWN for unit in signal.units)


def test_long_labels_of_events_are_not_padded():
    labels = ["go"] * 50_000 + ["x" * 10**6]  # 200 GB, if they were
    found = {name: times for _, name, times in _split_labels("cues", np.arange(50_001.0), labels)}
    assert len(found["go"]) == 50_000


@pytest.mark.parametrize("chunks", [None, (2,)])
@pytest.mark.parametrize("dtype", [h5py.string_dtype(), h5py.vlen_dtype(np.float64)], ids=["text", "list"])
def test_a_text_or_list_that_claims_more_than_its_file_is_refused(dtype, chunks, tmp_path):
    path = tmp_path / "claims.h5"
    with h5py.File(path, "w") as file:
        values = file.create_dataset("notes/values", (3,), dtype=dtype, chunks=chunks)
        for i in range(3):
            values[i] = "ab" if h5py.check_string_dtype(dtype) else np.arange(3.0 + i)
    with h5py.File(path) as file:
        assert find_links_outside(file) == []
        stored = file["notes/values"].id
        place = stored.get_offset() if chunks is None else stored.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[place + 3] = 0x7F  # the highest byte of the length of the first value
    path.write_bytes(content)
    with h5py.File(path) as file, pytest.raises(OSError, match="/notes/values"):
        find_links_outside(file)
