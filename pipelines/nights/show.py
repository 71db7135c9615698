"""`mgc show`: print rows of a labels table as readable tables."""

from __future__ import annotations

import duckdb
from rich.table import Table

from cluster.labels.table import LabelsTable
from cluster.storage.uri import Uri
from cluster.tables.duckdb import open_duckdb
from mgc.units import format_count
from pipelines.command.console import plain
from pipelines.command.console import show as print_tables
from pipelines.command.job import Summary, describe
from pipelines.nights.requests import ShowRequest


def show(request: ShowRequest) -> Summary:
    """Print tracks by genre, some tracks, and quarantined tracks with their reasons."""
    labels = request.labels
    table = LabelsTable(labels)
    connection = open_duckdb()
    connection.register("labels", table.dataset())
    present = "FROM labels WHERE removed_at IS NULL"
    counts = {"labeled": 0, "quarantined": 0}
    counts |= dict(connection.sql(f"SELECT status, count(*) {present} GROUP BY 1").fetchall())
    [(counts["stale"],)] = connection.sql(f"SELECT count(*) {present} AND stale_since IS NOT NULL").fetchall()
    counts["version"] = table.version
    if request.dry_run:
        describe({"would show": str(labels), **counts})
        return Summary("dry_run", {**counts})
    print_tables(_genres(connection, present, labels, table.version))
    if request.rows:
        print_tables(_rows(connection, present, request.limit, request.genre))
    if counts["stale"]:
        print_tables(_stale(connection, present, request.limit, counts["stale"]))
    if counts["quarantined"]:
        print_tables(_quarantine(connection, present, request.limit, counts["quarantined"]))
    return Summary("done", {**counts}, {"labels": str(labels)})


def _genres(connection: duckdb.DuckDBPyConnection, present: str, labels: Uri, version: int) -> Table:
    found = connection.sql(
        f"SELECT genre_top, count(*) AS n, avg(confidence) FILTER (WHERE override_by IS NULL) {present} "
        "AND status = 'labeled' GROUP BY 1 ORDER BY n DESC, 1"
    ).fetchall()
    total = sum(count for _, count, _ in found)
    table = Table(title=f"{labels}, version {version}: {format_count(total, 'track')} by genre", title_justify="left")
    table.add_column("genre")
    table.add_column("tracks", justify="right")
    table.add_column("share", justify="right")
    table.add_column("mean confidence", justify="right")
    table.add_column("")
    most = max((count for _, count, _ in found), default=1)
    for genre, count, confidence in found:
        bar = "█" * max(1, round(24 * count / most))
        mean = "" if confidence is None else f"{confidence:.2f}"
        table.add_row(plain(genre), str(count), f"{count / total:.1%}", mean, bar)
    return table


def _rows(connection: duckdb.DuckDBPyConnection, present: str, limit: int, genre: str | None) -> Table:
    wanted = " AND genre_top = $genre" if genre else ""
    found = connection.sql(
        f"SELECT track_id, genre_top, override_by, confidence, top_k, duration_seconds, damage {present} "
        f"AND status = 'labeled'{wanted} ORDER BY track_id LIMIT {limit}",
        params={"genre": genre} if genre else {},
    ).fetchall()
    table = Table(
        title=(f"the first {format_count(len(found), 'labelled track')}" if found else "no labelled track")
        + (f" of {genre}" if genre else ""),
        title_justify="left",
    )
    table.add_column("track", overflow="fold")
    table.add_column("genre")
    table.add_column("confidence", justify="right")
    table.add_column("the model's other answers")
    table.add_column("seconds", justify="right")
    table.add_column("damage")
    for track, top, curator, confidence, top_k, seconds, damage in found:
        # The confidence is that of the model's own answer, which is not the curator's.
        answers = (top_k or [])[0 if curator else 1 :]
        others = ", ".join(f"{item['genre']} {item['probability']:.2f}" for item in answers)
        genre, sure = (f"{top} ({curator})", None) if curator else (top, confidence)
        numbers = ["" if value is None else f"{value:{form}}" for value, form in ((sure, ".2f"), (seconds, ".1f"))]
        table.add_row(plain(track), plain(genre), numbers[0], plain(others), numbers[1], plain(damage or ""))
    return table


def _stale(connection: duckdb.DuckDBPyConnection, present: str, limit: int, total: int) -> Table:
    found = connection.sql(
        f"SELECT track_id, genre_top, strftime(stale_since, '%Y-%m-%d %H:%M:%S'), last_error_kind, last_error_message "
        f"{present} AND stale_since IS NOT NULL ORDER BY track_id LIMIT {limit}"
    ).fetchall()
    table = Table(title=f"{len(found)} of {format_count(total, 'stale label')}", title_justify="left")
    for name in ("track", "genre", "stale since", "reason", "message"):
        table.add_column(name, overflow="fold")
    for row in found:
        table.add_row(*map(plain, row))
    return table


def _quarantine(connection: duckdb.DuckDBPyConnection, present: str, limit: int, total: int) -> Table:
    found = connection.sql(
        f"SELECT track_id, error_kind, error_message {present} AND status = 'quarantined' ORDER BY track_id "
        f"LIMIT {limit}"
    ).fetchall()
    table = Table(title=f"{len(found)} of {format_count(total, 'quarantined track')}", title_justify="left")
    table.add_column("track", overflow="fold")
    table.add_column("reason")
    table.add_column("message", overflow="fold")
    for track, kind, message in found:
        table.add_row(plain(track), plain(kind), plain(message))
    return table
