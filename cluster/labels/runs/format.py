"""The format of a table of runs: what tells the labels table from another table that is kept in the same way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from cluster.storage.uri import Uri
from mgc import schema
from mgc.errors import LabelsError

FORMAT_KEY: Final = "mgc_format_version"


@dataclass(frozen=True, eq=False)
class Format:
    """A kind of table with one row for each track.

    It has all columns that the plan compares: what was heard with which model, and how the last try failed.

    Attributes:
        name: name of the table, in messages.
        command: command that makes one, in messages.
        columns: its columns.
        answered: condition in SQL for a staged row that holds an answer.
        complete: condition for a staged row that holds either an answer or an error.
        at: column with the time of the answer.
        added: columns that tables of an older mgc lack.
        rows_at_once: rows of a commit in memory at a time.
        row_group_rows: rows of a row group of its files, which readers have in memory at a time; None for the default.
    """

    name: str
    command: str
    columns: pa.Schema
    answered: str
    complete: pc.Expression
    at: str
    added: tuple[pa.Field, ...] = ()
    rows_at_once: int = 50_000
    row_group_rows: int | None = None

    @property
    def committed(self) -> pa.Schema:
        """The columns as the table stores them. The format version is in the metadata of the first one.

        deltalake refuses table properties that it does not know and drops the metadata of the schema, but appends and
        merges keep a column's.
        """
        version = {FORMAT_KEY: str(schema.FORMAT_VERSION)}
        return self.columns.set(0, self.columns.field(0).with_metadata(version))

    @property
    def corrected(self) -> bool:
        """Whether curators correct its rows."""
        return "override_by" in self.columns.names

    def check(self, uri: Uri, table: DeltaTable) -> None:
        """Raise LabelsError unless a table has this format, in a version that this mgc can read."""
        fields = {field.name: field for field in table.schema().fields}
        added = {field.name for field in self.added}
        missing = [name for name in self.columns.names if name not in fields and name not in added]
        first = fields.get(self.columns.names[0])
        version = int(first.metadata.get(FORMAT_KEY, 1)) if first else 1
        if version > schema.FORMAT_VERSION:
            raise LabelsError(
                f"{uri}: format version {version}, this mgc reads up to {schema.FORMAT_VERSION}; upgrade mgc."
            )
        if missing:
            raise LabelsError(
                f"{uri} is a Delta table, but not mgc's {self.name} table: it lacks {', '.join(missing[:5])}. "
                "Choose another folder."
            )


_FAILED: Final = pc.field("error_kind").is_valid()

LABELS: Final = Format(
    name="labels",
    command="mgc label CATALOG --labels",
    columns=schema.LABELS,
    answered=f"status = '{schema.LABELED}'",
    complete=((pc.field("status") == schema.LABELED) & pc.field("genre_top").is_valid())
    | ((pc.field("status") == schema.QUARANTINED) & _FAILED),
    at="labeled_at",
    added=schema.LABELS_ADDED,
)
"""The labels table."""

EMBEDDINGS: Final = Format(
    name="embeddings",
    command="mgc embed CATALOG --out",
    columns=schema.EMBEDDINGS,
    answered="error_kind IS NULL",
    # `windows` stands for the embedding, which takes long to read.
    complete=(pc.field("windows").is_valid() & ~_FAILED) | (pc.field("windows").is_null() & _FAILED),
    at="embedded_at",
    rows_at_once=4_096,
    row_group_rows=4_096,
)
"""The table of embeddings. One of the shipped bundle takes 9 KB."""
