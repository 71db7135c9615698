"""A real Prometheus, with the files of infra/monitoring, against a live label job; `make drills` prints what came."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.session import local_cluster, ray_internals
from cluster.session.local_cluster import LocalCluster, LocalClusterSpec, free_port
from mgc.datasets.synthetic import SyntheticConfig, encode, plan_corpus

pytestmark = [pytest.mark.cluster, pytest.mark.drill, pytest.mark.filterwarnings("default")]

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "infra" / "monitoring"
TRACKS = 120


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    """Of two nodes, which report what they count every second instead of every ten."""
    settings = {"PYTHONWARNINGS": "default", ray_internals.METRICS_INTERVAL_MS: "1000", "PYTHONPATH": str(ROOT)}
    with local_cluster.running(LocalClusterSpec({**os.environ, **settings}, dashboard=True), tmp_path) as found:
        yield found


@pytest.fixture
def music(tmp_path: Path) -> Path:
    """Short tracks, among them a few that are none."""
    folder = tmp_path / "music"
    folder.mkdir()
    config = SyntheticConfig(shortest_seconds=4, longest_seconds=4, damaged_tracks=0)
    few = [encode(plan) for plan in plan_corpus(config)[:12]]
    for number in range(TRACKS):
        (folder / f"{number:03}.mp3").write_bytes(few[number % 12])
    for number in range(5):
        (folder / f"broken-{number}.mp3").write_bytes(b"no music at all")
    return folder


class Prometheus:
    """A server's answers."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def get(self, path: str, **parameters: str) -> Any:
        with urllib.request.urlopen(f"{self._url}{path}?{urllib.parse.urlencode(parameters)}", timeout=10) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("/api/v1/query", query=expression)["result"]
        return found

    def ready(self) -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self._url}/-/ready", timeout=1):
            return True
        return False


@pytest.fixture
def gateway() -> Iterator[str | None]:
    """A Pushgateway, where there is one (Debian: prometheus-pushgateway)."""
    program = shutil.which("prometheus-pushgateway") or shutil.which("pushgateway")
    if program is None:
        yield None
        return
    address = f"127.0.0.1:{free_port()}"
    process = subprocess.Popen([program, f"--web.listen-address={address}"], stderr=subprocess.DEVNULL)
    try:
        yield address
    finally:
        process.terminate()
        process.wait(timeout=10)


@pytest.fixture
def prometheus(cluster: LocalCluster, gateway: str | None, tmp_path: Path) -> Iterator[Prometheus]:
    """Prometheus with the configuration for one machine, its targets those of the test."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed (Debian: prometheus)")
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["scrape_configs"][0]["file_sd_configs"] = [{"files": [str(cluster.scraped)], "refresh_interval": "1s"}]
    pushed = {"job_name": "pushgateway", "honor_labels": True}
    config["scrape_configs"][1:] = [{**pushed, "static_configs": [{"targets": [gateway]}]}] if gateway else []
    del config["alerting"]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    shutil.copy(MONITORING / "alerts.yml", tmp_path)
    port = free_port()
    with (tmp_path / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                program, f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/tsdb",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log, stderr=log,
        )  # fmt: skip
        try:
            server = Prometheus(port)
            deadline = time.monotonic() + 30
            while not server.ready():
                assert process.poll() is None, (tmp_path / "prometheus.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.2)
            yield server
        finally:
            process.terminate()
            process.wait(timeout=20)


def test_what_it_scrapes(
    cluster: LocalCluster,
    prometheus: Prometheus,
    gateway: str | None,
    music: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    # The alert on an unknown night is pending until a night has left its mark.
    environment = {**cluster.environment, "MGC_JOB_METRICS": f"http://{gateway}" if gateway else str(tmp_path)}
    job = subprocess.Popen(
        [sys.executable, "-m", "pipelines.label", str(music), "--labels", str(tmp_path / "labels")],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    queries = {
        (file.stem, panel["title"]): [target["expr"].replace("$__rate_interval", "10s") for target in panel["targets"]]
        for file in sorted((MONITORING / "grafana").glob("*.json"))
        for panel in json.loads(file.read_text())["panels"]
        if panel["type"] != "row"
    }
    answered: set[tuple[str, str]] = set()
    seen: dict[str, float] = {}
    names: set[str] = set()
    targets: set[str] = set()
    try:
        while True:
            running = job.poll() is None
            for panel, expressions in queries.items():
                if any(prometheus.query(each) for each in expressions):
                    answered.add(panel)
            for series in prometheus.query('{__name__=~"ray_mgc_.+"}'):
                kept = {k: v for k, v in series["metric"].items() if k in ("status", "kind")}
                name = f"{series['metric']['__name__']} {kept or ''}".strip()
                seen[name] = max(seen.get(name, 0.0), float(series["value"][1]))
            names |= set(prometheus.get("/api/v1/label/__name__/values"))
            targets |= {each["scrapeUrl"] for each in prometheus.get("/api/v1/targets")["activeTargets"]}
            if not running:
                break
            time.sleep(1)
    finally:
        if job.poll() is None:
            job.kill()
        job.wait()
    assert job.returncode == 0
    if gateway:
        deadline = time.monotonic() + 15
        while not prometheus.query('mgc_job_last_success_timestamp_seconds{name="label"}'):
            assert time.monotonic() < deadline
            time.sleep(0.5)
        assert float(prometheus.query('mgc_job_tracks{name="label",what="labeled"}')[0]["value"][1]) == TRACKS
        answered |= {panel for panel, each in queries.items() if any(map(prometheus.query, each))}
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        ray = [name for name in names if name.startswith("ray_") and not name.startswith("ray_mgc_")]
        print(f"\n{len(targets)} targets, {len(ray)} metrics of Ray's own; largest value of a series of ours:")
        print("\n".join(f"  {name} {value:g}" for name, value in sorted(seen.items())))
        print(f"panels with data: {len(answered)} of {len(queries)}; without:")
        print("\n".join(f"  {board}: {title}" for board, title in sorted(queries.keys() - answered)))
    assert {name.split()[0] for name in seen} == {
        "ray_mgc_tracks_total",
        "ray_mgc_errors_total",
        "ray_mgc_read_bytes_total",
        "ray_mgc_audio_seconds_total",
        "ray_mgc_heard_seconds_total",
    }
    rules = {rule["name"]: rule for group in prometheus.get("/api/v1/rules")["groups"] for rule in group["rules"]}
    assert all(rule["health"] == "ok" for rule in rules.values())
    assert rules["MgcNightFailed"]["state"] == "inactive"
