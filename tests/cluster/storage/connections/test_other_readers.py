"""Buckets that anybody may read, and buckets whose reader pays: which clients reach them, and what the others say."""

from __future__ import annotations

from collections.abc import Iterator

import obstore
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from cluster.storage import files, s3
from cluster.storage.failures import explain
from cluster.storage.listing import list_audio
from cluster.storage.uri import Uri
from mgc.errors import StorageError
from tests.support.object_store import ObjectStore
from tests.support.web import gate

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("default")]

TABLE = pa.table({"track_id": ["a", "b"]})
SOUND = b"fLaC" + bytes(range(256)) * 16


@pytest.fixture
def filled(s3_environment: ObjectStore, direct_store: ObjectStore) -> Uri:
    """A bucket with a file of music, a Parquet file and a Delta table, written by its owner."""
    uri = Uri.parse(f"s3://{direct_store.make_bucket()}")
    files.write_bytes(uri / "music/a.flac", SOUND)
    pq.write_table(TABLE, (uri / "table.parquet").path, filesystem=uri.filesystem)
    write_deltalake((uri / "labels").text, TABLE, storage_options=uri.storage_options)
    return uri


@pytest.fixture
def public(filled: Uri, direct_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[Uri]:
    """The bucket, for a reader without keys."""
    with gate.running(direct_store, gate.anybody_reads) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        yield filled


@pytest.fixture
def paid(filled: Uri, direct_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[Uri]:
    """The bucket, for a reader with keys who has to pay."""
    with gate.running(direct_store, gate.reader_pays) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        yield filled


def heard(uri: Uri) -> bytes:
    """List the music, and read a range of it as workers do."""
    assert [fact.uri for fact in list_audio(uri / "music")] == [f"{uri}/music/a.flac"]
    return bytes(obstore.get_range(s3.ranges(uri.bucket, uri), "music/a.flac", start=4, end=260))


def test_a_public_bucket_is_read_without_keys(public: Uri, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StorageError, match="no credentials were found"):
        files.read_bytes(public / "music/a.flac")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    assert files.read_bytes(public / "music/a.flac") == SOUND
    assert heard(public) == SOUND[4:260]
    table = public / "table.parquet"
    assert pq.read_table(table.path, filesystem=table.filesystem) == TABLE
    labels = public / "labels"
    assert DeltaTable(labels.text, storage_options=labels.storage_options).to_pyarrow_table() == TABLE
    with pytest.raises(StorageError, match=r"cannot write s3://\S+/b: access is denied .*AWS_SKIP_SIGNATURE"):
        files.write_bytes(public / "b", b"")


def test_a_bucket_whose_reader_pays_gives_its_music(paid: Uri, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StorageError, match=r"access is denied"):
        files.read_bytes(paid / "music/a.flac")
    monkeypatch.setenv("AWS_REQUEST_PAYER", "true")
    assert files.read_bytes(paid / "music/a.flac") == SOUND
    assert heard(paid) == SOUND[4:260]
    labels = paid / "labels"
    assert DeltaTable(labels.text, storage_options=labels.storage_options).version() == 0
    table = paid / "table.parquet"
    with pytest.raises(StorageError, match=r"copy it: only music can be read from there"), explain(table, "read"):
        pq.read_table(table.path, filesystem=table.filesystem)


@pytest.mark.parametrize("name", ["AWS_SKIP_SIGNATURE", "AWS_REQUEST_PAYER"])
def test_a_setting_that_is_neither_yes_nor_no(
    name: str, s3_environment: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "requester")
    with pytest.raises(StorageError, match=rf"s3://bucket/x: {name} is neither true nor false; .*\.$"):
        files.read_bytes(Uri.parse("s3://bucket/x"))
    monkeypatch.setenv(name, "false")
    assert s3.connection("s3://bucket/x").credentials is not None
    assert not s3.connection("s3://bucket/x").pays
