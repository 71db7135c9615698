"""CPU of the label job in the middle of a large catalog, over decoding alone; and how long it takes to start.

    python -m tests.benchmarks.label.label_steady --data FOLDER

The CPU is that of every process of the job: the driver, Ray's own, actors and cells, as Linux counts it. It is read
while the job labels, when a fifth and when four fifths of the tracks are done, so neither start nor end is in it. A
process that starts and ends between two looks is not seen; in the middle of a run none does.
"""

from __future__ import annotations

import io
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
import soundfile

from mgc.bundle_names import BundleName
from tests.benchmarks import music
from tests.benchmarks.apart import ApartError
from tests.benchmarks.label.label_speed import Catalog, make_catalog
from tests.benchmarks.options import DATA
from tests.benchmarks.processes import CpuWatch, page_faults
from tests.benchmarks.result import Result, hand_over, say
from tests.benchmarks.scale.watch import Kinds

DONE: Final = re.compile(r"^[a-z]+: ([\d,]+)/[\d,]+ tracks ")
"""A line of progress."""

MIDDLE: Final = (0.2, 0.8)
"""Shares of the tracks between which a job is in its steady middle."""

FEW: Final = 9
"""Tracks of the run that shows how long the start takes."""

RAY_ALONE: Final = "from cluster.session.connect import connect\nwith connect():\n    pass"


@dataclass(frozen=True)
class Moment:
    """How far the job was.

    Attributes:
        tracks: labelled.
        cpu_seconds: of all its processes, by their kind.
        page_faults: of all its processes that are there.
        seconds: by the clock.
    """

    tracks: int
    cpu_seconds: Mapping[str, float]
    page_faults: int
    seconds: float


def decode_seconds(files: Sequence[bytes], rounds: int) -> float:
    """Return the CPU of `soundfile.read` a file, the median over rounds."""
    taken = []
    for _ in range(rounds):
        begun = time.process_time()
        for data in files:
            soundfile.read(io.BytesIO(data), dtype="float32")
        taken.append((time.process_time() - begun) / len(files))
    return statistics.median(taken)


def run_label(catalog: Catalog, labels: Path, bundle: str) -> list[Moment]:
    """Label a catalog. Returns a moment for each line of progress.

    Raises:
        ApartError: the job failed.
    """
    command = [sys.executable, "-m", "pipelines.label", catalog.uri, "--labels", str(labels), "--bundle", bundle]
    found, said = list[tuple[int, dict[int, float], int, float]](), list[str]()
    begun = time.monotonic()
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=_environment(),
    ) as job:
        assert job.stderr is not None
        watch, kinds = CpuWatch(job.pid), Kinds()
        try:
            for line in job.stderr:
                said.append(line)
                if done := DONE.match(line):
                    tracks = int(done[1].replace(",", ""))
                    watch.look()
                    used, seconds = dict(watch.used), time.monotonic() - begun
                    found.append((tracks, used, sum(map(page_faults, used)), seconds))
                    for pid in used:
                        kinds.of(pid)
        finally:
            watch.stop()
    # A few recordings under many names are no catalog's mix of genres: the job ends with alarms.
    if job.returncode not in (0, 3):
        raise ApartError(f"pipelines.label ended with {job.returncode}: {''.join(said[-30:])[-3000:]}")
    # An idle process of Ray may have become an actor since it was looked at.
    return [Moment(tracks, _by_kind(used, kinds), faults, seconds) for tracks, used, faults, seconds in found]


def _by_kind(used: Mapping[int, float], kinds: Kinds) -> Mapping[str, float]:
    sums = Counter[str]()
    for pid, cpu in used.items():
        sums[kinds.of(pid)] += cpu
    return sums


def _environment() -> dict[str, str]:
    # A cluster that the person's environment names is not what is measured.
    return {**os.environ, "RAY_ADDRESS": ""}


def middle(moments: Sequence[Moment], tracks: int) -> tuple[Moment, Moment]:
    """Return the first moments after a fifth and after four fifths of the tracks.

    Raises:
        ApartError: the job printed too few lines for that.
    """
    early, late = (next((each for each in moments if each.tracks >= share * tracks), None) for share in MIDDLE)
    if early is None or late is None or late.tracks <= early.tracks:
        raise ApartError(f"{tracks} tracks were labelled in fewer than three lines of progress: take more --tracks")
    return early, late


def measure_cpu(name: str, folder: Path, files: Sequence[bytes], tracks: int, bundle: str, aim: str) -> Result:
    """Return the job's CPU a track over that of decoding, which is measured before and after it."""
    catalog = make_catalog(folder / name, files, tracks)
    before = decode_seconds(files, 5)
    first, last = middle(run_label(catalog, folder / f"{name}-labels", bundle), tracks)
    decode = statistics.mean((before, decode_seconds(files, 5)))
    count = last.tracks - first.tracks
    by_kind = {kind: (used - first.cpu_seconds.get(kind, 0.0)) / count for kind, used in last.cpu_seconds.items()}
    each = sum(by_kind.values())
    profile = sorted(by_kind.items(), key=lambda pair: -pair[1])
    say(f"ms of CPU a track: {', '.join(f'{kind} {1e3 * used:.1f}' for kind, used in profile if used >= 5e-5)}")
    return Result(
        name,
        each / decode,
        aim,
        f"{1e3 * each:.1f} over {1e3 * decode:.1f} ms of CPU a track; {count} of {tracks} tracks, "
        f"{count / (last.seconds - first.seconds):.1f} tracks/s, "
        f"{(last.page_faults - first.page_faults) / count:.0f} page faults a track",
    )


def measure_start(folder: Path, files: Sequence[bytes], rounds: int, bundle: str) -> Result:
    """Return the seconds of a whole run over a few files, over those of a process that only starts and ends Ray."""
    catalog = make_catalog(folder / "few", files[:FEW], FEW)
    jobs, alone = [], []
    for number in range(rounds):
        begun = time.monotonic()
        run_label(catalog, folder / f"few-labels-{number}", bundle)
        jobs.append(time.monotonic() - begun)
        begun = time.monotonic()
        subprocess.run(
            [sys.executable, "-c", RAY_ALONE],
            check=True,
            stderr=subprocess.DEVNULL,
            env=_environment(),
        )
        alone.append(time.monotonic() - begun)
        say(f"{FEW} tracks {jobs[-1]:.1f} s; Ray alone {alone[-1]:.1f} s")
    return Result(
        "label_startup_seconds",
        statistics.median(job / ray for job, ray in zip(jobs, alone, strict=True)),
        "at most 1.5",
        f"{FEW} tracks from start to end {statistics.median(jobs):.1f} s over {statistics.median(alone):.1f} s of a "
        "process that only starts and ends Ray",
    )


@click.command()
@DATA
@click.option(
    "--rounds", type=click.IntRange(1), default=3, show_default=True, help="Times that the start is measured."
)
@click.option("--tracks", type=click.IntRange(20), default=5000, show_default=True, help="Of the large catalog.")
def main(data: Path | None, rounds: int, tracks: int) -> None:
    """CPU a track of the whole label job over decoding, and its start over Ray's. The last line is JSON."""
    clips = music.thirty_seconds(data)
    say(f"{clips.origin}, MP3, 256 kbit/s; load {os.getloadavg()[0]:.2f}")
    with tempfile.TemporaryDirectory(prefix="mgc-label-steady-") as name:
        folder = Path(name)
        results = [
            measure_start(folder, clips.files, rounds, "shipped"),
            measure_cpu("label_cpu_over_decode", folder, clips.files, tracks, "shipped", "at most 1.6"),
        ]
        if BundleName.MN04.is_there:
            fifth = max(20, tracks // 5)
            results.append(measure_cpu("mn04_cpu_over_decode", folder, clips.files, fifth, "mn04", "at most 2.5"))
        else:
            results.append(Result("mn04_cpu_over_decode", None, "at most 2.5", "not measured: mgc pull mn04"))
    hand_over(results)


if __name__ == "__main__":
    main()
