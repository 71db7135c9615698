"""Stage: clips of features → one decision per track. It needs no PyTorch: a network is whatever answers arrays.

Axes: N clips of a batch, F mel bins, T frames (a clip may have other axes), D numbers of an embedding, O outputs of the
network: first those for genres, then those that name sounds, if it has any; G genres.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from mgc.errors import FeaturesError
from mgc.labeling.decide import Decision, decide
from mgc.labeling.tags import TagMap, Verdict, Vocabulary

CLIPS_AT_ONCE_CPU: Final = 8
"""Clips per pass on a CPU. The first layer's maps then fit into the cache: 1.5 to 2.7 times as fast as 256."""

CLIPS_AT_ONCE_GPU: Final = 256


class Network(Protocol):
    """A trained network: `mgc.models.graph.Graph`, or `TorchNetwork`."""

    def __call__(self, clips_NFT: np.ndarray, /) -> tuple[np.ndarray, np.ndarray]:
        """Return embeddings, float32 (N, D), and outputs, float32 (N, O).

        Args:
            clips_NFT: features as stored.
        """


@dataclass(frozen=True)
class Meaning:
    """What a network hears, and what its outputs mean.

    Attributes:
        shape: shape of one clip's features.
        dtype: dtype of the stored features.
        genres: names of the genres in the order of the answers.
        tags: which outputs speak for which genre; None if they are the genres.
        sounds: names of the sounds that the network knows besides; None if it knows none.
    """

    shape: tuple[int, ...]
    dtype: str
    genres: tuple[str, ...]
    tags: TagMap | None = None
    sounds: Vocabulary | None = None


class Predict:
    """Stage: a trained network that answers batches of tracks.

    A clip's logits depend only on the clip. The network always sees the same number of clips, padded with silence.
    Kernels are chosen by batch size, and they round differently: with varying sizes, the last digits of a track's
    answer would depend on the other tracks in its batch.

    Args:
        network: the network.
        meaning: what it hears, and what its outputs mean.
        top_k: largest number of genres to list for a track; at least 1.
        clips_at_once: number of clips that go through the network together.
        embed: whether to add each track's embedding to its row.
    """

    def __init__(
        self,
        network: Network,
        meaning: Meaning,
        top_k: int = 3,
        clips_at_once: int = CLIPS_AT_ONCE_CPU,
        embed: bool = False,
    ) -> None:
        self._network = network
        self._genres = meaning.genres
        self._shape = meaning.shape
        self.dtype = np.dtype(meaning.dtype)
        self._top_k = top_k
        self._tags = meaning.tags
        self._sounds = meaning.sounds
        self._embed = embed
        self._own = len(meaning.genres if meaning.tags is None else meaning.tags.vocabulary.tags)
        self._outputs = self._own + (0 if meaning.sounds is None else len(meaning.sounds.tags))
        self._clips_at_once = clips_at_once

    def logits(self, clips_NFT: np.ndarray) -> np.ndarray:
        """Return the logits of genres of clips: float32 (clips, genres).

        Args:
            clips_NFT: features as stored, (clips, *shape).
        """
        return self.to_genres(self.outputs(clips_NFT))

    def outputs(self, clips_NFT: np.ndarray, means: Means | None = None) -> np.ndarray:
        """Return the outputs of the network for clips: float32 (clips, outputs).

        Args:
            clips_NFT: features as stored, (clips, *shape).
            means: gets the clips' embeddings.
        """
        outputs_NO = np.empty((len(clips_NFT), self._outputs), np.float32)
        for rows, embedding_ND, part_NO in self.parts(clips_NFT):
            outputs_NO[rows] = part_NO
            if means is not None:
                means.add(rows, embedding_ND)
        return outputs_NO

    def to_genres(self, outputs_NO: np.ndarray) -> np.ndarray:
        """Return the logits of genres for outputs of the network: float32 (clips, genres)."""
        own_NO = outputs_NO[:, : self._own]
        return own_NO if self._tags is None else self._tags.apply(own_NO)

    def answer(self, outputs_CO: np.ndarray, top_k: int) -> Decision | Verdict:
        """Return the answer for a track, or why it has none.

        Args:
            outputs_CO: outputs of the network for the track's clips, at least one.
            top_k: largest number of genres to list.
        """
        verdict = None if self._tags is None else self._tags.judge(outputs_CO[:, : self._own])
        if verdict is None and self._sounds is not None:
            verdict = self._sounds.judge(outputs_CO[:, self._own :])
        return verdict or decide(self.to_genres(outputs_CO), self._genres, top_k)

    def parts(self, clips_NFT: np.ndarray) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """Yield the embeddings and outputs of clips, a few clips at a time, since an embedding can be large.

        Args:
            clips_NFT: features as stored, (clips, *shape).

        Yields:
            The places of the clips; their embeddings, float32 (clips, numbers); and the network's outputs, float32
            (clips, outputs).
        """
        for start in range(0, len(clips_NFT), self._clips_at_once):
            part_NFT = clips_NFT[start : start + self._clips_at_once]
            count = len(part_NFT)
            filled_NFT = np.zeros((self._clips_at_once, *self._shape), self.dtype)
            filled_NFT[:count] = part_NFT
            embedding_ND, outputs_NO = self._network(filled_NFT)
            yield slice(start, start + count), embedding_ND[:count], outputs_NO[:count]

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Answer a batch with one row per track. `clips` is dropped and the answer is added.

        A track without music gets an error kind and a message in place of an answer.

        Args:
            batch: columns with `clips` (bytes: C-ordered (clips, *shape), None for a track with an error) and
                `clip_count` (int32, 0 for a track with an error), `error_kind` and `error_message`.

        Returns:
            The batch without `clips`, with new errors, and with `genre_top` (str or None), `confidence` (float64, NaN
            where none) and `top_k` (pairs of genre and probability, or None). With `embed`, also with the columns of
            `Means`.

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
        means = Means(counts) if self._embed else None
        outputs_NO = self.outputs(np.frombuffer(joined, self.dtype).reshape(-1, *self._shape), means)
        tracks = len(counts)
        genre_top = np.full(tracks, None, dtype=object)
        confidence = np.full(tracks, np.nan)
        top_k = np.full(tracks, None, dtype=object)
        error_kind, error_message = batch["error_kind"].copy(), batch["error_message"].copy()
        ends = np.cumsum(counts)
        for row, (count, end) in enumerate(zip(counts, ends, strict=True)):
            if not count:
                continue
            answer = self.answer(outputs_NO[end - count : end], self._top_k)
            if isinstance(answer, Verdict):
                error_kind[row], error_message[row] = answer.kind.value, answer.message
            else:
                genre_top[row], confidence[row] = answer.genre_top, answer.confidence
                top_k[row] = answer.top_k
        kept = {name: values for name, values in batch.items() if name != "clips"}
        errors = {"error_kind": error_kind, "error_message": error_message}
        answers = {"genre_top": genre_top, "confidence": confidence, "top_k": top_k}
        return {**kept, **errors, **answers, **({} if means is None else means.columns())}

    def _side(self) -> str:
        """Return the size of a clip, for people."""
        if len(self._shape) == 2:
            return f"{self._shape[0]} bins and {self._shape[1]} frames ({self.dtype})"
        return f"{' x '.join(map(str, self._shape))} numbers ({self.dtype})"


class Means:
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
        """Return the means as `embedding`, float32 (numbers,) or None, and as `windows` the number of clips, int32."""
        embedding = np.full(len(self._counts), None, dtype=object)
        for track, sum_D in self._sums.items():
            embedding[track] = (sum_D / self._counts[track]).astype(np.float32)
        return {"embedding": embedding, "windows": self._counts.astype(np.int32)}
