"""Damaged checkpoints: a training goes on from the one before, and ends as if nothing had been."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.session import ray_internals
from cluster.session.epoch_counter import EpochCounter
from cluster.session.profiles import Profile
from cluster.storage import files
from cluster.storage.uri import Uri
from cluster.streams.feed import EpochDraw, feed
from cluster.tables.features import read_features, read_roster
from cluster.training import trainer
from cluster.training.job import plan_training
from cluster.training.trained import load_trained
from cluster.training.trainer import TrainingRun, train
from mgc.datasets.splits import TRAIN, VALIDATION
from mgc.errors import TrainingError
from mgc.training.course import find_damage
from tests.support import tiny_features
from tests.support.damage import flip_bit
from tests.support.elastic_driver import EXACT

pytestmark = [pytest.mark.cluster, pytest.mark.drill, pytest.mark.filterwarnings("default")]

History = list[dict[str, Any]]
Lines = Callable[[], list[str]]


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_features.write(tmp_path_factory.mktemp("features"))


def trained(features: str, checkpoints: Uri, profile: Profile) -> History:
    dataset, facts = read_features(Uri.parse(features))
    counts = read_roster(dataset, EXACT.protocol).class_counts(TRAIN)
    epoch = EpochCounter.start()
    streams = (
        feed(dataset, TRAIN, profile, EXACT, None, EpochDraw(counts, epoch)),
        feed(dataset, VALIDATION, profile, EXACT),
    )
    job = plan_training(dataset, facts, counts, EXACT, profile)
    return train(TrainingRun(job, *streams, checkpoints, "run", epoch=epoch))[1]


def checkpoints_of(run: Uri) -> list[Uri]:
    """The folders of a run's checkpoints, oldest first."""
    states = [uri for uri in files.list_uris(run) if uri.name == "state.json" and "/set_aside/" not in uri.path]
    return [uri.parent for uri in states]


def damage(checkpoint: Uri, seed: int = 0) -> None:
    """Flip a bit in one of its files."""
    paths = files.list_uris(checkpoint)
    uri = paths[seed % len(paths)]
    files.write_bytes(uri, flip_bit(files.read_bytes(uri), seed))


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Lines:
    """What was said about damage since the last call."""

    def said() -> list[str]:
        return [line for line in capsys.readouterr().err.splitlines() if "damaged" in line]

    return said


def test_on_one_worker(features: str, ray_session: Profile, tmp_path: Path, lines: Lines) -> None:
    checkpoints, run = Uri.of_path(tmp_path), Uri.of_path(tmp_path / "run")
    undisturbed = trained(features, checkpoints, ray_session)
    assert lines() == []
    before, last = checkpoints_of(run)

    damage(last, 3)
    assert trained(features, checkpoints, ray_session) == undisturbed
    [line] = lines()
    assert f"{last}: " in line
    assert find_damage((run / "set_aside" / last.name).local)
    assert before in checkpoints_of(run) or len(checkpoints_of(run)) == 2

    damaged = checkpoints_of(run)
    for number, each in enumerate(damaged):
        damage(each, number)
    assert trained(features, checkpoints, ray_session) == undisturbed
    # Each was found. One of them was set aside before, and is not told of twice.
    assert all(find_damage((run / "set_aside" / each.name).local) for each in damaged)
    told = lines()
    assert len(told) == len(damaged) - (last in damaged)
    assert all(any(f"{each}: " in line for each in damaged) for line in told)

    snapshot = run / ray_internals.CHECKPOINT_SNAPSHOT
    files.write_bytes(snapshot, files.read_bytes(snapshot)[:-9])
    assert trained(features, checkpoints, ray_session) == undisturbed
    [line] = lines()
    assert f"{snapshot}: " in line


def test_on_two_workers_in_the_object_store(features: str, ray_session: Profile, bucket_uri: str, lines: Lines) -> None:
    two = replace(ray_session, train_workers=2)
    checkpoints = Uri.parse(bucket_uri)
    undisturbed = trained(features, checkpoints, two)
    last = checkpoints_of(checkpoints / "run")[-1]
    damage(last, 1)
    assert trained(features, checkpoints, two) == undisturbed
    [line] = lines()
    assert f"{last}: " in line


def test_the_last_checkpoint_is_damaged_when_the_training_ends(
    features: str, ray_session: Profile, tmp_path: Path, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = Uri.of_path(tmp_path)
    undisturbed = trained(features, checkpoints, ray_session)
    left = [1]

    def damaged_and_loaded(folder: Path, *rest: Any) -> Any:
        damage(Uri.of_path(folder), 2)
        return load_trained(folder, *rest)

    def too_late(folder: Path) -> str | None:
        left[0] -= 1
        if left[0] >= 0:
            damage(Uri.of_path(folder), 2)
        return find_damage(folder)

    monkeypatch.setattr(trainer, "find_damage", too_late)
    assert trained(features, checkpoints, ray_session) == undisturbed
    assert len(lines()) == 1
    # Each time, also when the last run looks at it no more but loads it: it ends with a line.
    left[0] = 99
    monkeypatch.setattr(trainer, "load_trained", damaged_and_loaded)
    with pytest.raises(TrainingError, match="damaged"):
        trained(features, checkpoints, ray_session)
