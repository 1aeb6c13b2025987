"""Links that lead out of a file are followed only with permission; those inside always."""

import ast
import os
import re
import uuid
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

import nwbrnn
from nwbrnn.errors import NwbrnnError, SchemaError, UnsupportedFileError
from nwbrnn.formats import read_circuit
from nwbrnn.readers import read_run
from nwbrnn.readers.doctor import diagnose
from nwbrnn.storage import open_nwb
from nwbrnn.storage.virtual import MAX_DEPTH
from nwbrnn.sweep import list_finished, read_cell
from nwbrnn.sweep.page import write_sweep_report
from tests.messages import names

pytestmark = pytest.mark.slow

EMG = "acquisition/EMG"
DATA = f"{EMG}/data"


@pytest.fixture
def pair(recording, tmp_path):
    """Return two copies of the recording: ``here``, and ``there`` with other values."""
    here, there = tmp_path / "here.nwb", tmp_path / "there.nwb"
    for path in (here, there):
        path.write_bytes(recording.path.read_bytes())
    with h5py.File(there, "r+") as file:
        file[DATA][...] = file[DATA][...] * 3 + 1
    return here, there


def link_externally(file, there, name=DATA):
    del file[name]
    file[name] = h5py.ExternalLink(there.name, name)
    return f"/{name} -> {there.name}"


def link_group_externally(file, there):
    del file[EMG]
    file[EMG] = h5py.ExternalLink(str(there), EMG)
    return f"/{EMG} -> {there}"


def store_externally(file, there, name=DATA):
    attributes = dict(file[name].attrs)
    with h5py.File(there) as other:
        values = other[name][...]
    raw = there.with_suffix(".raw")
    raw.write_bytes(values.tobytes())
    del file[name]
    dataset = file.create_dataset(
        name, shape=values.shape, dtype=values.dtype, external=[(str(raw), 0, raw.stat().st_size)]
    )
    dataset.attrs.update(attributes)
    return f"/{name} -> {raw}"


def map_virtually(file, there, name=DATA):
    attributes, shape, dtype = dict(file[name].attrs), file[name].shape, file[name].dtype
    del file[name]
    layout = h5py.VirtualLayout(shape, dtype)
    layout[...] = h5py.VirtualSource(str(there), name, shape=shape)
    file.create_virtual_dataset(name, layout).attrs.update(attributes)
    return f"/{name} -> {there}"


WAYS = [
    link_externally,
    link_group_externally,
    store_externally,
    map_virtually,
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_link_to_another_file_needs_permission(way, pair):
    here, there = pair
    with h5py.File(here, "r+") as file:
        link = way(file, there)
    for read in (nwbrnn.read_nwb, nwbrnn.inspect_nwb):
        with pytest.raises(UnsupportedFileError) as refused:
            read(here)
        assert str(refused.value).startswith(f"{here}: ")
        assert link in str(refused.value)
        assert "follow_links" in str(refused.value)


@pytest.mark.parametrize("way", [link_externally, store_externally, map_virtually], ids=lambda w: w.__name__)
def test_netcdf_never_links_to_another_file(way, recording, tmp_path):
    here, there = tmp_path / "session.nc", tmp_path / "there.nc"
    nwbrnn.write_dataset(nwbrnn.read_nwb(recording.path), here)
    there.write_bytes(here.read_bytes())
    with h5py.File(here, "r+") as file:
        link = way(file, there, "outputs")
    for read in (nwbrnn.read_dataset, read_run):
        with pytest.raises(UnsupportedFileError) as refused:
            read(here)
        assert str(refused.value).startswith(f"{here}: ")
        assert link in str(refused.value)


def test_netcdf_3_is_read(recording, tmp_path):
    ds = nwbrnn.read_nwb(recording.path)
    path = tmp_path / "session.nc"
    xr.Dataset({"outputs": ds["outputs"].variable}).to_netcdf(path, engine="scipy")
    with pytest.raises(SchemaError, match="inputs"):  # which this kind of file could not hold all of
        nwbrnn.read_dataset(path)


OPENERS = {
    "a fit": ("fit.nwb", nwbrnn.read_fit),
    "a circuit": ("teacher.nwb", read_circuit),
    "the doctor": ("session.nwb", diagnose),
    "the engine": ("session.nwb", lambda path: xr.open_dataset(path, engine="nwb")),
    "a cell": ("cells/one.nc", read_cell),
    "the cells": ("cells/one.nc", lambda path: list_finished(path.parents[1])),
    "a table": ("table.nc", lambda path: write_sweep_report(path.parent, path.with_suffix(".html"))),
}


@pytest.mark.parametrize(("name", "read"), OPENERS.values(), ids=OPENERS)
def test_whatever_opens_a_file_looks_for_links_first(name, read, tmp_path):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    with h5py.File(path, "w") as file:
        file.attrs["nwb_version"] = "2.7.0"
        file["some/where"] = h5py.ExternalLink("/elsewhere.h5", "/x")
    with pytest.raises(UnsupportedFileError, match=r"/some/where -> /elsewhere\.h5") as refused:
        read(path)
    assert str(refused.value).startswith(f"{path}: ")


def test_the_version_is_not_looked_up_behind_a_link(tmp_path):
    path = tmp_path / "old.nwb"
    with h5py.File(path, "w") as file:
        file["nwb_version"] = h5py.ExternalLink("/elsewhere.h5", "/x")  # NWB 1 has it there
    with pytest.raises(UnsupportedFileError, match=r"/nwb_version -> /elsewhere\.h5"):
        nwbrnn.read_nwb(path)


def list_calls(path):
    """Return what a module calls, as it is written there: ``h5py.File``."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {ast.unparse(node.func) for node in nodes if isinstance(node, ast.Call)}


def test_files_are_opened_in_one_place():
    openers = re.compile(r"h5py\.File|zarr\.open\w*|(xr|xarray)\.(open|load)_\w+|(h5netcdf|netCDF4)\.\w+")
    package = Path(nwbrnn.__file__).parent
    found = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if any(openers.fullmatch(call) for call in list_calls(path))
    }
    assert found == {f"storage/{name}.py" for name in ("damage", "datasets", "file", "output", "zarr_store")}


def test_soft_link_through_an_external_one_needs_permission(pair):
    here, there = pair
    with h5py.File(here, "r+") as file:  # the soft link itself looks like one inside the file
        file["specifications/elsewhere"] = h5py.ExternalLink(there.name, "/")
        del file[DATA]
        file[DATA] = h5py.SoftLink(f"/specifications/elsewhere/{DATA}")
        assert file[DATA].file.filename == str(there)
    with pytest.raises(
        UnsupportedFileError, match=names(here, "/specifications/elsewhere -> there.nwb", "--follow-links")
    ):
        nwbrnn.read_nwb(here)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_linked_values_arrive_in_the_dataset(way, pair):
    here, there = pair
    own = nwbrnn.read_nwb(here)
    with h5py.File(here, "r+") as file:
        way(file, there)
    linked = nwbrnn.read_nwb(here, follow_links=True)
    recorded = own["mask"].values
    np.testing.assert_allclose(
        linked["outputs"].values[recorded], own["outputs"].values[recorded] * 3 + 1, rtol=1e-5
    )
    np.testing.assert_array_equal(linked["spike_counts"], own["spike_counts"])


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_link_to_a_missing_file_is_refused(way, pair):
    here, there = pair
    with h5py.File(here, "r+") as file:
        link = way(file, there)
    there.unlink()
    there.with_suffix(".raw").unlink(missing_ok=True)
    with pytest.raises(UnsupportedFileError, match=names(here, link)):
        nwbrnn.read_nwb(here, follow_links=True)


def test_link_in_a_group_nobody_reads_is_found(pair):
    here, there = pair
    with h5py.File(here, "r+") as file:
        file["specifications/core/deep/er"] = h5py.ExternalLink(there.name, "/units")
    with pytest.raises(
        UnsupportedFileError, match=names(here, "/specifications/core/deep/er -> there.nwb", "--follow-links")
    ):
        nwbrnn.inspect_nwb(here)


def test_links_inside_the_file_need_no_permission(tmp_path):
    from datetime import UTC, datetime

    from pynwb import NWBHDF5IO, NWBFile, TimeSeries

    stamps = np.arange(50) / 10
    first = TimeSeries(name="EMG_one", data=np.arange(50.0), unit="mV", timestamps=stamps)
    second = TimeSeries(name="EMG_two", data=-np.arange(50.0), unit="mV", timestamps=first)
    nwbfile = NWBFile("x", "x", datetime(2020, 1, 1, tzinfo=UTC))
    nwbfile.add_acquisition(first)
    nwbfile.add_acquisition(second)
    path = tmp_path / "shared.nwb"
    with NWBHDF5IO(str(path), "w") as io:
        io.write(nwbfile)
    with h5py.File(path) as file:
        links = [file["acquisition"][f"EMG_{n}"].get("timestamps", getlink=True) for n in ("one", "two")]
        assert sum(isinstance(link, h5py.SoftLink) for link in links) == 1
    (signal,) = nwbrnn.inspect_nwb(path).signals
    assert (signal["path"], signal["samples"]) == ("acquisition/EMG*", 50)
    assert signal["interval"] == pytest.approx(0.1)
    with open_nwb(path) as nwbfile:
        np.testing.assert_array_equal(nwbfile.acquisition["EMG_two"].timestamps[:], stamps)


def test_soft_link_inside_the_file_gives_the_same_values(recording, tmp_path):
    path = tmp_path / "soft.nwb"
    path.write_bytes(recording.path.read_bytes())
    with h5py.File(path, "r+") as file:
        file.copy(EMG, "acquisition/EMG_too")
        file["acquisition/EMG_too"].attrs["object_id"] = str(uuid.uuid4())
        del file["acquisition/EMG_too/data"]
        file["acquisition/EMG_too/data"] = h5py.SoftLink(f"/{DATA}")
    np.testing.assert_array_equal(
        nwbrnn.read_nwb(path, outputs="acquisition/EMG_too")["outputs"].values,
        nwbrnn.read_nwb(recording.path)["outputs"].values,
    )


def test_virtual_dataset_of_the_same_file_needs_no_permission(recording, tmp_path):
    path = tmp_path / "virtual.nwb"
    path.write_bytes(recording.path.read_bytes())
    with h5py.File(path, "r+") as file:
        attributes, shape, dtype = dict(file[DATA].attrs), file[DATA].shape, file[DATA].dtype
        file.move(DATA, "acquisition/EMG/moved")
        layout = h5py.VirtualLayout(shape, dtype)
        layout[...] = h5py.VirtualSource(file["acquisition/EMG/moved"])
        file.create_virtual_dataset(DATA, layout).attrs.update(attributes)
    np.testing.assert_array_equal(
        nwbrnn.read_nwb(path)["outputs"].values, nwbrnn.read_nwb(recording.path)["outputs"].values
    )


@pytest.mark.parametrize("place", ["processing", "acquisition", "scratch/loop", "units"])
def test_circle_of_hard_links_ends(place, recording, tmp_path):
    path = tmp_path / "circle.nwb"
    path.write_bytes(recording.path.read_bytes())
    with h5py.File(path, "r+") as file:
        group = file.require_group(place)
        group["circle"] = group
        group["root"] = file["/"]
    before = path.read_bytes()
    for read in (nwbrnn.read_nwb, nwbrnn.inspect_nwb):
        message = ""
        try:
            assert read(path) is not None
        except NwbrnnError as error:
            message = str(error)
        assert message.startswith(str(path)) or not message
    assert path.read_bytes() == before


@pytest.mark.parametrize("target", ["/acquisition/nothing", "/acquisition/EMG/data"])
def test_soft_link_to_nothing_or_itself_ends(target, recording, tmp_path):
    path = tmp_path / "dangling.nwb"
    path.write_bytes(recording.path.read_bytes())
    with h5py.File(path, "r+") as file:
        del file[DATA]
        file[DATA] = h5py.SoftLink(target)
    with pytest.raises(NwbrnnError, match=names(path)):
        nwbrnn.read_nwb(path)


# ------------------------------------------------------------------ virtual datasets that never end


def add_virtual(file, name, source, *, of=".", like=DATA):
    """Put a virtual dataset of another into a file."""
    shape, dtype = file[like].shape, file[like].dtype
    layout = h5py.VirtualLayout(shape, dtype)
    layout[...] = h5py.VirtualSource(of, source, shape=shape, dtype=dtype)
    return file.create_virtual_dataset(name, layout)


def replace_virtually(file, source, *, of="."):
    """Put a virtual dataset in the place of the EMG."""
    attributes = dict(file[DATA].attrs)
    file.move(DATA, f"{EMG}/moved")
    add_virtual(file, DATA, source, of=of, like=f"{EMG}/moved").attrs.update(attributes)


def add_unlimited(source, n_rows):
    """Let the extent of a virtual dataset grow with its source, or with the number of them."""

    def change(file, _):
        attributes, shape = dict(file[DATA].attrs), file[DATA].shape
        file.move(DATA, f"{EMG}/moved")
        unlimited = h5py.h5s.UNLIMITED
        whole = h5py.h5s.create_simple(shape, (unlimited, shape[1]))
        whole.select_hyperslab((0, 0), (unlimited, 1), None, (1, shape[1]))
        part = h5py.h5s.create_simple(shape, (unlimited, shape[1]))
        part.select_hyperslab((0, 0), (n_rows, 1), None, (1, shape[1]))
        settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        settings.set_virtual(whole, b".", source.encode(), part)
        h5py.h5d.create(file.id, DATA.encode(), h5py.h5t.NATIVE_DOUBLE, whole, settings)
        file[DATA].attrs.update(attributes)

    return change


def link_softly(file, _):
    file[f"{EMG}/other"] = h5py.SoftLink(f"/{DATA}")
    replace_virtually(file, f"{EMG}/other")


def link_hard(file, _):
    replace_virtually(file, f"{EMG}/other")
    file[f"{EMG}/other"] = file[DATA]


def add_ring(n):
    def change(file, _):
        replace_virtually(file, f"{EMG}/ring_1")
        for i in range(1, n):
            source = DATA if i == n - 1 else f"{EMG}/ring_{i + 1}"
            add_virtual(file, f"{EMG}/ring_{i}", source, like=f"{EMG}/moved")

    return change


CIRCLES = {
    "itself": lambda file, _: replace_virtually(file, DATA),
    "itself by an absolute path": lambda file, _: replace_virtually(file, f"/{DATA}"),
    "itself by a path with dots": lambda file, _: replace_virtually(file, "./acquisition/.//EMG/./data/"),
    "itself by a soft link": link_softly,
    "itself by a hard link": link_hard,
    "itself by a pattern": add_unlimited(f"{EMG}/dat%b", 1),
    "itself without limits": add_unlimited(DATA, h5py.h5s.UNLIMITED),
    "two": add_ring(2),
    "three": add_ring(3),
    "twelve": add_ring(12),
    "itself by the name of the file": lambda file, path: replace_virtually(file, DATA, of=path.name),
    "itself by the path of the file": lambda file, path: replace_virtually(file, DATA, of=str(path)),
    "itself by another name of the file": lambda file, path: replace_virtually(file, DATA, of="alias.nwb"),
    "itself by a link to the file": lambda file, path: replace_virtually(file, DATA, of="link.nwb"),
}


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize("circle", CIRCLES)
def test_virtual_dataset_that_is_its_own_source_is_refused(circle, follow, pair):
    here, _ = pair
    os.link(here, here.with_name("alias.nwb"))
    here.with_name("link.nwb").symlink_to(here.name)
    with h5py.File(here, "r+") as file:
        CIRCLES[circle](file, here)
    for read in (nwbrnn.read_nwb, nwbrnn.inspect_nwb, nwbrnn.diagnose):
        with pytest.raises(UnsupportedFileError, match=rf"here\.nwb: .*{EMG}"):
            read(here, follow_links=follow)


@pytest.mark.parametrize("way", ["a virtual dataset", "a link"])
def test_circle_through_another_file_is_refused(way, pair):
    here, there = pair
    with h5py.File(here, "r+") as file:
        if way == "a link":
            link_externally(file, there)
        else:
            replace_virtually(file, DATA, of=there.name)
    with h5py.File(there, "r+") as file:
        replace_virtually(file, DATA, of="." if way == "a link" else here.name)
    for follow in (False, True):
        with pytest.raises(UnsupportedFileError, match=rf"here\.nwb: .*{DATA}"):
            nwbrnn.read_nwb(here, follow_links=follow)


def test_virtual_datasets_behind_one_another_are_read_up_to_a_depth(recording, tmp_path):
    path = tmp_path / "deep.nwb"
    for depth in (MAX_DEPTH, MAX_DEPTH + 1):
        path.write_bytes(recording.path.read_bytes())
        with h5py.File(path, "r+") as file:
            replace_virtually(file, f"{EMG}/deep_1" if depth > 1 else f"{EMG}/moved")
            for i in range(1, depth):
                source = f"{EMG}/deep_{i + 1}" if i < depth - 1 else f"{EMG}/moved"
                add_virtual(file, f"{EMG}/deep_{i}", source, like=f"{EMG}/moved")
        if depth == MAX_DEPTH:
            np.testing.assert_array_equal(
                nwbrnn.read_nwb(path)["outputs"].values, nwbrnn.read_nwb(recording.path)["outputs"].values
            )
        else:
            with pytest.raises(UnsupportedFileError, match=f"more than {MAX_DEPTH} virtual datasets"):
                nwbrnn.read_nwb(path)
