"""The stage that fetches, while the store fails and objects change."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from cluster.storage import s3, s3_object
from cluster.storage.fetch import Fetch, FetchConfig
from mgc.audio.excerpts import ListeningPlan
from mgc.errors import StorageError
from tests.cluster.storage.fetched import (
    CHECKED,
    EIGHT,
    batch_of,
    bucket_of,
    check,
    check_cuts,
    long_mp3,
    only,
    put,
    sized_batch_of,
)
from tests.support.fault_proxy import TRANSIENT, Fault, Faults, Proxy
from tests.support.object_store import ObjectStore

SILENT = (Fault.SILENCE, Fault.STALL)
"""Faults that take a client's whole patience."""


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

    @pytest.mark.parametrize("fault", TRANSIENT)
    def test_what_passes_is_read_anew(self, fault: Fault, batch: dict[str, np.ndarray], store_proxy: Proxy) -> None:
        bucket = bucket_of(batch)
        with store_proxy.armed(Faults((fault,), "*.mp3", bucket, nth=(1, 2))):
            check(Fetch()(batch), BOTH)
        met = Counter((each.key, each.fault) for each in store_proxy.requests("GET", "*.mp3", bucket))
        assert met == {(key, kind): 2 if kind else 1 for key in BOTH for kind in (fault, None)}

    @pytest.mark.parametrize("fault", TRANSIENT)
    def test_ranges_are_read_anew(self, fault: Fault, long: dict[str, np.ndarray], store_proxy: Proxy) -> None:
        with store_proxy.armed(Faults((fault,), bucket=bucket_of(long), nth=(1, 3, 6))):
            check_cuts(Fetch(plan=EIGHT)(long))
        faults = [each.fault for each in store_proxy.requests("GET", "*.mp3", bucket_of(long))]
        assert faults.count(fault) == 3

    @pytest.mark.parametrize(("fault", "words"), [
        (Fault.SLOW_DOWN, "the store answers SlowDown"), (Fault.ERROR, "the store answers InternalError"),
        (Fault.RESET, "no complete answer from the store (Interrupted)"),
        (Fault.HALF_BODY, "no complete answer from the store (Interrupted)"),
    ])  # fmt: skip
    def test_what_never_passes_on_one_object_is_its_row(
        self, fault: Fault, words: str, batch: dict[str, np.ndarray], store_proxy: Proxy
    ) -> None:
        bucket = bucket_of(batch)
        with store_proxy.armed(Faults((fault,), "a.mp3", bucket)):
            check(Fetch()(batch), {"a.mp3": words, "b.mp3": BODY["b"]})
        assert len(store_proxy.requests("GET", "a.mp3", bucket)) == 1 + s3.TRACK_RETRIES
        assert len(store_proxy.requests("GET", "b.mp3", bucket)) == 1

    def test_ranges_that_are_never_read_are_a_row(self, long: dict[str, np.ndarray], store_proxy: Proxy) -> None:
        with store_proxy.armed(Faults((Fault.SLOW_DOWN,), bucket=bucket_of(long), range="bytes=[1-9]")):
            fetched = Fetch(plan=EIGHT)(long)
        check({name: fetched[name] for name in CHECKED}, {"long.mp3": "the store"})

    def test_silence_for_a_while_and_for_ever(self, bucket_uri: str, store_proxy: Proxy) -> None:
        """Of whole objects and of ranges; all at the same time, since each takes seconds."""
        bucket, words = bucket_uri[5:], "no complete answer from the store (Timeout)"
        put(f"{bucket_uri}/short", sound=BODY["b"])
        for fault in SILENT:
            put(f"{bucket_uri}/short/{fault.name}", passes=BODY["a"], stays=BODY["a"])
            put(f"{bucket_uri}/long/{fault.name}", passes=long_mp3())
        put(f"{bucket_uri}/long/STALL", stays=long_mp3())
        faults = [
            each
            for fault in SILENT
            for each in (
                Faults((fault,), f"short/{fault.name}/passes.mp3", bucket, nth=(1, 2)),
                Faults((fault,), f"short/{fault.name}/stays.mp3", bucket),
                Faults((fault,), f"long/{fault.name}/passes.mp3", bucket, nth=(1, 3, 6)),
                Faults((fault,), f"long/{fault.name}/stays.mp3", bucket, range="bytes=[1-9]"),
            )
        ]
        with store_proxy.armed(*faults), ThreadPoolExecutor(2) as stages:
            short = stages.submit(Fetch(), batch_of(f"{bucket_uri}/short"))
            long = stages.submit(Fetch(plan=EIGHT), sized_batch_of(f"{bucket_uri}/long"))
        wanted: dict[str, bytes | str] = {"sound.mp3": BODY["b"]}
        for fault in SILENT:
            wanted |= {f"{fault.name}/passes.mp3": BODY["a"], f"{fault.name}/stays.mp3": words}
            passes, stays, ranges = (
                [each.fault for each in store_proxy.requests("GET", f"{key}.mp3", bucket)]
                for key in (f"short/{fault.name}/passes", f"short/{fault.name}/stays", f"long/{fault.name}/passes")
            )
            assert Counter(passes) == {fault: 2, None: 1}
            assert stays == [fault] * (1 + s3.TRACK_RETRIES)
            assert ranges.count(fault) == 3
            check_cuts(only(f"{fault.name}/passes.mp3", long.result()))
        check(short.result(), wanted)
        assert len(store_proxy.requests("GET", "short/sound.mp3", bucket)) == 1
        fetched = only("STALL/stays.mp3", long.result())
        check({name: fetched[name] for name in CHECKED}, {"STALL/stays.mp3": "the store"})

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

    def test_credentials_may_be_allowed_to_list_below_a_prefix_only(
        self, batch: dict[str, np.ndarray], store_proxy: Proxy
    ) -> None:
        with store_proxy.armed(Faults((Fault.DENIED,), "a.mp3", bucket_of(batch))):
            check(Fetch()(only("a.mp3", batch)), {"a.mp3": "AccessDenied"})
        listing = store_proxy.requests("GET", "", bucket_of(batch))[-1]
        assert "prefix=a.mp3" in listing.query

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
            (2, None, "no complete answer from the store (Interrupted)"),
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
