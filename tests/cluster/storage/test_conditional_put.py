"""Stores without conditional writes are refused before anything is written to a table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.labels.history import commits, rollback
from cluster.labels.table import LabelsTable
from cluster.labels.vacuum import vacuum
from cluster.storage import conditional_put, files
from cluster.storage.conditional_put import require_conditional_put
from cluster.storage.uri import Uri
from mgc.errors import LabelsError, StorageError
from pipelines.nights.label import label
from pipelines.nights.requests import LabelRequest, NightRequest
from tests.support.fault_proxy import Fault, Faults, Proxy
from tests.support.nights import held, night, refusal
from tests.support.versions import AT_ONCE, nights

pytestmark = pytest.mark.cluster

BLIND = Faults((Fault.UNCONDITIONAL,), methods=("PUT",))
"""A store that overlooks the condition."""

IGNORANT = Faults((Fault.NOT_IMPLEMENTED,), key="*/_probe-*", methods=("PUT",))
"""A store that says that it does not know it."""


@pytest.fixture(autouse=True)
def _unprobed() -> Iterator[None]:
    """As a process that has probed no store yet."""
    conditional_put._found_good.clear()
    yield
    conditional_put._found_good.clear()


@pytest.fixture
def labels(bucket_uri: str) -> Uri:
    return Uri.parse(bucket_uri) / "labels"


def test_a_good_store_is_asked_once_for_all_tables(labels: Uri, store_proxy: Proxy) -> None:
    store_proxy.forget()
    for folder in (labels, labels.parent / "others", labels):
        require_conditional_put(folder)
    puts = store_proxy.requests("PUT", bucket=labels.bucket)
    assert [put.status for put in puts] == [200, 412]
    assert puts[0].key.startswith("labels/_")
    assert files.list_uris(labels.parent) == []


def test_a_local_disk_needs_no_probe(tmp_path: Path) -> None:
    uri = Uri.of_path(tmp_path / "labels")
    require_conditional_put(uri)
    assert not files.exists(uri)


@pytest.mark.parametrize(("faults", "said"), [(BLIND, "replaces"), (IGNORANT, "501")])
def test_a_store_without(faults: Faults, said: str, labels: Uri, store_proxy: Proxy) -> None:
    with store_proxy.armed(faults):
        for _ in range(2):
            line = refusal(require_conditional_put, labels)
            assert line.startswith(f"{labels}: ")
            assert store_proxy.url in line
            assert said in line
    assert files.list_uris(labels.parent) == []
    require_conditional_put(labels)


def test_a_first_answer_that_is_lost(labels: Uri, store_proxy: Proxy) -> None:
    """The client writes once more, and the store refuses: it knows conditional writes."""
    with store_proxy.armed(Faults((Fault.LOST,), methods=("PUT",), nth=(1,))):
        require_conditional_put(labels)


def test_a_store_that_cannot_be_written_is_another_error(labels: Uri, store_proxy: Proxy) -> None:
    with store_proxy.armed(Faults((Fault.DENIED,), methods=("PUT",))):
        assert "denied" in refusal(require_conditional_put, labels, error=StorageError)


def test_a_probe_that_cannot_be_deleted(labels: Uri, store_proxy: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    with store_proxy.armed(Faults((Fault.DENIED,), methods=("POST",))):
        require_conditional_put(labels)
    assert "probe" in capsys.readouterr().err
    # It is no part of the table.
    night(labels, {"a": "1"})
    assert sorted(held(labels)) == ["a"]


def test_nothing_is_committed(labels: Uri, store_proxy: Proxy) -> None:
    nights(labels, 2)
    log = commits(LabelsTable(labels))
    before = files.list_uris(labels / "_delta_log")
    with store_proxy.armed(BLIND):
        assert "If-None-Match" in refusal(night, labels, {"a": "9", "b": "1"})
        assert "If-None-Match" in refusal(rollback, labels, 0, log)
        assert "If-None-Match" in refusal(vacuum, labels, 1, AT_ONCE)
        # Looking is allowed.
        assert rollback(labels, 0, log, dry_run=True) == 1
        assert len(vacuum(labels, 1, AT_ONCE, dry_run=True).files) == 1
    assert files.list_uris(labels / "_delta_log") == before


def test_the_job_asks_before_it_hears_anything(labels: Uri, store_proxy: Proxy) -> None:
    source = labels.parent / "music"
    files.write_bytes(source / "a.mp3", b"music")
    request = LabelRequest(NightRequest(source, labels))
    store_proxy.forget()
    with store_proxy.armed(BLIND), pytest.raises(LabelsError, match="If-None-Match"):
        label(request)
    assert store_proxy.requests("GET", key="music/*", bucket=labels.bucket) == []
    assert files.list_uris(labels) == []
