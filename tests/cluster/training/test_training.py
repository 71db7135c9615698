"""A training over several workers, through Ray Train and Ray Data: what is exact, and what ends it."""

from __future__ import annotations

import resource
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from cluster.session.epoch_counter import EpochCounter
from cluster.session.profiles import Profile
from cluster.storage import files
from cluster.storage.uri import Uri
from cluster.streams.feed import EpochDraw, feed
from cluster.tables.features import read_features, read_roster
from cluster.training.job import plan_training
from cluster.training.trainer import TrainingRun, check_room, train
from mgc.bundle import Bundle
from mgc.datasets.splits import TRAIN, VALIDATION
from mgc.errors import FeaturesError, ResourceError, TrainingError
from mgc.experiment import Experiment
from mgc.training.augment import AugmentConfig
from mgc.training.config import TrainingConfig
from tests.support import tiny_features
from tests.support.elastic_driver import EXACT, TRAIN_CLIPS
from tests.support.tripwire import Tripwire

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("default")]

ORDERED = replace(
    tiny_features.EXPERIMENT,
    training=TrainingConfig(
        epochs=3, batch_size=8, balance="class_balanced", average=0.9, augment=AugmentConfig(roll_time=True, gain=0.1)
    ),
)
"""Sixteen steps an epoch, and all that draws by chance."""


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_features.write(tmp_path_factory.mktemp("features"))


def trained(
    features: str, checkpoints: str, profile: Profile, made: Experiment, progress: Any = None
) -> tuple[Bundle, list[dict[str, Any]]]:
    dataset, facts = read_features(Uri.parse(features))
    counts = read_roster(dataset, made.protocol).class_counts(TRAIN)
    assert sum(counts.values()) == TRAIN_CLIPS
    epoch = EpochCounter.start()
    streams = (
        feed(dataset, TRAIN, profile, made, None, EpochDraw(counts, epoch)),
        feed(dataset, VALIDATION, profile, made),
    )
    job = plan_training(dataset, facts, counts, made, profile)
    return train(TrainingRun(job, *streams, Uri.parse(checkpoints), "run", progress, epoch))


def close(history: Sequence[dict[str, Any]], other: Sequence[dict[str, Any]]) -> None:
    assert len(history) == len(other)
    for row, wanted in zip(history, other, strict=True):
        assert row == pytest.approx(wanted, rel=1e-4)


def take_again(config: dict[str, Any]) -> None:
    """In place of a worker's work: take 64 MiB and free them, again and again; write what that costs in page faults.

    glibc may lay such a block beside the one that was just freed: its cache of small blocks holds the seam between
    them. That cache has seven places, so after some times there is room.
    """
    for _ in range(16):
        torch.ones(2**24)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.ones(2**24)
    Path(config["task"].progress).write_text(str((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 4))


@pytest.mark.drill
def test_a_worker_keeps_the_memory_that_it_frees(
    features: str, ray_session: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.training.trainer.work", take_again)
    with pytest.raises(FeaturesError, match="checkpoint"):
        trained(features, str(tmp_path / "checkpoints"), ray_session, EXACT, str(tmp_path / "faults"))
    # Pages of 4 KiB; 16,384 of them where glibc gives the block back.
    assert float((tmp_path / "faults").read_text()) < 1_000


def test_one_worker_or_two_in_parts_one_of_them_killed_have_the_same_losses(
    features: str, ray_session: Profile, tmp_path: Path, bucket_uri: str
) -> None:
    """The killed one's checkpoints lie in the object store; it takes up where the last one was written."""
    _, alone = trained(features, str(tmp_path / "alone"), ray_session, EXACT)
    two = replace(ray_session, train_workers=2, accumulation=2)
    flag = tmp_path / "killed"
    bundle, together = trained(features, bucket_uri, two, EXACT, Tripwire(flag, epochs=2, killed=True))
    assert flag.exists()
    close(together, alone)
    assert bundle.training.made_with.to_json() == {"workers": 2, "accumulation": 2, "precision": "float32"}
    kept = {uri.parent.name for uri in files.list_uris(Uri.parse(bucket_uri)) if uri.name == "model.safetensors"}
    assert len(kept) == 2


@pytest.mark.drill
@pytest.mark.parametrize("workers", [1, 2])
def test_killed_inside_of_an_epoch_it_ends_as_if_nothing_had_been(
    workers: int, features: str, ray_session: Profile, tmp_path: Path
) -> None:
    """To the last bit: the same clips in the same order, augmented alike."""
    profile = replace(ray_session, train_workers=workers, checkpoint_steps=4)
    wanted, undisturbed = trained(features, str(tmp_path / "undisturbed"), profile, ORDERED)
    flag = tmp_path / "killed"
    found, killed = trained(
        features, str(tmp_path / "killed-run"), profile, ORDERED, Tripwire(flag, epochs=1, steps=9, killed=True)
    )
    assert flag.exists()
    assert killed == undisturbed
    assert found.id == wanted.id
    first, *_ = sorted((tmp_path / "killed-run" / "run").glob("checkpoint_*"))
    assert load_file(first / "optimizer.safetensors")


@pytest.mark.drill
def test_a_loss_that_is_not_finite_ends_it_on_all_workers_once_and_for_all(
    features: str, ray_session: Profile, tmp_path: Path
) -> None:
    """Ray Train does not try again, nor does whoever submits the same once more."""
    wild = replace(ORDERED, training=replace(ORDERED.training, optimizer="sgd", learning_rate=10.0, l2=10.0))
    two = replace(ray_session, train_workers=2)
    for _ in range(2):
        with pytest.raises(TrainingError, match=r"loss.* (inf|nan) .*epoch 1, step \d+ \(.*t\d\d"):
            trained(features, str(tmp_path), two, wild)


def test_more_workers_than_there_is_place_for_are_refused_at_once(ray_session: Profile) -> None:
    many = replace(ray_session, train_workers=9, train_cpus=1.0)
    with pytest.raises(ResourceError, match=r"\b9 training workers\b.*\b1 CPU.*\b8\b"):
        check_room(many)
    check_room(replace(many, fewest_workers=8))
    with pytest.raises(ResourceError, match=r"\b1 CPU.*GPU"):
        check_room(replace(many, train_workers=1, gpus=1))
