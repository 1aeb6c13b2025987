"""Fetch files from a server in parts, with time limits, retries and explanations of errors."""

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
"""Bytes to fetch at once from a server. Of the sizes we tried, 1 MiB needed the fewest requests."""
MAX_BLOCKS = 64

CONNECT_TIMEOUT = 20.0
READ_TIMEOUT = 60.0
"""Longest times for a server to accept a connection and to send nothing [s]."""
SLOWEST = 10_000
"""The lowest speed at which a server may send after that time [bytes/s]."""
MAX_WHOLE, MAX_METADATA = 256 << 20, 32 << 20
"""The largest size of a file that is fetched whole: a Zarr chunk, and a description [bytes]."""
TRIES = 4
PAUSE = 0.5
"""Time before the first retry [s]; it doubles each time."""

_BUSY = (408, 429, 500, 502, 503, 504)

Result = TypeVar("Result")

_kept: dict[tuple[str, int, int, int], bytes] = {}
_lock = threading.Lock()


class _Collector:
    """Keep Python's garbage collector from running while a thread waits for another one to fetch.

    HDF5 reads a remote file while h5py holds its global lock. If the collector runs in the thread that
    fetches, it needs this lock to free an h5py object, and both threads wait for ever.
    """

    def __init__(self) -> None:
        self._lock, self._n_waiting, self._was_enabled = threading.Lock(), 0, False

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Pause the collector until the last waiting thread continues."""
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
    """Return options of fsspec's HTTP file system: time and size limits, and no unpacking."""
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

    If a connection drops or a server is silent or busy, the stream tries again, :data:`TRIES` times in all.
    If it still cannot fetch a part, reading raises a ``ReadError`` that begins with ``text``. So it does if a
    web server says that the file has changed from ``state``. Blocks of a file that never changes are not
    fetched again when the file is reopened: the last :data:`MAX_BLOCKS` of them are kept.
    """
    options = {"cache_type": "blockcache", "cache_options": {"maxblocks": MAX_BLOCKS}}
    stream = retry(lambda: filesystem.open(path, "rb", block_size=BLOCK_SIZE, **options))
    cache: Any = getattr(stream, "cache", None)
    if getattr(cache, "fetcher", None) is not None:
        fetch = cache.fetcher
        if path.startswith("http"):  # buckets check the state themselves
            from nwbrnn.storage.answers import Parts

            fetch = Parts(stream, text=text, state=state).fetch
        cache.fetcher = functools.partial(_fetch, fetch, cache.size, text)
        if is_constant:
            name = path.partition("?")[0]  # without a signature
            cache.fetcher = functools.partial(_fetch_once, cache.fetcher, (name, cache.size))
    return stream


def retry(action: Callable[[], Result]) -> Result:
    """Do something on a server, and try again after an error that may pass."""
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
    """Return the original cause of an error in words, since fsspec reports every failure as "not found"."""
    error = _find_first(error)
    status = getattr(error, "status", None)
    if isinstance(error, FileNotFoundError) or status == 404:
        return "Not Found: no such file"
    if status in (401, 403):
        return f"{status}: the server refuses access, so the file is embargoed or private"
    if isinstance(error, TimeoutError):
        return f"no response within {READ_TIMEOUT:g} s in {TRIES} tries"
    return f"{type(error).__name__}: {format_error(error)}"


def _fetch(fetch: Callable[[int, int], bytes], size: int, text: str, start: int, end: int) -> bytes:
    """Return the whole part of a file from start to end, or raise an error."""
    end = min(end, size)

    def fetch_whole() -> bytes:
        content = fetch(start, end)
        if len(content) != end - start:  # the connection ended early without an error
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
    """Return a part of a file, from memory if it was fetched recently."""
    key = (*file, start, end)
    content = _kept.get(key)
    content = fetch(start, end) if content is None else content
    with _lock:
        _kept.pop(key, None)
        _kept[key] = content  # now the most recent one
        while len(_kept) > MAX_BLOCKS:
            del _kept[next(iter(_kept))]
    return content


def _may_pass(error: BaseException) -> bool:
    """Return whether the same request may succeed later."""
    return _is_of_server(error) and getattr(_find_first(error), "status", _BUSY[0]) in _BUSY


def _is_of_server(error: BaseException) -> bool:
    """Return whether the server or the connection to it failed."""
    import aiohttp

    return isinstance(_find_first(error), aiohttp.ClientError | TimeoutError | ConnectionError)


def _find_first(error: BaseException) -> BaseException:
    """Return the first informative cause; incomplete responses and timeouts have a further cause."""
    import aiohttp

    while error.__cause__ is not None and not isinstance(error, aiohttp.ClientPayloadError | TimeoutError):
        error = error.__cause__
    return error
