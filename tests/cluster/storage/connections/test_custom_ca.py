"""A store whose certificate an authority of one's own has signed: AWS_CA_BUNDLE names it to all that speak S3."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import obstore
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from obstore.exceptions import BaseError

from cluster.storage import files, s3
from cluster.storage.failures import explain
from cluster.storage.uri import Uri
from mgc.errors import StorageError
from tests.support.object_store import ObjectStore
from tests.support.web import tls_proxy

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("default")]

TABLE = pa.table({"track_id": ["a", "b"]})


@pytest.fixture
def secure(
    direct_store: ObjectStore, s3_environment: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tls_proxy.TlsProxy]:
    """The store behind TLS; the environment names it, not its authority."""
    with tls_proxy.running(direct_store.endpoint_url, tmp_path / "certificates") as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        monkeypatch.delenv("AWS_ALLOW_HTTP")
        monkeypatch.setattr(s3, "TRACK_RETRIES", 1)
        yield proxy


def by_boto3(uri: Uri) -> None:
    files.write_bytes(uri / "a.bin", b"abc")
    assert files.read_bytes(uri / "a.bin") == b"abc"


def by_pyarrow(uri: Uri) -> None:
    place = uri / "table.parquet"
    pq.write_table(TABLE, place.path, filesystem=place.filesystem)
    assert pq.read_table(place.path, filesystem=place.filesystem) == TABLE


def by_obstore(uri: Uri) -> None:
    store = s3.ranges(uri.bucket, uri)
    obstore.put(store, "b.bin", b"0123456789")
    assert bytes(obstore.get_range(store, "b.bin", start=2, end=5)) == b"234"


def by_deltalake(uri: Uri) -> None:
    labels = uri / "labels"
    write_deltalake(labels.text, TABLE, storage_options=labels.storage_options)
    assert DeltaTable(labels.text, storage_options=labels.storage_options).to_pyarrow_table() == TABLE


@pytest.mark.parametrize("use", [by_boto3, by_pyarrow, by_obstore, by_deltalake])
def test_all_trust_the_authority_that_is_named(
    use: Callable[[Uri], None],
    secure: tls_proxy.TlsProxy,
    direct_store: ObjectStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uri = Uri.parse(f"s3://{direct_store.make_bucket()}")
    with pytest.raises((StorageError, BaseError)), explain(uri, "reach"):
        use(uri)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(secure.authority))
    # Set by the code under test; forgotten at the end of the test.
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    use(uri)


def test_certificates_that_are_not_there(secure: tls_proxy.TlsProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/nowhere.pem")
    with pytest.raises(StorageError, match=r"s3://bucket/x: .*nothing is there"):
        files.read_bytes(Uri.parse("s3://bucket/x"))
