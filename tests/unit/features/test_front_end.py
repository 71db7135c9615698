from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from mgc.audio.waveform import Waveform
from mgc.configuration import to_json
from mgc.features.clips import Clips
from mgc.features.front_end import FrontEndConfig, build_front_end, features_id
from mgc.features.mel import LogMel, LogMelConfig
from mgc.features.thumbnail import Thumbnail, ThumbnailConfig

CONFIGS = [LogMelConfig(), ThumbnailConfig()]


@pytest.mark.parametrize("config", CONFIGS)
def test_a_configuration_survives_json_and_builds_its_front_end(config: Any) -> None:
    again = TypeAdapter(FrontEndConfig).validate_python(to_json(config))
    assert again == config
    front_end = build_front_end(again)
    assert isinstance(front_end, LogMel if config.kind == "log_mel" else Thumbnail)
    clips = front_end(Waveform(np.ones(40000, np.float32), 16000))
    assert clips.features.shape[1:] == front_end.shape


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValidationError, match="mfcc"):
        TypeAdapter(FrontEndConfig).validate_python({"kind": "mfcc"})


def test_id_changes_when_and_only_when_the_numbers_can(monkeypatch: pytest.MonkeyPatch) -> None:
    first = features_id(LogMelConfig())
    assert len(first) == 12
    assert features_id(LogMelConfig(sample_rate_hz=22050)) == first
    others = {
        features_id(config)
        for config in (replace(LogMelConfig(), n_mels=96), replace(LogMelConfig(), top_db=60.0), ThumbnailConfig())
    }
    assert len(others | {first}) == 4
    monkeypatch.setattr(LogMel, "NUMBERS", LogMel.NUMBERS + 1)
    assert features_id(LogMelConfig()) != first


@pytest.mark.parametrize(
    ("features", "starts"),
    [
        (np.zeros((2, 4, 4), np.float32), np.zeros(2)),
        (np.zeros((4, 4), np.uint8), np.zeros(4)),
        (np.zeros((2, 4, 4), np.uint8).transpose(0, 2, 1)[:, :2], np.zeros(2)),
        (np.zeros((2, 4, 4), np.uint8), np.zeros(3)),
        (np.zeros((2, 4, 4), np.uint8), np.zeros(2, np.float32)),
    ],
)
def test_clips_check_themselves(features: Any, starts: Any) -> None:
    with pytest.raises(ValueError, match="Clips"):
        Clips(features, starts)
