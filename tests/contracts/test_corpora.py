"""What every corpus owes: who made it, what may be done with it, and metadata that a catalog can take."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from mgc import schema
from mgc.datasets import fma, folder, gtzan, jamendo, synthetic
from mgc.datasets.metadata import FACTS
from mgc.taxonomy import Taxonomy
from tests.support.fma_files import Row, genres_csv, tracks_csv


@dataclass(frozen=True)
class Case:
    """A corpus, some metadata of it, and the genres that it may name."""

    corpus: ModuleType
    table: Callable[[], pa.Table]
    genres: Callable[[], Taxonomy]
    notice: str


def _fma() -> pa.Table:
    rows = [
        Row(2, "Rock", (12,), 1, 1, "training", "small"),
        Row(3, "Rock", (12, 25), 1, 2, "training", "medium"),
        Row(4, "Jazz", (4,), 2, -1, "test", "large"),
        Row(5, None, (12, 4), 3, 4, "validation", "large"),
        Row(6, None, (), 4, 5, "training", "large"),
    ]
    return fma.metadata_table(tracks_csv(rows), fma.read_genres(genres_csv(), "genres.csv"), "tracks.csv", "large")


def _jamendo() -> pa.Table:
    def tsv(*rows: str) -> bytes:
        return "\r\n".join(["\t".join(jamendo.HEADER), *rows, ""]).encode()

    train = tsv(
        "track_1\tartist_1\talbum_1\t01/1.mp3\t61.5\tgenre---rock",
        "track_2\tartist_1\talbum_1\t02/2.mp3\t61.5\tgenre---rock\tgenre---60s",
    )
    return jamendo.metadata_table(
        {"x-train.tsv": train, "x-test.tsv": tsv("track_3\tartist_2\talbum_2\t03/3.mp3\t40\tgenre---pop")}
    )


@cache
def _real_jamendo() -> pa.Table:
    place = Path(os.environ.get("MGC_TEST_DATA") or "unset") / "jamendo"
    if not place.is_dir():
        pytest.skip("MGC_TEST_DATA names no folder with jamendo/*.tsv")
    return jamendo.metadata_table({path.name: path.read_bytes() for path in place.glob("*.tsv")})


CASES = {
    "fma": Case(fma, _fma, lambda: fma.taxonomy(fma.read_genres(genres_csv(), "g")), fma.NOTICE),
    "jamendo": Case(jamendo, _jamendo, lambda: Taxonomy.flat(["rock", "pop", "60s"]), jamendo.NOTICE),
    "jamendo, really": Case(
        jamendo,
        _real_jamendo,
        lambda: Taxonomy.flat(pc.unique(pc.list_flatten(_real_jamendo()["genres"])).to_pylist()),
        jamendo.NOTICE,
    ),
    "gtzan": Case(
        gtzan,
        lambda: gtzan.metadata_table([f"{genre}/{genre}.000{n:02d}.au" for genre in gtzan.GENRES for n in range(100)]),
        lambda: gtzan.TAXONOMY,
        gtzan.NOTICE,
    ),
    "folder": Case(
        folder,
        lambda: folder.metadata_table(["a/1.mp3", "a/2.mp3", "b/c/1.mp3"]),
        lambda: Taxonomy.flat("ab"),
        folder.NOTICE,
    ),
    "synthetic": Case(
        synthetic,
        lambda: synthetic.metadata_table(synthetic.plan_corpus(synthetic.SyntheticConfig())),
        lambda: Taxonomy.flat(synthetic.GENRES),
        synthetic.SYNTHETIC_NOTICE,
    ),
}

pytestmark = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def test_it_says_what_it_is(case: Case) -> None:
    corpus = case.corpus
    names = ["TITLE", "LICENSE", "PROVENANCE"] + (["CITATION", "URL"] if corpus is not synthetic else [])
    for name in names:
        value = getattr(corpus, name)
        assert isinstance(value, str)
        assert value.strip() == value
        assert value
    assert corpus.__doc__
    # A sentence that can stand under a figure, and that survives a catalog.
    assert case.notice.endswith(".")
    assert "\n" not in case.notice
    assert schema.notices_of(schema.with_notices(schema.CATALOG, [case.notice])) == (case.notice,)
    json.dumps(case.notice)


def test_columns_are_a_catalogs(case: Case) -> None:
    table = case.table()
    assert table.num_rows
    assert table.column_names[0] == "track_id"
    assert set(table.column_names[1:]) <= set(FACTS)
    for field in table.schema:
        assert field.type == schema.CATALOG.field(field.name).type
    assert case.corpus is synthetic or tuple(table.column_names[1:]) == FACTS


def test_each_track_once_in_order_of_its_path(case: Case) -> None:
    ids = case.table()["track_id"].to_pylist()
    assert ids == sorted(set(ids))
    for track_id in ids:
        assert track_id == "/".join(part for part in track_id.split("/") if part not in ("", ".", ".."))


def test_splits(case: Case) -> None:
    assert set(case.table()["split"].to_pylist()) <= {"train", "validation", "test", None}


def test_no_artist_is_on_two_sides(case: Case) -> None:
    table = case.table()
    if case.corpus is synthetic or case.corpus.ARTISTS_APART:
        known = table.filter(pc.and_(table["artist_id"].is_valid(), table["split"].is_valid()))
        assert known.num_rows
        sides = known.group_by("artist_id").aggregate([("split", "count_distinct")])
        assert pc.max(sides["split_count_distinct"]).as_py() == 1
    else:
        assert table["artist_id"].null_count == table.num_rows


def test_genres_are_of_its_taxonomy(case: Case) -> None:
    table, names = case.table(), set(case.genres().names)
    tops = set(table["genre_top"].to_pylist()) - {None}
    assert tops
    assert tops <= names
    for row in table.select([name for name in ("genre_top", "genres") if name in table.column_names]).to_pylist():
        genres = row.get("genres")
        # No genre is null: an empty list, or an empty name, would be a genre invented.
        assert genres is None or (genres and set(genres) <= names and len(set(genres)) == len(genres))
        assert row["genre_top"] is None or genres is None or row["genre_top"] in genres


def test_durations_are_of_music(case: Case) -> None:
    table = case.table()
    if "duration_seconds" in table.column_names and table["duration_seconds"].null_count < table.num_rows:
        assert pc.min(table["duration_seconds"]).as_py() >= 0
        assert pc.max(table["duration_seconds"]).as_py() < 24 * 3600
