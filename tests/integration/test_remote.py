"""Files on a server and Zarr stores give what the same file on disk gives, or one clear refusal."""

import hashlib
import json
import re
import socket
import sys
import warnings
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr
from pynwb import NWBFile
from pynwb.ecephys import ElectricalSeries
from servers import DANDISET, serve_dandi, serve_folder

import nwbrnn
from nwbrnn.cli import main
from nwbrnn.errors import ReadError, UnsupportedFileError
from nwbrnn.readers.discovery import find_signals
from nwbrnn.storage import open_nwb
from tests.messages import assert_names, names

pytestmark = [pytest.mark.slow, pytest.mark.cover]

MEBIBYTE = 1 << 20
ORIGIN = ("source_file", "source_sha256")


def assert_same(ds, expected):
    copies = []
    for original in (ds, expected):
        copy = original.copy()
        copy.attrs = {name: value for name, value in original.attrs.items() if name not in ORIGIN}
        copies.append(copy)
    xr.testing.assert_identical(*copies)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Try again at once: servers of this machine need no pause."""
    monkeypatch.setattr("nwbrnn.storage.remote.PAUSE", 0)


@pytest.fixture
def server(recording):
    with serve_folder(recording.path.parent) as running:
        yield running


@pytest.fixture(scope="module")
def local(recording):
    return nwbrnn.read_nwb(recording.path)


@pytest.fixture(scope="module")
def large(make_recording):
    """Return a file of several blocks."""
    file = make_recording(emg_rate=5000.0)
    assert file.path.stat().st_size > 4 * MEBIBYTE
    return file


def test_url_gives_the_same_dataset(server, recording, local):
    url = f"{server.url}/{recording.path.name}"
    ds = nwbrnn.read_nwb(url)
    assert_same(ds, local)
    assert ds.attrs["source_file"] == url
    assert ds.attrs["source_sha256"] == ""
    assert local.attrs["source_sha256"] == hashlib.sha256(recording.path.read_bytes()).hexdigest()


def test_url_gives_the_same_inspection(server, recording):
    url = f"{server.url}/{recording.path.name}"
    assert nwbrnn.inspect_nwb(url).to_dict() == nwbrnn.inspect_nwb(recording.path).to_dict()


@pytest.mark.parametrize("read", [nwbrnn.read_fit, nwbrnn.read_circuit])
def test_an_address_given_as_a_path_is_named_once(read, server, recording):
    url = f"{server.url}/{recording.path.name}"
    with pytest.raises(ReadError, match=rf"\A{url}: processing/") as refused:
        read(Path(url))  # which merges the two slashes
    assert str(refused.value).count(recording.path.name) == 1


@pytest.mark.slow
def test_url_can_be_fitted(server, recording, run_cli, tmp_path):
    pytest.importorskip("torch")
    url = f"{server.url}/{recording.path.name}"
    before = hashlib.sha256(recording.path.read_bytes()).hexdigest()
    finished = run_cli("fit", url, "-o", tmp_path / "fit.nwb", "--epochs", "2", "--hidden", "20")
    assert (finished.code, finished.err) == (0, "")
    ds = nwbrnn.read_fit(tmp_path / "fit.nwb").recorded
    assert ds.sizes["output"] == 3
    assert hashlib.sha256(recording.path.read_bytes()).hexdigest() == before
    assert [path.name for path in tmp_path.iterdir()] == ["fit.nwb"]


def test_only_what_is_needed_is_fetched(large):
    with serve_folder(large.path.parent) as server:
        with open_nwb(f"{server.url}/{large.path.name}") as nwbfile:
            first = nwbfile.acquisition["EMG"].data[0]
        np.testing.assert_array_equal(first, large.emg[0])
        assert server.n_bytes < large.path.stat().st_size / 2
        assert len(server.requests) <= 6


def test_server_without_ranges_is_refused(large):
    with serve_folder(large.path.parent, ranges=False) as server:
        url = f"{server.url}/{large.path.name}"
        with pytest.raises(UnsupportedFileError, match=names(url, "range", "download")) as refused:
            nwbrnn.read_nwb(url)
        assert str(refused.value).startswith(url)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing.nwb", ["Not Found", "address"]),
        ("text.nwb", ["HDF5", "address"]),
        ("short.nwb", ["HDF5", "address"]),
        ("empty.nwb", ["address"]),
        ("truncated.nwb", ["NWB", "download"]),
        ("plain.nwb", ["'nwb_version'", ".nwb"]),
        ("missing.nwb.zarr", ["Zarr", "address"]),
        ("listed.zarr", ["Zarr", "zarr.consolidate_metadata"]),
    ],
)
def test_what_is_not_nwb_is_refused(name, words, recording, tmp_path):
    (tmp_path / "text.nwb").write_text("not HDF5, though it is called NWB\n" * 100)
    (tmp_path / "short.nwb").write_text("x")
    (tmp_path / "empty.nwb").write_bytes(b"")
    whole = recording.path.read_bytes()
    (tmp_path / "truncated.nwb").write_bytes(whole[: len(whole) // 2])
    with h5py.File(tmp_path / "plain.nwb", "w") as file:
        file["numbers"] = np.arange(3)
    (tmp_path / "listed.zarr").mkdir()
    (tmp_path / "listed.zarr" / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
    if name.endswith("zarr"):
        pytest.importorskip("hdmf_zarr")
    with serve_folder(tmp_path) as server:
        url = f"{server.url}/{name}"
        for read in (nwbrnn.read_nwb, nwbrnn.inspect_nwb):
            with pytest.raises(UnsupportedFileError) as refused:
                read(url)
            assert str(refused.value).startswith(f"{url}: ")
            assert_names(str(refused.value), *words)
            assert "\n" not in str(refused.value)


def test_refused_connection_says_so():
    with socket.socket() as probe:  # it does not listen, and nobody else gets its port
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/session.nwb"
        with pytest.raises(UnsupportedFileError, match=names(url, "ConnectionRefusedError", "address")):
            nwbrnn.read_nwb(url)


def test_command_line_reports_a_missing_address_in_one_line(server, run_cli):
    finished = run_cli("inspect", f"{server.url}/nothing.nwb")
    assert finished.code == 2
    assert finished.err.startswith(f"Error: {server.url}/nothing.nwb: ")
    assert_names(finished.err, "Not Found", "address")
    assert len(finished.err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("address", "module", "extra"),
    [
        ("https://localhost/session.nwb", "fsspec.core", "nwbrnn[remote]"),
        ("s3://bucket/session.nwb", "botocore.session", "nwbrnn[s3]"),
        ("dandi://000123/session.nwb", "dandi.dandiapi", "nwbrnn[dandi]"),
        ("session.zarr", "hdmf_zarr", "nwbrnn[zarr]"),
    ],
)
def test_missing_package_is_named(address, module, extra, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "session.zarr").mkdir()
    (tmp_path / "session.zarr" / ".zgroup").write_text('{"zarr_format": 2}')
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UnsupportedFileError) as refused:
        nwbrnn.read_nwb(address)
    assert str(refused.value).startswith(f"{address}: ")
    assert f"pip install '{extra}'" in str(refused.value)


# DANDI: its own client, against a server of this computer


@pytest.fixture
def archive(recording, tmp_path, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("dandi.dandiapi", reason="the package dandi is not installed")
    folder = tmp_path / "sub-T"
    folder.mkdir()
    (folder / "sub-T_ecephys.nwb").write_bytes(recording.path.read_bytes())
    with serve_dandi(tmp_path) as server:
        monkeypatch.setenv("DANDI_INSTANCE", server.url)
        monkeypatch.setenv("DANDI_NO_ET", "1")
        yield server


@pytest.mark.parametrize("version", ["", "@draft"])
def test_dandi_asset_gives_the_same_dataset(version, archive, local):
    address = f"dandi://{DANDISET}/sub-T/sub-T_ecephys.nwb{version}"
    ds = nwbrnn.read_nwb(address)
    assert_same(ds, local)
    assert ds.attrs["source_file"] == address
    assert nwbrnn.inspect_nwb(address).problem is None
    assert "GET /sub-T/sub-T_ecephys.nwb" in archive.requests  # where the redirect leads, without signature


@pytest.mark.parametrize(
    ("address", "words"),
    [
        (f"dandi://{DANDISET}/sub-T/other.nwb", ["'sub-T/other.nwb'"]),
        (f"dandi://{DANDISET}/sub-T/sub-T_ecephys.nwb@0.210812.1448", ["'0.210812.1448'", DANDISET]),
        ("dandi://999999/a.nwb", [999999]),
        ("dandi://000123", ["dandi://DANDISET/path@version"]),
    ],
)
def test_unknown_dandi_asset_is_refused(address, words, archive, run_cli):
    finished = run_cli("inspect", address)
    assert finished.code == 2
    assert finished.err.startswith(f"Error: {address}: ")
    assert_names(finished.err.removeprefix(f"Error: {address}: "), *words)
    assert len(finished.err.strip().splitlines()) == 1


DOWNLOAD = "/api/assets/00000000-0000-4000-8000-000000000000/download/"


@pytest.mark.parametrize("form", ["file://{}", "{}", "local://{}", "memory://{}", "simplecache::file://{}"])
def test_archive_cannot_lead_to_a_file_of_this_machine(form, archive, recording):
    archive.redirects[DOWNLOAD] = form.format(recording.path)  # which is there, and could be read
    address = f"dandi://{DANDISET}/sub-T/sub-T_ecephys.nwb"
    with pytest.raises(UnsupportedFileError) as refused:
        nwbrnn.read_nwb(address)
    assert str(refused.value).startswith(f"{address}: ")


@pytest.mark.parametrize("form", ["file://{}", "{}", "local://{}", "https://example.org/::file://{}"])
def test_archive_cannot_lead_to_a_store_of_this_machine(form, archive, format_2):
    (page,) = archive.answers[f"/api/dandisets/{DANDISET}/versions/draft/assets/"]({})["results"]
    page |= {"blob": None, "zarr": page["blob"]}
    archive.redirects[DOWNLOAD] = form.format(format_2)
    address = f"dandi://{DANDISET}/sub-T/sub-T_ecephys.nwb"
    with pytest.raises(UnsupportedFileError) as refused:
        nwbrnn.read_nwb(address)
    assert str(refused.value).startswith(f"{address}: ")


def test_archive_may_lead_to_a_place_of_its_own(archive, local):
    archive.redirects[DOWNLOAD] = "/sub-T/sub-T_ecephys.nwb?X-Amz-Signature=abc"
    assert_same(nwbrnn.read_nwb(f"dandi://{DANDISET}/sub-T/sub-T_ecephys.nwb"), local)


def test_server_cannot_lead_to_a_file_of_this_machine(server, recording):
    server.redirects["/moved.nwb"] = f"file://{recording.path}"
    with pytest.raises(UnsupportedFileError, match=r"/moved\.nwb: "):
        nwbrnn.read_nwb(f"{server.url}/moved.nwb")


# Secrets of addresses, in whatever a command writes or says

COMMANDS = {
    "inspect": ["session.nwb", "--json", "about.json"],
    "doctor": ["session.nwb", "--json", "about.json"],
    "read": ["session.nwb", "-o", "session.nc", "--json", "about.json"],
    "fit": ["session.nwb", "-o", "own.nwb", "--epochs", "2", "--hidden", "20", "--json", "about.json"],
    "sweep": [
        "session.nwb", "-o", "sweep", "--json", "about.json", "--sampled", "0", "--seeds", "1",
        "--resamples", "0", "--set", "hidden=20", "--set", "epochs=2",
    ],
    "evaluate": ["fit.nwb", "--json", "about.json"],
    "report": ["fit.nwb", "-o", "page.html"],
    "perturb": ["fit.nwb", "--unit", "0", "--json", "about.json"],
    "export": ["fit.nwb", "-o", "other.nwb", "--source", "session.nwb"],
    "refit": ["fit.nwb", "-o", "again.nwb", "--source", "session.nwb", "--json", "about.json"],
    "simulate": ["--repeat", "session.nwb", "-o", "teacher.nwb"],
    "dandi": ["session.nwb", "-o", "fits"],
    "convert": ["session.nwb", "-o", "teacher.nwb"],
    "config": ["-o", "session.nwb"],
    "reproduce": ["-o", "session.nwb/claims", "--json", "session.nwb"],
}  # fmt: skip
ON_SERVER = ("session.nwb", "fit.nwb", "missing.nwb", "session.nwb/claims")
LOCAL = ("simulate", "dandi", "convert", "config", "reproduce")  # what they are given here is refused


@pytest.fixture(scope="module")
def fitted(recording, tmp_path_factory):
    """Return a folder with the recording and a fit of it."""
    folder = tmp_path_factory.mktemp("fitted")
    (folder / "session.nwb").write_bytes(recording.path.read_bytes())
    ds = nwbrnn.read_nwb(folder / "session.nwb")
    nwbrnn.write_fit(nwbrnn.fit(ds, epochs=2, hidden=20), folder / "session.nwb", folder / "fit.nwb")
    return folder


@pytest.mark.no_cover
@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize("command", [name for group in main.COMMANDS.values() for name in group])
@pytest.mark.usefixtures("in_process")
def test_no_command_writes_or_says_a_secret(command, exists, fitted, run_cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with serve_folder(fitted) as server:
        folder = server.url.replace("//", "//me:hush@") + ("" if exists else "/missing")
        options = [f"{folder}/{o}?X-Sign=hush" if o in ON_SERVER else o for o in COMMANDS[command]]
        finished = run_cli("--verbose", command, *options)
    assert "hush" not in finished.out + finished.err
    for path in tmp_path.rglob("*"):
        assert "hush" not in str(path)
        assert path.is_dir() or b"hush" not in path.read_bytes()
    assert (finished.code in (0, 1)) == (exists and command not in LOCAL), finished.err


# Zarr: run these with zarr 2 (Python 3.11) and with zarr 3 (Python 3.12 and later)


@pytest.fixture(scope="module")
def zarr():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("hdmf_zarr", reason="the package hdmf-zarr is not installed")
        import zarr
    return zarr


@pytest.fixture(scope="module")
def native(zarr, recording, tmp_path_factory):
    """Return the recording as hdmf-zarr writes it, in the format of the zarr installed."""
    from hdmf_zarr import NWBZarrIO
    from pynwb import NWBHDF5IO

    path = tmp_path_factory.mktemp("native") / "session.nwb.zarr"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with NWBHDF5IO(str(recording.path), "r") as source, NWBZarrIO(str(path), "w") as target:
            target.export(src_io=source, write_args={"link_data": False})
    return path


def write_format_2(source, folder):
    """Write HDF5 as hdmf-zarr 0.13 does: what zarr 3 cannot write, and cannot list."""
    metadata = {}
    with h5py.File(source) as file:
        for item in [file, *find_items(file)]:
            path = item.name.strip("/")
            metadata[f"{path}/.zattrs".strip("/")] = describe_attributes(item)
            if isinstance(item, h5py.Group):
                metadata[f"{path}/.zgroup".strip("/")] = {"zarr_format": 2}
                continue
            array, kind, content = encode_dataset(item)
            metadata[f"{path}/.zarray"] = array
            metadata[f"{path}/.zattrs"]["zarr_dtype"] = kind
            chunk = folder / path / ".".join("0" * len(array["shape"]))
            chunk.parent.mkdir(parents=True, exist_ok=True)
            chunk.write_bytes(content)
    for name, content in metadata.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    consolidated = {"zarr_consolidated_format": 1, "metadata": metadata}
    (folder / ".zmetadata").write_text(json.dumps(consolidated))
    return folder


def find_items(file):
    names = []
    file.visit(names.append)
    return [file[name] for name in names]


def describe_attributes(item):
    values = {}
    for name, value in item.attrs.items():
        if not isinstance(value, h5py.Reference):
            values[name] = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
        elif name == ".specloc":
            values[name] = item.file[value].name.strip("/")
        else:
            target = {"source": ".", "path": item.file[value].name, "object_id": None}
            values[name] = {"zarr_dtype": "object", "value": target}
    return values


def encode_dataset(item):
    """Return the description of an array of one chunk, hdmf-zarr's name of its type, and the chunk."""
    shape = [1] if item.shape == () else list(item.shape)
    array = {"zarr_format": 2, "shape": shape, "chunks": shape, "fill_value": 0, "order": "C"}
    array |= {"compressor": None, "filters": None, "dtype": item.dtype.str}
    if h5py.check_string_dtype(item.dtype) is None:
        kind, content = item.dtype.name, np.ascontiguousarray(item[()]).tobytes()
    else:
        texts = [text if isinstance(text, bytes) else text.encode() for text in np.ravel(item[()])]
        parts = [len(texts), *(part for text in texts for part in (len(text), text))]
        content = b"".join(p if isinstance(p, bytes) else p.to_bytes(4, "little") for p in parts)
        kind, array = "str", array | {"dtype": "|O", "filters": [{"id": "vlen-utf8"}]}
        if item.name.startswith("/specifications"):
            array["filters"] = [{"id": "json2"}]
            content = json.dumps([text.decode() for text in texts] + ["|O", [1]]).encode()
    return array, "scalar" if item.shape == () else kind, content


@pytest.fixture(scope="module")
def format_2(recording, tmp_path_factory):
    return write_format_2(recording.path, tmp_path_factory.mktemp("format2") / "session.nwb.zarr")


@pytest.mark.parametrize("kind", ["native", "format_2"])
@pytest.mark.parametrize("where", ["disk", "server"])
def test_zarr_gives_the_same_dataset(kind, where, zarr, local, request):
    store = request.getfixturevalue(kind)
    with serve_folder(store.parent) as server:
        path = store if where == "disk" else f"{server.url}/{store.name}"
        assert_same(nwbrnn.read_nwb(path), local)
        found = nwbrnn.inspect_nwb(path)
    assert found.problem is None
    assert [signal["path"] for signal in found.signals] == ["acquisition/EMG"]


def test_zarr_format_3_needs_python_3_12(zarr, tmp_path):
    if not zarr.__version__.startswith("2."):
        pytest.skip("zarr 3 is installed, which reads it")
    path = tmp_path / "session.nwb.zarr"
    path.mkdir()
    (path / "zarr.json").write_text(json.dumps({"zarr_format": 3, "node_type": "group", "attributes": {}}))
    with pytest.raises(UnsupportedFileError, match=names(path, "Zarr 3", "hdmf-zarr 0.14", "Python 3.12")):
        nwbrnn.read_nwb(path)


def copy_store(store, folder):
    for file in store.rglob("*"):
        if file.is_file():
            target = folder / store.name / file.relative_to(store)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    return folder / store.name


def edit_json(path, change):
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


@pytest.mark.parametrize("consolidated", [False, True])
def test_zarr_link_to_another_store_is_refused(consolidated, zarr, format_2, tmp_path):
    store = copy_store(format_2, tmp_path)
    link = {"name": "stolen", "source": "../other.zarr", "path": "/acquisition/EMG"}
    if consolidated:
        edit_json(
            store / ".zmetadata", lambda d: d["metadata"]["acquisition/.zattrs"].update(zarr_link=[link])
        )
    else:
        edit_json(store / "acquisition" / ".zattrs", lambda d: d.update(zarr_link=[link]))
    with pytest.raises(
        UnsupportedFileError, match=names(store, "/acquisition/stolen -> ../other.zarr", "--follow-links")
    ):
        nwbrnn.read_nwb(store)


OUTSIDE = [
    ({"source": "../other.zarr"}, "../other.zarr"),
    ({"source": "../other.zarr", "object_id": "x", "source_object_id": "y"}, "../other.zarr"),
    ({"path": "/etc"}, "/etc"),
    ({"source": None, "path": "../other.zarr"}, "../other.zarr"),
    ({"source": "/data/other.zarr", "path": "/units"}, "/data/other.zarr"),
    ({"source": "file:///data/other.zarr", "path": "/units"}, "file:///data/other.zarr"),
    ({"source": "./..", "path": "/units"}, "./.."),
    ({"source": ".", "path": "/../../other.zarr/units"}, "/../../other.zarr/units"),
]


@pytest.mark.parametrize(("link", "target"), OUTSIDE, ids=str)
@pytest.mark.parametrize("kind", ["zarr_link", "_LINKS", "attribute"])
def test_zarr_link_of_any_form_out_of_the_store_is_refused(kind, link, target, zarr, format_2, tmp_path):
    store = copy_store(format_2, tmp_path)
    reference = {"zarr_dtype": "object", "value": link}
    added = {"table": reference} if kind == "attribute" else {kind: [{"name": "stolen"} | link]}
    edit_json(store / "acquisition" / ".zattrs", lambda d: d.update(added))
    with pytest.raises(UnsupportedFileError, match=re.escape(f" -> {target}; ")) as refused:
        nwbrnn.inspect_nwb(store)
    assert "/acquisition" in str(refused.value)


@pytest.mark.parametrize("inside", [{"source": "./", "path": "/units"}, {"source": "", "path": "/units"}])
def test_zarr_link_within_the_store_needs_no_permission(inside, zarr, format_2, tmp_path):
    store = copy_store(format_2, tmp_path)
    edit_json(store / "acquisition" / ".zattrs", lambda d: d.update(note=inside, made_by={"source": "us"}))
    assert nwbrnn.inspect_nwb(store).problem is None


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_symbolic_link_out_of_a_store_needs_permission(kind, zarr, format_2, recording, tmp_path):
    store = copy_store(format_2, tmp_path / "here")
    array = store / "acquisition" / "EMG" / "data"
    moved = array / "0.0" if kind == "file" else array
    moved.rename(tmp_path / "elsewhere")
    moved.symlink_to("../" * len(moved.parent.relative_to(tmp_path).parts) + "elsewhere")
    where = f"/{moved.relative_to(store)} -> ../"
    for read in (nwbrnn.read_nwb, nwbrnn.inspect_nwb, nwbrnn.read_dataset):
        with pytest.raises(UnsupportedFileError, match=re.escape(where)):
            read(store)
    with open_nwb(store, follow_links=True) as nwbfile:
        np.testing.assert_array_equal(nwbfile.acquisition["EMG"].data[:], recording.emg)


def test_symbolic_links_within_and_to_a_store_need_no_permission(zarr, format_2, recording, tmp_path):
    store = copy_store(format_2, tmp_path)
    array = store / "acquisition" / "EMG" / "data"
    (array / "0.0").rename(store / "moved")
    (array / "0.0").symlink_to("../../../moved")
    (tmp_path / "link.nwb.zarr").symlink_to(store)
    with open_nwb(tmp_path / "link.nwb.zarr") as nwbfile:
        np.testing.assert_array_equal(nwbfile.acquisition["EMG"].data[:], recording.emg)


def test_zarr_reference_among_values_needs_permission(zarr, tmp_path):
    store, other = tmp_path / "here.nwb.zarr", tmp_path / "there.nwb.zarr"
    for path in (store, other):
        write_with_electrodes(path)
    with open_nwb(other):  # from now on, Zarr reads references that are pickled
        pass
    array = zarr.open_group(str(store), mode="r+")["general/extracellular_ephys/electrodes/group"]
    values = array[:]
    for i, value in enumerate(values.tolist()):
        reference = json.loads(value) if isinstance(value, str) else value
        reference["source"] = "../there.nwb.zarr"
        values[i] = json.dumps(reference) if isinstance(value, str) else reference
    array[:] = values
    with open_nwb(store) as nwbfile, pytest.raises(UnsupportedFileError, match=r"-> \.\./there\.nwb\.zarr"):
        nwbfile.electrodes["group"][0]
    # with permission hdmf-zarr goes there, but builds nothing of the other store
    with pytest.raises(ReadError, match="EMGArray"), open_nwb(store, follow_links=True) as nwbfile:
        nwbfile.electrodes["group"][0]


def test_zarr_link_is_followed_with_permission(zarr, format_2, recording, tmp_path):
    store = copy_store(format_2, tmp_path / "here")
    other = copy_store(format_2, tmp_path / "there")
    (other / "acquisition" / "EMG").rename(other / "acquisition" / "EMG_there")
    link = {"name": "EMG_there", "source": "../../there/session.nwb.zarr", "path": "/acquisition/EMG_there"}
    for edited in (store, other):
        (edited / ".zmetadata").unlink()
    edit_json(store / "acquisition" / ".zattrs", lambda d: d.update(zarr_link=[link]))
    with pytest.raises(
        UnsupportedFileError,
        match=names(store, "/acquisition/EMG_there -> ../../there/session.nwb.zarr", "follow_links"),
    ):
        nwbrnn.inspect_nwb(store)
    with open_nwb(store, follow_links=True) as nwbfile:
        linked = nwbfile.acquisition["EMG_there"].data[:]
    np.testing.assert_array_equal(linked, recording.emg)


def test_zarr_format_3_link_to_another_store_is_refused(zarr, native, tmp_path):
    if zarr.__version__.startswith("2."):
        pytest.skip("zarr 2 is installed, which cannot read it")
    store = copy_store(native, tmp_path)
    link = {"name": "stolen", "source": "../other.zarr", "path": "/acquisition/EMG"}
    edit_json(store / "acquisition" / "zarr.json", lambda d: d["attributes"].update(_LINKS=[link]))
    with pytest.raises(
        UnsupportedFileError, match=names(store, "/acquisition/stolen -> ../other.zarr", "--follow-links")
    ):
        nwbrnn.read_nwb(store)


def write_with_electrodes(path):
    """Write an EMG array whose electrodes refer to their group, and return its values."""
    from hdmf_zarr import NWBZarrIO

    values = np.arange(60.0).reshape(20, 3)
    nwbfile = NWBFile(
        session_description="electrodes",
        identifier="electrodes",
        session_start_time=datetime(2020, 5, 17, tzinfo=UTC),
    )
    group = nwbfile.create_electrode_group(
        name="EMGArray", description="EMG", location="arm", device=nwbfile.create_device("amplifier")
    )
    for _ in range(3):
        nwbfile.add_electrode(location="arm", group=group)
    region = nwbfile.create_electrode_table_region([0, 1, 2], "all")
    nwbfile.add_acquisition(ElectricalSeries(name="raw", data=values, electrodes=region, rate=20.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numcodecs and zarr
        with NWBZarrIO(str(path), mode="w") as io:
            io.write(nwbfile)
    return values


def test_zarr_references_are_read(zarr, tmp_path):
    """In format 2 these are pickled."""
    store = tmp_path / "electrodes.nwb.zarr"
    values = write_with_electrodes(store)
    with open_nwb(store) as nwbfile:
        (signal,) = find_signals(nwbfile)
        assert (signal.role, signal.path, len(signal.columns)) == ("emg", "acquisition/raw", 3)
        np.testing.assert_array_equal(signal.series[0].data[:], values)


def test_zarr_pickle_is_never_run(zarr, format_2, tmp_path):
    store = copy_store(format_2, tmp_path)
    witness = tmp_path / "witness"
    program = f"cos\nsystem\n(S'touch {witness}'\ntR.".encode()  # what a pickle can do
    edit_json(store / "units" / "quality" / ".zarray", lambda d: d.update(filters=[{"id": "pickle"}]))
    (store / ".zmetadata").unlink()
    (store / "units" / "quality" / "0").write_bytes(program)
    with pytest.raises(ReadError):
        nwbrnn.read_nwb(store)
    assert not witness.exists()
