"""Gállego, Garcia Cabrera, Cuxart Garcia and Cortès, "Music Genre Classification" (UPC 2019).

GTZAN, 60 / 20 / 20 for the networks on mel, 80 / 10 / 10 for hand-crafted features; FMA-small (8,000 tracks, 8 genres),
each track cut in three. The paper lists punk and avant-garde among FMA-small's genres, but the corpus has neither.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from mgc.audio.excerpts import ListeningPlan
from mgc.datasets.protocols import PAPER_B, PAPER_B_FEATURES
from mgc.experiment import Experiment
from mgc.features.handcrafted import HandcraftedConfig
from mgc.features.mel import LogMelConfig
from mgc.models.convolutional import ConvolutionalConfig
from mgc.models.dense import DenseConfig
from mgc.models.recurrent import RecurrentConfig
from mgc.recipes.space import Choice, Space
from mgc.training.loop import TrainingConfig

PAPER: Final = "Gállego et al."

CITATION: Final = (
    "Gállego, Garcia Cabrera, Cuxart Garcia and Cortès, Music Genre Classification, "
    "Universitat Politècnica de Catalunya, 2019."
)

GENRES: Final = 10
GENRES_FMA: Final = 8

REPORTED: Final = {
    "B1": {"test_accuracy": 0.64},
    "B1-grid": {"test_accuracy": 0.67},
    "B1-fma": {"test_accuracy": 0.44},
    "B2": {"test_accuracy": 0.56},
    "B3": {"test_accuracy": 0.53},
}
"""The paper's figures: accuracy on its own test split, as shares of 1."""

PROTOCOL_NOTE: Final = (
    "sides are drawn by hash, track by track, so the shares of 60 / 20 / 20 (hand-crafted features 80 / 10 / 10) hold "
    "about: the paper does not say by what it splits"
)

_TRAINED: Final = (
    "batch 64, PyTorch's own initial weights, no schedule: the paper gives none",
    "kept is the epoch of the highest validation macro-F1: the paper does not say which it scored",
)

_HANDCRAFTED: Final = (
    PROTOCOL_NOTE,
    "72 numbers, the mean and variance over a clip of 20 MFCC, 12 chroma classes, spectral centroid, bandwidth, "
    "roll-off and zero-crossing rate: the paper names these 'and others', and not how a row becomes numbers",
    "batch normalisation before ReLU, dropout after it, on each hidden layer: the paper gives no order",
    *_TRAINED,
)

_MEL: Final = (
    PROTOCOL_NOTE,
    "clips of 3 s, the middle 128 of their 130 frames, their probabilities averaged over a track: the paper does not "
    "say how long its input is",
    "decibels relative to the clip's maximum over 80 dB, stored in 8 bits, normalised per mel bin: the paper is silent",
    "a stage is convolution, batch normalisation, ReLU, max-pool of 2 with stride 2, dropout: the paper gives no order "
    "and no sizes",
    *_TRAINED,
)

DEVIATIONS: Final = {
    "B1": (*_HANDCRAFTED, "one vector a track, of its middle 30 s: the paper does not say"),
    "B1-grid": (
        *_HANDCRAFTED,
        "one vector a track, of its middle 30 s: the paper does not say",
        "the best point of the paper's grid, which is GRID; the search itself is not run here",
    ),
    "B1-fma": (
        *_HANDCRAFTED,
        "three vectors a track, of 10 s each, their probabilities averaged: the paper cuts tracks in three, and does "
        "not say whether it scores the parts or the tracks",
        "the best point of the paper's grid for 200 epochs: the paper gives no number of epochs",
        "FMA-small's own eight genres: the paper names punk and avant-garde among them",
    ),
    "B2": (*_MEL, "one dense layer, the output: the paper may mean one before it"),
    "B3": (
        *_MEL,
        "64 units in each LSTM layer, of which the last step goes to the output: the paper gives neither",
        "the first of the channels 128-64-32-16 are the mel bins, so three convolutions",
    ),
}

GRID: Final = Space(
    {
        "model.hidden": Choice(([256, 128, 64, 32], [512, 256, 128, 64], [128, 64, 32, 16])),
        "training.learning_rate": Choice((1e-3, 1e-4, 5e-5)),
        "model.dropout": Choice((0.1, 0.25, 0.5)),
    }
)
"""The paper's search over fields of B1's experiment, by dotted name: 27 points, 200 epochs each."""

_TRAINING: Final = TrainingConfig(
    batch_size=64,
    optimizer="adam",
    learning_rate=1e-4,
    schedule="constant",
    weight_decay=0.0,
    balance="natural",
)

_LISTENING: Final = ListeningPlan(window_seconds=30.0, windows=1)


def b1() -> Experiment:
    """Return recipe B1: five dense layers on hand-crafted features, 600 epochs."""
    return Experiment(
        recipe="gallego-b1",
        front_end=HandcraftedConfig(clip_seconds=30.0, statistics="means_and_variances"),
        listening=_LISTENING,
        model=DenseConfig(hidden=(256, 128, 64, 32), batch_norm=True, dropout=0.5, init="torch"),
        training=replace(_TRAINING, epochs=600),
        protocol=PAPER_B_FEATURES,
        deviations=DEVIATIONS["B1"],
    )


def b1_grid() -> Experiment:
    """Return recipe B1-grid: the best point of `GRID`, 200 epochs."""
    base = b1()
    return replace(
        base,
        recipe="gallego-b1-grid",
        model=DenseConfig(hidden=(256, 128, 64, 32), batch_norm=True, dropout=0.25, init="torch"),
        training=replace(base.training, epochs=200),
        deviations=DEVIATIONS["B1-grid"],
    )


def b1_fma() -> Experiment:
    """Return recipe B1-fma: the best of the grid on FMA-small, each track cut in three."""
    return replace(
        b1_grid(),
        recipe="gallego-b1-fma",
        front_end=HandcraftedConfig(clip_seconds=10.0, statistics="means_and_variances"),
        deviations=DEVIATIONS["B1-fma"],
    )


def b2() -> Experiment:
    """Return recipe B2: three 2-D convolutions of 5 × 5 on mel, 50 epochs."""
    return Experiment(
        recipe="gallego-b2",
        front_end=LogMelConfig(),
        listening=_LISTENING,
        model=ConvolutionalConfig(
            filters=(32, 64, 128), kernel=5, padding="same", batch_norm=True, stage_dropout=(0.5,), init="torch"
        ),
        training=replace(_TRAINING, epochs=50),
        protocol=PAPER_B,
        deviations=DEVIATIONS["B2"],
    )


def b3() -> Experiment:
    """Return recipe B3: three convolutions along time and a two-layer LSTM on mel, 500 epochs."""
    return Experiment(
        recipe="gallego-b3",
        front_end=LogMelConfig(),
        listening=_LISTENING,
        model=RecurrentConfig(
            filters=(64, 32, 16), kernels=(5, 3, 3), paddings=(2, 1, 1), dropout=0.3, lstm_width=64, lstm_layers=2
        ),
        training=replace(_TRAINING, epochs=500),
        protocol=PAPER_B,
        deviations=DEVIATIONS["B3"],
    )
