"""Prepared clips → what a bundle says to them, in one pass over the features.

Axes: N clips, F mel bins, T frames (a clip may have other axes), D numbers of an embedding, S of its sketch, G genres.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import ray
import torch
from ray.data import ActorPoolStrategy, Dataset

from cluster.session.profiles import Profile
from mgc.bundle import Bundle
from mgc.evaluation.answers import logits_column
from mgc.evaluation.embedding_map import sketch
from mgc.evaluation.robustness import zero_pixels
from mgc.features.stored import read_clips


class Score:
    """Stage: what a bundle says to clips.

    Args:
        bundle: the model.
        shape: of a clip's features.
        gpu: whether to compute on one.
        embedded: tracks whose embeddings are wanted.
        zeroed: shares of pixels to set to zero, for logits of noisy clips.
    """

    def __init__(
        self,
        bundle: ray.ObjectRef[Bundle],
        shape: tuple[int, ...],
        gpu: bool,
        embedded: Sequence[str] = (),
        zeroed: Sequence[float] = (),
    ) -> None:
        if not gpu:
            torch.set_num_threads(1)
        loaded: Bundle = ray.get(bundle)
        self._predict = loaded.predictor(torch.device("cuda" if gpu else "cpu"))
        self._genres = len(loaded.taxonomy)
        self._shape = shape
        self._embedded = frozenset(embedded)
        self._zeroed = tuple(zeroed)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """One row a clip: see `clip_answers`."""
        clips_NFT = read_clips(batch["features"], self._shape, self._predict.dtype)
        wanted = [track in self._embedded for track in batch["track_id"].to_pylist()]
        logits_NG = np.empty((len(clips_NFT), self._genres), np.float32)
        embeddings: list[bytes | None] = [None] * len(clips_NFT)
        for rows, embedding_ND, part_NG in self._predict.parts(clips_NFT):
            logits_NG[rows] = part_NG
            if any(wanted[rows]):
                for row, numbers_S in enumerate(sketch(embedding_ND.cpu().numpy()), rows.start):
                    embeddings[row] = numbers_S.tobytes() if wanted[row] else None
        columns = {name: batch[name] for name in ("track_id", "genre_top", "artist_id")}
        columns["logits"] = _lists(logits_NG)
        columns["embedding"] = pa.array(embeddings, pa.binary())
        for share in self._zeroed:
            columns[logits_column(share)] = _lists(self._predict.logits(zero_pixels(clips_NFT, share)))
        return pa.table(columns)


def clip_answers(
    clips: Dataset,
    bundle: Bundle,
    shape: tuple[int, ...],
    profile: Profile,
    embedded: Sequence[str] = (),
    zeroed: Sequence[float] = (),
) -> pa.Table:
    """What a bundle says to every clip of a features stream.

    Args:
        clips: with `track_id`, `genre_top`, `artist_id` and `features`.
        bundle: the model.
        shape: of a clip's features.
        profile: resources of the stage.
        embedded: tracks whose embeddings are wanted; those of no others are held in memory.
        zeroed: shares of pixels; the model answers once more with each of them set to zero.

    Returns:
        One row a clip: `track_id`, `genre_top`, `artist_id`, `logits` (list of float32), `embedding` (a sketch of it,
        float32 as bytes; null for other tracks), and for each share a column of logits, named by `logits_column`.
    """
    gpu = profile.gpus > 0
    scored = clips.map_batches(
        Score,
        fn_constructor_kwargs={
            "bundle": ray.put(bundle),
            "shape": shape,
            "gpu": gpu,
            "embedded": list(embedded),
            "zeroed": list(zeroed),
        },
        batch_size=256,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(min_size=1, max_size=max(2, profile.cores)),
        num_cpus=profile.decode_cpus,
        num_gpus=profile.gpus / profile.predict_actors if gpu else None,
    )
    return pa.concat_tables(list(scored.iter_batches(batch_size=None, batch_format="pyarrow")))


def _lists(logits_NG: np.ndarray) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(logits_NG.reshape(-1)), logits_NG.shape[1])
