"""Bundles of published models: their weights with our front end, the meaning of their outputs, and a map to genres."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from mgc.audio.excerpts import ListeningPlan
from mgc.bundle import Bundle
from mgc.errors import BundleError
from mgc.experiment import Experiment
from mgc.features.compressed_mel import CompressedMelConfig
from mgc.features.front_end import AnyFrontEndConfig, clip_form
from mgc.features.kaldi_mel import KaldiMelConfig
from mgc.features.normalization import Normalization
from mgc.labeling.tag_maps import shipped_map
from mgc.labeling.tags import Vocabulary
from mgc.metrics import TrainingFacts
from mgc.models.architecture import AnyModelConfig, build_model
from mgc.models.mobilenet import MobileNetConfig
from mgc.models.musicnn import MusicnnConfig
from mgc.public_models.efficientat import read_efficientat
from mgc.public_models.musicnn import read_musicnn
from mgc.training.config import TrainingConfig

AUDIOSET_MUSIC: Final = ("Singing", "Rapping")
AUDIOSET_SILENCE: Final = ("Silence",)
_MUSIC_FIRST: Final = "Music"
_MUSIC_LAST: Final = "Scary music"
"""In AudioSet's list, all that is music stands between these two; instruments too."""

MSD_TAGS: Final = (
    "rock", "pop", "alternative", "indie", "electronic", "female vocalists", "dance", "00s", "alternative rock", "jazz",
    "beautiful", "metal", "chillout", "male vocalists", "classic rock", "soul", "indie rock", "Mellow", "electronica",
    "80s", "folk", "90s", "chill", "instrumental", "punk", "oldies", "blues", "hard rock", "ambient", "acoustic",
    "experimental", "female vocalist", "guitar", "Hip-Hop", "70s", "party", "country", "easy listening", "sexy",
    "catchy", "funk", "electro", "heavy metal", "Progressive rock", "60s", "rnb", "indie pop", "sad", "House", "happy",
)  # fmt: skip
"""The 50 most frequent tags of the Million Song Dataset, in the order of musicnn's outputs."""


MOBILENET_WIDTHS: Final = {"mn01": 0.1, "mn02": 0.2, "mn04": 0.4, "mn05": 0.5, "mn10": 1.0}
"""Widths of EfficientAT's networks, by name."""

MUSICNN: Final = "musicnn"

_MOBILENET_NOTICE: Final = (
    "Weights: EfficientAT (F. Schmid, K. Koutini, G. Widmer; MIT licence), trained on AudioSet, whose class names are "
    "Google's (CC BY 4.0)."
)
_MUSICNN_NOTICE: Final = "Weights: musicnn (J. Pons, X. Serra; ISC licence), trained on the Million Song Dataset."


def audioset_vocabulary() -> Vocabulary:
    """Return the meaning of the outputs of EfficientAT's networks."""
    lines = Path(__file__).with_name("audioset_classes.txt").read_text("utf-8").splitlines()
    tags = tuple(line for line in lines if line and not line.startswith("#"))
    music = tags[tags.index(_MUSIC_FIRST) : tags.index(_MUSIC_LAST) + 1]
    return Vocabulary("audioset", tags, "sigmoid", (*AUDIOSET_MUSIC, *music), AUDIOSET_SILENCE)


def build_public_bundle(name: str, data: bytes, where: str) -> Bundle:
    """Return a published model as a bundle, which answers with the genres among its own tags.

    Args:
        name: `musicnn`, or one of `MOBILENET_WIDTHS`.
        data: bytes of the published file.
        where: name of the file, for messages.

    Raises:
        BundleError: the file is not that of this model.
    """
    front_end: AnyFrontEndConfig
    network: AnyModelConfig
    if name == MUSICNN:
        vocabulary, front_end, network = Vocabulary("msd", MSD_TAGS), CompressedMelConfig(), MusicnnConfig()
        weights, notice = read_musicnn(data, "MSD", where), _MUSICNN_NOTICE
    else:
        vocabulary, front_end = audioset_vocabulary(), KaldiMelConfig()
        network = MobileNetConfig(width=MOBILENET_WIDTHS[name])
        weights, notice = read_efficientat(data, network.width, where), _MOBILENET_NOTICE
    shape = clip_form(front_end).shape
    model = build_model(network, shape, len(vocabulary.tags))
    try:
        model.load_state_dict(weights)
    except RuntimeError:
        raise BundleError(f"{where}: its tensors are not those of {name}; fetch the file anew.") from None
    taxonomy, tags = shipped_map(vocabulary.name, vocabulary)
    experiment = Experiment(
        recipe=name,
        front_end=front_end,
        listening=ListeningPlan(),
        model=network,
        training=TrainingConfig(),
    )
    normalization = Normalization((0.0,) * shape[0], (1.0,) * shape[0])
    facts = TrainingFacts(notices=(notice,))
    return Bundle(experiment, taxonomy, normalization, model.eval(), facts, tags=tags)
