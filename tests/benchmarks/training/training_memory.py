"""Memory of the processes of a training whose features are many times what any of them may hold.

`python -m tests.benchmarks.training.training_memory [GIBIBYTES]`: a table of noise, streamed for two epochs to two
workers that guess, so that nothing but the stream is measured. A process that Ray started is known by its
title; its own memory is what it does not share with others, the object store's pages counted apart.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa

from cluster.session import ray_internals
from cluster.session.connect import connect
from cluster.storage.uri import Uri
from cluster.tables.features import FeaturesWriter
from mgc import schema
from mgc.audio.excerpts import ListeningPlan
from mgc.experiment import Experiment
from mgc.features.front_end import describe_features
from mgc.features.mel import LogMelConfig
from mgc.models.guess import GuessConfig
from mgc.training.config import TrainingConfig
from pipelines.training.requests import TrainRequest
from pipelines.training.train import train_bundle
from tests.benchmarks.result import Result

CLIP = (128, 128)
FILE_CLIPS = 4096
GENRES = 8
WORKERS = 2

EXPERIMENT = Experiment(
    recipe="memory",
    front_end=LogMelConfig(),
    listening=ListeningPlan(),
    model=GuessConfig(),
    training=TrainingConfig(epochs=2, batch_size=64, balance="square_root"),
)


def write(folder: Path, gibibytes: float) -> int:
    """Write the table; returns its clips."""
    config = EXPERIMENT.front_end
    writer = FeaturesWriter(Uri.of_path(folder), describe_features(config), ["Noise, not music."])
    random = np.random.default_rng(0)
    clips = round(gibibytes * 2**30 / (CLIP[0] * CLIP[1]))
    # Rarer and rarer genres.
    genre_T = np.minimum(random.geometric(0.5, clips // 10 + 1) - 1, GENRES - 1)
    for start in range(0, clips, FILE_CLIPS):
        rows = []
        for number in range(start, min(start + FILE_CLIPS, clips)):
            row = {"track_id": f"t{number // 10:07}", "content_tag": "1", "clip_index": number % 10}
            row |= {"start_seconds": 0.0, "features": random.bytes(CLIP[0] * CLIP[1])}
            # A tenth of the tracks is validation.
            split = "validation" if number // 10 % 10 == 0 else "train"
            rows.append(row | {"genre_top": f"genre {genre_T[number // 10]}", "split": split})
        writer.write(pa.Table.from_pylist(rows, schema=schema.FEATURES), schema.REJECTS.empty_table())
    return clips


class Watch(threading.Thread):
    """Looks at Ray's processes every tenth of a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.own: dict[str, float] = defaultdict(float)
        self.shared: dict[str, float] = defaultdict(float)
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.1):
            for entry in Path("/proc").iterdir():
                if not entry.name.isdecimal():
                    continue
                try:
                    title = (entry / "cmdline").read_bytes().rstrip(b"\0").decode(errors="replace")
                    if not ray_internals.is_worker_title(title):
                        continue
                    lines = (entry / "status").read_text().splitlines()
                except OSError:
                    continue
                found = {name: value for name, _, value in (line.partition(":") for line in lines)}
                name = ray_internals.worker_name(title)
                self.own[name] = max(self.own[name], _mebibytes(found, "RssAnon"))
                self.shared[name] = max(self.shared[name], _mebibytes(found, "RssShmem"))


def _mebibytes(found: dict[str, str], name: str) -> float:
    return int(found.get(name, "0 kB").split()[0]) / 1024


def measure(gibibytes: float = 2.0) -> list[Result]:
    """`training_worker_own_mb`: the most that a training worker had for itself."""
    with tempfile.TemporaryDirectory(prefix="mgc-memory-") as folder:
        clips = write(Path(folder) / "features", gibibytes)
        watch = Watch()
        with connect(train_workers=WORKERS) as profile:
            watch.start()
            started = time.monotonic()
            train_bundle(
                TrainRequest(
                    EXPERIMENT,
                    Uri.of_path(Path(folder) / "bundle"),
                    Uri.of_path(Path(folder) / "features"),
                    workers=WORKERS,
                    profile=profile,
                )
            )
            seconds = time.monotonic() - started
            watch.done.set()
    shown = "; ".join(f"{name} {own:.0f} + {watch.shared[name]:.0f}" for name, own in sorted(watch.own.items()))
    worker = max((own for name, own in watch.own.items() if "TrainWorker" in name), default=float("nan"))
    detail = (
        f"{clips} clips, {gibibytes:g} GiB, {EXPERIMENT.training.epochs} epochs, {WORKERS} workers, {seconds:.0f} s; "
        f"own MiB + MiB of the object store, most at any time: {shown}"
    )
    return [Result("training_worker_own_mb", worker, "flat", detail)]


if __name__ == "__main__":
    for result in measure(float(sys.argv[1]) if len(sys.argv) > 1 else 2.0):
        print(result)
