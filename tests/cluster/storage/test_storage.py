"""URIs to filesystems, on the local disk and on a real object store."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from cluster.storage import files
from cluster.storage.redaction import redact
from cluster.storage.uri import Uri
from mgc.errors import LabelsError, StorageError

TABLE = pa.table({"track_id": ["a", "b"]})
ODD_NAMES = ["plain.bin", "with space/ä ü.bin", "hash#percent%41 ?query=1&x.bin", "日本/曲.bin"]


def write_half(uri: Uri) -> None:
    with files.writing(uri) as path:
        path.write_bytes(b"half")
        raise LabelsError("out of luck")


class TestPaths:
    def test_local_forms_are_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HOME", str(tmp_path))
        wanted = str(tmp_path / "a b" / "c#d")
        for uri in ("a b/c#d", "./x/../a b/c#d", "~/a b/c#d", f"file://{tmp_path}/a%20b/c%23d", wanted + "/"):
            place = Uri.parse(uri)
            assert (place.text, place.path) == (wanted, wanted)
            assert place.filesystem == pyarrow.fs.LocalFileSystem()

    def test_a_name_that_is_not_utf8_survives(self, tmp_path: Path) -> None:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")).write_bytes(b"x")
        (uri,) = files.list_uris(Uri.of_path(tmp_path))
        assert uri.text == f"file://{tmp_path}/caf%E9"
        assert Uri.parse(uri.text) == uri
        assert files.read_bytes(uri) == b"x"

    @pytest.mark.parametrize(
        "uri", ["gs://b/k", "http://h/x", "", "a\0b", "file://host/x", "s3://", "s3:///x", "~no-such-user/x"]
    )
    def test_other_uris_are_refused(self, uri: str) -> None:
        with pytest.raises(StorageError) as caught:
            Uri.parse(uri)
        assert "\0" not in str(caught.value)

    @pytest.mark.parametrize("uri", ["s3://AKIA:se/cr+et@bucket/key", "s3://AKIA:secret/key", "s3://secret@bucket/key"])
    def test_credentials_in_a_uri_are_refused_and_not_shown(self, uri: str) -> None:
        with pytest.raises(StorageError, match="no credentials") as caught:
            Uri.parse(uri)
        assert not any(part in str(caught.value) for part in ("secret", "se/cr", "AKIA"))

    @pytest.mark.parametrize(
        ("uri", "below", "text"),
        [
            ("s3://b/x/", "y/z.json", "s3://b/x/y/z.json"),
            ("s3://b", "/y/", "s3://b/y"),
            ("s3://b/x", "", "s3://b/x"),
            ("/", "labels", "/labels"),
        ],
    )
    def test_a_place_below(self, uri: str, below: str, text: str) -> None:
        place = Uri.parse(uri) / below
        assert place.text == text
        assert place == Uri.parse(text)
        assert place.path == Uri.parse(text).path

    @pytest.mark.parametrize("below", ["..", "../x", "a/../../x", "a/..", "/../x/"])
    def test_a_name_from_elsewhere_leads_out_of_no_folder(self, tmp_path: Path, below: str) -> None:
        with pytest.raises(StorageError, match=rf"^{tmp_path}: .*outside of this folder"):
            Uri.of_path(tmp_path) / below

    def test_dots_that_lead_nowhere(self, tmp_path: Path) -> None:
        assert (Uri.of_path(tmp_path) / "...and justice/..x").path == f"{tmp_path}/...and justice/..x"
        assert (Uri.parse("s3://b/x") / "../y").key == "x/../y"

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("s3://user:pass@bucket/x?token=abc", "s3://bucket/x?token=***"),
            ("two\nlines\x1b[31m!\udce9", "two lines!\\xdce9"),
        ],
    )
    def test_redact(self, text: str, shown: str) -> None:
        assert redact(text) == shown

    def test_redact_knows_the_credentials_of_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_SESSION_TOKEN", "token/of+this-session")
        assert redact("header token/of+this-session.") == "header ***."


class TestFiles:
    def test_there_and_back(self, base: str) -> None:
        for name in ODD_NAMES:
            uri = Uri.parse(base) / "folder" / name
            assert not files.exists(uri)
            files.write_bytes(uri, b"one")
            files.write_bytes(uri, "zwölf".encode())
            assert files.exists(uri)
            assert files.read_text(uri) == "zwölf"
        folder = f"{base}/folder"
        assert files.exists(Uri.parse(folder))
        assert files.exists(Uri.parse(folder + "/"))
        assert not files.exists(Uri.parse(f"{base}/fold"))
        found = files.list_uris(Uri.parse(folder))
        assert found == [Uri.parse(folder) / name for name in sorted(ODD_NAMES)]
        assert [Uri.parse(uri.text) for uri in found] == found

    def test_nothing_there(self, base: str) -> None:
        uri = Uri.parse(base) / "none"
        assert files.exists(uri.parent)
        assert files.list_uris(uri) == []
        files.delete(uri)
        for action in (files.read_bytes, files.read_text, lambda uri: files.copy_tree(uri, uri.parent / "copy")):
            with pytest.raises(StorageError, match=r"cannot read .*none: nothing is there.*; check the path\.$"):
                action(uri)

    def test_text_that_is_none(self, base: str) -> None:
        files.write_bytes(Uri.parse(uri := f"{base}/x.json"), b"ab\xff")
        with pytest.raises(StorageError, match=r"x\.json: not UTF-8 text \(byte 2\)"):
            files.read_text(Uri.parse(uri))

    def test_delete_takes_what_is_below_and_no_more(self, base: str) -> None:
        for name in ("run/a", "run/b/c", "run-2/a", "run.txt"):
            files.write_bytes(Uri.parse(f"{base}/{name}"), b"x")
        files.delete(Uri.parse(f"{base}/run"))
        assert files.list_uris(Uri.parse(base)) == [Uri.parse(base) / name for name in ("run-2/a", "run.txt")]
        files.delete(Uri.parse(f"{base}/run.txt"))
        assert files.list_uris(Uri.parse(base)) == [Uri.parse(base) / "run-2/a"]

    def test_whole_buckets_and_disks_are_not_deleted(self) -> None:
        for uri in ("/", "s3://bucket", "s3://bucket/"):
            with pytest.raises(StorageError, match="will not delete"):
                files.delete(Uri.parse(uri))

    def test_a_file_that_is_written_by_name_appears_whole_or_not_at_all(self, base: str) -> None:
        uri = Uri.parse(base) / "folder" / "rows.csv"
        with files.writing(uri) as path:
            path.write_bytes(b"whole")
            assert not files.exists(uri)
        assert files.read_bytes(uri) == b"whole"
        with pytest.raises(LabelsError):
            write_half(uri)
        assert files.list_uris(Uri.parse(base)) == [uri]
        assert files.read_bytes(uri) == b"whole"

    @pytest.mark.cluster
    def test_trees_go_up_and_down(self, tmp_path: Path, bucket_uri: str) -> None:
        for name in ODD_NAMES:
            files.write_bytes(Uri.of_path(tmp_path / "bundle") / name, name.encode())
        files.copy_tree(Uri.of_path(tmp_path / "bundle"), Uri.parse(f"{bucket_uri}/up/bundle"))
        files.copy_tree(Uri.parse(f"{bucket_uri}/up/bundle"), Uri.parse(f"{bucket_uri}/side"))
        files.copy_tree(Uri.parse(f"{bucket_uri}/side" + "/"), Uri.of_path(tmp_path / "down"))
        found = files.list_uris(Uri.of_path(tmp_path / "down"))
        assert {uri.path.removeprefix(f"{tmp_path}/down/") for uri in found} == {*ODD_NAMES}
        assert all((tmp_path / "down" / name).read_bytes() == name.encode() for name in ODD_NAMES)
        files.copy_tree(Uri.parse(f"{bucket_uri}/side/plain.bin"), Uri.of_path(tmp_path / "one.bin"))
        assert (tmp_path / "one.bin").read_bytes() == b"plain.bin"

    @pytest.mark.cluster
    def test_a_tree_whose_keys_lead_out_is_not_copied(self, tmp_path: Path, bucket_uri: str) -> None:
        files.write_bytes(Uri.parse(f"{bucket_uri}/tree") / "a.bin", b"a")
        files.write_bytes(Uri.parse(f"{bucket_uri}/tree") / "z/../../../outside.bin", b"z")
        with pytest.raises(StorageError, match=r"z/\.\./\.\./\.\./outside\.bin would lie outside"):
            files.copy_tree(Uri.parse(f"{bucket_uri}/tree"), Uri.of_path(tmp_path / "deep" / "down"))
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.cluster
    def test_more_than_a_page_of_objects(self, bucket_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(files, "PAGE_KEYS", 3)
        for number in range(8):
            files.write_bytes(Uri.parse(f"{bucket_uri}/many/{number}"), b"")
        assert len(files.list_uris(Uri.parse(f"{bucket_uri}/many"))) == 8
        files.delete(Uri.parse(f"{bucket_uri}/many"))
        assert files.list_uris(Uri.parse(bucket_uri)) == []

    def test_parquet_through_the_filesystem(self, base: str) -> None:
        uri = pickle.loads(pickle.dumps(Uri.parse(base) / "table ü#1.parquet"))  # noqa: S301
        files.write_table(uri, TABLE)
        assert pq.read_table(uri.path, filesystem=uri.filesystem) == TABLE
        assert files.list_uris(Uri.parse(base)) == [uri]

    def test_delta(self, base: str) -> None:
        uri = Uri.parse(base) / "labels"
        options = uri.storage_options
        assert (options is None) is not uri.is_remote
        for version in range(2):
            write_deltalake(uri.text, TABLE, mode="append", storage_options=options)
            assert DeltaTable(uri.text, storage_options=options).version() == version
