"""A damaged list of checkpoints is set aside; Ray would refuse to go on, or look for a checkpoint that is not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster.session import ray_internals
from cluster.storage.uri import Uri
from cluster.training.checkpoints import repair_snapshot
from tests.support.damage import flip_bit

NAMES = ["checkpoint_1", "checkpoint_2"]


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    """As Ray writes it, for a run of two checkpoints."""
    results = [{"version": 0, "checkpoint_dir_name": name, "metrics": {"workers": 1}} for name in NAMES]
    lists = ("pending_training_results", "pending_validation_specs", "validated_checkpoint_dir_names")
    lists += ("timed_out_validation_checkpoint_dir_names", "failed_validation_checkpoint_dir_names")
    facts = {
        "ray_version": "2.60.0", "checkpoint_results": results, "checkpoint_report_indices": [0, 1],
        "latest_checkpoint_result": results[1], "current_report_index": 2, **{name: [] for name in lists},
    }  # fmt: skip
    for name in NAMES:
        (tmp_path / name).mkdir()
    path = tmp_path / ray_internals.CHECKPOINT_SNAPSHOT
    path.write_text(json.dumps(facts))
    return path


def test_a_sound_one_stays(snapshot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    repair_snapshot(Uri.of_path(snapshot.parent))
    repair_snapshot(Uri.of_path(snapshot.parent / "another run"))
    assert snapshot.exists()
    assert capsys.readouterr().err == ""
    assert ray_internals.checkpoints_in_snapshot(snapshot.read_bytes()) == NAMES


def test_a_flipped_bit(snapshot: Path) -> None:
    """What is left in its place can be read, and names the checkpoints that are there."""
    good, left = snapshot.read_bytes(), 0
    for seed in range(300):
        snapshot.write_bytes(flip_bit(good, seed))
        repair_snapshot(Uri.of_path(snapshot.parent))
        if snapshot.exists():
            assert ray_internals.checkpoints_in_snapshot(snapshot.read_bytes()) == NAMES
            left += 1
    assert left < 100


@pytest.mark.parametrize("size", [0, 1, 300])
def test_half_of_one(size: int, snapshot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a driver leaves it that is killed while Ray writes."""
    snapshot.write_bytes(snapshot.read_bytes()[:size])
    repair_snapshot(Uri.of_path(snapshot.parent))
    assert not snapshot.exists()
    assert (snapshot.parent / "set_aside" / snapshot.name).stat().st_size == size
    [line] = capsys.readouterr().err.splitlines()
    assert f"{snapshot}: " in line
