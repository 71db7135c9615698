"""O'Beirne and Zamora, "Music Genre Classification Using Mel Spectrogram Representations" (Stanford).

GTZAN, each track cut into ten clips of 3 s, mel 128 × 128, clips split at random 95 / 2.5 / 2.5: clips of one track
fall on both sides of the split, so the reported 0.90 is no guide to new music. Here the same network is trained and
scored on the splits of the catalog; the paper's own protocol comes with the papers' issue.
"""

from __future__ import annotations

from typing import Final

from mgc.audio.excerpts import ListeningPlan
from mgc.experiment import Experiment
from mgc.features.mel import LogMelConfig
from mgc.models.obeirne import OBeirneCnnConfig
from mgc.training.augment import AugmentConfig
from mgc.training.loop import TrainingConfig

CITATION: Final = (
    "D. O'Beirne and M. Zamora, Music Genre Classification Using Mel Spectrogram Representations, Stanford University."
)

REPORTED: Final = {
    "test_accuracy": 0.90,
    "validation_accuracy": 0.91,
    "train_accuracy": 0.99,
    "country": 0.77,
    "rock": 0.75,
    "jazz": 1.00,
    "classical": 1.00,
}
"""What the paper printed, on GTZAN with its clip-random split: accuracies, by genre on the test split. Shares of 1."""

DEVIATIONS: Final = (
    "the catalog's splits, each track on one side: the paper splits clips at random, 95 / 2.5 / 2.5",
    "filters 16, 32, 64, 128: the paper gives none",
    "no padding, and batch normalisation and ReLU before the pooling: the paper gives no order",
    "the middle 128 of the 130 frames of 3 s: the paper does not say which",
    "20 epochs of batch 64: the paper gives neither",
    "L2 0.019 on convolution and dense kernels, biases and normalisation left out",
    "decibels relative to the clip's maximum over 80 dB, stored in 8 bits, normalised per mel bin: the paper is silent",
)


def a1() -> Experiment:
    """Recipe A1: four convolutions of 2 × 2, Adam 1e-3, L2 0.019."""
    return Experiment(
        recipe="obeirne-a1",
        front_end=LogMelConfig(),
        listening=ListeningPlan(window_seconds=30.0, windows=1),
        model=OBeirneCnnConfig(),
        training=TrainingConfig(
            epochs=20,
            batch_size=64,
            optimizer="adam",
            learning_rate=1e-3,
            schedule="constant",
            weight_decay=0.0,
            l2=0.019,
            balance="natural",
            augment=AugmentConfig(),
        ),
        deviations=DEVIATIONS,
    )
