"""What every recipe promises."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from mgc.audio.waveform import Waveform
from mgc.bundle import Bundle
from mgc.experiment import Experiment
from mgc.features.front_end import build_front_end
from mgc.features.normalization import Normalization
from mgc.labeling.decide import decide
from mgc.models.architecture import build_model
from mgc.recipes.catalogue import RECIPES, Recipe
from mgc.taxonomy import Taxonomy
from mgc.training.loop import Batch, Learner

RATE_HZ = 22050
TAXONOMY = Taxonomy.flat(["noise", "tone"])
LARGEST_BUNDLE_BYTES = 5 * 2**20


def noise(seconds: float, seed: int) -> Waveform:
    random = np.random.default_rng(seed)
    return Waveform(random.normal(0, 0.1, round(seconds * RATE_HZ)).astype(np.float32), RATE_HZ)


def tone(seconds: float, seed: int) -> Waveform:
    time_T = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    hz = 220 * 2 ** np.random.default_rng(seed).uniform(0, 2)
    return Waveform((0.3 * np.sin(2 * np.pi * hz * time_T)).astype(np.float32), RATE_HZ)


@pytest.fixture(params=RECIPES.values(), ids=RECIPES.keys())
def recipe(request: pytest.FixtureRequest) -> Recipe:
    found: Recipe = request.param
    return found


@pytest.fixture
def experiment(recipe: Recipe) -> Experiment:
    return recipe.build()


def test_it_builds_the_same_experiment_each_time_under_its_own_name(recipe: Recipe) -> None:
    assert recipe.build() == recipe.build()
    assert recipe.build().recipe == recipe.name == next(name for name, found in RECIPES.items() if found is recipe)


def test_it_survives_json(experiment: Experiment) -> None:
    assert Experiment.from_json(json.loads(json.dumps(experiment.to_json()))) == experiment


def test_every_field_can_be_set_by_its_dotted_name(experiment: Experiment) -> None:
    fields = {name: json.dumps(value) for name, value in experiment.dotted().items()}
    assert len(fields) > 20
    for name, text in fields.items():
        assert experiment.override({name: text}) == experiment, name
    assert experiment.override(fields) == experiment


def test_a_paper_is_cited_with_its_figures_and_our_deviations(recipe: Recipe) -> None:
    if recipe.paper_row is None:
        assert not recipe.citation
        assert not recipe.reported
        return
    assert len(recipe.citation) > 20
    assert recipe.reported
    assert all(0 < figure <= 1 for figure in recipe.reported.values())
    deviations = recipe.build().deviations
    assert deviations
    assert all(deviation == deviation.strip() and len(deviation) > 10 for deviation in deviations)


def test_two_sounds_go_through_to_an_answer(experiment: Experiment) -> None:
    front_end = build_front_end(experiment.front_end)
    heard = [front_end(sound).features for sound in (tone(2.0, 0), noise(4.0, 1))]
    torch.manual_seed(experiment.training.seed)
    model = build_model(experiment.model, front_end.shape, len(TAXONOMY))
    bundle = Bundle(experiment, TAXONOMY, Normalization.measure(np.concatenate(heard)), model)
    predict = bundle.predictor()
    logits_TG = np.stack([predict.logits(clips).mean(axis=0) for clips in heard])
    assert logits_TG.shape == (2, 2)
    assert np.isfinite(logits_TG).all()
    assert {decide(logits_TG[[track]], TAXONOMY.names, 1).genre_top for track in (0, 1)} <= set(TAXONOMY.names)


def test_the_house_keeps_its_bundles_small_enough_to_ship(recipe: Recipe) -> None:
    if recipe.paper_row is not None:
        pytest.skip("a paper decides on the size of its own network")
    experiment = recipe.build()
    with torch.device("meta"):
        model = build_model(experiment.model, build_front_end(experiment.front_end).shape, 16)
    assert sum(tensor.nbytes for tensor in model.state_dict().values()) < LARGEST_BUNDLE_BYTES


def test_it_learns_to_tell_tones_from_noise(experiment: Experiment) -> None:
    """A few steps of its own training, on a few clips: the loss of what was not trained on falls."""
    front_end = build_front_end(experiment.front_end)
    sounds = [(make(3.0, seed), genre) for seed in range(16) for genre, make in enumerate((noise, tone))]
    clips = np.concatenate([front_end(sound).features[:1] for sound, _ in sounds])
    genre_B = torch.tensor([genre for _, genre in sounds])
    whole = Batch(torch.from_numpy(clips), genre_B, [str(row) for row in range(len(sounds))])
    training = [
        Batch(whole.features_BFT[rows], genre_B[rows], whole.track_ids[rows]) for rows in (slice(8, 20), slice(20, 32))
    ]
    held_out = Batch(whole.features_BFT[:8], genre_B[:8], whole.track_ids[:8])
    config = replace(experiment.training, epochs=4, batch_size=12)
    torch.manual_seed(config.seed)
    model = build_model(experiment.model, front_end.shape, len(TAXONOMY))
    learner = Learner(model, config, Normalization.measure(clips[8:]), len(TAXONOMY), torch.device("cpu"))
    untrained = learner.validate([held_out])
    losses = [learner.train_epoch(training, epoch, len(training)).loss for epoch in range(config.epochs)]
    trained = learner.validate([held_out])
    assert losses[-1] < losses[0]
    assert trained.loss < untrained.loss
