"""The table of embeddings: a table of runs, planned and committed as labels are, without corrections and holds."""

from __future__ import annotations

from typing import ClassVar

from cluster.labels.runs.format import EMBEDDINGS, Format
from cluster.labels.runs.table import RunTable


class EmbeddingsTable(RunTable):
    """The table of embeddings under a URI. See `RunTable`."""

    form: ClassVar[Format] = EMBEDDINGS
