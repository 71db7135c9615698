"""Versions of a labels table, written by hand, and `mgc labels` run on them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, write_deltalake

from cluster.labels.table import LabelsTable
from cluster.storage.uri import Uri
from mgc import schema
from tests.support.nights import NOW

Run = Callable[..., tuple[int, dict[str, Any], str, str]]
"""`mgc labels …` → exit code, summary, the rest of stdout, stderr."""


AT_ONCE = timedelta()
"""For a vacuum that spares no young files."""


def row(track: str, genre: str | None = "Rock", confidence: float | None = 0.75, **others: Any) -> dict[str, Any]:
    """A row of the table."""
    plain = {
        "track_id": track, "uri": f"s3://music/{track}.mp3", "content_tag": "1", "tries": 1, "model_id": "model-1",
        "status": "labeled" if genre else "quarantined", "genre_top": genre,
        "confidence": confidence if genre else None,
        "top_k": [{"genre": genre, "probability": confidence}] if genre else None, "features_id": "features-1",
        "error_kind": None if genre else "timeout", "error_message": None if genre else "took too long",
        "run_id": "run-1", "labeled_at": NOW,
    }  # fmt: skip
    return plain | others


def write(uri: Uri, *rows: dict[str, Any], **facts: str) -> int:
    """A version that holds these rows, written by whatever program."""
    table = pa.Table.from_pylist([{**dict.fromkeys(schema.LABELS.names), **each} for each in rows], schema.LABELS)
    write_deltalake(
        uri.text,
        table,
        mode="overwrite",
        commit_properties=CommitProperties(custom_metadata=facts),
        storage_options=uri.storage_options,
    )
    return LabelsTable(uri).version


def contents(uri: Uri, version: int | None = None) -> list[dict[str, Any]]:
    return LabelsTable(uri, version).dataset().to_table().sort_by("track_id").to_pylist()


def nights(uri: Uri, count: int = 4) -> list[list[dict[str, Any]]]:
    """So many versions, each of other rows; what they held."""
    for number in range(count):
        model = f"model-{number}"
        rows = [row("a", content_tag=str(number), model_id=model), row("b", model_id=model)]
        write(uri, *rows, **{"mgc.run_id": f"run-{number}"})
    return [contents(uri, version) for version in range(count)]


def backdate(uri: Uri, version: int, days: float, store_too: bool = True) -> None:
    """Make a commit of a table on this disk older, with what it says of its files.

    Without `store_too`, only its writer's clock was behind; the disk's own times stay.
    """
    log = uri.local / "_delta_log" / f"{version:020}.json"
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    for action in actions:
        [facts] = action.values()
        for name in ("timestamp", "modificationTime", "deletionTimestamp"):
            if name in facts:
                facts[name] -= round(timedelta(days=days).total_seconds() * 1000)
    written = log.stat().st_mtime - (timedelta(days=days).total_seconds() if store_too else 0)
    log.write_text("\n".join(map(json.dumps, actions)))
    os.utime(log, (written, written))
