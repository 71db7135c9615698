"""A corpus of synthetic music: encoded tracks of eight genres, the input of the demo and of most tests.

With it the whole pipeline, from MP3 files to a table of labels, runs without real music. Tracks are made of notes,
rhythm and timbre, so that genres differ in ways that a mel spectrogram shows. Scores on it show that the program works,
but say nothing about real music: quote `SYNTHETIC_NOTICE` wherever you show such a figure.

`plan_corpus` lists the tracks at almost no cost. `encode` makes the bytes of one track. Tracks share no state, so a
caller can spread them over processes.
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
