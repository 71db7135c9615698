"""A label run that has committed is a success, whatever happens to the table before the job has ended.

The night only marks a track that left the catalog, so it needs no Ray.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from cluster.labels.counts import CommittedRun
from cluster.labels.plan import Plan
from cluster.labels.table import LabelsTable
from cluster.labels.vacuum import vacuum
from cluster.storage.uri import Uri
from cluster.tables.catalog import write_catalog
from mgc.bundle import load_bundle
from pipelines import label
from pipelines.command.job import run
from pipelines.nights.report import report_uri
from tests.support.nights import catalog, held, night
from tests.support.versions import AT_ONCE


@pytest.fixture
def table(tmp_path: Path) -> Uri:
    """Of a night by the shipped bundle, and an earlier one; a track has left the catalog since."""
    uri, bundle = Uri.of_path(tmp_path / "labels"), load_bundle()
    night(uri, {"a": "1", "b": "1"}, model="model-1")
    night(uri, {"a": "1", "b": "1"}, model=bundle.id, features=bundle.features_id)
    write_catalog(Uri.of_path(tmp_path / "catalog.parquet"), [catalog({"a": "1"})], source=Uri.parse("s3://music"))
    return uri


def clean(uri: Uri) -> None:
    """Two commits, and no version is left but the last."""
    assert vacuum(uri, 1, AT_ONCE).files


def relabel(uri: Uri) -> None:
    """The run of another bundle."""
    night(uri, {"a": "1", "b": "1", "c": "1"}, model="model-2")


@pytest.mark.parametrize("meanwhile", [clean, relabel])
def test_the_job_reports_its_own_commit(
    meanwhile: Callable[[Uri], None],
    table: Uri,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    real = LabelsTable.commit

    def then_another(
        self: LabelsTable, plan: Plan, run_id: str, finished_at: datetime, about: Any = None
    ) -> CommittedRun:
        monkeypatch.setattr(LabelsTable, "commit", real)
        done = real(self, plan, run_id, finished_at, about)
        meanwhile(table)
        # As the job sees it that reads the table once more.
        self._table = LabelsTable(table)._table
        return done

    monkeypatch.setattr(LabelsTable, "commit", then_another)
    code = run(label.command, [str(tmp_path / "catalog.parquet"), "--labels", str(table)])
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert code in (0, 3), facts
    assert facts["status"] == "done"
    assert (facts["counts"]["removed"], facts["counts"]["table_version"]) == (1, 2)
    assert facts["counts"]["labeled"] == facts["counts"]["quarantined"] == 0
    if meanwhile is relabel:
        report = json.loads(report_uri(table, "latest", "json").local.read_bytes())
        assert report["table_version"] == 2
        assert sum(report["genre_counts"].values()) == 1
        assert len(held(table)) == 3
    else:
        # The table before the run is gone, and with it the report; the labels are not.
        assert code == 3
        assert held(table)["b"]["removed_at"] is not None
