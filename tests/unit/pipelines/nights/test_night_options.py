"""Options of a night: when it stops."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from datetime import time as Clock
from typing import Any

import click
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipelines.nights.options import TimeOfDay, next_time


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "Europe/Berlin")
        time.tzset()
        yield
    time.tzset()


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(
    ("now", "clock", "then"),
    [
        ("2026-07-01T21:00", "06:00", "2026-07-02T04:00"),
        ("2026-07-01T03:00", "06:00", "2026-07-01T04:00"),
        ("2026-07-01T04:00", "06:00", "2026-07-02T04:00"),
        # On March 29 the clock goes from 2:00 to 3:00, on October 25 from 3:00 back to 2:00.
        ("2026-03-28T22:00", "06:00", "2026-03-29T04:00"),
        ("2026-03-28T22:00", "02:30", "2026-03-29T01:30"),
        ("2026-10-24T21:00", "06:00", "2026-10-25T05:00"),
        ("2026-10-24T21:00", "02:30", "2026-10-25T00:30"),
        ("2026-10-25T00:40", "02:30", "2026-10-25T01:30"),
        ("2026-10-25T01:40", "02:30", "2026-10-26T01:30"),
    ],
)
def test_the_clock_is_set_twice_a_year(now: str, clock: str, then: str) -> None:
    found = next_time(utc(now).astimezone(), Clock.fromisoformat(clock))
    assert found.astimezone(UTC) == utc(then)


@pytest.mark.usefixtures("berlin")
@example(minutes=int(utc("2026-03-28T22:00").timestamp()) // 60, hour=2, minute=0)
@given(minutes=st.integers(27_000_000, 32_000_000), hour=st.integers(0, 23), minute=st.integers(0, 59))
def test_it_is_within_a_day_and_an_hour_and_shows_on_the_clock(minutes: int, hour: int, minute: int) -> None:
    now = datetime.fromtimestamp(minutes * 60).astimezone()
    found = next_time(now, Clock(hour, minute))
    assert timedelta() < found - now <= timedelta(hours=25)
    assert hour == 2 or f"{datetime.fromtimestamp(found.timestamp()):%H:%M}" == f"{hour:02}:{minute:02}"


class TestTimeOfDay:
    def parsed(self, text: str) -> Any:
        return TimeOfDay().convert(text, None, None)

    def test_a_clock_time_is_the_next_one(self) -> None:
        now = datetime.now().astimezone()
        for text in ("06:00", "23:59", f"{now:%H:%M}"):
            moment = self.parsed(text)
            assert now < moment <= now + timedelta(days=1, hours=1)
            assert f"{moment:%H:%M}" == text

    def test_iso_8601(self) -> None:
        assert self.parsed("2999-03-01T06:00:00+02:00") == datetime(2999, 3, 1, 4, tzinfo=UTC)
        assert self.parsed("2999-03-01T06:00").tzinfo is not None

    @pytest.mark.parametrize("text", ["24:00", "6", "soon", "2001-01-01T00:00", ""])
    def test_what_is_no_time_or_over(self, text: str) -> None:
        with pytest.raises(click.BadParameter):
            self.parsed(text)
