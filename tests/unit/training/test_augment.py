from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from pydantic import ValidationError

from mgc.training.augment import SMALLEST_ALPHA, AugmentConfig, augment, limit_band, mixup
from mgc.training.losses import soft_targets

EVERYTHING = AugmentConfig(
    roll_time=True,
    crop_time=0.5,
    shift_bins=3,
    gain=0.1,
    mask_bins=0.3,
    mask_frames=0.3,
    limit_band=0.5,
    mixup=0.4,
)


def clips(batch: int = 16, bins: int = 12, frames: int = 20) -> torch.Tensor:
    """Every value differs from every other."""
    return torch.arange(1.0, batch * bins * frames + 1).reshape(batch, bins, frames)


def test_by_default_nothing_is_varied() -> None:
    torch.testing.assert_close(augment(clips(), AugmentConfig()), clips(), rtol=0, atol=0)


@pytest.mark.parametrize("field", [field.name for field in fields(AugmentConfig)])
def test_each_variation_keeps_shape_and_input_and_follows_the_seed(field: str) -> None:
    config = replace(AugmentConfig(), **{field: getattr(EVERYTHING, field)})
    features_BFT = clips()
    torch.manual_seed(1)
    first_BFT = augment(features_BFT, config)
    torch.manual_seed(1)
    again_BFT = augment(features_BFT, config)
    assert first_BFT.shape == features_BFT.shape or field == "crop_time"
    assert first_BFT.dtype == torch.float32
    torch.testing.assert_close(first_BFT, again_BFT, rtol=0, atol=0)
    torch.testing.assert_close(features_BFT, clips(), rtol=0, atol=0)
    # mixup is not augment's, since it needs the targets; nor is the band, which is of what is stored.
    assert torch.equal(first_BFT, features_BFT) == (field in ("mixup", "limit_band"))


def test_a_roll_keeps_the_columns_and_their_order() -> None:
    torch.manual_seed(0)
    features_BFT = clips(batch=64)
    rolled_BFT = augment(features_BFT, AugmentConfig(roll_time=True))
    offsets = set()
    for before_FT, after_FT in zip(features_BFT, rolled_BFT, strict=True):
        offset = int((before_FT[0] == after_FT[0, 0]).nonzero())
        assert torch.equal(after_FT, before_FT.roll(-offset, dims=1))
        offsets.add(offset)
    # Each clip turns by itself, and by anything from nothing to all but one frame.
    assert len(offsets) > 10
    assert offsets <= set(range(20))


def test_a_crop_is_a_stretch_of_each_clip_one_length_a_batch() -> None:
    features_BFT = torch.arange(20.0).expand(64, 12, 20)
    torch.manual_seed(0)
    lengths, starts = set(), set()
    for _ in range(60):
        cut_BFT = augment(features_BFT, AugmentConfig(crop_time=0.5))
        kept = cut_BFT.shape[2]
        first_B = cut_BFT[:, 0, 0]
        assert torch.equal(cut_BFT, (first_B[:, None] + torch.arange(kept))[:, None, :].expand(64, 12, kept))
        lengths.add(kept)
        if kept == 10:
            starts |= set(first_B.tolist())
    assert lengths == set(range(10, 21))
    assert starts == set(range(11))


def test_a_shift_moves_bins_by_so_many_and_repeats_the_edge() -> None:
    torch.manual_seed(0)
    features_BFT = clips(batch=64)
    shifted_BFT = augment(features_BFT, AugmentConfig(shift_bins=2))
    shifts = []
    for before_FT, after_FT in zip(features_BFT, shifted_BFT, strict=True):
        row = int((before_FT[:, 0] == after_FT[5, 0]).nonzero())
        rows = (torch.arange(12) + row - 5).clamp(0, 11)
        assert torch.equal(after_FT, before_FT[rows])
        shifts.append(row - 5)
    assert set(shifts) == {-2, -1, 0, 1, 2}


def test_a_gain_is_one_line_a_clip() -> None:
    torch.manual_seed(0)
    features_BFT = torch.randn(2000, 3, 4)
    changed_BFT = augment(features_BFT, AugmentConfig(gain=0.1))
    flat_BP, changed_BP = features_BFT.flatten(1), changed_BFT.flatten(1)
    factor_B = (changed_BP[:, 0] - changed_BP[:, 1]) / (flat_BP[:, 0] - flat_BP[:, 1])
    offset_B = changed_BP[:, 0] - factor_B * flat_BP[:, 0]
    torch.testing.assert_close(changed_BP, factor_B[:, None] * flat_BP + offset_B[:, None], atol=1e-2, rtol=0)
    assert float(factor_B.mean()) == pytest.approx(1.0, abs=0.02)
    assert float(factor_B.std()) == pytest.approx(0.1, abs=0.02)
    assert float(offset_B.std()) == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize(("field", "axis", "size"), [("mask_bins", 1, 40), ("mask_frames", 2, 50)])
def test_masks_are_two_stripes_of_a_limited_width(field: str, axis: int, size: int) -> None:
    torch.manual_seed(0)
    features_BFT = torch.ones(300, 40, 50)
    masked_BFT = augment(features_BFT, replace(AugmentConfig(), **{field: 0.2}))
    assert set(masked_BFT.unique().tolist()) == {0.0, 1.0}
    line_BS = masked_BFT.amax(dim=3 - axis)
    # A stripe goes through the whole other axis.
    assert torch.equal(masked_BFT, line_BS.unsqueeze(3 - axis).expand_as(masked_BFT))
    masked_B = size - line_BS.sum(dim=1)
    starts_B = (line_BS.diff(dim=1) == -1).sum(dim=1) + (line_BS[:, 0] == 0)
    assert int(starts_B.max()) == 2
    assert int(masked_B.max()) <= 2 * (0.2 * size + 1)
    # Two widths of 0 to 20 %: 20 % on average, less where they overlap.
    assert float(masked_B.mean()) / size == pytest.approx(0.19, abs=0.03)
    # Everywhere is hit, the two ends alike.
    hit_S = 1 - line_BS.mean(dim=0)
    assert float(hit_S.min()) > 0
    assert float(hit_S[0]) == pytest.approx(float(hit_S[-1]), abs=0.05)


def test_mixup_mixes_features_and_targets_in_the_same_proportion() -> None:
    torch.manual_seed(0)
    batch, genres = 64, 5
    genre_B = torch.randint(genres, (batch,))
    targets_BG = soft_targets(genre_B, genres, 0.1)
    # The features are the targets themselves, so both must come out alike.
    features_BFT = targets_BG[:, :, None].expand(batch, genres, 7).clone()
    mixed_BFT, mixed_BG = mixup(features_BFT, targets_BG, 0.4)
    torch.testing.assert_close(mixed_BFT, mixed_BG[:, :, None].expand(batch, genres, 7))
    torch.testing.assert_close(mixed_BG.sum(dim=1), torch.ones(batch))
    own_B = mixed_BG.gather(1, genre_B[:, None]).squeeze(1)
    assert bool((own_B >= 0.5 * 0.92).all())
    assert not torch.equal(mixed_BG, targets_BG)
    torch.testing.assert_close(features_BFT[:, :, 0], targets_BG, rtol=0, atol=0)


@pytest.mark.parametrize("alpha", [SMALLEST_ALPHA, 0.2, 10.0])
def test_mixup_shares_are_finite_and_follow_alpha(alpha: float) -> None:
    torch.manual_seed(0)
    features_BFT = torch.eye(500)[:, :, None]
    mixed_BFT, _ = mixup(features_BFT, torch.ones(500, 1), alpha)
    share_B = mixed_BFT.amax(dim=(1, 2))
    assert bool(share_B.isfinite().all())
    assert bool(((share_B >= 0.5) & (share_B <= 1.0)).all())
    assert (float(share_B.mean()) > 0.75) == (alpha < 1)


def test_an_alpha_that_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"mixup is 0, or at least 0\.01"):
        AugmentConfig(mixup=1e-3)


def test_a_limited_band_is_the_lowest_bins_and_silence_above() -> None:
    torch.manual_seed(0)
    stored_BFT = torch.randint(1, 256, (2000, 20, 7), dtype=torch.uint8)
    before_BFT = stored_BFT.clone()
    made_BFT = limit_band(stored_BFT, 0.6)
    assert made_BFT.dtype == torch.uint8
    assert torch.equal(stored_BFT, before_BFT)
    left_B = (made_BFT[:, :, 0] > 0).sum(1)
    for made_FT, stored_FT, left in zip(made_BFT, stored_BFT, left_B.tolist(), strict=True):
        assert torch.equal(made_FT[:left], stored_FT[:left])
        assert not made_FT[left:].any()
    counts = torch.bincount(left_B, minlength=21)
    # Half of the clips keep all; of the others 12 to 20 of 20 bins are left, the two ends half as often.
    assert not counts[:12].any()
    assert 0.5 < float(counts[20]) / 2000 < 0.57
    assert bool(((counts[13:20] > 80) & (counts[13:20] < 175)).all())


def test_a_band_is_drawn_anew_and_follows_the_seed() -> None:
    stored_BFT = torch.full((64, 20, 3), 9, dtype=torch.uint8)
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(limit_band(stored_BFT, 0.1))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert limit_band(stored_BFT, 1.0) is stored_BFT
    # However small the share, one bin is left.
    assert bool(limit_band(stored_BFT, 0.001)[:, 0].all())


@pytest.mark.parametrize("shape", [(16, 26), (16, 8, 9, 3)])
def test_vectors_and_images_can_be_mixed_and_else_stay_as_they_are(shape: tuple[int, ...]) -> None:
    features = torch.arange(float(torch.Size(shape).numel())).reshape(shape)
    assert augment(features, AugmentConfig(mixup=0.4)) is features
    torch.manual_seed(0)
    mixed, targets_BG = mixup(features, soft_targets(torch.arange(16), 16, 0.0), 0.4)
    # Each clip is of two, in the proportion of its targets.
    wanted = (targets_BG @ features.flatten(1)).reshape(shape)
    torch.testing.assert_close(mixed, wanted)
    assert not torch.equal(mixed, features)


def test_it_is_known_what_only_bins_over_frames_have() -> None:
    varied = {
        field.name
        for field in fields(AugmentConfig)
        if replace(AugmentConfig(), **{field.name: getattr(EVERYTHING, field.name)}).varies_pictures
    }
    assert varied == {"roll_time", "crop_time", "shift_bins", "gain", "mask_bins", "mask_frames", "limit_band"}
