from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from mgc.configuration import to_json
from mgc.features.cepstra.lpcc import Lpcc, LpccConfig
from mgc.features.cepstra.mfcc import Mfcc, MfccConfig
from mgc.features.cepstra.mfcc_statistics import MfccStatistics, MfccStatisticsConfig
from mgc.features.clips import Clips
from mgc.features.compressed_mel import CompressedMel, CompressedMelConfig
from mgc.features.front_end import FrontEndConfig, build_front_end, features_id
from mgc.features.handcrafted import Handcrafted, HandcraftedConfig
from mgc.features.image import MelImage, MelImageConfig
from mgc.features.kaldi_mel import KaldiMel, KaldiMelConfig
from mgc.features.mel import LogMel, LogMelConfig
from mgc.features.mel_means import MelMeans, MelMeansConfig
from mgc.features.stack import MelMfcc, MelMfccConfig
from mgc.features.thumbnail import Thumbnail, ThumbnailConfig

FRONT_ENDS = {
    LogMelConfig: LogMel,
    ThumbnailConfig: Thumbnail,
    MfccConfig: Mfcc,
    MfccStatisticsConfig: MfccStatistics,
    MelMfccConfig: MelMfcc,
    MelImageConfig: MelImage,
    MelMeansConfig: MelMeans,
    HandcraftedConfig: Handcrafted,
    LpccConfig: Lpcc,
    KaldiMelConfig: KaldiMel,
    CompressedMelConfig: CompressedMel,
}


@pytest.mark.parametrize(("kind", "front_end"), FRONT_ENDS.items())
def test_a_configuration_builds_its_front_end_after_json(kind: Any, front_end: type) -> None:
    again = TypeAdapter(FrontEndConfig).validate_python(to_json(kind()))
    assert isinstance(build_front_end(again), front_end)


def test_every_kind_is_tried_above() -> None:
    assert set(get_args(get_args(FrontEndConfig)[0])) == FRONT_ENDS.keys()


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValidationError, match="plp"):
        TypeAdapter(FrontEndConfig).validate_python({"kind": "plp"})


@pytest.mark.parametrize(
    ("kind", "wrong", "named"),
    [
        (MfccConfig, {"n_mels": 16}, "n_mfcc 20: 16 mel bins have 16 coefficients"),
        (MfccStatisticsConfig, {"n_mels": 16}, "n_mfcc 20: 16 mel bins have 16 coefficients"),
        (MelMfccConfig, {"frames": 131}, "frames 131: a clip of 3 s has only 130"),
        (MelImageConfig, {"height": 0}, "height"),
        (MelMeansConfig, {"f_max_hz": 20000.0}, "half the sample rate"),
        (LpccConfig, {"frames": 131}, "frames 131"),
        (LpccConfig, {"order": 65}, "order"),
        (LpccConfig, {"frame_length": 1025}, "frame_length"),
        (HandcraftedConfig, {"clip_seconds": 0.1, "n_fft": 4096}, "a clip of 0.1 s has 2205 samples"),
        (HandcraftedConfig, {"n_fft": 64}, "n_fft 64: frequency bins 345 Hz apart"),
        (HandcraftedConfig, {"hop_length": 64}, "hop_length 64: 344.5 frames/s"),
        (HandcraftedConfig, {"hop_length": 8192}, "hop_length 8192: 2.7 frames/s"),
        (HandcraftedConfig, {"sample_rate_hz": 12800}, "spectral contrast needs more than 12800"),
        (HandcraftedConfig, {"statistics": "medians"}, "statistics"),
        (HandcraftedConfig, {"frames": 128}, "frames"),
        (KaldiMelConfig, {"f_max_hz": 16_001.0}, "half the sample rate"),
        (KaldiMelConfig, {"f_min_hz": 15_000.0}, "not below"),
        (KaldiMelConfig, {"window_length": 1025}, "window_length 1025"),
        (KaldiMelConfig, {"n_fft": 8192, "clip_seconds": 0.1}, "has 3200 samples"),
        (CompressedMelConfig, {"frames": 189}, "frames 189"),
        (CompressedMelConfig, {"n_fft": 128}, "hop_length 256"),
    ],
)
def test_wrong_values_are_refused(kind: Any, wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        kind(**wrong)


def test_librosa_is_imported_by_those_who_need_it_only() -> None:
    """It takes seconds, and every worker would pay them."""
    lines = (
        "import sys, mgc.features.front_end as f",
        "[f.build_front_end(kind()) for kind in f._FRONT_ENDS]",
        "assert not {'librosa', 'matplotlib', 'numba'} & set(sys.modules)",
    )
    subprocess.run([sys.executable, "-c", "; ".join(lines)], check=True)


def test_every_number_of_a_handcrafted_vector_has_a_name() -> None:
    for statistics, count in (("means", 26), ("means_and_variances", 72)):
        names = Handcrafted(HandcraftedConfig(statistics=statistics)).names  # type: ignore[arg-type]
        assert len(set(names)) == len(names) == count


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
        (np.zeros((2, 4, 4), np.float64), np.zeros(2)),
        (np.zeros((2, 4, 4), np.int8), np.zeros(2)),
        (np.zeros(4, np.uint8), np.zeros(4)),
        (np.zeros((2, 4, 4, 3, 1), np.uint8), np.zeros(2)),
        (np.zeros((2, 4, 4), np.uint8).transpose(0, 2, 1)[:, :2], np.zeros(2)),
        (np.zeros((2, 4, 4), np.uint8), np.zeros(3)),
        (np.zeros((2, 4, 4), np.uint8), np.zeros(2, np.float32)),
    ],
)
def test_clips_check_themselves(features: Any, starts: Any) -> None:
    with pytest.raises(ValueError, match="Clips"):
        Clips(features, starts)
