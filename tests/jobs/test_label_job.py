"""The label job's options in real Ray runs: a night that is too short, its plan and estimate, its counters."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.compute as pc
import pytest

from cluster.labels.history import LabeledBy, find_labeler
from cluster.labels.table import LabelsTable
from cluster.session.profiles import Profile
from cluster.storage.uri import Uri
from mgc import schema
from mgc.bundle import load_bundle
from mgc.bundle_names import BundleName, cache_folder
from mgc.graphs.export import CLOSE
from mgc.models.graph import Graph
from pipelines import label as label_job
from pipelines import plan
from pipelines.command.job import run
from pipelines.nights.label import label
from pipelines.nights.requests import LabelRequest, NightRequest
from pipelines.nights.staging import TIME_WAS_UP
from tests.support.good_files import good_files
from tests.support.web.scraped import scrape, scraping
from tests.unit.small_bundle import bundle

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("default")]

TRACKS = 240


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Many small files, and one that is none."""
    folder = tmp_path_factory.mktemp("music")
    wav = next(file.data for file in good_files() if file.name.endswith(".wav"))
    for number in range(TRACKS - 1):
        (folder / f"{number:03}.wav").write_bytes(wav)
    (folder / "none.mp3").write_bytes(b"no music at all" * 100)
    return folder


@pytest.fixture(scope="module")
def scraped(ray_session: Profile) -> dict[str, str]:
    """What Prometheus finds while the table is made, by series."""
    return {}


@pytest.fixture(scope="module")
def labelled(
    ray_session: Profile, music: Path, scraped: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> str:
    """A table over all of it, made in a night that was too short and one that was not."""
    uri = str(tmp_path_factory.mktemp("table") / "labels")
    night = NightRequest(Uri.of_path(music), Uri.parse(uri))
    over = label(LabelRequest(night, ray_session, datetime.now(UTC)))
    assert (over.status, over.alarms) == ("partial", [TIME_WAS_UP])
    assert over.counts["pending"] == TRACKS
    assert not LabelsTable(Uri.parse(uri)).exists
    # How far this comes depends on the machine; that nothing is lost does not.
    short = label(LabelRequest(night, ray_session, datetime.now(UTC) + timedelta(seconds=5)))
    held = LabelsTable(Uri.parse(uri)).dataset().count_rows() if LabelsTable(Uri.parse(uri)).exists else 0
    assert held + short.counts["pending"] == TRACKS
    assert short.status == ("partial" if held < TRACKS else "done")
    with scraping() as found:
        last = label(LabelRequest(night, ray_session))
    scraped.update(found)
    assert last.status == ("done" if held < TRACKS else "up_to_date")
    assert last.counts["up_to_date"] == held
    return uri


def test_a_night_that_is_too_short_loses_nothing(labelled: str, music: Path) -> None:
    rows = LabelsTable(Uri.parse(labelled)).dataset().to_table().to_pylist()
    assert sorted(row["track_id"] for row in rows) == sorted(path.name for path in music.iterdir())
    assert {row["track_id"] for row in rows if row["status"] == schema.QUARANTINED} == {"none.mp3"}


def test_it_answers_as_the_bundle_in_pytorch(labelled: str, music: Path) -> None:
    bundle = load_bundle("shipped")
    cache = cache_folder()
    assert cache is not None
    [graph] = (cache / "graphs").glob(f"{bundle.id}-*")
    assert Graph(graph.read_bytes())
    wanted = bundle.label(music / "000.wav")
    row = LabelsTable(Uri.parse(labelled)).dataset().to_table(filter=pc.field("track_id") == "000.wav").to_pylist()[0]
    assert row["genre_top"] == wanted.genre_top
    assert row["confidence"] == pytest.approx(wanted.confidence, abs=CLOSE)


def test_an_estimate_rests_on_the_runs_before(labelled: str, music: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = LabelsTable(Uri.parse(labelled)).delta.history()
    measured = [json.loads(entry["mgc.run"])["measured"] for entry in history]
    assert sum(each["tracks"] for each in measured) == TRACKS
    assert sum(each["bytes_read"] for each in measured) == sum(path.stat().st_size for path in music.iterdir())
    assert all(each["listen_seconds"] > 0 and each["predict_seconds"] > 0 for each in measured)
    assert sum(each["heard_seconds"] for each in measured) > 0

    before = sorted(Path(labelled).rglob("*"))
    assert run(plan.command, [str(music), "--labels", labelled, "--retry-all"]) == 0
    printed = capsys.readouterr().out.splitlines()
    counts = json.loads(printed[-1])["counts"]
    assert (counts["retry"], counts["up_to_date"], counts["to_label"]) == (1, TRACKS - 1, 1)
    assert counts["cpu_hours"] >= 0
    assert counts["estimated_seconds"] > 0
    assert any(line.startswith("would take") and "cores" in line for line in printed)
    assert run(label_job.command, [str(music), "--labels", labelled, "--retry-all", "--dry-run"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["counts"] == counts
    assert sorted(Path(labelled).rglob("*")) == before


def test_the_table_stays_with_the_bundle_that_labelled_it(
    labelled: str, music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert find_labeler(LabelsTable(Uri.parse(labelled))) == LabeledBy(load_bundle("shipped").id, "shipped")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    bundle().save(tmp_path / "mgc" / "bundles" / "mn04")
    assert BundleName.DEFAULT.resolved is BundleName.MN04
    for words, counted in ((), "up_to_date"), (("--bundle", "mn04"), "other_model"):
        assert run(plan.command, [str(music), "--labels", labelled, *words]) == 0
        counts = json.loads(capsys.readouterr().out.splitlines()[-1])["counts"]
        assert counts[counted] == TRACKS


def test_a_first_plan_has_nothing_to_go_by(music: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(plan.command, [str(music), "--labels", str(tmp_path / "labels")]) == 0
    printed = capsys.readouterr().out
    assert "--limit 200" in printed
    assert json.loads(printed.splitlines()[-1])["counts"]["new"] == TRACKS


def test_prometheus_finds_the_counters_while_the_job_runs(labelled: str, scraped: dict[str, str]) -> None:
    """Ray brings the counters to the metrics port of the node every few seconds, and drops them after the job."""
    found = [series for series in scraped if series.startswith("ray_mgc_")]
    for name in ("mgc_read_bytes_total", "mgc_audio_seconds_total", "mgc_heard_seconds_total"):
        assert any(series.startswith(f"ray_{name}{{") for series in found), found
    assert any("mgc_tracks_total" in series and 'status="quarantined"' in series for series in found), found
    assert any("mgc_errors_total" in series and 'kind="not_audio"' in series for series in found), found
    deadline = time.monotonic() + 60
    while any(series.startswith("ray_mgc_") for series in scrape()):
        assert time.monotonic() < deadline
        time.sleep(1)


class TestSimulation:
    @pytest.mark.parametrize("name", ["fma-full", "ten-million"])
    def test_of_a_large_catalog_needs_none(self, name: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(plan.command, ["--simulate", name, "--nodes", "1,4"]) == 0
        printed = capsys.readouterr().out
        assert "by the rates of BENCHMARKS.md" in " ".join(printed.split())
        one, four = json.loads(printed.splitlines()[-1])["counts"]["forecasts"]
        assert one["hours"] > four["hours"] > 0

    def test_of_this_plan_is_calibrated(self, labelled: str, music: Path, capsys: pytest.CaptureFixture[str]) -> None:
        arguments = [str(music), "--labels", labelled, "--retry-all", "--simulate", "this", "--nodes", "2"]
        assert run(plan.command, arguments) == 0
        printed = capsys.readouterr().out
        assert "by 1 past run" in " ".join(printed.split())
        [only] = json.loads(printed.splitlines()[-1])["counts"]["forecasts"]
        assert only["nodes"] == 2

    def test_of_a_plan_with_nothing_to_do(self, labelled: str, music: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(plan.command, [str(music), "--labels", labelled, "--simulate", "this"]) == 0
        counts = json.loads(capsys.readouterr().out.splitlines()[-1])["counts"]
        assert counts["to_label"] == 0
        assert "forecasts" not in counts

    @pytest.mark.parametrize("arguments", [["--nodes", "0"], ["--nodes", "1,x"], ["--cores", "0"]])
    def test_what_is_no_cluster(self, arguments: list[str]) -> None:
        assert run(plan.command, ["--simulate", "fma-full", *arguments]) == 2

    def test_a_plan_needs_a_catalog(self) -> None:
        assert run(plan.command, []) == 2
