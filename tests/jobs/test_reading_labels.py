"""The README's examples of reading the labels table, run as they stand there."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

from mgc.errors import ErrorKind
from tests.support.nights import NOW, night

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
SECTION = README.partition("### Read the labels\n")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)
WHAT_THEY_PRINT = {
    # The track that is gone is not counted.
    "duckdb": [r"Rock\s+│\s+2\s+│\s+0\.75"],
    "to_pandas": [r"b\.mp3\s+timeout\s+no good", r"b\.mp3\s+Rock\s+(None|NaN)"],
    "polars": [r"shape: \(0, 3\)", "genre_top"],
}


@pytest.mark.parametrize("library", WHAT_THEY_PRINT)
def test_an_example_runs(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    [block] = [block for block in BLOCKS if library in block]
    uri = str(tmp_path / "outputs" / "labels")
    night(uri, {"a.mp3": "1", "b.mp3": "1", "c.mp3": "1", "d.mp3": "1"})
    night(uri, {"a.mp3": "1", "b.mp3": "2", "c.mp3": "1"}, {"b.mp3": ErrorKind.TIMEOUT}, NOW + timedelta(days=1))
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    for pattern in WHAT_THEY_PRINT[library]:
        assert re.search(pattern, printed), printed


def test_every_example_is_run() -> None:
    assert len(BLOCKS) == len(WHAT_THEY_PRINT)
