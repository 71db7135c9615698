"""On real music one worker and two reach the same validation score, within what three seeds differ by."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cluster.session.profiles import Profile
from mgc.bundle import load_bundle
from pipelines import import_mels, train
from pipelines.command.job import run

pytestmark = [pytest.mark.cluster, pytest.mark.drill, pytest.mark.filterwarnings("default")]

SEEDS = (0, 1, 2)


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("normalization_batch", [0, 16])
def test_one_worker_or_two_make_no_more_difference_than_the_seed(
    normalization_batch: int, ray_session: Profile, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """FMA's thumbnails, a small recipe. Batch normalisation over each worker's 32 clips or 64, and over 16 anywhere."""
    source = Path(os.environ.get("MGC_TEST_DATA") or "unset") / "fma_small_mels.parquet"
    if not source.exists():
        pytest.skip("MGC_TEST_DATA names no folder with fma_small_mels.parquet")
    features = str(tmp_path / "features")
    assert run(import_mels.command, [str(source), "--out", features]) == 0
    scores: dict[int, list[float]] = {}
    for workers in (1, 2):
        for seed in SEEDS:
            out = tmp_path / f"{workers}-{seed}"
            arguments = [
                "--recipe", "house-thumbnail", "--features", features, "--out", str(out), "--workers", str(workers),
                "--model.channels", "8,16,32", "--model.blocks", "0", "--training.epochs", "4",
                "--training.normalization_batch", str(normalization_batch), "--training.seed", str(seed),
            ]  # fmt: skip
            assert run(train.command, arguments) == 0
            scores.setdefault(workers, []).append(load_bundle(out).training.validation["validation_macro_f1"])
    means = {workers: sum(found) / len(found) for workers, found in scores.items()}
    spread = max(max(found) - min(found) for found in scores.values())
    with capsys.disabled():
        rounded = {workers: [round(score, 4) for score in found] for workers, found in scores.items()}
        print(f"\nnormalization_batch {normalization_batch}: validation macro-F1 by workers {rounded}, means {means}")
    assert abs(means[1] - means[2]) <= spread
