from __future__ import annotations

import numpy as np
import pytest

from mgc.audio.waveform import Waveform


def test_tells_its_duration() -> None:
    assert Waveform(np.zeros(11025, np.float32), 22050, 3.0).duration_seconds == 0.5


@pytest.mark.parametrize(
    ("samples", "rate_hz", "start_seconds", "named"),
    [
        (np.zeros(4), 8000, 0.0, "float32"),
        (np.zeros((4, 1), np.float32), 8000, 0.0, r"\(4, 1\)"),
        ([0.0, 0.0], 8000, 0.0, "list"),
        (np.zeros(8, np.float32)[::2], 8000, 0.0, "contiguous"),
        (np.zeros(4, np.float32), 0, 0.0, "sample_rate_hz"),
        (np.zeros(4, np.float32), 44100.0, 0.0, "sample_rate_hz"),
        (np.zeros(4, np.float32), 8000, -1.0, "start_seconds"),
        (np.zeros(4, np.float32), 8000, float("nan"), "start_seconds"),
    ],
)
def test_refuses_what_it_is_not(samples: object, rate_hz: object, start_seconds: float, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Waveform(samples, rate_hz, start_seconds)  # type: ignore[arg-type]
