"""A gate on loopback before a real object store: it lets some requests through, and signs them with the store's keys.

So the store behind it is one that anybody may read, or whose readers pay.
"""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.support.object_store import ObjectStore

Admits = Callable[[str, Mapping[str, str]], bool]
"""Whether a request passes, by its method and its headers."""

DENIED: Final = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


def anybody_reads(method: str, headers: Mapping[str, str]) -> bool:
    """A public bucket, and a reader that has no keys."""
    return method in ("GET", "HEAD") and "authorization" not in headers


def reader_pays(method: str, headers: Mapping[str, str]) -> bool:
    """As Amazon's: the consent must be there, and signed."""
    signed = headers.get("authorization", "").partition("SignedHeaders=")[2].partition(",")[0].split(";")
    return headers.get("x-amz-request-payer") == "requester" and "x-amz-request-payer" in signed


@contextlib.contextmanager
def running(store: ObjectStore, admits: Admits) -> Iterator[str]:
    """Yield the address of the gate."""
    host = store.endpoint_url.removeprefix("http://").rstrip("/")
    signer = S3SigV4Auth(Credentials(store.access_key, store.secret_key), "s3", store.region)

    class Gate(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            if not admits(self.command, headers):
                self.answer(403, {"Content-Type": "application/xml"}, DENIED)
                return
            wanted = {name: headers[name] for name in ("range", "if-match") if name in headers}
            request = AWSRequest(self.command, f"http://{host}{self.path}", headers=wanted, data=body)
            signer.add_auth(request)
            asked = http.client.HTTPConnection(host)
            asked.request(self.command, self.path, body, dict(request.headers.items()))
            answer = asked.getresponse()
            self.answer(answer.status, dict(answer.getheaders()), answer.read())
            asked.close()

        def answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
            self.send_response_only(status)
            if self.command == "HEAD" and "Content-Length" in headers:
                self.send_header("Content-Length", headers["Content-Length"])
            else:
                self.send_header("Content-Length", str(len(body)))
            for name in headers.keys() - {"Content-Length", "Transfer-Encoding", "Connection"}:
                self.send_header(name, headers[name])
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_GET(self) -> None:
            self.pass_on()

        def do_HEAD(self) -> None:
            self.pass_on()

        def do_PUT(self) -> None:
            self.pass_on()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Gate) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
