"""Which files of tests share a process."""

from __future__ import annotations

from pathlib import Path

from tests.schedule import RAY, scope_of

TESTS = Path(__file__).parents[2]


def test_files_that_run_ray_share_a_process_and_no_others() -> None:
    assert {scope_of(TESTS / "jobs" / name) for name in ("test_way_through.py", "test_drills.py")} == {RAY}
    assert scope_of(TESTS / "unit" / "test_units.py") != RAY
