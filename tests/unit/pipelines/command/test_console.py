"""Tables in any width: every fact can be read, and no line is longer than the terminal is wide."""

from __future__ import annotations

import itertools

import pytest
from rich.console import Group
from rich.table import Table
from rich.text import Text

from pipelines.command.console import plain, show

ROWS = [
    ("Album/01 first.mp3", "Rock", "0.63", "████"),
    ("Album/02 sec[ond].mp3", "Experimental", "0.31", "██"),
    ("n" * 90 + ".mp3", "Pop", "", "█"),
]


def table(header: bool = True) -> Table:
    made = Table(title="tracks", title_justify="left", show_header=header)
    for name in ("track", "genre", "confidence", "") if header else ("",) * 4:
        made.add_column(name, overflow="fold")
    for row in ROWS:
        made.add_row(*map(plain, row))
    return made


@pytest.mark.parametrize("columns", [20, 40, 60, 80, 120, 300])
@pytest.mark.parametrize("grouped", [False, True])
def test_every_cell_can_be_read(
    columns: int, grouped: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    show(Group(Text("above"), table()) if grouped else table())
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= columns
    assert "…" not in printed
    if columns <= 40:
        # A word is broken only if it is longer than a line.
        assert "confidence: 0.63" in printed
        assert "Experimental" in printed
    letters = "".join(each for each in printed if each.isalnum())
    for cell in itertools.chain.from_iterable(row[1:3] for row in ROWS):
        assert "".join(each for each in cell if each.isalnum()) in letters


def test_a_table_without_headers(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    show(table(header=False))
    printed = capsys.readouterr().out
    assert "Rock" in printed
    assert "████" in printed


@pytest.mark.parametrize("columns", ["", "0", "-5", "many", "1"])
def test_an_odd_width(columns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    show(table())
    assert "Rock" in capsys.readouterr().out
