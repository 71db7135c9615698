"""What jobs leave for Prometheus."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import click
import pytest
from prometheus_client.parser import text_string_to_metric_families

from mgc.errors import LabelsError
from pipelines.command.job import METRICS_SETTING, Summary, run
from pipelines.command.metrics import METRICS

Samples = dict[tuple[str, str], float]


@click.command("label")
@click.option("--fail", is_flag=True)
@click.option("--dry-run", is_flag=True)
@click.option("--refuse", is_flag=True)
def night(fail: bool, dry_run: bool, refuse: bool) -> Summary:
    if fail:
        raise LabelsError("labels: broken.")
    if dry_run:
        return Summary("dry_run")
    if refuse:
        return Summary(
            "done", {"labeled": 7}, alarms=["look"], refused=["removed: 35 of 36 tracks.", "flips: 9 of 10."]
        )
    return Summary("done", {"labeled": 7, "table_version": 3, "kinds": {"a": 1}}, alarms=["look"])


def read(text: str) -> Samples:
    families = text_string_to_metric_families(text)
    return {
        (sample.name, sample.labels.get("what", "")): sample.value for family in families for sample in family.samples
    }


def test_a_night_and_one_that_fails_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(METRICS_SETTING, str(tmp_path))
    assert run(night, []) == 3
    found = read((tmp_path / "mgc_label.prom").read_text())
    success = (tmp_path / "mgc_label_success.prom").read_text()
    assert found["mgc_job_exit_code", ""] == 3
    assert found["mgc_job_alarms", ""] == 1
    assert found["mgc_job_tracks", "labeled"] == 7
    assert {name for name, _ in found | read(success)} == set(METRICS)

    assert run(night, ["--fail"]) == 1
    assert read((tmp_path / "mgc_label.prom").read_text())["mgc_job_exit_code", ""] == 1
    assert (tmp_path / "mgc_label_success.prom").read_text() == success
    assert run(night, ["--dry-run"]) == 0
    assert read((tmp_path / "mgc_label.prom").read_text())["mgc_job_exit_code", ""] == 1


def test_a_night_that_guards_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(METRICS_SETTING, str(tmp_path))
    assert run(night, ["--refuse"]) == 4
    printed = capsys.readouterr()
    facts = json.loads(printed.out.splitlines()[-1])
    assert facts["status"] == "refused"
    assert facts["alarms"] == ["look"]
    assert [f"mgc label: {line}" for line in facts["refused"]] == printed.err.splitlines()
    assert "35 of 36" in facts["refused"][0]
    found = read((tmp_path / "mgc_label.prom").read_text())
    assert (found["mgc_job_exit_code", ""], found["mgc_job_refusals", ""]) == (4, 2)
    assert not (tmp_path / "mgc_label_success.prom").exists()


def test_promtool_takes_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    monkeypatch.setenv(METRICS_SETTING, str(tmp_path))
    run(night, [])
    for file in tmp_path.glob("*.prom"):
        subprocess.run([promtool, "check", "metrics"], input=file.read_bytes(), check=True)


class Gateway(HTTPServer):
    """Takes what is pushed, as a Pushgateway does."""

    def __init__(self) -> None:
        self.pushed: list[tuple[str, str, Samples]] = []
        super().__init__(("127.0.0.1", 0), Pushed)


class Pushed(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        assert isinstance(self.server, Gateway)
        self.server.pushed.append((self.command, self.path, read(body)))
        self.send_response(202)
        self.end_headers()

    def log_message(self, *words: object) -> None:
        return


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with Gateway() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_pushed(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(METRICS_SETTING, f"http://127.0.0.1:{gateway.server_port}")
    assert run(night, []) == 3
    assert run(night, ["--fail"]) == 1
    # POST adds to the group, PUT would take the last success away.
    assert {(method, path) for method, path, _ in gateway.pushed} == {("POST", "/metrics/job/mgc/name/label")}
    successes = [found for *_, found in gateway.pushed if ("mgc_job_last_success_timestamp_seconds", "") in found]
    assert len(successes) == 1
    assert [found["mgc_job_exit_code", ""] for *_, found in gateway.pushed if ("mgc_job_exit_code", "") in found] == [
        3,
        1,
    ]


@pytest.mark.parametrize("where", ["/proc/nowhere", "http://127.0.0.1:1"])
def test_a_job_does_not_fail_for_it(
    where: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(METRICS_SETTING, where)
    assert run(night, []) == 3
    assert "published" in capsys.readouterr().err
