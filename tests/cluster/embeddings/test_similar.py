"""What sounds alike: compared with NumPy over the whole table at once."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.embeddings import duplicates, search
from cluster.embeddings.duplicates import Duplicates, find_duplicates
from cluster.embeddings.search import find_similar
from cluster.embeddings.table import EmbeddingsTable
from cluster.embeddings.vectors import Model
from cluster.labels.policy import Policy
from cluster.storage.uri import Uri
from mgc import schema
from mgc.errors import ErrorKind
from pipelines.command.job import run
from pipelines.similar import command
from pipelines.training.labelled_embeddings import read_labelled
from tests.support.draws import draws
from tests.support.nights import NOW, embedding_night, refusal


@pytest.fixture
def uri(tmp_path: Path) -> Uri:
    return Uri.of_path(tmp_path / "embeddings")


@pytest.fixture(params=[3, 4096], ids=["small blocks", "one block"])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Embeddings in memory at a time."""
    for module in (search, duplicates):
        monkeypatch.setattr(module, "VECTORS_AT_ONCE", request.param)
    monkeypatch.setattr(duplicates, "_BLOCK", request.param)
    monkeypatch.setattr(duplicates, "_TILE", 2)


def table_of(
    uri: Uri,
    vectors_ND: np.ndarray,
    durations: list[float | None] | None = None,
    tolerances: list[float | None] | None = None,
    tags: list[str] | None = None,
    models: list[str] | None = None,
) -> EmbeddingsTable:
    """A table of these rows, in files of five."""
    count = len(vectors_ND)
    columns: dict[str, list[object]] = {
        "track_id": [f"{row:03}.mp3" for row in range(count)],
        "uri": [f"s3://music/{row:03}.mp3" for row in range(count)],
        "content_tag": list(tags or map(str, range(count))),
        "embedding": vectors_ND.tolist(),
        "windows": [1] * count,
        "duration_seconds": list(durations or [30.0] * count),
        "tolerance_seconds": list(tolerances or [0.0] * count),
        "tries": [1] * count,
        "model_id": list(models or ["m"] * count),
        "features_id": ["f"] * count,
        "run_id": ["r"] * count,
        "embedded_at": [NOW] * count,
    }
    rows = pa.table(
        [
            pa.array(columns[field.name], field.type) if field.name in columns else pa.nulls(count, field.type)
            for field in schema.EMBEDDINGS
        ],
        schema=schema.EMBEDDINGS,
    )
    for first in range(0, max(count, 1), 5):
        write_deltalake(uri.path, rows.slice(first, 5), mode="append")
    return EmbeddingsTable(uri)


def cosines(vectors_ND: np.ndarray) -> np.ndarray:
    units_ND = vectors_ND.astype(np.float64) / np.linalg.norm(vectors_ND.astype(np.float64), axis=1, keepdims=True)
    return units_ND @ units_ND.T


@pytest.mark.usefixtures("blocks")
class TestSimilar:
    def test_is_what_numpy_says(self, uri: Uri) -> None:
        drawn_ND = np.random.default_rng(3).normal(size=(17, 24)).astype(np.float32)
        wanted_NN = cosines(drawn_ND)
        table = table_of(uri, drawn_ND)
        for track in (0, 4, 16):
            found = find_similar(table, f"{track:03}.mp3", 5)
            order = [row for row in np.argsort(-wanted_NN[track], kind="stable") if row != track][:5]
            assert [each.track_id for each in found] == [f"{row:03}.mp3" for row in order]
            assert [each.uri for each in found] == [f"s3://music/{row:03}.mp3" for row in order]
            np.testing.assert_allclose([each.similarity for each in found], wanted_NN[track, order], atol=1e-6)
        assert len(find_similar(table, "004.mp3", 100)) == 16

    def test_of_equal_ones_the_first_by_name(self, uri: Uri) -> None:
        table = table_of(uri, np.tile(np.float32([[3.0, 4.0]]), (11, 1)))
        assert [each.track_id for each in find_similar(table, "005.mp3", 3)] == ["000.mp3", "001.mp3", "002.mp3"]
        assert max(each.similarity for each in find_similar(table, "005.mp3", 3)) == pytest.approx(1.0)

    def test_only_the_same_model_counts(self, uri: Uri) -> None:
        table = table_of(uri, np.eye(4, dtype=np.float32) + 1, models=["m", "other", "m", "other"])
        assert [each.track_id for each in find_similar(table, "000.mp3", 9)] == ["002.mp3"]
        assert [each.track_id for each in find_similar(table, "003.mp3", 9)] == ["001.mp3"]

    def test_a_silent_embedding_is_like_nothing(self, uri: Uri) -> None:
        table = table_of(uri, np.float32([[0, 0], [1, 0], [1, 1]]))
        assert [each.similarity for each in find_similar(table, "000.mp3", 9)] == [0.0, 0.0]

    def test_tracks_that_are_gone_or_failed_are_no_neighbours(self, uri: Uri) -> None:
        embedding_night(uri, dict.fromkeys("abcd", "1"), {"c": ErrorKind.NOT_AUDIO})
        embedding_night(uri, dict.fromkeys("abc", "1"), policy=Policy(gone="mark"))
        table = EmbeddingsTable(uri)
        assert [each.track_id for each in find_similar(table, "a", 9)] == ["b"]
        assert "not_audio: no good" in refusal(find_similar, table, "c", 9)
        assert "'e'" in refusal(find_similar, table, "e", 9)
        assert f"'d' left the catalog; a run found it gone on {NOW:%Y-%m-%d %H:%M} UTC" in refusal(
            find_similar, table, "d", 9
        )


def groups(found: Duplicates) -> list[list[str]]:
    return [[copy.track_id for copy in group] for group in found.groups]


def agree(one: tuple[float | None, float], other: tuple[float | None, float], seconds: float) -> bool:
    """Whether two durations, each with its tolerance, can be those of one recording."""
    if one[0] is None or other[0] is None:
        return True
    return abs(one[0] - other[0]) <= seconds + one[1] + other[1]


@st.composite
def catalogs(draw: st.DrawFn) -> tuple[np.ndarray, list[tuple[float | None, float]]]:
    """Copies of a few recordings, and strangers, in any order."""
    angle = st.integers(0, 40)
    length = st.tuples(
        st.one_of(st.none(), st.sampled_from([30.0, 31.0, 33.0, 90.0])), st.sampled_from([0.0, 0.5, 3.0])
    )
    rows = draw(st.lists(st.tuples(angle, length), min_size=1, max_size=14))
    turned = np.radians([[each * 3.0] for each, _ in rows])
    return np.hstack([np.cos(turned), np.sin(turned)]).astype(np.float32), [each for _, each in rows]


@pytest.mark.parametrize("block", [2, 8192])
@pytest.mark.draws
@settings(max_examples=draws(60))
@given(catalogs())
def test_groups_are_those_that_all_pairs_give(
    block: int, tmp_path_factory: pytest.TempPathFactory, catalog: tuple[np.ndarray, list[tuple[float | None, float]]]
) -> None:
    """A step of the circle is 3 degrees, and the threshold is 7, so that no cosine is near it."""
    vectors_ND, lengths = catalog
    threshold, seconds = float(np.cos(np.radians(7.0))), 1.5
    table = table_of(
        Uri.of_path(tmp_path_factory.mktemp("t") / "embeddings"),
        vectors_ND,
        [each[0] for each in lengths],
        [each[1] for each in lengths],
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "VECTORS_AT_ONCE", block)
        patch.setattr(duplicates, "_BLOCK", block)
        patch.setattr(duplicates, "_TILE", max(1, block // 2))
        found = find_duplicates(table, threshold, seconds)
    cosine_NN = cosines(vectors_ND)
    group = list(range(len(vectors_ND)))
    best = dict.fromkeys(group, -1.0)
    for one, other in combinations(range(len(vectors_ND)), 2):
        if cosine_NN[one, other] >= threshold and agree(lengths[one], lengths[other], seconds):
            old, new = sorted((group[one], group[other]))[::-1]
            group = [new if each == old else each for each in group]
            for track in (one, other):
                best[track] = max(best[track], cosine_NN[one, other])
    wanted = [[row for row, each in enumerate(group) if each == root] for root in sorted(set(group))]
    wanted = [rows for rows in wanted if len(rows) > 1]
    assert groups(found) == [[f"{row:03}.mp3" for row in rows] for rows in wanted]
    assert found.compared == len(vectors_ND)
    for copies, rows in zip(found.groups, wanted, strict=True):
        np.testing.assert_allclose([copy.similarity for copy in copies], [best[row] for row in rows], atol=1e-6)


@pytest.mark.usefixtures("blocks")
class TestDuplicates:
    def test_says_what_is_the_same_file_and_what_is_another_format(self, uri: Uri) -> None:
        vectors_ND = np.float32([[1, 0], [0, 1], [1, 0], [1, 0.01], [0, 1.0]])
        table = table_of(uri, vectors_ND, tags=["x", "y", "x", "z", "w"])
        found = find_duplicates(table, 0.99, 2.0)
        assert groups(found) == [["000.mp3", "002.mp3", "003.mp3"], ["001.mp3", "004.mp3"]]
        assert [copy.by for copy in found.groups[0]] == ["content", "content", "embedding"]
        assert [copy.by for copy in found.groups[1]] == ["embedding", "embedding"]

    def test_counts_what_another_model_embedded(self, uri: Uri) -> None:
        table = table_of(uri, np.ones((5, 2), np.float32), models=["m", "n", "m", "m", "n"])
        found = find_duplicates(table, 0.99, 2.0)
        assert (found.compared, found.left_out) == (3, 2)
        assert groups(found) == [["000.mp3", "002.mp3", "003.mp3"]]

    def test_tracks_that_are_gone_are_no_duplicates(self, uri: Uri) -> None:
        alike = {track: [1.0, 2.0] for track in "abcd"}
        embedding_night(uri, dict.fromkeys(alike, "1"), vectors=alike)
        embedding_night(uri, dict.fromkeys("abc", "1"), vectors=alike, policy=Policy(gone="mark"))
        found = find_duplicates(EmbeddingsTable(uri), 0.99, 2.0)
        assert (groups(found), found.compared) == ([["a", "b", "c"]], 3)

    def test_finds_nothing_in_nothing(self, uri: Uri) -> None:
        embedding_night(uri, {"a": "1"}, {"a": ErrorKind.NOT_AUDIO})
        assert find_duplicates(EmbeddingsTable(uri), 0.99, 2.0) == Duplicates((), 0, 0)

    def test_equal_embeddings_reach_the_highest_threshold(self, uri: Uri) -> None:
        drawn_ND = np.random.default_rng(0).normal(size=(6, 50)).astype(np.float32)
        table = table_of(uri, np.concatenate([drawn_ND, drawn_ND * 3]))
        assert [len(group) for group in find_duplicates(table, 1.0, 0.0).groups] == [2] * 6

    def test_a_crowd_is_one_group(self, uri: Uri) -> None:
        found = find_duplicates(table_of(uri, np.ones((40, 3), np.float32)), 0.99, 2.0)
        assert [len(group) for group in found.groups] == [40]


def test_embeddings_of_one_model_that_differ_in_length_are_refused(uri: Uri) -> None:
    table_of(uri, np.ones((3, 2), np.float32))
    other = table_of(uri, np.ones((1, 3), np.float32), tags=["other"])
    assert str(uri) in refusal(find_similar, other, "001.mp3", 3)
    assert str(uri) in refusal(find_duplicates, other, 0.99, 2.0)


@pytest.mark.parametrize("number", [1e38, -3e30, np.inf, np.nan])
def test_numbers_that_are_damage_are_refused(uri: Uri, number: float) -> None:
    """In one line, and without a warning of NumPy, which would be an error here."""
    vectors_ND = np.eye(5, dtype=np.float32) + 1
    vectors_ND[3, 2] = number
    table = table_of(uri, vectors_ND)
    for ask, arguments in (
        (find_similar, ("000.mp3", 3)),
        (find_similar, ("003.mp3", 3)),
        (find_duplicates, (0.9, 2.0)),
    ):
        line = refusal(ask, table, *arguments)
        assert f"{uri}: " in line
        assert f"{number:g}" in line
    labels = pa.table(
        {"track_id": ["000.mp3", "003.mp3"], "genre_top": ["a", "b"], "artist_id": ["x", "y"], "split": [None, None]}
    )
    model = Model("m", "f")
    assert f"{number:g}" in refusal(read_labelled, table, model, labels, "catalog", 0, "")


def test_the_largest_numbers_can_be_compared(uri: Uri) -> None:
    largest = schema.LARGEST_NUMBER
    vectors_ND = np.float32([[largest, 0], [largest, largest], [1, 0]])
    found = find_similar(table_of(uri, vectors_ND), "000.mp3", 2)
    assert [round(each.similarity, 4) for each in found] == [1.0, 0.7071]


@pytest.mark.parametrize("words", [[], ["a.mp3", "--duplicates"]])
def test_the_command_wants_a_track_or_duplicates(uri: Uri, words: list[str]) -> None:
    assert run(command, [uri.text, *words]) == 2


@pytest.mark.cluster
def test_a_table_in_a_bucket(bucket_uri: str) -> None:
    uri = Uri.parse(bucket_uri) / "embeddings"
    alike = {"a": [1.0, 2.0], "b": [2.0, -1.0], "c": [1.0, 2.01]}
    embedding_night(uri, dict.fromkeys(alike, "1"), vectors=alike)
    embedding_night(uri, dict.fromkeys(alike, "1") | {"d": "1"}, vectors={"d": [2.0, -1.01]})
    table = EmbeddingsTable(uri)
    assert [each.track_id for each in find_similar(table, "d", 2)] == ["b", "a"]
    assert groups(find_duplicates(table, 0.99, 2.0)) == [["a", "c"], ["b", "d"]]
