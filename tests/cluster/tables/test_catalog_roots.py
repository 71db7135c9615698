"""Where the tracks of a catalog may lie: what is inside a root as text is inside it as a place."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.storage.listing import list_audio
from cluster.storage.uri import Uri
from cluster.tables.catalog import read_catalog, write_catalog
from cluster.tables.roots import MOST_ROOTS, ROOTS_KEY, SOURCE_KEY, Roots, stated_roots
from mgc.errors import StorageError
from tests.cluster.tables.table_files import FULL, REQUIRED, put, refusal

PARTS = st.sampled_from(
    ["music", "fma", "a.mp3", "..", ".", "", "...and justice", "..mp3", "%2e%2e", "%2E.", "%2f", "%2F..%2F", "é", " ",
     "%20", "etc", "passwd", "~", "s3:", "file:", "\\..", "x\n", "%00", "#", "?"]
)  # fmt: skip
STARTS = st.sampled_from(
    ["/music/", "/music", "/", "", "~/", "./", "../", "s3://m/", "s3://m/fma/", "s3://other/", "s3://m", "S3://m/",
     "s3:///", "file:///music/", "file:///", "file://host/music/", "file://localhost/music/", "ftp://m/", "//music/"]
)  # fmt: skip


def outside(root: str | list[str], *uris: str) -> list[bool]:
    places = [root] if isinstance(root, str) else root
    return Roots(tuple(map(Uri.parse, places))).outside(pa.array(uris)).to_pylist()


@given(STARTS, st.lists(PARTS, max_size=6), st.sampled_from(["/music", "s3://m/fma", "s3://m", "/", "/music/fma"]))
def test_what_is_inside_as_text_is_inside_as_a_place(start: str, parts: list[str], root: str) -> None:
    """The stage that fetches opens `Uri.parse(uri).path`."""
    uri = start + "/".join(parts)
    if not outside(root, uri)[0]:
        try:
            place = Uri.parse(uri)
        except StorageError:
            return  # It becomes a quarantined row, and nothing is opened.
        allowed = Uri.parse(root)
        assert place.is_remote == allowed.is_remote
        assert place.path == allowed.path or place.path.startswith(allowed.path.rstrip("/") + "/")


def test_inside_and_outside() -> None:
    inside = ["/music/a.mp3", "/music/x/...and justice.mp3", "/music//a.mp3", "/music", "file:///music/%FF.mp3"]
    assert outside("/music", *inside) == [False] * len(inside)
    others = ["/music2/a.mp3", "/music/../etc/passwd", "/music/..", "music/a.mp3", "~/music/a.mp3", "", "s3://music/a"]
    others += ["file:///music/%2e%2e/etc/passwd", "file:///music/x%2F..%2f..%2Fetc", "ftp://music/a", "/Music/a.mp3"]
    assert outside("/music", *others) == [True] * len(others)
    assert outside("s3://m/fma", "s3://m/fma/a", "s3://m/fma2/a", "s3://m/a", "s3://m/fma", "/s3:/m/fma/a") == [
        False, True, True, False, True
    ]  # fmt: skip
    # A key is literal: this one begins with the prefix, and is another object than `s3://m/secret`.
    assert outside("s3://m/fma", "s3://m/fma/../secret") == [False]
    assert outside(["s3://m/fma", "/music"], "s3://m/fma/a", "/music/a", "/other") == [False, False, True]
    assert Roots(()).outside(pa.array(["/a", "s3://m/a"])).to_pylist() == [True, True]


def test_every_listed_file_is_inside_its_source(tmp_path: Path) -> None:
    """Names of all kinds, bytes that are not UTF-8, and a link to another disk."""
    disk, music = tmp_path / "disk", tmp_path / "mu (1) sic & é"
    for folder in (disk, music, music / "and..."):
        folder.mkdir()
    for name in ("a b.mp3", "#1.mp3", "50%41?.mp3", "日本.mp3", "x..mp3", "x\ny.mp3", "%2e%2e.mp3"):
        (music / name).write_bytes(b"x")
        (music / "and..." / name).write_bytes(b"x")
        (disk / name).write_bytes(b"x")
    (music / "linked").symlink_to(disk)
    Path(os.fsdecode(os.fsencode(music) + b"/%2e\xff.mp3")).write_bytes(b"x")
    uris = [fact.uri for fact in list_audio(Uri.of_path(music))]
    assert len(uris) == 22
    # mgc escapes neither dots nor slashes, but a percent sign in a name becomes %25.
    assert any(uri.startswith("file://") for uri in uris)
    assert not any(outside(str(music), *uris))
    assert all(outside(str(disk), *uris))


def names_no_root(tmp_path: Path, metadata: dict[bytes, bytes] | None = None, uri: str = "s3://m/a.mp3") -> str:
    table = pa.table(REQUIRED | {"uri": pa.array([uri, uri])}).replace_schema_metadata(metadata)
    return put(str(tmp_path / "c.parquet"), table)


class TestCatalog:
    def test_its_own_source_is_its_root(self, tmp_path: Path) -> None:
        for options in ({"source": Uri.parse("s3://m")}, {"roots": [Uri.parse("s3://m")]}):
            uri = str(tmp_path / "c.parquet")
            write_catalog(Uri.parse(uri), [FULL.sort_by("track_id")], **options)  # type: ignore[arg-type]
            dataset = read_catalog(Uri.parse(uri))
            assert stated_roots(dataset.schema.metadata, uri) == (Uri.parse("s3://m"),)
            assert dataset.count_rows() == 2
        # As mgc wrote it before it stated roots.
        assert read_catalog(Uri.parse(names_no_root(tmp_path, {SOURCE_KEY: b"s3://m"}))).count_rows() == 2

    def test_without_a_source_it_is_the_folder(self, tmp_path: Path) -> None:
        assert read_catalog(Uri.parse(names_no_root(tmp_path, uri=str(tmp_path / "x" / "a.mp3")))).count_rows() == 2
        assert read_catalog(Uri.of_path(tmp_path)).count_rows() == 2
        line = refusal(read_catalog, Uri.parse(names_no_root(tmp_path, uri=str(tmp_path.parent / "a.mp3"))))
        assert f"({tmp_path})" in line
        assert f"`--allow-root {tmp_path.parent}`" in line

    def test_outside_is_refused_whole_and_says_which(self, tmp_path: Path) -> None:
        uri = names_no_root(tmp_path)
        line = refusal(read_catalog, Uri.parse(uri))
        assert line.startswith(f"{uri}: 2 tracks outside the allowed roots ({tmp_path}), the first is 'b' in s3://m.")
        assert read_catalog(Uri.parse(uri), [Uri.parse("s3://m")]).count_rows() == 2
        # What is named replaces what the catalog says of itself.
        stating = names_no_root(tmp_path, {ROOTS_KEY: b'["s3://m"]'})
        assert read_catalog(Uri.parse(stating)).count_rows() == 2
        assert "(s3://other)" in refusal(read_catalog, Uri.parse(stating), [Uri.parse("s3://other")])

    def test_nothing_is_told_of_a_forbidden_file(self, tmp_path: Path) -> None:
        """Whether it is there, and how large it is."""
        secret = tmp_path / "secret" / "key"
        (tmp_path / "catalog").mkdir()
        lines = []
        for there in (False, True):
            if there:
                secret.parent.mkdir()
                secret.write_bytes(b"x" * 4321)
            lines.append(refusal(read_catalog, Uri.parse(names_no_root(tmp_path / "catalog", uri=str(secret)))))
        assert lines[0] == lines[1]
        assert "4321" not in lines[0]

    @pytest.mark.parametrize("uri", ["ftp://m/a.mp3", "a.mp3", "~/a.mp3", "", "s3://key:SECRET@m/a.mp3", "/m/../a.mp3"])
    def test_what_no_root_allows(self, uri: str, tmp_path: Path) -> None:
        line = refusal(read_catalog, Uri.parse(names_no_root(tmp_path, uri=uri)))
        assert "neither s3://bucket/key nor an absolute path" in line
        assert "SECRET" not in line
        assert "--allow-root" not in line

    @pytest.mark.parametrize(
        "metadata",
        [
            {ROOTS_KEY: b"/music"},
            {ROOTS_KEY: b'"/music"'},
            {ROOTS_KEY: b"[1]"},
            {ROOTS_KEY: b"["  * 100_000},
            {ROOTS_KEY: b'["ftp://m"]'},
            {ROOTS_KEY: b"\xff"},
            {ROOTS_KEY: b"[" + b",".join([b'"/"'] * (MOST_ROOTS + 1)) + b"]"},
            {SOURCE_KEY: b"\xff"},
            {SOURCE_KEY: b"ftp://m"},
        ],
    )  # fmt: skip
    def test_roots_that_are_none(self, metadata: dict[bytes, bytes], tmp_path: Path) -> None:
        line = refusal(read_catalog, Uri.parse(names_no_root(tmp_path, metadata)))
        assert next(iter(metadata)).decode() in line

    def test_the_rows_are_those_that_are_read(self, tmp_path: Path) -> None:
        """Two columns of one name, or of names that differ in case: the check and the plan must see the same one."""
        good, bad = pa.array(["s3://m/b", "s3://m/a"]), pa.array(["/etc/passwd", "/etc/shadow"])
        for names in (("uri", "uri"), ("URI", "uri"), ("uri", "Uri")):
            columns = [*REQUIRED.values(), good, bad]
            table = pa.Table.from_arrays(
                columns, [*(f"{name}_" if name == "uri" else name for name in REQUIRED), *names]
            )
            uri = str(tmp_path / "c.parquet")
            pq.write_table(table, uri)
            line = refusal(read_catalog, Uri.parse(uri), [Uri.parse("s3://m")])
            assert "uri" in line
