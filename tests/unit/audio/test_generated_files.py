"""Of each kind of odd or damaged file a small sample is heard right, and the judge of that tells right from wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mgc.audio.decode import Listened
from mgc.audio.waveform import Waveform
from mgc.errors import AudioError, ErrorKind
from tests.damage.generated import Generated, Said, Truth
from tests.damage.judge import PLANS, Heard, judge, judge_heard
from tests.damage.kinds import KINDS, generate
from tests.damage.known_wrong import KNOWN_WRONG
from tests.damage.pieces import FORMATS, RATES_HZ, join, make_piece
from tests.damage.sound import REFERENCE_HZ, find_place, make_sound
from tests.support.draws import draws

SEEDS = (1000, 1001)[: draws(2)]


@pytest.mark.draws
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_this_kind_is_heard_right(kind: str) -> None:
    verdicts = {seed: judge(generate(kind, seed)).why for seed in SEEDS}
    wrong = {seed: why for seed, why in verdicts.items() if why}
    if kind in KNOWN_WRONG:
        assert wrong, "it is heard right now: take it off KNOWN_WRONG"
    else:
        assert not wrong


@pytest.mark.parametrize("name", FORMATS)
def test_a_good_file_of_this_format_is_heard_right_and_always_the_same(name: str) -> None:
    rate_hz = RATES_HZ[name][-1] if 44100 not in RATES_HZ[name] else 44100
    make_piece.cache_clear()
    piece = make_piece(name, 1.7, 5, rate_hz)
    make_piece.cache_clear()
    again = make_piece(name, 1.7, 5, rate_hz)
    assert piece.data == again.data
    assert judge(Generated(piece.data, piece.extension, "good", name, Truth(join([piece])))).why == ""


SECONDS = 12.0
RATE_HZ = 44100


def heard(shift_seconds: float = 0.0, gain: float = 1.0, damage: str | None = None) -> tuple[Heard, ...]:
    """What a decoder might give for a sound of 12 s by each plan: windows that say they lie elsewhere."""
    wave_T = make_sound(7, SECONDS, RATE_HZ) * np.float32(gain)
    answers: list[Heard] = []
    for plan in PLANS:
        windows = []
        for start_seconds, seconds in plan.excerpts(SECONDS):
            first = round(start_seconds * RATE_HZ)
            window_T = np.ascontiguousarray(wave_T[first : first + round(seconds * RATE_HZ)], np.float32)
            windows.append(Waveform(window_T, RATE_HZ, max(0.0, start_seconds + shift_seconds)))
        total = sum(window.duration_seconds for window in windows)
        answers.append(Listened(tuple(windows), SECONDS, 0.0, total, 22050.0, "soundfile", damage))
    return tuple(answers)


def truth(said: Said = Said.NOTHING, seconds: float = SECONDS, errors: frozenset[str] = frozenset()) -> Truth:
    return Truth(make_sound(7, seconds, REFERENCE_HZ), said, errors=errors)


def test_the_judge_finds_what_is_right() -> None:
    assert judge_heard(heard(), truth()).right
    assert judge_heard(heard(gain=-0.5), truth()).right, "neither level nor sign matter"
    assert judge_heard(heard(shift_seconds=0.05), truth()).right
    assert judge_heard(heard(damage="truncated"), truth(Said.MISSING)).right
    assert judge_heard(heard(damage="two tags"), truth(Said.NOT_MISSING)).right
    refused = AudioError(ErrorKind.TOO_SHORT, "0.1 s")
    assert judge_heard((refused,) * 2, truth(errors=frozenset({"too_short"}))).right


def test_the_judge_finds_what_is_wrong() -> None:
    assert not judge_heard(heard(shift_seconds=0.2), truth()).right, "windows lie elsewhere"
    assert not judge_heard(heard(gain=0.01), truth()).right, "next to silence"
    assert not judge_heard(heard(damage="truncated"), truth()).right, "nothing is wrong"
    assert not judge_heard(heard(damage="truncated"), truth(Said.NOT_MISSING)).right, "nothing is missing"
    assert not judge_heard(heard(), truth(Said.MISSING)).right, "something is missing"
    assert not judge_heard(heard(), truth(seconds=12.3)).right, "it is longer"
    assert not judge_heard(heard(), truth(errors=frozenset({"silent"}))).right, "it is no sound"
    refused = AudioError(ErrorKind.TOO_SHORT, "0.1 s")
    assert not judge_heard((refused,) * 2, truth()).right
    assert not judge_heard((refused,) * 2, truth(errors=frozenset({"silent"}))).right
    other = replace(truth(), reference=make_sound(8, SECONDS, REFERENCE_HZ))
    assert not judge_heard(heard(), other).right, "another sound"


def test_the_place_of_each_second_is_recognised() -> None:
    sound_T = make_sound(3, 60.0, REFERENCE_HZ)
    for second in range(0, 59, 7):
        place_seconds, alike = find_place(sound_T[second * REFERENCE_HZ :][:REFERENCE_HZ], sound_T)
        assert place_seconds == second
        assert alike > 0.99
        elsewhere_T = np.delete(sound_T, slice(max(0, second - 1) * REFERENCE_HZ, (second + 2) * REFERENCE_HZ))
        assert find_place(sound_T[second * REFERENCE_HZ :][:REFERENCE_HZ], elsewhere_T)[1] < 0.4
