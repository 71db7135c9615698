"""`mgc ensemble`: what fits is joined, what does not is refused in one line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from mgc.audio.excerpts import ListeningPlan
from mgc.bundle import Bundle, load_bundle
from mgc.bundle_facts import describe_model
from mgc.bundle_start import put_head
from mgc.datasets.protocols import ByGroup
from mgc.evaluation.leakage import TrainedGroups
from mgc.experiment import Experiment
from mgc.features.mel import LogMelConfig
from mgc.features.normalization import Normalization
from mgc.labeling.adjust import PriorAdjustment
from mgc.labeling.config import LabelingConfig
from mgc.metrics import DataFacts, MadeWith, TrainingFacts
from mgc.models.architecture import AnyModelConfig, build_model
from mgc.models.ensemble import MEMBER_KINDS
from mgc.models.house import HouseCnnConfig
from mgc.models.mobilenet import MobileNetConfig
from mgc.models.musicnn import MusicnnConfig
from mgc.models.probe import BodyConfig, build_head
from mgc.taxonomy import Taxonomy
from mgc.training.loop import TrainingConfig
from pipelines.command.job import run
from pipelines.ensemble import command

EXPERIMENT = Experiment(
    recipe="test",
    front_end=LogMelConfig(n_mels=16, clip_seconds=1.0, frames=32),
    listening=ListeningPlan(window_seconds=2.0, windows=2),
    model=HouseCnnConfig(channels=(4, 6), blocks=1),
    training=TrainingConfig(),
)


def bundle(seed: int, experiment: Experiment = EXPERIMENT, **change: Any) -> Bundle:
    torch.manual_seed(seed)
    fields = {
        "experiment": replace(experiment, training=replace(experiment.training, seed=seed)),
        "taxonomy": Taxonomy.flat(["folk", "rock"]),
        "normalization": Normalization((100.0,) * 16, (50.0,) * 16),
        "model": build_model(experiment.model, (16, 32), 2).eval(),
        "training": TrainingFacts(
            validation={"epoch": 1}, data=DataFacts(clips={"train_clips": 3}), notices=("n",), made_with=MadeWith()
        ),
        "trained_on": TrainedGroups(np.array([1, 2, 3])),
    }
    return Bundle(**(fields | change))


def save(folder: Path, **bundles: Bundle) -> list[str]:
    for name, each in bundles.items():
        each.save(folder / name)
    return [str(folder / name) for name in bundles]


def test_bundles_become_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wider = replace(EXPERIMENT, model=HouseCnnConfig(channels=(4, 8), keep_bins=True))
    uris = save(tmp_path, one=bundle(0), two=bundle(1), three=bundle(2, wider))
    out = tmp_path / "joined"
    assert run(command, [*uris, "--out", str(out), "--dry-run"]) == 0
    assert not out.exists()
    assert run(command, [*uris, "--out", str(out)]) == 0
    joined = load_bundle(out)
    clips = np.random.default_rng(0).normal(100, 40, (3, 16, 32)).astype(np.float16)
    expected = np.mean([load_bundle(uri).predictor().logits(clips) for uri in uris], axis=0)
    np.testing.assert_allclose(joined.predictor().logits(clips), expected, rtol=1e-4, atol=1e-5)
    assert [member.seed for member in joined.training.members] == [0, 1, 2]
    facts = describe_model(joined)
    assert (facts["members"], facts["seeds"]) == ("3", "0, 1, 2")
    assert "epochs" not in facts, "it was not trained itself"
    assert joined.training.notices == ("n",)
    assert joined.trained_on is not None
    capsys.readouterr()
    assert run(command, [*uris, "--out", str(out)]) == 0
    assert '"up_to_date"' in capsys.readouterr().out
    assert run(command, [*uris[:2], "--out", str(out)]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert run(command, [*uris[:2], "--out", str(out), "--overwrite"]) == 0
    assert len(load_bundle(out).training.members) == 2


def test_public_networks_become_members(tmp_path: Path) -> None:
    """They see what the others see, and what must be said of them is said of the ensemble."""
    public = [
        replace(EXPERIMENT, model=MobileNetConfig(width=0.1, input="thumbnail", frames=48, scored_frames=40)),
        replace(EXPERIMENT, model=MusicnnConfig(timbres=2, rhythms=2, middle=2, hidden=2, input="thumbnail")),
    ]
    models = [bundle(seed, each, training=notices(f"of {seed}")) for seed, each in enumerate(public)]
    own = replace(EXPERIMENT, recipe="own", deviations=("shorter",))
    uris = save(tmp_path, house=bundle(2, own, training=notices("n", "of 0")), mobile=models[0], musicnn=models[1])
    assert run(command, [*uris, "--out", str(tmp_path / "joined")]) == 0
    joined = load_bundle(tmp_path / "joined")
    clips = np.random.default_rng(0).normal(100, 40, (3, 16, 32)).astype(np.float16)
    expected = np.mean([load_bundle(uri).predictor().logits(clips) for uri in uris], axis=0)
    np.testing.assert_allclose(joined.predictor().logits(clips), expected, rtol=1e-4, atol=1e-5)
    assert joined.training.notices == ("n", "of 0", "of 1")
    assert (joined.experiment.recipe, joined.experiment.deviations) == ("own + test", ("shorter",))


def notices(*said: str) -> TrainingFacts:
    return TrainingFacts(notices=said)


@pytest.mark.parametrize(
    ("other", "line"),
    [
        (bundle(1, taxonomy=Taxonomy.flat(["folk", "jazz"])), "two: the genres of this bundle and of"),
        (bundle(1, trained_on=TrainedGroups(np.array([1, 2]))), "the training tracks of this bundle and of"),
        (bundle(1, normalization=Normalization((90.0,) * 16, (50.0,) * 16)), "the normalisations of this"),
        (bundle(1, replace(EXPERIMENT, protocol=ByGroup())), "the protocols of this bundle and of"),
        (
            bundle(1, replace(EXPERIMENT, labeling=LabelingConfig(min_seconds=3.0))),
            "the labeling configurations of this bundle and of",
        ),
        (bundle(1, adjustment=PriorAdjustment.from_counts(1.0, (7, 3))), "two: its logits are adjusted"),
    ],
)
def test_what_does_not_fit_is_refused(
    other: Bundle, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uris = save(tmp_path, one=bundle(0), two=other)
    assert run(command, [*uris, "--out", str(tmp_path / "joined")]) == 1
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1
    assert not (tmp_path / "joined").exists()


def test_probes_are_no_members(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    width = bundle(0).model.head.weight.shape[1]
    probes = {
        name: put_head(bundle(seed), build_head(width, 0, 2), ["a", "b"], "probe")
        for seed, name in enumerate(("one", "two"))
    }
    assert run(command, [*save(tmp_path, **probes), "--out", str(tmp_path / "joined")]) == 1
    error = capsys.readouterr().err
    assert "one: its network is of the kind probe" in error
    assert error.count("\n") == 1


def test_one_is_no_ensemble(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command, [*save(tmp_path, one=bundle(0)), "--out", str(tmp_path / "joined")]) == 2
    assert "two bundles" in capsys.readouterr().err


def test_every_network_but_a_guess_and_those_of_others_can_be_a_member() -> None:
    kinds = {config.kind for config in get_args(AnyModelConfig)}
    assert kinds - set(MEMBER_KINDS) == {"guess", "probe", "ensemble"}
    bodies = {config.kind for config in get_args(get_args(BodyConfig)[0])}
    assert kinds - bodies == {"guess", "probe"}
