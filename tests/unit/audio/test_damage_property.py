"""Whatever is done to a file, decoding ends in sound that is fit for use or in a typed error, in bounded memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mgc.audio.decode import MIN_SECONDS, Listened, decode
from mgc.audio.excerpts import WHOLE_TOLERANCE, ListeningPlan
from mgc.audio.waveform import Waveform
from mgc.configuration import to_json
from mgc.errors import AudioError, ErrorKind
from mgc.features.mel import LogMelConfig
from mgc.hearing.extract import Extract
from mgc.hearing.request import Hearing
from tests.support.damage import DAMAGES, Damaged, damaged_file, damaged_files
from tests.support.draws import draws
from tests.support.good_files import GoodFile, good_files

PLANS = (
    ListeningPlan(),
    ListeningPlan(window_seconds=1.0, windows=3),
    ListeningPlan(window_seconds=3.0, windows=1),
)
NO_SOUND = ("text", "html", "png", "compressed", "zeros", "only_tags")
WORKING_BYTES = 24_000_000
"""Beyond twice the planned windows: both decoders' blocks, packets and tables, and one copy of a block in float32."""


@pytest.fixture(scope="module")
def good() -> tuple[GoodFile, ...]:
    return good_files()


def test_the_good_files_are_good(good: tuple[GoodFile, ...]) -> None:
    for file in good:
        heard = decode(file.data, ListeningPlan())
        assert heard.damage is None, file.name
        assert heard.windows[0].sample_rate_hz == file.sample_rate_hz, file.name
        assert 2.9 < heard.duration_seconds < 12.2, file.name


def test_the_same_seed_gives_the_same_files(good: tuple[GoodFile, ...]) -> None:
    first, again, other = (list(damaged_files(len(DAMAGES), seed, good)) for seed in (1, 1, 2))
    assert first == again
    assert {file.damage for file in first} == set(DAMAGES)
    assert len({file.name for file in first}) == len(first)
    assert sum(one.data != two.data for one, two in zip(first, other, strict=True)) > len(DAMAGES) * 2 // 3
    assert first[:5] == list(damaged_files(5, 1, good)), "a file does not depend on how many follow"


@pytest.mark.draws
@settings(max_examples=draws(250), deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    damage=st.sampled_from(list(DAMAGES)),
    file=st.integers(0, 21),
    seed=st.integers(0, 2**32),
    plan=st.sampled_from(PLANS),
)
def test_decoding_gives_sound_or_a_typed_error(
    good: tuple[GoodFile, ...], damage: str, file: int, seed: int, plan: ListeningPlan
) -> None:
    spoiled = damaged_file(damage, good[file], good, np.random.default_rng(seed))
    heard, peak_bytes = _decoded(spoiled, plan)
    if isinstance(heard, AudioError):
        assert heard.kind in ErrorKind
        assert heard.kind is not ErrorKind.FETCH_FAILED
        assert str(heard)
        assert "\n" not in str(heard)
        assert damage != "wrong_extension", "the bytes are good"
        window_bytes = plan.window_seconds * plan.windows * 48000 * 4
    else:
        _assert_as_planned(heard, plan)
        # A compressed FLAC has stretches of the original, which are found behind what looks like junk.
        assert damage not in NO_SOUND or (damage == "compressed" and heard.damage)
        window_bytes = plan.window_seconds * plan.windows * heard.windows[0].sample_rate_hz * 4
    assert damage != "empty" or (isinstance(heard, AudioError) and heard.kind is ErrorKind.EMPTY)
    # A short track is heard whole: of 30 planned seconds, 12 are there, or 25 where two files were glued together.
    assert peak_bytes < 2 * min(window_bytes, 30 * 192_000 * 4) + WORKING_BYTES, f"{peak_bytes / 1e6:.0f} MB"


def _decoded(spoiled: Damaged, plan: ListeningPlan) -> tuple[Listened[Waveform] | AudioError, int]:
    """What decoding gives, and the most that Python and NumPy held meanwhile. Any other error fails the test."""
    tracemalloc.start()
    try:
        heard: Listened[Waveform] | AudioError = decode(spoiled.data, plan)
    except AudioError as error:
        heard = error
    finally:
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return heard, peak_bytes


def _assert_as_planned(heard: Listened[Waveform], plan: ListeningPlan) -> None:
    assert 1 <= len(heard.windows) <= plan.windows
    assert heard.seconds >= MIN_SECONDS
    starts = [window.start_seconds for window in heard.windows]
    assert starts == sorted(starts)
    assert np.isfinite(heard.duration_seconds)
    for window in heard.windows:
        assert np.isfinite(window.samples).all()
        assert 0 < window.duration_seconds <= plan.window_seconds * WHOLE_TOLERANCE + 0.01


def test_a_batch_keeps_every_row(good: tuple[GoodFile, ...]) -> None:
    """The stage that runs in the workers: as many rows as files, each with clips or with a reason."""
    spoiled = list(damaged_files(2 * len(DAMAGES), 3, good))
    config = LogMelConfig()
    batch = {
        "track_id": np.array([file.name for file in spoiled], dtype=object),
        "recording": np.array([file.data for file in spoiled], dtype=object),
        "error_kind": np.full(len(spoiled), None, dtype=object),
        "error_message": np.full(len(spoiled), None, dtype=object),
    }
    rows = Extract(Hearing(to_json(config), ListeningPlan(window_seconds=3.0, windows=1)))(batch)
    assert rows["track_id"].tolist() == [file.name for file in spoiled]
    heard = 0
    for kind, message, clips, count in zip(
        rows["error_kind"], rows["error_message"], rows["clips"], rows["clip_count"], strict=True
    ):
        if kind is None:
            heard += 1
            assert count >= 1
            assert len(clips) == count * config.n_mels * config.frames
        else:
            assert (count, clips) == (0, None)
            assert ErrorKind(kind) is not ErrorKind.FETCH_FAILED
            assert "unexpected" not in message, "an error that decode does not know"
    assert len(spoiled) // 4 < heard < len(spoiled)
