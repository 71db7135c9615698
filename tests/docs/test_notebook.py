"""The notebook of the docs, run cell by cell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest

from mgc.bundle import Bundle
from mgc.errors import AudioError
from tests.docs.doc_examples import ROOT
from tests.docs.test_examples import labels, song

NOTEBOOK = ROOT / "docs/python.ipynb"


def cells() -> list[dict[str, Any]]:
    found = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in found if cell["cell_type"] == "code"]


def test_it_is_kept_without_outputs() -> None:
    assert [cell["id"] for cell in cells() if cell["outputs"] or cell["execution_count"] is not None] == []


def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    song(tmp_path)
    labels(tmp_path)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "notebook"}
    # The backend that draws nothing on a screen, and opens no window.
    with mpl.rc_context({"backend": "template"}):
        for cell in cells():
            exec(compile("".join(cell["source"]), f"{NOTEBOOK.name}, {cell['id']}", "exec"), names)
    assert isinstance(names["bundle"], Bundle)
    assert names["label"].genre_top in names["bundle"].taxonomy.names
    assert isinstance(names["answers"]["nothing.mp3"], AudioError)
    assert names["answers"]["song.mp3"] == names["label"]
    assert -1 <= names["similarity"] < 1 - np.finfo(np.float32).eps
    assert dict(names["tracks"]) == {"Rock": 2, "Jazz": 1}
    assert [bar.get_width() for bar in names["axes"].patches] == [2, 1]
