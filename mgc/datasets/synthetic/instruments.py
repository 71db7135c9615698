"""The instruments of the corpus, before an artist makes one of them their own."""

from __future__ import annotations

from typing import Final

from mgc.datasets.synthetic.timbre import Instrument

INSTRUMENTS: Final[dict[str, Instrument]] = {
    "acid": Instrument(
        slope=0.9,
        dulling=1.4,
        dulling_seconds=0.09,
        decay_seconds=0.4,
        formants_hz=(900.0,),
        formant_gain=1.5,
        glide_semitones=-1.0,
        drive=2.0,
    ),
    "acoustic_guitar": Instrument(
        slope=1.1,
        dulling=1.2,
        dulling_seconds=0.15,
        decay_seconds=0.7,
        attack_seconds=0.002,
        formants_hz=(220.0, 2400.0),
        formant_gain=1.0,
        release_seconds=0.1,
    ),
    "bell": Instrument(
        slope=3.5,
        modulation_ratio=3.5,
        modulation_index=2.5,
        dulling_seconds=0.5,
        decay_seconds=1.2,
        release_seconds=0.4,
    ),
    "clean_guitar": Instrument(
        slope=1.4, dulling=1.0, dulling_seconds=0.3, decay_seconds=1.0, formants_hz=(600.0,), formant_gain=0.8
    ),
    "electric_bass": Instrument(
        slope=1.4, dulling=1.0, dulling_seconds=0.2, decay_seconds=0.9, formants_hz=(700.0,), formant_gain=0.8
    ),
    "electric_piano": Instrument(
        slope=3.0,
        modulation_ratio=1.0,
        modulation_index=1.6,
        dulling_seconds=0.35,
        decay_seconds=1.1,
        release_seconds=0.12,
    ),
    "growl": Instrument(
        slope=0.6, formants_hz=(450.0, 1500.0), formant_gain=1.5, breath=0.5, attack_seconds=0.03, drive=6.0
    ),
    "high_gain_guitar": Instrument(
        slope=0.9, dulling=0.6, dulling_seconds=0.3, decay_seconds=1.5, drive=25.0, release_seconds=0.02
    ),
    "organ": Instrument(slope=1.3, even=0.7, attack_seconds=0.008, release_seconds=0.04),
    "overdriven_guitar": Instrument(slope=1.2, dulling=0.6, dulling_seconds=0.5, decay_seconds=1.8, drive=6.0),
    "pad": Instrument(slope=1.5, attack_seconds=0.6, release_seconds=0.9, unison_cents=9.0),
    "piano": Instrument(
        slope=1.5, dulling=1.2, dulling_seconds=0.3, decay_seconds=0.9, attack_seconds=0.002, release_seconds=0.15
    ),
    "sax": Instrument(
        slope=0.9,
        formants_hz=(550.0, 1300.0),
        formant_gain=1.8,
        attack_seconds=0.03,
        vibrato_cents=18.0,
        glide_semitones=-0.6,
        breath=0.05,
    ),
    "stab": Instrument(slope=0.9, dulling=1.0, dulling_seconds=0.12, decay_seconds=0.35, unison_cents=8.0),
    "strings": Instrument(
        slope=1.1,
        formants_hz=(500.0, 2800.0),
        formant_gain=0.8,
        attack_seconds=0.09,
        release_seconds=0.2,
        vibrato_cents=20.0,
        breath=0.03,
    ),
    "sub_bass": Instrument(slope=3.0, decay_seconds=0.9, glide_semitones=3.0, release_seconds=0.08),
    "synth_bass": Instrument(slope=1.2, dulling=1.3, dulling_seconds=0.12, decay_seconds=0.5),
    "synth_lead": Instrument(slope=0.8, unison_cents=7.0, glide_semitones=-1.0),
    "upright_bass": Instrument(
        slope=1.7,
        dulling=1.4,
        dulling_seconds=0.1,
        decay_seconds=0.5,
        formants_hz=(180.0,),
        formant_gain=0.6,
        glide_semitones=-0.4,
    ),
    "voice": Instrument(
        slope=1.1,
        formants_hz=(700.0, 1200.0, 2600.0),
        formant_gain=1.6,
        attack_seconds=0.04,
        vibrato_cents=25.0,
        glide_semitones=-1.5,
        breath=0.04,
    ),
    "whistle": Instrument(slope=2.6, attack_seconds=0.05, vibrato_cents=15.0, breath=0.08),
}
"""Instruments by the names that composers use."""
