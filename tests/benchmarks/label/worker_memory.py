"""Resident memory of a worker that listens to 500 mixed files, one of them five hours long.

The parent writes the files; the worker (this module run as a program) imports torch, notes its memory, hears one file
after the other, and prints its memory after each while it still holds the file's bytes, as a batch would.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

# The worker must import nothing before torch but this module and what resident_mb needs.
from tests.benchmarks.processes import resident_mb
from tests.benchmarks.result import Result

FILES = 500
LONG_AT = 125
LONG_SECONDS = 5 * 3600


def measure() -> list[Result]:
    """`worker_rss_growth_mb`: the most after any file, less what torch alone takes."""
    with tempfile.TemporaryDirectory(prefix="mgc-bench-") as folder:
        _write_files(Path(folder))
        worker = [sys.executable, "-m", "tests.benchmarks.label.worker_memory", folder]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        ended = subprocess.run(worker, capture_output=True, text=True, env=environment, check=False)
    if ended.returncode:
        raise RuntimeError(f"the worker ended with {ended.returncode}: {ended.stderr[-2000:]}")
    seen = json.loads(ended.stdout.splitlines()[-1])
    after_mb, start_mb = seen["after_mb"], seen["start_mb"]
    detail = (
        f"torch alone {start_mb:.0f} MB; above it: imports {seen['ready_mb'] - start_mb:.0f}, most after a file "
        f"{max(after_mb) - start_mb:.0f} (file {after_mb.index(max(after_mb)) + 1}; the one of five hours is "
        f"{LONG_AT + 1}), after 250 {after_mb[249] - start_mb:.0f}, after 500 {after_mb[-1] - start_mb:.0f}, "
        f"peak inside a file {seen['peak_mb'] - start_mb:.0f}; 250 to 500 grew by {after_mb[-1] - after_mb[249]:.0f}; "
        f"{seen['heard']} heard, {seen['refused']} refused"
    )
    return [Result("worker_rss_growth_mb", max(after_mb) - start_mb, "flat, less than 600", detail)]


def _write_files(folder: Path) -> None:
    from tests.support.damage import damaged_files
    from tests.support.good_files import encode_by_ffmpeg, good_files

    good = good_files(1.0, 30.0)
    damaged = damaged_files(FILES // 4 + 1, 0, good)
    for number in range(FILES):
        if number == LONG_AT:
            import numpy as np

            tone_CT = 0.3 * np.sin(np.arange(60 * 44100) * 0.05, dtype=np.float32)[None]
            minute = encode_by_ffmpeg(tone_CT, 44100, "mp3", "libmp3lame", 64_000, write_xing="0", id3v2_version="0")
            data = minute * (LONG_SECONDS // 60)
        else:
            data = next(damaged).data if number % 4 == 3 else good[number % len(good)].data
        (folder / f"{number:03d}").write_bytes(data)


def _work(folder: Path) -> None:
    import torch

    start_mb = resident_mb()
    torch.set_num_threads(1)
    import numpy as np

    from mgc.audio.excerpts import ListeningPlan
    from mgc.audio.recording import record
    from mgc.audio.source import LocalFile
    from mgc.configuration import to_json
    from mgc.features.mel import LogMelConfig
    from mgc.hearing.extract import Extract
    from mgc.hearing.request import Hearing

    plan = ListeningPlan()
    extract = Extract(Hearing(to_json(LogMelConfig()), plan))
    ready_mb = resident_mb()
    after_mb, refused = [], 0
    for path in sorted(folder.iterdir()):
        batch = {
            name: np.full(1, None, dtype=object) for name in ("track_id", "recording", "error_kind", "error_message")
        }
        with closing(LocalFile(str(path), os.open(path, os.O_RDONLY))) as file:
            batch["recording"][0] = record(file, plan, again=file)
        heard = extract(batch)
        refused += heard["error_kind"][0] is not None
        after_mb.append(resident_mb())
    status = Path("/proc/self/status").read_text()
    peak_mb = int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6
    facts = {"start_mb": start_mb, "ready_mb": ready_mb, "peak_mb": peak_mb, "after_mb": after_mb}
    print(json.dumps(facts | {"heard": len(after_mb) - refused, "refused": refused}))


if __name__ == "__main__":
    _work(Path(sys.argv[1]))
