"""What every architecture promises, and the house's own."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from mgc.configuration import to_json
from mgc.errors import ConfigError
from mgc.models.architecture import AnyModelConfig, ModelConfig, build_model, check_input, takes_any_frames
from mgc.models.blocks import MeanMaxPool, parameter_count
from mgc.models.convolutional import ConvolutionalConfig
from mgc.models.dense import DenseConfig
from mgc.models.ensemble import Ensemble, EnsembleConfig
from mgc.models.guess import Guess, GuessConfig
from mgc.models.house import HouseCnn, HouseCnnConfig
from mgc.models.mobilenet import MobileNetConfig
from mgc.models.musicnn import MusicnnConfig
from mgc.models.probe import ProbeConfig
from mgc.models.recurrent import RecurrentConfig
from mgc.models.statistics import StatisticsConfig

VECTOR, PICTURE, COLOURS = (33,), (40, 30), (36, 41, 3)

SMALL: dict[str, tuple[AnyModelConfig, tuple[tuple[int, ...], ...]]] = {
    "house_cnn": (HouseCnnConfig(channels=(4, 6)), (PICTURE,)),
    "convolutional": (
        ConvolutionalConfig(filters=(4, 5), strides=(1, 2), batch_norm=True, hidden=(8,), dropout=0.2),
        (PICTURE, COLOURS),
    ),
    "dense": (DenseConfig(hidden=(9, 8), batch_norm=True, dropout=0.1), (VECTOR, PICTURE, COLOURS)),
    "recurrent": (RecurrentConfig(filters=(6, 5), kernels=(5, 3), paddings=(2, 0), lstm_width=7), (PICTURE,)),
    "statistics": (StatisticsConfig(coefficients=6, covariances=3, hidden=(9,)), (PICTURE,)),
    "mobilenet": (MobileNetConfig(width=0.2, hidden=9), (PICTURE,)),
    "musicnn": (MusicnnConfig(timbres=4, rhythms=3, middle=5, hidden=9), (PICTURE,)),
    "probe": (ProbeConfig(body=MobileNetConfig(width=0.1, hidden=9), embedding=96, hidden=7, sounds=4), (PICTURE,)),
    "guess": (GuessConfig(), (VECTOR, PICTURE, COLOURS)),
    "ensemble": (
        EnsembleConfig(members=(HouseCnnConfig(channels=(4, 6), keep_bins=True), DenseConfig(hidden=(9,)))),
        (PICTURE,),
    ),
}
"""A small one of each kind, and the shapes that it takes."""

CASES = [
    pytest.param(config, shape, id=f"{kind} {'x'.join(map(str, shape))}")
    for kind, (config, shapes) in SMALL.items()
    for shape in shapes
]


def test_every_kind_is_tested() -> None:
    assert {kind.kind for kind in get_args(get_args(ModelConfig)[0])} == SMALL.keys()


@pytest.mark.parametrize(("config", "shape"), CASES)
def test_a_model_of_each_kind(config: AnyModelConfig, shape: tuple[int, ...]) -> None:
    assert TypeAdapter(ModelConfig).validate_python(to_json(config)) == config
    torch.manual_seed(0)
    model = build_model(config, shape, 7)
    torch.manual_seed(0)
    again = build_model(config, shape, 7)
    assert all(torch.equal(first, second) for first, second in zip(model.parameters(), again.parameters(), strict=True))
    features_BFT = torch.randn(3, *shape)
    given_BFT = features_BFT.clone()
    assert model.training
    model.eval()
    embedding_BD = model.embed(features_BFT)
    assert embedding_BD.ndim == 2
    logits_BG = model(features_BFT)
    assert logits_BG.shape == (3, 7)
    assert logits_BG.dtype == torch.float32
    torch.testing.assert_close(model.classify(embedding_BD), logits_BG, rtol=0, atol=0)
    torch.testing.assert_close(model(features_BFT[:1]), logits_BG[:1], rtol=1e-4, atol=1e-5)
    assert torch.equal(features_BFT, given_BFT)
    # What the cluster does to it, and where it is saved and loaded.
    model.to(memory_format=torch.channels_last)
    torch.testing.assert_close(model(features_BFT), logits_BG, rtol=1e-4, atol=1e-5)
    again.load_state_dict({name: tensor.clone() for name, tensor in model.state_dict().items()})
    torch.testing.assert_close(again.eval()(features_BFT), logits_BG, rtol=1e-4, atol=1e-5)
    if isinstance(config, GuessConfig):
        assert parameter_count(model) == 0
        return
    # Every weight that is trained has a say in the answer.
    model.train()
    model(features_BFT).square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)


@pytest.mark.parametrize(("config", "shape"), CASES)
def test_a_model_is_counted_without_memory(config: AnyModelConfig, shape: tuple[int, ...]) -> None:
    with torch.device("meta"):
        counted = build_model(config, shape, 7)
    assert parameter_count(counted) == parameter_count(build_model(config, shape, 7))
    assert all(tensor.is_meta for tensor in counted.state_dict().values())


@pytest.mark.parametrize("kind", SMALL)
def test_a_shape_of_other_axes_is_refused_in_one_line(kind: str) -> None:
    config, taken = SMALL[kind]
    for shape in (VECTOR, PICTURE, COLOURS):
        if len(shape) in {len(each) for each in taken}:
            check_input(config, shape)
        else:
            side = " x ".join(map(str, shape))
            # Of an ensemble it is the first member that does not take them, of a probe its body.
            inner = config.members[0] if isinstance(config, EnsembleConfig) else config
            member = (inner.body if isinstance(inner, ProbeConfig) else inner).kind
            with pytest.raises(
                ConfigError,
                match=f"model {member} takes features of bins x frames.*, but the front end gives {side} numbers",
            ):
                build_model(config, shape, 3)


@pytest.mark.parametrize("side", [1, 2, 3, 5, 17])
def test_the_house_takes_any_number_of_bins_and_frames(side: int) -> None:
    model = HouseCnn(HouseCnnConfig(channels=(4, 4, 4), blocks=1), 5)
    check_input(HouseCnnConfig(), (side, 1))
    assert model(torch.randn(2, side, 20)).shape == (2, 5)
    assert model(torch.randn(2, 20, side)).shape == (2, 5)


def test_parameters_of_the_house_by_hand() -> None:
    # 1 → 4 convolution and norm: 36 + 8; a block: 2 × (144 + 8); 4 → 6: 216 + 12; a block: 2 × (324 + 12);
    # 12 pooled → 5 genres: 60 + 5.
    model = HouseCnn(HouseCnnConfig(channels=(4, 6), blocks=1), 5)
    assert parameter_count(model) == 44 + 304 + 228 + 672 + 65
    for parameter in model.head.parameters():
        parameter.requires_grad_(False)
    assert parameter_count(model) == 44 + 304 + 228 + 672


def test_the_pool_by_hand() -> None:
    maps_BCFT = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]], [[0.0, -4.0], [-2.0, -2.0]]]])
    assert MeanMaxPool()(maps_BCFT).tolist() == [[3.0, -2.0, 6.0, 0.0]]


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (HouseCnnConfig, {"channels": ()}),
        (HouseCnnConfig, {"channels": (0,)}),
        (HouseCnnConfig, {"channels": (8,) * 7}),
        (HouseCnnConfig, {"blocks": -1}),
        (HouseCnnConfig, {"dropout": 1.0}),
        (HouseCnnConfig, {"width": 3}),
        (ConvolutionalConfig, {"filters": ()}),
        (ConvolutionalConfig, {"filters": (8, 8, 8), "strides": (1, 2)}),
        (ConvolutionalConfig, {"filters": (8, 8, 8), "stage_dropout": (0.1,) * 4}),
        (ConvolutionalConfig, {"stage_dropout": (1.0,)}),
        (ConvolutionalConfig, {"padding": "full"}),
        (ConvolutionalConfig, {"pool": 0}),
        (ConvolutionalConfig, {"init": "keras"}),
        (DenseConfig, {"hidden": (0,)}),
        (DenseConfig, {"dropout": -0.1}),
        (RecurrentConfig, {"filters": (8, 8)}),
        (RecurrentConfig, {"paddings": (1, 1)}),
        (RecurrentConfig, {"summary": "first"}),
        (GuessConfig, {"shares": "prior"}),
        (GuessConfig, {"seed": -1}),
    ],
)
def test_a_wrong_configuration_is_refused_at_birth(kind: type[Any], wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        kind(**wrong)


def test_an_ensemble_gives_the_mean_of_its_members_logits() -> None:
    torch.manual_seed(0)
    configs = [SMALL["house_cnn"][0], SMALL["convolutional"][0], SMALL["recurrent"][0], SMALL["dense"][0]]
    members = [build_model(config, PICTURE, 5).eval() for config in configs]
    features_BFT = torch.randn(3, *PICTURE)
    logits_BG = torch.stack([member(features_BFT) for member in members]).mean(dim=0)
    weights = sum(parameter_count(member) for member in members)
    joined = Ensemble(members).eval()
    torch.testing.assert_close(joined(features_BFT), logits_BG)
    # One bias in place of four.
    assert parameter_count(joined) == weights - 3 * 5


def test_an_ensemble_of_a_guess_is_refused() -> None:
    with pytest.raises(ConfigError, match="an ensemble takes networks whose head ends with a linear layer"):
        Ensemble([Guess(GuessConfig(), 3), HouseCnn(HouseCnnConfig(channels=(4,)), 3)])


def test_kept_bins_tell_how_high_something_sounds() -> None:
    """The same sound, moved up by whole strides: pooled over bins the maps hardly tell, kept bins do."""
    torch.manual_seed(0)
    low_BFT = torch.zeros(1, 64, 32)
    low_BFT[:, 16:24] = 1
    high_BFT = low_BFT.roll(16, dims=1)
    for keep_bins, size in ((False, 2 * 6), (True, 2 * 6 * 16)):
        model = HouseCnn(HouseCnnConfig(channels=(4, 6), keep_bins=keep_bins), 3, bins=64).eval()
        low_BD, high_BD = model.embed(low_BFT), model.embed(high_BFT)
        assert low_BD.shape == (1, size)
        assert torch.allclose(low_BD, high_BD, atol=1e-5) != keep_bins
        # Any number of frames.
        assert model.embed(low_BFT[:, :, :20]).shape == (1, size)


@pytest.mark.parametrize("bins", [64, 61, 5])
def test_a_stem_of_four_looks_at_every_pixel_and_keeps_an_eighth_of_the_bins(bins: int) -> None:
    torch.manual_seed(0)
    model = HouseCnn(HouseCnnConfig(channels=(4, 6), stem=4, keep_bins=True), 3, bins=bins).eval()
    features_BFT = torch.zeros(1, bins, 19, requires_grad=True)
    maps_BCFT = model.stages[0](features_BFT.unsqueeze(1))
    assert maps_BCFT.shape == (1, 4, -(-bins // 4), 5)
    assert model.embed(features_BFT).shape == (1, 2 * 6 * -(-bins // 8))
    (seen_BFT,) = torch.autograd.grad(model.stages[0][0](features_BFT.unsqueeze(1)).sum(), features_BFT)
    assert (seen_BFT != 0).all()


def test_a_network_of_an_ensemble_answers_as_it_did_alone() -> None:
    torch.manual_seed(0)
    configs: tuple[AnyModelConfig, ...] = (
        HouseCnnConfig(channels=(4, 6), keep_bins=True),
        HouseCnnConfig(channels=(4, 6)),
        MobileNetConfig(width=0.1),
        MusicnnConfig(timbres=2, rhythms=2, middle=2, hidden=4),
    )
    members = [build_model(config, (40, 30), 3).eval() for config in configs]
    features_BFT = torch.randn(5, 40, 30)
    expected = [member(features_BFT) for member in members]
    biases = [list(member.head.parameters())[-1].detach() for member in members]
    bias_G = torch.stack(biases).mean(dim=0)
    difference = [own_G - bias_G for own_G in biases]
    joined = Ensemble(members)
    for number, config in enumerate(configs):
        alone = build_model(config, (40, 30), 3).eval()
        alone.start_from(joined.network(number))
        # The bias is the mean of the members': only their sum is in the ensemble.
        torch.testing.assert_close(alone(features_BFT) + difference[number], expected[number])


def test_training_starts_from_weights_that_fit() -> None:
    torch.manual_seed(0)
    config = HouseCnnConfig(channels=(4, 6), keep_bins=True)
    trained = HouseCnn(config, 3, 40)
    same, fewer_bins, other_genres = HouseCnn(config, 3, 40), HouseCnn(config, 3, 32), HouseCnn(config, 5, 40)
    untrained = other_genres.head.weight.detach().clone()
    for model in (same, fewer_bins, other_genres):
        model.start_from(trained.state_dict())
        for (name, one), other in zip(model.stages.named_parameters(), trained.stages.parameters(), strict=True):
            assert torch.equal(one, other), name
    assert torch.equal(same.head.weight, trained.head.weight)
    # 40 bins are 10 rows at the end, 32 are 8: the head keeps those of the lowest bins.
    rows = trained.head.weight.unflatten(1, (12, 10))[:, :, :8].flatten(1)
    assert torch.equal(fewer_bins.head.weight, rows)
    assert torch.equal(other_genres.head.weight, untrained)
    assert not torch.equal(same.head.weight, HouseCnn(config, 3, 40).head.weight)


def test_weights_of_another_network_are_refused() -> None:
    wider, deeper = HouseCnnConfig(channels=(4, 8)), HouseCnnConfig(channels=(4, 6, 8))
    for config in (wider, deeper):
        with pytest.raises(ConfigError, match=r"start: these weights are of another network \(stages"):
            HouseCnn(HouseCnnConfig(channels=(4, 6)), 3).start_from(HouseCnn(config, 3).state_dict())


@pytest.mark.parametrize(
    "config",
    [*(config for config, _ in SMALL.values()), EnsembleConfig(members=(HouseCnnConfig(), StatisticsConfig()))],
)
def test_networks_that_take_any_number_of_frames_do(config: AnyModelConfig) -> None:
    members = config.members if isinstance(config, EnsembleConfig) else (config,)
    pooled = {"house_cnn", "statistics", "mobilenet", "musicnn", "probe"}
    assert takes_any_frames(config) == ({member.kind for member in members} <= pooled)
    if takes_any_frames(config):
        model = build_model(config, PICTURE, 3).eval()
        for frames in (7, 30, 61):
            assert model(torch.randn(2, PICTURE[0], frames)).shape == (2, 3)
