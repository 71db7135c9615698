"""How rows are cut into workers' shares of global batches, and which workers there may be; no Ray is started."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest

from cluster.session.profiles import Profile, fit
from cluster.training.batches import cut_shares, weigh_share
from cluster.training.job import check_batch
from mgc.errors import ConfigError
from tests.support.tiny_features import EXPERIMENT


def rows(shard: range, table_rows: int) -> list[pa.Table]:
    return [pa.table({"row": list(shard[start : start + table_rows])}) for start in range(0, len(shard), table_rows)]


@pytest.mark.parametrize("world", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("left", [0, 1, 13])
def test_every_step_has_the_global_batch_and_all_workers_stop_together(world: int, left: int) -> None:
    batch, steps = 16, 9
    # Each worker's shard: enough for nine steps of the largest share, and some rows more.
    each = -(-steps * batch // world) + min(left, batch // world - 1)
    dealt = []
    for rank in range(world):
        shard = range(rank * each, (rank + 1) * each)
        dealt.append([table["row"].to_pylist() for table in cut_shares(rows(shard, 5), batch, rank, world)])
        given = [row for share in dealt[-1] for row in share]
        assert given == list(shard)[: len(given)]
    assert {len(worker) for worker in dealt} == {steps}
    for step in range(steps):
        sizes = [len(worker[step]) for worker in dealt]
        assert sum(sizes) == batch
        assert max(sizes) - min(sizes) <= 1


def test_steps_that_are_done_are_passed_over() -> None:
    whole = [table["row"].to_pylist() for table in cut_shares(rows(range(50), 7), 12, 1, 3)]
    rest = [table["row"].to_pylist() for table in cut_shares(rows(range(50), 7), 12, 1, 3, skip=5)]
    assert rest == whole[5:]
    assert len(rest) > 3


@pytest.mark.parametrize("world", [1, 3])
@pytest.mark.parametrize("each", [0, 1, 3])
def test_rows_too_few_for_a_step_are_one_short_step_on_every_worker(world: int, each: int) -> None:
    for rank in range(world):
        shard = range(rank * each, (rank + 1) * each)
        dealt = [table["row"].to_pylist() for table in cut_shares(rows(shard, 2), 12, rank, world)]
        assert dealt == ([list(shard)] if each else [])
        assert not list(cut_shares(rows(shard, 2), 12, rank, world, skip=1))


def test_shares_weigh_as_much_as_they_have_clips() -> None:
    for sizes, batch in (((4, 4, 4), 12), ((4, 5, 5), 14)):
        weights = [weigh_share(clips, batch, 3) for clips in sizes]
        assert weights == [clips * 3 / batch for clips in sizes]
        assert sum(weights) == pytest.approx(3)
    # A short batch is the mean of its own clips.
    assert weigh_share(3, 12, 3) == weigh_share(7, 12, 1) == 1


def profile(workers: int, accumulation: int = 1, **fields: object) -> Profile:
    return replace(fit("test", 2, 8, train_workers=workers), accumulation=accumulation, **fields)


def test_workers_and_parts_have_to_divide_the_batch() -> None:
    for workers, parts in ((1, 1), (2, 2), (4, 1)):
        check_batch(EXPERIMENT, profile(workers, parts))
    with pytest.raises(ConfigError, match=r"training\.batch_size 8\b.*\b3 workers"):
        check_batch(EXPERIMENT, profile(3))
    with pytest.raises(ConfigError, match=r"\b2 workers\b.*\b3 parts"):
        check_batch(EXPERIMENT, profile(2, 3))
    with pytest.raises(ConfigError, match=r"\b1 clip\b.*\b2\b"):
        check_batch(EXPERIMENT, profile(4, 2))


def test_workers_that_share_normalisation_stay_as_many() -> None:
    shared = replace(EXPERIMENT, training=replace(EXPERIMENT.training, normalization_batch=8))
    with pytest.raises(ConfigError, match="GPU"):
        check_batch(shared, profile(2))
    check_batch(shared, profile(2, gpus=2))
    with pytest.raises(ConfigError, match="--fewest-workers"):
        check_batch(shared, profile(2, gpus=2, fewest_workers=1))
