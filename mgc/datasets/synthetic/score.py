"""One piece of music as parts and events: the tools with which the composers of each genre write.

Patterns are strings, one bar each: `x` a note, `o` a quiet one, `.` none; their length is the number of steps in the
bar.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

_MAJOR: Final = (0, 2, 4, 5, 7, 9, 11)
_MINOR: Final = (0, 2, 3, 5, 7, 8, 10)
_PROGRESSIONS: Final = (
    (0, 5, 2, 6),
    (0, 3, 4, 3),
    (0, 4, 5, 3),
    (0, 6, 5, 6),
    (1, 4, 0, 5),
    (0, 2, 3, 4),
    (5, 3, 0, 4),
)

LAYERS: Final = ("drums", "bass", "harmony", "lead")


@dataclass(frozen=True)
class Habits:
    """An artist's habits.

    Attributes:
        tempo: position in the genre's range of tempos, 0 to 1.
        roots_semitones: favourite keys, above C.
        minor: probability of a minor key.
        swing: delay of every second sixteenth, in sixteenths.
        taste: for each layer a number from 0 to 1 that picks favourite sounds and patterns.
    """

    tempo: float
    roots_semitones: tuple[int, ...]
    minor: float
    swing: float
    taste: dict[str, float]


@dataclass
class Part:
    """The notes of one sound.

    Attributes:
        sound: name of an instrument or of a drum.
        layer: one of `LAYERS`.
        level: amplitude factor.
        pan: -1 left to 1 right.
        events: start in seconds (negative: before the excerpt), length in seconds, MIDI pitch (None for drums),
            velocity 0 to 1.
    """

    sound: str
    layer: str
    level: float
    pan: float = 0.0
    events: list[tuple[float, float, float | None, float]] = field(default_factory=list)


class Piece:
    """Tempo, key and chords of one track, and the hands that write its parts.

    Args:
        habits: the artist's.
        seconds: length of the excerpt.
        rng: the track's draws.
        tempo_bpm: quarter notes a minute.
        static: probability of a piece that stays on one chord.
    """

    def __init__(
        self, habits: Habits, seconds: float, rng: np.random.Generator, *, tempo_bpm: float, static: float
    ) -> None:
        self.rng = rng
        self.habits = habits
        self.layer = ""
        self.bar_seconds = 240.0 / tempo_bpm
        self.before_seconds = float(rng.uniform(0.0, self.bar_seconds))
        self.bars = int(np.ceil((seconds + self.before_seconds) / self.bar_seconds))
        self.root_midi = 36 + int(rng.choice(habits.roots_semitones))
        self.scale = _MINOR if rng.random() < habits.minor else _MAJOR
        still = rng.random() < static
        self.progression = (0, 0, 0, 0) if still else _PROGRESSIONS[rng.integers(len(_PROGRESSIONS))]
        self.silent_bars: set[int] = set()
        self.parts: list[Part] = []

    def one_of(self, *names: str) -> str:
        """Choose a sound or a pattern: usually the artist's favourite, sometimes another."""
        if self.rng.random() < 0.75:
            return names[int(self.habits.taste[self.layer] * 997) % len(names)]
        return names[self.rng.integers(len(names))]

    def chance(self, probability: float) -> bool:
        """Return True with a given probability."""
        return bool(self.rng.random() < probability)

    def degree(self, bar: int, step: int, octave: int = 0) -> int:
        """Return the MIDI pitch of the scale's step above the root of the bar's chord."""
        index = self.progression[bar % 4] + step
        return self.root_midi + 12 * (octave + index // 7) + self.scale[index % 7]

    def chord(self, bar: int, size: int, octave: int = 1) -> list[float]:
        """Return a chord of thirds on the bar's degree, folded into an octave and a half."""
        pitches = [self.degree(bar, 2 * i, octave) for i in range(size)]
        ceiling = self.root_midi + 12 * octave + 19
        return [float(p if p < ceiling else p - 12) for p in pitches]

    def power_chord(self, bar: int, octave: int = 0) -> list[float]:
        """Return root, fifth and octave."""
        root = float(self.degree(bar, 0, octave))
        return [root, root + 7, root + 12]

    def scatter(self, steps: int, hits: int) -> str:
        """Return a random pattern with `hits` notes."""
        chosen = set(self.rng.choice(steps, size=hits, replace=False).tolist())
        return "".join("x" if step in chosen else "." for step in range(steps))

    def drum(self, sound: str, pattern: str, level: float = 1.0, pan: float = 0.0) -> None:
        """Repeat a pattern on a drum."""
        self.play(sound, pattern, lambda bar, step: [None], level=level, pan=pan)

    def play(
        self,
        sound: str,
        pattern: str,
        pitches: Callable[[int, int], Sequence[float | None]],
        *,
        length: float = 1.0,
        level: float = 1.0,
        pan: float = 0.0,
        strum: float = 0.0,
        every: int = 1,
    ) -> None:
        """Repeat a pattern, asking for the pitches of every note.

        Args:
            sound: name of the instrument or drum.
            pattern: one bar.
            pitches: MIDI pitches for (bar, step).
            length: length of a note, in steps.
            level: amplitude factor.
            pan: -1 to 1.
            strum: seconds from one pitch of a chord to the next.
            every: number of bars from one repetition to the next.
        """
        part = Part(sound, self.layer, level, pan)
        step_seconds = self.bar_seconds / len(pattern)
        late = self.habits.swing * step_seconds if len(pattern) == 16 else 0.0
        for bar in range(0, self.bars, every):
            if bar in self.silent_bars:
                continue
            for step, mark in enumerate(pattern):
                if mark == ".":
                    continue
                start = bar * self.bar_seconds + step * step_seconds + late * (step % 2) - self.before_seconds
                velocity = (1.0 if mark == "x" else 0.5) * self.rng.uniform(0.8, 1.0)
                for index, pitch in enumerate(pitches(bar, step)):
                    late_seconds = index * strum + 0.004 * self.rng.random()
                    part.events.append((start + late_seconds, length * step_seconds, pitch, velocity))
        self.parts.append(part)

    def melody(self, sound: str, pattern: str, *, octave: int, length: float, level: float, leap: int = 2) -> None:
        """Repeat a phrase of two bars that wanders over the scale."""
        walk = np.cumsum(self.rng.integers(-leap, leap + 1, size=2 * len(pattern)))
        steps = np.abs((walk + 9) % 18 - 9)

        def pitches(bar: int, step: int) -> list[float]:
            return [float(self.degree(0, int(steps[len(pattern) * (bar % 2) + step]), octave))]

        self.play(sound, pattern, pitches, length=length, level=level, pan=float(self.rng.uniform(-0.2, 0.2)))
