"""Coloured pictures, against the colour map of matplotlib and the resizing of Pillow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from mgc.audio.waveform import Waveform
from mgc.features.image import MelImage, MelImageConfig
from mgc.features.mel import LogMel, LogMelConfig
from mgc.features.viridis import viridis
from tests.golden.sounds import music


def test_the_colours_are_those_of_matplotlib() -> None:
    import matplotlib

    np.testing.assert_array_equal(viridis(), matplotlib.colormaps["viridis"](np.arange(256), bytes=True)[:, :3])


@pytest.mark.parametrize(
    ("height", "width", "change"),
    [
        (128, 128, {}),
        (220, 216, {"frames": 130}),
        (128, 128, {"frames": 130}),
        (64, 300, {"n_mels": 96, "frames": 100, "sample_rate_hz": 16000, "hop_length": 400}),
        (50, 33, {"reference_db": 10.0}),
    ],
)
def test_the_picture_is_the_log_mel_as_a_plot_shows_it(height: int, width: int, change: dict[str, Any]) -> None:
    """The very colours where nothing is resized, else within 2 of 255 (Pillow rounds between its two passes)."""
    import matplotlib

    config = MelImageConfig(height=height, width=width, **change)
    sound = Waveform(music(6.0, 22050), 22050)
    ours = MelImage(config)(sound).features
    assert ours.shape == (2, height, width, 3)
    for image, mel in zip(ours, LogMel(LogMelConfig(**change))(sound).features, strict=True):
        colours = matplotlib.colormaps["viridis"](mel[::-1], bytes=True)[:, :, :3]
        expected = np.asarray(Image.fromarray(colours).resize((width, height), Image.Resampling.BILINEAR))
        difference = np.abs(image.astype(int) - expected)
        assert difference.max() <= (0 if colours.shape == image.shape else 2)


def test_librosa_and_matplotlib_draw_the_same() -> None:
    """From decibels to colours without steps between: a step of 80 / 255 dB changes a colour by up to 3 of 255."""
    import librosa
    import matplotlib

    samples = music(3.0, 22050)
    ours = MelImage(MelImageConfig(frames=130, width=130))(Waveform(samples, 22050)).features[0]
    db = librosa.power_to_db(librosa.feature.melspectrogram(y=samples), ref=np.max, top_db=80)
    expected = matplotlib.colormaps["viridis"](db[::-1] / 80 + 1)[:, :, :3] * 255
    assert np.abs(ours - expected).max() <= 4


def test_low_frequencies_lie_at_the_bottom() -> None:
    time = np.arange(3 * 22050) / 22050
    tone = Waveform(np.sin(2 * np.pi * 200 * time).astype(np.float32), 22050)
    image = MelImage(MelImageConfig(height=220, width=216))(tone).features[0]
    yellow = image[:, 100, 0].astype(int)
    assert yellow.argmax() > 200
    assert yellow[:100].max() <= viridis()[:60, 0].max()
