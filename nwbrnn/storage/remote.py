"""Files in parts from a server: how long is waited, what is tried again, and what an answer means."""

import contextlib
import functools
import gc
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from nwbrnn.errors import ReadError
from nwbrnn.storage.store import format_error

BLOCK_SIZE = 1 << 20
"""What is fetched at once from a server. Of the caches tried, blocks of 1 MiB needed the fewest requests."""
MAX_BLOCKS = 64

CONNECT_TIMEOUT = 20.0
READ_TIMEOUT = 60.0
"""How long a server may take to accept a connection, and how long it may send nothing [s]."""
SLOWEST = 10_000
"""What a server has to send at least, after that time [bytes/s]."""
MAX_WHOLE, MAX_METADATA = 256 << 20, 32 << 20
"""What is fetched at most of a file that is fetched whole: a chunk of Zarr, and a description [bytes]."""
TRIES = 4
PAUSE = 0.5
"""Between two tries [s]; twice as long each time."""

_BUSY = (408, 429, 500, 502, 503, 504)

Result = TypeVar("Result")

_kept: dict[tuple[str, int, int, int], bytes] = {}
_lock = threading.Lock()


class _Collector:
    """Keeps Python's garbage collector from running while a thread waits for another one to fetch.

    HDF5 reads a remote file while h5py holds its global lock. The collector can run in the thread that
    fetches, and needs that lock to free an object of h5py: both threads would then wait for ever.
    """

    def __init__(self) -> None:
        self._lock, self._n_waiting, self._was_enabled = threading.Lock(), 0, False

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Pause it until the last of the threads that wait goes on."""
        with self._lock:
            if self._n_waiting == 0:
                self._was_enabled = gc.isenabled()
                gc.disable()
            self._n_waiting += 1
        try:
            yield
        finally:
            with self._lock:
                self._n_waiting -= 1
                if self._n_waiting == 0 and self._was_enabled:
                    gc.enable()


_collector = _Collector()


def get_http_options() -> dict[str, Any]:
    """Return options of fsspec's HTTP file system: limits for silence and length, and nothing is unpacked."""
    import aiohttp

    from nwbrnn.storage.answers import Answer

    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT, sock_read=READ_TIMEOUT)
    headers = {"Accept-Encoding": "identity"}
    options = {"timeout": timeout, "headers": headers, "response_class": Answer, "auto_decompress": False}
    return {"client_kwargs": options}


def open_blocks(
    filesystem: Any, path: str, *, text: str, state: dict[str, str], is_constant: bool = False
) -> Any:
    """Return a file of an fsspec file system as a seekable stream that keeps the blocks it fetches.

    What fails on the way is tried again, :data:`TRIES` times in all: a connection that drops, a server that
    is silent or says that it is busy. If a part cannot be had after all, reading raises ``ReadError``, which
    begins with ``text``; so it does if a web server says that the file is not in the ``state`` any more in
    which it was. What is constant, whatever happens to the file, need not be fetched again when it is
    opened again: the last :data:`MAX_BLOCKS` of these blocks are kept.
    """
    options = {"cache_type": "blockcache", "cache_options": {"maxblocks": MAX_BLOCKS}}
    stream = retry(lambda: filesystem.open(path, "rb", block_size=BLOCK_SIZE, **options))
    cache: Any = getattr(stream, "cache", None)
    if getattr(cache, "fetcher", None) is not None:
        fetch = cache.fetcher
        if path.startswith("http"):  # buckets compare the state themselves
            from nwbrnn.storage.answers import Parts

            fetch = Parts(stream, text=text, state=state).fetch
        cache.fetcher = functools.partial(_fetch, fetch, cache.size, text)
        if is_constant:
            name = path.partition("?")[0]  # without a signature
            cache.fetcher = functools.partial(_fetch_once, cache.fetcher, (name, cache.size))
    return stream


def retry(action: Callable[[], Result]) -> Result:
    """Do something on a server, again after what may pass."""
    for number in range(TRIES):
        if number:
            time.sleep(PAUSE * 2 ** (number - 1))
        try:
            return action()
        except Exception as error:
            if number == TRIES - 1 or not _may_pass(error):
                raise
    raise AssertionError("expected at least one try")


def find_reason(error: BaseException) -> str:
    """Return what went wrong at first, in words: fsspec says "not found" of every failure."""
    error = _find_first(error)
    status = getattr(error, "status", None)
    if isinstance(error, FileNotFoundError) or status == 404:
        return "Not Found: no such file"
    if status in (401, 403):
        return f"{status}: the server refuses it to us, it is embargoed or private"
    if isinstance(error, TimeoutError):
        return f"no answer within {READ_TIMEOUT:g} s, {TRIES} times"
    return f"{type(error).__name__}: {format_error(error)}"


def _fetch(fetch: Callable[[int, int], bytes], size: int, text: str, start: int, end: int) -> bytes:
    """Return a part of a file, from start to end, whole or not at all."""
    end = min(end, size)

    def fetch_whole() -> bytes:
        content = fetch(start, end)
        if len(content) != end - start:  # a connection that ended early without saying so
            raise ConnectionError(f"expected {end - start} bytes from {start} on, but got {len(content)}")
        return content

    try:
        with _collector.pause():
            return retry(fetch_whole)
    except Exception as error:
        if not _is_of_server(error):
            raise
        raise ReadError(
            f"{text}: expected bytes {start} to {end} from the server, but got {find_reason(error)}; "
            "try again later, or download the file"
        ) from error


def _fetch_once(fetch: Callable[[int, int], bytes], file: tuple[str, int], start: int, end: int) -> bytes:
    """Return a part of a file, from memory if it was fetched not long ago."""
    key = (*file, start, end)
    content = _kept.get(key)
    content = fetch(start, end) if content is None else content
    with _lock:
        _kept.pop(key, None)
        _kept[key] = content  # the last one again
        while len(_kept) > MAX_BLOCKS:
            del _kept[next(iter(_kept))]
    return content


def _may_pass(error: BaseException) -> bool:
    """Return whether the same request may succeed later."""
    return _is_of_server(error) and getattr(_find_first(error), "status", _BUSY[0]) in _BUSY


def _is_of_server(error: BaseException) -> bool:
    """Return whether it is the server or the way there that failed."""
    import aiohttp

    return isinstance(_find_first(error), aiohttp.ClientError | TimeoutError | ConnectionError)


def _find_first(error: BaseException) -> BaseException:
    """Return the first cause that says something: broken answers and limits of time have one more."""
    import aiohttp

    while error.__cause__ is not None and not isinstance(error, aiohttp.ClientPayloadError | TimeoutError):
        error = error.__cause__
    return error
