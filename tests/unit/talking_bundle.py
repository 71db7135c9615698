"""A bundle of a tiny MobileNet that knows more than music: it hears speech in one sound, and rock in another."""

from __future__ import annotations

import functools
import io
from dataclasses import replace

import numpy as np
import soundfile
import torch
from torch import nn

from mgc.bundle import Bundle
from mgc.labeling.tag_maps import read_tag_map
from mgc.labeling.tags import Vocabulary
from mgc.models.architecture import AnyModelConfig, build_model
from mgc.models.mobilenet import MobileNetConfig
from tests.unit import small_bundle
from tests.unit.small_bundle import EXPERIMENT, sound

TAGS = ("Music", "Rock", "Metal", "Speech", "Silence")
VOCABULARY = Vocabulary("test", TAGS, "sigmoid", ("Music", "Rock", "Metal"), ("Silence",))
WORDS = "genre,tag\nrock,Rock\nmetal,Metal\n"

NETWORK = MobileNetConfig(width=0.1, hidden=8)

SPEECH = sound(4.0)


def _song() -> bytes:
    """Return a WAV file of a low tone that swells and fades."""
    stream = io.BytesIO()
    time_T = np.arange(4 * 16000)
    tone_T = 0.2 * (1 + np.sin(time_T / 2000)) * np.sin(2 * np.pi * 300 / 16000 * time_T)
    soundfile.write(stream, tone_T.astype(np.float32), 16000, format="WAV")
    return stream.getvalue()


SONG = _song()


def tagged(network: AnyModelConfig, vocabulary: Vocabulary = VOCABULARY) -> Bundle:
    """Return a bundle whose outputs are tags."""
    torch.manual_seed(0)
    taxonomy, tags = read_tag_map(WORDS, vocabulary, "map")
    model = build_model(network, (16, 32), len(TAGS)).eval()
    return small_bundle.bundle(experiment=replace(EXPERIMENT, model=network), model=model, taxonomy=taxonomy, tags=tags)


@functools.cache
def embeddings() -> tuple[np.ndarray, np.ndarray]:
    """Return the embeddings of both sounds."""
    made = tagged(NETWORK)
    return made.embed(SPEECH), made.embed(SONG)


def talking_bundle(vocabulary: Vocabulary = VOCABULARY) -> Bundle:
    """Return the bundle: `SPEECH` is no music, `SONG` is rock."""
    made = tagged(NETWORK, vocabulary)
    speech_D, song_D = (torch.from_numpy(embedding_D) for embedding_D in embeddings())
    apart_D = (speech_D - song_D) * 20 / (speech_D - song_D).square().sum()
    first, last = (layer for layer in made.model.head.modules() if isinstance(layer, nn.Linear))
    with torch.no_grad():
        for parameter in made.model.head.parameters():
            parameter.zero_()
        # The first unit is 10 for speech and 0 for the song, the second the reverse.
        first.weight[:2] = torch.stack([apart_D, -apart_D])
        first.bias[:2] = -first.weight[:2] @ (speech_D + song_D) / 2
        last.bias[:] = -6.0
        last.weight[TAGS.index("Speech"), 0] = last.weight[TAGS.index("Rock"), 1] = 1.0
    return made
