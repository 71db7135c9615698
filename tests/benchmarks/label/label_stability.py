"""How often a recording keeps its genre when only its file changes: rate, codec, level, offset, channels.

    python -m tests.benchmarks.label.label_stability --data FOLDER

Excerpts of 30 s of real music, at 44,100 Hz in stereo, are the reference. ffmpeg makes each change, so the program is no
part of mgc's own chain. Every file is labelled as a whole file would be, by the shipped bundle or another.

Axes: C channels, T samples.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
import torch

from mgc.bundle import Bundle, load_bundle
from mgc.bundle_files import DEFAULT
from mgc.errors import AudioError
from tests.benchmarks.result import Result, hand_over, say

EXCERPT_SECONDS: Final = 30.0
STEP_SECONDS: Final = 15.0
"""From one excerpt of a recording to the next."""

LEAST_SECONDS: Final = 20.0
"""Shorter recordings give no excerpt."""

_LOSSLESS: Final = ("-c:a", "flac", "-f", "flac")


@dataclass(frozen=True)
class Kind:
    """A change that should not change the genre.

    Attributes:
        name: for the table.
        arguments: of ffmpeg, between the reference and the output.
        lossless: whether the band that the front end hears stays as it is, to rounding.
    """

    name: str
    arguments: tuple[str, ...]
    lossless: bool = False


KINDS: Final = (
    Kind("22,050 Hz", ("-ar", "22050", *_LOSSLESS)),
    Kind("48,000 Hz", ("-ar", "48000", *_LOSSLESS), lossless=True),
    Kind("96,000 Hz", ("-ar", "96000", *_LOSSLESS), lossless=True),
    Kind("192,000 Hz", ("-ar", "192000", *_LOSSLESS), lossless=True),
    Kind("MP3 64 kbit/s", ("-c:a", "libmp3lame", "-b:a", "64k", "-f", "mp3")),
    Kind("MP3 128 kbit/s", ("-c:a", "libmp3lame", "-b:a", "128k", "-f", "mp3")),
    Kind("MP3 320 kbit/s", ("-c:a", "libmp3lame", "-b:a", "320k", "-f", "mp3")),
    Kind("AAC 128 kbit/s", ("-c:a", "aac", "-b:a", "128k", "-f", "adts")),
    Kind("Opus 96 kbit/s", ("-c:a", "libopus", "-b:a", "96k", "-f", "ogg")),
    Kind("Vorbis quality 4", ("-c:a", "libvorbis", "-q:a", "4", "-f", "ogg")),
    Kind("-30 dB, 24 bit", ("-af", "volume=-30dB", "-sample_fmt", "s32", *_LOSSLESS), lossless=True),
    Kind("-30 dB, 16 bit", ("-af", "volume=-30dB", *_LOSSLESS)),
    Kind("-60 dB, 24 bit", ("-af", "volume=-60dB", "-sample_fmt", "s32", *_LOSSLESS)),
    Kind("constant offset", ("-af", "volume=0.8,dcshift=0.1", *_LOSSLESS), lossless=True),
    Kind("mono", ("-ac", "1", *_LOSSLESS), lossless=True),
    Kind("mono in one of two channels", ("-af", "pan=stereo|c0=0.5*c0+0.5*c1|c1=0*c0", *_LOSSLESS), lossless=True),
    Kind("antiphase", ("-af", "pan=stereo|c0=0.5*c0+0.5*c1|c1=-0.5*c0-0.5*c1", *_LOSSLESS), lossless=True),
    Kind("16,000 Hz", ("-ar", "16000", *_LOSSLESS)),
    Kind("8,000 Hz", ("-ar", "8000", *_LOSSLESS)),
)
"""The last two lack what the front end hears, so they do not count for `label_stability`."""

UNCOUNTED: Final = ("16,000 Hz", "8,000 Hz")


@dataclass(frozen=True)
class Excerpt:
    """Thirty seconds of a recording as 16-bit FLAC, 44,100 Hz, stereo."""

    name: str
    data: bytes


def excerpts(folder: Path) -> list[Excerpt]:
    """Return excerpts of the recordings below `folder`/music and `folder`/fma, every `STEP_SECONDS` of each."""
    found = []
    paths = [*sorted((folder / "music").glob("*.ogg")), *sorted((folder / "fma").rglob("*.mp3"))]
    for path in paths:
        place = 0.0
        length = _seconds(path)
        while length >= LEAST_SECONDS and (place == 0 or place + EXCERPT_SECONDS <= length):
            cut = ("-ss", f"{place:g}", "-t", f"{EXCERPT_SECONDS:g}", "-ar", "44100", "-ac", "2")
            # Headroom: what follows may not clip a recording that nearly does.
            quieter = ("-af", "volume=-3dB", "-sample_fmt", "s16")
            found.append(Excerpt(f"{path.stem} {place:g} s", _ffmpeg(str(path), b"", (*cut, *quieter, *_LOSSLESS))))
            place += STEP_SECONDS
    return found


def measure(bundle: Bundle, tracks: Sequence[Excerpt]) -> list[Result]:
    """Return `label_stability`, and the shares by kind."""
    reference = [bundle.label(track.data).genre_top for track in tracks]
    counts = ", ".join(f"{genre} {reference.count(genre)}" for genre in sorted(set(reference)))
    say(f"{len(tracks)} excerpts: {counts}")
    results, kept_of_all = [], []
    for kind in KINDS:
        kept, lost = 0, []
        for track, genre in zip(tracks, reference, strict=True):
            answer = _genre(bundle, _ffmpeg("pipe:0", track.data, kind.arguments))
            kept += answer == genre
            if answer != genre:
                lost.append(f"{track.name}: {genre} became {answer}")
        say(f"{kind.name}: {kept} of {len(tracks)} keep their genre" + "".join(f"\n  {line}" for line in lost))
        if kind.name in UNCOUNTED:
            aim = "none"
        else:
            aim = "1" if kind.lossless else "at least 0.97"
            kept_of_all.append(kept)
        results.append(Result(f"label_stability {kind.name}", kept / len(tracks), aim, f"{kept} of {len(tracks)}"))
    files = len(kept_of_all) * len(tracks)
    total = Result("label_stability", sum(kept_of_all) / files, "at least 0.97", f"{sum(kept_of_all)} of {files} files")
    return [total, *results]


def _genre(bundle: Bundle, data: bytes) -> str:
    try:
        return bundle.label(data).genre_top
    except AudioError as error:
        return f"no genre ({error.kind.value})"


def _ffmpeg(source: str, data: bytes, arguments: Sequence[str]) -> bytes:
    # Into a file: of a pipe, lengths in headers would be missing.
    with tempfile.NamedTemporaryFile() as out:
        command = ["ffmpeg", "-v", "error", "-nostdin", "-y", "-i", source, *arguments, out.name]
        subprocess.run(command, input=data, stdout=subprocess.DEVNULL, check=True)
        return Path(out.name).read_bytes()


def _seconds(path: Path) -> float:
    command = ["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", str(path)]
    return float(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


@click.command()
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    envvar="MGC_TEST_DATA",
    required=True,
    help="Folder with music/*.ogg and fma/**/*.mp3 [default: MGC_TEST_DATA].",
)
@click.option("--bundle", default=DEFAULT, show_default=True, help="Bundle that labels.")
def main(data: Path, bundle: str) -> None:
    """Print how many excerpts keep their genre, by kind. The last line is JSON."""
    torch.set_num_threads(1)
    hand_over(measure(load_bundle(bundle), excerpts(data)))


if __name__ == "__main__":
    main()
