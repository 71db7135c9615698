"""A proxy before a real object store: counts what is asked of it and, where a test says so, misbehaves.

    with running(store.endpoint_url) as proxy:              # AWS_ENDPOINT_URL=proxy.url for whom it may concern
        with proxy.armed(Faults((Fault.SLOW_DOWN, Fault.RESET), rate=0.01, key="audio/*")):
            ...
        assert len(proxy.requests("GET", key="audio/*")) == 150

It is a process of its own: a library that waits for an answer with Python's lock in its hand would wait for ever for a
thread of the same process. Requests pass unchanged, signature included; bodies are streamed.
"""

from __future__ import annotations

import contextlib
import enum
import fnmatch
import itertools
import random
import re
import socket
import struct
import subprocess
import sys
import threading
import urllib.parse
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

from tests.support.web.http_messages import Body, Keys, body_of, read_head, sign_without, without_header

STALL_SECONDS: Final = 60.0
"""How long a proxy that says nothing waits for the client to hang up."""


class Fault(enum.Enum):
    """What goes wrong with a request. The first five answer without asking the store."""

    SLOW_DOWN = "503 Slow Down"
    ERROR = "500 Internal Server Error"
    DENIED = "403 Forbidden"
    ARCHIVED = "403 Not Restored"
    NOT_IMPLEMENTED = "501 Not Implemented"
    UNCONDITIONAL = "the store does not see If-None-Match"
    RESET = "the connection is reset before an answer"
    SILENCE = "no answer comes"
    HALF_BODY = "the connection is closed after half of the body"
    STALL = "after half of the body nothing comes any more"
    BARE_ETAG = "the answer's ETag has no quotes"
    LOST = "the store does as it is asked, and its answer does not come"


TRANSIENT: Final = (Fault.SLOW_DOWN, Fault.ERROR, Fault.RESET, Fault.HALF_BODY)
"""What a sound store does now and then, but for the faults that take a client's whole patience."""

_CODES: Final = {
    Fault.SLOW_DOWN: "SlowDown",
    Fault.ERROR: "InternalError",
    Fault.DENIED: "AccessDenied",
    Fault.ARCHIVED: "InvalidObjectState",
    Fault.NOT_IMPLEMENTED: "NotImplemented",
}


class Request(NamedTuple):
    """A request that came. `range` is that header's value, `fault` what went wrong with it, `sent_bytes` the bytes of
    the answer's body."""

    method: str
    bucket: str
    key: str
    query: str
    range: str
    fault: Fault | None = None
    status: int = 0
    sent_bytes: int = 0


@dataclass(frozen=True)
class Faults:
    """Which requests go wrong, and how.

    Attributes:
        kinds: one of them by chance; none: only `call` is called.
        key: a pattern as of shells (`audio/*`); "" is the bucket itself, as in listings.
        bucket: likewise.
        methods: of HTTP.
        range: a regular expression that the Range header must match from its start.
        nth: only when the same is asked of the same key for the first (1), second, … time since these were armed.
        rate: share of such requests; which ones depends on the seed, the key and how often it was asked, not on time.
        seed: of that choice.
        call: called in the test's process with the request, which waits for its end; before the store is asked.
    """

    kinds: Sequence[Fault] = ()
    key: str = "*"
    bucket: str = "*"
    methods: Collection[str] = ("GET",)
    range: str = ""
    nth: Collection[int] | None = None
    rate: float = 1.0
    seed: int = 0
    call: Callable[[Request], Any] | None = None


class Proxy:
    """A running proxy, from the test's side."""

    def __init__(self, url: str, control: Connection, calls: Connection) -> None:
        self.url = url
        self._control, self._calls = control, calls
        self._lock = threading.Lock()
        self._failed: list[BaseException] = []
        self._callbacks: dict[int, Callable[[Request], Any]] = {}
        self._numbers = itertools.count()
        threading.Thread(target=self._answer_calls, daemon=True).start()

    @contextlib.contextmanager
    def armed(self, *faults: Faults) -> Iterator[None]:
        """Misbehave so, and only so, inside a `with` block. An error in a `call` is raised at its end."""
        named = []
        for fault in faults:
            number = next(self._numbers)
            if fault.call is not None:
                self._callbacks[number] = fault.call
            named.append((number, replace(fault, call=None), fault.call is not None))
        self._ask("arm", named)
        try:
            yield
        finally:
            self._ask("arm", [])
        if self._failed:
            raise self._failed.pop()

    def requests(self, method: str | None = None, key: str = "*", bucket: str = "*") -> list[Request]:
        """The requests so far, those that went wrong too, in the order of their answers; see `Faults` for patterns."""
        found: list[Request] = self._ask("requests", method, key, bucket)
        return found

    def forget(self) -> None:
        """Count from nothing."""
        self._ask("forget")

    def _ask(self, *question: Any) -> Any:
        with self._lock:
            self._control.send(question)
            return self._control.recv()

    def _answer_calls(self) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                number, request = self._calls.recv()
                try:
                    self._callbacks[number](request)
                except Exception as error:  # noqa: BLE001 - a test's own; `armed` raises it
                    self._failed.append(error)
                self._calls.send(None)


@contextlib.contextmanager
def running(store_url: str, keys: Keys | None = None) -> Iterator[Proxy]:
    """A proxy before a store (`http://host:port`) for the length of a `with` block; it ends with this process.

    It needs the keys of the store's users for the fault that alters a request, which it then signs anew.
    """
    ours, theirs = zip(*(socket.socketpair() for _ in range(2)), strict=True)
    ends = [end.fileno() for end in theirs]
    code = "import sys; from tests.support.fault_proxy import serve; serve(sys.argv[1], *map(int, sys.argv[2:]))"
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, store_url, *map(str, ends)],
        cwd=Path(__file__).parents[2],
        pass_fds=ends,
        start_new_session=True,
    ) as process:
        for end in theirs:
            end.close()
        control, calls = (Connection(end.detach()) for end in ours)
        try:
            proxy = Proxy(control.recv(), control, calls)
            proxy._ask("know", keys)
            yield proxy
        finally:
            # Its control connection at its end, the process ends.
            with contextlib.suppress(OSError):
                control.send(("end",))
                control.recv()
            control.close()
            process.wait(10)


def serve(store_url: str, control_fd: int, calls_fd: int) -> None:
    """The proxy's process: until the other end of the control connection is gone."""
    control = Connection(control_fd)
    relay = _Relay(store_url, Connection(calls_fd))
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        threading.Thread(target=relay.accept, args=(listener,), daemon=True).start()
        control.send(f"http://127.0.0.1:{listener.getsockname()[1]}")
        with contextlib.suppress(EOFError, OSError):
            while True:
                name, *arguments = control.recv()
                control.send(getattr(relay, name)(*arguments) if name != "end" else None)
                if name == "end":
                    return


class _Relay:
    """The proxy itself. A thread serves a client's connection, which is kept; the store's ends with each answer."""

    def __init__(self, store_url: str, calls: Connection) -> None:
        host, port = store_url.removeprefix("http://").rstrip("/").split(":")
        self._store = (host, int(port))
        self._calls, self._calls_lock = calls, threading.Lock()
        self._lock = threading.Lock()
        self._faults: list[tuple[int, Faults, bool]] = []
        self._keys: Keys | None = None
        self._asked: Counter[tuple[int, str, str, str]] = Counter()
        self._seen: list[Request] = []

    def know(self, keys: Keys | None) -> None:
        self._keys = keys

    def arm(self, faults: list[tuple[int, Faults, bool]]) -> None:
        with self._lock:
            self._faults = faults
            self._asked.clear()

    def requests(self, method: str | None, key: str, bucket: str) -> list[Request]:
        with self._lock:
            return [
                each
                for each in self._seen
                if method in (None, each.method)
                and fnmatch.fnmatchcase(each.key, key)
                and fnmatch.fnmatchcase(each.bucket, bucket)
            ]

    def forget(self) -> None:
        with self._lock:
            self._seen.clear()

    def accept(self, listener: socket.socket) -> None:
        while True:
            client, _ = listener.accept()
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with client, client.makefile("rb") as stream, contextlib.suppress(ConnectionError, TimeoutError):
            while head := read_head(stream):
                if not self._exchange(client, stream, head):
                    return

    def _exchange(self, client: socket.socket, stream: BinaryIO, head: bytes) -> bool:
        """One request and its answer; whether the connection goes on."""
        request, headers = _parse(head)
        body = body_of(headers, 0)
        fault = self._judge(request)
        if headers.get("expect", "").lower() == "100-continue":
            client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if fault in _CODES:
            for _ in body.read(stream):
                pass
            text = f"<Error><Code>{_CODES[fault]}</Code><Message>so it is</Message></Error>"
            status, sent = int(fault.value[:3]), len(text) * (request.method != "HEAD")
            self._note(request, fault, status, sent)
            answer = f"HTTP/1.1 {fault.value}\r\nContent-Type: application/xml\r\nContent-Length: {len(text)}\r\n\r\n"
            client.sendall((answer + text[:sent]).encode())
            return True
        if fault in (Fault.RESET, Fault.SILENCE):
            self._note(request, fault, 0, 0)
            _break_off(client, fault)
            return False
        if fault is Fault.UNCONDITIONAL and self._keys is not None and "if-none-match" in headers:
            head = sign_without(head, "If-None-Match", self._keys)
        with socket.create_connection(self._store, timeout=STALL_SECONDS) as store, store.makefile("rb") as answers:
            store.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            store.sendall(without_header(head, "connection").replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            for data in body.read(stream):
                store.sendall(data)
            answer_head = read_head(answers)
            while answer_head.split(b" ", 2)[1:2] == [b"100"]:
                answer_head = read_head(answers)
            return self._answer(client, answers, request, fault, answer_head)

    def _answer(
        self, client: socket.socket, answers: BinaryIO, request: Request, fault: Fault | None, head: bytes
    ) -> bool:
        """The store's answer, passed on as far as the fault lets it."""
        if not head:
            return False
        status = int(head.split(b" ", 2)[1])
        if fault is Fault.LOST:
            self._note(request, fault, status, 0)
            _break_off(client, fault)
            return False
        _, headers = _parse(head)
        bodiless = request.method == "HEAD" or status in (204, 304)
        body = Body(0) if bodiless else body_of(headers, None)
        head = without_header(head, "connection")
        if fault is Fault.BARE_ETAG:
            head = re.sub(rb'(?im)^(etag: *)"([^"]*)"', rb"\1\2", head)
        if fault in (Fault.HALF_BODY, Fault.STALL):
            sent = (body.length or 0) // 2
            self._note(request, fault, status, sent)
            client.sendall(head + answers.read(sent))
            _break_off(client, fault)
            return False
        self._note(request, fault, status, body.length or 0)
        client.sendall(head)
        for data in body.read(answers):
            client.sendall(data)
        return bodiless or body.chunked or body.length is not None

    def _judge(self, request: Request) -> Fault | None:
        """What is to go wrong with a request; calls what wants to be called."""
        calls: list[int] = []
        found: Fault | None = None
        with self._lock:
            for number, faults, called in self._faults:
                if not (
                    request.method in faults.methods
                    and fnmatch.fnmatchcase(request.key, faults.key)
                    and fnmatch.fnmatchcase(request.bucket, faults.bucket)
                    and re.match(faults.range, request.range)
                ):
                    continue
                asked = (number, request.method, request.bucket, request.key)
                self._asked[asked] += 1
                if faults.nth is not None and self._asked[asked] not in faults.nth:
                    continue
                chance = random.Random(f"{faults.seed} {request.method} {request.key} {self._asked[asked]}")
                if chance.random() >= faults.rate:
                    continue
                calls += [number] * called
                if found is None and faults.kinds:
                    found = chance.choice(list(faults.kinds))
        for number in calls:
            # One at a time; what a call itself asks of the store passes.
            with self._calls_lock:
                self._calls.send((number, request))
                self._calls.recv()
        return found

    def _note(self, request: Request, fault: Fault | None, status: int, sent_bytes: int) -> None:
        """Before the answer goes out: who has it can count it."""
        with self._lock:
            self._seen.append(request._replace(fault=fault, status=status, sent_bytes=sent_bytes))


def _break_off(client: socket.socket, fault: Fault) -> None:
    if fault in (Fault.RESET, Fault.LOST):
        # To linger for no time is to send a reset instead of an end.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if fault in (Fault.SILENCE, Fault.STALL):
        client.settimeout(STALL_SECONDS)
        client.recv(1)


def _parse(head: bytes) -> tuple[Request, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    method, target = first.split(" ")[:2]
    path, _, query = target.partition("?")
    bucket, _, key = urllib.parse.unquote(path).removeprefix("/").partition("/")
    return Request(method, bucket, key, query, headers.get("range", "")), headers
