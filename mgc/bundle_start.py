"""What a training starts from if it does not start from untrained weights: one network of a bundle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from pyarrow import fs

from mgc.bundle import load_model, read_tags
from mgc.bundle_files import DEFAULT, EXPERIMENT, NORMALIZATION, TAXONOMY, TRAINED_ON, WEIGHTS, BundleFiles
from mgc.errors import BundleError
from mgc.evaluation.leakage import TrainedGroups
from mgc.experiment import Experiment
from mgc.features.front_end import build_front_end
from mgc.features.normalization import Normalization
from mgc.models.ensemble import Ensemble
from mgc.taxonomy import Taxonomy


@dataclass(frozen=True, eq=False)
class Start:
    """What another training starts from.

    Attributes:
        name: id of the bundle, and the number of the network if it is one of several: `070695bd5426`, `070695bd5426 2`.
        weights: tensors of one network by their names.
        trained_on: tracks and artists that they were trained on; None if they were not recorded.
    """

    name: str
    weights: dict[str, torch.Tensor]
    trained_on: TrainedGroups | None


def load_start(uri: str | Path = DEFAULT, network: int | None = None, filesystem: fs.FileSystem | None = None) -> Start:
    """Load the weights of one network of a bundle, to train on from there.

    The weights are a beginning, so the front end may be one that this mgc computes no more.

    Args:
        uri: as for `load_bundle`.
        network: number of the network, counted from 1, if the bundle is an ensemble; else None.
        filesystem: filesystem in which `uri` is a path.

    Raises:
        BundleError: a file is missing or corrupt, or the bundle has no such network.
    """
    files = BundleFiles(uri, filesystem)
    fields = files.parse_object(files.read(EXPERIMENT), EXPERIMENT)
    name = str(fields.pop("bundle_id", None))
    fields.pop("features_id", None)
    experiment = files.make(lambda: Experiment.from_json(fields), EXPERIMENT)
    taxonomy = files.make(lambda: Taxonomy.from_json(files.parse_list(files.read(TAXONOMY), TAXONOMY)), TAXONOMY)
    tags = read_tags(files, taxonomy)
    outputs = len(taxonomy) if tags is None else len(tags.vocabulary.tags)
    scaling = files.parse_object(files.read(NORMALIZATION), NORMALIZATION)
    bins = len(files.make(lambda: Normalization.from_json(scaling), NORMALIZATION).offset_F)
    contents = files.read(WEIGHTS)
    hashes = files.read_if_there(TRAINED_ON)
    trained_on = None if hashes is None else files.make(lambda: TrainedGroups.from_bytes(hashes), TRAINED_ON)
    shape = build_front_end(experiment.front_end).shape
    # A front end of an earlier mgc may have kept another number of bins.
    shape = (bins, *shape[1:]) if len(shape) < 3 else (*shape[:2], bins)
    model = files.make(lambda: load_model(experiment, shape, outputs, contents), WEIGHTS)
    if not isinstance(model, Ensemble):
        if network is not None:
            raise BundleError(f"{files.where}: this is a single network; leave --init-network out.")
        return Start(name, dict(model.state_dict()), trained_on)
    count = len(model.members)
    if network is None or not 1 <= network <= count:
        raise BundleError(f"{files.where}: this is an ensemble; say which of its {count} networks with --init-network.")
    return Start(f"{name} {network}", model.network(network - 1), trained_on)
