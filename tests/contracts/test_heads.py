"""What re-training the classifier asks of every network: its `head` is all that `classify` learns with.

A probe on a network has a head of its own, and may keep the network's beside it.
"""

from __future__ import annotations

import pytest
import torch

from mgc.features.front_end import clip_form
from mgc.models.architecture import build_model
from mgc.models.blocks import Classifier
from mgc.models.guess import Guess
from mgc.models.probe import Probe, ProbeConfig
from mgc.recipes.catalogue import RECIPES

GENRES = 5


@pytest.fixture(params=RECIPES.keys())
def shape(request: pytest.FixtureRequest) -> tuple[int, ...]:
    """The recipe's, but half as many frames or half an image: no network's head depends on them, its time does."""
    match clip_form(RECIPES[request.param].build().front_end).shape:
        case height, width, colours:
            return height // 2, width // 2, colours
        case bins, frames:
            return bins, frames // 2
        case numbers:
            return numbers


@pytest.fixture
def model(request: pytest.FixtureRequest, shape: tuple[int, ...]) -> Classifier:
    torch.manual_seed(0)
    return build_model(RECIPES[request.node.callspec.params["shape"]].build().model, shape, GENRES)


def test_the_head_has_the_parameters_of_classify_and_no_others(model: Classifier, shape: tuple[int, ...]) -> None:
    embedding_BD = model.embed(torch.randn(2, *shape))
    if isinstance(model, Guess):
        assert not list(model.parameters())
        return
    model.classify(embedding_BD.detach()).square().sum().backward()
    taught = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert taught == {f"head.{name}" for name, _ in model.head.named_parameters()} != set()
    model.zero_grad()
    embedding_BD.square().sum().backward()
    taught = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert not any(name.startswith("head.") for name in taught)


def test_a_kept_embedding_is_the_same_and_does_not_move(model: Classifier, shape: tuple[int, ...]) -> None:
    features_BFT = torch.randn(4, *shape)
    other = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for tensor in other.values():
        if tensor.is_floating_point():
            tensor.mul_(1.25)
    model.keep_embedding(other)
    model.train()
    with torch.no_grad():
        first_BD = model.embed(features_BFT)
        model(torch.randn(4, *shape))
        torch.testing.assert_close(model.embed(features_BFT), first_BD, rtol=0, atol=0)
    kept = model.state_dict()
    assert all(torch.equal(kept[name], other[name]) for name in kept if not name.startswith("head."))
    # A guess has nothing to train, its head no weights.
    assert isinstance(model, Guess) or not all(torch.equal(kept[name], other[name]) for name in kept)


def test_a_probe_leaves_the_network_as_it_is(model: Classifier, shape: tuple[int, ...]) -> None:
    """With the network's own head kept, and then without it, so that a large network is built and run once."""
    if isinstance(model, Guess):
        return
    features_BFT = torch.randn(2, *shape)
    model.eval()
    with torch.inference_mode():
        embedding_BD = model.embed(features_BFT)
        logits_BG = model.classify(embedding_BD)
    ears = {name: tensor.clone() for name, tensor in model.ears().items()}
    for kept in (True, False):
        # The body's configuration only matters where a network is built.
        config = ProbeConfig(embedding=embedding_BD.shape[1], sounds=GENRES if kept else 0)
        probe = Probe(config, model, 3).eval()
        assert probe.ears().keys() == ears.keys()
        assert all(torch.equal(tensor, ears[name]) for name, tensor in probe.ears().items())
        with torch.inference_mode():
            assert probe.classify(embedding_BD).shape == (2, 3)
            sounds_BS = probe.name_sounds(embedding_BD)
        torch.testing.assert_close(sounds_BS, logits_BG if kept else logits_BG[:, :0], rtol=0, atol=0)
        # Whatever trains the probe leaves the head that was kept as it is.
        trained = {name for name, each in probe.named_parameters() if each.requires_grad}
        assert not any(name.startswith("body.head.") for name in trained)
        probe.classify(embedding_BD.clone()).square().sum().backward()
        assert all(each.grad is not None for each in probe.head.parameters())
    with torch.inference_mode():
        torch.testing.assert_close(probe.embed(features_BFT), embedding_BD, rtol=0, atol=0)
