from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from safetensors.torch import load, save

from mgc.errors import TrainingError
from mgc.features.normalization import Normalization
from mgc.models.house import HouseCnn, HouseCnnConfig
from mgc.training.augment import AugmentConfig
from mgc.training.loop import Batch, Learner, TrainingConfig

GENRES = 3
CONFIG = TrainingConfig(
    epochs=4, learning_rate=1e-2, weight_decay=0.05, augment=AugmentConfig(roll_time=True, gain=0.2, mixup=0.3)
)


def learner(config: TrainingConfig, channels: tuple[int, ...] = (6, 8)) -> Learner:
    torch.manual_seed(config.seed)
    model = HouseCnn(HouseCnnConfig(channels=channels, blocks=1), GENRES)
    # As the cluster trains: convolution weights, and so the optimizer's state, do not lie in order.
    model = model.to(memory_format=torch.channels_last)
    return Learner(model, config, Normalization((100.0,) * 8, (50.0,) * 8), GENRES, torch.device("cpu"))


def epochs(taught: Learner, first: int, last: int) -> None:
    for epoch in range(first, last):
        generator = torch.Generator().manual_seed(epoch)
        batches = [
            Batch(
                torch.randint(0, 256, (12, 8, 10), dtype=torch.uint8, generator=generator),
                torch.randint(0, GENRES, (12,), generator=generator),
                [str(row) for row in range(12)],
            )
            for _ in range(3)
        ]
        taught.train_epoch(batches, epoch, 3)


def checkpoint(taught: Learner) -> tuple[bytes, bytes]:
    weights = {name: tensor.contiguous() for name, tensor in taught.model.state_dict().items()}
    return save(weights), save(taught.optimizer_tensors())


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer": "adam"},
        {"optimizer": "adamw"},
        {"optimizer": "sgd"},
        {"optimizer": "sgd", "momentum": 0.0},
        {"precision": "bf16"},
        {"body_learning_rate": 1e-3},
        {"l2": 0.01, "l2_biases": True, "gradient_clip": 0.5},
    ],
)
def test_a_resumed_training_equals_an_uninterrupted_one_bit_for_bit(change: dict[str, Any]) -> None:
    config = replace(CONFIG, **change)
    uninterrupted = learner(config)
    epochs(uninterrupted, 0, 4)
    killed = learner(config)
    epochs(killed, 0, 2)
    weights, optimizer = checkpoint(killed)
    resumed = learner(replace(config, seed=config.seed))
    resumed.model.load_state_dict(load(weights))
    resumed.load_optimizer_tensors(load(optimizer))
    torch.manual_seed(99)  # Whatever happened in between.
    epochs(resumed, 2, 4)
    assert checkpoint(resumed) == checkpoint(uninterrupted)
    assert checkpoint(resumed)[0] != weights


def test_the_state_is_what_safetensors_takes_and_gives_back() -> None:
    taught = learner(CONFIG)
    assert taught.optimizer_tensors() == {}
    epochs(taught, 0, 1)
    tensors = taught.optimizer_tensors()
    parameters = len(list(taught.model.parameters()))
    assert len(tensors) == 3 * parameters
    assert {name.split(".", 1)[1] for name in tensors} == {"step", "exp_avg", "exp_avg_sq"}
    assert all(tensor.is_contiguous() and tensor.device.type == "cpu" for tensor in tensors.values())
    again = learner(CONFIG)
    again.load_optimizer_tensors(load(save(tensors)))
    assert save(again.optimizer_tensors()) == save(tensors)


@pytest.mark.parametrize("name", ["0.exp_avg", "99.exp_avg", "x.exp_avg", "exp_avg"])
def test_the_state_of_another_model_is_refused(name: str) -> None:
    with pytest.raises(TrainingError, match=f"is of another model .at {name}.; start training anew"):
        learner(CONFIG).load_optimizer_tensors({name: torch.zeros(3, 2)})


def test_the_state_of_a_wider_model_is_refused() -> None:
    wide = learner(CONFIG, channels=(6, 9))
    epochs(wide, 0, 1)
    with pytest.raises(TrainingError, match="another model"):
        learner(CONFIG).load_optimizer_tensors(wide.optimizer_tensors())
