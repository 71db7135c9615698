from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mgc.errors import FeaturesError
from mgc.features.normalization import Normalization
from mgc.labeling.adjust import PriorAdjustment
from mgc.labeling.decide import decide
from mgc.labeling.predict import CLIPS_AT_ONCE_CPU, Meaning, Predict
from mgc.labeling.torch_network import TorchNetwork
from mgc.models.architecture import AnyModelConfig, build_model
from mgc.models.blocks import Classifier
from mgc.models.convolutional import ConvolutionalConfig
from mgc.models.dense import DenseConfig
from mgc.models.guess import GuessConfig
from mgc.models.house import HouseCnnConfig
from mgc.models.recurrent import RecurrentConfig
from mgc.taxonomy import Taxonomy

SHAPE = (32, 24)
TAXONOMY = Taxonomy.flat(["folk", "jazz", "rock", "soul"])
NORMALIZATION = Normalization((120.0,) * 32, (60.0,) * 32)
MODELS = [
    HouseCnnConfig(channels=(8, 16)),
    ConvolutionalConfig(filters=(4, 8, 8), kernel=2, strides=(2, 1, 1), padding="same", batch_norm=True, hidden=(16,)),
    DenseConfig(hidden=(32, 16), batch_norm=True),
    RecurrentConfig(filters=(16, 8, 8), lstm_width=12),
    GuessConfig(),
]


def network(config: AnyModelConfig = MODELS[0]) -> Classifier:
    torch.manual_seed(0)
    return build_model(config, SHAPE, len(TAXONOMY)).eval()


def predictor(model: Classifier | None = None, adjustment: PriorAdjustment | None = None, **options: Any) -> Predict:
    return Predict(
        TorchNetwork(model or network(), NORMALIZATION, adjustment),
        Meaning(SHAPE, "uint8", TAXONOMY.names),
        **options,
    )


def clips(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *SHAPE), dtype=np.uint8)


def batch(*tracks: np.ndarray | None) -> dict[str, np.ndarray]:
    data = np.empty(len(tracks), dtype=object)
    data[:] = [None if track is None else track.tobytes() for track in tracks]
    return {
        "track_id": np.array([f"track {row}" for row in range(len(tracks))], dtype=object),
        "clips": data,
        "clip_count": np.array([0 if track is None else len(track) for track in tracks], np.int32),
        "error_kind": np.array([None if track is not None else "not_audio" for track in tracks], dtype=object),
        "error_message": np.array([None if track is not None else "no audio" for track in tracks], dtype=object),
    }


def test_logits_are_those_of_the_network() -> None:
    clips_NFT = clips(2 * CLIPS_AT_ONCE_CPU + 3)
    with torch.inference_mode():
        wanted_NG = network()(NORMALIZATION.apply(torch.from_numpy(clips_NFT))).numpy()
    logits_NG = predictor().logits(clips_NFT)
    assert logits_NG.dtype == np.float32
    np.testing.assert_allclose(logits_NG, wanted_NG, rtol=1e-4, atol=1e-5)
    assert predictor().logits(clips(0)).shape == (0, 4)


@pytest.mark.parametrize("config", MODELS)
def test_parts_are_what_the_last_layer_sees_and_says(config: AnyModelConfig) -> None:
    model, clips_NFT = network(config), clips(2 * CLIPS_AT_ONCE_CPU + 3)
    predict = predictor(model)
    with torch.inference_mode():
        wanted_ND = model.embed(NORMALIZATION.apply(torch.from_numpy(clips_NFT))).numpy()
    seen = np.zeros(len(clips_NFT), int)
    for rows, embedding_ND, logits_NG in predict.parts(clips_NFT):
        seen[rows] += 1
        np.testing.assert_allclose(embedding_ND, wanted_ND[rows], rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(logits_NG, predict.logits(clips_NFT)[rows])
    assert seen.tolist() == [1] * len(clips_NFT)
    assert list(predict.parts(clips(0))) == []


def test_parts_are_adjusted_as_logits_are_and_their_embeddings_are_not() -> None:
    adjustment, clips_NFT = PriorAdjustment.from_counts(1.5, (40, 30, 20, 10)), clips(CLIPS_AT_ONCE_CPU + 3)
    plain, adjusted = predictor(), predictor(adjustment=adjustment)
    for (rows, plain_ND, plain_NG), (_, embedding_ND, logits_NG) in zip(
        plain.parts(clips_NFT), adjusted.parts(clips_NFT), strict=True
    ):
        np.testing.assert_array_equal(embedding_ND, plain_ND)
        np.testing.assert_array_equal(logits_NG, adjusted.logits(clips_NFT)[rows])
        np.testing.assert_allclose(logits_NG, plain_NG - 1.5 * np.log([0.4, 0.3, 0.2, 0.1]), rtol=1e-5)
        assert logits_NG.dtype == np.float32


@pytest.mark.parametrize("config", MODELS)
def test_logits_do_not_depend_on_the_company(config: AnyModelConfig) -> None:
    """Bit for bit: else a track's row would change when another is added to the catalog."""
    predict, clips_NFT = predictor(network(config)), clips(37)
    together_NG = predict.logits(clips_NFT)
    for size in (1, 2, 3, 5, 16, 36):
        parts = [predict.logits(clips_NFT[start : start + size]) for start in range(0, 37, size)]
        np.testing.assert_array_equal(np.concatenate(parts), together_NG)
    order = np.random.default_rng(1).permutation(37)
    np.testing.assert_array_equal(predict.logits(clips_NFT[order]), together_NG[order])


def test_rows_stay_in_order_and_one_without_clips_has_no_answer() -> None:
    tracks = [clips(3, 1), None, clips(1, 2), clips(12, 3), None]
    predict = predictor(top_k=2)
    made = predict(batch(*tracks))
    errors = {"error_kind", "error_message"}
    assert made.keys() == {"track_id", "clip_count", "genre_top", "confidence", "top_k", *errors}
    assert made["track_id"].tolist() == [f"track {row}" for row in range(5)]
    assert made["confidence"].dtype == np.float64
    for row, track in enumerate(tracks):
        if track is None:
            assert made["genre_top"][row] is None
            assert made["top_k"][row] is None
            assert np.isnan(made["confidence"][row])
        else:
            wanted = decide(predict.logits(track), TAXONOMY.names, 2)
            assert made["genre_top"][row] == wanted.genre_top
            assert made["confidence"][row] == wanted.confidence
            assert made["top_k"][row] == wanted.top_k


@pytest.mark.parametrize("config", MODELS)
def test_an_embedding_is_the_mean_over_the_clips_whatever_the_company(config: AnyModelConfig) -> None:
    tracks = [clips(3, 1), None, clips(1, 2), clips(2 * CLIPS_AT_ONCE_CPU + 3, 3), None]
    predict = predictor(network(config), embed=True)
    made, plain = predict(batch(*tracks)), predictor(network(config))(batch(*tracks))
    assert made.keys() - plain.keys() == {"embedding", "windows"}
    assert made["top_k"].tolist() == plain["top_k"].tolist()
    assert made["windows"].tolist() == [3, 0, 1, 2 * CLIPS_AT_ONCE_CPU + 3, 0]
    for track, embedding in zip(tracks, made["embedding"], strict=True):
        if track is None:
            assert embedding is None
            continue
        wanted_ND = np.concatenate([part_ND for _, part_ND, _ in predict.parts(track)])
        assert embedding.dtype == np.float32
        np.testing.assert_allclose(embedding, wanted_ND.mean(axis=0), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("tracks", [(), (None, None)])
def test_a_batch_without_clips(tracks: tuple[None, ...]) -> None:
    made = predictor()(batch(*tracks))
    assert made["genre_top"].tolist() == [None] * len(tracks)
    assert {len(values) for values in made.values()} == {len(tracks)}


@pytest.mark.parametrize("change", ["shape", "count", "lost"])
def test_clips_of_another_shape_are_refused(change: str) -> None:
    given = batch(clips(2), clips(2))
    if change == "shape":
        given["clips"][1] = np.zeros((2, 32, 12), np.uint8).tobytes()
    elif change == "count":
        given["clip_count"][1] = 1
    else:
        given["clips"][1] = None
    with pytest.raises(FeaturesError, match=r"row 1 of a batch has \d+ bytes of features, . clips of 32 bins and 24"):
        predictor()(given)


def test_the_model_that_was_given_stays_as_it_was() -> None:
    model = network().train()
    predictor(model).logits(clips(3))
    assert model.training
    predict = predictor(model)
    before_NG = predict.logits(clips(3))
    with torch.no_grad():
        model.head.bias.fill_(100.0)
    np.testing.assert_array_equal(predict.logits(clips(3)), before_NG)
