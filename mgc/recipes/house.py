"""The house recipes: a small CNN, on three-second clips of log-mel or on whole-clip thumbnails."""

from __future__ import annotations

from typing import Final

from mgc.audio.excerpts import ListeningPlan
from mgc.experiment import Experiment
from mgc.features.mel import LogMelConfig
from mgc.features.thumbnail import ThumbnailConfig
from mgc.labeling.config import LabelingConfig
from mgc.models.house import HouseCnnConfig
from mgc.models.mobilenet import MobileNetConfig
from mgc.models.musicnn import MusicnnConfig
from mgc.recipes.space import Alternatives, Choice, Integer, LogUniform, Space, Uniform
from mgc.training.augment import AugmentConfig
from mgc.training.loop import TrainingConfig

LISTENING = ListeningPlan(window_seconds=30.0, windows=3)
"""Three windows of 30 s spread over a track. A track that fits in one window is heard whole."""

LABELING = LabelingConfig(min_seconds=3.0)
"""A shorter recording has no genre: the networks are trained on clips of 3 s, and on pictures of 30 s."""


def house() -> Experiment:
    """Return the small CNN on 128-bin log-mel of three-second clips, whose logits are averaged."""
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
        labeling=LABELING,
    )


def house_thumbnail() -> Experiment:
    """Return the small CNN on thumbnails: a 30-second window in 128 frames. The default bundle is trained with it."""
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
            augment=AugmentConfig(
                roll_time=True, shift_bins=2, gain=0.1, mask_bins=0.1, mask_frames=0.1, limit_band=0.7
            ),
            precision="bf16",
        ),
        labeling=LABELING,
    )


def house_finetuned() -> Experiment:
    """Return mn04 on thumbnails, to train on from its weights with `--init mn04`."""
    return _finetuned("house-finetuned", MobileNetConfig(input="thumbnail"))


def house_finetuned_musicnn() -> Experiment:
    """Return musicnn on thumbnails, to train on from its weights with `--init musicnn`."""
    return _finetuned("house-finetuned-musicnn", MusicnnConfig(input="thumbnail"))


def _finetuned(recipe: str, model: MobileNetConfig | MusicnnConfig) -> Experiment:
    return Experiment(
        recipe=recipe,
        front_end=ThumbnailConfig(),
        listening=LISTENING,
        model=model,
        training=TrainingConfig(
            epochs=10,
            batch_size=32,
            learning_rate=2e-3,
            body_learning_rate=6e-4,
            label_smoothing=0.05,
            augment=AugmentConfig(roll_time=True, crop_time=0.625, gain=0.1, mask_bins=0.1, mask_frames=0.1, mixup=0.3),
            average=0.995,
        ),
        labeling=LABELING,
    )


SPACE: Final = Space(
    {
        "training.learning_rate": LogUniform(5e-4, 1e-2),
        "training.weight_decay": LogUniform(1e-3, 0.3),
        "training.batch_size": Choice((32, 64, 128)),
        "training.label_smoothing": Uniform(0.0, 0.15),
        "model.channels": Choice(
            ([16, 32, 64], [16, 32, 64, 96], [24, 48, 96], [24, 48, 96, 128], [32, 64, 128, 192], [16, 32, 64, 96, 128])
        ),
        "model.blocks": Integer(0, 2),
        "model.keep_bins": Choice((False, True)),
        "model.dropout": Uniform(0.1, 0.6),
        "training.average": Choice((0.0, 0.99, 0.995)),
        "training.augment.crop_time": Uniform(0.4, 1.0),
        "training.augment.shift_bins": Integer(0, 6),
        "training.augment.gain": Uniform(0.0, 0.3),
        "training.augment.mask_bins": Uniform(0.0, 0.3),
        "training.augment.mask_frames": Uniform(0.0, 0.3),
        "training.augment.mixup": Choice((0.0, 0.1, 0.3)),
        # Sampling and loss each correct for rare genres. They are searched together, so that no point corrects twice.
        "balance": Alternatives(
            {
                "natural": {"training.balance": "natural", "training.loss.kind": "cross_entropy"},
                "square_root": {"training.balance": "square_root", "training.loss.kind": "cross_entropy"},
                "class_balanced": {"training.balance": "class_balanced", "training.loss.kind": "cross_entropy"},
                "focal": {"training.balance": "class_balanced", "training.loss.kind": "focal"},
                "balanced_softmax": {"training.balance": "natural", "training.loss.kind": "balanced_softmax"},
            }
        ),
    }
)
"""Search space of `mgc tune --recipe house-thumbnail`: rates, widths, depth, augmentation, sampling and loss."""
