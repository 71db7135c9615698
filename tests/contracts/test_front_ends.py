"""What every front end promises."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, get_args

import numpy as np
import pytest
from pydantic import TypeAdapter

from mgc.audio.waveform import Waveform
from mgc.configuration import to_json
from mgc.features.front_end import FrontEndConfig, build_front_end, features_id

KINDS = {kind.kind: kind for kind in get_args(get_args(FrontEndConfig)[0])}

GOLDEN_IDS = {"log_mel": "32aa50cd1740", "thumbnail": "6d58e3301ad8"}
"""Of the default configurations. An id that changes makes all prepared features, and all bundles, unusable: change one
only when the numbers of the front end change, and say so in CHANGELOG.md."""


def waveform(seconds: float, sample_rate_hz: int = 22050, seed: int = 0) -> Waveform:
    time_T = np.arange(round(seconds * sample_rate_hz)) / sample_rate_hz
    noise_T = np.random.default_rng(seed).normal(0, 0.05, len(time_T))
    samples = (0.3 * np.sin(2 * np.pi * 440 * time_T) + noise_T).astype(np.float32)
    return Waveform(samples, sample_rate_hz, start_seconds=12.5)


def test_every_kind_has_its_golden_id() -> None:
    assert KINDS.keys() == GOLDEN_IDS.keys()


@pytest.mark.parametrize("kind", KINDS)
class TestFrontEnd:
    def test_the_id_is_stable(self, kind: str) -> None:
        assert features_id(KINDS[kind]()) == GOLDEN_IDS[kind]

    def test_the_id_changes_with_every_field(self, kind: str) -> None:
        config = KINDS[kind]()
        ids = {GOLDEN_IDS[kind]}
        changeable = [field.name for field in fields(config) if field.name != "kind"]
        for name in changeable:
            ids.add(features_id(replace(config, **{name: other_value(getattr(config, name))})))
        assert len(ids) == 1 + len(changeable)

    def test_the_configuration_survives_json(self, kind: str) -> None:
        config = KINDS[kind]()
        again = TypeAdapter(FrontEndConfig).validate_python(to_json(config))
        assert again == config
        assert features_id(again) == features_id(config)

    @pytest.mark.parametrize(
        ("seconds", "sample_rate_hz"), [(30.0, 22050), (2.9, 44100), (7.5, 16000), (0.5, 8000), (0.01, 48000)]
    )
    def test_features_have_the_shape_that_is_promised(self, kind: str, seconds: float, sample_rate_hz: int) -> None:
        front_end = build_front_end(KINDS[kind]())
        clips = front_end(waveform(seconds, sample_rate_hz))
        bins, frames = front_end.shape
        assert clips.features.shape[1:] == (bins, frames)
        assert len(clips.features) >= 1
        assert clips.features.dtype == np.uint8
        assert clips.features.flags.c_contiguous
        assert clips.start_seconds[0] == 12.5
        assert (np.diff(clips.start_seconds) > 0).all()
        assert clips.start_seconds[-1] < 12.5 + seconds
        # The range is used: a clip's loudest is at the top, and not everything is.
        assert int(clips.features.max()) >= 254
        assert len(np.unique(clips.features)) > 10

    def test_the_same_sound_gives_the_same_bytes_whatever_came_before(self, kind: str) -> None:
        front_end, sound = build_front_end(KINDS[kind]()), waveform(7.0, 44100)
        samples = sound.samples.copy()
        first = front_end(sound)
        front_end(waveform(31.0, 48000, seed=1))
        again = front_end(sound)
        fresh = build_front_end(KINDS[kind]())(sound)
        for other in (again, fresh):
            np.testing.assert_array_equal(first.features, other.features)
            np.testing.assert_array_equal(first.start_seconds, other.start_seconds)
        np.testing.assert_array_equal(sound.samples, samples)

    def test_loudness_does_not_matter(self, kind: str) -> None:
        front_end, sound = build_front_end(KINDS[kind]()), waveform(4.0)
        quiet = Waveform(sound.samples / 8, sound.sample_rate_hz, sound.start_seconds)
        features = front_end(sound).features.astype(int)
        assert np.abs(features - front_end(quiet).features).max() <= 1

    @pytest.mark.parametrize("level", [0.0, 0.25])
    def test_silence_gives_features_too(self, kind: str, level: float) -> None:
        front_end = build_front_end(KINDS[kind]())
        clips = front_end(Waveform(np.full(22050 * 4, level, np.float32), 22050))
        assert clips.features.shape[1:] == front_end.shape
        if level == 0:
            assert not clips.features.any()


def other_value(value: Any) -> Any:
    """A value near another that no front end refuses."""
    if value is None:
        return 8000.0
    return value + 2 if isinstance(value, int) else value + 1.0
