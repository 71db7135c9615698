"""The shortest recording that a bundle labels: whatever the format, the plan and the damage."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from mgc.audio.decode import listen
from mgc.audio.excerpts import ListeningPlan
from mgc.audio.recording import record
from mgc.audio.source import Held
from mgc.audio.waveform import Waveform
from mgc.errors import AudioError, ErrorKind
from tests.support.draws import draws

MakeFile = Callable[..., bytes]
PLAN = ListeningPlan()


def length_of(window: Waveform) -> float:
    return window.duration_seconds


def wav(seconds: float, rate_hz: int = 8_000) -> bytes:
    stream = io.BytesIO()
    tone = 0.3 * np.sin(np.arange(round(seconds * rate_hz)) * 0.3)
    soundfile.write(stream, tone.astype(np.float32), rate_hz, format="WAV")
    return stream.getvalue()


@pytest.mark.draws
@settings(max_examples=draws(60), deadline=None)
@given(
    seconds=st.floats(0.6, 12.0),
    min_seconds=st.sampled_from([0.5, 1.0, 3.0, 7.5]),
    window_seconds=st.sampled_from([1.0, 2.0, 30.0]),
    windows=st.integers(1, 3),
    rate_hz=st.sampled_from([8_000, 11_025]),
)
def test_length_decides_and_not_the_plan(
    seconds: float, min_seconds: float, window_seconds: float, windows: int, rate_hz: int
) -> None:
    plan = ListeningPlan(window_seconds=window_seconds, windows=windows)
    data = wav(seconds, rate_hz)
    length_seconds = round(seconds * rate_hz) / rate_hz
    if round(length_seconds, 2) >= min_seconds:
        assert listen(data, plan, length_of, min_seconds=min_seconds).windows
        return
    with pytest.raises(AudioError) as caught:
        listen(data, plan, length_of, min_seconds=min_seconds)
    assert caught.value.kind is ErrorKind.TOO_SHORT
    assert f"{length_seconds:.2f} s" in str(caught.value)
    assert f"{min_seconds:g} s" in str(caught.value)


@pytest.mark.parametrize("kind", ["mp3", "ogg", "flac", "aiff", "opus", "m4a", "aac", "wma", "webm"])
def test_every_format(make_file: MakeFile, kind: str) -> None:
    rate_hz = 48_000 if kind in ("opus", "webm") else 44_100
    assert listen(make_file(kind, seconds=3.2, rate_hz=rate_hz), PLAN, length_of, min_seconds=3.0).windows
    with pytest.raises(AudioError, match="at least 3 s are needed") as caught:
        listen(make_file(kind, seconds=2.5, rate_hz=rate_hz), PLAN, length_of, min_seconds=3.0)
    assert caught.value.kind is ErrorKind.TOO_SHORT
    assert listen(make_file(kind, seconds=2.5, rate_hz=rate_hz), PLAN, length_of).windows


def test_what_is_left_of_a_longer_recording_is_truncated(make_file: MakeFile) -> None:
    """Its length by the header would do, so the fault is why it gives no label."""
    data = make_file("flac", seconds=20.0)
    whole = listen(data, PLAN, length_of, min_seconds=3.0)
    assert whole.damage is None
    with pytest.raises(AudioError, match="at least 3 s are needed") as caught:
        listen(data[: len(data) // 10], PLAN, length_of, min_seconds=3.0)
    assert caught.value.kind is ErrorKind.TRUNCATED
    assert listen(data[: len(data) // 10], PLAN, length_of).damage


def test_cuts_of_a_long_recording_are_long_enough(make_file: MakeFile) -> None:
    """Two windows of a second each, of a minute: what is heard is shorter than the least length, the track is not."""
    plan = ListeningPlan(window_seconds=1.0, windows=2)
    data = make_file("mp3", seconds=60.0)
    cuts = record(Held(data), plan)
    assert not isinstance(cuts, bytes)
    assert listen(cuts, plan, length_of, min_seconds=3.0).seconds == pytest.approx(2.0, abs=0.1)
    with pytest.raises(AudioError) as caught:
        listen(cuts, plan, length_of, min_seconds=90.0)
    assert caught.value.kind is ErrorKind.TOO_SHORT
