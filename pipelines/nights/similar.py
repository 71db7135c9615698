"""`mgc similar`: what sounds like a track, and which recordings are there twice."""

from __future__ import annotations

from dataclasses import asdict

from pydantic import JsonValue
from rich.table import Table

from cluster.embeddings.duplicates import Duplicates, find_duplicates
from cluster.embeddings.search import Neighbour, find_similar
from cluster.embeddings.table import EmbeddingsTable
from mgc.units import format_count
from pipelines.command.console import plain, show
from pipelines.command.job import Summary, say
from pipelines.nights.requests import SimilarRequest


def similar(request: SimilarRequest) -> Summary:
    """Print the neighbours of a track, or the groups of duplicates."""
    table = EmbeddingsTable(request.embeddings)
    outputs = {"embeddings": str(request.embeddings)}
    answer: JsonValue
    if request.track is not None:
        neighbours = find_similar(table, request.track, request.top)
        answer = [asdict(neighbour) for neighbour in neighbours]
        counts: dict[str, JsonValue] = {"found": len(neighbours)}
        if not request.as_json:
            show(_neighbours_table(neighbours))
    else:
        found = find_duplicates(table, request.threshold, request.seconds)
        answer = [[asdict(copy) for copy in group] for group in found.groups]
        counts = {
            "compared": found.compared,
            "left_out": found.left_out,
            "groups": len(found.groups),
            "tracks": sum(map(len, found.groups)),
        }
        if found.left_out:
            say(
                f"left out, with an embedding of another model: {format_count(found.left_out, 'track')}; `mgc embed` "
                "brings the table up to date."
            )
        if not request.as_json:
            show(_groups_table(found, request.top))
            if len(found.groups) > request.top:
                say(
                    f"{format_count(len(found.groups) - request.top, 'more group')}; --json prints all, --top N more "
                    "of them."
                )
    return Summary("done", counts, outputs, answer=answer if request.as_json else None)


def _neighbours_table(neighbours: list[Neighbour]) -> Table:
    table = Table()
    for name in ("track", "file", "seconds", "similarity"):
        table.add_column(name, justify="right" if name in ("seconds", "similarity") else "left", overflow="fold")
    for each in neighbours:
        table.add_row(plain(each.track_id), plain(each.uri), _seconds(each.duration_seconds), f"{each.similarity:.4f}")
    return table


def _groups_table(found: Duplicates, top: int) -> Table:
    table = Table()
    for name in ("group", "track", "file", "seconds", "similarity", "by"):
        right = name in ("group", "seconds", "similarity")
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for number, group in enumerate(found.groups[:top], 1):
        for each in group:
            table.add_row(
                str(number),
                plain(each.track_id),
                plain(each.uri),
                _seconds(each.duration_seconds),
                f"{each.similarity:.4f}",
                each.by,
            )
    return table


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
