"""A batch of clips.

Axes: B batch, F mel bins, T frames.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch


@dataclass(frozen=True, eq=False)
class Batch:
    """Clips with their genres.

    Attributes:
        features_BFT: uint8, as they are stored.
        genre_B: int64 logit indices.
        track_ids: B strings, for messages.
        weight: what its mean loss counts beside those of the other workers at the same step: 1 where all have as many
            clips. The mean over the workers is 1.
    """

    features_BFT: torch.Tensor  # noqa: N815  (axes in capitals)
    genre_B: torch.Tensor  # noqa: N815
    track_ids: list[str]
    weight: float = 1.0

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        return Batch(self.features_BFT.to(device), self.genre_B.to(device), self.track_ids, self.weight)

    def parts(self, at_once: int) -> list[Batch]:
        """The batch cut into as few parts of about one size as there can be, of `at_once` clips at most.

        Args:
            at_once: clips, two at least; 0 leaves it whole. A part has two at least, though it be one more than asked.
        """
        clips = len(self.genre_B)
        count = max(1, min(-(-clips // at_once), clips // 2)) if at_once else 1
        ends = [clips * part // count for part in range(count + 1)]
        return [
            Batch(self.features_BFT[start:end], self.genre_B[start:end], self.track_ids[start:end], self.weight)
            for start, end in itertools.pairwise(ends)
        ]
