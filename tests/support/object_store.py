"""A real S3-compatible object store on loopback: one node of OpenStack Swift with its S3 API.

The tests use it through the fixtures of `conftest.py`. By hand, to try `s3://` on a laptop:

    eval "$(python -m tests.support.object_store start .object-store)"
    python -m tests.support.object_store stop .object-store

Needs no root and no system package: four server processes of the package `swift`, their data in one folder. Linux only,
since Swift keeps its metadata in extended attributes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pwd
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

SERVICES: Final = ("account", "container", "object", "proxy")
START_SECONDS: Final = 60.0
"""Until when all four must answer. They take about 3 s; a busy machine may take longer."""

_RINGS: Final = """
import json, sys
from swift.common.ring import RingBuilder
folder, ports = sys.argv[1], json.loads(sys.argv[2])
for service, port in ports.items():
    builder = RingBuilder(part_power=4, replicas=1, min_part_hours=0)
    builder.add_dev({"region": 1, "zone": 1, "ip": "127.0.0.1", "port": port, "device": "d0", "weight": 1.0})
    builder.rebalance()
    builder.get_ring().save(f"{folder}/{service}.ring.gz")
"""

# A server that must not outlive the test run, even if that is killed, asks the kernel (PR_SET_PDEATHSIG = 1) for a
# signal at its parent's death, then becomes Swift.
_TIED: Final = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]): sys.exit("parent is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""

_SWIFT_CONF: Final = """[swift-hash]
swift_hash_path_prefix = mgc
swift_hash_path_suffix = mgc
[storage-policy:0]
name = default
default = yes
"""

_BACKEND_CONF: Final = """[DEFAULT]
devices = {folder}/disk
mount_check = false
bind_ip = 127.0.0.1
bind_port = {port}
# 0: one process and no fork, so that the process started is the process to end.
workers = 0
user = {user}
swift_dir = {folder}/etc
disable_fallocate = true
log_requests = false
[pipeline:main]
pipeline = {service}-server
[app:{service}-server]
use = egg:swift#{service}
# An object server that waits too short for the container leaves the listing to a daemon that does not run here.
container_update_timeout = 30
"""

_PROXY_CONF: Final = """[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {folder}/etc
[pipeline:main]
pipeline = catch_errors cache s3api tempauth bulk slo dlo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
allow_account_management = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:cache]
paste.filter_factory = tests.support.web.swift_cache:filter_factory
[filter:s3api]
use = egg:swift#s3api
s3_acl = false
location = {region}
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = {secret} .admin
# A user of the same account without any right: every request of his is AccessDenied.
user_test_guest = {secret}
[filter:bulk]
use = egg:swift#bulk
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
"""


class ObjectStoreError(RuntimeError):
    """The store did not start; the message holds the servers' logs."""


@dataclass(frozen=True)
class ObjectStore:
    """Where a running store is and how to enter it."""

    endpoint_url: str
    access_key: str
    secret_key: str = field(repr=False)
    region: str
    folder: Path
    servers: tuple[subprocess.Popen[bytes], ...] = field(repr=False, compare=False)

    guest_access_key: str = "test:guest"
    """Known to the store, with the same secret, and allowed nothing."""

    def environment(self) -> dict[str, str]:
        """The AWS variables that boto3, pyarrow and deltalake read."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ALLOW_HTTP": "true",
        }

    def client(self) -> Any:
        """A boto3 client of its own, independent of the environment and of the code under test."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=self.region,
            config=Config(request_checksum_calculation="when_required", response_checksum_validation="when_required"),
        )

    def make_bucket(self, name: str | None = None) -> str:
        """Make an empty bucket, under a name of its own unless one is given, and return the name."""
        name = name or f"bucket-{secrets.token_hex(6)}"
        client = self.client()
        try:
            client.create_bucket(Bucket=name)
        finally:
            client.close()
        return name


@contextlib.contextmanager
def running(folder: Path) -> Iterator[ObjectStore]:
    """A store for the length of a `with` block; it also ends when this process is killed."""
    store = start(folder, tied=True)
    try:
        yield store
    finally:
        _end([server.pid for server in store.servers], lambda pid: _reaped(store.servers, pid))


def start(folder: Path, tied: bool = False) -> ObjectStore:
    """Start a store in a folder and wait until it answers. Data of an earlier start in that folder is kept.

    Args:
        folder: holds configuration, data, logs and `store.json`; made if needed.
        tied: end the servers when this process ends, however it ends.

    Raises:
        ObjectStoreError: it did not come up; nothing is left running.
    """
    folder = folder.resolve()
    earlier = _state(folder)
    stop(folder)
    for part in ("etc", "disk/d0", "log"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    _require_extended_attributes(folder)
    secret = str(earlier.get("secret_key") or secrets.token_hex(20))
    # Another program may take a port between our look and the server's start: then look again.
    for attempt in range(3):
        try:
            return _start_once(folder, secret, tied)
        except ObjectStoreError as error:
            if attempt == 2 or "Address already in use" not in str(error):
                raise
    raise AssertionError("unreachable")


def stop(folder: Path) -> None:
    """End the servers that `start` left running in a folder, by their process ids."""
    folder = folder.resolve()
    pids = [pid for pid in _state(folder).get("pids", ()) if _is_server_of(pid, folder)]
    _end(pids, lambda pid: not _is_server_of(pid, folder))


def _start_once(folder: Path, secret: str, tied: bool) -> ObjectStore:
    ports = dict(zip(SERVICES, _free_ports(len(SERVICES)), strict=True))
    region = "us-east-1"
    user = pwd.getpwuid(os.getuid()).pw_name
    etc = folder / "etc"
    (etc / "swift.conf").write_text(_SWIFT_CONF)
    for service in SERVICES:
        template = _PROXY_CONF if service == "proxy" else _BACKEND_CONF
        path = etc / f"{service}.ini"
        path.touch(mode=0o600)
        path.write_text(
            template.format(
                folder=folder, port=ports[service], service=service, user=user, secret=secret, region=region
            )
        )
    backends = {service: port for service, port in ports.items() if service != "proxy"}
    subprocess.run([sys.executable, "-c", _RINGS, str(etc), json.dumps(backends)], check=True, env=_environment())
    servers: list[subprocess.Popen[bytes]] = []
    try:
        servers.extend(_launch(folder, service, tied) for service in SERVICES)
        store = ObjectStore(
            endpoint_url=f"http://127.0.0.1:{ports['proxy']}",
            access_key="test:tester",
            secret_key=secret,
            region=region,
            folder=folder,
            servers=tuple(servers),
        )
        state = folder / "store.json"
        state.touch(mode=0o600)
        state.write_text(json.dumps({"secret_key": secret, "pids": [server.pid for server in servers]}))
        _wait(folder, servers, ports)
    except BaseException:
        _end([server.pid for server in servers], lambda pid: _reaped(servers, pid))
        raise
    return store


def _launch(folder: Path, service: str, tied: bool) -> subprocess.Popen[bytes]:
    program = Path(sys.executable).with_name(f"swift-{service}-server")
    if not program.is_file():
        raise ObjectStoreError(f"{program} is missing; install the development dependencies: pip install -e '.[dev]'.")
    command = [str(program), str(folder / "etc" / f"{service}.ini"), "--verbose"]
    if tied:
        command = [sys.executable, "-c", _TIED, str(os.getpid()), *command]
    with (folder / "log" / f"{service}.log").open("wb") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=_environment(),
        )


def _environment() -> dict[str, str]:
    """The environment of Swift's processes."""
    return {
        # Warnings that a test run turns into errors are not Swift's affair.
        **{name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"},
        "PYTHONPATH": str(Path(__file__).parents[2]),
        # No name is looked up here. To import what could takes a third of a server's start.
        "EVENTLET_NO_GREENDNS": "yes",
    }


def _wait(folder: Path, servers: list[subprocess.Popen[bytes]], ports: dict[str, int]) -> None:
    deadline = time.monotonic() + START_SECONDS
    waiting = dict(ports)
    while waiting:
        dead = [service for service, server in zip(SERVICES, servers, strict=True) if server.poll() is not None]
        if dead or time.monotonic() > deadline:
            what = f"ended at once: {', '.join(dead)}" if dead else f"silent for {START_SECONDS:.0f} s: {list(waiting)}"
            raise ObjectStoreError(f"the object store in {folder} did not start; {what}\n{_logs(folder)}")
        for service in list(waiting):
            if _answers(service, waiting[service]):
                del waiting[service]
        if waiting:
            time.sleep(0.05)


def _answers(service: str, port: int) -> bool:
    if service != "proxy":
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0
    try:
        # A proxy in the environment has no business on loopback.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{port}/info", timeout=5):
            return True
    except urllib.error.HTTPError as refusal:
        refusal.close()
        return True
    except OSError:
        return False


def _end(pids: Sequence[int], gone: Callable[[int], bool]) -> None:
    """Ask, wait, and after five seconds insist."""
    for sign, seconds in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sign)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            pids = [pid for pid in pids if not gone(pid)]
            if not pids:
                return
            time.sleep(0.02)


def _reaped(servers: Sequence[subprocess.Popen[bytes]], pid: int) -> bool:
    return next(server for server in servers if server.pid == pid).poll() is not None


def _is_server_of(pid: int, folder: Path) -> bool:
    """Whether a process is a server of this folder, and not another program that got a recycled id."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return os.fsencode(folder / "etc") in command


def _state(folder: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = json.loads((folder / "store.json").read_text())
    except FileNotFoundError:
        return {}
    return state


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def _require_extended_attributes(folder: Path) -> None:
    if not hasattr(os, "setxattr"):
        raise ObjectStoreError("Swift keeps its metadata in extended attributes, as Linux has them; this is no Linux.")
    try:
        os.setxattr(folder / "disk" / "d0", "user.mgc", b"probe")
    except OSError as error:
        raise ObjectStoreError(
            f"{folder}: this file system keeps no extended attributes ({error.strerror}); choose a folder on another."
        ) from error


def _logs(folder: Path) -> str:
    tails = []
    for service in SERVICES:
        path = folder / "log" / f"{service}.log"
        if path.is_file():
            tails.append(f"--- {path}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-20:]))
    return "\n".join(tails)


def main() -> None:
    """Start or stop a store by hand; `start` prints the variables to export."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.object_store", description=main.__doc__)
    parser.add_argument("action", choices=["start", "stop"])
    parser.add_argument("folder", type=Path, nargs="?", default=Path(".object-store"), help="default: .object-store")
    arguments = parser.parse_args()
    if arguments.action == "stop":
        stop(arguments.folder)
        return
    try:
        store = start(arguments.folder)
    except ObjectStoreError as error:
        sys.exit(str(error))
    for name, value in store.environment().items():
        print(f"export {name}={shlex.quote(value)}")


if __name__ == "__main__":
    main()
