"""The stage that fetches: bytes or a reason for every row, and an end for a job that is set up wrong."""

from __future__ import annotations

import io
import os
import pickle
import secrets
import socket
from pathlib import Path

import numpy as np
import pydantic
import pytest
import soundfile

from cluster.storage import files
from cluster.storage.fetch import Fetch, FetchConfig
from cluster.storage.listing import list_audio
from cluster.storage.s3_object import S3File
from cluster.storage.uri import Uri
from mgc.audio.cuts import Cuts
from mgc.audio.decode import decode
from mgc.audio.excerpts import ListeningPlan
from mgc.audio.recording import HELD_BYTES, record
from mgc.audio.source import Held, LocalFile
from mgc.errors import AudioError, ErrorKind, StorageError
from tests.cluster.storage.fetched import (
    EIGHT,
    batch_of,
    check,
    long_mp3,
    put,
    sized_batch_of,
)
from tests.support.object_store import ObjectStore


class TestEverywhere:
    def test_bytes_of_one_length_and_names_of_all_kinds(self, base: str) -> None:
        names = ["a b.mp3", "#1.mp3", "50%41?.mp3", "日本.mp3", "empty.mp3"]
        data: dict[str, bytes | str] = {name: b"" if name == "empty.mp3" else secrets.token_bytes(8) for name in names}
        for name in names:
            files.write_bytes(Uri.parse(f"{base}/{name}"), data[name])
        check(Fetch()(batch_of(base)), data)

    def test_a_missing_a_replaced_and_a_large_file_are_rows(self, base: str) -> None:
        put(base, good=b"x" * 100, gone=b"x", replaced=b"before", large=b"x" * 101)
        batch = batch_of(base)
        files.delete(Uri.parse(f"{base}/gone.mp3"))
        put(base, replaced=b"behind")
        check(
            Fetch(FetchConfig(max_bytes=100))(batch),
            {
                "good.mp3": b"x" * 100,
                "gone.mp3": "there",
                "replaced.mp3": "it was replaced since the catalog was made (catalog ",
                "large.mp3": "it has 101 B; at most 100 B are allowed (--max-file-gib)",
            },
        )

    @pytest.mark.parametrize("size_bytes", [HELD_BYTES, HELD_BYTES + 2])
    def test_a_large_file_is_not_held_but_read_by_who_decodes_it(self, base: str, size_bytes: int) -> None:
        tone = (9_000 * np.sin(np.arange(30 * 8_000) / 5)).astype("<i2")
        made = io.BytesIO()
        soundfile.write(made, tone, 8_000, format="WAV")
        data = bytearray(made.getvalue()) + bytes(size_bytes - len(made.getvalue()))
        data[4:8], data[40:44] = ((size_bytes - head).to_bytes(4, "little") for head in (8, 44))
        files.write_bytes(Uri.parse(f"{base}/large.wav"), bytes(data))
        plan = ListeningPlan(where="first")
        (recording,) = Fetch(plan=plan)(sized_batch_of(base))["recording"]
        assert isinstance(recording, bytes) == (size_bytes <= HELD_BYTES)
        if not isinstance(recording, bytes):
            assert isinstance(recording, LocalFile | S3File)
            heard = decode(recording, plan)
            assert heard.duration_seconds == (size_bytes - 44) / 16_000
            np.testing.assert_allclose(heard.windows[0].samples, tone / 32_768, atol=1e-6)
            files.write_bytes(Uri.parse(f"{base}/large.wav"), bytes(data[:-2]))
            if isinstance(recording, LocalFile):
                recording.close()
            with pytest.raises(AudioError) as caught:
                decode(recording, plan)
            assert caught.value.kind is ErrorKind.FETCH_FAILED

    def test_all_rows_missing_is_no_reason_to_stop(self, base: str) -> None:
        put(base, a=b"x", b=b"x")
        batch = batch_of(base)
        for name in ("a", "b"):
            files.delete(Uri.parse(f"{base}/{name}.mp3"))
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
        location = Uri.parse(f"{bucket_uri}/large.mp3")
        data = secrets.token_bytes(1 << 20) * 11
        with location.filesystem.open_output_stream(location.path) as file:
            file.write(data)
        (fact,) = list_audio(location)
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


def test_a_plan_is_heard_of_a_local_file_too(tmp_path: Path) -> None:
    (tmp_path / "long.mp3").write_bytes(long_mp3())
    expected = record(Held(long_mp3()), EIGHT)
    fetched = Fetch(plan=EIGHT)(sized_batch_of(str(tmp_path)))
    assert isinstance(expected, Cuts)
    assert fetched["recording"][0].data == expected.data
