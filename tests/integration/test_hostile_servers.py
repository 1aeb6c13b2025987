"""Whatever a server sends: reading ends soon, in little memory, with one state of the file or an error."""

import itertools

import pytest
from servers import ANSWERLESS, ATTACKS, Fault, serve_folder

import nwbrnn
from nwbrnn.errors import ReadError
from nwbrnn.storage import find_source, open_nwb, remote
from tests.messages import assert_names, names

pytestmark = pytest.mark.slow

MEBIBYTE = 1 << 20
RECEIVED = 50 * MEBIBYTE  # much of it waits in the buffers of sockets
STATES = [
    ({"ETag": '"one"'}, {"ETag": '"two"'}, "ETag"),
    ({"ETag": '"one"', "Last-Modified": "Mon"}, {"ETag": '"two"', "Last-Modified": "Mon"}, "ETag"),
    ({"Last-Modified": "Mon"}, {"Last-Modified": "Tue"}, "Last-Modified"),
    ({"ETag": '"one"', "Last-Modified": "Mon"}, {"Last-Modified": "Tue"}, "Last-Modified"),
]
READS = {"read": nwbrnn.read_nwb, "doctor": nwbrnn.diagnose}


@pytest.fixture
def impatient(monkeypatch):
    """Wait less than for honest servers."""
    for name, value in {"READ_TIMEOUT": 0.3, "TRIES": 2, "PAUSE": 0.01}.items():
        monkeypatch.setattr(remote, name, value)


@pytest.fixture(scope="module")
def large(make_recording):
    """Return a file of several blocks."""
    return make_recording(emg_rate=5000.0)


@pytest.fixture
def server(large):
    with serve_folder(large.path.parent) as running:
        yield running


PATH = "/session.nwb"


def read_between(server, change):
    """Read a file of which the first block is fetched before a change, and the others after it."""
    with open_nwb(server.url + PATH) as nwbfile:
        change()
        return nwbfile.acquisition["EMG"].data[:]


@pytest.mark.parametrize(("before", "after", "what"), STATES)
def test_a_file_that_changes_between_two_requests_is_refused(before, after, what, server):
    server.headers[PATH] = before
    with pytest.raises(ReadError, match=names(server.url + PATH, what, before[what], after[what])) as no:
        read_between(server, lambda: server.headers.update({PATH: after}))
    assert_names(str(no.value), "download")


def test_a_file_that_stays_is_read(server, large):
    server.headers[PATH] = {"ETag": '"one"', "Last-Modified": "Mon"}
    other_server = {"ETag": '"one"', "Last-Modified": "Tue"}  # of the same address
    values = read_between(server, lambda: server.headers.update({PATH: other_server}))
    assert (values == large.emg).all()


@pytest.mark.parametrize("bytes_more", [1000, -1000])
def test_a_file_of_another_size_is_refused(bytes_more, large, tmp_path):
    path = tmp_path / PATH[1:]
    path.write_bytes(large.path.read_bytes())
    size = path.stat().st_size

    def change():
        with path.open("r+b") as stream:
            stream.truncate(size + bytes_more)

    with serve_folder(tmp_path) as server, pytest.raises(ReadError, match=names(size, size + bytes_more)):
        read_between(server, change)


def test_a_file_that_changes_between_two_openings_is_refused(server):
    server.headers[PATH] = {"ETag": '"one"'}
    source = find_source(server.url + PATH)
    nwbrnn.inspect_nwb(source)
    server.headers[PATH] = {"ETag": '"two"'}
    with pytest.raises(nwbrnn.NwbrnnError, match=names('"one"', '"two"')):
        nwbrnn.read_nwb(source)
    nwbrnn.inspect_nwb(server.url + PATH)  # anew


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_hostile_servers_end_in_an_error(campaign, server):
    """A server that does not answer, is slow, sends more, something else, or packed bombs."""
    starts = (0, MEBIBYTE, 2 * MEBIBYTE)
    cases = [(kind, start, read) for kind, start, read in itertools.product(ATTACKS, starts, READS)]
    run = campaign("answers of hostile servers", few=6, many=len(cases))
    for kind, start, read in run.pick(cases):
        server.faults[PATH] = Fault(kind, start=start)
        server.reset()
        with server.outlasted(), pytest.raises(nwbrnn.NwbrnnError) as refused:
            READS[read](server.url + PATH)
        assert str(refused.value).startswith(server.url + PATH), (kind, start, read)
        assert "\n" not in str(refused.value)
        assert server.n_bytes < RECEIVED, (kind, start, read)
        run.count("refused")


def test_what_a_server_packed_is_not_unpacked(server):
    server.faults[PATH] = Fault("packed")
    with pytest.raises(ReadError, match=names(server.url + PATH, "'gzip'")):
        nwbrnn.read_nwb(server.url + PATH)


@pytest.mark.parametrize("kind", ANSWERLESS)
@pytest.mark.usefixtures("impatient")
def test_a_server_without_answers_is_refused(kind, server):
    server.faults[PATH] = Fault(kind)
    refused = pytest.raises(nwbrnn.NwbrnnError, match=names(server.url + PATH, "0.3 s"))
    with server.outlasted(), refused:
        nwbrnn.read_nwb(server.url + PATH)


@pytest.mark.parametrize("kind", ["packed", "longer", "endless", "drip"])
@pytest.mark.usefixtures("impatient")
def test_a_store_on_a_hostile_server_is_refused(kind, server, monkeypatch):
    pytest.importorskip("hdmf_zarr")
    monkeypatch.setattr(remote, "MAX_METADATA", 4 * MEBIBYTE)
    url = f"{server.url}/session.zarr"
    server.faults["/session.zarr/.zmetadata"] = Fault(kind)
    with server.outlasted(), pytest.raises(nwbrnn.NwbrnnError, match=names(url)):
        nwbrnn.read_nwb(url)
    assert server.n_bytes < RECEIVED
