"""Changes of a file that should not change its genre, as options of ffmpeg.

Light, since the list of benchmarks is made of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FLAC: Final = ("-c:a", "flac", "-f", "flac")

TOTAL: Final = "label_stability"
"""Name of the share over all changes that count."""


@dataclass(frozen=True)
class Change:
    """A change of a file.

    Attributes:
        key: end of the result's name.
        name: for people.
        arguments: of ffmpeg, between the reference and the output.
        lossless: whether what the shipped front end hears stays as it is, to rounding.
        counts: whether all that it hears is still there, so that the genre should stay.
    """

    key: str
    name: str
    arguments: tuple[str, ...]
    lossless: bool = False
    counts: bool = True

    @property
    def result(self) -> str:
        """Name of the result."""
        return f"{TOTAL}_{self.key}"

    @property
    def aim(self) -> str:
        """Share that should keep its genre, in words."""
        if not self.counts:
            return "none"
        return "1" if self.lossless else "at least 0.97"


_MIXED: Final = "0.5*c0+0.5*c1"

CHANGES: Final = (
    Change("22050_hz", "22,050 Hz", ("-ar", "22050", *FLAC)),
    Change("48000_hz", "48,000 Hz", ("-ar", "48000", *FLAC), lossless=True),
    Change("96000_hz", "96,000 Hz", ("-ar", "96000", *FLAC), lossless=True),
    Change("192000_hz", "192,000 Hz", ("-ar", "192000", *FLAC), lossless=True),
    Change("mp3_64", "MP3, 64 kbit/s", ("-c:a", "libmp3lame", "-b:a", "64k", "-f", "mp3")),
    Change("mp3_128", "MP3, 128 kbit/s", ("-c:a", "libmp3lame", "-b:a", "128k", "-f", "mp3")),
    Change("mp3_320", "MP3, 320 kbit/s", ("-c:a", "libmp3lame", "-b:a", "320k", "-f", "mp3")),
    Change("aac_128", "AAC, 128 kbit/s", ("-c:a", "aac", "-b:a", "128k", "-f", "adts")),
    Change("opus_96", "Opus, 96 kbit/s", ("-c:a", "libopus", "-b:a", "96k", "-f", "ogg")),
    Change("vorbis_4", "Vorbis, quality 4", ("-c:a", "libvorbis", "-q:a", "4", "-f", "ogg")),
    Change("quiet_30_24", "-30 dB, 24 bit", ("-af", "volume=-30dB", "-sample_fmt", "s32", *FLAC), lossless=True),
    Change("quiet_30_16", "-30 dB, 16 bit", ("-af", "volume=-30dB", "-sample_fmt", "s16", *FLAC)),
    Change("offset", "constant offset of 0.1", ("-af", "volume=0.8,dcshift=0.1", *FLAC), lossless=True),
    Change("mono", "one channel", ("-ac", "1", *FLAC), lossless=True),
    Change(
        "one_of_two", "mono in one of two channels", ("-af", f"pan=stereo|c0={_MIXED}|c1=0*c0", *FLAC), lossless=True
    ),
    Change("antiphase", "antiphase", ("-af", f"pan=stereo|c0={_MIXED}|c1=-0.5*c0-0.5*c1", *FLAC), lossless=True),
    Change("16000_hz", "16,000 Hz", ("-ar", "16000", *FLAC), counts=False),
    Change("8000_hz", "8,000 Hz", ("-ar", "8000", *FLAC), counts=False),
)
"""The last two take away part of what the front end hears."""
