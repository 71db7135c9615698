"""One clear line for each failure of storage, whichever client it came through, and no credential in it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pickle
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from cluster.storage import files, s3
from cluster.storage.failures import explain
from cluster.storage.uri import Uri
from mgc.errors import StorageError
from tests.support.object_store import ObjectStore

TABLE = pa.table({"track_id": ["a", "b"]})


@pytest.fixture
def secret(s3_environment: ObjectStore) -> str:
    return s3_environment.secret_key


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def failure(action: Callable[[], object], caplog: pytest.LogCaptureFixture, *secrets: str) -> str:
    """The one line of a StorageError, free of credentials, as is all that was logged meanwhile."""
    with caplog.at_level(logging.INFO), pytest.raises(StorageError) as caught:
        action()
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 600
    for hidden in secrets:
        assert hidden not in line + repr(caught.value) + caplog.text
    return line


@contextlib.contextmanager
def as_ordinary_user() -> Iterator[None]:
    """Root may do everything: be nobody for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.cluster
class TestCredentials:
    def test_none_in_what_is_handed_on(self, bucket_uri: str, secret: str, s3_environment: ObjectStore) -> None:
        location = Uri.parse(bucket_uri)
        assert secret.encode() not in pickle.dumps(location)
        assert secret not in repr(location) + repr(Uri.parse(bucket_uri).storage_options)
        assert secret not in repr(s3_environment)

    def test_a_profile_serves_all_three_clients(
        self, object_store: ObjectStore, bucket_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "credentials").write_text(
            f"[music]\naws_access_key_id={object_store.access_key}\naws_secret_access_key={object_store.secret_key}\n"
        )
        (tmp_path / "config").write_text(
            f"[profile music]\nregion=us-east-1\nendpoint_url={object_store.endpoint_url}\n"
        )
        for name in object_store.environment():
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        monkeypatch.setenv("AWS_PROFILE", "music")
        files.write_bytes(Uri.parse(f"{bucket_uri}/a"), b"x")
        location = Uri.parse(bucket_uri)
        names = [info.path for info in location.filesystem.get_file_info(pyarrow.fs.FileSelector(location.path))]
        assert names == [f"{location.path}/a"]
        write_deltalake(f"{bucket_uri}/t", TABLE, storage_options=Uri.parse(bucket_uri).storage_options)

    @pytest.mark.parametrize("how", ["boto3", "pyarrow", "delta"])
    def test_wrong_secret(
        self, how: str, bucket_uri: str, secret: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret-wrong-secret")
        line = failure(lambda: reach(how, bucket_uri), caplog, "wrong-secret", secret)
        assert line.startswith(f"cannot reach {bucket_uri}: the store refuses the credentials (SignatureDoesNotMatch)")
        assert "AWS_SECRET_ACCESS_KEY" in line

    @pytest.mark.parametrize("how", ["boto3", "pyarrow", "delta"])
    def test_a_user_without_rights(
        self,
        how: str,
        object_store: ObjectStore,
        bucket_uri: str,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", object_store.guest_access_key)
        line = failure(lambda: reach(how, bucket_uri), caplog, object_store.secret_key, object_store.guest_access_key)
        assert "access is denied (AccessDenied)" in line

    def test_none_at_all(
        self, bucket_uri: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        uri = Uri.parse(bucket_uri)
        plain = [lambda each=each: each(uri) for each in (files.exists, files.list_uris, files.read_bytes)]
        for action in (lambda: uri.filesystem, lambda: uri.storage_options, *plain):
            line = failure(action, caplog)
            assert "no credentials were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE)" in line

    @pytest.mark.parametrize(
        ("variable", "value", "says"),
        [
            ("AWS_PROFILE", "no-such-profile", "no-such-profile"),
            ("AWS_ENDPOINT_URL", "not a url", "AWS_ENDPOINT_URL"),
        ],
    )
    def test_settings_that_make_no_sense(
        self,
        variable: str,
        value: str,
        says: str,
        bucket_uri: str,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setenv(variable, value)
        assert says in failure(lambda: Uri.parse(bucket_uri).filesystem, caplog)


def reach(how: str, uri: str) -> None:
    """Look at a place through one of the three clients."""
    with explain(uri, "reach"):
        if how == "boto3":
            s3.client(uri).list_objects_v2(Bucket=Uri.parse(uri).bucket)
        elif how == "pyarrow":
            location = Uri.parse(uri)
            location.filesystem.get_file_info(pyarrow.fs.FileSelector(location.path))
        else:
            DeltaTable(f"{uri}/t", storage_options=Uri.parse(uri).storage_options)


@pytest.mark.cluster
class TestStoreFailures:
    def test_missing_bucket(self, secret: str, s3_environment: ObjectStore, caplog: pytest.LogCaptureFixture) -> None:
        uri = "s3://no-such-bucket-here/x"
        location = Uri.parse(uri)

        def parquet() -> None:
            with explain(uri, "write"):
                pq.write_table(TABLE, location.path, filesystem=location.filesystem)

        def folder() -> None:
            with explain(uri, "write"):
                location.filesystem.create_dir(location.path)

        def delta() -> None:
            with explain(uri, "write"):
                write_deltalake(uri, TABLE, storage_options=Uri.parse(uri).storage_options)

        actions = [parquet, folder, delta, *(lambda a=action: a(Uri.parse(uri)) for action in PLAIN_ACTIONS)]
        for action in actions:
            line = failure(action, caplog, secret)
            assert uri in line
            assert "the bucket does not exist" in line
            assert "create it or correct its name" in line

    @pytest.mark.parametrize("how", ["boto3", "pyarrow", "delta"])
    def test_nobody_at_the_endpoint(
        self, how: str, bucket_uri: str, secret: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        endpoint = f"http://127.0.0.1:{closed_port()}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        began = time.monotonic()
        line = failure(lambda: reach(how, bucket_uri), caplog, secret)
        assert time.monotonic() - began < 20
        assert f"cannot reach {bucket_uri}: no answer from {endpoint}; check AWS_ENDPOINT_URL" in line

    def test_an_endpoint_that_never_answers(
        self, bucket_uri: str, secret: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(s3, "READ_TIMEOUT_SECONDS", 1)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
            began = time.monotonic()
            line = failure(lambda: files.exists(Uri.parse(bucket_uri)), caplog, secret)
        assert time.monotonic() - began < 20
        assert "no answer from http://127.0.0.1" in line

    def test_no_delta_table(self, bucket_uri: str, caplog: pytest.LogCaptureFixture) -> None:
        assert "no Delta table is there" in failure(lambda: reach("delta", bucket_uri), caplog)


PLAIN_ACTIONS: list[Callable[[Uri], object]] = [
    files.exists,
    files.read_bytes,
    files.list_uris,
    files.delete,
    lambda uri: files.write_bytes(uri, b"x"),
    lambda uri: files.copy_tree(uri, Uri.parse("/nowhere")),
]


class TestDiskFailures:
    def test_other_errors_pass_through(self) -> None:
        with pytest.raises(KeyError), explain("x", "read"):
            raise KeyError("a bug of ours")
        with pytest.raises(StorageError, match=r"^said already$"), explain("x", "read"):
            raise StorageError("said already")

    def test_what_is_no_regular_file_is_not_replaced(self, tmp_path: Path) -> None:
        # A pipe, not /dev/null or the like: a test that fails may not take the machine's devices with it.
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        with pytest.raises(StorageError, match=f"cannot write {pipe}"):
            files.write_bytes(Uri.of_path(pipe), b"x")
        assert pipe.is_fifo()

    def test_a_folder_is_no_file(self, tmp_path: Path) -> None:
        for action in (files.read_bytes, lambda uri: files.write_bytes(uri, b"x")):
            with pytest.raises(StorageError, match="it is a folder or a device, not a file; check the path"):
                action(Uri.of_path(tmp_path))
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(StorageError, match="is a file, not a folder"):
            files.write_bytes(Uri.of_path(tmp_path / "file" / "x"), b"x")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]

    def test_permission(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        folder = tmp_path / "shut"
        folder.mkdir()
        (folder / "x").write_bytes(b"x")
        folder.chmod(0)
        location = Uri.parse(str(folder / "x"))

        def parquet() -> None:
            with explain(location.text, "write"):
                pq.write_table(TABLE, location.path, filesystem=location.filesystem)

        def delta() -> None:
            with explain(location.text, "write"):
                write_deltalake(str(folder / "table"), TABLE)

        with as_ordinary_user():
            actions = [
                lambda a=action: a(Uri.of_path(folder / "x"))
                for action in PLAIN_ACTIONS
                if action is not files.list_uris
            ]
            for action in [*actions, lambda: files.list_uris(Uri.of_path(folder)), parquet, delta]:
                line = failure(action, caplog)
                assert "permission is denied; change the permissions or choose another place." in line
                assert str(folder) in line
        folder.chmod(0o700)

    def test_dev_full(self) -> None:
        with (
            pytest.raises(StorageError, match=r"cannot write x: the disk is full; free some space"),
            explain("x", "write"),
            Path("/dev/full").open("wb", buffering=0) as file,
        ):
            file.write(b"x")

    def test_a_full_disk_keeps_what_was_there(self, tmp_path: Path) -> None:
        """In a mount namespace of its own, so that nothing stays mounted whatever happens to the test."""
        if shutil.which("unshare") is None or shutil.which("mount") is None:
            pytest.skip("needs unshare and mount (util-linux) to make a small disk")
        script = 'mount -t tmpfs -o size=256k tmpfs "$1" || exit 77; exec "$2" -c "$3" "$1"'
        command = [
            "unshare",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            script,
            "-",
            str(tmp_path),
            sys.executable,
            ON_A_SMALL_DISK,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=Path(files.__file__).parents[2])
        if done.returncode == 77 or "unshare:" in done.stderr:
            pytest.skip(f"this machine does not let us mount a small disk: {done.stderr.strip()}")
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert said.pop("after") == ["old"]
        assert said.pop("delta_version") == 0
        for what, line in said.items():
            assert line is not None, what
            assert "the disk is full; free some space or choose another place." in line


ON_A_SMALL_DISK = """
import json, os, sys
import pyarrow as pa, pyarrow.parquet as pq
from deltalake import DeltaTable, write_deltalake
from cluster.storage import files
from cluster.storage.failures import explain
from cluster.storage.uri import Uri
from mgc.errors import StorageError
disk, said = sys.argv[1], {}
big = os.urandom(1 << 20)
files.write_bytes(Uri.parse(disk + "/x"), b"old")
write_deltalake(disk + "/delta", pa.table({"a": [1]}))
location = Uri.parse(disk + "/p.parquet")
def write(): files.write_bytes(Uri.parse(disk + "/x"), big)
def parquet(): pq.write_table(pa.table({"a": [big]}), location.path, filesystem=location.filesystem)
def delta(): write_deltalake(disk + "/delta", pa.table({"a": list(range(10**6))}), mode="append")
for action in (write, parquet, delta):
    try:
        with explain(disk, "write"): action()
        said[action.__name__] = None
    except StorageError as error:
        said[action.__name__] = str(error)
    if action is write:
        left = [name for name in os.listdir(disk) if "tmp" in name]
        said["after"] = [files.read_text(Uri.parse(disk + "/x")), *left]
said["delta_version"] = DeltaTable(disk + "/delta").version()
print(json.dumps(said))
"""
