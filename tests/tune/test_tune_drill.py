"""A search whose driver is killed goes on when the same command is given again; only `make drills` runs this."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mgc.bundle import load_bundle
from mgc.configuration import to_json
from mgc.recipes.space import LogUniform, Space
from tests.support import tiny_features

pytestmark = [pytest.mark.cluster, pytest.mark.drill, pytest.mark.filterwarnings("default")]

ROOT = Path(__file__).parents[2]
TRIALS = 6


@pytest.mark.parametrize(("searcher", "scheduler"), [("random", "asha"), ("tpe", "fifo")])
def test_a_killed_search_goes_on(searcher: str, scheduler: str, tmp_path: Path) -> None:
    features = tiny_features.write(tmp_path / "features")
    space = tmp_path / "space.json"
    space.write_text(json.dumps(Space({"training.learning_rate": LogUniform(1e-3, 1e-1)}).to_json()))
    fields = {f"front_end.{name}": value for name, value in to_json(tiny_features.EXPERIMENT.front_end).items()}
    fields |= {"training.epochs": 6, "training.batch_size": 8, "model.channels": [4, 6]}
    out = tmp_path / "out"
    command = [
        sys.executable, "-m", "pipelines.tune", "--recipe", "house", "--features", features, "--out", str(out),
        "--space", str(space), "--searcher", searcher, "--scheduler", scheduler, "--trials", str(TRIALS),
        "--at-once", "1", *(part for name, value in fields.items() for part in (f"--{name}", json.dumps(value))),
    ]  # fmt: skip
    # A Ray of its own, which dies with the driver.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    log = tmp_path / "log"
    with log.open("wb") as said:
        job = subprocess.Popen(command, cwd=ROOT, stderr=said, stdout=said, env=environment, start_new_session=True)
        deadline = time.monotonic() + 200
        # Two trials have ended, and another one has begun.
        while log.read_text().count(" ended: ") < 2 and time.monotonic() < deadline and job.poll() is None:
            time.sleep(0.2)
        os.kill(job.pid, signal.SIGKILL)
        job.wait()
    assert 2 <= log.read_text().count(" ended: ") < TRIALS, log.read_text()
    assert not (out / "search.json").exists()
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, timeout=280, check=False)
    assert again.returncode == 0, again.stderr
    rows = pq.read_table(out / "trials.parquet").to_pylist()
    assert len(rows) == TRIALS
    assert {row["status"] for row in rows} <= {"done", "stopped"}
    for row in rows:
        assert [each["epoch"] for each in row["history"]] == list(range(1, row["epochs"] + 1))
    # What had ended was not trained again.
    assert len({row["trial_id"] for row in rows}) == TRIALS
    search = json.loads((out / "search.json").read_text())
    assert load_bundle(out / "bundle").training.search.trial == search["best"]
