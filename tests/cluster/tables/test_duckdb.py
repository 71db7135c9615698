"""Connections share a database, and nothing else."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from cluster.labels.outlook import present_foreseen
from cluster.labels.policy import Policy
from cluster.labels.table import LabelsTable
from cluster.storage.uri import Uri
from cluster.tables import duckdb as ours
from cluster.tables.duckdb import AS_WRITTEN, open_duckdb
from tests.support.nights import NOW, night, planned, stage


@pytest.fixture
def databases(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[duckdb.DuckDBPyConnection]]:
    """All that are made from here on, as in a process that has none yet."""
    made: list[duckdb.DuckDBPyConnection] = []
    connect = duckdb.connect

    def noted() -> duckdb.DuckDBPyConnection:
        made.append(connect())
        return made[-1]

    ours._database.cache_clear()
    monkeypatch.setattr(duckdb, "connect", noted)
    yield made
    ours._database.cache_clear()


def setting(connection: duckdb.DuckDBPyConnection, name: str) -> str:
    [(value,)] = connection.execute("SELECT value FROM duckdb_settings() WHERE name = ?", [name]).fetchall()
    return str(value)


def test_settings_are_those_that_were_asked_for(databases: list[duckdb.DuckDBPyConnection]) -> None:
    with open_duckdb() as plain, open_duckdb(AS_WRITTEN) as written, open_duckdb(ordered=False) as unordered:
        assert len(databases) == 3
        for connection in (plain, written, unordered):
            assert setting(connection, "enable_progress_bar") == "false"
            assert (AS_WRITTEN in setting(connection, "disabled_optimizers")) == (connection is written)
            assert setting(connection, "preserve_insertion_order") == ("false" if connection is unordered else "true")
    open_duckdb().close()
    assert len(databases) == 3


def test_a_name_is_that_of_one_connection() -> None:
    with open_duckdb() as one, open_duckdb() as other:
        for connection, number in ((one, 1), (other, 2)):
            connection.register("rows", pa.table({"number": [number]}))
            connection.execute("CREATE TEMP TABLE kept AS FROM rows")
        for connection, number in ((one, 1), (other, 2)):
            assert connection.sql("FROM rows UNION ALL FROM kept").fetchall() == [(number,)] * 2


def test_nights_leave_nothing_in_a_database(databases: list[duckdb.DuckDBPyConnection], tmp_path: Path) -> None:
    uri = Uri.of_path(tmp_path / "labels")
    night(uri, {"a": "1", "b": "1"}, {"b": "fetch_failed"})
    night(uri, {"a": "2"}, {"a": "fetch_failed"}, policy=Policy("prune"), planned_at=NOW + timedelta(days=9))
    table = LabelsTable(uri)
    plan = planned(table, {"c": "1"})
    stage(table, plan)
    with table.joined(plan) as connection:
        present_foreseen(connection, plan, NOW)
        foreseen = connection.sql("SELECT track_id, removed_at IS NULL FROM labels ORDER BY 1").fetchall()
        assert foreseen == [("a", False), ("c", True)]
    assert len(databases) == 2
    for database in databases:
        for kind in ("tables", "views"):
            assert database.sql(f"SELECT * FROM duckdb_{kind}() WHERE NOT internal").fetchall() == []


def test_a_database_that_has_broken_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """DuckDB refuses everything in a database in which it has found a fault of its own."""

    class Broken:
        def cursor(self) -> Broken:
            return self

        def execute(self, _: str) -> None:
            raise duckdb.FatalException("the database has been invalidated")

    whole = ours._database.__wrapped__
    made = [Broken(), whole((), True)]
    monkeypatch.setattr(ours, "_database", functools.cache(lambda without, ordered: made.pop(0)))
    with open_duckdb() as connection:
        assert connection.sql("SELECT 1").fetchall() == [(1,)]
    assert not made
