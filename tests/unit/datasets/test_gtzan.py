"""GTZAN by its files' names, and folders of genres."""

from __future__ import annotations

from collections import Counter

import pytest

from mgc.datasets import folder, gtzan
from mgc.errors import CatalogError

EVERY = [f"{genre}/{genre}.{number:05d}.wav" for genre in gtzan.GENRES for number in range(gtzan.TRACKS_PER_GENRE)]


def test_the_fault_filtered_partition() -> None:
    """443 / 197 / 290 as its users report it; each excerpt in one list, and each a real one."""
    splits = gtzan.fault_filtered()
    assert Counter(splits.values()) == {"train": 443, "validation": 197, "test": 290}
    assert set(splits) < {gtzan.excerpt_of(path) for path in EVERY}


def test_all_of_it() -> None:
    table = gtzan.metadata_table(EVERY)
    assert table.num_rows == gtzan.TRACKS == 1_000
    assert Counter(table["split"].to_pylist()) == {"train": 443, "validation": 197, "test": 290, None: 70}
    assert Counter(table["genre_top"].to_pylist()) == dict.fromkeys(gtzan.GENRES, 100)
    assert table["genres"].to_pylist() == [[genre] for genre in table["genre_top"].to_pylist()]
    assert table["artist_id"].null_count == 1_000


def test_names_tell_whatever_the_folder_and_the_format() -> None:
    paths = ["genres/rock/rock.00099.au", "x/jazz.00054.mp3", "blues.00000.wav"]
    others = ["rock/rock.100.wav", "rock/rock.00100.wav", "rock/soul.00001.wav", "rock/rock.00001.5s.wav", "rock/a.wav"]
    table = gtzan.metadata_table([*paths, *others])
    assert dict(zip(table["track_id"].to_pylist(), table["genre_top"].to_pylist(), strict=True)) == {
        "genres/rock/rock.00099.au": "rock",
        "x/jazz.00054.mp3": "jazz",
        "blues.00000.wav": "blues",
    }
    assert gtzan.faulty([*paths, *others]) == ["x/jazz.00054.mp3"]
    assert gtzan.metadata_table(others).num_rows == 0


def test_an_excerpt_twice() -> None:
    with pytest.raises(CatalogError, match=r"GTZAN: rock\.00001 appears twice, as au/rock\.00001\.au and wav/rock"):
        gtzan.metadata_table(["au/rock.00001.au", "wav/rock.00001.wav"])


def test_a_folder_of_genres() -> None:
    table = folder.metadata_table(["Hip-Hop/a/1.mp3", "loose.mp3", "Drum & Bass/2.mp3"])
    assert table.select(["track_id", "genre_top", "genres"]).to_pydict() == {
        "track_id": ["Drum & Bass/2.mp3", "Hip-Hop/a/1.mp3"],
        "genre_top": ["Drum & Bass", "Hip-Hop"],
        "genres": [["Drum & Bass"], ["Hip-Hop"]],
    }
    assert folder.metadata_table(["loose.mp3"]).num_rows == 0
