"""CSV files that people open in a spreadsheet: no text in them is a formula, and mgc reads them as they were."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cluster
import mgc
import pipelines
import tune
from cluster.tables.spreadsheet import CsvWriter, read_csv, write_csv

FORMULAS = "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"
TEXTS = pacsv.ConvertOptions(
    column_types={"track_id": pa.string(), "genre": pa.string()},
    strings_can_be_null=True,
    quoted_strings_can_be_null=False,
)

CONTROL = "".join(map(chr, (*range(0x09), 0x0B, 0x0C, *range(0x0E, 0x20), *range(0x7F, 0xA0))))
TEXT = st.text(st.sampled_from([*FORMULAS, "'", '"', ",", ";", "a", "é", " "]), max_size=6) | st.text(
    st.characters(exclude_characters=CONTROL, exclude_categories=["Cs"]), max_size=9
)


def rows(*texts: str | None) -> pa.Table:
    return pa.table({"track_id": pa.array(texts, pa.string()), "confidence": [-0.5] * len(texts)})


@given(st.lists(TEXT, min_size=1, max_size=5))
def test_what_is_written_is_no_formula_and_is_read_as_it_was(texts: list[str]) -> None:
    written = write_csv(rows(*texts))
    cells = [row["track_id"] for row in csv.DictReader(io.StringIO(written.decode(), newline=""))]
    assert not [cell for cell in cells if cell.startswith(tuple(FORMULAS))]
    # Nor after what ends a cell where the comma is the decimal mark.
    assert not [cell for cell in cells if re.search(r"[;\r\n][=+\-@\uff1d\uff0b\uff0d\uff20]", cell)]
    assert read_csv(written, TEXTS)["track_id"].to_pylist() == texts


def test_only_texts_like_formulas_change() -> None:
    written = write_csv(rows("a=b", "'tis", "=1+1", "'=1", None, "-")).decode().splitlines()
    assert written == [
        '"track_id","confidence"',
        '"a=b",-0.5',
        '"\'tis",-0.5',
        '"\'=1+1",-0.5',
        "\"''=1\",-0.5",
        ",-0.5",
        '"\'-",-0.5',
    ]


def test_no_control_character_reaches_a_terminal() -> None:
    written = write_csv(rows("a\x1b]0;x\x07b", "c\x9bm", *CONTROL)).decode()
    assert not set(written) & set(CONTROL)
    assert written.splitlines()[1:3] == ['"a\ufffd]0;x\ufffdb",-0.5', '"c\ufffdm",-0.5']


def test_raw_texts() -> None:
    sink = pa.BufferOutputStream()
    table = rows("=1+1", "a\x07", "b;=2")
    with CsvWriter(sink, table.schema, raw=True) as writer:
        writer.write_table(table)
    written = sink.getvalue().to_pybytes().decode()
    assert written.splitlines()[1:] == ['"=1+1",-0.5', '"a\x07",-0.5', '"b;=2",-0.5']


def test_what_a_person_writes_is_read_as_written() -> None:
    found = read_csv(b"\xef\xbb\xbftrack_id,genre\r\n=a,Rock\r\n'b,-\r\n", TEXTS)
    assert found.to_pydict() == {"track_id": ["=a", "'b"], "genre": ["Rock", "-"]}


def test_columns_without_a_name_are_left_out() -> None:
    """A spreadsheet writes them for cells that somebody touched."""
    assert read_csv(b"track_id,,genre,\na,x,Rock,\n", TEXTS).to_pydict() == {"track_id": ["a"], "genre": ["Rock"]}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"track_id;genre\na;Rock\n", "semicolons"),
        (b"track_id\tgenre\na, b\tRock\n", "tabs"),
        ("track_id,genre\na,Rock\nb,é\n".encode("latin-1"), "line 3: byte 24 is not UTF-8"),
        ("track_id,genre\n".encode("utf-16"), "line 1: byte 0 is not UTF-8"),
        (b"track_id,genre,genre\na,Rock,Pop\n", "2 columns are called 'genre'"),
    ],
)
def test_what_a_spreadsheet_does_to_a_file_is_said(data: bytes, said: str) -> None:
    with pytest.raises(pa.ArrowInvalid, match=re.escape(said)):
        read_csv(data, TEXTS)


def test_nothing_else_writes_or_reads_csv_by_arrow() -> None:
    """But for FMA's own table of the tracks, which no spreadsheet wrote."""
    folders = [Path(package.__file__ or "").parent for package in (mgc, cluster, tune, pipelines)]
    calls = re.compile(r"\b(?:pa\.csv|pacsv|csv)\.(?:read_csv|write_csv|open_csv|CSVWriter|writer|DictWriter)\b")
    sources = [path for folder in folders for path in folder.rglob("*.py")]
    assert {path.name for path in sources if calls.search(path.read_text())} == {"spreadsheet.py", "fma_tracks.py"}
