"""Front ends on a GPU give what they give on the CPU, to a stated tolerance."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mgc.audio.waveform import Waveform
from mgc.features.cepstra.lpcc import LpccConfig
from mgc.features.cepstra.mfcc import MfccConfig
from mgc.features.cepstra.mfcc_statistics import MfccStatisticsConfig
from mgc.features.cutting import ClipFrontEnd
from mgc.features.front_end import build_front_end
from mgc.features.image import MelImageConfig
from mgc.features.mel import LogMelConfig
from mgc.features.mel_means import MelMeansConfig
from mgc.features.stack import MelMfccConfig
from tests.golden.sounds import music

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

TOLERANCES = [
    (LogMelConfig(), 1.0),  # one step of uint8, where two roundings fall to either side
    (LogMelConfig(reference_db=10.0), 1.0),
    (MelMeansConfig(), 0.005),  # decibels
    (MfccConfig(), 1.05),  # float16 beyond 1024, and float32 sums
    (MfccStatisticsConfig(), 0.1),  # decibels, float32 sums
    (MelMfccConfig(), 1.05),
    (MelImageConfig(), 4.0),  # a step of uint8 changes a colour by up to 3
    (MelImageConfig(height=220, width=216, frames=130), 4.0),
    (LpccConfig(), 0.02),  # the float32 transform of frames, through the recursion
]


@pytest.mark.parametrize(("config", "tolerance"), TOLERANCES)
def test_gpu_and_cpu_agree(config: Any, tolerance: float) -> None:
    front_end = build_front_end(config)
    assert isinstance(front_end, ClipFrontEnd)
    sound = Waveform(music(12.0, 44100), 44100)
    on_cpu = torch.from_numpy(front_end(sound).features)
    wave_CT, _ = front_end.cut(sound)
    for _ in range(2):
        on_gpu = front_end.features(torch.from_numpy(wave_CT).to("cuda"))
        assert on_gpu.device.type == "cuda"
        assert on_gpu.dtype == on_cpu.dtype
        assert on_gpu.is_contiguous()
        assert float((on_gpu.cpu().float() - on_cpu.float()).abs().max()) <= tolerance
