"""Places for files, and stores that are asked with less patience."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.storage import s3


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.cluster)])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "local" else request.getfixturevalue("bucket_uri")


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Buckets first used from here on are read with little patience.

    Two seconds of silence are what the real store needed on a busy machine.
    """
    monkeypatch.setattr(s3, "TRACK_RETRIES", 2)
    monkeypatch.setattr(s3, "TRACK_WAIT_SECONDS", 0.05)
    monkeypatch.setattr(s3, "TRACK_SILENCE_SECONDS", 4.0)


@pytest.fixture
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few and quick retries, but patience with a store that is slow because the machine is busy."""
    monkeypatch.setattr(s3, "TRACK_RETRIES", 2)
    monkeypatch.setattr(s3, "TRACK_WAIT_SECONDS", 0.05)
