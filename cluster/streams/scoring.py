"""Run a bundle on prepared clips, in one pass over the features.

Axes: N clips, F mel bins, T frames (a clip may have other axes), D numbers of an embedding, S of its sketch, G genres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pyarrow as pa
import ray
import torch
from ray.data import ActorPoolStrategy, Dataset

from cluster.session.profiles import Profile
from cluster.session.software import begin_work
from mgc.bundle import Bundle
from mgc.evaluation.answers import logits_column
from mgc.evaluation.embedding_map import sketch
from mgc.evaluation.robustness import zero_pixels
from mgc.features.clips import read_clips
from mgc.software import Software

_SCORE_BATCH: Final = 256


@dataclass(frozen=True)
class ScoreRequest:
    """Answers to get from a bundle for each clip.

    Attributes:
        shape: shape of a clip's features.
        embedded: tracks whose embeddings are returned; others are not kept in memory.
        zeroed: shares of pixels; for each, the model also predicts with that share of the pixels set to zero.
        software: software of the driver, which makes the request; workers refuse another.
    """

    shape: tuple[int, ...]
    embedded: Sequence[str] = ()
    zeroed: Sequence[float] = ()
    software: Software = field(default_factory=Software.here)


class Score:
    """Stage: run a bundle on clips.

    Args:
        bundle: the model, in the object store.
        request: what to return.
        gpu: whether to compute on a GPU.

    Raises:
        ResourceError: this process runs other software than the driver.
    """

    def __init__(
        self,
        bundle: ray.ObjectRef[Bundle],
        request: ScoreRequest,
        gpu: bool,
    ) -> None:
        begin_work(request.software)
        if not gpu:
            torch.set_num_threads(1)
        loaded: Bundle = ray.get(bundle)
        self._predict = loaded.predictor(torch.device("cuda" if gpu else "cpu"))
        self._genres = len(loaded.taxonomy)
        self._shape = request.shape
        self._embedded = frozenset(request.embedded)
        self._zeroed = request.zeroed

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Return one row per clip, see `answer_clips`."""
        clips_NFT = read_clips(batch["features"], self._shape, self._predict.dtype)
        wanted = [track in self._embedded for track in batch["track_id"].to_pylist()]
        logits_NG = np.empty((len(clips_NFT), self._genres), np.float32)
        embeddings: list[bytes | None] = [None] * len(clips_NFT)
        for rows, embedding_ND, part_NO in self._predict.parts(clips_NFT):
            logits_NG[rows] = self._predict.to_genres(part_NO)
            if any(wanted[rows]):
                for row, numbers_S in enumerate(sketch(embedding_ND), rows.start):
                    embeddings[row] = numbers_S.tobytes() if wanted[row] else None
        columns = {name: batch[name] for name in ("track_id", "genre_top", "artist_id")}
        columns["logits"] = _lists(logits_NG)
        columns["embedding"] = pa.array(embeddings, pa.binary())
        for share in self._zeroed:
            columns[logits_column(share)] = _lists(self._predict.logits(zero_pixels(clips_NFT, share)))
        return pa.table(columns)


def answer_clips(clips: Dataset, bundle: Bundle, request: ScoreRequest, profile: Profile) -> pa.Table:
    """Run a bundle on every clip of a features stream.

    Args:
        clips: stream with `track_id`, `genre_top`, `artist_id` and `features`.
        bundle: the model.
        request: what to return.
        profile: resources of the stage.

    Returns:
        One row per clip: `track_id`, `genre_top`, `artist_id`, `logits` (list of float32), `embedding` (a sketch of it,
        float32 as bytes; null for tracks not in `embedded`), and for each share of zeroed pixels a column of logits,
        named by `logits_column`.
    """
    gpu = profile.gpus > 0
    scored = clips.map_batches(
        Score,
        fn_constructor_kwargs={"bundle": ray.put(bundle), "request": request, "gpu": gpu},
        batch_size=_SCORE_BATCH,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(min_size=1, max_size=max(2, profile.cores)),
        num_cpus=profile.decode_cpus,
        num_gpus=profile.gpus / profile.predict_actors if gpu else None,
    )
    return pa.concat_tables(list(scored.iter_batches(batch_size=None, batch_format="pyarrow")))


def _lists(logits_NG: np.ndarray) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(logits_NG.reshape(-1)), logits_NG.shape[1])
