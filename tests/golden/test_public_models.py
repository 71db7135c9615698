"""Public models against outputs of their reference implementations, on two recordings of real music.

`MGC_TEST_MODELS` names a folder with golden.npz and the published file of mn04; `MGC_TEST_MUSICNN` names the wheel.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch

from mgc.audio.waveform import Waveform
from mgc.features.compressed_mel import CompressedMelConfig
from mgc.features.front_end import build_front_end
from mgc.features.kaldi_mel import KaldiMelConfig
from mgc.models.mobilenet import MobileNet, MobileNetConfig
from mgc.models.musicnn import Musicnn, MusicnnConfig
from mgc.public_models.efficientat import CLASSES, read_efficientat
from mgc.public_models.musicnn import BINS, TAGS, Training, read_musicnn

MODELS: Final = os.environ.get("MGC_TEST_MODELS")
WHEEL: Final = os.environ.get("MGC_TEST_MUSICNN")
CLOSE: Final = 1e-3
RECORDINGS: Final = (0, 1)

pytestmark = pytest.mark.skipif(MODELS is None, reason="no public models: set MGC_TEST_MODELS")
needs_wheel = pytest.mark.skipif(WHEEL is None, reason="no wheel of musicnn: set MGC_TEST_MUSICNN")


@pytest.fixture(scope="module")
def golden() -> Any:
    return np.load(Path(MODELS or "") / "golden.npz")


@pytest.fixture(scope="module")
def mn04() -> MobileNet:
    path = Path(MODELS or "") / "mn04_as_mAP_432.pt"
    model = MobileNet(MobileNetConfig(width=0.4), CLASSES)
    model.load_state_dict(read_efficientat(path.read_bytes(), 0.4, path.name))
    model.eval()
    return model


def musicnn(training: Training) -> Musicnn:
    model = Musicnn(MusicnnConfig(), BINS, TAGS)
    model.load_state_dict(read_musicnn(Path(WHEEL or "").read_bytes(), training, "the wheel"))
    model.eval()
    return model


@pytest.mark.parametrize("number", RECORDINGS)
def test_mn04(number: int, golden: Any, mn04: MobileNet) -> None:
    clips = build_front_end(KaldiMelConfig())(Waveform(golden[f"wave32k_{number}"], 32_000)).features
    assert clips.shape == (1, 128, 1000)
    np.testing.assert_allclose(clips[0], golden[f"mn04_mel_{number}"], atol=1e-5)
    with torch.inference_mode():
        embedding_BD = mn04.embed(torch.from_numpy(clips))
        logits_BG = mn04.classify(embedding_BD)
    np.testing.assert_allclose(embedding_BD[0], golden[f"mn04_embedding_{number}"], atol=CLOSE)
    np.testing.assert_allclose(logits_BG[0], golden[f"mn04_logits_{number}"], atol=CLOSE)


@needs_wheel
@pytest.mark.parametrize("training", ["MSD", "MTT"])
@pytest.mark.parametrize("number", RECORDINGS)
def test_musicnn(number: int, training: Training, golden: Any) -> None:
    clips = build_front_end(CompressedMelConfig())(Waveform(golden[f"wave16k_{number}"], 16_000)).features
    assert clips.shape == (3, 96, 187)
    # Where a power lies between two numbers of float16, it may be rounded the other way.
    np.testing.assert_allclose(
        np.concatenate(list(clips), axis=1).T, golden[f"musicnn_mel_{number}"][: 3 * 187], atol=5e-4
    )
    model = musicnn(training)
    with torch.inference_mode():
        embedding_BD = model.embed(torch.from_numpy(clips))
        logits_BG = model.classify(embedding_BD)
    np.testing.assert_allclose(embedding_BD, golden[f"{training}_musicnn_penultimate_{number}"], atol=CLOSE)
    np.testing.assert_allclose(logits_BG, golden[f"{training}_musicnn_logits_{number}"], atol=CLOSE)
