"""xr.open_dataset(engine="nwb"): what h5py reads and what was put in, lazily, by name and time."""

import os
import pickle
import shutil
import warnings
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import nwbrnn
from nwbrnn.errors import MissingDataError, NwbrnnError, ReadError, UnsupportedFileError
from nwbrnn.readers.engine import NwbBackend, arrays, time_index
from tests.messages import assert_names, names

N = 600
SPIKES = [np.array([0.1, 0.2, 5.0]), np.array([]), np.array([3.0, 3.5])]
WAVEFORMS = [np.arange(12.0).reshape(3, 2, 2), np.zeros((1, 2, 2)), np.full((2, 2, 2), 7.0)]
JITTERED = 5 + np.sort(np.random.default_rng(1).uniform(0, 60, N))
RAW = np.random.default_rng(2).integers(-3000, 3000, (N, 3)).astype("int16")


def build(references=True):
    """Return a file in memory; ``references`` is whether it has columns of them."""
    from pynwb import NWBFile, TimeSeries
    from pynwb.behavior import BehavioralTimeSeries
    from pynwb.ecephys import ElectricalSeries
    from pynwb.file import Subject
    from pynwb.image import ImageSeries

    nwb = NWBFile(
        session_description="small",
        identifier="id-1",
        session_start_time=datetime(2020, 1, 1, tzinfo=UTC),
        experimenter=["Doe, Jane", "Roe, Richard"],
        institution="Nowhere",
        keywords=["a", "b"],
        subject=Subject(subject_id="T", species="Macaca mulatta", sex="F", age="P6Y"),
    )
    first = TimeSeries(
        name="EMG", data=RAW, unit="mV", timestamps=JITTERED, conversion=0.25, offset=-1.5,
        comments="columns=[FCR, FCU,ECR]", description="muscles", control=np.arange(N) % 3,
        control_description=["x", "y", "z"],
    )  # fmt: skip
    nwb.add_acquisition(first)
    nwb.add_acquisition(
        TimeSeries(name="linked", data=np.arange(N) / 7, unit="N", timestamps=first, conversion=np.nan)
    )
    nwb.add_acquisition(TimeSeries(name="plain", data=RAW[:, 0], unit="V", rate=30.0, starting_time=2.5))
    backwards = JITTERED.copy()
    backwards[400] = backwards[398]
    nwb.add_acquisition(TimeSeries(name="backwards", data=RAW[:, 0], unit="V", timestamps=backwards))
    nwb.add_acquisition(TimeSeries(name="volume", data=RAW.reshape(-1, 3, 2), unit="V", rate=1.0))
    nwb.add_acquisition(
        ImageSeries(
            name="video", external_file=["a.mp4", "b.mp4"], starting_frame=[0, 2], format="external",
            timestamps=[0.0, 1.0, 4.0], unit="n.a.",
        )
    )  # fmt: skip
    container = BehavioralTimeSeries(name="envelopes")
    nwb.create_processing_module("behavior", "b").add(container)
    container.create_timeseries(name="FCR", data=np.arange(9.0), unit="m", rate=3.0)
    if references:
        device = nwb.create_device("device")
        group = nwb.create_electrode_group("M1", description="x", location="M1", device=device)
        for i in range(5):
            nwb.add_electrode(group=group, location="M1", id=100 + i)
        nwb.add_acquisition(
            ElectricalSeries(
                name="ES", data=RAW, electrodes=nwb.create_electrode_table_region([4, 0, 2], "r"),
                rate=1000.0, conversion=0.5, channel_conversion=[1.0, 2.0, 10.0], offset=3.0,
            )
        )  # fmt: skip
    nwb.add_unit_column("quality", "q")
    nwb.add_unit_column("is_good", "flag")
    for i in range(3):
        region = {"electrodes": [i, i + 1]} if references else {}
        nwb.add_unit(
            id=10 + i, spike_times=SPIKES[i], quality="gut é"[: 3 + i], is_good=bool(i % 2),
            waveforms=WAVEFORMS[i], **region,
        )  # fmt: skip
    nwb.add_trial_column("trial", "own numbers")
    nwb.add_trial_column("target", "x, y")
    for i in range(4):
        refer = {"timeseries": [first]} if references else {}
        nwb.add_trial(start_time=float(i), stop_time=i + 0.5, trial=i * i, target=[1.0 * i, 2.0 * i], **refer)
    return nwb


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    from pynwb import NWBHDF5IO

    path = tmp_path_factory.mktemp("engine") / "small.nwb"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with NWBHDF5IO(str(path), "w") as io:
            io.write(build())
    return path


@pytest.fixture(scope="module")
def zarr_path(tmp_path_factory):
    hdmf_zarr = pytest.importorskip("hdmf_zarr")
    path = tmp_path_factory.mktemp("engine") / "small.nwb.zarr"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with hdmf_zarr.NWBZarrIO(str(path), "w") as io:
            # before 0.14, references are pickled, which the opener refuses
            io.write(build(references=hasattr(hdmf_zarr, "NWBZarrV2IO")))
    return path


@pytest.fixture(params=["path", "zarr_path"])
def either(request):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of zarr
        yield request.getfixturevalue(request.param)


def open_group(path, group, **options):
    return xr.open_dataset(path, engine="nwb", group=group, **options)


def list_open(path):
    """Return the handles of this process on a file."""
    links = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]
    return [link for link in links if link == str(path)]


@pytest.fixture
def reads(monkeypatch):
    """Return a list that fills with the path and the number of values of everything read lazily."""
    seen = []
    original = arrays.LazyFile.read

    def read(self, path, key):
        values = original(self, path, key)
        seen.append((path, values.size))
        return values

    monkeypatch.setattr(arrays.LazyFile, "read", read)
    return seen


def test_series_is_scaled_and_labelled(either):
    with open_group(either, "acquisition/EMG") as ds:
        assert ds.data.dims == ("time", "channel")
        np.testing.assert_allclose(ds.data.values, RAW * 0.25 - 1.5, rtol=1e-15)
        np.testing.assert_array_equal(ds.time.values, JITTERED)
        assert list(ds.channel.values) == ["FCR", "FCU", "ECR"]
        assert ds.data.attrs["units"] == "mV"
        assert ds.time.attrs["units"] == "s"
        assert ds.data.attrs["description"] == "muscles"
        assert ds.data.attrs["neurodata_type"] == ds.attrs["neurodata_type"] == "TimeSeries"
        assert {"conversion", "offset"}.isdisjoint(ds.data.attrs)
        assert "0.25" in ds.data.attrs["scaling"]
        np.testing.assert_array_equal(ds.control.values, np.arange(N) % 3)
        assert ds.control.dims == ("time",)
        assert ds.attrs["control_description"] == "x; y; z"
        np.testing.assert_allclose(ds.data.sel(channel="FCU").values, RAW[:, 1] * 0.25 - 1.5)


def test_every_way_to_index_agrees_with_numpy(either):
    expected = RAW * 0.25 - 1.5
    rng = np.random.default_rng(0)
    keys = [
        3,
        -1,
        slice(None, None, -7),
        slice(500, 10, -3),
        [5, 2, 2, 590],
        np.zeros(0, int),
        rng.permutation(N),
    ]
    with open_group(either, "acquisition/EMG", cache=False) as ds:
        for key in keys:
            for channel in (slice(None), 1, -1, [2, 0], slice(None, None, -1)):
                got = ds.isel(time=key, channel=channel)
                np.testing.assert_array_equal(got.data.values, expected[key][..., channel])
                np.testing.assert_array_equal(got.time.values, JITTERED[key])
        points = {"time": xr.DataArray([3, 1], dims="p"), "channel": xr.DataArray([0, 2], dims="p")}
        np.testing.assert_array_equal(ds.data.isel(points).values, expected[[3, 1], [0, 2]])


def test_channel_conversion_and_electrodes(path):
    with open_group(path, "acquisition/ES") as ds:
        expected = RAW * (0.5 * np.array([1.0, 2.0, 10.0])) + 3.0
        np.testing.assert_allclose(ds.data.values, expected, rtol=1e-15)
        np.testing.assert_allclose(ds.data.isel(channel=2, time=[9, 1]).values, expected[[9, 1], 2])
        np.testing.assert_allclose(ds.data.isel(channel=[2, 0], time=4).values, expected[4, [2, 0]])
        assert list(ds.channel.values) == [104, 100, 102]
        assert ds.electrodes.attrs["table"] == "/general/extracellular_ephys/electrodes"
        assert ds.data.attrs["units"] == "volts"


@pytest.mark.parametrize(
    ("comments", "expected"),
    [("no comments", ["TRI", "BIC", "ECR"]), ("columns=[one, two, three]", ["one", "two", "three"])],
)
def test_channels_have_the_names_that_the_reader_gives_them(tmp_path, comments, expected):
    from pynwb import NWBHDF5IO, NWBFile
    from pynwb.ecephys import ElectricalSeries

    nwbfile = NWBFile("test", "test", datetime(2020, 5, 17, tzinfo=UTC))
    nwbfile.add_electrode_column("label", "muscle")
    group = nwbfile.create_electrode_group("EMG", "muscles", "arm", nwbfile.create_device("amplifier"))
    for label in ("BIC", "TRI", "ECR"):
        nwbfile.add_electrode(group=group, location="arm", label=label)
    electrodes = nwbfile.create_electrode_table_region([1, 0, 2], "muscles")
    nwbfile.add_acquisition(
        ElectricalSeries(name="EMG", data=RAW, electrodes=electrodes, rate=1.0, comments=comments)
    )
    path = tmp_path / "session.nwb"
    with NWBHDF5IO(str(path), "w") as io:
        io.write(nwbfile)
    with open_group(path, "acquisition/EMG") as ds:
        assert ds.channel.values.tolist() == expected
    (signal,) = nwbrnn.inspect_nwb(path).signals
    assert signal["channels"] == expected


def test_raw_type_is_kept_if_nothing_scales(either):
    with open_group(either, "/acquisition/plain/") as ds:
        assert ds.data.dtype == np.int16
        np.testing.assert_array_equal(ds.time.values, 2.5 + np.arange(N) / 30.0)
        assert ds.attrs["rate"] == 30.0
    with open_group(either, "acquisition/linked") as ds:  # conversion NaN, timestamps by link
        np.testing.assert_array_equal(ds.data.values, np.arange(N) / 7)
        np.testing.assert_array_equal(ds.time.values, JITTERED)
    with open_group(either, "acquisition/volume") as ds:
        assert ds.data.dims == ("time", "channel", "channel_2")
        np.testing.assert_array_equal(
            ds.data.isel(channel=1, channel_2=[1, 0]).values, RAW.reshape(-1, 3, 2)[:, 1, ::-1]
        )


def test_video_beside_the_file(path):
    with open_group(path, "acquisition/video") as ds:
        assert "data" not in ds
        assert ds.attrs["external_file"] == "a.mp4; b.mp4"
        np.testing.assert_array_equal(ds.time.values, [0.0, 1.0, 4.0])
        assert ds.attrs["format"] == "external"


@pytest.mark.parametrize("group", ["acquisition/EMG", "acquisition/plain"])
def test_sel_agrees_with_pandas(either, group, monkeypatch):
    monkeypatch.setattr(time_index, "_BLOCK", 16)
    monkeypatch.setattr(time_index, "_STRETCH", 64)
    with open_group(either, group) as ds:
        times = pd.Index(ds.time.values)
        edges = [
            -10.0,
            *np.random.default_rng(3).uniform(0, 70, 40),
            times[7],
            times[-1],
            times[0],
            1e6,
            None,
        ]
        for start, stop in zip(edges, reversed(edges), strict=True):
            expected = times[times.slice_indexer(start, stop)]
            np.testing.assert_array_equal(ds.sel(time=slice(start, stop)).time.values, expected)
        for time in edges[:-1]:
            nearest = times[np.argmin(np.abs(times - time))]
            assert ds.sel(time=time, method="nearest").time == nearest
        wanted = [30.0, 20.0, 20.5]
        expected = times[times.get_indexer(wanted, method="pad")]
        np.testing.assert_array_equal(ds.sel(time=wanted, method="pad").time.values, expected)
        assert ds.data.sel(time=times[9]).values == pytest.approx(ds.data.values[9])
        with pytest.raises(KeyError, match=names("method='nearest'")):
            ds.sel(time=times[3] + 1e-6)
        with pytest.raises(KeyError):
            ds.sel(time=times[3] + 1e-3, method="nearest", tolerance=1e-6)
        with pytest.raises(TypeError, match="seconds"):
            ds.sel(time=slice("a", "b"))


def test_equal_times_are_all_selected():
    times = xr.Variable("time", [0.0, 1.0, 1.0, 2.0])
    index = time_index.TimeIndex.from_variables({"time": times}, options={})
    ds = xr.Dataset({"x": ("time", [1, 2, 3, 4])}, xr.Coordinates({"time": times}, {"time": index}))
    assert list(ds.sel(time=slice(1, 1)).x.values) == [2, 3]
    assert list(ds.sel(time=1.0).x.values) == [2, 3]
    assert ds.sel(time=1.9, method="nearest").x == 4
    assert ds.sel(time=1.1, method="nearest").time == 1


def test_times_that_go_back_are_not_selected(path):
    with open_group(path, "acquisition/backwards") as ds:
        message = names(path, "/acquisition/backwards", "sample 400", "isel")
        for label in (slice(10, 20), 12.0):
            with pytest.raises(ReadError, match=message):
                ds.sel(time=label)
        with pytest.raises(ReadError, match=message):
            ds.sel(time=12.0, method="nearest")
        assert ds.isel(time=slice(0, 400)).sel(time=slice(10, 20)).sizes["time"] > 10
        np.testing.assert_array_equal(ds.isel(time=slice(390, 410)).data.values, RAW[390:410, 0])


def test_index_works_in_operations_of_xarray(path):
    with open_group(path, "acquisition/EMG") as ds, open_group(path, "acquisition/linked") as other:
        xr.align(ds, other, join="exact")
        assert (ds.data * other.data).sizes == {"time": N, "channel": 3}
        head, tail = ds.isel(time=slice(0, 10)), ds.isel(time=slice(5, 20))
        np.testing.assert_array_equal(xr.align(head, tail)[0].time.values, JITTERED[5:10])
        assert xr.align(head, tail, join="outer")[1].data.isnull().sum() == 15
        joined = xr.concat([head, ds.isel(time=slice(10, 20))], "time", data_vars="minimal")
        xr.testing.assert_equal(joined.drop_indexes("time"), ds.isel(time=slice(0, 20)).drop_indexes("time"))
        assert joined.sel(time=slice(JITTERED[8], JITTERED[12])).sizes["time"] == 5
        with pytest.raises(xr.AlignmentError):
            xr.align(head, tail, join="exact")
        with open_group(path, "acquisition/plain") as plain:
            assert not ds.xindexes["time"].equals(plain.xindexes["time"])
        np.testing.assert_array_equal(head.control.to_pandas().index, JITTERED[:10])
        assert head.to_dataframe().loc[(JITTERED[3], "FCU"), "data"] == RAW[3, 1] * 0.25 - 1.5
        assert ds.indexes["time"].equals(pd.Index(JITTERED, name="time"))
        assert ds.rename(time="t").sel(t=slice(10, 20)).sizes["t"] == ds.sel(time=slice(10, 20)).sizes["time"]
        np.testing.assert_array_equal(ds.roll(time=2, roll_coords=True).time.values, np.roll(JITTERED, 2))
        copied = ds.copy(deep=True)
        np.testing.assert_array_equal(copied.sel(time=slice(10, 20)).time, ds.sel(time=slice(10, 20)).time)
        assert "TimeIndex" in repr(ds)


def test_columns_of_tables(either):
    with open_group(either, "intervals/trials") as ds:
        assert ds.sizes["id"] == 4  # a column has the nicer name
        np.testing.assert_array_equal(ds.trial.values, [0, 1, 4, 9])
        np.testing.assert_array_equal(ds.start_time.values, np.arange(4.0))
        assert ds.start_time.attrs["units"] == "s"
        assert ds.target.dims == ("id", "target_dim1")
        np.testing.assert_array_equal(ds.target.values[:, 1], 2.0 * np.arange(4))
    with open_group(either, "units") as ds:
        assert list(ds.unit.values) == [10, 11, 12]
        assert list(ds.quality.values) == ["gut", "gut ", "gut é"]
        assert ds.is_good.dtype == bool
        assert list(ds.is_good.values) == [False, True, False]


def test_columns_of_references_are_named(path):
    with open_group(path, "intervals/trials") as ds:
        assert ds.attrs["omitted"].startswith("timeseries (")
        assert {"timeseries", "timeseries_index"}.isdisjoint(ds.variables)
    with open_group(path, "general/extracellular_ephys/electrodes") as ds:
        assert list(ds.electrode.values) == [100, 101, 102, 103, 104]
        assert ds.attrs["omitted"].startswith("group (")
    with open_group(path, "units") as ds:
        assert ds.electrodes.attrs["table"] == "/general/extracellular_ephys/electrodes"
        np.testing.assert_array_equal(ds.electrodes.values, [0, 1, 1, 2, 2, 3])
    with open_group(path, "general/extracellular_ephys/M1") as ds:
        assert ds.attrs["device"] == "/general/devices/device"


def test_ragged_columns(either):
    with open_group(either, "units") as ds:
        assert ds.spike_times.dims == ("spike_times_row",)
        assert ds.spike_times.attrs["units"] == "s"
        assert ds.spike_times_index.dims == ("unit",)
        ends = np.concatenate([[0], ds.spike_times_index.values])
        for i, spikes in enumerate(SPIKES):
            row = ds.spike_times.isel(spike_times_row=slice(ends[i], ends[i + 1]))
            np.testing.assert_array_equal(row.values, spikes)
        outer = np.concatenate([[0], ds.waveforms_index_index.values])
        inner = np.concatenate([[0], ds.waveforms_index.values])
        assert ds.waveforms_index.dims == ("waveforms_index_row",)
        for i, waveforms in enumerate(WAVEFORMS):
            flat = ds.waveforms.values[inner[outer[i]] : inner[outer[i + 1]]]
            np.testing.assert_array_equal(flat, waveforms.reshape(-1, 2))


def test_root_tells_of_the_session(either):
    with xr.open_dataset(either, engine="nwb") as ds:
        assert ds.attrs["identifier"] == "id-1"
        assert ds.attrs["session_start_time"].startswith("2020-01-01T00:00:00")
        assert ds.attrs["experimenter"] == "Doe, Jane; Roe, Richard"
        assert ds.attrs["keywords"] == "a; b"
        assert ds.attrs["subject_id"] == "T"
        assert ds.attrs["subject_species"] == "Macaca mulatta"
        assert all(isinstance(value, str | int | float) for value in ds.attrs.values())


@pytest.mark.slow
def test_tree_holds_every_group_and_goes_to_netcdf(either, tmp_path):
    with xr.open_datatree(either, engine="nwb") as tree:
        paths = {node.path for node in tree.subtree}
        assert {
            "/",
            "/acquisition/EMG",
            "/processing/behavior/envelopes/FCR",
            "/units",
            "/general/subject",
        } <= paths
        assert not any("specifications" in path for path in paths)
        tree.to_netcdf(tmp_path / "tree.nc", engine="h5netcdf")
        np.testing.assert_array_equal(tree["processing/behavior/envelopes/FCR/data"].values, np.arange(9.0))
        with xr.open_datatree(tmp_path / "tree.nc", engine="h5netcdf") as back:
            for path in paths:
                saved, node = (t[path].to_dataset(inherit=False) for t in (back, tree))
                indexed = [d for d in {*saved.xindexes, *node.xindexes} if d == "time"]
                xr.testing.assert_equal(saved.drop_indexes(indexed), node.drop_indexes(indexed))
                assert saved.attrs == node.attrs
    groups = xr.open_groups(either, engine="nwb", group="acquisition")
    assert {"/", "/EMG", "/plain"} <= set(groups)
    for ds in groups.values():
        ds.close()


def test_opening_reads_no_data(path, reads):
    with xr.open_datatree(path, engine="nwb") as tree:
        assert max(size for _, size in reads) <= 5  # texts, ids, rows of electrodes
        assert not any(
            name.rsplit("/", 1)[-1] in {"data", "timestamps", "spike_times", "start_time"}
            for name, _ in reads
        )
        reads.clear()
        emg = tree["acquisition/EMG"].to_dataset()
        window = emg.sel(time=slice(10, 12)).isel(channel=1)
        assert all(name.endswith("timestamps") for name, _ in reads)  # once, to check
        reads.clear()
        values = emg.sel(time=slice(20, 21)).data.values
        assert sum(size for name, size in reads if name.endswith("/data")) == values.size
        assert window.sizes["time"] == ((JITTERED >= 10) & (JITTERED <= 12)).sum()
        reads.clear()
        repr(tree)
        tree._repr_html_()
        assert not [name for name, _ in reads if name.endswith(("/data", "/timestamps", "/spike_times"))]


@pytest.mark.slow
def test_dask(either):
    dask = pytest.importorskip("dask")
    with open_group(either, "acquisition/EMG", chunks={}) as ds:
        assert ds.data.chunks is not None
        assert ds.chunks["time"] == ds.data.chunks[0]
    with open_group(either, "acquisition/EMG", chunks={"time": 50}) as ds:
        with dask.config.set(scheduler="threads", num_workers=4):
            np.testing.assert_array_equal(ds.data.mean("time").values, (RAW * 0.25 - 1.5).mean(0))
            total = ds.data.sel(time=slice(10, 20)).sum().compute()
        inside = (JITTERED >= 10) & (JITTERED <= 20)
        assert total == (RAW[inside] * 0.25 - 1.5).sum()
        if either.is_file():  # slow: starts a process
            with dask.config.set(scheduler="processes", num_workers=1):
                np.testing.assert_array_equal(ds.control.compute().values, np.arange(N) % 3)


def test_chunks_follow_the_file(tmp_path, path):
    copy = tmp_path / "chunked.nwb"
    shutil.copy(path, copy)
    with h5py.File(copy, "r+") as file:
        del file["acquisition/plain/data"]
        file.create_dataset("acquisition/plain/data", data=RAW[:, 0], chunks=(128,)).attrs["unit"] = "V"
    with open_group(copy, "acquisition/plain", chunks={}) as ds:
        assert ds.data.chunks == ((128, 128, 128, 128, 88),)
        np.testing.assert_array_equal(ds.data.values, RAW[:, 0])


def test_pickle_opens_the_file_again(either, monkeypatch, tmp_path):
    monkeypatch.chdir(either.parent)
    with xr.open_dataset(either.name, engine="nwb", group="acquisition/EMG") as ds:
        data = pickle.dumps(ds)
    monkeypatch.chdir(tmp_path)
    with pickle.loads(data) as ds:
        np.testing.assert_array_equal(ds.data.values, RAW * 0.25 - 1.5)
        np.testing.assert_array_equal(
            ds.sel(time=slice(10, 20)).time, JITTERED[(JITTERED >= 10) & (JITTERED <= 20)]
        )
    tree = xr.open_datatree(either, engine="nwb")
    with pickle.loads(pickle.dumps(tree)) as copy:
        assert copy["units"].to_dataset().spike_times.values[-1] == 3.5
    tree.close()


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux")
def test_closing_lets_go_of_the_file(path, tmp_path):
    copy = tmp_path / "copy.nwb"
    shutil.copy(path, copy)
    ds = open_group(copy, "acquisition/EMG")
    ds.data[:3].load()
    assert list_open(copy)
    ds.close()
    assert not list_open(copy)
    with xr.open_datatree(copy, engine="nwb") as tree:
        tree["units/quality"].load()
    with pytest.raises(MissingDataError):
        open_group(copy, "nothing")
    assert not list_open(copy)
    with h5py.File(copy, "r+") as file:  # another program may write now
        file["acquisition/EMG/data"][0] = 0
    with open_group(copy, "acquisition/EMG") as ds:
        assert (ds.data[0].values == -1.5).all()
        ds.data[1] = 5.0
    with h5py.File(copy) as file:  # nothing is written back
        np.testing.assert_array_equal(file["acquisition/EMG/data"][1], RAW[1])


def test_missing_group_lists_near_names(either):
    with pytest.raises(MissingDataError, match=names(either, "acquisition/EGM", "acquisition/EMG")):
        open_group(either, "acquisition/EGM")
    with pytest.raises(MissingDataError, match=names(either, "acquisition/EMG/data", "group")):
        open_group(either, "acquisition/EMG/data")
    with pytest.raises(MissingDataError, match=names(either, "zzzzzzzz", "acquisition")):
        open_group(either, "zzzzzzzz")


def test_drop_variables(path):
    with open_group(path, "acquisition/EMG", drop_variables=["control", "nothing"]) as ds:
        assert "control" not in ds
        assert "data" in ds
    with open_group(path, "units", drop_variables="spike_times") as ds:
        assert "spike_times" not in ds


def test_names_that_are_recognized():
    backend = NwbBackend()
    for name in ("a.nwb", "/x/a.NWB", "https://h/a.nwb", "b.nwb.zarr/", "dandi://000121/sub-a/x"):
        assert backend.guess_can_open(name)
    for name in ("a.nc", "a.zarr", "nwb", b"a.nwb", None):
        assert not backend.guess_can_open(name)
    assert "nwb" in xr.backends.list_engines()


def test_not_a_path_is_refused(tmp_path):
    with pytest.raises(UnsupportedFileError, match=names("path", 3)):
        NwbBackend().open_dataset(3)
    with pytest.raises(UnsupportedFileError, match=names(tmp_path / "none.nwb", "check")):
        open_group(tmp_path / "none.nwb", None)


def damage(path, dataset, tmp_path):
    """Return a copy in which the first chunk of a dataset, now compressed, is garbage."""
    copy = tmp_path / "damaged.nwb"
    shutil.copy(path, copy)
    with h5py.File(copy, "r+") as file:
        values, attrs = file[dataset][()], dict(file[dataset].attrs)
        del file[dataset]
        new = file.create_dataset(dataset, data=values, chunks=(100, *values.shape[1:]), compression="gzip")
        new.attrs.update(attrs)
        offset = new.id.get_chunk_info(0).byte_offset
    with copy.open("r+b") as stream:
        stream.seek(offset)
        stream.write(b"\xff" * 40)
    return copy


def test_damaged_values_are_named(path, tmp_path):
    copy = damage(path, "acquisition/EMG/data", tmp_path)
    with open_group(copy, "acquisition/EMG") as ds:
        with pytest.raises(ReadError, match=names(copy, "/acquisition/EMG/data")):
            ds.data.load()
        np.testing.assert_array_equal(ds.data[200:].values, RAW[200:] * 0.25 - 1.5)


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        (lambda f: f.__delitem__("acquisition/EMG/timestamps"), "acquisition/linked"),
        (lambda f: f["acquisition/plain/starting_time"].attrs.__setitem__("rate", 0.0), "acquisition/plain"),
        (lambda f: f["acquisition/plain/starting_time"].attrs.__setitem__("rate", "x"), "acquisition/plain"),
        (lambda f: f.__setitem__("acquisition/loop", f["acquisition"]), "acquisition"),
        (lambda f: f.__setitem__("acquisition/soft", h5py.SoftLink("/nowhere")), "acquisition"),
        (lambda f: f.__setitem__("units/empty", h5py.Empty("f4")), "units"),
        (lambda f: f.__setitem__("units/short", np.arange(2)), "units"),
        (lambda f: f["acquisition/plain"].__setitem__("timestamps", np.arange(5.0)), "acquisition/plain"),
        (lambda f: f.__setitem__("units/named", np.dtype("f8")), "units"),
        (lambda f: f["units/spike_times_index"].write_direct(np.array([9, 1, 200], "u1")), "units"),
        (lambda f: f["units"].__setitem__("mask", np.zeros(3, [("x", "i4"), ("w", "f8")])), "units"),
    ],
)
def test_odd_structure_is_shown_or_refused(path, tmp_path, change, shown):
    copy = tmp_path / "odd.nwb"
    shutil.copy(path, copy)
    with h5py.File(copy, "r+") as file:
        change(file)
    with xr.open_datatree(copy, engine="nwb") as tree:
        ds = tree[shown].to_dataset().load()
        if "time" in ds.coords and "plain" in shown:
            assert ds.time.isnull().all()
            with pytest.raises(ReadError, match=names(copy, "isel")):
                ds.sel(time=1.0)
        assert ds.variables or shown == "acquisition"


@pytest.mark.parametrize("n_more", [1, -1])
def test_columns_of_another_length_are_whole_and_say_so(path, tmp_path, n_more):
    copy = shutil.copy(path, tmp_path / "uneven.nwb")
    with h5py.File(copy, "r+") as file:
        n_rows = len(file["units/id"])
        file["units/uneven"] = np.arange(n_rows + n_more)
    with open_group(copy, "units") as ds:
        assert ds.sizes["unit"] == n_rows
        np.testing.assert_array_equal(ds["uneven"], np.arange(n_rows + n_more))
        assert_names(ds["uneven"].attrs["problem"], n_rows + n_more, n_rows)
        assert [name for name in ds.variables if "problem" in ds[name].attrs] == ["uneven"]


@pytest.mark.slow
def test_broken_objects_raise_our_errors_only(path, tmp_path):
    content = path.read_bytes()
    rng = np.random.default_rng(5)
    copy = tmp_path / "broken.nwb"
    n_failed = 0
    for _ in range(20):
        broken = bytearray(content)
        start = int(rng.integers(0, len(broken) - 64))
        broken[start : start + 64] = rng.bytes(64)
        copy.write_bytes(bytes(broken))
        try:
            with xr.open_datatree(copy, engine="nwb") as tree:
                tree.load()
        except NwbrnnError:
            n_failed += 1
        assert not list_open(copy)
    assert n_failed < 20


def test_real_file(shared_data):
    path = shared_data("jango_20141203.nwb")
    with xr.open_datatree(path, engine="nwb") as tree, h5py.File(path) as file:
        cursor = tree["processing/behavior/Position/cursor_pos"].to_dataset().sel(time=slice(100, 101))
        assert cursor.sizes == {"time": 21, "channel": 2}
        raw = file["processing/behavior/Position/cursor_pos/data"][2000:2021]
        np.testing.assert_allclose(cursor.data.values, raw.astype(float) * 0.01)
        units = tree["units"].to_dataset()
        end = units.spike_times_index.values[0]
        np.testing.assert_array_equal(units.spike_times[:end].values, file["units/spike_times"][:end])
        assert list(tree["intervals/trials/result"].values[:5]) == [
            v.decode() for v in file["intervals/trials/result"][:5]
        ]


def test_every_real_file_opens(shared_data):
    for path in sorted(shared_data("jango_20141203.nwb").parent.glob("*.nwb")):
        with xr.open_datatree(path, engine="nwb") as tree:
            assert tree["units"].sizes["unit"] > 0
            assert tree["intervals/trials"].sizes["trial"] > 100
            assert tree.attrs["identifier"]


@pytest.mark.slow
def test_window_of_a_file_on_a_server(make_recording):
    pytest.importorskip("aiohttp")
    from servers import serve_folder

    file = make_recording(emg_rate=5000.0)
    with serve_folder(file.path.parent) as server:
        with open_group(f"{server.url}/{file.path.name}", "acquisition/EMG") as ds:
            window = ds.sel(time=slice(50.0, 50.01))
            np.testing.assert_array_equal(window.data.values, file.emg[250000:250051])
            np.testing.assert_allclose(window.time.values, np.arange(250000, 250051) / 5000)
        assert server.n_bytes < file.path.stat().st_size / 2


def test_links_out_of_the_file_only_if_allowed(path, tmp_path):
    copy = tmp_path / "linking.nwb"
    shutil.copy(path, copy)
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["values"] = np.arange(float(N))
    with h5py.File(copy, "r+") as file:
        del file["acquisition/plain/data"]
        file["acquisition/plain/data"] = h5py.ExternalLink("other.h5", "/values")
    with pytest.raises(
        UnsupportedFileError, match=names(copy, "/acquisition/plain/data -> other.h5", "follow_links")
    ):
        open_group(copy, "acquisition/plain")
    with open_group(copy, "acquisition/plain", follow_links=True) as ds:
        np.testing.assert_array_equal(ds.data.values, np.arange(float(N)))


def test_compound_columns_become_several(path, tmp_path):
    copy = tmp_path / "compound.nwb"
    shutil.copy(path, copy)
    mask = np.array([(1, 0.5), (2, 0.25), (3, 1.0)], [("x", "i4"), ("weight", "f8")])
    with h5py.File(copy, "r+") as file:
        file["units/mask"] = mask
    with open_group(copy, "units") as ds:
        assert ds.mask_x.dims == ("unit",)
        np.testing.assert_array_equal(ds.mask_x.values, mask["x"])
        np.testing.assert_array_equal(ds.mask_weight[1:].values, mask["weight"][1:])


def test_wrong_channel_conversion_is_refused(path, tmp_path):
    copy = tmp_path / "wrong.nwb"
    shutil.copy(path, copy)
    with h5py.File(copy, "r+") as file:
        del file["acquisition/ES/channel_conversion"]
        file["acquisition/ES/channel_conversion"] = np.ones(2)
    with pytest.raises(ReadError, match=names(copy, "/acquisition/ES", "channel_conversion", 2)):
        open_group(copy, "acquisition/ES")
    with open_group(copy, "acquisition/EMG") as ds:
        assert ds.sizes["channel"] == 3
