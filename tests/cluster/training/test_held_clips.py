"""HeldClipSet held in memory: sampled as the stream is, whatever order they were read in, and never copied."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from cluster.session.profiles import laptop
from cluster.training.in_memory import HeldClipSet
from cluster.training.job import TrainingJob
from mgc.errors import FeaturesError
from mgc.features.normalization import Normalization
from mgc.taxonomy import Taxonomy
from mgc.training.sampling import Resample
from tests.support import tiny_features

COUNTS = {"folk": 36, "rock": 60}
JOB = TrainingJob(
    tiny_features.EXPERIMENT.override({"training.balance": "progressive", "training.epochs": "3"}),
    Taxonomy.flat(COUNTS),
    Normalization((100.0,) * 16, (50.0,) * 16),
    tiny_features.SHAPE,
    "uint8",
    96,
    (36, 60),
    laptop(),
)


def table() -> pa.Table:
    """96 clips of 24 tracks; a clip's first pixel is its row."""
    rows = [
        {
            "track_id": f"t{row // 4:02d}",
            "clip_index": row % 4,
            "genre_top": "folk" if row < 36 else "rock",
            "features": np.full(tiny_features.SHAPE, row, np.uint8).tobytes(),
            "artist_id": "",
        }
        for row in range(96)
    ]
    return pa.Table.from_pylist(rows)


def shuffled(seed: int) -> list[pa.Table]:
    """The same in other blocks and another order; some are empty, some begin in the middle of a buffer."""
    rows = table().take(np.random.default_rng(seed).permutation(96))
    return [rows.slice(0, 31), rows.slice(0, 0), rows.slice(31, 50), rows.slice(81)]


def drawn(clips: HeldClipSet, epoch: int) -> list[int]:
    """The rows of an epoch's batches, in order, by their first pixel."""
    return [int(row) for batch in clips.training_batches(epoch) for row in batch.features_BFT[:, 0, 0]]


def test_an_epoch_has_the_clips_that_a_stream_would_give() -> None:
    clips = HeldClipSet(shuffled(0), JOB)
    for epoch in range(3):
        stream = Resample(JOB.sampling(), JOB.experiment.training.seed, lambda epoch=epoch: epoch)  # type: ignore[misc]
        columns = {name: np.array(table()[name].to_pylist()) for name in ("track_id", "clip_index", "genre_top")}
        wanted = Counter(stream({**columns, "row": np.arange(96)})["row"].tolist())
        assert Counter(clips.draw_rows(epoch).tolist()) == wanted


def test_the_order_is_another_in_each_epoch_and_the_same_however_the_clips_were_read() -> None:
    one, other = HeldClipSet(shuffled(0), JOB), HeldClipSet(shuffled(1), JOB)
    assert drawn(one, 0) == drawn(other, 0) == drawn(HeldClipSet([table()], JOB), 0)
    assert drawn(one, 0) != drawn(one, 1)


def test_batches_are_whole_and_say_whose_clips_they_are() -> None:
    clips = HeldClipSet(shuffled(0), JOB)
    assert len(clips) == 96
    for batch in clips.training_batches(2):
        assert batch.features_BFT.shape == (8, *tiny_features.SHAPE)
        rows_B = batch.features_BFT[:, 0, 0].long()
        assert torch.equal(batch.genre_B, (rows_B >= 36).long())
        assert batch.track_ids == [f"t{row // 4:02d}" for row in rows_B.tolist()]
        assert bool((batch.features_BFT == batch.features_BFT[:, :1, :1]).all())
    everything = [int(row) for batch in clips.validation_batches() for row in batch.features_BFT[:, 0, 0]]
    assert everything == list(range(96))


def test_an_epoch_of_too_few_clips_for_a_batch_is_one_short_batch() -> None:
    clips = HeldClipSet([table()], JOB)
    drawn_rows = len(clips.draw_rows(2))
    for size, sizes in ((drawn_rows - 1, [drawn_rows - 1]), (drawn_rows, [drawn_rows]), (drawn_rows + 1, [drawn_rows])):
        training = replace(JOB.experiment.training, batch_size=size)
        job = replace(JOB, experiment=replace(JOB.experiment, training=training))
        found = [len(batch.genre_B) for batch in HeldClipSet([table()], job).training_batches(2)]
        assert found == sizes


def test_other_types_of_numbers_are_read_as_they_are() -> None:
    job = replace(JOB, shape=(5,), dtype="float32")
    numbers_NF = np.random.default_rng(0).normal(size=(96, 5)).astype(np.float32)
    rows = table().set_column(3, "features", [[row.tobytes() for row in numbers_NF]])
    (batch,) = HeldClipSet([rows], job).validation_batches()
    assert torch.equal(batch.features_BFT, torch.from_numpy(numbers_NF))


def test_a_clip_of_another_size_is_refused() -> None:
    rows = table()
    features = rows["features"].to_pylist()
    rows = rows.set_column(3, "features", [[*features[:-1], features[-1][:-1]]])
    with pytest.raises(FeaturesError, match=r"16 x 32\b.*uint8"):
        HeldClipSet([rows], JOB)
