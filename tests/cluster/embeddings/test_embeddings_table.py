"""The table of embeddings: planned, staged and committed as labels are, without Ray."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.embeddings.table import EmbeddingsTable
from cluster.labels.log import RUN_FACTS
from cluster.labels.policy import Policy
from cluster.labels.table import LabelsTable
from cluster.storage import files
from cluster.storage.uri import Uri
from cluster.streams.sinks import AnswersSink, Staging
from cluster.tables.parquet import write_part
from mgc import schema
from mgc.errors import ErrorKind, LabelsError
from mgc.labeling.retries import FIRST_WAIT
from mgc.labeling.rows import EMBEDDED, Lineage
from tests.support.damage import flip_bit
from tests.support.nights import (
    NOW,
    embedded,
    embedding_night,
    heard,
    held,
    lineage_of,
    night,
    planned,
    reasons,
    refusal,
)

TRACKS = {"a": "1", "b": "1", "c": "1"}
VECTORS = {"a": [1.0, 2.0], "b": [3.0, 4.0], "c": [5.0, 6.0]}


@pytest.fixture
def uri(tmp_path: Path) -> Uri:
    return Uri.of_path(tmp_path / "embeddings")


def rows(uri: Uri) -> dict[str, dict[str, Any]]:
    return held(uri, EmbeddingsTable)


def answers(plan: Any, outcomes: dict[str, str] | None = None) -> pa.Table:
    """What the stage hands to the sink: label rows with embeddings."""
    labels = heard(plan.todo, plan, outcomes)
    both = embedded(labels, plan, VECTORS)
    for field in EMBEDDED:
        labels = labels.append_column(field, both[field.name])
    return labels


def test_a_run_has_an_embedding_or_a_reason_for_every_track(uri: Uri) -> None:
    plan = embedding_night(uri, TRACKS, {"b": ErrorKind.CORRUPT_STREAM}, vectors=VECTORS)
    table = EmbeddingsTable(uri)
    assert table.dataset().schema.names == schema.EMBEDDINGS.names
    found = rows(uri)
    assert {track: row["embedding"] for track, row in found.items()} == {"a": [1, 2], "b": None, "c": [5, 6]}
    assert {track: row["windows"] for track, row in found.items()} == {"a": 3, "b": None, "c": 3}
    assert {track: row["error_kind"] for track, row in found.items()} == {"a": None, "b": "corrupt_stream", "c": None}
    assert found["b"]["error_message"] == "no good"
    for row in found.values():
        assert (row["model_id"], row["features_id"], row["run_id"]) == ("model-1", "features-1", plan.key)
        assert row["embedded_at"] == NOW
        assert row["uri"] == f"s3://music/{row['track_id']}.mp3"
        assert row["content_tag"] == "1"
    [entry] = table.delta.history()
    counts = json.loads(entry[RUN_FACTS])["counts"]
    assert (counts["new"], counts["labeled"], counts["quarantined"]) == (3, 2, 1)


def test_the_next_plan_has_what_is_new_changed_or_of_another_model(uri: Uri) -> None:
    embedding_night(uri, TRACKS)
    assert planned(EmbeddingsTable(uri), TRACKS).empty
    later = {"a": "1", "b": "2", "d": "1"}
    plan = planned(EmbeddingsTable(uri), later)
    assert reasons(plan) == {"b": "changed", "d": "new"}
    assert plan.removed["track_id"].to_pylist() == ["c"]
    assert set(reasons(planned(EmbeddingsTable(uri), TRACKS, model="model-2")).values()) == {"other_model"}
    assert set(reasons(planned(EmbeddingsTable(uri), TRACKS, features="features-2")).values()) == {"other_model"}

    embedding_night(uri, later, vectors={"b": [9.0, 9.0]})
    found = rows(uri)
    assert found["b"]["embedding"] == [9, 9]
    assert found["c"]["removed_at"] == NOW
    assert found["c"]["embedding"] is not None
    assert reasons(planned(EmbeddingsTable(uri), TRACKS))["c"] == "new"
    embedding_night(uri, {"a": "1"}, policy=Policy(gone="prune"))
    assert set(rows(uri)) == {"a"}


def test_an_error_that_may_pass_is_tried_again(uri: Uri) -> None:
    embedding_night(uri, TRACKS, {"a": ErrorKind.TIMEOUT, "b": ErrorKind.NOT_AUDIO})
    assert planned(EmbeddingsTable(uri), TRACKS, at=NOW).counts.waiting == 1
    due = NOW + FIRST_WAIT
    assert reasons(planned(EmbeddingsTable(uri), TRACKS, at=due)) == {"a": "retry"}
    everything = planned(EmbeddingsTable(uri), TRACKS, at=NOW, policy=Policy(retry_all=True))
    assert reasons(everything) == {"a": "retry", "b": "retry"}
    embedding_night(uri, TRACKS, at=due, planned_at=due, vectors=VECTORS)
    assert rows(uri)["a"]["embedding"] == [1, 2]
    assert rows(uri)["a"]["error_kind"] is None


def test_a_failure_takes_no_embedding_away(uri: Uri) -> None:
    embedding_night(uri, TRACKS, vectors=VECTORS)
    changed = TRACKS | {"a": "2"}
    tomorrow = NOW + timedelta(days=1)
    embedding_night(uri, changed, {"a": ErrorKind.CORRUPT_STREAM}, tomorrow)
    row = rows(uri)["a"]
    assert row["embedding"] == [1, 2]
    assert (row["content_tag"], row["tried_content_tag"]) == ("1", "2")
    assert (row["error_kind"], row["last_error_kind"]) == (None, "corrupt_stream")
    assert row["stale_since"] == tomorrow
    assert row["embedded_at"] == NOW
    assert planned(EmbeddingsTable(uri), changed).empty
    embedding_night(uri, TRACKS | {"a": "3"}, at=tomorrow, vectors={"a": [7.0, 8.0]})
    assert rows(uri)["a"]["embedding"] == [7, 8]
    assert rows(uri)["a"]["stale_since"] is None


class TestTwoTables:
    """`mgc label --embeddings`: two plans, two folders of staged rows, two commits."""

    def test_the_sink_stages_each_tables_rows(self, uri: Uri, tmp_path: Path) -> None:
        plan = planned(EmbeddingsTable(uri), TRACKS)
        one, other = Uri.of_path(tmp_path / "one"), Uri.of_path(tmp_path / "other")
        wide, origin = answers(plan, {"b": ErrorKind.SILENT}), Lineage("the ears", "the front end", "the run")
        assert AnswersSink(Staging(one, other, origin), 1).write([wide, wide.slice(0, 0)], None) == 3
        [file] = files.list_uris(one)
        assert files.read_table(file).schema.names == schema.LABELS.names
        [file] = files.list_uris(other)
        staged = files.read_table(file)
        assert staged.schema.equals(schema.EMBEDDINGS)
        for name, value in (("model_id", "the ears"), ("features_id", "the front end"), ("run_id", "the run")):
            assert staged[name].to_pylist() == [value] * 3
        assert staged["embedding"].to_pylist() == [[1, 2], None, [5, 6]]

        alone = Uri.of_path(tmp_path / "alone")
        AnswersSink(Staging(embeddings=alone, embedded=origin), 1).write([wide], None)
        assert len(files.list_uris(alone)) == 1

    @pytest.mark.parametrize("lost", [False, True], ids=["staged", "damaged"])
    def test_a_kill_between_the_commits_is_mended(self, uri: Uri, tmp_path: Path, lost: bool) -> None:
        """The next run finds the embeddings staged, and enters them. It hears again only what is damaged."""
        labels_uri = Uri.of_path(tmp_path / "labels")
        labels, embeddings = LabelsTable(labels_uri), EmbeddingsTable(uri)
        plans = planned(labels, TRACKS), planned(embeddings, TRACKS)
        runs = labels.run(plans[0]), embeddings.run(plans[1])
        for plan, run in zip(plans, runs, strict=True):
            run.freeze()
            assert run.missing().num_rows == 3, plan.key
        wide = answers(plans[1], {"c": ErrorKind.NOT_AUDIO})
        staging = Staging(runs[0].staged_uri, runs[1].staged_uri, lineage_of(plans[1]))
        for row in range(3):
            AnswersSink(staging, 1).write([wide.slice(row, 1)], None)
        assert [run.missing().num_rows for run in runs] == [0, 0]
        labels.commit(plans[0], plans[0].key, NOW)
        # Here the run is killed.
        assert not EmbeddingsTable(uri).exists
        assert planned(LabelsTable(labels_uri), TRACKS).empty
        if lost:
            file = files.list_uris(runs[1].staged_uri)[0]
            [again] = files.read_table(file)["track_id"].to_pylist()
            files.write_bytes(file, flip_bit(files.read_bytes(file), 0, 100))

        table = EmbeddingsTable(uri)
        plan = planned(table, TRACKS)
        assert plan.key == plans[1].key
        run = table.run(plan)
        missing = run.missing()
        assert missing["track_id"].to_pylist() == ([again] if lost else [])
        if lost:
            AnswersSink(staging, 1).write([wide.filter(pa.compute.equal(wide["track_id"], again))], None)
        table.commit(plan, plan.key, NOW)
        assert {track: row["embedding"] for track, row in rows(uri).items()} == {"a": [1, 2], "b": [3, 4], "c": None}
        assert not files.list_uris(uri / "_runs")

    def test_each_table_keeps_what_it_lacks(self, uri: Uri, tmp_path: Path) -> None:
        """Rows that are staged for both but planned for one enter that one only."""
        labels_uri = Uri.of_path(tmp_path / "labels")
        night(labels_uri, {"a": "1", "b": "1"})
        before = held(labels_uri)
        embedding_night(uri, {"a": "1"}, vectors=VECTORS)
        labels, embeddings = LabelsTable(labels_uri), EmbeddingsTable(uri)
        plans = planned(labels, TRACKS), planned(embeddings, TRACKS)
        assert [sorted(reasons(plan)) for plan in plans] == [["c"], ["b", "c"]]
        wide = answers(plans[1])
        staging = Staging(labels.run(plans[0]).staged_uri, embeddings.run(plans[1]).staged_uri, lineage_of(plans[1]))
        AnswersSink(staging, 1).write([wide], None)
        labels.commit(plans[0], plans[0].key, NOW)
        embeddings.commit(plans[1], plans[1].key, NOW)
        after = held(labels_uri)
        assert after.pop("c")["run_id"] == plans[1].key
        assert after == before
        assert {track: row["embedding"] for track, row in rows(uri).items()} == VECTORS


def test_readers_have_a_few_thousand_embeddings_in_memory(uri: Uri) -> None:
    """Of a file that an append wrote, and of one that a merge wrote."""
    tracks = {f"{number:05}": "1" for number in range(5000)}
    embedding_night(uri, tracks)
    embedding_night(uri, dict.fromkeys(tracks, "2"))
    [name] = EmbeddingsTable(uri).delta.file_uris()
    footer = pq.read_metadata(name)
    assert footer.num_rows == 5000
    assert max(footer.row_group(number).num_rows for number in range(footer.num_row_groups)) <= 4096


def test_damage_does_not_spread(uri: Uri) -> None:
    embedding_night(uri, TRACKS)
    [name] = [file for file in files.list_uris(uri) if file.name.endswith(".parquet") and "/_" not in file.path]
    table = EmbeddingsTable(uri)
    plan = planned(table, TRACKS | {"d": "1"})
    files.write_bytes(name, flip_bit(files.read_bytes(name), 0, 100))
    write_part(table.run(plan).staged_uri, embedded(heard(plan.todo, plan), plan))
    assert name.name in refusal(table.commit, plan, plan.key, NOW)


def test_a_table_of_the_other_kind_is_refused(uri: Uri, tmp_path: Path) -> None:
    labels_uri = Uri.of_path(tmp_path / "labels")
    night(labels_uri, {"a": "1"})
    embedding_night(uri, {"a": "1"})
    assert "embedding" in refusal(EmbeddingsTable, labels_uri, error=LabelsError)
    assert "status" in refusal(LabelsTable, uri, error=LabelsError)
