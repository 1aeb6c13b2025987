"""The garbage collector and h5py's lock: a fetch must end whatever the collector would do meanwhile."""

import gc
import threading

import h5py
import pytest

from nwbrnn.storage import remote


def make_garbage():
    """Leave an object of h5py that only the collector can free."""
    cycle = [h5py.h5p.create(h5py.h5p.FILE_ACCESS)]
    cycle.append(cycle)


def test_a_fetch_ends_while_the_lock_of_h5py_is_held():
    """HDF5 holds it while it asks for a part of a remote file, which another thread fetches."""
    ended = []

    def fetch(start, end):
        # as many containers as make the collector run
        thread = threading.Thread(target=lambda: [[] for _ in range(100_000)], daemon=True)
        thread.start()
        thread.join(120)  # which is for ever: it takes milliseconds
        ended.append(not thread.is_alive())
        return b"x" * (end - start)

    gc.collect()
    make_garbage()
    with h5py._objects.phil:
        assert remote._fetch(fetch, 10, "http://server/file.nwb", 0, 10) == b"x" * 10
    assert ended == [True]


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_as_it_was_after_fetches_that_overlap_or_fail(enabled):
    seen = []

    def fetch(start, end):
        if end == 1:
            raise KeyError("not of the server")
        seen.append(gc.isenabled())
        if end == 10:
            remote._fetch(fetch, 5, "inner", 0, 5)
            seen.append(gc.isenabled())
        return b"x" * (end - start)

    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        remote._fetch(fetch, 10, "outer", 0, 10)
        with pytest.raises(KeyError):
            remote._fetch(fetch, 1, "failing", 0, 1)
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if before else gc.disable)()
    assert seen == [False, False, False]
