"""Composition: the drums, bass, harmony and lead of each genre, drawn anew for every track.

A genre has four composers, one per layer. Some tracks borrow one layer from a neighbouring genre, as real music does.
So no model can label this corpus without error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from mgc.datasets.synthetic.score import LAYERS, Habits, Part, Piece

BORROWING: Final = 0.2
"""Share of tracks that take one layer from a neighbouring genre."""

TEMPO_BPM: Final[dict[str, tuple[float, float]]] = {
    "house": (114, 130),
    "rock": (96, 160),
    "hip-hop": (72, 102),
    "techno": (122, 142),
    "folk": (76, 132),
    "jazz": (100, 190),
    "ambient": (50, 84),
    "metal": (110, 190),
}
"""Slowest and fastest tempo of each genre, in quarter notes a minute; the genres are in the order of their size."""

GENRES: Final = tuple(TEMPO_BPM)

NEIGHBOURS: Final[dict[str, tuple[str, ...]]] = {
    "house": ("techno", "hip-hop"),
    "rock": ("metal", "folk"),
    "hip-hop": ("house", "jazz"),
    "techno": ("house", "ambient"),
    "folk": ("rock", "jazz"),
    "jazz": ("folk", "hip-hop"),
    "ambient": ("techno", "folk"),
    "metal": ("rock",),
}

_STATIC: Final = {"techno": 0.8, "ambient": 0.4, "house": 0.3, "metal": 0.3}


def compose(genre: str, habits: Habits, seconds: float, rng: np.random.Generator) -> list[Part]:
    """Write one track.

    Args:
        genre: one of `GENRES`.
        habits: habits of the artist.
        seconds: length of the excerpt.
        rng: random generator of the track.
    """
    composers = {layer: (genre, _COMPOSERS[genre][layer]) for layer in LAYERS}
    if rng.random() < BORROWING:
        lender = NEIGHBOURS[genre][rng.integers(len(NEIGHBOURS[genre]))]
        layer = LAYERS[rng.integers(len(LAYERS))]
        composers[layer] = (lender, _COMPOSERS[lender][layer])
    slowest, fastest = TEMPO_BPM[genre]
    tempo_bpm = (slowest + (fastest - slowest) * habits.tempo) * (1.0 + 0.04 * rng.standard_normal())
    piece = Piece(habits, seconds, rng, tempo_bpm=tempo_bpm, static=_STATIC.get(genre, 0.1))
    for layer in LAYERS:
        piece.layer = layer
        piece.silent_bars = _rests(piece)
        composers[layer][1](piece)
    return piece.parts


def _rests(piece: Piece) -> set[int]:
    """Return the bars at the beginning or the end in which a layer rests."""
    if not piece.chance(0.2) or piece.bars < 2:
        return set()
    rest = int(piece.rng.integers(1, piece.bars // 2 + 1))
    return set(range(rest)) if piece.chance(0.6) else set(range(piece.bars - rest, piece.bars))


_BACKBEAT: Final = "....x.......x..."
_FOUR: Final = "x...x...x...x..."
_OFFBEAT: Final = "..x...x...x...x."
_EIGHTHS: Final = "x.o.x.o.x.o.x.o."
_SIXTEENTHS: Final = "xoxoxoxoxoxoxoxo"


def _house_drums(p: Piece) -> None:
    p.drum("kick", _FOUR, 1.0)
    if p.chance(0.85):
        p.drum(p.one_of("clap", "snare"), _BACKBEAT, 0.6)
    if p.chance(0.8):
        p.drum("open_hat", _OFFBEAT, 0.5)
    if p.chance(0.6):
        p.drum(p.one_of("hat", "shaker"), p.one_of(_EIGHTHS, _SIXTEENTHS), 0.35, 0.3)
    if p.chance(0.3):
        p.drum("rim", p.scatter(16, 4), 0.4, -0.4)


def _house_bass(p: Piece) -> None:
    pattern = p.one_of("..x...x...x...x.", "x..x..x...x..x..", "..xo..xo..xo..xo", "x.....x...x..x..")
    jump = p.chance(0.4)
    p.play(
        "synth_bass", pattern, lambda bar, step: [p.degree(bar, 0) + (12 if jump and step % 4 == 3 else 0)], length=1.6
    )


def _house_harmony(p: Piece) -> None:
    pattern = p.one_of("x..x..x...x..x..", "..x...x...x..x..", "x.....x...x.....", "...x..x....x..x.")
    sound = p.one_of("stab", "organ", "electric_piano", "piano")
    p.play(sound, pattern, lambda bar, step: p.chord(bar, 4), length=1.5, level=0.5)
    if p.chance(0.3):
        p.play("pad", "x", lambda bar, step: p.chord(bar, 3), level=0.25)


def _house_lead(p: Piece) -> None:
    if p.chance(0.5):
        p.melody(p.one_of("voice", "synth_lead"), p.scatter(16, 5), octave=2, length=2.0, level=0.45)


def _techno_drums(p: Piece) -> None:
    p.drum("kick", _FOUR, 1.1)
    if p.chance(0.75):
        p.drum("hat", p.one_of(_SIXTEENTHS, "..x...x...x...x.", "xxoxxxoxxxoxxxox"), 0.4, 0.2)
    if p.chance(0.5):
        p.drum("open_hat", _OFFBEAT, 0.4)
    if p.chance(0.7):
        p.drum(p.one_of("rim", "tom"), p.scatter(16, 5), 0.45, -0.4)
    if p.chance(0.35):
        p.drum(p.one_of("clap", "ride"), p.one_of(_BACKBEAT, _EIGHTHS), 0.35)


def _techno_bass(p: Piece) -> None:
    pattern = p.one_of(".xxx.xxx.xxx.xxx", "..x...x...x...x.", ".xox.xox.xox.xox")
    p.play(p.one_of("sub_bass", "synth_bass"), pattern, lambda bar, step: [p.root_midi], length=0.9, level=0.8)


def _techno_harmony(p: Piece) -> None:
    if p.chance(0.5):
        chord = p.chord(0, 3)
        p.play(
            "stab",
            p.one_of("x..x..x..x..x..x", "......x.....x...", "x.........x....."),
            lambda bar, step: chord,
            level=0.4,
        )
    elif p.chance(0.6):
        p.play("pad", "x", lambda bar, step: [p.root_midi + 12.0, p.root_midi + 19.0], length=1.0, level=0.3)


def _techno_lead(p: Piece) -> None:
    if p.chance(0.7):
        pattern = p.scatter(16, int(p.rng.integers(8, 15)))
        line = [float(p.degree(0, int(s), 1)) for s in p.rng.choice([0, 0, 0, 2, 4, 6, 7], size=16)]
        p.play(p.one_of("acid", "synth_lead"), pattern, lambda bar, step: [line[step]], length=0.9, level=0.5)


def _rock_drums(p: Piece) -> None:
    p.drum("kick", p.one_of("x.....x.x.......", "x.......x.x.....", "x..x....x..x....", "x.....xx..x....."), 0.9)
    p.drum("snare", _BACKBEAT, 0.9)
    p.drum(p.one_of("hat", "ride", "open_hat", "hat"), p.one_of(_EIGHTHS, "x...x...x...x..."), 0.45, 0.3)
    p.play("crash", "x", lambda bar, step: [None], level=0.5, pan=-0.4, every=4)
    if p.chance(0.3):
        p.play("tom", "..........x.xxxx", lambda bar, step: [None], level=0.6, every=4)


def _rock_bass(p: Piece) -> None:
    pattern = p.one_of("x.x.x.x.x.x.x.x.", "x.....x.x.....x.", "x.x...x.x.x...x.")
    p.play("electric_bass", pattern, lambda bar, step: [p.degree(bar, 0)], length=1.8, level=0.8)


def _rock_harmony(p: Piece) -> None:
    if p.chance(0.25):
        p.play(
            "clean_guitar",
            "xxxxxxxx",
            lambda bar, step: [p.chord(bar, 4)[(0, 2, 1, 3)[step % 4]]],
            length=3.0,
            level=0.7,
        )
        return
    pattern = p.one_of("x.x.x.x.x.x.x.x.", "x..x..x.x..x..x.", "x.......x.x.....", "x...x.x.x...x.x.")
    length = p.rng.uniform(1.2, 3.0)
    octave = int(p.rng.integers(0, 2))
    for pan in (-0.7, 0.6) if p.chance(0.6) else (-0.2,):
        p.play(
            "overdriven_guitar",
            pattern,
            lambda bar, step: p.power_chord(bar, octave),
            length=length,
            level=0.6,
            pan=pan,
        )


def _rock_lead(p: Piece) -> None:
    if p.chance(0.75):
        p.melody(p.one_of("voice", "voice", "overdriven_guitar"), p.scatter(16, 6), octave=2, length=2.2, level=0.55)


def _metal_drums(p: Piece) -> None:
    p.drum("kick", p.one_of("xxxxxxxxxxxxxxxx", "x.xxx.xxx.xxx.xx", "xx..xx..xx..xx..", "x.xx..x.x.xx..x."), 0.75)
    p.drum("snare", p.one_of(_BACKBEAT, _OFFBEAT, "........x......."), 0.9)
    p.drum(p.one_of("crash", "ride", "open_hat"), p.one_of(_FOUR, _EIGHTHS), 0.4, 0.3)
    if p.chance(0.4):
        p.play("tom", "........x.x.xxxx", lambda bar, step: [None], level=0.6, every=2)


def _metal_bass(p: Piece) -> None:
    p.play("electric_bass", "x.xxx.xxx.xxx.xx", lambda bar, step: [p.root_midi - 5], length=0.9, level=0.7)


def _metal_harmony(p: Piece) -> None:
    pattern = p.one_of("x.xxx.xxx.xxx.xx", "xxxxxxxxxxxxxxxx", "x..x..x..x..x.x.", "xxx.xxx.xxx.xxx.")
    riff = [p.root_midi - 5.0 + float(s) for s in p.rng.choice([0, 0, 0, 0, 1, 3, 5, 6], size=32)]
    length = p.rng.uniform(0.5, 1.2)
    for pan in (-0.8, 0.8):
        p.play(
            "high_gain_guitar",
            pattern,
            lambda bar, step: [riff[16 * (bar % 2) + step], riff[16 * (bar % 2) + step] + 7],
            length=length,
            level=0.6,
            pan=pan,
        )


def _metal_lead(p: Piece) -> None:
    if p.chance(0.45):
        p.melody("growl", p.scatter(16, 7), octave=0, length=1.8, level=0.6)
    elif p.chance(0.5):
        p.melody("high_gain_guitar", p.one_of("xxxxxxxxxxxxxxxx", "xxx.xxx.xxx.xxx."), octave=2, length=1.0, level=0.4)


def _hip_hop_kick(p: Piece) -> str:
    return p.one_of("x......x..x.....", "x..x......x..x..", "x.....x...x.....", "x.x.......xx....")


def _hip_hop_drums(p: Piece) -> None:
    p.drum("kick", _hip_hop_kick(p), 1.1)
    p.drum(p.one_of("snare", "clap", "snare"), _BACKBEAT, 0.85)
    p.drum("hat", p.one_of("x.x.x.x.x.x.x.x.", "x.xxx.x.x.x.xxx.", "xoxoxoxoxoxoxxxx"), 0.4, 0.2)
    if p.chance(0.3):
        p.drum("open_hat", "......x.........", 0.35)


def _hip_hop_bass(p: Piece) -> None:
    p.play(
        "sub_bass", _hip_hop_kick(p), lambda bar, step: [p.degree(bar, 0)], length=p.rng.uniform(2.0, 5.0), level=1.0
    )


def _hip_hop_harmony(p: Piece) -> None:
    sound = p.one_of("electric_piano", "piano", "strings", "bell", "clean_guitar")
    if p.chance(0.5):
        p.play(
            sound,
            p.one_of("x.....x.........", "x.........x....."),
            lambda bar, step: p.chord(bar, 4),
            length=6.0,
            level=0.45,
        )
    else:
        loop = p.rng.integers(0, 4, size=16)
        p.play(sound, p.scatter(16, 6), lambda bar, step: [p.chord(bar, 4)[loop[step]]], length=3.0, level=0.6)


def _hip_hop_lead(p: Piece) -> None:
    if p.chance(0.75):
        spoken = p.root_midi + 12 + p.rng.integers(-2, 3, size=64)
        pattern = p.scatter(16, int(p.rng.integers(9, 14)))
        p.play("voice", pattern, lambda bar, step: [float(spoken[(16 * bar + step) % 64])], length=0.9, level=0.65)


def _jazz_drums(p: Piece) -> None:
    p.drum("ride", "x..x.ox..x.o", 0.55, 0.3)
    p.drum("hat", "...x.....x..", 0.4, -0.2)
    if p.chance(0.5):
        p.drum("brush", p.one_of("x..x..x..x..", "x.ox.ox.ox.o"), 0.5, -0.3)
    if p.chance(0.6):
        p.drum("snare", p.scatter(12, 2).replace("x", "o"), 0.4)
    if p.chance(0.4):
        p.drum("kick", "o..o..o..o..", 0.4)


def _jazz_bass(p: Piece) -> None:
    walk = p.rng.choice([0, 1, 2, 3, 4, 5, 6, 7], size=64)
    p.play(
        "upright_bass",
        "x..x..x..x..",
        lambda bar, step: [p.degree(bar, 0 if step == 0 else int(walk[(4 * bar + step // 3) % 64]))],
        length=2.8,
        level=0.9,
    )


def _jazz_harmony(p: Piece) -> None:
    pattern = p.one_of("x....x......", "..x.....x...", ".....x.....x", "x.......x..x")
    p.play(
        p.one_of("piano", "electric_piano", "clean_guitar"),
        pattern,
        lambda bar, step: p.chord(bar, 5),
        length=2.0,
        level=0.4,
    )


def _jazz_lead(p: Piece) -> None:
    if p.chance(0.85):
        pattern = p.one_of("x.xx.xx.xx.x", "x.xx.x...x.x", "..xx.xx....x", "x..x.xx..x..")
        p.melody(p.one_of("sax", "sax", "piano", "bell"), pattern, octave=2, length=1.6, level=0.6, leap=3)


def _folk_drums(p: Piece) -> None:
    if p.chance(0.35):
        p.drum(p.one_of("shaker", "brush", "tom"), p.one_of(_EIGHTHS, _FOUR, _BACKBEAT), 0.35, 0.2)


def _folk_bass(p: Piece) -> None:
    sound = p.one_of("acoustic_guitar", "acoustic_guitar", "upright_bass")
    p.play(sound, "x...x...", lambda bar, step: [p.degree(bar, 4 if step else 0)], length=4.0, level=0.6)


def _folk_harmony(p: Piece) -> None:
    if p.chance(0.65):
        order = p.rng.integers(0, 4, size=16)
        pattern = p.one_of("xxxxxxxx", "x.xxx.xxx.xxx.xx", ".xxx.xxx", "xxxxxx")
        p.play("acoustic_guitar", pattern, lambda bar, step: [p.chord(bar, 4)[order[step]]], length=4.0, level=0.8)
    else:
        strum = p.one_of("x..ox.o.", "x.xo.xxo", "x.o.x.xo")
        p.play("acoustic_guitar", strum, lambda bar, step: p.chord(bar, 5), length=2.0, level=0.5, strum=0.012)
    if p.chance(0.3):
        p.melody("acoustic_guitar", p.scatter(16, 6), octave=2, length=3.0, level=0.4)


def _folk_lead(p: Piece) -> None:
    if p.chance(0.75):
        pattern = p.one_of("x..x..x.", "x.xxx...", "x...x.x.", "xx.x.x..")
        p.melody(p.one_of("voice", "whistle", "strings"), pattern, octave=2, length=1.8, level=0.5)


def _ambient_drums(p: Piece) -> None:
    if p.chance(0.2):
        p.drum(p.one_of("rim", "shaker", "kick"), p.scatter(16, 3), 0.3, 0.5)


def _ambient_bass(p: Piece) -> None:
    if p.chance(0.6):
        p.play("sub_bass", "x", lambda bar, step: [float(p.root_midi)], length=2.0, level=0.5, every=2)


def _ambient_harmony(p: Piece) -> None:
    every = int(p.rng.integers(1, 3))
    p.play(
        p.one_of("pad", "pad", "strings"),
        "x",
        lambda bar, step: p.chord(bar, 4),
        length=every * 1.1,
        level=0.6,
        every=every,
    )
    if p.chance(0.4):
        p.play("pad", "x", lambda bar, step: p.chord(bar, 2, 2), length=1.2, level=0.3, every=2)


def _ambient_lead(p: Piece) -> None:
    if p.chance(0.7):
        sound = p.one_of("bell", "piano", "electric_piano", "whistle", "clean_guitar")
        p.melody(sound, p.scatter(16, int(p.rng.integers(2, 5))), octave=2, length=4.0, level=0.4, leap=3)


_COMPOSERS: Final[dict[str, dict[str, Callable[[Piece], None]]]] = {
    "house": {"drums": _house_drums, "bass": _house_bass, "harmony": _house_harmony, "lead": _house_lead},
    "rock": {"drums": _rock_drums, "bass": _rock_bass, "harmony": _rock_harmony, "lead": _rock_lead},
    "hip-hop": {"drums": _hip_hop_drums, "bass": _hip_hop_bass, "harmony": _hip_hop_harmony, "lead": _hip_hop_lead},
    "techno": {"drums": _techno_drums, "bass": _techno_bass, "harmony": _techno_harmony, "lead": _techno_lead},
    "folk": {"drums": _folk_drums, "bass": _folk_bass, "harmony": _folk_harmony, "lead": _folk_lead},
    "jazz": {"drums": _jazz_drums, "bass": _jazz_bass, "harmony": _jazz_harmony, "lead": _jazz_lead},
    "ambient": {"drums": _ambient_drums, "bass": _ambient_bass, "harmony": _ambient_harmony, "lead": _ambient_lead},
    "metal": {"drums": _metal_drums, "bass": _metal_bass, "harmony": _metal_harmony, "lead": _metal_lead},
}
