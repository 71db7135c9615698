"""A decoder that hangs, dies or takes all memory inside a real Ray run costs its own file, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cluster.labels.plan import PLAN, PlanRequest
from cluster.labels.table import LabelsTable
from cluster.session.profiles import Profile
from cluster.session.progress import watch_progress
from cluster.storage.uri import Uri
from cluster.streams.listening import ListenRequest
from cluster.streams.predicting import stage_answers
from cluster.streams.sinks import Staging
from mgc.bundle import load_bundle
from mgc.labeling.rows import Lineage
from pipelines.catalogs.sources import list_source
from tests.cluster.streams.decoders import DIES, EATS, HANGS, treacherous
from tests.support.good_files import good_files

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("default")]


def test_each_treacherous_file_is_quarantined_alone(ray_session: Profile, tmp_path: Path) -> None:
    music = tmp_path / "music"
    music.mkdir()
    wav = next(file for file in good_files() if file.name.endswith(".wav"))
    files = {f"{number:02}.wav": wav.data for number in range(21)}
    wanted: dict[str, str | None] = dict.fromkeys(files)
    for name, end, kind in (
        ("03.wav", HANGS, "timeout"),
        ("04.wav", DIES, "decoder_crash"),
        ("12.wav", EATS, "too_large"),
        ("20.wav", DIES, "decoder_crash"),
    ):
        files[name] += end
        wanted[name] = kind
    for name, data in files.items():
        (music / name).write_bytes(data)
    tracks, _ = list_source(Uri.of_path(music))
    bundle = load_bundle()
    table = LabelsTable(Uri.of_path(tmp_path / "labels"))
    plan = table.plan(tracks, PlanRequest(bundle.id, bundle.features_id))
    uri = table.run(plan).freeze()
    lineage = Lineage(bundle.id, bundle.features_id, plan.key)
    with watch_progress("labeling", "tracks", plan.todo.num_rows) as progress:
        request = ListenRequest(
            uri,
            plan.todo.num_rows,
            PLAN,
            replace(bundle.experiment.hearing, decoders=[treacherous]),
            patience_seconds=10.0,
        )
        stage_answers(request, bundle, lineage, Staging(table.run(plan).staged_uri), ray_session, progress)
    table.commit(plan, plan.key, datetime.now(UTC))
    rows = {row["track_id"]: row for row in table.dataset().to_table().to_pylist()}
    assert {name: row["error_kind"] for name, row in rows.items()} == wanted
    assert all((row["genre_top"] is None) == (wanted[name] is not None) for name, row in rows.items())
    assert "was stopped" in rows["03.wav"]["error_message"]
    assert "SIGABRT" in rows["04.wav"]["error_message"]
    # What hung or died is tried again the next night; what was too much for its memory is not.
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    again = table.plan(tracks, PlanRequest(bundle.id, bundle.features_id, at=tomorrow))
    assert {row["track_id"]: row["reason"] for row in again.todo.to_pylist()} == dict.fromkeys(
        ("03.wav", "04.wav", "20.wav"), "retry"
    )
