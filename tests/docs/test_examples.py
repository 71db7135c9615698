"""The examples of the docs that need no Ray, run as they stand there."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import soundfile

from cluster.storage.uri import Uri
from mgc.errors import ErrorKind
from tests.docs.doc_examples import PAGES, Example, examples
from tests.support.nights import LABEL, NOW, embedding_night, night

FOLDERS = ("empty", "song", "labels", "embeddings")
ON_RAY = ("music", "bucket", "corpus")


def song(folder: Path) -> None:
    """Twelve seconds of a trembling tone."""
    seconds = np.arange(22050 * 12) / 22050
    tone = 0.3 * np.sin(2 * np.pi * 220 * seconds) * (1 + np.sin(2 * np.pi * 2 * seconds))
    soundfile.write(folder / "song.mp3", tone, 22050)


def labels(folder: Path) -> None:
    """A table of two nights: in the second d.mp3 is gone, and b.mp3 has changed and failed."""
    uri = str(folder / "outputs" / "labels")
    night(Uri.parse(uri), {"a.mp3": "1", "b.mp3": "1", "c.mp3": "1", "d.mp3": "1"})
    outcomes = {"b.mp3": ErrorKind.TIMEOUT, "c.mp3": f"{LABEL}: Jazz"}
    night(Uri.parse(uri), {"a.mp3": "1", "b.mp3": "2", "c.mp3": "2"}, outcomes, NOW + timedelta(days=1))


def embeddings(folder: Path) -> None:
    """A table of a recording in two formats, another one, and a file that is none."""
    vectors = {"a.mp3": [1.0, 2.0, 2.0], "a.flac": [1.0, 2.0, 2.05], "b.mp3": [2.0, -1.0, 0.5]}
    uri = Uri.parse(str(folder / "outputs" / "embeddings"))
    embedding_night(uri, dict.fromkeys([*vectors, "c.mp3"], "1"), {"c.mp3": ErrorKind.NOT_AUDIO}, vectors=vectors)


PREPARE: dict[str, Callable[[Path], None]] = {"song": song, "labels": labels, "embeddings": embeddings}


@pytest.mark.parametrize("example", examples(FOLDERS), ids=str)
def test_an_example_runs(
    example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if example.folder != "empty":
        PREPARE[example.folder](tmp_path)
    monkeypatch.chdir(tmp_path)
    example.run()
    printed = capsys.readouterr().out
    for pattern in example.prints:
        assert re.search(pattern, printed), printed


def test_every_example_is_run_by_a_test() -> None:
    text = "".join(Path(__file__).parents[2].joinpath(page).read_text(encoding="utf-8") for page in PAGES)
    marked = len(re.findall(r"^<!-- example:", text, re.MULTILINE))
    assert marked == len(examples(FOLDERS)) + len(examples(ON_RAY)) > 8
