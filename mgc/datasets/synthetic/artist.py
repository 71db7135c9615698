"""An artist: habits, instruments, drums and the sound of the recordings, drawn once and kept for every track.

The draws vary widely on purpose. Two artists of one genre differ more than two tracks of one artist. So a model scores
higher on artists that it was trained on than on others: this is the leakage that a split by artist avoids.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from mgc.datasets.synthetic.instruments import INSTRUMENTS
from mgc.datasets.synthetic.score import LAYERS, Habits
from mgc.datasets.synthetic.timbre import Instrument, Stroke, draw_kit

_ELECTRONIC: Final = frozenset({"house", "techno", "hip-hop", "ambient"})
_SWINGING: Final = frozenset({"house", "hip-hop"})

CURVE_HZ: Final = np.geomspace(50.0, 16000.0, 7)
"""Frequencies at which an artist's tone curve is set; between them it is interpolated over log-frequency."""


@dataclass(frozen=True)
class Artist:
    """The properties that an artist's tracks share.

    Attributes:
        habits: tempo, keys and favourite patterns.
        instruments: by name.
        kit: drum strokes, by name.
        balance: amplitude factor of each layer.
        curve_db: gain at `CURVE_HZ`.
        ceiling_hz: upper end of the recordings' band, 18 dB an octave above it.
        reverb_seconds: time in which the room falls by 60 dB.
        reverb: level of the room relative to the dry sound.
        width: stereo width, 0 is mono and 1 full.
        saturation: gain into the soft clipping of the whole mix.
        hiss: level of the recordings' noise floor.
        level_db: loudness of the finished track, root mean square below full scale.
    """

    habits: Habits
    instruments: dict[str, Instrument]
    kit: dict[str, Stroke]
    balance: dict[str, float]
    curve_db: npt.NDArray[np.float64]
    ceiling_hz: float
    reverb_seconds: float
    reverb: float
    width: float
    saturation: float
    hiss: float
    level_db: float


def draw_artist(genre: str, seed: int) -> Artist:
    """Draw the artist of a seed.

    Args:
        genre: genre of the artist; it decides the kind of drums, the room and the swing.
        seed: seed of the artist; the same seed gives the same artist.
    """
    rng = np.random.default_rng(seed)
    spacious = genre == "ambient"
    return Artist(
        habits=Habits(
            tempo=float(rng.uniform()),
            roots_semitones=tuple(int(root) for root in rng.choice(12, size=3, replace=False)),
            minor=float(rng.choice([0.1, 0.5, 0.9])),
            swing=float(rng.uniform(0.0, 0.45)) if genre in _SWINGING else 0.0,
            taste={layer: float(rng.uniform()) for layer in LAYERS},
        ),
        instruments={name: _own(base, rng) for name, base in INSTRUMENTS.items()},
        kit=draw_kit(rng, electronic=genre in _ELECTRONIC),
        balance={layer: float(10.0 ** (rng.normal(0.0, 3.0) / 20.0)) for layer in LAYERS},
        curve_db=rng.normal(0.0, 3.5, size=CURVE_HZ.size)
        + rng.normal(0.0, 2.0) * np.linspace(-2.0, 2.0, CURVE_HZ.size),
        ceiling_hz=float(np.exp(rng.uniform(np.log(4500.0), np.log(20000.0)))),
        reverb_seconds=float(rng.uniform(1.5, 3.5) if spacious else np.exp(rng.uniform(np.log(0.15), np.log(1.8)))),
        reverb=float(rng.uniform(0.4, 0.9) if spacious else rng.uniform(0.03, 0.35)),
        width=float(rng.uniform(0.1, 1.0)),
        saturation=float(np.exp(rng.uniform(np.log(0.3), np.log(2.5)))),
        hiss=float(10.0 ** (rng.uniform(-80.0, -46.0) / 20.0)),
        level_db=float(rng.uniform(-22.0, -11.0)),
    )


def _own(base: Instrument, rng: np.random.Generator) -> Instrument:
    """Return the same instrument, as if built and played by somebody else."""
    stretch = 2.0 ** rng.uniform(-0.6, 0.6)
    return replace(
        base,
        slope=base.slope * rng.uniform(0.75, 1.35),
        even=base.even * rng.uniform(0.3, 1.0),
        formants_hz=tuple(centre * stretch for centre in base.formants_hz) or (float(rng.uniform(300.0, 3000.0)),),
        formant_gain=max(base.formant_gain, 0.5) * rng.uniform(0.4, 2.0),
        attack_seconds=base.attack_seconds * rng.uniform(0.5, 2.0),
        decay_seconds=base.decay_seconds * rng.uniform(0.6, 1.6) if base.decay_seconds < 1000.0 else base.decay_seconds,
        dulling=base.dulling * rng.uniform(0.6, 1.4),
        dulling_seconds=base.dulling_seconds * rng.uniform(0.6, 1.6),
        unison_cents=base.unison_cents * rng.uniform(0.4, 2.0),
        vibrato_cents=base.vibrato_cents * rng.uniform(0.3, 2.0),
        modulation_ratio=base.modulation_ratio * float(rng.choice([1.0, 1.0, 2.0])),
        modulation_index=base.modulation_index * rng.uniform(0.5, 1.8),
        breath=base.breath * rng.uniform(0.3, 2.0),
        drive=base.drive * rng.uniform(0.4, 1.8),
    )
