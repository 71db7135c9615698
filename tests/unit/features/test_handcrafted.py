"""Processes that call librosa for the first time: one at a time, because numba writes files then."""

from __future__ import annotations

import fcntl
import threading
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from mgc.audio.waveform import Waveform
from mgc.features.handcrafted import Handcrafted, HandcraftedConfig


def test_a_first_call_waits_for_another_process() -> None:
    window = Waveform(np.sin(np.arange(110_250.0) / 9).astype(np.float32), 22_050)
    warm, first = Handcrafted(HandcraftedConfig()), Handcrafted(HandcraftedConfig())
    expected, found = warm(window).features, list[np.ndarray]()
    librosa = find_spec("librosa")
    assert librosa is not None
    assert librosa.origin is not None
    calling = threading.Thread(target=lambda: found.append(first(window).features))
    with Path(librosa.origin).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        calling.start()
        # Later calls take milliseconds, and do not wait.
        np.testing.assert_array_equal(warm(window).features, expected)
        calling.join(2.0)
        assert calling.is_alive()
    calling.join()
    np.testing.assert_array_equal(found, [expected])
