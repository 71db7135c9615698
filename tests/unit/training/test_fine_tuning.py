"""Training on from other weights: frozen layers, and a learning rate of the body."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from mgc.features.normalization import Normalization
from mgc.models.architecture import build_model
from mgc.models.blocks import Classifier
from mgc.models.mobilenet import MobileNetConfig
from mgc.models.musicnn import MusicnnConfig
from mgc.training.config import TrainingConfig
from mgc.training.ghost import normalize_over
from mgc.training.loop import Batch, Learner

GENRES, BINS, FRAMES, CLIPS = 3, 40, 32, 8
NORMALIZATION = Normalization((128.0,) * BINS, (64.0,) * BINS)
CONFIG = TrainingConfig(
    epochs=1, batch_size=CLIPS, optimizer="sgd", momentum=0.0, learning_rate=1e-2, schedule="constant", weight_decay=0.0
)
MOBILENET = MobileNetConfig(width=0.1, hidden=9)
MUSICNN = MusicnnConfig(timbres=4, rhythms=3, middle=5, hidden=9)

FROZEN = [
    (replace(MOBILENET, freeze=0), ()),
    (replace(MOBILENET, freeze=1), ("layers.0.",)),
    (replace(MOBILENET, freeze=6, input="thumbnail", frames=48), tuple(f"layers.{number}." for number in range(6))),
    (replace(MOBILENET, freeze=17), ("layers.",)),
    (replace(MUSICNN, freeze=0), ()),
    (replace(MUSICNN, freeze=1), ("input.", "timbres.", "rhythms.")),
    (replace(MUSICNN, freeze=3), ("input.", "timbres.", "rhythms.", "middle.0.", "middle.1.")),
    (replace(MUSICNN, freeze=5), ("input.", "timbres.", "rhythms.", "middle.", "hidden.")),
]
NAMES = [f"{config.kind} {config.freeze}" for config, _ in FROZEN]


@pytest.fixture
def one_worker(tmp_path: Path) -> Iterator[None]:
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def network(config: MobileNetConfig | MusicnnConfig) -> Classifier:
    torch.manual_seed(0)
    return build_model(config, (BINS, FRAMES), GENRES)


def batches() -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    features_BFT = torch.randint(0, 256, (CLIPS, BINS, FRAMES), dtype=torch.uint8, generator=generator)
    return [Batch(features_BFT, torch.arange(CLIPS) % GENRES, [str(row) for row in range(CLIPS)])] * 2


def changed(config: MobileNetConfig | MusicnnConfig, training: TrainingConfig, wrap: bool = False) -> set[str]:
    """Names in the state that two steps have changed."""
    model = network(config)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    if training.normalization_batch:
        normalize_over(model, training.normalization_batch)
    wrapped = DistributedDataParallel(model) if wrap else model
    Learner(wrapped, training, NORMALIZATION, GENRES, torch.device("cpu")).train_epoch(batches(), 0, 2)
    return {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}


@pytest.mark.parametrize("training", [CONFIG, replace(CONFIG, normalization_batch=4, average=0.9)])
@pytest.mark.parametrize(("config", "frozen"), FROZEN, ids=NAMES)
def test_frozen_layers_keep_weights_and_statistics(
    config: MobileNetConfig | MusicnnConfig, frozen: tuple[str, ...], training: TrainingConfig
) -> None:
    moved = changed(config, training)
    free = {name for name in network(config).state_dict() if not name.startswith(frozen)}
    assert moved <= free
    # Statistics of every layer that is free, and the head.
    assert {name for name in free if name.endswith("running_mean")} <= moved
    assert {name for name in free if name.startswith("head.")} <= moved


@pytest.mark.parametrize(("config", "frozen"), FROZEN, ids=NAMES)
@pytest.mark.usefixtures("one_worker")
def test_data_parallel_training_moves_the_same_weights(
    config: MobileNetConfig | MusicnnConfig, frozen: tuple[str, ...]
) -> None:
    training = replace(CONFIG, body_learning_rate=1e-3)
    assert changed(config, training, wrap=True) == changed(config, training)


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("config", [MOBILENET, MUSICNN], ids=["mobilenet", "musicnn"])
@pytest.mark.usefixtures("one_worker")
def test_the_body_moves_by_its_own_learning_rate(config: MobileNetConfig | MusicnnConfig, wrap: bool) -> None:
    """One step of plain gradient descent is the gradient times the rate."""

    def step(rate: float | None) -> dict[str, torch.Tensor]:
        model = network(config)
        before = {name: tensor.detach().clone() for name, tensor in model.named_parameters()}
        wrapped = DistributedDataParallel(model) if wrap else model
        training = replace(CONFIG, body_learning_rate=rate)
        Learner(wrapped, training, NORMALIZATION, GENRES, torch.device("cpu")).train_epoch(batches()[:1], 0, 1)
        return {name: tensor.detach() - before[name] for name, tensor in model.named_parameters()}

    same, slower = step(None), step(CONFIG.learning_rate / 4)
    for name, whole in same.items():
        part = 1.0 if name.startswith("head.") else 0.25
        # A step is a difference of weights near 1, in float32.
        torch.testing.assert_close(slower[name], part * whole, rtol=1e-3, atol=3e-7, msg=name)
    assert any(tensor.abs().max() > 1e-5 for name, tensor in same.items() if not name.startswith("head."))


def test_both_rates_follow_the_schedule() -> None:
    training = replace(CONFIG, schedule="one_cycle", warmup=0.0, body_learning_rate=1e-3)
    learner = Learner(network(MOBILENET), training, NORMALIZATION, GENRES, torch.device("cpu"))
    assert learner.optimizer is not None
    found = []
    optimizer = learner.optimizer
    learner.train_epoch(
        batches(), 0, 2, on_step=lambda clips, loss: found.append([group["lr"] for group in optimizer.param_groups])
    )
    assert found == [pytest.approx([1e-3, 1e-2]), pytest.approx([5e-4, 5e-3])]
