"""Classifier re-training, and what a training configuration refuses to combine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load, save
from torch import nn

from mgc.features.normalization import Normalization
from mgc.models.house import HouseCnn, HouseCnnConfig
from mgc.training.augment import AugmentConfig
from mgc.training.loop import Batch, Learner, TrainingConfig, learning_rate
from mgc.training.losses import LossConfig, cross_entropy, soft_targets
from mgc.training.stages import next_epoch

GENRES = 3
SOFTMAX, ADJUSTED = LossConfig(kind="balanced_softmax"), LossConfig(kind="logit_adjusted")
WEIGHTED = LossConfig(beta=0.9)
CONFIG = TrainingConfig(
    epochs=2,
    head_epochs=3,
    learning_rate=1e-2,
    weight_decay=0.05,
    balance="natural",
    loss=SOFTMAX,
    augment=AugmentConfig(roll_time=True, gain=0.2, mixup=0.3),
)
COUNTS = (20, 5, 1)


def network() -> HouseCnn:
    torch.manual_seed(CONFIG.seed)
    return HouseCnn(HouseCnnConfig(channels=(6, 8), blocks=1), GENRES)


def learner(model: nn.Module, config: TrainingConfig = CONFIG) -> Learner:
    return Learner(model, config, Normalization((100.0,) * 8, (50.0,) * 8), GENRES, torch.device("cpu"), COUNTS)


def batches(epoch: int) -> list[Batch]:
    generator = torch.Generator().manual_seed(epoch)
    return [
        Batch(
            torch.randint(0, 256, (12, 8, 10), dtype=torch.uint8, generator=generator),
            torch.randint(0, GENRES, (12,), generator=generator),
            [str(row) for row in range(12)],
        )
        for _ in range(3)
    ]


def trained() -> HouseCnn:
    model = network()
    taught = learner(model)
    for epoch in range(2):
        taught.train_epoch(batches(epoch), epoch, 3)
    return model


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_the_second_stage_trains_a_new_head_and_nothing_else() -> None:
    first = state(trained())
    model = network()
    fresh = state(model)
    model.keep_embedding(first)
    begun = state(model)
    for name in begun:
        assert torch.equal(begun[name], (fresh if name.startswith("head.") else first)[name]), name
    assert not torch.equal(begun["head.weight"], first["head.weight"])

    taught = learner(model)
    for epoch in (2, 3, 4):
        taught.train_epoch(batches(epoch), epoch, 3)
        taught.validate(batches(epoch))
    after = state(model)
    changed = {name for name in after if not torch.equal(after[name], begun[name])}
    # Running statistics of the normalisation are among what stays.
    assert any("running_mean" in name for name in after)
    assert changed == {"head.weight", "head.bias"}


def test_what_is_frozen_stays_in_evaluation_mode() -> None:
    model = network()
    model.keep_embedding(state(model))
    for mode in (True, False, True):
        model.train(mode)
        assert model.training is mode
        assert model.head.training is mode
        assert not any(module.training for module in (*model.stages.modules(), model.pool, model.dropout))
    assert [name for name, parameter in model.named_parameters() if parameter.requires_grad] == [
        "head.weight",
        "head.bias",
    ]
    model = network().train()
    assert all(module.training for module in model.modules())


def test_weights_of_another_network_are_refused() -> None:
    with pytest.raises(RuntimeError, match="size mismatch"):
        network().keep_embedding(HouseCnn(HouseCnnConfig(channels=(6, 9), blocks=1), GENRES).state_dict())


def test_the_head_is_taught_by_cross_entropy_whatever_came_before() -> None:
    config = replace(CONFIG, augment=AugmentConfig(), label_smoothing=0.1)
    model = network()
    model.keep_embedding(state(trained()))
    taught, seen = learner(model, config), []
    (batch, *_) = batches(2)
    features_BFT = (batch.features_BFT.float() - 100) / 50
    with torch.no_grad():
        wanted = cross_entropy(model.eval()(features_BFT), soft_targets(batch.genre_B, GENRES, 0.1))
    taught.train_epoch([batch], 2, 1, on_step=lambda clips, loss: seen.append(loss))
    assert seen == [pytest.approx(float(wanted), rel=1e-5)]


def test_the_first_stage_is_taught_by_the_loss_that_was_chosen() -> None:
    config = replace(CONFIG, augment=AugmentConfig())
    model = network()
    model.dropout.p = 0.0
    taught, seen = learner(model, config), []
    (batch, *_) = batches(0)
    features_BFT = (batch.features_BFT.float() - 100) / 50
    with torch.no_grad():
        logits_BG = network_without_dropout()(features_BFT)
        wanted = nn.functional.cross_entropy(logits_BG + torch.tensor(COUNTS).log(), batch.genre_B)
    taught.train_epoch([batch], 0, 1, on_step=lambda clips, loss: seen.append(loss))
    assert seen == [pytest.approx(float(wanted), rel=1e-5)]


def network_without_dropout() -> HouseCnn:
    model = network()
    model.dropout.p = 0.0
    return model.train()


def test_the_schedule_starts_over() -> None:
    config = replace(CONFIG, warmup=0.25)
    model = network()
    model.keep_embedding(state(trained()))
    taught, rates = learner(model, config), []
    for epoch in (2, 3, 4):
        taught.train_epoch(
            batches(epoch),
            epoch,
            3,
            on_step=lambda clips, loss: rates.append(taught.optimizer.param_groups[0]["lr"]),
        )
    assert rates == pytest.approx([learning_rate(config, step / 9) for step in range(9)])


def test_a_resumed_second_stage_equals_an_uninterrupted_one_bit_for_bit() -> None:
    first = state(trained())
    model = network()
    model.keep_embedding(first)
    uninterrupted = learner(model)
    for epoch in (2, 3):
        uninterrupted.train_epoch(batches(epoch), epoch, 3)
    weights, optimizer = save(state(model)), save(uninterrupted.optimizer_tensors())
    uninterrupted.train_epoch(batches(4), 4, 3)

    again = network()
    again.load_state_dict(load(weights))
    again.keep_embedding(again.state_dict())
    resumed = learner(again)
    resumed.load_optimizer_tensors(load(optimizer))
    torch.manual_seed(99)
    resumed.train_epoch(batches(4), 4, 3)
    assert save(state(again)) == save(state(model))
    assert save(resumed.optimizer_tensors()) == save(uninterrupted.optimizer_tensors())


@pytest.mark.parametrize(
    ("change", "last", "stale", "wanted"),
    [
        ({}, -1, 0, 0),
        ({}, 0, 1, 1),
        ({}, 1, 2, 2),
        ({}, 3, 9, 4),
        ({}, 4, 0, None),
        ({"head_epochs": 0}, 1, 0, None),
        # Patience ends a stage, not the training.
        ({"patience": 3, "epochs": 9}, 4, 2, 5),
        ({"patience": 3, "epochs": 9}, 4, 3, 9),
        ({"patience": 3, "epochs": 9}, 8, 3, 9),
        ({"patience": 3, "epochs": 9}, 9, 2, 10),
        ({"patience": 1, "epochs": 9}, 9, 1, None),
        ({"patience": 3, "epochs": 9, "head_epochs": 0}, 4, 3, None),
    ],
)
def test_which_epoch_comes_next(change: dict[str, Any], last: int, stale: int, wanted: int | None) -> None:
    assert next_epoch(replace(CONFIG, **change), last, stale) == wanted


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"balance": "class_balanced", "loss": SOFTMAX}, "balance class_balanced and loss.kind balanced_softmax each"),
        ({"balance": "progressive", "loss": ADJUSTED}, "balance progressive and loss.kind logit_adjusted each"),
        ({"balance": "class_balanced", "loss": WEIGHTED}, "balance class_balanced and loss.beta 0.9 each"),
        ({"balance": "class_balanced", "adjust_after": (1.0,)}, "balance class_balanced and adjust_after each"),
        ({"balance": "natural", "loss": WEIGHTED, "adjust_after": (0.0, 1.0)}, "loss.beta 0.9 and adjust_after each"),
        ({"balance": "natural", "head_epochs": 2, "adjust_after": (1.0,)}, "adjust_after and head_epochs 2 each"),
    ],
)
def test_what_would_correct_twice_is_refused(change: dict[str, Any], wanted: str) -> None:
    with pytest.raises(ValidationError, match=wanted):
        TrainingConfig(**change)


@pytest.mark.parametrize(
    "change",
    [
        {"balance": "natural", "loss": SOFTMAX, "head_epochs": 2},
        {"balance": "class_balanced", "loss": LossConfig(kind="focal"), "head_epochs": 2},
        {"balance": "square_root", "loss": LossConfig(kind="logit_adjusted", tau=0.5)},
        {"balance": "repeat_factor", "loss": WEIGHTED},
        {"balance": "natural", "adjust_after": (0.5, 1.0)},
        {"balance": "class_balanced", "adjust_after": (0.0,)},
        {},
    ],
)
def test_what_may_be_combined(change: dict[str, Any]) -> None:
    TrainingConfig(**change)


def test_sampling_is_that_of_the_configuration() -> None:
    config = replace(CONFIG, balance="repeat_factor", repeat_threshold=0.3, loss=LossConfig())
    sampling = config.sampling({"a": 9, "b": 1})
    assert sampling.rates(0) == pytest.approx({"a": 1.0, "b": 3**0.5})
    assert sampling.rates(2) == pytest.approx({"a": 5 / 9, "b": 5.0})
    assert [config.retrains(epoch) for epoch in (-1, 0, 1, 2, 4)] == [False, False, False, True, True]
