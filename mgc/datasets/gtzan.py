"""GTZAN: 1,000 excerpts of 30 s, 10 genres of 100 each, mono at 22,050 Hz, with names like `blues/blues.00000.wav`.

For a long time it was the most used corpus of the field. It has known faults (Sturm 2013): 50 exact replicas of
excerpts, 22 other repetitions of a recording, more by the same artist, wrong genres, distortion. So a score on a random
split says little about new music. The fault-filtered partition (Kereliuk, Sturm and Larsen 2015) leaves out 70 excerpts
and divides the others: 443 to train, 197 to validate, 290 to test. mgc reads its lists from torchaudio. Excerpts that
it leaves out have no split.

The corpus has no artist ids: `artist_id` is null, so intervals and leakage checks can go by track only.

`jazz.00054` is on the lists, but the WAV in circulation cannot be decoded (see `FAULTY`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import PurePosixPath
from typing import Final

import pyarrow as pa

from mgc.datasets.metadata import metadata_table as checked_table
from mgc.datasets.splits import TEST, TRAIN, VALIDATION
from mgc.errors import CatalogError, ConfigError
from mgc.taxonomy import Taxonomy

TITLE: Final = "GTZAN Genre Collection"
CITATION: Final = (
    "G. Tzanetakis, P. Cook, Musical Genre Classification of Audio Signals, IEEE Transactions on Speech and Audio "
    "Processing 10(5), 2002. Faults: B. L. Sturm, The GTZAN dataset: Its contents, its faults, their effects on "
    "evaluation, and its future use, 2013, arXiv:1306.1461. Fault-filtered split: C. Kereliuk, B. L. Sturm, J. Larsen, "
    "Deep Learning and Music Adversaries, IEEE Transactions on Multimedia 17(11), 2015."
)
LICENSE: Final = "None stated: excerpts of commercial recordings, which belong to their owners; used for research."
URL: Final = "http://marsyas.info/downloads/datasets.html"
PROVENANCE: Final = (
    "Excerpts of personal CDs, radio and microphone recordings, collected by G. Tzanetakis in 2000 and 2001."
)
NOTICE: Final = (
    "GTZAN (Tzanetakis and Cook 2002): replicas, repeated recordings and wrong genres are in it (Sturm 2013); "
    "its recordings belong to their owners."
)

ARTISTS_APART: Final = False
"""The corpus has no artist ids, so this cannot be checked."""

GENRES: Final = ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock")
TRACKS_PER_GENRE: Final = 100
TRACKS: Final = len(GENRES) * TRACKS_PER_GENRE

TAXONOMY: Final = Taxonomy.flat(GENRES)

FAULTY: Final = frozenset({"jazz.00054"})
"""Excerpts whose WAV cannot be decoded, as many users of the WAV archive have reported. The AU may be intact."""

_NAME: Final = re.compile(rf"({'|'.join(GENRES)})\.(000[0-9]{{2}})")


def excerpt_of(track_id: str) -> str | None:
    """Return the excerpt of a file name, `blues.00000` for `genres/blues/blues.00000.au`; None for other files."""
    name = PurePosixPath(track_id).stem
    return name if _NAME.fullmatch(name) else None


def faulty(track_ids: Iterable[str]) -> list[str]:
    """Return the track ids (paths) that are known to be broken."""
    return [track_id for track_id in track_ids if excerpt_of(track_id) in FAULTY]


@cache
def fault_filtered() -> dict[str, str]:
    """Return the split of each excerpt of the fault-filtered partition: 443 train, 197 validation, 290 test.

    Raises:
        ConfigError: torchaudio, which has the lists, is not installed.
    """
    # Imported here: it takes seconds, and other corpora do not need it.
    try:
        from torchaudio.datasets.gtzan import filtered_test, filtered_train, filtered_valid
    except ModuleNotFoundError as error:
        raise ConfigError("GTZAN's splits need torchaudio, not installed here: pip install 'mgc[train]'.") from error

    lists = {TRAIN: filtered_train, VALIDATION: filtered_valid, TEST: filtered_test}
    return {name: split for split, names in lists.items() for name in names}


def metadata_table(track_ids: Sequence[str]) -> pa.Table:
    """Return catalog metadata of the files that belong to GTZAN.

    Args:
        track_ids: paths, in any folder; the file name gives genre and number.

    Returns:
        The table of `datasets.metadata.metadata_table`, without files of other names.

    Raises:
        CatalogError: an excerpt occurs twice, for example as WAV and as AU.
    """
    files: dict[str, str] = {}
    for track_id in track_ids:
        excerpt = excerpt_of(track_id)
        if excerpt is None:
            continue
        if excerpt in files:
            raise CatalogError(
                f"GTZAN: {excerpt} appears twice, as {files[excerpt]} and {track_id}; make SOURCE the folder of one."
            )
        files[excerpt] = track_id
    genres = [excerpt.partition(".")[0] for excerpt in files]
    splits = fault_filtered() if files else {}
    return checked_table(
        {
            "track_id": pa.array(list(files.values()), pa.string()),
            "genre_top": pa.array(genres, pa.string()),
            "genres": pa.array([[genre] for genre in genres], pa.list_(pa.string())),
            "split": pa.array([splits.get(excerpt) for excerpt in files], pa.string()),
        },
        "GTZAN",
    )
