"""Guessing: the answer is drawn, not learned. It is the baseline that any network has to beat.

Axes: B batch, F mel bins, T frames, N numbers of a clip, G genres.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from mgc.configuration import STRICT
from mgc.models.blocks import Classifier

_GOLDEN: Final = -0x61C8864680B583EB
_FIRST: Final = -0x40A7B892E31B1A47
_SECOND: Final = -0x6B2FB644ECCEEE15
"""SplitMix64's constants (Steele, Lea and Flood 2014) 0x9E37…15, 0xBF58…B9, 0x94D0…EB, as signed numbers of 64 bits."""

_BITS: Final = 53
"""Bits of a draw: as many as a double holds."""


@dataclass(frozen=True, config=STRICT)
class GuessConfig:
    """Configuration of `Guess`.

    Attributes:
        shares: shares of the answers: `uniform`, or those of the genres among the `training` clips.
        seed: seed of the draws.
    """

    kind: Literal["guess"] = "guess"
    shares: Literal["uniform", "training"] = "uniform"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0


class Guess(Classifier):
    """Answers drawn from fixed shares; there is nothing to train.

    A hash of a clip's features is the seed of its draw, so the same clip always gets the same answer, in any batch and
    on any machine. The logits are the logarithms of the shares plus Gumbel noise. The largest of them is a draw from
    the shares (Gumbel 1954). The head is empty: re-training it changes nothing.

    Args:
        config: shares and seed.
        genres: number of logits.
    """

    shares_G: torch.Tensor  # noqa: N815  (axes in capitals)

    def __init__(self, config: GuessConfig, genres: int) -> None:
        super().__init__()
        self.config = config
        self.head = nn.Identity()
        self.register_buffer("shares_G", torch.full((genres,), 1 / genres))

    def set_counts(self, class_counts: Sequence[int]) -> None:
        """Set the shares of the genres among the training clips; does nothing if shares are uniform.

        Args:
            class_counts: training clips of each genre, in the order of the logits, all greater than zero.
        """
        if self.config.shares == "training":
            counts_G = torch.tensor(class_counts, dtype=torch.float64)
            self.shares_G.copy_(counts_G / counts_G.sum())

    def embed(self, features_BFT: torch.Tensor) -> torch.Tensor:
        """Return the Gumbel noise of each clip, float32 (B, G)."""
        bits_BN = features_BFT.float().contiguous().flatten(1).view(torch.int32).to(torch.int64)
        # A sum does not depend on the order, so each place is hashed before it.
        place_N = torch.arange(bits_BN.shape[1], device=bits_BN.device) + self.config.seed * bits_BN.shape[1]
        clip_B1 = _mixed(bits_BN + _mixed(place_N * _GOLDEN)).sum(dim=1, keepdim=True)
        genre_G = torch.arange(1, len(self.shares_G) + 1, device=bits_BN.device)
        draws_BG = _shifted(_mixed(clip_B1 + genre_G * _GOLDEN), 64 - _BITS)
        # Never 0 or 1, which have no such logarithm.
        uniform_BG = (draws_BG.double() + 0.5) / 2.0**_BITS
        return -(-uniform_BG.clamp(max=1 - 2.0**-_BITS).log()).log().float()

    def classify(self, embedding_BD: torch.Tensor) -> torch.Tensor:
        """Return logits (B, G)."""
        logits_BG: torch.Tensor = self.head(embedding_BD + self.shares_G.log())
        return logits_BG


def _mixed(values: torch.Tensor) -> torch.Tensor:
    """Return SplitMix64's finaliser of int64 values, with products modulo 2^64."""
    values = (values ^ _shifted(values, 30)) * _FIRST
    values = (values ^ _shifted(values, 27)) * _SECOND
    return values ^ _shifted(values, 31)


def _shifted(values: torch.Tensor, places: int) -> torch.Tensor:
    """Shift to the right and fill with zeros, as for unsigned numbers."""
    return (values >> places) & ((1 << (64 - places)) - 1)
