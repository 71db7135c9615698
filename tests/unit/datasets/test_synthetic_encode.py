"""The files: real MP3s with the planned length, rate and channels, and damaged ones that are what they claim."""

from __future__ import annotations

import io
import multiprocessing
from dataclasses import replace

import av
import numpy as np
import pytest
import soundfile

from mgc.datasets.synthetic import (
    DAMAGES,
    ENCODINGS,
    GENRES,
    SYNTHETIC_NOTICE,
    SyntheticConfig,
    TrackPlan,
    encode,
    plan_corpus,
    render,
)
from mgc.datasets.synthetic.encode import decodes_exactly, encode_mp3

TINY = SyntheticConfig(
    largest_genre_tracks=3, smallest_genre_tracks=3, shortest_seconds=1.5, longest_seconds=2.5, damaged_tracks=0
)
PLANS = plan_corpus(TINY)


def decode_with_soundfile(data: bytes) -> tuple[np.ndarray, int]:
    wave_TC, rate_hz = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    return wave_TC.T, rate_hz


def decode_with_pyav(data: bytes) -> tuple[int, int, int]:
    """Samples, channels and sample rate; raises where the stream is broken."""
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.audio[0]
        samples = sum(frame.samples for frame in container.decode(stream))
        return samples, stream.codec_context.channels, stream.codec_context.sample_rate


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return {plan.path: encode(plan) for plan in PLANS}


def test_tiny_corpus_has_every_encoding() -> None:
    used = {(p.sample_rate_hz, p.channel_mode, p.bit_rate_kbps, p.vbr_quality) for p in PLANS}
    assert used == set(ENCODINGS)


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.path)
def test_file_decodes_to_what_was_planned(plan: TrackPlan, files: dict[str, bytes]) -> None:
    wave_CT, rate_hz = decode_with_soundfile(files[plan.path])
    assert (rate_hz, wave_CT.shape) == (plan.sample_rate_hz, (plan.channels, plan.frames))
    assert decode_with_pyav(files[plan.path]) == (plan.frames, plan.channels, plan.sample_rate_hz)
    assert 0.02 < float(np.sqrt(np.mean(wave_CT**2))) < 0.5
    assert float(np.abs(wave_CT).max()) <= 1.2


@pytest.mark.parametrize("plan", PLANS[::4], ids=lambda plan: plan.path)
def test_file_sounds_like_what_was_rendered(plan: TrackPlan, files: dict[str, bytes]) -> None:
    rendered_CT = render(plan)
    assert rendered_CT.dtype == np.float32
    decoded_CT, _ = decode_with_soundfile(files[plan.path])
    assert np.corrcoef(rendered_CT.ravel(), decoded_CT.ravel())[0, 1] > 0.95


@pytest.mark.parametrize("sample_rate_hz", [22050, 44100])
@pytest.mark.parametrize("past_whole_frame", [0, 1, 46, 47, 300, 575])
def test_lengths_that_decode_exactly(sample_rate_hz: int, past_whole_frame: int) -> None:
    frames = 1152 * 20 + past_whole_frame
    noise_CT = 0.1 * np.random.default_rng(0).standard_normal((1, frames), dtype=np.float32)
    data = encode_mp3(
        noise_CT, sample_rate_hz=sample_rate_hz, channel_mode="mono", bit_rate_kbps=64, vbr_quality=None, tags={}
    )
    decoded = decode_with_soundfile(data)[0].shape[1]
    assert (decoded == frames) == decodes_exactly(frames, sample_rate_hz)
    assert decoded == decode_with_pyav(data)[0]


def test_header_tells_constant_from_variable_rate(files: dict[str, bytes]) -> None:
    for plan in PLANS:
        header = files[plan.path][:1000]
        assert (b"Xing" in header) == (plan.vbr_quality is not None)
        assert (b"Info" in header) == (plan.bit_rate_kbps is not None)
        if plan.bit_rate_kbps is not None:
            with av.open(io.BytesIO(files[plan.path])) as container:
                assert container.streams.audio[0].bit_rate == 1000 * plan.bit_rate_kbps


def test_file_says_that_it_is_synthetic(files: dict[str, bytes]) -> None:
    plan = PLANS[0]
    with av.open(io.BytesIO(files[plan.path])) as container:
        tags = {key.lower(): value for key, value in container.metadata.items()}
    assert tags["comment"] == SYNTHETIC_NOTICE
    assert (tags["artist"], tags["album"]) == (plan.artist_id, plan.album_id)
    assert not any(genre in " ".join(tags.values()) for genre in GENRES)


def test_same_plan_gives_same_bytes_in_another_process(files: dict[str, bytes]) -> None:
    chosen = [PLANS[0], PLANS[-1]]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        elsewhere = pool.map(encode, chosen[::-1])
    assert elsewhere[::-1] == [files[plan.path] for plan in chosen]


def test_seeds_decide_the_sound() -> None:
    plan = PLANS[0]
    assert not np.array_equal(render(replace(plan, seed=plan.seed + 1)), render(plan))
    assert not np.array_equal(render(replace(plan, artist_seed=plan.artist_seed + 1)), render(plan))


@pytest.mark.parametrize("genre", GENRES)
@pytest.mark.parametrize("sample_rate_hz", [16000, 48000])
def test_every_genre_renders_at_any_rate(genre: str, sample_rate_hz: int) -> None:
    plan = replace(PLANS[0], genre=genre, sample_rate_hz=sample_rate_hz, channel_mode="joint", seconds=3.0)
    wave_CT = render(plan)
    assert wave_CT.shape == (2, 3 * sample_rate_hz)
    assert np.isfinite(wave_CT).all()
    assert 0.3 < float(np.abs(wave_CT).max()) * 3 < 3.0


@pytest.mark.parametrize("encoding", [ENCODINGS[0], ENCODINGS[2], ENCODINGS[10]], ids=str)
def test_damaged_files_are_what_they_claim(encoding: tuple[int, str, int | None, int | None]) -> None:
    rate_hz, mode, bit_rate, quality = encoding
    whole = replace(
        PLANS[0],
        seconds=4.0,
        sample_rate_hz=rate_hz,
        channel_mode=mode,
        bit_rate_kbps=bit_rate,
        vbr_quality=quality,
    )
    good = encode(whole)
    bad = {damage: encode(replace(whole, damage=damage)) for damage in DAMAGES}

    assert bad["empty"] == b""
    assert bad["not_audio"].startswith(b"<!DOCTYPE html>")
    assert bad["tags_only"].startswith(b"ID3")
    assert good.startswith(bad["tags_only"])
    for damage in ("empty", "not_audio", "tags_only"):
        with pytest.raises(soundfile.LibsndfileError):
            decode_with_soundfile(bad[damage])
        with pytest.raises(av.error.InvalidDataError):
            decode_with_pyav(bad[damage])

    cut = bad["truncated"]
    assert good.startswith(cut)
    assert 0.5 * len(good) - 1 <= len(cut) < 0.9 * len(good)
    with soundfile.SoundFile(io.BytesIO(cut)) as file:
        assert file.frames == whole.frames, "the header still promises the whole track"
        assert 0.3 * whole.frames < len(file.read()) < 0.95 * whole.frames

    assert len(bad["corrupt"]) == len(good)
    assert bad["corrupt"][: len(good) // 3] == good[: len(good) // 3]
    assert bad["corrupt"][-len(good) // 4 :] == good[-len(good) // 4 :]
    with pytest.raises(av.error.InvalidDataError):
        decode_with_pyav(bad["corrupt"])
