"""A decoder that was taken over tries every way out of its cell in a real Ray run, and costs its own rows."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cluster.labels.plan import PLAN, PlanRequest
from cluster.labels.table import LabelsTable
from cluster.session.local_cluster import still_there
from cluster.session.profiles import Profile
from cluster.session.progress import watch_progress
from cluster.storage.uri import Uri
from cluster.streams.listening import ListenRequest
from cluster.streams.predicting import stage_answers
from cluster.streams.sinks import Staging
from mgc.bundle import load_bundle
from mgc.labeling.rows import Lineage
from pipelines.catalogs.sources import list_source
from tests.cluster.streams.decoders import HANGS, TRIES, taken_over
from tests.support.good_files import good_files
from tests.unit.audio.cell.breakouts import ATTEMPTS

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.drill,
    pytest.mark.filterwarnings("default"),
    pytest.mark.skipif(sys.platform != "linux", reason="other systems have no doors to close"),
]


def test_nothing_gets_out_of_a_run(ray_session: Profile, tmp_path: Path) -> None:
    music = tmp_path / "music"
    music.mkdir()
    wav = next(file for file in good_files() if file.name.endswith(".wav"))
    for name in ATTEMPTS:
        (music / f"{name}.wav").write_bytes(wav.data + TRIES + f"{name}:{os.getpid()}".encode())
        (music / f"{name}-next.wav").write_bytes(wav.data)
    (music / "fork-and-hang.wav").write_bytes(wav.data + TRIES + f"fork:{os.getpid()}".encode() + HANGS)
    tracks, _ = list_source(Uri.of_path(music))
    bundle = load_bundle()
    table = LabelsTable(Uri.of_path(tmp_path / "labels"))
    plan = table.plan(tracks, PlanRequest(bundle.id, bundle.features_id))
    uri = table.run(plan).freeze()
    hearing = replace(bundle.experiment.hearing, decoders=[taken_over])
    request = ListenRequest(uri, plan.todo.num_rows, PLAN, hearing, patience_seconds=10.0)
    before = cells()
    with watch_progress("labeling", "tracks", plan.todo.num_rows) as progress:
        lineage = Lineage(bundle.id, bundle.features_id, plan.key)
        stage_answers(request, bundle, lineage, Staging(table.run(plan).staged_uri), ray_session, progress)
    table.commit(plan, plan.key, datetime.now(UTC))
    rows = {row["track_id"]: row for row in table.dataset().to_table().to_pylist()}
    # Each attempt stops its own file; the same cell, or the next, labels the file behind it.
    quarantined = {name for name, row in rows.items() if row["error_kind"] is not None}
    assert quarantined == {*(f"{name}.wav" for name in ATTEMPTS), "fork-and-hang.wav"}
    said = {name: rows[name]["error_message"] for name in sorted(quarantined)}
    assert not [text for text in said.values() if "out: " in text], json.dumps(said, indent=1)
    assert rows["fork-and-hang.wav"]["error_kind"] == "timeout"
    assert still_there(sorted(cells() - before), 60) == []


def cells() -> set[int]:
    """Return the processes on this machine that are a warden, a keeper or a cell."""
    found = set()
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if b"mgc.audio.cell.warden" in place.read_bytes():
                found.add(int(place.parent.name))
    return found
