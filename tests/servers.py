"""Servers on this computer: files in parts as http.server cannot give them, and an archive like DANDI."""

import contextlib
import functools
import gzip
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

DANDISET = "000123"
PAGE = 4  # assets on a page of the archive


@dataclass
class Fault:
    """What goes wrong with a path, so many times: a status, or one of :data:`ATTACKS`.

    Requests for the bytes before ``start`` are answered as usual.
    """

    kind: int | str
    times: int = 1_000_000
    start: int = 0


@dataclass
class Server:
    """A running server: its address, and what was asked of it since the last reset.

    ``requests`` holds a method and path each; ``n_bytes`` were sent in answer, without headers. ``answers``
    are sent as JSON; a function gets the query. Who knows the ``key`` is not refused with 401. ``headers``
    are added to the answers for a path.
    """

    url: str = ""
    requests: list[str] = field(default_factory=list)
    n_bytes: int = 0
    answers: dict[str, object] = field(default_factory=dict)
    faults: dict[str, "Fault"] = field(default_factory=dict)
    key: str | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    redirects: dict[str, str] = field(default_factory=dict)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)

    def reset(self) -> None:
        self.requests.clear()
        self.n_bytes = 0

    @contextlib.contextmanager
    def outlasted(self, seconds: float = 300) -> Iterator[None]:
        """Fail if the client does not give up by itself; after this time the server does, so that it ends."""
        timer = threading.Timer(seconds, self.stop.set)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            gave_up = self.stop.is_set()
        assert not gave_up, f"the client waited for more than {seconds} s"


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD; a subclass says of which folder."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and content in one packet
    state: Server
    folder: Path
    ranges: bool

    def do_GET(self) -> None:  # noqa: N802
        self.state.requests.append(f"{self.command} {self.path}")
        path = self.path.split("?")[0]
        file = self.folder / path.strip("/")
        if self.fail(path):
            return
        if path in self.state.redirects:
            self.reply(302, b"", {"Location": self.state.redirects[path]})
        elif path in self.state.answers:
            answer = self.state.answers[path]
            if callable(answer):
                answer = answer(
                    {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
                )
            self.reply(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})
        elif file.is_file():
            self.reply_file(file)
        else:
            self.reply(404, b"no such file", {})

    do_HEAD = do_GET  # noqa: N815

    def fail(self, path: str) -> bool:
        """Do what goes wrong with a path, if something does."""
        fault = self.state.faults.get(path)
        wanted = re.match(r"bytes=(\d+)", self.headers.get("Range", ""))
        if (
            fault is None
            or fault.times == 0
            or (fault.start and (not wanted or int(wanted[1]) < fault.start))
        ):
            return False
        if isinstance(fault.kind, int):
            known = (
                self.state.key is not None and self.headers.get("Authorization") == f"token {self.state.key}"
            )
            if not known:
                fault.times -= 1
                self.reply(fault.kind, b"refused", {})
            return not known
        if self.command == "HEAD" and fault.kind not in ANSWERLESS:
            return False
        fault.times -= 1
        self.close_connection = True
        with contextlib.suppress(ConnectionError):
            ATTACKS[fault.kind](self, int(wanted[1]) if wanted else 0)
        return True

    def send(self, content: bytes, **headers: object) -> None:
        """Send headers, of which a ``_`` is a hyphen, if there are any, and content at once."""
        if headers:
            self.send_response(206)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), str(value))
            self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()
        self.state.n_bytes += len(content)

    def repeat(self, content: bytes, pause: float) -> None:
        """Send the same again and again, until nobody listens."""
        while not self.state.stop.wait(pause):
            self.send(content)

    def reply_file(self, file: Path) -> None:
        size = file.stat().st_size
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not (self.ranges and wanted):
            self.reply(200, file.read_bytes(), {"Accept-Ranges": "bytes"} if self.ranges else {})
            return
        first, last = int(wanted[1]), min(int(wanted[2] or size - 1), size - 1)
        with file.open("rb") as stream:
            stream.seek(first)
            content = stream.read(max(last - first + 1, 0))
        self.reply(206 if content else 416, content, {"Content-Range": f"bytes {first}-{last}/{size}"})

    def reply(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        headers = {"Content-Length": str(len(content)), **headers}
        for name, value in (headers | self.state.headers.get(self.path.split("?")[0], {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.state.n_bytes += len(content)
            with contextlib.suppress(ConnectionError):  # a reader that has read enough
                self.wfile.write(content)

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # likewise
            super().handle()

    def finish(self) -> None:
        with contextlib.suppress(ConnectionError):
            super().finish()

    def log_message(self, *_: object) -> None:
        pass


MEBIBYTE = 1 << 20
LARGE = 100 * MEBIBYTE
PACKED = gzip.compress(bytes(MEBIBYTE)) * 100  # unpacked, as large


def _drop(handler: _Handler, start: int) -> None:
    handler.send(b"x" * 100, Content_Length=MEBIBYTE, Content_Range=_describe_range(start))


def _stall(handler: _Handler, start: int) -> None:
    _drop(handler, start)
    handler.state.stop.wait()


def _be_silent(handler: _Handler, start: int) -> None:
    handler.state.stop.wait()


def _drip(handler: _Handler, start: int) -> None:
    _drop(handler, start)
    handler.repeat(b"x", 0.05)


def _drip_headers(handler: _Handler, start: int) -> None:
    handler.send(b"HTTP/1.1 206 Partial Content\r\nX-Long: ")
    handler.repeat(b"x", 0.05)


def _continue(handler: _Handler, start: int) -> None:
    handler.repeat(b"HTTP/1.1 102 Processing\r\n\r\n", 0.05)


def _send_more(handler: _Handler, start: int) -> None:
    handler.send(b"", Content_Length=LARGE, Content_Range=_describe_range(start))
    handler.repeat(b"x" * MEBIBYTE, 0)


def _send_for_ever(handler: _Handler, start: int) -> None:
    handler.send(b"", Transfer_Encoding="chunked", Content_Range=_describe_range(start))
    handler.repeat(b"%x\r\n%s\r\n" % (MEBIBYTE, b"x" * MEBIBYTE), 0)


def _send_packed(handler: _Handler, start: int) -> None:
    headers = {"Content_Length": len(PACKED), "Content_Range": _describe_range(start)}
    handler.send(PACKED, Content_Encoding="gzip", **headers)


def _send_another_part(handler: _Handler, start: int) -> None:
    headers = {"Content_Length": MEBIBYTE, "Content_Range": _describe_range(start + MEBIBYTE)}
    handler.send(b"x" * MEBIBYTE, **headers)


def _describe_range(start: int) -> str:
    return f"bytes {start}-{start + MEBIBYTE - 1}/*"


ATTACKS = {
    "drop": _drop,
    "stall": _stall,
    "silence": _be_silent,
    "drip": _drip,
    "drip of headers": _drip_headers,
    "continue": _continue,
    "longer": _send_more,
    "endless": _send_for_ever,
    "packed": _send_packed,
    "another part": _send_another_part,
}
"""What a server can do instead of an answer."""
ANSWERLESS = ("silence", "drip of headers", "continue")
"""Those that can also be done to a request for the size."""


@contextlib.contextmanager
def serve_folder(folder: Path, *, ranges: bool = True) -> Iterator[Server]:
    """Serve the files of a folder; without ``ranges`` each as a whole, whatever part is asked for."""
    state = Server()
    handler = type("Handler", (_Handler,), {"state": state, "folder": folder, "ranges": ranges})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.stop.set()
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def serve_dandi(folder: Path) -> Iterator[Server]:
    """Serve the files of a folder as the assets of a draft, as the DANDI archive does.

    A client finds it by the environment variable ``DANDI_INSTANCE`` with the server's address.
    """
    with serve_folder(folder) as server:
        files = sorted(path for path in folder.rglob("*.nwb"))
        info = {
            "version": "0.3.0",
            "services": {"api": {"url": f"{server.url}/api"}},
            "cli-minimal-version": "0.60.0",
            "cli-bad-versions": [],
        }
        version = {"version": "draft", "name": "a test", "asset_count": len(files), "size": 0}
        version |= {"status": "Valid", "created": _TIME, "modified": _TIME}
        assets = [_describe_asset(path, folder, number) for number, path in enumerate(files)]
        draft = f"/api/dandisets/{DANDISET}/versions/draft/"
        server.answers |= {
            "/server-info": info,
            "/api/info/": info,
            f"/api/dandisets/{DANDISET}/": {
                "identifier": DANDISET, "created": _TIME, "modified": _TIME, "contact_person": "",
                "draft_version": version, "most_recent_published_version": None,
            },
            f"{draft}info/": version,
            f"{draft}assets/": functools.partial(_list_page, assets, f"{server.url}{draft}assets/"),
            "/api/auth/token": {},
        }  # fmt: skip
        for asset in assets:
            download = f"/api/assets/{asset['asset_id']}/download/"
            metadata = {"path": asset["path"], "contentUrl": [f"{server.url}{download}"]}
            server.answers[f"{draft}assets/{asset['asset_id']}/"] = metadata
            server.answers[f"/api/assets/{asset['asset_id']}/"] = metadata
            # as from a bucket: signed for a while
            server.redirects[download] = f"{server.url}/{asset['path']}?X-Amz-Signature=abc"
        yield server


def _list_page(assets: list[dict[str, object]], url: str, query: dict[str, str]) -> dict[str, object]:
    """Return a page of the assets that begin with ``path``."""
    chosen = [asset for asset in assets if str(asset["path"]).startswith(query.get("path", ""))]
    page = int(query.get("page", 1))
    more = page * PAGE < len(chosen)
    following = f"{url}?{urlencode(query | {'page': page + 1})}" if more else None
    return {"count": len(chosen), "next": following, "results": chosen[(page - 1) * PAGE : page * PAGE]}


_TIME = "2024-01-01T00:00:00Z"


def _describe_asset(path: Path, folder: Path, number: int) -> dict[str, object]:
    return {
        "asset_id": f"00000000-0000-4000-8000-{number:012d}",
        "blob": f"10000000-0000-4000-8000-{number:012d}",
        "zarr": None,
        "path": path.relative_to(folder).as_posix(),
        "size": path.stat().st_size,
        "created": _TIME,
        "modified": _TIME,
    }
