"""Stage: clips of features → one decision per track.

Axes: N clips of a batch, F mel bins, T frames (a clip may have other axes), D numbers of an embedding, G genres.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Final

import numpy as np
import torch

from mgc.errors import FeaturesError
from mgc.features.normalization import Normalization
from mgc.labeling.adjust import PriorAdjustment
from mgc.labeling.decide import decide
from mgc.models.blocks import Classifier
from mgc.taxonomy import Taxonomy

CLIPS_AT_ONCE_CPU: Final = 8
"""Clips per pass on a CPU. The first layer's maps then fit into the cache: 1.5 to 2.7 times as fast as 256."""

CLIPS_AT_ONCE_GPU: Final = 256


class Predict:
    """Stage: a trained network that answers batches of tracks.

    A clip's logits depend only on the clip. The network always sees the same number of clips, padded with silence.
    Kernels are chosen by batch size, and they round differently: with varying sizes, the last digits of a track's
    answer would depend on the other tracks in its batch.

    Args:
        model: network from normalised features to logits; it is copied.
        normalization: normalisation of the stored features.
        taxonomy: genres in the order of the logits.
        shape: shape of one clip's features.
        device: device to compute on; the CPU by default.
        top_k: largest number of genres to list for a track; at least 1.
        clips_at_once: number of clips that go through the network together; by default what suits the device.
        dtype: dtype of the stored features.
        adjustment: adjustment of the logits, or None.
        embed: whether to add each track's embedding to its row.
    """

    def __init__(
        self,
        model: Classifier,
        normalization: Normalization,
        taxonomy: Taxonomy,
        shape: tuple[int, ...],
        device: torch.device | None = None,
        top_k: int = 3,
        clips_at_once: int | None = None,
        dtype: str = "uint8",
        adjustment: PriorAdjustment | None = None,
        embed: bool = False,
    ) -> None:
        self._device = device or torch.device("cpu")
        # mypy: torch's stubs lack memory_format.
        copied = copy.deepcopy(model).to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._model: Classifier = copied.eval()
        self._normalization = normalization
        self._genres = taxonomy.names
        self._shape = shape
        self.dtype = np.dtype(dtype)
        self._top_k = top_k
        self._adjustment = adjustment
        self._embed = embed
        self._clips_at_once = clips_at_once or (CLIPS_AT_ONCE_CPU if self._device.type == "cpu" else CLIPS_AT_ONCE_GPU)

    def logits(self, clips_NFT: np.ndarray) -> np.ndarray:
        """Return the logits of clips, adjusted if the bundle says so: float32 (clips, genres).

        Args:
            clips_NFT: features as stored, (clips, *shape).
        """
        return self._logits(clips_NFT)

    def _logits(self, clips_NFT: np.ndarray, means: _Means | None = None) -> np.ndarray:
        """Return the logits of clips, and add their embeddings to `means`."""
        logits_NG = np.empty((len(clips_NFT), len(self._genres)), np.float32)
        for rows, embedding_ND, part_NG in self.parts(clips_NFT):
            logits_NG[rows] = part_NG
            if means is not None:
                means.add(rows, embedding_ND.cpu().numpy())
        return logits_NG

    @torch.inference_mode()
    def parts(self, clips_NFT: np.ndarray) -> Iterator[tuple[slice, torch.Tensor, np.ndarray]]:
        """Yield the embeddings and logits of clips, a few clips at a time, since an embedding can be large.

        Args:
            clips_NFT: features as stored, (clips, *shape).

        Yields:
            The places of the clips; their embeddings, float32 (clips, numbers) on the device; and their logits, float32
            (clips, genres).
        """
        for start in range(0, len(clips_NFT), self._clips_at_once):
            part_NFT = clips_NFT[start : start + self._clips_at_once]
            count = len(part_NFT)
            filled_NFT = np.zeros((self._clips_at_once, *self._shape), self.dtype)
            filled_NFT[:count] = part_NFT
            features_NFT = self._normalization.apply(torch.from_numpy(filled_NFT).to(self._device))
            embedding_ND = self._model.embed(features_NFT)
            logits_NG = self._model.classify(embedding_ND).float().cpu().numpy()[:count]
            if self._adjustment is not None:
                logits_NG = self._adjustment.apply(logits_NG)
            yield slice(start, start + count), embedding_ND[:count].float(), logits_NG

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Answer a batch with one row per track. `clips` is dropped and the answer is added.

        Args:
            batch: columns with `clips` (bytes: C-ordered (clips, *shape), None for a track with an error) and
                `clip_count` (int32, 0 for a track with an error).

        Returns:
            The batch without `clips`, with `genre_top` (str or None), `confidence` (float64, NaN where none) and
            `top_k` (pairs of genre and probability, or None). With `embed`, also with `embedding` (float32 (numbers,):
            the mean over the track's clips, or None) and `windows` (the number of those clips).

        Raises:
            FeaturesError: a track's clips do not have the shape that the network was trained with.
        """
        counts = batch["clip_count"].astype(np.int64)
        clip_bytes = math.prod(self._shape) * self.dtype.itemsize
        for row, (clips, count) in enumerate(zip(batch["clips"], counts, strict=True)):
            found = 0 if clips is None else len(clips)
            if found != count * clip_bytes:
                raise FeaturesError(
                    f"row {row} of a batch has {found} bytes of features, {count} clips of {self._side()} "
                    f"take {count * clip_bytes}. Compute features with the bundle's front end."
                )
        joined = b"".join(clips for clips in batch["clips"] if clips is not None)
        clips_NFT = np.frombuffer(joined, self.dtype).reshape(-1, *self._shape)
        tracks = len(counts)
        means = _Means(counts) if self._embed else None
        logits_NG = self._logits(clips_NFT, means)
        genre_top = np.full(tracks, None, dtype=object)
        confidence = np.full(tracks, np.nan)
        top_k = np.full(tracks, None, dtype=object)
        ends = np.cumsum(counts)
        for row, (count, end) in enumerate(zip(counts, ends, strict=True)):
            if count:
                decision = decide(logits_NG[end - count : end], self._genres, self._top_k)
                genre_top[row], confidence[row] = decision.genre_top, decision.confidence
                top_k[row] = decision.top_k
        kept = {name: values for name, values in batch.items() if name != "clips"}
        answers = {"genre_top": genre_top, "confidence": confidence, "top_k": top_k}
        return {**kept, **answers} if means is None else {**kept, **answers, **means.columns()}

    def _side(self) -> str:
        """Return the size of a clip, for people."""
        if len(self._shape) == 2:
            return f"{self._shape[0]} bins and {self._shape[1]} frames ({self.dtype})"
        return f"{' x '.join(map(str, self._shape))} numbers ({self.dtype})"


class _Means:
    """Means of the embeddings of each track's clips. Only sums are in memory, since an embedding can be large.

    Args:
        counts: number of clips of each track; the clips come in the order of the tracks.
    """

    def __init__(self, counts: np.ndarray) -> None:
        self._counts = counts
        self._track_N = np.repeat(np.arange(len(counts)), counts)
        self._sums: dict[int, np.ndarray] = {}

    def add(self, rows: slice, embedding_ND: np.ndarray) -> None:
        """Add the embeddings of the clips at these places."""
        for track, clip_D in zip(self._track_N[rows].tolist(), embedding_ND.astype(np.float64), strict=True):
            self._sums[track] = self._sums[track] + clip_D if track in self._sums else clip_D

    def columns(self) -> dict[str, np.ndarray]:
        """Return the columns `embedding` and `windows`."""
        embedding = np.full(len(self._counts), None, dtype=object)
        for track, sum_D in self._sums.items():
            embedding[track] = (sum_D / self._counts[track]).astype(np.float32)
        return {"embedding": embedding, "windows": self._counts.astype(np.int32)}
