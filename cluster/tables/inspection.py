"""Inspect a Parquet table before this process reads it. `cluster.tables.inspector` says how and why."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Collection
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.storage.uri import Uri
from cluster.tables.inspector import Findings, Question
from cluster.tables.parquet import reading
from mgc.errors import MgcError

# pyarrow imports NumPy where it finds it, which takes almost half of the time until this process reads.
_START: Final = "import sys; sys.modules['numpy'] = None; from cluster.tables.inspector import main; main()"

_SETTINGS: Final = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "2"}
"""Settings without which libraries reserve far more memory than they use, which the limit would count."""


def inspect_table(uri: Uri, question: Question, remedy: str, error: type[MgcError]) -> Findings:
    """Read every row of a table in a process of its own, and return what was found.

    Args:
        uri: the table.
        question: what to find out.
        remedy: advice about a fault, for the message.
        error: class of the error.

    Raises:
        MgcError: see the argument `error`. A row holds too much text or text that is not UTF-8, the rows take far more
            memory than the files, or the files are damaged.
        StorageError: the files cannot be read.
    """
    found = _ask(uri, question)
    with reading(uri, remedy, error):
        if found.unreadable is not None:
            raise OSError(found.unreadable) if found.system else pa.ArrowInvalid(found.unreadable)
    if found.fault is not None:
        raise error(f"{found.fault}. {remedy}".strip())
    return found


def read_chosen(
    uri: Uri, choose: Callable[[list[str]], Collection[str]], remedy: str, error: type[MgcError]
) -> pa.Table:
    """Read some columns of a Parquet file that anyone may have written, after an inspection.

    Args:
        uri: the file.
        choose: function that gets the names of all columns and returns those to read. It may raise to refuse the file.
        remedy: advice about a fault, for the message.
        error: class of the error.

    Raises:
        MgcError: see `inspect_table`, or a column is there twice.
        StorageError: the file cannot be read.
    """
    with (
        reading(uri, remedy, error),
        uri.filesystem.open_input_file(uri.path) as stream,
        pq.ParquetFile(stream) as file,
    ):
        columns = file.schema_arrow
    chosen = choose(columns.names)
    fields = [field for field in columns if field.name in chosen]
    for field in fields:
        if columns.names.count(field.name) > 1:
            raise error(f"{uri}: several columns are named {field.name}; keep one of them. {remedy}".strip())
    inspect_table(uri, question_of(uri, pa.schema(fields)), remedy, error)
    with reading(uri, remedy, error):
        names = [field.name for field in fields]
        return pq.read_table(uri.path, columns=names, filesystem=uri.filesystem, partitioning=None)


def question_of(uri: Uri, columns: pa.Schema) -> Question:
    """Return the question about the text of some columns of one file."""
    return Question(str(uri), uri.filesystem, ((uri.path, str(uri)),), columns)


def _ask(uri: Uri, question: Question) -> Findings:
    path = os.pathsep.join(each or os.getcwd() for each in sys.path)  # noqa: PTH109
    answer = subprocess.run(
        [sys.executable, "-P", "-c", _START],
        input=pickle.dumps(question),
        capture_output=True,
        env={**os.environ, **_SETTINGS, "PYTHONPATH": path},
        check=False,
    )
    if answer.returncode < 0:
        ended = signal.Signals(-answer.returncode).name
        return Findings(fault=f"{uri}: the process that read it ended with {ended}, as it would for lack of memory")
    if answer.returncode:
        last = answer.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise RuntimeError(f"inspecting {uri} ended with exit code {answer.returncode}: {last}")
    return Findings(**json.loads(answer.stdout))
