"""Downloads from a server that stalls, breaks off, redirects, lies, and serves another file."""

from __future__ import annotations

import fcntl
import hashlib
import multiprocessing
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cluster.storage.http.answer import Patience
from cluster.storage.http.download import OFFLINE, Wanted, download, is_offline
from mgc.errors import StorageError
from tests.support.web.file_server import FileServer, Serving, running

DATA = random.Random(0).randbytes(700_000)
OTHER = random.Random(1).randbytes(700_000)
SHA256 = hashlib.sha256(DATA).hexdigest()
QUICK = Patience(answer_seconds=10, stall_seconds=10, tries=3, pause_seconds=0.01)
HASTY = Patience(answer_seconds=0.3, stall_seconds=0.3, tries=1, pause_seconds=0.01)
CUT = 300_000


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


class Place:
    """Where one file goes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.part, self.target = folder / "parts" / "file.part", folder / "done" / "file"
        self.reports: list[tuple[int, int | None]] = []

    def fetch(self, server: FileServer, patience: Patience = QUICK, **known: Any) -> str:
        wanted = Wanted(server.address, **{"size_bytes": len(DATA), "sha256": SHA256, **known})
        return download(wanted, self.target, self.part, patience, lambda *now: self.reports.append(now))

    def refused(self, server: FileServer, patience: Patience = QUICK, **known: Any) -> str:
        with pytest.raises(StorageError) as caught:
            self.fetch(server, patience, **known)
        assert not self.target.exists()
        line = str(caught.value)
        assert "\n" not in line
        assert len(line) < 400
        return line

    def left(self) -> list[str]:
        return sorted(path.name for path in self.folder.rglob("*") if path.is_file())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def ranges(server: FileServer) -> list[str]:
    return [asked.range for asked in server.requests]


def test_a_whole_file(place: Place) -> None:
    with running(Serving(DATA)) as server:
        assert place.fetch(server) == SHA256
    assert place.target.read_bytes() == DATA
    assert place.left() == ["file"]
    assert place.reports[-1] == (len(DATA), len(DATA))
    assert [done for done, _ in place.reports] == sorted(done for done, _ in place.reports)


def test_a_file_of_which_nothing_is_known(place: Place) -> None:
    with running(Serving(DATA, stated=-1, tag="")) as server:
        assert place.fetch(server, size_bytes=None, sha256=None) == SHA256
    assert place.target.read_bytes() == DATA


@pytest.mark.parametrize("stalls", [False, True])
def test_a_broken_connection_is_taken_up_where_it_broke(place: Place, stalls: bool) -> None:
    patience = Patience(answer_seconds=10, stall_seconds=0.3, tries=2, pause_seconds=0.01)
    with running(
        Serving(DATA, cut=CUT, stalls=stalls), Serving(DATA, cut=1000, stalls=stalls), Serving(DATA)
    ) as server:
        assert place.fetch(server, patience) == SHA256
        assert ranges(server) == ["", f"bytes={CUT}-", f"bytes={CUT + 1000}-"]
        assert server.requests[1].if_range == '"1"'
    assert place.target.read_bytes() == DATA


def test_a_later_call_goes_on_where_the_earlier_one_failed(place: Place) -> None:
    with running(Serving(DATA, cut=CUT), Serving(status=503), Serving(DATA)) as server:
        patience = Patience(10, 10, tries=1, pause_seconds=0.01)
        assert "503" in place.refused(server, patience)
        assert place.part.stat().st_size == CUT
        assert place.fetch(server) == SHA256
        assert ranges(server)[-1] == f"bytes={CUT}-"
    assert place.left() == ["file"]


@pytest.mark.parametrize(
    ("second", "asked"),
    [
        (Serving(DATA, tag='"2"'), [f"bytes={CUT}-"]),
        (Serving(DATA, ranges=False), [f"bytes={CUT}-"]),
        # These two send a part that does not fit, so the file is asked for again.
        (Serving(DATA, off=5), [f"bytes={CUT}-", ""]),
        (Serving(DATA[:CUT]), [f"bytes={CUT}-", ""]),
    ],
    ids=["another version", "no ranges", "another range", "shorter now"],
)
def test_a_file_that_cannot_be_taken_up_is_fetched_anew(place: Place, second: Serving, asked: list[str]) -> None:
    """The beginning comes from the file's first version; were it kept, the SHA-256 would differ."""
    first = Serving(OTHER[:CUT] + DATA[CUT:], cut=CUT)
    with running(first, second, Serving(DATA, tag='"2"')) as server:
        assert place.fetch(server) == SHA256
        assert ranges(server) == ["", *asked]


def test_without_a_version_nothing_is_taken_up(place: Place) -> None:
    with running(Serving(DATA, cut=CUT, tag='W/"1"'), Serving(DATA, tag="")) as server:
        assert place.fetch(server) == SHA256
        assert ranges(server) == ["", ""]


def test_a_part_that_was_damaged_since_is_fetched_anew(place: Place) -> None:
    with running(Serving(DATA, cut=CUT), Serving(status=503), Serving(DATA)) as server:
        place.refused(server, Patience(10, 10, tries=1, pause_seconds=0.01))
        place.part.write_bytes(bytes(CUT))
        assert place.fetch(server) == SHA256
        assert ranges(server)[-2:] == [f"bytes={CUT}-", ""]


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/other", None])
def test_a_part_of_another_address_is_not_taken_up(place: Place, address: str | None) -> None:
    place.part.parent.mkdir()
    place.part.write_bytes(OTHER[:CUT])
    noted = f'{{"address": "{address}", "validator": "\\"1\\"", "total_bytes": 700000}}' if address else "no JSON"
    place.part.with_name("file.part.json").write_text(noted)
    with running(Serving(DATA)) as server:
        assert place.fetch(server) == SHA256
        assert ranges(server) == [""]


def test_a_whole_part_is_not_fetched_again(place: Place) -> None:
    with running(Serving(DATA)) as server:
        place.part.parent.mkdir()
        place.part.write_bytes(DATA)
        place.part.with_name("file.part.json").write_text(
            f'{{"address": "{server.address}", "validator": "\\"1\\"", "total_bytes": {len(DATA)}}}'
        )
        assert place.fetch(server) == SHA256
        assert not server.requests


@pytest.mark.parametrize(
    ("serving", "said"),
    [
        (Serving(DATA[:1000]), "1,000"),
        (Serving(DATA + b"x"), "700,001"),
        (Serving(DATA + b"x", stated=-1), "more than"),
        (Serving(OTHER), hashlib.sha256(OTHER).hexdigest()),
        (Serving(b"<html>not found</html>" * 10), "220"),
    ],
    ids=["shorter", "longer", "longer than it says", "of the same size", "a page"],
)
def test_another_file_is_refused_at_once(place: Place, serving: Serving, said: str) -> None:
    with running(serving) as server:
        line = place.refused(server)
        assert "another file" in line
        assert said in line
        assert len(server.requests) == 1
    assert place.left() == []


@pytest.mark.parametrize("stated", [len(DATA), -1])
def test_a_file_that_always_ends_early_is_given_up(place: Place, stated: int) -> None:
    """A server that states a size and sends less, again and again."""
    with running(Serving(DATA[:CUT], stated=stated, tag="")) as server:
        line = place.refused(server)
        assert f"after {CUT:,} bytes of {len(DATA):,}" in line
        assert len(server.requests) == 1 + QUICK.tries


def test_a_server_that_stalls_is_given_up(place: Place) -> None:
    with running(Serving(DATA, cut=CUT, stalls=True), Serving(DATA, cut=0, stalls=True)) as server:
        line = place.refused(server, HASTY)
        assert "nothing came for 0.3 s" in line
        assert "goes on from there" in line
    assert place.left() == ["file.part", "file.part.json"]


@pytest.mark.parametrize(("answer_seconds", "stall_seconds"), [(0.3, 60), (60, 0.3)])
def test_a_server_that_does_not_answer_is_given_up(place: Place, answer_seconds: float, stall_seconds: float) -> None:
    with running(Serving(DATA, silent=True)) as server:
        line = place.refused(server, Patience(answer_seconds, stall_seconds, tries=1, pause_seconds=0.01))
        assert "no answer came within 0.3 s" in line
        assert len(server.requests) == 1
    assert place.left() == []


@pytest.mark.parametrize(("status", "requests"), [(404, 1), (410, 1), (403, 1), (500, 3), (503, 3), (429, 3)])
def test_a_refusal_names_its_status(place: Place, status: int, requests: int) -> None:
    with running(Serving(b"no", status=status)) as server:
        assert str(status) in place.refused(server)
        assert len(server.requests) == requests


def test_a_server_that_is_busy_at_first(place: Place) -> None:
    with running(Serving(status=503), Serving(status=500), Serving(DATA)) as server:
        assert place.fetch(server) == SHA256


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(place: Place, status: int) -> None:
    with running(
        Serving(status=status, location="/a"), Serving(status=302, location="{self}/b"), Serving(DATA)
    ) as server:
        assert place.fetch(server) == SHA256
        assert [asked.path for asked in server.requests] == ["/file", "/a", "/b"]


def test_redirects_in_a_circle(place: Place) -> None:
    with running(Serving(status=302, location="/a"), Serving(status=302, location="{self}/file")) as server:
        assert "circle" in place.refused(server)
        assert len(server.requests) == 2


def test_redirects_without_end(place: Place) -> None:
    endless = [Serving(status=302, location=f"/{number}") for number in range(99)]
    with running(*endless) as server:
        assert "circle" in place.refused(server)
        assert len(server.requests) < 12


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/file", "data:,hello"])
def test_redirects_to_what_is_no_web_address(place: Place, location: str) -> None:
    with running(Serving(status=302, location=location)) as server:
        assert location in place.refused(server)


def test_an_unknown_host_and_a_closed_port(place: Place) -> None:
    with running(Serving(DATA)) as server:
        port = server.address.split(":")[2].partition("/")[0]
    assert "127.0.0.1 cannot be reached" in place.refused(server)
    server.address = f"http://no-such-host.invalid:{port}/file"
    assert "no-such-host.invalid cannot be reached" in place.refused(server)
    assert place.left() == []


def test_credentials_of_an_address_are_not_shown(place: Place) -> None:
    with running(Serving(status=404)) as server:
        server.address += "?sig=very-secret"
        assert "very-secret" not in place.refused(server)


def test_a_proxy_of_the_environment(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(Serving(DATA)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.address.replace("//", "//user:p%40ss@").removesuffix("/file"))
        server = FileServer("http://models.invalid/file", [])
        assert place.fetch(server) == SHA256
        asked = proxy.requests[0]
        assert asked.path == "http://models.invalid/file"
        assert asked.headers["proxy-authorization"] == "Basic dXNlcjpwQHNz"
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with running(Serving(DATA)) as server:
        assert place.fetch(server) == SHA256
    place.target.unlink()
    monkeypatch.setenv("no_proxy", "")
    assert "the proxy gives no connection" in place.refused(server)
    monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:9")
    assert "HTTPS_PROXY" in place.refused(server)


def _fetch_at_once(address: str, part: str, targets: list[str], barrier: Any, number: int) -> None:
    barrier.wait()
    download(Wanted(address, len(DATA), SHA256), Path(targets[number]), Path(part), QUICK)


def test_downloads_at_the_same_time_do_not_disturb_each_other(place: Place) -> None:
    spawning = multiprocessing.get_context("spawn")
    targets = [str(place.folder / f"target-{number}") for number in range(3)]
    barrier = spawning.Barrier(len(targets))
    with running(Serving(DATA)) as server:
        arguments = (server.address, str(place.part), targets, barrier)
        each = [spawning.Process(target=_fetch_at_once, args=(*arguments, number)) for number in range(len(targets))]
        for process in each:
            process.start()
        for process in each:
            process.join()
    assert [process.exitcode for process in each] == [0, 0, 0]
    assert all(Path(target).read_bytes() == DATA for target in targets)
    assert place.left() == ["target-0", "target-1", "target-2"]


FULL_DISK = """
import sys
from pathlib import Path
from cluster.storage.http.download import Wanted, download
from mgc.errors import StorageError
try:
    download(Wanted(sys.argv[2]), Path(sys.argv[1], "file"), Path(sys.argv[1], "file.part"))
except StorageError as error:
    print(error)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_is_named(place: Place) -> None:
    script = 'mount -t tmpfs -o size=256k tmpfs "$1" || exit 77; exec "$2" -c "$3" "$1" "$4"'
    with running(Serving(DATA)) as server:
        done = subprocess.run(
            ["unshare", "--mount", "bash", "-c", script, "-", place.folder, sys.executable, FULL_DISK, server.address],
            capture_output=True, text=True, check=False, cwd=Path(__file__).parents[4],
        )  # fmt: skip
    if done.returncode == 77:
        pytest.skip("no disk can be mounted here")
    assert done.returncode == 0, done.stderr
    assert "the disk is full" in done.stdout


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with running(Serving(DATA)) as server, pytest.raises(StorageError, match=str(tmp_path)):
        download(Wanted(server.address), tmp_path / "target", tmp_path / "file" / "part", QUICK)


@pytest.mark.parametrize(("value", "offline"), [("1", True), ("true", True), ("0", False), ("", False), (None, False)])
def test_the_word_for_working_offline(monkeypatch: pytest.MonkeyPatch, value: str | None, offline: bool) -> None:
    monkeypatch.delenv(OFFLINE, raising=False)
    if value is not None:
        monkeypatch.setenv(OFFLINE, value)
    assert is_offline() is offline


def test_a_part_that_another_process_finished_just_now_is_left_alone(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gave the file its name after we had opened it, and before we locked it."""
    finished, lock = place.folder / "finished", fcntl.flock

    def rename_first(file: Any, operation: int) -> None:
        if not finished.exists():
            place.part.write_bytes(OTHER)
            place.part.rename(finished)
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", rename_first)
    with running(Serving(DATA)) as server:
        assert place.fetch(server) == SHA256
    assert finished.read_bytes() == OTHER
