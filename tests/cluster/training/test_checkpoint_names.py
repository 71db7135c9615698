"""Checkpoints in a bucket whose keys hold `..`: Ray would copy them to other places of the disk."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import ray.train

from cluster.storage import files, s3
from cluster.storage.uri import Uri
from cluster.training.checkpoints import local_copy, stay_inside
from mgc.errors import StorageError
from tests.support.object_store import ObjectStore
from tests.support.web import gate

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("default")]


@pytest.fixture
def run(s3_environment: ObjectStore, direct_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Uri:
    """A run with a checkpoint, in a bucket of its own; temporary files are in the test's folder."""
    folder = tmp_path / "a" / "b" / "c"
    folder.mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    uri = Uri.parse(f"s3://{direct_store.make_bucket()}/run")
    files.write_bytes(uri / "checkpoint" / "state.json", b"{}")
    return uri


def checkpoint(run: Uri) -> ray.train.Checkpoint:
    return ray.train.Checkpoint(f"{run.path}/checkpoint", run.filesystem)


def test_a_checkpoint_is_copied(run: Uri) -> None:
    stay_inside(run)
    with local_copy(checkpoint(run)) as folder:
        assert (folder / "state.json").read_bytes() == b"{}"


def test_a_key_that_leads_out_is_refused_before_anything_is_copied(
    run: Uri, direct_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A store that takes `..` of an address for the folder above, as gateways do, gives the second for the first.
    for key in ("run/checkpoint/../../evil", "evil"):
        s3.client(run).put_object(Bucket=run.bucket, Key=key, Body=b"evil")
    with gate.running(direct_store, lambda method, headers: True) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        with pytest.raises(StorageError, match=r"/run/checkpoint/\.\./\.\./evil: a copy of it would lie outside"):
            stay_inside(run)
        with pytest.raises(StorageError, match="would lie outside"), local_copy(checkpoint(run)):
            pass
        assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []
        # What would have been written.
        checkpoint(run).to_directory(str(tmp_path / "a" / "b" / "c" / "copy"))
    assert (tmp_path / "a" / "b" / "evil").read_bytes() == b"evil"
