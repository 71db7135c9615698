"""Random sequences of nights against a model of the table: no label and no correction is ever lost by itself."""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cluster.labels.history import changes, commits, rollback
from cluster.labels.overrides import OVERRIDES
from cluster.labels.plan import Plan
from cluster.labels.policy import GONE, Policy
from cluster.labels.table import LabelsTable
from cluster.labels.vacuum import vacuum
from cluster.storage.uri import Uri
from cluster.tables.parquet import write_part
from mgc.errors import LabelsError
from tests.cluster.labels.night_model import GENRES, Walk, World, stated
from tests.support.nights import heard, held, planned, reasons, stage

STEPS = 20


def walk(uri: Uri, seed: int, steps: int) -> dict[str, int]:
    """Take random steps, and compare the table with the model after each. Returns how often each step was taken."""
    world, walker = World(), Walk(seed)
    chance = walker.random
    taken: dict[str, int] = {}
    for _ in range(steps):
        step = chance.choices(("night", "rollback", "vacuum"), (20, 2, 1))[0]
        if step != "night" and len(world.versions) < 2:
            continue
        taken[step] = taken.get(step, 0) + 1
        if step == "night":
            walker.change_files(world.files)
            before = dict(world.rows)
            gone = chance.choice((*GONE, "mark"))
            corrections = _corrections(world, walker) if chance.random() < 0.15 else None
            _night(uri, world, walker, gone, corrections)
            _check_nothing_is_lost(before, world, gone, corrections)
        elif step == "rollback":
            _roll_back(uri, world, chance)
        else:
            log = commits(LabelsTable(uri))
            vacuum(uri, 3, **NOW_TOO)
            kept = {commit.version for commit in changes(log)[:3]}
            world.versions = {number: rows for number, rows in world.versions.items() if number in kept}
        _compare(uri, world)
    return taken


NOW_TOO: dict[str, Any] = {"older_than": timedelta()}
"""Options of a vacuum that spares no young files."""


def _corrections(world: World, walker: Walk) -> dict[str, str]:
    """Return a curator's new file: most of the old corrections, and some others."""
    chance = walker.random
    kept = {track: row.correction for track, row in world.rows.items() if row.correction and chance.random() < 0.8}
    return kept | {track: chance.choice(GENRES) for track in chance.sample(walker.tracks, 2)}


def _night(uri: Uri, world: World, walker: Walk, gone: Any, corrections: dict[str, str] | None) -> None:
    chance = walker.random
    model, resume = chance.choice(("model-1", "model-1", "model-2")), chance.random() < 0.1
    failing = set(chance.sample(walker.tracks, chance.choice((0, 0, 2, len(walker.tracks)))))
    overrides = None
    if corrections is not None:
        rows = [{"track_id": track, "genre": genre, "by": "ann"} for track, genre in sorted(corrections.items())]
        overrides = pa.Table.from_pylist(rows, schema=OVERRIDES)
    policy = Policy(gone, overrides=overrides, resume=resume)

    def plan() -> tuple[LabelsTable, Plan]:
        table = LabelsTable(uri)
        return table, planned(table, world.files, model, at=walker.now, policy=policy)

    table, tonight = plan()
    todo = world.verdicts(model, walker.now, resume)
    assert reasons(tonight) == todo
    removed = world.removals(gone, corrections, resume)
    assert set(tonight.removed["track_id"].to_pylist()) == removed
    outcomes = {track: world.outcome(track, model, failing) for track in todo}
    if todo and chance.random() < 0.2:
        # Killed, with a part of its rows staged, and submitted again. The table is as it was.
        table.run(tonight).freeze()
        write_part(table.run(tonight).staged_uri, heard(tonight.todo.slice(0, 2), tonight, outcomes, walker.now))
        _compare(uri, world)
        table, tonight = plan()
    stage(table, tonight, outcomes, files=1, at=walker.now)
    if tonight.empty:
        return
    made = table.commit(tonight, tonight.key, walker.now)
    world.enter(model, todo, outcomes, removed, gone, walker.now, corrections)
    if resume:
        world.held.clear()
    world.versions[made.version] = dict(world.rows)


def _roll_back(uri: Uri, world: World, chance: random.Random) -> None:
    version = chance.choice(sorted(world.versions))
    log = commits(LabelsTable(uri))
    try:
        made = rollback(uri, version, log)
    except LabelsError as error:
        assert "already equals" in str(error)  # noqa: PT017
        return
    world.roll_back(version)
    world.versions[made] = dict(world.rows)


def _compare(uri: Uri, world: World) -> None:
    if not world.versions:
        return
    found = held(uri)
    assert sorted(found) == sorted(world.rows)
    for track, row in world.rows.items():
        wanted = stated(row)
        real = {**found[track], "removed": found[track]["removed_at"] is not None}
        real["override"] = real["override_by"] is not None
        if wanted["tries"] is None:
            del wanted["tries"]
        assert {name: real[name] for name in wanted} == wanted, track
        assert (real["stale_since"] is None) == (wanted["last_error_kind"] is None)


def _check_nothing_is_lost(before: dict[str, Any], world: World, gone: str, corrections: dict[str, str] | None) -> None:
    """What holds whatever the model says: only a person's word takes a label or a correction away."""
    for track, row in before.items():
        pruned = gone == "prune" and track not in world.files
        now = world.rows.get(track)
        if row.label is not None and not pruned:
            assert now is not None
            assert now.label is not None
        if row.correction is not None and corrections is None:
            assert now is not None
            assert now.correction == row.correction


@pytest.mark.parametrize("seed", range(2))
def test_random_nights(seed: int, tmp_path: Path) -> None:
    taken = walk(Uri.of_path(tmp_path / "labels"), seed, STEPS)
    assert taken["night"] > STEPS / 2


@pytest.mark.drill
@pytest.mark.parametrize("seed", range(100, 110))
def test_a_thousand_random_steps(seed: int, uri: Uri) -> None:
    taken = walk(uri, seed, 100)
    assert min(taken[step] for step in ("night", "rollback", "vacuum")) > 0
