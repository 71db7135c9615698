"""A prefix listed side by side: the same outcome as one request after another, whatever the keys and the cuts."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.storage import files, s3
from cluster.storage.listing import list_audio, parallel
from cluster.storage.listing import parts as stored
from cluster.storage.listing.facts import Survey
from cluster.storage.listing.parallel import Listing, list_in_parts
from cluster.storage.listing.parts import Part, fit
from cluster.storage.listing.sieve import Sieve
from cluster.storage.selection import ALL, Selection
from cluster.storage.uri import Uri
from cluster.tables.catalog import load_catalog, read_catalog
from mgc import schema
from mgc.errors import StorageError
from pipelines.catalog import command
from pipelines.command.job import run
from tests.benchmarks.catalogs.listing_speed import enter, flat, folders, measure, ten_million
from tests.cluster.storage.listing.bucket import Bucket
from tests.support.draws import draws
from tests.support.fault_proxy import Fault, Faults, Proxy
from tests.support.object_store import ObjectStore

NOTHING_ELSE = {"passed_over": 0, "passed_over_by": {}, "looked_at": 0, "unreadable": 0}


@pytest.fixture(scope="module", autouse=True)
def small_pages() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "PART_PAGES", 3)
        yield


NAMES = st.text(st.sampled_from("ab.-/0é\U0001f3b5 \x7f"), max_size=5)
KEYS = st.builds(
    "".join, st.tuples(NAMES, st.sampled_from(["", "/"]), NAMES, st.sampled_from([".mp3", ".MP3", "/", ""]))
)
FLAT = st.builds(lambda number, end: f"track_{number:05d}{end}.mp3", st.integers(0, 99_999), st.sampled_from(["", "é"]))
HIDDEN = st.builds(
    lambda number, name: f"{name}{number:02d}.mp3", st.integers(0, 99), st.sampled_from(["b/.x/", ".y/"])
)
BUCKETS = st.one_of(
    st.sets(KEYS | HIDDEN, max_size=150),
    st.sets(KEYS, max_size=150),
    st.sets(FLAT, max_size=150),
    st.sets(KEYS | FLAT, max_size=150),
)


def rows(listing: Listing) -> list[tuple[Any, ...]]:
    tables = list(listing.tables())
    assert all(table.schema.equals(schema.CATALOG) for table in tables)
    return [tuple(row[name] for name in schema.CATALOG_REQUIRED) for table in tables for row in table.to_pylist()]


def one_by_one(source: str, selection: Selection = ALL) -> tuple[list[tuple[Any, ...]], Survey]:
    survey = Survey()
    facts = list(list_audio(Uri.parse(source), survey, selection))
    return [(each.track_id, each.uri, each.size_bytes, each.content_tag) for each in facts], survey


CHOICES = [((), ()), ((), ("*a*",)), ((), ("a/**", "b")), (("*.mp3",), ()), (("a",), ("b",))]
SELECTIONS = st.sampled_from([Selection(*each) for each in CHOICES])


@pytest.mark.draws
@settings(max_examples=draws(100))
@given(
    keys=BUCKETS,
    prefix=st.sampled_from(["", "a", "music/é"]),
    page=st.integers(1, 7),
    seed=st.integers(0, 99),
    selection=SELECTIONS,
)
def test_the_same_as_one_by_one(keys: set[str], prefix: str, page: int, seed: int, selection: Selection) -> None:
    """And again when some of the parts are gone, as after a kill; only what is missing is asked for."""
    folder = f"{prefix}/" if prefix else ""
    bucket = Bucket({folder + key for key in keys if key} | {"another", "music/ê.mp3"})
    source = f"s3://b/{prefix}"
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as parts:
        patch.setattr(s3, "client", lambda uri: bucket)
        patch.setattr(files, "PAGE_KEYS", page)
        listing = list_in_parts(Uri.parse(source), Uri.parse(parts), selection=selection)
        below = [key for key in bucket.keys if key.startswith(folder)]
        assert listing.keys == len(below)
        if not below:
            return
        expected, survey = one_by_one(source, selection)
        assert rows(listing) == expected == sorted(expected)
        assert listing.survey == survey
        lost = random.Random(seed)
        gone = [part for part in listing.parts if lost.random() < 0.4]
        for part in gone:
            part.uri.local.unlink()
        bucket.asked.clear()
        again = list_in_parts(Uri.parse(source), Uri.parse(parts), selection=selection)
        assert rows(again) == expected
        assert again.survey == survey
        assert again.kept_tracks == len(expected) - sum(part.tracks for part in gone)
        assert bool(bucket.asked) == bool(gone)


def test_a_stretch_cut_off_just_behind_what_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread takes all that is left, and is done before the first one hears of it."""
    monkeypatch.setattr(files, "PAGE_KEYS", 1)
    bucket = Bucket({f"{number}.mp3" for number in range(8)})
    lister = parallel._Lister(bucket, Uri.parse("s3://b"), Uri.of_path(tmp_path), 0, None, lambda: Sieve(""))
    whole = lister._stretch("", None)
    ask = lister._ask

    def cut(kind: str, **arguments: Any) -> dict[str, Any]:
        if arguments.get("ContinuationToken") == "2.mp3" and whole.until is None:
            half = lister._stretch(whole.position, None)
            whole.until = whole.ceiling = whole.position
            lister._listed.append(half)
            lister._list(half)
        return ask(kind, **arguments)

    monkeypatch.setattr(lister, "_ask", cut)
    lister._listed.append(whole)
    lister._list(whole)
    parts, gaps = fit(lister._parts)
    assert not gaps
    assert len(parts) == len(lister._parts)
    assert [part.keys for part in parts] == [3, 3, 2]


def model(monkeypatch: pytest.MonkeyPatch, keys: list[str], page_keys: int) -> Bucket:
    bucket = Bucket(set(keys))
    monkeypatch.setattr(s3, "client", lambda uri: bucket)
    monkeypatch.setattr(files, "PAGE_KEYS", page_keys)
    return bucket


@pytest.mark.parametrize("keys", [folders(3000), flat(3000), [f"x/{each}" for each in flat(3000)]])
def test_keys_are_shared_out(keys: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With folders, without any, or all in one; and the search for places to halve stays cheap."""
    bucket = model(monkeypatch, keys, 10)
    listing = list_in_parts(Uri.parse("s3://b"), Uri.parse(str(tmp_path)))
    assert listing.keys == len(keys)
    assert len({part.after for part in listing.parts}) > parallel.LISTERS
    # All threads at work would be a sixteenth of the pages; one that lists much more than its share is alone.
    longest = max(Counter(request["thread"] for request in bucket.asked if request["MaxKeys"] > 1).values())
    assert longest < 150
    assert len(bucket.asked) < 300 + 4 * parallel.LISTERS + 300 / 5 + 16 * 24 + 64 + 20


def test_a_store_without_order_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = model(monkeypatch, ["a.mp3", "b.mp3"], 10)
    bucket.keys.reverse()
    with pytest.raises(StorageError, match="does not list keys in their order"):
        list_in_parts(Uri.parse("s3://b"), Uri.parse(str(tmp_path)))


def test_old_parts_are_listed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = model(monkeypatch, flat(100), 10)
    first = list_in_parts(Uri.parse("s3://b"), Uri.parse(str(tmp_path)))
    bucket.asked.clear()
    monkeypatch.setattr(stored, "MAX_AGE_SECONDS", -1.0)
    again = list_in_parts(Uri.parse("s3://b"), Uri.parse(str(tmp_path)))
    assert again.expired_parts == len(first.parts)
    assert (again.kept_tracks, again.kept_since, again.keys) == (0, None, 100)
    assert not {part.uri for part in first.parts} & set(files.list_uris(Uri.of_path(tmp_path)))
    assert len(bucket.asked) >= 10


def test_parts_that_overlap_are_not_counted_twice(tmp_path: Path) -> None:
    def part(after: str, until: str | None) -> Part:
        return Part(Uri.parse(f"{tmp_path}/{after}"), after, until, 0.0, 1, 0, {}, None)

    kept, gaps = fit([part("c", None), part("", "b"), part("a", "d"), part("b", "bb")])
    assert [each.after for each in kept] == ["", "b", "c"]
    assert gaps == [("bb", "c")]
    assert fit([]) == ([], [("", None)])


def test_catalog_in_its_own_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts that the listing itself writes are no files of SOURCE."""
    parts = "s3://b/music/_listing/key"
    model(monkeypatch, ["music/a.mp3", "music/_listing/key/part-1.parquet", "music/x.parquet"], 10)
    monkeypatch.setattr(parallel, "trusted_parts", lambda folder: ([], 0))
    monkeypatch.setattr(files, "write_bytes", lambda uri, data: None)
    listing = list_in_parts(Uri.parse("s3://b/music"), Uri.parse(parts))
    assert listing.survey.passed_over == {".parquet": 1}


ODD = ["a b+c%20&=;'\"@:#?.mp3", "ä/日本.mp3", "🎵.mp3", ".x/1.mp3", ".x/2.mp3", "//x.mp3", "~.mp3", "z/", "<&>.mp3"]


LISTERS = 4
"""Threads that list the real store here: each asks for some keys beside the pages, to find places to halve."""


@pytest.mark.cluster
class TestStore:
    """The real object store, behind a proxy that counts."""

    def test_both_ways_agree(
        self, bucket_uri: str, s3_environment: ObjectStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """1,200 keys in small pages; and the arithmetic of ten million."""
        monkeypatch.setattr(parallel, "LISTERS", LISTERS)
        bucket = Uri.parse(bucket_uri).bucket
        keys = [*folders(1100), *(f"music/{number}/{name}" for number in range(11) for name in ODD), "z.mp3"]
        enter(s3_environment, bucket, keys)
        found = measure(bucket_uri, 1200, 100, 0.0)
        assert (found["keys"], found["pages_needed"]) == (len(keys), 12)
        with tempfile.TemporaryDirectory() as parts, pytest.MonkeyPatch.context() as patch:
            patch.setattr(files, "PAGE_KEYS", 100)
            listing = list_in_parts(Uri.parse(f"{bucket_uri}/music"), Uri.parse(parts))
            expected, survey = one_by_one(f"{bucket_uri}/music")
            assert rows(listing) == expected
            assert listing.survey == survey
            assert survey.passed_over["hidden"] == 11
        far = ten_million(extra_share=0.1, page_cpu_seconds=0.02)
        assert far["requests"] == pytest.approx(11_000)
        assert far["side_by_side_seconds"] == pytest.approx(200)
        assert far["dollars"] == pytest.approx(0.055)

    def test_a_busy_store(
        self, bucket_uri: str, s3_environment: ObjectStore, store_proxy: Proxy, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        """Asked again when it is busy; when a page fails for good the job does, and goes on from there."""
        monkeypatch.setattr(files, "PAGE_KEYS", 20)
        bucket = Uri.parse(bucket_uri).bucket
        enter(s3_environment, bucket, flat(1000))
        with store_proxy.armed(Faults((Fault.SLOW_DOWN,), key="", bucket=bucket, nth={2, 9, 20})):
            listing = list_in_parts(Uri.parse(bucket_uri), Uri.parse(str(tmp_path / "one")))
        assert listing.keys == 1000
        assert Fault.SLOW_DOWN in {request.fault for request in store_proxy.requests("GET", "", bucket)}
        with (
            store_proxy.armed(Faults((Fault.ERROR,), key="", bucket=bucket, nth=range(40, 9999))),
            pytest.raises(StorageError, match=f"^cannot list {bucket_uri}: the store answers InternalError"),
        ):
            list_in_parts(Uri.parse(bucket_uri), Uri.parse(str(tmp_path / "two")))
        again = list_in_parts(Uri.parse(bucket_uri), Uri.parse(str(tmp_path / "two")))
        assert again.kept_tracks > 0
        assert rows(again) == rows(listing)


KILLED = """
import sys
from cluster.storage import files
from cluster.storage.listing import parallel
from pipelines.catalog import command
from pipelines.command.job import main
files.PAGE_KEYS, parallel.PART_PAGES, parallel.LISTERS = 10, 2, 4
main(command)
"""


@pytest.mark.cluster
def test_a_killed_job_goes_on(
    bucket_uri: str, s3_environment: ObjectStore, store_proxy: Proxy, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """And ends in the catalog of an undisturbed one; the next listing says what has changed since."""
    bucket, keys = Uri.parse(bucket_uri).bucket, flat(600)
    enter(s3_environment, bucket, keys)
    out = f"s3://{s3_environment.make_bucket()}/catalog"
    killed = threading.Event()

    def kill(request: Any) -> None:
        process.kill()
        process.wait(30)
        killed.set()

    def pages() -> int:
        return sum("max-keys=10&" in f"{request.query}&" for request in store_proxy.requests("GET", "", bucket))

    with store_proxy.armed(Faults(key="", bucket=bucket, nth={60}, call=kill)):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, bucket_uri, "--out", out],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[4],
        )  # fmt: skip
        assert killed.wait(120)
    before = pages()
    assert files.list_uris(Uri.parse(f"{out}/_listing"))
    assert not files.exists(Uri.parse(f"{out}/catalog.parquet"))
    monkeypatch.setattr(files, "PAGE_KEYS", 10)
    monkeypatch.setattr(parallel, "PART_PAGES", 2)
    monkeypatch.setattr(parallel, "LISTERS", LISTERS)
    facts = job(capsys, bucket_uri, out)
    told = re.search(r"continued a listing begun at \S+ \S+: ([\d,]+) of 600 tracks", facts["stderr"])
    assert told is not None
    # Lost is what was listed and not yet written, two pages a thread, and the pages under way.
    assert int(told.group(1).replace(",", "")) >= 10 * (before - 3 * LISTERS) / 2 > 0
    assert pages() - before < 60
    assert load_catalog(read_catalog(Uri.parse(out)))["track_id"].to_pylist() == keys
    assert files.list_uris(Uri.parse(out)) == [Uri.parse(out) / "catalog.parquet"]
    assert facts["counts"] == {"tracks": 600, "bytes": 600 * 8_000_000} | NOTHING_ELSE
    enter(s3_environment, bucket, ["a.mp3", "track_5.mp3", "z.mp3", "z.txt"])
    enter(s3_environment, bucket, keys[300:302], deleted=True)
    enter(s3_environment, bucket, keys[:5] + keys[-1:], body="other")
    monkeypatch.undo()
    facts = job(capsys, bucket_uri, out)
    expected = {"new": 3, "changed": 6, "gone": 2, "same": 592}
    assert expected.items() <= facts["counts"].items()
    assert "since the last listing: 3 new, 6 changed, 2 gone, 592 the same" in facts["stderr"]
    assert "went on" not in facts["stderr"]


def job(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """The JSON summary of `mgc catalog SOURCE --out CATALOG`, with its stderr."""
    source, out, *rest = arguments
    capsys.readouterr()
    code = run(command, [source, "--out", out, *rest])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    return {**json.loads(printed.out.splitlines()[-1]), "stderr": printed.err}
