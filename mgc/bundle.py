"""Bundle: a trained model as a directory that anyone can load. Safetensors and JSON, never pickle.

    model.safetensors   weights
    experiment.json     the Experiment, and the bundle's id
    taxonomy.json       genres in the order of the logits
    normalization.json  mean and deviation per mel bin
    metrics.json        scores, training history, what the data was
    report.html         the evaluation report, once there is one
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from pyarrow import fs
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from mgc.audio.decode import decode
from mgc.configuration import short_hash, to_json
from mgc.errors import AudioError, BundleError, ConfigError, ErrorKind
from mgc.experiment import Experiment
from mgc.features.front_end import build_front_end, features_id
from mgc.features.normalization import Normalization
from mgc.labeling.decide import Decision, decide
from mgc.labeling.predict import Predict
from mgc.models.architecture import build_model
from mgc.models.blocks import Classifier
from mgc.taxonomy import Taxonomy

DEFAULT: Final = "default"
"""Name of the bundle that is shipped with the program."""

_DEFAULT_DIRECTORY: Final = Path(__file__).parent / "default_bundle"
_WEIGHTS: Final = "model.safetensors"
FILES: Final = (_WEIGHTS, "experiment.json", "taxonomy.json", "normalization.json", "metrics.json")


@dataclass(frozen=True)
class FileLabel:
    """What a bundle says about one file.

    Attributes:
        genre_top: the likeliest genre.
        confidence: its probability as the model states it, in (0, 1].
        top_k: the likeliest genres with their probabilities.
        duration_seconds: length of the whole track.
        seconds_listened: how much of it was heard.
        decoder: which decoder gave the samples.
        damage: what is wrong with the file although it could be heard, or None.
    """

    genre_top: str
    confidence: float
    top_k: tuple[tuple[str, float], ...]
    duration_seconds: float
    seconds_listened: float
    decoder: str
    damage: str | None


@dataclass(frozen=True)
class Bundle:
    """A trained model with all that determines its answers.

    Attributes:
        experiment: how it was made.
        taxonomy: what it can answer.
        normalization: of the features.
        model: the network, in evaluation mode.
        metrics: JSON-ready facts: `history`, `scores`, `data`, `notices`.
    """

    experiment: Experiment
    taxonomy: Taxonomy
    normalization: Normalization
    model: Classifier
    metrics: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits of a hash of what determines the answers: weights, front end, listening, taxonomy."""
        return self._id_of(save_tensors(self._weights()))

    @property
    def features_id(self) -> str:
        """The hash of the front end; features of another hash do not fit."""
        return features_id(self.experiment.front_end)

    def check_features(self, found: str, where: str) -> None:
        """Refuse features of another front end.

        Raises:
            BundleError: naming both.
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
            BundleError: naming the genres.
        """
        strange = sorted(set(genres) - set(self.taxonomy.names))
        if strange:
            raise BundleError(
                f"{where}: the genre(s) {', '.join(strange)} are not in the bundle's taxonomy ({', '.join(self.taxonomy.names)})."
            )

    def predictor(self, device: torch.device | None = None, top_k: int = 3) -> Predict:
        """The stage that labels batches of clips."""
        shape = build_front_end(self.experiment.front_end).shape
        return Predict(self.model, self.normalization, self.taxonomy, shape, device, top_k)

    def label(self, audio: str | Path | bytes, top_k: int = 3) -> FileLabel:
        """Label one file, in this process.

        Args:
            audio: a path, or the file's bytes.
            top_k: genres listed, at most.

        Raises:
            AudioError: the file holds no audio that can be listened to; says why.
        """
        data = audio if isinstance(audio, bytes) else _read_audio(Path(audio))
        heard = decode(data, self.experiment.listening)
        front_end = build_front_end(self.experiment.front_end)
        predict = self.predictor(top_k=top_k)
        clips = [front_end(waveform).features for waveform in heard.waveforms]
        logits_CG = torch.cat([torch.from_numpy(predict.logits(part)) for part in clips]).numpy()
        decision: Decision = decide(logits_CG, self.taxonomy.names, top_k)
        listened = sum(waveform.duration_seconds for waveform in heard.waveforms)
        return FileLabel(
            decision.genre_top,
            decision.confidence,
            decision.top_k,
            heard.duration_seconds,
            listened,
            heard.decoder,
            heard.damage,
        )

    def save(self, directory: str | Path) -> str:
        """Write the bundle's files into a local directory; returns the bundle's id."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        weights = save_tensors(self._weights())
        bundle_id = self._id_of(weights)
        (directory / _WEIGHTS).write_bytes(weights)
        for name, value in (
            ("experiment.json", {"bundle_id": bundle_id, **self.experiment.to_json()}),
            ("taxonomy.json", self.taxonomy.to_json()),
            ("normalization.json", self.normalization.to_json()),
            ("metrics.json", self.metrics),
        ):
            (directory / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
        return bundle_id

    def _weights(self) -> dict[str, torch.Tensor]:
        # Contiguous copies in one order: the same weights give the same bytes, whatever their memory layout was.
        return {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(self.model.state_dict().items())}

    def _id_of(self, weights: bytes) -> str:
        experiment = self.experiment
        return short_hash(
            {
                "weights": hashlib.sha256(weights).hexdigest(),
                "front_end": features_id(experiment.front_end),
                "listening": to_json(experiment.listening),
                "model": to_json(experiment.model),
                "taxonomy": self.taxonomy.to_json(),
                "normalization": self.normalization.to_json(),
            }
        )


def load_bundle(uri: str | Path = DEFAULT, filesystem: fs.FileSystem | None = None) -> Bundle:
    """Load a bundle.

    Args:
        uri: a local directory, any URI that pyarrow can open (`s3://bucket/bundle`, with the usual AWS variables), or
            "default" for the bundle shipped with the program.
        filesystem: where `uri` is a path in it; given by callers that have a filesystem of their own.

    Raises:
        BundleError: the directory is missing, a file of it is missing or corrupt, or it was written by a newer mgc.
    """
    where = str(uri)
    if where == DEFAULT:
        uri = _DEFAULT_DIRECTORY
    try:
        if filesystem is not None:
            path = str(uri)
        elif "://" in str(uri):
            filesystem, path = fs.FileSystem.from_uri(str(uri))
        else:
            filesystem, path = fs.LocalFileSystem(), str(Path(uri).expanduser().resolve())
        contents = {name: _read(filesystem, f"{path.rstrip('/')}/{name}") for name in FILES}
    except (OSError, ValueError) as error:
        raise BundleError(
            f"bundle {where}: {_one_line(error)}. A bundle is a directory written by `mgc train --out BUNDLE`."
        ) from None
    try:
        fields = json.loads(contents["experiment.json"])
        stated_id = fields.pop("bundle_id", None)
        experiment = Experiment.from_json(fields, f"bundle {where}, experiment.json")
        taxonomy = Taxonomy.from_json(json.loads(contents["taxonomy.json"]))
        normalization = Normalization.from_json(json.loads(contents["normalization.json"]))
        metrics = json.loads(contents["metrics.json"])
        shape = build_front_end(experiment.front_end).shape
        model = build_model(experiment.model, shape, len(taxonomy))
        model.load_state_dict(load_tensors(contents[_WEIGHTS]))
    except ConfigError as error:
        raise BundleError(str(error)) from None
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        raise BundleError(f"bundle {where} is corrupt: {_one_line(error)}. Copy it again, or train it again.") from None
    bundle = Bundle(experiment, taxonomy, normalization, model.eval(), metrics)
    if stated_id != bundle.id:
        raise BundleError(
            f"bundle {where} is corrupt or was changed by hand: it states id {stated_id}, its contents give {bundle.id}. "
            "Copy it again, or train it again."
        )
    return bundle


def _read(filesystem: fs.FileSystem, path: str) -> bytes:
    with filesystem.open_input_stream(path) as stream:
        data: bytes = stream.read()
    return data


def _read_audio(path: Path) -> bytes:
    try:
        return path.expanduser().read_bytes()
    except OSError as error:
        raise AudioError(ErrorKind.FETCH_FAILED, f"{path}: {error.strerror or error}") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300].rstrip(".")
