"""`mgc.read_labels`: the labels table as pandas has it."""

from __future__ import annotations

from pathlib import Path

import pytest

import mgc
from cluster.storage.uri import Uri
from mgc.errors import LabelsError
from tests.support.nights import night


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    folder = tmp_path / "labels"
    night(Uri.of_path(folder), {"a": "1", "b": "1"})
    night(Uri.of_path(folder), {"b": "1", "c": "1"})
    return folder


def test_one_row_for_each_track_of_the_catalog(labels: Path) -> None:
    found = mgc.read_labels(labels)
    assert set(found["track_id"]) == {"b", "c"}
    assert set(found["status"]) == {"labeled"}
    assert found["genre_top"].notna().all()
    assert set(mgc.read_labels(str(labels), removed=True)["track_id"]) == {"a", "b", "c"}


def test_an_earlier_version_and_some_columns(labels: Path) -> None:
    found = mgc.read_labels(labels, version=0, columns=["track_id", "confidence"])
    assert list(found.columns) == ["track_id", "confidence"]
    assert set(found["track_id"]) == {"a", "b"}


def test_what_is_not_there_is_said(labels: Path, tmp_path: Path) -> None:
    with pytest.raises(LabelsError, match=r"/labels: .*\bgenre\b.*genre_top"):
        mgc.read_labels(labels, columns=["genre", "track_id"])
    with pytest.raises(LabelsError, match=r"/nothing"):
        mgc.read_labels(tmp_path / "nothing")
    for version in (99, -1):
        with pytest.raises(LabelsError, match=f"no version {version}; the newest is 1"):
            mgc.read_labels(labels, version=version)


def test_completion_shows_what_is_public() -> None:
    assert dir(mgc) == sorted(mgc.__all__)
    for name in mgc.__all__:
        assert getattr(mgc, name)
    with pytest.raises(AttributeError, match="no_such_name"):
        mgc.no_such_name  # noqa: B018
