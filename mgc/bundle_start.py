"""What another training takes of a bundle: the weights of one of its networks, or all of it but the head.

Axes: N tracks, D numbers of an embedding, G genres.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from pyarrow import fs
from torch import nn

from mgc.bundle import Bundle
from mgc.bundle_files import DEFAULT, EXPERIMENT, METRICS, NORMALIZATION, TAXONOMY, TRAINED_ON, WEIGHTS, BundleFiles
from mgc.errors import BundleError, ErrorKind
from mgc.evaluation.leakage import TrainedGroups
from mgc.experiment import Experiment
from mgc.features.front_end import clip_form
from mgc.features.normalization import Normalization
from mgc.labeling.words import read_tags
from mgc.metrics import TrainingFacts, metrics_from_json
from mgc.models.architecture import load_model
from mgc.models.blocks import HEAD
from mgc.models.ensemble import Ensemble
from mgc.models.guess import GuessConfig
from mgc.models.probe import Probe, ProbeConfig
from mgc.taxonomy import Taxonomy

ENOUGH: Final = 0.5
"""Share of a genre's tracks. If as many are heard as no music, the genre is one of such sounds."""

_TRACKS_AT_ONCE: Final = 4_096

_MOST_BINS: Final = 4_096
"""Bins of a bundle to start from. Tables of some networks grow with them, before the weights show what is true."""


@dataclass(frozen=True, eq=False)
class Start:
    """What another training starts from.

    Attributes:
        name: id of the bundle, and the number of the network if it is one of several: `070695bd5426`, `070695bd5426 2`.
        weights: tensors of one network by their names.
        genres: what each output of the head means, in order: names of genres, or of tags.
        trained_on: tracks and artists that they were trained on; None if they were not recorded.
        notices: what a bundle that derives from them must say, such as whose they are.
    """

    name: str
    weights: dict[str, torch.Tensor]
    genres: tuple[str, ...]
    trained_on: TrainedGroups | None
    notices: tuple[str, ...] = ()

    def weights_for(self, genres: Sequence[str]) -> dict[str, torch.Tensor]:
        """Return the weights for a network with these genres: without the head if its outputs mean anything else."""
        if tuple(genres) == self.genres:
            return self.weights
        return {name: tensor for name, tensor in self.weights.items() if not name.startswith(HEAD)}


def load_start(uri: str | Path = DEFAULT, network: int | None = None, filesystem: fs.FileSystem | None = None) -> Start:
    """Load the weights of one network of a bundle, to train on from there.

    The weights are a beginning, so the front end may be one that this mgc computes no more.

    Args:
        uri: as for `load_bundle`.
        network: number of the network, counted from 1, if the bundle is an ensemble; else None.
        filesystem: filesystem in which `uri` is a path.

    Raises:
        BundleError: a file is missing or corrupt, has more bins than any front end, or the bundle has no such network.
    """
    files = BundleFiles(uri, filesystem)
    fields = files.parse_object(files.read(EXPERIMENT), EXPERIMENT)
    name = str(fields.pop("bundle_id", None))
    fields.pop("features_id", None)
    experiment = files.make(lambda: Experiment.from_json(fields), EXPERIMENT)
    taxonomy = files.make(lambda: Taxonomy.from_json(files.parse_list(files.read(TAXONOMY), TAXONOMY)), TAXONOMY)
    tags = read_tags(files, taxonomy)
    outputs = taxonomy.names if tags is None else tags.vocabulary.tags
    scaling = files.parse_object(files.read(NORMALIZATION), NORMALIZATION)
    bins = len(files.make(lambda: Normalization.from_json(scaling), NORMALIZATION).offset_F)
    if bins > _MOST_BINS:
        raise BundleError(
            f"{files.where}: {NORMALIZATION} has {bins:,} bins, and no front end ever had more than {_MOST_BINS:,}; "
            "get the bundle again from where it comes from."
        )
    contents = files.read(WEIGHTS)
    hashes = files.read_if_there(TRAINED_ON)
    trained_on = None if hashes is None else files.make(lambda: TrainedGroups.from_bytes(hashes), TRAINED_ON)
    metrics = files.parse_object(files.read(METRICS), METRICS)
    training, _ = files.make(lambda: metrics_from_json(metrics), METRICS)
    shape = clip_form(experiment.front_end).shape
    # A front end of an earlier mgc may have kept another number of bins.
    shape = (bins, *shape[1:]) if len(shape) < 3 else (*shape[:2], bins)
    model = files.make(lambda: load_model(experiment.model, shape, len(outputs), contents), WEIGHTS)
    if not isinstance(model, Ensemble):
        if network is not None:
            raise BundleError(f"{files.where}: this is a single network; leave --init-network out.")
        return Start(name, dict(model.state_dict()), outputs, trained_on, training.notices)
    count = len(model.members)
    if network is None or not 1 <= network <= count:
        raise BundleError(f"{files.where}: this is an ensemble; say which of its {count} networks with --init-network.")
    return Start(f"{name} {network}", model.network(network - 1), outputs, trained_on, training.notices)


def put_head(base: Bundle, head: nn.Module, genres: Sequence[str], recipe: str) -> Bundle:
    """Return a bundle with a bundle's ears and another head, without facts about its training.

    If the bundle's own head knows more than music, it stays beside the new one, and says what is no music.

    Args:
        base: the bundle whose embeddings the head takes. If it is a probe itself, its small head is replaced.
        head: head of `mgc.models.probe.build_head`.
        genres: names of the genres, in the order of the head's outputs.
        recipe: name of the recipe that made the head.

    Raises:
        BundleError: the bundle's network is a guess, which has no embedding.
    """
    layers = [layer for layer in head.modules() if isinstance(layer, nn.Linear)]
    hidden = layers[0].out_features if len(layers) > 1 else 0
    network, body = base.experiment.model, copy.deepcopy(base.model)
    if isinstance(body, Probe) and isinstance(network, ProbeConfig):
        network, body = network.body, body.body
    if isinstance(network, GuessConfig | ProbeConfig):
        raise BundleError("bundle: a guess has no embedding; choose a bundle of a trained network.")
    sounds = base.known_sounds
    kept = 0 if sounds is None else len(sounds.tags)
    config = ProbeConfig(body=network, embedding=layers[0].in_features, hidden=hidden, sounds=kept)
    model = Probe(config, body, len(genres))
    model.head.load_state_dict(head.state_dict())
    experiment = replace(base.experiment, recipe=recipe, model=config, deviations=())
    notices = TrainingFacts(notices=base.training.notices)
    return Bundle(experiment, Taxonomy.flat(genres), base.normalization, model.eval(), notices, sounds=sounds)


def find_taught_sounds(
    probe: Bundle, embedding_ND: NDArray[np.float32], genre_N: NDArray[np.int64]
) -> dict[str, tuple[str, ...]]:
    """Return genres that are made of what the probe's ears call no music, and these sounds: the most frequent first.

    Speech is no music, but for whoever labels tracks as Audiobook it is a genre.

    Args:
        probe: the bundle.
        embedding_ND: embeddings of labelled tracks.
        genre_N: their genres, by the place in its taxonomy.
    """
    if probe.sounds is None:
        return {}
    heard: list[Counter[str]] = [Counter() for _ in probe.taxonomy.names]
    for start in range(0, len(genre_N), _TRACKS_AT_ONCE):
        rows = slice(start, start + _TRACKS_AT_ONCE)
        with torch.inference_mode():
            logits_NS = probe.model.name_sounds(torch.from_numpy(embedding_ND[rows])).float().numpy()
        for genre, logits_S in zip(genre_N[rows].tolist(), logits_NS, strict=True):
            verdict = probe.sounds.judge(logits_S[None])
            if verdict is not None and verdict.kind is ErrorKind.NOT_MUSIC:
                heard[genre][verdict.tag] += 1
    tracks_G = np.bincount(genre_N, minlength=len(heard))
    return {
        name: tuple(tag for tag, _ in sounds.most_common())
        for name, sounds, tracks in zip(probe.taxonomy.names, heard, tracks_G.tolist(), strict=True)
        if sounds and sounds.total() >= ENOUGH * tracks
    }


def count_as_music(probe: Bundle, taught: Mapping[str, Sequence[str]]) -> Bundle:
    """Return a probe to which some sounds are music.

    Args:
        probe: the bundle.
        taught: sounds of `find_taught_sounds`.
    """
    if probe.sounds is None or not taught:
        return probe
    return replace(probe, sounds=probe.sounds.with_music(tag for sounds in taught.values() for tag in sounds))
