"""Damaged files in the folder of a run: they are set aside, and their tracks come back as missing."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.labels.beside.run_folder import DamagedRowsError, RunFolder
from cluster.labels.plan import Plan
from cluster.labels.table import LabelsTable
from cluster.storage import files
from cluster.storage.uri import Uri
from cluster.tables.parquet import write_part
from mgc.errors import LabelsError
from tests.support.damage import flip_bit
from tests.support.draws import draws
from tests.support.nights import NOW, heard, held, planned, refusal, stage

TRACKS = {f"{number:03}": str(number) for number in range(60)}


@pytest.fixture
def table(uri: Uri) -> LabelsTable:
    return LabelsTable(uri)


@pytest.fixture
def plan(table: LabelsTable) -> Plan:
    return planned(table, TRACKS)


def ids(rows: pa.Table) -> list[str]:
    found: list[str] = rows["track_id"].to_pylist()
    return found


def staged_files(run: RunFolder) -> dict[Uri, list[str]]:
    """Tracks by staged file."""
    return {uri: ids(files.read_table(uri)) for uri in files.list_uris(run.staged_uri)}


class TestStagedRows:
    @pytest.mark.draws
    def test_a_flipped_bit_costs_the_tracks_of_its_file_and_no_others(self, table: LabelsTable, plan: Plan) -> None:
        stage(table, plan, {"003": "timeout"}, files=3)
        tracks = staged_files(table.run(plan))
        for seed in range(draws(120)):
            victim = [*tracks][seed % len(tracks)]
            good = files.read_bytes(victim)
            files.write_bytes(victim, flip_bit(good, seed))
            run = table.run(plan)
            assert ids(run.missing()) == tracks[victim], seed
            assert files.read_bytes(run.set_aside_uri / "staged" / victim.name) == flip_bit(good, seed)
            assert not files.exists(victim)
            files.write_bytes(victim, good)
        assert not table.run(plan).missing().num_rows
        table.commit(plan, plan.key, NOW)
        assert {track: row["content_tag"] for track, row in held(table.uri).items()} == TRACKS

    def test_all_of_them_at_once(
        self, table: LabelsTable, plan: Plan, capsys: pytest.CaptureFixture[str], anywhere: Uri
    ) -> None:
        table = LabelsTable(anywhere)
        run = table.run(plan)
        stage(table, plan, files=6)
        victims = files.list_uris(run.staged_uri)
        for seed, victim in enumerate(victims):
            files.write_bytes(victim, flip_bit(files.read_bytes(victim), seed))
        assert run.missing().equals(plan.todo)
        [line] = capsys.readouterr().err.splitlines()
        assert str(victims[0]) in line
        assert "5 more" in line
        assert f"{len(TRACKS)} tracks" in line
        assert [uri.name for uri in files.list_uris(run.set_aside_uri)] == [uri.name for uri in victims]
        stage(table, plan)
        assert table.commit(plan, plan.key, NOW).counts.labeled == len(TRACKS)
        assert not files.exists(run.uri)

    @pytest.mark.parametrize("damage", ["truncated", "empty", "text", "other columns", "another program's"])
    def test_other_damage(self, damage: str, table: LabelsTable, plan: Plan) -> None:
        run = table.run(plan)
        stage(table, plan, files=3)
        tracks = staged_files(run)
        victim = [*tracks][1]
        good = files.read_bytes(victim)
        if damage == "other columns":
            files.write_table(victim, files.read_table(victim).drop_columns(["damage"]))
        elif damage == "another program's":
            pq.write_table(heard(plan.todo, plan), victim.local)
        else:
            files.write_bytes(victim, {"truncated": good[: len(good) // 2], "empty": b"", "text": b"rows"}[damage])
        assert ids(run.missing()) == tracks[victim]

    def test_a_genre_outside_the_taxonomy(
        self, table: LabelsTable, plan: Plan, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for genres, good in ((("Jazz", "Rock"), True), (("Jazz", "Pop"), False), (("Pop", "Rock"), False)):
            known = replace(plan, genres=genres)
            run = table.run(known)
            stage(table, plan, {"003": "timeout"}, files=1)
            assert run.missing().num_rows == (0 if good else len(TRACKS)), genres
        lines = capsys.readouterr().err.splitlines()
        assert "'Rock'" in lines[0]
        assert "'Jazz'" in lines[1]

    def test_a_commit_takes_no_genre_outside_the_taxonomy(self, table: LabelsTable, plan: Plan) -> None:
        stage(table, plan)
        assert "60 tracks" in refusal(table.commit, replace(plan, genres=("Jazz",)), plan.key, NOW)
        assert not LabelsTable(table.uri).exists

    def test_a_file_that_was_sound_is_not_read_again(
        self, table: LabelsTable, plan: Plan, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = table.run(plan)
        write_part(run.staged_uri, heard(plan.todo.slice(0, 20), plan))
        run.missing()
        write_part(run.staged_uri, heard(plan.todo.slice(20), plan))
        read: list[str] = []
        real = files.read_table
        monkeypatch.setattr(files, "read_table", lambda uri: (read.append(uri.name), real(uri))[1])
        assert not run.missing().num_rows
        assert len(read) == 1

    def test_damage_that_comes_after_the_check(self, table: LabelsTable, plan: Plan) -> None:
        """The commit meets it while it writes, in a page of a column that only it reads."""
        run = table.run(plan)
        stage(table, plan, files=3)
        assert not run.missing().num_rows
        tracks = staged_files(run)
        victim = [*tracks][2]
        damage_a_page(victim, "decoder")
        line = refusal(table.commit, plan, plan.key, NOW, error=DamagedRowsError)
        assert f"{victim}: " in line
        assert not LabelsTable(table.uri).exists
        assert ids(table.run(plan).missing()) == tracks[victim]
        stage(table, plan)
        table.commit(plan, plan.key, NOW)
        assert sorted(held(table.uri)) == sorted(TRACKS)

    def test_damage_between_the_check_and_the_count(
        self, table: LabelsTable, plan: Plan, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = table.run(plan)
        stage(table, plan, files=3)
        tracks = staged_files(run)
        victims = iter(tracks)
        real = RunFolder.staged

        def too_late(self: RunFolder) -> object:
            found = real(self)
            for victim in victims:
                damage_a_page(victim, "content_tag")
                break
            return found

        monkeypatch.setattr(RunFolder, "staged", too_late)
        assert run.missing().equals(plan.todo)
        assert len(files.list_uris(run.set_aside_uri)) == 3

    def test_damage_elsewhere_is_not_blamed_on_staged_rows(self, table: LabelsTable, plan: Plan) -> None:
        """A file of the table itself that a merge reads."""
        stage(table, plan)
        table.commit(plan, plan.key, NOW)
        victim = next(uri for uri in files.list_uris(table.uri) if uri.name.startswith("part-"))
        table = LabelsTable(table.uri)
        again = planned(table, TRACKS | {"003": "changed"})
        stage(table, again)
        files.write_bytes(victim, files.read_bytes(victim)[:500])
        line = refusal(table.commit, again, again.key, NOW, error=LabelsError)
        assert "staged" not in line
        assert LabelsTable(table.uri).version == 0
        assert not files.list_uris(table.run(again).set_aside_uri)


class TestPlans:
    @pytest.mark.draws
    def test_a_flipped_bit_in_a_frozen_plan(self, table: LabelsTable, plan: Plan) -> None:
        frozen = table.run(plan).freeze()
        good = files.read_bytes(frozen)
        for seed in range(draws(120)):
            files.write_bytes(frozen, flip_bit(good, seed))
            # A dry run looks at it too, and moves nothing.
            assert planned(LabelsTable(table.uri), TRACKS).todo.equals(plan.todo)
            assert files.read_bytes(frozen) == flip_bit(good, seed)
            run = table.run(plan)
            assert run.frozen() is None
            run.freeze()
            assert files.read_bytes(run.set_aside_uri / "plan.parquet") == flip_bit(good, seed)
            assert files.read_table(frozen).equals(plan.todo)

    def test_a_line_says_so(self, table: LabelsTable, plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
        files.write_bytes(table.run(plan).freeze(), b"no plan")
        table.run(plan).freeze()
        [line] = capsys.readouterr().err.splitlines()
        assert "plan.parquet: " in line

    @pytest.mark.draws
    def test_a_flipped_bit_in_the_rest_of_a_plan(self, table: LabelsTable, plan: Plan) -> None:
        run = table.run(plan)
        for seed in range(draws(100)):
            rest = run.portion(plan.todo)
            assert not run.set_aside_portion(rest)
            [portion] = files.list_uris(rest)
            damaged = flip_bit(files.read_bytes(portion), seed)
            files.write_bytes(portion, damaged)
            assert run.set_aside_portion(rest)
            assert files.read_bytes(run.set_aside_uri / rest.name / portion.name) == damaged
            assert files.list_uris(rest) == []


def damage_a_page(uri: Uri, column: str) -> None:
    """Flip a bit at the end of a column's last page."""
    group = pq.read_metadata(uri.local).row_group(0)
    chunk = next(c for c in map(group.column, range(group.num_columns)) if c.path_in_schema == column)
    data = bytearray(uri.local.read_bytes())
    data[(chunk.dictionary_page_offset or chunk.data_page_offset) + chunk.total_compressed_size - 3] ^= 4
    uri.local.write_bytes(data)
