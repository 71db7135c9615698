"""A bundle of a tiny network, with noise for it to answer."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import soundfile
import torch

from mgc.audio.excerpts import ListeningPlan
from mgc.bundle import Bundle
from mgc.experiment import Experiment
from mgc.features.mel import LogMelConfig
from mgc.features.normalization import Normalization
from mgc.labeling.adjust import PriorAdjustment
from mgc.metrics import TrainingFacts
from mgc.models.architecture import build_model
from mgc.models.house import HouseCnnConfig
from mgc.taxonomy import Genre, Taxonomy
from mgc.training.config import TrainingConfig

EXPERIMENT = Experiment(
    recipe="test",
    front_end=LogMelConfig(n_mels=16, clip_seconds=1.0, frames=32),
    listening=ListeningPlan(window_seconds=2.0, windows=2),
    model=HouseCnnConfig(channels=(4, 6), blocks=1),
    training=TrainingConfig(),
)
TAXONOMY = Taxonomy((Genre("rock"), Genre("punk", "rock"), Genre("folk")))
ADJUSTMENT = PriorAdjustment.from_counts(1.0, (70, 20, 10))
TRAINING = TrainingFacts(history=({"epoch": 1, "train_loss": 1.5},), notices=("synthetic, not music",))


def bundle(**change: Any) -> Bundle:
    """Return the bundle, with some of its fields changed."""
    torch.manual_seed(0)
    model = build_model(EXPERIMENT.model, (16, 32), 3).to(memory_format=torch.channels_last).eval()
    for name, buffer in model.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
    fields = {
        "experiment": EXPERIMENT,
        "taxonomy": TAXONOMY,
        "normalization": Normalization(tuple(100.0 + row for row in range(16)), (50.25,) * 16),
        "model": model,
        "training": TRAINING,
    }
    return Bundle(**(fields | change))


def clips(count: int = 11) -> np.ndarray:
    """Return noise as clips of its front end."""
    return np.random.default_rng(0).integers(0, 256, (count, 16, 32), dtype=np.uint8)


def sound(seconds: float) -> bytes:
    """Return a WAV file of noise that swells and fades, since steady noise is no music."""
    stream = io.BytesIO()
    swell_T = 1 + np.sin(np.arange(round(seconds * 16000)) / 2000)
    noise = (swell_T * np.random.default_rng(0).normal(0, 0.1, len(swell_T))).astype(np.float32)
    soundfile.write(stream, noise, 16000, format="WAV")
    return stream.getvalue()
