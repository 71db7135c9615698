"""The stage that fetches: bytes or a reason for every row, and an end for a job that is set up wrong."""

from __future__ import annotations

import functools
import os
import pickle
import secrets
import socket
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
import pytest

from cluster.storage import files, s3, s3_object
from cluster.storage.fetch import Fetch, FetchConfig
from cluster.storage.listing import list_audio
from cluster.storage.uri import join, locate, split_s3
from mgc.audio.cuts import Cuts
from mgc.audio.excerpts import ListeningPlan
from mgc.audio.recording import record
from mgc.audio.source import Held
from mgc.errors import StorageError
from tests.support.fault_proxy import TRANSIENT, Fault, Faults, Proxy
from tests.support.good_files import encode_by_ffmpeg
from tests.support.object_store import ObjectStore


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


def put(base: str, **contents: bytes) -> None:
    for name, data in contents.items():
        files.write_bytes(join(base, f"{name}.mp3"), data)


class TestEverywhere:
    def test_bytes_of_one_length_and_names_of_all_kinds(self, base: str) -> None:
        names = ["a b.mp3", "#1.mp3", "50%41?.mp3", "日本.mp3", "empty.mp3"]
        data: dict[str, bytes | str] = {name: b"" if name == "empty.mp3" else secrets.token_bytes(8) for name in names}
        for name in names:
            files.write_bytes(join(base, name), data[name])
        check(Fetch()(batch_of(base)), data)

    def test_a_missing_a_replaced_and_a_large_file_are_rows(self, base: str) -> None:
        put(base, good=b"x" * 100, gone=b"x", replaced=b"before", large=b"x" * 101)
        batch = batch_of(base)
        files.delete(join(base, "gone.mp3"))
        put(base, replaced=b"behind")
        check(
            Fetch(FetchConfig(max_bytes=100))(batch),
            {
                "good.mp3": b"x" * 100,
                "gone.mp3": "there",
                "replaced.mp3": "it was replaced since the catalog was made (catalog ",
                "large.mp3": "101 bytes are more than max_bytes (100)",
            },
        )

    def test_all_rows_missing_is_no_reason_to_stop(self, base: str) -> None:
        put(base, a=b"x", b=b"x")
        batch = batch_of(base)
        for name in ("a", "b"):
            files.delete(join(base, f"{name}.mp3"))
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
        for wrong in ({"threads": 0}, {"max_bytes": 0}, {"thread": 1}):
            with pytest.raises(pydantic.ValidationError):
                FetchConfig(**wrong)


@pytest.mark.cluster
class TestS3:
    def test_objects_in_parts(self, bucket_uri: str) -> None:
        """pyarrow writes large objects in parts, whose ETag is no MD5 of the bytes; list and get must agree on it."""
        location = locate(f"{bucket_uri}/large.mp3")
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

    @pytest.mark.usefixtures("hasty")
    def test_a_store_that_does_not_answer_ends_the_job(self, bucket_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
        put(bucket_uri, a=b"x", b=b"y")
        batch = batch_of(bucket_uri)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            endpoint = f"http://127.0.0.1:{probe.getsockname()[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        with pytest.raises(StorageError, match=f"no answer from {endpoint}"):
            Fetch()(batch)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Buckets first used from here on are read with little patience."""
    monkeypatch.setattr(s3, "TRACK_RETRIES", 2)
    monkeypatch.setattr(s3, "TRACK_WAIT_SECONDS", 0.05)
    monkeypatch.setattr(s3, "TRACK_SILENCE_SECONDS", 0.3)


@pytest.fixture
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few and quick retries, but patience with a store that is slow because the machine is busy."""
    monkeypatch.setattr(s3, "TRACK_RETRIES", 2)
    monkeypatch.setattr(s3, "TRACK_WAIT_SECONDS", 0.05)


SEVERAL = (*TRANSIENT, Fault.SILENCE, Fault.STALL)
BODY = {"a": b"a" * 300_000, "b": b"b" * 300_000}
BOTH = {"a.mp3": BODY["a"], "b.mp3": BODY["b"]}


@pytest.mark.cluster
@pytest.mark.usefixtures("hasty")
class TestFaults:
    """Behind a proxy that breaks what the real store answers."""

    @pytest.fixture
    def batch(self, bucket_uri: str) -> dict[str, np.ndarray]:
        put(bucket_uri, **BODY)
        return batch_of(bucket_uri)

    @pytest.fixture
    def long(self, bucket_uri: str) -> dict[str, np.ndarray]:
        put(bucket_uri, long=long_mp3())
        return sized_batch_of(bucket_uri)

    @pytest.mark.parametrize("fault", SEVERAL)
    def test_what_passes_is_read_anew(self, fault: Fault, batch: dict[str, np.ndarray], store_proxy: Proxy) -> None:
        bucket = bucket_of(batch)
        with store_proxy.armed(Faults((fault,), "*.mp3", bucket, nth=(1, 2))):
            check(Fetch()(batch), BOTH)
        met = Counter((each.key, each.fault) for each in store_proxy.requests("GET", "*.mp3", bucket))
        assert met == {(key, kind): 2 if kind else 1 for key in BOTH for kind in (fault, None)}

    @pytest.mark.parametrize("fault", SEVERAL)
    def test_ranges_are_read_anew(self, fault: Fault, long: dict[str, np.ndarray], store_proxy: Proxy) -> None:
        with store_proxy.armed(Faults((fault,), bucket=bucket_of(long), nth=(1, 3, 6))):
            check_cuts(Fetch(plan=EIGHT)(long))
        faults = [each.fault for each in store_proxy.requests("GET", "*.mp3", bucket_of(long))]
        assert faults.count(fault) == 3

    @pytest.mark.parametrize(("fault", "words"), [
        (Fault.SLOW_DOWN, "the store answers SlowDown"), (Fault.ERROR, "the store answers InternalError"),
        (Fault.RESET, "no whole answer from the store (Interrupted)"),
        (Fault.HALF_BODY, "no whole answer from the store (Interrupted)"),
        (Fault.SILENCE, "no whole answer from the store (Timeout)"),
        (Fault.STALL, "no whole answer from the store (Timeout)"),
    ])  # fmt: skip
    def test_what_never_passes_on_one_object_is_its_row(
        self, fault: Fault, words: str, batch: dict[str, np.ndarray], store_proxy: Proxy
    ) -> None:
        bucket = bucket_of(batch)
        with store_proxy.armed(Faults((fault,), "a.mp3", bucket)):
            check(Fetch()(batch), {"a.mp3": words, "b.mp3": BODY["b"]})
        assert len(store_proxy.requests("GET", "a.mp3", bucket)) == 1 + s3.TRACK_RETRIES
        assert len(store_proxy.requests("GET", "b.mp3", bucket)) == 1

    @pytest.mark.parametrize("fault", [Fault.SLOW_DOWN, Fault.STALL])
    def test_ranges_that_are_never_read_are_a_row(
        self, fault: Fault, long: dict[str, np.ndarray], store_proxy: Proxy
    ) -> None:
        with store_proxy.armed(Faults((fault,), bucket=bucket_of(long), range="bytes=[1-9]")):
            fetched = Fetch(plan=EIGHT)(long)
        check({name: fetched[name] for name in CHECKED}, {"long.mp3": "the store"})

    def test_a_store_that_is_busy_for_ever_does_not_end_the_job(
        self, batch: dict[str, np.ndarray], store_proxy: Proxy
    ) -> None:
        with store_proxy.armed(Faults((Fault.SLOW_DOWN,), bucket=bucket_of(batch))):
            check(Fetch()(batch), dict.fromkeys(BOTH, "the store answers SlowDown"))

    @pytest.mark.parametrize("fault", [Fault.ERROR, Fault.RESET])
    def test_a_store_that_is_down_ends_the_job(
        self, fault: Fault, batch: dict[str, np.ndarray], store_proxy: Proxy
    ) -> None:
        words = "the store answers InternalError" if fault is Fault.ERROR else "no answer from"
        with (
            store_proxy.armed(Faults((fault,), bucket=bucket_of(batch))),
            pytest.raises(StorageError, match=rf"^cannot fetch s3://.*: {words}"),
        ):
            Fetch()(batch)

    @pytest.mark.parametrize(
        ("fault", "code"), [(Fault.DENIED, "AccessDenied"), (Fault.ARCHIVED, "InvalidObjectState")]
    )
    def test_one_object_is_denied(
        self, fault: Fault, code: str, batch: dict[str, np.ndarray], store_proxy: Proxy
    ) -> None:
        with store_proxy.armed(Faults((fault,), "a.mp3", bucket_of(batch))):
            check(Fetch()(batch), {"a.mp3": code, "b.mp3": BODY["b"]})
            check(Fetch()(only("a.mp3", batch)), {"a.mp3": code})

    def test_a_missing_object_where_listing_is_not_allowed(
        self, batch: dict[str, np.ndarray], store_proxy: Proxy
    ) -> None:
        """Amazon answers AccessDenied for it; once the bucket has given anything, that is one row's affair."""
        denied = [Faults((Fault.DENIED,), key, bucket_of(batch)) for key in ("a.mp3", "")]
        with store_proxy.armed(*denied):
            check(Fetch()(batch), {"a.mp3": "AccessDenied", "b.mp3": BODY["b"]})
            with pytest.raises(StorageError, match="access is denied"):
                Fetch()(only("a.mp3", batch))

    def test_a_large_object_is_read_in_pieces(
        self, bucket_uri: str, store_proxy: Proxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(s3_object, "PIECE_BYTES", 100_000)
        data = secrets.token_bytes(350_000)
        put(bucket_uri, large=data, small=b"x")
        for batch in (sized_batch_of(bucket_uri), batch_of(bucket_uri)):
            with store_proxy.armed(Faults((Fault.HALF_BODY,), nth=(2, 3), range="bytes=[1-9]")):
                fetched = Fetch()(batch)
            assert fetched["recording"].tolist() == [data, b"x"]
        asked = {each.range for each in store_proxy.requests("GET", "large.mp3", bucket_uri[5:])}
        assert asked > {"bytes=0-99999", "bytes=100000-199999", "bytes=200000-299999", "bytes=300000-349999"}

    @pytest.mark.parametrize(("key", "plan"), [("a//b.mp3", True), ("/long.mp3", False), ("/long.mp3", True)])
    def test_keys_that_obstore_does_not_spell(
        self, key: str, plan: bool, bucket_uri: str, object_store: ObjectStore, store_proxy: Proxy
    ) -> None:
        bucket = bucket_uri[5:]
        # A library that drops a slash reads this one instead.
        put(bucket_uri, long=b"another")
        tag = object_store.client().put_object(Bucket=bucket, Key=key, Body=long_mp3())["ETag"].strip('"')
        batch = {"uri": [f"{bucket_uri}/{key}"], "content_tag": [tag], "size_bytes": [len(long_mp3())]}
        with store_proxy.armed(Faults((Fault.HALF_BODY,), key, bucket, nth=(1, 3))):
            fetched = Fetch(plan=EIGHT if plan else None)({name: np.array(batch[name]) for name in batch})
        if plan:
            check_cuts(fetched)
        else:
            assert fetched["recording"].tolist() == [long_mp3()]

    def test_of_a_long_mp3_only_stretches_are_fetched(self, bucket_uri: str, store_proxy: Proxy) -> None:
        """A plan of eight short windows, counted on the wire."""
        data, bucket = long_mp3(), bucket_uri[5:]
        put(bucket_uri, long=data, short=data[:200_000], noise=secrets.token_bytes(400_000))
        batch = sized_batch_of(bucket_uri)
        fetched = Fetch(plan=EIGHT)(batch)
        _, noise, short = fetched["recording"]
        check_cuts({"recording": fetched["recording"][:1]})
        asked = store_proxy.requests("GET", "long.mp3", bucket)
        # 24 of 240 s, the probe, and some frames before each window.
        assert sum(each.sent_bytes for each in asked) < 0.15 * len(data)
        # The first bytes by one request, then the end of the file, then at most one for each window.
        assert len(asked) <= 10
        # What no plan shortens is whole: in one request where it is small.
        assert short == data[:200_000]
        assert [each.range for each in store_proxy.requests("GET", "short.mp3", bucket)] == [""]
        assert len(noise) == 400_000
        assert not store_proxy.requests("HEAD", "*.mp3", bucket)
        check({name: fetched[name][1:2] for name in CHECKED}, {"noise.mp3": noise})


@pytest.mark.cluster
@pytest.mark.usefixtures("brisk")
class TestContentTag:
    """An object that changes at whatever moment is never a recording under a tag that is not its own."""

    @pytest.fixture
    def change(self, object_store: ObjectStore, bucket_uri: str) -> Callable[[bytes | None], Callable[[Any], None]]:
        """Puts other bytes in the place of an object, or deletes it."""
        client = object_store.client()

        def change(data: bytes | None) -> Callable[[Any], None]:
            def call(request: Any) -> None:
                if data is None:
                    client.delete_object(Bucket=request.bucket, Key=request.key)
                else:
                    client.put_object(Bucket=request.bucket, Key=request.key, Body=data)

            return call

        return change

    @pytest.mark.parametrize(
        ("nth", "plan", "words"),
        [
            (1, None, "it was replaced since the catalog was made"),
            (1, ListeningPlan(3.0, windows=8), "it was replaced since the catalog was made"),
            (2, ListeningPlan(3.0, windows=8), "it was replaced while it was read"),
            # A broken body is gone on with only if it is still the same.
            (2, None, "no whole answer from the store (Interrupted)"),
        ],
    )
    def test_replaced(
        self, nth: int, plan: ListeningPlan | None, words: str, bucket_uri: str, store_proxy: Proxy, change: Any
    ) -> None:
        """Before the first request, or before the second: of a range, or of what a broken body left over."""
        put(bucket_uri, long=long_mp3())
        batch, bucket = sized_batch_of(bucket_uri), bucket_uri[5:]
        broken = () if plan else (Fault.HALF_BODY,)
        with store_proxy.armed(
            Faults((), "*.mp3", bucket, nth=(nth,), call=change(long_mp3()[::-1])),
            Faults(broken, "*.mp3", bucket, nth=(1,)),
        ):
            fetched = Fetch(plan=plan)(batch)
        assert store_proxy.requests("PUT", "*.mp3", bucket)[1:]
        check({name: fetched[name] for name in CHECKED}, {"long.mp3": words})

    def test_replaced_and_put_back_between_ranges(self, bucket_uri: str, store_proxy: Proxy, change: Any) -> None:
        """The object has its tag again when the last range has been read; one answer had another."""
        put(bucket_uri, long=long_mp3())
        batch, bucket = sized_batch_of(bucket_uri), bucket_uri[5:]
        with store_proxy.armed(
            Faults((), "*.mp3", bucket, nth=(4,), call=change(long_mp3()[::-1])),
            Faults((), "*.mp3", bucket, nth=(5,), call=change(long_mp3())),
        ):
            fetched = Fetch(FetchConfig(threads=1), EIGHT)(batch)
        check({name: fetched[name] for name in CHECKED}, {"long.mp3": "it was replaced while it was read"})

    @pytest.mark.parametrize("nth", [1, 3])
    def test_deleted(self, nth: int, bucket_uri: str, store_proxy: Proxy, change: Any) -> None:
        put(bucket_uri, long=long_mp3())
        batch = sized_batch_of(bucket_uri)
        with store_proxy.armed(Faults((), "*.mp3", bucket_uri[5:], nth=(nth,), call=change(None))):
            fetched = Fetch(plan=EIGHT)(batch)
        check({name: fetched[name] for name in CHECKED}, {"long.mp3": "it is not there any more (NoSuchKey)"})

    def test_emptied(self, bucket_uri: str, store_proxy: Proxy, change: Any) -> None:
        put(bucket_uri, long=long_mp3())
        batch = sized_batch_of(bucket_uri)
        with store_proxy.armed(Faults((), "*.mp3", bucket_uri[5:], nth=(1,), call=change(b""))):
            fetched = Fetch(plan=EIGHT)(batch)
        check({name: fetched[name] for name in CHECKED}, {"long.mp3": "it is shorter than the catalog says"})

    def test_tags_of_objects_in_parts_and_without_quotes(
        self, bucket_uri: str, object_store: ObjectStore, store_proxy: Proxy
    ) -> None:
        client, place = object_store.client(), {"Bucket": bucket_uri[5:], "Key": "long.mp3"}
        upload = place | {"UploadId": client.create_multipart_upload(**place)["UploadId"]}
        part = client.upload_part(**upload, PartNumber=1, Body=long_mp3())["ETag"]
        client.complete_multipart_upload(**upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part}]})
        batch = sized_batch_of(bucket_uri)
        assert batch["content_tag"][0].endswith("-1")
        check_cuts(Fetch(plan=EIGHT)(batch))
        with store_proxy.armed(Faults((Fault.BARE_ETAG,), bucket=bucket_uri[5:])):
            check_cuts(Fetch(plan=EIGHT)(batch))
            assert Fetch()(batch)["recording"].tolist() == [long_mp3()]
            refused = Fetch()(batch | {"content_tag": np.array(["other"])})
        check(
            {name: refused[name] for name in CHECKED},
            {"long.mp3": "it was replaced since the catalog was made (catalog other, now "},
        )


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


def check_cuts(fetched: dict[str, np.ndarray]) -> None:
    """One row: what the plan hears of `long_mp3`."""
    expected = record(Held(long_mp3()), EIGHT)
    assert isinstance(expected, Cuts)
    [cuts] = fetched["recording"]
    assert isinstance(cuts, Cuts), fetched["error_message"]
    assert cuts.data == expected.data
    assert cuts.windows == expected.windows


def bucket_of(batch: dict[str, np.ndarray]) -> str:
    return split_s3(batch["uri"][0])[0]


def only(track_id: str, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: column[batch["track_id"] == track_id] for name, column in batch.items()}
