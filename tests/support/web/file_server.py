"""A web server on the loopback that serves a file in many ways: it stalls, breaks off, redirects, lies.

with running(Serving(DATA, cut=1000), Serving(DATA)) as server:      # the first request, then all others
    download(Wanted(server.address), ...)
assert server.requests[1].range == "bytes=1000-"
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple


@dataclass(frozen=True)
class Serving:
    """How one request is answered.

    Attributes:
        data: bytes of the file.
        status: status of the answer, where it is not that of a file.
        location: where a redirect leads; "{self}" stands for the server.
        tag: ETag of the file; "" for none.
        ranges: whether the server knows ranges.
        stated: size that the server states; None for the true one, -1 for none.
        cut: bytes of the body after which the connection is closed; None for all.
        stalls: whether the connection stays open instead, and nothing comes.
        silent: whether not even the head of the answer comes.
        off: how far the range that is sent lies behind the one that was asked for.
    """

    data: bytes = b""
    status: int = 200
    location: str = ""
    tag: str = '"1"'
    ranges: bool = True
    stated: int | None = None
    cut: int | None = None
    stalls: bool = False
    silent: bool = False
    off: int = 0


class Asked(NamedTuple):
    """A request."""

    path: str
    range: str
    if_range: str
    headers: dict[str, str]


@dataclass
class FileServer:
    """The server.

    Attributes:
        address: address of the file.
        servings: how the requests are answered, in order; the last one answers all that follow.
        requests: those that came.
        gone: set at the end; stalling answers wait for it.
    """

    address: str
    servings: list[Serving]
    requests: list[Asked] = field(default_factory=list)
    gone: threading.Event = field(default_factory=threading.Event)


@contextlib.contextmanager
def running(*servings: Serving) -> Iterator[FileServer]:
    """Yield a server that answers so."""
    server: FileServer
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked = {name.lower(): value for name, value in self.headers.items()}
            with lock:
                serving = server.servings[min(len(server.requests), len(server.servings) - 1)]
                server.requests.append(Asked(self.path, asked.get("range", ""), asked.get("if-range", ""), asked))
            self.close_connection = True
            # The client may have gone.
            with contextlib.suppress(OSError):
                self.answer(serving, asked)

        def answer(self, serving: Serving, asked: dict[str, str]) -> None:
            if serving.silent:
                server.gone.wait()
                return
            data, status, begin = serving.data, serving.status, 0
            wanted = asked.get("range", "")
            if wanted and serving.ranges and status == 200 and asked.get("if-range") in (None, serving.tag):
                begin = int(wanted.removeprefix("bytes=").rstrip("-"))
                status = 206 if begin < len(data) else 416
            self.send_response(status)
            if serving.location:
                self.send_header("Location", serving.location.replace("{self}", server.address.rpartition("/")[0]))
            if serving.tag:
                self.send_header("ETag", serving.tag)
            if status == 206:
                begin += serving.off
                self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
            body = b"" if status == 416 else data[begin:]
            if serving.stated != -1:
                self.send_header("Content-Length", str(len(body) if serving.stated is None else serving.stated))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body if serving.cut is None else body[: serving.cut])
            self.wfile.flush()
            if serving.stalls:
                server.gone.wait()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as web:
        server = FileServer(f"http://127.0.0.1:{web.server_port}/file", list(servings))
        thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.gone.set()
            web.shutdown()
            thread.join()
