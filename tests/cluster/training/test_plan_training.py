"""What is measured before a training starts; no Ray is started for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pytest
import torch

from cluster.session.profiles import fit
from cluster.training.job import TrainingJob, plan_training
from mgc.audio.excerpts import ListeningPlan
from mgc.bundle_start import Start
from mgc.errors import FeaturesError
from mgc.experiment import Experiment
from mgc.features.mel_means import MelMeansConfig
from mgc.features.normalization import Normalization, ScalingConfig
from mgc.models.architecture import build_model
from mgc.models.dense import DenseConfig
from mgc.models.guess import Guess, GuessConfig
from mgc.schema import FeaturesFacts
from mgc.training.loop import TrainingConfig

CLIPS, NUMBERS = 400, 16
COUNTS = {"rock": 300, "folk": 100}
EXPERIMENT = Experiment(
    recipe="test",
    front_end=MelMeansConfig(n_mels=NUMBERS),
    listening=ListeningPlan(),
    model=DenseConfig(hidden=(4,)),
    training=TrainingConfig(batch_size=8),
)
FEATURES_NF = np.random.default_rng(0).normal(-40, 9, (2 * CLIPS, NUMBERS)).astype(np.float32)


def planned(
    experiment: Experiment, features_NF: np.ndarray = FEATURES_NF, counts: dict[str, int] = COUNTS
) -> TrainingJob:
    """The first half of the clips is to train on."""
    rows = pa.table(
        {
            "track_id": [str(row) for row in range(len(features_NF))],
            "split": ["train"] * CLIPS + ["test"] * CLIPS,
            "genre_top": (["rock"] * 300 + ["folk"] * 100) * 2,
            "features": [clip_F.tobytes() for clip_F in features_NF],
        }
    )
    dataset = pads.dataset(rows.to_batches(max_chunksize=33))
    return plan_training(dataset, FeaturesFacts({}, "f1", (NUMBERS,), "float32"), counts, experiment, fit("test", 2, 8))


def test_the_minimum_and_maximum_are_those_of_every_training_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.training.job.NORMALIZATION_CLIPS", 10)
    features_NF = FEATURES_NF.copy()
    features_NF[7, 3], features_NF[101, 5] = -900.0, 900.0
    scaling = ScalingConfig(method="min_max", unit_length=True)
    found = planned(replace(EXPERIMENT, scaling=scaling), features_NF).normalization
    assert found == Normalization.measure(features_NF[:CLIPS], scaling)
    assert found.offset_F[3] == -900
    assert found.offset_F[5] + found.scale_F[5] == pytest.approx(900, abs=1e-4)


@pytest.mark.parametrize(("most", "stride"), [(100, 4), (399, 2), (201, 2), (400, 1), (4096, 1)])
def test_mean_and_deviation_are_those_of_a_sample(monkeypatch: pytest.MonkeyPatch, most: int, stride: int) -> None:
    monkeypatch.setattr("cluster.training.job.NORMALIZATION_CLIPS", most)
    sample_NF = FEATURES_NF[:CLIPS:stride]
    assert len(sample_NF) <= most
    assert planned(EXPERIMENT).normalization == Normalization.measure(sample_NF)


def test_of_a_catalog_the_sample_is_of_the_clips_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.training.job.NORMALIZATION_CLIPS", 100)
    counts = {"rock": 60_000, "folk": 20_000}
    job = planned(EXPERIMENT, counts=counts)
    assert job.train_clips == 80_000
    assert job.normalization == Normalization.measure(FEATURES_NF[:CLIPS:4])


def test_a_guess_knows_the_genres_shares_in_the_order_of_the_taxonomy() -> None:
    job = planned(replace(EXPERIMENT, model=GuessConfig(shares="training")))
    assert job.taxonomy.names == ("folk", "rock")
    assert job.class_counts == (100, 300)
    model = job.model()
    assert isinstance(model, Guess)
    assert model.shares_G.tolist() == [0.25, 0.75]


@pytest.mark.parametrize("genres", [("folk", "rock"), ("rock", "folk"), ("jazz", "rock"), ("folk", "jazz", "rock")])
def test_a_head_is_kept_only_for_the_same_genres_in_the_same_order(genres: tuple[str, ...]) -> None:
    job = planned(EXPERIMENT)
    untrained = job.model().state_dict()
    torch.manual_seed(1)
    trained = build_model(EXPERIMENT.model, (NUMBERS,), len(genres)).state_dict()
    started = replace(job, start=Start("070695bd5426", dict(trained), genres, None)).model().state_dict()
    for name, tensor in started.items():
        kept = genres == job.taxonomy.names or not name.startswith("head.")
        assert torch.equal(tensor, (trained if kept else untrained)[name]), name


def test_a_clip_of_another_size_is_refused() -> None:
    with pytest.raises(FeaturesError, match=r"\b16 .*float32"):
        planned(EXPERIMENT, FEATURES_NF[:, :15])
