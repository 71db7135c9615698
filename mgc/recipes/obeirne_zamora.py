"""O'Beirne and Zamora, "Music Genre Classification Using Mel Spectrogram Representations" (Stanford).

GTZAN, each track cut into ten clips of 3 s, mel 128 × 128. The clips are split at random 95 / 2.5 / 2.5: clips of one
track fall on both sides of the split, so the reported 0.90 is no guide to new music.
"""

from __future__ import annotations

from typing import Final

from mgc.audio.excerpts import ListeningPlan
from mgc.datasets.protocols import PAPER_A
from mgc.experiment import Experiment
from mgc.features.mel import LogMelConfig
from mgc.models.convolutional import ConvolutionalConfig
from mgc.training.loop import TrainingConfig

PAPER: Final = "O'Beirne and Zamora"

CITATION: Final = (
    "D. O'Beirne and M. Zamora, Music Genre Classification Using Mel Spectrogram Representations, Stanford University."
)

GENRES: Final = 10

REPORTED: Final = {
    "A1": {
        "test_accuracy": 0.90,
        "validation_accuracy": 0.91,
        "train_accuracy": 0.99,
        "country_accuracy": 0.77,
        "rock_accuracy": 0.75,
        "jazz_accuracy": 1.00,
        "classical_accuracy": 1.00,
    }
}
"""The paper's figures on GTZAN with its clip-random split: accuracies, also by genre on the test split. Shares of 1."""

PROTOCOL_NOTE: Final = "sides are drawn by hash, so the shares of 95 / 2.5 / 2.5 hold about"

DEVIATIONS: Final = {
    "A1": (
        PROTOCOL_NOTE,
        "filters 16, 32, 64, 128: the paper gives none",
        "no padding, and batch normalisation and ReLU before the pooling: the paper gives no order",
        "the middle 128 of the 130 frames of 3 s: the paper does not say which",
        "20 epochs of batch 64: the paper gives neither; kept is the epoch of the highest validation macro-F1",
        "L2 0.019 on convolution and dense kernels, biases and normalisation left out",
        "decibels relative to the clip's maximum over 80 dB, stored in 8 bits, normalised per mel bin: the paper is "
        "silent",
    )
}


def a1() -> Experiment:
    """Return recipe A1: four convolutions of 2 × 2, Adam 1e-3, L2 0.019."""
    return Experiment(
        recipe="obeirne-a1",
        front_end=LogMelConfig(),
        listening=ListeningPlan(window_seconds=30.0, windows=1),
        model=ConvolutionalConfig(
            filters=(16, 32, 64, 128),
            kernel=2,
            strides=(2, 1, 2, 1),
            padding="valid",
            pool=2,
            pool_stride=1,
            batch_norm=True,
        ),
        training=TrainingConfig(
            epochs=20,
            batch_size=64,
            optimizer="adam",
            learning_rate=1e-3,
            schedule="constant",
            weight_decay=0.0,
            l2=0.019,
            balance="natural",
        ),
        protocol=PAPER_A,
        deviations=DEVIATIONS["A1"],
    )
