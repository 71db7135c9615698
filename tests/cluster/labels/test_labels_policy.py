"""What a night is told beyond the new and the changed: waiting, tracks that are gone, a curator's corrections."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.labels.log import RUN_FACTS
from cluster.labels.overrides import OVERRIDES, read_overrides
from cluster.labels.plan import Plan
from cluster.labels.policy import Gone, Policy
from cluster.labels.table import LabelsTable
from cluster.storage.uri import Uri
from cluster.tables.parquet import write_part
from mgc.errors import ErrorKind, LabelsError
from mgc.labeling.retries import BACK_OFF_TRIES, FIRST_WAIT, LONGEST_WAIT, next_try_at
from tests.support.nights import NOW, heard, held, night, planned, reasons, refusal, stage

FAILED = ErrorKind.FETCH_FAILED.value
TRACKS = {"a": "1", "b": "1", "c": "1"}


class TestWaiting:
    def test_each_wait_is_twice_the_last_and_then_a_month(self) -> None:
        waits = [next_try_at(FAILED, tries, NOW) for tries in range(1, BACK_OFF_TRIES + 3)]
        assert waits == [NOW + FIRST_WAIT * 2**n for n in range(BACK_OFF_TRIES - 1)] + 3 * [NOW + LONGEST_WAIT]
        assert next_try_at(FAILED, 10_000, NOW) == NOW + LONGEST_WAIT
        assert next_try_at(ErrorKind.NOT_AUDIO.value, 1, NOW) is None
        assert next_try_at(None, 1, NOW) is None

    def test_a_job_of_every_night_tries_on_the_nights_1_2_4_8_and_15_then_monthly(self, uri: Uri) -> None:
        tried = []
        # The nights before each try, on which it still waits, and no others of the long waits.
        for number in (*range(1, 17), 30, 44, 45, 46, 74, 75, 76):
            at = NOW + timedelta(days=number - 1)
            plan = night(uri, {"a": "1", "b": "1"}, {"b": FAILED}, at=at, planned_at=at)
            if "b" in reasons(plan):
                tried.append(number)
            else:
                assert plan.empty
        assert tried == [1, 2, 4, 8, 15, 45, 75]
        assert held(uri)["b"]["tries"] == len(tried)

    def test_a_clock_that_jumped_ahead_delays_no_try(self, uri: Uri) -> None:
        """The failure was dated years ahead, and so is its next try. Once the clock is right the track is due."""
        ahead = NOW + timedelta(days=3650)
        night(uri, {"a": "1"}, {"a": FAILED}, at=ahead, planned_at=ahead)
        assert held(uri)["a"]["next_try_at"] > ahead
        assert reasons(planned(LabelsTable(uri), {"a": "1"}, at=NOW)) == {"a": "retry"}

    def test_a_track_waits_its_time(self, uri: Uri) -> None:
        night(uri, TRACKS, {"a": FAILED, "b": ErrorKind.TRUNCATED})
        row = held(uri)["a"]
        assert row["next_try_at"] == NOW + FIRST_WAIT
        assert held(uri)["b"]["next_try_at"] is None
        early = planned(LabelsTable(uri), TRACKS, at=NOW + FIRST_WAIT - timedelta(seconds=1))
        assert early.empty
        assert (early.counts.waiting, early.counts.up_to_date) == (1, 2)
        due = planned(LabelsTable(uri), TRACKS, at=NOW + FIRST_WAIT)
        assert reasons(due) == {"a": "retry"}
        assert due.counts.waiting == 0

    def test_new_bytes_do_not_wait_and_begin_to_count_anew(self, uri: Uri) -> None:
        night(uri, {"a": "1"}, {"a": FAILED})
        plan = planned(LabelsTable(uri), {"a": "2"}, at=NOW)
        assert reasons(plan) == {"a": "changed"}
        assert plan.todo["tries"].to_pylist() == [0]

    def test_all_that_is_quarantined_can_be_tried_again(self, uri: Uri) -> None:
        night(uri, TRACKS, {"a": FAILED, "b": ErrorKind.NOT_AUDIO})
        plan = planned(LabelsTable(uri), TRACKS, at=NOW, policy=Policy(retry_all=True))
        assert reasons(plan) == {"a": "retry", "b": "retry"}

    def test_a_plan_that_was_frozen_does_not_grow(self, uri: Uri) -> None:
        """Submitted again later, when another track has become due, a run finishes what it had planned."""
        night(uri, TRACKS, {"a": FAILED})
        later = {**TRACKS, "d": "1"}
        table = LabelsTable(uri)
        first = planned(table, later, at=NOW)
        assert reasons(first) == {"d": "new"}
        table.run(first).freeze()
        again = planned(LabelsTable(uri), later, at=NOW + FIRST_WAIT)
        assert again.key == first.key
        assert reasons(again) == {"d": "new"}
        assert (again.counts.retry, again.counts.waiting, again.counts.new) == (0, 1, 1)
        stage(table, again)
        table.commit(again, again.key, NOW)
        assert reasons(planned(LabelsTable(uri), later, at=NOW + FIRST_WAIT)) == {"a": "retry"}


class TestGone:
    def test_kept(self, uri: Uri) -> None:
        night(uri, TRACKS)
        before = held(uri)
        plan = night(uri, {"a": "1"}, policy=Policy(gone="keep"))
        assert plan.empty
        assert plan.counts.removed == 0
        assert held(uri) == before

    def test_marked_once(self, uri: Uri) -> None:
        night(uri, TRACKS)
        plan = night(uri, {"a": "1"})
        assert plan.removed["track_id"].to_pylist() == ["b", "c"]
        assert [row["removed_at"] for row in held(uri).values() if row["track_id"] != "a"] == [NOW, NOW]
        assert planned(LabelsTable(uri), {"a": "1"}).empty

    def test_pruned_with_those_that_were_marked_before(self, uri: Uri) -> None:
        night(uri, TRACKS)
        night(uri, {"a": "1", "b": "1"})
        plan = night(uri, {"a": "2"}, policy=Policy(gone="prune"))
        assert plan.counts.removed == 2
        rows = held(uri)
        assert sorted(rows) == ["a"]
        assert rows["a"]["content_tag"] == "2"
        assert rows["a"]["removed_at"] is None

    def test_a_limit_removes_nothing(self, uri: Uri) -> None:
        night(uri, TRACKS)
        assert planned(LabelsTable(uri), {"b": "1", "c": "1"}, limit=1, policy=Policy(gone="prune")).empty


class TestUnseen:
    """Tracks in folders that the listing could not read."""

    TRACKS: ClassVar = {"4": "1", "open/3": "1", "shut/1": "1", "shut/deep/2": "1", "shutter/5": "1"}

    @pytest.mark.parametrize("gone", ["mark", "prune"])
    def test_stay_as_they_are(self, gone: Gone, uri: Uri) -> None:
        night(uri, self.TRACKS)
        before = held(uri)
        plan = night(uri, {"4": "1"}, unreadable=["shut"], policy=Policy(gone=gone))
        assert plan.removed["track_id"].to_pylist() == ["open/3", "shutter/5"]
        assert (plan.counts.removed, plan.counts.unseen) == (2, 2)
        after = held(uri)
        assert {name: after[name] for name in ("shut/1", "shut/deep/2")} == {
            name: before[name] for name in ("shut/1", "shut/deep/2")
        }
        assert planned(LabelsTable(uri), {"4": "1"}, unreadable=["shut"]).empty

    def test_are_removed_once_their_folder_is_read_and_they_are_gone(self, uri: Uri) -> None:
        night(uri, self.TRACKS)
        assert night(uri, {"4": "1"}, unreadable=[""]).empty
        plan = night(uri, {"4": "1"})
        assert (plan.counts.removed, plan.counts.unseen) == (4, 0)

    def test_are_nothing_to_count_where_nothing_is_removed(self, uri: Uri) -> None:
        night(uri, self.TRACKS)
        kept = planned(LabelsTable(uri), {"4": "1"}, unreadable=["shut"], policy=Policy(gone="keep"))
        assert (kept.counts.removed, kept.counts.unseen) == (0, 0)

    def test_make_another_run(self, uri: Uri) -> None:
        """The rows of the catalog are the same, and what is removed is not."""
        night(uri, self.TRACKS)
        keys = {planned(LabelsTable(uri), {"4": "1"}, unreadable=places).key for places in ([], ["shut"], ["open"])}
        assert len(keys) == 3


def corrections(*rows: tuple[str, str, str, str | None]) -> Policy:
    names = OVERRIDES.names
    return Policy(overrides=pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows], OVERRIDES))


ANNA = corrections(("b", "Jazz", "anna", "hear the saxophone"))


class TestOverrides:
    """The model says Rock (0.75), then Jazz (0.25), of every track."""

    def said(self, uri: Uri, track: str) -> tuple[Any, ...]:
        row = held(uri)[track]
        return row["genre_top"], row["override_by"], row["override_reason"], row["status"], row["top_k"][0]["genre"]

    def test_wins_over_the_model_on_the_first_night(self, uri: Uri) -> None:
        night(uri, TRACKS, policy=ANNA)
        assert self.said(uri, "b") == ("Jazz", "anna", "hear the saxophone", "labeled", "Rock")
        assert self.said(uri, "a")[:2] == ("Rock", None)

    def test_of_a_track_that_is_up_to_date_is_a_commit_without_listening(self, uri: Uri) -> None:
        night(uri, TRACKS)
        before = held(uri)
        plan = night(uri, TRACKS, policy=ANNA)
        assert not plan.todo.num_rows
        assert plan.corrected["track_id"].to_pylist() == ["b"]
        assert self.said(uri, "b")[:2] == ("Jazz", "anna")
        assert held(uri)["a"] == before["a"]
        assert held(uri)["b"]["labeled_at"] == before["b"]["labeled_at"]
        assert planned(LabelsTable(uri), TRACKS, policy=ANNA).empty

    def test_survives_relabelling_with_and_without_the_file(self, uri: Uri) -> None:
        night(uri, TRACKS, policy=ANNA)
        night(uri, TRACKS, model="model-2", policy=ANNA)
        assert self.said(uri, "b")[:2] == ("Jazz", "anna")
        night(uri, TRACKS, model="model-3")
        assert held(uri)["b"]["model_id"] == "model-3"
        assert self.said(uri, "b") == ("Jazz", "anna", "hear the saxophone", "labeled", "Rock")

    def test_another_answer_and_a_withdrawn_one(self, uri: Uri) -> None:
        night(uri, TRACKS, policy=ANNA)
        ben = corrections(("a", "Jazz", "ben", None), ("b", "Rock", "ben", "no"))
        plan = night(uri, TRACKS, policy=ben)
        assert plan.corrected["track_id"].to_pylist() == ["a", "b"]
        assert self.said(uri, "b")[:3] == ("Rock", "ben", "no")
        night(uri, TRACKS, policy=corrections())
        assert self.said(uri, "a")[:3] == ("Rock", None, None)
        assert self.said(uri, "b")[:3] == ("Rock", None, None)

    def test_labels_a_track_that_cannot_be_heard_until_it_is_withdrawn(self, uri: Uri) -> None:
        night(uri, TRACKS, {"b": FAILED}, policy=ANNA)
        row = held(uri)["b"]
        assert (row["genre_top"], row["status"]) == ("Jazz", "labeled")
        assert (row["error_kind"], row["confidence"]) == (FAILED, None)
        assert reasons(planned(LabelsTable(uri), TRACKS, at=NOW + FIRST_WAIT)) == {"b": "retry"}
        night(uri, TRACKS, planned_at=NOW, policy=corrections())
        row = held(uri)["b"]
        assert (row["genre_top"], row["status"]) == (None, "quarantined")

    def test_of_unknown_tracks_wait_until_these_come(self, uri: Uri) -> None:
        night(uri, {"a": "1"}, policy=ANNA)
        assert planned(LabelsTable(uri), {"a": "1"}, policy=ANNA).counts.unknown_overrides == 1
        night(uri, TRACKS, policy=ANNA)
        assert self.said(uri, "b")[:2] == ("Jazz", "anna")

    def test_of_a_track_that_goes_at_the_same_time(self, uri: Uri) -> None:
        night(uri, TRACKS, policy=ANNA)
        night(uri, {"a": "1"}, policy=corrections(("c", "Jazz", "ben", None)))
        rows = held(uri)
        assert (rows["b"]["removed_at"], rows["b"]["override_by"], rows["b"]["genre_top"]) == (NOW, None, "Rock")
        assert (rows["c"]["removed_at"], rows["c"]["override_by"]) == (NOW, "ben")

    def test_other_corrections_are_another_run(self, uri: Uri) -> None:
        table = LabelsTable(uri)
        keys = {planned(table, TRACKS, policy=policy).key for policy in (Policy(), ANNA, corrections())}
        assert len(keys) == 3

    def test_the_history_counts_them(self, uri: Uri) -> None:
        night(uri, TRACKS, policy=ANNA)
        about = json.loads(LabelsTable(uri).delta.history(1)[0][RUN_FACTS])
        assert about["counts"]["overridden"] == 1
        assert about["counts"]["labeled"] == 3


class TestFileOfCorrections:
    GENRES = ("Jazz", "Rock")

    def test_csv_and_parquet_are_read_alike(self, tmp_path: Path) -> None:
        text = 'genre,track_id,reason,by,extra\nJazz,b/2.mp3,"sax, mostly",anna,1\nRock,0123,,ben,2\n'
        (tmp_path / "c.csv").write_text(text)
        table = read_overrides(Uri.of_path(tmp_path / "c.csv"), self.GENRES)
        assert table.to_pylist() == [
            {"track_id": "0123", "genre": "Rock", "by": "ben", "reason": None},
            {"track_id": "b/2.mp3", "genre": "Jazz", "by": "anna", "reason": "sax, mostly"},
        ]
        pq.write_table(table.select(["by", "track_id", "genre", "reason"]), tmp_path / "c.parquet")
        assert read_overrides(Uri.of_path(tmp_path / "c.parquet"), self.GENRES).equals(table)

    def test_as_people_head_the_columns(self, tmp_path: Path) -> None:
        (tmp_path / "c.csv").write_text("track,genre,who,why\n007,Jazz,anna,heard it\n")
        [row] = read_overrides(Uri.of_path(tmp_path / "c.csv"), self.GENRES).to_pylist()
        assert row == {"track_id": "007", "genre": "Jazz", "by": "anna", "reason": "heard it"}
        (tmp_path / "c.csv").write_text("track,track_id,genre,who\nA Song,007,Jazz,anna\n")
        [row] = read_overrides(Uri.of_path(tmp_path / "c.csv"), self.GENRES).to_pylist()
        assert row == {"track_id": "007", "genre": "Jazz", "by": "anna", "reason": None}

    @pytest.mark.parametrize(
        ("text", "line"),
        [
            ("track_id,genre\na,Rock\n", "no column by"),
            ("track_id,genre,by\na,Rokc,anna\n", "row 1 gives 'a' the genre 'Rokc'; the model knows Jazz, Rock"),
            ("track_id,genre,by\na,Rock,anna\na,Jazz,ben\n", "row 2 repeats the track 'a'"),
            ("track_id,genre,by\na,,anna\n", "row 1 has no genre"),
            ("track_id,genre,by\n,Rock,anna\n", "row 1 has no track_id"),
            ("track_id,genre,by\na,Rock\n", "cannot be read"),
            ("", "cannot be read"),
            ("track_id;genre;by\na;Rock;anna\n", "semicolons"),
        ],
    )
    def test_what_is_wrong_is_said_in_a_line(self, tmp_path: Path, text: str, line: str) -> None:
        (tmp_path / "c.csv").write_text(text)
        assert line in refusal(read_overrides, Uri.of_path(tmp_path / "c.csv"), self.GENRES)


class TestNotInTime:
    def part(self, table: LabelsTable, plan: Plan, tracks: int) -> Plan:
        table.run(plan).freeze()
        write_part(table.run(plan).staged_uri, heard(plan.todo.slice(0, tracks), plan))
        return plan.without(table.run(plan).missing())

    def test_what_is_finished_is_committed_and_the_rest_is_pending(self, uri: Uri) -> None:
        table = LabelsTable(uri)
        reached = self.part(table, planned(table, TRACKS), 2)
        assert (reached.counts.new, reached.counts.pending) == (2, 1)
        table.commit(reached, reached.key, NOW)
        assert sorted(held(uri)) == ["a", "b"]
        rest = planned(LabelsTable(uri), TRACKS)
        assert reasons(rest) == {"c": "new"}
        assert rest.counts.up_to_date == 2

    def test_nothing_finished_leaves_the_table(self, uri: Uri) -> None:
        table = LabelsTable(uri)
        reached = self.part(table, planned(table, TRACKS), 0)
        assert reached.empty
        assert reached.counts.pending == 3

    def test_more_than_the_plan_is_still_refused(self, uri: Uri) -> None:
        table = LabelsTable(uri)
        plan = planned(table, TRACKS)
        self.part(table, plan, 2)
        with pytest.raises(LabelsError, match=r"\b3\b.*\b2\b"):
            table.commit(plan, plan.key, NOW)


def test_the_present_is_the_clock_s_by_default(uri: Uri) -> None:
    night(uri, {"a": "1"}, {"a": FAILED}, at=datetime.now(NOW.tzinfo))
    assert planned(LabelsTable(uri), {"a": "1"}).counts.waiting == 1
