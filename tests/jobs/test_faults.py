"""Whole runs against a store that misbehaves, and nights that read no more than they must: requests are counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cluster.labels.diff import diff
from cluster.labels.table import LabelsTable
from cluster.session.profiles import Profile
from cluster.storage import files
from cluster.storage.listing import list_audio
from cluster.storage.uri import Uri
from mgc import schema
from mgc.audio.recording import SMALL_BYTES
from mgc.bundle import Bundle
from mgc.bundle_names import BundleName
from mgc.features.front_end import build_front_end
from mgc.features.normalization import Normalization
from mgc.labeling.canary import CANARIES
from mgc.models.architecture import build_model
from mgc.models.house import HouseCnnConfig
from mgc.recipes.house import house
from mgc.taxonomy import Taxonomy
from pipelines import catalog
from pipelines.command.job import Summary, run
from pipelines.labels import command as labels_words
from pipelines.nights.label import label
from pipelines.nights.requests import LabelRequest, NightRequest
from tests.support.damage import damaged_files
from tests.support.fault_proxy import TRANSIENT, Fault, Faults, Proxy
from tests.support.good_files import good_files
from tests.support.object_store import ObjectStore

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("default")]

TRACKS = 100

DAMAGED = {"040.mp3": "not_audio"}
"""1 % of the files: what they are quarantined for."""

DENIED, DELETED, REPLACED = "050.mp3", "051.mp3", "052.mp3"
"""What happens to these after the catalog was made."""

NEW, CHANGED, GONE = ("100.mp3",), ("010.mp3",), ("020.mp3",)
"""What the second night finds."""


@dataclass
class Nights:
    """A bucket with music, a catalog and a labels table, and the nights so far."""

    uri: str
    proxy: Proxy
    profile: Profile
    patch: pytest.MonkeyPatch
    faulty: list[Any] = field(default_factory=list)
    summaries: list[Summary] = field(default_factory=list)

    @property
    def bucket(self) -> str:
        return Uri.parse(self.uri).bucket

    def put(self, tracks: dict[str, bytes]) -> None:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda name: files.write_bytes(Uri.parse(f"{self.uri}/audio/{name}"), tracks[name]), tracks))

    def make_catalog(self) -> None:
        assert run(catalog.command, [f"{self.uri}/audio", "--out", f"{self.uri}/catalog.parquet"]) == 0

    def label(self, days: float = 0, bundle: Uri | BundleName = BundleName.DEFAULT) -> Counter[str]:
        """One night, so many days from now; how often each track was asked for."""
        self.proxy.forget()
        with self.patch.context() as patch:
            at = datetime.now(UTC) + timedelta(days=days)
            plan = LabelsTable.plan
            patch.setattr(LabelsTable, "plan", lambda table, rows, asked: plan(table, rows, replace(asked, at=at)))
            night = NightRequest(Uri.parse(f"{self.uri}/catalog.parquet"), Uri.parse(f"{self.uri}/labels"), bundle)
            self.summaries.append(label(LabelRequest(night, self.profile)))
        return Counter(request.key.removeprefix("audio/") for request in self.asked())

    def asked(self) -> list[Any]:
        """The requests for music of the last night."""
        return [each for each in self.proxy.requests(None, "audio/*", self.bucket) if each.method in ("GET", "HEAD")]

    def rows(self) -> dict[str, dict[str, Any]]:
        """By track id; fails if one is there twice."""
        rows = LabelsTable(Uri.parse(f"{self.uri}/labels")).dataset().to_table().to_pylist()
        assert len({row["track_id"] for row in rows}) == len(rows)
        return {row["track_id"]: row for row in rows}

    def tags(self) -> dict[str, str]:
        """Of the objects as they are."""
        return {fact.track_id: fact.content_tag for fact in list_audio(Uri.parse(f"{self.uri}/audio"))}


@pytest.fixture(scope="module")
def music() -> list[bytes]:
    """MP3s so small that each is one request, a few seconds long."""
    files = [file.data for file in good_files() if file.extension == ".mp3"][:4]
    assert all(len(data) <= SMALL_BYTES for data in files)
    return files


@pytest.fixture(scope="module")
def first_night(
    ray_session: Profile, object_store: ObjectStore, store_proxy: Proxy, music: list[bytes]
) -> Iterator[Nights]:
    """A hundred tracks, 1 % of them damaged, from a store of which each kind of request fails now and then.

    But for silence, which costs ten seconds: see `test_fetch.py`.
    """
    names = [f"{number:03}.mp3" for number in range(TRACKS)]
    spoiled = {each.damage: each.data for each in damaged_files(25, 0, good_files())}
    tracks = {name: music[number % len(music)] for number, name in enumerate(names)}
    tracks["040.mp3"] = spoiled["html"]
    with pytest.MonkeyPatch.context() as patch:
        nights = Nights(f"s3://{object_store.make_bucket()}", store_proxy, ray_session, patch)
        nights.put(tracks)
        nights.make_catalog()
        bucket = nights.bucket
        with store_proxy.armed(
            Faults((Fault.DENIED,), f"audio/{DENIED}", bucket),
            Faults(
                (),
                f"audio/{DELETED}",
                bucket,
                nth=(1,),
                call=lambda _: files.delete(Uri.parse(f"{nights.uri}/audio/{DELETED}")),
            ),
            Faults(
                (), f"audio/{REPLACED}", bucket, nth=(1,), call=lambda _: nights.put({REPLACED: music[-1] + bytes(9)})
            ),
            Faults(TRANSIENT, "audio/*", bucket, rate=0.1, seed=1),
            Faults((Fault.SLOW_DOWN, Fault.ERROR, Fault.RESET), "labels/*", bucket, ("GET", "HEAD"), nth=(1,)),
            Faults((Fault.SLOW_DOWN, Fault.ERROR), "labels/*", bucket, ("PUT", "POST"), nth=(1,)),
        ):
            nights.label()
            nights.faulty = store_proxy.requests(None, "*", bucket)
        yield nights


def test_every_track_is_accounted_for(first_night: Nights) -> None:
    rows, tags = first_night.rows(), first_night.tags()
    assert sorted(rows) == [f"{number:03}.mp3" for number in range(TRACKS)]
    met = Counter(request.fault for request in first_night.faulty if request.key.startswith("audio/"))
    assert set(met) == {*TRANSIENT, Fault.DENIED, None}
    assert sum(met[fault] for fault in TRANSIENT) > 0.05 * TRACKS
    failed = {
        DENIED: "AccessDenied",
        DELETED: "it is not there any more",
        REPLACED: "it was replaced since the catalog",
    }
    for name, row in rows.items():
        if name in failed:
            assert row["error_kind"] == "fetch_failed"
            assert failed[name] in row["error_message"]
            assert "\n" not in row["error_message"]
            assert row["next_try_at"] > row["labeled_at"]
        else:
            assert (row["status"], row["error_kind"]) == (
                (schema.QUARANTINED, DAMAGED[name]) if name in DAMAGED else (schema.LABELED, None)
            )
            assert row["next_try_at"] is None
            # What was decoded is what lies there under that tag.
            assert row["content_tag"] == tags[name]
    assert rows[REPLACED]["content_tag"] != tags[REPLACED]
    assert first_night.summaries[0].counts["quarantined"] == len(DAMAGED) + len(failed)
    assert {request.fault for request in first_night.faulty if request.key.startswith("labels/")} > {None, Fault.ERROR}


def test_what_is_not_due_is_not_asked_for(first_night: Nights) -> None:
    """The same catalog again, at once."""
    before = first_night.rows()
    assert first_night.label() == {}
    assert first_night.summaries[-1].status == "up_to_date"
    assert first_night.summaries[-1].counts["waiting"] == 3
    assert first_night.rows() == before


@pytest.fixture(scope="module")
def second_night(first_night: Nights, music: list[bytes]) -> tuple[Nights, Counter[str]]:
    """1 % new, 1 % changed, 1 % deleted."""
    first_night.put({name: music[0] + bytes(7) for name in (*NEW, *CHANGED)})
    for name in GONE:
        files.delete(Uri.parse(f"{first_night.uri}/audio/{name}"))
    first_night.make_catalog()
    return first_night, first_night.label(days=1)


def test_only_what_is_new_or_changed_or_due_is_read(second_night: tuple[Nights, Counter[str]]) -> None:
    nights, asked = second_night
    # Once each, and besides them only the canaries: no other track is even looked at.
    due = Counter((*NEW, *CHANGED, REPLACED, DENIED))
    canaries = asked - due
    assert asked == due + canaries
    assert list(canaries.values()) == [1] * CANARIES
    assert not canaries.keys() & due.keys()
    counts = nights.summaries[-1].counts
    assert {name: counts[name] for name in ("new", "changed", "retry", "removed")} == {
        "new": len(NEW),
        "changed": len(CHANGED) + 1,
        "retry": 1,
        "removed": len(GONE) + 1,
    }
    assert counts["waiting"] == counts["other_model"] == 0
    rows = nights.rows()
    present = {name: row for name, row in rows.items() if row["removed_at"] is None}
    assert set(rows) - set(present) == {*GONE, DELETED}
    assert {name: row["content_tag"] for name, row in present.items()} == nights.tags()
    assert {name for name, row in present.items() if row["status"] == schema.QUARANTINED} == set(DAMAGED)


def test_a_third_night_with_another_model_and_the_way_back(
    second_night: tuple[Nights, Counter[str]], tmp_path: Path
) -> None:
    nights, _ = second_night
    labels = f"{nights.uri}/labels"
    second = nights.rows()
    experiment = house().override({"model.channels": "8,16"})
    model = build_model(HouseCnnConfig(channels=(8, 16)), build_front_end(experiment.front_end).shape, 2)
    other = Bundle(
        experiment, Taxonomy.flat(["folk", "rock"]), Normalization((100.0,) * 128, (50.0,) * 128), model.eval()
    )
    other.save(tmp_path / "bundle")
    version = LabelsTable(Uri.parse(labels)).version
    asked = nights.label(days=2, bundle=Uri.of_path(tmp_path / "bundle"))
    every = Counter(nights.tags().keys())
    canaries = asked - every
    assert asked == every + canaries
    assert list(canaries.values()) == [1] * CANARIES
    third = nights.rows()
    assert {row["model_id"] for row in third.values() if row["removed_at"] is None} == {other.id}
    assert nights.summaries[-1].counts["other_model"] == TRACKS + len(NEW) - len(GONE) - 1

    flipped = Counter(
        (second[name]["genre_top"], row["genre_top"])
        for name, row in third.items()
        if row["removed_at"] is None and row["status"] == schema.LABELED == second[name]["status"]
        if row["genre_top"] != second[name]["genre_top"]
    )
    found = diff(Uri.parse(labels), version, LabelsTable(Uri.parse(labels)).version, limit=100)
    assert {(before, after): tracks for before, after, tracks, _, _ in found.flips} == flipped
    assert found.counts["flipped"] == flipped.total() > 0
    for each in found.examples["flipped"]:
        name = each["track_id"]
        assert (each["confidence_before"], each["confidence_after"]) == pytest.approx(
            (second[name]["confidence"], third[name]["confidence"])
        )

    assert run(labels_words, ["rollback", labels, str(version)]) == 0
    assert nights.rows() == second
