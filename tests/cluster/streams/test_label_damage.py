"""Files of a run that are damaged while the label job is at work: it sets them aside, and hears their tracks again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cluster.labels.beside.run_folder import DamagedRowsError, RunFolder
from cluster.labels.table import LabelsTable
from cluster.session.profiles import Profile
from cluster.storage import files
from cluster.storage.uri import Uri
from mgc.errors import LabelsError
from pipelines.nights.label import label
from pipelines.nights.requests import LabelRequest, NightRequest
from tests.support.damage import flip_bit
from tests.support.good_files import good_files
from tests.support.nights import held

pytestmark = [pytest.mark.cluster, pytest.mark.drill, pytest.mark.filterwarnings("default")]

TRACKS = 12


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Uri:
    folder = tmp_path_factory.mktemp("music")
    wav = next(file.data for file in good_files() if file.name.endswith(".wav"))
    for number in range(TRACKS):
        (folder / f"{number:03}.wav").write_bytes(wav)
    return Uri.of_path(folder)


@pytest.fixture
def night(ray_session: Profile, music: Uri, tmp_path: Path) -> LabelRequest:
    return LabelRequest(NightRequest(music, Uri.of_path(tmp_path / "labels")), ray_session)


def damage(folder: Uri) -> None:
    """Flip a bit in every file."""
    for uri in files.list_uris(folder):
        files.write_bytes(uri, flip_bit(files.read_bytes(uri), 0, 100))


def damage_plans(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    real, left = RunFolder.portion, [times]

    def damaged(self: RunFolder, rows: pa.Table) -> Uri:
        uri = real(self, rows)
        left[0] -= 1
        if left[0] >= 0:
            damage(uri)
        return uri

    monkeypatch.setattr(RunFolder, "portion", damaged)


def damage_staged_rows(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """After they were checked, before the commit."""
    real, left = LabelsTable.commit, [times]

    def too_late(self: LabelsTable, plan: Any, *args: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            damage(self.run(plan).staged_uri)
        return real(self, plan, *args, **options)

    monkeypatch.setattr(LabelsTable, "commit", too_late)


@pytest.mark.parametrize("damaging", [damage_plans, damage_staged_rows])
def test_once(
    damaging: Callable[[pytest.MonkeyPatch, int], None],
    night: LabelRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damaging(monkeypatch, 1)
    done = label(night)
    assert (done.status, done.counts["labeled"]) == ("done", TRACKS)
    assert len(held(night.night.labels)) == TRACKS
    lines = capsys.readouterr().err.splitlines()
    assert any("/_runs/" in line and ".parquet: " in line for line in lines), lines


@pytest.mark.parametrize(("damaging", "error"), [(damage_plans, LabelsError), (damage_staged_rows, DamagedRowsError)])
def test_every_time(
    damaging: Callable[[pytest.MonkeyPatch, int], None],
    error: type[LabelsError],
    night: LabelRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It gives up with one line, and the next submission begins where it ended."""
    with monkeypatch.context() as patch:
        damaging(patch, 99)
        with pytest.raises(error) as caught:
            label(night)
    assert str(night.night.labels) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not LabelsTable(night.night.labels).exists
    assert label(night).counts["labeled"] == TRACKS
