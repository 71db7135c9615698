"""How often a recording keeps its genre when only its file changes: rate, codec, level, offset, channels.

    python -m tests.benchmarks.label.label_stability --data FOLDER

Excerpts of 30 s of real music, at 44,100 Hz in stereo, are the reference. ffmpeg makes each change; it is no part of
mgc's own chain. Every file is labelled as `mgc label` would, by the shipped bundle or another.

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
from mgc.bundle_names import BundleName
from mgc.errors import AudioError
from tests.benchmarks.label.changes import CHANGES, FLAC, TOTAL
from tests.benchmarks.result import Result, hand_over, say

EXCERPT_SECONDS: Final = 30.0
STEP_SECONDS: Final = 15.0
"""From one excerpt of a recording to the next."""

LEAST_SECONDS: Final = 20.0
"""Shorter recordings give no excerpt."""


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
            found.append(Excerpt(f"{path.stem} {place:g} s", _ffmpeg(str(path), b"", (*cut, *quieter, *FLAC))))
            place += STEP_SECONDS
    return found


def measure(bundle: Bundle, tracks: Sequence[Excerpt]) -> list[Result]:
    """Return `label_stability`, and the shares by kind."""
    reference = [bundle.label(track.data).genre_top for track in tracks]
    counts = ", ".join(f"{genre} {reference.count(genre)}" for genre in sorted(set(reference)))
    say(f"{len(tracks)} excerpts: {counts}")
    results, kept_of_all = [], []
    for change in CHANGES:
        lost = []
        for track, genre in zip(tracks, reference, strict=True):
            answer = _genre(bundle, _ffmpeg("pipe:0", track.data, change.arguments))
            if answer != genre:
                lost.append(f"\n  {track.name}: {genre} became {answer}")
        kept = len(tracks) - len(lost)
        say(f"{change.name}: {kept} of {len(tracks)} keep their genre{''.join(lost)}")
        results.append(Result(change.result, kept / len(tracks), change.aim, f"{kept} of {len(tracks)}: {change.name}"))
        if change.counts:
            kept_of_all.append(kept)
    files = len(kept_of_all) * len(tracks)
    total = Result(TOTAL, sum(kept_of_all) / files, "at least 0.97", f"{sum(kept_of_all)} of {files} files")
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
@click.option("--bundle", default=BundleName.SHIPPED.value, show_default=True, help="Bundle that labels.")
def main(data: Path, bundle: str) -> None:
    """Print how many excerpts keep their genre, by kind. The last line is JSON."""
    torch.set_num_threads(1)
    tracks = excerpts(data)
    if not tracks:
        raise click.BadParameter(
            f"{data}: there is no recording of 30 s in its folders music and fma.", param_hint="--data"
        )
    hand_over(measure(load_bundle(bundle), tracks))


if __name__ == "__main__":
    main()
