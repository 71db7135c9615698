"""What every recipe promises."""

from __future__ import annotations

import functools
import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from mgc.audio.waveform import Waveform
from mgc.bundle import Bundle
from mgc.experiment import Experiment
from mgc.features.cutting import FramedConfig
from mgc.features.front_end import AnyFrontEndConfig, build_front_end, clip_form
from mgc.features.normalization import Normalization
from mgc.labeling.decide import decide
from mgc.models.architecture import build_model
from mgc.models.guess import GuessConfig
from mgc.recipes.catalogue import RECIPES, Recipe
from mgc.taxonomy import Taxonomy
from mgc.training.loop import Batch, Learner

RATE_HZ = 22050
TAXONOMY = Taxonomy.flat(["noise", "tone"])
LARGEST_BUNDLE_BYTES = 5 * 2**20

ROWS = (
    "A1", "B1", "B1-grid", "B1-fma", "B2", "B3", "C1", "C2", "C3", "D1", "D2", "D3", "D3R", "D4", "D4R", "D5", "D6",
    "D7", "D8", "D9", "D10", "E-random", "E-prior", "E-dense", "E-mfcc-base", "E-mel2", "E-mel", "E-mfcc", "E-both",
)  # fmt: skip

PRINTED_PARAMETERS = {
    "D1": 6_309_386,
    "D2": 6_309_386,
    "D3": 14_898_186,
    "D3R": 14_898_186,
    "D4": 3_511_434,
    "D4R": 3_511_434,
    "D5": 14_325_386,
    "D6": 4_494_474,
    "D7": 808_458,
    "D8": 2_125_322,
    "D9": 2_125_322,
    "D10": 2_207_242,
}

SHAPES = {
    "A1": (128, 128),
    "B1": (72,),
    "B1-grid": (72,),
    "B1-fma": (72,),
    "B2": (128, 128),
    "B3": (128, 128),
    "C1": (26,),
    "C2": (128,),
    "C3": (128, 216),
    **dict.fromkeys(PRINTED_PARAMETERS, (128, 128, 3)),
    "D10": (220, 216, 3),
    "E-random": (128,),
    "E-prior": (128,),
    "E-dense": (7, 20),
    "E-mfcc-base": (7, 20),
    "E-mel2": (128, 385),
    "E-mel": (128, 385),
    "E-mfcc": (20, 385),
    "E-both": (148, 385),
}

TEST_ACCURACY = {
    "A1": 0.90, "B1": 0.64, "B1-grid": 0.67, "B1-fma": 0.44, "B2": 0.56, "B3": 0.53, "C1": 0.334, "C2": 0.205,
    "C3": 0.322, "D1": 0.581, "D2": 0.543, "D3": 0.673, "D3R": 0.686, "D4": 0.652, "D4R": 0.739, "D5": 0.652,
    "D6": 0.731, "D7": 0.860, "D8": 0.885, "D9": 0.777, "D10": 0.830, "E-random": 0.06, "E-prior": 0.17,
    "E-dense": 0.54, "E-mfcc-base": 0.50, "E-mel2": 0.95, "E-mel": 0.56, "E-mfcc": None, "E-both": 0.28,
}  # fmt: skip
"""As the papers print it; E-mfcc has a validation accuracy only."""

LARGE = 5 * 10**7
"""Multiplications of one clip from which a network is trained on less, so that the suite stays quick."""


def noise(seconds: float, seed: int) -> Waveform:
    random = np.random.default_rng(seed)
    return Waveform(random.normal(0, 0.1, round(seconds * RATE_HZ)).astype(np.float32), RATE_HZ)


def tone(seconds: float, seed: int) -> Waveform:
    time_T = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    hz = 220 * 2 ** np.random.default_rng(seed).uniform(0, 2)
    return Waveform((0.3 * np.sin(2 * np.pi * hz * time_T)).astype(np.float32), RATE_HZ)


@functools.cache
def sounds(front_end: AnyFrontEndConfig, clips: int) -> tuple[np.ndarray, torch.Tensor]:
    """One clip each of noises and tones in turn, and their genres; the same for all recipes of a front end."""
    hear = build_front_end(front_end)
    # As long as a clip, of which the middle frames are kept; hand-crafted vectors are slow, and of whole clips.
    seconds = front_end.clip_seconds if isinstance(front_end, FramedConfig) else 3.0
    made = [hear((noise, tone)[number % 2](seconds, number)).features[:1] for number in range(clips)]
    return np.concatenate(made), torch.arange(clips) % 2


@functools.cache
def multiplications(experiment: Experiment) -> int:
    """Of one clip in the network's convolutions and dense layers."""
    shape = clip_form(experiment.front_end).shape
    counted = 0

    def count(module: nn.Module, given: tuple[torch.Tensor, ...], made: torch.Tensor) -> None:
        nonlocal counted
        counted += made[0].numel() // module.weight.shape[0] * module.weight.numel()

    with torch.device("meta"):
        model = build_model(experiment.model, shape, 2).eval()
        for module in model.modules():
            if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
                module.register_forward_hook(count)
        model(torch.zeros(1, *shape))
    return counted


@pytest.fixture(params=RECIPES.values(), ids=RECIPES.keys())
def recipe(request: pytest.FixtureRequest) -> Recipe:
    found: Recipe = request.param
    return found


@pytest.fixture
def experiment(recipe: Recipe) -> Experiment:
    return recipe.build()


def test_the_catalogue_holds_every_row_of_the_papers_once() -> None:
    rows = [recipe.paper_row for recipe in RECIPES.values() if recipe.paper_row is not None]
    assert sorted(rows) == sorted(ROWS)
    assert len(rows) == 29
    authors = {"A": "obeirne", "B": "gallego", "C": "minhas", "D": "holst", "E": "nguyen"}
    for recipe in RECIPES.values():
        if recipe.paper_row is None:
            continue
        row = recipe.paper_row.removeprefix("E-").lower()
        assert recipe.name == f"{authors[recipe.paper_row[0]]}-{row}"


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
    deviations = recipe.build().deviations
    if recipe.paper_row is None:
        assert not recipe.citation
        assert not recipe.paper
        assert not recipe.reported
        assert not deviations
        return
    assert len(recipe.citation) > 20
    assert recipe.paper
    assert recipe.reported
    assert recipe.reported.get("test_accuracy") == TEST_ACCURACY[recipe.paper_row]
    for name, figure in recipe.reported.items():
        assert (0 < figure <= 1) == ("accuracy" in name) or name == "test_loss", name
    assert len(deviations) == len(set(deviations)) >= 2
    assert all(deviation == " ".join(deviation.split()) and len(deviation) > 10 for deviation in deviations)


def test_its_input_is_the_papers(recipe: Recipe) -> None:
    if recipe.paper_row is None:
        pytest.skip("the house decides on its own input")
    assert recipe.input_shape == SHAPES[recipe.paper_row]
    wanted = 16 if recipe.paper_row.startswith("E") else 8 if recipe.paper_row == "B1-fma" else 10
    assert recipe.genres == wanted


@pytest.mark.parametrize("row", PRINTED_PARAMETERS)
def test_it_has_as_many_parameters_as_the_paper_prints(row: str) -> None:
    (recipe,) = (recipe for recipe in RECIPES.values() if recipe.paper_row == row)
    assert recipe.parameters == recipe.reported["parameters"] == PRINTED_PARAMETERS[row]
    # Counted once more, by what is saved.
    config, shape = recipe.build().model, recipe.input_shape
    with torch.device("meta"):
        model = build_model(config, shape, recipe.genres)
    assert sum(math.prod(tensor.shape) for tensor in model.state_dict().values()) == PRINTED_PARAMETERS[row]


def test_only_guesses_have_nothing_to_train(recipe: Recipe) -> None:
    assert (recipe.parameters == 0) == isinstance(recipe.build().model, GuessConfig)


SEARCHED = [recipe for recipe in RECIPES.values() if recipe.space]


@pytest.mark.parametrize("recipe", SEARCHED, ids=[recipe.name for recipe in SEARCHED])
def test_a_recipe_takes_every_point_of_its_space(recipe: Recipe) -> None:
    assert recipe.space is not None
    recipe.space.check(recipe.build())


def test_paper_b_s_grid_has_27_points_and_its_recipe_is_one_of_them() -> None:
    recipe = RECIPES["gallego-b1-grid"]
    assert recipe.space is not None
    experiment = recipe.build()
    built = {json.dumps(recipe.space.apply(experiment, point).to_json()) for point in recipe.space.points()}
    assert len(built) == recipe.space.size == 27
    assert json.dumps(experiment.to_json()) in built


def test_two_clips_of_its_own_front_end_go_through_to_an_answer(recipe: Recipe) -> None:
    experiment = recipe.build()
    clips, _ = sounds(experiment.front_end, 2)
    assert clips.shape == (2, *recipe.input_shape)
    genres = Taxonomy.flat([f"genre {number:02}" for number in range(recipe.genres)])
    torch.manual_seed(experiment.training.seed)
    model = build_model(experiment.model, recipe.input_shape, recipe.genres).eval()
    normalization = Normalization.measure(clips, experiment.scaling)
    with torch.inference_mode():
        embedding_BD = model.embed(normalization.apply(torch.from_numpy(clips)))
        logits_BG = model.classify(embedding_BD)
    assert embedding_BD.shape[0] == 2
    assert logits_BG.shape == (2, recipe.genres)
    assert logits_BG.isfinite().all()
    # The same through a bundle, as a catalog is labelled.
    bundle = Bundle(experiment, genres, normalization, model)
    if multiplications(experiment) < LARGE:
        np.testing.assert_allclose(bundle.predictor().logits(clips), logits_BG, rtol=1e-3, atol=1e-4)
    assert {decide(logits_BG[[row]].numpy(), genres.names, 1).genre_top for row in (0, 1)} <= set(genres.names)


def test_the_house_keeps_its_bundles_small_enough_to_ship(recipe: Recipe) -> None:
    if recipe.paper_row is not None:
        pytest.skip("a paper decides on the size of its own network")
    config, shape = recipe.build().model, recipe.input_shape
    with torch.device("meta"):
        model = build_model(config, shape, 16)
    assert sum(tensor.nbytes for tensor in model.state_dict().values()) < LARGEST_BUNDLE_BYTES


def test_the_loss_falls_on_a_tiny_set(recipe: Recipe) -> None:
    """A few steps of its own training on a few clips; what is compared is the network's loss without dropout.

    Rates are 1e-4 at most: Adam's first steps move every weight by the whole rate, and a dense layer of 100,000 inputs
    makes too much of that.
    """
    experiment = recipe.build()
    guess, large = isinstance(experiment.model, GuessConfig), multiplications(experiment) > LARGE
    clips, genre_B = sounds(experiment.front_end, 2 if large else 8)
    if large and clips.ndim == 4:
        # Every other row and column of an image. The test above sends a whole one through.
        clips = np.ascontiguousarray(clips[:, ::2, ::2])
    batch = Batch(torch.from_numpy(clips), genre_B, [str(row) for row in range(len(clips))])
    rate = min(experiment.training.learning_rate, 1e-4)
    config = replace(experiment.training, epochs=2 if large else 4, learning_rate=rate, schedule="constant")
    normalization = Normalization.measure(clips, experiment.scaling)
    torch.manual_seed(config.seed)
    model = build_model(experiment.model, clips.shape[1:], len(TAXONOMY))
    learner = Learner(model, config, normalization, len(TAXONOMY), torch.device("cpu"))

    def loss() -> float:
        # Statistics of this very batch: the running ones need more steps than these to be of any use.
        model.train()
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.eval()
        with torch.no_grad():
            logits_BG = model(normalization.apply(batch.features_BFT))
        return float(nn.functional.cross_entropy(logits_BG, genre_B))

    before = loss()
    losses = [learner.train_epoch([batch], epoch, 1).loss for epoch in range(config.epochs)]
    after = loss()
    assert all(math.isfinite(each) for each in losses)
    if guess:
        assert after == before
        assert losses == pytest.approx([before] * len(losses), rel=1e-5)
    else:
        assert after < before


def test_names_are_typed_easily() -> None:
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) for name in RECIPES)
