"""The stage that fetches: bytes or a reason for every row, and an end for a job that is set up wrong."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import pickle
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
import pytest

from cluster import storage
from cluster.fetch import Fetch, FetchConfig
from cluster.listing import list_audio
from mgc.audio.cuts import Cuts
from mgc.audio.excerpts import ListeningPlan
from mgc.audio.recording import record
from mgc.audio.source import Held
from mgc.errors import StorageError
from tests.good_files import encode_by_ffmpeg
from tests.object_store import ObjectStore


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.cluster)])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "local" else request.getfixturevalue("bucket_uri")


def batch_of(source: str) -> dict[str, np.ndarray]:
    facts = list(list_audio(source))
    return {
        "track_id": np.array([fact.track_id for fact in facts]),
        "uri": np.array([fact.uri for fact in facts]),
        "content_tag": np.array([fact.content_tag for fact in facts]),
    }


def check(fetched: dict[str, np.ndarray], wanted: dict[str, bytes | str]) -> None:
    """`wanted`: by track id, the bytes or a part of the message."""
    assert list(fetched) == ["track_id", "uri", "content_tag", "recording", "error_kind", "error_message"]
    assert all(fetched[name].dtype == object for name in ("recording", "error_kind", "error_message"))
    rows = zip(*(fetched[name] for name in ("track_id", "recording", "error_kind", "error_message")), strict=True)
    seen = set()
    for track_id, data, kind, message in rows:
        seen.add(str(track_id))
        expected = wanted[str(track_id)]
        if isinstance(expected, bytes):
            assert (data, kind, message) == (expected, None, None)
        else:
            assert (data, kind) == (None, "too_large" if "max_bytes" in expected else "fetch_failed")
            assert expected in message
            assert "\n" not in message
    assert seen == set(wanted)


def put(base: str, **files: bytes) -> None:
    for name, data in files.items():
        storage.write_bytes(storage.join(base, f"{name}.mp3"), data)


class TestEverywhere:
    def test_bytes_of_one_length_and_names_of_all_kinds(self, base: str) -> None:
        names = ["a b.mp3", "#1.mp3", "50%41?.mp3", "日本.mp3", "empty.mp3"]
        data: dict[str, bytes | str] = {name: b"" if name == "empty.mp3" else secrets.token_bytes(8) for name in names}
        for name in names:
            storage.write_bytes(storage.join(base, name), data[name])
        check(Fetch()(batch_of(base)), data)

    def test_a_missing_a_replaced_and_a_large_file_are_rows(self, base: str) -> None:
        put(base, good=b"x" * 100, gone=b"x", replaced=b"before", large=b"x" * 101)
        batch = batch_of(base)
        storage.delete(storage.join(base, "gone.mp3"))
        put(base, replaced=b"behind")
        check(
            Fetch(FetchConfig(max_bytes=100))(batch),
            {
                "good.mp3": b"x" * 100,
                "gone.mp3": "there",
                "replaced.mp3": "it was replaced since the catalog was made (tag ",
                "large.mp3": "101 bytes are more than max_bytes (100)",
            },
        )

    def test_all_rows_missing_is_no_reason_to_stop(self, base: str) -> None:
        put(base, a=b"x", b=b"x")
        batch = batch_of(base)
        for name in ("a", "b"):
            storage.delete(storage.join(base, f"{name}.mp3"))
        check(Fetch()(batch), {"a.mp3": "there", "b.mp3": "there"})

    def test_without_a_tag_there_is_nothing_to_compare(self, base: str) -> None:
        put(base, a=b"x", b=b"y")
        batch = batch_of(base)
        batch["content_tag"] = np.array(["", None], dtype=object)
        check(Fetch()(batch), {"a.mp3": b"x", "b.mp3": b"y"})

    def test_columns_of_other_names_and_pickling(self, base: str) -> None:
        put(base, a=b"x")
        batch = batch_of(base)
        stage = Fetch(FetchConfig(uri_column="where", tag_column="tag"))
        stage({"where": batch["uri"], "tag": batch["content_tag"]})
        again = pickle.loads(pickle.dumps(stage))  # noqa: S301
        assert again.config == stage.config
        fetched = again({"where": batch["uri"], "tag": batch["content_tag"]})
        assert list(fetched["recording"]) == [b"x"]

    def test_an_empty_batch(self) -> None:
        nothing = np.array([], dtype=object)
        fetched = Fetch()({"track_id": nothing, "uri": nothing, "content_tag": nothing})
        check(fetched, {})


class TestLocal:
    def test_what_is_not_a_file(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe.mp3")
        (tmp_path / "folder.mp3").mkdir()
        uris = [str(tmp_path / "pipe.mp3"), str(tmp_path / "folder.mp3"), "ftp://host/x.mp3", "s3://"]
        batch = {"track_id": np.array(list("abcd")), "uri": np.array(uris), "content_tag": np.array([""] * 4)}
        check(
            Fetch()(batch),
            {"a": "it is not a file", "b": "it is a folder", "c": "cannot read this kind of URI", "d": "no bucket"},
        )

    def test_configuration_is_checked(self) -> None:
        for wrong in ({"threads": 0}, {"max_bytes": 0}, {"tries": 0}, {"thread": 1}):
            with pytest.raises(pydantic.ValidationError):
                FetchConfig(**wrong)


@pytest.mark.cluster
class TestS3:
    def test_objects_in_parts(self, bucket_uri: str) -> None:
        """pyarrow writes large objects in parts, whose ETag is no MD5 of the bytes; list and get must agree on it."""
        location = storage.locate(f"{bucket_uri}/large.mp3")
        data = secrets.token_bytes(1 << 20) * 11
        with location.filesystem.open_output_stream(location.path) as file:
            file.write(data)
        (fact,) = list_audio(location.uri)
        assert "-" in fact.content_tag
        check(Fetch()(batch_of(bucket_uri)), {"large.mp3": data})

    def test_local_and_remote_rows_mix(self, bucket_uri: str, tmp_path: Path) -> None:
        put(bucket_uri, far=b"far")
        put(str(tmp_path), near=b"near")
        far, near = batch_of(bucket_uri), batch_of(str(tmp_path))
        check(
            Fetch()({name: np.concatenate([far[name], near[name]]) for name in far}),
            {"far.mp3": b"far", "near.mp3": b"near"},
        )

    @pytest.mark.parametrize("names", [["a"], list("abcdefgh")])
    def test_wrong_credentials_end_the_job(
        self, names: list[str], object_store: ObjectStore, bucket_uri: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(bucket_uri, **dict.fromkeys(names, b"x"))
        batch, stage = batch_of(bucket_uri), Fetch()
        with monkeypatch.context() as patch:
            patch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret-wrong-secret")
            with pytest.raises(StorageError, match=r"^cannot fetch .*: the store refuses the credentials") as caught:
                stage(batch)
            assert "wrong-secret" not in str(caught.value)
        with monkeypatch.context() as patch:
            patch.setenv("AWS_ACCESS_KEY_ID", object_store.guest_access_key)
            with pytest.raises(StorageError, match="access is denied"):
                stage(batch)
        with monkeypatch.context() as patch:
            patch.delenv("AWS_ACCESS_KEY_ID")
            patch.delenv("AWS_SECRET_ACCESS_KEY")
            with pytest.raises(StorageError, match="no credentials were found"):
                stage(batch)
        check(stage(batch), dict.fromkeys([f"{name}.mp3" for name in names], b"x"))

    def test_a_missing_bucket_ends_the_job(self, s3_environment: ObjectStore) -> None:
        batch = {"uri": np.array(["s3://no-such-bucket-here/a.mp3"]), "content_tag": np.array([""])}
        with pytest.raises(StorageError, match=r"s3://no-such-bucket-here/a\.mp3: the bucket does not exist"):
            Fetch()(batch)

    def test_a_store_that_does_not_answer_ends_the_job(self, bucket_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
        put(bucket_uri, a=b"x", b=b"y")
        batch = batch_of(bucket_uri)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            endpoint = f"http://127.0.0.1:{probe.getsockname()[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        began = time.monotonic()
        with pytest.raises(StorageError, match=f"no answer from {endpoint}"):
            Fetch()(batch)
        assert time.monotonic() - began < 20


Fault = Callable[[int, bytes], bytes | None]
"""From the number of a request and its head: what to answer instead of asking the store, or None."""

Cut = Callable[[int, bytes], int | None]
"""From the same: after how many bytes of the store's answer to hang up, or None."""


def honest(number: int, request: bytes) -> None:
    return None


def answer(status: str, code: str) -> bytes:
    body = f"<Error><Code>{code}</Code><Message>so it is</Message></Error>"
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()


@contextlib.contextmanager
def relay(store_url: str, fault: Fault, cut: Cut = honest) -> Iterator[str]:
    """A relay before the real store that misbehaves as told; one connection serves one request. Yields its URL."""
    host, port = store_url.removeprefix("http://").split(":")
    threads: list[threading.Thread] = []

    def serve(number: int, client: socket.socket) -> None:
        with client, contextlib.suppress(ConnectionError):
            client.settimeout(10)
            request = client.recv(65536)
            if (false := fault(number, request)) is not None:
                client.sendall(false)
                return
            left = cut(number, request)
            with socket.create_connection((host, int(port)), timeout=10) as store:
                # Not among the signed headers: the store closes after its answer.
                store.sendall(request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
                while data := store.recv(65536 if left is None else min(left, 65536)):
                    client.sendall(data)
                    if left is not None and (left := left - len(data)) <= 0:
                        return

    def accept(listener: socket.socket) -> None:
        for number in itertools.count():
            client, _ = listener.accept()
            if ended.is_set():
                client.close()
                return
            threads.append(threading.Thread(target=serve, args=(number, client)))
            threads[-1].start()

    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        acceptor = threading.Thread(target=accept, args=(listener,))
        acceptor.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            ended.set()
            socket.create_connection(listener.getsockname()).close()
            acceptor.join()
            for thread in threads:
                thread.join()


@pytest.mark.cluster
class TestFaults:
    """Behind a relay that breaks what the real store answers."""

    @pytest.fixture
    def batch(self, bucket_uri: str) -> dict[str, np.ndarray]:
        put(bucket_uri, a=b"a" * 300_000, b=b"b" * 300_000)
        return batch_of(bucket_uri)

    @pytest.fixture
    def through(self, object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Any:
        @contextlib.contextmanager
        def through(fault: Fault, **options: Any) -> Iterator[None]:
            with relay(object_store.endpoint_url, fault, **options) as url, monkeypatch.context() as patch:
                patch.setenv("AWS_ENDPOINT_URL", url)
                yield

        return through

    def test_busy_at_first(self, batch: dict[str, np.ndarray], through: Any) -> None:
        seen = []

        def busy_twice(number: int, request: bytes) -> bytes | None:
            seen.append(number)
            return answer("503 Slow Down", "SlowDown") if number < 2 else None

        with through(busy_twice):
            check(Fetch()(batch), {"a.mp3": b"a" * 300_000, "b.mp3": b"b" * 300_000})
        assert len(seen) >= 3

    def test_one_object_always_fails(self, batch: dict[str, np.ndarray], through: Any) -> None:
        def broken_a(number: int, request: bytes) -> bytes | None:
            return answer("500 Internal Server Error", "InternalError") if b"/a.mp3 " in request else None

        with through(broken_a):
            check(Fetch(FetchConfig(threads=1))(batch), {"a.mp3": "InternalError", "b.mp3": b"b" * 300_000})

    @pytest.mark.parametrize(
        ("status", "code"), [("403 Forbidden", "AccessDenied"), ("403 Forbidden", "InvalidObjectState")]
    )
    def test_one_object_is_denied(self, status: str, code: str, batch: dict[str, np.ndarray], through: Any) -> None:
        def denied_a(number: int, request: bytes) -> bytes | None:
            return answer(status, code) if b"/a.mp3 " in request else None

        with through(denied_a):
            check(Fetch()(batch), {"a.mp3": code, "b.mp3": b"b" * 300_000})
            alone = {name: column[:1] for name, column in batch.items()}
            check(Fetch()(alone), {"a.mp3": code})

    def test_a_missing_object_where_listing_is_not_allowed(self, batch: dict[str, np.ndarray], through: Any) -> None:
        """Amazon answers AccessDenied for it; once the bucket has given anything, that is one row's affair."""

        def get_only(number: int, request: bytes) -> bytes | None:
            denied = b"/a.mp3 " in request or b"list-type=2" in request
            return answer("403 Forbidden", "AccessDenied") if denied else None

        with through(get_only):
            check(Fetch()(batch), {"a.mp3": "AccessDenied", "b.mp3": b"b" * 300_000})
            with pytest.raises(StorageError, match="access is denied"):
                Fetch()({name: column[:1] for name, column in batch.items()})

    def test_bodies_that_break_off_are_read_anew(self, batch: dict[str, np.ndarray], through: Any) -> None:
        with through(honest, cut=lambda number, request: 100_000 if number < 2 else None):
            check(Fetch()(batch), {"a.mp3": b"a" * 300_000, "b.mp3": b"b" * 300_000})

    def test_a_body_that_always_breaks_off_is_a_row(self, batch: dict[str, np.ndarray], through: Any) -> None:
        with through(honest, cut=lambda number, request: 100_000 if b"/a.mp3 " in request else None):
            fetched = Fetch(FetchConfig(tries=2, threads=1))(batch)
        check(fetched, {"a.mp3": "", "b.mp3": b"b" * 300_000})

    def test_of_a_long_mp3_only_stretches_are_fetched(self, bucket_uri: str, through: Any) -> None:
        """A plan of eight short windows, counted on the wire."""
        data = long_mp3()
        put(bucket_uri, long=data, short=data[:200_000], noise=secrets.token_bytes(400_000))
        batch = sized_batch_of(bucket_uri)
        asked: dict[bytes, list[tuple[int, int]]] = {}

        def count(number: int, request: bytes) -> bytes | None:
            if found := re.search(rb"^range: bytes=(\d+)-(\d+)", request, re.MULTILINE | re.IGNORECASE):
                path = request.split(b" ")[1].rpartition(b"/")[2].partition(b"?")[0]
                asked.setdefault(path, []).append((int(found[1]), int(found[2]) + 1))
            return None

        with through(count):
            fetched = Fetch(plan=EIGHT)(batch)
        long, noise, short = fetched["recording"]
        expected = record(Held(data), EIGHT)
        assert isinstance(long, Cuts)
        assert isinstance(expected, Cuts)
        assert long.data == expected.data
        assert long.windows == expected.windows
        on_the_wire = sum(stop - start for start, stop in asked[b"long.mp3"])
        # 24 of 240 s, the probe, and some frames before each window.
        assert on_the_wire < 0.15 * len(data)
        # The first bytes by one request, then the end of the file, then at most one for each window.
        assert len(asked[b"long.mp3"]) <= 10
        # What no plan shortens is whole: in one request where it is small, else in two or three.
        assert short == data[:200_000]
        assert b"short.mp3" not in asked
        assert len(noise) == 400_000
        check({name: fetched[name][1:2] for name in CHECKED}, {"noise.mp3": noise})

    def test_ranges_are_read_anew_when_the_store_is_busy(self, bucket_uri: str, through: Any) -> None:
        data = long_mp3()
        put(bucket_uri, long=data)
        busy = itertools.count()

        def busy_now_and_then(number: int, request: bytes) -> bytes | None:
            return answer("503 Slow Down", "SlowDown") if number > 0 and next(busy) % 3 == 0 else None

        batch = sized_batch_of(bucket_uri)
        with through(busy_now_and_then):
            fetched = Fetch(plan=EIGHT)(batch)
        expected = record(Held(data), EIGHT)
        assert isinstance(expected, Cuts)
        assert fetched["recording"][0].data == expected.data

    def test_an_object_replaced_between_two_ranges_is_a_row(
        self, object_store: ObjectStore, bucket_uri: str, through: Any
    ) -> None:
        put(bucket_uri, long=long_mp3())
        batch = sized_batch_of(bucket_uri)
        direct = storage.s3_client(bucket_uri)

        def replace_it(number: int, request: bytes) -> bytes | None:
            if re.search(rb"^range: bytes=[1-9]", request, re.MULTILINE | re.IGNORECASE):
                direct.put_object(Bucket=bucket_uri[5:], Key="long.mp3", Body=long_mp3()[::-1])
            return None

        with through(replace_it):
            fetched = Fetch(plan=EIGHT)(batch)
        check({name: fetched[name] for name in CHECKED}, {"long.mp3": "it was replaced while it was read"})

    def test_ranges_that_cannot_be_read_are_a_row(self, bucket_uri: str, through: Any) -> None:
        put(bucket_uri, long=long_mp3())

        def no_ranges(number: int, request: bytes) -> bytes | None:
            begins = re.search(rb"^range: bytes=0-", request, re.MULTILINE | re.IGNORECASE)
            return None if begins else answer("403 Forbidden", "AccessDenied")

        batch = sized_batch_of(bucket_uri)
        with through(no_ranges):
            fetched = Fetch(FetchConfig(tries=2), plan=EIGHT)(batch)
        assert fetched["recording"][0] is None
        assert fetched["error_kind"][0] == "fetch_failed"
        assert "\n" not in fetched["error_message"][0]


def test_a_plan_is_heard_of_a_local_file_too(tmp_path: Path) -> None:
    (tmp_path / "long.mp3").write_bytes(long_mp3())
    expected = record(Held(long_mp3()), EIGHT)
    fetched = Fetch(plan=EIGHT)(sized_batch_of(str(tmp_path)))
    assert isinstance(expected, Cuts)
    assert fetched["recording"][0].data == expected.data


def test_what_must_be_held_is_bounded_not_the_file(tmp_path: Path) -> None:
    (tmp_path / "long.mp3").write_bytes(long_mp3())
    for plan, kind in ((EIGHT, None), (None, "too_large")):
        fetched = Fetch(FetchConfig(max_bytes=len(long_mp3()) // 2), plan)(sized_batch_of(str(tmp_path)))
        assert fetched["error_kind"].tolist() == [kind]


EIGHT = ListeningPlan(window_seconds=3.0, windows=8)
CHECKED = ("track_id", "uri", "content_tag", "recording", "error_kind", "error_message")


@functools.cache
def long_mp3() -> bytes:
    """Four minutes of quiet noise, 128 kbit/s: 3.8 MB."""
    noise_T = np.random.default_rng(0).normal(0, 0.05, 240 * 44100).astype(np.float32)
    return encode_by_ffmpeg(noise_T[None], 44100, "mp3", "libmp3lame", 128_000)


def sized_batch_of(source: str) -> dict[str, np.ndarray]:
    sizes = [fact.size_bytes for fact in list_audio(source)]
    return batch_of(source) | {"size_bytes": np.array(sizes, dtype=np.int64)}
