"""A corpus of synthetic music: encoded tracks of eight genres, the input of the demo and of most tests.

It exists so that the whole way, from MP3 files to a table of labels, runs without anybody's music. It is made of notes,
rhythm and timbre, so that genres differ in ways a mel spectrogram shows. Scores on it say that the program works, and
nothing about real music: quote `SYNTHETIC_NOTICE` wherever a figure of it is shown.

`plan_corpus` lists the tracks and costs next to nothing; `encode` makes the bytes of one of them and shares no state
with any other, so that a caller can spread the tracks over processes.
"""

from mgc.datasets.synthetic.composition import GENRES
from mgc.datasets.synthetic.corpus import (
    DESCRIPTION,
    ENCODINGS,
    LICENSE,
    PROVENANCE,
    SYNTHETIC_NOTICE,
    TITLE,
    SyntheticConfig,
    TrackPlan,
    encode,
    metadata_table,
    plan_corpus,
    render,
)
from mgc.datasets.synthetic.encode import DAMAGES

__all__ = [
    "DAMAGES",
    "DESCRIPTION",
    "ENCODINGS",
    "GENRES",
    "LICENSE",
    "PROVENANCE",
    "SYNTHETIC_NOTICE",
    "TITLE",
    "SyntheticConfig",
    "TrackPlan",
    "encode",
    "metadata_table",
    "plan_corpus",
    "render",
]
