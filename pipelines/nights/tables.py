"""Tables that `mgc labels` prints: history, differences, the lineage of a track."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cluster.labels.diff import KINDS, Difference, Row, TrackRow
from cluster.labels.history import ROLLBACK, RUN, VACUUM, Commit, given_up
from cluster.storage.uri import Uri
from mgc.units import format_bytes, format_count
from pipelines.command.console import plain

_DONE: Final = (
    *("new", "changed", "other_model", "retry", "held", "removed", "corrected", "labeled", "kept", "quarantined"),
    "pending",
)
"""Counts of a run to print, in this order. Tracks that the run did not touch are not printed."""

_WORDS: Final = {"other_model": "by another model"}
"""Counts that are not called by their own name."""

_TITLES: Final = {
    "flipped": "another genre",
    "newly_labeled": "newly labelled",
    "newly_quarantined": "newly quarantined",
    "newly_stale": "stale now",
    "corrected": "corrected by a curator",
    "added": "added",
    "back": "back again",
    "gone": "gone from the catalog",
}


def history_table(log: Sequence[Commit], labels: Uri, limit: int) -> Group:
    """Return a table of the newest commits. Shows the two commits of a vacuum as one line."""
    table = _table("version", "when (UTC)", "what", "tracks", "model", right=(0,))
    kept = given_up(log)
    shown = 0
    place = 0
    while place < len(log) and shown < limit:
        commit = log[place]
        version, merged = str(commit.version), commit
        below = log[place + 1] if place + 1 < len(log) else None
        # The later entry only records the end of the vacuum; the earlier one records how much it deleted.
        if commit.what == VACUUM and not commit.counts.get("bytes") and below is not None and below.what == VACUUM:
            version, merged = f"{below.version}-{commit.version}", below
            place += 1
        what = _what(merged) + (" (vacuumed)" if commit.changes_rows and commit.version < kept else "")
        model = f"{merged.model_id} {merged.taxonomy.rpartition('/')[2]}".strip()
        table.add_row(version, _time(commit.at), plain(what), plain(_tracks(merged)), plain(model))
        shown += 1
        place += 1
    return Group(
        _title(
            f"{labels}: versions, newest first"
            if shown < limit
            else f"{labels}: the newest {format_count(limit, 'version')}"
        ),
        table,
    )


def difference_tables(found: Difference, versions: tuple[int, int], labels: Uri, limit: int) -> Group:
    """Return tables of counts, flips by genre, and examples of each kind.

    Args:
        found: differences to show.
        versions: the versions before and after.
        labels: folder of the labels table.
        limit: requested number of examples.
    """
    before, after = versions
    counts = _table("", "tracks", right=(1,))
    for name in KINDS:
        counts.add_row(_TITLES[name], str(found.counts[name]))
    counts.add_row("same answer", str(found.counts["same"]))
    parts: list[RenderableType] = [_title(f"{labels}: version {before} against version {after}"), counts]
    if found.flips:
        columns = ("from", "to", "tracks", "mean confidence before", "after")
        flips = _table(*columns, right=(2, 3, 4))
        for old, new, tracks, was, is_now in found.flips:
            flips.add_row(plain(old), plain(new), str(tracks), _number(was), _number(is_now))
        parts += [_title("flips by genre, most tracks first"), flips]
    for name, rows in found.examples.items():
        total = found.counts[name]
        title = f"{_TITLES[name]}: {min(limit, total)} of {total}, most confident first"
        columns = ("track", "before", "confidence", "after", "confidence")
        table = _table(*columns, right=(2, 4))
        for row in rows:
            answer = _answer(row, "after")
            if name == "corrected":
                answer += f" ({row['override_by']}: {row['override_reason'] or 'no reason given'})"
            table.add_row(
                plain(row["track_id"]),
                plain(_answer(row, "before")),
                _number(row["confidence_before"]),
                plain(answer),
                _number(row["confidence_after"]),
            )
        parts += [_title(title), table]
    return Group(*parts)


def track_tables(track_id: str, rows: Sequence[TrackRow], labels: Uri) -> Group:
    """Return a table of the track's row, field by field, and one of what earlier versions say."""
    newest = rows[0]
    table = _table("", "")
    for name, value in _facts(newest):
        table.add_row(name, plain(value))
    parts: list[RenderableType] = [_title(f"{labels}: {track_id}"), table]
    if len(rows) > 1:
        earlier = _table("since version", "when (UTC)", "answer", "why", "model", "run")
        for each in rows[1:]:
            row = each.row or {}
            earlier.add_row(
                _since(each),
                _time(each.commit.at),
                plain(_state(each.row)),
                plain(_what(each.commit)),
                plain(row.get("model_id", "")),
                plain(row.get("run_id", "")),
            )
        parts += [_title("what earlier versions say"), earlier]
    return Group(*parts)


def corrections_table(rows: Sequence[Row], total: int, labels: Uri) -> Group:
    """Return a table of corrections."""
    table = _table("track", "genre", "by", "why", "the model's answer", "in the catalog")
    for row in rows:
        table.add_row(
            plain(row["track_id"]),
            plain(row["genre_top"]),
            plain(row["override_by"]),
            plain(row["override_reason"] or ""),
            plain(row["model_genre"] or ""),
            f"left {_time(row['removed_at'])}" if row["removed_at"] else "yes",
        )
    return Group(_title(f"{labels}: {len(rows):,} of {format_count(total, 'correction')}"), table)


def _facts(newest: TrackRow) -> list[tuple[str, str]]:
    row, commit = newest.row, newest.commit
    written = f"version {_since(newest)}, {_time(commit.at)}, {_what(commit)}"
    if row is None:
        return [("status", "no longer in the table"), ("since", written)]
    top_k = ", ".join(f"{each['genre']} {each['probability']:.3f}" for each in row["top_k"] or [])
    error = f"{row['error_kind']}: {row['error_message']}" if row["error_kind"] else ""
    if error and row["error_offset"] is not None:
        error += f" (byte {row['error_offset']})"
    override = f"by {row['override_by']}: {row['override_reason'] or 'no reason given'}" if row["override_by"] else ""
    facts = [
        ("status", _state(row)),
        ("genre", row["genre_top"]),
        ("the model's confidence" if row["override_by"] else "confidence", _number(row["confidence"])),
        ("the model's answer", top_k),
        ("corrected", override),
        ("error", error),
        ("stale since", _time(row["stale_since"]) if row["stale_since"] else ""),
        ("last try", _last_try(row)),
        ("damage", row["damage"]),
        ("tries", str(row["tries"])),
        ("next try", _time(row["next_try_at"]) if row["next_try_at"] else ""),
        ("file", row["uri"]),
        ("content tag", row["content_tag"]),
        ("seconds", _number(row["duration_seconds"], 1)),
        ("seconds heard", _number(row["seconds_listened"], 1)),
        ("bandwidth", "" if row["bandwidth_hz"] is None else f"{row['bandwidth_hz']:,.0f} Hz"),
        ("decoder", row["decoder"]),
        ("model", row["model_id"]),
        ("features", row["features_id"]),
        ("run", row["run_id"]),
        ("labelled at", _time(row["labeled_at"])),
        ("written by", written),
    ]
    return [(name, value) for name, value in facts if value]


def _last_try(row: Row) -> str:
    """Return what the failed try of a stale label heard, and why it failed."""
    if row["stale_since"] is None:
        return ""
    return (
        f"{row['last_error_kind']}: {row['last_error_message']} (content tag {row['tried_content_tag']}, model "
        f"{row['tried_model_id']})"
    )


def _since(each: TrackRow) -> str:
    return f"{each.commit.version}{'' if each.exact else ' or before'}"


def _state(row: Row | None) -> str:
    if row is None:
        return "not in the table"
    gone = f", gone from the catalog since {_time(row['removed_at'])}" if row["removed_at"] else ""
    if row["status"] == "labeled":
        by = f", by {row['override_by']}" if row["override_by"] else ""
        # The confidence belongs to the model's answer, not the curator's.
        confidence = "" if by or row["confidence"] is None else f" {row['confidence']:.2f}"
        stale = f", stale since {_time(row['stale_since'])}" if row["stale_since"] else ""
        return f"labeled {row['genre_top']}{confidence}{by}{stale}{gone}"
    return f"{row['status']} ({row['error_kind']}){gone}"


def _answer(row: Row, when: str) -> str:
    if row[f"status_{when}"] is None:
        return ""
    labeled = row[f"status_{when}"] == "labeled"
    return str(row[f"genre_{when}"] if labeled else f"quarantined: {row[f'error_kind_{when}']}")


def _what(commit: Commit) -> str:
    if commit.what == ROLLBACK:
        return f"{ROLLBACK} to version {commit.target}" if commit.target is not None else ROLLBACK
    if commit.what == RUN:
        partial = ", stopped at the time" if commit.status == "partial" else ""
        return f"{RUN} {commit.run_id}{partial}"
    return commit.what


def _tracks(commit: Commit) -> str:
    if commit.what == ROLLBACK:
        return f"{commit.counts['held']} held" if commit.counts.get("held") else ""
    if commit.what == VACUUM:
        files, size = commit.counts.get("files"), commit.counts.get("bytes")
        return (
            f"{format_count(files, 'file')}, {format_bytes(size)} deleted"
            if files is not None and size is not None
            else ""
        )
    names = [name for name in _DONE if commit.counts.get(name)] or [
        name for name, count in commit.counts.items() if count and name.startswith("rows ")
    ]
    return ", ".join(_counted(name, commit.counts[name]) for name in names)


def _counted(name: str, count: int) -> str:
    # The log counts rows by names such as `rows added`.
    if name.startswith("rows "):
        return f"{format_count(count, 'row')}{name.removeprefix('rows')}"
    return f"{count} {_WORDS.get(name, name)}"


def _title(text: str) -> RenderableType:
    """Return a title on its own line, because rich wraps a table's title to the width of the table."""
    return Text.from_markup(plain(text), style="italic")


def _table(*columns: str, right: Sequence[int] = ()) -> Table:
    table = Table(show_header=any(columns))
    for place, name in enumerate(columns):
        table.add_column(name, justify="right" if place in right else "left", overflow="fold")
    return table


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}"


def _number(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{value:.{digits}f}"
