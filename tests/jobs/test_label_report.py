"""The run report: every number of its JSON against the same number counted in plain Python over the table's rows."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cluster.labels.counts import PlanCounts
from cluster.labels.overrides import OVERRIDES
from cluster.labels.plan import PLAN, Plan, PlanRequest
from cluster.labels.policy import Policy
from cluster.labels.table import LabelsTable
from cluster.storage import files
from cluster.storage.uri import Uri
from cluster.tables.parquet import write_part
from mgc import schema
from mgc.bundle import Bundle, load_bundle
from mgc.bundle_names import BundleName
from mgc.errors import ErrorKind, StorageError
from mgc.evaluation.alarms import Thresholds
from mgc.evaluation.night import LabelsRun
from mgc.evaluation.report import report_json
from mgc.labeling.throughput import Throughput
from pipelines.models.choice import Model
from pipelines.nights.counting import EXAMPLES, PAIRS_SHOWN
from pipelines.nights.report import RunFacts, report_uri, summarize_run, write_report

GENRES = ("Folk", "Jazz", "Pop", "Rock", "Soul")
KINDS = (ErrorKind.TRUNCATED, ErrorKind.FETCH_FAILED, ErrorKind.NOT_AUDIO)
STARTED = datetime(2026, 3, 1, 2, 0, tzinfo=UTC)
MEASURED = Throughput(
    tracks=300, seconds=60.0, startup_seconds=5.0, cores=2, gpus=0, size_bytes=4000, bytes_read=1000,
    audio_seconds=7200.0, heard_seconds=900.0, fetch_seconds=10.0, listen_seconds=70.0, predict_seconds=20.0,
)  # fmt: skip
SECRET = "s3://key:SECRET@music"
SOURCE = Uri.parse("s3://music/catalog.parquet?token=SECRET")


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    shipped = load_bundle()
    # The shipped bundle is an ensemble, which has no history of its own.
    history = ({"epoch": 1, "train_loss": 2.0, "train_accuracy": 0.25},)
    return replace(shipped, training=shipped.training.updated(history=history))


def catalog(tags: Mapping[str, str]) -> pa.Table:
    rows = [
        {"track_id": track, "uri": f"{SECRET}/{track}.mp3", "size_bytes": 7, "content_tag": tag}
        for track, tag in sorted(tags.items())
    ]
    return pa.Table.from_pylist(rows, schema=schema.CATALOG)


def heard(plan: Plan, at: datetime) -> pa.Table:
    """Rows for what is planned: at random, and always the same for the same track, bytes and model."""
    rows = []
    for row in plan.todo.to_pylist():
        chance = random.Random(f"{row['track_id']} {row['content_tag']} {plan.model_id}")
        ranked = chance.sample(GENRES, 3)
        sure = round(chance.uniform(0.3, 1.0), 3)
        answer: dict[str, Any] = {
            "status": schema.LABELED,
            "genre_top": ranked[0],
            "confidence": sure if chance.random() > 0.05 else 1.0,
            "top_k": [{"genre": genre, "probability": sure / place} for place, genre in enumerate(ranked, start=1)],
        }
        if chance.random() < 0.1:
            message = f"cannot read {row['uri']}?X-Amz-Signature=SECRET: it ends"
            answer = {"status": schema.QUARANTINED, "error_kind": chance.choice(KINDS), "error_message": message}
        rows.append(
            {
                **{name: row[name] for name in ("track_id", "uri", "content_tag")},
                **answer,
                "tries": row["tries"] + 1,
                "model_id": plan.model_id,
                "features_id": plan.features_id,
                "run_id": plan.key,
                "labeled_at": at,
            }
        )
    return pa.Table.from_pylist(rows, schema=schema.LABELS)


def night(
    uri: str,
    tags: Mapping[str, str],
    bundle: Bundle,
    model: str = "model-1",
    corrections: Mapping[str, str] | None = None,
    day: int = 0,
    limits: Thresholds | None = None,
) -> LabelsRun:
    """A run without Ray, and its report."""
    table, at = LabelsTable(Uri.parse(uri)), STARTED + timedelta(days=day)
    rows = [
        {"track_id": track, "genre": genre, "by": "ann", "reason": f"it is {genre}"}
        for track, genre in sorted((corrections or {}).items())
    ]
    overrides = None if corrections is None else pa.Table.from_pylist(rows, schema=OVERRIDES)
    asked = PlanRequest(model, "features-1", policy=Policy(overrides=overrides), at=at)
    plan = table.plan(catalog(tags), asked)
    table.run(plan).freeze()
    if plan.todo.num_rows:
        write_part(table.run(plan).staged_uri, heard(plan, at))
    table.commit(plan, plan.key, at)
    facts = RunFacts(plan, SOURCE, STARTED, MEASURED, limits or Thresholds())
    run = summarize_run(table, bundle, facts)
    write_report(table.uri, run, model_of(bundle), ["A notice.", "A notice."])
    return run


def model_of(bundle: Bundle) -> Model:
    """The bundle of a night whose place nobody needs."""
    return Model(bundle, BundleName.SHIPPED, asked=True)


def plan_of(run: LabelsRun) -> Plan:
    """As much of a run's plan as a report needs."""
    version = -1 if run.previous_version is None else run.previous_version
    return Plan(PLAN.empty_table(), pa.table({}), PlanCounts(), version, run.run_id, "model-1", "features-1")


def rows_of(uri: str, version: int) -> dict[str, dict[str, Any]]:
    rows = LabelsTable(Uri.parse(uri), version).dataset().to_table().to_pylist()
    return {row["track_id"]: row for row in rows if row["removed_at"] is None}


def confidences(rows: list[dict[str, Any]]) -> dict[str, Any]:
    values = [row["confidence"] for row in rows if row["confidence"] is not None and row["override_by"] is None]
    bins = Counter(min(19, math.floor(value * 20)) for value in values)
    mean = math.fsum(values) / len(values) if values else None
    return {
        "counts": [bins[place] for place in range(20)],
        "tracks": len(values),
        "mean": None if mean is None else pytest.approx(mean),
    }


def genres(rows: list[dict[str, Any]]) -> dict[str, int]:
    return dict(Counter(row["genre_top"] for row in rows if row["status"] == "labeled"))


def kinds(rows: list[dict[str, Any]]) -> dict[str, int]:
    return dict(Counter(row["error_kind"] for row in rows if row["status"] == "quarantined"))


def flips(before: dict[str, dict[str, Any]], mine: list[dict[str, Any]]) -> tuple[dict[str, int], Counter[Any]]:
    """Counts, and tracks by (genre before, genre now)."""
    compared = [
        (before[row["track_id"]], row)
        for row in mine
        if row["track_id"] in before
        and all(each["status"] == "labeled" and each["override_by"] is None for each in (before[row["track_id"]], row))
    ]
    flipped = [(old, new) for old, new in compared if old["genre_top"] != new["genre_top"]]
    same = [old["content_tag"] == new["content_tag"] for old, new in compared]
    return {
        "compared": len(compared),
        "flipped": len(flipped),
        "compared_same_bytes": sum(same),
        "flipped_same_bytes": sum(old["content_tag"] == new["content_tag"] for old, new in flipped),
    }, Counter((old["genre_top"], new["genre_top"]) for old, new in flipped)


def overrides(rows: list[dict[str, Any]]) -> dict[str, int]:
    corrected = [row for row in rows if row["override_by"] is not None]
    answers = [(row["top_k"][0]["genre"] if row["top_k"] else None, row["genre_top"]) for row in corrected]
    return {
        "total": len(corrected),
        "agreed": sum(model == curator for model, curator in answers),
        "disagreed": sum(model not in (None, curator) for model, curator in answers),
        "unanswered": sum(model is None for model, _ in answers),
    }


def distance(these: dict[str, int], those: dict[str, float]) -> float:
    total, whole = sum(these.values()), sum(those.values())
    return sum(abs(these.get(g, 0) / total - those.get(g, 0) / whole) for g in {*these, *those}) / 2


def check(uri: str, run: LabelsRun) -> dict[str, Any]:
    """Hold the report that lies there against the table's rows."""
    said = json.loads(files.read_bytes(report_uri(Uri.parse(uri), "latest", "json")))
    after = rows_of(uri, said["table_version"])
    before = {} if said["previous_version"] is None else rows_of(uri, said["previous_version"])
    every = list(after.values())
    mine = [row for row in every if row["run_id"] == run.run_id]
    assert said["genre_counts"] == genres(every)
    assert said["run_genre_counts"] == genres(mine)
    assert said["quarantine_by_kind"] == kinds(every)
    assert list(said["quarantine_by_kind"].values()) == sorted(kinds(every).values(), reverse=True)
    assert said["run_quarantine_by_kind"] == kinds(mine)
    assert said["quarantine_total"] == sum(kinds(every).values())
    assert said["counts"]["labeled"] + said["counts"]["quarantined"] == len(mine)
    tried = ("tried_content_tag", "tried_model_id", "tries")
    stale = [row for row in every if row["stale_since"] is not None]
    kept = [row for row in stale if any(row[name] != before[row["track_id"]][name] for name in tried)]
    assert said["counts"]["kept"] == len(kept) == said["counts"]["planned"] - len(mine)
    first = [row for row in (*mine, *kept) if row["tries"] == 1]
    assert said["first_tries"] == Counter(row["error_kind"] or row["last_error_kind"] or "" for row in first)
    assert said["stale_by_kind"] == Counter(row["last_error_kind"] for row in stale)
    assert said["confidence"]["table"] == confidences(every)
    assert said["confidence"]["run"] == confidences(mine)
    expected = overrides(every)
    if expected["total"]:
        assert {name: said["overrides"][name] for name in expected} == expected
    else:
        assert said["overrides"] is None
    if said["previous_version"] is None:
        assert said["flips"] is said["confidence"]["previous"] is said["previous_genre_counts"] is None
        return said
    assert said["previous_genre_counts"] == genres(list(before.values()))
    assert said["confidence"]["previous"] == confidences(list(before.values()))
    counted, pairs = flips(before, mine)
    assert {name: said["flips"][name] for name in counted} == counted
    ranked = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))[:PAIRS_SHOWN]
    assert [((pair["before"], pair["after"]), pair["tracks"]) for pair in said["flips"]["pairs"]] == ranked
    for flip in said["flips"]["examples"]:
        old, new = before[flip["track_id"]], after[flip["track_id"]]
        assert (old["genre_top"], new["genre_top"]) == (flip["before"], flip["after"])
        assert (old["confidence"], new["confidence"]) == (flip["confidence_before"], flip["confidence_after"])
    assert len(said["flips"]["examples"]) == min(PAIRS_SHOWN, counted["flipped"])
    return said


def test_three_nights(tmp_path: Path, bundle: Bundle) -> None:
    uri = str(tmp_path / "labels")
    tags = {f"t{number:03d}": "1" for number in range(300)}
    corrections = {f"t{number:03d}": GENRES[number % 5] for number in range(60)} | {"nobody's": "Pop"}

    first = check(uri, night(uri, tags, bundle, corrections=corrections))
    assert first["counts"]["new"] == 300
    assert first["counts"]["unknown_overrides"] == 1
    assert min(first["overrides"][name] for name in ("agreed", "disagreed", "unanswered")) > 0

    # Some new, changed and gone; corrections of tracks that are heard again, of others, and fewer of them.
    tags = {track: "2" if track.endswith("5") else tag for track, tag in tags.items() if not track.endswith("7")}
    tags |= {f"u{number:03d}": "1" for number in range(40)}
    corrections = {f"t{number:03d}": GENRES[number % 3] for number in range(30, 90)}
    second = check(uri, night(uri, tags, bundle, corrections=corrections, day=1))
    assert (second["counts"]["new"], second["counts"]["changed"], second["counts"]["removed"]) == (40, 30, 30)
    assert second["counts"]["corrected"] > 0
    assert second["counts"]["retried"] > 0
    assert second["flips"]["compared"] > second["flips"]["compared_same_bytes"] == 0

    # Another model hears everything anew; the corrections stay.
    limits = Thresholds(mix_tracks=50, share_tracks=50, genre_mix_training=1.0, confidence_drop=1.0)
    run = night(uri, tags, bundle, model="model-2", day=2, limits=limits)
    third = check(uri, run)
    assert third["counts"]["other_model"] + third["counts"]["waiting"] == third["counts"]["planned"]
    # A stale label is of earlier bytes than those that are heard now.
    old, new = rows_of(uri, 1), rows_of(uri, 2)
    renewed = [track for track, row in old.items() if row["stale_since"] and new[track]["run_id"] == run.run_id]
    healed = [track for track in renewed if new[track]["error_kind"] is None and new[track]["override_by"] is None]
    assert third["flips"]["compared"] - len(healed) == third["flips"]["compared_same_bytes"] > 100
    assert third["overrides"]["total"] == second["overrides"]["total"]
    watched = third["watched"]
    assert watched["flips"] == third["flips"]["flipped_same_bytes"] / third["flips"]["compared_same_bytes"]
    assert watched["genre_mix_last_night"] == pytest.approx(
        distance(third["genre_counts"], third["previous_genre_counts"])
    )
    assert watched["genre_mix_training"] == pytest.approx(
        distance(third["genre_counts"], third["training_genre_share"])
    )
    tried = sum(third["first_tries"].values())
    assert watched["fetch_failed"] == third["first_tries"]["fetch_failed"] / tried
    assert watched["quarantined"] == pytest.approx(1 - third["first_tries"][""] / tried)
    assert [alarm["name"] for alarm in third["alarms"]] == [alarm.name for alarm in run.alarms]
    assert {"quarantined", "fetch_failed", "flips"} <= {alarm["name"] for alarm in third["alarms"]}


def test_examples_and_the_list_begin_with_tracks_of_the_run(
    tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = str(tmp_path / "labels")
    tags = {f"t{number:03d}": "1" for number in range(200)}
    night(uri, tags, bundle)
    run = night(uri, tags | {f"u{number:03d}": "1" for number in range(100)}, bundle, day=0)
    rows = [row for row in rows_of(uri, 1).values() if row["status"] == "quarantined"]
    mine = sorted(row["track_id"] for row in rows if row["run_id"] == run.run_id)
    earlier = sorted(row["track_id"] for row in rows if row["run_id"] != run.run_id)
    assert len(mine) > EXAMPLES
    assert len(earlier) > EXAMPLES
    by_kind = run.run_quarantine_by_kind
    assert set(run.quarantine_examples) == set(run.quarantine_by_kind)
    for kind, examples in run.quarantine_examples.items():
        assert len(examples) == min(EXAMPLES, run.quarantine_by_kind[kind])
        assert {example.error_kind for example in examples} == {kind}
        ours = [example.track_id in mine for example in examples]
        assert ours == [place < by_kind.get(kind, 0) for place in range(len(examples))]
    assert [row.track_id for row in run.quarantine] == mine + earlier
    monkeypatch.setattr("pipelines.nights.report.QUARANTINE_SHOWN", len(mine) + 1)
    run = summarize_run(LabelsTable(Uri.parse(uri)), bundle, RunFacts(plan_of(run), SOURCE, STARTED))
    assert [row.track_id for row in run.quarantine] == [*mine, earlier[0]]
    assert run.quarantine_total == len(mine) + len(earlier)


def test_the_files_of_a_run(tmp_path: Path, bundle: Bundle) -> None:
    uri = str(tmp_path / "labels")
    run = night(uri, {f"t{number:03d}": "1" for number in range(150)}, bundle, corrections={"t001": "Pop"})
    folder = tmp_path / "labels" / "_reports"
    assert {path.name for path in folder.iterdir()} == {
        f"{name}.{ending}" for name in (run.run_id, "latest") for ending in ("html", "json")
    }
    for ending in ("html", "json"):
        text = (folder / f"latest.{ending}").read_text()
        assert text == (folder / f"{run.run_id}.{ending}").read_text()
        assert "SECRET" not in text
        assert "s3://music/catalog.parquet" in text
        assert text.count("A notice.") == 1
    said = json.loads((folder / "latest.json").read_text())
    assert said["quarantine"][0]["uri"] == f"s3://music/{said['quarantine'][0]['track_id']}.mp3"
    assert said["throughput"]["stages"]["predict"] == {"seconds": 20.0, "share": 0.2}
    assert said["throughput"]["tracks_per_second"] == 5.0
    assert said["scores"]["accuracy"] == bundle.evaluation.read_scores().accuracy
    assert len(said["history"]) == len(bundle.training.history)


def test_every_field_is_documented(tmp_path: Path, bundle: Bundle) -> None:
    """The names of all objects, but for those that are themselves data (genres, kinds of error, alarms)."""
    uri = str(tmp_path / "labels")
    tags = {f"t{number:03d}": "1" for number in range(150)}
    night(uri, tags, bundle)
    night(uri, tags, bundle, model="model-2", corrections={"t001": "Pop", "t002": "Pop"})
    said = json.loads((tmp_path / "labels" / "_reports" / "latest.json").read_text())
    data = {"genre_counts", "previous_genre_counts", "run_genre_counts", "training_genre_share", "quarantine_by_kind",
            "run_quarantine_by_kind", "first_tries", "watched", "unwatched", "thresholds", "model", "scores",
            "history"}  # fmt: skip

    def names(value: Any) -> set[str]:
        if isinstance(value, list):
            return set().union(*map(names, value))
        if isinstance(value, dict):
            return set(value) | set().union(*(names(each) for name, each in value.items() if name not in data))
        return set()

    documented = f"{report_json.__doc__} {LabelsRun.to_json.__doc__}"
    kinds_and_stages = {*said["quarantine_by_kind"], "fetch", "decode and features", "predict"}
    assert [name for name in sorted(names(said) - kinds_and_stages) if f"`{name}`" not in documented] == []


def test_a_night_with_nothing_to_hear(tmp_path: Path, bundle: Bundle) -> None:
    uri = str(tmp_path / "labels")
    tags = {"a": "1", "b": "1", "c": "1"}
    night(uri, tags, bundle)
    table = LabelsTable(Uri.parse(uri))
    gone = {track: tag for track, tag in tags.items() if track != "c"}
    plan = table.plan(catalog(gone), PlanRequest("model-1", "features-1", at=STARTED))
    table.commit(plan, plan.key, STARTED)
    run = summarize_run(table, bundle, RunFacts(plan, SOURCE, STARTED, Throughput()))
    assert run.throughput is None
    assert run.counts.removed == 1
    assert run.counts.labeled == run.counts.quarantined == 0
    assert run.flips is not None
    assert run.flips.compared == 0
    assert run.alarms == []
    write_report(table.uri, run, model_of(bundle), [])
    page = files.read_bytes(report_uri(table.uri, "latest", "html")).decode()
    assert 'id="flips"' not in page


def test_data_files_that_are_gone(tmp_path: Path, bundle: Bundle) -> None:
    uri = str(tmp_path / "labels")
    run = night(uri, {"a": "1", "b": "1", "c": "1"}, bundle)
    for path in (tmp_path / "labels").glob("*.parquet"):
        path.unlink()
    table = LabelsTable(Uri.parse(uri))
    with pytest.raises(StorageError, match=uri):
        summarize_run(table, bundle, RunFacts(plan_of(run), SOURCE, STARTED))
