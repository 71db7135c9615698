"""The house's own recipes: one small CNN, on three-second clips of log-mel or on whole-clip thumbnails."""

from __future__ import annotations

from mgc.audio.excerpts import ListeningPlan
from mgc.experiment import Experiment
from mgc.features.mel import LogMelConfig
from mgc.features.thumbnail import ThumbnailConfig
from mgc.models.house import HouseCnnConfig
from mgc.training.augment import AugmentConfig
from mgc.training.loop import TrainingConfig

LISTENING = ListeningPlan(window_seconds=30.0, windows=3)
"""Three windows of 30 s spread over a track; a track no longer than one window is heard whole."""


def house() -> Experiment:
    """The small CNN on 128-bin log-mel of three-second clips, their logits averaged."""
    return Experiment(
        recipe="house",
        front_end=LogMelConfig(),
        listening=LISTENING,
        model=HouseCnnConfig(channels=(16, 32, 64, 96)),
        training=TrainingConfig(
            epochs=8,
            batch_size=64,
            learning_rate=3e-3,
            weight_decay=0.05,
            label_smoothing=0.05,
            augment=AugmentConfig(roll_time=True, gain=0.1, mask_bins=0.1, mask_frames=0.1),
            precision="bf16",
        ),
    )


def house_thumbnail() -> Experiment:
    """The small CNN on thumbnails: a 30-second window in 128 frames. The default bundle is trained with it."""
    return Experiment(
        recipe="house-thumbnail",
        front_end=ThumbnailConfig(),
        listening=LISTENING,
        model=HouseCnnConfig(),
        training=TrainingConfig(
            epochs=30,
            batch_size=64,
            learning_rate=3e-3,
            weight_decay=0.05,
            label_smoothing=0.05,
            augment=AugmentConfig(roll_time=True, shift_bins=2, gain=0.1, mask_bins=0.1, mask_frames=0.1),
            precision="bf16",
        ),
    )
