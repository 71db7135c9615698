"""Bundle: a trained model as a directory that anyone can load. `mgc.bundle_files` lists its files."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pyarrow import fs
from safetensors.torch import save as save_tensors

from mgc.audio.decode import Listened
from mgc.bundle_files import (
    CALIBRATION,
    DEFAULT,
    EXPERIMENT,
    FILES,
    METRICS,
    NORMALIZATION,
    SOUNDS,
    TAXONOMY,
    TRAINED_ON,
    WAY_OUT,
    WEIGHTS,
    BundleFiles,
    write_files,
)
from mgc.configuration import JsonObject, short_hash, to_json, what_differs
from mgc.errors import AudioError, BundleError, ConfigError
from mgc.evaluation.leakage import TrainedGroups
from mgc.experiment import Experiment
from mgc.features.clips import Clips
from mgc.features.front_end import FrontEnd, build_front_end, clip_form, features_id
from mgc.features.normalization import Normalization
from mgc.hearing.one_file import Audio, hear
from mgc.hearing.request import Hearing
from mgc.labeling.adjust import PriorAdjustment, read_adjustment
from mgc.labeling.config import LabelingConfig
from mgc.labeling.file_label import FileLabel
from mgc.labeling.predict import CLIPS_AT_ONCE_CPU, CLIPS_AT_ONCE_GPU, Meaning, Predict
from mgc.labeling.tags import GENRES, TagMap, Verdict, Vocabulary
from mgc.labeling.torch_network import TorchNetwork
from mgc.labeling.words import read_sounds, read_tags, words_files
from mgc.metrics import EvaluationFacts, TrainingFacts, metrics_from_json, metrics_to_json
from mgc.models.architecture import count_sounds, load_model
from mgc.models.blocks import Classifier, digest_weights, plain_weights
from mgc.models.graph import Graph
from mgc.models.guess import GuessConfig
from mgc.models.probe import ProbeConfig
from mgc.taxonomy import Taxonomy
from mgc.units import format_count


@dataclass(frozen=True, eq=False)
class Bundle:
    """A trained model with everything that determines its answers.

    Attributes:
        experiment: configuration that made the model.
        taxonomy: genres that it can answer.
        normalization: normalization of the features.
        model: network, in evaluation mode.
        training: facts about its training, for reports.
        evaluation: its last evaluation; None if it was never scored.
        adjustment: adjustment of the logits after training; None if there is none.
        trained_on: tracks and artists that it was trained on; None if they were not recorded.
        tags: which outputs of the network speak for which genre; None if the outputs are the genres.
        sounds: what the head that a probe kept of its body names, and so knows music by; None if it kept none.

    Raises:
        BundleError: the normalisation has the wrong number of bins, the adjustment has the wrong number of genres, the
            tags are for other genres, the sounds are those of another network, or a weight is not finite because
            training went wrong.
    """

    experiment: Experiment
    taxonomy: Taxonomy
    normalization: Normalization
    model: Classifier
    training: TrainingFacts = field(default_factory=TrainingFacts)
    evaluation: EvaluationFacts | None = None
    adjustment: PriorAdjustment | None = None
    trained_on: TrainedGroups | None = None
    tags: TagMap | None = None
    sounds: Vocabulary | None = None

    def __post_init__(self) -> None:
        shape = clip_form(self.experiment.front_end).shape
        bins = shape[-1] if len(shape) == 3 else shape[0]
        if len(self.normalization.offset_F) != bins:
            found = len(self.normalization.offset_F)
            raise BundleError(
                f"bundle: the normalisation is for {found} bins, but the front end gives {bins}. {WAY_OUT}"
            )
        outputs = len(self.vocabulary.tags)
        if self.adjustment is not None and len(self.adjustment.priors_G) != outputs:
            found = len(self.adjustment.priors_G)
            raise BundleError(
                f"bundle: the adjustment has {format_count(found, 'genre')}, the network has {outputs}. {WAY_OUT}"
            )
        if self.tags is not None and self.tags.genres != self.taxonomy.names:
            raise BundleError(f"bundle: its tags speak for other genres than those of its taxonomy. {WAY_OUT}")
        named, kept = 0 if self.sounds is None else len(self.sounds.tags), count_sounds(self.experiment.model)
        if named != kept:
            raise BundleError(f"bundle: {SOUNDS} names {named} sounds, the network has {kept}. {WAY_OUT}")
        for name, tensor in self.model.state_dict().items():
            if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                raise BundleError(
                    f"bundle: the weights {name} are not all finite numbers: its training diverged; train again with a "
                    "lower learning rate."
                )

    @functools.cached_property
    def _front_end(self) -> FrontEnd:
        return build_front_end(self.experiment.front_end)

    @functools.cached_property
    def _predict(self) -> Predict:
        return self.predictor()

    @functools.cached_property
    def vocabulary(self) -> Vocabulary:
        """What the outputs of the network mean: if there are no tags, they are the genres, one of which is right."""
        return Vocabulary(GENRES, self.taxonomy.names, "softmax") if self.tags is None else self.tags.vocabulary

    @property
    def known_sounds(self) -> Vocabulary | None:
        """The sounds by which it tells what is no music, of its own network or of its base; None if it cannot tell."""
        return self.tags.sounds if self.tags is not None and self.vocabulary.music else self.sounds

    def answering(self, taxonomy: Taxonomy, tags: TagMap) -> Bundle:
        """Return the bundle with answers in other genres, and so with another id. It has no evaluation.

        Args:
            taxonomy: the genres.
            tags: map from this bundle's `vocabulary` to the genres.
        """
        return replace(self, taxonomy=taxonomy, tags=tags, evaluation=None)

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits of a hash of everything that determines the answers.

        That is weights, network, front end, listening plan, normalization, taxonomy, tags, sounds, adjustment,
        and which recordings it labels. Training configuration, training data, metrics and report do not change it.
        """
        experiment = self.experiment
        facts = {
            "weights": digest_weights(self.model.state_dict()),
            "front_end": self.features_id,
            "listening": to_json(experiment.listening),
            "model": what_differs(experiment.model),
            "taxonomy": self.taxonomy.to_json(),
            "normalization": self.normalization.to_json(),
        }
        if self.adjustment is not None:
            # Added only if present, so that bundles from before adjustments existed keep their ids.
            facts["adjustment"] = self.adjustment.to_json()
        if self.tags is not None:
            facts["tags"] = self.tags.to_json()
        if self.sounds is not None:
            facts["sounds"] = self.sounds.to_json()
        if experiment.labeling != LabelingConfig():
            # Likewise: bundles from before this configuration answer as its defaults say.
            facts["labeling"] = what_differs(experiment.labeling)
        return short_hash(facts)

    @property
    def embedding_id(self) -> str:
        """Twelve hexadecimal digits of a hash of everything that determines the embeddings.

        That is what `id` is made of, without heads, genres, tags, sounds and adjustment. Bundles that differ only in
        these have the same ears, and so the same embeddings.

        Raises:
            BundleError: the network is a guess, which has no embedding.
        """
        experiment = self.experiment
        self._require_embedding()
        network = experiment.model.body if isinstance(experiment.model, ProbeConfig) else experiment.model
        return short_hash(
            {
                "ears": digest_weights(self.model.ears()),
                "front_end": self.features_id,
                "listening": to_json(experiment.listening),
                "model": what_differs(network),
                "normalization": self.normalization.to_json(),
                "labeling": what_differs(experiment.labeling),
            }
        )

    @property
    def features_id(self) -> str:
        """Hash of the front end; features with another hash do not fit."""
        return features_id(self.experiment.front_end)

    @property
    def hearing(self) -> Hearing:
        """What to hear of a recording to label it."""
        return replace(self.experiment.hearing, min_seconds=self.experiment.labeling.min_seconds)

    def check_features(self, found: str, where: str) -> None:
        """Refuse features of another front end.

        Raises:
            BundleError: the front ends differ; the message names both.
        """
        if found != self.features_id:
            kind = self.experiment.front_end.kind
            raise BundleError(
                f"{where}: these features are {found}, the bundle's front end ({kind}) computes {self.features_id}; "
                "prepare features with the bundle's recipe, or train a bundle on these."
            )

    def check_taxonomy(self, genres: list[str], where: str) -> None:
        """Refuse true labels that the bundle cannot answer.

        Raises:
            BundleError: there are such labels; the message names them.
        """
        strange = sorted(set(genres) - set(self.taxonomy.names))
        if strange:
            raise BundleError(
                f"{where}: the genre(s) {', '.join(strange)} are not in the bundle's taxonomy "
                f"({', '.join(self.taxonomy.names)}); leave their tracks out, or train a bundle on these genres."
            )

    @property
    def meaning(self) -> Meaning:
        """What its network hears, and what its outputs mean: with its graph, all that labelling needs."""
        return Meaning(*clip_form(self.experiment.front_end), self.taxonomy.names, self.tags, self.sounds)

    def network(self, device: torch.device | None = None) -> TorchNetwork:
        """Return a copy of the network, with normalisation and adjustment, on a device; the CPU by default."""
        return TorchNetwork(self.model, self.normalization, self.adjustment, device)

    def predictor(
        self, device: torch.device | None = None, top_k: int = 3, embed: bool = False, graph: Graph | None = None
    ) -> Predict:
        """Return the stage that labels batches of clips, with a copy of the model on its device.

        Args:
            device: device to compute on; the CPU by default.
            top_k: largest number of genres to list for a track.
            embed: whether it also gives the tracks' embeddings.
            graph: the graph of this bundle, which then computes in place of the network; None for PyTorch.
        """
        at_once = CLIPS_AT_ONCE_GPU if device is not None and device.type == "cuda" else CLIPS_AT_ONCE_CPU
        return Predict(graph or self.network(device), self.meaning, top_k, at_once, embed)

    def label(self, audio: Audio, top_k: int = 3, sample_rate_hz: int | None = None) -> FileLabel:
        """Label one file, in this process.

        Args:
            audio: path of the file, its bytes, or samples: floats of shape (samples,) or (channels, samples).
            top_k: largest number of genres to list.
            sample_rate_hz: samples per second, for an array.

        Raises:
            AudioError: there is no usable audio or no music; the message says why.
            ValueError: the samples are not as described, or their rate is missing.
        """
        heard = self._hear(audio, sample_rate_hz)
        outputs_CO = np.concatenate([self._predict.outputs(clips.features) for clips in heard.windows])
        answer = self._predict.answer(outputs_CO, top_k)
        if isinstance(answer, Verdict):
            raise AudioError(answer.kind, answer.message)
        return FileLabel.of(heard, answer)

    def label_many(self, files: Iterable[Audio], top_k: int = 3) -> Iterator[tuple[Audio, FileLabel | AudioError]]:
        """Label files one after the other, in this process. For a whole catalog, `mgc label` is many times faster.

        Args:
            files: paths, URIs or bytes of files.
            top_k: largest number of genres to list for a file.

        Yields:
            Each file as it was given, with its label, or with the error that says why it has none.
        """
        for file in files:
            try:
                yield file, self.label(file, top_k)
            except AudioError as error:
                yield file, error

    def embed(self, audio: Audio, sample_rate_hz: int | None = None) -> NDArray[np.float32]:
        """Return the embedding of one file: what the network's last layers see of it, for similarity and small models.

        Args:
            audio: as for `label`.
            sample_rate_hz: as for `label`.

        Returns:
            float32 of shape (numbers,): the mean over all clips. It depends on the bundle; compare embeddings of one
            bundle only.

        Raises:
            AudioError: as for `label`.
            BundleError: the network is a guess, which has no embedding.
            ValueError: as for `label`.
        """
        self._require_embedding()
        clips_NFT = np.concatenate([clips.features for clips in self._hear(audio, sample_rate_hz).windows])
        parts = [embedding_ND for _, embedding_ND, _ in self._predict.parts(clips_NFT)]
        mean_D: NDArray[np.float32] = np.concatenate(parts).mean(axis=0, dtype=np.float64).astype(np.float32)
        return mean_D

    def _require_embedding(self) -> None:
        if isinstance(self.experiment.model, GuessConfig):
            raise BundleError(f"bundle {self.id}: a guess has no embedding; choose a bundle of a trained network.")

    def _hear(self, audio: Audio, sample_rate_hz: int | None) -> Listened[Clips]:
        return hear(audio, sample_rate_hz, self.experiment.listening, self._front_end, self.hearing.min_seconds)

    def save(self, directory: str | Path) -> str:
        """Write the bundle's files to a local directory, replacing existing ones. Returns the bundle's id.

        Raises:
            StorageError: the directory cannot be written.
        """
        bundle_id = self.id
        ids = {"bundle_id": bundle_id, "features_id": self.features_id}
        texts = {
            TAXONOMY: self.taxonomy.to_json(),
            NORMALIZATION: self.normalization.to_json(),
            CALIBRATION: {"adjustment": None if self.adjustment is None else self.adjustment.to_json()},
            METRICS: self.metrics_to_json(),
            EXPERIMENT: {**ids, **self.experiment.to_json()},
        }
        contents = {name: (json.dumps(value, indent=2) + "\n").encode() for name, value in texts.items()}
        contents[WEIGHTS] = save_tensors(plain_weights(self.model.state_dict()))
        contents |= words_files(self.tags, self.sounds)
        if self.trained_on is not None:
            contents[TRAINED_ON] = self.trained_on.to_bytes()
        write_files(Path(directory), contents)
        return bundle_id

    def metrics_to_json(self) -> JsonObject:
        """Return the content of `metrics.json`."""
        return metrics_to_json(self.training, self.evaluation)


def load_bundle(uri: str | Path = DEFAULT, filesystem: fs.FileSystem | None = None) -> Bundle:
    """Load a bundle.

    Args:
        uri: local directory, any URI that pyarrow can open (`s3://bucket/bundle`, with the usual AWS variables), or a
            name: "shipped" for the bundle shipped with mgc, "mn04", "musicnn" and so on for what `mgc pull` has
            fetched, "default" for the best of these that is there. A folder of such a name is "./mn04".
        filesystem: filesystem in which `uri` is a path, for callers that bring their own.

    Raises:
        BundleError: the directory or one of its files is missing or corrupt, the bundle was changed by hand or is not
            pulled yet, its front end computes other numbers in this mgc, or a newer mgc wrote it. One line, without
            credentials.
    """
    files = BundleFiles(uri, filesystem)
    where = files.where
    # Read first, since it tells whether this version understands the others.
    fields = files.parse_object(files.read(EXPERIMENT), EXPERIMENT)
    stated = {name: fields.pop(name, None) for name in ("bundle_id", "features_id")}
    try:
        experiment = Experiment.from_json(fields, f"{where}, {EXPERIMENT}")
    except ConfigError as error:
        raise BundleError(str(error)) from None
    contents = {name: files.read(name) for name in FILES if name not in (EXPERIMENT, CALIBRATION)}
    computed = features_id(experiment.front_end)
    if stated["features_id"] != computed:
        raise BundleError(
            f"{where}: it was trained on features {stated['features_id']}, the front end {experiment.front_end.kind} "
            f"of this mgc computes {computed}. Use the mgc that wrote it, or train it again."
        )

    genres = files.parse_list(contents[TAXONOMY], TAXONOMY)
    taxonomy = files.make(lambda: Taxonomy.from_json(genres), TAXONOMY)
    scaling = files.parse_object(contents[NORMALIZATION], NORMALIZATION)
    normalization = files.make(lambda: Normalization.from_json(scaling), NORMALIZATION)
    metrics = files.parse_object(contents[METRICS], METRICS)
    training, evaluation = files.make(lambda: metrics_from_json(metrics), METRICS)
    shape = clip_form(experiment.front_end).shape
    tags = read_tags(files, taxonomy)
    outputs = len(taxonomy) if tags is None else len(tags.vocabulary.tags)
    model = files.make(lambda: load_model(experiment.model, shape, outputs, contents[WEIGHTS]), WEIGHTS)
    adjustment = read_adjustment(files)
    hashes = files.read_if_there(TRAINED_ON)
    trained_on = None if hashes is None else files.make(lambda: TrainedGroups.from_bytes(hashes), TRAINED_ON)
    sounds = read_sounds(files, needed=count_sounds(experiment.model) > 0)
    parts = (experiment, taxonomy, normalization, model, training, evaluation, adjustment, trained_on, tags, sounds)
    bundle = files.make(lambda: Bundle(*parts), "its contents")
    if stated["bundle_id"] != bundle.id:
        raise BundleError(
            f"{where} is corrupt or was changed by hand: it states id {stated['bundle_id']}, its contents give "
            f"{bundle.id}. {WAY_OUT}"
        )
    return bundle
