"""What every front end promises."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pytest
import torch
from pydantic import TypeAdapter

from cluster.storage.uri import Uri
from cluster.streams.sinks import FeaturesSink
from cluster.tables.features import FeaturesWriter, read_features
from mgc import schema
from mgc.audio.waveform import Waveform
from mgc.configuration import to_json
from mgc.errors import ConfigError
from mgc.features.cutting import ClipFrontEnd
from mgc.features.front_end import FrontEndConfig, build_front_end, describe_features, features_id
from mgc.features.handcrafted import HandcraftedConfig
from mgc.features.image import MelImageConfig
from mgc.features.normalization import Normalization
from mgc.labeling.decide import decide
from mgc.labeling.predict import Meaning, Predict
from mgc.labeling.torch_network import TorchNetwork
from mgc.models.architecture import ModelConfig, build_model, check_input
from mgc.models.house import HouseCnnConfig
from mgc.recipes.catalogue import find
from mgc.taxonomy import Taxonomy

KINDS = {kind.kind: kind for kind in get_args(get_args(FrontEndConfig)[0])}

CONFIGS: dict[str, Any] = {
    **{name: kind() for name, kind in KINDS.items()},
    "mel_image 220 x 216": MelImageConfig(height=220, width=216, frames=130),
    "handcrafted variances": HandcraftedConfig(statistics="means_and_variances"),
}

GOLDEN_IDS = {
    "log_mel": "66d576037f9d",
    "thumbnail": "affa42939544",
    "mfcc": "37a39d7b8b2c",
    "mfcc_statistics": "9868f1532b79",
    "mel_mfcc": "5bb7acd00f79",
    "mel_image": "28e280b1dbad",
    "mel_means": "76173f03fc3b",
    "handcrafted": "2d2441021fc5",
    "lpcc": "7ee9cf0a0899",
    "kaldi_mel": "153d9f549030",
    "compressed_mel": "3da4108494a8",
    "mel_image 220 x 216": "a186301a1ba6",
    "handcrafted variances": "4a07ace19ee1",
}
"""An id that changes makes all prepared features, and all bundles, unusable: change one only when the numbers of the
front end change, and say so in CHANGELOG.md."""

SHAPES = {
    "log_mel": ((128, 128), "uint8"),
    "thumbnail": ((104, 128), "uint8"),
    "mfcc": ((20, 128), "float16"),
    "mfcc_statistics": ((7, 20), "float32"),
    "mel_mfcc": ((148, 128), "float16"),
    "mel_image": ((128, 128, 3), "uint8"),
    "mel_means": ((128,), "float32"),
    "handcrafted": ((26,), "float32"),
    "lpcc": ((20, 128), "float16"),
    "kaldi_mel": ((128, 1000), "float32"),
    "compressed_mel": ((96, 187), "float32"),
    "mel_image 220 x 216": ((220, 216, 3), "uint8"),
    "handcrafted variances": ((72,), "float32"),
}

LOUD = {
    "mfcc": "decibels re power 1: the 0th coefficient is the level",
    "mfcc_statistics": "they are of such MFCC",
    "mel_mfcc": "decibels re power 1",
    "kaldi_mel": "the networks that take it were trained on levels",
    "compressed_mel": "likewise",
    "handcrafted": "its MFCC are of decibels re power 1",
    "handcrafted variances": "its MFCC are of decibels re power 1",
}
"""Front ends whose numbers say how loud a clip is, and why."""

OTHER_VALUES = {
    "f_max_hz": 8000.0,
    "frames": 100,
    "hop_length": 510,
    "pre_emphasis": 0.5,
    "reference_db": 0.0,
    "statistics": "means_and_variances",
    "top_db": 20.0,
}
"""Values unlike the default, where two more would be none, or would not matter to a sound without much range."""


AXES = {
    "house_cnn": {2},
    "convolutional": {2, 3},
    "dense": {1, 2, 3},
    "recurrent": {2},
    "statistics": {2},
    "mobilenet": {2},
    "musicnn": {2},
    "probe": {2},
    "guess": {1, 2, 3},
    "ensemble": {2},
}
"""Axes of a clip that each network takes."""

IN_TORCH = [name for name in CONFIGS if name.split()[0] not in ("thumbnail", "handcrafted")]
"""Front ends that compute clips in torch; a thumbnail is one clip a window, hand-crafted vectors are librosa's."""


def waveform(seconds: float, sample_rate_hz: int = 22050, seed: int = 0) -> Waveform:
    time_T = np.arange(round(seconds * sample_rate_hz)) / sample_rate_hz
    noise_T = np.random.default_rng(seed).normal(0, 0.05, len(time_T))
    samples = (0.3 * np.sin(2 * np.pi * 440 * time_T) + noise_T).astype(np.float32)
    return Waveform(samples, sample_rate_hz, start_seconds=12.5)


def changed(config: Any, name: str) -> Any:
    """The configuration with another value in one field, as near as no front end refuses."""
    value = getattr(config, name)
    if (config.kind, name) == ("compressed_mel", "hop_length"):
        # A longer hop leaves fewer frames than are kept.
        return replace(config, hop_length=value - 2)
    return replace(config, **{name: OTHER_VALUES[name] if name in OTHER_VALUES else value + 2})


def changeable(config: Any) -> list[str]:
    return [field.name for field in fields(config) if field.name != "kind"]


def test_every_kind_has_its_golden_id() -> None:
    assert KINDS.keys() <= CONFIGS.keys()
    assert CONFIGS.keys() == GOLDEN_IDS.keys() == SHAPES.keys()


@pytest.mark.parametrize("name", CONFIGS)
class TestFrontEnd:
    def test_the_id_is_stable(self, name: str) -> None:
        assert features_id(CONFIGS[name]) == GOLDEN_IDS[name]

    def test_the_id_and_the_numbers_change_with_every_field(self, name: str) -> None:
        config, sound = CONFIGS[name], waveform(6.0)
        names = [field for field in changeable(config) if getattr(config, field) != OTHER_VALUES.get(field)]
        assert len({features_id(config), *(features_id(changed(config, field)) for field in names)}) == 1 + len(names)
        before = build_front_end(config)(sound).features
        for field in names:
            assert not np.array_equal(before, build_front_end(changed(config, field))(sound).features), field

    def test_the_id_is_that_of_the_numbers_not_of_their_spelling(self, name: str) -> None:
        config = CONFIGS[name]
        if "clip_seconds" in changeable(config):
            same = replace(config, clip_seconds=config.clip_seconds + 1e-9)
            assert features_id(same) == GOLDEN_IDS[name]
        if "f_max_hz" in changeable(config) and config.f_max_hz is None:
            assert features_id(replace(config, f_max_hz=config.sample_rate_hz / 2)) == GOLDEN_IDS[name]

    def test_the_configuration_survives_json(self, name: str) -> None:
        config = CONFIGS[name]
        again = TypeAdapter(FrontEndConfig).validate_python(to_json(config))
        assert again == config
        assert features_id(again) == features_id(config)

    @pytest.mark.parametrize(
        ("seconds", "sample_rate_hz"), [(30.0, 22050), (2.9, 44100), (7.5, 16000), (0.5, 8000), (0.01, 48000)]
    )
    def test_features_have_the_shape_that_is_promised(self, name: str, seconds: float, sample_rate_hz: int) -> None:
        front_end = build_front_end(CONFIGS[name])
        clips = front_end(waveform(seconds, sample_rate_hz))
        assert (front_end.shape, front_end.dtype) == SHAPES[name]
        assert clips.features.shape[1:] == front_end.shape
        assert clips.features.dtype == front_end.dtype
        assert len(clips.features) >= 1
        assert clips.features.flags.c_contiguous
        assert clips.start_seconds[0] == 12.5
        assert (np.diff(clips.start_seconds) > 0).all()
        assert clips.start_seconds[-1] < 12.5 + seconds
        assert np.isfinite(clips.features).all()
        assert len(np.unique(clips.features)) > 10
        if name in ("log_mel", "thumbnail"):
            # The range is used: a clip's loudest is at the top.
            assert int(clips.features.max()) >= 254

    def test_the_same_sound_gives_the_same_bytes_whatever_came_before(self, name: str) -> None:
        front_end, sound = build_front_end(CONFIGS[name]), waveform(7.0, 44100)
        samples = sound.samples.copy()
        first = front_end(sound)
        front_end(waveform(31.0, 48000, seed=1))
        again = front_end(sound)
        fresh = build_front_end(CONFIGS[name])(sound)
        for other in (again, fresh):
            np.testing.assert_array_equal(first.features, other.features)
            np.testing.assert_array_equal(first.start_seconds, other.start_seconds)
        np.testing.assert_array_equal(sound.samples, samples)

    def test_loudness_matters_only_where_it_is_meant_to(self, name: str) -> None:
        front_end, sound = build_front_end(CONFIGS[name]), waveform(4.0)
        quiet = Waveform(sound.samples / 8, sound.sample_rate_hz, sound.start_seconds)
        features = front_end(sound).features.astype(float)
        # One step of uint8; an image's colours change by up to three with it.
        within = 3 if name.startswith("mel_image") else 1 if front_end.dtype == "uint8" else 0.02
        assert (np.abs(features - front_end(quiet).features).max() <= within) == (name not in LOUD)

    @pytest.mark.parametrize("level", [0.0, 0.25, 1e-8])
    def test_silence_gives_features_too(self, name: str, level: float) -> None:
        front_end = build_front_end(CONFIGS[name])
        features = front_end(Waveform(np.full(22050 * 4, level, np.float32), 22050)).features
        assert features.shape[1:] == front_end.shape
        assert np.isfinite(features).all()
        assert level > 0 or (features == features[:1]).all()
        if level == 0 and name in ("log_mel", "thumbnail", "lpcc"):
            assert not features.any()

    def test_the_loudest_sound_that_is_accepted_gives_finite_features(self, name: str) -> None:
        sound = waveform(4.0)
        samples = sound.samples * (1e6 / np.abs(sound.samples).max())
        features = build_front_end(CONFIGS[name])(Waveform(samples, sound.sample_rate_hz)).features
        assert np.isfinite(features).all()

    @pytest.mark.parametrize("samples", [0, 1, 2, 511])
    def test_a_handful_of_samples_is_one_clip(self, name: str, samples: int) -> None:
        made = build_front_end(CONFIGS[name])(Waveform(np.full(samples, 0.5, np.float32), 22050))
        assert len(made.features) == 1
        assert np.isfinite(made.features).all()

    def test_clips_are_normalised_bin_by_bin(self, name: str) -> None:
        features = build_front_end(CONFIGS[name])(waveform(31.0)).features
        applied = Normalization.measure(features).apply(torch.from_numpy(features)).double()
        assert applied.shape == features.shape
        axes = (0, 1, 2) if features.ndim == 4 else (0, 2) if features.ndim == 3 else (0,)
        assert applied.mean(axes).abs().max() < 2e-3
        assert applied.std(axes, correction=0).max() < 1.01

    @pytest.mark.parametrize("model", get_args(get_args(ModelConfig)[0]))
    def test_a_network_takes_its_shape_or_says_why_not(self, name: str, model: type[Any]) -> None:
        shape = build_front_end(CONFIGS[name]).shape
        taken = AXES[model.kind]
        if len(shape) in taken:
            check_input(model(), shape)
        else:
            side = " x ".join(map(str, shape))
            with pytest.raises(ConfigError, match=f"takes features of bins x frames.*, .* gives {side} numbers"):
                check_input(model(), shape)


@pytest.mark.parametrize("name", CONFIGS)
def test_features_survive_their_table(name: str, tmp_path: Path) -> None:
    config = CONFIGS[name]
    front_end = build_front_end(config)
    made = [front_end(waveform(seconds)).features for seconds in (7.0, 3.0)]
    writer = FeaturesWriter(Uri.of_path(tmp_path), describe_features(config))
    heard = {
        **{field: [None, None] for field in (*schema.TRACK_FACTS, *schema.REJECTS.names)},
        "track_id": ["a", "b"],
        "content_tag": ["1", "1"],
        "clips": [features.tobytes() for features in made],
        "clip_count": [len(features) for features in made],
        "clip_starts": [[3.0 * clip for clip in range(len(features))] for features in made],
    }
    FeaturesSink(writer).write([pa.table(heard)], None)
    dataset, facts = read_features(Uri.of_path(tmp_path))
    rows = dataset.to_table().sort_by([("track_id", "ascending"), ("clip_index", "ascending")])
    found = np.frombuffer(b"".join(rows["features"].to_pylist()), facts.dtype).reshape(-1, *facts.shape)
    np.testing.assert_array_equal(found, np.concatenate(made))


@pytest.mark.parametrize("name", [name for name, (shape, _) in SHAPES.items() if len(shape) == 2])
def test_a_network_labels_what_is_stored(name: str) -> None:
    """Bytes of any dtype go through the stage as the arrays do."""
    front_end = build_front_end(CONFIGS[name])
    features = front_end(waveform(9.0)).features
    torch.manual_seed(0)
    model = build_model(HouseCnnConfig(channels=(4, 8)), front_end.shape, 2)
    taxonomy = Taxonomy.flat(["Jazz", "Rock"])
    normalization = Normalization.measure(features)
    meaning = Meaning(front_end.shape, front_end.dtype, taxonomy.names)
    predict = Predict(TorchNetwork(model, normalization), meaning)
    clips = np.array([features.tobytes(), None], dtype=object)
    errors = {name: np.array([None, "empty"], dtype=object) for name in ("error_kind", "error_message")}
    made = predict({"clips": clips, "clip_count": np.array([len(features), 0], np.int32), **errors})
    expected = decide(predict.logits(features), taxonomy.names, 3)
    assert np.isfinite(predict.logits(features)).all()
    assert made["genre_top"].tolist() == [expected.genre_top, None]
    assert made["confidence"][0] == expected.confidence


@pytest.mark.parametrize("name", KINDS)
def test_a_recipe_with_another_input_is_taken_or_refused_in_one_line(name: str) -> None:
    house = find("house").build()
    rank = len(build_front_end(KINDS[name]()).shape)
    if rank == 2:
        assert house.override({"front_end.kind": name}).front_end == KINDS[name]()
    else:
        with pytest.raises(ConfigError, match="takes features of bins x frames"):
            house.override({"front_end.kind": name})


@pytest.mark.parametrize("name", IN_TORCH)
def test_a_long_window_is_computed_in_parts_without_a_seam(name: str) -> None:
    config = CONFIGS[name]
    front_end, sound = build_front_end(config), waveform(config.clip_seconds, config.sample_rate_hz)
    assert isinstance(front_end, ClipFrontEnd)
    features = front_end(Waveform(np.tile(sound.samples, 22), config.sample_rate_hz)).features
    assert len(features) == 22
    # The outer clips of some front ends hear that nothing is beyond the window.
    inner = features[1:-1].astype(float)
    np.testing.assert_allclose(inner, np.repeat(inner[:1], 20, axis=0), atol=1e-3)


@pytest.mark.parametrize("name", IN_TORCH)
def test_features_follow_their_input(name: str) -> None:
    """What a caller with a device of his own does; on the CPU here, on a GPU in tests/gpu."""
    front_end, sound = build_front_end(CONFIGS[name]), waveform(7.0)
    assert isinstance(front_end, ClipFrontEnd)
    wave_CT, _ = front_end.cut(sound)
    given_CT = torch.from_numpy(wave_CT.copy())
    made = front_end.features(given_CT)
    assert made.device == given_CT.device
    assert not made.is_inference()
    np.testing.assert_array_equal(made.numpy(), front_end(sound).features)
    np.testing.assert_array_equal(given_CT.numpy(), wave_CT)
