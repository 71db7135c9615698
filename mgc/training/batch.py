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
        features_BFT: uint8, as stored.
        genre_B: int64 logit indices.
        track_ids: B strings, for messages.
        weight: weight of its mean loss among those of all workers at the same step. It is 1 if all have equally many
            clips; the mean over the workers is 1.
    """

    features_BFT: torch.Tensor  # noqa: N815  (axes in capitals)
    genre_B: torch.Tensor  # noqa: N815
    track_ids: list[str]
    weight: float = 1.0

    def to(self, device: torch.device) -> Batch:
        """Return the same batch on a device."""
        return Batch(self.features_BFT.to(device), self.genre_B.to(device), self.track_ids, self.weight)

    def parts(self, at_once: int) -> list[Batch]:
        """Cut the batch into as few parts as possible, of about equal size and at most `at_once` clips.

        Args:
            at_once: number of clips, at least two; 0 leaves the batch whole. Each part has at least two clips, even if
                that makes it one clip larger than `at_once`.
        """
        clips = len(self.genre_B)
        count = max(1, min(-(-clips // at_once), clips // 2)) if at_once else 1
        ends = [clips * part // count for part in range(count + 1)]
        return [
            Batch(self.features_BFT[start:end], self.genre_B[start:end], self.track_ids[start:end], self.weight)
            for start, end in itertools.pairwise(ends)
        ]
