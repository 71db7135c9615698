"""ffmpeg, mpg123 and mgc hear generated files alike: the same length, and each window where the programs have it.

Where the programs hear a file in another way than is right, the file says what is right, and the kind is listed here.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from tests.damage import oracles
from tests.damage.generated import Generated
from tests.damage.judge import hear, judge_heard
from tests.damage.kinds import KINDS, generate_files
from tests.damage.known_wrong import KNOWN_WRONG
from tests.damage.sound import Samples

FILES = int(os.environ.get("MGC_GENERATED_FILES", "2000"))

SILENT = 1e-4
"""Programs leave so much of a silence: dither, and the tail of a filter."""

PROGRAMS_DIFFER = {
    "antiphase stereo": "they add the channels, which cancel out",
    "glued FLAC": "ffmpeg drops frames where the second one begins",
    "glued FLAC, other rate or channels": "ffmpeg drops frames where the second one begins",
    "glued WAV": "ffmpeg stops where the first one ends",
    "glued Ogg, other codec": "ffmpeg hears the first codec",
    "WAV's sizes lie": "ffmpeg stops where the header says",
    "AIFF's counts lie": "ffmpeg stops where the header says",
    "length of another header lies": "ffmpeg stops where the head of an AU file says",
    "ID3 that claims sound": "they skip as many bytes as the tag claims",
    "lying ID3 before MP3": "they skip as many bytes as the tag claims",
    "junk before FLAC": "ffmpeg gives up, or begins in the middle",
    "junk before Ogg": "ffmpeg gives up",
    "junk before WAV": "ffmpeg gives up",
    "junk before AAC": "ffmpeg takes some of the junk for frames",
}
"""Kinds that some programs hear in another way, and how."""

pytestmark = [
    pytest.mark.drill,
    pytest.mark.timeout(7200),
    pytest.mark.skipif(not oracles.installed(), reason="neither ffmpeg nor mpg123 is on the PATH"),
]


def test_mgc_hears_generated_files_as_other_programs_do(capsys: pytest.CaptureFixture[str]) -> None:
    compared, wrong = Counter[str](), []
    for seed, file in generate_files(FILES, seed=5000):
        heard = hear(file)
        why = judge_heard(heard, file.truth).why
        if why and file.kind not in KNOWN_WRONG:
            wrong.append(f"{file.kind}, seed {seed}, {file.what}: {why}")
        if why or file.truth.errors or file.kind in PROGRAMS_DIFFER:
            continue
        for program in programs_for(file):
            decoded_T = oracles.ask(program, file)
            compared[program] += 1
            if decoded_T is None:
                differs = "it decodes nothing"
            else:
                differs = judge_heard(heard, replace(file.truth, reference=sound_of(decoded_T))).why
            if differs:
                wrong.append(f"{file.kind}, seed {seed}, {file.what}: {program} differs: {differs}")
    with capsys.disabled():
        print(f"\n{FILES} files; compared with " + ", ".join(f"{name}: {count}" for name, count in compared.items()))
    assert not wrong, "\n".join(wrong)
    assert set(compared) == set(oracles.installed())


def sound_of(decoded_T: Samples) -> Samples:
    """Without a constant offset, with which a stretch would resemble any other, and with silence that is silent."""
    centred_T = decoded_T - decoded_T.mean()
    return np.where(np.abs(centred_T) < SILENT, np.float32(0), centred_T)


def programs_for(file: Generated) -> list[str]:
    return [name for name in oracles.installed() if name != "mpg123" or file.extension == ".mp3"]


def test_the_list_names_kinds() -> None:
    assert set(PROGRAMS_DIFFER) <= set(KINDS)
