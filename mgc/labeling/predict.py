"""Stage: clips of features to one decision a track.

Axes: N clips of a batch, F mel bins, T frames, G genres.
"""

from __future__ import annotations

import json

import numpy as np
import torch

from mgc.features.normalization import Normalization
from mgc.labeling.decide import decide
from mgc.models.blocks import Classifier
from mgc.taxonomy import Taxonomy


class Predict:
    """A trained network at work.

    Args:
        model: from normalised features to logits.
        normalization: of the stored features.
        taxonomy: names of the logits.
        shape: (bins, frames) of one clip.
        device: where to compute.
        top_k: genres listed for a track, at most.
        clips_at_once: clips that go through the network together; bounds memory whatever the batch holds.
    """

    def __init__(
        self,
        model: Classifier,
        normalization: Normalization,
        taxonomy: Taxonomy,
        shape: tuple[int, int],
        device: torch.device | None = None,
        top_k: int = 3,
        clips_at_once: int = 256,
    ) -> None:
        self._device = device or torch.device("cpu")
        self._model = model.to(self._device, memory_format=torch.channels_last).eval()
        self._normalization = normalization
        self._genres = taxonomy.names
        self._shape = shape
        self._top_k = top_k
        self._clips_at_once = clips_at_once

    @torch.inference_mode()
    def logits(self, clips_NFT: np.ndarray) -> np.ndarray:
        """Logits of clips: float32 (clips, genres).

        Args:
            clips_NFT: uint8 (clips, bins, frames).
        """
        parts = [
            self._logits(clips_NFT[start : start + self._clips_at_once])
            for start in range(0, len(clips_NFT), self._clips_at_once)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, len(self._genres)), np.float32)

    def _logits(self, clips_NFT: np.ndarray) -> np.ndarray:
        count = len(clips_NFT)
        if count == 1:
            # A batch of one takes another code path in the kernels and differs by 3e-8: pad it, so that a track's answer
            # does not depend on who was in its batch.
            clips_NFT = np.concatenate([clips_NFT, clips_NFT])
        features_NFT = torch.from_numpy(np.ascontiguousarray(clips_NFT)).to(self._device)
        logits_NG: np.ndarray = self._model(self._normalization.apply(features_NFT)).float().cpu().numpy()
        return logits_NG[:count]

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """One row a track in and out; `clips` goes, the answer comes.

        Args:
            batch: with `clips` (bytes: C-ordered uint8 (clips, bins, frames), None where the track has an error) and
                `clip_count` (int32).

        Returns:
            The batch without `clips`, with `genre_top` (str or None), `confidence` (float64, NaN where none) and `top_k` (JSON
            text of [[genre, probability], …], or None).
        """
        counts = batch["clip_count"].astype(np.int64)
        joined = b"".join(clips for clips in batch["clips"] if clips is not None)
        clips_NFT = np.frombuffer(joined, np.uint8).reshape(-1, *self._shape)
        logits_NG = self.logits(clips_NFT)
        tracks = len(counts)
        genre_top = np.full(tracks, None, dtype=object)
        confidence = np.full(tracks, np.nan)
        top_k = np.full(tracks, None, dtype=object)
        ends = np.cumsum(counts)
        for row, (count, end) in enumerate(zip(counts, ends, strict=True)):
            if count:
                decision = decide(logits_NG[end - count : end], self._genres, self._top_k)
                genre_top[row], confidence[row] = decision.genre_top, decision.confidence
                top_k[row] = json.dumps(decision.top_k)
        kept = {name: values for name, values in batch.items() if name != "clips"}
        return {**kept, "genre_top": genre_top, "confidence": confidence, "top_k": top_k}
