"""From a checkpoint to a bundle: what a search keeps and what a training keeps is told alike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from cluster.session.profiles import laptop
from cluster.training.job import TrainingJob
from cluster.training.trained import load_trained
from mgc.features.normalization import Normalization
from mgc.taxonomy import Taxonomy
from mgc.training.course import Course
from mgc.training.loop import Learner
from tests.support import tiny_features

JOB = TrainingJob(
    tiny_features.EXPERIMENT,
    Taxonomy.flat({"folk": 1, "rock": 1}),
    Normalization((100.0,) * 16, (50.0,) * 16),
    tiny_features.SHAPE,
    "uint8",
    128,
    (64, 64),
    replace(laptop(), accumulation=2),
)


def test_a_bundle_says_with_what_it_was_made(tmp_path: Path) -> None:
    def learner(model: torch.nn.Module) -> Learner:
        return Learner(model, JOB.training, JOB.normalization, 2, torch.device("cpu"), JOB.class_counts, JOB.at_once)

    course = Course(JOB.training, JOB.model, learner)
    course.begin()
    course.end({"epoch": 1, "train_loss": 0.5, "validation_macro_f1": 0.25, "validation_loss": 1.0})
    course.save(tmp_path)
    bundle, history = load_trained(tmp_path, JOB, workers=3)
    made = bundle.training.made_with
    assert (made.workers, made.accumulation, made.precision) == (3, 2, "float32")
    assert history == course.history
    kept = course.best
    assert all(torch.equal(tensor, kept[name]) for name, tensor in bundle.model.state_dict().items())
