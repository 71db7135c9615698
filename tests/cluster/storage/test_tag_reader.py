"""Tags of many files at a time: what one file's failure means, and what the store's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cluster.storage import files
from cluster.storage.listing import list_audio
from cluster.storage.tags import TaggedFile, TagReader
from cluster.storage.uri import Uri
from mgc.errors import StorageError
from tests.support.fault_proxy import Fault, Faults, Proxy
from tests.unit.tags.tagged_files import SAID, WRITERS


def listed(source: Uri) -> list[TaggedFile]:
    return [TaggedFile(fact.uri, fact.content_tag, fact.size_bytes) for fact in list_audio(source)]


@pytest.fixture
def found(base: str) -> list[TaggedFile]:
    """Two files, the second of them without tags, below a local folder and in a bucket."""
    for name, data in (("a.flac", WRITERS["FLAC"](SAID)), ("b # ü.mp3", b"\xff" * 9000)):
        files.write_bytes(Uri.parse(f"{base}/{name}"), data)
    return listed(Uri.parse(base))


def test_what_the_files_say(found: list[TaggedFile]) -> None:
    with TagReader() as reader:
        tags = reader.read(found)
        assert reader.read([]) == []
    assert [each.fields for each in tags] == [SAID, {}]
    assert [each.fault for each in tags] == [None, None]


def test_a_file_that_was_replaced_is_no_other_file(found: list[TaggedFile]) -> None:
    with TagReader() as reader:
        (tags,) = reader.read([found[0]._replace(tag="another")])
    assert tags.fields == {}
    assert "replaced" in (tags.fault or "")


def test_a_file_that_is_gone(found: list[TaggedFile]) -> None:
    with TagReader() as reader:
        first, other = reader.read([found[0]._replace(uri=f"{found[0].uri}.gone"), found[0]])
    assert (bool(first.fault), other.fault) == (True, None)


def test_a_pipe_does_not_wait_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mp3")
    with TagReader() as reader:
        (tags,) = reader.read([TaggedFile(str(tmp_path / "a.mp3"), "", 0)])
    assert "not a file" in (tags.fault or "")


@pytest.mark.cluster
@pytest.mark.usefixtures("brisk")
@pytest.mark.parametrize("fault", [Fault.ERROR, Fault.DENIED])
def test_one_object_or_the_whole_store(fault: Fault, bucket_uri: str, store_proxy: Proxy) -> None:
    bucket = bucket_uri.removeprefix("s3://")
    for name in ("a.flac", "b.flac"):
        files.write_bytes(Uri.parse(f"{bucket_uri}/{name}"), WRITERS["FLAC"](SAID))
    found = listed(Uri.parse(bucket_uri))
    with TagReader() as reader:
        with store_proxy.armed(Faults((fault,), "a.flac", bucket)):
            first, second = reader.read(found)
        assert (bool(first.fault), second.fields) == (True, SAID)
    with (
        TagReader() as reader,
        store_proxy.armed(Faults((fault,), "*", bucket)),
        pytest.raises(StorageError, match=bucket),
    ):
        reader.read(found)
