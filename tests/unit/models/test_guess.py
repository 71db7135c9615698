from __future__ import annotations

import numpy as np
import pytest
import torch

from mgc.models.guess import Guess, GuessConfig

GENRES = 5
COUNTS = (500, 250, 125, 100, 25)


def clips(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 7, generator=torch.Generator().manual_seed(seed))


def guess(shares: str = "uniform", seed: int = 0) -> Guess:
    model = Guess(GuessConfig(shares=shares, seed=seed), GENRES)
    model.set_counts(COUNTS)
    return model


def reference_logits(clip_N: np.ndarray, shares_G: np.ndarray, seed: int = 0) -> list[float]:
    """The same draw in Python's own whole numbers: SplitMix64 as Steele, Lea and Flood (2014) print it."""

    def mixed(value: int) -> int:
        value &= 2**64 - 1
        value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & (2**64 - 1)
        value = (value ^ (value >> 27)) * 0x94D049BB133111EB & (2**64 - 1)
        return value ^ (value >> 31)

    golden = 0x9E3779B97F4A7C15
    bits = [int(value) for value in clip_N.astype(np.float32).view(np.int32)]
    clip = sum(mixed(value + mixed((place + seed * len(bits)) * golden)) for place, value in enumerate(bits))
    logits = []
    for genre, share in enumerate(shares_G, 1):
        uniform = ((mixed(clip + genre * golden) >> 11) + 0.5) / 2**53
        logits.append(float(np.log(share) - np.log(-np.log(uniform))))
    return logits


@pytest.mark.parametrize("seed", [0, 3])
def test_the_draw_by_hand(seed: int) -> None:
    features_BN = clips(6)
    logits_BG = guess("training", seed)(features_BN)
    for row, clip_N in enumerate(features_BN.numpy()):
        assert logits_BG[row].tolist() == pytest.approx(
            reference_logits(clip_N, np.array(COUNTS) / 1000, seed), rel=1e-5, abs=1e-5
        )


@pytest.mark.parametrize(("shares", "wanted"), [("uniform", (200,) * 5), ("training", COUNTS)])
def test_answers_are_drawn_from_the_shares(shares: str, wanted: tuple[int, ...]) -> None:
    drawn_B = guess(shares)(clips(20_000)).argmax(dim=1)
    counts_G = torch.bincount(drawn_B, minlength=GENRES) / 20
    # Four standard deviations.
    for found, share in zip(counts_G.tolist(), wanted, strict=True):
        assert abs(found - share) < 4 * (share * (1 - share / 1000) / 20) ** 0.5
    # A clip of one genre and of another are guessed alike: nothing of what is heard leads to the answer.
    assert not torch.equal(drawn_B[:10_000], drawn_B[10_000:])


def test_the_same_clip_gets_the_same_answer_whoever_is_beside_it() -> None:
    features_BN, model = clips(50), guess("training")
    together_BG = model(features_BN)
    alone_BG = torch.cat([model(clip_N.unsqueeze(0)) for clip_N in features_BN])
    assert torch.equal(alone_BG, together_BG)
    order = torch.randperm(50)
    assert torch.equal(guess("training")(features_BN[order]), together_BG[order])


def test_another_clip_or_another_seed_is_another_draw() -> None:
    features_BN = clips(1).repeat(2, 1)
    features_BN[1, 3] += 1e-6
    logits_BG = guess()(features_BN)
    assert not torch.equal(logits_BG[0], logits_BG[1])
    # The same numbers in other places are another clip.
    assert not torch.equal(guess()(features_BN.flip(1))[0], logits_BG[0])
    assert not torch.equal(guess(seed=1)(features_BN), logits_BG)


def test_the_shares_are_saved_with_the_weights() -> None:
    loaded = Guess(GuessConfig(shares="training"), GENRES)
    loaded.load_state_dict(guess("training").state_dict())
    assert torch.equal(loaded(clips(9)), guess("training")(clips(9)))
    assert guess("uniform").shares_G.tolist() == pytest.approx([0.2] * GENRES)


def test_silence_and_loud_numbers_give_finite_logits() -> None:
    features_BN = torch.stack([torch.zeros(7), torch.full((7,), 3e38), torch.full((7,), -1e-38)])
    assert guess()(features_BN).isfinite().all()
