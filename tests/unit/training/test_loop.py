from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score
from torch import nn

from mgc.errors import TrainingError
from mgc.features.normalization import Normalization
from mgc.models.dense import Dense, DenseConfig
from mgc.models.guess import Guess, GuessConfig
from mgc.models.house import HouseCnn, HouseCnnConfig
from mgc.training.augment import AugmentConfig
from mgc.training.figures import EpochFigures
from mgc.training.loop import Batch, Learner, TrainingConfig, learning_rate
from mgc.training.losses import l2_penalty

GENRES, BINS, FRAMES = 3, 8, 10
NORMALIZATION = Normalization((128.0,) * BINS, (64.0,) * BINS)
PLAIN = TrainingConfig(epochs=4, learning_rate=1e-2, schedule="constant", balance="natural")
CPU = torch.device("cpu")


def batches(*sizes: int, seed: int = 0) -> list[Batch]:
    """Noise with one loud bin a genre."""
    random = np.random.default_rng(seed)
    made = []
    for size in sizes:
        genre_B = random.integers(0, GENRES, size)
        features_BFT = random.integers(0, 128, (size, BINS, FRAMES), dtype=np.uint8)
        features_BFT[np.arange(size), 2 * genre_B] += 100
        tracks = [f"track {len(made)}.{row}" for row in range(size)]
        made.append(Batch(torch.from_numpy(features_BFT), torch.from_numpy(genre_B), tracks))
    return made


def learner(config: TrainingConfig = PLAIN, seed: int = 0) -> Learner:
    torch.manual_seed(seed)
    model = HouseCnn(HouseCnnConfig(channels=(6,), blocks=1, dropout=0.2), GENRES)
    return Learner(model, config, NORMALIZATION, GENRES, CPU)


def weights(of: Learner) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in of.model.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("progress", "rate"),
    [(0.0, 0.001), (0.1, 0.0505), (0.2, 0.1), (0.4, 0.0853553), (0.6, 0.05), (0.8, 0.0146447), (1.0, 0.0), (1.5, 0.0)],
)
def test_one_cycle_by_hand(progress: float, rate: float) -> None:
    config = TrainingConfig(learning_rate=0.1, warmup=0.2, schedule="one_cycle")
    assert learning_rate(config, progress) == pytest.approx(rate, abs=1e-7)


@pytest.mark.parametrize("warmup", [0.0, 1e-4, 0.5, 0.99])
def test_one_cycle_never_leaves_its_range(warmup: float) -> None:
    config = TrainingConfig(learning_rate=0.1, warmup=warmup)
    rates = [learning_rate(config, progress) for progress in np.linspace(0, 1, 20_001)]
    assert max(rates) == pytest.approx(0.1, rel=1e-3)
    assert min(rates) >= 0
    top = rates.index(max(rates))
    assert top == pytest.approx(warmup * 20_000, abs=1)
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)


def test_a_constant_rate_is_constant() -> None:
    assert {learning_rate(PLAIN, progress) for progress in (0.0, 0.5, 1.0)} == {1e-2}


def test_each_step_has_its_rate_also_where_there_are_more_steps_than_expected() -> None:
    config = replace(PLAIN, schedule="one_cycle", warmup=0.25, epochs=2)
    taught, rates = learner(config), []
    for epoch in range(2):
        taught.train_epoch(
            batches(4, 4, 4, 4),
            epoch,
            2,
            on_step=lambda clips, loss: rates.append(taught.optimizer.param_groups[0]["lr"]),
        )
    assert rates == pytest.approx(
        [learning_rate(config, progress) for progress in (0, 0.25, 0.5, 0.5, 0.5, 0.75, 1, 1)]
    )


def test_figures_against_scikit_learn() -> None:
    random = np.random.default_rng(0)
    # Genre 3 never occurs, but is answered; genre 4 occurs, but is never answered; genre 5 neither.
    true, answered = random.choice([0, 1, 2, 4], 200), random.choice([0, 1, 2, 3], 200)
    confusion_GG = torch.zeros(6, 6, dtype=torch.int64)
    np.add.at(confusion_GG.numpy(), (true, answered), 1)
    figures = EpochFigures(200, 50.0, confusion_GG)
    wanted = f1_score(true, answered, labels=[0, 1, 2, 4], average="macro", zero_division=0)
    assert figures.macro_f1 == pytest.approx(wanted)
    assert figures.accuracy == pytest.approx(accuracy_score(true, answered))
    assert figures.loss == 0.25


def test_no_clips_give_zeros() -> None:
    figures = EpochFigures(0, 0.0, torch.zeros(2, 2, dtype=torch.int64))
    assert (figures.loss, figures.accuracy, figures.macro_f1) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_training_learns(precision: str) -> None:
    taught = learner(TrainingConfig(epochs=8, learning_rate=2e-2, precision=precision))
    training, held_out = batches(*[16] * 6), batches(40, seed=1)
    losses = [taught.train_epoch(training, epoch, 6).loss for epoch in range(8)]
    figures = taught.validate(held_out)
    assert losses[-1] < losses[0] / 2
    assert figures.accuracy > 0.9
    assert all(parameter.dtype == torch.float32 for parameter in taught.model.parameters())


def test_figures_of_an_epoch_are_those_of_its_batches() -> None:
    taught, seen = learner(replace(PLAIN, l2=0.1, label_smoothing=0.1)), []
    given = batches(16, 7)
    figures = taught.train_epoch(given, 0, 2, on_step=lambda clips, loss: seen.append((clips, loss)))
    assert [clips for clips, _ in seen] == [16, 7]
    assert figures.clips == 23
    genre_B = torch.cat([batch.genre_B for batch in given])
    assert figures.confusion_GG.sum(1).tolist() == torch.bincount(genre_B, minlength=GENRES).tolist()
    # What a step reports has the L2 term in it; the epoch's loss has not.
    assert sum(clips * loss for clips, loss in seen) > figures.loss_sum + 0.1
    assert taught.validate(given).clips == 23


def test_the_first_loss_by_hand() -> None:
    taught, seen = learner(replace(PLAIN, l2=0.5)), []
    taught.model.dropout.p = 0.0
    (batch,) = batches(9)
    taught.model.train()
    features_BFT = (batch.features_BFT.float() - 128) / 64
    with torch.no_grad():
        wanted = nn.functional.cross_entropy(taught.model(features_BFT), batch.genre_B) + 0.5 * l2_penalty(taught.model)
    taught.train_epoch([batch], 0, 1, on_step=lambda clips, loss: seen.append(loss))
    assert seen == [pytest.approx(float(wanted), rel=1e-6)]


def test_validation_changes_nothing_and_sees_every_clip_alike() -> None:
    taught = learner()
    before = weights(taught)
    whole, parts = taught.validate(batches(21)), batches(21)[0]
    split = [
        Batch(parts.features_BFT[start:end], parts.genre_B[start:end], parts.track_ids[start:end])
        for start, end in ((0, 1), (1, 1), (1, 14), (14, 21))
    ]
    again = taught.validate(split)
    assert same(before, weights(taught))
    assert again.clips == whole.clips == 21
    assert again.loss == pytest.approx(whole.loss, rel=1e-5)
    assert torch.equal(again.confusion_GG, whole.confusion_GG)
    assert taught.validate([]).clips == 0


def test_a_remainder_of_one_clip_is_passed_over() -> None:
    with_rest, without = learner(), learner()
    with_rest.train_epoch(batches(8, 1, 0), 0, 3)
    without.train_epoch(batches(8), 0, 3)
    assert same(weights(with_rest), weights(without))


@pytest.mark.parametrize("sizes", [(), (1,), (1, 0, 1)])
def test_an_epoch_without_a_step_is_an_error(sizes: tuple[int, ...]) -> None:
    with pytest.raises(TrainingError, match="worker 3 got no batch of 2 clips or more in epoch 2; ") as raised:
        learner().train_epoch(batches(*sizes), 1, 1, rank=3)
    # Another size of batch gives no more clips.
    assert "batch_size" not in str(raised.value)


def test_a_loss_that_is_not_finite_names_epoch_step_and_tracks() -> None:
    taught, given = learner(), batches(4, 12)
    before = weights(taught)

    def poisoned() -> Iterator[Batch]:
        yield given[0]
        with torch.no_grad():
            taught.model.head.bias.fill_(math.nan)
        yield given[1]

    message = r"the loss became nan in epoch 3, step 2 \(tracks track 1\.0, track 1\.1, .*, …\); lower training"
    with pytest.raises(TrainingError, match=message):
        taught.train_epoch(poisoned(), 2, 2)
    # The step that failed was not taken: what the first one left is there, and is finite but for the poison.
    assert not same(before, weights(taught))
    assert bool(taught.model.head.weight.isfinite().all())


@pytest.mark.parametrize("change", [{"seed": 1}, {"rank": 1}, {"epoch": 1}])
def test_seed_rank_and_epoch_choose_the_augmentation(change: dict[str, int]) -> None:
    def trained(seed: int = 0, epoch: int = 0, rank: int = 0) -> dict[str, torch.Tensor]:
        augment = AugmentConfig(roll_time=True, gain=0.3, mask_bins=0.3, mixup=0.3)
        taught = learner(replace(PLAIN, seed=seed, augment=augment))
        taught.train_epoch(batches(16), epoch, 1, rank)
        return weights(taught)

    assert same(trained(), trained())
    assert not same(trained(), trained(**change))


def test_a_gradient_is_clipped() -> None:
    def norm(config: TrainingConfig) -> float:
        taught = learner(config)
        taught.train_epoch(batches(16), 0, 1)
        return float(torch.cat([parameter.grad.flatten() for parameter in taught.model.parameters()]).norm())

    assert norm(PLAIN) > 0.05
    assert norm(replace(PLAIN, gradient_clip=0.05)) == pytest.approx(0.05, rel=1e-3)


def test_subnormal_numbers_are_zero_within_a_step_only() -> None:
    taught, inside = learner(), []
    tiny = torch.tensor(1e-30)
    taught.model.head.weight.register_hook(lambda gradient: inside.append(float(tiny * 1e-10)))
    taught.train_epoch(batches(4), 0, 1)
    assert inside == [0.0]
    assert float(tiny * 1e-10) > 0


def test_sgd_with_momentum_by_hand() -> None:
    """Velocity = momentum · velocity + gradient; weight -= rate · velocity."""
    taught = learner(replace(PLAIN, optimizer="sgd", momentum=0.5, learning_rate=0.1, weight_decay=0.0))
    weight = taught.model.head.weight
    velocity, wanted = torch.zeros_like(weight), weight.detach().clone()
    for step, batch in enumerate(batches(8, 8)):
        taught.train_epoch([batch], step, 1)
        velocity = 0.5 * velocity + weight.grad
        wanted -= 0.1 * velocity
    torch.testing.assert_close(weight.detach(), wanted)
    assert {name.split(".", 1)[1] for name in taught.optimizer_tensors()} == {"momentum_buffer"}


def test_l2_on_biases_adds_to_the_loss() -> None:
    def first_loss(config: TrainingConfig) -> float:
        taught, seen = learner(config), []
        with torch.no_grad():
            taught.model.head.bias.fill_(2.0)
        taught.train_epoch(batches(9), 0, 1, on_step=lambda clips, loss: seen.append(loss))
        return seen[0]

    config = replace(PLAIN, l2=0.5)
    assert first_loss(replace(config, l2_biases=True)) - first_loss(config) == pytest.approx(0.5 * GENRES * 4, rel=1e-4)


def test_what_is_best_is_what_the_configuration_selects_by() -> None:
    first = {"epoch": 1, "validation_loss": 1.5, "validation_macro_f1": 0.25}
    second = {"epoch": 2, "validation_loss": 1.6, "validation_macro_f1": 0.75}
    assert PLAIN.validation_score(first) == 0.25
    by_loss = replace(PLAIN, select="loss")
    assert by_loss.validation_score(first) > by_loss.validation_score(second)
    by_age = replace(PLAIN, select="last")
    assert by_age.validation_score({"epoch": 1}) < by_age.validation_score({"epoch": 2})
    with pytest.raises(ValueError, match="patience waits for a better epoch"):
        replace(by_age, patience=3)


@pytest.mark.parametrize("change", [{}, {"l2": 0.1, "gradient_clip": 1.0}, {"precision": "bf16"}])
def test_a_model_without_weights_is_scored_and_stays_as_it_is(change: dict[str, object]) -> None:
    config = replace(PLAIN, **change)
    taught = Learner(Guess(GuessConfig(), GENRES), config, NORMALIZATION, GENRES, CPU)
    given, before = batches(16, 7), weights(taught)
    losses = [taught.train_epoch(given, epoch, 2).loss for epoch in range(3)]
    assert losses == [losses[0]] * 3
    assert losses[0] == pytest.approx(taught.validate(given).loss, rel=1e-6)
    assert same(before, weights(taught))
    assert taught.optimizer_tensors() == {}
    taught.load_optimizer_tensors({})


@pytest.mark.parametrize("shape", [(26,), (6, 5, 3)])
@pytest.mark.parametrize("mix", [0.0, 0.4])
def test_clips_of_other_axes_are_trained_on_too(shape: tuple[int, ...], mix: float) -> None:
    torch.manual_seed(0)
    normalization = Normalization((128.0,) * shape[-1], (64.0,) * shape[-1])
    config = replace(PLAIN, augment=AugmentConfig(mixup=mix))
    taught = Learner(Dense(DenseConfig(hidden=(8,)), shape, GENRES), config, normalization, GENRES, CPU)
    features = torch.randint(0, 256, (12, *shape), dtype=torch.uint8)
    given = [Batch(features, torch.arange(12) % GENRES, ["t"] * 12)]
    before = taught.validate(given).loss
    for epoch in range(4):
        taught.train_epoch(given, epoch, 1)
    assert taught.validate(given).loss < before
