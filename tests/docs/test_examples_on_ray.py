"""The examples of the docs that run whole jobs, as they stand there: on a real Ray, some over a real object store."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pyarrow.csv
import pytest

from cluster.session.profiles import Profile
from cluster.storage import files
from cluster.storage.uri import Uri
from mgc.datasets.synthetic import SyntheticConfig, encode, metadata_table, plan_corpus
from tests.docs.doc_examples import Example, examples

# An example runs up to four jobs.
pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]


def corpus(folder: Path, tracks: int | None = None) -> None:
    """MP3s of four seconds in `corpus`, and their metadata in genres.csv."""
    plans = plan_corpus(
        SyntheticConfig(
            seed=5, largest_genre_tracks=4, smallest_genre_tracks=4, shortest_seconds=4.0, longest_seconds=4.0,
            damaged_tracks=0,
        )
    )[:tracks]  # fmt: skip
    for plan in plans:
        path = folder / "corpus" / plan.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(plan))
    metadata = metadata_table(plans)
    kept = [name for name in ("track_id", "genre_top", "artist_id") if name in metadata.column_names]
    pyarrow.csv.write_csv(metadata.select(kept), folder / "genres.csv")


def music(folder: Path) -> None:
    """Three MP3s."""
    corpus(folder, 3)
    (folder / "corpus").rename(folder / "music")


PREPARE: dict[str, Callable[[Path], None]] = {"music": music, "bucket": music, "corpus": corpus}


@pytest.mark.parametrize(
    "example",
    [
        # On the whole corpus: catalog, prepare, train, evaluate. test_way_through.py goes that way in `make test`.
        pytest.param(example, marks=[pytest.mark.drill] if example.folder == "corpus" else [], id=str(example))
        for example in examples(tuple(PREPARE))
    ],
)
def test_an_example_runs(
    example: Example,
    ray_session: Profile,
    bucket_uri: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    PREPARE[example.folder](tmp_path)
    files.copy_tree(Uri.of_path(tmp_path), Uri.parse(bucket_uri))
    monkeypatch.chdir(tmp_path)
    example.run(bucket_uri)
    printed = capsys.readouterr().out
    for pattern in example.prints:
        assert re.search(pattern, printed), printed
