"""A batch computed whole, in parts, or by several workers gives the same training, where normalisation allows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from mgc.errors import ConfigError, TrainingError
from mgc.features.normalization import Normalization
from mgc.models.house import HouseCnn, HouseCnnConfig
from mgc.training.config import TrainingConfig
from mgc.training.ghost import GhostBatchNorm, normalize_over, sharing_workers
from mgc.training.loop import Batch, Learner

GENRES, CLIPS = 3, 24
PLAIN = TrainingConfig(
    epochs=3, batch_size=CLIPS, optimizer="sgd", learning_rate=0.05, l2=1e-3, gradient_clip=1.0, precision="float32"
)


def batch(clips: int = CLIPS, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return Batch(
        torch.randint(0, 256, (clips, 8, 10), dtype=torch.uint8, generator=generator),
        torch.randint(0, GENRES, (clips,), generator=generator),
        [f"t{row}" for row in range(clips)],
    )


def network(normalization: str = "group") -> HouseCnn:
    torch.manual_seed(0)
    return HouseCnn(HouseCnnConfig(channels=(6, 8), dropout=0.0, normalization=normalization), GENRES)


def learner(
    model: nn.Module,
    at_once: int = 0,
    config: TrainingConfig = PLAIN,
    agree: Callable[[str | None], str | None] = lambda fault: fault,
) -> Learner:
    normalization = Normalization((128.0,) * 8, (64.0,) * 8)
    return Learner(model, config, normalization, GENRES, torch.device("cpu"), (8, 8, 8), at_once, agree)


def losses(taught: Learner, epochs: int = 3) -> list[float]:
    return [taught.train_epoch([batch(seed=1), batch(seed=2)], epoch, 2).loss for epoch in range(epochs)]


@pytest.mark.parametrize("at_once", [12, 8, 7, 5, 2])
@pytest.mark.parametrize("frozen", [False, True])
def test_a_batch_in_parts_is_the_batch(at_once: int, frozen: bool) -> None:
    """Also with batch normalisation, where it is frozen: only the head learns."""

    def made() -> HouseCnn:
        model = network("batch" if frozen else "group")
        if frozen:
            model.keep_embedding(model.state_dict())
        return model

    whole, parts = learner(made()), learner(made(), at_once)
    assert losses(parts) == pytest.approx(losses(whole), rel=1e-5)
    for name, tensor in whole.model.state_dict().items():
        torch.testing.assert_close(parts.model.state_dict()[name], tensor, atol=1e-6, rtol=1e-4)


def test_with_batch_normalisation_it_is_another() -> None:
    whole, parts = learner(network("batch")), learner(network("batch"), 6)
    assert losses(parts) != pytest.approx(losses(whole), rel=1e-3)


def test_parts_are_even_and_hold_every_clip() -> None:
    whole = batch(23)
    for at_once, sizes in ((0, [23]), (30, [23]), (12, [11, 12]), (8, [7, 8, 8]), (2, [2] * 10 + [3])):
        parts = whole.parts(at_once)
        assert sorted(len(part.genre_B) for part in parts) == sizes
        assert [track for part in parts for track in part.track_ids] == whole.track_ids
        assert torch.equal(torch.cat([part.features_BFT for part in parts]), whole.features_BFT)


def test_workers_weighted_by_their_clips_give_the_mean_over_the_batch() -> None:
    """What data-parallel training averages: 7 clips on one worker, 17 on another."""
    whole, config = batch(), replace(PLAIN, gradient_clip=0.0)

    def gradients(given: Batch) -> dict[str, torch.Tensor]:
        taught = learner(network(), config=config)
        taught.train_epoch([given], 0, 1)
        return {name: parameter.grad for name, parameter in taught.model.named_parameters()}

    mine = Batch(whole.features_BFT[:7], whole.genre_B[:7], whole.track_ids[:7], 7 * 2 / CLIPS)
    yours = Batch(whole.features_BFT[7:], whole.genre_B[7:], whole.track_ids[7:], 17 * 2 / CLIPS)
    first, second, wanted = gradients(mine), gradients(yours), gradients(whole)
    for name, gradient in wanted.items():
        torch.testing.assert_close((first[name] + second[name]) / 2, gradient, atol=1e-6, rtol=1e-4)


def test_a_pass_in_pieces_is_one_pass_again_after_a_resume() -> None:
    """Augmentation goes on from a seed of its own: whoever begins there draws the same."""
    config = replace(PLAIN, augment=replace(PLAIN.augment, roll_time=True, gain=0.3), schedule="one_cycle")
    given = [batch(seed=number) for number in range(5)]
    taught = learner(network(), config=config)
    figures = taught.train_epoch(given[:3], 1, 5) + taught.train_epoch(given[3:], 1, 5, first=3)
    before = learner(network(), config=config)
    before.train_epoch(given[:3], 1, 5)
    after = learner(network(), config=config)
    after.model.load_state_dict(before.model.state_dict())
    after.load_optimizer_tensors(before.optimizer_tensors())
    torch.manual_seed(99)
    rest = after.train_epoch(given[3:], 1, 5, first=3)
    assert figures.clips == 5 * CLIPS
    assert rest.clips == 2 * CLIPS
    assert all(torch.equal(after.model.state_dict()[name], each) for name, each in taught.model.state_dict().items())


def test_all_stop_where_one_is_at_fault_and_say_what_it_says() -> None:
    asked: list[str | None] = []

    def agree(fault: str | None) -> str | None:
        asked.append(fault)
        return None if len(asked) < 2 else "another worker's loss became nan (tracks a, b)"

    taught = learner(network(), agree=agree)
    before = {name: tensor.clone() for name, tensor in taught.model.state_dict().items()}
    taught.train_epoch([batch()], 0, 2)
    between = {name: tensor.clone() for name, tensor in taught.model.state_dict().items()}
    with pytest.raises(TrainingError, match="another worker's loss became nan"):
        taught.train_epoch([batch()], 0, 2)
    assert asked == [None, None]
    assert not torch.equal(before["head.weight"], between["head.weight"])
    assert torch.equal(between["head.weight"], taught.model.state_dict()["head.weight"])


def test_a_ghost_normalises_each_part_by_itself_and_keeps_names_and_statistics() -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
    names = list(plain.state_dict())
    maps = torch.randn(12, 1, 5, 6)
    reference = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
    reference.load_state_dict(plain.state_dict())
    wanted = torch.cat([reference(maps[start : start + 4]) for start in (0, 4, 8)])
    normalize_over(plain, 4)
    assert isinstance(plain[1], GhostBatchNorm)
    torch.testing.assert_close(plain(maps), wanted)
    assert list(plain.state_dict()) == names
    torch.testing.assert_close(plain.state_dict(), reference.state_dict())
    # Scored as ever: by the running statistics, whatever the batch.
    torch.testing.assert_close(plain.eval()(maps), reference.eval()(maps))


def test_over_a_stated_number_of_clips_parts_are_the_batch_with_batch_normalisation_too() -> None:
    def made() -> HouseCnn:
        model = network("batch")
        normalize_over(model, 4)
        return model

    whole = learner(made())
    for at_once in (4, 8, 12):
        parts = learner(made(), at_once)
        assert losses(parts) == pytest.approx(losses(whole), rel=1e-5)
        whole = learner(made())


def test_what_normalisation_can_be_had() -> None:
    assert sharing_workers(0, 32, 3, False) == 1
    assert sharing_workers(16, 32, 3, False) == 1
    assert sharing_workers(64, 32, 4, True) == 2
    with pytest.raises(ConfigError, match="only GPUs can normalise over several workers"):
        sharing_workers(64, 32, 4, False)
    with pytest.raises(ConfigError, match="not a multiple of it"):
        sharing_workers(24, 32, 1, False)
    with pytest.raises(ConfigError, match="3 workers cannot be grouped"):
        sharing_workers(64, 32, 3, True)
    with pytest.raises(ValueError, match="normalization_batch 48 does not divide batch_size 64"):
        TrainingConfig(normalization_batch=48)


def test_group_normalisation_has_groups_of_sixteen_channels_where_they_divide() -> None:
    model = HouseCnn(HouseCnnConfig(channels=(24, 32, 6), normalization="group"), GENRES)
    groups = [
        (module.num_channels, module.num_groups) for module in model.modules() if isinstance(module, nn.GroupNorm)
    ]
    assert set(groups) == {(24, 3), (32, 2), (6, 3)}
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
