"""The page of a report with every section, drawn once for all files."""

from __future__ import annotations

import pytest

from mgc.evaluation.report import render_report
from tests.unit.evaluation.report_samples import FULL, Page


@pytest.fixture(scope="session")
def full_html() -> str:
    return render_report(FULL)


@pytest.fixture(scope="session")
def full(full_html: str) -> Page:
    return Page(full_html)
