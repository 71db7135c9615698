"""The guard's checks, and the canaries."""

from __future__ import annotations

import pytest

from mgc.errors import ConfigError
from mgc.labeling.canary import CANARIES, Canary, CanaryAnswer, refuse_canaries
from mgc.labeling.guard import CHECKS, GuardLimits, Outlook, find_breaches, guard_limits

LIMITS = GuardLimits()


class TestLimits:
    def test_the_stated_ones(self) -> None:
        assert (LIMITS.stale, LIMITS.removed, LIMITS.flips, LIMITS.tracks) == (0.05, 0.05, 0.4, 10)

    def test_set_by_name(self) -> None:
        limits = guard_limits({"stale": "0.5", "tracks": "3"})
        assert (limits.stale, limits.tracks, limits.removed) == (0.5, 3, LIMITS.removed)

    @pytest.mark.parametrize(("values", "words"), [
        ({"stael": "1"}, "stael.*stale"), ({"stale": "2"}, "stale.*2"), ({"tracks": "0"}, "tracks.*0"),
        ({"flips": "x"}, "flips.*x"),
    ])  # fmt: skip
    def test_a_wrong_one_is_named(self, values: dict[str, str], words: str) -> None:
        with pytest.raises(ConfigError, match=words):
            guard_limits(values)


class TestBreaches:
    def found(self, limits: GuardLimits = LIMITS, accepted: tuple[str, ...] = (), **seen: int) -> list[str]:
        of = dict.fromkeys(("labels", "relabeled", "relabeled_new_model", "tried", "corrected"), 100)
        outlook = Outlook(**of | seen)  # type: ignore[arg-type]
        return [breach.name for breach in find_breaches(outlook, limits, accepted)]

    def test_just_past_a_limit(self) -> None:
        assert self.found(stale=10, labels=200) == []
        assert self.found(stale=11, labels=200) == ["stale"]
        assert self.found(removed=10, labels=200) == []
        assert self.found(removed=11, labels=200) == ["removed"]
        assert self.found(flips=40) == []
        assert self.found(flips=41) == ["flips"]

    def test_few_tracks_stop_nothing(self) -> None:
        assert self.found(stale=9, labels=9) == []
        assert self.found(stale=10, labels=10) == ["stale"]
        assert self.found(GuardLimits(tracks=1), stale=1, labels=1) == ["stale"]

    def test_no_run_removes_everything(self) -> None:
        assert self.found(removed=2, labels=2) == ["removed"]
        assert self.found(GuardLimits(removed=1.0), removed=50, labels=50) == ["removed"]
        assert self.found(GuardLimits(removed=1.0), removed=49, labels=50) == []
        assert self.found(removed=0, labels=0) == []

    def test_a_new_model_may_flip_by_default(self) -> None:
        assert self.found(flips_new_model=100) == []
        assert self.found(GuardLimits(flips_new_model=0.2), flips_new_model=21) == ["flips_new_model"]
        assert self.found(same_cause=100) == []
        assert self.found(GuardLimits(same_cause=0.5), same_cause=60) == ["same_cause"]

    def test_corrections_that_a_file_lacks(self) -> None:
        assert self.found(corrections=9, corrected=9, given=5) == []
        assert self.found(corrections=10, corrected=200, given=190) == []
        assert self.found(corrections=11, corrected=200, given=189) == ["corrections"]
        assert self.found(GuardLimits(corrections=1.0), corrections=100, given=1) == []

    def test_an_empty_file_of_corrections(self) -> None:
        assert self.found(corrections=1, corrected=1) == ["corrections"]
        assert self.found(GuardLimits(corrections=1.0), corrections=1, corrected=1) == ["corrections"]
        assert self.found(corrections=0, corrected=0) == []

    @pytest.mark.parametrize("name", CHECKS)
    def test_what_is_accepted_stops_nothing(self, name: str) -> None:
        limits = GuardLimits(flips_new_model=0.1, same_cause=0.1)
        everything = dict.fromkeys(CHECKS, 99)
        assert self.found(limits, **everything) == list(CHECKS)
        assert self.found(limits, (name,), **everything) == [each for each in CHECKS if each != name]

    def test_the_numbers_are_in_the_message(self) -> None:
        outlook = Outlook(labels=1200, stale=1100, cause="fetch_failed: the store answers AccessDenied")
        [breach] = find_breaches(outlook, LIMITS)
        assert "1,100 of 1,200" in breach.message
        assert "AccessDenied" in breach.message
        assert "5 %" in breach.message


class TestCanaries:
    def known(self, count: int = CANARIES, comparable: bool = True) -> list[Canary]:
        return [Canary(f"t{number}", "Rock", 0.75, comparable) for number in range(count)]

    def refusal(self, known: list[Canary], bad: int, answer: CanaryAnswer) -> str | None:
        good = CanaryAnswer({"Rock": 0.75, "Jazz": 0.25})
        answers = {each.track_id: answer if place < bad else good for place, each in enumerate(known)}
        return refuse_canaries(known, answers)

    def test_most_fail(self) -> None:
        failed = CanaryAnswer({}, "fetch_failed: AccessDenied")
        assert self.refusal(self.known(), 10, failed) is None
        line = self.refusal(self.known(), 11, failed)
        assert line is not None
        assert "11 of 20" in line
        assert "AccessDenied" in line
        assert refuse_canaries(self.known(), {}) is not None

    def test_other_answers_from_the_same_model(self) -> None:
        other = CanaryAnswer({"Jazz": 0.9, "Rock": 0.1})
        assert self.refusal(self.known(), 2, other) is None
        line = self.refusal(self.known(), 3, other)
        assert line is not None
        assert "3 of 20" in line
        assert "'t0'" in line
        assert self.refusal(self.known(comparable=False), 20, other) is None

    def test_rounding_is_no_other_answer(self) -> None:
        assert self.refusal(self.known(), 20, CanaryAnswer({"Rock": 0.745, "Jazz": 0.255})) is None
        close = [Canary(f"t{number}", "Rock", 0.5, True) for number in range(5)]
        assert self.refusal(close, 5, CanaryAnswer({"Jazz": 0.502, "Rock": 0.498})) is None
        assert self.refusal(close, 5, CanaryAnswer({"Jazz": 0.6, "Rock": 0.4})) is not None

    def test_too_few_say_nothing(self) -> None:
        assert refuse_canaries(self.known(2), {}) is None
