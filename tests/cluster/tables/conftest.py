"""Places for tables."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.cluster)])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place: a folder, or a bucket."""
    return str(tmp_path) if request.param == "local" else request.getfixturevalue("bucket_uri")
