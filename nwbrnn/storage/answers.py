"""Responses of web servers: limited in time and size, and all from the same state of a file.

This module imports aiohttp, so it is imported only when an address is opened.
"""

import asyncio
import re
import time
from typing import Any

import aiohttp
from fsspec.asyn import sync

from nwbrnn.errors import ReadError, UnsupportedFileError
from nwbrnn.storage import remote
from nwbrnn.storage.names import ZARR_FILES
from nwbrnn.text import describe

_PLAIN = ("", "identity")


class Answer(aiohttp.ClientResponse):
    """A response that must begin in time, continue, and end where the request said."""

    async def start(self, connection: Any) -> Any:
        """Wait a limited time for all headers, not for one byte after another."""
        async with asyncio.timeout(remote.READ_TIMEOUT):
            return await super().start(connection)

    async def read(self) -> bytes:
        """Return the content, still packed, unless it exceeds its limit or arrives too slowly."""
        encoding = self.headers.get("Content-Encoding", "")
        if encoding not in _PLAIN:
            raise aiohttp.ClientPayloadError(f"content packed with {describe(encoding)}, not requested")
        limit, content, begin = self._find_limit(), bytearray(), time.monotonic()
        async for part in self.content.iter_any():
            content += part
            if len(content) > limit:
                self.close()
                raise aiohttp.ClientPayloadError(f"more than {limit} bytes")
            if time.monotonic() - begin > remote.READ_TIMEOUT + len(content) / remote.SLOWEST:
                self.close()
                raise TimeoutError
        return bytes(content)

    def _find_limit(self) -> int:
        """Return how many bytes the response may have."""
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.request_info.headers.get("Range", ""))
        if asked:
            return int(asked[2]) - int(asked[1]) + 1
        return remote.MAX_METADATA if self.url.name in ZARR_FILES else remote.MAX_WHOLE


class Parts:
    """The parts of a file on a web server, given fsspec's file.

    ``text`` is the address, for messages. ``state`` is what the server has said about the file so far; the
    file must not change from it.
    """

    def __init__(self, stream: Any, *, text: str, state: dict[str, str]) -> None:
        self._stream, self._text, self._state = stream, text, state

    def fetch(self, start: int, end: int) -> bytes:
        """Return the bytes from start to end, or fewer if the connection ended early."""
        return sync(self._stream.loop, self._fetch, start, end)  # type: ignore[no-any-return]

    async def _fetch(self, start: int, end: int) -> bytes:
        stream = self._stream
        url, headers = stream.fs.encode_url(stream.url), {"Range": f"bytes={start}-{end - 1}"}
        async with stream.session.get(url, headers=headers) as answer:
            if answer.status != 416:  # 416: the file no longer has such a part
                answer.raise_for_status()
            size = self._check_range(answer, start, end)
            names = ("ETag", "Last-Modified")
            found = {name: answer.headers[name] for name in names if name in answer.headers}
            self._check_state(found | {"size": size})
            return await answer.read()  # type: ignore[no-any-return]

    def _check_range(self, answer: Any, start: int, end: int) -> str:
        """Return the size of the file according to a response; refuse a response with another part."""
        size = str(self._stream.size)
        if answer.status == 200 and (start, end) == (0, self._stream.size):
            return answer.headers.get("Content-Length", size)  # type: ignore[no-any-return]
        found = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", answer.headers.get("Content-Range", ""))
        if answer.status not in (206, 416) or not found:
            raise UnsupportedFileError(
                f"{self._text}: expected a server that gives parts of files (range requests), but it does "
                "not; download the file"
            )
        if found[1] not in (None, str(start)):
            raise aiohttp.ClientPayloadError(f"bytes from {found[1]} on")
        return size if found[2] == "*" else found[2]

    def _check_state(self, found: dict[str, str]) -> None:
        """Refuse the file if it has changed since the first request.

        Servers at the same address may give different times for a file, so times are compared only without an
        ETag.
        """
        known = self._state or {"size": str(self._stream.size)}
        names = ["size", "ETag" if "ETag" in known.keys() & found.keys() else "Last-Modified"]
        changed = [
            f"{name} {describe(known[name])} is now {describe(found[name])}"
            for name in names
            if name in known and name in found and known[name] != found[name]
        ]
        if changed:
            raise ReadError(
                f"{self._text}: expected the file as it was at the first request, but it has changed on the "
                f"server: {', '.join(changed)}; read it again, or download it first"
            )
        self._state.update(found)
