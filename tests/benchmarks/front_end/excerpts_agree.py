"""Untrimmed tracks by a few excerpts against every second of them: CPU, bytes, and how often the genre is the same.

    python -m tests.benchmarks.front_end.excerpts_agree --data FOLDER

A recipe of 3-second clips (`house`), trained on the synthetic corpus as `make demo` does it, labels tracks of 4 to 5
minutes by artists that it has not heard: eight excerpts of 3 s read by ranges, and the whole track. Both take turns,
track by track, on one core. The tracks and the model are kept in a folder, since making them takes minutes.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import click
import numpy as np
import soundfile
import torch

from mgc.audio.excerpts import ListeningPlan
from mgc.audio.recording import record
from mgc.bundle import Bundle, load_bundle
from mgc.datasets.synthetic import GENRES, SyntheticConfig, TrackPlan, encode, plan_corpus
from mgc.hearing.extract import Extract
from mgc.labeling.predict import Predict
from tests.benchmarks.apart import ALL_CORES, facts_of
from tests.benchmarks.front_end.excerpt_speed import EXCERPTS, CountedSource
from tests.benchmarks.front_end.one_core import median_ratio, pin
from tests.benchmarks.options import DATA
from tests.benchmarks.result import Result, hand_over, say
from tests.support.good_files import encode_by_ffmpeg

WHOLE: Final = ListeningPlan(window_seconds=30.0, where="all")
CORPUS: Final = SyntheticConfig(seed=2, shortest_seconds=240.0, longest_seconds=300.0, damaged_tracks=0)
"""Another seed than the demo's: other artists, other tracks."""

LEAST_SECONDS: Final = 45.0
"""Shorter recordings are heard by eight excerpts next to whole."""


@dataclass(frozen=True)
class Track:
    """A file to label.

    Attributes:
        name: for messages.
        data: the file.
        genre: the true one, where it is known.
    """

    name: str
    data: bytes
    genre: str | None = None


@dataclass(frozen=True)
class Heard:
    """One way of hearing a track.

    Attributes:
        genre: the answer.
        cpu_seconds: for reading, decoding, features and the network.
        read_bytes: of the file.
    """

    genre: str
    cpu_seconds: float
    read_bytes: int


class Listener:
    """The job's stages by one plan, in this process."""

    def __init__(self, bundle: Bundle, plan: ListeningPlan) -> None:
        self._plan = plan
        self._extract = Extract(replace(bundle.experiment.hearing, plan=plan))
        self._predict: Predict = bundle.predictor()

    def __call__(self, track: Track) -> Heard:
        """Label a track."""
        source = CountedSource(track.data)
        begun = time.process_time()
        batch = {name: np.full(1, None, dtype=object) for name in ("recording", "error_kind", "error_message")}
        batch["track_id"] = np.array([track.name], dtype=object)
        batch["recording"][0] = record(source, self._plan, track.name)
        answer = self._predict(self._extract(batch))
        seconds = time.process_time() - begun
        genre = answer["genre_top"][0]
        if genre is None:
            raise ValueError(f"{track.name}: {answer['error_message'][0]}")
        return Heard(genre, seconds, source.read_bytes)


def synthetic_tracks(folder: Path, count: int) -> Iterator[Track]:
    """Tracks of 4 to 5 minutes, as many of each genre; those that are not there yet are made, on every core."""
    plans = plan_corpus(CORPUS)
    chosen: list[TrackPlan] = []
    for place, genre in enumerate(GENRES):
        of_genre = [plan for plan in plans if plan.genre == genre]
        chosen += of_genre[: count // len(GENRES) + (place < count % len(GENRES))]
    missing = [plan for plan in chosen if not _path(folder, plan).exists()]
    if missing:
        say(f"making {len(missing)} tracks of 4 to 5 minutes in {folder}, once")
        with ProcessPoolExecutor(len(ALL_CORES)) as pool:
            for number, plan in enumerate(pool.map(_make, [folder] * len(missing), missing)):
                if number % 8 == 7:
                    say(f"{number + 1} of {len(missing)} made, the last {plan.path}")
    for plan in chosen:
        yield Track(plan.path, _path(folder, plan).read_bytes(), plan.genre)


def _path(folder: Path, plan: TrackPlan) -> Path:
    return folder / plan.path


def _make(folder: Path, plan: TrackPlan) -> TrackPlan:
    path = _path(folder, plan)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    partial.write_bytes(encode(plan))
    partial.rename(path)
    return plan


def recordings(folder: Path | None) -> list[Track]:
    """The longer pieces in `folder`/music as MP3; none where there is no folder."""
    found = []
    for path in sorted((folder / "music").glob("*.ogg")) if folder else []:
        wave_TC, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
        if len(wave_TC) >= LEAST_SECONDS * rate_hz:
            wave_CT = np.ascontiguousarray(wave_TC[:, :2].T)
            found.append(Track(path.stem, encode_by_ffmpeg(wave_CT, rate_hz, "mp3", "libmp3lame", 128_000)))
    return found


def trained_bundle(folder: Path) -> str:
    """The demo's model, trained unless it is there."""
    bundle = folder / "bundle"
    if not (bundle / "experiment.json").exists():
        say(f"training a model on the synthetic corpus in {folder}, once: three minutes")
        facts_of("pipelines.demo", ["--out", str(folder)], environment={"RAY_ADDRESS": ""})
    return str(bundle)


def measure(bundle_uri: str, tracks: Sequence[Track], pieces: Sequence[Track], rounds: int) -> list[Result]:
    """`excerpts_throughput_ratio`, `excerpts_bytes_share`, `excerpts_agreement`."""
    bundle = load_bundle(bundle_uri)
    # The listening plan is the one thing of the experiment that is changed: the features of a clip stay the same.
    listeners = {"excerpts": Listener(bundle, EXCERPTS), "whole": Listener(bundle, WHOLE)}
    seconds: dict[str, list[float]] = {name: [] for name in listeners}
    heard: dict[str, list[Heard]] = {}
    for listener in listeners.values():
        listener(tracks[0])
    for number in range(rounds):
        heard = {name: [] for name in listeners}
        for place, track in enumerate(tracks):
            # Turn and turn about.
            for name in sorted(listeners, reverse=place % 2 == 1):
                heard[name].append(listeners[name](track))
        for name, each in heard.items():
            seconds[name].append(sum(one.cpu_seconds for one in each))
        took = ", ".join(f"{name} {values[-1]:.1f} s" for name, values in seconds.items())
        say(f"round {number + 1} of {rounds}: {took}")
    count = len(tracks)
    ms = {name: 1000 * statistics.median(values) / count for name, values in seconds.items()}
    size_bytes = sum(len(track.data) for track in tracks)
    read_bytes = sum(one.read_bytes for one in heard["excerpts"])
    same = _same(heard["excerpts"], heard["whole"])
    right = {
        name: sum(one.genre == track.genre for one, track in zip(each, tracks, strict=True))
        for name, each in heard.items()
    }
    remark = f"{same} of {count} SYNTHETIC tracks; right: whole {right['whole']}, excerpts {right['excerpts']}"
    if pieces:
        real = _same(*([listener(piece) for piece in pieces] for listener in listeners.values()))
        remark += f"; of {len(pieces)} recordings of {LEAST_SECONDS:.0f} s and more, by the same model, {real}"
    return [
        Result(
            "excerpts_throughput_ratio",
            median_ratio(seconds["whole"], seconds["excerpts"]),
            "at least 5",
            f"{ms['whole']:.0f} over {ms['excerpts']:.0f} ms of CPU a track, the network included; {rounds} rounds",
        ),
        Result(
            "excerpts_bytes_share",
            read_bytes / size_bytes,
            "at most 0.12",
            f"{read_bytes / 1e6:.0f} of {size_bytes / 1e6:.0f} MB; the corpus's encodings, VBR and 56 to 320 kbit/s",
        ),
        Result("excerpts_agreement", same / count, "at least 0.98", remark),
    ]


def _same(one: Sequence[Heard], other: Sequence[Heard]) -> int:
    return sum(first.genre == second.genre for first, second in zip(one, other, strict=True))


@click.command()
@click.option(
    "--tracks",
    "count",
    type=click.IntRange(1),
    default=64,
    show_default=True,
    help="Synthetic tracks, as many of each genre.",
)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Times that each is measured.")
@click.option("--bundle", help="A model on 3-second clips [default: trained as `make demo` does it].")
@click.option(
    "--keep",
    type=click.Path(path_type=Path),
    default="outputs/bench",
    show_default=True,
    help="Where tracks and model are kept.",
)
@DATA
def main(count: int, rounds: int, bundle: str | None, keep: Path, data: Path | None) -> None:
    """CPU, bytes and agreement of excerpts against whole tracks. The last line is JSON."""
    keep = keep.absolute()
    bundle = bundle or trained_bundle(keep / "demo")
    tracks = list(synthetic_tracks(keep / "untrimmed", count))
    pin()
    torch.set_num_threads(1)
    hand_over(measure(bundle, tracks, recordings(data), rounds))


if __name__ == "__main__":
    main()
